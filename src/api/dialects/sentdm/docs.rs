//! sent.dm v3 in the description: everything in one envelope, but for 401 and 403, which have no body.

use serde_json::{Map, Value, json};

use crate::api::params::{self, Param, ParamValues};

use crate::api::dialects::doc::DialectDoc;
use crate::api::doc::parts::{about, boolean, choice, count, id, nullable, record, reference, text, time};

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Sent",
    description: "sent.dm's API v3: an event is one delivery. Answered unless `dialects.sentdm` is off; what is below `/v3` fails in its words.",
    credentials: &[&["apiKey"]],
    headers: &[PROFILE_ID],
    schemas,
    // An unknown profile is a webhook that is not there.
    failures: |_| vec![404],
    empty: &[401, 403],
    answers_carry: &[("X-API-Version", "ApiVersion"), ("X-Profile-Id", "ProfileId")],
    errors_carry: &[("X-API-Version", "ApiVersion"), ("X-Error-Code", "ErrorCode")],
    examples: include_str!("examples.json"),
};

pub const PROFILE_ID: Param = Param::new(
    "x-profile-id",
    ParamValues::Id,
    "The app to read as, for a key of the whole organization; 403 from a key of one app.",
);
pub const ID: Param = Param::new("id", ParamValues::Id, "The webhook's id.");
/// Pages are int32 to the vendor.
pub const PAGE: Param = Param::whole("page", 1, i32::MAX as u32, "The page, from 1.").required();
pub const PAGE_SIZE: Param = Param::whole("page_size", 1, 100, "Rows of a page.").required();
pub const IS_ACTIVE: Param = Param::new("is_active", ParamValues::Boolean, "Only webhooks that are on, or off.");
/// `Params::search` reads it, so its name and its length are those of `params::SEARCH`.
pub const SEARCH: Param = Param {
    description: "Part of the name or URL; of events: of the type or error, or an exact id or status code.",
    ..params::SEARCH
};

fn enveloped(data: Value) -> Value {
    record([
        ("success", json!({ "const": true })),
        ("data", data),
        ("error", json!({ "type": "null" })),
        ("meta", reference("SentMeta")),
    ])
}

fn rows(name: &'static str, row: &str) -> Value {
    let rows = json!({ "type": "array", "items": reference(row) });
    enveloped(record([(name, rows), ("pagination", reference("SentPagination"))]))
}

fn schemas() -> Map<String, Value> {
    let meta = record([
        ("request_id", json!({ "type": "string", "pattern": "^req_[0-9A-Za-z]{10}$" })),
        ("timestamp", time()),
        ("version", json!({ "const": "v3" })),
    ]);
    let pagination = record([
        ("page", count()),
        ("page_size", count()),
        ("total_count", count()),
        ("total_pages", count()),
        ("has_more", boolean()),
        ("cursors", json!({ "type": "null" })),
    ]);
    let event_type =
        record([("name", text()), ("display_name", text()), ("description", text()), ("is_active", boolean())]);
    let event_types = record([("event_types", json!({ "type": "array", "items": event_type }))]);
    [
        ("SentMeta", meta),
        ("SentPagination", pagination),
        ("SentWebhook", webhook()),
        ("SentOneWebhook", enveloped(reference("SentWebhook"))),
        ("SentWebhooks", rows("webhooks", "SentWebhook")),
        ("SentEventTypes", enveloped(event_types)),
        ("SentEvent", event()),
        ("SentEvents", rows("events", "SentEvent")),
        ("SentError", error()),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

fn webhook() -> Value {
    record([
        ("id", id()),
        ("display_name", text()),
        ("endpoint_url", text()),
        ("signing_secret", about(json!({ "type": "null" }), "Shown where it is made, which is not here.")),
        ("is_active", boolean()),
        ("event_types", json!({ "type": "array", "items": text(), "minItems": 1 })),
        ("event_filters", json!({ "type": "null" })),
        ("retry_count", count()),
        ("timeout_seconds", count()),
        ("last_delivery_attempt_at", nullable(time())),
        ("last_successful_delivery_at", nullable(time())),
        ("consecutive_failures", count()),
        ("created_at", time()),
        ("updated_at", nullable(time())),
    ])
}

fn event() -> Value {
    record([
        ("id", id()),
        ("event_type", text()),
        ("event_data", json!({ "description": "Byte for byte; null once erased." })),
        ("delivery_status", choice(&["pending", "retrying", "delivered", "failed"])),
        ("http_status_code", nullable(json!({ "type": "integer" }))),
        ("response_body", nullable(text())),
        ("delivery_attempts", count()),
        ("error_message", nullable(text())),
        ("created_at", time()),
        ("processing_started_at", nullable(time())),
        ("processing_completed_at", nullable(time())),
    ])
}

fn error() -> Value {
    let failure = record([
        ("code", json!({ "type": "string", "pattern": "^[A-Z]+_[0-9]{3}$" })),
        ("message", text()),
        ("details", json!({ "type": "null" })),
        ("doc_url", text()),
    ]);
    record([
        ("success", json!({ "const": false })),
        ("data", json!({ "type": "null" })),
        ("error", failure),
        ("meta", reference("SentMeta")),
    ])
}
