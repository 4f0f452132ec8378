//! The five dialects in the description: their routes out of their own tables, in their own words, with the examples that
//! the golden files hold.
//!
//! Invariant: a page adds words to a dialect's table and takes nothing from it; a route without an operation, an operation
//! without a route, a scope that the route does not ask for, and an example that the golden files have otherwise fail a
//! test.

mod devdraft;
mod dfns;
mod everlytic;
mod instantly;
mod sentdm;

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::api::dialects::{DIALECTS, Dialect};
use crate::api::error::ApiError;
use crate::api::route::{ErrorContext, Route, RouteMethod};
use crate::model::{Scope, Time};

use super::operations::{AnswerDoc, Operation};
use super::{errors, parameters, parts};

/// What the description says of one dialect beside its table.
pub struct DialectDoc {
    /// As `Dialect::name`.
    pub name: &'static str,
    /// What the names of its shared parts begin with.
    pub prefix: &'static str,
    pub description: &'static str,
    pub operations: &'static [DialectOperation],
    /// Requirements of OpenAPI's `security`, without roles.
    pub credentials: &'static [&'static str],
    pub parameter: fn(&str, &Route) -> Value,
    /// Header parameters of every route.
    pub headers: fn() -> Vec<Value>,
    pub schemas: fn() -> Map<String, Value>,
    /// Statuses that this dialect answers a route with beside those that every route has.
    pub failures: fn(&Route) -> Vec<u16>,
    /// Statuses whose answers have no body.
    pub empty: &'static [u16],
    /// Headers of every answer: name, shared header.
    pub answers_carry: &'static [(&'static str, &'static str)],
    /// Headers of every error.
    pub errors_carry: &'static [(&'static str, &'static str)],
    /// By operation id, then status, then name; and under `errors` by status, then name.
    pub examples: &'static str,
}

/// An operation, and the scope that its route asks for.
pub struct DialectOperation {
    pub scope: Scope,
    pub operation: Operation,
}

pub static PAGES: [&DialectDoc; 5] = [&instantly::PAGE, &dfns::PAGE, &everlytic::PAGE, &sentdm::PAGE, &devdraft::PAGE];

/// When the errors of the examples come.
const EXAMPLE_TIME: Time = Time(1_772_704_800_000);
/// Refused before it is known whose route it is, in the native form.
const BY_THE_SERVER: [u16; 3] = [408, 414, 431];
/// Refused in the native form or in the dialect's, depending on how far the request came.
const BY_EITHER: [u16; 3] = [400, 413, 415];
const ALWAYS: [u16; 12] = [400, 401, 403, 408, 413, 414, 415, 421, 429, 431, 500, 503];

/// The page of a dialect. Panics without one: the tests go through all dialects.
pub fn page_of(dialect: &Dialect) -> &'static DialectDoc {
    let found = PAGES.iter().find(|page| page.name == dialect.name);
    found.unwrap_or_else(|| panic!("the dialect {} is described nowhere", dialect.name))
}

/// Puts every route of every dialect among the paths.
pub fn add_paths(paths: &mut Map<String, Value>) {
    for dialect in DIALECTS {
        let page = page_of(dialect);
        let examples = page.examples();
        for route in dialect.routes {
            let path = paths.entry(route.path).or_insert_with(|| json!({}));
            path[route.verb.as_str().to_lowercase()] = page.described(route, &examples);
        }
    }
}

pub fn schemas() -> Map<String, Value> {
    PAGES.iter().flat_map(|page| (page.schemas)()).collect()
}

pub fn responses() -> Map<String, Value> {
    PAGES.iter().flat_map(|page| page.responses()).collect()
}

/// One tag each, with what there is to know about the dialect as a whole.
pub fn tags() -> Vec<Value> {
    PAGES.iter().map(|page| json!({ "name": page.name, "description": page.description })).collect()
}

/// How the dialects' clients show a key, beside `Authorization: Bearer`.
pub fn security_schemes() -> Map<String, Value> {
    let header = |name: &str, description: &str| json!({ "type": "apiKey", "in": "header", "name": name, "description": description });
    let basic = "An API key as the password, any user name.";
    [
        ("basic", json!({ "type": "http", "scheme": "basic", "description": basic })),
        ("apiKey", header("x-api-key", "An API key.")),
        ("clientKey", header("x-client-key", "The id of the API key.")),
        ("clientSecret", header("x-client-secret", "The API key itself.")),
    ]
    .map(|(name, scheme)| (name.to_owned(), scheme))
    .into_iter()
    .collect()
}

/// Headers that only dialects have.
pub fn headers() -> Map<String, Value> {
    let header = |description: &str| json!({ "description": description, "schema": parts::text() });
    [
        ("ApiVersion", header("Always `v3`.")),
        ("ErrorCode", header("The code of the error, also where there is no body.")),
        ("ProfileId", header("`x-profile-id` sent back, where it was given.")),
    ]
    .map(|(name, header)| (name.to_owned(), header))
    .into_iter()
    .collect()
}

impl DialectDoc {
    fn dialect(&self) -> &'static Dialect {
        DIALECTS.into_iter().find(|dialect| dialect.name == self.name).expect("a page is a dialect's")
    }

    pub fn examples(&self) -> Value {
        serde_json::from_str(self.examples).expect("the examples are JSON")
    }

    /// Panics on a route without an operation: the tests go through all routes.
    pub fn told(&self, route: &Route) -> &'static DialectOperation {
        let same = |told: &&DialectOperation| told.operation.verb == route.verb && told.operation.path == route.path;
        let found = self.operations.iter().find(same);
        found.unwrap_or_else(|| panic!("{} {} is described nowhere", route.verb.as_str(), route.path))
    }

    fn described(&self, route: &Route, examples: &Value) -> Value {
        let DialectOperation { scope, operation } = self.told(route);
        let examples = &examples[operation.id];
        let mut value = json!({
            "operationId": operation.id,
            "tags": [self.name],
            "summary": operation.summary,
            "security": self.security(*scope),
            "parameters": self.parameters(route),
        });
        if let Some(schema) = operation.request {
            value["requestBody"] = super::request_body(route.body, schema);
        }
        let mut responses: Map<String, Value> = Map::new();
        for answer in operation.answers {
            responses.insert(answer.status.to_string(), self.answer(route.verb, answer, examples));
        }
        for status in self.statuses(route) {
            let own = format!("{}{}", self.prefix, errors::name(status));
            let name = if BY_THE_SERVER.contains(&status) { errors::name(status) } else { own };
            responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{name}") }));
        }
        value["responses"] = Value::Object(responses);
        value
    }

    fn security(&self, scope: Scope) -> Value {
        let one = |name: &&str| ((*name).to_owned(), json!([scope.as_str()]));
        json!([self.credentials.iter().map(one).collect::<Map<String, Value>>()])
    }

    fn parameters(&self, route: &Route) -> Vec<Value> {
        let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut all: Vec<Value> =
            in_path.chain(route.query.iter().copied()).map(|name| (self.parameter)(name, route)).collect();
        all.extend((self.headers)());
        if route.verb == RouteMethod::Post {
            all.push(parameters::idempotency_key());
        }
        all
    }

    fn statuses(&self, route: &Route) -> Vec<u16> {
        let changes = if route.verb == RouteMethod::Get { [].as_slice() } else { &[409, 507] };
        let mut all = [&ALWAYS, changes, &(self.failures)(route)].concat();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn answer(&self, verb: RouteMethod, answer: &AnswerDoc, examples: &Value) -> Value {
        let mut value = super::response(verb, answer);
        for (name, header) in self.answers_carry {
            value["headers"][name] = header_reference(header);
        }
        if let Some(named) = examples[answer.status.to_string()].as_object() {
            value["content"][answer.media_type]["examples"] = shown(named);
        }
        value
    }

    /// The errors of all its routes, in its envelope.
    fn responses(&self) -> Map<String, Value> {
        let examples = self.examples();
        let mut statuses: Vec<u16> = self.dialect().routes.iter().flat_map(|route| self.statuses(route)).collect();
        statuses.sort_unstable();
        statuses.dedup();
        statuses.retain(|status| !BY_THE_SERVER.contains(status));
        let named = statuses.into_iter().map(|status| {
            let named = examples["errors"][status.to_string()].as_object();
            (format!("{}{}", self.prefix, errors::name(status)), self.failure(status, named))
        });
        named.collect()
    }

    fn failure(&self, status: u16, examples: Option<&Map<String, Value>>) -> Value {
        let mut value = errors::response(status);
        for (name, header) in self.errors_carry {
            value["headers"][name] = header_reference(header);
        }
        if self.empty.contains(&status) {
            value.as_object_mut().expect("a response").remove("content");
            return value;
        }
        let schema = parts::reference(&format!("{}Error", self.prefix));
        let mut own = json!({ "schema": schema });
        match examples {
            Some(named) => own["examples"] = shown(named),
            None => own["example"] = self.rendered(status),
        }
        match BY_EITHER.contains(&status) {
            true => value["content"]["application/json"] = own,
            false => value["content"] = json!({ "application/json": own }),
        }
        value
    }

    /// What the dialect makes of a fault of this status. Panics where it makes none of any: the tests go through all.
    fn rendered(&self, status: u16) -> Value {
        let dialect = self.dialect();
        let (code, detail) = errors::said(status);
        let status = StatusCode::from_u16(status).expect("a status");
        let error_context =
            ErrorContext { request_id: errors::REQUEST_ID, now: EXAMPLE_TIME, pattern: dialect.routes[0].path };
        // What is not there is answered otherwise by some; a path that is not there by none.
        let faults = [ApiError::new(status, code, detail), ApiError::no_route()];
        let mut replies = faults.iter().map(|api_error| (dialect.render)(api_error, &error_context));
        let response = replies.find(|response| response.status == status).expect("a fault that is answered so");
        serde_json::from_slice(&response.body).expect("errors are JSON")
    }
}

fn header_reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

fn shown(named: &Map<String, Value>) -> Value {
    named.iter().map(|(name, value)| (name.clone(), json!({ "value": value }))).collect::<Map<_, _>>().into()
}

const fn told(
    scope: Scope,
    verb: RouteMethod,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    answers: &'static [AnswerDoc],
) -> DialectOperation {
    DialectOperation { scope, operation: Operation { verb, path, id, tag: "", summary, request: None, answers } }
}

/// The same with a body.
const fn with(told: DialectOperation, request: &'static str) -> DialectOperation {
    let Operation { verb, path, id, tag, summary, answers, .. } = told.operation;
    DialectOperation {
        scope: told.scope,
        operation: Operation { verb, path, id, tag, summary, request: Some(request), answers },
    }
}

fn query(name: &str, schema: Value, description: &str) -> Value {
    parameters::parameter("query", name, schema, description)
}

fn in_path(name: &str, schema: Value, description: &str) -> Value {
    parameters::parameter("path", name, schema, description)
}

/// 404 where something is named in the path.
fn where_something_is_named(route: &Route) -> Vec<u16> {
    if route.path.contains('{') { vec![404] } else { Vec::new() }
}

/// 422 as well, where there is a body to judge or a header that only changes have.
fn with_bodies(route: &Route) -> Vec<u16> {
    let mut all = where_something_is_named(route);
    if !route.body.is_none() {
        all.push(422);
    }
    all
}

/// A whole number that has a value where it is not given.
fn defaulted(min: u64, max: u64, default: u64) -> Value {
    let mut schema = parts::whole(min, max);
    schema["default"] = default.into();
    schema
}

#[cfg(test)]
mod tests;
