//! Writes in sent.dm's shape: create, change, remove, turn on and off, rotate the secret, and test.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::api::context::ApiContext;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::idempotency;
use crate::api::limits::EVENT_TYPES_MAX;
use crate::api::native::publish::read_type;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::{Step, TestSend};
use crate::api::stored_answers;
use crate::model::id::Stamp;
use crate::model::webhook::{SigningSecret, WebhookState};
use crate::model::{AttemptMade, Webhook};
use crate::rules::signing;
use crate::store::{Applied, Receipt, StateCommand, Store, WriteRequest};

use crate::api::dialects::derived;
use crate::api::dialects::writes::{self, FieldNames, NativeForm, received};

use super::envelope::ReplyHead;
use super::event_types::{self, EventFamilies};
use super::views::{SentdmOneWebhook, SentdmWebhook};
use super::{in_path, scope};

const NAMES: FieldNames = &[
    ("display_name", "name"),
    ("endpoint_url", "url"),
    ("retry_count", "retry_schedule_s"),
    ("timeout_seconds", "timeout_ms"),
    ("is_active", "status"),
];
/// The vendor's waits before each retry, in seconds: `retry_count` of them are used.
const RETRY_WAITS_S: [u32; RETRIES_MAX] = [60, 120, 240, 480, 960];
pub const RETRIES_MAX: usize = 5;
const RETRIES_DEFAULT: usize = 3;
pub const TIMEOUT_S_MIN: u64 = 5;
pub const TIMEOUT_S_MAX: u64 = 120;
const TIMEOUT_S_DEFAULT: u64 = 30;
const ORIGINAL_REQUEST_ID: HeaderName = HeaderName::from_static("x-original-request-id");
const TEST_DATA: &[u8] = br#"{"test":true}"#;
const DELIVERED: &str = "Test event delivered successfully";

/// The secret after a rotation.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SentNewSecret")]
pub struct SentdmNewSecret<'a> {
    #[schemars(with = "String")]
    signing_secret: Option<&'a str>,
}

/// The result of a test.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SentTested")]
pub struct SentdmTested {
    success: bool,
    /// The status code or the error of a request that was not delivered.
    message: String,
}

/// The parts of a first answer that its receipt does not have.
#[derive(Serialize, Deserialize)]
struct FirstAnswer {
    request_id: String,
    state: WebhookState,
}

/// The first answer to a request that changed no webhook.
#[derive(Serialize, Deserialize)]
struct StoredAnswer {
    request_id: String,
    data: Box<RawValue>,
}

/// Shows a webhook in an answer. The head is that of the request that is answered.
type ShowWebhook = fn(&ReplyHead, &Webhook, &WebhookState) -> HttpResponse;

fn created(head: &ReplyHead, webhook: &Webhook, state: &WebhookState) -> HttpResponse {
    head.answer(StatusCode::CREATED, SentdmOneWebhook(SentdmWebhook::new(webhook, state).with_secret(webhook)))
}

fn changed(head: &ReplyHead, webhook: &Webhook, state: &WebhookState) -> HttpResponse {
    head.answer(StatusCode::OK, SentdmOneWebhook(SentdmWebhook::new(webhook, state)))
}

fn rotated(head: &ReplyHead, webhook: &Webhook, _: &WebhookState) -> HttpResponse {
    let signing_secret = webhook.secrets.first().map(|secret| secret.text.as_str());
    head.answer(StatusCode::OK, SentdmNewSecret { signing_secret })
}

/// `POST /v3/webhooks`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if let Some(first) = first_secret_answer(context, request, created)? {
        return Ok(first);
    }
    let tenant = scope(context, request)?;
    let mut field_errors = FieldErrors::new();
    let (mut form, sandbox) = read_form(request, None, &mut field_errors)?;
    form.set("signature", ["sent"]);
    form.set("field_set", "sent");
    form.set("success_rule", "2xx");
    let mut webhook = writes::new_webhook(context, tenant, &form, NAMES, field_errors)?;
    let head = ReplyHead::new(context, request);
    if sandbox {
        let (now, random) = (context.now, u64::from_le_bytes(context.draw()));
        webhook.id = Stamp::after(0).next(now, random);
        (webhook.created_at, webhook.updated_at) = (now, now);
        return Ok(Step::Reply(created(&head, &webhook, &WebhookState::default())));
    }
    let command = StateCommand::CreateWebhook { webhook: Box::new(webhook), of_app_max: None };
    let extra = first_parts(head.request_id(), WebhookState::default());
    let write_request = request.write_secret(command, Some(extra))?;
    Ok(apply(context.store.clone(), head, write_request, created))
}

/// `PUT /v3/webhooks/{id}`. A field that is left out stays, and so does one that is sent back as it is shown.
pub fn update(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if let Some(first) = first_answer(context, request, changed)? {
        return Ok(first);
    }
    let webhook = in_path(context, request)?;
    let mut field_errors = FieldErrors::new();
    let (form, sandbox) = read_form(request, Some(&webhook), &mut field_errors)?;
    let patched = writes::changed(context, request, &webhook, &form, (NAMES, field_errors))?;
    store_change(context, request, &webhook, patched, sandbox)
}

/// `PATCH /v3/webhooks/{id}/toggle-status`. On means not disabled: a paused webhook is on already and stays paused.
pub fn toggle(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if let Some(first) = first_answer(context, request, changed)? {
        return Ok(first);
    }
    let webhook = in_path(context, request)?;
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let wanted = object.required("is_active", &mut field_errors, fields::boolean);
    let sandbox = read_sandbox(&mut object, &mut field_errors);
    object.finish(&mut field_errors);
    let mut form = NativeForm::default();
    if let Some(on) = wanted.filter(|on| *on != derived::is_active(&webhook)) {
        form.set("status", if on { "enabled" } else { "disabled" });
    }
    let patched = writes::changed(context, request, &webhook, &form, (NAMES, field_errors))?;
    store_change(context, request, &webhook, patched, sandbox)
}

/// `DELETE /v3/webhooks/{id}`.
pub fn remove(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    check_key(request)?;
    let head = ReplyHead::new(context, request);
    if let Some(applied) = stored_answers::earlier(context, request)? {
        return Ok(Step::Reply(as_repeated(
            head.no_content(),
            first_of(&applied).as_ref().map(|first| &*first.request_id),
        )));
    }
    let id = in_path(context, request)?.id;
    // Without a body the caller sees the id of the request in its header only.
    let extra = first_parts(&request.http.request_id, WebhookState::default());
    let write_request = request.write_with(StateCommand::RemoveWebhook { id }, extra)?;
    Ok(Step::apply(write_request, move |applied| {
        let response = head.no_content();
        Ok(match applied.replayed {
            true => as_repeated(response, first_of(&applied).as_ref().map(|first| &*first.request_id)),
            false => response,
        })
    }))
}

/// `POST /v3/webhooks/{id}/rotate-secret`. The old secret is void at once, as the vendor's page says.
pub fn rotate(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if let Some(first) = first_secret_answer(context, request, rotated)? {
        return Ok(first);
    }
    let webhook = in_path(context, request)?;
    let mut object = request.optional_object()?;
    let mut field_errors = FieldErrors::new();
    let sandbox = read_sandbox(&mut object, &mut field_errors);
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    let text = signing::make_secret(|| context.draw());
    let head = ReplyHead::new(context, request);
    if sandbox {
        return Ok(Step::Reply(head.answer(StatusCode::OK, SentdmNewSecret { signing_secret: Some(&text) })));
    }
    let secret = SigningSecret { text, created_at: context.now, expires_at: None };
    let command = StateCommand::RotateSecret { id: webhook.id, secret, overlap_s: 0 };
    let extra = first_parts(head.request_id(), WebhookState::default());
    let write_request = request.write_secret(command, Some(extra))?;
    Ok(apply(context.store.clone(), head, write_request, rotated))
}

/// `POST /v3/webhooks/{id}/test`: sends one signed request now and stores nothing.
pub fn test(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if let Some(first) = first_answer(context, request, changed)? {
        return Ok(first);
    }
    let webhook = in_path(context, request)?;
    let mut object = request.optional_object()?;
    let mut field_errors = FieldErrors::new();
    let event_type = match object.has("event_type") {
        true => object.required("event_type", &mut field_errors, read_type),
        false => None,
    };
    if event_type.is_none() && field_errors.iter().all(|error| error.detail == "is required") {
        field_errors = vec![FieldError::new("/event_type", "Event type is required")];
    }
    let sandbox = read_sandbox(&mut object, &mut field_errors);
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    let head = ReplyHead::new(context, request);
    if sandbox {
        return Ok(Step::Reply(head.answer(StatusCode::OK, SentdmTested { success: true, message: DELIVERED.into() })));
    }
    let event_type = event_type.unwrap_or_default();
    let test_send = Box::new(TestSend { webhook, event_type, data: Bytes::from_static(TEST_DATA) });
    let answer = stored_reply(request, head)?;
    Ok(Step::Test { test_send, then: Box::new(move |made| answer(&SentdmTested::new(&made))) })
}

impl SentdmTested {
    fn new(made: &AttemptMade) -> SentdmTested {
        let message = match (made.success, made.status_code, &made.error) {
            (true, ..) => DELIVERED.to_owned(),
            (false, Some(code), _) => format!("Test event delivery failed with status {code}"),
            (false, None, Some(error)) => format!("Test event delivery failed: {error}"),
            (false, None, None) => format!("Test event delivery failed: {}", made.outcome.phrase()),
        };
        SentdmTested { success: made.success, message }
    }
}

/// The fields of a body under their native names, and `sandbox`. `was` is the webhook that they change.
fn read_form(
    request: &RequestContext<'_>,
    was: Option<&Webhook>,
    field_errors: &mut FieldErrors,
) -> Result<(NativeForm, bool), ApiError> {
    let mut object = request.object_or_none(was.is_some())?;
    let mut form = NativeForm::default();
    form.set_raw("name", object.take("display_name"));
    form.set_raw("url", object.take("endpoint_url"));
    if let Some(types) = read_types(&mut object, was, field_errors) {
        form.set("event_types", types);
    }
    let shown = was.map(SentdmWebhook::limits);
    let as_shown = |raw: &RawValue, shown: Option<u64>| shown.is_some_and(|n| fields::whole(raw, n..=n).is_ok());
    let retries = object.optional("retry_count", field_errors, |raw| match as_shown(raw, shown.map(|(n, _)| n)) {
        true => Ok(None),
        false => fields::whole(raw, 1..=RETRIES_MAX as u64).map(Some),
    });
    let retries = retries.unwrap_or(was.is_none().then_some(RETRIES_DEFAULT as u64));
    if let Some(count) = retries {
        form.set("retry_schedule_s", &RETRY_WAITS_S[..count as usize]);
    }
    let timeout = object.optional("timeout_seconds", field_errors, |raw| match as_shown(raw, shown.map(|(_, s)| s)) {
        true => Ok(None),
        false => fields::whole(raw, TIMEOUT_S_MIN..=TIMEOUT_S_MAX).map(Some),
    });
    if let Some(seconds) = timeout.unwrap_or(was.is_none().then_some(TIMEOUT_S_DEFAULT)) {
        form.set("timeout_ms", seconds * 1_000);
    }
    let sandbox = read_sandbox(&mut object, field_errors);
    if object.take("sender_profile").is_some() {
        let detail = "cannot be taken: Postrider copies no webhook onto present and future profiles";
        field_errors.push(FieldError::new("/sender_profile", detail));
    }
    object.finish(field_errors);
    Ok((form, sandbox))
}

fn read_sandbox(object: &mut JsonObject<'_>, field_errors: &mut FieldErrors) -> bool {
    object.optional("sandbox", field_errors, fields::boolean).unwrap_or(false)
}

/// The native patterns of `event_types` and `event_filters`. `None` if both stay as they are. `event_filters: null`
/// removes the filters.
fn read_types(
    object: &mut JsonObject<'_>,
    was: Option<&Webhook>,
    field_errors: &mut FieldErrors,
) -> Option<Vec<String>> {
    let shown = was.map(EventFamilies::of);
    let found = field_errors.len();
    let types = object.strings("event_types", field_errors, EVENT_TYPES_MAX, event_types::read_name);
    let has_filters = object.has("event_filters");
    let filters = object.optional("event_filters", field_errors, read_filters);
    if field_errors.len() > found || (was.is_some() && types.is_none() && !has_filters) {
        return None;
    }
    let before = shown.clone().unwrap_or_default();
    let mut wanted = EventFamilies {
        types: types.unwrap_or(before.types),
        filters: if has_filters { filters.unwrap_or_default() } else { before.filters },
        exact: before.exact,
    };
    if !has_filters {
        wanted.drop_unnamed();
    }
    if shown.as_ref() == Some(&wanted) {
        return None;
    }
    let patterns = wanted.patterns(field_errors);
    if patterns.len() > EVENT_TYPES_MAX {
        let detail = format!("stand for {} patterns, and a webhook has at most {EVENT_TYPES_MAX}", patterns.len());
        field_errors.push(FieldError::new("/event_types", detail));
        return None;
    }
    Some(patterns)
}

/// `{family: [sub-type…]}`. A family without sub-types has no filter.
fn read_filters(raw: &RawValue) -> FieldResult<Map<String, Value>> {
    let wrong = |_| "must be an object of lists of strings".to_owned();
    let mut filters: Map<String, Value> = serde_json::from_str(raw.get()).map_err(wrong)?;
    for subs in filters.values() {
        serde_json::from_value::<Vec<String>>(subs.clone()).map_err(wrong)?;
    }
    filters.retain(|_, subs| subs.as_array().is_some_and(|subs| !subs.is_empty()));
    Ok(filters)
}

/// Stores a change and shows the webhook. A change that changes nothing, or is only tried, is not stored.
fn store_change(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    webhook: &Webhook,
    patched: Webhook,
    sandbox: bool,
) -> Result<Step, ApiError> {
    let head = ReplyHead::new(context, request);
    let state = context.store.state(webhook.id);
    if sandbox {
        let updated_at = if patched == *webhook { webhook.updated_at } else { context.now };
        return Ok(Step::Reply(changed(&head, &Webhook { updated_at, ..patched }, &state)));
    }
    if patched == *webhook {
        return stored_reply(request, head)?(&SentdmOneWebhook(SentdmWebhook::new(webhook, &state)));
    }
    let command = StateCommand::UpdateWebhook { webhook: Box::new(patched) };
    let write_request = request.write_with(command, first_parts(head.request_id(), state))?;
    Ok(apply(context.store.clone(), head, write_request, changed))
}

/// 400 for an `Idempotency-Key` that the vendor does not take.
fn check_key(request: &RequestContext<'_>) -> Result<(), ApiError> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let is_good = |value: &HeaderValue| value.as_bytes().iter().all(is_plain);
    match request.http.headers.get_all("idempotency-key").iter().all(is_good) {
        true => request.idempotency_key().map(|_| ()),
        false => Err(ApiError::invalid_header("Idempotency-Key must be 1 to 255 letters, digits, _ and -")),
    }
}

/// The first answer to the request's `Idempotency-Key` again. 400 for a malformed key.
fn first_answer(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    show: ShowWebhook,
) -> Result<Option<Step>, ApiError> {
    check_key(request)?;
    let Some(applied) = stored_answers::earlier(context, request)? else { return Ok(None) };
    shown(context.store, &ReplyHead::new(context, request), applied, show).map(Step::Reply).map(Some)
}

/// The same for an answer with a secret. The audit notes that the secret was read again.
fn first_secret_answer(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    show: ShowWebhook,
) -> Result<Option<Step>, ApiError> {
    check_key(request)?;
    let Some(applied) = stored_answers::earlier(context, request)? else { return Ok(None) };
    let command = StateCommand::NoteShownAgain { receipt: applied.receipt.clone() };
    let response = shown(context.store, &ReplyHead::new(context, request), applied, show)?;
    let write_request =
        WriteRequest { caller: Some(request.principal.caller()), idempotency: None, command: command.into() };
    Ok(Some(Step::apply(write_request, move |_| Ok(response))))
}

/// Applies a change of a webhook and shows it.
fn apply(store: Store, head: ReplyHead, write_request: WriteRequest, show: ShowWebhook) -> Step {
    Step::apply(write_request, move |applied| shown(&store, &head, applied, show))
}

fn shown(store: &Store, head: &ReplyHead, applied: Applied, show: ShowWebhook) -> Result<HttpResponse, ApiError> {
    let (replayed, first) = (applied.replayed, first_of(&applied));
    if let Receipt::Kept(body) = &applied.receipt {
        let stored: StoredAnswer = serde_json::from_slice(body).map_err(|_| unreadable())?;
        let response = head.answer(StatusCode::OK, &stored.data);
        return Ok(if replayed { as_repeated(response, Some(&stored.request_id)) } else { response });
    }
    let webhook = received(applied)?;
    let state = first.as_ref().map_or_else(|| store.state(webhook.id), |first| first.state);
    let response = show(head, &webhook, &state);
    Ok(if replayed { as_repeated(response, first.as_ref().map(|first| &*first.request_id)) } else { response })
}

/// Answers without a change of the store. With an `Idempotency-Key` the answer is stored first.
fn stored_reply<T: Serialize>(
    request: &RequestContext<'_>,
    head: ReplyHead,
) -> Result<impl FnOnce(&T) -> Result<Step, ApiError> + Send + use<T>, ApiError> {
    let has_key = request.idempotency_key()?.is_some();
    let write_request = has_key.then(|| request.write(StateCommand::StoreAnswer { body: Bytes::new() })).transpose()?;
    Ok(move |data: &T| {
        let Some(write_request) = write_request else { return Ok(Step::Reply(head.answer(StatusCode::OK, data))) };
        let data = serde_json::value::to_raw_value(data).map_err(|_| unreadable())?;
        let stored = StoredAnswer { request_id: head.request_id().to_owned(), data };
        let body = Bytes::from(serde_json::to_vec(&stored).map_err(|_| unreadable())?);
        let write_request = WriteRequest { command: StateCommand::StoreAnswer { body }.into(), ..write_request };
        Ok(Step::apply(write_request, move |applied| match &applied.receipt {
            Receipt::Kept(body) => {
                let first: StoredAnswer = serde_json::from_slice(body).map_err(|_| unreadable())?;
                let response = head.answer(StatusCode::OK, &first.data);
                Ok(if applied.replayed { as_repeated(response, Some(&first.request_id)) } else { response })
            }
            _ => Err(unreadable()),
        }))
    })
}

fn unreadable() -> ApiError {
    ApiError::internal("a stored answer cannot be read back")
}

/// The bytes that are stored beside a receipt.
fn first_parts(request_id: &str, state: WebhookState) -> Bytes {
    let first = FirstAnswer { request_id: request_id.to_owned(), state };
    serde_json::to_vec(&first).map(Bytes::from).unwrap_or_default()
}

fn first_of(applied: &Applied) -> Option<FirstAnswer> {
    applied.extra.as_ref().and_then(|extra| serde_json::from_slice(extra).ok())
}

/// Marks a response as a first answer given again, with the id of the first request.
fn as_repeated(mut response: HttpResponse, first_request_id: Option<&str>) -> HttpResponse {
    idempotency::mark(&mut response);
    if let Some(value) = first_request_id.and_then(|id| HeaderValue::from_str(id).ok()) {
        response.headers.insert(ORIGINAL_REQUEST_ID, value);
    }
    response
}
