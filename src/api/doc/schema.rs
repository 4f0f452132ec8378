//! The schemas of response bodies, derived from the types that serialise them.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::model::{AttemptOutcome, DeliveryStatus, Id, Scope, Time};

/// The schema of a response body, by its type.
#[derive(Clone, Copy)]
pub struct AnswerSchema {
    /// The name of its component.
    pub name: fn() -> Cow<'static, str>,
    /// Its reference, or the schema itself if the type has no component.
    pub describe: fn(&mut SchemaGenerator) -> Schema,
}

impl AnswerSchema {
    pub const fn of<T: JsonSchema>() -> AnswerSchema {
        AnswerSchema { name: T::schema_name, describe: SchemaGenerator::subschema_for::<T> }
    }
}

/// A generator of components of an OpenAPI 3.1 document. Its schemas describe serialised values.
pub fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let settings = settings.with_transform(RecursiveTransform(without_rust_ranges));
    settings.with_transform(RecursiveTransform(plain)).into_generator()
}

/// The schema of a flattened member that has a component of its own: the members of `T`, and more.
pub fn extends<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "allOf": [generator.subschema_for::<T>()] })
}

/// Writes a schema in the form that generators of clients understand best.
fn plain(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    if schema.get("const").is_some() {
        schema.remove("type");
    }
    let members = schema.as_object_mut();
    let Some(members) = members.filter(|members| members.contains_key("allOf") && members.contains_key("type")) else {
        return;
    };
    let own = ["type", "required", "properties"].into_iter();
    let own = own.filter_map(|name| Some((name.to_owned(), members.shift_remove(name)?))).collect();
    if let Some(Value::Array(parts)) = members.get_mut("allOf") {
        parts.push(Value::Object(own));
    }
}

/// Removes the width of Rust's numbers, which is no promise of the API.
fn without_rust_ranges(schema: &mut Schema) {
    let is_number = |kind: &Value| matches!(kind.as_str(), Some("integer" | "number"));
    let kinds = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.as_slice(),
        Some(kind) => std::slice::from_ref(kind),
        None => &[],
    };
    if kinds.iter().any(is_number) {
        schema.remove("format");
        if schema.get("maximum").is_some_and(|maximum| *maximum == u16::MAX) {
            schema.remove("maximum");
        }
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl<K> JsonSchema for Id<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uuid" })
    }
}

impl JsonSchema for DeliveryStatus {
    fn schema_name() -> Cow<'static, str> {
        "DeliveryStatus".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": DeliveryStatus::ALL.map(DeliveryStatus::as_str) })
    }
}

impl JsonSchema for AttemptOutcome {
    fn schema_name() -> Cow<'static, str> {
        "Outcome".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": AttemptOutcome::ALL.map(AttemptOutcome::as_str) })
    }
}

impl JsonSchema for Scope {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Scope".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": Scope::ALL.map(Scope::as_str) })
    }
}
