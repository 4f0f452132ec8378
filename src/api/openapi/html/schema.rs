//! A JSON Schema as HTML: its type in words, its limits, and its members.

use serde_json::Value;

use super::text::{code, escape};
use super::{items, members, string};

/// Where the schemas of the document are.
const COMPONENT: &str = "#/components/schemas/";

/// A schema with its description, its members and the members of its parts.
pub fn write(out: &mut String, schema: &Value) {
    let about = code(string(&schema["description"]));
    if !about.is_empty() {
        out.push_str(&format!("<p>{about}</p>\n"));
    }
    if schema["properties"].is_null() || schema["properties"].as_object().is_some_and(|all| all.is_empty()) {
        out.push_str(&format!("<p>{}</p>\n", with_limits(schema)));
    }
    nested(out, schema);
}

/// The members of an object, of the items of a list, or of the parts of a union that have no name of their own.
fn nested(out: &mut String, schema: &Value) {
    properties(out, schema);
    for part in [&schema["items"], &schema["additionalProperties"]] {
        nested_if_any(out, part);
    }
    for union in ["anyOf", "oneOf", "allOf"] {
        items(&schema[union]).for_each(|part| nested_if_any(out, part));
    }
}

fn nested_if_any(out: &mut String, schema: &Value) {
    if schema.is_object() {
        nested(out, schema);
    }
}

fn properties(out: &mut String, schema: &Value) {
    let mut all = members(&schema["properties"]).peekable();
    if all.peek().is_none() {
        return;
    }
    out.push_str("<dl>\n");
    for (name, member) in all {
        let required = if items(&schema["required"]).any(|one| one == name) { " <em>required</em>" } else { "" };
        out.push_str(&format!("<dt><code>{}</code>{required}</dt>\n<dd>{}", escape(name), described(member)));
        let mut inner = String::new();
        nested(&mut inner, member);
        out.push_str(&inner);
        out.push_str("</dd>\n");
    }
    out.push_str("</dl>\n");
}

/// The type, the limits and the description in one line.
pub fn described(schema: &Value) -> String {
    described_as(schema, string(&described_part(schema)["description"]))
}

/// The type and the limits, and this description.
pub fn described_as(schema: &Value, about: &str) -> String {
    let about = code(about);
    let separator = if about.is_empty() { "" } else { ". " };
    format!("{}{separator}{about}\n", with_limits(schema))
}

/// The part that has the description: the one that is not null, if the schema itself has none.
fn described_part(schema: &Value) -> &Value {
    let mut parts = items(&schema["anyOf"]).filter(|part| part["type"] != "null");
    match (schema["description"].is_null(), parts.next(), parts.next()) {
        (true, Some(only), None) => described_part(only),
        _ => schema,
    }
}

fn with_limits(schema: &Value) -> String {
    let mut words = vec![kind(schema)];
    limits(schema, &mut words);
    words.join(", ")
}

/// The type of a schema, with links to the schemas that it names.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|at| at.strip_prefix(COMPONENT)) {
        return format!("<a href=\"#schema-{0}\">{0}</a>", escape(name));
    }
    if let Some(value) = schema.get("const") {
        return literal(value);
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(literal).collect::<Vec<_>>().join(", ");
    }
    for (union, word) in [("anyOf", " or "), ("oneOf", " or "), ("allOf", " and ")] {
        if let Some(parts) = schema[union].as_array() {
            // Two inline objects of a union are one word.
            let mut kinds: Vec<String> = parts.iter().map(kind).collect();
            kinds.dedup();
            return kinds.join(word);
        }
    }
    match &schema["type"] {
        Value::String(name) => named(name, schema),
        Value::Array(names) => names.iter().map(|name| named(string(name), schema)).collect::<Vec<_>>().join(" or "),
        _ if schema["properties"].is_object() => "object".to_owned(),
        _ => "any JSON".to_owned(),
    }
}

fn named(name: &str, schema: &Value) -> String {
    match (name, &schema["format"]) {
        ("array", _) if schema["items"].is_object() => format!("list of {}", kind(&schema["items"])),
        ("array", _) => "list".to_owned(),
        ("object", _) if schema["additionalProperties"].is_object() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        ("string", Value::String(format)) => escape(format).into_owned(),
        _ => escape(name).into_owned(),
    }
}

/// Adds the limits of a value, those of the parts of a union included.
fn limits(schema: &Value, words: &mut Vec<String>) {
    range(schema, ["minimum", "maximum"], "", words);
    range(schema, ["minLength", "maxLength"], " characters", words);
    range(schema, ["minItems", "maxItems"], " items", words);
    range(schema, ["minProperties", "maxProperties"], " members", words);
    if schema["uniqueItems"] == true {
        words.push("no item twice".to_owned());
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        words.push(format!("<code class=\"pattern\">{}</code>", escape(pattern)));
    }
    if let Some(value) = schema.get("default") {
        words.push(format!("default {}", literal(value)));
    }
    for part in items(&schema["anyOf"]).chain(items(&schema["oneOf"])) {
        limits(part, words);
    }
    if schema["items"].is_object() {
        let mut of_item = Vec::new();
        limits(&schema["items"], &mut of_item);
        words.extend(of_item.iter().map(|one| format!("each {one}")));
    }
}

fn range(schema: &Value, [min, max]: [&str; 2], unit: &str, words: &mut Vec<String>) {
    let (min, max) = (&schema[min], &schema[max]);
    let range = match (min.is_number(), max.is_number()) {
        (true, true) if min == max => format!("exactly {min}"),
        (true, true) => format!("{min} to {max}"),
        (true, false) => format!("at least {min}"),
        (false, true) => format!("at most {max}"),
        (false, false) => return,
    };
    words.push(range + unit);
}

fn literal(value: &Value) -> String {
    format!("<code>{}</code>", escape(&value.to_string()))
}
