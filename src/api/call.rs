//! One HTTP request and one answer, without the connection they came and go on.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Serialize;

/// A request whose head and, where the route takes one, body have arrived.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    /// As sent, not decoded.
    pub path: String,
    /// What follows `?`, not decoded.
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// None over a unix socket.
    pub remote: Option<SocketAddr>,
    /// Taken from `X-Request-Id` or made.
    pub request_id: String,
}

#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// Without a body.
    pub fn empty(status: StatusCode) -> Reply {
        Reply { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A body of the given media type.
    pub fn of(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Reply {
        let mut reply = Reply { status, headers: HeaderMap::new(), body: body.into() };
        reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        reply
    }

    /// `value` as JSON. The views of this API always serialise: they have string keys and no failing parts.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Reply {
        let body = serde_json::to_vec(value).expect("a view serialises");
        Reply::of(status, "application/json", body)
    }
}
