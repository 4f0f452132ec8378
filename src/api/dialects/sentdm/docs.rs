//! sent.dm v3 in the description: everything in one envelope, but for 401 and 403, which have no body.

use serde_json::{Map, Value, json};

use crate::api::limits::{EVENT_TYPES_MAX, NAME_CHARS_MAX};
use crate::api::params::{self, Param, ParamValues};

use crate::api::dialects::doc::DialectDoc;
use crate::api::doc::parts::{about, boolean, event_type, form, items, line, text, whole};
use crate::api::doc::schema::AnswerSchema;
use crate::rules::target::URL_BYTES_MAX;

use super::writes::{RETRIES_MAX, TIMEOUT_S_MAX, TIMEOUT_S_MIN};

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Sent",
    description: "sent.dm's API v3: an event is one delivery. Answered unless `dialects.sentdm` is off; what is below `/v3` fails in its words.",
    credentials: &[&["apiKey"]],
    headers: &[PROFILE_ID],
    forms,
    error: AnswerSchema::of::<super::envelope::SentdmFailure>(),
    // An unknown profile is reported as an unknown webhook.
    failures: |_| vec![404],
    empty: &[401, 403],
    answers_carry: &[("X-API-Version", "ApiVersion"), ("X-Profile-Id", "ProfileId")],
    errors_carry: &[("X-API-Version", "ApiVersion"), ("X-Error-Code", "ErrorCode")],
    examples: include_str!("examples.json"),
};

pub const PROFILE_ID: Param = Param::new(
    "x-profile-id",
    ParamValues::Id,
    "The app to act as, for a key of the whole organization; 403 from a key of one app.",
);
pub const ID: Param = Param::new("id", ParamValues::Id, "The webhook's id.");
/// The vendor's page numbers are int32.
pub const PAGE: Param = Param::whole("page", 1, i32::MAX as u32, "The page, from 1.").required();
pub const PAGE_SIZE: Param = Param::whole("page_size", 1, 100, "Rows of a page.").required();
pub const IS_ACTIVE: Param = Param::new("is_active", ParamValues::Boolean, "Only webhooks that are on, or off.");
/// `Params::search` reads it, so it has the name and length of `params::SEARCH`.
pub const SEARCH: Param = Param {
    description: "Part of the name or URL; of events: of the type or error, or an exact id or status code.",
    ..params::SEARCH
};

fn forms() -> Map<String, Value> {
    let sandbox = || about(boolean(), "Judge and answer only; nothing is stored or sent.");
    let status = form(&["is_active"], [("is_active", boolean()), ("sandbox", sandbox())]);
    let test = form(&["event_type"], [("event_type", event_type()), ("sandbox", sandbox())]);
    [
        ("NewSentWebhook", webhook(&["endpoint_url"])),
        ("SentWebhookUpdate", webhook(&[])),
        ("SentWebhookStatus", status),
        ("SentWebhookTest", test),
        ("SentSandbox", form(&[], [("sandbox", sandbox())])),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

/// The schema of a body, which the native API's rules check.
fn webhook(required: &[&str]) -> Value {
    let url = json!({ "type": "string", "format": "uri", "maxLength": URL_BYTES_MAX, "pattern": "^[hH][tT][tT][pP][sS]?://" });
    let families = "Families such as `message`, for every type below it, types and patterns. `*` or none: all.";
    let filters = json!({
        "type": "object",
        "additionalProperties": items(text(), EVENT_TYPES_MAX),
        "description": "Sub-types of a family in `event_types`: `{\"message\": [\"read\"]}` for `message.read` alone.",
    });
    form(
        required,
        [
            ("display_name", about(line(1, NAME_CHARS_MAX), "The URL's host where it is not given.")),
            ("endpoint_url", url),
            ("event_types", about(items(text(), EVENT_TYPES_MAX), families)),
            ("event_filters", filters),
            ("retry_count", whole(1, RETRIES_MAX as u64)),
            ("timeout_seconds", whole(TIMEOUT_S_MIN, TIMEOUT_S_MAX)),
            ("sandbox", about(boolean(), "Judge and answer only; nothing is stored or sent.")),
            ("sender_profile", json!({ "type": "null" })),
        ],
    )
}
