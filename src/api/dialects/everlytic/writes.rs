//! Writes in Everlytic's shape: create, change and remove.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::idempotency;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::api::stored_answers;
use crate::model::webhook::WebhookAuth;
use crate::model::{Webhook, WebhookId};
use crate::store::{Receipt, StateCommand};

use crate::api::dialects::webhook_input;
use crate::api::dialects::writes::{self, FieldNames, NativeForm, received};

use super::{EverlyticItem, EverlyticWebhook, shown_field_set};

const NAMES: FieldNames = &[("verb", "method"), ("auth_details", "auth"), ("settings", "include_html")];

/// The end of a removal.
#[derive(Serialize, JsonSchema)]
pub struct EverlyticRemoved {
    /// False if there was no such webhook.
    status: bool,
}

/// `POST …/webhooks`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let mut field_errors = FieldErrors::new();
    let mut form = read_form(request, None, &mut field_errors)?;
    form.set("signature", ["standard"]);
    form.set("retry_schedule_s", "everlytic");
    let webhook = writes::new_webhook(context, request.tenant(), &form, NAMES, field_errors)?;
    let write_request = request.write(StateCommand::CreateWebhook { webhook: Box::new(webhook), of_app_max: None })?;
    Ok(Step::apply(write_request, |applied| Ok(shown(&*received(applied)?))))
}

/// `PUT …/webhooks/{id}`. An optional field that is left out gets its default.
pub fn update(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if let Some(applied) = stored_answers::earlier(context, request)? {
        let mut response = match applied.receipt {
            Receipt::Kept(body) => HttpResponse::new(StatusCode::OK, "application/json", body),
            _ => shown(&*received(applied)?),
        };
        idempotency::mark(&mut response);
        return Ok(Step::Reply(response));
    }
    let id: Option<WebhookId> = request.path.get("id").parse().ok();
    let found = id.and_then(|id| context.registry.webhook(request.tenant(), id)).cloned();
    let webhook = found.ok_or_else(|| ApiError::not_found("Webhook"))?;
    let mut field_errors = FieldErrors::new();
    let form = read_form(request, Some(&webhook), &mut field_errors)?;
    let patched = writes::changed(context, request, &webhook, &form, (NAMES, field_errors))?;
    if patched == *webhook {
        return Ok(stored_answers::storing(request)?(shown(&webhook)));
    }
    let write_request = request.write(StateCommand::UpdateWebhook { webhook: Box::new(patched) })?;
    Ok(Step::apply(write_request, |applied| Ok(shown(&*received(applied)?))))
}

fn shown(webhook: &Webhook) -> HttpResponse {
    HttpResponse::json(StatusCode::OK, &EverlyticItem { webhook: EverlyticWebhook::new(webhook) })
}

/// `DELETE …/webhooks/{id}`. Where there is nothing to remove, the answer says so with 200.
pub fn remove(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let answer = |status| HttpResponse::json(StatusCode::OK, &EverlyticRemoved { status });
    if stored_answers::earlier(context, request)?.is_some() {
        let mut response = answer(true);
        idempotency::mark(&mut response);
        return Ok(Step::Reply(response));
    }
    let id: Option<WebhookId> = request.path.get("id").parse().ok();
    let Some(id) = id.filter(|id| context.registry.webhook(request.tenant(), *id).is_some()) else {
        return Ok(Step::Reply(answer(false)));
    };
    Ok(Step::apply(request.write(StateCommand::RemoveWebhook { id })?, move |_| Ok(answer(true))))
}

/// The fields of a body under their native names. `was` is the webhook that they change. A value that is sent back as
/// it is shown leaves the native value.
fn read_form(
    request: &RequestContext<'_>,
    was: Option<&Webhook>,
    field_errors: &mut FieldErrors,
) -> Result<NativeForm, ApiError> {
    let mut object = request.object()?;
    let mut form = NativeForm::default();
    // The native rules say of a new webhook that it needs a URL.
    let url = match was {
        Some(_) => object.required("url", field_errors, Ok),
        None => object.take("url"),
    };
    webhook_input::set_url(&mut form, url, was);
    form.set_raw("method", object.required("verb", field_errors, Ok));
    let read_types = |raw| webhook_input::event_types(raw, was);
    if let Some(types) = object.required("event_types", field_errors, read_types) {
        form.set("event_types", types);
    }
    match object.take("content_type") {
        None => form.set("content_type", "application/json"),
        given => form.set_raw("content_type", given),
    }
    match object.optional("field_set", field_errors, read_field_set) {
        None => form.set("field_set", "standard"),
        Some(name) if was.is_some_and(|was| name == shown_field_set(was)) => {}
        Some(name) => form.set("field_set", name),
    }
    let settings = object.object("settings", field_errors);
    let include_html = settings.and_then(|mut settings| {
        let given = settings.optional("include_html", field_errors, fields::boolean);
        settings.finish(field_errors);
        given
    });
    form.set("include_html", include_html.unwrap_or(false));
    read_auth(&mut form, &mut object, was, field_errors);
    object.finish(field_errors);
    Ok(form)
}

/// The vendor's two field sets, `standard` and `legacy`.
fn read_field_set(raw: &RawValue) -> FieldResult<String> {
    let name = fields::text(raw)?;
    if matches!(name.as_str(), "standard" | "legacy") { Ok(name) } else { Err("must be standard or legacy".to_owned()) }
}

/// `auth_details` and `auth_type`. Null and nothing clear the credentials. A null that is sent back keeps credentials
/// that this shape does not show.
fn read_auth(
    form: &mut NativeForm,
    object: &mut JsonObject<'_>,
    was: Option<&Webhook>,
    field_errors: &mut FieldErrors,
) {
    let is_sent_back = object.has("auth_details") && was.is_some_and(|was| !is_basic(was));
    let details = object.object("auth_details", field_errors);
    let is_wrong = field_errors.iter().any(|field_error| field_error.pointer == "/auth_details");
    let kind = |raw: &_| -> FieldResult<()> {
        match fields::text(raw)?.as_str() {
            "basic" => Ok(()),
            _ => Err("must be basic".to_owned()),
        }
    };
    let Some(mut details) = details else {
        object.optional("auth_type", field_errors, kind);
        if !is_wrong && !is_sent_back {
            form.set("auth", ());
        }
        return;
    };
    object.required("auth_type", field_errors, kind);
    let username = details.required("username", field_errors, fields::text);
    let password = details.required("password", field_errors, fields::text);
    details.finish(field_errors);
    if let (Some(username), Some(password)) = (username, password) {
        form.set("auth", json!({ "type": "basic", "username": username, "password": password }));
    }
}

fn is_basic(webhook: &Webhook) -> bool {
    matches!(webhook.auth, Some(WebhookAuth::Basic { .. }))
}
