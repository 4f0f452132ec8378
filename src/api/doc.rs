//! The vocabulary of the API's documentation: operations, responses, parameters and schemas.
//!
//! The route tables use it beside their handlers. `openapi` assembles the document from it.

pub mod parts;

use serde_json::{Value, json};

use super::route::RouteMethod;

/// The documentation of one route.
pub struct Operation {
    pub verb: RouteMethod,
    pub path: &'static str,
    pub id: &'static str,
    pub tag: &'static str,
    pub summary: &'static str,
    /// The schema of the request body. `None` if there is no body.
    pub request: Option<&'static str>,
    pub answers: &'static [AnswerDoc],
}

/// One response of a successful request.
pub struct AnswerDoc {
    pub status: u16,
    /// The name of a schema, in brackets for a list of it. `None` if the response has no body.
    pub schema: Option<&'static str>,
    pub media_type: &'static str,
    pub description: &'static str,
}

const JSON: &str = "application/json";

/// A `200` with a JSON body.
pub const fn ok(schema: &'static str, description: &'static str) -> AnswerDoc {
    answer(200, schema, description)
}

/// A response with a JSON body.
pub const fn answer(status: u16, schema: &'static str, description: &'static str) -> AnswerDoc {
    AnswerDoc { status, schema: Some(schema), media_type: JSON, description }
}

/// A `204`.
pub const fn done(description: &'static str) -> AnswerDoc {
    AnswerDoc { status: 204, schema: None, media_type: JSON, description }
}

/// A parameter in `place`: `path`, `query` or `header`.
pub fn parameter(place: &str, name: &str, schema: Value, description: &str) -> Value {
    json!({ "name": name, "in": place, "required": place == "path", "schema": schema, "description": description })
}
