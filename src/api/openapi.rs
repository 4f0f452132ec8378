//! The OpenAPI 3.1 description of the native API, built from its route table: who may call, which parameters and
//! bodies there are and how large, and every status that a route can answer.
//!
//! Invariant: a route without an operation, or an operation without a route, fails a test.

mod configuration;
mod errors;
mod observation;
mod operations;
mod parameters;
mod parts;
mod publishing;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::media::Body;
use super::native::routes::ROUTES;
use super::route::{Access, Route, Verb};
use operations::{Answer, Operation};

/// The document that `GET /openapi.json` and `postrider openapi` give.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.verb.as_str().to_lowercase()] = operation(route);
    }
    let mut schemas = Map::new();
    for part in [publishing::schemas(), configuration::schemas(), observation::schemas(), errors::schemas()] {
        schemas.extend(part);
    }
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Postrider",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Webhook delivery: publish events, have them delivered, see what happened, send them again.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": errors::responses(),
            "headers": errors::headers(),
            "securitySchemes": {
                "key": { "type": "http", "scheme": "bearer", "description": "An API key. Without the scope that an operation names, 403." },
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let known = operations::of(route);
    let Operation { id, tag, summary, request, answers, .. } = known;
    let mut value = json!({
        "operationId": id,
        "tags": [tag],
        "summary": summary,
        "security": security(route),
        "parameters": parameters::of(route),
    });
    if let Some(schema) = request {
        value["requestBody"] = request_body(route.body, schema);
    }
    let mut responses: Map<String, Value> = Map::new();
    for answer in *answers {
        responses.insert(answer.status.to_string(), response(route.verb, answer));
    }
    for status in errors::of(route) {
        let shared = json!({ "$ref": format!("#/components/responses/{}", errors::name(status)) });
        responses.entry(status.to_string()).or_insert(shared);
    }
    value["responses"] = Value::Object(responses);
    value
}

/// OpenAPI 3.1 section 4.8.30 lets a requirement of any scheme list roles: here the scope.
fn security(route: &Route) -> Value {
    match route.access {
        Access::Open(_) | Access::Metrics(_) => json!([]),
        Access::Judged(..) => json!([{ "key": [] }]),
        Access::Scope(scope, _) => json!([{ "key": [scope.as_str()] }]),
        Access::Installation(_) => json!([{ "key": ["admin"] }]),
    }
}

fn request_body(rule: Body, schema: &str) -> Value {
    let of = |name: &str| json!({ "schema": parts::reference(name) });
    let content = match rule {
        Body::Event => json!({
            "application/json": of(schema),
            "application/cloudevents+json": of("CloudEvent"),
            "application/cloudevents-batch+json": of("CloudEvents"),
        }),
        Body::MergePatch => json!({ "application/json": of(schema), "application/merge-patch+json": of(schema) }),
        _ => json!({ "application/json": of(schema) }),
    };
    json!({ "required": rule != Body::OptionalJson, "content": content })
}

fn response(verb: Verb, answer: &Answer) -> Value {
    let mut headers = json!({ "X-Request-Id": { "$ref": "#/components/headers/RequestId" } });
    if verb == Verb::Post {
        headers["Idempotent-Replayed"] = json!({ "$ref": "#/components/headers/Replayed" });
    }
    let mut value = json!({ "description": answer.description, "headers": headers });
    if let Some(schema) = answer.schema {
        let media_type = answer.media_type;
        value["content"] = json!({ media_type: { "schema": schema_of(schema) } });
    }
    value
}

/// A list's schema by the name of its rows in brackets, any other by its own.
fn schema_of(name: &str) -> Value {
    match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(row) => parts::list(row),
        None => parts::reference(name),
    }
}
