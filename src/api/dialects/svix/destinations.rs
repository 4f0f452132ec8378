//! A message at an endpoint: one row over all deliveries of the message to the endpoint, replays included.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::request_context::RequestContext;
use crate::api::step::Step;
use crate::model::webhook::WebhookStatus;
use crate::model::{App, Delivery, DeliveryStatus, Event, Time, Webhook, WebhookId};

use super::attempts::{FAIL, SUCCESS};
use super::endpoints::SvixEndpoint;
use super::ids::{self, Noun};
use super::iterator::{Travel, item_page};
use super::list;
use super::messages::{MessageFilter, SvixMessage};
use super::query::{EXPANDED_STATUSES, SvixQuery, WITH_CONTENT};

/// `status` before the first attempt.
const PENDING: u8 = 1;
/// `status` after a failed attempt while another is planned.
const SENDING: u8 = 3;
const CANCELED: u8 = 4;

/// The state of a message at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct DestinationState {
    #[schemars(with = "i64")]
    status: u8,
    status_text: &'static str,
    next_attempt: Option<Time>,
}

impl DestinationState {
    fn new(status: u8, next_attempt: Option<Time>) -> Self {
        let status_text = match status {
            SUCCESS => "success",
            PENDING => "pending",
            SENDING => "sending",
            CANCELED => "canceled",
            _ => "fail",
        };
        DestinationState { status, status_text, next_attempt }
    }
}

/// A message in the list of an endpoint.
#[derive(Serialize, JsonSchema)]
pub struct SvixEndpointMessage<'a> {
    #[serde(flatten)]
    message: SvixMessage<'a>,
    #[serde(flatten)]
    state: DestinationState,
}

/// An endpoint in the list of a message.
#[derive(Serialize, JsonSchema)]
pub struct SvixMessageEndpoint<'a> {
    #[serde(flatten)]
    endpoint: SvixEndpoint<'a>,
    #[serde(flatten)]
    state: DestinationState,
}

/// The earliest planned attempt.
fn next_attempt(deliveries: &[&Delivery]) -> Option<Time> {
    let open = deliveries.iter().filter(|delivery| !delivery.status.is_final());
    open.filter_map(|delivery| delivery.next_attempt_at).min()
}

/// The state over all deliveries: delivered if any is, else sending if an open one was tried, else fail.
/// `None` before the first attempt.
fn state_over(deliveries: &[&Delivery], shows_canceled: bool) -> Option<DestinationState> {
    let is_tried = |delivery: &&&Delivery| delivery.attempts > 0;
    deliveries.iter().find(is_tried)?;
    let has = |status: DeliveryStatus| deliveries.iter().any(|delivery| delivery.status == status);
    let is_open = deliveries.iter().filter(is_tried).any(|delivery| !delivery.status.is_final());
    let status = match () {
        () if has(DeliveryStatus::Delivered) => SUCCESS,
        () if is_open => SENDING,
        () if shows_canceled && !has(DeliveryStatus::Failed) && has(DeliveryStatus::Cancelled) => CANCELED,
        () => FAIL,
    };
    Some(DestinationState::new(status, next_attempt(deliveries)))
}

/// The state by the latest attempt. A message that was not tried yet is shown as pending.
fn state_of_latest(deliveries: &[&Delivery]) -> DestinationState {
    let tried = deliveries.iter().filter(|delivery| delivery.last_attempt_id.is_some());
    let status = match tried.max_by_key(|delivery| delivery.last_attempt_id) {
        Some(latest) if latest.status == DeliveryStatus::Delivered => SUCCESS,
        None if deliveries.iter().any(|delivery| !delivery.status.is_final()) => PENDING,
        _ => FAIL,
    };
    DestinationState::new(status, next_attempt(deliveries))
}

/// `GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/msg`.
pub fn messages(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (_, webhook) = ids::endpoint(context, request)?;
    let query = SvixQuery::read(request)?;
    let (filter, status) = (MessageFilter::read(&query)?, query.status()?);
    let with_content = query.flag(&WITH_CONTENT)?.unwrap_or(true);
    let expanded = query.flag(&EXPANDED_STATUSES)?.unwrap_or(false) || status == Some(CANCELED);
    let travel = query.travel(Noun::Message)?;
    let window = list::window_from(&query, travel.as_ref())?;
    // The ids of the window are of deliveries, which follow their message. Its own ones are skipped on the way back.
    let skipped = match travel {
        Some(Travel::Previous(id)) => Some(id),
        _ => None,
    };
    let wanted = |event: &Event| filter.passes(event) && skipped.is_none_or(|id| event.id.as_u128() > id);
    let row = |own: &[Delivery]| {
        let state = state_over(&own.iter().collect::<Vec<_>>(), expanded);
        state.filter(|state| status.is_none_or(|status| status == state.status))
    };
    let page = context.store.published_two_way(webhook.id, window, with_content, context.now, wanted, row)?;
    list::window_page(
        Noun::Message,
        window,
        &page,
        |(_, event, _)| event.id.as_u128(),
        |(state, event, data)| {
            let message = SvixMessage::new(event, data.as_deref(), with_content)?;
            Ok(SvixEndpointMessage { message, state: *state })
        },
    )
}

/// `GET /api/v1/app/{app_id}/msg/{msg_id}/endpoint`. Removed endpoints are in it.
pub fn endpoints(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (app, event) = ids::message(context, request)?;
    let query = SvixQuery::read(request)?;
    let (limit, travel) = (query.limit()?, query.travel(Noun::Endpoint)?);
    let all = context.store.deliveries_of(event.id, context.now)?;
    let mut by_webhook: BTreeMap<WebhookId, Vec<&Delivery>> = BTreeMap::new();
    for delivery in &all {
        by_webhook.entry(delivery.webhook_id).or_default().push(delivery);
    }
    let page = item_page(by_webhook.iter(), travel.as_ref(), limit, |(id, _), place| id.as_u128().cmp(place));
    let mut rows = Vec::with_capacity(page.rows.len());
    for (id, deliveries) in &page.rows {
        rows.push((found_or_removed(context, &app, **id, deliveries)?, state_of_latest(deliveries)));
    }
    let page = super::iterator::IteratorPage { rows, done: page.done };
    list::shown(
        &page,
        |(webhook, _)| Noun::Endpoint.write(webhook.id),
        |(webhook, state)| Ok(SvixMessageEndpoint { endpoint: SvixEndpoint::new(webhook), state: *state }),
    )
}

/// The webhook, or a removed one as far as its attempts show it.
fn found_or_removed(
    context: &ApiContext<'_>,
    app: &App,
    id: WebhookId,
    deliveries: &[&Delivery],
) -> Result<Arc<Webhook>, ApiError> {
    if let Some(webhook) = context.registry.webhook_by_id(id) {
        return Ok(webhook.clone());
    }
    let mut webhook = Webhook::new(app.org_id, app.id);
    (webhook.id, webhook.status) = (id, WebhookStatus::Disabled);
    (webhook.created_at, webhook.updated_at) = (id.time(), id.time());
    if let Some(tried) = deliveries.iter().rev().find(|delivery| delivery.attempts > 0) {
        let attempts = context.store.attempts_of(tried, context.now)?;
        webhook.url = attempts.last().map(|attempt| attempt.made.url.clone()).unwrap_or_default();
    }
    Ok(Arc::new(webhook))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Id;

    fn delivery(status: DeliveryStatus, attempts: u32, next: Option<i64>) -> Delivery {
        let last_attempt_id = (attempts > 0).then(|| Id::from_u128(u128::from(attempts)));
        Delivery { status, attempts, next_attempt_at: next.map(Time), last_attempt_id, ..Delivery::default() }
    }

    #[test]
    fn a_row_shows_all_deliveries_as_one() {
        use DeliveryStatus::{Cancelled, Delivered, Failed, Pending, Retrying};
        let (delivered, failed) = (delivery(Delivered, 1, None), delivery(Failed, 2, None));
        let (retrying, pending) = (delivery(Retrying, 3, Some(9)), delivery(Pending, 0, Some(5)));
        let cancelled = delivery(Cancelled, 1, None);
        for (all, shows_canceled, expected) in [
            (vec![&pending], false, None),
            (vec![&retrying], false, Some((SENDING, Some(9)))),
            (vec![&failed], false, Some((FAIL, None))),
            (vec![&failed, &pending], false, Some((FAIL, Some(5)))),
            (vec![&failed, &retrying, &pending], false, Some((SENDING, Some(5)))),
            (vec![&failed, &delivered], false, Some((SUCCESS, None))),
            (vec![&cancelled], false, Some((FAIL, None))),
            (vec![&cancelled], true, Some((CANCELED, None))),
        ] {
            let state = state_over(&all, shows_canceled);
            assert_eq!(state.map(|state| (state.status, state.next_attempt)), expected.map(|(s, t)| (s, t.map(Time))));
        }
        let latest = |all: &[&Delivery]| state_of_latest(all).status;
        assert_eq!(latest(&[&delivered, &retrying]), FAIL, "the latest attempt failed");
        assert_eq!(latest(&[&delivered]), SUCCESS);
        assert_eq!(latest(&[&pending]), PENDING, "no attempt was made yet");
        assert_eq!(latest(&[&failed, &pending]), FAIL);
        assert_eq!(latest(&[&delivery(Failed, 0, None)]), FAIL, "it expired before its first attempt");
    }
}
