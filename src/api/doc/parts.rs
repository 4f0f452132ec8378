//! Builds the small parts of schemas.

use serde_json::{Map, Value, json};

use crate::api::limits::UID_CHARS_MAX;
use crate::rules::patterns::TYPE_BYTES_MAX;
use crate::rules::signing::{PLAIN_SECRET_CHARS_MAX, PLAIN_SECRET_CHARS_MIN};

pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// An object of a request with exactly these members. Those of `required` must be present, and the others may be null.
pub fn form<const N: usize>(required: &[&str], members: [(&str, Value); N]) -> Value {
    let members = members.map(|(name, schema)| match required.contains(&name) {
        true => (name, schema),
        false => (name, nullable(schema)),
    });
    json!({ "type": "object", "required": required, "properties": map(&members), "additionalProperties": false })
}

fn map(members: &[(&str, Value)]) -> Map<String, Value> {
    members.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect()
}

/// The schema, or null.
pub fn nullable(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

pub fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

pub fn id() -> Value {
    json!({ "type": "string", "format": "uuid" })
}

pub fn text() -> Value {
    json!({ "type": "string" })
}

/// A string of `min` to `max` characters without control characters (Unicode's Cc).
pub fn line(min: usize, max: usize) -> Value {
    json!({ "type": "string", "minLength": min, "maxLength": max, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$" })
}

pub fn boolean() -> Value {
    json!({ "type": "boolean" })
}

pub fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

pub fn whole(min: u64, max: u64) -> Value {
    json!({ "type": "integer", "minimum": min, "maximum": max })
}

pub fn number(min: f64, max: f64) -> Value {
    json!({ "type": "number", "minimum": min, "maximum": max })
}

pub fn choice(names: &[&str]) -> Value {
    json!({ "type": "string", "enum": names })
}

/// The name of an app: its `uid` or its id, which has the form of a `uid` too.
pub fn app_name() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": UID_CHARS_MAX, "pattern": "^[a-zA-Z0-9_.-]+$" })
}

pub fn event_type() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": TYPE_BYTES_MAX, "pattern": "^[a-zA-Z0-9_.-]+$" })
}

/// A list with an upper bound.
pub fn items(schema: Value, max: usize) -> Value {
    json!({ "type": "array", "items": schema, "maxItems": max })
}

/// `schema` with a description.
pub fn about(mut schema: Value, description: &str) -> Value {
    schema["description"] = description.into();
    schema
}

/// A signing secret of the Standard Webhooks.
pub fn secret() -> Value {
    let pattern = format!("^{}$", encoded_secret());
    json!({ "type": "string", "pattern": pattern, "description": "`whsec_` and base64 of 24 to 75 bytes." })
}

/// A signing secret of either form.
pub fn any_secret() -> Value {
    let (min, max) = (PLAIN_SECRET_CHARS_MIN, PLAIN_SECRET_CHARS_MAX);
    let pattern = format!("^({}|(?!whsec_)[A-Za-z0-9_-]{{{min},{max}}})$", encoded_secret());
    let description = format!(
        "`whsec_` and base64 of 24 to 75 bytes; or {min} to {max} letters, digits, `_` and `-`, which are the key as they \
         stand."
    );
    json!({ "type": "string", "pattern": pattern, "description": description })
}

/// Base64 of 24 to 75 bytes as a pattern: 8 to 25 groups, the last of which may be shorter.
fn encoded_secret() -> String {
    let group = "[A-Za-z0-9+/]{4}";
    let (one, two) = ("[A-Za-z0-9+/][AQgw](==)?", "[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=?");
    format!("whsec_({group}){{8,24}}({group}|{one}|{two})?")
}
