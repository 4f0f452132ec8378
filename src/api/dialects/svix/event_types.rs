//! Event types of the organization.

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
use crate::model::event_type::{EventTypeChange, EventTypeDefinition};
use crate::model::{EventType, Time};
use crate::rules::patterns::is_system;
use crate::store::{Applied, Receipt, StateCommand};

use super::apps::nullable;
use super::errors::absent;
use super::ids::{self, is_name};
use super::iterator::item_page;
use super::list;
use super::operational;
use super::query::{EXPUNGE, INCLUDE_ARCHIVED, SvixQuery, WITH_CONTENT, named_iterator};
use crate::api::dialects::derived::ok;

/// Maximum size of all schemas together, in bytes.
const SCHEMAS_BYTES_MAX: usize = 64 * 1024;
const DESCRIPTION_CHARS_MAX: usize = 4_096;
const FLAGS_MAX: usize = 100;

/// An event type.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SvixEventType<'a> {
    name: &'a str,
    description: &'a str,
    archived: bool,
    deprecated: bool,
    /// JSON Schemas by version. Null also in a list without content.
    schemas: Option<&'a RawValue>,
    /// The first of `featureFlags`.
    feature_flag: Option<&'a str>,
    feature_flags: Option<&'a [String]>,
    group_name: Option<&'a str>,
    created_at: Time,
    updated_at: Time,
}

impl<'a> SvixEventType<'a> {
    fn new(event_type: &'a EventType, with_schemas: bool) -> Result<Self, ApiError> {
        let own = &event_type.definition;
        let schemas = own.schemas.as_deref().filter(|_| with_schemas).map(serde_json::from_str).transpose();
        Ok(SvixEventType {
            name: &own.name,
            description: &own.description,
            archived: own.archived,
            deprecated: own.deprecated,
            schemas: schemas.map_err(|_| super::unexpected())?,
            feature_flag: own.feature_flags.first().map(String::as_str),
            feature_flags: (!own.feature_flags.is_empty()).then_some(own.feature_flags.as_slice()),
            group_name: own.group_name.as_deref(),
            created_at: event_type.created_at,
            updated_at: event_type.updated_at,
        })
    }
}

fn shown(status: StatusCode, applied: Applied) -> Result<HttpResponse, ApiError> {
    match applied.receipt {
        Receipt::EventType { event_type, .. } => {
            Ok(HttpResponse::json(status, &SvixEventType::new(&event_type, true)?))
        }
        _ => Err(super::unexpected()),
    }
}

/// Whether the caller is shown the type. A token of an app's portal has feature flags.
fn is_shown(request: &RequestContext<'_>, event_type: &EventType) -> bool {
    request.tenant().app.is_none() || event_type.is_shown_to(&request.principal.key.feature_flags)
}

/// The members of an event type, besides its name.
struct EventTypeInput(EventTypeChange);

impl EventTypeInput {
    fn read(object: &mut JsonObject<'_>, is_patch: bool, field_errors: &mut FieldErrors) -> EventTypeInput {
        let description = match is_patch && !object.has("description") {
            true => None,
            false => object.required("description", field_errors, read_description),
        };
        let single = nullable(object, "featureFlag", field_errors, read_flag);
        let several = match object.has("featureFlags") {
            false => None,
            true => {
                let list = object.strings("featureFlags", field_errors, FLAGS_MAX, read_flag).unwrap_or_default();
                object.take_any("featureFlags");
                Some(list)
            }
        };
        let single = single.map(|flag| flag.into_iter().collect::<Vec<_>>());
        EventTypeInput(EventTypeChange {
            description,
            archived: object.optional("archived", field_errors, fields::boolean),
            deprecated: object.optional("deprecated", field_errors, fields::boolean),
            schemas: nullable(object, "schemas", field_errors, read_schemas),
            feature_flags: match (several, single) {
                (Some(several), Some(single)) if several.is_empty() => Some(single),
                (Some(several), _) => Some(several),
                (None, single) => single,
            },
            group_name: nullable(object, "groupName", field_errors, |raw| fields::line(raw, 0..=256)),
        })
    }

    /// The definition with every absent member at its default.
    fn define(self, name: String) -> EventTypeDefinition {
        let mut definition = EventTypeDefinition { name, ..EventTypeDefinition::default() };
        self.0.apply(&mut definition);
        definition
    }
}

fn read_description(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    match text.chars().count() <= DESCRIPTION_CHARS_MAX && !text.chars().any(|c| c <= '\u{8}') {
        true => Ok(text),
        false => Err(format!("must have at most {DESCRIPTION_CHARS_MAX} characters, none of them below 9")),
    }
}

fn read_flag(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    if is_name(&text) { Ok(text) } else { Err("must be 1 to 256 of a-z, A-Z, 0-9, '_', '.', '-'".to_owned()) }
}

fn read_name(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    match is_name(&text) {
        true if is_system(&text) => Err(RESERVED.to_owned()),
        true => Ok(text),
        false => Err("must be 1 to 256 of a-z, A-Z, 0-9, '_', '.', '-'".to_owned()),
    }
}

/// The mistake of a name that is reserved for the daemon's own events.
const RESERVED: &str = "must not begin with postrider.";

/// Schemas by version, each a JSON object.
fn read_schemas(raw: &RawValue) -> FieldResult<String> {
    let wrong = || "must be an object of schemas by version, each of them an object".to_owned();
    if raw.get().len() > SCHEMAS_BYTES_MAX {
        return Err(format!("must have at most {SCHEMAS_BYTES_MAX} bytes"));
    }
    let versions = JsonObject::read(raw.get(), String::new()).map_err(|_| wrong())?;
    match versions.rest().iter().all(|(_, schema)| schema.get().starts_with('{')) {
        true => Ok(raw.get().to_owned()),
        false => Err(wrong()),
    }
}

/// `GET /api/v1/event-type`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let query = SvixQuery::read(request)?;
    let (limit, travel) = (query.limit()?, query.named_travel()?);
    query.is_ascending(true)?;
    let shows_archived = query.flag(&INCLUDE_ARCHIVED)?.unwrap_or(false);
    let with_content = query.flag(&WITH_CONTENT)?.unwrap_or(false);
    let all = context.registry.event_types(request.tenant().org, None);
    let shown = all.filter(|one| (shows_archived || !one.definition.archived) && is_shown(request, one));
    let page = item_page(shown, travel.as_ref(), limit, |one, name| one.definition.name.as_str().cmp(name));
    let name = |one: &&Arc<EventType>| one.definition.name.clone();
    let next = |one: &&Arc<EventType>| named_iterator(&one.definition.name);
    list::shown_from(&page, next, name, |one| SvixEventType::new(one, with_content))
}

/// `POST /api/v1/event-type`.
pub fn create(_context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let name = object.required("name", &mut field_errors, read_name);
    let input = EventTypeInput::read(&mut object, false, &mut field_errors);
    fields::into_result(field_errors)?;
    let definition = input.define(name.unwrap_or_default());
    let write_request = request.write(StateCommand::CreateEventType { definition })?;
    Ok(Step::apply(write_request, |applied| shown(StatusCode::CREATED, applied)))
}

/// `GET /api/v1/event-type/{event_type_name}`.
pub fn get(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let name = ids::name_in_path(request, "event_type_name")?;
    let found = context.registry.event_type(request.tenant().org, name).filter(|one| is_shown(request, one));
    ok(&SvixEventType::new(found.ok_or_else(absent)?, true)?)
}

/// `PUT /api/v1/event-type/{event_type_name}`: makes an unknown one.
pub fn replace(_context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let name = ids::name_in_path(request, "event_type_name")?.to_owned();
    let mut field_errors = FieldErrors::new();
    let input = EventTypeInput::read(&mut request.object()?, false, &mut field_errors);
    if is_system(&name) {
        field_errors.push(FieldError::new("/name", RESERVED));
    }
    fields::into_result(field_errors)?;
    let write_request = request.write(StateCommand::PutEventType { definition: input.define(name) })?;
    Ok(Step::apply(write_request, |applied| {
        let is_new = matches!(&applied.receipt, Receipt::EventType { is_new: true, .. });
        shown(if is_new { StatusCode::CREATED } else { StatusCode::OK }, applied)
    }))
}

/// `PATCH /api/v1/event-type/{event_type_name}`.
pub fn patch(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let name = ids::name_in_path(request, "event_type_name")?.to_owned();
    context.registry.event_type(request.tenant().org, &name).ok_or_else(absent)?;
    let mut field_errors = FieldErrors::new();
    let input = EventTypeInput::read(&mut request.object()?, true, &mut field_errors);
    fields::into_result(field_errors)?;
    let write_request = request.write(StateCommand::UpdateEventType { name, change: input.0 })?;
    Ok(Step::apply(write_request, |applied| shown(StatusCode::OK, applied)))
}

/// `DELETE /api/v1/event-type/{event_type_name}`: archives, or with `expunge` removes for good.
pub fn remove(_context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let name = ids::name_in_path(request, "event_type_name")?.to_owned();
    let expunge = SvixQuery::read(request)?.flag(&EXPUNGE)?.unwrap_or(false);
    let write_request = request.write(StateCommand::RemoveEventType { name, expunge })?;
    Ok(Step::apply(write_request, |_| Ok(HttpResponse::empty(StatusCode::NO_CONTENT))))
}

/// Adds a mistake for event types that the organization does not have or the caller is not shown, and for archived ones
/// that are named anew.
pub fn check(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    named: &[String],
    kept: &[String],
    field_errors: &mut FieldErrors,
) {
    let is_live = |name: &str| {
        if ids::is_operational(request) {
            return operational::EVENT_TYPES.contains(&name);
        }
        let found = context.registry.event_type(request.tenant().org, name);
        found.is_some_and(|one| !one.definition.archived && is_shown(request, one))
    };
    let missing: Vec<&str> =
        named.iter().filter(|name| !kept.contains(name) && !is_live(name)).map(String::as_str).collect();
    if !missing.is_empty() {
        let detail = format!("there is no such event type: {}", missing.join(", "));
        field_errors.push(FieldError::new("/eventTypes", detail));
    }
}
