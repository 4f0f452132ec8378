//! Instantly v2 in the description.

use serde_json::{Map, Value, json};

use crate::api::limits::{HEADERS_MAX, NAME_CHARS_MAX};
use crate::api::params::{Param, ParamValues};

use crate::api::dialects::doc::{DialectDoc, missing_object};
use crate::api::doc::parts::{about, form, id, line};
use crate::api::doc::schema::AnswerSchema;
use crate::rules::patterns::TYPE_BYTES_MAX;
use crate::rules::target::URL_BYTES_MAX;

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Instantly",
    description: "Instantly's API v2: webhooks, and a webhook event is one attempt. Answered unless `dialects.instantly` is off; what is below `/api/v2` fails in its words.",
    credentials: &[&["key"]],
    headers: &[],
    forms,
    error: AnswerSchema::of::<super::InstantlyError>(),
    failures: missing_object,
    empty: &[],
    answers_carry: &[],
    errors_carry: &[],
    examples: include_str!("examples.json"),
};

pub const ID: Param = Param::new("id", ParamValues::Id, "The id of the attempt.");
pub const WEBHOOK_ID: Param = Param::new("id", ParamValues::Id, "The id of the webhook.");
pub const AFTER_WEBHOOK: Param =
    Param::new("starting_after", ParamValues::Id, "`next_starting_after` of the page before.");
pub const CAMPAIGN: Param =
    Param::new("campaign", ParamValues::Id, "Only webhooks of this campaign: of this one channel.");
pub const EVENT_TYPE: Param = Param::new(
    "event_type",
    ParamValues::Text { chars_max: None },
    "Only webhooks of this type alone, or `all_events`.",
);
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

fn forms() -> Map<String, Value> {
    [("NewInstantlyWebhook", body(&["target_hook_url"])), ("InstantlyWebhookPatch", body(&[]))]
        .map(|(name, schema)| (name.to_owned(), schema))
        .into_iter()
        .collect()
}

/// The schema of a body, which the native API's rules check. A patch may leave the URL out, but not clear it.
fn body(required: &[&str]) -> Value {
    let url = json!({ "type": "string", "format": "uri", "maxLength": URL_BYTES_MAX, "pattern": "^[hH][tT][tT][pP][sS]?://" });
    let headers = json!({ "type": "object", "additionalProperties": { "type": ["string", "null"] }, "maxProperties": HEADERS_MAX });
    let event_type = json!({ "type": "string", "minLength": 1, "maxLength": TYPE_BYTES_MAX });
    let mut schema = form(
        required,
        [
            ("target_hook_url", url.clone()),
            ("campaign", about(id(), "The one channel. Null: all.")),
            ("name", about(line(1, NAME_CHARS_MAX), "The URL's host where it is not given.")),
            ("event_type", about(event_type, "A type, or `all_events`.")),
            ("custom_interest_value", json!({ "type": "null" })),
            ("headers", about(headers, "All headers. A masked value keeps the stored one. Null: no such header.")),
        ],
    );
    schema["properties"]["target_hook_url"] = url;
    schema
}
