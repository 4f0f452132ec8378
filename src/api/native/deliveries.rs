//! Deliveries: list, read, retry and cancel (docs/concepts.md).

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::cursor::{self, CursorKind};
use crate::api::error::ApiError;
use crate::api::params::{
    DELIVERIES_CURSOR, DELIVERY_STATUS, ENDED_FROM, ENDED_TO, EVENT_TYPE, FROM, LIMIT, OUTCOME, Param, ParamValues,
    SEARCH, STATUS_CODE, TO,
};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::{AppId, AttemptOutcome, Delivery, DeliveryId, DeliveryStatus, EventId, Time, WebhookId};
use crate::rules::circuit;
use crate::rules::diagnosis::{self, Diagnosis, DiagnosisReader, Failure};
use crate::store::{DeliveryQuery, ListWindow, PartitionCommand, Receipt};

use super::stats::narrowed;
use super::waiting::WaitingDeliveryView;
use super::waiting_for::WaitingForView;
use super::webhooks::{self, APP_ID};

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
    /// Whether the event was sent to the webhook by hand: one attempt without retries.
    resend: bool,
    #[schemars(range(min = 100, max = 999))]
    last_status_code: Option<u16>,
    last_outcome: Option<AttemptOutcome>,
    last_error: Option<&'a str>,
    /// In milliseconds.
    last_response_time_ms: Option<u32>,
    /// Why the last attempt failed, in words. Null if it succeeded, or none was made.
    reason: Option<Diagnosis>,
}

impl<'a> DeliveryView<'a> {
    pub fn new(reader: DiagnosisReader, delivery: &'a Delivery) -> Self {
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
            resend: delivery.resend,
            last_status_code: delivery.last_status_code,
            last_outcome: delivery.last_outcome,
            last_error: delivery.last_error.as_deref(),
            last_response_time_ms: delivery.last_response_time_ms,
            reason: reason(reader, delivery),
        }
    }
}

fn reason(reader: DiagnosisReader, delivery: &Delivery) -> Option<Diagnosis> {
    let diagnosis = diagnosis::for_reader(reader, &Failure::of_delivery(delivery)?);
    Some(match delivery.last_attempt_id {
        Some(id) => diagnosis.of_attempt(id),
        None => diagnosis,
    })
}

/// A delivery that a caller asked to send now, and why that may take a while.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RetriedDelivery")]
pub struct RetriedView<'a> {
    #[serde(flatten)]
    pub delivery: DeliveryView<'a>,
    /// Why the delivery does not go now; null if it goes at once. An open circuit lets one request through, for the delivery
    /// that is due first.
    pub waiting_for: Option<WaitingForView>,
}

pub const WEBHOOK_ID: Param = Param::new("webhook_id", ParamValues::Id, "Only of this webhook.");
pub const EVENT_ID: Param = Param::new("event_id", ParamValues::Id, "Only of the event with this id.");

/// The parameters of the list of all deliveries.
pub const FILTERS: &[Param] = &[
    WEBHOOK_ID,
    APP_ID,
    EVENT_ID,
    DELIVERY_STATUS,
    EVENT_TYPE,
    FROM,
    TO,
    ENDED_FROM,
    ENDED_TO,
    STATUS_CODE,
    OUTCOME,
    SEARCH,
    LIMIT,
    DELIVERIES_CURSOR,
];
/// The parameters of the list of a webhook's deliveries: the same without the webhook and the app.
pub const FILTERS_OF_WEBHOOK: &[Param] = FILTERS.split_at(2).1;

/// The delivery in the path, or 404.
pub fn in_path(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Delivery, ApiError> {
    let id: DeliveryId = request.id("delivery")?;
    context.store.delivery(request.tenant(), id, context.now)?.ok_or_else(|| ApiError::not_found("delivery"))
}

/// A page of deliveries.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeliveryList")]
pub struct DeliveryListView<'a> {
    data: Vec<DeliveryView<'a>>,
    next_cursor: Option<String>,
    /// With `status=failed`, in a store of an earlier version: deliveries that ended before this time come last, in the order of
    /// their making, and pages of them may be empty before the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    indexed_from: Option<Time>,
}

fn listed(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    webhook: Option<WebhookId>,
) -> Result<Step, ApiError> {
    let params = &request.query;
    let (event, status) = (params.id(&EVENT_ID)?, params.delivery_status()?);
    let is_failed = status.as_ref().is_some_and(|status| status.is_only(&DeliveryStatus::Failed));
    let is_by_end = is_failed && event.is_none();
    let before = if is_by_end { None } else { params.cursor(CursorKind::Deliveries)? };
    let query = DeliveryQuery {
        tenant: narrowed(context, request)?,
        webhook,
        event,
        status,
        event_type: params.event_type()?,
        status_code: params.status_code()?,
        outcome: params.outcome()?,
        search: params.search()?,
        ended: params.ended()?,
        window: ListWindow {
            from: params.time(&FROM)?,
            to: params.time(&TO)?,
            before,
            ..ListWindow::newest(params.limit()?)
        },
    };
    if is_by_end {
        let after = params.failed_position(context.store.has_whole_index()?)?;
        let page = context.store.failed_deliveries(&query, after, context.now)?;
        return Ok(shown_list(request.reader(), &page.rows, page.next.map(cursor::write_failed), page.indexed_from));
    }
    let page = context.store.deliveries(&query, context.now)?;
    Ok(shown_list(
        request.reader(),
        &page.rows,
        page.next.map(|next| cursor::write(CursorKind::Deliveries, next)),
        None,
    ))
}

fn shown_list(
    reader: DiagnosisReader,
    rows: &[Delivery],
    next_cursor: Option<String>,
    indexed_from: Option<Time>,
) -> Step {
    let data = rows.iter().map(|row| DeliveryView::new(reader, row)).collect();
    Step::Reply(HttpResponse::json(StatusCode::OK, &DeliveryListView { data, next_cursor, indexed_from }))
}

/// `GET /v1/deliveries`. 404 for a webhook that the caller cannot see. The deliveries of a removed one are listed.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = request.query.id(&WEBHOOK_ID)?;
    if let Some(id) = webhook.filter(|id| context.registry.webhook(request.tenant(), *id).is_none()) {
        let all = DeliveryQuery::all(request.tenant(), ListWindow::newest(1));
        let any = DeliveryQuery { webhook: Some(id), ..all };
        if context.store.deliveries(&any, context.now)?.rows.is_empty() {
            return Err(ApiError::not_found("webhook"));
        }
    }
    listed(context, request, webhook)
}

/// `GET /v1/webhooks/{id}/deliveries`.
pub fn of_webhook(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    listed(context, request, Some(webhook.id))
}

/// `GET /v1/deliveries/{id}`.
pub fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let delivery = in_path(context, request)?;
    let behind = context.store.standing_before(&delivery)?;
    let view = WaitingDeliveryView::new(context, request.reader(), (&delivery, behind));
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view)))
}

/// `POST /v1/deliveries/{id}/retry`.
pub fn retry(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    request.no_fields()?;
    let delivery = in_path(context, request)?;
    let webhook = context.registry.webhook(request.tenant(), delivery.webhook_id).cloned();
    let (store, now, reader) = (context.store.clone(), context.now, request.reader());
    // Read before the retry, because the probe that it lets through may be recorded before the answer is made.
    let first = store.first_due_of(delivery.webhook_id, now)?;
    let write_request = request.write(PartitionCommand::Retry { id: delivery.id })?;
    Ok(Step::apply(write_request, move |applied| {
        let Receipt::Delivery(delivery) = applied.receipt else { return Err(super::unexpected()) };
        let state = circuit::shown(store.state(delivery.webhook_id), now);
        let is_first = first.is_none_or(|first| first == delivery.id);
        let behind = store.standing_before(&delivery)?;
        let waiting_for = webhook.and_then(|webhook| WaitingForView::of_retried(&webhook, &state, is_first, behind));
        let view = RetriedView { delivery: DeliveryView::new(reader, &delivery), waiting_for };
        Ok(HttpResponse::json(StatusCode::ACCEPTED, &view))
    }))
}

/// `POST /v1/deliveries/{id}/cancel`.
pub fn cancel(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    request.no_fields()?;
    let id = in_path(context, request)?.id;
    let reader = request.reader();
    Ok(Step::apply(request.write(PartitionCommand::CancelDelivery { id })?, move |applied| match applied.receipt {
        Receipt::Delivery(delivery) => Ok(HttpResponse::json(StatusCode::OK, &DeliveryView::new(reader, &delivery))),
        _ => Err(super::unexpected()),
    }))
}
