//! The HTTP server: accept loop, framing, limits on time and size, TLS and the drain. The service has the routes.
//!
//! Invariant: a peer costs a bounded amount of memory for a bounded time, whatever it sends or omits. A refusal is a
//! problem document.

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

/// Maximum bytes of the request target. RFC 9110 section 4.1 asks for 8,000 at least.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;
/// Maximum headers of a request: the capacity of hyper's parser.
pub const HEADERS_MAX: usize = 100;
/// Maximum bytes of a request line and its headers.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Maximum bytes of a refused request's body that are discarded so that its connection can go on.
const DISCARDED_BYTES_MAX: usize = 64 * 1024;
/// Maximum bytes that a refused peer may still send before its connection is cut.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// Limits that a test may shrink. The defaults are the published ones.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Maximum connections over all listeners. One more is closed at once.
    pub connections_max: usize,
    /// Maximum time from the first byte of a head to its last. On a new connection it includes the TLS handshake.
    pub head_read: Duration,
    /// Maximum time from the end of one answer to the first byte of the next request.
    pub idle: Duration,
    /// Maximum time from a head to the last byte of its body.
    pub body_read: Duration,
    /// Maximum time in which the peer accepts no byte of an answer.
    pub reply_stall: Duration,
    /// Time for a refused peer to send the rest, and to read the answer.
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

/// The service behind the server. The server calls `admit` between the framing and the body, which keeps the order of
/// checks of docs/api.md.
pub trait Service: Send + Sync + 'static {
    /// The result of admission, such as the key and the route, so that `call` need not repeat it.
    type Pass: Send;

    /// Guard of the accept loop: a panic there ends the process. `None` if it is unmonitored.
    fn critical_task(&self) -> Option<CriticalTask> {
        None
    }

    /// A new id for a request without one: visible ASCII, at most `REQUEST_ID_BYTES_MAX`.
    fn request_id(&self) -> String;

    /// Checks everything but the body, which is not read yet: credentials, host, origin, scope and route. After an
    /// `Err`, which is the answer, the body is not awaited.
    fn admit(
        &self,
        http_request: &HttpRequest,
        listener: ListenerKind,
    ) -> Result<Admitted<Self::Pass>, Box<HttpResponse>>;

    /// Answers the request. The future is dropped if the connection breaks or the drain runs out of time.
    fn call(&self, http_request: HttpRequest, pass: Self::Pass) -> impl Future<Output = HttpResponse> + Send;
}

/// An admitted request, with the limit of its body.
#[derive(Debug)]
pub struct Admitted<P> {
    pub pass: P,
    pub body_bytes_max: usize,
}
