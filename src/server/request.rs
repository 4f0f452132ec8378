//! One request: checks its framing, admits it, reads its body, and answers it.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;

use super::body::BodyPieces;
use super::refusal::{RequestRefusal, closing};
use super::table::ConnectionSlot;
use super::timer::{ConnectionPhase, ConnectionTimer};
use super::{Admitted, HEADERS_MAX, Service, TARGET_BYTES_MAX};
use crate::api::origin::{self, ListenerKind};
use crate::api::request::{self, HttpRequest, X_REQUEST_ID};
use crate::api::response::HttpResponse;
use crate::engine::network::Peer;

/// Maximum bytes of a body without a valid key.
const STRANGER_BODY_BYTES_MAX: usize = 16 * 1024;

/// The peer of a request, and the kind of its listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub peer: Peer,
    pub listener: ListenerKind,
}

/// An answer and the id of its request.
pub(super) struct Answered {
    pub response: HttpResponse,
    request_id: String,
}

/// Answers one request and moves the timer through its phases. `has_place` tells whether a request without a valid key
/// may run.
pub(super) async fn answer<S: Service>(
    service: &S,
    client: Client,
    watch: &ConnectionTimer,
    request: Request<Incoming>,
    has_place: bool,
) -> Answered {
    let (parts, body) = request.into_parts();
    let mut body = BodyPieces::new(body, watch);
    watch.enter(if body.is_over() { ConnectionPhase::Call } else { ConnectionPhase::Body });
    let request_id = request::request_id(&parts.headers).map_or_else(|| service.request_id(), str::to_owned);
    let framing = check_framing(&parts, watch);
    watch.slot().consumed();
    let response = match framing {
        Ok(()) => serve(service, client, watch, parts, &mut body, request_id.clone(), has_place).await,
        Err(refusal) => refusal.response(&request_id),
    };
    // The rest of a refused request's body may still arrive.
    watch.set_lingers(!body.is_over());
    drop(body);
    watch.enter(ConnectionPhase::Reply);
    Answered { response, request_id }
}

/// The response with its body as bytes.
pub(super) fn response_of(answered: Answered) -> Response<Bytes> {
    let Answered { response, request_id } = answered;
    let mut sent = Response::new(response.body);
    *sent.status_mut() = response.status;
    *sent.headers_mut() = response.headers;
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        sent.headers_mut().insert(X_REQUEST_ID, id);
    }
    sent
}

/// A request that is being answered. Meanwhile its connection is not ended for others.
struct RunningRequest<'a>(&'a ConnectionSlot);

impl<'a> RunningRequest<'a> {
    fn begin(slot: &'a ConnectionSlot) -> Self {
        slot.begin_request();
        RunningRequest(slot)
    }
}

impl Drop for RunningRequest<'_> {
    fn drop(&mut self) {
        self.0.end_request();
    }
}

async fn serve<S: Service>(
    service: &S,
    client: Client,
    watch: &ConnectionTimer,
    parts: Parts,
    body: &mut BodyPieces<'_>,
    request_id: String,
    has_place: bool,
) -> HttpResponse {
    let is_http2 = parts.version == Version::HTTP_2;
    let mut http_request = HttpRequest {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        body: Bytes::new(),
        remote: client.peer.addr(),
        request_id,
    };
    let Admitted { pass, body_bytes_max, is_known } = match service.admit(&http_request, client.listener) {
        Ok(admitted) => admitted,
        Err(response) => {
            // A peer that sends `Expect` has not sent its body yet. Over HTTP/2 a body delays no other request.
            let is_quick = is_http2 || http_request.headers.contains_key(EXPECT);
            return match if is_quick { Ok(()) } else { body.discard().await } {
                Ok(()) => *response,
                Err(graver) => graver.response(&http_request.request_id),
            };
        }
    };
    if is_known {
        watch.slot().know();
    } else if !has_place {
        return RequestRefusal::TooManyStreams.response(&http_request.request_id);
    }
    let of_known = is_known.then(|| RunningRequest::begin(watch.slot()));
    let is_encoded = http_request.headers.contains_key(CONTENT_ENCODING);
    let bytes_max = if is_known { body_bytes_max } else { body_bytes_max.min(STRANGER_BODY_BYTES_MAX) };
    let read = if is_encoded { Err(RequestRefusal::Encoded) } else { body.read(bytes_max).await };
    match read {
        Ok(bytes) => http_request.body = bytes,
        Err(refusal) => return closing(service.refused(&pass, &refusal.error(), &http_request.request_id)),
    }
    let _running = of_known.unwrap_or_else(|| RunningRequest::begin(watch.slot()));
    service.call(http_request, pass).await
}

/// Refuses a request unless its end and its host are beyond doubt.
fn check_framing(parts: &Parts, watch: &ConnectionTimer) -> Result<(), RequestRefusal> {
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
    check_length(parts, watch)
}

/// Refuses an encoding that is not read, and a `Content-Length` beside it, the sign of a smuggled request (RFC 9112
/// section 6.3). HTTP/2 has frames instead.
fn check_length(parts: &Parts, watch: &ConnectionTimer) -> Result<(), RequestRefusal> {
    if parts.version == Version::HTTP_2 {
        return match parts.headers.contains_key(TRANSFER_ENCODING) {
            true => Err(RequestRefusal::Malformed("HTTP/2 has no Transfer-Encoding")),
            false => Ok(()),
        };
    }
    // Each head is checked, so that the next request is compared with its own.
    let has_both = watch.framing().next_has_both();
    let mut encodings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    let Some(encoding) = encodings.next() else { return Ok(()) };
    if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(RequestRefusal::Malformed("the only Transfer-Encoding that is read is chunked, once"));
    }
    if has_both {
        return Err(RequestRefusal::Malformed("there is both a Content-Length and a Transfer-Encoding"));
    }
    Ok(())
}
