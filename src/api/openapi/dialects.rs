//! Adds the dialects to the OpenAPI document: their routes, documentation and examples.
//!
//! Invariant: the scope that a route shows is the one that it requires. The examples equal the golden files.

use http::StatusCode;
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use crate::api::dialects::Dialect;
use crate::api::doc::{AnswerDoc, RouteDoc, parts};
use crate::api::error::ApiError;
use crate::api::media::BodyRule;
use crate::api::params::EmptyValues;
use crate::api::route::{ErrorContext, Route, RouteAccess, RouteMethod};
use crate::model::Time;

use super::{errors, parameters};

/// The time in the examples of errors.
const EXAMPLE_TIME: Time = Time(1_772_704_800_000);
/// Statuses that the server answers in the native form before it finds the route.
const BY_THE_SERVER: [u16; 3] = [408, 414, 431];
/// Statuses that the server answers in the native form, and the dialect in its own.
const BY_EITHER: [u16; 3] = [400, 413, 415];
const ALWAYS: [u16; 12] = [400, 401, 403, 408, 413, 414, 415, 421, 429, 431, 500, 503];

/// Adds every route of the dialects to the paths.
pub fn add_paths(paths: &mut Map<String, Value>, published: &[&Dialect], generator: &mut SchemaGenerator) {
    for dialect in published {
        (dialect.doc.error.describe)(generator);
        let examples = dialect.doc.examples();
        for route in dialect.routes {
            let path = paths.entry(route.path).or_insert_with(|| json!({}));
            path[route.verb.as_str().to_lowercase()] = dialect.described(route, &examples, generator);
        }
    }
}

/// The schemas of the dialects' request bodies.
pub fn forms(published: &[&Dialect]) -> Map<String, Value> {
    published.iter().flat_map(|dialect| (dialect.doc.forms)()).collect()
}

/// The errors of the dialects, in their own envelopes.
pub fn responses(published: &[&Dialect]) -> Map<String, Value> {
    published.iter().flat_map(|dialect| dialect.responses()).collect()
}

/// One tag for each dialect, with its description.
pub fn tags(published: &[&Dialect]) -> Vec<Value> {
    let tag = |dialect: &&Dialect| json!({ "name": dialect.name, "description": dialect.doc.description });
    published.iter().map(tag).collect()
}

/// The authentication schemes of the dialects, besides `Authorization: Bearer`.
pub fn security_schemes() -> Map<String, Value> {
    let header = |name: &str, description: &str| json!({ "type": "apiKey", "in": "header", "name": name, "description": description });
    let basic = "An API key as the password, any user name.";
    [
        ("basic", json!({ "type": "http", "scheme": "basic", "description": basic })),
        ("apiKey", header("x-api-key", "An API key.")),
        ("clientKey", header("x-client-key", "The id of the API key. It may be missing.")),
        ("clientSecret", header("x-client-secret", "The API key itself.")),
    ]
    .map(|(name, scheme)| (name.to_owned(), scheme))
    .into_iter()
    .collect()
}

/// Response headers that only dialects have.
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

impl Dialect {
    fn described(&self, route: &Route, examples: &Value, generator: &mut SchemaGenerator) -> Value {
        let RouteDoc { id, summary, request, may_lack_body, answers, .. } = &route.doc;
        let examples = &examples[*id];
        let mut value = json!({
            "operationId": id,
            "tags": [self.name],
            "summary": summary,
            "security": self.security(route),
            "parameters": parameters::of(route, self.doc.headers, EmptyValues::Absent),
        });
        if let Some(schema) = request {
            // CloudEvents are an input of the native API alone.
            let rule = if matches!(route.body, BodyRule::Event(_)) { BodyRule::Json } else { route.body };
            value["requestBody"] = super::request_body(rule, schema, *may_lack_body);
        }
        let mut responses: Map<String, Value> = Map::new();
        for answer in *answers {
            responses.insert(answer.status.to_string(), self.answer(route.verb, answer, examples, generator));
        }
        for status in self.statuses(route) {
            let own = format!("{}{}", self.doc.prefix, errors::name(status));
            let name = if BY_THE_SERVER.contains(&status) { errors::name(status) } else { own };
            responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{name}") }));
        }
        value["responses"] = Value::Object(responses);
        value
    }

    /// All ways to show a key of the dialect, with the scope of the route. Without a scope, the list of roles is empty. An
    /// open route asks for no key.
    fn security(&self, route: &Route) -> Value {
        if route.is_open() {
            return json!([]);
        }
        let scope = match route.access {
            RouteAccess::Authorized(scope, ..) | RouteAccess::Scope(scope, _) => Some(scope.as_str()),
            RouteAccess::Open(_)
            | RouteAccess::OpenStep(_)
            | RouteAccess::Metrics(_)
            | RouteAccess::Installation(_) => None,
        };
        let roles: Vec<&str> = scope.into_iter().collect();
        let one = |name: &&str| ((*name).to_owned(), json!(roles));
        let ways = self.doc.credentials.iter().map(|names| names.iter().map(one).collect::<Map<String, Value>>());
        ways.map(Value::Object).collect()
    }

    fn statuses(&self, route: &Route) -> Vec<u16> {
        let changes = if route.verb == RouteMethod::Get { [].as_slice() } else { &[409, 507] };
        let mut all = [&ALWAYS, changes, &(self.doc.failures)(route)].concat();
        if route.is_open() {
            all.retain(|status| ![401, 403].contains(status));
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    fn answer(
        &self,
        verb: RouteMethod,
        answer: &AnswerDoc,
        examples: &Value,
        generator: &mut SchemaGenerator,
    ) -> Value {
        let mut value = super::response(verb, answer, generator);
        for (name, header) in self.doc.answers_carry {
            value["headers"][name] = header_reference(header);
        }
        if let Some(named) = examples[answer.status.to_string()].as_object() {
            value["content"][answer.media_types[0]]["examples"] = shown(named);
        }
        value
    }

    /// The errors of all its routes, in its own envelope.
    fn responses(&self) -> Map<String, Value> {
        let examples = self.doc.examples();
        let mut statuses: Vec<u16> = self.routes.iter().flat_map(|route| self.statuses(route)).collect();
        statuses.sort_unstable();
        statuses.dedup();
        statuses.retain(|status| !BY_THE_SERVER.contains(status));
        let named = statuses.into_iter().map(|status| {
            let named = examples["errors"][status.to_string()].as_object();
            (format!("{}{}", self.doc.prefix, errors::name(status)), self.failure(status, named))
        });
        named.collect()
    }

    fn failure(&self, status: u16, examples: Option<&Map<String, Value>>) -> Value {
        let mut value = errors::response(status);
        for (name, header) in self.doc.errors_carry {
            value["headers"][name] = header_reference(header);
        }
        if self.doc.empty.contains(&status) {
            value.as_object_mut().expect("a response").remove("content");
            return value;
        }
        let schema = parts::reference(&(self.doc.error.name)());
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

    /// The body of an error with this status. Panics if the dialect renders no such error: the tests cover all statuses.
    fn rendered(&self, status: u16) -> Value {
        let (code, detail) = errors::example_error(status);
        let status = StatusCode::from_u16(status).expect("a status");
        let error_context = ErrorContext {
            request_id: errors::REQUEST_ID,
            now: EXAMPLE_TIME,
            pattern: self.routes[0].path,
            verb: Some(self.routes[0].verb),
            slashes: 1,
        };
        // Some dialects answer a missing object with another status. None does so for a missing path.
        let errors = [ApiError::new(status, code, detail), ApiError::no_route()];
        let mut responses = errors.iter().map(|api_error| (self.render)(api_error, &error_context));
        let response = responses.find(|response| response.status == status).expect("an error with this status");
        serde_json::from_slice(&response.body).expect("errors are JSON")
    }
}

fn header_reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

fn shown(named: &Map<String, Value>) -> Value {
    named.iter().map(|(name, value)| (name.clone(), json!({ "value": value }))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests;
