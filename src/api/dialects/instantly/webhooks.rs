//! Webhooks in Instantly's shape: list, read, create, change, remove, test and resume.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::idempotency;
use crate::api::native::{test_send, webhook_text};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::api::stored_answers;
use crate::model::webhook::{DisabledReason, WebhookStatus};
use crate::model::{AttemptMade, OrganizationId, Time, Webhook, WebhookId};
use crate::store::{Applied, StateCommand};

use crate::api::dialects::derived::{self, ok};
use crate::api::dialects::writes::{self, FieldNames, NativeForm, received};

use super::docs;

const NAMES: FieldNames =
    &[("target_hook_url", "url"), ("event_type", "event_types"), ("campaign", "channels"), ("status", "status")];
const ALL_EVENTS: &str = "all_events";
/// The waits before each retry in seconds: three within half a minute.
const RETRY_WAITS_S: [u32; 3] = [5, 10, 15];

/// A webhook.
#[derive(Serialize, JsonSchema)]
pub struct InstantlyWebhook<'a> {
    id: WebhookId,
    organization: OrganizationId,
    /// The webhook's channel. Null for all channels, and for several.
    #[schemars(extend("format" = "uuid"))]
    campaign: Option<&'a str>,
    name: &'a str,
    target_hook_url: &'a str,
    /// `all_events`, or the one type. Null for several.
    event_type: Option<&'a str>,
    custom_interest_value: (),
    /// Values that are credentials are masked. Null without headers.
    headers: Option<BTreeMap<&'a str, &'a str>>,
    timestamp_created: Time,
    /// 1, or -1 for a disabled webhook.
    #[schemars(extend("enum" = [1, -1]))]
    status: i8,
    /// When failures or a 410 disabled the webhook.
    timestamp_error: Option<Time>,
}

impl<'a> InstantlyWebhook<'a> {
    fn new(webhook: &'a Webhook) -> Self {
        let by_failure = matches!(webhook.disabled_reason, Some(DisabledReason::Failures | DisabledReason::Gone));
        let headers = webhook_text::shown_headers(webhook);
        InstantlyWebhook {
            id: webhook.id,
            organization: webhook.org_id,
            campaign: campaign_of(webhook),
            name: &webhook.name,
            target_hook_url: &webhook.url,
            event_type: event_type_of(webhook),
            custom_interest_value: (),
            headers: Some(headers).filter(|headers| !headers.is_empty()),
            timestamp_created: webhook.created_at,
            status: if derived::is_active(webhook) { 1 } else { -1 },
            timestamp_error: webhook.status_since.filter(|_| by_failure && !derived::is_active(webhook)),
        }
    }
}

fn campaign_of(webhook: &Webhook) -> Option<&str> {
    match webhook.channels.as_slice() {
        [only] if is_uuid(only) => Some(only),
        _ => None,
    }
}

fn event_type_of(webhook: &Webhook) -> Option<&str> {
    match webhook.event_types.as_slice() {
        [] => Some(ALL_EVENTS),
        [only] => Some(only),
        _ => None,
    }
}

fn is_uuid(text: &str) -> bool {
    text.parse::<WebhookId>().is_ok()
}

/// A page of webhooks.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "InstantlyWebhooks")]
pub struct InstantlyWebhookPage<'a> {
    items: Vec<InstantlyWebhook<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WebhookId")]
    next_starting_after: Option<WebhookId>,
}

/// Event types.
#[derive(Serialize, JsonSchema)]
pub struct InstantlyEventTypes<'a> {
    items: Vec<&'a str>,
}

/// The result of a test.
#[derive(Serialize, JsonSchema)]
pub struct InstantlyTested<'a> {
    success: bool,
    message: &'static str,
    response_time_ms: Option<u32>,
    #[schemars(with = "Option<i64>")]
    status_code: Option<u16>,
    error: Option<&'a str>,
}

fn in_path(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Arc<Webhook>, ApiError> {
    let bad = |_| ApiError::bad_request("invalid_id", "params/id must match format \"uuid\"");
    let id: WebhookId = request.path.get("id").parse().map_err(bad)?;
    context.registry.webhook(request.tenant(), id).cloned().ok_or_else(|| ApiError::not_found("Resource"))
}

/// `GET /api/v2/webhooks`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let limit = request.query.number_or_default(&docs::LIMIT)? as usize;
    let after = request.query.id::<Webhook>(&docs::AFTER_WEBHOOK)?;
    let campaign = request.query.id::<Webhook>(&docs::CAMPAIGN)?.map(|id| id.to_string());
    let event_type = request.query.text(&docs::EVENT_TYPE);
    let wanted = |webhook: &&Arc<Webhook>| {
        let of_campaign = |id: &String| campaign_of(webhook).is_some_and(|own| own.eq_ignore_ascii_case(id));
        after.is_none_or(|after| webhook.id < after)
            && campaign.as_ref().is_none_or(of_campaign)
            && event_type.is_none_or(|name| event_type_of(webhook) == Some(name))
    };
    let mut rows: Vec<_> = context.registry.webhooks_within(request.tenant()).filter(wanted).take(limit + 1).collect();
    let is_more = rows.len() > limit;
    rows.truncate(limit);
    let next_starting_after = rows.last().filter(|_| is_more).map(|webhook| webhook.id);
    ok(&InstantlyWebhookPage {
        items: rows.iter().map(|webhook| InstantlyWebhook::new(webhook)).collect(),
        next_starting_after,
    })
}

/// `GET /api/v2/webhooks/event-types`.
pub fn event_types(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let names = derived::named_types(context.registry.webhooks_within(request.tenant()));
    ok(&InstantlyEventTypes { items: names.into_iter().collect() })
}

/// `GET /api/v2/webhooks/{id}`.
pub fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    ok(&InstantlyWebhook::new(&*in_path(context, request)?))
}

fn shown(webhook: &Webhook) -> HttpResponse {
    HttpResponse::json(StatusCode::OK, &InstantlyWebhook::new(webhook))
}

/// The first answer to the request's `Idempotency-Key` again.
fn first_answer(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Option<Step>, ApiError> {
    let Some(applied) = stored_answers::earlier(context, request)? else { return Ok(None) };
    let mut response = answer_of(applied)?;
    idempotency::mark(&mut response);
    Ok(Some(Step::Reply(response)))
}

/// The answer to an applied write. A removal has no webhook any more, so its answer is stored beside its receipt.
fn answer_of(mut applied: Applied) -> Result<HttpResponse, ApiError> {
    if let crate::store::Receipt::Kept(body) = applied.receipt {
        return Ok(HttpResponse::new(StatusCode::OK, "application/json", body));
    }
    match applied.extra.take() {
        Some(body) => Ok(HttpResponse::new(StatusCode::OK, "application/json", body)),
        None => Ok(shown(&*received(applied)?)),
    }
}

/// `POST /api/v2/webhooks`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if let Some(first) = first_answer(context, request)? {
        return Ok(first);
    }
    let mut field_errors = FieldErrors::new();
    let mut form = read_form(request, None, &mut field_errors)?;
    form.set("field_set", "flat");
    form.set("signature", "none");
    form.set("retry_schedule_s", RETRY_WAITS_S);
    let webhook = writes::new_webhook(context, request.tenant(), &form, NAMES, field_errors)?;
    Ok(Step::apply(
        request.write(StateCommand::CreateWebhook { webhook: Box::new(webhook), of_app_max: None })?,
        answer_of,
    ))
}

/// `PATCH /api/v2/webhooks/{id}`. A field that is left out stays, and null clears it.
pub fn update(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if let Some(first) = first_answer(context, request)? {
        return Ok(first);
    }
    let webhook = in_path(context, request)?;
    let mut field_errors = FieldErrors::new();
    let form = read_form(request, Some(&webhook), &mut field_errors)?;
    let patched = writes::changed(context, request, &webhook, &form, (NAMES, field_errors))?;
    if patched == *webhook {
        return Ok(stored_answers::storing(request)?(shown(&webhook)));
    }
    Ok(Step::apply(request.write(StateCommand::UpdateWebhook { webhook: Box::new(patched) })?, answer_of))
}

/// `DELETE /api/v2/webhooks/{id}`: answers with the webhook as it was.
pub fn remove(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if let Some(first) = first_answer(context, request)? {
        return Ok(first);
    }
    let webhook = in_path(context, request)?;
    let response = shown(&webhook);
    let command = StateCommand::RemoveWebhook { id: webhook.id };
    let write_request = request.write_with(command, response.body.clone())?;
    Ok(Step::apply(write_request, move |applied| match applied.replayed {
        true => answer_of(applied),
        false => Ok(response),
    }))
}

/// `POST /api/v2/webhooks/{id}/resume`: turns a disabled webhook on, and ends a pause.
pub fn resume(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if let Some(first) = first_answer(context, request)? {
        return Ok(first);
    }
    let webhook = in_path(context, request)?;
    request.no_fields()?;
    let command = match webhook.status {
        WebhookStatus::Disabled => {
            let mut form = NativeForm::default();
            form.set("status", "enabled");
            let patched = writes::changed(context, request, &webhook, &form, (NAMES, FieldErrors::new()))?;
            StateCommand::UpdateWebhook { webhook: Box::new(patched) }
        }
        _ => StateCommand::SetStatus { id: webhook.id, status: WebhookStatus::Enabled },
    };
    Ok(Step::apply(request.write(command)?, answer_of))
}

/// `POST /api/v2/webhooks/{id}/test`: sends one request now and stores nothing.
pub fn test(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if let Some(first) = first_answer(context, request)? {
        return Ok(first);
    }
    let webhook = in_path(context, request)?;
    request.no_fields()?;
    let give = stored_answers::storing(request)?;
    Ok(Step::Test {
        test_send: test_send::of_defaults(webhook),
        then: Box::new(move |made| Ok(give(HttpResponse::json(StatusCode::OK, &InstantlyTested::new(&made))))),
    })
}

impl<'a> InstantlyTested<'a> {
    fn new(made: &'a AttemptMade) -> Self {
        let message = if made.success { "Test webhook sent successfully" } else { "Test webhook failed" };
        InstantlyTested {
            success: made.success,
            message,
            response_time_ms: made.response_time_ms,
            status_code: made.status_code,
            error: made.error.as_deref(),
        }
    }
}

/// The fields of a body under their native names. `was` is the webhook that they change: a null that it is shown with,
/// because it has several types or channels, leaves them.
fn read_form(
    request: &RequestContext<'_>,
    was: Option<&Webhook>,
    field_errors: &mut FieldErrors,
) -> Result<NativeForm, ApiError> {
    let mut object = request.object_or_none(was.is_some())?;
    let mut form = NativeForm::default();
    form.set_raw("url", object.take_any("target_hook_url"));
    form.set_raw("name", object.take_any("name"));
    if let Some(raw) = object.take_any("event_type") {
        match read_one(raw, fields::text) {
            Ok(None) if was.is_some_and(|was| event_type_of(was).is_none()) => {}
            Ok(name) => form.set("event_types", name.filter(|name| name != ALL_EVENTS).as_slice()),
            Err(detail) => field_errors.push(FieldError::new("/event_type", detail)),
        }
    }
    if let Some(raw) = object.take_any("campaign") {
        match read_one(raw, read_uuid) {
            Ok(None) if was.is_some_and(|was| campaign_of(was).is_none()) => {}
            Ok(id) => form.set("channels", id.as_slice()),
            Err(detail) => field_errors.push(FieldError::new("/campaign", detail)),
        }
    }
    if object.take("custom_interest_value").is_some() {
        let detail = "cannot be taken: Postrider knows no labels of leads. Leave it out, or send null";
        field_errors.push(FieldError::new("/custom_interest_value", detail));
    }
    read_headers(&mut form, &mut object, was);
    object.finish(field_errors);
    Ok(form)
}

/// `None` for null.
fn read_one(raw: &RawValue, read: impl FnOnce(&RawValue) -> FieldResult<String>) -> FieldResult<Option<String>> {
    if raw.get() == "null" { Ok(None) } else { read(raw).map(Some) }
}

fn read_uuid(raw: &RawValue) -> FieldResult<String> {
    let wrong = || "must match format \"uuid\"".to_owned();
    fields::text(raw).ok().filter(|text| is_uuid(text)).ok_or_else(wrong)
}

/// `headers` replaces all headers. A masked value that is sent back keeps the stored one.
fn read_headers(form: &mut NativeForm, object: &mut JsonObject<'_>, was: Option<&Webhook>) {
    let Some(raw) = object.take_any("headers") else { return };
    let Ok(mut given) = serde_json::from_str::<BTreeMap<String, Option<&RawValue>>>(raw.get()) else {
        form.set_raw("headers", Some(raw));
        return;
    };
    for name in was.into_iter().flat_map(|was| was.headers.keys()) {
        // Names have no case (RFC 9110 section 5.1), and the stored spelling stays.
        let other = given.keys().find(|given| given.eq_ignore_ascii_case(name) && *given != name).cloned();
        let value = other.and_then(|other| given.remove(&other)).flatten();
        given.entry(name.clone()).or_insert(value);
    }
    form.set("headers", given);
}
