//! Dfns in the description. Absent values are omitted, so few members are required.

use serde_json::{Map, Value, json};

use crate::api::cursor::CursorKind;
use crate::api::route::Route;

use crate::api::dialects::doc::{DialectDoc, defaulted, in_path, missing_object_or_invalid, query};
use crate::api::doc::parts::{about, boolean, choice, record, reference, text, time};

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Dfns",
    description: "Dfns' webhooks: a webhook event is one attempt. Answered unless `dialects.dfns` is off; what is below `/webhooks` fails in its words.",
    credentials: &["key"],
    parameter,
    headers: Vec::new,
    schemas,
    failures: missing_object_or_invalid,
    empty: &[],
    answers_carry: &[],
    errors_carry: &[],
    examples: include_str!("examples.json"),
};

/// 26 digits of Crockford's base32 cut 5-5-16, the first with room for three bits only.
fn spelled(prefix: &str) -> Value {
    let digit = "[0-9a-hjkmnp-tv-z]";
    let pattern = format!("^{prefix}-[0-7]{digit}{{4}}-{digit}{{5}}-{digit}{{16}}$");
    json!({ "type": "string", "pattern": pattern })
}

fn parameter(name: &str, route: &Route) -> Value {
    let kind = if route.path.ends_with("/events") { CursorKind::Attempts } else { CursorKind::Webhooks };
    let line = || json!({ "type": "string", "minLength": 1 });
    match name {
        "id" => in_path("id", spelled("wh"), "The webhook's id."),
        "event" => in_path("event", spelled("whe"), "The id of the attempt."),
        "limit" => query("limit", defaulted(1, 200, 50), "Rows of a page."),
        "paginationToken" => {
            let schema = json!({ "type": "string", "pattern": kind.pattern() });
            query("paginationToken", schema, "`nextPageToken` of the page before.")
        }
        "deliveryFailed" => query("deliveryFailed", boolean(), "Only attempts that failed, or that did not."),
        "kind" => query("kind", line(), "Only of this event type."),
        other => panic!("the parameter {other} is described nowhere"),
    }
}

fn page(row: &str) -> Value {
    let mut list = record([("items", json!({ "type": "array", "items": reference(row) }))]);
    list["properties"]["nextPageToken"] = text();
    list
}

fn schemas() -> Map<String, Value> {
    let mut pong = record([("status", about(text(), "The status code, or how it ended without one."))]);
    pong["properties"]["error"] = text();
    [
        ("DfnsWebhook", webhook()),
        ("DfnsWebhooks", page("DfnsWebhook")),
        ("DfnsWebhookEvent", webhook_event()),
        ("DfnsWebhookEvents", page("DfnsWebhookEvent")),
        ("DfnsPong", pong),
        ("DfnsError", record([("error", record([("message", text())]))])),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

fn webhook() -> Value {
    let mut schema = record([
        ("id", spelled("wh")),
        ("url", text()),
        ("events", json!({ "type": "array", "items": text(), "minItems": 1 })),
        ("status", choice(&["Enabled", "Disabled"])),
        ("dateCreated", time()),
        ("dateUpdated", time()),
    ]);
    schema["properties"]["description"] = text();
    schema
}

fn webhook_event() -> Value {
    let mut schema = record([
        ("id", spelled("whe")),
        ("kind", text()),
        ("date", time()),
        ("deliveryFailed", boolean()),
        ("deliveryAttempt", json!({ "type": "integer", "minimum": 1 })),
        ("timestampSent", json!({ "type": "integer", "description": "Unix seconds." })),
        ("status", about(text(), "The status code, or how it ended without one.")),
        ("data", json!({ "description": "Byte for byte; null once erased." })),
    ]);
    schema["properties"]["error"] = text();
    schema["properties"]["retryOf"] = spelled("whe");
    schema["properties"]["nextAttemptDate"] = about(time(), "Left out where no retry follows.");
    schema
}
