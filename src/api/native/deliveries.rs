//! Deliveries: list, read, send again, cancel (api.md sections 3 and 6).

use http::StatusCode;
use serde::Serialize;

use crate::api::ask::Ask;
use crate::api::call::Reply;
use crate::api::context::Context;
use crate::api::cursor::Kind;
use crate::api::fault::Fault;
use crate::api::step::Step;
use crate::model::{AppId, Delivery, DeliveryId, DeliveryStatus, EventId, Outcome, Time, WebhookId};
use crate::store::{Applied, Command, DeliveryQuery, Receipt};

use super::{page, webhooks};

/// A delivery in the order of api.md section 6.
#[derive(Serialize)]
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
    replay_of: Option<DeliveryId>,
    last_status_code: Option<u16>,
    last_outcome: Option<Outcome>,
    last_error: Option<&'a str>,
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

/// The delivery in the path, or 404.
pub fn in_path(context: &Context<'_>, ask: &Ask<'_>) -> Result<Delivery, Fault> {
    let id: DeliveryId = ask.id("delivery")?;
    context.store.delivery(ask.reach(), id, context.now)?.ok_or_else(|| Fault::not_found("delivery"))
}

fn listed(context: &Context<'_>, ask: &Ask<'_>, webhook: Option<WebhookId>) -> Result<Step, Fault> {
    let query = DeliveryQuery {
        reach: ask.reach(),
        webhook,
        event: ask.query.id("event_id")?,
        status: ask.query.delivery_status()?,
        event_type: ask.query.event_type()?,
        status_code: ask.query.status_code()?,
        search: ask.query.search()?,
        window: ask.query.window(Kind::Deliveries)?,
    };
    let page = context.store.deliveries(&query, context.now)?;
    Ok(Step::Reply(page::reply(Kind::Deliveries, &page, DeliveryView::new)))
}

/// `GET /v1/deliveries`.
pub fn list(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    listed(context, ask, ask.query.id("webhook_id")?)
}

/// `GET /v1/webhooks/{id}/deliveries`.
pub fn of_webhook(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    let webhook = webhooks::in_path(context, ask)?;
    listed(context, ask, Some(webhook.id))
}

/// `GET /v1/deliveries/{id}`.
pub fn read(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    let delivery = in_path(context, ask)?;
    Ok(Step::Reply(Reply::json(StatusCode::OK, &DeliveryView::new(&delivery))))
}

/// `POST /v1/deliveries/{id}/retry`.
pub fn retry(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    ask.no_fields()?;
    let id = in_path(context, ask)?.id;
    Ok(Step::apply(ask.order(Command::Retry { id })?, |applied| shown(StatusCode::ACCEPTED, applied)))
}

/// `POST /v1/deliveries/{id}/cancel`.
pub fn cancel(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    ask.no_fields()?;
    let id = in_path(context, ask)?.id;
    Ok(Step::apply(ask.order(Command::CancelDelivery { id })?, |applied| shown(StatusCode::OK, applied)))
}

fn shown(status: StatusCode, applied: Applied) -> Result<Reply, Fault> {
    match applied.receipt {
        Receipt::Delivery(delivery) => Ok(Reply::json(status, &DeliveryView::new(&delivery))),
        _ => Err(super::unexpected()),
    }
}
