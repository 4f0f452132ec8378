//! Refusals of the server itself, before or instead of the service.

use http::header::CONNECTION;
use http::{HeaderValue, StatusCode};

use super::streams::STRANGER_STREAMS_MAX;
use super::{HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX};
use crate::api::response::HttpResponse;
use crate::api::{ApiError, problem};

/// Why a request is refused before the service sees it, or its body is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestRefusal {
    /// 400, with the reason. The end of the message is in doubt, so the connection is closed.
    Malformed(&'static str),
    /// 408.
    HeadLate,
    BodyLate,
    /// 413, with the limit in bytes.
    BodyTooLarge(usize),
    /// 414.
    TargetTooLong,
    /// 415.
    Encoded,
    /// 429. `STRANGER_STREAMS_MAX` requests without a valid key run on this connection.
    TooManyStreams,
    /// 431.
    HeadersTooLarge,
    /// 505.
    Http2InClear,
    /// 503. The bodies that are being read take as much memory as they may.
    Overloaded,
}

impl RequestRefusal {
    /// The refusal behind a status of hyper, given the length of the first line.
    pub fn of_hyper(status: u16, first_line_bytes: usize) -> Self {
        match status {
            414 => RequestRefusal::TargetTooLong,
            // hyper counts the head as a whole. The first line tells which part is too long.
            431 if first_line_bytes > TARGET_BYTES_MAX => RequestRefusal::TargetTooLong,
            431 => RequestRefusal::HeadersTooLarge,
            _ => RequestRefusal::Malformed("the request is not HTTP/1.1"),
        }
    }

    /// The answer, after which the connection is closed.
    pub fn response(self, request_id: &str) -> HttpResponse {
        closing(problem::render(&self.error(), request_id))
    }

    /// The refusal in terms of the API.
    pub fn error(self) -> ApiError {
        let (status, code, detail) = match self {
            RequestRefusal::Malformed(why) => (StatusCode::BAD_REQUEST, "malformed_request", why.to_owned()),
            RequestRefusal::HeadLate => {
                (StatusCode::REQUEST_TIMEOUT, "request_timeout", "the head took too long".to_owned())
            }
            RequestRefusal::BodyLate => {
                (StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body took too long".to_owned())
            }
            RequestRefusal::BodyTooLarge(max) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", format!("the body is larger than {max} bytes"))
            }
            RequestRefusal::TargetTooLong => {
                let detail = format!("the request target is longer than {TARGET_BYTES_MAX} bytes");
                (StatusCode::URI_TOO_LONG, "target_too_long", detail)
            }
            RequestRefusal::Encoded => {
                let detail = "Content-Encoding is not supported: send the body as it is".to_owned();
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_encoding", detail)
            }
            RequestRefusal::TooManyStreams => {
                let detail = format!("without a valid key {STRANGER_STREAMS_MAX} requests of a connection run at once");
                (StatusCode::TOO_MANY_REQUESTS, "too_many_streams", detail)
            }
            RequestRefusal::Overloaded => {
                let detail = "too many bodies are being read; try again".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
            }
            RequestRefusal::Http2InClear => {
                let detail = "HTTP/2 is spoken over TLS only; use version 1.1 here".to_owned();
                (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "http_version", detail)
            }
            RequestRefusal::HeadersTooLarge => {
                let detail = format!("more than {HEADERS_MAX} headers or {HEAD_BYTES_MAX} bytes of them");
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", detail)
            }
        };
        ApiError::new(status, code, detail)
    }

    /// The answer as bytes for the stream, after hyper has given up the connection. `Date` is taken from hyper's own
    /// answer.
    pub fn on_the_wire(self, request_id: &str, in_place_of: &[u8]) -> Vec<u8> {
        let response = self.response(request_id);
        let mut bytes = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\
             x-request-id: {request_id}\r\n",
            response.status.as_u16(),
            response.status.canonical_reason().unwrap_or_default(),
            response.body.len(),
        )
        .into_bytes();
        let mut lines = in_place_of.split_inclusive(|byte| *byte == b'\n');
        bytes.extend(lines.find(|line| line.starts_with(b"date:")).into_iter().flatten());
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&response.body);
        bytes
    }
}

/// The response with `Connection: close`, after which the connection is closed.
pub(super) fn closing(response: HttpResponse) -> HttpResponse {
    response.with(CONNECTION, HeaderValue::from_static("close"))
}
