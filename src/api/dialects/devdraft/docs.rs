//! Devdraft v0 in the description: a webhook with its figures and its newest deliveries.

use serde_json::{Map, Value, json};

use crate::api::limits::NAME_CHARS_MAX;
use crate::api::params::{Param, ParamValues};
use crate::api::route::{Route, RouteMethod};
use crate::rules::target::URL_BYTES_MAX;

use crate::api::dialects::doc::{DialectDoc, missing_object};
use crate::api::doc::parts::{about, any_secret, boolean, form, line};
use crate::api::doc::schema::AnswerSchema;

use super::WEBHOOK;

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Devdraft",
    description: "Devdraft's API v0: a webhook with its figures and its newest deliveries. Answered unless `dialects.devdraft` is off; what is below `/api/v0` fails in its words.",
    credentials: &[&["clientSecret"], &["clientKey", "clientSecret"]],
    headers: &[],
    forms,
    error: AnswerSchema::of::<super::DevdraftError>(),
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

/// Additional errors: a wrong value is a 400. Showing a secret writes an audit line, though it is a GET.
fn failures(route: &Route) -> Vec<u16> {
    let mut all = missing_object(route);
    if route.verb == RouteMethod::Get && route.path == WEBHOOK {
        all.push(507);
    }
    all
}

/// The pattern of an id in a response.
pub fn id_pattern(prefix: &str) -> String {
    format!("^{prefix}_[0-9a-f]{{32}}$")
}

fn forms() -> Map<String, Value> {
    [("NewDevdraftWebhook", body(&["name", "url"])), ("DevdraftWebhookPatch", body(&[]))]
        .map(|(name, schema)| (name.to_owned(), schema))
        .into_iter()
        .collect()
}

/// The schema of a body, which the native API's rules check.
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
    // Null is not a URL. In a patch it leaves the URL unchanged.
    if required.contains(&"url") {
        schema["properties"]["url"] = url;
    }
    schema
}
