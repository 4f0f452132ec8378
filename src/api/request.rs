//! An HTTP request as the routes see it, independent of its connection.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, Method};

/// Maximum length of a request id of the client. A longer one is replaced.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// The id of a request: from the client, or generated.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The same header of Svix's SDKs.
const SVIX_REQUEST_ID: HeaderName = HeaderName::from_static("svix-req-id");

/// An HTTP request.
#[derive(Clone)]
pub struct HttpRequest {
    /// The method. A `HEAD` is shown as `GET`, and the server omits the body of the response.
    pub method: Method,
    /// The path as sent, percent-encoded. It starts with `/`, or is `*`.
    pub path: String,
    /// The query as sent, without the `?`.
    pub query: Option<String>,
    pub headers: HeaderMap,
    /// The whole body. Empty until the request is admitted. It may share a connection's buffer of up to 64 KiB: copy
    /// the parts that outlive the request.
    pub body: Bytes,
    /// `None` behind a unix socket.
    pub remote: Option<SocketAddr>,
    /// The client's `X-Request-Id`, or a generated one.
    pub request_id: String,
}

impl HttpRequest {
    /// Whether the method is GET, or HEAD, which is answered like it. The server omits the body.
    pub fn is_get(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// The value of a header. `None` if it is missing, repeated or not text.
    pub fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    }
}

impl fmt::Debug for HttpRequest {
    /// Omits query, headers and body, because they contain keys, secrets and payloads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("HttpRequest");
        shown.field("method", &self.method).field("path", &self.path).field("request_id", &self.request_id);
        shown.field("body_bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// The client's own request id. `None` unless it is visible ASCII of bounded length, which is safe to show and to log.
pub fn request_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get(X_REQUEST_ID).or_else(|| headers.get(SVIX_REQUEST_ID))?.to_str().ok()?;
    let fits = (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(id)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_short_visible_request_id_is_accepted() {
        let with = |value: &[u8]| HeaderMap::from_iter([("x-request-id".parse().unwrap(), value.try_into().unwrap())]);
        assert_eq!(request_id(&with(b"a-1/b")), Some("a-1/b"));
        assert_eq!(request_id(&with(&[b'a'; REQUEST_ID_BYTES_MAX])).unwrap().len(), REQUEST_ID_BYTES_MAX);
        for refused in [&b""[..], b"a b", b"a\tb", b"\xc3\xa9", &[b'a'; REQUEST_ID_BYTES_MAX + 1]] {
            assert_eq!(request_id(&with(refused)), None);
        }
        assert_eq!(request_id(&HeaderMap::new()), None);
        let of_sdk = HeaderMap::from_iter([("svix-req-id".parse().unwrap(), HeaderValue::from_static("7"))]);
        assert_eq!(request_id(&of_sdk), Some("7"));
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
