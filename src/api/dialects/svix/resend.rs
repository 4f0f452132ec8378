//! Sending again by hand: one message, an example, or everything that failed.

use bytes::Bytes;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::limits::{CHANNELS_MAX, EVENT_TYPES_MAX};
use crate::api::native::{publish, replays, webhook_form};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::event::EventAttributes;
use crate::model::job::JobSpec;
use crate::model::webhook::WebhookStatus;
use crate::model::{DeliveryStatus, LastDeliveryFilter, StatusCodes, Time, Webhook};
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
/// Maximum of `exampleIndex`.
pub const EXAMPLE_INDEX_MAX: u64 = 1_000_000;

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
    let index = object.optional("exampleIndex", &mut field_errors, |raw| fields::whole(raw, 0..=EXAMPLE_INDEX_MAX));
    if object.take("payload").is_some() {
        field_errors.push(FieldError::new("/payload", "is not taken: an example comes from the event type's schemas"));
    }
    fields::into_result(field_errors)?;
    let event_type = event_type.unwrap_or_default();
    let payload = example(context, request, &event_type, index.unwrap_or(0) as usize)?;
    check_enabled(context, request, &webhook)?;
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

/// 409 if the endpoint is disabled.
fn check_enabled(context: &ApiContext<'_>, request: &RequestContext<'_>, webhook: &Webhook) -> Result<(), ApiError> {
    match replays::is_refused(context, request, webhook)? {
        false => Ok(()),
        true => Err(ApiError::conflict("webhook_disabled", "the endpoint is disabled: enable it first")),
    }
}

/// The payload of an example of this type: the one at `index` among the examples of version 1 of its schemas.
fn example(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    name: &str,
    index: usize,
) -> Result<String, ApiError> {
    if name == PING {
        return Ok(PING_PAYLOAD.to_owned());
    }
    let event_type = context.registry.event_type(request.tenant().org, name).ok_or_else(absent)?;
    let schemas = event_type.definition.schemas.as_deref().unwrap_or("{}");
    let missing = || refused("invalid_scheme", "the event type has no such example in version 1 of its schemas");
    let first = JsonObject::read(schemas, String::new()).ok().and_then(|mut all| all.take("1"));
    let mut schema = JsonObject::read(first.map_or("", RawValue::get), String::new()).map_err(|_| missing())?;
    let examples = schema.take("examples").map(|raw| fields::elements(raw, usize::MAX));
    let example = examples.and_then(Result::ok).and_then(|list| list.get(index).map(|raw| raw.get().to_owned()));
    example.filter(|text| text.starts_with('{')).ok_or_else(missing)
}

/// The span of time of a body: `since`, and `until` or now.
struct ReplaySpan {
    since: Option<Time>,
    until: Option<Time>,
    end: Time,
}

impl ReplaySpan {
    fn read(object: &mut JsonObject<'_>, now: Time, field_errors: &mut FieldErrors) -> ReplaySpan {
        let since = object.required("since", field_errors, fields::time);
        let until = object.optional("until", field_errors, fields::time);
        let end = until.unwrap_or(now);
        if since.is_some_and(|since| since > end) {
            let detail = if until.is_some() { "must lie before until" } else { "must not lie in the future" };
            field_errors.push(FieldError::new("/since", detail));
        }
        ReplaySpan { since, until, end }
    }

    /// A replay of the failed deliveries within the span.
    fn spec(&self, webhook: &Webhook) -> JobSpec {
        let status = Some(DeliveryStatus::Failed);
        JobSpec { webhook: Some(webhook.id), from: self.since, to: self.until, status, ..JobSpec::default() }
    }
}

/// Begins a replay for an endpoint. 422 with the mistakes of its body, and 409 if it is disabled.
fn begin(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    webhook: &Webhook,
    spec: JobSpec,
    field_errors: FieldErrors,
) -> Result<Step, ApiError> {
    fields::into_result(field_errors)?;
    check_enabled(context, request, webhook)?;
    Ok(Step::apply(request.write(StateCommand::CreateJob { spec })?, begun))
}

/// `POST …/endpoint/{endpoint_id}/recover`: one job, so that an `Idempotency-Key` begins it once.
pub fn recover(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = ids::endpoint(context, request)?.1;
    let mut field_errors = FieldErrors::new();
    let span = ReplaySpan::read(&mut request.object()?, context.now, &mut field_errors);
    if span.since.is_some_and(|since| span.end.since(since) > SPAN_MS + SKEW_MS) {
        field_errors.push(FieldError::new("/since", "must lie at most 14 days before until, or before now"));
    }
    let spec = JobSpec { retrying: true, ..span.spec(&webhook) };
    begin(context, request, &webhook, spec, field_errors)
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
    let mut field_errors = FieldErrors::new();
    let span = ReplaySpan::read(&mut request.object()?, context.now, &mut field_errors);
    let spec = JobSpec { status: None, missing: true, ..span.spec(&webhook) };
    begin(context, request, &webhook, spec, field_errors)
}

/// `POST …/endpoint/{endpoint_id}/bulk-replay`: sends ended messages again.
pub fn bulk_replay(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = ids::endpoint(context, request)?.1;
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let span = ReplaySpan::read(&mut object, context.now, &mut field_errors);
    let types = object.strings("eventTypes", &mut field_errors, EVENT_TYPES_MAX, webhook_form::read_pattern);
    let status = object.optional("status", &mut field_errors, |raw| match fields::whole(raw, 0..=4) {
        Ok(0) => Ok(DeliveryStatus::Delivered),
        Ok(2) => Ok(DeliveryStatus::Failed),
        Ok(4) => Ok(DeliveryStatus::Cancelled),
        _ => Err("must be 0, 2 or 4: only what has ended is sent again".to_owned()),
    });
    let class = object.optional("statusCodeClass", &mut field_errors, read_class);
    // A condition that is left out would widen the replay to everything.
    for name in ["channel", "tag"] {
        if object.take(name).is_some() {
            field_errors.push(FieldError::new(object.at(name), "is not a condition of a replay here"));
        }
    }
    let last = LastDeliveryFilter { status_codes: class.into_iter().collect(), ..LastDeliveryFilter::default() };
    let spec = JobSpec { types: types.unwrap_or_default(), status, last, ..span.spec(&webhook) };
    begin(context, request, &webhook, spec, field_errors)
}

/// A class of status codes, by its first code.
fn read_class(raw: &RawValue) -> FieldResult<StatusCodes> {
    let class = fields::whole(raw, 100..=500).ok().filter(|code| code % 100 == 0);
    let codes = class.and_then(|code| StatusCodes::parse(&format!("{}xx", code / 100)));
    codes.ok_or_else(|| "must be 100, 200, 300, 400 or 500".to_owned())
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
