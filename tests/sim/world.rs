//! What a simulated daemon is given of the world: time, and a network that is turmoil's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use postrider::engine::clock::Clock;
use postrider::engine::network::{BoxFuture, Conn, Listen, Listener, Network, Peer};
use postrider::model::Time;
use tokio::sync::Notify;
use turmoil::net::{TcpListener, TcpStream};

/// When every simulation begins: 2026-03-05T10:00:00Z.
pub const START: Time = Time(1_772_704_800_000);
/// The hosts.
pub const DAEMON: &str = "postrider.example";
pub const OUTSIDE: &str = "hooks.example";
/// Where the daemon listens.
pub const API_PORT: u16 = 8_080;

/// Simulated time since the beginning, in milliseconds. Outside of a host it stands still.
pub fn elapsed_ms() -> i64 {
    turmoil::sim_elapsed().map_or(0, |elapsed| elapsed.as_millis() as i64)
}

pub async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// The daemon's clock. Somebody may set it while the daemon runs.
#[derive(Debug, Clone, Default)]
pub struct SimClock {
    set: Arc<Setting>,
}

#[derive(Debug, Default)]
struct Setting {
    ahead_ms: AtomicI64,
    changed: Notify,
}

impl SimClock {
    /// The wall clock is set so far ahead of the true time, or behind it.
    pub fn set_ahead_ms(&self, ms: i64) {
        self.set.ahead_ms.store(ms, Ordering::Relaxed);
        self.set.changed.notify_waiters();
    }

    pub fn ahead_ms(&self) -> i64 {
        self.set.ahead_ms.load(Ordering::Relaxed)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Time {
        START.plus_ms(elapsed_ms() + self.ahead_ms())
    }

    fn monotonic_ms(&self) -> i64 {
        elapsed_ms()
    }

    fn sleep_until(&self, time: Time) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let changed = self.set.changed.notified();
                let left = time.since(self.now());
                if left <= 0 {
                    return;
                }
                let _ = tokio::time::timeout(Duration::from_millis(left as u64), changed).await;
            }
        })
    }
}

/// turmoil's network as the daemon sees it. Names are turmoil's too, unless the resolver is out of order.
#[derive(Debug, Clone, Default)]
pub struct SimNetwork {
    pub resolver_is_down: Arc<AtomicBool>,
}

impl Network for SimNetwork {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Conn>>> {
        Box::pin(async move { Ok(Box::new(TcpStream::connect(addr).await?) as Box<dyn Conn>) })
    }

    fn resolve<'a>(&'a self, host: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            sleep_ms(20).await;
            if self.resolver_is_down.load(Ordering::Relaxed) {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the resolver does not answer"));
            }
            Ok(vec![turmoil::lookup(host)])
        })
    }

    fn listen<'a>(&'a self, at: &'a Listen) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let Listen::Tcp(addr) = at else { return Err(io::ErrorKind::Unsupported.into()) };
            let inner = TcpListener::bind((Ipv4Addr::UNSPECIFIED, addr.port())).await?;
            Ok(Box::new(SimListener { inner, local: *addr }) as Box<dyn Listener>)
        })
    }
}

struct SimListener {
    inner: TcpListener,
    local: SocketAddr,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Conn>, Peer)>> {
        Box::pin(async move {
            let (stream, peer) = self.inner.accept().await?;
            Ok((Box::new(stream) as Box<dyn Conn>, Peer::Tcp(peer)))
        })
    }

    fn local_addr(&self) -> Listen {
        Listen::Tcp(self.local)
    }
}
