//! The registry of event types: the types that an organization describes, beside those that its events merely have.

use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::doc::{answer, doc, done, ok};
use crate::api::error::ApiError;
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::limits::{DESCRIPTION_CHARS_MAX, NAME_CHARS_MAX};
use crate::api::media::BodyRule;
use crate::api::params::{Param, ParamValues};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::Route;
use crate::api::route::RouteAccess::Scope as Needs;
use crate::api::step::Step;
use crate::model::event_type::{EventTypeChange, EventTypeDefinition};
use crate::model::{EventType, Scope, Time};
use crate::rules::patterns::{self, TYPE_BYTES_MAX};
use crate::store::{Applied, Receipt, StateCommand};

use super::keys::{FEATURE_FLAGS_MAX, read_flag};
use super::routes::{delete, get, patch, post, put};
use super::webhook_form;

pub const CREATE_EVENT_TYPE: Route = post(
    "/v1/event-types",
    Needs(Scope::WebhooksWrite, create),
    BodyRule::Json,
    doc(
        "createEventType",
        "event-types",
        "Register an event type; an archived one of the name is replaced",
        &[answer::<RegisteredTypeView>(201, "The event type.")],
    )
    .takes("NewEventType"),
);

pub const READ_EVENT_TYPE: Route = get(
    "/v1/event-types/{type}",
    Needs(Scope::WebhooksRead, read),
    doc(
        "getEventType",
        "event-types",
        "Read a registered event type, archived ones too",
        &[ok::<RegisteredTypeView>("With its schemas.")],
    ),
)
.with_segments(&[TYPE]);

pub const PUT_EVENT_TYPE: Route = put(
    "/v1/event-types/{type}",
    Needs(Scope::WebhooksWrite, replace),
    doc(
        "putEventType",
        "event-types",
        "Replace or register an event type",
        &[ok::<RegisteredTypeView>("As it is now."), answer::<RegisteredTypeView>(201, "It is new.")],
    )
    .takes("EventTypeMembers"),
)
.with_segments(&[TYPE]);

pub const PATCH_EVENT_TYPE: Route = patch(
    "/v1/event-types/{type}",
    Needs(Scope::WebhooksWrite, update),
    doc(
        "updateEventType",
        "event-types",
        "Change a registered event type by a merge patch; `schemas` is replaced as a whole",
        &[ok::<RegisteredTypeView>("As it is now.")],
    )
    .takes("EventTypeMembers"),
)
.with_segments(&[TYPE]);

pub const DELETE_EVENT_TYPE: Route = delete(
    "/v1/event-types/{type}",
    Needs(Scope::WebhooksWrite, remove),
    doc("deleteEventType", "event-types", "Archive a registered event type, or remove it", &[done("Done.")]),
)
.with_segments(&[TYPE])
.with_query(&[EXPUNGE]);

/// Maximum size of an event type's schemas.
pub const SCHEMAS_BYTES_MAX: usize = 64 * 1024;

const TYPE: Param = Param::new("type", ParamValues::EventType, "The event type.");
const EXPUNGE: Param =
    Param::new("expunge", ParamValues::Boolean, "`true`: remove it for good, and do not only archive it.");

/// An event type of the registry.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RegisteredEventType")]
pub struct RegisteredTypeView<'a> {
    r#type: &'a str,
    #[serde(flatten)]
    definition: DefinitionView<'a>,
    /// JSON Schemas of `data` by version. They are kept and not enforced.
    #[schemars(schema_with = "object_or_null")]
    schemas: Option<Box<RawValue>>,
}

/// The registry's entry of an event type, without its schemas.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EventTypeDefinition")]
pub struct DefinitionView<'a> {
    description: &'a str,
    /// An archived type is kept for reading.
    archived: bool,
    deprecated: bool,
    group_name: Option<&'a str>,
    /// A key of one app is shown the type only if it has one of these flags. Empty for every key.
    feature_flags: &'a [String],
    created_at: Time,
    updated_at: Time,
}

fn object_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["object", "null"] })
}

impl<'a> DefinitionView<'a> {
    pub fn new(event_type: &'a EventType) -> Self {
        let definition = &event_type.definition;
        DefinitionView {
            description: &definition.description,
            archived: definition.archived,
            deprecated: definition.deprecated,
            group_name: definition.group_name.as_deref(),
            feature_flags: &definition.feature_flags,
            created_at: event_type.created_at,
            updated_at: event_type.updated_at,
        }
    }
}

impl<'a> RegisteredTypeView<'a> {
    fn new(event_type: &'a EventType) -> Self {
        let schemas = event_type.definition.schemas.clone();
        RegisteredTypeView {
            r#type: &event_type.definition.name,
            definition: DefinitionView::new(event_type),
            schemas: schemas.and_then(|text| RawValue::from_string(text).ok()),
        }
    }
}

/// Whether the caller is shown the type: with a key of one app by its feature flags.
pub fn is_shown(request: &RequestContext<'_>, event_type: &EventType) -> bool {
    request.tenant().app.is_none() || event_type.is_shown_to(&request.principal.key.feature_flags)
}

fn name_in_path(request: &RequestContext<'_>) -> Result<String, ApiError> {
    let name = request.path.get("type");
    if patterns::is_type(name) { Ok(name.to_owned()) } else { Err(ApiError::not_found("event type")) }
}

/// 403 for a key of one app, because event types are the organization's.
fn check_caller(request: &RequestContext<'_>) -> Result<(), ApiError> {
    let detail = "this key is confined to one app, and event types are the organization's";
    request.tenant().app.map_or(Ok(()), |_| Err(ApiError::forbidden("confined_to_app", detail)))
}

fn read_schemas(raw: &RawValue) -> FieldResult<String> {
    let text = raw.get();
    let wrong = || format!("must be an object of schemas by version, at most {SCHEMAS_BYTES_MAX} bytes");
    let schemas = JsonObject::read(text, String::new()).map_err(|_| wrong())?;
    let are_objects = schemas.rest().iter().all(|(_, schema)| schema.get().starts_with('{'));
    if are_objects && text.len() <= SCHEMAS_BYTES_MAX { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// The members that a body gives. A member that is null or absent is `None`, and its name is in `given` if it is there.
struct TypeMembers {
    given: Vec<&'static str>,
    description: Option<String>,
    archived: Option<bool>,
    deprecated: Option<bool>,
    schemas: Option<String>,
    feature_flags: Option<Vec<String>>,
    group_name: Option<String>,
}

impl TypeMembers {
    fn read(object: &mut JsonObject<'_>, field_errors: &mut FieldErrors) -> TypeMembers {
        let names = ["description", "archived", "deprecated", "schemas", "feature_flags", "group_name"];
        let given = names.into_iter().filter(|name| object.has(name)).collect();
        let members = TypeMembers {
            given,
            description: object.optional("description", field_errors, webhook_form::read_description),
            archived: object.optional("archived", field_errors, fields::boolean),
            deprecated: object.optional("deprecated", field_errors, fields::boolean),
            schemas: object.optional("schemas", field_errors, read_schemas),
            feature_flags: object.strings("feature_flags", field_errors, FEATURE_FLAGS_MAX, read_flag),
            group_name: object.optional("group_name", field_errors, |raw| fields::line(raw, 1..=NAME_CHARS_MAX)),
        };
        // A null member was not read, so it is removed here.
        for name in names {
            object.take_any(name);
        }
        members
    }

    fn into_definition(self, name: String) -> EventTypeDefinition {
        EventTypeDefinition {
            name,
            description: self.description.unwrap_or_default(),
            archived: self.archived.unwrap_or_default(),
            deprecated: self.deprecated.unwrap_or_default(),
            schemas: self.schemas,
            feature_flags: self.feature_flags.unwrap_or_default(),
            group_name: self.group_name,
        }
    }

    /// The members as a patch, in which null brings the default back.
    fn into_change(self) -> EventTypeChange {
        let has = |name| self.given.contains(&name);
        EventTypeChange {
            description: has("description").then(|| self.description.unwrap_or_default()),
            archived: has("archived").then(|| self.archived.unwrap_or_default()),
            deprecated: has("deprecated").then(|| self.deprecated.unwrap_or_default()),
            schemas: has("schemas").then_some(self.schemas),
            feature_flags: has("feature_flags").then(|| self.feature_flags.unwrap_or_default()),
            group_name: has("group_name").then_some(self.group_name),
        }
    }
}

fn shown(applied: Applied, new: StatusCode) -> Result<HttpResponse, ApiError> {
    match applied.receipt {
        Receipt::EventType { event_type, is_new } => {
            let status = if is_new { new } else { StatusCode::OK };
            Ok(HttpResponse::json(status, &RegisteredTypeView::new(&event_type)))
        }
        _ => Err(super::unexpected()),
    }
}

/// `POST /v1/event-types`. An archived type of the name is replaced and live again.
pub fn create(_context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    check_caller(request)?;
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let name = object.required("type", &mut field_errors, |raw| {
        let text = fields::text(raw)?;
        match patterns::is_type(&text) && !patterns::is_system(&text) {
            true => Ok(text),
            false => Err(format!("must be 1 to {TYPE_BYTES_MAX} of a-z, A-Z, 0-9, '_', '.', '-', and not postrider.*")),
        }
    });
    let members = TypeMembers::read(&mut object, &mut field_errors);
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    let definition = members.into_definition(name.unwrap_or_default());
    Ok(Step::apply(request.write(StateCommand::CreateEventType { definition })?, |applied| {
        let mut response = shown(applied, StatusCode::CREATED)?;
        response.status = StatusCode::CREATED;
        Ok(response)
    }))
}

/// `GET /v1/event-types/{type}`.
pub fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let name = name_in_path(request)?;
    let known = context.registry.event_type(request.tenant().org, &name);
    let event_type = known.filter(|known| is_shown(request, known)).ok_or_else(|| ApiError::not_found("event type"))?;
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &RegisteredTypeView::new(event_type))))
}

/// `PUT /v1/event-types/{type}`: an absent member gets its default.
pub fn replace(_context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    check_caller(request)?;
    let name = name_in_path(request)?;
    if patterns::is_system(&name) {
        return Err(ApiError::not_found("event type"));
    }
    let definition = members_of(request)?.into_definition(name);
    let write_request = request.write(StateCommand::PutEventType { definition })?;
    Ok(Step::apply(write_request, |applied| shown(applied, StatusCode::CREATED)))
}

/// `PATCH /v1/event-types/{type}`: null brings a default back, and `schemas` is replaced as a whole.
pub fn update(_context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    check_caller(request)?;
    let name = name_in_path(request)?;
    let change = members_of(request)?.into_change();
    let write_request = request.write(StateCommand::UpdateEventType { name, change })?;
    Ok(Step::apply(write_request, |applied| shown(applied, StatusCode::OK)))
}

fn members_of(request: &RequestContext<'_>) -> Result<TypeMembers, ApiError> {
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let members = TypeMembers::read(&mut object, &mut field_errors);
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    Ok(members)
}

/// `DELETE /v1/event-types/{type}`: archives it, or removes it with `expunge=true`.
pub fn remove(_context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    check_caller(request)?;
    let name = name_in_path(request)?;
    let expunge = request.query.boolean(&EXPUNGE)?.unwrap_or_default();
    Ok(Step::apply(request.write(StateCommand::RemoveEventType { name, expunge })?, |_| {
        Ok(HttpResponse::empty(StatusCode::NO_CONTENT))
    }))
}

/// The members of a new event type besides its name, as JSON schemas.
pub fn member_schemas() -> [(&'static str, serde_json::Value); 6] {
    use crate::api::doc::parts::{about, boolean, event_type, items, line};
    let by_version = serde_json::json!({ "type": "object", "additionalProperties": { "type": "object" } });
    let description = serde_json::json!({ "type": "string", "maxLength": DESCRIPTION_CHARS_MAX });
    [
        ("description", description),
        ("archived", boolean()),
        ("deprecated", boolean()),
        (
            "schemas",
            about(by_version, "JSON Schemas of `data` by version, at most 64 KiB. They are kept and not enforced."),
        ),
        (
            "feature_flags",
            about(items(event_type(), FEATURE_FLAGS_MAX), "A key of one app is shown the type only with one of these."),
        ),
        ("group_name", line(1, NAME_CHARS_MAX)),
    ]
}
