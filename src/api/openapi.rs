//! The OpenAPI 3.1 document of the native API and of the dialects, built from their route tables.
//!
//! Invariant: the document equals `tests/data/openapi.json`, so that every change of it is seen in review.

mod dialects;
mod errors;
mod forms;
pub mod html;
mod parameters;
mod publishing;

#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock, OnceLock};

use bytes::Bytes;
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::dialects::{DIALECTS, Dialect};
use super::doc::{AnswerDoc, RouteDoc, parts, schema};
use super::media::BodyRule;
use super::native::routes::ROUTES;
use super::params::EmptyValues;
use super::problem::ProblemDocument;
use super::route::{Route, RouteAccess, RouteMethod};

const ABOUT: &str = "\
Producers publish events; Postrider stores them before it answers, sends each one signed to every webhook that wants it, \
retries on the webhook's schedule, and keeps every attempt.

Times are RFC 3339 in UTC with milliseconds. Absent values are null, never left out. Lists are newest first: go on from \
`next_cursor` until it is null; a filtered page may hold fewer rows than `limit`, even none. `X-Request-Id` is taken or \
made, and sent back. Errors of the native API are RFC 9457 problems, those of the six dialects come in the dialect's \
own envelope; what the server refuses before it knows whose route it is (408, 414, 431, and a 400, 413 or 415 for how \
the request is framed) is a problem everywhere.";

/// The parts of the native API.
const TAGS: [(&str, &str); 11] = [
    ("events", "What producers publish."),
    ("webhooks", "Where events are sent, how, and which."),
    ("deliveries", "One event on its way to one webhook, and each attempt at it."),
    ("replays", "Past events, sent again."),
    ("figures", "How deliveries went, counted."),
    ("event-types", "The event types that an organization describes."),
    ("apps", "Tenants within an organization."),
    ("keys", "Who may do what."),
    ("organizations", "Who runs producers; owns everything else."),
    ("audit", "Who did what."),
    ("daemon", "The daemon about itself."),
];

/// The texts of `GET /openapi.json` and of `GET /docs`, each built at its first use, because that takes some milliseconds
/// that would delay the start.
#[derive(Debug, Clone, Default)]
pub struct Description {
    dialects: Vec<&'static str>,
    text: Arc<OnceLock<Bytes>>,
    page: Arc<OnceLock<Bytes>>,
}

impl Description {
    /// The description with the enabled dialects.
    pub fn of(is_on: impl Fn(&str) -> bool) -> Description {
        let names = DIALECTS.iter().map(|dialect| dialect.name);
        Description { dialects: names.filter(|name| is_on(name)).collect(), ..Description::default() }
    }

    fn document(&self) -> Value {
        document_of(|name| self.dialects.contains(&name))
    }

    /// The document as JSON.
    pub fn text(&self) -> Bytes {
        self.text.get_or_init(|| self.document().to_string().into()).clone()
    }

    /// The document as an HTML page.
    pub fn page(&self) -> Bytes {
        self.page.get_or_init(|| html::page(&self.document()).into()).clone()
    }
}

/// The document of `GET /openapi.json`, without disabled dialects and the components that only they use.
pub fn document_of(is_on: impl Fn(&str) -> bool) -> Value {
    let mut document = document();
    let off: Vec<_> = DIALECTS.iter().filter(|dialect| !is_on(dialect.name)).collect();
    for dialect in &off {
        for route in dialect.routes {
            remove(&mut document, "/paths", route.path);
        }
    }
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.retain(|tag| !off.iter().any(|dialect| tag["name"] == dialect.name));
    }
    if !off.is_empty() {
        remove_unused(&mut document);
    }
    document
}

fn remove(document: &mut Value, place: &str, name: &str) {
    document.pointer_mut(place).and_then(Value::as_object_mut).map(|members| members.shift_remove(name));
}

/// Removes components without a reference, until every remaining one is used.
fn remove_unused(document: &mut Value) {
    loop {
        let text = document.to_string();
        let parts = document["components"].as_object().into_iter().flatten();
        let unused: Vec<(String, String)> = parts
            .flat_map(|(kind, parts)| parts.as_object().into_iter().flatten().map(move |(name, _)| (kind, name)))
            .filter(|(kind, name)| match kind.as_str() {
                "securitySchemes" => !text.contains(&format!("\"{name}\":[")),
                _ => !text.contains(&format!("\"#/components/{kind}/{name}\"")),
            })
            .map(|(kind, name)| (kind.clone(), name.clone()))
            .collect();
        if unused.is_empty() {
            return;
        }
        for (kind, name) in unused {
            remove(document, &format!("/components/{kind}"), &name);
        }
    }
}

/// The document with all dialects, as `postrider openapi` prints it.
pub fn document() -> Value {
    document_with(&DIALECTS)
}

/// The document with these dialects.
pub fn document_with(published: &[&Dialect]) -> Value {
    let mut generator = schema::generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.verb.as_str().to_lowercase()] = operation(route, &mut generator);
    }
    dialects::add_paths(&mut paths, published, &mut generator);
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Postrider",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Webhook delivery: publish events, have them delivered, see what happened, send them again.",
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags(published),
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas(published, generator),
            "responses": joined([errors::responses(), dialects::responses(published)]),
            "headers": joined([errors::headers(), dialects::headers()]),
            "securitySchemes": security_schemes(),
        },
    })
}

fn joined<const N: usize>(parts: [Map<String, Value>; N]) -> Map<String, Value> {
    parts.into_iter().flatten().collect()
}

/// All schemas, those with an example included: the schemas of forms, and those that the answers added.
fn schemas(published: &[&Dialect], mut generator: SchemaGenerator) -> Map<String, Value> {
    generator.subschema_for::<ProblemDocument>();
    let answers = generator.take_definitions(true);
    let mut all = joined([publishing::schemas(), forms::schemas(), answers, dialects::forms(published)]);
    // The name of a media type has a slash, the name of a schema has none.
    for (name, example) in examples().iter().filter(|(name, _)| !name.contains('/')) {
        all[name]["examples"] = json!([example]);
    }
    all
}

/// Examples by the name of their schema, or by the media type that is not the first of its response.
fn examples() -> &'static Map<String, Value> {
    static EXAMPLES: LazyLock<Map<String, Value>> =
        LazyLock::new(|| serde_json::from_str(include_str!("openapi/examples.json")).expect("the examples are JSON"));
    &EXAMPLES
}

/// The example of a schema, or of a list of it if its name is in brackets. Null if there is none.
fn example(name: &str) -> Value {
    let of = |name: &str| examples().get(name).cloned();
    match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(row) => of(row).map_or(Value::Null, |row| json!({ "data": [row], "next_cursor": null })),
        // One event or a batch. The example shows one event, the common case.
        None if name == "PublishedAny" => of("Published").unwrap_or_default(),
        None => of(name).unwrap_or_default(),
    }
}

/// A schema with its example, if it has one.
fn content(schema: Value, name: &str) -> Value {
    match example(name) {
        Value::Null => json!({ "schema": schema }),
        example => json!({ "schema": schema, "example": example }),
    }
}

fn tags(published: &[&Dialect]) -> Vec<Value> {
    let own = TAGS.iter().map(|(name, description)| json!({ "name": name, "description": description }));
    own.chain(dialects::tags(published)).collect()
}

fn security_schemes() -> Map<String, Value> {
    let description = "An API key. Without the scope that an operation names, 403.";
    let bearer = json!({ "type": "http", "scheme": "bearer", "description": description });
    let mut all: Map<String, Value> = [("key".to_owned(), bearer)].into_iter().collect();
    all.extend(dialects::security_schemes());
    all
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let RouteDoc { id, tag, summary, request, may_lack_body, answers } = &route.doc;
    let mut value = json!({
        "operationId": id,
        "tags": [tag],
        "summary": summary,
        "description": scope(route),
        "security": security(route),
        "parameters": parameters::of(route, &[], EmptyValues::Refused),
    });
    if let Some(schema) = request {
        value["requestBody"] = request_body(route.body, schema, *may_lack_body);
    }
    let mut responses: Map<String, Value> = Map::new();
    for answer in *answers {
        responses.insert(answer.status.to_string(), response(route.verb, answer, generator));
    }
    for status in errors::of(route) {
        let shared = json!({ "$ref": format!("#/components/responses/{}", errors::name(status)) });
        responses.entry(status.to_string()).or_insert(shared);
    }
    value["responses"] = Value::Object(responses);
    value
}

/// A sentence that says which keys may use the route.
fn scope(route: &Route) -> String {
    match route.access {
        RouteAccess::Open(_) | RouteAccess::OpenStep(_) => "No key is asked for.".into(),
        RouteAccess::Metrics(_) => "No key is asked for, unless `metrics.key` names one.".into(),
        RouteAccess::Authorized(..) => "Any key.".into(),
        RouteAccess::Scope(scope, _) => format!("Scope: `{}`.", scope.as_str()),
        RouteAccess::Installation(_) => "Scope: `admin`, and the key must be the installation's own.".into(),
    }
}

/// OpenAPI 3.1 section 4.8.30 lets a requirement of any scheme list roles. Here the role is the scope.
fn security(route: &Route) -> Value {
    match route.access {
        RouteAccess::Open(_) | RouteAccess::OpenStep(_) | RouteAccess::Metrics(_) => json!([]),
        RouteAccess::Authorized(..) => json!([{ "key": [] }]),
        RouteAccess::Scope(scope, _) => json!([{ "key": [scope.as_str()] }]),
        RouteAccess::Installation(_) => json!([{ "key": ["admin"] }]),
    }
}

fn request_body(rule: BodyRule, schema: &str, may_lack_body: bool) -> Value {
    let of = |name: &str| content(parts::reference(name), name);
    let content = match rule {
        BodyRule::Event(_) => json!({
            "application/json": of(schema),
            "application/cloudevents+json": of("CloudEvent"),
            "application/cloudevents-batch+json": of("CloudEvents"),
        }),
        BodyRule::MergePatch => json!({ "application/json": of(schema), "application/merge-patch+json": of(schema) }),
        _ => json!({ "application/json": of(schema) }),
    };
    json!({ "required": !may_lack_body && !matches!(rule, BodyRule::OptionalJson), "content": content })
}

fn response(verb: RouteMethod, answer: &AnswerDoc, generator: &mut SchemaGenerator) -> Value {
    let mut headers = json!({ "X-Request-Id": { "$ref": "#/components/headers/RequestId" } });
    if verb == RouteMethod::Post {
        headers["Idempotent-Replayed"] = json!({ "$ref": "#/components/headers/Replayed" });
    }
    let mut value = json!({ "description": answer.description, "headers": headers });
    if let Some(schema) = answer.schema {
        let (name, described) = ((schema.name)(), Value::from((schema.describe)(generator)));
        for (index, media_type) in answer.media_types.iter().enumerate() {
            value["content"][media_type] = match index {
                0 => content(described.clone(), &name),
                // Its example has its own name.
                _ => content(described.clone(), media_type),
            };
        }
    }
    value
}
