//! An HTTP response as the routes make it, before the server frames it.

use std::fmt;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use super::link::LinkRequest;

/// Initial capacity of a JSON body. Most responses fit, so the buffer rarely grows.
const JSON_BYTES: usize = 512;

/// An HTTP response. The server adds `x-request-id`, `date` and the framing.
#[derive(Clone)]
pub struct HttpResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The link that takes the connection over after a `101`. `None` for every other response.
    pub link: Option<LinkRequest>,
}

impl fmt::Debug for HttpResponse {
    /// Omits the body, because some responses contain a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("HttpResponse");
        shown.field("status", &self.status).field("headers", &self.headers);
        shown.field("body_bytes", &self.body.len()).finish()
    }
}

impl HttpResponse {
    /// A response without headers and body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new(), link: None }
    }

    /// A response with a body.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, body: body.into(), link: None }
    }

    /// A response with `value` as its JSON body. The views of this API always serialise: they have string keys and no failing parts.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Self {
        let mut body = Vec::with_capacity(JSON_BYTES);
        serde_json::to_writer(&mut body, value).expect("a view serialises");
        Self::new(status, "application/json", body)
    }

    /// The same response with one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}
