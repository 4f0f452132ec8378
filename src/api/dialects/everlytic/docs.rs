//! Everlytic, transactional e-mail v1, in the description.

use serde_json::{Map, Value, json};

use crate::api::params::{Param, ParamValues};
use crate::api::route::{Route, RouteMethod};

use crate::api::dialects::doc::{DialectDoc, missing_object};
use crate::api::doc::parts::{boolean, choice, form, nullable, text};
use crate::api::doc::schema::AnswerSchema;
use crate::api::limits::EVENT_TYPES_MAX;
use crate::api::native::webhook_schema;

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Everlytic",
    description: "Everlytic's transactional e-mail API v1: webhooks without events. Answered unless `dialects.everlytic` is off; what is below `/transactional/email/v1` fails in its words.",
    credentials: &[&["basic"]],
    headers: &[],
    forms,
    error: AnswerSchema::of::<super::EverlyticErrorEnvelope>(),
    failures,
    empty: &[],
    answers_carry: &[],
    errors_carry: &[],
    examples: include_str!("examples.json"),
};

pub const ID: Param =
    Param::new("id", ParamValues::Id, "The webhook's id; without such a webhook 400, with `code` 412.");
pub const PAGE: Param = Param::whole("page", 1, u32::MAX, "The page, from 1.").or(1);

/// Additional errors: an unknown webhook is a 400, because 404 means a path without a route. Reprocessing stores jobs,
/// though it is a GET. Wrong fields are 412.
fn failures(route: &Route) -> Vec<u16> {
    match route.verb {
        _ if route.path.ends_with("/reprocess") => vec![507],
        RouteMethod::Post => vec![412],
        RouteMethod::Put => [vec![412], missing_object(route)].concat(),
        _ => missing_object(route),
    }
}

/// The schema of a webhook's body, which the native API's rules check.
fn forms() -> Map<String, Value> {
    let kind = json!({ "anyOf": [webhook_schema::pattern(), { "const": "*" }] });
    let details = form(&["username", "password"], [("username", text()), ("password", text())]);
    let schema = form(
        &["event_types", "url", "verb"],
        [
            ("event_types", json!({ "type": "array", "items": kind, "minItems": 1, "maxItems": EVENT_TYPES_MAX })),
            ("url", webhook_schema::url()),
            ("verb", choice(&["get", "put", "post", "patch", "delete"])),
            ("auth_details", nullable(details)),
            ("auth_type", choice(&["basic"])),
            ("content_type", choice(&["application/json", "application/x-www-form-urlencoded"])),
            ("field_set", choice(&["standard", "legacy"])),
            ("settings", form(&[], [("include_html", boolean())])),
        ],
    );
    [("EverlyticWebhookInput".to_owned(), schema)].into_iter().collect()
}
