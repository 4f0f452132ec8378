//! Everlytic, transactional e-mail v1, in the description.

use serde_json::Map;

use crate::api::params::{Param, ParamValues};
use crate::api::route::Route;

use crate::api::dialects::doc::{DialectDoc, missing_object};
use crate::api::doc::schema::AnswerSchema;

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Everlytic",
    description: "Everlytic's transactional e-mail API v1: webhooks without events. Answered unless `dialects.everlytic` is off; what is below `/transactional/email/v1` fails in its words.",
    credentials: &[&["basic"]],
    headers: &[],
    forms: Map::new,
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
/// though it is a GET.
fn failures(route: &Route) -> Vec<u16> {
    match route.path.ends_with("/reprocess") {
        true => vec![507],
        false => missing_object(route),
    }
}
