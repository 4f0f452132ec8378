//! Routes of the native table that send again or erase one thing, and those of the registry of event types.

use http::StatusCode;

use crate::api::context::ApiContext;
use crate::api::cursor::CursorKind;
use crate::api::doc::{answer, doc, done, ok};
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors};
use crate::api::media::BodyRule;
use crate::api::params::{FROM, LIMIT, TO, cursor};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::Route;
use crate::api::route::RouteAccess::Scope as Needs;
use crate::api::step::Step;
use crate::model::{AttemptId, Scope};
use crate::rules::circuit;
use crate::store::{PartitionCommand, Receipt};

use super::deliveries::{DeliveryView, RetriedView};
use super::page::ListView;
use super::registered_types::{self, EXPUNGE, RegisteredTypeView, TYPE};
use super::routes::{delete, get, patch, post, put};
use super::waiting_for::WaitingForView;
use super::{events, replays};

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

pub const ERASE_RESPONSE: Route = delete(
    "/v1/attempts/{id}/response",
    Needs(Scope::EventsWrite, erase_response),
    doc(
        "eraseAttemptResponse",
        "deliveries",
        "Erase the headers and the body of an attempt's response, keep the record",
        &[done("Erased.")],
    ),
);

pub const CREATE_REPLAY: Route = post(
    "/v1/replays",
    Needs(Scope::DeliveriesRetry, replays::create),
    BodyRule::Json,
    doc(
        "createReplay",
        "replays",
        "Send past events again",
        &[
            answer::<replays::JobView>(202, "The job runs."),
            ok::<replays::MatchedView>("A dry run: how many events it would be."),
        ],
    )
    .takes("NewReplay"),
);

pub const LIST_REPLAYS: Route = get(
    "/v1/replays",
    Needs(Scope::DeliveriesRetry, replays::list),
    doc("listReplays", "replays", "List replays", &[ok::<ListView<replays::JobView>>("Newest first.")]),
)
.with_query(&[FROM, TO, LIMIT, cursor(CursorKind::Replays)]);

pub const READ_REPLAY: Route = get(
    "/v1/replays/{id}",
    Needs(Scope::DeliveriesRetry, replays::read),
    doc("getReplay", "replays", "Read a replay", &[ok::<replays::JobView>("The job as it stands.")]),
);

pub const CANCEL_REPLAY: Route = post(
    "/v1/replays/{id}/cancel",
    Needs(Scope::DeliveriesRetry, replays::cancel),
    BodyRule::OptionalJson,
    doc("cancelReplay", "replays", "Stop a replay", &[ok::<replays::JobView>("The cancelled job.")]).takes("Nothing"),
);

pub const CREATE_EVENT_TYPE: Route = post(
    "/v1/event-types",
    Needs(Scope::WebhooksWrite, registered_types::create),
    BodyRule::Json,
    doc(
        "createEventType",
        "event-types",
        "Register an event type; an archived one of the name is replaced",
        &[answer::<RegisteredTypeView>(201, "The event type.")],
    )
    .takes("NewEventType"),
);

pub const READ_EVENT_TYPE: Route = get(
    "/v1/event-types/{type}",
    Needs(Scope::WebhooksRead, registered_types::read),
    doc(
        "getEventType",
        "event-types",
        "Read a registered event type, archived ones too",
        &[ok::<RegisteredTypeView>("With its schemas.")],
    ),
)
.with_segments(&[TYPE]);

pub const PUT_EVENT_TYPE: Route = put(
    "/v1/event-types/{type}",
    Needs(Scope::WebhooksWrite, registered_types::replace),
    doc(
        "putEventType",
        "event-types",
        "Replace or register an event type",
        &[ok::<RegisteredTypeView>("As it is now."), answer::<RegisteredTypeView>(201, "It is new.")],
    )
    .takes("EventTypeMembers"),
)
.with_segments(&[TYPE]);

pub const PATCH_EVENT_TYPE: Route = patch(
    "/v1/event-types/{type}",
    Needs(Scope::WebhooksWrite, registered_types::update),
    doc(
        "updateEventType",
        "event-types",
        "Change a registered event type by a merge patch; `schemas` is replaced as a whole",
        &[ok::<RegisteredTypeView>("As it is now.")],
    )
    .takes("EventTypeMembers"),
)
.with_segments(&[TYPE]);

pub const DELETE_EVENT_TYPE: Route = delete(
    "/v1/event-types/{type}",
    Needs(Scope::WebhooksWrite, registered_types::remove),
    doc("deleteEventType", "event-types", "Archive a registered event type, or remove it", &[done("Done.")]),
)
.with_segments(&[TYPE])
.with_query(&[EXPUNGE]);

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

/// `DELETE /v1/attempts/{id}/response`.
fn erase_response(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id: AttemptId = request.id("attempt")?;
    if context.store.attempt(request.tenant(), id, context.now)?.is_none() {
        return Err(ApiError::not_found("attempt"));
    }
    let write_request = request.write(PartitionCommand::EraseResponse { id })?;
    Ok(Step::apply(write_request, |_| Ok(HttpResponse::empty(StatusCode::NO_CONTENT))))
}
