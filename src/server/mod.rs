//! The HTTP server: accept loop, framing, limits on time and size, TLS and the drain. The service has the routes.
//!
//! Invariant: a peer costs a bounded amount of memory for a bounded time, whatever it sends or omits. A refusal is a
//! problem document.

mod accept;
mod body;
mod connection;
pub mod dispatcher;
mod framing;
mod gate;
mod http2;
pub mod links;
mod metered;
mod quotas;
mod rates;
mod refusal;
mod request;
mod shared_answer;
pub mod shared_origins;
mod streams;
mod table;
mod timer;
mod tls;
mod turns;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::api::ApiError;
use crate::api::link::LinkRequest;
use crate::api::origin::ListenerKind;
use crate::api::problem;
use crate::api::request::HttpRequest;
use crate::api::response::HttpResponse;
use crate::engine::client_connections::ClientConnections;
use crate::engine::critical_task::CriticalTask;
use crate::engine::network::Conn;
use crate::rules::descriptors::CLIENT_CONNECTIONS_MAX;

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
/// Maximum bytes that a refused peer may still send before its connection is cut. Many clients read no answer before they
/// have sent their whole body, and would see a reset connection.
const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One address may have the maximum of connections divided by this, unless the settings say otherwise.
pub const PER_ADDRESS_PART: usize = 4;
/// Connections that only peers on loopback and unix sockets may take.
const RESERVED_FOR_LOCAL: usize = 64;
/// Maximum bytes that connections without a valid key hold together.
pub const STRANGERS_BYTES_MAX: usize = 96 << 20;
/// Maximum bytes of all bodies that are being read or answered.
pub const BODIES_BYTES_MAX: usize = 256 << 20;
/// Memory of a connection before its first byte.
const SILENT_BYTES: usize = 8 * 1024;
/// Further memory of a connection that speaks HTTP/1.1.
const HTTP1_BYTES: usize = 28 * 1024;
/// Further memory of a connection that speaks HTTP/2.
const HTTP2_BYTES: usize = 48 * 1024;
/// Further memory of a connection that is secured by TLS.
const TLS_BYTES: usize = 28 * 1024;

/// Limits that a test may shrink. The defaults are the published ones.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Maximum connections over all listeners. For one more the connection that has waited longest is ended.
    pub connections_max: usize,
    /// Maximum connections of one peer address, or of one /64 network of IPv6. Above it the same rule applies.
    pub per_address_max: usize,
    /// Connections that only peers on loopback and unix sockets may take.
    pub reserved_for_local: usize,
    /// Maximum bytes that connections without a valid key hold together.
    pub strangers_bytes_max: usize,
    /// Maximum bytes of all bodies that are being read or answered.
    pub bodies_bytes_max: usize,
    /// Maximum wait of a connection while more than half of `connections_max` are open.
    pub idle_crowded: Duration,
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
    /// Maximum further time for the rest of a head once the server stops.
    pub head_at_stop: Duration,
}

impl ServerLimits {
    /// The same limits with this maximum of connections. `per_address` is the setting: 0 gives one address its part.
    pub fn with_connections(self, connections_max: usize, per_address: usize) -> Self {
        let part = (connections_max / PER_ADDRESS_PART).max(1);
        let per_address_max = if per_address == 0 { part } else { per_address };
        let reserved_for_local = RESERVED_FOR_LOCAL.min(connections_max / 2);
        Self { connections_max, per_address_max, reserved_for_local, ..self }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: CLIENT_CONNECTIONS_MAX,
            per_address_max: CLIENT_CONNECTIONS_MAX / PER_ADDRESS_PART,
            reserved_for_local: RESERVED_FOR_LOCAL,
            strangers_bytes_max: STRANGERS_BYTES_MAX,
            bodies_bytes_max: BODIES_BYTES_MAX,
            idle_crowded: Duration::from_secs(15),
            head_read: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body_read: Duration::from_secs(30),
            reply_stall: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            head_at_stop: Duration::from_secs(1),
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

    /// The counts that the server keeps of its connections.
    fn client_connections(&self) -> Arc<ClientConnections> {
        Arc::default()
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

    /// The answer in place of a request whose body was not read.
    fn refused(&self, _pass: &Self::Pass, api_error: &ApiError, request_id: &str) -> HttpResponse {
        problem::render(api_error, request_id)
    }

    /// Answers the request. The future is dropped if the connection breaks or the drain runs out of time.
    fn call(&self, http_request: HttpRequest, pass: Self::Pass) -> impl Future<Output = HttpResponse> + Send;

    /// Takes over the connection of an answer that has a link. By default the connection ends.
    fn take_over(&self, _link_request: LinkRequest, _conn: Box<dyn Conn>) {}
}

/// An admitted request, with the limit of its body.
#[derive(Debug)]
pub struct Admitted<P> {
    pub pass: P,
    pub body_bytes_max: usize,
    /// Whether the request has a valid key. Its connection is then no stranger's any more.
    pub is_known: bool,
}
