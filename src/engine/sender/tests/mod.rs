//! The sender against receivers on real sockets that respond well, badly or never.

mod addresses;
mod against_hyper;
mod proxy;
mod receiver;
mod responses;
mod reuse;
mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::engine::network::{BoxFuture, Conn, ListenAddr, Listener, Network, RealNetwork};
use crate::engine::sender::{AddressGuard, ExchangeResult, HeaderLines, OutboundRequest, SendTarget, Sender};

/// Timeout for receivers that respond.
const PATIENT: Duration = Duration::from_secs(10);
/// Timeout for receivers that never respond. The test takes as long.
const BRIEF: Duration = Duration::from_millis(200);

struct AllowAll;

impl AddressGuard for AllowAll {
    fn allows(&self, _: &str, _: &[IpAddr], _: u16) -> bool {
        true
    }

    fn allows_unresolved(&self, _: &str, _: u16) -> bool {
        true
    }
}

fn sender() -> Arc<Sender> {
    Sender::new(Arc::new(RealNetwork), Arc::new(AllowAll)).unwrap()
}

fn post(url: &str, timeout: Duration) -> OutboundRequest {
    let mut headers = HeaderLines::default();
    headers.push("content-type", b"application/json");
    OutboundRequest {
        method: http::Method::POST,
        target: SendTarget::parse(url, None).unwrap(),
        headers,
        body: bytes::Bytes::from_static(b"{\"a\":1}"),
        timeout,
        connect_timeout: timeout,
    }
}

async fn send(url: &str, timeout: Duration) -> ExchangeResult {
    sender().send(&post(url, timeout)).await
}

/// The real network with a scripted resolver.
#[derive(Default)]
struct Named {
    addresses: Mutex<Vec<IpAddr>>,
    resolutions: Mutex<u32>,
    /// Addresses to which a connection never completes.
    silent: Vec<IpAddr>,
    /// Addresses to which this machine has no route.
    routeless: Vec<IpAddr>,
    /// Whether no name is ever answered.
    is_mute: bool,
}

impl Named {
    fn with(addresses: &[&str]) -> Self {
        let named = Named::default();
        named.move_to(addresses);
        named
    }

    fn move_to(&self, addresses: &[&str]) {
        *self.addresses.lock().unwrap() = addresses.iter().map(|text| text.parse().unwrap()).collect();
    }

    fn resolutions(&self) -> u32 {
        *self.resolutions.lock().unwrap()
    }
}

impl Network for Named {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Conn>>> {
        if self.silent.contains(&addr.ip()) {
            return Box::pin(std::future::pending());
        }
        if self.routeless.contains(&addr.ip()) {
            return Box::pin(std::future::ready(Err(io::ErrorKind::NetworkUnreachable.into())));
        }
        RealNetwork.connect(addr)
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            *self.resolutions.lock().unwrap() += 1;
            tokio::task::yield_now().await;
            if self.is_mute {
                std::future::pending::<()>().await;
            }
            let found = self.addresses.lock().unwrap().clone();
            if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
        })
    }

    fn listen<'a>(&'a self, _: &'a ListenAddr) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }
}
