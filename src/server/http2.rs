//! HTTP/2 connections, which the peer chose in the TLS handshake.
//!
//! hyper does the framing. Requests are checked and answered as over HTTP/1.1, each on a stream with a timer of its
//! own.
//!
//! Invariant: a connection without streams is closed after its idle time, and one whose peer accepts nothing after
//! `reply_stall`.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::is_over;
use super::request::{Client, answer, response_of};
use super::streams::{AnswerBody, Http2Streams};
use super::table::ConnectionSlot;
use super::timer::ConnectionTimer;
use super::{HEAD_BYTES_MAX, HTTP2_BYTES, ServerLimits, Service};
use crate::engine::network::Conn;

/// Maximum concurrent requests of one connection.
const STREAMS_MAX: u32 = 100;
/// Maximum bytes of a stream's answer that wait for the peer.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Number of checks of a connection during `reply_stall`.
const LOOKS_PER_STALL: u32 = 4;

/// Serves requests until the peer or a deadline ends the connection, or `stop` turns true and the current requests are
/// answered.
pub(super) async fn serve<S: Service>(
    service: Arc<S>,
    limits: ServerLimits,
    conn: Box<dyn Conn>,
    client: Client,
    slot: Arc<ConnectionSlot>,
    mut stop: watch::Receiver<bool>,
) {
    slot.charge(HTTP2_BYTES);
    let streams = Http2Streams::default();
    let (of_requests, of_streams) = (streams.clone(), slot.clone());
    let on_stream = service_fn(move |request| {
        of_requests.begin();
        // Boxed, so that the memory of the request is free as soon as there is an answer.
        Box::pin(answered(service.clone(), limits, client, of_requests.clone(), of_streams.clone(), request))
    });
    let http = http2::Builder::new(streams.clone())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(conn), on_stream);
    let mut http = pin!(http);
    let (mut seen, mut quiet_since, mut patience) = (0, Instant::now(), limits.head_read);
    let is_stopped = loop {
        let next_look = (quiet_since + patience).min(Instant::now() + limits.reply_stall / LOOKS_PER_STALL);
        tokio::select! {
            _ = http.as_mut() => return,
            _ = stop.wait_for(|stop| *stop) => break true,
            () = sleep_until(next_look) => {
                if slot.blocked_for() >= limits.reply_stall {
                    return;
                }
                let begun = streams.begun();
                if streams.open() > 0 || begun != seen {
                    (seen, quiet_since, patience) = (begun, Instant::now(), limits.idle);
                } else if quiet_since.elapsed() >= patience {
                    break false;
                }
            }
        }
    };
    http.as_mut().graceful_shutdown();
    if is_stopped {
        // Running requests are finished. The drain cuts those that take too long.
        let _ = http.await;
    } else {
        let _ = timeout(limits.linger, http).await;
    }
}

/// Answers one request as over HTTP/1.1, and cuts it short when a deadline passes.
async fn answered<S: Service>(
    service: Arc<S>,
    limits: ServerLimits,
    client: Client,
    streams: Http2Streams,
    slot: Arc<ConnectionSlot>,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    // `:authority` stands for Host (RFC 9113 section 8.3.1). If both are present, the framing check compares them.
    if !request.headers().contains_key(HOST)
        && let Some(host) = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok())
    {
        request.headers_mut().insert(HOST, host);
    }
    let is_head = request.method() == Method::HEAD;
    let by = Instant::now() + limits.head_read;
    let watch = ConnectionTimer::new(limits, by, slot.clone());
    let place = if slot.is_known() { None } else { streams.take_place(&slot) };
    let mut alarm = pin!(sleep_until(by));
    let mut answer = pin!(answer(&*service, client, &watch, request, place.is_some()));
    let mut deadline_seen = None;
    let answered = std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(response);
            }
            // The reader of the body sees the deadline when it is polled again, and answers.
            if !is_over(&watch, alarm.as_mut(), cx) || deadline_seen == watch.deadline() {
                return Poll::Pending;
            }
            deadline_seen = watch.deadline();
        }
    })
    .await;
    let mut response = response_of(answered);
    if is_head {
        // The answer to HEAD has the length without the body (RFC 9110 section 9.3.2).
        let length = HeaderValue::from(response.body().len());
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(length);
    }
    // A stranger without a place gets no body, because a body might wait for the peer.
    let is_bodiless = is_head || (place.is_none() && !slot.is_known());
    let place = place.filter(|_| !slot.is_known());
    Ok(response.map(|body| {
        let body = if is_bodiless { Default::default() } else { body };
        AnswerBody::new(body, limits.reply_stall, slot, place)
    }))
}
