//! The limits of the sender.

use std::time::Duration;

pub use crate::model::attempt::RESPONSE_BODY_BYTES_MAX;

/// Maximum number of stored response headers.
pub const RESPONSE_HEADERS_STORED_MAX: usize = 100;
/// Maximum length of the stored response headers together.
pub const RESPONSE_HEADERS_STORED_BYTES_MAX: usize = 16 * 1024;
/// Maximum length of a response's status line and headers.
pub(in crate::engine) const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Maximum length of the extensions and trailers of a chunked body together.
pub(in crate::engine) const CHUNK_EXTRAS_BYTES_MAX: usize = 16 * 1024;
/// Maximum length of a request's path and query together (a limit of the crate `http`).
pub const TARGET_BYTES_MAX: usize = u16::MAX as usize - 1;

/// Maximum number of interim answers (1xx) to one request.
pub(in crate::engine) const INTERIM_ANSWERS_MAX: usize = 20;

/// Maximum length of a proxy's answer to CONNECT.
pub(in crate::engine) const CONNECT_ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Maximum time to resolve, connect and run the TLS handshake, even if the webhook's timeout is longer.
pub const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// Minimum wait for a connection to the proxy before the proxy counts as unreachable for all webhooks.
pub(in crate::engine) const PROXY_SILENCE_MIN: Duration = Duration::from_secs(5);

/// Maximum addresses tried for one connection.
pub(in crate::engine) const ADDRESSES_TRIED_MAX: usize = 8;
/// Head start of an address before the next is tried in parallel (RFC 8305 section 5).
pub(in crate::engine) const ADDRESS_HEAD_START: Duration = Duration::from_millis(250);

/// Maximum idle connections per origin.
pub(in crate::engine) const IDLE_PER_ORIGIN_MAX: usize = 256;
/// Maximum idle connections of all origins.
pub(in crate::engine) const IDLE_MAX: usize = 2_048;
/// Maximum age of an idle connection. Receivers commonly close theirs after 60 s or more.
pub(in crate::engine) const IDLE_LIFE: Duration = Duration::from_secs(30);
/// Part of a receiver's `Keep-Alive: timeout` in which a request could cross the close of the connection.
pub(in crate::engine) const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);
/// Interval at which closed and expired connections are removed from the pool.
pub(in crate::engine) const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Lifetime of a name's resolved addresses.
pub(in crate::engine) const RESOLVED_LIFE: Duration = Duration::from_secs(5);
/// Time for which resolved addresses are used while the name is resolved again (RFC 8767).
pub(in crate::engine) const STALE_LIFE: Duration = Duration::from_secs(60);
/// Lifetime of a failed resolution.
pub(in crate::engine) const UNRESOLVED_LIFE: Duration = Duration::from_secs(1);
