//! The parameters of a route in the document, from the constants that its handler reads.

use serde_json::{Value, json};

use crate::api::doc::parts::{app_name, boolean, event_type, id, reference, text, time, whole};
use crate::api::limits::KEY_CHARS_MAX;
use crate::api::media::BodyRule;
use crate::api::params::{EmptyValues, Param, ParamValues, WholeNumber};
use crate::api::route::Route;

/// A header of every POST, and of the other routes that take it.
const IDEMPOTENCY_KEY: Param = Param::new(
    "Idempotency-Key",
    ParamValues::VisibleAscii { chars_max: KEY_CHARS_MAX },
    "The same key with the same request gives the first answer again and does nothing; with another request, 409.",
);
/// A header of every route that publishes.
const TRACEPARENT: Param =
    Param::new("traceparent", ParamValues::AnyText, "W3C Trace Context: kept with the event and sent on.");

/// All parameters of a route: in its path, its query and its headers. `headers` and `empty` are those of its mount.
pub fn of(route: &Route, headers: &[Param], empty: EmptyValues) -> Vec<Value> {
    let in_path = route.segments.iter().map(|param| described("path", param));
    let in_query = route.query.iter().map(|param| match empty {
        EmptyValues::Refused => described("query", param),
        EmptyValues::Absent => may_be_empty(described("query", param)),
    });
    let in_headers = headers.iter().map(|param| described("header", param));
    let mut all: Vec<Value> = in_path.chain(in_query).chain(in_headers).collect();
    if route.takes_key {
        all.push(described("header", &IDEMPOTENCY_KEY));
    }
    if matches!(route.body, BodyRule::Event(_) | BodyRule::Batch) {
        all.push(described("header", &TRACEPARENT));
    }
    all
}

/// The same parameter, which may also be empty. An empty value means that it is absent.
fn may_be_empty(mut described: Value) -> Value {
    let mut schema = described["schema"].take();
    // A text without a pattern may be empty once it has no minimum length.
    let is_text = schema.as_object_mut().is_some_and(|schema| schema.remove("minLength").is_some());
    described["schema"] =
        if is_text { schema } else { json!({ "anyOf": [schema, { "type": "string", "maxLength": 0 }] }) };
    described
}

/// A parameter in `place`: `path`, `query` or `header`.
fn described(place: &str, param: &Param) -> Value {
    json!({
        "name": param.name,
        "in": place,
        "required": param.required || place == "path",
        "schema": schema(param.values),
        "description": param.description,
    })
}

fn schema(values: ParamValues) -> Value {
    match values {
        ParamValues::Id => id(),
        ParamValues::Time => time(),
        ParamValues::Date => {
            json!({ "type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" })
        }
        ParamValues::Boolean => boolean(),
        ParamValues::EventType => event_type(),
        ParamValues::AppName => app_name(),
        ParamValues::Text { chars_max: None } => json!({ "type": "string", "minLength": 1 }),
        ParamValues::Text { chars_max: Some(max) } => json!({ "type": "string", "minLength": 1, "maxLength": max }),
        ParamValues::AnyText => text(),
        ParamValues::VisibleAscii { chars_max } => {
            json!({ "type": "string", "minLength": 1, "maxLength": chars_max, "pattern": "^[!-~]+$" })
        }
        ParamValues::Whole(WholeNumber { min, max, default, .. }) => {
            let mut schema = whole(min.into(), max.into());
            if let Some(default) = default {
                schema["default"] = default.into();
            }
            schema
        }
        ParamValues::OneOf(name) => reference(name),
        ParamValues::Cursor(kind) => json!({ "type": "string", "pattern": kind.pattern() }),
        ParamValues::Pattern(pattern) => json!({ "type": "string", "pattern": pattern() }),
    }
}
