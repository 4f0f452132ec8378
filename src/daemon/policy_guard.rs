//! The guard of deliveries' addresses: the settings' policy, and the addresses of this machine.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::engine::network::Network;
use crate::engine::sender::AddressGuard;
use crate::rules::target::{TargetHost, TargetPolicy, check_addrs, check_unresolved};

/// Checks addresses at every connect by the settings' policy.
pub(super) struct PolicyGuard {
    policy: ArcSwap<TargetPolicy>,
    network: Arc<dyn Network>,
}

impl PolicyGuard {
    pub fn new(policy: TargetPolicy, network: Arc<dyn Network>) -> PolicyGuard {
        PolicyGuard { policy: ArcSwap::from_pointee(policy), network }
    }

    /// Sets the policy. Returns whether it is another one than before.
    pub fn exchange(&self, policy: TargetPolicy) -> bool {
        let is_other = **self.policy.load() != policy;
        if is_other {
            self.policy.store(Arc::new(policy));
        }
        is_other
    }
}

impl AddressGuard for PolicyGuard {
    fn allows(&self, host: &str, addresses: &[IpAddr], port: u16) -> bool {
        let policy = self.policy.load();
        // A listener on every address also accepts connections to an interface's address.
        let is_everywhere = policy.own.iter().any(|own| own.port() == port && own.ip().is_unspecified());
        let is_own = is_everywhere && addresses.iter().any(|ip| self.network.is_own_address(*ip));
        !is_own && check_addrs(&target_host(host), addresses, port, &policy).is_ok()
    }

    fn allows_unresolved(&self, host: &str, port: u16) -> bool {
        check_unresolved(&target_host(host), port, &self.policy.load()).is_ok()
    }
}

/// The host of a connection in the form that the policy compares, without a final dot.
fn target_host(host: &str) -> TargetHost {
    let name = || TargetHost::Name(host.strip_suffix('.').unwrap_or(host).to_owned());
    host.parse().map_or_else(|_| name(), TargetHost::Ip)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;

    use super::*;
    use crate::engine::network::{BoxFuture, Conn, ListenAddr, Listener, RealNetwork};

    /// A machine with one address besides loopback.
    struct OneAddress(IpAddr);

    impl Network for OneAddress {
        fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Conn>>> {
            RealNetwork.connect(addr)
        }

        fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
            Box::pin(std::future::ready(Err(io::ErrorKind::NotFound.into())))
        }

        fn is_own_address(&self, ip: IpAddr) -> bool {
            ip == self.0
        }

        fn listen<'a>(&'a self, _: &'a ListenAddr) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
            Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
        }
    }

    #[test]
    fn no_delivery_goes_to_the_own_listener_by_an_address_of_an_interface() {
        let own: IpAddr = "203.0.113.7".parse().unwrap();
        let allow = vec!["203.0.113.0/24".to_owned()];
        let guard = |listens: &str| {
            let mut policy = TargetPolicy::parse(&allow, &[], false).unwrap();
            policy.own = vec![listens.parse().unwrap()];
            PolicyGuard::new(policy, Arc::new(OneAddress(own)))
        };
        let other: IpAddr = "203.0.113.8".parse().unwrap();
        for (listens, addresses, port, expected) in [
            ("0.0.0.0:8080", vec![own], 8080, false),
            ("[::]:8080", vec![own], 8080, false),
            ("0.0.0.0:8080", vec![other, own], 8080, false),
            ("0.0.0.0:8080", vec![own], 80, true),
            ("0.0.0.0:8080", vec![other], 8080, true),
            ("127.0.0.1:8080", vec![own], 8080, true),
        ] {
            let allowed = guard(listens).allows("203.0.113.7", &addresses, port);
            assert_eq!(allowed, expected, "{listens} {addresses:?} {port}");
        }
    }

    #[tokio::test]
    async fn the_real_machine_knows_its_addresses() {
        assert!(RealNetwork.is_own_address("127.0.0.1".parse().unwrap()));
        // Documentation (RFC 5737): no machine has it.
        assert!(!RealNetwork.is_own_address("192.0.2.1".parse().unwrap()));
    }
}
