//! Svix in the description.

use crate::api::params::{Param, ParamValues};
use crate::api::route::{Route, RouteMethod};

use super::ids::Noun;
use crate::api::dialects::doc::DialectDoc;
use crate::api::doc::schema::AnswerSchema;

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Svix",
    description: "The API of the open-source Svix server. Answered unless `dialects.svix` is off; what is below `/api/v1` fails in its words. Unknown members and parameters are ignored.",
    credentials: &[&["key"]],
    headers: &[],
    forms: super::forms::all,
    error: AnswerSchema::of::<super::errors::SvixError>(),
    failures,
    empty: &[],
    answers_carry: &[],
    errors_carry: &[],
    examples: include_str!("examples.json"),
};

const NAMED: ParamValues = ParamValues::Text { chars_max: Some(super::ids::NAME_CHARS_MAX) };

pub const SEG_APP_ID: Param = Param::new("app_id", NAMED, "The application's id or uid.");
pub const SEG_ENDPOINT_ID: Param = Param::new("endpoint_id", NAMED, "The endpoint's id or uid.");
pub const SEG_SINK_ID: Param = Param::new("sink_id", NAMED, "The id or uid of the endpoint that is polled.");
pub const SEG_CONSUMER_ID: Param = Param::new("consumer_id", NAMED, "The consumer's own name.");
pub const SEG_MSG_ID: Param = Param::new("msg_id", NAMED, "The message's id or event id.");
pub const SEG_ATTEMPT_ID: Param =
    Param::new("attempt_id", ParamValues::Pattern(|| Noun::Attempt.pattern()), "The attempt's id.");

pub const SEG_EVENT_TYPE_NAME: Param = Param::new("event_type_name", NAMED, "The event type's name.");

pub const SEG_TASK_ID: Param = Param::new("task_id", ParamValues::Pattern(|| Noun::Task.pattern()), "The task's id.");

/// 404 if the path names an object, and 422 for wrong names and values.
fn failures(route: &Route) -> Vec<u16> {
    let mut all = Vec::new();
    if route.path.contains('{') {
        all.push(404);
    }
    if route.path.contains('{') || !route.query.is_empty() || route.verb != RouteMethod::Get {
        all.push(422);
    }
    all
}
