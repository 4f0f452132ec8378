//! Opens connections: resolves the name, checks its addresses, connects to one, and runs the TLS handshake.
//!
//! Invariant: a connection leads to one of the addresses that `AddressGuard::allows` checked. The name is not resolved
//! again between the check and the connection, so DNS rebinding has no effect.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;

use crate::engine::network::{BoxFuture, Conn, Network};
use crate::engine::sender::failure::{SendFailure, Shortage, is_shortage, is_unanswered, is_without_route};
use crate::engine::sender::http1::{CountingSocket, HttpConnection, Wire};
use crate::engine::sender::limits::{ADDRESS_HEAD_START, ADDRESSES_TRIED_MAX};
use crate::engine::sender::pool::PoolLookup;
use crate::engine::sender::target::Origin;
use crate::engine::sender::{Sender, millis};
use crate::model::{AttemptOutcome, Timings};

/// An idle connection to an origin, if there is one, and the addresses for a new one.
pub(in crate::engine) type OriginRoutes = (Option<HttpConnection>, Arc<[IpAddr]>);
type Connecting<'a> = BoxFuture<'a, io::Result<Box<dyn Conn>>>;

impl Sender {
    /// Finds an idle connection and the origin's addresses. Resolves the name if the pool's addresses have expired.
    ///
    /// Cancellation-safe. Errors: `DnsError` if the name does not resolve.
    pub(in crate::engine) async fn find(
        &self,
        origin: &Arc<Origin>,
        timings: &mut Timings,
    ) -> Result<OriginRoutes, SendFailure> {
        let resolving = match self.pool.find(origin, Instant::now()) {
            PoolLookup::Routes(idle, addresses) => return Ok((idle, addresses)),
            PoolLookup::Stale(idle, addresses, resolving) => {
                self.resolve_beside(origin, resolving);
                return Ok((idle, addresses));
            }
            PoolLookup::NoAddress => return Err(SendFailure::of(AttemptOutcome::DnsError)),
            PoolLookup::Unresolved(resolving) => resolving,
        };
        let began = Instant::now();
        let _resolving = resolving.lock().await;
        // The previous owner of the lock may have resolved the name.
        let routes = match self.pool.find(origin, Instant::now()) {
            PoolLookup::Routes(idle, addresses) | PoolLookup::Stale(idle, addresses, _) => (idle, addresses),
            PoolLookup::NoAddress => return Err(SendFailure::of(AttemptOutcome::DnsError)),
            PoolLookup::Unresolved(_) => {
                let addresses = self.resolve(origin).await?;
                match self.pool.find(origin, Instant::now()) {
                    PoolLookup::Routes(idle, addresses) => (idle, addresses),
                    _ => (None, addresses),
                }
            }
        };
        timings.dns = Some(millis(began.elapsed()));
        Ok(routes)
    }

    /// Resolves the name again while requests use its old addresses, unless that happens already.
    fn resolve_beside(&self, origin: &Arc<Origin>, resolving: Arc<tokio::sync::Mutex<()>>) {
        if let (Some(sender), Ok(turn)) = (self.own.upgrade(), resolving.try_lock_owned()) {
            let origin = origin.clone();
            tokio::spawn(async move {
                let _turn = turn;
                // A failure shows when the addresses may be used no longer.
                let _ = sender.resolve(&origin).await;
            });
        }
    }

    async fn resolve(&self, origin: &Arc<Origin>) -> Result<Arc<[IpAddr]>, SendFailure> {
        let resolved = self.network.resolve(&origin.host, origin.port).await;
        if let Err(why) = &resolved
            && is_shortage(why)
        {
            // The name was not asked for, so nothing is known about it.
            return Err(SendFailure::because(AttemptOutcome::DnsError, why));
        }
        if let Err(why) = &resolved
            && is_unanswered(why)
            && let Some(addresses) = self.pool.retain_addresses(origin, Instant::now())
        {
            return Ok(addresses);
        }
        let known = match &resolved {
            Ok(addresses) if !addresses.is_empty() => Some(Arc::from(addresses.as_slice())),
            _ => None,
        };
        self.pool.set_addresses(origin, known.clone(), Instant::now());
        match resolved {
            Ok(_) => known.ok_or(SendFailure::of(AttemptOutcome::DnsError)),
            Err(why) => Err(SendFailure::because(AttemptOutcome::DnsError, &why)),
        }
    }

    /// Opens a connection to one of `addresses`. The guard must allow all of them.
    ///
    /// Errors: `BlockedAddress` if it does not, otherwise the outcome of connecting or of the handshake.
    pub(in crate::engine) async fn open(
        &self,
        origin: &Origin,
        addresses: &[IpAddr],
        timings: &mut Timings,
    ) -> Result<HttpConnection, SendFailure> {
        if !self.guard.allows(&origin.host, addresses, origin.port) {
            return Err(SendFailure::of(AttemptOutcome::BlockedAddress));
        }
        let began = Instant::now();
        let dialled = dial(&*self.network, addresses, origin.port).await;
        let (conn, remote) = dialled.map_err(|why| self.unconnected(&why, addresses))?;
        timings.connect = Some(millis(began.elapsed()));
        self.speak(origin, conn, remote, timings).await
    }

    /// The failure of connecting to `addresses`. If none of them has a route and this machine reaches no other, it lacks
    /// its network. Names with IPv6 addresses alone say nothing, because many machines have no IPv6.
    pub(in crate::engine) fn unconnected(&self, why: &io::Error, addresses: &[IpAddr]) -> SendFailure {
        let failure = SendFailure::connecting(why);
        let is_cut_off = is_without_route(why)
            && addresses.iter().any(|ip| ip.to_canonical().is_ipv4())
            && self.connectivity.is_cut_off(Instant::now());
        if is_cut_off { SendFailure { shortage: Some(Shortage::Network), ..failure } } else { failure }
    }

    /// Sets HTTP up with the origin on `conn`, over TLS if the origin is https.
    ///
    /// Errors: `TlsError`, `ConnectReset`.
    pub(in crate::engine) async fn speak(
        &self,
        origin: &Origin,
        conn: Box<dyn Conn>,
        remote: SocketAddr,
        timings: &mut Timings,
    ) -> Result<HttpConnection, SendFailure> {
        let stream = CountingSocket::new(conn);
        let wire = if origin.https {
            let began = Instant::now();
            let secured = self.secure(origin, stream).await?;
            timings.tls = Some(millis(began.elapsed()));
            secured
        } else {
            Wire::Plain(stream)
        };
        Ok(HttpConnection::over(wire, remote))
    }

    /// Runs the TLS handshake with the origin.
    ///
    /// Errors: `TlsError` or `ConnectReset`.
    async fn secure(&self, origin: &Origin, stream: CountingSocket) -> Result<Wire, SendFailure> {
        let name = origin.server_name.clone().ok_or(SendFailure::of(AttemptOutcome::TlsError))?;
        let config = match &origin.tls {
            Some(identity) => identity.config(),
            None => &self.public_tls,
        };
        let handshake = TlsConnector::from(config.clone()).connect(name, stream);
        match handshake.await {
            Ok(stream) => Ok(Wire::Tls(Box::new(stream))),
            Err(why) => Err(SendFailure::securing(&why)),
        }
    }
}

/// Connects by Happy Eyeballs (RFC 8305, without its cache): each address gets a head start before the next is tried
/// in parallel. If all fail, the first address's error is returned, or the shortage that kept one from being tried. That
/// an address has no route is returned only if none has one.
pub(in crate::engine) async fn dial(
    network: &dyn Network,
    addresses: &[IpAddr],
    port: u16,
) -> io::Result<(Box<dyn Conn>, SocketAddr)> {
    if let [only] = addresses {
        let addr = SocketAddr::new(*only, port);
        return Ok((network.connect(addr).await?, addr));
    }
    let mut rest = interleaved(addresses).into_iter().take(ADDRESSES_TRIED_MAX).map(|ip| SocketAddr::new(ip, port));
    let mut in_flight: Vec<(SocketAddr, Connecting<'_>)> = Vec::new();
    let mut first_error = None;
    loop {
        match rest.next() {
            Some(addr) => in_flight.push((addr, network.connect(addr))),
            None if in_flight.is_empty() => {
                return Err(first_error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
            }
            None => {}
        }
        tokio::select! {
            biased;
            opened = poll_fn(|cx| poll_all(&mut in_flight, &mut first_error, cx)) => {
                if let Some(opened) = opened {
                    return Ok(opened);
                }
            }
            () = sleep(ADDRESS_HEAD_START), if rest.len() > 0 => {}
        }
    }
}

/// Polls the connections in flight. Ready with the first one that is open, or with `None` once some have failed, which are
/// dropped.
fn poll_all(
    in_flight: &mut Vec<(SocketAddr, Connecting<'_>)>,
    first_error: &mut Option<io::Error>,
    cx: &mut Context<'_>,
) -> Poll<Option<(Box<dyn Conn>, SocketAddr)>> {
    let (count, mut nth) = (in_flight.len(), 0);
    while let Some((addr, connecting)) = in_flight.get_mut(nth) {
        match connecting.as_mut().poll(cx) {
            Poll::Ready(Ok(conn)) => return Poll::Ready(Some((conn, *addr))),
            Poll::Ready(Err(error)) => {
                let is_told =
                    first_error.as_ref().is_some_and(|first| !is_without_route(first) || is_without_route(&error));
                if !is_told || is_shortage(&error) {
                    *first_error = Some(error);
                }
                drop(in_flight.swap_remove(nth));
            }
            Poll::Pending => nth += 1,
        }
    }
    if in_flight.len() < count { Poll::Ready(None) } else { Poll::Pending }
}

/// The addresses in the resolver's order, with the two families interleaved (RFC 8305 section 4).
fn interleaved(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let (mut own, mut other): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|ip| ip.is_ipv4() == first.is_ipv4());
    own.reverse();
    other.reverse();
    let mut ordered = Vec::with_capacity(addresses.len());
    while !own.is_empty() || !other.is_empty() {
        ordered.extend(own.pop());
        ordered.extend(other.pop());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_families_are_interleaved_in_the_resolvers_order() {
        let ips = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
        let given = ips(&["::1", "::2", "::3", "1.1.1.1", "2.2.2.2"]);
        assert_eq!(interleaved(&given), ips(&["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]));
        assert_eq!(interleaved(&ips(&["1.1.1.1"])), ips(&["1.1.1.1"]));
    }
}
