//! The sender against receivers on real sockets that answer well, badly, or not at all.

mod answers;
mod receiver;
mod reuse;
mod secure;
mod ways;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::engine::network::{BoxFuture, Conn, ListenAddr, Listener, Network, RealNetwork};
use crate::engine::sender::{AddressGuard, ExchangeResult, OutboundRequest, SendTarget, Sender};

/// Ample for what answers.
const PATIENT: Duration = Duration::from_secs(10);
/// For what never answers; the test takes as long.
const BRIEF: Duration = Duration::from_millis(200);

struct AllowAll;

impl AddressGuard for AllowAll {
    fn allows(&self, _: &str, _: &[IpAddr], _: u16) -> bool {
        true
    }
}

fn sender() -> Arc<Sender> {
    Sender::new(Arc::new(RealNetwork), Arc::new(AllowAll)).unwrap()
}

fn post(url: &str, timeout: Duration) -> OutboundRequest {
    OutboundRequest {
        method: http::Method::POST,
        target: SendTarget::parse(url, None).unwrap(),
        headers: vec![(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"))],
        body: bytes::Bytes::from_static(b"{\"a\":1}"),
        timeout,
        connect_timeout: timeout,
    }
}

async fn send(url: &str, timeout: Duration) -> ExchangeResult {
    sender().send(&post(url, timeout)).await
}

/// A network whose names are written down; everything else is the real one.
#[derive(Default)]
struct Named {
    addresses: Mutex<Vec<IpAddr>>,
    asked: Mutex<u32>,
    /// Connections to these never come about.
    silent: Vec<IpAddr>,
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

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }
}

impl Network for Named {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Conn>>> {
        if self.silent.contains(&addr.ip()) {
            return Box::pin(std::future::pending());
        }
        RealNetwork.connect(addr)
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            *self.asked.lock().unwrap() += 1;
            tokio::task::yield_now().await;
            let found = self.addresses.lock().unwrap().clone();
            if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
        })
    }

    fn listen<'a>(&'a self, _: &'a ListenAddr) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }
}
