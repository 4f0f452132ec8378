//! `postrider serve`: runs the daemon until it is told to stop.

use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{Exit, SettingsFlags};
use crate::config::{self, LogFormat, Settings};
use crate::daemon::{self, Daemon, World};
use crate::store;

/// Run the daemon: take events in, deliver them, keep them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postrider serve
  postrider serve --data-dir /srv/postrider --listen 127.0.0.1:9000
  POSTRIDER_DELIVERY__ALLOW=10.0.0.0/8 postrider serve

The first start of an empty data directory prints a key, once, and keeps it in first-key there.
SIGTERM and Ctrl-C stop it: what is in hand is finished, everything else is kept.
SIGHUP reads the files of server.tls_cert, tls_key and tls_client_ca again.")]
pub struct Serve {
    #[command(flatten)]
    settings: SettingsFlags,
}

impl Serve {
    pub fn run(&self) -> Result<(), Exit> {
        let loaded = self.settings.load()?;
        let settings = loaded.settings;
        start_log(&settings.log);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Exit::failed(format!("cannot start: {error}")))?;
        let ended = runtime.block_on(serve(&settings));
        // What still runs is given up: it was told to end.
        runtime.shutdown_timeout(Duration::from_secs(1));
        ended
    }
}

async fn serve(settings: &Settings) -> Result<(), Exit> {
    let mut term = signal(SignalKind::terminate()).map_err(|error| Exit::failed(error.to_string()))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| Exit::failed(error.to_string()))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| Exit::failed(error.to_string()))?;
    let world = World::real(settings)?;
    let daemon = Daemon::start(settings, world).await?;
    if let Some(first) = &daemon.first_key {
        println!("postrider: the first key, shown this once: {}", first.text);
        println!("postrider: it is kept in {}", first.file.display());
    }
    println!("postrider: listening on {}", daemon.url());
    tell_supervisor(&[sd_notify::NotifyState::Ready]);
    let watchdog = tokio::spawn(watchdog());
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&daemon),
            () = daemon.engine.broken.notified() => {
                let words = "a sync to disk failed; nothing acknowledged is lost, and a start finds it again";
                return Err(Exit::storage(words).hint("look at the disk, then start again"));
            }
        }
    }
    tell_supervisor(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping");
    watchdog.abort();
    daemon.stop(Duration::from_secs(settings.shutdown_timeout_s)).await;
    tracing::info!("stopped");
    Ok(())
}

/// SIGHUP: the certificate was renewed.
fn reload(daemon: &Daemon) {
    match daemon.reload_certificate() {
        Ok(true) => tracing::info!("the certificate was read again"),
        Ok(false) => tracing::info!("told to read the certificate again, and there is none"),
        Err(error) => tracing::error!(error, "the certificate could not be read again; the old one stays in use"),
    }
}

/// Tells systemd, where it listens.
fn tell_supervisor(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "no supervisor was told");
    }
}

/// Shows systemd a sign of life at half of the time it waits for one.
async fn watchdog() {
    let Some(every) = sd_notify::watchdog_enabled() else { return };
    loop {
        tokio::time::sleep(every / 2).await;
        tell_supervisor(&[sd_notify::NotifyState::Watchdog]);
    }
}

/// Starts writing the log to stderr.
pub fn start_log(log: &config::Log) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call (a demo within a test) keeps the first.
    let _ = match log.format {
        LogFormat::Json => subscriber.json().try_init(),
        LogFormat::Text => {
            use std::io::IsTerminal as _;
            subscriber.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
        }
    };
}

impl From<daemon::Error> for Exit {
    fn from(error: daemon::Error) -> Exit {
        let text = error.to_string();
        match error {
            daemon::Error::Settings(_) => Exit::configuration(text),
            daemon::Error::Store(store::Error::MasterKey(_)) => {
                Exit::configuration(text).hint("put the key back, or set POSTRIDER_MASTER_KEY or master_key_file")
            }
            daemon::Error::Store(store::Error::InUse(_)) => {
                Exit::failed(text).hint("stop the other one, or choose another --data-dir")
            }
            daemon::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                Exit::failed(text).hint("another program listens there; choose another --listen")
            }
            _ => Exit::failed(text),
        }
    }
}
