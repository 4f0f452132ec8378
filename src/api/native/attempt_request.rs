//! `GET /v1/attempts/{id}/request`: the request of an attempt as it was sent, rendered again.
//!
//! The headers are those that were stored with the attempt, credentials masked, and those that each connection adds. The
//! body depends on stored rows only, so it is the same unless the webhook, which decides about encryption, has changed.

use std::collections::BTreeMap;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use crate::api::context::ApiContext;
use crate::api::doc::{doc, ok};
use crate::api::error::ApiError;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::Route;
use crate::api::route::RouteAccess::Scope as Needs;
use crate::api::step::Step;
use crate::model::webhook::{Webhook, WebhookMethod};
use crate::model::{AttemptId, AttemptMade, Scope, Time};
use crate::rules::body::{self, BodyInput, BodyShape};
use crate::store::{AttemptDetails, TenantScope};

use super::attempts::headers;
use super::routes::get;

pub const ATTEMPT_REQUEST: Route = get(
    "/v1/attempts/{id}/request",
    Needs(Scope::EventsRead, read),
    doc(
        "getAttemptRequest",
        "deliveries",
        "Read the request of an attempt: its headers and its body, rendered again",
        &[ok::<AttemptRequestView>("Credentials are masked.")],
    ),
);

/// The content type of an encrypted body.
const ENCRYPTED: &str = "application/jose";

/// The request of an attempt.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SentRequest")]
pub struct AttemptRequestView {
    attempt_id: AttemptId,
    pub method: WebhookMethod,
    /// With the query string that carries the data of `get` and `delete`.
    pub url: String,
    sent_at: Time,
    /// In the order sent. Credentials are masked.
    #[schemars(with = "BTreeMap<String, String>")]
    pub headers: Map<String, Value>,
    /// In clear, also if it was sent encrypted. Null if the request had none, was not made, or its event was erased.
    pub body: Option<String>,
    body_bytes: usize,
    /// Whether every byte of body and URL is as sent. False if the webhook changed since, if the body was sent encrypted, and
    /// if the event was erased.
    pub exact: bool,
}

impl AttemptRequestView {
    /// Whether the body was sent encrypted (JWE, RFC 7516).
    pub fn was_encrypted(&self) -> bool {
        self.headers.get("content-type").and_then(Value::as_str).is_some_and(|value| value.starts_with(ENCRYPTED))
    }
}

/// `GET /v1/attempts/{id}/request`.
pub fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id: AttemptId = request.id("attempt")?;
    let found = context.store.attempt_details(request.tenant(), id, context.now)?;
    let details = found.ok_or_else(|| ApiError::not_found("attempt"))?;
    let tenant = TenantScope { org: details.attempt.org_id, app: None };
    let webhook = context.registry.webhook(tenant, details.attempt.webhook_id);
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view(&details, webhook.map(|webhook| &**webhook))?)))
}

/// The request of an attempt. `webhook` is the webhook as it is now. `None` if it was removed.
///
/// # Errors
/// 500 if a body that was rendered is no text.
pub fn view(details: &AttemptDetails, webhook: Option<&Webhook>) -> Result<AttemptRequestView, ApiError> {
    let (attempt, made) = (&details.attempt, &details.attempt.made);
    // A request that was refused before it was made has no headers.
    let was_made = !made.request_headers.is_empty();
    let data = details.data.as_deref().filter(|_| was_made);
    let shape = BodyShape {
        method: made.method,
        content_type: made.content_type,
        field_set: made.field_set,
        include_html: made.include_html,
    };
    let rendered = data.map(|data| {
        let facts = BodyInput {
            event: &details.event,
            data,
            attempt_id: attempt.id,
            number: made.number,
            retry_of: attempt.retry_of,
            timestamp_s: made.signed_at,
        };
        body::render(shape, &facts)
    });
    let query = rendered.as_ref().and_then(|rendered| rendered.query.as_deref());
    let body = rendered.as_ref().filter(|rendered| rendered.query.is_none()).map(|rendered| rendered.body.clone());
    let body = body.map(String::from_utf8).transpose().map_err(|_| super::unexpected())?;
    let is_unchanged = webhook.is_some_and(|webhook| webhook.updated_at <= made.started_at && !webhook.encrypted);
    let was_encrypted =
        made.request_headers.iter().any(|(name, value)| name == "content-type" && value.starts_with(ENCRYPTED));
    let length = rendered.as_ref().filter(|_| !was_encrypted).map(|_| body.as_ref().map_or(0, String::len));
    Ok(AttemptRequestView {
        attempt_id: attempt.id,
        method: made.method,
        url: with_query(&made.url, query.unwrap_or_default()),
        sent_at: made.started_at,
        headers: with_own_lines(headers(&made.request_headers), made, length),
        body_bytes: body.as_ref().map_or(0, String::len),
        body,
        exact: rendered.is_some() && is_unchanged && !was_encrypted,
    })
}

/// The stored headers of a request with the lines that the connection adds: `host` first, `content-length` last (RFC 9112
/// section 3.2, RFC 9110 section 8.6). `length` is the length of the body. `None` if it is not known.
fn with_own_lines(stored: Map<String, Value>, made: &AttemptMade, length: Option<usize>) -> Map<String, Value> {
    let mut lines = Map::new();
    if stored.is_empty() {
        return lines;
    }
    let url = Url::parse(&made.url).ok();
    let host = url.as_ref().and_then(|url| match (url.host_str()?, url.port()) {
        (host, Some(port)) => Some(format!("{host}:{port}")),
        (host, None) => Some(host.to_owned()),
    });
    lines.extend(host.map(|host| ("host".to_owned(), host.into())));
    lines.extend(stored);
    let length = length.filter(|bytes| *bytes > 0 || made.method != WebhookMethod::Get);
    lines.extend(length.map(|bytes| ("content-length".to_owned(), bytes.to_string().into())));
    lines
}

/// The URL with a further query string, as the sender joins them.
fn with_query(url: &str, query: &str) -> String {
    let between = match url.split_once('?') {
        _ if query.is_empty() => "",
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    format!("{url}{between}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_joined_to_that_of_the_url() {
        assert_eq!(with_query("http://a/p", "x=1"), "http://a/p?x=1");
        assert_eq!(with_query("http://a/p?", "x=1"), "http://a/p?x=1");
        assert_eq!(with_query("http://a/p?y", "x=1"), "http://a/p?y&x=1");
        assert_eq!(with_query("http://a/p?y", ""), "http://a/p?y");
    }
}
