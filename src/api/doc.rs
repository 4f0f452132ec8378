//! The vocabulary of the API's documentation: operations, responses, parameters and schemas.
//!
//! The route tables use it beside their handlers. `openapi` assembles the document from it.

use schemars::JsonSchema;

pub mod parts;
pub mod schema;

use schema::AnswerSchema;

/// The documentation of one route, which stands in its row of the route table.
pub struct RouteDoc {
    pub id: &'static str,
    /// `None` for the tag of the route's dialect.
    pub tag: Option<&'static str>,
    pub summary: &'static str,
    /// The schema of the request body. `None` if there is no body.
    pub request: Option<&'static str>,
    /// Whether the route accepts a request without a body, although its `BodyRule` describes one.
    pub may_lack_body: bool,
    pub answers: &'static [AnswerDoc],
}

impl RouteDoc {
    /// The same route with a request body of this schema.
    #[must_use]
    pub const fn takes(self, schema: &'static str) -> RouteDoc {
        RouteDoc { request: Some(schema), ..self }
    }

    /// The same route with a request body of this schema, or without one.
    #[must_use]
    pub const fn may_take(self, schema: &'static str) -> RouteDoc {
        RouteDoc { may_lack_body: true, ..self.takes(schema) }
    }
}

/// A native route without a request body.
pub const fn doc(
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    answers: &'static [AnswerDoc],
) -> RouteDoc {
    RouteDoc { id, tag: Some(tag), summary, request: None, may_lack_body: false, answers }
}

/// One response of a successful request.
pub struct AnswerDoc {
    pub status: u16,
    /// `None` if the response has no body.
    pub schema: Option<AnswerSchema>,
    /// The example of the schema is in the first one. Any other has an example under its own name.
    pub media_types: &'static [&'static str],
    pub description: &'static str,
}

const JSON: &[&str] = &["application/json"];

/// A `200` whose JSON body is a serialised `T`.
pub const fn ok<T: JsonSchema>(description: &'static str) -> AnswerDoc {
    answer::<T>(200, description)
}

/// A response whose JSON body is a serialised `T`.
pub const fn answer<T: JsonSchema>(status: u16, description: &'static str) -> AnswerDoc {
    AnswerDoc { status, schema: Some(AnswerSchema::of::<T>()), media_types: JSON, description }
}

/// A `200` whose body is an HTML page.
pub const fn html_page<T: JsonSchema>(description: &'static str) -> AnswerDoc {
    AnswerDoc { status: 200, schema: Some(AnswerSchema::of::<T>()), media_types: &["text/html"], description }
}

/// A `204`.
pub const fn done(description: &'static str) -> AnswerDoc {
    AnswerDoc { status: 204, schema: None, media_types: JSON, description }
}
