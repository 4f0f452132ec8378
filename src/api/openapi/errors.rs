//! What can go wrong, per route and in one place each: problem documents and the headers around them.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::api::media::Body;
use crate::api::route::{Access, Route, Verb};

use super::parts::{items, record, reference, text};

/// Each status that is a problem, and when it comes.
const STATUSES: [(u16, &str); 16] = [
    (400, "The request or its JSON is malformed, or a query parameter is unknown, repeated or wrong."),
    (401, "The key is missing, wrong or expired."),
    (403, "The key does not have the scope, or a page of another origin sent the request."),
    (404, "There is nothing of that name, or it belongs to another organization or app."),
    (408, "The request took too long to arrive."),
    (409, "It contradicts what is there already, or `Idempotency-Key` was used for another request."),
    (413, "The body is over the limit of the route."),
    (414, "The request target is over 8 KiB."),
    (415, "The body's media type or encoding is not taken here."),
    (421, "The `Host` is none that this daemon answers to."),
    (422, "The JSON is well-formed, but values in it are wrong: `errors` names all of them."),
    (429, "The key makes more requests per second than it may."),
    (431, "There are over 100 headers, or over 64 KiB of them."),
    (500, "A fault of Postrider's own."),
    (503, "Storage is not available, or the queue is full: nothing was kept."),
    (507, "The disk is full: nothing new is taken."),
];

/// The statuses, beside those of its answers, that a route can give.
pub fn of(route: &Route) -> Vec<u16> {
    let open = matches!(route.access, Access::Open(_));
    let keyed = matches!(route.access, Access::Scope(..) | Access::Installation(_));
    let writes = route.verb != Verb::Get;
    let names_app =
        matches!(route.path, "/v1/events" | "/v1/events/batch" | "/v1/webhooks" | "/v1/keys" | "/v1/replays");
    let takes_fields = route.body != Body::None;
    STATUSES
        .iter()
        .map(|(status, _)| *status)
        .filter(|status| match status {
            401 => !open,
            404 => route.path.contains("{id}") || names_app || matches!(route.access, Access::Metrics(_)),
            409 | 507 => writes,
            422 => takes_fields || route.verb == Verb::Post,
            429 => keyed,
            500 | 503 => keyed,
            _ => true,
        })
        .collect()
}

/// The name of a status's shared response: `UnprocessableEntity`.
pub fn name(status: u16) -> String {
    let phrase = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error");
    phrase.split([' ', '-']).collect()
}

/// The shared responses.
pub fn responses() -> Map<String, Value> {
    let mut all = Map::new();
    for (status, when) in STATUSES {
        let mut headers = json!({ "X-Request-Id": { "$ref": "#/components/headers/RequestId" } });
        match status {
            401 => headers["WWW-Authenticate"] = json!({ "$ref": "#/components/headers/Challenge" }),
            429 | 503 | 507 => headers["Retry-After"] = json!({ "$ref": "#/components/headers/RetryAfter" }),
            _ => {}
        }
        let content = json!({ "application/problem+json": { "schema": reference("Problem") } });
        all.insert(name(status), json!({ "description": when, "headers": headers, "content": content }));
    }
    all
}

/// The shared headers.
pub fn headers() -> Value {
    let header = |description: &str, schema: Value| json!({ "description": description, "schema": schema });
    json!({
        "RequestId": header("The request's id: the caller's own, or one made for it.", text()),
        "Replayed": header("`true` where this is the first answer to the `Idempotency-Key` given again.", text()),
        "RetryAfter": header("Seconds until another try is worth it.", json!({ "type": "integer", "minimum": 0 })),
        "Challenge": header("The scheme of the credentials.", text()),
    })
}

pub fn schemas() -> Map<String, Value> {
    let mut problem = record([
        ("type", text()),
        ("title", text()),
        ("status", json!({ "type": "integer" })),
        ("detail", text()),
        (
            "code",
            json!({ "type": "string", "pattern": "^[a-z][a-z0-9_]*$", "description": "Stable: what programs compare." }),
        ),
        ("request_id", text()),
    ]);
    problem["properties"]["errors"] = items(record([("pointer", text()), ("detail", text())]), 100);
    problem["description"] =
        "RFC 9457. `errors` is there where fields of the body are at fault, by JSON Pointer.".into();
    [("Problem".to_owned(), problem)].into_iter().collect()
}
