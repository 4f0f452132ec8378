//! Errors of an attempt that say more than their outcome, each with a stable code in brackets at its end.
//!
//! Invariant: no text has an address, so that errors cannot be used to map a network.

/// The deadline passed while the host name was being resolved.
pub const DNS_TIMEOUT: &str = "The name server did not answer in time [dns_timeout]";
/// The code of [`DNS_TIMEOUT`].
pub const DNS_TIMEOUT_CODE: &str = "dns_timeout";
/// The deadline passed in the TLS handshake.
pub const TLS_TIMEOUT: &str = "The TLS handshake was not done in time [tls_timeout]";
/// The code of [`TLS_TIMEOUT`].
pub const TLS_TIMEOUT_CODE: &str = "tls_timeout";
/// This machine has no route to any address of the receiver.
pub const NO_ROUTE: &str = "This machine has no route to the receiver [no_route]";
/// The code of [`NO_ROUTE`].
pub const NO_ROUTE_CODE: &str = "no_route";
/// The receiver's host cannot be reached, as a router or this machine reports.
pub const HOST_UNREACHABLE: &str = "The host cannot be reached [host_unreachable]";
/// The code of [`HOST_UNREACHABLE`].
pub const HOST_UNREACHABLE_CODE: &str = "host_unreachable";
