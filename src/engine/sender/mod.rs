//! The sender: one attempt is one request, sent once and answered within its deadline, or not at all.
//!
//! Own connector and own pool over hyper's HTTP/1.1 connection. A request is sent a second time in one case only: it
//! was given to a pooled connection and not one byte of it reached the socket. Redirects are answers like any other,
//! bodies are kept as they come, and no proxy is asked.

mod connect;
mod exchange;
mod failure;
mod limits;
mod link;
mod pool;
mod target;
mod tls;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use self::exchange::{PartialResponse, ResponseEnd, converse, kept_headers};
use self::failure::SendFailure;
use self::link::HttpConnection;
use self::pool::Pool;
use crate::engine::network::Network;
use crate::model::{AttemptOutcome, Headers, Timings};

pub use self::limits::{
    CONNECT_TIMEOUT_MAX, RESPONSE_BODY_BYTES_MAX, RESPONSE_HEADERS_KEPT_BYTES_MAX, RESPONSE_HEADERS_KEPT_MAX,
};
pub use self::target::{NotATarget, Origin, SendTarget};
pub use self::tls::{TlsIdentity, read_roots_ahead};

/// Judges where a request may go, before every new connection.
pub trait AddressGuard: Send + Sync {
    /// Whether all of `addresses`, which are what `host` resolved to, may be connected to on `port`.
    fn allows(&self, host: &str, addresses: &[IpAddr], port: u16) -> bool;
}

/// One request to be sent, ready but for what the connection adds: `host` and the framing of the body.
#[derive(Debug, Clone)]
pub struct OutboundRequest {
    pub method: Method,
    pub target: SendTarget,
    /// In the order to send them; a name may come more than once. Neither `host` nor framing headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// For everything, from now to the last byte of the response that is read.
    pub timeout: Duration,
    /// For resolving, connecting and securing; never longer than `timeout`.
    pub connect_timeout: Duration,
}

impl OutboundRequest {
    /// How long connecting may take within `timeout` (api.md section 5).
    pub fn connect_timeout_of(timeout: Duration) -> Duration {
        timeout.min(CONNECT_TIMEOUT_MAX)
    }
}

/// What became of a request.
#[derive(Debug, Clone)]
pub struct ExchangeResult {
    /// `HttpStatus` for every whole response, whatever its status: what is success is the webhook's rule.
    pub outcome: AttemptOutcome,
    /// Also where the response broke off after its head.
    pub status_code: Option<u16>,
    /// The status's reason phrase (none for a 2xx), or the outcome's phrase.
    pub error: Option<String>,
    /// What the layer below said, where there is more to say than `error` does.
    pub detail: Option<String>,
    /// None without an HTTP response.
    pub response_time_ms: Option<u32>,
    pub remote_addr: Option<SocketAddr>,
    /// Up to `RESPONSE_HEADERS_KEPT_MAX` and `RESPONSE_HEADERS_KEPT_BYTES_MAX`.
    pub response_headers: Headers,
    /// The first `RESPONSE_BODY_BYTES_MAX`, as they came.
    pub response_body: Vec<u8>,
    /// The `Retry-After` header as it came, whatever the status.
    pub retry_after: Option<String>,
    pub timings: Timings,
}

/// Sends requests. Shared by all; cheap to call from as many tasks as there are requests in flight.
pub struct Sender {
    network: Arc<dyn Network>,
    guard: Arc<dyn AddressGuard>,
    public_tls: Arc<ClientConfig>,
    pool: Pool,
}

impl Sender {
    /// Reads the machine's trust store, and starts the task that closes idle connections (it ends with the sender), so
    /// it is called within the runtime. Error: no certificate authority can be used at all.
    pub fn new(network: Arc<dyn Network>, guard: Arc<dyn AddressGuard>) -> Result<Arc<Self>, String> {
        let public_tls = tls::public_config()?;
        let sender = Arc::new(Self { network, guard, public_tls, pool: Pool::default() });
        let of_sender = Arc::downgrade(&sender);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(limits::SWEEP_EVERY).await;
                let Some(sender) = of_sender.upgrade() else { return };
                sender.pool.sweep(Instant::now());
            }
        });
        Ok(sender)
    }

    /// Connections that wait for their next request.
    pub fn idle_connections(&self) -> usize {
        self.pool.idle()
    }

    /// Closes the connections that wait for their next request, because where requests may go has changed.
    pub fn forget_connections(&self) {
        self.pool.clear();
    }

    /// Sends one request. Dropping the future gives it up and closes its connection.
    pub async fn send(&self, request: &OutboundRequest) -> ExchangeResult {
        let started = Instant::now();
        let mut answer = PartialResponse::default();
        let mut remote = None;
        let ended = self.attempt(request, started, &mut answer, &mut remote).await;
        answer.timings.total = millis(started.elapsed());
        ExchangeResult::of(answer, remote, ended.err())
    }

    async fn attempt(
        &self,
        request: &OutboundRequest,
        started: Instant,
        answer: &mut PartialResponse,
        remote: &mut Option<SocketAddr>,
    ) -> Result<(), SendFailure> {
        let deadline = started + request.timeout;
        let origin = &request.target.origin;
        let age = self.pool.age();
        let connect_by = deadline.min(started + request.connect_timeout);
        let (idle, addresses) = in_time(connect_by, self.find(origin, &mut answer.timings)).await?;

        let mut connect_by = connect_by;
        if let Some(link) = idle {
            answer.timings.dns = None;
            *remote = Some(link.remote);
            match self.exchange(link, age, request, deadline, answer).await {
                Exchanged::Done(ended) => return ended,
                // This is still the same attempt, on a connection of its own, with all the time to connect.
                Exchanged::NeverLeft(_) => connect_by = deadline.min(Instant::now() + request.connect_timeout),
            }
        }
        *remote = None;
        // On the heap, because it is large and rare: every request in flight would carry room for a handshake.
        let opening = Box::pin(self.open(origin, &addresses, &mut answer.timings));
        let link = in_time(connect_by, opening).await?;
        *remote = Some(link.remote);
        match self.exchange(link, age, request, deadline, answer).await {
            Exchanged::Done(ended) => ended,
            Exchanged::NeverLeft(failure) => Err(failure),
        }
    }

    /// Sends the request on `link`, which goes back to the pool if it can be used again.
    async fn exchange(
        &self,
        mut link: HttpConnection,
        age: u64,
        request: &OutboundRequest,
        deadline: Instant,
        answer: &mut PartialResponse,
    ) -> Exchanged {
        match timeout_at(deadline, converse(&mut link, request, answer)).await {
            Ok(Ok(end)) => {
                if end == ResponseEnd::Whole && link.is_idle() {
                    self.pool.put(&request.target.origin, link, Instant::now(), age);
                }
                Exchanged::Done(Ok(()))
            }
            Ok(Err(error)) if link.wrote() => Exchanged::Done(Err(SendFailure::exchanging(&error))),
            Ok(Err(error)) => Exchanged::NeverLeft(SendFailure::exchanging(&error)),
            Err(_elapsed) => Exchanged::Done(Err(SendFailure::of(AttemptOutcome::Timeout))),
        }
    }
}

enum Exchanged {
    Done(Result<(), SendFailure>),
    /// It failed before a byte of the request reached the socket.
    NeverLeft(SendFailure),
}

/// `connecting`, or the outcome of not having connected in time.
async fn in_time<T>(by: Instant, connecting: impl Future<Output = Result<T, SendFailure>>) -> Result<T, SendFailure> {
    match timeout_at(by, connecting).await {
        Ok(ended) => ended,
        Err(_elapsed) => Err(SendFailure::of(AttemptOutcome::ConnectTimeout)),
    }
}

impl ExchangeResult {
    fn of(answer: PartialResponse, remote: Option<SocketAddr>, failure: Option<SendFailure>) -> Self {
        let PartialResponse { head, body, timings } = answer;
        let outcome = failure.as_ref().map_or(AttemptOutcome::HttpStatus, |failure| failure.outcome);
        let error = match (&failure, &head) {
            (Some(failure), _) => Some(failure.outcome.phrase().to_owned()),
            (None, Some(head)) if !head.status.is_success() => Some(reason(head.status.as_u16())),
            (None, _) => None,
        };
        let retry_after = head.as_ref().and_then(|head| head.headers.get(header::RETRY_AFTER));
        Self {
            outcome,
            status_code: head.as_ref().map(|head| head.status.as_u16()),
            error,
            detail: failure.and_then(|failure| failure.detail),
            response_time_ms: head.as_ref().map(|_| timings.total),
            remote_addr: remote,
            retry_after: retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned),
            response_headers: head.map(|head| kept_headers(&head.headers)).unwrap_or_default(),
            response_body: body,
            timings,
        }
    }
}

/// A status code in words: its registered reason phrase, or `Status 599` where there is none.
pub fn reason(status: u16) -> String {
    let known = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    known.map_or_else(|| format!("Status {status}"), str::to_owned)
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}
