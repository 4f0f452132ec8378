//! The schemas of read-only objects: deliveries, attempts, figures, audit, and the daemon itself.

use serde_json::{Map, Value, json};

use crate::model::AttemptOutcome;

use crate::api::doc::parts::{about, choice, count, id, nullable, record, reference, text, time};

pub fn schemas() -> Map<String, Value> {
    let attempt = attempt();
    let mut test_send = attempt.clone();
    for name in ["id", "delivery_id", "event_id", "retry_of", "next_attempt_at"] {
        test_send["properties"][name] = json!({ "type": "null" });
    }
    let stats = stats();
    let waiting = record([("backlog", count()), ("oldest_due", nullable(time()))]);
    [
        ("Delivery", delivery()),
        ("DeliveryStatus", choice(&["pending", "retrying", "delivered", "failed", "cancelled"])),
        ("Outcome", choice(&AttemptOutcome::ALL.map(AttemptOutcome::as_str))),
        ("Attempt", attempt),
        ("TrialAttempt", test_send),
        ("AllStats", json!({ "allOf": [stats, waiting] })),
        ("Stats", json!({ "allOf": [stats, lag()] })),
        ("Health", health()),
        ("AuditRow", audit_row()),
        ("Alive", record([("status", json!({ "const": "ok" }))])),
        (
            "Ready",
            record([("status", choice(&["ready", "unready"])), ("reasons", troubles()), ("warnings", troubles())]),
        ),
        ("ClockAccepted", record([("clock_trusted", json!({ "const": true })), ("now", time())])),
        ("Metrics", text()),
        ("AnyObject", json!({ "type": "object" })),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

fn troubles() -> Value {
    json!({ "type": "array", "items": record([("code", text()), ("detail", text())]) })
}

fn milliseconds() -> Value {
    json!({ "type": "integer", "minimum": 0, "description": "In milliseconds." })
}

fn status_code() -> Value {
    json!({ "type": "integer", "minimum": 100, "maximum": 999 })
}

fn delivery() -> Value {
    record([
        ("id", id()),
        ("event_id", id()),
        ("event_type", text()),
        ("webhook_id", id()),
        ("app_id", id()),
        ("status", reference("DeliveryStatus")),
        ("attempts", count()),
        ("next_attempt_at", nullable(time())),
        ("created_at", time()),
        ("first_attempt_at", nullable(time())),
        ("completed_at", nullable(time())),
        ("replay_of", about(nullable(id()), "The final delivery that this one repeats.")),
        ("last_status_code", nullable(status_code())),
        ("last_outcome", nullable(reference("Outcome"))),
        ("last_error", nullable(text())),
        ("last_response_time_ms", nullable(milliseconds())),
    ])
}

fn attempt() -> Value {
    let headers = json!({ "type": "object", "additionalProperties": text(), "description": "Credentials are masked." });
    let timings = record([
        ("dns", nullable(milliseconds())),
        ("connect", nullable(milliseconds())),
        ("tls", nullable(milliseconds())),
        ("first_byte", nullable(milliseconds())),
        ("total", milliseconds()),
    ]);
    record([
        ("id", id()),
        ("delivery_id", id()),
        ("event_id", id()),
        ("webhook_id", id()),
        ("number", json!({ "type": "integer", "minimum": 1 })),
        ("retry_of", nullable(id())),
        ("trigger", choice(&["event", "retry", "replay", "manual"])),
        ("url", text()),
        ("method", choice(&["get", "put", "post", "patch", "delete"])),
        ("started_at", time()),
        ("finished_at", time()),
        ("success", json!({ "type": "boolean" })),
        ("outcome", reference("Outcome")),
        ("status_code", nullable(status_code())),
        ("error", nullable(text())),
        ("response_time_ms", nullable(milliseconds())),
        ("next_attempt_at", nullable(time())),
        ("remote_addr", nullable(text())),
        ("request_headers", headers.clone()),
        ("response_headers", headers),
        ("response_body", about(nullable(text()), "As text, cut at 16 KiB.")),
        ("timings_ms", timings),
    ])
}

fn stats() -> Value {
    let hour = record([("hour", time()), ("attempts", count()), ("failures", count())]);
    record([
        ("total_events", about(count(), "Deliveries with at least one attempt.")),
        ("successful_deliveries", count()),
        ("failed_deliveries", about(count(), "Failed attempts.")),
        ("pending_deliveries", count()),
        (
            "success_rate",
            about(nullable(json!({ "type": "number", "minimum": 0, "maximum": 100 })), "Percent, one decimal."),
        ),
        ("average_response_time_ms", nullable(milliseconds())),
        ("p50_response_time_ms", nullable(milliseconds())),
        ("p95_response_time_ms", nullable(milliseconds())),
        ("p99_response_time_ms", nullable(milliseconds())),
        ("last_delivery", nullable(time())),
        ("last_24h_events", count()),
        ("last_24h_failures", count()),
        ("hours", json!({ "type": "array", "items": hour, "description": "The last 24 clock hours, oldest first." })),
    ])
}

/// How far one webhook is behind.
fn lag() -> Value {
    let since = "Since when the next delivery to go waits; in an ordered webhook the head, its retries included.";
    let behind = "How long that is, in milliseconds; 0 where nothing waits.";
    record([
        ("oldest_waiting", about(nullable(time()), since)),
        ("lag_ms", about(json!({ "type": "integer", "minimum": 0 }), behind)),
    ])
}

fn health() -> Value {
    record([
        ("success_rate", choice(&["excellent", "good", "warning", "critical", "unknown"])),
        ("response_time", choice(&["fast", "acceptable", "slow", "critical", "unknown"])),
        ("activity", choice(&["active", "idle", "failing", "unknown"])),
        ("reasons", record([("success_rate", text()), ("response_time", text()), ("activity", text())])),
    ])
}

fn audit_row() -> Value {
    record([
        ("id", id()),
        ("at", time()),
        ("key_id", nullable(id())),
        ("action", text()),
        ("target", text()),
        ("remote_addr", nullable(text())),
        ("request_id", nullable(text())),
        ("changes", json!({ "description": "What changed, without secrets; null where nothing is to be told." })),
    ])
}
