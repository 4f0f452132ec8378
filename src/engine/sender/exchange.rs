//! One HTTP exchange on an open connection: writes the request, reads the response.
//!
//! The body is read to its end or to `RESPONSE_BODY_BYTES_MAX`.

use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use crate::engine::sender::failure::{SendFailure, is_unannounced_end};
use crate::engine::sender::limits::{
    IDLE_LIFE, KEEP_ALIVE_MARGIN, RESPONSE_BODY_BYTES_MAX, RESPONSE_HEADERS_KEPT_BYTES_MAX, RESPONSE_HEADERS_KEPT_MAX,
};
use crate::engine::sender::link::HttpConnection;
use crate::engine::sender::proxy::DeliveryProxy;
use crate::engine::sender::{OutboundRequest, millis};
use crate::model::{AttemptOutcome, Headers, Timings};
use crate::rules::keep_alive;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The part of a response received so far. It outlives the exchange, which may be cancelled at any moment.
#[derive(Default)]
pub(in crate::engine) struct PartialResponse {
    pub head: Option<Parts>,
    pub body: Vec<u8>,
    pub timings: Timings,
}

impl PartialResponse {
    /// Whether the receiver waited in vain for a request (RFC 9110 section 15.5.9). On a reused connection this answers
    /// no request: the receiver was closing the connection while the request was on its way.
    pub fn is_request_timeout(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.status == StatusCode::REQUEST_TIMEOUT)
    }

    /// Maximum time for which the connection may stay idle and be reused.
    pub fn idle_life(&self) -> Duration {
        let Some(head) = &self.head else { return IDLE_LIFE };
        let values = head.headers.get_all(KEEP_ALIVE).into_iter().filter_map(|value| value.to_str().ok());
        let Some(allowed_s) = keep_alive::timeout_s(values) else { return IDLE_LIFE };
        Duration::from_secs(u64::from(allowed_s)).saturating_sub(KEEP_ALIVE_MARGIN).min(IDLE_LIFE)
    }
}

/// The end of a response.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) enum ResponseEnd {
    /// The response was read to its last byte. The connection can carry another request.
    Whole,
    /// The response ended at the cap or with the connection, which cannot be reused.
    Cut,
}

/// Sends the request on `link` and reads the response into `partial`. `proxy` is the peer if the request is addressed to
/// a proxy and not to the receiver.
///
/// Dropping the future abandons the request. Then `link` must be dropped too.
pub(in crate::engine) async fn exchange(
    link: &mut HttpConnection,
    request: &OutboundRequest,
    proxy: Option<&DeliveryProxy>,
    partial: &mut PartialResponse,
) -> Result<ResponseEnd, SendFailure> {
    let began = Instant::now();
    let mut message = http_request(request);
    if let Some(proxy) = proxy {
        proxy.address(&mut message, &request.target.origin);
    }
    let mut response = pin!(link.send(message));
    let response = std::future::poll_fn(|cx| {
        link.drive(cx);
        response.as_mut().poll(cx)
    })
    .await
    .map_err(|why| SendFailure::exchanging(&why))?;
    // More of them than the socket refuses may have come in one read, with the final answer behind them.
    link.check_interim().map_err(|why| SendFailure::because(AttemptOutcome::RequestError, &why))?;
    partial.timings.first_byte = Some(millis(began.elapsed()));
    let (head, mut body) = response.into_parts();
    let until_close = ends_with_connection(&head.headers);
    partial.head = Some(head);

    let end = match read_body(link, &mut body, &mut partial.body).await {
        Err(error) if until_close && is_unannounced_end(&error) => ResponseEnd::Cut,
        end => end.map_err(|why| SendFailure::exchanging(&why))?,
    };
    drop(body);
    if end == ResponseEnd::Whole {
        std::future::poll_fn(|cx| {
            link.drive(cx);
            Poll::Ready(())
        })
        .await;
    }
    Ok(end)
}

async fn read_body(link: &mut HttpConnection, body: &mut Incoming, stored: &mut Vec<u8>) -> hyper::Result<ResponseEnd> {
    let announced = body.size_hint().exact().unwrap_or(0);
    stored.reserve_exact(announced.min(RESPONSE_BODY_BYTES_MAX as u64) as usize);
    while !body.is_end_stream() {
        let Some(frame) = next_frame(link, body).await else { break };
        // A frame without data contains trailers, which the sender ignores.
        let Ok(data) = frame?.into_data() else { continue };
        let room = RESPONSE_BODY_BYTES_MAX - stored.len();
        stored.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok(ResponseEnd::Cut);
        }
    }
    Ok(ResponseEnd::Whole)
}

async fn next_frame(
    link: &mut HttpConnection,
    body: &mut Incoming,
) -> Option<hyper::Result<hyper::body::Frame<Bytes>>> {
    std::future::poll_fn(|cx| {
        // hyper reads a body only after it was polled: poll, drive, poll again.
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        link.drive(cx);
        Pin::new(&mut *body).poll_frame(cx)
    })
    .await
}

/// Whether the body ends with the connection: it has neither a length nor chunks (RFC 9112 section 6.3).
fn ends_with_connection(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::CONTENT_LENGTH) && !headers.contains_key(header::TRANSFER_ENCODING)
}

fn http_request(request: &OutboundRequest) -> http::Request<Full<Bytes>> {
    let mut headers = HeaderMap::with_capacity(request.headers.len() + 2);
    headers.insert(header::HOST, request.target.origin.host_header.clone());
    for (name, value) in &request.headers {
        headers.append(name.clone(), value.clone());
    }
    let mut message = http::Request::new(Full::new(request.body.clone()));
    *message.method_mut() = request.method.clone();
    *message.uri_mut() = request.target.path_and_query.clone().into();
    *message.headers_mut() = headers;
    message
}

/// The headers to store: text, in the order received, up to the caps.
pub(in crate::engine) fn capped_headers(headers: &HeaderMap) -> Headers {
    let mut stored = Headers::default();
    let mut room = RESPONSE_HEADERS_KEPT_BYTES_MAX;
    for (name, value) in headers.iter().take(RESPONSE_HEADERS_KEPT_MAX) {
        let Some(left) = room.checked_sub(name.as_str().len() + value.len()) else { break };
        room = left;
        stored.push_bytes(name.as_str(), value.as_bytes());
    }
    stored
}
