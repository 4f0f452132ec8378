//! The running standby: its listener, its control socket and the thread that follows the owner.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::service::StandbyService;
use super::{DRAIN, SharedStatus, Standby, promote};
use crate::config::Settings;
use crate::daemon::control::{ShownSettings, bind};
use crate::daemon::follow::StopSignal;
use crate::daemon::link::OtherMachine;
use crate::daemon::metrics_listener;
use crate::daemon::protocol::{CONFIG_GREETING, PROMOTE_GREETING, PROMOTED, REFUSED};
use crate::daemon::{DaemonError, Platform, listen, url};
use crate::engine::network::ListenAddr;
use crate::server::{Server, ServerTls};
use crate::store::Disk;

const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// Promotions that wait. One ends the standby.
const PROMOTIONS_MAX: usize = 1;

/// The end of a standby.
#[derive(Debug)]
pub enum StandbyEnd {
    /// The standby was told to stop.
    Stopped,
    /// The store is an owner's now. The disk is released.
    Promoted { term: u64 },
}

/// A running standby.
pub struct RunningStandby {
    pub address: ListenAddr,
    settings: Settings,
    disk: Arc<dyn Disk>,
    server: Server,
    tls: Option<Arc<ServerTls>>,
    control: tokio::task::JoinHandle<()>,
    promotions: mpsc::Receiver<UnixStream>,
    stop: Arc<StopSignal>,
    ended: tokio::task::JoinHandle<Result<(), DaemonError>>,
}

impl RunningStandby {
    /// Starts the standby of `owner` in the data directory. Must be called within the runtime.
    ///
    /// # Errors
    /// An address is in use, the master key is missing, or the copy is damaged.
    pub async fn start(
        settings: &Settings,
        world: Platform,
        owner: OtherMachine,
        shown: ShownSettings,
    ) -> Result<RunningStandby, DaemonError> {
        let Platform { network, disk, limits, listeners, tls, .. } = world;
        let mode = settings.server.socket_mode;
        let listeners =
            if listeners.is_empty() { vec![listen(&*network, &settings.listen, mode).await?] } else { listeners };
        let address = listeners[0].local_addr();
        let url = owner.url().to_owned();
        let mut standby = Standby::open(settings, owner, disk.clone())?;
        let access = Arc::new(ArcSwap::from_pointee(metrics_listener::access(&settings.metrics)));
        let service = StandbyService { status: standby.status.clone(), owner: Box::new(move || url.clone()), access };
        let (status, stop) = (standby.status.clone(), standby.stop.clone());
        let server = Server::start_with(Arc::new(service), listeners, limits, tls.clone());
        let (requests, promotions) = mpsc::channel(PROMOTIONS_MAX);
        let listener = bind(&settings.data_dir)
            .map_err(|source| DaemonError::Io { context: "the control socket".to_owned(), source })?;
        let control = tokio::spawn(serve_control(listener, requests, status, shown));
        let ended = tokio::task::spawn_blocking(move || standby.run());
        Ok(RunningStandby { address, settings: settings.clone(), disk, server, tls, control, promotions, stop, ended })
    }

    /// The URL of the standby for clients.
    pub fn url(&self) -> String {
        url(&self.address, self.tls.is_some())
    }

    /// Waits until the standby is promoted, or `stop_requested` ends.
    ///
    /// # Errors
    /// A disk failed, or the owner has another master key.
    pub async fn run(mut self, stop_requested: impl Future<Output = ()>) -> Result<StandbyEnd, DaemonError> {
        tokio::pin!(stop_requested);
        let promoter = tokio::select! {
            () = &mut stop_requested => None,
            promoter = self.promotions.recv() => promoter,
            ended = &mut self.ended => {
                let panicked = || DaemonError::Engine("the thread that follows the owner has panicked".to_owned());
                return ended.map_err(|_| panicked())?.map(|()| StandbyEnd::Stopped);
            }
        };
        self.stop.set();
        let ended = self.ended.await;
        self.server.drain(tokio::time::Instant::now() + DRAIN).await;
        self.control.abort();
        ended.map_err(|_| DaemonError::Engine("the thread that follows the owner has panicked".to_owned()))??;
        let Some(mut promoter) = promoter else { return Ok(StandbyEnd::Stopped) };
        let (settings, disk) = (self.settings, self.disk);
        let promoted = tokio::task::spawn_blocking(move || promote(&settings, disk, false)).await;
        let promoted = promoted.map_err(|_| DaemonError::Engine("the promotion has panicked".to_owned()))?;
        let words = match &promoted {
            Ok(promoted) => {
                format!("{PROMOTED} {} {}\n", promoted.term, promoted.last.unwrap_or_default().number)
            }
            Err(error) => format!("{REFUSED} {error}\n"),
        };
        let _ = promoter.write_all(words.as_bytes()).await;
        promoted.map(|promoted| StandbyEnd::Promoted { term: promoted.term })
    }
}

/// Serves the control socket of a standby: its settings and its promotion.
async fn serve_control(
    listener: UnixListener,
    requests: mpsc::Sender<UnixStream>,
    status: SharedStatus,
    shown: ShownSettings,
) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut said = vec![0; PROMOTE_GREETING.len()];
        let read = tokio::time::timeout(GREETING_TIMEOUT, stream.read_exact(&mut said)).await;
        let answer = match read {
            Ok(Ok(_)) if said == CONFIG_GREETING.as_bytes() => shown.text(),
            Ok(Ok(_)) if said == PROMOTE_GREETING.as_bytes() && status.get().is_whole => {
                match requests.try_send(stream) {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            }
            Ok(Ok(_)) if said == PROMOTE_GREETING.as_bytes() => {
                format!("{REFUSED} there is no whole copy of the owner's store yet\n")
            }
            // A backup and a follower read this as the reason of a refusal.
            Ok(Ok(_)) => {
                let words = "this daemon is a standby: take the backup at the owner";
                let mut frame = Vec::new();
                let _: io::Result<()> = crate::store::admin::refuse(&mut frame, words);
                let _ = stream.write_all(&frame).await;
                continue;
            }
            _ => continue,
        };
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}
