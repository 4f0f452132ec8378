//! The parameters of a route: in its path, its query and its headers.

use serde_json::{Value, json};

use crate::api::cursor::CursorKind;
use crate::api::idempotency::KEY_CHARS_MAX;
use crate::api::native::apps::UID_CHARS_MAX;
use crate::api::native::feed::WAIT_S_MAX;
use crate::api::params::{LIMIT_DEFAULT, LIMIT_MAX, SEARCH_CHARS_MAX};
use crate::api::route::{Route, RouteMethod};
use crate::rules::patterns::TYPE_BYTES_MAX;

use crate::api::doc::parameter;
use crate::api::doc::parts::{id, reference, time, whole};

/// All parameters of a route.
pub fn of(route: &Route) -> Vec<Value> {
    let mut all = Vec::new();
    if route.path.contains("{id}") {
        all.push(in_path(route));
    }
    all.extend(route.query.iter().map(|name| in_query(name, route)));
    if route.verb == RouteMethod::Post {
        all.push(idempotency_key());
    }
    if matches!(route.path, "/v1/events" | "/v1/events/batch") && route.verb == RouteMethod::Post {
        let schema = json!({ "type": "string" });
        all.push(parameter("header", "traceparent", schema, "W3C Trace Context: kept with the event and sent on."));
    }
    all
}

/// `Idempotency-Key`, on every POST.
pub fn idempotency_key() -> Value {
    let schema = json!({ "type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX, "pattern": "^[!-~]+$" });
    let why =
        "The same key with the same request gives the first answer again and does nothing; with another request, 409.";
    parameter("header", "Idempotency-Key", schema, why)
}

fn in_path(route: &Route) -> Value {
    match route.path.starts_with("/v1/apps/") {
        true => parameter("path", "id", app_name(), "The app's id or its `uid`."),
        false => parameter("path", "id", id(), "The id."),
    }
}

/// The name of an app: its `uid`, or its id, which has the form of a `uid` too.
pub fn app_name() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": UID_CHARS_MAX, "pattern": "^[a-zA-Z0-9_.-]+$" })
}

/// An event type.
pub fn event_type() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": TYPE_BYTES_MAX, "pattern": "^[a-zA-Z0-9_.-]+$" })
}

/// The list that a route's cursors belong to.
fn kind_of(route: &Route) -> CursorKind {
    match route.path.rsplit('/').next().unwrap_or_default() {
        "events" => CursorKind::Events,
        "deliveries" => CursorKind::Deliveries,
        "attempts" => CursorKind::Attempts,
        "webhooks" => CursorKind::Webhooks,
        "apps" => CursorKind::Apps,
        "keys" => CursorKind::Keys,
        "organizations" => CursorKind::Organizations,
        "replays" => CursorKind::Replays,
        "audit" => CursorKind::Audit,
        "feed" => CursorKind::Feed,
        other => panic!("what the cursors of {other} belong to is described nowhere"),
    }
}

fn in_query(name: &str, route: &Route) -> Value {
    let non_empty = |max: usize| json!({ "type": "string", "minLength": 1, "maxLength": max });
    let (schema, description) = match name {
        "limit" => {
            let mut schema = whole(1, LIMIT_MAX as u64);
            schema["default"] = LIMIT_DEFAULT.into();
            (schema, "Rows of a page.")
        }
        "cursor" => {
            let pattern = kind_of(route).pattern();
            (json!({ "type": "string", "pattern": pattern }), "`next_cursor` of the page before.")
        }
        "from" => (time(), "Only rows of this time or later."),
        "to" => (time(), "Only rows before this time."),
        "search" => (
            non_empty(SEARCH_CHARS_MAX),
            "Part of a type, error, URL or subject, whatever the case; or an exact id, `event_id` or status code.",
        ),
        "type" => (event_type(), "Only of this event type."),
        "subject" => (json!({ "type": "string", "minLength": 1 }), "Only with exactly this subject."),
        "app_id" => (app_name(), "Only of this app, by its id or `uid`."),
        "webhook_id" => (id(), "Only of this webhook."),
        "event_id" => (id(), "Only of the event with this id."),
        "status_code" => (whole(100, 599), "Only with this status code at the last attempt."),
        "status" if route.path == "/v1/webhooks" => (reference("WebhookStatus"), "Only webhooks of this status."),
        "status" => (reference("DeliveryStatus"), "Only deliveries of this status."),
        "wait_s" => (whole(0, u64::from(WAIT_S_MAX)), "How long to wait for something new, in seconds."),
        other => panic!("the query parameter {other} is described nowhere"),
    };
    parameter("query", name, schema, description)
}
