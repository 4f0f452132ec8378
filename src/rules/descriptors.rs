//! The shares of the limit of open files: connections of clients, deliveries, and files.
//!
//! Invariant: connections of clients never take the descriptors of deliveries, unless the limit is too small for both.

/// Maximum connections of clients, if the limit of open files allows them.
pub const CLIENT_CONNECTIONS_MAX: usize = 10_000;
/// Descriptors of the store, the listeners, the log, and 128 lookups with two sockets each.
const FILES_RESERVED: u64 = 512;
/// Idle connections to receivers take at most this part of the limit. A lack of descriptors closes them.
const IDLE_PART: u64 = 8;
const IDLE_MAX: u64 = 2_048;
/// The part of a small limit that clients have.
const CLIENTS_PART_MIN: u64 = 4;

/// Maximum connections of clients under a limit of open files and a maximum of requests in flight.
pub fn client_connections_max(limit: u64, in_flight_max: usize) -> usize {
    let left = limit.saturating_sub(delivery_descriptors(limit, in_flight_max));
    let allowed = left.max(limit / CLIENTS_PART_MIN);
    usize::try_from(allowed).unwrap_or(usize::MAX).min(CLIENT_CONNECTIONS_MAX)
}

/// The limit of open files under which clients have `CLIENT_CONNECTIONS_MAX` and deliveries have all of theirs.
pub fn descriptors_wanted(in_flight_max: usize) -> u64 {
    CLIENT_CONNECTIONS_MAX as u64 + in_flight_max as u64 + IDLE_MAX + FILES_RESERVED
}

/// Descriptors that deliveries and files need.
fn delivery_descriptors(limit: u64, in_flight_max: usize) -> u64 {
    in_flight_max as u64 + (limit / IDLE_PART).min(IDLE_MAX) + FILES_RESERVED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_the_rest_of_the_limit() {
        for (limit, in_flight, expected) in [
            (1_024, 1_000, 256),
            (4_096, 1_000, 4_096 - 1_000 - 512 - 512),
            (8_192, 8_000, 2_048),
            (65_536, 1_000, CLIENT_CONNECTIONS_MAX),
            (u64::MAX, 1_000, CLIENT_CONNECTIONS_MAX),
        ] {
            assert_eq!(client_connections_max(limit, in_flight), expected, "{limit}");
        }
        assert_eq!(client_connections_max(descriptors_wanted(1_000), 1_000), CLIENT_CONNECTIONS_MAX);
    }
}
