//! One request: checks its framing, admits it, reads its body, and answers it.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use super::body::BodyPieces;
use super::refusal::RequestRefusal;
use super::timer::{ConnectionPhase, ConnectionTimer};
use super::{Admitted, HEADERS_MAX, Service, TARGET_BYTES_MAX};
use crate::api::origin::{self, ListenerKind};
use crate::api::request::{self, HttpRequest, X_REQUEST_ID};
use crate::api::response::HttpResponse;
use crate::engine::network::Peer;

/// The peer of a request, and the kind of its listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub peer: Peer,
    pub listener: ListenerKind,
}

/// Answers one request and moves the timer through its phases.
pub(super) async fn answer<S: Service>(
    service: &S,
    client: Client,
    watch: &ConnectionTimer,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let mut body = BodyPieces::new(body, watch);
    watch.enter(if body.is_over() { ConnectionPhase::Call } else { ConnectionPhase::Body });
    let request_id = request::request_id(&parts.headers).map_or_else(|| service.request_id(), str::to_owned);
    let id_header = HeaderValue::from_str(&request_id);

    let framing = judge_framing(&parts, watch);
    watch.forget_head();
    let response = match framing {
        Ok(()) => serve(service, client, parts, &mut body, request_id).await,
        Err(refusal) => refusal.response(&request_id),
    };
    // The rest of a refused request's body may still arrive.
    watch.set_lingers(!body.is_over());
    drop(body);

    let mut sent = Response::new(Full::new(response.body));
    *sent.status_mut() = response.status;
    *sent.headers_mut() = response.headers;
    if let Ok(id) = id_header {
        sent.headers_mut().insert(X_REQUEST_ID, id);
    }
    watch.enter(ConnectionPhase::Reply);
    Ok(sent)
}

async fn serve<S: Service>(
    service: &S,
    client: Client,
    parts: Parts,
    body: &mut BodyPieces<'_>,
    request_id: String,
) -> HttpResponse {
    let mut http_request = HttpRequest {
        method: if parts.method == Method::HEAD { Method::GET } else { parts.method },
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        body: Bytes::new(),
        remote: client.peer.addr(),
        request_id,
    };
    let Admitted { pass, body_bytes_max } = match service.admit(&http_request, client.listener) {
        Ok(admitted) => admitted,
        Err(response) => {
            // A peer that sends `Expect` has not sent its body yet.
            let asks_first = http_request.headers.contains_key(EXPECT);
            return match if asks_first { Ok(()) } else { body.discard().await } {
                Ok(()) => *response,
                Err(graver) => graver.response(&http_request.request_id),
            };
        }
    };
    if http_request.headers.contains_key(CONTENT_ENCODING) {
        return RequestRefusal::Encoded.response(&http_request.request_id);
    }
    match body.read(body_bytes_max).await {
        Ok(bytes) => http_request.body = bytes,
        Err(refusal) => return refusal.response(&http_request.request_id),
    }
    service.call(http_request, pass).await
}

/// Refuses a request unless its end and its host are beyond doubt.
fn judge_framing(parts: &Parts, watch: &ConnectionTimer) -> Result<(), RequestRefusal> {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > TARGET_BYTES_MAX {
        return Err(RequestRefusal::TargetTooLong);
    }
    if parts.headers.len() > HEADERS_MAX {
        return Err(RequestRefusal::HeadersTooLarge);
    }
    if !parts.uri.path().starts_with('/') && parts.uri.path() != "*" {
        return Err(RequestRefusal::Malformed("the request target is not a path"));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok().filter(|host| origin::is_host(host)),
        _ => return Err(RequestRefusal::Malformed("there must be one Host header")),
    };
    let Some(host) = host else { return Err(RequestRefusal::Malformed("the Host header names no host")) };
    if let Some(authority) = parts.uri.authority()
        && !authority.as_str().eq_ignore_ascii_case(host)
    {
        return Err(RequestRefusal::Malformed("the request target and the Host header name different hosts"));
    }
    if parts.headers.get_all(AUTHORIZATION).iter().nth(1).is_some() {
        return Err(RequestRefusal::Malformed("there is more than one Authorization header"));
    }
    judge_length(parts, watch)
}

/// hyper uses `Transfer-Encoding` alone and drops a `Content-Length` beside it, so the received head is searched for
/// both. Both together are the sign of a smuggled request (RFC 9112 section 6.3).
fn judge_length(parts: &Parts, watch: &ConnectionTimer) -> Result<(), RequestRefusal> {
    let mut encodings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    let Some(encoding) = encodings.next() else { return Ok(()) };
    if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(RequestRefusal::Malformed("the only Transfer-Encoding that is read is chunked, once"));
    }
    if names_content_length(&watch.head()) {
        return Err(RequestRefusal::Malformed("there is both a Content-Length and a Transfer-Encoding"));
    }
    Ok(())
}

fn names_content_length(head: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    let fields = lines.map(<[u8]>::trim_ascii_end).take_while(|line| !line.is_empty());
    fields.into_iter().any(|field| field.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_length_is_found_in_the_head_and_nowhere_else() {
        for head in [
            "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\ncontent-LENGTH:0\r\n\r\n",
            "POST / HTTP/1.1\nHost: x\nContent-Length: 1\n\n",
        ] {
            assert!(names_content_length(head.as_bytes()), "{head}");
        }
        for head in [
            "",
            "POST /content-length HTTP/1.1\r\nX: content-length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\n\r\nContent-Length: 1\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\n\r\n5\r\n\nContent-Length: 5\r\n",
        ] {
            assert!(!names_content_length(head.as_bytes()), "{head}");
        }
    }
}
