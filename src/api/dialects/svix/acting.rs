//! Sending again by hand: one message, an example, or everything that failed.

use bytes::Bytes;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors};
use crate::api::limits::{CHANNELS_MAX, EVENT_TYPES_MAX};
use crate::api::native::{publish, webhook_form};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::event::EventAttributes;
use crate::model::job::JobSpec;
use crate::model::webhook::WebhookStatus;
use crate::model::{DeliveryStatus, LastDeliveryFilter, StatusCodes, Time, WebhookId};
use crate::rules::patterns;
use crate::store::{Applied, EventInput, PartitionCommand, Receipt, StateCommand};

use super::errors::{absent, refused};
use super::ids;
use super::messages;
use super::tasks::SvixTask;
use crate::api::dialects::derived::ok;

const DAY_MS: i64 = 86_400_000;
/// The longest span of a recovery. The clocks of callers may differ by some minutes.
const SPAN_MS: i64 = 14 * DAY_MS;
const SKEW_MS: i64 = 5 * 60_000;
/// The type of an example that needs no event type.
const PING: &str = "svix.ping";
const PING_PAYLOAD: &str = r#"{"success": true}"#;

/// An empty object.
#[derive(Serialize, JsonSchema)]
pub struct SvixEmpty {}

/// `POST …/msg/{msg_id}/endpoint/{endpoint_id}/resend`.
pub fn resend(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = ids::endpoint(context, request)?.1;
    let event = ids::message(context, request)?.1;
    if event.erased_at.is_some() {
        return Err(refused("missing_payload", "the payload of this message was erased"));
    }
    let command = PartitionCommand::Resend { event: event.id, webhook: webhook.id };
    Ok(Step::apply(request.write(command)?, |_| Ok(HttpResponse::json(StatusCode::ACCEPTED, &SvixEmpty {}))))
}

/// `POST …/endpoint/{endpoint_id}/send-example`: a message of the app that goes to this endpoint only.
pub fn send_example(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (app, webhook) = ids::endpoint(context, request)?;
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let event_type = object.required("eventType", &mut field_errors, fields::text);
    fields::into_result(field_errors)?;
    let event_type = event_type.unwrap_or_default();
    let payload = example(context, request, &event_type)?;
    if webhook.status == WebhookStatus::Disabled {
        return Err(ApiError::conflict("webhook_disabled", "the endpoint is disabled: enable it first"));
    }
    let attributes = EventAttributes { event_type, ..EventAttributes::default() };
    let input = EventInput {
        app: Some(app.id),
        only: Some(webhook.id),
        data: payload.into(),
        attributes,
        ..EventInput::default()
    };
    let write_request = request.write(PartitionCommand::Publish(vec![input]))?;
    Ok(Step::apply(write_request, |applied| messages::published(StatusCode::OK, applied, &Bytes::new(), false)))
}

/// The payload of an example of this type: the first example of version 1 of its schemas.
fn example(context: &ApiContext<'_>, request: &RequestContext<'_>, name: &str) -> Result<String, ApiError> {
    if name == PING {
        return Ok(PING_PAYLOAD.to_owned());
    }
    let event_type = context.registry.event_type(request.tenant().org, name).ok_or_else(absent)?;
    let schemas = event_type.definition.schemas.as_deref().unwrap_or("{}");
    let missing = || refused("invalid_scheme", "the event type has no example in version 1 of its schemas");
    let first = fields::JsonObject::read(schemas, String::new()).ok().and_then(|mut all| all.take("1"));
    let mut schema = fields::JsonObject::read(first.map_or("", RawValue::get), String::new()).map_err(|_| missing())?;
    let examples = schema.take("examples").map(|raw| fields::elements(raw, usize::MAX));
    let example = examples.and_then(Result::ok).and_then(|list| list.first().map(|raw| raw.get().to_owned()));
    example.filter(|text| text.starts_with('{')).ok_or_else(missing)
}

/// `POST …/endpoint/{endpoint_id}/recover`: one job, so that an `Idempotency-Key` begins it once.
pub fn recover(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = ids::endpoint(context, request)?.1;
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let since = object.required("since", &mut field_errors, fields::time);
    let until = object.optional("until", &mut field_errors, fields::time);
    let end = until.unwrap_or(context.now);
    if let Some(since) = since
        && (since > end || end.since(since) > SPAN_MS + SKEW_MS)
    {
        field_errors.push(FieldError::new("/since", "must lie before until, and at most 14 days"));
    }
    fields::into_result(field_errors)?;
    let spec = JobSpec { retrying: true, ..spec(webhook.id, since, until) };
    Ok(Step::apply(request.write(StateCommand::CreateJob { spec })?, begun))
}

/// The answer with a job that begins.
pub fn begun(applied: Applied) -> Result<HttpResponse, ApiError> {
    match applied.receipt {
        Receipt::Job(job) => Ok(HttpResponse::json(StatusCode::ACCEPTED, &SvixTask::new(&job))),
        _ => Err(super::unexpected()),
    }
}

/// `POST …/endpoint/{endpoint_id}/replay-missing`: sends the messages that the endpoint wants and never got.
pub fn replay_missing(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = ids::endpoint(context, request)?.1;
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let since = object.required("since", &mut field_errors, fields::time);
    let until = object.optional("until", &mut field_errors, fields::time);
    fields::into_result(field_errors)?;
    let spec = JobSpec { status: None, missing: true, ..spec(webhook.id, since, until) };
    Ok(Step::apply(request.write(StateCommand::CreateJob { spec })?, begun))
}

/// `POST …/endpoint/{endpoint_id}/bulk-replay`: sends ended messages again.
pub fn bulk_replay(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = ids::endpoint(context, request)?.1;
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let since = object.required("since", &mut field_errors, fields::time);
    let until = object.optional("until", &mut field_errors, fields::time);
    let types = object.strings("eventTypes", &mut field_errors, EVENT_TYPES_MAX, webhook_form::read_pattern);
    let status = object.optional("status", &mut field_errors, |raw| match fields::whole(raw, 0..=4)? {
        0 => Ok(DeliveryStatus::Delivered),
        2 => Ok(DeliveryStatus::Failed),
        4 => Ok(DeliveryStatus::Cancelled),
        _ => Err("must be 0, 2 or 4: only what has ended is sent again".to_owned()),
    });
    let class = object.optional("statusCodeClass", &mut field_errors, |raw| {
        let class = fields::whole(raw, 100..=500)? / 100;
        StatusCodes::parse(&format!("{class}xx")).ok_or_else(|| "must be 100, 200, 300, 400 or 500".to_owned())
    });
    if object.take("channel").is_some() {
        field_errors.push(FieldError::new("/channel", "is not a condition of a replay here"));
    }
    fields::into_result(field_errors)?;
    let last = LastDeliveryFilter { status_codes: class.into_iter().collect(), ..LastDeliveryFilter::default() };
    let spec = JobSpec { types: types.unwrap_or_default(), status, last, ..spec(webhook.id, since, until) };
    Ok(Step::apply(request.write(StateCommand::CreateJob { spec })?, begun))
}

/// Whether a message would go to an endpoint.
#[derive(Serialize, JsonSchema)]
pub struct SvixPrecheck {
    active: bool,
}

/// `POST …/msg/precheck/active`: whether any endpoint of the app wants messages of this type and these channels.
pub fn precheck(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = ids::app(context, request)?;
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let event_type = object.required("eventType", &mut field_errors, publish::read_type).unwrap_or_default();
    let channels = object.strings("channels", &mut field_errors, CHANNELS_MAX, fields::text).unwrap_or_default();
    fields::into_result(field_errors)?;
    let active = context.registry.webhooks_of(app.id).any(|webhook| {
        webhook.status != WebhookStatus::Disabled
            && patterns::wants(&webhook.event_types, &event_type)
            && patterns::wants_channels(&webhook.channels, &channels)
    });
    ok(&SvixPrecheck { active })
}

/// A replay of the failed deliveries within a span.
fn spec(webhook: WebhookId, from: Option<Time>, to: Option<Time>) -> JobSpec {
    JobSpec { webhook: Some(webhook), from, to, status: Some(DeliveryStatus::Failed), ..JobSpec::default() }
}
