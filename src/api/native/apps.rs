//! Apps: the tenants of an organization. Every request may name an app by its id or by its `uid`.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::cursor::CursorKind;
use crate::api::error::ApiError;
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::limits::{NAME_CHARS_MAX, RATE_PER_S_MAX, RATE_PER_S_MIN};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::{App, AppId, Time};
use crate::store::{AppChange, AppSettings, Applied, Receipt, Registry, StateCommand};

use super::owned::{metadata_schema, read_metadata, read_uid};
use super::{page, webhook_form};

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
    #[schemars(schema_with = "shown_metadata")]
    metadata: &'a BTreeMap<String, String>,
    /// Requests a second to all webhooks of the app together.
    #[schemars(range(min = RATE_PER_S_MIN, max = RATE_PER_S_MAX))]
    throttle_rate_per_s: Option<f64>,
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
            metadata: &app.metadata,
            throttle_rate_per_s: app.throttle_rate_per_s,
        }
    }
}

fn is_default(registry: &Registry, app: &App) -> bool {
    registry.organization(app.org_id).is_some_and(|organization| organization.default_app_id == app.id)
}

pub fn read_name(raw: &RawValue) -> FieldResult<String> {
    fields::line(raw, 1..=NAME_CHARS_MAX)
}

fn shown_metadata(_: &mut SchemaGenerator) -> Schema {
    metadata_schema().try_into().unwrap_or_default()
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
    let app = AppSettings {
        name: name.unwrap_or_default(),
        uid: object.optional("uid", &mut field_errors, read_uid::<App>),
        metadata: object.optional("metadata", &mut field_errors, read_metadata).unwrap_or_default(),
        throttle_rate_per_s: object.optional("throttle_rate_per_s", &mut field_errors, webhook_form::read_rate),
        alias: None,
    };
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    let write_request = request.write(StateCommand::CreateApp { app })?;
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

/// A member of a patch. `None` if it is absent; null reads as absent inside.
fn patched<T>(
    object: &mut JsonObject<'_>,
    name: &str,
    field_errors: &mut FieldErrors,
    read: impl FnOnce(&RawValue) -> FieldResult<T>,
) -> Option<Option<T>> {
    object.has(name).then(|| {
        let given = object.optional(name, field_errors, read);
        object.take_any(name);
        given
    })
}

/// `PATCH /v1/apps/{id}`: null removes `uid` and `throttle_rate_per_s` and empties `metadata`.
pub fn update(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = in_path(context, request)?;
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let name = match object.has("name") {
        true => object.required("name", &mut field_errors, read_name),
        false => None,
    };
    let change = AppChange {
        name,
        uid: patched(&mut object, "uid", &mut field_errors, read_uid::<App>),
        metadata: patched(&mut object, "metadata", &mut field_errors, read_metadata).map(Option::unwrap_or_default),
        throttle_rate_per_s: patched(&mut object, "throttle_rate_per_s", &mut field_errors, webhook_form::read_rate),
        alias: None,
    };
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    let default = is_default(&context.registry, &app);
    let write_request = request.write(StateCommand::UpdateApp { id: app.id, change })?;
    Ok(Step::apply(write_request, move |applied| shown(StatusCode::OK, applied, default)))
}

/// `DELETE /v1/apps/{id}`.
pub fn remove(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id = in_path(context, request)?.id;
    Ok(Step::apply(request.write(StateCommand::RemoveApp { id })?, |_| Ok(HttpResponse::empty(StatusCode::NO_CONTENT))))
}
