//! Deliveries: list, read, retry and cancel (api.md sections 3 and 6).

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::cursor::CursorKind;
use crate::api::error::ApiError;
use crate::api::params::{Param, ParamValues};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::{AppId, AttemptOutcome, Delivery, DeliveryId, DeliveryStatus, EventId, Time, WebhookId};
use crate::rules::circuit;
use crate::store::{Applied, DeliveryQuery, PartitionCommand, Receipt};

use super::waiting_for::WaitingForView;
use super::{page, webhooks};

/// A delivery: one event on its way to one webhook.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Delivery")]
pub struct DeliveryView<'a> {
    id: DeliveryId,
    event_id: EventId,
    event_type: &'a str,
    webhook_id: WebhookId,
    app_id: AppId,
    status: DeliveryStatus,
    attempts: u32,
    next_attempt_at: Option<Time>,
    created_at: Time,
    first_attempt_at: Option<Time>,
    completed_at: Option<Time>,
    /// The final delivery that this one repeats.
    replay_of: Option<DeliveryId>,
    #[schemars(range(min = 100, max = 999))]
    last_status_code: Option<u16>,
    last_outcome: Option<AttemptOutcome>,
    last_error: Option<&'a str>,
    /// In milliseconds.
    last_response_time_ms: Option<u32>,
}

impl<'a> DeliveryView<'a> {
    pub fn new(delivery: &'a Delivery) -> Self {
        DeliveryView {
            id: delivery.id,
            event_id: delivery.event_id,
            event_type: &delivery.event_type,
            webhook_id: delivery.webhook_id,
            app_id: delivery.app_id,
            status: delivery.status,
            attempts: delivery.attempts,
            next_attempt_at: delivery.next_attempt_at,
            created_at: delivery.created_at,
            first_attempt_at: delivery.first_attempt_at,
            completed_at: delivery.completed_at,
            replay_of: delivery.replay_of,
            last_status_code: delivery.last_status_code,
            last_outcome: delivery.last_outcome,
            last_error: delivery.last_error.as_deref(),
            last_response_time_ms: delivery.last_response_time_ms,
        }
    }
}

/// A delivery that a caller asked to send now, and why that may take a while.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RetriedDelivery")]
pub struct RetriedView<'a> {
    #[serde(flatten)]
    delivery: DeliveryView<'a>,
    /// Why the delivery does not go now; null if it goes at once. An open circuit lets one request through, for the delivery
    /// that is due first.
    waiting_for: Option<WaitingForView>,
}

pub const WEBHOOK_ID: Param = Param::new("webhook_id", ParamValues::Id, "Only of this webhook.");
pub const EVENT_ID: Param = Param::new("event_id", ParamValues::Id, "Only of the event with this id.");

/// The delivery in the path, or 404.
pub fn in_path(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Delivery, ApiError> {
    let id: DeliveryId = request.id("delivery")?;
    context.store.delivery(request.tenant(), id, context.now)?.ok_or_else(|| ApiError::not_found("delivery"))
}

fn listed(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    webhook: Option<WebhookId>,
) -> Result<Step, ApiError> {
    let query = DeliveryQuery {
        tenant: request.tenant(),
        webhook,
        event: request.query.id(&EVENT_ID)?,
        status: request.query.delivery_status()?,
        event_type: request.query.event_type()?,
        status_code: request.query.status_code()?,
        search: request.query.search()?,
        window: request.query.window(CursorKind::Deliveries)?,
    };
    let page = context.store.deliveries(&query, context.now)?;
    Ok(Step::Reply(page::response(CursorKind::Deliveries, &page, DeliveryView::new)))
}

/// `GET /v1/deliveries`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    listed(context, request, request.query.id(&WEBHOOK_ID)?)
}

/// `GET /v1/webhooks/{id}/deliveries`.
pub fn of_webhook(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    listed(context, request, Some(webhook.id))
}

/// `GET /v1/deliveries/{id}`.
pub fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let delivery = in_path(context, request)?;
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &DeliveryView::new(&delivery))))
}

/// `POST /v1/deliveries/{id}/retry`.
pub fn retry(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    request.no_fields()?;
    let delivery = in_path(context, request)?;
    let webhook = context.registry.webhook(request.tenant(), delivery.webhook_id).cloned();
    let (store, now) = (context.store.clone(), context.now);
    let write_request = request.write(PartitionCommand::Retry { id: delivery.id })?;
    Ok(Step::apply(write_request, move |applied| {
        let Receipt::Delivery(delivery) = applied.receipt else { return Err(super::unexpected()) };
        let state = circuit::shown(store.state(delivery.webhook_id), now);
        let is_first = store.first_due_of(delivery.webhook_id)? == Some(delivery.id);
        let waiting_for = webhook.and_then(|webhook| WaitingForView::of_retried(&webhook, &state, is_first));
        let view = RetriedView { delivery: DeliveryView::new(&delivery), waiting_for };
        Ok(HttpResponse::json(StatusCode::ACCEPTED, &view))
    }))
}

/// `POST /v1/deliveries/{id}/cancel`.
pub fn cancel(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    request.no_fields()?;
    let id = in_path(context, request)?.id;
    Ok(Step::apply(request.write(PartitionCommand::CancelDelivery { id })?, |applied| shown(StatusCode::OK, applied)))
}

fn shown(status: StatusCode, applied: Applied) -> Result<HttpResponse, ApiError> {
    match applied.receipt {
        Receipt::Delivery(delivery) => Ok(HttpResponse::json(status, &DeliveryView::new(&delivery))),
        _ => Err(super::unexpected()),
    }
}
