//! Serves one connection from its first byte to its last. hyper reads and writes, and the timer sets the deadlines.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::gate::RefusalGate;
use super::refusal::RequestRefusal;
use super::request::{Client, answer, response_of};
use super::table::ConnectionSlot;
use super::timer::{ConnectionPhase, ConnectionTimer};
use super::tls::HTTP2;
use super::{HEAD_BYTES_MAX, HTTP1_BYTES, ServerLimits, Service, TLS_BYTES, http2};
use crate::api::link::LinkRequest;
use crate::engine::network::Conn;

/// Why a connection is no longer served.
enum ConnectionEnd {
    /// hyper has ended the connection, with or without an error.
    Done,
    /// The peer speaks HTTP/2 without TLS.
    Http2InClear,
    /// The wait of this phase exceeded its limit.
    Late(ConnectionPhase),
}

impl ConnectionEnd {
    fn of(served: &hyper::Result<()>) -> ConnectionEnd {
        // hyper closes such a connection without an answer.
        let is_http2 = served.as_ref().is_err_and(hyper::Error::is_parse_version_h2);
        if is_http2 { ConnectionEnd::Http2InClear } else { ConnectionEnd::Done }
    }

    /// The refusal that the peer still gets. `None` if it has an answer, or needs none.
    fn refusal(&self) -> Option<RequestRefusal> {
        match self {
            ConnectionEnd::Late(ConnectionPhase::Head) => Some(RequestRefusal::HeadLate),
            ConnectionEnd::Http2InClear => Some(RequestRefusal::Http2InClear),
            ConnectionEnd::Late(_) | ConnectionEnd::Done => None,
        }
    }
}

/// The link of the last answer.
#[derive(Default)]
struct PendingLink(Mutex<Option<LinkRequest>>);

impl PendingLink {
    fn set(&self, link_request: Option<LinkRequest>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = link_request;
    }

    /// The link that takes the connection over, if it has ended with its answer.
    fn after(&self, ended: &ConnectionEnd) -> Option<LinkRequest> {
        let link_request = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        link_request.filter(|_| matches!(ended, ConnectionEnd::Done))
    }
}

/// Waits for the first byte of a connection. `None` if the peer or the deadline ends the connection, or the server
/// stops.
///
/// The buffers of HTTP are allocated after this byte, so that thousands of silent peers cost little besides their
/// sockets.
async fn first_byte(conn: &mut dyn Conn, head_by: Instant, stop: &mut watch::Receiver<bool>) -> Option<u8> {
    let mut first = [0];
    tokio::select! {
        biased;
        read = timeout_at(head_by, conn.read(&mut first)) => matches!(read, Ok(Ok(1))).then_some(first[0]),
        _ = stop.wait_for(|stop| *stop) => None,
    }
}

/// Serves requests over TLS, as `serve` does in clear. The handshake has the time of a head, and ALPN selects the
/// protocol.
pub(super) async fn serve_secured<S: Service>(
    service: Arc<S>,
    limits: ServerLimits,
    conn: Box<dyn Conn>,
    tls: TlsAcceptor,
    client: Client,
    slot: Arc<ConnectionSlot>,
    mut stop: watch::Receiver<bool>,
) {
    slot.charge(TLS_BYTES);
    let stream = tokio::select! {
        biased;
        stream = timeout(limits.head_read, tls.accept(conn)) => stream,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let Ok(Ok(stream)) = stream else { return };
    slot.consumed();
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
    let conn: Box<dyn Conn> = Box::new(stream);
    if is_http2 {
        http2::serve(service, limits, conn, client, slot, stop).await;
    } else {
        serve(&*service, limits, conn, client, slot, stop).await;
    }
}

/// Serves requests until the peer or a deadline ends the connection, or `stop` turns true and the current request is
/// answered.
pub(super) async fn serve<S: Service>(
    service: &S,
    limits: ServerLimits,
    mut conn: Box<dyn Conn>,
    client: Client,
    slot: Arc<ConnectionSlot>,
    mut stop: watch::Receiver<bool>,
) {
    let head_by = Instant::now() + limits.head_read;
    let Some(first) = first_byte(&mut *conn, head_by, &mut stop).await else { return };
    slot.charge(HTTP1_BYTES);
    let watch = ConnectionTimer::new(limits, head_by, slot);
    let ids = || service.request_id();
    let gate = RefusalGate::new(conn, first, &watch, &ids);
    let link = PendingLink::default();
    let on_request = service_fn(|request| answered(service, client, &watch, &link, request));
    let mut http = Box::pin(http1().serve_connection(TokioIo::new(gate), on_request));
    let mut alarm = pin!(sleep_until(head_by));
    let is_stopping = stop.clone();
    let mut stopped = Some(Box::pin(async move { stop.wait_for(|stop| *stop).await.is_ok() }));
    let (mut is_waiting_for_stop, mut seen) = (false, None);
    let ended = std::future::poll_fn(|cx| {
        // Once the signal is awaited, a cheap check tells whether to poll it again.
        if let Some(waiting) = &mut stopped
            && (!is_waiting_for_stop || is_stopping.has_changed().unwrap_or(true))
        {
            is_waiting_for_stop = true;
            if waiting.as_mut().poll(cx).is_ready() {
                stopped = None;
                http.as_mut().graceful_shutdown();
                watch.shorten_head();
            }
        }
        loop {
            if let Poll::Ready(served) = http.as_mut().poll(cx) {
                return Poll::Ready(ConnectionEnd::of(&served));
            }
            if !is_over(&watch, alarm.as_mut(), cx) {
                return Poll::Pending;
            }
            match watch.phase() {
                // The reader of the body sees the deadline too when it is polled again, and answers.
                ConnectionPhase::Body | ConnectionPhase::Discard if seen != watch.deadline() => seen = watch.deadline(),
                phase => return Poll::Ready(ConnectionEnd::Late(phase)),
            }
        }
    })
    .await;
    if let Some(link_request) = link.after(&ended) {
        // The standby sends nothing before it has read the answer, so nothing of the stream was read yet.
        let gate = Pin::into_inner(http).into_parts().io.into_inner();
        return service.take_over(link_request, gate.into_conn());
    }
    if let Some(refusal) = ended.refusal() {
        let mut gate = Pin::into_inner(http).into_parts().io.into_inner();
        gate.refuse(refusal, &[]);
        // The deadline has passed already, so this is the last wait. An error affects the peer only.
        let _ = timeout(limits.linger, gate.shutdown()).await;
    }
}

/// Answers one request.
async fn answered<S: Service>(
    service: &S,
    client: Client,
    watch: &ConnectionTimer,
    link: &PendingLink,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut answered = answer(service, client, watch, request, true).await;
    link.set(answered.response.link.take());
    watch.charge_answer(answered.response.body.len());
    Ok(response_of(answered).map(Full::new))
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        // A peer may close its side after its last request and still wait for the answer.
        .half_close(true)
        // The timer keeps all deadlines.
        .header_read_timeout(None);
    builder
}

/// Whether the connection's deadline has passed. The alarm is set again only when it fires or must fire earlier, so a
/// request that is served in time never touches the runtime's timer.
pub(super) fn is_over(watch: &ConnectionTimer, mut alarm: Pin<&mut Sleep>, cx: &mut Context<'_>) -> bool {
    loop {
        let deadline = watch.deadline();
        if let Some(deadline) = deadline
            && deadline < alarm.deadline()
        {
            alarm.as_mut().reset(deadline);
        }
        if alarm.as_mut().poll(cx).is_pending() {
            return false;
        }
        if watch.is_overdue() {
            return true;
        }
        let later = deadline.unwrap_or_else(|| Instant::now() + watch.limits().idle);
        alarm.as_mut().reset(later);
    }
}
