//! Everlytic, transactional e-mail v1, in the description.

use serde_json::{Map, Value, json};

use crate::api::params::{Param, ParamValues};
use crate::api::route::Route;

use crate::api::dialects::doc::{DialectDoc, missing_object};
use crate::api::doc::parts::{about, choice, count, id, nullable, record, reference, text, time};

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Everlytic",
    description: "Everlytic's transactional e-mail API v1: webhooks without events. Answered unless `dialects.everlytic` is off; what is below `/transactional/email/v1` fails in its words.",
    credentials: &[&["basic"]],
    headers: &[],
    schemas,
    failures,
    empty: &[],
    answers_carry: &[],
    errors_carry: &[],
    examples: include_str!("examples.json"),
};

pub const ID: Param =
    Param::new("id", ParamValues::Id, "The webhook's id; without such a webhook 400, with `code` 412.");
pub const PAGE: Param = Param::whole("page", 1, u32::MAX, "The page, from 1.").or(1);

/// A webhook that is not there is a 400 here; 404 is left for paths. Reprocessing stores jobs, though it is a GET.
fn failures(route: &Route) -> Vec<u16> {
    match route.path.ends_with("/reprocess") {
        true => vec![507],
        false => missing_object(route),
    }
}

fn schemas() -> Map<String, Value> {
    let links = record([("first", text()), ("last", text()), ("prev", nullable(text())), ("next", nullable(text()))]);
    let pages = "Pages, not webhooks.";
    let meta = record([
        ("total", about(count(), pages)),
        ("per_page", count()),
        ("current_page", count()),
        ("last_page", count()),
        ("from", about(nullable(count()), "The page before.")),
        ("to", about(nullable(count()), "The page after.")),
    ]);
    let list = record([
        ("type", json!({ "const": "webhook" })),
        ("meta", meta),
        ("links", links),
        ("data", json!({ "type": "array", "items": reference("EverlyticWebhook") })),
    ]);
    [
        ("EverlyticWebhook", webhook()),
        ("EverlyticOneWebhook", record([("webhook", reference("EverlyticWebhook"))])),
        ("EverlyticWebhooks", list),
        ("EverlyticDone", record([("status", json!({ "const": true }))])),
        ("EverlyticError", error()),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

fn webhook() -> Value {
    let details = record([("username", text()), ("password", about(text(), "Masked."))]);
    record([
        ("id", id()),
        ("url", text()),
        ("verb", choice(&["get", "put", "post", "patch", "delete"])),
        ("auth_details", nullable(details)),
        ("auth_type", json!({ "const": "basic" })),
        ("status", choice(&["enabled", "disabled"])),
        ("settings", about(text(), "JSON in a string.")),
        ("content_type", choice(&["application/json", "application/x-www-form-urlencoded"])),
        ("field_set", choice(&["standard", "legacy"])),
        ("updated_timestamp", time()),
        ("created_timestamp", time()),
        ("event_types", json!({ "type": "array", "items": text() })),
    ])
}

fn error() -> Value {
    let failure = record([
        ("domain", choice(&["global", "usageLimit"])),
        ("reason", choice(&["required", "ForbiddenAccess", "RequestLimit", "invalidParameter", "invalid"])),
        ("message", text()),
        ("locationType", json!({ "const": "request" })),
        ("location", choice(&["authorization", "default"])),
    ]);
    let errors = json!({ "type": "array", "items": failure, "minItems": 1, "maxItems": 1 });
    record([("code", json!({ "type": "integer" })), ("message", text()), ("error", record([("errors", errors)]))])
}
