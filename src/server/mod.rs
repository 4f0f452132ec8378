//! The HTTP server: connections in, Calls out, Replies back. It owns everything that is not a route's business: the
//! accept loop, the framing, the limits on time and size, and the drain.
//!
//! Invariant: whatever a peer sends, or does not send, costs a bounded amount of memory for a bounded time, and what is
//! refused is told why in the native error form.

mod accept;
mod body;
mod connection;
pub mod dispatcher;
mod gate;
mod http2;
mod refusal;
mod request;
mod timer;
mod tls;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::api::origin::ListenerKind;
use crate::api::request::HttpRequest;
use crate::api::response::HttpResponse;
use crate::engine::critical_task::CriticalTask;

pub use self::accept::Server;
pub use self::tls::{ServerTls, TlsFiles};

/// Of the request target; RFC 9110 section 4.1 asks for 8,000 at least.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;
/// Of headers in a request: what hyper's parser has room for.
pub const HEADERS_MAX: usize = 100;
/// Of a request line and its headers together.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Of a refused request's body, as read and thrown away so that its connection can go on.
const DISCARDED_BYTES_MAX: usize = 64 * 1024;
/// Of what a refused peer may still send before its connection is closed under it.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// The bounds that a test makes small; the defaults are the published ones.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Connections over all listeners; one more is closed at once.
    pub connections_max: usize,
    /// From the first byte of a head to its last; on a new connection from its first moment, its TLS handshake included.
    pub head_read: Duration,
    /// From the end of one answer to the first byte of the next request.
    pub idle: Duration,
    /// From a head to the last byte of its body.
    pub body_read: Duration,
    /// Without any byte of an answer being taken.
    pub reply_stall: Duration,
    /// For a refused peer to send the rest, and for one that is closed on to read why.
    pub linger: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            head_read: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body_read: Duration::from_secs(30),
            reply_stall: Duration::from_secs(30),
            linger: Duration::from_secs(1),
        }
    }
}

/// What answers. The order of judgement (api.md section 2) is kept by the server calling `admit` between the framing
/// and the body.
pub trait Service: Send + Sync + 'static {
    /// What admission found out, such as the key and the route, so that `call` need not look again.
    type Pass: Send;

    /// Held by what takes connections for as long as it does; none: nobody asks what becomes of it.
    fn vital(&self) -> Option<CriticalTask> {
        None
    }

    /// A new id, for a request that brings none: visible ASCII, at most `REQUEST_ID_BYTES_MAX`.
    fn request_id(&self) -> String;

    /// Judges everything but the body, which has not been read and is empty here: credentials, host, origin, scope, and
    /// the route. `Err` is the answer; the body is then not waited for.
    fn admit(
        &self,
        http_request: &HttpRequest,
        listener: ListenerKind,
    ) -> Result<Admitted<Self::Pass>, Box<HttpResponse>>;

    /// Answers. Dropped where it stands if the connection breaks or the drain runs out of time.
    fn call(&self, http_request: HttpRequest, pass: Self::Pass) -> impl Future<Output = HttpResponse> + Send;
}

/// A call that may bring its body.
#[derive(Debug)]
pub struct Admitted<P> {
    pub pass: P,
    pub body_bytes_max: usize,
}
