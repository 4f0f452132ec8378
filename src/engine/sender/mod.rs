//! The sender: makes one attempt, which is one HTTP request with a deadline.
//!
//! It has its own connector, pool and HTTP/1.1. It follows no redirect, decodes no body and uses no proxy but the one of
//! the settings.
//!
//! Invariant: a request is sent again only once, and only if it was sent on a pooled connection that ended before the
//! request was read. Then either `HttpConnection::wrote` is false, or the answer is a 408.

mod connect;
mod connectivity;
mod exchange;
mod failure;
mod header_lines;
mod http1;
mod limits;
mod pinned;
mod pool;
mod proxy;
mod request_route;
mod target;
mod tls;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Method, StatusCode};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use self::connectivity::Connectivity;
use self::exchange::PartialResponse;
use self::failure::SendFailure;
use self::http1::{HttpConnection, ResponseEnd};
use self::pool::Pool;
use self::request_route::RequestRoute;
use crate::engine::network::Network;
use crate::model::{AttemptOutcome, Headers, Timings};

pub use self::failure::Shortage;
pub use self::header_lines::HeaderLines;
pub use self::limits::{
    CONNECT_TIMEOUT_MAX, RESPONSE_BODY_BYTES_MAX, RESPONSE_HEADERS_STORED_BYTES_MAX, RESPONSE_HEADERS_STORED_MAX,
    TARGET_BYTES_MAX,
};
pub use self::proxy::{DeliveryProxy, ProxyContact};
pub use self::target::{NotATarget, Origin, SendTarget};
pub use self::tls::{TlsIdentity, read_roots_ahead};

/// Decides which addresses a request may go to, before every new connection.
pub trait AddressGuard: Send + Sync {
    /// Whether a connection to each of `addresses`, to which `host` resolved, is allowed on `port`.
    fn allows(&self, host: &str, addresses: &[IpAddr], port: u16) -> bool;

    /// Whether a proxy may be asked to connect to `host`, an address or a name that the proxy resolves, on `port`.
    fn allows_unresolved(&self, host: &str, port: u16) -> bool;
}

/// A request to be sent. The connection adds `host` and the framing of the body.
#[derive(Debug, Clone)]
pub struct OutboundRequest {
    pub method: Method,
    pub target: SendTarget,
    pub headers: HeaderLines,
    pub body: Bytes,
    /// Deadline of the whole attempt, from its start to the last byte read of the response.
    pub timeout: Duration,
    /// Deadline of name resolution, connect and TLS handshake together. At most `timeout`.
    pub connect_timeout: Duration,
}

impl OutboundRequest {
    /// The connect timeout for an attempt of `timeout`: at most `CONNECT_TIMEOUT_MAX`.
    pub fn connect_timeout_of(timeout: Duration) -> Duration {
        timeout.min(CONNECT_TIMEOUT_MAX)
    }
}

/// The result of a request.
#[derive(Debug, Clone)]
pub struct ExchangeResult {
    /// `HttpStatus` for every whole response of any status. The webhook's rule decides which statuses are a success.
    pub outcome: AttemptOutcome,
    /// Status code, also of a response that broke off after its head. `None` without a response head.
    pub status_code: Option<u16>,
    /// The status's reason phrase, or the outcome's phrase. `None` for a 2xx.
    pub error: Option<String>,
    /// The message of the underlying error. `None` if `error` says everything.
    pub detail: Option<String>,
    /// Milliseconds from the start to the end of the response. `None` without an HTTP response.
    pub response_time_ms: Option<u32>,
    pub remote_addr: Option<SocketAddr>,
    /// Response headers, up to `RESPONSE_HEADERS_STORED_MAX` and `RESPONSE_HEADERS_STORED_BYTES_MAX`.
    pub response_headers: Headers,
    /// The first `RESPONSE_BODY_BYTES_MAX` bytes of the body, as received.
    pub response_body: Vec<u8>,
    /// The `Retry-After` header as received, for every status.
    pub retry_after: Option<String>,
    pub timings: Timings,
    pub proxy: ProxyContact,
    /// The shortage of this machine that prevented the request. The exchange then says nothing about the receiver.
    pub shortage: Option<Shortage>,
}

/// Sends requests. One sender serves all tasks.
pub struct Sender {
    network: Arc<dyn Network>,
    guard: Arc<dyn AddressGuard>,
    public_tls: Arc<ClientConfig>,
    /// Direct connections, and resolved names.
    pool: Pool,
    /// Connections through the proxy, each for the origin of its receiver.
    proxied: Pool,
    proxy: ArcSwapOption<DeliveryProxy>,
    connectivity: Connectivity,
    /// This sender, for tasks beside a request.
    own: Weak<Sender>,
}

impl Sender {
    /// Reads the machine's trust store and starts the task that closes idle connections. The task ends with the sender.
    /// Must be called within the runtime.
    ///
    /// Errors: no usable certificate authority.
    pub fn new(network: Arc<dyn Network>, guard: Arc<dyn AddressGuard>) -> Result<Arc<Self>, String> {
        let public_tls = tls::public_config()?;
        let (pool, proxied, proxy) = (Pool::default(), Pool::default(), ArcSwapOption::empty());
        let sender = Arc::new_cyclic(|own| {
            let own = own.clone();
            Self { network, guard, public_tls, pool, proxied, proxy, connectivity: Connectivity::default(), own }
        });
        let weak = Arc::downgrade(&sender);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(limits::SWEEP_EVERY).await;
                let Some(sender) = weak.upgrade() else { return };
                sender.pool.sweep(Instant::now());
                sender.proxied.sweep(Instant::now());
            }
        });
        Ok(sender)
    }

    /// Number of idle connections, direct ones and those through the proxy.
    pub fn idle_connections(&self) -> usize {
        self.pool.idle() + self.proxied.idle()
    }

    /// Closes idle connections and stops the reuse of those in use. Called when the target policy has changed.
    pub fn forget_connections(&self) {
        self.pool.clear();
        self.proxied.clear();
    }

    /// Sends one request. Dropping the future abandons the request and closes its connection.
    pub async fn send(&self, request: &OutboundRequest) -> ExchangeResult {
        let started = Instant::now();
        let mut partial = PartialResponse::default();
        let mut remote = None;
        let mut contact = ProxyContact::None;
        let route = self.route_to(&request.target);
        let ended = self.attempt(request, &route, started, &mut partial, &mut remote, &mut contact).await;
        let ended = route.outcome_of(ended, &mut partial, &mut contact);
        partial.timings.total = millis(started.elapsed());
        // Behind a proxy the receiver's address is unknown, and the webhook's owner must not learn the proxy's address.
        let remote = remote.filter(|_| route.proxy.is_none());
        ExchangeResult { proxy: contact, ..ExchangeResult::of(partial, remote, ended.err()) }.redacted(route.peer())
    }

    async fn attempt(
        &self,
        request: &OutboundRequest,
        route: &RequestRoute,
        started: Instant,
        partial: &mut PartialResponse,
        remote: &mut Option<SocketAddr>,
        contact: &mut ProxyContact,
    ) -> Result<(), SendFailure> {
        let deadline = started + request.timeout;
        let origin = &request.target.origin;
        let connect_by = deadline.min(started + request.connect_timeout);
        let finding = async {
            match &route.proxy {
                Some(proxy) => self.find_through(proxy, origin, &mut partial.timings, contact).await,
                None => self.find(origin, &mut partial.timings).await,
            }
        };
        let found = in_time(connect_by, finding).await;
        let (idle, addresses) =
            found.map_err(|failure| route.too_late(failure, started.elapsed(), contact).while_resolving())?;

        let (mut connecting_since, mut connect_by) = (started, connect_by);
        if let Some(link) = idle {
            partial.timings.dns = None;
            *remote = Some(link.remote);
            *contact = route.reached();
            match self.exchange(link, route, request, deadline, partial).await {
                Exchanged::Done(_) if partial.is_request_timeout() && Instant::now() < deadline => {
                    *partial = PartialResponse::default();
                }
                Exchanged::Done(ended) => return ended,
                Exchanged::NeverLeft(_) => {}
            }
            // The same attempt continues on a new connection with the whole connect timeout.
            connecting_since = Instant::now();
            connect_by = deadline.min(connecting_since + request.connect_timeout);
        }
        *remote = None;
        // Boxed, because it is large and rare: otherwise every request in flight reserves room for a handshake.
        let opening = Box::pin(async {
            match &route.proxy {
                Some(proxy) => self.open_through(proxy, origin, &addresses, &mut partial.timings, contact).await,
                None => self.open(origin, &addresses, &mut partial.timings).await,
            }
        });
        let opened = in_time(connect_by, opening).await;
        let is_connected = partial.timings.connect.is_some();
        let link = opened.map_err(|failure| {
            let failure = route.too_late(failure, connecting_since.elapsed(), contact);
            if is_connected { failure.while_securing() } else { failure }
        })?;
        *remote = Some(link.remote);
        match self.exchange(link, route, request, deadline, partial).await {
            Exchanged::Done(ended) => ended,
            Exchanged::NeverLeft(failure) => Err(failure),
        }
    }

    /// Sends the request on `link`. A reusable connection returns to the pool.
    async fn exchange(
        &self,
        mut link: HttpConnection,
        route: &RequestRoute,
        request: &OutboundRequest,
        deadline: Instant,
        partial: &mut PartialResponse,
    ) -> Exchanged {
        match timeout_at(deadline, exchange::exchange(&mut link, request, route.peer(), partial)).await {
            Ok(Ok(end)) => {
                self.connectivity.reached(link.remote.ip(), Instant::now());
                let life = partial.idle_life();
                if end == ResponseEnd::Whole && link.is_idle() && !life.is_zero() {
                    let pool = if route.proxy.is_some() { &self.proxied } else { &self.pool };
                    pool.put(&request.target.origin, link, Instant::now() + life, route.generation);
                }
                Exchanged::Done(Ok(()))
            }
            // The receiver may have the request, so a shortage ends the attempt.
            Ok(Err(failure)) if link.wrote() => Exchanged::Done(Err(SendFailure { shortage: None, ..failure })),
            Ok(Err(failure)) => Exchanged::NeverLeft(failure),
            Err(_elapsed) => Exchanged::Done(Err(SendFailure::of(AttemptOutcome::Timeout))),
        }
    }
}

enum Exchanged {
    Done(Result<(), SendFailure>),
    /// The exchange failed before a byte of the request reached the socket.
    NeverLeft(SendFailure),
}

/// The result of `connecting`, or `ConnectTimeout` if it takes longer than until `by`.
async fn in_time<T>(by: Instant, connecting: impl Future<Output = Result<T, SendFailure>>) -> Result<T, SendFailure> {
    match timeout_at(by, connecting).await {
        Ok(ended) => ended,
        Err(_elapsed) => Err(SendFailure::of(AttemptOutcome::ConnectTimeout)),
    }
}

impl ExchangeResult {
    fn of(partial: PartialResponse, remote: Option<SocketAddr>, failure: Option<SendFailure>) -> Self {
        let PartialResponse { head, body, timings } = partial;
        let outcome = failure.as_ref().map_or(AttemptOutcome::HttpStatus, |failure| failure.outcome);
        let error = match (&failure, &head) {
            (Some(failure), _) => Some(failure.words.unwrap_or(failure.outcome.phrase()).to_owned()),
            (None, Some(head)) if !(200..300).contains(&head.status) => Some(reason(head.status)),
            (None, _) => None,
        };
        let status_code = head.as_ref().map(|head| head.status);
        let (response_headers, retry_after) = head.map(|head| (head.headers, head.retry_after)).unwrap_or_default();
        Self {
            outcome,
            status_code,
            error,
            shortage: failure.as_ref().and_then(|failure| failure.shortage),
            detail: failure.and_then(|failure| failure.detail),
            response_time_ms: status_code.map(|_| timings.total),
            remote_addr: remote,
            retry_after,
            response_headers,
            response_body: body,
            timings,
            proxy: ProxyContact::None,
        }
    }
}

/// The registered reason phrase of a status code, or a text such as `Status 599` if there is none.
pub fn reason(status: u16) -> String {
    let known = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    known.map_or_else(|| format!("Status {status}"), str::to_owned)
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}
