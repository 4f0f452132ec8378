//! What is known about each origin: idle connections, and the addresses its name had a moment ago.
//!
//! Invariants: a connection is handed out only while its address is among the origin's current addresses, so a name
//! that moves takes its traffic along; nothing here waits, and the lock is never held across a socket call that could.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use tokio::time::Instant;

use crate::engine::sender::limits::{IDLE_LIFE, IDLE_MAX, IDLE_PER_ORIGIN_MAX, RESOLVED_LIFE, UNRESOLVED_LIFE};
use crate::engine::sender::link::HttpConnection;
use crate::engine::sender::target::Origin;

#[derive(Default)]
pub(in crate::engine) struct Pool {
    origins: Mutex<Origins>,
}

#[derive(Default)]
struct Origins {
    known: HashMap<Arc<Origin>, OriginEntry>,
    idle: usize,
    /// Rises when everything is forgotten: what was opened before is not taken back.
    age: u64,
}

#[derive(Default)]
struct OriginEntry {
    /// In the order they came back: the warmest is last.
    idle: Vec<Idle>,
    addresses: Option<Resolved>,
    /// Held by whoever asks the resolver, so that a burst asks once.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Idle {
    link: HttpConnection,
    since: Instant,
}

struct Resolved {
    /// None: the name did not resolve.
    addresses: Option<Arc<[IpAddr]>>,
    until: Instant,
}

/// What the pool has for an origin.
pub(in crate::engine) enum PoolLookup {
    /// How to reach it: an idle connection if there is one, which may have been closed at the other end, and the
    /// addresses for a new one.
    Ways(Option<HttpConnection>, Arc<[IpAddr]>),
    /// The name was asked for a moment ago, and does not resolve.
    NoAddress,
    /// Nobody asked lately. To be locked while asking, and the pool looked at again with it in hand.
    Ask(Arc<tokio::sync::Mutex<()>>),
}

impl Pool {
    pub fn find(&self, origin: &Arc<Origin>, now: Instant) -> PoolLookup {
        // Expired connections are closed after the lock is released.
        let mut expired = Vec::new();
        let mut origins = self.lock();
        let Origins { known, idle, .. } = &mut *origins;
        let found = match known.get_mut(origin) {
            Some(known) => known.find(origin, now, idle, &mut expired),
            None => match &origin.literal {
                Some(addresses) => PoolLookup::Ways(None, addresses.clone()),
                None => PoolLookup::Ask(known.entry(origin.clone()).or_default().turn.clone()),
            },
        };
        drop(origins);
        found
    }

    /// Keeps what the resolver said.
    pub fn learn(&self, origin: &Arc<Origin>, addresses: Option<Arc<[IpAddr]>>, now: Instant) {
        let until = now + if addresses.is_some() { RESOLVED_LIFE } else { UNRESOLVED_LIFE };
        let mut origins = self.lock();
        origins.known.entry(origin.clone()).or_default().addresses = Some(Resolved { addresses, until });
    }

    /// What `put` wants to hear of, asked before the connection is found or opened.
    pub fn age(&self) -> u64 {
        self.lock().age
    }

    /// Takes a connection back that was found or opened at `age`; over the limits, or too old, it is closed instead.
    pub fn put(&self, origin: &Arc<Origin>, link: HttpConnection, now: Instant, age: u64) {
        let mut surplus = None;
        let mut origins = self.lock();
        if origins.age != age {
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
            entry.idle.push(Idle { link, since: now });
        } else {
            surplus = Some(link);
        }
        drop(origins);
        drop(surplus);
    }

    /// Closes what is old or was closed at the other end, and forgets origins without anything.
    pub fn sweep(&self, now: Instant) {
        let mut dead = Vec::new();
        let mut origins = self.lock();
        let Origins { known, idle, .. } = &mut *origins;
        known.retain(|_, known| {
            dead.extend(known.idle.extract_if(.., |idle| idle.is_over(now)));
            !known.idle.is_empty() || known.addresses.as_ref().is_some_and(|resolved| now < resolved.until)
        });
        *idle -= dead.len();
        drop(origins);
    }

    /// Forgets everything; connections in use are closed when they come back.
    pub fn clear(&self) {
        let mut origins = self.lock();
        let age = origins.age + 1;
        let forgotten = std::mem::replace(&mut *origins, Origins { age, ..Origins::default() });
        drop(origins);
        drop(forgotten);
    }

    /// Connections kept idle, over all origins.
    pub fn idle(&self) -> usize {
        self.lock().idle
    }

    fn lock(&self) -> MutexGuard<'_, Origins> {
        // Nothing that panics runs under the lock, and no state is half-made between two statements.
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OriginEntry {
    fn find(&mut self, origin: &Origin, now: Instant, idle: &mut usize, expired: &mut Vec<Idle>) -> PoolLookup {
        let addresses = match (&origin.literal, &self.addresses) {
            (Some(literal), _) => literal,
            (None, Some(resolved)) if now < resolved.until => match &resolved.addresses {
                Some(addresses) => addresses,
                None => return PoolLookup::NoAddress,
            },
            _ => return PoolLookup::Ask(self.turn.clone()),
        };
        if self.idle.last().is_some_and(|warmest| warmest.since + IDLE_LIFE <= now) {
            *idle -= self.idle.len();
            expired.append(&mut self.idle);
        }
        let usable = self.idle.iter().rposition(|idle| addresses.contains(&idle.link.remote.ip()));
        let link = usable.map(|nth| {
            *idle -= 1;
            self.idle.remove(nth).link
        });
        PoolLookup::Ways(link, addresses.clone())
    }
}

impl Idle {
    fn is_over(&mut self, now: Instant) -> bool {
        if self.since + IDLE_LIFE <= now {
            return true;
        }
        // Nobody waits on it, so nobody needs waking: whoever takes it drives it again.
        self.link.drive(&mut Context::from_waker(Waker::noop()));
        !self.link.is_idle()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::engine::sender::SendTarget;
    use crate::engine::sender::link::{CountingSocket, Wire};

    fn origin(url: &str) -> Arc<Origin> {
        SendTarget::parse(url, None).unwrap().origin
    }

    async fn idle_link(remote: &str) -> (HttpConnection, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        let wrote = Arc::new(AtomicBool::new(false));
        let wire = Wire::Plain(CountingSocket::new(Box::new(near), wrote.clone()));
        let mut link = HttpConnection::over(wire, wrote, SocketAddr::new(remote.parse().unwrap(), 80)).await.unwrap();
        link.drive(&mut Context::from_waker(Waker::noop()));
        assert!(link.is_idle());
        (link, far)
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_per_origin_and_over_all() {
        let (pool, now) = (Pool::default(), Instant::now());
        let mut far_ends = Vec::new();
        for nth in 0..IDLE_MAX / IDLE_PER_ORIGIN_MAX + 2 {
            let origin = origin(&format!("http://192.0.2.{nth}/"));
            for _ in 0..=IDLE_PER_ORIGIN_MAX {
                let (link, far) = idle_link(&origin.host).await;
                pool.put(&origin, link, now, pool.age());
                far_ends.push(far);
            }
            assert_eq!(pool.idle(), ((nth + 1) * IDLE_PER_ORIGIN_MAX).min(IDLE_MAX));
        }
        pool.sweep(now + IDLE_LIFE);
        assert_eq!(pool.idle(), 0);
    }

    #[tokio::test]
    async fn the_warmest_connection_is_taken_and_no_expired_one() {
        let (pool, now) = (Pool::default(), Instant::now());
        let origin = origin("http://192.0.2.1/");
        let mut far_ends = Vec::new();
        for _ in 0..3 {
            let (link, far) = idle_link(&origin.host).await;
            pool.put(&origin, link, now, pool.age());
            far_ends.push(far);
        }
        let PoolLookup::Ways(Some(taken), _) = pool.find(&origin, now) else { panic!("none found") };
        drop(taken);
        let closed = tokio::io::AsyncReadExt::read(&mut far_ends[2], &mut [0]).await;
        assert_eq!(closed.unwrap(), 0, "the last one put was the one taken");
        assert_eq!(pool.idle(), 2);
        assert!(matches!(pool.find(&origin, now + IDLE_LIFE), PoolLookup::Ways(None, _)));
        assert_eq!(pool.idle(), 0);
    }

    #[tokio::test]
    async fn once_everything_is_forgotten_what_was_in_use_is_not_taken_back() {
        let (pool, now) = (Pool::default(), Instant::now());
        let origin = origin("http://192.0.2.1/");
        let age = pool.age();
        let (idle, _far) = idle_link(&origin.host).await;
        let (used, mut far_of_used) = idle_link(&origin.host).await;
        pool.put(&origin, idle, now, age);
        pool.clear();
        assert_eq!(pool.idle(), 0);
        pool.put(&origin, used, now, age);
        assert_eq!(pool.idle(), 0);
        let closed = tokio::io::AsyncReadExt::read(&mut far_of_used, &mut [0]).await;
        assert_eq!(closed.unwrap(), 0);
    }

    #[test]
    fn what_the_resolver_said_is_known_for_a_while() {
        let (pool, now) = (Pool::default(), Instant::now());
        let origin = origin("http://a.example/");
        assert!(matches!(pool.find(&origin, now), PoolLookup::Ask(_)));
        pool.learn(&origin, Some(Arc::from(["192.0.2.1".parse().unwrap()])), now);
        assert!(matches!(pool.find(&origin, now), PoolLookup::Ways(None, _)));
        assert!(matches!(pool.find(&origin, now + RESOLVED_LIFE), PoolLookup::Ask(_)));
        pool.learn(&origin, None, now);
        assert!(matches!(pool.find(&origin, now), PoolLookup::NoAddress));
        assert!(matches!(pool.find(&origin, now + UNRESOLVED_LIFE), PoolLookup::Ask(_)));
    }
}
