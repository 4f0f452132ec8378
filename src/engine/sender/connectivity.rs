//! Whether this machine is cut off from its network: connections fail for want of a route, and none is made.
//!
//! Invariant: a machine that reaches some receivers and has no route to others is not cut off, because the latter could
//! otherwise wait for ever.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Time for which a contact, or its failure for want of a route, counts.
const COUNTED: Duration = Duration::from_secs(30);

/// The latest contacts beyond this machine.
#[derive(Debug, Default)]
pub(in crate::engine) struct Connectivity(Mutex<LatestContacts>);

#[derive(Debug, Default)]
struct LatestContacts {
    reached: Option<Instant>,
    /// The first and the last failure for want of a route, without a gap of [`COUNTED`] between two.
    without_route: Option<(Instant, Instant)>,
}

impl Connectivity {
    /// Records that an address was reached. This machine's own loopback says nothing about the network.
    pub fn reached(&self, ip: IpAddr, now: Instant) {
        if !ip.to_canonical().is_loopback() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).reached = Some(now);
        }
    }

    /// Records a connection that failed for want of a route. Returns whether this machine is cut off.
    pub fn is_cut_off(&self, now: Instant) -> bool {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let going_on = latest.without_route.filter(|(_, last)| now.duration_since(*last) < COUNTED);
        let first = going_on.map_or(now, |(first, _)| first);
        latest.without_route = Some((first, now));
        !latest.reached.is_some_and(|at| at >= first && now.duration_since(at) < COUNTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_cut_off_unless_it_reached_an_address_meanwhile() {
        let (connectivity, began) = (Connectivity::default(), Instant::now());
        let at = |s: u64| began + Duration::from_secs(s);
        let (public, own) = ("192.0.2.1".parse().unwrap(), "127.0.0.1".parse().unwrap());
        connectivity.reached(public, at(0));
        assert!(connectivity.is_cut_off(at(1)), "it was reached before");
        connectivity.reached(own, at(2));
        assert!(connectivity.is_cut_off(at(3)));
        connectivity.reached(public, at(4));
        assert!(!connectivity.is_cut_off(at(5)));
        assert!(!connectivity.is_cut_off(at(33)));
        assert!(connectivity.is_cut_off(at(34)), "nothing has been reached for long");
        connectivity.reached(public, at(35));
        assert!(!connectivity.is_cut_off(at(36)));
        assert!(connectivity.is_cut_off(at(66)), "another time begins");
    }
}
