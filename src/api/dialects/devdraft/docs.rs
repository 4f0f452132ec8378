//! Devdraft v0 in the description: a webhook with its figures and its newest deliveries.

use serde_json::{Map, Value, json};

use crate::api::limits::NAME_CHARS_MAX;
use crate::api::params::{Param, ParamValues};
use crate::api::route::{Route, RouteMethod};
use crate::rules::target::URL_BYTES_MAX;

use crate::api::dialects::doc::{DialectDoc, missing_object};
use crate::api::doc::parts::{
    about, any_secret, boolean, choice, count, form, line, nullable, record, reference, text, time,
};

use super::WEBHOOK;

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Devdraft",
    description: "Devdraft's API v0: a webhook with its figures and its newest deliveries. Answered unless `dialects.devdraft` is off; what is below `/api/v0` fails in its words.",
    credentials: &[&["clientSecret"], &["clientKey", "clientSecret"]],
    headers: &[],
    schemas,
    failures,
    empty: &[],
    answers_carry: &[],
    errors_carry: &[],
    examples: include_str!("examples.json"),
};

/// The webhook in the path.
pub const ID: Param = Param::new(
    "id",
    ParamValues::Pattern(|| {
        let uuid = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
        format!("^(wh_[0-9a-fA-F]{{32}}|{uuid})$")
    }),
    "`wh_` and 32 hex digits, or a UUID.",
);
pub const INCLUDE_EVENTS: Param = Param::new("include_events", ParamValues::Boolean, "With `recent_events`.");
pub const EVENTS_LIMIT: Param = Param::whole("events_limit", 1, 50, "How many of them.").or(10).with_zero_fraction();
pub const PAGE: Param = Param::whole("page", 1, u32::MAX, "The page, from 1.").or(1).with_zero_fraction();
pub const LIMIT: Param = Param::whole("limit", 1, 100, "Rows of a page.").or(20).with_zero_fraction();
pub const ACTIVE: Param = Param::new("active", ParamValues::Boolean, "Only webhooks that are on, or off.");
pub const SKIP: Param =
    Param::whole("skip", 0, u32::MAX, "A plain array without the first so many.").with_zero_fraction();
pub const TAKE: Param = Param::whole("take", 1, 100, "A plain array of at most so many.").or(10).with_zero_fraction();

/// Wrong values are a 400 here. Showing a secret writes an audit line, though it is a GET.
fn failures(route: &Route) -> Vec<u16> {
    let mut all = missing_object(route);
    if route.verb == RouteMethod::Get && route.path == WEBHOOK {
        all.push(507);
    }
    all
}

fn spelled(prefix: &str) -> Value {
    json!({ "type": "string", "pattern": format!("^{prefix}_[0-9a-f]{{32}}$") })
}

fn schemas() -> Map<String, Value> {
    let rows = json!({ "type": "array", "items": reference("DevdraftWebhook") });
    let pagination = record([("page", count()), ("limit", count()), ("total", count()), ("total_pages", count())]);
    let list =
        json!({ "anyOf": [record([("data", rows.clone()), ("pagination", reference("DevdraftPagination"))]), rows] });
    let error = record([
        ("statusCode", json!({ "type": "integer" })),
        ("message", text()),
        ("error", text()),
        ("details", text()),
    ]);
    [
        ("NewDevdraftWebhook", body(&["name", "url"])),
        ("DevdraftWebhookPatch", body(&[])),
        ("DevdraftWebhook", webhook()),
        ("DevdraftRemovedWebhook", removed_webhook()),
        ("DevdraftPagination", pagination),
        ("DevdraftWebhooks", list),
        ("DevdraftError", error),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

/// Judged as the native API judges it.
fn body(required: &[&str]) -> Value {
    let url = json!({ "type": "string", "format": "uri", "maxLength": URL_BYTES_MAX, "pattern": "^[hH][tT][tT][pP][sS]?://" });
    let mut schema = form(
        required,
        [
            ("name", line(3, NAME_CHARS_MAX)),
            ("url", url.clone()),
            ("isActive", boolean()),
            ("encrypted", about(boolean(), "The body as JWE.")),
            ("signing_secret", any_secret()),
        ],
    );
    // Null is no URL; in a patch it says nothing of it.
    if required.contains(&"url") {
        schema["properties"]["url"] = url;
    }
    schema
}

fn webhook() -> Value {
    let rate = json!({ "type": "number", "minimum": 0, "maximum": 100 });
    let stats = record([
        ("total_events", about(count(), "Deliveries with at least one attempt.")),
        ("successful_deliveries", count()),
        ("failed_deliveries", about(count(), "Failed attempts.")),
        ("last_delivery", nullable(time())),
        ("success_rate", nullable(rate)),
        ("average_response_time", nullable(count())),
        ("last_24h_events", count()),
        ("last_24h_failures", count()),
    ]);
    let mut schema = record([
        ("id", spelled("wh")),
        ("name", text()),
        ("url", text()),
        ("isActive", boolean()),
        ("encrypted", boolean()),
        ("signing_secret", text()),
        ("created_at", time()),
        ("updated_at", time()),
        ("delivery_stats", stats),
        ("app", record([("id", spelled("app")), ("name", text())])),
    ]);
    let recent = json!({ "type": "array", "items": recent_event(), "maxItems": 50 });
    schema["properties"]["recent_events"] = about(recent, "Only with `include_events=true`.");
    schema
}

/// The webhook as it was, and three members about its removal.
fn removed_webhook() -> Value {
    let mut schema = webhook();
    let own = record([("message", text()), ("webhook_id", spelled("wh")), ("deleted_at", time())]);
    for (name, property) in own["properties"].as_object().into_iter().flatten() {
        schema["properties"][name] = property.clone();
    }
    let required = own["required"].as_array().cloned().unwrap_or_default();
    schema["required"].as_array_mut().expect("a record names its members").extend(required);
    schema
}

fn recent_event() -> Value {
    record([
        ("id", spelled("evt")),
        ("event_type", text()),
        ("delivery_status", choice(&["delivered", "failed", "pending"])),
        ("response_code", nullable(json!({ "type": "integer" }))),
        ("response_time", nullable(count())),
        ("error_message", nullable(text())),
        ("created_at", time()),
        ("delivered_at", nullable(time())),
        ("retry_count", count()),
    ])
}
