//! The accept loops: accept connections up to the cap, survive a lack of descriptors or memory, and end at the drain.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use super::metered::MeteredConn;
use super::request::Client;
use super::table::ConnectionTable;
use super::{SILENT_BYTES, ServerLimits, ServerTls, Service, connection};
use crate::api::origin::ListenerKind;
use crate::engine::network::{Conn, ListenAddr, Listener, Peer};

/// The shortest pause of accepting when the machine has no resources for a connection. It doubles up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A running server. Dropping it cuts all connections. `drain` lets requests finish first.
pub struct Server {
    stop: watch::Sender<bool>,
    table: Arc<ConnectionTable>,
    accepting: Vec<JoinHandle<JoinSet<()>>>,
}

impl Server {
    /// Accepts on all `listeners`. Must be called within the runtime.
    pub fn start<S: Service>(service: Arc<S>, listeners: Vec<Box<dyn Listener>>, limits: ServerLimits) -> Self {
        Self::start_with(service, listeners, limits, None)
    }

    /// Like `start`, with TLS on every TCP listener if there is a certificate. A unix socket stays in clear.
    pub fn start_with<S: Service>(
        service: Arc<S>,
        listeners: Vec<Box<dyn Listener>>,
        limits: ServerLimits,
        tls: Option<Arc<ServerTls>>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let table = ConnectionTable::new(limits, service.client_connections());
        let accepting = listeners
            .into_iter()
            .map(|listener| {
                let kind = kind_of(&listener.local_addr());
                let tls = tls.clone().filter(|_| kind != ListenerKind::Unix);
                let (service, table, stop) = (service.clone(), table.clone(), stopped.clone());
                let accept_loop = AcceptLoop { service, limits, tls, listener: kind, table, stop };
                tokio::spawn(async move {
                    let _until_it_ends = accept_loop.service.critical_task();
                    accept_loop.accept(listener).await
                })
            })
            .collect();
        Self { stop, table, accepting }
    }

    /// Connections open now, over all listeners.
    pub fn open_connections(&self) -> usize {
        self.table.open_connections()
    }

    /// Stops accepting at once, lets running requests finish until `by`, and cuts the rest. Returns the number of cut
    /// connections.
    pub async fn drain(mut self, by: Instant) -> usize {
        // Without receivers there is no connection to stop.
        let _ = self.stop.send(true);
        let mut cut = 0;
        for accepting in self.accepting.drain(..) {
            let Ok(mut connections) = accepting.await else { continue };
            while let Ok(Some(_)) = timeout_at(by, connections.join_next()).await {}
            cut += connections.len();
            connections.shutdown().await;
        }
        cut
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for accepting in &self.accepting {
            accepting.abort();
        }
    }
}

/// One listener's side of the server.
struct AcceptLoop<S> {
    service: Arc<S>,
    limits: ServerLimits,
    tls: Option<Arc<ServerTls>>,
    listener: ListenerKind,
    table: Arc<ConnectionTable>,
    stop: watch::Receiver<bool>,
}

impl<S: Service> AcceptLoop<S> {
    /// Accepts until told to stop, and returns the connections still open. Dropping the listener refuses new ones.
    async fn accept(self, mut listener: Box<dyn Listener>) -> JoinSet<()> {
        let mut connections = JoinSet::new();
        let mut stop = self.stop.clone();
        let mut pause = PAUSE_MIN;
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return connections,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((conn, peer)) => {
                    pause = PAUSE_MIN;
                    self.admit(&mut connections, conn, peer);
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, listener = %listener.local_addr(), "cannot accept connections for now");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    fn admit(&self, connections: &mut JoinSet<()>, conn: Box<dyn Conn>, peer: Peer) {
        let Ok(slot) = self.table.take(peer) else { return };
        slot.charge(SILENT_BYTES);
        let (service, limits, stop) = (self.service.clone(), self.limits, self.stop.clone());
        let client = Client { peer, listener: self.listener };
        let tls = self.tls.as_ref().map(|tls| tls.acceptor());
        let (conn, of_task) = (Box::new(MeteredConn::new(conn, slot.clone())), slot.clone());
        let task = connections.spawn(async move {
            match tls {
                None => connection::serve(&*service, limits, conn, client, of_task, stop).await,
                Some(tls) => connection::serve_secured(service, limits, conn, tls, client, of_task, stop).await,
            }
        });
        slot.attach(task);
    }
}

fn kind_of(listen: &ListenAddr) -> ListenerKind {
    match listen {
        ListenAddr::Unix(_) => ListenerKind::Unix,
        ListenAddr::Tcp(addr) if addr.ip().is_loopback() => ListenerKind::Loopback,
        ListenAddr::Tcp(_) => ListenerKind::Open,
    }
}

/// Whether an error of accept(2) concerns only the connection that was to be accepted, and not the next one.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::ConnectionRefused | K::Interrupted)
}
