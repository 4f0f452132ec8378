//! `postrider serve`: runs the daemon until it is told to stop.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::demo::scratch::Scratch;
use super::running::{Record, RunningDaemon};
use super::{
    Exit, SettingsFlags, config, dev, in_force::SettingsInForce, log::Log, moment::rfc3339, program::program, screen,
    trusted_file,
};
use crate::config::{ConfigError, Environment, Flags, ListenSetting, Loaded, SettingChange, Settings, ValueSource};
use crate::daemon::cluster::is_node;
use crate::daemon::cluster::running::{RunningNode, StoodBy};
use crate::daemon::control::{ControlSocket, ShownSettings};
use crate::daemon::link::OtherMachine;
use crate::daemon::standby::running::{RunningStandby, StandbyEnd};
use crate::daemon::{self, Daemon, Ownership, Platform};
use crate::engine::network::ListenAddr;
use crate::server::ServerTls;
use crate::store;
use crate::store::admin::{AcceptedLoss, LostPayloads, LostRecords, WAL_BYTES};

/// Run the daemon: take events in, deliver them, keep them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postrider serve --dev             to try it: receivers on this machine allowed, data in a fresh directory
  postrider serve
  postrider serve --data-dir /srv/postrider --listen 127.0.0.1:9000
  POSTRIDER_DELIVERY__ALLOW=10.0.0.0/8 postrider serve

The first start of an empty data directory makes a key and keeps it in first-key there. On a terminal it prints it, once.
SIGTERM and Ctrl-C stop it: requests under way are finished, everything else stays in the store.
SIGHUP reads the settings again, and the files of server.tls_cert, tls_key and tls_client_ca. The log names the settings \
that need a restart. A machine that stands by reads them once it owns the store.")]
pub struct Serve {
    /// For development: deliver to this machine too, and keep data in a fresh directory that goes at the end, unless
    /// --data-dir or POSTRIDER_DATA_DIR names one
    #[arg(long)]
    dev: bool,
    #[command(flatten)]
    settings: SettingsFlags,
    /// Give up the events that a damaged write-ahead log lacks and the payloads that a damaged file of large payloads
    /// lacks, keep a damaged log under another name, and start
    #[arg(long)]
    accept_loss: bool,
}

impl Serve {
    pub fn run(&self) -> Result<(), Exit> {
        // Dropped last: the daemon writes into it until it has ended.
        let scratch = if self.dev && !dev::names_data_dir(&self.settings)? { Some(Scratch::new("dev")?) } else { None };
        let dev = self.dev.then(|| dev::flags(&self.settings, scratch.as_ref().map(Scratch::path))).transpose()?;
        let loaded = self.load(dev.as_ref())?;
        let log = Log::start(&loaded.settings.log);
        if self.accept_loss {
            let accepted = daemon::accept_loss(&loaded.settings.data_dir);
            let (payloads, accepted) = opened(&loaded.settings, accepted)?;
            report_loss(&payloads, accepted);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Exit::failed(format!("cannot start: {error}")))?;
        let ended = runtime.block_on(self.serve(loaded, dev.as_ref(), &log));
        // Tasks that still run are given up, because they were told to end.
        runtime.shutdown_timeout(Duration::from_secs(1));
        ended
    }

    fn load(&self, dev: Option<&Flags>) -> Result<Loaded, ConfigError> {
        match dev {
            Some(flags) => Settings::load(flags, &Environment::of_process()),
            None => self.settings.load(),
        }
    }

    async fn serve(&self, mut loaded: Loaded, dev: Option<&Flags>, log: &Log) -> Result<(), Exit> {
        let mut term = signal(SignalKind::terminate()).map_err(|error| Exit::failed(error.to_string()))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| Exit::failed(error.to_string()))?;
        let mut hangup = signal(SignalKind::hangup()).map_err(|error| Exit::failed(error.to_string()))?;
        let world = Platform::real(&loaded.settings)?;
        let shown = ShownSettings::default();
        shown.set(SettingsInForce::of(&loaded).json().to_string());
        let (reload_due, tls) = (Cell::new(false), world.tls.clone());
        let owning = tokio::select! {
            owning = own_store(&loaded.settings, world, &shown, stop_requested(&mut term, &mut interrupt)) => owning?,
            never = put_off_reloads(&mut hangup, &reload_due, tls.as_deref()) => match never {},
        };
        let Some(OwnedStore { world, node, ownership, was_standby }) = owning else { return Ok(()) };
        let daemon = opened(&loaded.settings, Daemon::start_as(&loaded.settings, world, ownership).await)?;
        // A backup can be taken without the daemon as well, so it serves without this.
        let own = daemon.term_and_role;
        let control = ControlSocket::open(&loaded.settings.data_dir, daemon.engine.clone(), shown.clone(), own);
        if let Err(error) = &control {
            tracing::warn!(%error, "no backup can be taken while this runs, and its settings cannot be shown");
        }
        let _record = record(&daemon, &loaded.settings);
        let greeted = greet(&daemon, loaded.settings.ui.enabled, &next(self.dev, &loaded));
        // The reader of a standby's stdout may have left long ago, and a promoted store is served all the same.
        if let (Err(exit), false) = (greeted, was_standby) {
            daemon.stop(Duration::from_secs(loaded.settings.shutdown_timeout_s)).await;
            return Err(exit);
        }
        let (version, data_dir) = (env!("CARGO_PKG_VERSION"), loaded.settings.data_dir.display());
        tracing::info!(version, url = daemon.url(), %data_dir, "ready");
        notify_supervisor(&[NotifyState::Ready]);
        let watchdog = tokio::spawn(watchdog());
        if reload_due.get() {
            self.reload(&daemon, &mut loaded, dev, (log, &shown));
        }
        loop {
            tokio::select! {
                () = stop_requested(&mut term, &mut interrupt) => break,
                _ = hangup.recv() => {
                    notify_supervisor(&[NotifyState::Reloading]);
                    self.reload(&daemon, &mut loaded, dev, (log, &shown));
                    notify_supervisor(&[NotifyState::Ready]);
                }
                overtaken = daemon.overtaken() => {
                    drop(control);
                    daemon.stop(Duration::ZERO).await;
                    return Err(daemon::set_overtaken(&loaded.settings, overtaken)?.into());
                }
                () = ended_tenure(node.as_ref()) => {
                    drop(control);
                    daemon.stop(Duration::ZERO).await;
                    return Err(stepped_down());
                }
                () = daemon.engine.broken.notified() => return Err(broken(node.as_ref())),
                () = daemon.engine.crashed.notified() => return Err(crashed()),
            }
        }
        watchdog.abort();
        stop(daemon, node, Duration::from_secs(loaded.settings.shutdown_timeout_s)).await;
        Ok(())
    }

    /// SIGHUP: applies the changed settings that need no restart, and names the others. A mistake changes nothing.
    fn reload(&self, daemon: &Daemon, running: &mut Loaded, dev: Option<&Flags>, (log, shown): (&Log, &ShownSettings)) {
        reload_certificate(daemon.tls());
        let fresh = match self.load(dev) {
            Ok(fresh) => fresh,
            Err(error) => {
                for problem in &error.problems {
                    tracing::error!(%problem, "a setting is wrong; all settings stay as they are");
                }
                return;
            }
        };
        let changes = running.changes(&fresh);
        let next = running.with_live_of(&fresh);
        if let Err(error) = daemon.apply_settings(&next.settings) {
            tracing::error!(%error, "the settings cannot be taken over; all stay as they are");
            return;
        }
        *running = next;
        shown.set(SettingsInForce::of(running).json().to_string());
        log.set_level(&running.settings.log.level);
        for SettingChange { key, value, origin, live } in &changes {
            match live {
                true => tracing::info!(key, %value, %origin, "a setting was taken over"),
                false => tracing::warn!(key, %value, %origin, "a setting has changed, which needs a restart"),
            }
        }
        if changes.is_empty() {
            tracing::info!("the settings were read again; nothing has changed");
        }
    }
}

/// Cure of files that another user owns.
const OWNER_CURE: &str = "run it as root, or as the user that owns the data directory; chown -R --reference=DIR DIR/ gives \
                          that user the files that root has made there";

/// The result of opening the store, with the end of a start that failed.
fn opened<T>(settings: &Settings, result: Result<T, daemon::DaemonError>) -> Result<T, Exit> {
    result.map_err(|error| start_failed(settings, error))
}

/// The end of a start that failed. An error of a file of the store gets the data directory and the cure.
fn start_failed(settings: &Settings, error: daemon::DaemonError) -> Exit {
    let dir = settings.data_dir.display();
    let cure = match &error {
        daemon::DaemonError::Store(store::Error::Io { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            OWNER_CURE.to_owned()
        }
        daemon::DaemonError::Store(
            store::Error::Io { .. } | store::Error::Storage { .. } | store::Error::Damaged { .. },
        ) => format!(
            "`postrider verify {dir}` says what is damaged: put the file back, or restore a backup into an empty data directory"
        ),
        _ => return error.into(),
    };
    Exit::failed(format!("{dir}: {error}")).hint(cure)
}

fn broken(node: Option<&RunningNode>) -> Exit {
    if node.is_some_and(|node| node.state.tenure.is_over()) {
        return stepped_down();
    }
    let words = "a sync to disk failed; nothing acknowledged is lost, and a start finds it again";
    Exit::storage(words).hint("look at the disk, then start again")
}

fn stepped_down() -> Exit {
    let words = "another node may own the cluster's store now; nothing acknowledged is lost";
    Exit::stepped_down(words).hint("start again: the node stands by then")
}

/// Waits until the tenure of a node has ended. Without a cluster it never ends.
async fn ended_tenure(node: Option<&RunningNode>) {
    match node {
        Some(node) => node.state.stepped_down().await,
        None => std::future::pending().await,
    }
}

/// Stops serving, within `timeout`, and gives the lease of a node back.
async fn stop(daemon: Daemon, node: Option<RunningNode>, timeout: Duration) {
    notify_supervisor(&[NotifyState::Stopping]);
    tracing::info!("stopping");
    let by = tokio::time::Instant::now() + timeout;
    let giving_up = async {
        match &node {
            Some(node) => node.give_up_before(by).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = daemon.stop(timeout) => {}
        () = giving_up => {}
    }
    release(node).await;
    tracing::info!("stopped");
}

/// Gives the lease of a node back.
async fn release(node: Option<RunningNode>) {
    if let Some(node) = node {
        node.release().await;
    }
}

fn crashed() -> Exit {
    let words = "a part of the daemon panicked; nothing acknowledged is lost, and a start finds it again";
    Exit::software(words).hint("the log says where: please report it")
}

/// Reads the certificate again at SIGHUP while another machine owns the store. The settings are read again once this machine
/// owns it.
async fn put_off_reloads(hangup: &mut Signal, is_due: &Cell<bool>, tls: Option<&ServerTls>) -> Infallible {
    loop {
        hangup.recv().await;
        is_due.set(true);
        reload_certificate(tls);
        tracing::info!("the settings are read again once this machine owns the store");
    }
}

/// Waits for a signal to stop.
async fn stop_requested(term: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// A store that this machine owns, before it is opened.
struct OwnedStore {
    world: Platform,
    /// The node of a cluster, and its ownership. `None` if the store is by itself.
    node: Option<RunningNode>,
    ownership: Option<Ownership>,
    was_standby: bool,
}

/// Stands by as long as another machine owns the store. `None` if `stop_requested` ended.
async fn own_store(
    settings: &Settings,
    world: Platform,
    shown: &ShownSettings,
    stop_requested: impl Future<Output = ()>,
) -> Result<Option<OwnedStore>, Exit> {
    if opened(settings, is_node(settings, &*world.disk))? {
        let node = RunningNode::start(settings, &world).await?;
        notify_supervisor(&[NotifyState::Ready]);
        let watchdog = tokio::spawn(watchdog());
        let stood_by = node.stand_by(settings, world, stop_requested).await;
        watchdog.abort();
        let ownership = match stood_by? {
            StoodBy::Stopped => {
                node.release().await;
                return Ok(None);
            }
            StoodBy::SteppedDown => return Err(stepped_down()),
            StoodBy::Owns(ownership) => Some(ownership),
        };
        let world = Platform::real(settings)?;
        return Ok(Some(OwnedStore { world, node: Some(node), ownership, was_standby: true }));
    }
    let Some(owner) = opened(settings, daemon::standby::owner_of(settings, &*world.disk))? else {
        return Ok(Some(OwnedStore { world, node: None, ownership: None, was_standby: false }));
    };
    match stand_by(settings, world, owner, shown.clone(), stop_requested).await? {
        StandbyEnd::Stopped => Ok(None),
        StandbyEnd::Promoted { term } => {
            tracing::info!(term, "this store is the owner's now");
            let world = Platform::real(settings)?;
            Ok(Some(OwnedStore { world, node: None, ownership: None, was_standby: true }))
        }
    }
}

/// Runs the standby of another machine until `stop_requested` ends or it is promoted.
async fn stand_by(
    settings: &Settings,
    world: Platform,
    owner: OtherMachine,
    shown: ShownSettings,
    stop_requested: impl Future<Output = ()>,
) -> Result<StandbyEnd, Exit> {
    let url = owner.url().to_owned();
    let standby = RunningStandby::start(settings, world, owner, shown).await?;
    screen::write(format!("postrider: the standby of {url}\npostrider: listening on {}\n", standby.url()))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), owner = url, "standing by");
    notify_supervisor(&[NotifyState::Ready]);
    let watchdog = tokio::spawn(watchdog());
    let ended = standby.run(stop_requested).await;
    watchdog.abort();
    Ok(ended?)
}

/// Records the daemon's address for the client verbs of this user. The daemon serves without it, because the verbs have
/// flags for the address.
fn record(daemon: &Daemon, settings: &Settings) -> Option<Record> {
    let listen = match &daemon.address {
        ListenAddr::Tcp(addr) => ListenSetting::Tcp(*addr),
        ListenAddr::Unix(path) => ListenSetting::Unix(path.clone()),
    };
    let url = config::url_of(&Settings { listen, ..settings.clone() });
    let data_dir = std::path::absolute(&settings.data_dir).unwrap_or_else(|_| settings.data_dir.clone());
    let written = Record::write(&trusted_file::runtime_dir(), &RunningDaemon { url, data_dir });
    written.inspect_err(|error| tracing::debug!(%error, "client verbs do not find this daemon by themselves")).ok()
}

/// The next steps, for a person: at a terminal, or during development.
fn next(is_dev: bool, loaded: &Loaded) -> String {
    let program = program();
    match is_dev {
        true => {
            dev::next(&program, &loaded.settings.data_dir, *loaded.origin("data_dir") == ValueSource::Flag(dev::FLAG))
        }
        false if std::io::stdout().is_terminal() => format!(
            "\nNext, in another terminal:
  {program} webhook create https://hooks.example.com/in
  {program} send invoice.paid '{{\"id\": 42}}'
  {program} tail
To try it with a receiver on this machine: {program} serve --dev\n"
        ),
        false => String::new(),
    }
}

/// Says on stderr how much was given up.
fn report_loss(payloads: &[LostPayloads], accepted: Option<AcceptedLoss>) {
    for LostPayloads { file, damage } in payloads {
        screen::note(&format!(
            "postrider: {file}: {damage}; its lost payloads are given up, and `postrider verify` lists them\n"
        ));
    }
    let Some(AcceptedLoss { damage, kept_as, lost, kept_until }) = accepted else {
        if payloads.is_empty() {
            screen::note("postrider: nothing was given up: the write-ahead log is whole, or not needed\n");
        }
        return;
    };
    let kept = kept_as.map_or("there is no file to keep".to_owned(), |name| format!("the file is kept as {name}"));
    screen::note(&format!(
        "postrider: the write-ahead log is damaged: {damage}\n\
         postrider: {}; the newest row that is left is of {}; {kept}\n",
        lost_words(lost),
        rfc3339(kept_until.0),
    ));
}

/// The extent of a loss in words. A log that is gone or unreadable shows no lower bound.
fn lost_words(lost: LostRecords) -> String {
    match (lost.records, lost.events) {
        (0, _) => format!(
            "how much is lost is not known, because nothing of the log is left to count by; a log has at most {} MiB of \
             commits",
            WAL_BYTES >> 20
        ),
        (records, 0) => format!("lost are at least {records} commits; how many events were in them is not known"),
        (records, events) => format!("lost are at least {records} commits, with at least {events} events"),
    }
}

/// Prints the first key, if this start made it, the address, and the next steps.
fn greet(daemon: &Daemon, has_pages: bool, next: &str) -> Result<(), Exit> {
    // A stream that is no terminal may be a log, which more users read than the file.
    let first = daemon.first_key.as_ref().map_or(String::new(), |first| {
        let (key, file) = (&first.text, first.file.display());
        if std::io::stdout().is_terminal() {
            format!("postrider: the first key, shown this once: {key}\npostrider: it is kept in {file}\n")
        } else {
            format!("postrider: the first key is in {file}\n")
        }
    });
    let pages = if has_pages { pages(daemon) } else { String::new() };
    // In one write: a reader may leave after any line.
    screen::write(format!("{first}postrider: listening on {}\n{pages}{next}", daemon.url()))
}

/// The address of the pages. On a terminal a link follows that logs in once from this machine. A stream that is no
/// terminal may be a log, which other users may read.
fn pages(daemon: &Daemon) -> String {
    let Some(url) = daemon.pages_url() else { return String::new() };
    let link = if std::io::stdout().is_terminal() { daemon.login_link() } else { None };
    let link = link.map(|link| format!("postrider: log in once, within 15 minutes, on this machine: {link}\n"));
    format!("postrider: pages at {url}\n{}", link.unwrap_or_default())
}

fn reload_certificate(tls: Option<&ServerTls>) {
    let Some(tls) = tls else { return };
    match tls.reload() {
        Ok(()) => tracing::info!("the certificate was read again"),
        Err(error) => tracing::error!(error, "the certificate could not be read again; the old one stays in use"),
    }
}

/// Notifies systemd if a unit runs the daemon.
fn notify_supervisor(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "no supervisor was notified");
    }
}

/// Notifies systemd's watchdog at half of its interval.
async fn watchdog() {
    let Some(every) = sd_notify::watchdog_enabled() else { return };
    loop {
        tokio::time::sleep(every / 2).await;
        notify_supervisor(&[NotifyState::Watchdog]);
    }
}

impl From<daemon::DaemonError> for Exit {
    fn from(error: daemon::DaemonError) -> Exit {
        let text = error.to_string();
        match error {
            daemon::DaemonError::Settings(_) => Exit::configuration(text),
            daemon::DaemonError::Store(store::Error::MasterKey(_)) => {
                Exit::configuration(text).hint("put the key back, or set POSTRIDER_MASTER_KEY or master_key_file")
            }
            daemon::DaemonError::Overtaken { .. } => Exit::overtaken(text).hint(daemon::OVERTAKEN_CURE),
            daemon::DaemonError::TwoOwners { .. } => Exit::overtaken(text).hint(daemon::TWO_OWNERS_CURE),
            daemon::DaemonError::StandbyDiskFull(_) => Exit::storage(text).hint(
                "free space, then start again: it follows the owner again; with standby.required the owner acknowledges \
                 nothing until a standby is back",
            ),
            daemon::DaemonError::Store(store::Error::InUse(_)) => {
                Exit::failed(text).hint("stop the other one, or choose another --data-dir")
            }
            daemon::DaemonError::Io { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                Exit::address_in_use(text).hint("another program listens there; choose another --listen")
            }
            daemon::DaemonError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Exit::failed(text).hint(OWNER_CURE)
            }
            daemon::DaemonError::NoStore(_) => Exit::failed(text)
                .hint("give the directory with --data-dir; `postrider config show` says where it is looked for"),
            daemon::DaemonError::Store(store::Error::ReplicaLogDamaged { .. }) => {
                Exit::failed(text).hint(daemon::STANDBY_LOG_CURE)
            }
            daemon::DaemonError::RestoreBrokeOff(_) => Exit::failed(text).hint(daemon::BROKEN_RESTORE_CURE),
            daemon::DaemonError::StateMissing(_) => Exit::failed(text).hint(daemon::STATE_MISSING_CURE),
            daemon::DaemonError::Unreachable(_) => Exit::unreachable(text),
            _ => Exit::failed(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_does_not_store_is_told_from_other_ends() {
        assert_eq!(broken(None).code(), 74);
        assert_eq!(Exit::from(daemon::DaemonError::StandbyDiskFull("data".into())).code(), 74);
        assert_eq!((stepped_down().code(), crashed().code()), (75, 70));
    }

    #[test]
    fn a_file_of_the_store_that_cannot_be_read_has_its_directory_and_a_cure() {
        let settings = Settings { data_dir: "/srv/p".into(), ..Settings::default() };
        let shown = |kind: std::io::ErrorKind| {
            let error = store::Error::Io { file: "state.redb".into(), source: kind.into() };
            start_failed(&settings, error.into()).text()
        };
        let foreign = shown(std::io::ErrorKind::PermissionDenied);
        assert!(foreign.contains("/srv/p: state.redb") && foreign.contains("chown -R --reference=DIR"), "{foreign}");
        let missing = shown(std::io::ErrorKind::NotFound);
        assert!(missing.contains("`postrider verify /srv/p` says what is damaged"), "{missing}");
    }

    #[test]
    fn a_loss_that_cannot_be_counted_is_not_shown_as_a_number() {
        let words = |records, events| lost_words(LostRecords { records, events });
        let unknown = words(0, 0);
        assert!(unknown.contains("not known") && unknown.ends_with("at most 32 MiB of commits"), "{unknown}");
        assert_eq!(words(3, 0), "lost are at least 3 commits; how many events were in them is not known");
        assert_eq!(words(3, 2), "lost are at least 3 commits, with at least 2 events");
    }
}
