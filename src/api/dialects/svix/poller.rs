//! The poller: the messages of an endpoint in the order of their acceptance, for clients that fetch.
//!
//! Reading removes nothing. The iterator is the caller's position in the endpoint's feed, where a message that is sent again
//! stands again.

use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::cursor::{self, CursorKind};
use crate::api::error::ApiError;
use crate::api::request_context::RequestContext;
use crate::api::step::Step;
use crate::model::{DeliveryId, Id};
use crate::store::PAGE_BYTES_MAX;

use super::errors::{absent, wrong_query};
use super::ids;
use super::messages::{MessageFilter, SvixMessage};
use super::query::{AFTER, ITERATOR, SvixQuery};
use crate::api::dialects::derived::ok;

/// Messages in the order of their acceptance.
#[derive(Serialize, JsonSchema)]
pub struct SvixPolled<'a> {
    data: Vec<SvixMessage<'a>>,
    /// Goes on behind these messages, and also from an empty page.
    iterator: String,
    /// Whether no further message is there now.
    done: bool,
}

/// `GET /api/v1/app/{app_id}/poller/{sink_id}`. The sink is an endpoint.
pub fn poll(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = ids::app(context, request)?;
    let name = ids::name_in_path(request, "sink_id")?;
    let webhook = ids::find_endpoint(context, app.id, name).ok_or_else(absent)?;
    let query = SvixQuery::read(request)?;
    let (limit, filter) = (query.limit()?, MessageFilter::read_one(&query)?);
    let read = |text: &str| cursor::read(CursorKind::Feed, text);
    let wrong = || wrong_query(ITERATOR.name, "must be the iterator of a page of this route");
    let position = query.text(&ITERATOR).map(|text| read(text).ok_or_else(wrong)).transpose()?;
    let start = query.time(&AFTER)?.map(|at| DeliveryId::floor(at).as_u128().saturating_sub(1));
    let mut last = position.max(start);
    let deliveries = context.store.feed(webhook.id, last.map(Id::from_u128), limit, context.now)?;
    let mut done = deliveries.len() < limit;
    let (mut found, mut bytes) = (Vec::new(), 0);
    for delivery in deliveries {
        if bytes >= PAGE_BYTES_MAX {
            done = false;
            break;
        }
        last = Some(delivery.id.as_u128());
        let event = context.store.event(ids::within(&app), delivery.event_id, context.now)?;
        if let Some(event) = event.filter(|event| filter.passes(event)) {
            let data = context.store.data(event.id, context.now)?;
            bytes += data.as_ref().map_or(0, bytes::Bytes::len);
            found.push((event, data));
        }
    }
    let data =
        found.iter().map(|(event, data)| SvixMessage::new(event, data.as_deref(), true)).collect::<Result<_, _>>()?;
    ok(&SvixPolled { data, iterator: cursor::write(CursorKind::Feed, last.unwrap_or(0)), done })
}
