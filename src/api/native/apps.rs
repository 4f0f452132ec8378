//! Apps: the tenants of an organization. Every request may name an app by its id or by its `uid`.

use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::cursor::CursorKind;
use crate::api::error::ApiError;
use crate::api::fields::{self, FieldErrors, FieldResult};
use crate::api::limits::{NAME_CHARS_MAX, UID_CHARS_MAX};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::{App, AppId, Time};
use crate::store::{Applied, Receipt, Registry, StateCommand};

use super::page;

/// An app.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "App")]
pub struct AppView<'a> {
    id: AppId,
    name: &'a str,
    uid: Option<&'a str>,
    /// Whether objects that name no app belong to this one.
    default: bool,
    created_at: Time,
    updated_at: Time,
}

impl<'a> AppView<'a> {
    pub fn new(app: &'a App, default: bool) -> Self {
        AppView {
            id: app.id,
            name: &app.name,
            uid: app.uid.as_deref(),
            default,
            created_at: app.created_at,
            updated_at: app.updated_at,
        }
    }
}

fn is_default(registry: &Registry, app: &App) -> bool {
    registry.organization(app.org_id).is_some_and(|organization| organization.default_app_id == app.id)
}

pub fn read_name(raw: &RawValue) -> FieldResult<String> {
    fields::line(raw, 1..=NAME_CHARS_MAX)
}

/// Reads a `uid`. It must not have the form of an id, so that a name means one app.
fn read_uid(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    match plain && (1..=UID_CHARS_MAX).contains(&text.len()) && text.parse::<AppId>().is_err() {
        true => Ok(text),
        false => Err(format!("must be 1 to {UID_CHARS_MAX} of a-z, A-Z, 0-9, '_', '.', '-', and no UUID")),
    }
}

fn in_path(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Arc<App>, ApiError> {
    context
        .registry
        .app_named(request.tenant(), request.path.get("id"))
        .cloned()
        .ok_or_else(|| ApiError::not_found("app"))
}

fn shown(status: StatusCode, applied: Applied, default: bool) -> Result<HttpResponse, ApiError> {
    match applied.receipt {
        Receipt::App(app) => Ok(HttpResponse::json(status, &AppView::new(&app, default))),
        _ => Err(super::unexpected()),
    }
}

/// `POST /v1/apps`.
pub fn create(_context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if request.tenant().app.is_some() {
        return Err(ApiError::forbidden("confined_to_app", "this key is confined to one app and cannot make another"));
    }
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let name = object.required("name", &mut field_errors, read_name);
    let uid = object.optional("uid", &mut field_errors, read_uid);
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    let write_request = request.write(StateCommand::CreateApp { name: name.unwrap_or_default(), uid })?;
    Ok(Step::apply(write_request, |applied| shown(StatusCode::CREATED, applied, false)))
}

/// `GET /v1/apps`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (registry, tenant) = (&context.registry, request.tenant());
    let rows = registry.apps().rev().filter(|app| tenant.covers(app.org_id, app.id));
    let page = page::cut(CursorKind::Apps, &request.query, rows, |app| app.id.as_u128())?;
    Ok(Step::Reply(page::response(CursorKind::Apps, &page, |app| AppView::new(app, is_default(registry, app)))))
}

/// `GET /v1/apps/{id}`.
pub fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = in_path(context, request)?;
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &AppView::new(&app, is_default(&context.registry, &app)))))
}

/// `PATCH /v1/apps/{id}`: `uid: null` removes the `uid`.
pub fn update(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = in_path(context, request)?;
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let name = match object.has("name") {
        true => object.required("name", &mut field_errors, read_name),
        false => None,
    };
    let uid = object.has("uid").then(|| {
        let given = object.optional("uid", &mut field_errors, read_uid);
        object.take_any("uid");
        given
    });
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    let default = is_default(&context.registry, &app);
    let write_request = request.write(StateCommand::UpdateApp { id: app.id, name, uid })?;
    Ok(Step::apply(write_request, move |applied| shown(StatusCode::OK, applied, default)))
}

/// `DELETE /v1/apps/{id}`.
pub fn remove(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id = in_path(context, request)?.id;
    Ok(Step::apply(request.write(StateCommand::RemoveApp { id })?, |_| Ok(HttpResponse::empty(StatusCode::NO_CONTENT))))
}
