//! Webhooks: create, list, read, change, remove and pause, with secrets and public keys (docs/concepts.md).

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::fields::{self, FieldErrors, JsonObject};
use crate::api::limits::OVERLAP_S_MAX;
use crate::api::params::{Param, ParamValues};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::webhook::{SigningSecret, WebhookProxy, WebhookState, WebhookStatus};
use crate::model::{AppId, Scope, Time, Webhook, WebhookId};
use crate::rules::target::TargetPolicy;
use crate::rules::{circuit, signing};
use crate::store::first_secret;
use crate::store::{Applied, Receipt, Registry, StateCommand, TenantScope};

use super::publish::{AppLookup, app};
use super::webhook_fields;
use super::webhook_form;
use super::webhook_live::WebhookLive;
use super::webhook_patch;
use super::webhook_view::{NewWebhookView, PublicKeysView, SecretsView, WebhookView};

/// Time that an old secret signs after a rotation if `overlap_s` is absent.
const OVERLAP_S_DEFAULT: u32 = 86_400;

pub const APP_ID: Param = Param::new("app_id", ParamValues::AppName, "Only of this app, by its id or `uid`.");
pub const WEBHOOK_STATUS: Param =
    Param::new("status", ParamValues::OneOf("WebhookStatus"), "Only webhooks of this status.");

/// The webhook in the path, by its id or by its `uid` in the key's app, or 404.
pub fn in_path(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Arc<Webhook>, ApiError> {
    let found = context.registry.webhook_named(request.tenant(), request.path.get("id"));
    found.cloned().ok_or_else(|| ApiError::not_found("webhook"))
}

/// The webhook in the path, by its id only, or 404.
pub fn in_path_by_id(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Arc<Webhook>, ApiError> {
    let id: WebhookId = request.id("webhook")?;
    context.registry.webhook(request.tenant(), id).cloned().ok_or_else(|| ApiError::not_found("webhook"))
}

/// The webhook of a receipt.
fn received(applied: Applied) -> Result<Arc<Webhook>, ApiError> {
    match applied.receipt {
        Receipt::Webhook(webhook) => Ok(webhook),
        _ => Err(super::unexpected()),
    }
}

/// The app of an object that names none: the key's own app, or the organization's default.
pub fn own_app(registry: &Registry, tenant: TenantScope) -> Result<AppId, ApiError> {
    let default = || registry.organization(tenant.org).map(|org| org.default_app_id);
    tenant.app.or_else(default).ok_or_else(|| ApiError::not_found("app"))
}

/// `POST /v1/webhooks`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let place = AppLookup { registry: &context.registry, tenant: request.tenant() };
    let (mut webhook, secret) = read_new(request.object()?, &place, &context.settings.policy)?;
    check_bypass(None, &webhook, request)?;
    let secret = secret.unwrap_or_else(|| signing::make_secret(|| context.draw()));
    webhook.secrets = first_secret(secret, context.now);
    // The writer counts, so that a repeated request gets its first answer and concurrent requests cannot pass the
    // limit.
    let of_app_max = request.principal.portal_link.map(|_| context.settings.pages.portal.webhooks_max);
    let command = StateCommand::CreateWebhook { webhook: Box::new(webhook), of_app_max };
    let write_request = request.write_secret(command, None)?;
    Ok(Step::apply(write_request, |applied| {
        Ok(HttpResponse::json(StatusCode::CREATED, &NewWebhookView::new(&*received(applied)?)))
    }))
}

/// Only the installation's own key with the scope `admin` may make requests bypass the proxy of the installation, or
/// point such requests elsewhere. 403 for any other key. An organization chooses no way through the operator's network.
pub fn check_bypass(before: Option<&Webhook>, after: &Webhook, request: &RequestContext<'_>) -> Result<(), ApiError> {
    let is_same = before.is_some_and(|before| before.proxy == after.proxy && before.url == after.url);
    if after.proxy == WebhookProxy::Default || is_same {
        return Ok(());
    }
    let request_kind = "proxy none, and another url for a webhook that has it,";
    if !request.may(Scope::Admin) {
        return Err(ApiError::forbidden("scope_missing", format!("{request_kind} need a key with the scope admin")));
    }
    if !request.principal.key.installation {
        return Err(ApiError::forbidden("installation_only", format!("{request_kind} need a key of the installation")));
    }
    Ok(())
}

/// A new webhook, and its secret if the request has one.
pub fn read_new(
    mut object: JsonObject<'_>,
    place: &AppLookup<'_>,
    policy: &TargetPolicy,
) -> Result<(Webhook, Option<String>), ApiError> {
    let mut field_errors = FieldErrors::new();
    let app_id = match app(&mut object, place, &mut field_errors)? {
        Some(app_id) => app_id,
        None => own_app(place.registry, place.tenant)?,
    };
    let mut webhook = Webhook::new(place.tenant.org, app_id);
    webhook_fields::read(&mut webhook, &mut object, Some(policy), &mut field_errors);
    let secret = object.optional("secret", &mut field_errors, webhook_form::read_secret);
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    Ok((webhook, secret))
}

/// `GET /v1/webhooks/{id}`.
pub fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = in_path(context, request)?;
    Ok(Step::Reply(shown(&webhook, WebhookLive::of(context, request.reader(), &webhook))))
}

/// The running state as it is shown now.
pub fn state_now(context: &ApiContext<'_>, id: WebhookId) -> WebhookState {
    context.store.shown_state(id, context.store.state(id), context.now)
}

fn shown(webhook: &Webhook, live: WebhookLive) -> HttpResponse {
    HttpResponse::json(StatusCode::OK, &WebhookView::new(webhook, live))
}

/// `PATCH /v1/webhooks/{id}`. The command is based on the webhook as read here. If it has changed when the command is
/// applied, the request is handled again.
pub fn update(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = in_path(context, request)?;
    let patched = webhook_patch::patched(&webhook, request, &context.settings.policy)?;
    check_bypass(Some(&webhook), &patched, request)?;
    if patched == *webhook {
        return Ok(Step::Reply(shown(&webhook, WebhookLive::of(context, request.reader(), &webhook))));
    }
    let (store, now, reader) = (context.store.clone(), context.now, request.reader());
    let in_flight = context.health_source.in_flight(webhook.id);
    let write_request = request.write(StateCommand::UpdateWebhook { webhook: Box::new(patched) })?;
    Ok(Step::apply(write_request, move |applied| {
        let webhook = received(applied)?;
        let live = WebhookLive::with(&store, &webhook, store.state(webhook.id), now, in_flight);
        Ok(shown(&webhook, WebhookLive { reader, ..live }))
    }))
}

/// `DELETE /v1/webhooks/{id}`.
pub fn remove(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id = in_path(context, request)?.id;
    Ok(Step::apply(request.write(StateCommand::RemoveWebhook { id })?, |_| {
        Ok(HttpResponse::empty(StatusCode::NO_CONTENT))
    }))
}

/// `POST /v1/webhooks/{id}/pause`.
pub fn pause(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    set_status(context, request, WebhookStatus::Paused)
}

/// `POST /v1/webhooks/{id}/resume`: ends a pause, the wait for a probe, and the hold by `Retry-After`.
pub fn resume(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    set_status(context, request, WebhookStatus::Enabled)
}

/// The running state is not part of the receipt. It is stored beside it, so that a repeated request gets the same
/// answer.
fn set_status(
    context: &mut ApiContext<'_>,
    request: &RequestContext<'_>,
    status: WebhookStatus,
) -> Result<Step, ApiError> {
    request.no_fields()?;
    let webhook = in_path(context, request)?;
    let id = webhook.id;
    let state = match status {
        WebhookStatus::Enabled => circuit::released(context.store.state(id)),
        _ => context.store.state(id),
    };
    let in_flight = context.health_source.in_flight(id);
    let live = WebhookLive::with(context.store, &webhook, state, context.now, in_flight);
    let live = WebhookLive { reader: request.reader(), ..live };
    let extra = serde_json::to_vec(&live).map_err(|_| super::unexpected())?;
    let write_request = request.write_with(StateCommand::SetStatus { id, status }, Bytes::from(extra))?;
    Ok(Step::apply(write_request, move |mut applied| {
        let first = applied.extra.take().and_then(|extra| serde_json::from_slice(&extra).ok());
        Ok(shown(&*received(applied)?, first.unwrap_or(live)))
    }))
}

/// `GET /v1/webhooks/{id}/secret`. It is a command, because every reading is audited.
pub fn secret(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (id, now) = (in_path(context, request)?.id, context.now);
    Ok(Step::apply(request.write(StateCommand::ReadSecret { id })?, move |applied| {
        Ok(HttpResponse::json(StatusCode::OK, &SecretsView::new(&*received(applied)?, now)))
    }))
}

/// `POST /v1/webhooks/{id}/rotate-secret`.
pub fn rotate_secret(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id = in_path(context, request)?.id;
    let mut object = request.optional_object()?;
    let mut field_errors = FieldErrors::new();
    let secret = object.optional("secret", &mut field_errors, webhook_form::read_secret);
    let overlap_s = object.optional("overlap_s", &mut field_errors, |raw| fields::whole(raw, 0..=OVERLAP_S_MAX));
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    let text = secret.unwrap_or_else(|| signing::make_secret(|| context.draw()));
    let secret = SigningSecret { text, created_at: context.now, expires_at: None };
    let overlap_s = overlap_s.map_or(OVERLAP_S_DEFAULT, |s| s as u32);
    let write_request = request.write_secret(StateCommand::RotateSecret { id, secret, overlap_s }, None)?;
    Ok(Step::apply(write_request, |applied| {
        let webhook = received(applied)?;
        // The time of the rotation, even if the answer is repeated.
        let at = webhook.secrets.first().map_or(Time::ZERO, |secret| secret.created_at);
        Ok(HttpResponse::json(StatusCode::OK, &SecretsView::new(&webhook, at)))
    }))
}

/// `GET /v1/webhooks/{id}/public-keys`.
pub fn public_keys(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = in_path(context, request)?;
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &PublicKeysView::new(&webhook, context.now))))
}
