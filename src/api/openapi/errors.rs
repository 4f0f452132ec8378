//! Errors in the OpenAPI document, by route: problem documents and their headers.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::api::route::{Route, RouteAccess, RouteMethod};

use crate::api::doc::parts::{reference, text};

/// Each status of a problem document, and its cause.
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

/// A status that only a dialect answers, in its own envelope.
const OF_DIALECTS: [(u16, &str); 1] = [(412, "The JSON is well-formed, but values in it are wrong.")];

/// The request id of every example.
pub const REQUEST_ID: &str = "019cbd7c-0f28-7d70-b3a1-5a0fd0e7c4d2";

/// The error statuses of a route.
pub fn of(route: &Route) -> Vec<u16> {
    let open = matches!(route.access, RouteAccess::Open(_));
    let keyed = matches!(route.access, RouteAccess::Scope(..) | RouteAccess::Installation(_));
    let writes = route.verb != RouteMethod::Get;
    // Their fields or parameters name an app or deliveries.
    let names_objects = matches!(
        route.path,
        "/v1/events"
            | "/v1/events/batch"
            | "/v1/event-types"
            | "/v1/attempts"
            | "/v1/deliveries"
            | "/v1/stats"
            | "/v1/stats/series"
            | "/v1/webhooks"
            | "/v1/keys"
            | "/v1/portal-links"
            | "/v1/replays"
    );
    let takes_fields = !route.body.is_none();
    STATUSES
        .iter()
        .map(|(status, _)| *status)
        .filter(|status| match status {
            401 => !open,
            404 => route.path.contains('{') || names_objects || matches!(route.access, RouteAccess::Metrics(_)),
            // The caller may have another store, or a higher term of this one.
            409 => writes || route.path == "/v1/replication",
            // Reading a secret leaves an audit line.
            507 => writes || route.path.ends_with("/secret"),
            422 => takes_fields || route.verb == RouteMethod::Post,
            429 => keyed,
            500 | 503 => keyed,
            _ => true,
        })
        .collect()
}

/// The name of the shared response of a status, such as `UnprocessableEntity`.
pub fn name(status: u16) -> String {
    let phrase = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error");
    phrase.split([' ', '-']).collect()
}

/// The shared responses.
pub fn responses() -> Map<String, Value> {
    STATUSES.iter().map(|(status, _)| (name(*status), response(*status))).collect()
}

/// The native response of a status, which a dialect gives its own content. Panics if the status is not a problem.
pub fn response(status: u16) -> Value {
    let (_, when) =
        STATUSES.iter().chain(&OF_DIALECTS).find(|(known, _)| *known == status).expect("a status of the table");
    let mut headers = json!({ "X-Request-Id": { "$ref": "#/components/headers/RequestId" } });
    match status {
        401 => headers["WWW-Authenticate"] = json!({ "$ref": "#/components/headers/Challenge" }),
        429 | 503 | 507 => headers["Retry-After"] = json!({ "$ref": "#/components/headers/RetryAfter" }),
        _ => {}
    }
    let problem = json!({ "schema": reference("Problem"), "example": example(status) });
    json!({ "description": when, "headers": headers, "content": { "application/problem+json": problem } })
}

/// Code and detail of an error with the status, as the daemon words them.
pub fn example_error(status: u16) -> (&'static str, &'static str) {
    match status {
        400 => ("invalid_parameter", "limit must be a whole number from 1 to 250"),
        401 => ("credentials_missing", "an Authorization: Bearer header with a key is needed"),
        403 => ("scope_missing", "this key, billing, does not have the scope events:write"),
        404 => ("not_found", "webhook not found"),
        408 => ("request_timeout", "the body took too long"),
        409 => ("event_id_conflict", "event_id \"inv-42-paid\" was used with another type or other data"),
        413 => ("body_too_large", "the body is over 1048576 bytes"),
        414 => ("target_too_long", "the request target is longer than 8192 bytes"),
        415 => ("media_type", "the body must come as Content-Type: application/json"),
        421 => (
            "host_not_allowed",
            "this Host is not a loopback name; list it in server.allowed_hosts if it is this daemon's",
        ),
        422 => ("invalid_fields", "/url is required"),
        429 => ("rate_limited", "this key makes more requests than it may"),
        431 => ("headers_too_large", "more than 100 headers or 65536 bytes of them"),
        500 => ("damaged_row", "what was stored cannot be read back"),
        503 => ("storage_failed", "storage failed: nothing was kept"),
        _ => ("disk_full", "the disk is full: nothing new is taken"),
    }
}

fn example(status: u16) -> Value {
    let (code, detail) = example_error(status);
    let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error");
    let mut problem = json!({
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": REQUEST_ID,
    });
    if status == 422 {
        problem["errors"] = json!([{ "pointer": "/url", "detail": "is required" }]);
    }
    problem
}

/// The shared headers.
pub fn headers() -> Map<String, Value> {
    let seconds = json!({ "type": "integer", "minimum": 0 });
    [
        ("RequestId", text(), "The request's id: the caller's own, or one made for it."),
        ("Replayed", text(), "`true` where this is the first answer to the `Idempotency-Key` given again."),
        ("RetryAfter", seconds, "Seconds until another try is worth it."),
        ("Challenge", text(), "The scheme of the credentials."),
    ]
    .map(|(name, schema, description)| (name.to_owned(), json!({ "description": description, "schema": schema })))
    .into_iter()
    .collect()
}
