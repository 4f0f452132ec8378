//! The documentation of a dialect, in the vocabulary of `api::doc`.

use serde_json::{Map, Value};

use crate::api::doc::schema::AnswerSchema;
use crate::api::doc::{AnswerDoc, RouteDoc};
use crate::api::params::Param;
use crate::api::route::Route;

/// The documentation of one dialect, besides its route table.
pub struct DialectDoc {
    /// Prefix of the names of its components.
    pub prefix: &'static str,
    pub description: &'static str,
    /// The ways to show a key, each as names of security schemes that it needs together.
    pub credentials: &'static [&'static [&'static str]],
    /// Header parameters of every route.
    pub headers: &'static [Param],
    /// Schemas of request bodies, by name.
    pub forms: fn() -> Map<String, Value>,
    /// The body of an error.
    pub error: AnswerSchema,
    /// Additional error statuses of a route.
    pub failures: fn(&Route) -> Vec<u16>,
    /// Statuses whose responses have no body.
    pub empty: &'static [u16],
    /// Headers of every response: name and component.
    pub answers_carry: &'static [(&'static str, &'static str)],
    /// Headers of every error: name and component.
    pub errors_carry: &'static [(&'static str, &'static str)],
    /// Examples as JSON: by operation id, status and name, and under `errors` by status and name.
    pub examples: &'static str,
}

impl DialectDoc {
    /// The examples. Panics if they are not JSON: the tests cover all dialects.
    pub fn examples(&self) -> Value {
        serde_json::from_str(self.examples).expect("the examples are JSON")
    }
}

/// A route of a dialect without a request body.
pub const fn doc(id: &'static str, summary: &'static str, answers: &'static [AnswerDoc]) -> RouteDoc {
    RouteDoc { id, tag: None, summary, request: None, may_lack_body: false, answers }
}

/// 404 if the path names an object.
pub fn missing_object(route: &Route) -> Vec<u16> {
    if route.path.contains('{') { vec![404] } else { Vec::new() }
}
