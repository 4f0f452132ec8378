//! Requests through the forward proxy: a tunnel to https receivers (CONNECT, RFC 9110 section 9.3.6), and the absolute
//! form of the target to http receivers (RFC 9112 section 3.2.2).
//!
//! Invariants: `Proxy-Authorization` goes to the proxy and never into a tunnel. A connection through the proxy is reused
//! for its own origin only, also where the proxy would take requests for others on it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::engine::network::Conn;
use crate::engine::redact::Redactor;
use crate::engine::sender::connect::{OriginRoutes, dial};
use crate::engine::sender::failure::SendFailure;
use crate::engine::sender::http1::{
    CountingSocket, ExchangeError, HttpConnection, ResponseFault, Wire, write_connect_head,
};
use crate::engine::sender::limits::{CONNECT_ANSWER_BYTES_MAX, INTERIM_ANSWERS_MAX};
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
    /// The proxy's URL without credentials.
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

    /// The value of `Proxy-Authorization`. `None` if the proxy needs no credentials.
    pub(in crate::engine) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
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
            .map_err(|why| failed_by(self.unconnected(&why, addresses), "it cannot be reached"))?;
        if proxy.origin.https {
            let name = proxy.origin.server_name.clone();
            let name = name.ok_or_else(|| failed("its host is no name for TLS".to_owned()))?;
            let secured = TlsConnector::from(self.public_tls.clone()).connect(name, conn).await;
            conn = Box::new(secured.map_err(|why| failed_by(SendFailure::securing(&why), "TLS with it failed"))?);
        }
        *contact = ProxyContact::Reached;
        if origin.https {
            *contact = ProxyContact::TunnelRefused;
            conn = tunnel(conn, remote, proxy, origin, contact).await?;
            *contact = ProxyContact::Reached;
        }
        timings.connect = Some(millis(began.elapsed()));
        self.speak(origin, conn, remote, timings).await
    }
}

/// Asks the proxy for a tunnel to `origin`, and returns the stream of the tunnel.
async fn tunnel(
    conn: Box<dyn Conn>,
    remote: SocketAddr,
    proxy: &DeliveryProxy,
    origin: &Origin,
    contact: &mut ProxyContact,
) -> Result<Box<dyn Conn>, SendFailure> {
    // CONNECT always names the port.
    let host = if origin.host.contains(':') { format!("[{}]", origin.host) } else { origin.host.clone() };
    let authority = format!("{host}:{}", origin.port);
    let mut link = HttpConnection::over(Wire::Plain(CountingSocket::new(conn)), remote);
    let write_head = |out: &mut Vec<u8>| write_connect_head(out, &authority, proxy.authorization());
    let answer = link.ask(Bytes::new(), CONNECT_ANSWER_BYTES_MAX, write_head).await;
    let status = answer.map_err(|why| unanswered(&why, contact))?.head.status;
    match status {
        // A TLS receiver never speaks first, so bytes behind the answer are not part of the tunnel.
        200..=299 => link.into_conn().ok_or_else(|| failed("its answer to CONNECT has bytes behind it".to_owned())),
        _ if STATUSES_OF_CREDENTIALS.contains(&status) => {
            *contact = ProxyContact::CredentialsRefused;
            Err(failed(format!("it answered CONNECT with {status} {}; {CREDENTIALS_CURE}", reason(status))))
        }
        _ => Err(failed(format!("it answered CONNECT with {status} {}", reason(status)))),
    }
}

/// A failure of the proxy, described for the log and the attempt without an address.
fn failed(detail: String) -> SendFailure {
    SendFailure { outcome: AttemptOutcome::ProxyError, detail: Some(detail), shortage: None, words: None }
}

/// `failure` on the way to the proxy, under the proxy's name.
fn failed_by(failure: SendFailure, action: &str) -> SendFailure {
    let detail = failure.detail.unwrap_or_default();
    SendFailure { shortage: failure.shortage, ..failed(format!("{action}: {detail}")) }
}

/// The failure of a proxy that broke off or wrote no HTTP. A proxy that cannot reach the receiver answers with a status.
fn unanswered(why: &ExchangeError, contact: &mut ProxyContact) -> SendFailure {
    *contact = ProxyContact::Unanswered;
    if matches!(why, ExchangeError::Fault(ResponseFault::TooManyInterimAnswers)) {
        return failed(format!("it answered CONNECT with more than {INTERIM_ANSWERS_MAX} interim answers (1xx)"));
    }
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
