//! Writes in Dfns's shape: create, change and remove.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::fields::{self, FieldErrors, FieldResult};
use crate::api::idempotency;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::api::stored_answers;
use crate::model::Webhook;
use crate::store::StateCommand;

use crate::api::dialects::writes::{self, FieldNames, NativeForm, received};
use crate::api::dialects::{derived, webhook_input};

use super::{DfnsNewWebhook, DfnsWebhook, in_path};

pub const DESCRIPTION_CHARS_MAX: usize = 256;
const NAMES: FieldNames = &[("events", "event_types")];

/// A webhook is removed.
#[derive(Serialize, JsonSchema)]
pub struct DfnsDeleted {
    #[schemars(extend("const" = true))]
    deleted: bool,
}

/// `POST /webhooks`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let mut field_errors = FieldErrors::new();
    let mut form = read_form(request, None, &mut field_errors)?;
    form.set("signature", ["dfns"]);
    form.set("field_set", "dfns");
    form.set("success_rule", "200");
    form.set("retry_schedule_s", "dfns");
    let webhook = writes::new_webhook(context, request.tenant(), &form, NAMES, field_errors)?;
    let write_request =
        request.write_secret(StateCommand::CreateWebhook { webhook: Box::new(webhook), of_app_max: None }, None)?;
    Ok(Step::apply(write_request, |applied| {
        let webhook = received(applied)?;
        let secret = webhook.secrets.first().map_or("", |secret| secret.text.as_str());
        let shown = DfnsNewWebhook { webhook: DfnsWebhook::new(&webhook), secret };
        Ok(HttpResponse::json(StatusCode::OK, &shown))
    }))
}

/// `PUT /webhooks/{webhookId}`. A field that is left out stays.
pub fn update(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if let Some(applied) = stored_answers::earlier(context, request)? {
        let mut response = match applied.receipt {
            crate::store::Receipt::Kept(body) => HttpResponse::new(StatusCode::OK, "application/json", body),
            _ => shown(&*received(applied)?),
        };
        idempotency::mark(&mut response);
        return Ok(Step::Reply(response));
    }
    let webhook = in_path(context, request)?;
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
    HttpResponse::json(StatusCode::OK, &DfnsWebhook::new(webhook))
}

/// `DELETE /webhooks/{webhookId}`.
pub fn remove(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let deleted = || HttpResponse::json(StatusCode::OK, &DfnsDeleted { deleted: true });
    if stored_answers::earlier(context, request)?.is_some() {
        let mut response = deleted();
        idempotency::mark(&mut response);
        return Ok(Step::Reply(response));
    }
    let id = in_path(context, request)?.id;
    request.no_fields()?;
    Ok(Step::apply(request.write(StateCommand::RemoveWebhook { id })?, move |_| Ok(deleted())))
}

/// The fields of a body under their native names. `was` is the webhook that they change.
fn read_form(
    request: &RequestContext<'_>,
    was: Option<&Webhook>,
    field_errors: &mut FieldErrors,
) -> Result<NativeForm, ApiError> {
    let mut object = request.object_or_none(was.is_some())?;
    let mut form = NativeForm::default();
    webhook_input::set_url(&mut form, object.take("url"), was);
    let read_events = |raw| webhook_input::event_types(raw, was);
    let events = match was {
        Some(_) => object.optional("events", field_errors, read_events),
        None => object.required("events", field_errors, read_events),
    };
    if let Some(events) = events {
        form.set("event_types", events);
    }
    match object.take_any("description") {
        Some(raw) if raw.get() == "null" => form.set("description", Value::Null),
        Some(raw) => match read_description(raw, was) {
            Ok(text) => form.set("description", text),
            Err(detail) => field_errors.push(crate::api::error::FieldError::new("/description", detail)),
        },
        None => {}
    }
    // On means not disabled: a paused webhook is on already and stays paused.
    let on = object.optional("status", field_errors, read_status);
    if let Some(on) = on.filter(|on| *on != was.is_none_or(derived::is_active)) {
        form.set("status", if on { "enabled" } else { "disabled" });
    }
    object.finish(field_errors);
    Ok(form)
}

/// A native description may be longer, and stays if it is sent back.
fn read_description(raw: &RawValue, was: Option<&Webhook>) -> FieldResult<String> {
    let text = fields::text(raw)?;
    let is_kept = was.is_some_and(|was| was.description.as_ref() == Some(&text));
    match text.chars().count() {
        0..=DESCRIPTION_CHARS_MAX => Ok(text),
        _ if is_kept => Ok(text),
        _ => Err(format!("must have at most {DESCRIPTION_CHARS_MAX} characters")),
    }
}

fn read_status(raw: &RawValue) -> FieldResult<bool> {
    match fields::text(raw).as_deref() {
        Ok("Enabled") => Ok(true),
        Ok("Disabled") => Ok(false),
        _ => Err("must be Enabled or Disabled".to_owned()),
    }
}
