//! Every bound of the sender, in one place.

use std::time::Duration;

/// Of a response body as kept; what comes after is never read.
pub const RESPONSE_BODY_BYTES_MAX: usize = 16 * 1024;
/// Of response headers as kept.
pub const RESPONSE_HEADERS_KEPT_MAX: usize = 100;
pub const RESPONSE_HEADERS_KEPT_BYTES_MAX: usize = 16 * 1024;
/// Of a response's status line and headers together; more is no valid response. hyper allows 100 headers.
pub(in crate::engine) const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Of unparsed bytes held per connection.
pub(in crate::engine) const RESPONSE_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Connecting, name resolution included, never takes longer, whatever the webhook's own timeout.
pub const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// Addresses tried for one connection.
pub(in crate::engine) const ADDRESSES_TRIED_MAX: usize = 8;
/// How long one address is waited for before the next is tried beside it (RFC 8305 section 5).
pub(in crate::engine) const ADDRESS_HEAD_START: Duration = Duration::from_millis(250);

/// Idle connections kept per origin, and over all.
pub(in crate::engine) const IDLE_PER_ORIGIN_MAX: usize = 256;
pub(in crate::engine) const IDLE_MAX: usize = 2_048;
/// An idle connection is not used after this long; receivers commonly close theirs after 60 s or more.
pub(in crate::engine) const IDLE_LIFE: Duration = Duration::from_secs(30);
/// How often dead and old connections are swept out.
pub(in crate::engine) const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// How long a name's addresses are taken as known, and how long it is taken as unresolvable.
pub(in crate::engine) const RESOLVED_LIFE: Duration = Duration::from_secs(5);
pub(in crate::engine) const UNRESOLVED_LIFE: Duration = Duration::from_secs(1);
