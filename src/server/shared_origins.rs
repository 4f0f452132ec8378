//! Cross-origin sharing (Fetch standard, section "CORS protocol"), for the one mount whose tokens web pages use.
//!
//! Invariant: only an origin that `server.allowed_origins` lists gets an answer that its page may read.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderValue, Method, StatusCode};

use crate::api::request::HttpRequest;
use crate::api::response::HttpResponse;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// Headers of an answer that a page may read.
const EXPOSED: HeaderValue = HeaderValue::from_static("x-request-id, retry-after, idempotent-replayed");
/// Seconds for which a browser caches the answer to a preflight.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("600");

/// The origins of `server.allowed_origins`.
#[derive(Debug, Clone, Default)]
pub struct SharedOrigins(Vec<String>);

impl SharedOrigins {
    /// The origins as the setting lists them, such as `https://portal.example.com`.
    pub fn new(origins: &[String]) -> SharedOrigins {
        SharedOrigins(origins.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect())
    }

    /// The request's origin if it is listed.
    pub fn listed<'a>(&self, http_request: &'a HttpRequest) -> Option<&'a HeaderValue> {
        if self.0.is_empty() {
            return None;
        }
        let text = http_request.header(ORIGIN)?;
        let is_listed = self.0.iter().any(|listed| listed.eq_ignore_ascii_case(text));
        http_request.headers.get(ORIGIN).filter(|_| is_listed)
    }
}

/// Whether the request is a preflight.
pub fn is_preflight(http_request: &HttpRequest) -> bool {
    http_request.method == Method::OPTIONS
        && http_request.headers.contains_key(ORIGIN)
        && http_request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight from a listed origin.
pub fn preflight(http_request: &HttpRequest) -> HttpResponse {
    let mut response = HttpResponse::empty(StatusCode::NO_CONTENT)
        .with(ACCESS_CONTROL_ALLOW_METHODS, METHODS)
        .with(ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
    if let Some(asked) = http_request.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        response.headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    response
}

/// Lets a page of the origin read the answer.
pub fn share(response: &mut HttpResponse, origin: &HeaderValue) {
    response.headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    response.headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    response.headers.append(VARY, HeaderValue::from_static("Origin"));
}
