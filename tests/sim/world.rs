//! The platform of a simulated daemon: time, and turmoil's network.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use postrider::engine::clock::Clock;
use postrider::engine::network::{BoxFuture, Conn, ListenAddr, Listener, Network, Peer};
use postrider::model::Time;
use turmoil::net::{TcpListener, TcpStream};

/// The start time of every simulation: 2026-03-05T10:00:00Z.
pub const START: Time = Time(1_772_704_800_000);
/// The hosts.
pub const DAEMON: &str = "postrider.example";
pub const OUTSIDE: &str = "hooks.example";
/// The hosts of the nodes of a cluster. A daemon by itself is the first.
pub const NODES: [&str; 3] = [DAEMON, "b.postrider.example", "c.postrider.example"];
/// The port of the daemon.
pub const API_PORT: u16 = 8_080;

thread_local! {
    /// The nodes of this simulation, and the one that callers ask, as a load balancer finds it.
    static BALANCER: Cell<(usize, usize)> = const { Cell::new((1, 0)) };
}

/// Sets the number of nodes.
pub fn set_nodes(count: usize) {
    BALANCER.set((count, 0));
}

/// The number of nodes.
pub fn nodes() -> usize {
    BALANCER.get().0
}

/// The node that callers ask.
pub fn asked() -> usize {
    BALANCER.get().1
}

/// Lets callers ask the next node, unless another caller has found that before.
pub fn ask_next(after: usize) {
    let (count, at) = BALANCER.get();
    if at == after {
        BALANCER.set((count, (at + 1) % count));
    }
}

/// Simulated milliseconds since the beginning. Outside of a host the time stands still.
pub fn elapsed_ms() -> i64 {
    turmoil::sim_elapsed().map_or(0, |elapsed| elapsed.as_millis() as i64)
}

pub async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// The daemon's clock, which shows turmoil's time. Its wall clock may be wrong, its monotonic clock is right.
#[derive(Debug, Clone, Default)]
pub struct SimClock {
    /// Milliseconds by which the wall clock is ahead.
    pub off_ms: Arc<AtomicI64>,
}

impl Clock for SimClock {
    fn now(&self) -> Time {
        START.plus_ms(elapsed_ms() + self.off_ms.load(Ordering::Relaxed))
    }

    fn monotonic_ms(&self) -> i64 {
        elapsed_ms()
    }

    fn pause(&self, ms: i64) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(ms.max(0) as u64)))
    }
}

/// turmoil's network as the daemon sees it. turmoil also resolves names, unless the resolver is out of order.
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

    fn listen<'a>(&'a self, at: &'a ListenAddr) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let ListenAddr::Tcp(addr) = at else { return Err(io::ErrorKind::Unsupported.into()) };
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

    fn local_addr(&self) -> ListenAddr {
        ListenAddr::Tcp(self.local)
    }
}
