//! `POST /v1/events/{id}/resend`: sends an event to one webhook again.

use http::StatusCode;

use crate::api::context::ApiContext;
use crate::api::doc::{answer, doc};
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors};
use crate::api::media::BodyRule;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::Route;
use crate::api::route::RouteAccess::Scope as Needs;
use crate::api::step::Step;
use crate::model::Scope;
use crate::rules::circuit;
use crate::store::{PartitionCommand, Receipt};

use super::deliveries::{DeliveryView, RetriedView};
use super::events;
use super::routes::post;
use super::waiting_for::WaitingForView;

pub const RESEND: Route = post(
    "/v1/events/{id}/resend",
    Needs(Scope::DeliveriesRetry, resend),
    BodyRule::Json,
    doc(
        "resendEvent",
        "events",
        "Send an event to one webhook now, once, whatever the webhook selects",
        &[answer::<RetriedView>(202, "The new delivery, which has one attempt and no retries.")],
    )
    .takes("Resend"),
);

/// `POST /v1/events/{id}/resend`.
pub fn resend(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let event = events::in_path(context, request)?;
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let name = object.required("webhook_id", &mut field_errors, fields::text);
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    let named = name.as_deref().and_then(|name| context.registry.webhook_of_app(event.app_id, name)).cloned();
    let Some(webhook) = named else {
        return Err(ApiError::invalid(vec![FieldError::new("/webhook_id", "no webhook of the event's app")]));
    };
    let (store, now, reader) = (context.store.clone(), context.now, request.reader());
    let first = store.first_due_of(webhook.id, now)?;
    let command = PartitionCommand::Resend { event: event.id, webhook: webhook.id };
    Ok(Step::apply(request.write(command)?, move |applied| {
        let Receipt::Delivery(delivery) = applied.receipt else { return Err(super::unexpected()) };
        let state = circuit::shown(store.state(delivery.webhook_id), now);
        let is_first = first.is_none_or(|first| first == delivery.id);
        let behind = store.standing_before(&delivery)?;
        let waiting_for = WaitingForView::of_retried(&webhook, &state, is_first, behind);
        let view = RetriedView { delivery: DeliveryView::new(reader, &delivery), waiting_for };
        Ok(HttpResponse::json(StatusCode::ACCEPTED, &view))
    }))
}
