//! A request and its answer as the routes see them, whatever carried them here.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Serialize;

use super::error::ApiError;
use super::native::problem;

/// Of a request id that is taken over from the caller; a longer one is replaced.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// What most answers fit in, so that their buffer does not grow piece by piece.
const JSON_BYTES: usize = 512;

/// A name of the caller's for its request, or ours.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What was asked.
#[derive(Clone)]
pub struct HttpRequest {
    /// `GET` for a `HEAD` too: the server leaves the body of the answer out.
    pub method: Method,
    /// As sent, still percent-encoded; starts with `/`, or is `*`.
    pub path: String,
    /// As sent, without the `?`.
    pub query: Option<String>,
    pub headers: HeaderMap,
    /// Whole. Empty while the call is not admitted yet. It may share a connection's buffer of up to 64 KiB: what is to
    /// outlive the call is better copied.
    pub body: Bytes,
    /// None behind a unix socket.
    pub remote: Option<SocketAddr>,
    /// The caller's `X-Request-Id`, or one made here.
    pub request_id: String,
}

impl HttpRequest {
    /// A header's value if it is there, once, and text.
    pub fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    }
}

/// What is answered. The server adds `x-request-id`, `date` and the framing.
#[derive(Clone)]
pub struct HttpResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl fmt::Debug for HttpRequest {
    /// Without query, headers and body: keys, secrets and payloads stand there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("HttpRequest");
        shown.field("method", &self.method).field("path", &self.path).field("request_id", &self.request_id);
        shown.field("body_bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpResponse {
    /// Without the body: some answers hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("HttpResponse");
        shown.field("status", &self.status).field("headers", &self.headers);
        shown.field("body_bytes", &self.body.len()).finish()
    }
}

impl HttpResponse {
    /// Without headers or body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, body: body.into() }
    }

    /// `value` as JSON. The views of this API always serialise: they have string keys and no failing parts.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Self {
        let mut body = Vec::with_capacity(JSON_BYTES);
        serde_json::to_writer(&mut body, value).expect("a view serialises");
        Self::new(status, "application/json", body)
    }

    /// An error in the native form (RFC 9457, api.md section 2). `code` is stable, `detail` is for people.
    pub fn problem(status: StatusCode, code: &'static str, detail: &str, request_id: &str) -> Self {
        problem::render(&ApiError::new(status, code, detail), request_id)
    }

    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// The caller's own request id, if it may be shown and logged as it is: visible ASCII of bounded length.
pub fn request_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get(X_REQUEST_ID)?.to_str().ok()?;
    let fits = (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_published_members_in_order() {
        let response = HttpResponse::problem(StatusCode::NOT_FOUND, "not_found", "no \"such\" webhook", "r-1");
        assert_eq!(response.headers[CONTENT_TYPE], "application/problem+json");
        let expected = r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"no \"such\" webhook","code":"not_found","request_id":"r-1"}"#;
        assert_eq!(response.body, expected);
    }

    #[test]
    fn only_a_short_visible_request_id_is_taken() {
        let with = |value: &[u8]| HeaderMap::from_iter([("x-request-id".parse().unwrap(), value.try_into().unwrap())]);
        assert_eq!(request_id(&with(b"a-1/b")), Some("a-1/b"));
        assert_eq!(request_id(&with(&[b'a'; REQUEST_ID_BYTES_MAX])).unwrap().len(), REQUEST_ID_BYTES_MAX);
        for refused in [&b""[..], b"a b", b"a\tb", b"\xc3\xa9", &[b'a'; REQUEST_ID_BYTES_MAX + 1]] {
            assert_eq!(request_id(&with(refused)), None);
        }
        assert_eq!(request_id(&HeaderMap::new()), None);
    }

    #[test]
    fn a_header_is_read_only_where_it_is_unambiguous() {
        let mut http_request = HttpRequest {
            method: Method::GET,
            path: "/".to_owned(),
            query: None,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            remote: None,
            request_id: String::new(),
        };
        assert_eq!(http_request.header("traceparent"), None);
        http_request.headers.append("traceparent", HeaderValue::from_static("1"));
        assert_eq!(http_request.header("traceparent"), Some("1"));
        http_request.headers.append("traceparent", HeaderValue::from_static("2"));
        assert_eq!(http_request.header("traceparent"), None);
    }
}
