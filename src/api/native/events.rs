//! Published events: list, read with their deliveries, cancel, erase (docs/api.md).

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::cursor::{self, CursorKind};
use crate::api::doc::schema::extends;
use crate::api::error::ApiError;
use crate::api::params::{Param, ParamValues};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::webhook::{DeliveryOrder, Webhook, WebhookState, WebhookStatus};
use crate::model::{Delivery, Event, EventId, Time, WebhookId};
use crate::rules::filter::Filter;
use crate::rules::hold::{self, HoldReason};
use crate::rules::{circuit, patterns};
use crate::store::{DeliveryQuery, EventName, EventQuery, Page, PartitionCommand, Receipt, TenantScope};

use super::deliveries::{DeliveryView, WEBHOOK_ID};
use super::page;
use super::publish::PublishView;
use super::stats::narrowed;
use super::webhooks;

/// `event_id` as a filter. The parameter of the same name in lists of deliveries is the id of an event.
pub const OWN_ID: Param =
    Param::new("event_id", ParamValues::Text { chars_max: None }, "Only with exactly this `event_id` of the producer.");
pub const SUBJECT: Param =
    Param::new("subject", ParamValues::Text { chars_max: None }, "Only with exactly this subject.");

/// An event, without its data.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Event")]
pub struct EventView<'a> {
    #[serde(flatten)]
    published: PublishView<'a>,
    metadata: &'a BTreeMap<String, String>,
    channels: &'a [String],
    ordering_key: Option<&'a str>,
    deliver_at: Option<Time>,
    expires_at: Option<Time>,
    traceparent: Option<&'a str>,
    erased_at: Option<Time>,
}

impl<'a> EventView<'a> {
    pub fn new(event: &'a Event) -> Self {
        EventView {
            published: PublishView::new(event, false),
            metadata: &event.attributes.metadata,
            channels: &event.attributes.channels,
            ordering_key: event.attributes.ordering_key.as_deref(),
            deliver_at: event.attributes.deliver_at,
            expires_at: event.attributes.expires_at,
            traceparent: event.attributes.traceparent.as_deref(),
            erased_at: event.erased_at,
        }
    }
}

/// An event with its data.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EventWithData")]
pub struct WholeEvent<'a> {
    #[serde(flatten)]
    #[schemars(schema_with = "extends::<EventView>")]
    event: EventView<'a>,
    /// Any JSON, stored and sent byte for byte. Null as well once it is erased.
    data: Option<&'a RawValue>,
}

impl<'a> WholeEvent<'a> {
    pub fn new(event: &'a Event, data: Option<&'a Bytes>) -> Result<Self, ApiError> {
        let data = data.map(|bytes| serde_json::from_slice(bytes)).transpose();
        let data = data.map_err(|_| ApiError::internal("the event's data cannot be read back"))?;
        Ok(WholeEvent { event: EventView::new(event), data })
    }
}

/// The event in the path, by its id or by its `event_id` in the key's app, or 404.
pub fn in_path(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Event, ApiError> {
    let (tenant, name) = (request.tenant(), request.path.get("id"));
    let found = match name.parse::<EventId>() {
        Ok(id) => context.store.event(tenant, id, context.now)?,
        Err(_) => {
            let app = Some(webhooks::own_app(&context.registry, tenant)?);
            context.store.event_by_event_id(TenantScope { app, ..tenant }, name, context.now)?
        }
    };
    found.ok_or_else(|| ApiError::not_found("event"))
}

/// A page of events.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EventList")]
pub struct EventListView<'a> {
    data: Vec<EventView<'a>>,
    next_cursor: Option<String>,
    /// With `event_id` or `subject`, in a store of an earlier version: events that were received before this time are searched
    /// for, and pages of them may be empty before the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    indexed_from: Option<Time>,
}

/// `GET /v1/events`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let tenant = narrowed(context, request)?;
    let (event_id, subject) = (request.query.text(&OWN_ID), request.query.text(&SUBJECT));
    let query = EventQuery {
        tenant,
        event_type: request.query.event_type()?,
        event_id: event_id.map(str::to_owned),
        subject: subject.map(str::to_owned),
        search: request.query.search()?,
        window: request.query.window(CursorKind::Events)?,
    };
    let (page, indexed_from) = match event_id.map(EventName::EventId).or(subject.map(EventName::Subject)) {
        Some(name) => {
            let found = context.store.named_events(&query, name, context.now)?;
            (Page { rows: found.rows, next: found.next }, found.indexed_from)
        }
        None => (context.store.events(&query, context.now)?, None),
    };
    let view = EventListView {
        data: page.rows.iter().map(EventView::new).collect(),
        next_cursor: page.next.map(|next| cursor::write(CursorKind::Events, next)),
        indexed_from,
    };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view)))
}

/// `GET /v1/events/{id}`.
pub fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let event = in_path(context, request)?;
    let data = context.store.data(event.id, context.now)?;
    let webhooks = decisions(context, &event, data.as_ref())?;
    let view = RoutingView { event: WholeEvent::new(&event, data.as_ref())?, webhooks };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view)))
}

/// An event with its data, and its routing to each webhook of its app.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EventWithDecisions")]
pub struct RoutingView<'a> {
    #[serde(flatten)]
    #[schemars(schema_with = "extends::<WholeEvent>")]
    event: WholeEvent<'a>,
    webhooks: Vec<DecisionView>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
struct DecisionView {
    webhook_id: WebhookId,
    #[schemars(extend("enum" = ["delivered_to", "filtered", "held"]))]
    decision: &'static str,
    /// The delivery's status, or the cause that filtered the event (`type`, `channel`, `filter`, `created_later`,
    /// `disabled`, `about_itself`, `changed_since`, `not_wanted`), or the cause that holds the delivery (`paused`,
    /// `disabled`, `circuit_open`, `retry_after`, `deliver_at`, `ordered`).
    reason: &'static str,
}

/// The number of deliveries that were cancelled.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CancelledEvent")]
pub struct CancelledView {
    id: EventId,
    cancelled: u32,
}

/// One decision for every webhook of the app, oldest first, and for every removed one that has a delivery of the event.
fn decisions(context: &ApiContext<'_>, event: &Event, data: Option<&Bytes>) -> Result<Vec<DecisionView>, ApiError> {
    // A replay comes after the delivery that it repeats, so the last one is shown.
    let mut newest: BTreeMap<WebhookId, Delivery> = BTreeMap::new();
    for delivery in context.store.deliveries_of(event.id, context.now)? {
        newest.insert(delivery.webhook_id, delivery);
    }
    let mut decisions = Vec::new();
    for webhook in context.registry.webhooks_of(event.app_id) {
        decisions.push(match newest.remove(&webhook.id) {
            Some(delivery) => {
                let state = circuit::shown(context.store.state(webhook.id), context.now);
                let reason = hold_reason(webhook, &delivery, event, &state, context.now);
                match reason {
                    Some(reason) => DecisionView { webhook_id: webhook.id, decision: "held", reason },
                    None => delivered_to(&delivery),
                }
            }
            None => {
                let reason = filtered(webhook, event, data);
                DecisionView { webhook_id: webhook.id, decision: "filtered", reason }
            }
        });
    }
    decisions.extend(newest.values().map(delivered_to));
    Ok(decisions)
}

fn delivered_to(delivery: &Delivery) -> DecisionView {
    DecisionView { webhook_id: delivery.webhook_id, decision: "delivered_to", reason: delivery.status.as_str() }
}

/// The reason why an open delivery is not sent now.
fn hold_reason(
    webhook: &Webhook,
    delivery: &Delivery,
    event: &Event,
    shown: &WebhookState,
    now: Time,
) -> Option<&'static str> {
    let later = |at: Option<Time>| at.is_some_and(|at| at > now);
    match hold::of(webhook, shown).map(|hold| hold.reason) {
        _ if delivery.status.is_final() => None,
        Some(HoldReason::Paused) => Some("paused"),
        Some(HoldReason::Disabled) => Some("disabled"),
        Some(HoldReason::Circuit) => Some("circuit_open"),
        Some(HoldReason::Receiver) => Some("retry_after"),
        None if later(event.attributes.deliver_at) => Some("deliver_at"),
        None if later(delivery.next_attempt_at) => None,
        None if webhook.ordered != DeliveryOrder::No && delivery.attempts == 0 => Some("ordered"),
        None => None,
    }
}

/// Why there is no delivery, by the webhook's current configuration: a reason of `DecisionView`.
pub fn filtered(webhook: &Webhook, event: &Event, data: Option<&Bytes>) -> &'static str {
    if !patterns::wants(&webhook.event_types, &event.attributes.event_type) {
        return "type";
    }
    if !patterns::wants_channels(&webhook.channels, &event.attributes.channels) {
        return "channel";
    }
    let filter = webhook.filter.as_deref().and_then(|text| Filter::parse_text(text.as_bytes()).ok());
    match (filter, data) {
        (Some(filter), Some(data)) if !filter.matches(data) => "filter",
        _ if webhook.created_at > event.received_at => "created_later",
        _ if webhook.status == WebhookStatus::Disabled => "disabled",
        _ if patterns::is_system(&event.attributes.event_type) => "about_itself",
        _ if webhook.updated_at > event.received_at => "changed_since",
        _ => "not_wanted",
    }
}

/// `GET /v1/events/{id}/deliveries`.
pub fn deliveries(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let event = in_path(context, request)?;
    let query = DeliveryQuery {
        tenant: request.tenant(),
        webhook: request.query.id(&WEBHOOK_ID)?,
        event: Some(event.id),
        status: request.query.delivery_status()?,
        event_type: None,
        status_code: request.query.status_code()?,
        outcome: request.query.outcome()?,
        search: request.query.search()?,
        ended: Default::default(),
        window: request.query.window(CursorKind::Deliveries)?,
    };
    let page = context.store.deliveries(&query, context.now)?;
    Ok(Step::Reply(page::response(CursorKind::Deliveries, &page, |row| DeliveryView::new(request.reader(), row))))
}

/// `POST /v1/events/{id}/cancel`.
pub fn cancel(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    request.no_fields()?;
    let id = in_path(context, request)?.id;
    Ok(Step::apply(request.write(PartitionCommand::CancelEvent { id })?, move |applied| match applied.receipt {
        Receipt::Cancelled(cancelled) => Ok(HttpResponse::json(StatusCode::OK, &CancelledView { id, cancelled })),
        _ => Err(super::unexpected()),
    }))
}

/// `DELETE /v1/events/{id}/data`.
pub fn erase(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id = in_path(context, request)?.id;
    Ok(Step::apply(request.write(PartitionCommand::EraseEvent { id })?, |_| {
        Ok(HttpResponse::empty(StatusCode::NO_CONTENT))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::webhook::CircuitState;
    use crate::model::{DeliveryStatus, Id};

    fn webhook() -> Webhook {
        Webhook::new(Id::MIN, Id::MIN)
    }

    fn event(event_type: &str) -> Event {
        let mut event = Event { received_at: Time(1_000), ..Event::default() };
        event.attributes.event_type = event_type.to_owned();
        event
    }

    fn delivery(status: DeliveryStatus) -> Delivery {
        Delivery { status, next_attempt_at: Some(Time(1_000)), created_at: Time(1_000), ..Delivery::default() }
    }

    #[test]
    fn the_first_reason_that_filters_is_shown() {
        let data = Bytes::from_static(b"{\"n\":1}");
        let mut webhook = webhook();
        webhook.event_types = vec!["order.*".to_owned()];
        assert_eq!(filtered(&webhook, &event("invoice.paid"), Some(&data)), "type");
        webhook.channels = vec!["eu".to_owned()];
        assert_eq!(filtered(&webhook, &event("order.paid"), Some(&data)), "channel");
        webhook.channels.clear();
        webhook.filter = Some(r#"{"all":[{"path":"/n","eq":2}]}"#.to_owned());
        assert_eq!(filtered(&webhook, &event("order.paid"), Some(&data)), "filter");
        webhook.filter = None;
        webhook.created_at = Time(2_000);
        assert_eq!(filtered(&webhook, &event("order.paid"), Some(&data)), "created_later");
    }

    #[test]
    fn only_an_open_delivery_is_held() {
        let mut webhook = webhook();
        webhook.status = WebhookStatus::Paused;
        let (open, done) = (delivery(DeliveryStatus::Pending), delivery(DeliveryStatus::Delivered));
        let free = &WebhookState::default();
        let event = event("a");
        assert_eq!(hold_reason(&webhook, &open, &event, free, Time(5_000)), Some("paused"));
        assert_eq!(hold_reason(&webhook, &done, &event, free, Time(5_000)), None);
        webhook.status = WebhookStatus::Enabled;
        assert_eq!(hold_reason(&webhook, &open, &event, free, Time(5_000)), None);
        let probed = WebhookState { circuit: CircuitState::HalfOpen, ..*free };
        assert_eq!(hold_reason(&webhook, &open, &event, &probed, Time(5_000)), Some("circuit_open"));
        let asked = WebhookState { retry_after: Some(Time(9_000)), ..*free };
        assert_eq!(hold_reason(&webhook, &open, &event, &asked, Time(5_000)), Some("retry_after"));
        webhook.ordered = DeliveryOrder::Webhook;
        assert_eq!(hold_reason(&webhook, &open, &event, free, Time(5_000)), Some("ordered"));
    }

    #[test]
    fn an_event_shows_the_exact_bytes_of_its_data() {
        let data = Bytes::from_static(br#"{"n":1e400,"m":9223372036854775809, "s":"\u00e4"}"#);
        let shown = serde_json::to_string(&WholeEvent::new(&event("a"), Some(&data)).unwrap()).unwrap();
        assert!(shown.ends_with(r#","data":{"n":1e400,"m":9223372036854775809, "s":"\u00e4"}}"#), "{shown}");
        let shown = serde_json::to_string(&WholeEvent::new(&event("a"), None).unwrap()).unwrap();
        assert!(shown.ends_with(r#","data":null}"#), "{shown}");
    }
}
