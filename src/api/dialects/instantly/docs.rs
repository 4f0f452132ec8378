//! Instantly v2 in the description.

use serde_json::{Map, Value, json};

use crate::api::route::Route;

use crate::api::dialects::doc::{DialectDoc, defaulted, in_path, missing_object, query};
use crate::api::doc::parts::{boolean, count, id, nullable, record, reference, text, time};

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Instantly",
    description: "Instantly's API v2: a webhook event is one attempt. Answered unless `dialects.instantly` is off; what is below `/api/v2` fails in its words.",
    credentials: &["key"],
    parameter,
    headers: Vec::new,
    schemas,
    failures: missing_object,
    empty: &[],
    answers_carry: &[],
    errors_carry: &[],
    examples: include_str!("examples.json"),
};

fn parameter(name: &str, _: &Route) -> Value {
    let day = || json!({ "type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" });
    match name {
        "id" => in_path("id", id(), "The id of the attempt."),
        "limit" => query("limit", defaulted(1, 100, 100), "Rows of a page."),
        "starting_after" => query("starting_after", id(), "`next_starting_after` of the page before."),
        "success" => query("success", boolean(), "Only attempts with this outcome."),
        "from" => query("from", day(), "The first day, of UTC."),
        "to" => query("to", day(), "The last day, of UTC."),
        "search" => {
            let schema = json!({ "type": "string", "minLength": 1 });
            query("search", schema, "Exactly the URL of a webhook or the address of a lead.")
        }
        other => panic!("the parameter {other} is described nowhere"),
    }
}

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
