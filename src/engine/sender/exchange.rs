//! One request and its answer on a connection that is there: the request is written, the head read, the body read to
//! its end or to the cap.

use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, header};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use crate::engine::sender::failure::is_unannounced_end;
use crate::engine::sender::limits::{
    RESPONSE_BODY_BYTES_MAX, RESPONSE_HEADERS_KEPT_BYTES_MAX, RESPONSE_HEADERS_KEPT_MAX,
};
use crate::engine::sender::link::HttpConnection;
use crate::engine::sender::{OutboundRequest, millis};
use crate::model::{Headers, Timings};

/// As much of an answer as has come: it outlives the exchange, which may be cut off at any moment.
#[derive(Default)]
pub(in crate::engine) struct PartialResponse {
    pub head: Option<Parts>,
    pub body: Vec<u8>,
    pub timings: Timings,
}

/// How an answer ended.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) enum ResponseEnd {
    /// To its last byte: the connection can carry another request.
    Whole,
    /// At the cap, or with the connection: it is of no more use.
    Cut,
}

/// Sends the request on `link` and reads the answer. Dropping it gives the request up; so must the link be.
pub(in crate::engine) async fn converse(
    link: &mut HttpConnection,
    request: &OutboundRequest,
    answer: &mut PartialResponse,
) -> hyper::Result<ResponseEnd> {
    let began = Instant::now();
    let mut response = pin!(link.send(on_the_wire(request)));
    let response = std::future::poll_fn(|cx| {
        link.drive(cx);
        response.as_mut().poll(cx)
    })
    .await?;
    answer.timings.first_byte = Some(millis(began.elapsed()));
    let (head, mut body) = response.into_parts();
    let until_close = ends_with_connection(&head.headers);
    answer.head = Some(head);

    let end = match read_body(link, &mut body, &mut answer.body).await {
        Err(error) if until_close && is_unannounced_end(&error) => ResponseEnd::Cut,
        end => end?,
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

async fn read_body(link: &mut HttpConnection, body: &mut Incoming, kept: &mut Vec<u8>) -> hyper::Result<ResponseEnd> {
    let announced = body.size_hint().exact().unwrap_or(0);
    kept.reserve_exact(announced.min(RESPONSE_BODY_BYTES_MAX as u64) as usize);
    while !body.is_end_stream() {
        let Some(frame) = next_frame(link, body).await else { break };
        // What is no data is trailers, which nobody asked for.
        let Ok(data) = frame?.into_data() else { continue };
        let room = RESPONSE_BODY_BYTES_MAX - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
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
        // The connection reads no further than its body is asked for: ask, drive, look again.
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        link.drive(cx);
        Pin::new(&mut *body).poll_frame(cx)
    })
    .await
}

/// Neither a length nor chunks: the body is what comes until the connection closes (RFC 9112 section 6.3).
fn ends_with_connection(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::CONTENT_LENGTH) && !headers.contains_key(header::TRANSFER_ENCODING)
}

fn on_the_wire(request: &OutboundRequest) -> http::Request<Full<Bytes>> {
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

/// The headers as kept: text, in the order received, up to the caps.
pub(in crate::engine) fn kept_headers(headers: &HeaderMap) -> Headers {
    let mut kept = Headers::default();
    let mut room = RESPONSE_HEADERS_KEPT_BYTES_MAX;
    for (name, value) in headers.iter().take(RESPONSE_HEADERS_KEPT_MAX) {
        let Some(left) = room.checked_sub(name.as_str().len() + value.len()) else { break };
        room = left;
        kept.push_bytes(name.as_str(), value.as_bytes());
    }
    kept
}
