//! Instantly v2 in the description.

use serde_json::Map;

use crate::api::params::{Param, ParamValues};

use crate::api::dialects::doc::{DialectDoc, missing_object};
use crate::api::doc::schema::AnswerSchema;

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Instantly",
    description: "Instantly's API v2: a webhook event is one attempt. Answered unless `dialects.instantly` is off; what is below `/api/v2` fails in its words.",
    credentials: &["key"],
    headers: &[],
    forms: Map::new,
    error: AnswerSchema::of::<super::InstantlyError>(),
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
