//! The poller: the messages of an endpoint in the order of their acceptance, for clients that fetch.
//!
//! Reading removes nothing. The iterator is the caller's position in the endpoint's feed. A message that is sent again
//! is in the feed again. The server remembers the positions of consumers.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::cursor::{self, CursorKind};
use crate::api::error::ApiError;
use crate::api::fields::{self, FieldErrors};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::feed_consumer::FeedConsumer;
use crate::model::{App, DeliveryId, Event, Id, Time, Webhook, WebhookId};
use crate::store::{PAGE_BYTES_MAX, StateCommand};

use super::errors::{absent, refused, wrong_query};
use super::ids;
use super::messages::{MessageFilter, SvixMessage};
use super::query::{AFTER, ITERATOR, SvixQuery};

/// Messages in the order of their acceptance.
#[derive(Serialize, JsonSchema)]
pub struct SvixPolled<'a> {
    data: Vec<SvixMessage<'a>>,
    /// Goes on behind these messages, and also from an empty page.
    iterator: String,
    /// Whether no further message is there now.
    done: bool,
}

/// The endpoint that is polled.
fn sink(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<(Arc<App>, Arc<Webhook>), ApiError> {
    let app = ids::app(context, request)?;
    let name = ids::name_in_path(request, "sink_id")?;
    let webhook = ids::find_endpoint(context, app.id, name).ok_or_else(absent)?;
    Ok((app, webhook))
}

/// `GET /api/v1/app/{app_id}/poller/{sink_id}`. The sink is an endpoint.
pub fn poll(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (app, webhook) = sink(context, request)?;
    let query = SvixQuery::read(request)?;
    let (limit, filter) = (query.limit()?, MessageFilter::read_one(&query)?);
    let read = |text: &str| cursor::read(CursorKind::Feed, text);
    let wrong = || wrong_query(ITERATOR.name, "must be the iterator of a page of this route");
    let position = query.text(&ITERATOR).map(|text| read(text).ok_or_else(wrong)).transpose()?;
    let start = query.time(&AFTER)?.map(before);
    let page = PolledPage::read(context, &app, webhook.id, position.max(start), limit, &filter)?;
    Ok(Step::Reply(page.answer(cursor::write(CursorKind::Feed, page.last.unwrap_or(0)))?))
}

/// The position before everything of a time.
fn before(at: Time) -> u128 {
    DeliveryId::floor(at).as_u128().saturating_sub(1)
}

/// A page of a feed.
struct PolledPage {
    found: Vec<(Event, Option<Bytes>)>,
    /// The last delivery that was examined, or the position from which the page begins.
    last: Option<u128>,
    done: bool,
}

impl PolledPage {
    fn read(
        context: &ApiContext<'_>,
        app: &App,
        webhook: WebhookId,
        mut last: Option<u128>,
        limit: usize,
        filter: &MessageFilter,
    ) -> Result<PolledPage, ApiError> {
        let deliveries = context.store.feed(webhook, last.map(Id::from_u128), limit, context.now)?;
        let mut done = deliveries.len() < limit;
        let (mut found, mut bytes) = (Vec::new(), 0);
        for delivery in deliveries {
            if bytes >= PAGE_BYTES_MAX {
                done = false;
                break;
            }
            last = Some(delivery.id.as_u128());
            let event = context.store.event(ids::within(app), delivery.event_id, context.now)?;
            if let Some(event) = event.filter(|event| filter.passes(event)) {
                let data = context.store.data(event.id, context.now)?;
                bytes += data.as_ref().map_or(0, Bytes::len);
                found.push((event, data));
            }
        }
        Ok(PolledPage { found, last, done })
    }

    fn answer(&self, iterator: String) -> Result<HttpResponse, ApiError> {
        let messages = self.found.iter().map(|(event, data)| SvixMessage::new(event, data.as_deref(), true));
        let data = messages.collect::<Result<_, _>>()?;
        Ok(HttpResponse::json(StatusCode::OK, &SvixPolled { data, iterator, done: self.done }))
    }
}

/// The iterator of a consumer: a position, and the number of seeks before it.
fn write_iterator(consumer: FeedConsumer) -> String {
    format!("{}.{}", cursor::write(CursorKind::Feed, consumer.position.as_u128()), consumer.seeks)
}

fn read_iterator(text: &str) -> Option<FeedConsumer> {
    let (position, seeks) = text.rsplit_once('.')?;
    let position = Id::from_u128(cursor::read(CursorKind::Feed, position)?);
    Some(FeedConsumer { position, seeks: seeks.parse().ok()? })
}

/// `GET /api/v1/app/{app_id}/poller/{sink_id}/consumer/{consumer_id}`. The iterator of a page confirms that page.
/// Without one the consumer gets the messages behind the last page that it confirmed, as Svix's own bridge expects
/// (`bridge/svix-bridge/src/webhook_receiver/mod.rs`).
pub fn poll_as_consumer(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (app, webhook) = sink(context, request)?;
    let name = ids::name_in_path(request, "consumer_id")?;
    let query = SvixQuery::read(request)?;
    let (limit, filter) = (query.limit()?, MessageFilter::read_one(&query)?);
    let stored = context.store.feed_consumer(webhook.id, name)?.unwrap_or_default();
    let taken = match query.text(&ITERATOR) {
        None => stored,
        Some(text) => read_iterator(text).filter(|given| given.seeks == stored.seeks).ok_or_else(out_of_date)?,
    };
    let page = PolledPage::read(context, &app, webhook.id, Some(taken.position.as_u128()), limit, &filter)?;
    let next = FeedConsumer { position: page.last.map_or(taken.position, Id::from_u128), ..taken };
    let answer = page.answer(write_iterator(next))?;
    if taken == stored {
        return Ok(Step::Reply(answer));
    }
    let command = StateCommand::PutConsumer { webhook: webhook.id, name: name.to_owned(), consumer: taken };
    Ok(Step::apply(request.write(command)?, move |_| Ok(answer)))
}

/// 400 with Svix's code, on which its clients go on from the position that the server remembers.
fn out_of_date() -> ApiError {
    refused("invalid_iterator", "the iterator is of no page since the last seek: poll without one")
}

/// The position that a seek has set.
#[derive(Serialize, JsonSchema)]
pub struct SvixSought {
    iterator: String,
}

/// `POST /api/v1/app/{app_id}/poller/{sink_id}/consumer/{consumer_id}/seek`: the consumer goes on from a time, which is
/// inclusive.
pub fn seek(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (_, webhook) = sink(context, request)?;
    let name = ids::name_in_path(request, "consumer_id")?;
    let mut field_errors = FieldErrors::new();
    let after = request.object()?.required("after", &mut field_errors, fields::time);
    fields::into_result(field_errors)?;
    let stored = context.store.feed_consumer(webhook.id, name)?.unwrap_or_default();
    let position = Id::from_u128(before(after.unwrap_or(context.now)));
    let consumer = FeedConsumer { position, seeks: stored.seeks.saturating_add(1) };
    let command = StateCommand::PutConsumer { webhook: webhook.id, name: name.to_owned(), consumer };
    Ok(Step::apply(request.write(command)?, move |_| {
        Ok(HttpResponse::json(StatusCode::OK, &SvixSought { iterator: write_iterator(consumer) }))
    }))
}
