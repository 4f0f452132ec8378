//! Devdraft, API v0: a webhook with its figures and its newest deliveries (docs.devdraft.ai, "Webhooks").

mod docs;
mod views;

use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::auth::Principal;
use crate::api::context::{ApiContext, ApiSettings};
use crate::api::doc::answer;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::idempotency;
use crate::api::limits::NAME_CHARS_MAX;
use crate::api::media::BodyRule;
use crate::api::native::{webhook_fields, webhook_patch, webhooks};
use crate::api::params::Param;
use crate::api::request::HttpRequest;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::RouteAccess::Authorized;
use crate::api::route::{ErrorContext, Route, RouteMethod};
use crate::api::step::Step;
use crate::api::stored_answers;
use crate::model::webhook::SigningSecret;
use crate::model::{Id, Scope, Time, Webhook, WebhookId};
use crate::rules::signing::{self, PLAIN_SECRET_CHARS_MAX, PLAIN_SECRET_CHARS_MIN, SECRET_BYTES_MAX, SECRET_BYTES_MIN};
use crate::rules::target;
use crate::store::first_secret;
use crate::store::{Receipt, Registry, StateCommand, WebhookFigures, WriteRequest};

use crate::api::dialects::derived::{self, ok};
use crate::api::dialects::doc::doc;
use crate::api::dialects::writes::received;
use crate::api::dialects::{Dialect, DialectObject, credential, get, key_of, pages};

use self::views::{DevdraftRemovedWebhook, DevdraftWebhook, WebhookActivity, prefixed};

pub static DIALECT: Dialect = Dialect {
    name: "devdraft",
    prefix: "/api/v0",
    routes: ROUTES,
    identify,
    render,
    doc: &docs::DOC,
    lenient: None,
    preset: None,
    read_id,
};

const WEBHOOKS: &str = "/api/v0/webhooks";
const WEBHOOK: &str = "/api/v0/webhooks/{id}";

static ROUTES: &[Route] = &[
    get(
        WEBHOOK,
        Authorized(Scope::WebhooksRead, may_read, read),
        doc(
            "getDevdraftWebhook",
            "Read a webhook (`webhook:read`); the secret in clear with `webhooks:secret`, which is audited",
            &[answer::<DevdraftWebhook>(200, "The webhook.")],
        ),
    )
    .with_query(&[docs::INCLUDE_EVENTS, docs::EVENTS_LIMIT])
    .with_segments(&[docs::ID]),
    get(
        WEBHOOKS,
        Authorized(Scope::WebhooksRead, may_read, list),
        doc(
            "listDevdraftWebhooks",
            "List webhooks (`webhook:read`) as a plain array, or in pages with `page`, `limit` or `active`",
            &[answer::<DevdraftWebhooks>(200, "Newest first, secrets masked.")],
        ),
    )
    .with_query(&[docs::PAGE, docs::LIMIT, docs::ACTIVE, docs::SKIP, docs::TAKE]),
    Route::new(
        RouteMethod::Post,
        WEBHOOKS,
        Authorized(Scope::WebhooksWrite, may_create, create),
        BodyRule::Json,
        doc(
            "createDevdraftWebhook",
            "Make a webhook (`webhook:create`)",
            &[answer::<DevdraftWebhook>(201, "The webhook, its secret in clear.")],
        )
        .takes("NewDevdraftWebhook"),
    ),
    Route::new(
        RouteMethod::Patch,
        WEBHOOK,
        Authorized(Scope::WebhooksWrite, may_update, update),
        BodyRule::MergePatch,
        doc(
            "updateDevdraftWebhook",
            "Change a webhook (`webhook:update`); another secret needs `webhooks:secret` and is a rotation",
            &[answer::<DevdraftWebhook>(200, "The webhook as it is now, its secret masked.")],
        )
        .may_take("DevdraftWebhookPatch"),
    )
    .with_key()
    .with_segments(&[docs::ID]),
    Route::new(
        RouteMethod::Delete,
        WEBHOOK,
        Authorized(Scope::WebhooksWrite, may_delete, remove),
        BodyRule::None,
        doc(
            "deleteDevdraftWebhook",
            "Remove a webhook (`webhook:delete`)",
            &[answer::<DevdraftRemovedWebhook>(200, "The webhook as it was, its secret masked.")],
        ),
    )
    .with_key()
    .with_segments(&[docs::ID]),
];

const NAME_CHARS_MIN: usize = 3;
/// The vendor's words about a text that is no URL (docs.devdraft.ai, create a webhook). Other refused URLs are told why.
const URL_DETAILS: &str = "URL must be a valid HTTPS endpoint";
/// Time that the old secret signs after a change.
const OVERLAP_S: u32 = 86_400;

/// The number of 32 hex digits.
fn parse_hex(hex: &str) -> Option<u128> {
    let is_hex = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(hex, 16).ok().filter(|_| is_hex)
}

/// `wh_` and 32 hex digits, or a UUID.
fn parse_id(text: &str) -> Option<WebhookId> {
    match text.strip_prefix("wh_") {
        Some(hex) => parse_hex(hex).map(WebhookId::from_u128),
        None => text.parse().ok(),
    }
}

/// The ids that `prefixed` writes.
fn read_id(text: &str) -> Option<DialectObject> {
    let (noun, hex) = text.split_once('_')?;
    let number = parse_hex(hex)?;
    match noun {
        "wh" => Some(DialectObject::Webhook(Id::from_u128(number))),
        "app" => Some(DialectObject::App(Id::from_u128(number))),
        "evt" => Some(DialectObject::Delivery(Id::from_u128(number))),
        _ => None,
    }
}

fn in_path(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Arc<Webhook>, ApiError> {
    let text = request.path.get("id");
    let bad = || ApiError::bad_request("invalid_id", "ID must be wh_ followed by 32 hex digits, or a UUID");
    let id = parse_id(text).ok_or_else(bad)?;
    let found = context.registry.webhook(request.tenant(), id).cloned();
    found.ok_or_else(|| ApiError {
        detail: format!("No webhook found with ID: {text}"),
        ..ApiError::not_found("Webhook")
    })
}

/// `GET /api/v0/webhooks/{webhook_id}`. Showing the secret is a command, since every reading of it is audited.
fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = in_path(context, request)?;
    let limit = events_limit(request)?;
    let mut facts = WebhookActivity::of(context, &webhook)?;
    if request.query.boolean(&docs::INCLUDE_EVENTS)? == Some(true) {
        facts.recent = Some(context.store.newest_deliveries(webhook.id, limit, context.now)?);
    }
    if !request.may(Scope::WebhooksSecret) {
        return ok(&facts.shown(&webhook, None));
    }
    let write_request = request.write(StateCommand::ReadSecret { id: webhook.id })?;
    Ok(Step::apply(write_request, move |applied| {
        let webhook = received(applied)?;
        Ok(HttpResponse::json(StatusCode::OK, &facts.shown(&webhook, secret_of(&webhook))))
    }))
}

fn secret_of(webhook: &Webhook) -> Option<&str> {
    webhook.secrets.first().map(|secret| secret.text.as_str())
}

fn events_limit(request: &RequestContext<'_>) -> Result<usize, ApiError> {
    let limits = docs::EVENTS_LIMIT.bounds();
    let (min, max) = (limits.min, limits.max);
    let wrong =
        || ApiError::bad_request("invalid_events_limit", format!("events_limit must be between {min} and {max}"));
    request.query.number_or_default(&docs::EVENTS_LIMIT).map(|n| n as usize).map_err(|_| wrong())
}

/// A page of webhooks, or a plain array of them.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum DevdraftWebhooks<'a> {
    Page { data: Vec<DevdraftWebhook<'a>>, pagination: DevdraftPagination },
    Plain(Vec<DevdraftWebhook<'a>>),
}

/// The position of a page.
#[derive(Serialize, JsonSchema)]
struct DevdraftPagination {
    page: u32,
    limit: u32,
    total: u64,
    total_pages: u64,
}

/// `GET /api/v0/webhooks`: the plain array of the vendor's clients. With `page`, `limit` or `active`, parameters of one
/// of the vendor's pages, the list is in pages. With `skip` or `take` beside them it is the array again. Secrets are
/// masked.
fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let active = request.query.boolean(&docs::ACTIVE)?;
    let wanted = |webhook: &&Arc<Webhook>| active.is_none_or(|active| active == derived::is_active(webhook));
    let all: Vec<_> = context.registry.webhooks_within(request.tenant()).filter(wanted).collect();
    let has_any = |params: &[&Param]| params.iter().any(|param| request.query.text(param).is_some());
    let is_plain = has_any(&[&docs::SKIP, &docs::TAKE]) || !has_any(&[&docs::PAGE, &docs::LIMIT, &docs::ACTIVE]);
    let page = request.query.number_or_default(&docs::PAGE)?;
    let limit = request.query.number_or_default(&docs::LIMIT)?;
    let skip = u64::from(request.query.number_or_default(&docs::SKIP)?);
    let take = request.query.number_or_default(&docs::TAKE)?;
    let (skip, take) = if is_plain { (skip, take) } else { (u64::from(page - 1) * u64::from(limit), limit) };
    let mut facts = Vec::new();
    for webhook in all.iter().skip(skip as usize).take(take as usize) {
        facts.push((webhook, WebhookActivity::of(context, webhook)?));
    }
    let data: Vec<_> = facts.iter().map(|(webhook, facts)| facts.shown(webhook, None)).collect();
    if is_plain {
        return ok(&DevdraftWebhooks::Plain(data));
    }
    let total = all.len() as u64;
    ok(&DevdraftWebhooks::Page {
        data,
        pagination: DevdraftPagination { page, limit, total, total_pages: pages(total, u64::from(limit)) },
    })
}

/// The fields of a body under their native names.
struct DevdraftInput {
    /// An object with native names.
    native: String,
    secret: Option<String>,
}

impl DevdraftInput {
    fn read(
        request: &RequestContext<'_>,
        was: Option<&Webhook>,
        field_errors: &mut FieldErrors,
    ) -> Result<DevdraftInput, ApiError> {
        let mut object = request.object_or_none(was.is_some())?;
        let mut members = Vec::new();
        // A native name may be shorter, and stays if it is sent back.
        let is_kept = |raw: &_| was.is_some_and(|was| fields::text(raw).as_ref() == Ok(&was.name));
        let name = |raw: &_| fields::line(raw, if is_kept(raw) { 0 } else { NAME_CHARS_MIN }..=NAME_CHARS_MAX);
        if let Some(name) = object.optional("name", field_errors, name) {
            members.push(format!("\"name\":{}", serde_json::json!(name)));
        } else if was.is_none() && !field_errors.iter().any(|field_error| field_error.pointer == "/name") {
            field_errors.push(FieldError::new("/name", "is required"));
        }
        for name in ["url", "encrypted"] {
            members.extend(object.take(name).map(|raw| format!("\"{name}\":{raw}")));
        }
        let wanted = object.optional("isActive", field_errors, fields::boolean);
        // On means not disabled: a paused webhook is on already and stays paused.
        if let Some(on) = wanted.filter(|on| was.is_none_or(|was| *on != derived::is_active(was))) {
            members.push(format!("\"status\":\"{}\"", if on { "enabled" } else { "disabled" }));
        }
        // A key without `webhooks:secret` reads the mask. Sent back, the mask changes nothing.
        let secret = object.optional("signing_secret", field_errors, |raw| match fields::text(raw).as_deref() {
            Ok(views::SECRET_MASK) if was.is_some() => Ok(None),
            _ => read_secret(raw).map(Some),
        });
        let secret = secret.flatten();
        object.finish(field_errors);
        Ok(DevdraftInput { native: format!("{{{}}}", members.join(",")), secret })
    }

    fn object(&self) -> Result<JsonObject<'_>, ApiError> {
        JsonObject::read(&self.native, String::new()).map_err(|field_error| ApiError::invalid(vec![field_error]))
    }
}

/// A signing secret: `whsec_` and base64 as in the native API, or plain text by the vendor's rule.
fn read_secret(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    match signing::parse_any_secret(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(format!(
            "must be {PLAIN_SECRET_CHARS_MIN} to {PLAIN_SECRET_CHARS_MAX} letters, digits, _ and -, or whsec_ and base64 \
             of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes"
        )),
    }
}

/// `POST /api/v0/webhooks`.
fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let mut field_errors = FieldErrors::new();
    let given = DevdraftInput::read(request, None, &mut field_errors)?;
    let app = webhooks::own_app(&context.registry, request.tenant())?;
    let mut webhook = Webhook::new(request.tenant().org, app);
    webhook_fields::read(&mut webhook, &mut given.object()?, Some(&context.settings.policy), &mut field_errors);
    fields::into_result(field_errors)?;
    let secret = given.secret.unwrap_or_else(|| signing::make_secret(|| context.draw()));
    webhook.secrets = first_secret(secret, context.now);
    let app = context.registry.app_by_id(app).cloned();
    let write_request =
        request.write_secret(StateCommand::CreateWebhook { webhook: Box::new(webhook), of_app_max: None }, None)?;
    Ok(Step::apply(write_request, move |applied| {
        let webhook = received(applied)?;
        let facts = WebhookActivity { figures: WebhookFigures::default(), app, recent: None };
        Ok(HttpResponse::json(StatusCode::CREATED, &facts.shown(&webhook, secret_of(&webhook))))
    }))
}

/// `PATCH /api/v0/webhooks/{id}`. A new secret is a rotation: the old one signs for one more day.
fn update(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if let Some(first) = first_answer(context, request)? {
        return Ok(first);
    }
    let webhook = in_path(context, request)?;
    let mut field_errors = FieldErrors::new();
    let given = DevdraftInput::read(request, Some(&webhook), &mut field_errors)?;
    let patched = webhook_patch::apply(&webhook, given.object()?, &context.settings.policy);
    let patched = match patched {
        Err(api_error) if field_errors.is_empty() || api_error.errors.is_empty() => return Err(api_error),
        Err(api_error) => {
            field_errors.extend(api_error.errors);
            return Err(ApiError::invalid(field_errors));
        }
        Ok(patched) => patched,
    };
    fields::into_result(field_errors)?;
    webhooks::check_bypass(Some(&webhook), &patched, request)?;
    let facts = WebhookActivity::of(context, &webhook)?;
    let rotate = match given.secret.filter(|secret| Some(secret.as_str()) != secret_of(&webhook)) {
        None => None,
        Some(_) if !request.may(Scope::WebhooksSecret) => {
            return Err(ApiError::forbidden("scope_missing", "Missing required scope: webhooks:secret"));
        }
        Some(text) => {
            let secret = SigningSecret { text, created_at: context.now, expires_at: None };
            Some(request.write(StateCommand::RotateSecret { id: webhook.id, secret, overlap_s: OVERLAP_S })?)
        }
    };
    if patched == *webhook {
        return match rotate {
            Some(rotate) => Ok(shown_after(rotate, facts)),
            None => {
                Ok(stored_answers::storing(request)?(HttpResponse::json(StatusCode::OK, &facts.shown(&webhook, None))))
            }
        };
    }
    let write_request = request.write(StateCommand::UpdateWebhook { webhook: Box::new(patched) })?;
    Ok(match rotate {
        None => shown_after(write_request, facts),
        // The key belongs to the last write, so that a repeated request ends an interrupted change.
        Some(rotate) => Step::Apply {
            write_request: Box::new(WriteRequest { idempotency: None, ..write_request }),
            then: Box::new(move |applied| {
                applied?;
                Ok(shown_after(rotate, facts))
            }),
        },
    })
}

fn shown_after(write_request: WriteRequest, facts: WebhookActivity) -> Step {
    Step::apply(write_request, move |applied| {
        Ok(HttpResponse::json(StatusCode::OK, &facts.shown(&*received(applied)?, None)))
    })
}

/// The first answer to the request's `Idempotency-Key` again. The figures in it are those of now.
fn first_answer(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Option<Step>, ApiError> {
    let Some(mut applied) = stored_answers::earlier(context, request)? else { return Ok(None) };
    let stored = match &applied.receipt {
        Receipt::Kept(body) => Some(body.clone().into()),
        _ => applied.extra.take(),
    };
    let mut response = match stored {
        Some(body) => HttpResponse::new(StatusCode::OK, "application/json", body),
        None => {
            let webhook = received(applied)?;
            let facts = WebhookActivity::of(context, &webhook)?;
            HttpResponse::json(StatusCode::OK, &facts.shown(&webhook, None))
        }
    };
    idempotency::mark(&mut response);
    Ok(Some(Step::Reply(response)))
}

/// `DELETE /api/v0/webhooks/{id}`. The vendor's clients fail on an answer without a body.
fn remove(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if let Some(first) = first_answer(context, request)? {
        return Ok(first);
    }
    let webhook = in_path(context, request)?;
    let facts = WebhookActivity::of(context, &webhook)?;
    let removed = DevdraftRemovedWebhook {
        webhook: facts.shown(&webhook, None),
        message: "Webhook deleted successfully",
        webhook_id: prefixed("wh_", webhook.id.as_u128()),
        deleted_at: context.now,
    };
    let response = HttpResponse::json(StatusCode::OK, &removed);
    let command = StateCommand::RemoveWebhook { id: webhook.id };
    Ok(Step::apply(request.write_with(command, response.body.clone())?, move |_| Ok(response)))
}

/// `x-client-secret` is the key. `x-client-key` is its id and may be missing or empty.
fn identify(
    http_request: &HttpRequest,
    registry: &Registry,
    _: &ApiSettings,
    now: Time,
) -> Result<Principal, ApiError> {
    const SCHEME: &str = "ApiKey realm=\"postrider\"";
    let key = key_of(credential(&http_request.headers, "x-client-secret"), registry, now, SCHEME)?;
    let named = credential(&http_request.headers, "x-client-key").and_then(|text| text.parse().ok());
    let is_given = http_request.headers.get_all("x-client-key").iter().any(|value| !value.is_empty());
    if is_given && named != Some(key.id) {
        let api_error = ApiError::unauthorized("credentials_wrong", "x-client-key is not the id of this key");
        return Err(crate::api::dialects::challenge(api_error, SCHEME));
    }
    Ok(Principal::new(key, http_request))
}

fn may_read(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::WebhooksRead, "webhook:read")
}

fn may_create(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::WebhooksWrite, "webhook:create")
}

fn may_update(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::WebhooksWrite, "webhook:update")
}

fn may_delete(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::WebhooksWrite, "webhook:delete")
}

fn may(principal: &Principal, scope: Scope, own_name: &str) -> Result<(), ApiError> {
    match principal.key.may(scope) {
        true => Ok(()),
        false => Err(ApiError::forbidden("scope_missing", format!("Missing required scope: {own_name}"))),
    }
}

/// An error.
#[derive(Serialize, JsonSchema)]
struct DevdraftError<'a> {
    #[serde(rename = "statusCode")]
    #[schemars(with = "i64")]
    status_code: u16,
    message: &'a str,
    error: &'a str,
    details: &'a str,
}

/// `{statusCode, message, error, details}`. Wrong values are 400 here.
fn render(api_error: &ApiError, _: &ErrorContext<'_>) -> HttpResponse {
    let status = match api_error.status {
        StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        status => status,
    };
    let title = status.canonical_reason().unwrap_or("Error");
    let about_json = api_error.is_about_json();
    let about_url = !about_json && api_error.errors.first().is_some_and(|field_error| field_error.pointer == "/url");
    let message = match api_error.code {
        "invalid_id" => "Invalid webhook ID format",
        "invalid_events_limit" => "Invalid events_limit",
        "not_found" => "Webhook not found",
        "invalid_fields" if about_url => "Invalid webhook URL format",
        "invalid_fields" => "Validation failed",
        "invalid_parameter" | "unknown_parameter" | "repeated_parameter" => "Invalid query parameter",
        _ => title,
    };
    let field_errors = api_error.errors.iter().map(in_own_words);
    let details = match status {
        StatusCode::UNAUTHORIZED => "Missing or invalid API key.".to_owned(),
        _ if about_json || api_error.errors.is_empty() => api_error.detail.clone(),
        _ => field_errors.collect::<Vec<_>>().join("; "),
    };
    HttpResponse::json(
        status,
        &DevdraftError { status_code: status.as_u16(), message, error: title, details: &details },
    )
}

fn in_own_words(field_error: &FieldError) -> String {
    match (field_error.pointer.as_str(), field_error.detail.as_str()) {
        ("/url", target::NO_HTTP_URL) => URL_DETAILS.to_owned(),
        (pointer, detail) => format!("{} {detail}", own_field(pointer)),
    }
}

/// The name that this API gives a field.
fn own_field(pointer: &str) -> &str {
    match pointer.trim_start_matches('/') {
        "" => "body",
        "status" => "isActive",
        "secret" => "signing_secret",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_in_both_forms_and_no_other() {
        let id: WebhookId = "019ca8a0-3e80-726f-8f06-5e86b5932aa2".parse().unwrap();
        assert_eq!(parse_id("wh_019ca8a03e80726f8f065e86b5932aa2"), Some(id));
        assert_eq!(parse_id("019ca8a0-3e80-726f-8f06-5e86b5932aa2"), Some(id));
        assert_eq!(prefixed("wh_", id.as_u128()), "wh_019ca8a03e80726f8f065e86b5932aa2");
        for text in [
            "",
            "wh_",
            "wh_+19ca8a03e80726f8f065e86b5932aa2",
            "wh_019ca8a0-3e80-726f-8f06-5e86b5932aa2",
            "019ca8a03e80726f8f065e86b5932aa2",
            "evt_019ca8a03e80726f8f065e86b5932aa2",
        ] {
            assert_eq!(parse_id(text), None, "{text}");
        }
    }
}
