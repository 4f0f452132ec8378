//! Dfns in the description. Absent values are omitted, so few members are required.

use serde_json::{Map, Value, json};

use crate::api::cursor::CursorKind;
use crate::api::params::{Param, ParamValues};

use crate::api::dialects::doc::{DialectDoc, missing_object};
use crate::api::doc::parts::{choice, form, text};
use crate::api::doc::schema::AnswerSchema;
use crate::api::limits::EVENT_TYPES_MAX;
use crate::api::native::webhook_schema;

use super::writes::DESCRIPTION_CHARS_MAX;

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Dfns",
    description: "Dfns' webhooks: a webhook event is one attempt. Answered unless `dialects.dfns` is off; what is below `/webhooks` fails in its words.",
    credentials: &[&["key"]],
    headers: &[],
    forms,
    error: AnswerSchema::of::<super::DfnsError>(),
    failures: missing_object,
    empty: &[],
    answers_carry: &[],
    errors_carry: &[],
    examples: include_str!("examples.json"),
};

pub const ID: Param = Param::new("id", ParamValues::Pattern(|| id_pattern("wh")), "The webhook's id.");
pub const EVENT: Param = Param::new("event", ParamValues::Pattern(|| id_pattern("whe")), "The id of the attempt.");
pub const LIMIT: Param = Param::whole("limit", 1, 200, "Rows of a page.").or(50);
pub const DELIVERY_FAILED: Param =
    Param::new("deliveryFailed", ParamValues::Boolean, "Only attempts that failed, or that did not.");
pub const KIND: Param = Param::new("kind", ParamValues::Text { chars_max: None }, "Only of this event type.");

/// The position in a list.
pub const fn pagination_token(kind: CursorKind) -> Param {
    Param::new("paginationToken", ParamValues::Cursor(kind), "`nextPageToken` of the page before.")
}

/// The pattern of an id: 26 digits of Crockford's base32 cut 5-5-16, the first with room for three bits only.
pub fn id_pattern(prefix: &str) -> String {
    let digit = "[0-9a-hjkmnp-tv-z]";
    format!("^{prefix}-[0-7]{digit}{{4}}-{digit}{{5}}-{digit}{{16}}$")
}

fn forms() -> Map<String, Value> {
    let factor = json!({
        "type": "object",
        "required": ["kind", "credentialAssertion"],
        "properties": { "kind": json!({ "type": "string", "minLength": 1 }), "credentialAssertion": { "type": "object" } },
    });
    let action = form(
        &["userActionPayload", "userActionHttpMethod", "userActionHttpPath"],
        [
            ("userActionPayload", text()),
            ("userActionHttpMethod", text()),
            ("userActionHttpPath", text()),
            ("userActionServerKind", text()),
        ],
    );
    let signature = form(
        &["challengeIdentifier", "firstFactor"],
        [
            ("challengeIdentifier", json!({ "type": "string", "minLength": 1 })),
            ("firstFactor", factor),
            ("secondFactor", json!({ "type": "object" })),
        ],
    );
    [
        ("NewDfnsWebhook", webhook(&["url", "events"])),
        ("DfnsWebhookChange", webhook(&[])),
        ("DfnsUserAction", action),
        ("DfnsUserActionSignature", signature),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

/// The schema of a webhook's body, which the native API's rules check.
fn webhook(required: &[&str]) -> Value {
    let event = json!({ "anyOf": [webhook_schema::pattern(), { "const": "*" }] });
    form(
        required,
        [
            ("url", webhook_schema::url()),
            ("events", json!({ "type": "array", "items": event, "minItems": 1, "maxItems": EVENT_TYPES_MAX })),
            ("description", json!({ "type": "string", "maxLength": DESCRIPTION_CHARS_MAX })),
            ("status", choice(&["Enabled", "Disabled"])),
        ],
    )
}
