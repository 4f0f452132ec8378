//! Requests through the forward proxy: a tunnel to https receivers (CONNECT, RFC 9110 section 9.3.6), and the absolute
//! form of the target to http receivers (RFC 9112 section 3.2.2).
//!
//! Invariants: `Proxy-Authorization` goes to the proxy and never into a tunnel. A connection through the proxy is reused
//! for its own origin only, also where the proxy would take requests for others on it.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::engine::network::Conn;
use crate::engine::redact::Redactor;
use crate::engine::sender::connect::{OriginRoutes, dial};
use crate::engine::sender::failure::SendFailure;
use crate::engine::sender::limits::{CONNECT_ANSWER_BYTES_MAX, CONNECT_ANSWER_HEADERS_MAX, INTERIM_ANSWERS_MAX};
use crate::engine::sender::link::HttpConnection;
use crate::engine::sender::target::{Origin, SendTarget};
use crate::engine::sender::{Sender, millis, reason};
use crate::model::{AttemptOutcome, Timings};
use crate::rules::forward_proxy::ForwardProxy;
use crate::rules::no_proxy::NoProxy;

/// Statuses by which a proxy refuses credentials. tinyproxy answers 401 to wrong ones.
const STATUSES_OF_CREDENTIALS: [u16; 2] = [407, 401];
/// The cure of refused credentials.
const CREDENTIALS_CURE: &str = "check delivery.proxy's user and password";

/// The proxy of deliveries, and the hosts that are reached without it.
pub struct DeliveryProxy {
    forward: ForwardProxy,
    /// Its URL without credentials.
    url: String,
    no_proxy: NoProxy,
    origin: Arc<Origin>,
    authorization: Option<HeaderValue>,
    redactor: Redactor,
}

/// The contact of a request with the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyContact {
    /// The request did not go through the proxy, or ended before the proxy was asked.
    #[default]
    None,
    Reached,
    /// No connection to the proxy, or no TLS with it. Nothing was sent.
    Unreachable,
    /// The proxy closed the connection or wrote no HTTP instead of an answer to CONNECT. Nothing was sent to the receiver.
    Unanswered,
    /// The proxy refused the credentials of a CONNECT. Nothing was sent to the receiver.
    CredentialsRefused,
    /// A 407 instead of an http receiver's answer. Either may have written it.
    CredentialsAsked,
    /// The proxy opened no tunnel to this receiver.
    TunnelRefused,
    /// The proxy did not answer a CONNECT in time.
    TunnelTimedOut,
}

impl DeliveryProxy {
    /// Errors: the proxy's host or credentials cannot be sent.
    pub fn new(forward: ForwardProxy, no_proxy: NoProxy) -> Result<DeliveryProxy, String> {
        let url = forward.url();
        let origin = SendTarget::parse(&url, None).map_err(|why| why.to_string())?.origin;
        let authorization = match forward.authorization() {
            Some(text) => {
                let mut value = HeaderValue::try_from(text).map_err(|_| "the credentials cannot be sent".to_owned())?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let mut redactor = Redactor::default();
        forward.secrets().iter().for_each(|secret| redactor.secret(secret));
        Ok(DeliveryProxy { forward, url, no_proxy, origin, authorization, redactor })
    }

    /// The proxy's URL without credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether requests to `target` go through the proxy.
    pub fn serves(&self, target: &SendTarget) -> bool {
        !target.bypasses_proxy && !self.no_proxy.matches(&target.origin.host)
    }

    /// Puts a request to an http receiver into the form for the proxy.
    pub(in crate::engine) fn address(&self, message: &mut Request<Full<Bytes>>, origin: &Origin) {
        let mut parts = std::mem::take(message.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Authority::try_from(origin.host_header.as_bytes()).ok();
        // The parts come from a URL that was parsed before.
        *message.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        if let Some(authorization) = &self.authorization {
            message.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
    }

    /// Redacts the proxy's credentials, which a proxy or a receiver may repeat.
    pub(in crate::engine) fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

impl PartialEq for DeliveryProxy {
    fn eq(&self, other: &Self) -> bool {
        self.forward == other.forward && self.no_proxy == other.no_proxy
    }
}

impl Sender {
    /// Sets the proxy of later requests. Idle connections are closed.
    pub fn set_proxy(&self, proxy: Option<DeliveryProxy>) {
        self.proxy.store(proxy.map(Arc::new));
        self.forget_connections();
    }

    /// The proxy of deliveries. `None` if there is none.
    pub fn proxy(&self) -> Option<Arc<DeliveryProxy>> {
        self.proxy.load_full()
    }

    /// The proxy that requests to `target` go through. `None` if they go directly.
    pub fn proxy_of(&self, target: &SendTarget) -> Option<Arc<DeliveryProxy>> {
        self.proxy.load_full().filter(|proxy| proxy.serves(target))
    }

    /// Finds an idle connection to `origin` through the proxy, and the proxy's addresses for a new one.
    ///
    /// Errors: `ProxyError` if the proxy's name does not resolve.
    pub(in crate::engine) async fn find_through(
        &self,
        proxy: &DeliveryProxy,
        origin: &Arc<Origin>,
        timings: &mut Timings,
        contact: &mut ProxyContact,
    ) -> Result<OriginRoutes, SendFailure> {
        *contact = ProxyContact::Unreachable;
        let found = self.find(&proxy.origin, timings).await;
        let (_, addresses) = found.map_err(|why| SendFailure {
            shortage: why.shortage,
            ..failed("it cannot be reached: its host name could not be resolved".to_owned())
        })?;
        Ok((self.proxied.find_through(origin, &addresses, Instant::now()), addresses))
    }

    /// Opens a connection to `origin` through the proxy. The guard must allow the origin by its text.
    ///
    /// Errors: `BlockedAddress` if it does not, `ProxyError`, or the outcome of the handshake with the receiver.
    pub(in crate::engine) async fn open_through(
        &self,
        proxy: &DeliveryProxy,
        origin: &Origin,
        addresses: &[IpAddr],
        timings: &mut Timings,
        contact: &mut ProxyContact,
    ) -> Result<HttpConnection, SendFailure> {
        if !self.guard.allows_unresolved(&origin.host, origin.port) {
            *contact = ProxyContact::None;
            return Err(SendFailure::of(AttemptOutcome::BlockedAddress));
        }
        *contact = ProxyContact::Unreachable;
        let began = Instant::now();
        let (mut conn, remote) = dial(&*self.network, addresses, proxy.origin.port)
            .await
            .map_err(|why| failed_by(SendFailure::connecting(&why), "it cannot be reached"))?;
        if proxy.origin.https {
            let name = proxy.origin.server_name.clone();
            let name = name.ok_or_else(|| failed("its host is no name for TLS".to_owned()))?;
            let secured = TlsConnector::from(self.public_tls.clone()).connect(name, conn).await;
            conn = Box::new(secured.map_err(|why| failed_by(SendFailure::securing(&why), "TLS with it failed"))?);
        }
        *contact = ProxyContact::Reached;
        if origin.https {
            *contact = ProxyContact::TunnelRefused;
            conn = tunnel(conn, proxy, origin, contact).await?;
            *contact = ProxyContact::Reached;
        }
        timings.connect = Some(millis(began.elapsed()));
        self.speak(origin, conn, remote, timings).await
    }
}

/// Asks the proxy for a tunnel to `origin`, and returns the stream of the tunnel.
async fn tunnel(
    conn: Box<dyn Conn>,
    proxy: &DeliveryProxy,
    origin: &Origin,
    contact: &mut ProxyContact,
) -> Result<Box<dyn Conn>, SendFailure> {
    let (mut requests, mut connection) = Builder::new()
        .max_buf_size(CONNECT_ANSWER_BYTES_MAX)
        .max_headers(CONNECT_ANSWER_HEADERS_MAX)
        .handshake(TokioIo::new(conn))
        .await
        .map_err(|why| unanswered(&why, contact))?;
    let mut message = question(proxy, origin)?;
    let interim = Arc::new(AtomicUsize::new(0));
    let counter = interim.clone();
    hyper::ext::on_informational(&mut message, move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let mut response = pin!(requests.send_request(message));
    let mut ended = false;
    let answer = poll_fn(|cx| {
        // An error of the connection reaches the response too.
        ended = ended || connection.poll_without_shutdown(cx).is_ready();
        if interim.load(Ordering::Relaxed) > INTERIM_ANSWERS_MAX {
            return Poll::Ready(None);
        }
        response.as_mut().poll(cx).map(Some)
    });
    let Some(answer) = answer.await else {
        *contact = ProxyContact::Unanswered;
        return Err(failed(format!("it answered CONNECT with more than {INTERIM_ANSWERS_MAX} interim answers (1xx)")));
    };
    let status = answer.map_err(|why| unanswered(&why, contact))?.status().as_u16();
    match status {
        200..=299 => {}
        _ if STATUSES_OF_CREDENTIALS.contains(&status) => {
            *contact = ProxyContact::CredentialsRefused;
            return Err(failed(format!("it answered CONNECT with {status} {}; {CREDENTIALS_CURE}", reason(status))));
        }
        _ => return Err(failed(format!("it answered CONNECT with {status} {}", reason(status)))),
    }
    if !ended {
        poll_fn(|cx| connection.poll_without_shutdown(cx)).await.map_err(|why| unanswered(&why, contact))?;
    }
    let parts = connection.into_parts();
    // A TLS receiver never speaks first, so these bytes are not part of the tunnel.
    if !parts.read_buf.is_empty() {
        return Err(failed("its answer to CONNECT has bytes behind it".to_owned()));
    }
    Ok(parts.io.into_inner())
}

fn question(proxy: &DeliveryProxy, origin: &Origin) -> Result<Request<Full<Bytes>>, SendFailure> {
    let unsendable = || failed("CONNECT cannot name the host".to_owned());
    // CONNECT always names the port.
    let host = if origin.host.contains(':') { format!("[{}]", origin.host) } else { origin.host.clone() };
    let authority = format!("{host}:{}", origin.port);
    let host = HeaderValue::try_from(authority.as_str()).map_err(|_| unsendable())?;
    let mut message = Request::new(Full::new(Bytes::new()));
    *message.method_mut() = Method::CONNECT;
    *message.uri_mut() = Uri::try_from(authority).map_err(|_| unsendable())?;
    message.headers_mut().insert(HOST, host);
    if let Some(authorization) = &proxy.authorization {
        message.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
    }
    Ok(message)
}

/// A failure of the proxy, described for the log and the attempt without an address.
fn failed(detail: String) -> SendFailure {
    SendFailure { outcome: AttemptOutcome::ProxyError, detail: Some(detail), shortage: None }
}

/// `failure` on the way to the proxy, under the proxy's name.
fn failed_by(failure: SendFailure, what: &str) -> SendFailure {
    let detail = failure.detail.unwrap_or_default();
    SendFailure { shortage: failure.shortage, ..failed(format!("{what}: {detail}")) }
}

/// The failure of a proxy that broke off or wrote no HTTP. A proxy that cannot reach the receiver answers with a status.
fn unanswered(why: &hyper::Error, contact: &mut ProxyContact) -> SendFailure {
    *contact = ProxyContact::Unanswered;
    let failure = SendFailure::exchanging(why);
    match failure.outcome {
        AttemptOutcome::ConnectReset => failed("it closed the connection without an answer to CONNECT".to_owned()),
        _ => failed_by(failure, "its answer to CONNECT cannot be read"),
    }
}

/// The failure of a 407 that came instead of an http receiver's answer.
pub(in crate::engine) fn credentials_asked() -> SendFailure {
    failed(format!("it answered with 407 {}; {CREDENTIALS_CURE}", reason(407)))
}

/// The failure of an exchange with an http receiver. If the connection ends without an answer, the proxy has failed,
/// because a proxy answers 502 for a failing receiver.
pub(in crate::engine) fn blamed(failure: SendFailure, answered: bool) -> SendFailure {
    match failure.outcome {
        AttemptOutcome::ConnectReset if !answered => failed("it closed the connection without an answer".to_owned()),
        _ => failure,
    }
}

/// The failure of a connection through the proxy that was not open in time.
pub(in crate::engine) fn out_of_time(contact: ProxyContact) -> SendFailure {
    match contact {
        ProxyContact::Unreachable => failed("it cannot be reached: no answer in time".to_owned()),
        ProxyContact::TunnelRefused => failed("it did not answer CONNECT in time".to_owned()),
        _ => SendFailure::of(AttemptOutcome::ConnectTimeout),
    }
}
