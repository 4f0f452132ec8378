//! Instantly v2 in the description.

use serde_json::{Map, Value, json};

use crate::api::params::{Param, ParamValues};

use crate::api::dialects::doc::{DialectDoc, missing_object};
use crate::api::doc::parts::{boolean, count, id, nullable, record, reference, text, time};

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Instantly",
    description: "Instantly's API v2: a webhook event is one attempt. Answered unless `dialects.instantly` is off; what is below `/api/v2` fails in its words.",
    credentials: &[&["key"]],
    headers: &[],
    schemas,
    failures: missing_object,
    empty: &[],
    answers_carry: &[],
    errors_carry: &[],
    examples: include_str!("examples.json"),
};

pub const ID: Param = Param::new("id", ParamValues::Id, "The id of the attempt.");
pub const LIMIT: Param = Param::whole("limit", 1, 100, "Rows of a page.").or(100);
pub const STARTING_AFTER: Param =
    Param::new("starting_after", ParamValues::Id, "`next_starting_after` of the page before.");
pub const SUCCESS: Param = Param::new("success", ParamValues::Boolean, "Only attempts with this outcome.");
pub const FROM: Param = Param::new("from", ParamValues::Date, "The first day, of UTC.");
pub const TO: Param = Param::new("to", ParamValues::Date, "The last day, of UTC.");
pub const SEARCH: Param = Param::new(
    "search",
    ParamValues::Text { chars_max: None },
    "Exactly the URL of a webhook or the address of a lead.",
);

fn schemas() -> Map<String, Value> {
    let mut list = record([("items", json!({ "type": "array", "items": reference("InstantlyWebhookEvent") }))]);
    list["properties"]["next_starting_after"] = id();
    let percent = || json!({ "type": "number", "minimum": 0, "maximum": 100 });
    let by_outcome = || [("total_events", count()), ("successful_events", count()), ("failed_events", count())];
    let [total, successful, failed] = by_outcome();
    let day = record([("date", day()), total, successful, failed, ("success_rate", percent())]);
    let [total, successful, failed] = by_outcome();
    let summary = record([total, successful, failed, ("success_rate", percent()), ("failure_rate", percent())]);
    let error = record([("statusCode", json!({ "type": "integer" })), ("error", text()), ("message", text())]);
    [
        ("InstantlyWebhookEvent", webhook_event()),
        ("InstantlyWebhookEvents", list),
        ("InstantlySummary", summary),
        ("InstantlySummaryByDate", record([("items", json!({ "type": "array", "items": day }))])),
        ("InstantlyError", error),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

fn day() -> Value {
    json!({ "type": "string", "format": "date" })
}

fn webhook_event() -> Value {
    let payload = json!({ "type": "object", "description": "The body that the attempt carried." });
    record([
        ("id", id()),
        ("timestamp_created", time()),
        ("timestamp_created_date", day()),
        ("organization_id", id()),
        ("success", boolean()),
        ("retry_count", count()),
        ("will_retry", boolean()),
        ("webhook_url", text()),
        ("payload", payload),
        ("status_code", nullable(json!({ "type": "integer" }))),
        ("error_message", nullable(text())),
        ("timestamp_next_retry", nullable(time())),
        ("retry_group_id", nullable(id())),
        ("retry_successful", nullable(boolean())),
        ("lead_email", nullable(text())),
        ("response_time_ms", nullable(count())),
    ])
}
