//! The head of a request as bytes (RFC 9112 section 3).

use std::io::Write as _;

use http::{HeaderValue, Method};

/// A request's head before it is written.
pub(in crate::engine) struct RequestHead<'a> {
    pub method: &'a Method,
    /// The target's path and query.
    pub path_and_query: &'a str,
    pub host: &'a HeaderValue,
    /// Whether the target is written in absolute form, as for a proxy (RFC 9112 section 3.2.2).
    pub is_absolute: bool,
    /// Header lines without `host` and framing headers, each with its line break.
    pub lines: &'a [u8],
    pub proxy_authorization: Option<&'a HeaderValue>,
    pub body_bytes: usize,
}

impl RequestHead<'_> {
    /// Appends the head to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        put(out, &[self.method.as_str().as_bytes(), b" "]);
        if self.is_absolute {
            put(out, &[b"http://", self.host.as_bytes()]);
        }
        put(out, &[self.path_and_query.as_bytes(), b" HTTP/1.1\r\n"]);
        field(out, b"host", self.host.as_bytes());
        out.extend_from_slice(self.lines);
        if let Some(authorization) = self.proxy_authorization {
            field(out, b"proxy-authorization", authorization.as_bytes());
        }
        // A GET without a body needs no length (RFC 9110 section 8.6).
        if self.body_bytes > 0 || self.method != Method::GET {
            // Writing to memory does not fail.
            let _ = write!(out, "content-length: {}\r\n", self.body_bytes);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the head of a CONNECT to `authority`, a host and a port (RFC 9110 section 9.3.6).
pub(in crate::engine) fn write_connect_head(out: &mut Vec<u8>, authority: &str, authorization: Option<&HeaderValue>) {
    put(out, &[b"CONNECT ", authority.as_bytes(), b" HTTP/1.1\r\n"]);
    field(out, b"host", authority.as_bytes());
    if let Some(authorization) = authorization {
        field(out, b"proxy-authorization", authorization.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put(out, &[name, b": ", value, b"\r\n"]);
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}
