//! `GET /v1/webhooks/{id}/feed`: a webhook's deliveries in commit order, for clients that poll.
//!
//! Reading removes nothing. The cursor holds the caller's position. Delivery ids are drawn in commit order, so a reader
//! that continues after the last id that it saw never skips a late commit.

use bytes::Bytes;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::cursor::{self, CursorKind};
use crate::api::error::ApiError;
use crate::api::limits::WAIT_S_MAX;
use crate::api::params::Param;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::feed_topic::FeedTopic;
use crate::model::time::SECOND_MS;
use crate::model::{DeliveryId, Id};
use crate::store::PAGE_BYTES_MAX;

use super::events::WholeEvent;
use super::webhooks;

pub const WAIT_S: Param = Param::whole("wait_s", 0, WAIT_S_MAX, "How long to wait for something new, in seconds.");

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct FeedRow<'a> {
    delivery_id: DeliveryId,
    event: WholeEvent<'a>,
}

/// Deliveries of a webhook in commit order.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Feed")]
pub struct FeedView<'a> {
    data: Vec<FeedRow<'a>>,
    next_cursor: Option<String>,
}

/// Answers at once if there are deliveries or no wait was requested. Otherwise the handler runs again after
/// `Step::Wait`.
pub fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path_by_id(context, request)?;
    let position = request.query.cursor(CursorKind::Feed)?;
    let wait_s = request.query.number_or_default(&WAIT_S)?;
    let limit = request.query.limit()?;
    let deliveries = context.store.feed(webhook.id, position.map(Id::from_u128), limit, context.now)?;
    let until = context.since.plus_ms(i64::from(wait_s) * SECOND_MS);
    if deliveries.is_empty() && context.now < until {
        return Ok(Step::Wait { topic: FeedTopic::Deliveries(webhook.id), until, reached: None });
    }
    let (mut last, mut bytes, mut events) = (position, 0, Vec::new());
    for delivery in &deliveries {
        if bytes >= PAGE_BYTES_MAX {
            break;
        }
        last = Some(delivery.id.as_u128());
        // A delivery whose event expired between the two reads is omitted.
        if let Some(event) = context.store.event(request.tenant(), delivery.event_id, context.now)? {
            let data = context.store.data(delivery.event_id, context.now)?;
            bytes += data.as_ref().map_or(0, Bytes::len);
            events.push((delivery.id, event, data));
        }
    }
    let mut data = Vec::with_capacity(events.len());
    for (delivery_id, event, bytes) in &events {
        data.push(FeedRow { delivery_id: *delivery_id, event: WholeEvent::new(event, bytes.as_ref())? });
    }
    let feed = FeedView { data, next_cursor: last.map(|last| cursor::write(CursorKind::Feed, last)) };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &feed)))
}
