//! The connection pool: each origin's idle connections and resolved addresses.
//!
//! Invariants: `find` returns a connection only if its address is among the origin's current addresses, so the traffic
//! follows a changed DNS record. The lock is never held across a blocking socket call.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use tokio::time::Instant;

use crate::engine::sender::http1::HttpConnection;
use crate::engine::sender::limits::{IDLE_MAX, IDLE_PER_ORIGIN_MAX, RESOLVED_LIFE, STALE_LIFE, UNRESOLVED_LIFE};
use crate::engine::sender::target::Origin;

#[derive(Default)]
pub(in crate::engine) struct Pool {
    origins: Mutex<Origins>,
}

#[derive(Default)]
struct Origins {
    known: HashMap<Arc<Origin>, OriginEntry>,
    idle: usize,
    /// Rises with each `clear`. `put` rejects connections of an older generation.
    generation: u64,
}

#[derive(Default)]
struct OriginEntry {
    /// Idle connections in the order in which they returned.
    idle: Vec<Idle>,
    addresses: Option<Resolved>,
    /// Locked during a resolution, so that a burst of requests resolves the name once.
    resolving: Arc<tokio::sync::Mutex<()>>,
}

struct Idle {
    link: HttpConnection,
    until: Instant,
}

struct Resolved {
    /// `None` if the name did not resolve.
    addresses: Option<Arc<[IpAddr]>>,
    until: Instant,
    /// End of the time in which old addresses are used while the name is resolved again.
    stale_until: Instant,
}

/// The pool's entry for an origin.
pub(in crate::engine) enum PoolLookup {
    /// An idle connection if there is one, and the addresses for a new one. The receiver may have closed the connection.
    Routes(Option<HttpConnection>, Arc<[IpAddr]>),
    /// Like `Routes`, with addresses that have expired (RFC 8767). The caller resolves the name beside the request,
    /// unless this mutex is locked.
    Stale(Option<HttpConnection>, Arc<[IpAddr]>, Arc<tokio::sync::Mutex<()>>),
    /// The last resolution failed less than `UNRESOLVED_LIFE` ago.
    NoAddress,
    /// The addresses are missing or have expired. The caller locks this mutex, looks again, and then resolves the name.
    Unresolved(Arc<tokio::sync::Mutex<()>>),
}

impl Pool {
    /// Looks an origin up. A connection that it returns is removed from the pool.
    pub fn find(&self, origin: &Arc<Origin>, now: Instant) -> PoolLookup {
        // Expired connections are closed after the lock is released.
        let mut expired = Vec::new();
        let mut origins = self.lock();
        let Origins { known, idle, .. } = &mut *origins;
        let found = match known.get_mut(origin) {
            Some(known) => known.find(origin, now, idle, &mut expired),
            None => match &origin.literal {
                Some(addresses) => PoolLookup::Routes(None, addresses.clone()),
                None => PoolLookup::Unresolved(known.entry(origin.clone()).or_default().resolving.clone()),
            },
        };
        drop(origins);
        found
    }

    /// An idle connection of the origin to one of `addresses`, which are those of a proxy. It is removed from the pool.
    pub fn find_through(&self, origin: &Arc<Origin>, addresses: &[IpAddr], now: Instant) -> Option<HttpConnection> {
        let mut expired = Vec::new();
        let mut origins = self.lock();
        let Origins { known, idle, .. } = &mut *origins;
        let found = known.get_mut(origin).and_then(|entry| entry.take(addresses, now, idle, &mut expired));
        drop(origins);
        found
    }

    /// Stores the result of a resolution. `None` if the name did not resolve.
    pub fn set_addresses(&self, origin: &Arc<Origin>, addresses: Option<Arc<[IpAddr]>>, now: Instant) {
        let until = now + if addresses.is_some() { RESOLVED_LIFE } else { UNRESOLVED_LIFE };
        let stale_until = if addresses.is_some() { now + STALE_LIFE } else { until };
        let mut origins = self.lock();
        origins.known.entry(origin.clone()).or_default().addresses = Some(Resolved { addresses, until, stale_until });
    }

    /// Retains the old addresses of a name whose server did not answer. Returns them, or `None` if there are none that
    /// may still be used.
    pub fn retain_addresses(&self, origin: &Arc<Origin>, now: Instant) -> Option<Arc<[IpAddr]>> {
        let mut origins = self.lock();
        let resolved =
            origins.known.get_mut(origin)?.addresses.as_mut().filter(|resolved| now < resolved.stale_until)?;
        resolved.until = (now + UNRESOLVED_LIFE).min(resolved.stale_until);
        resolved.addresses.clone()
    }

    /// The current generation, for `put`. Read it before the connection is found or opened.
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Returns a connection that was found or opened in `generation`, for reuse before `until`. It is closed if the pool
    /// is full or `generation` is not the current one.
    pub fn put(&self, origin: &Arc<Origin>, link: HttpConnection, until: Instant, generation: u64) {
        let mut surplus = None;
        let mut origins = self.lock();
        if origins.generation != generation {
            drop(origins);
            return drop(link);
        }
        let Origins { known, idle, .. } = &mut *origins;
        let entry = match known.get_mut(origin) {
            Some(entry) => entry,
            None => known.entry(origin.clone()).or_default(),
        };
        if entry.idle.len() < IDLE_PER_ORIGIN_MAX && *idle < IDLE_MAX {
            *idle += 1;
            entry.idle.push(Idle { link, until });
        } else {
            surplus = Some(link);
        }
        drop(origins);
        drop(surplus);
    }

    /// Closes connections that have expired or that the receiver closed, and removes empty origins.
    pub fn sweep(&self, now: Instant) {
        let mut dead = Vec::new();
        let mut origins = self.lock();
        let Origins { known, idle, .. } = &mut *origins;
        known.retain(|_, known| {
            dead.extend(known.idle.extract_if(.., |idle| idle.is_expired(now)));
            !known.idle.is_empty() || known.addresses.as_ref().is_some_and(|resolved| now < resolved.stale_until)
        });
        *idle -= dead.len();
        drop(origins);
    }

    /// Empties the pool. Connections in use are closed when they return.
    pub fn clear(&self) {
        let mut origins = self.lock();
        let generation = origins.generation + 1;
        let removed = std::mem::replace(&mut *origins, Origins { generation, ..Origins::default() });
        drop(origins);
        drop(removed);
    }

    /// Number of idle connections of all origins.
    pub fn idle(&self) -> usize {
        self.lock().idle
    }

    fn lock(&self) -> MutexGuard<'_, Origins> {
        // No code that panics runs under the lock, so a poisoned lock guards a consistent state.
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OriginEntry {
    fn find(&mut self, origin: &Origin, now: Instant, idle: &mut usize, expired: &mut Vec<Idle>) -> PoolLookup {
        let addresses = match (&origin.literal, &self.addresses) {
            (Some(literal), _) => literal.clone(),
            (None, Some(resolved)) if now < resolved.until => match &resolved.addresses {
                Some(addresses) => addresses.clone(),
                None => return PoolLookup::NoAddress,
            },
            (None, Some(Resolved { addresses: Some(addresses), stale_until, .. })) if now < *stale_until => {
                let addresses = addresses.clone();
                let link = self.take(&addresses, now, idle, expired);
                return PoolLookup::Stale(link, addresses, self.resolving.clone());
            }
            _ => return PoolLookup::Unresolved(self.resolving.clone()),
        };
        PoolLookup::Routes(self.take(&addresses, now, idle, expired), addresses)
    }

    /// Removes the newest idle connection to one of `addresses`.
    fn take(
        &mut self,
        addresses: &[IpAddr],
        now: Instant,
        idle: &mut usize,
        expired: &mut Vec<Idle>,
    ) -> Option<HttpConnection> {
        if self.idle.last().is_some_and(|newest| newest.until <= now) {
            expired.extend(self.idle.extract_if(.., |idle| idle.until <= now));
            *idle -= expired.len();
        }
        let is_usable = |idle: &Idle| now < idle.until && addresses.contains(&idle.link.remote.ip());
        let usable = self.idle.iter().rposition(is_usable);
        usable.map(|nth| {
            *idle -= 1;
            self.idle.remove(nth).link
        })
    }
}

impl Idle {
    fn is_expired(&mut self, now: Instant) -> bool {
        if self.until <= now {
            return true;
        }
        // No task waits for an idle connection, so the waker does nothing. The next request drives it again.
        !self.link.is_quiet(&mut Context::from_waker(Waker::noop()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::engine::sender::SendTarget;
    use crate::engine::sender::http1::{CountingSocket, Wire};
    use crate::engine::sender::limits::IDLE_LIFE;

    fn origin(url: &str) -> Arc<Origin> {
        SendTarget::parse(url, None).unwrap().origin
    }

    fn idle_link(remote: &str) -> (HttpConnection, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        let socket = CountingSocket::new(Box::new(near));
        let remote = SocketAddr::new(remote.parse().unwrap(), 80);
        (HttpConnection::over(Wire::Plain(socket), remote), far)
    }

    #[tokio::test]
    async fn idle_connections_are_bounded_per_origin_and_in_total() {
        let (pool, now) = (Pool::default(), Instant::now());
        let mut far_ends = Vec::new();
        for nth in 0..IDLE_MAX / IDLE_PER_ORIGIN_MAX + 2 {
            let origin = origin(&format!("http://192.0.2.{nth}/"));
            for _ in 0..=IDLE_PER_ORIGIN_MAX {
                let (link, far) = idle_link(&origin.host);
                pool.put(&origin, link, now + IDLE_LIFE, pool.generation());
                far_ends.push(far);
            }
            assert_eq!(pool.idle(), ((nth + 1) * IDLE_PER_ORIGIN_MAX).min(IDLE_MAX));
        }
        pool.sweep(now + IDLE_LIFE);
        assert_eq!(pool.idle(), 0);
    }

    #[tokio::test]
    async fn the_pool_returns_the_newest_connection_and_no_expired_one() {
        let (pool, now) = (Pool::default(), Instant::now());
        let origin = origin("http://192.0.2.1/");
        let mut far_ends = Vec::new();
        for _ in 0..3 {
            let (link, far) = idle_link(&origin.host);
            pool.put(&origin, link, now + IDLE_LIFE, pool.generation());
            far_ends.push(far);
        }
        let PoolLookup::Routes(Some(found), _) = pool.find(&origin, now) else { panic!("none found") };
        drop(found);
        let closed = tokio::io::AsyncReadExt::read(&mut far_ends[2], &mut [0]).await;
        assert_eq!(closed.unwrap(), 0, "the last one put was the one found");
        assert_eq!(pool.idle(), 2);
        assert!(matches!(pool.find(&origin, now + IDLE_LIFE), PoolLookup::Routes(None, _)));
        assert_eq!(pool.idle(), 0);
    }

    #[tokio::test]
    async fn a_cleared_pool_closes_connections_that_return_from_use() {
        let (pool, now) = (Pool::default(), Instant::now());
        let origin = origin("http://192.0.2.1/");
        let generation = pool.generation();
        let (idle, _far) = idle_link(&origin.host);
        let (used, mut far_of_used) = idle_link(&origin.host);
        pool.put(&origin, idle, now + IDLE_LIFE, generation);
        pool.clear();
        assert_eq!(pool.idle(), 0);
        pool.put(&origin, used, now + IDLE_LIFE, generation);
        assert_eq!(pool.idle(), 0);
        let closed = tokio::io::AsyncReadExt::read(&mut far_of_used, &mut [0]).await;
        assert_eq!(closed.unwrap(), 0);
    }

    #[test]
    fn a_resolution_expires() {
        let (pool, now) = (Pool::default(), Instant::now());
        let origin = origin("http://a.example/");
        assert!(matches!(pool.find(&origin, now), PoolLookup::Unresolved(_)));
        pool.set_addresses(&origin, Some(Arc::from(["192.0.2.1".parse().unwrap()])), now);
        assert!(matches!(pool.find(&origin, now), PoolLookup::Routes(None, _)));
        assert!(matches!(pool.find(&origin, now + RESOLVED_LIFE), PoolLookup::Stale(None, ..)));
        assert!(pool.retain_addresses(&origin, now + RESOLVED_LIFE).is_some());
        assert!(matches!(pool.find(&origin, now + RESOLVED_LIFE), PoolLookup::Routes(None, _)));
        pool.sweep(now + RESOLVED_LIFE + UNRESOLVED_LIFE);
        assert!(matches!(pool.find(&origin, now + RESOLVED_LIFE + UNRESOLVED_LIFE), PoolLookup::Stale(None, ..)));
        assert!(matches!(pool.find(&origin, now + STALE_LIFE), PoolLookup::Unresolved(_)));
        assert!(pool.retain_addresses(&origin, now + STALE_LIFE).is_none());
        pool.set_addresses(&origin, None, now);
        assert!(matches!(pool.find(&origin, now), PoolLookup::NoAddress));
        assert!(matches!(pool.find(&origin, now + UNRESOLVED_LIFE), PoolLookup::Unresolved(_)));
    }
}
