//! HTTP/2 connections, which the peer chose in the TLS handshake.
//!
//! hyper does the framing. Requests are checked and answered as over HTTP/1.1, each on a stream with a timer of its
//! own.
//!
//! Invariant: every task of a connection ends with it. No stream outlives `STREAM_MAX`, and a connection without
//! streams is closed after its idle time.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::is_over;
use super::request::{Client, answer};
use super::timer::ConnectionTimer;
use super::{HEAD_BYTES_MAX, ServerLimits, Service};
use crate::engine::network::Conn;

/// Maximum concurrent requests of one connection.
const STREAMS_MAX: u32 = 100;
/// Maximum bytes of a stream's answer that wait for the peer.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Maximum time from the head of a request to the last byte of its answer. It exceeds the longest call, a test of a
/// webhook.
const STREAM_MAX: Duration = Duration::from_secs(300);

/// Serves requests until the peer or a deadline ends the connection, or `stop` turns true and the current requests are
/// answered.
pub(super) async fn serve<S: Service>(
    service: Arc<S>,
    limits: ServerLimits,
    conn: Box<dyn Conn>,
    client: Client,
    mut stop: watch::Receiver<bool>,
) {
    let streams = Http2Streams::default();
    let begun = streams.begun.clone();
    let on_stream = service_fn(move |request| {
        begun.fetch_add(1, Ordering::Relaxed);
        answered(service.clone(), limits, client, request)
    });
    let http = http2::Builder::new(streams.clone())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(conn), on_stream);
    let mut http = pin!(http);
    let mut seen = 0;
    let mut patience = limits.head_read;
    let is_stopped = loop {
        tokio::select! {
            _ = http.as_mut() => return,
            _ = stop.wait_for(|stop| *stop) => break true,
            () = tokio::time::sleep(patience) => {
                let begun = streams.begun.load(Ordering::Relaxed);
                if streams.open() == 0 && begun == seen {
                    break false;
                }
                (seen, patience) = (begun, limits.idle);
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
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    // `:authority` stands for Host (RFC 9113 section 8.3.1). If both are present, the framing check compares them.
    if !request.headers().contains_key(HOST)
        && let Some(host) = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok())
    {
        request.headers_mut().insert(HOST, host);
    }
    let is_head = request.method() == Method::HEAD;
    let by = Instant::now() + limits.head_read;
    let watch = ConnectionTimer::new(limits, by);
    let mut alarm = pin!(sleep_until(by));
    let mut answer = pin!(answer(&*service, client, &watch, request));
    let mut told = None;
    let response = std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(response);
            }
            // The reader of the body sees the deadline when it is polled again, and answers.
            if !is_over(&watch, alarm.as_mut(), cx) || told == watch.deadline() {
                return Poll::Pending;
            }
            told = watch.deadline();
        }
    })
    .await;
    response.map(|response| if is_head { without_body(response) } else { response })
}

/// The answer to HEAD: its length without its body (RFC 9110 section 9.3.2).
fn without_body(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    use hyper::body::Body as _;
    let length = response.body().size_hint().exact().unwrap_or(0);
    response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    response.map(|_| Full::default())
}

/// The tasks of one connection. They end when the last clone is dropped with the connection.
#[derive(Clone, Default)]
struct Http2Streams {
    running: Arc<Mutex<JoinSet<()>>>,
    /// Number of requests so far.
    begun: Arc<AtomicU64>,
}

impl Http2Streams {
    /// Number of open streams.
    fn open(&self) -> usize {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.len()
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Http2Streams {
    fn execute(&self, stream: F) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(async move {
            let _ = timeout(STREAM_MAX, stream).await;
        });
    }
}
