//! Applications: the apps of an organization without its default app.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::{App, Time};
use crate::store::{AppChange, AppSettings, Applied, Receipt, StateCommand};

use super::errors::absent;
use super::ids::{self, NAME_CHARS_MAX, Noun, is_name};
use super::iterator::item_page;
use super::list;
use super::query::{GET_IF_EXISTS, SvixQuery};
use crate::api::dialects::derived::ok;

/// Maximum length of a name in characters.
const APP_NAME_CHARS_MAX: usize = 256;

/// An application.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SvixApplication<'a> {
    id: String,
    uid: Option<&'a str>,
    name: &'a str,
    metadata: &'a BTreeMap<String, String>,
    throttle_rate: Option<u64>,
    /// The same, for older clients.
    rate_limit: Option<u64>,
    created_at: Time,
    updated_at: Time,
}

impl<'a> SvixApplication<'a> {
    pub fn new(app: &'a App) -> Self {
        let rate = app.throttle_rate_per_s.map(shown_rate);
        SvixApplication {
            id: Noun::App.write(app.id),
            uid: app.uid.as_deref(),
            name: &app.name,
            metadata: &app.metadata,
            throttle_rate: rate,
            rate_limit: rate,
            created_at: app.created_at,
            updated_at: app.updated_at,
        }
    }
}

/// The members of an application that a caller sets. `None` for an absent member.
#[derive(Default)]
pub struct AppInput {
    name: Option<String>,
    /// `Some(None)` for null.
    uid: Option<Option<String>>,
    metadata: Option<Metadata>,
    rate: Option<Option<f64>>,
    /// The id of an imported application. Svix has no such member.
    alias: Option<Option<String>>,
}

type Metadata = BTreeMap<String, String>;

/// The member with the id that an imported object had. Svix ignores it.
pub const ALIAS: &str = "alias";
/// Maximum size of `metadata` as JSON, in bytes.
const METADATA_BYTES_MAX: usize = crate::api::limits::METADATA_BYTES_MAX;
/// Maximum of `throttleRate` in requests per second.
const RATE_MAX: u64 = 65_535;

/// A rate as a whole number. Natively it may have a fraction.
pub fn shown_rate(per_s: f64) -> u64 {
    per_s.ceil().max(1.0) as u64
}

/// `metadata`: a map of strings. Null means none.
pub fn read_metadata(object: &mut JsonObject<'_>, field_errors: &mut FieldErrors) -> Option<Metadata> {
    let read = |raw: &RawValue| {
        if raw.get().len() > METADATA_BYTES_MAX {
            return Err(format!("must have at most {METADATA_BYTES_MAX} bytes"));
        }
        serde_json::from_str(raw.get()).map_err(|_| "must be an object of strings".to_owned())
    };
    nullable(object, "metadata", field_errors, read).map(Option::unwrap_or_default)
}

/// `throttleRate`, or `rateLimit` of older clients. The rate before stays if it is sent back as it is shown, without its
/// fraction.
pub fn read_rate(object: &mut JsonObject<'_>, old: Option<f64>, field_errors: &mut FieldErrors) -> Option<Option<f64>> {
    let kept = |raw: &RawValue| old.filter(|old| fields::whole(raw, 1..=u64::MAX) == Ok(shown_rate(*old)));
    let read = |raw: &RawValue| match kept(raw) {
        Some(old) => Ok(old),
        None => fields::whole(raw, 1..=RATE_MAX).map(|rate| rate as f64),
    };
    let rate = nullable(object, "throttleRate", field_errors, read);
    let older = nullable(object, "rateLimit", field_errors, read);
    match (rate, older) {
        (Some(None) | None, Some(older)) => Some(older),
        (rate, _) => rate,
    }
}

impl AppInput {
    /// Reads the members of a new app, or of a change of `old`. The name is required unless the body is a patch.
    pub fn read(
        object: &mut JsonObject<'_>,
        (old, is_patch): (Option<&App>, bool),
        field_errors: &mut FieldErrors,
    ) -> AppInput {
        let old_rate = old.and_then(|old| old.throttle_rate_per_s);
        let name = match is_patch && !object.has("name") {
            true => None,
            false => object.required("name", field_errors, read_name),
        };
        let uid = nullable(object, "uid", field_errors, |raw| read_uid(raw, Noun::App));
        let metadata = read_metadata(object, field_errors);
        let alias = nullable(object, ALIAS, field_errors, |raw| read_alias(raw, Noun::App));
        AppInput { name, uid, metadata, rate: read_rate(object, old_rate, field_errors), alias }
    }

    pub fn uid(&self) -> Option<&str> {
        self.uid.as_ref().and_then(Option::as_deref)
    }

    pub fn create(self) -> StateCommand {
        StateCommand::CreateApp { app: self.settings() }
    }

    /// The command that creates the app unless an app has its `uid`. So two concurrent requests that create it both
    /// succeed.
    pub fn ensure(self) -> StateCommand {
        StateCommand::EnsureApp { app: self.settings() }
    }

    fn settings(self) -> AppSettings {
        AppSettings {
            name: self.name.unwrap_or_default(),
            uid: self.uid.flatten(),
            metadata: self.metadata.unwrap_or_default(),
            throttle_rate_per_s: self.rate.flatten(),
            alias: self.alias.flatten(),
        }
    }
}

/// A member that may be null. `None` if it is absent or wrong.
pub fn nullable<T>(
    object: &mut JsonObject<'_>,
    name: &str,
    field_errors: &mut FieldErrors,
    read: impl FnOnce(&RawValue) -> FieldResult<T>,
) -> Option<Option<T>> {
    let raw = object.take_any(name)?;
    if raw.get() == "null" {
        return Some(None);
    }
    read(raw).map_err(|detail| field_errors.push(FieldError::new(object.at(name), detail))).ok().map(Some)
}

fn read_name(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    match (1..=APP_NAME_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(|c| c <= '\u{8}') {
        true => Ok(text),
        false => Err(format!("must have 1 to {APP_NAME_CHARS_MAX} characters, none of them below 9")),
    }
}

/// A `uid`, which does not look like an id of its noun.
pub fn read_uid(raw: &RawValue, noun: Noun) -> FieldResult<String> {
    let text = fields::text(raw)?;
    match is_name(&text) && !text.starts_with(noun.prefix()) {
        true => Ok(text),
        false => Err(format!(
            "must be 1 to {NAME_CHARS_MAX} of a-z, A-Z, 0-9, '_', '.', '-', and not begin with {}",
            noun.prefix()
        )),
    }
}

/// The id of an imported object, which begins as the ids of its noun do.
pub fn read_alias(raw: &RawValue, noun: Noun) -> FieldResult<String> {
    let text = fields::text(raw)?;
    match is_name(&text) && text.starts_with(noun.prefix()) {
        true => Ok(text),
        false => Err(format!(
            "must be 1 to {NAME_CHARS_MAX} of a-z, A-Z, 0-9, '_', '.', '-', and begin with {}",
            noun.prefix()
        )),
    }
}

/// The answer with an app. One that was there already is 200.
fn received(status: StatusCode, applied: Applied) -> Result<HttpResponse, ApiError> {
    match applied.receipt {
        Receipt::EnsuredApp { app, is_new } => {
            let status = if is_new { status } else { StatusCode::OK };
            Ok(HttpResponse::json(status, &SvixApplication::new(&app)))
        }
        Receipt::App(app) => Ok(HttpResponse::json(status, &SvixApplication::new(&app))),
        _ => Err(super::unexpected()),
    }
}

fn read(request: &RequestContext<'_>, (old, is_patch): (Option<&App>, bool)) -> Result<AppInput, ApiError> {
    let mut field_errors = FieldErrors::new();
    let input = AppInput::read(&mut request.object()?, (old, is_patch), &mut field_errors);
    fields::into_result(field_errors)?;
    Ok(input)
}

/// `GET /api/v1/app`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let query = SvixQuery::read(request)?;
    let (limit, is_ascending, travel) = (query.limit()?, query.is_ascending(true)?, query.travel(Noun::App)?);
    let tenant = request.tenant();
    let organization = context.registry.organization(tenant.org).ok_or_else(absent)?;
    let is_listed =
        |app: &App| app.id != organization.default_app_id && Some(app.id) != organization.operational_app_id;
    let own = context.registry.apps().filter(|app| tenant.covers(app.org_id, app.id) && is_listed(app));
    let page = match is_ascending {
        true => item_page(own, travel.as_ref(), limit, |app, place| app.id.as_u128().cmp(place)),
        false => item_page(own.rev(), travel.as_ref(), limit, |app, place| place.cmp(&app.id.as_u128())),
    };
    list::shown(&page, |app| Noun::App.write(app.id), |app| Ok(SvixApplication::new(app)))
}

/// `POST /api/v1/app`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let gets = SvixQuery::read(request)?.flag(&GET_IF_EXISTS)?.unwrap_or(false);
    let input = read(request, (None, false))?;
    if let Some(app) = input.uid().filter(|_| gets).and_then(|uid| ids::find_app(context, request, uid)) {
        return ok(&SvixApplication::new(&app));
    }
    let command = if gets { input.ensure() } else { input.create() };
    Ok(Step::apply(request.write(command)?, |applied| received(StatusCode::CREATED, applied)))
}

/// `GET /api/v1/app/{app_id}`.
pub fn get(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    ok(&SvixApplication::new(&*ids::app(context, request)?))
}

/// `PUT /api/v1/app/{app_id}`: makes an unknown one, with the `uid` of the body.
pub fn replace(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let found = in_path(context, request)?;
    let mut input = read(request, (found.as_deref(), false))?;
    match found {
        None => Ok(Step::apply(request.write(input.create())?, |applied| received(StatusCode::CREATED, applied))),
        Some(app) => {
            input.uid.get_or_insert(None);
            input.metadata.get_or_insert_default();
            input.rate.get_or_insert(None);
            change(request, &app, input)
        }
    }
}

/// `PATCH /api/v1/app/{app_id}`.
pub fn patch(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = ids::app(context, request)?;
    change(request, &app, read(request, (Some(&app), true))?)
}

fn in_path(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Option<Arc<App>>, ApiError> {
    match ids::app(context, request) {
        Ok(app) => Ok(Some(app)),
        Err(api_error) if api_error == absent() => Ok(None),
        Err(api_error) => Err(api_error),
    }
}

fn change(request: &RequestContext<'_>, app: &App, input: AppInput) -> Result<Step, ApiError> {
    let change = AppChange {
        name: input.name,
        uid: input.uid,
        metadata: input.metadata,
        throttle_rate_per_s: input.rate,
        alias: input.alias,
    };
    let command = StateCommand::UpdateApp { id: app.id, change };
    Ok(Step::apply(request.write(command)?, |applied| received(StatusCode::OK, applied)))
}

/// `DELETE /api/v1/app/{app_id}`.
pub fn remove(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id = ids::app(context, request)?.id;
    Ok(Step::apply(request.write(StateCommand::RemoveApp { id })?, |_| Ok(HttpResponse::empty(StatusCode::NO_CONTENT))))
}
