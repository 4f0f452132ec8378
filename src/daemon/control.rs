//! The control socket: serves backups, followers and the settings in force in the data directory.
//!
//! Access to the directory already allows reading all of it, so clients need no credentials.
//!
//! Invariant: a backup whose reader stalls for `STALL_MAX` is aborted, because a backup keeps partitions from being
//! archived and dropped. A follower pins no files, only a bounded queue.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::follow::stream::{read_confirmations, send};
use super::protocol::{
    CONFIG_GREETING, CONTROL_FILE, FOLLOW_GREETING, GREETING, MARK_BYTES, PROMOTE_GREETING, REFUSED, RESUME_GREETING,
    read_mark,
};
use crate::engine::Engine;
use crate::store::admin::{CommitMark, DisconnectReason, Follower, ReplicaKind, Role, TermAndRole, refuse};

const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay after accepting failed: descriptors may have run out.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// Interval at which a blocked write checks whether the writer cancelled the backup.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const STALL_MAX: Duration = Duration::from_secs(60);
const BUFFER_BYTES: usize = 1 << 20;

/// The settings in force, as JSON text without secrets. A reload replaces them.
#[derive(Clone, Debug, Default)]
pub struct ShownSettings(Arc<Mutex<String>>);

impl ShownSettings {
    pub fn set(&self, json: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = json;
    }

    pub(super) fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The open socket. Dropping it closes it.
#[derive(Debug)]
pub struct ControlSocket {
    file: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl ControlSocket {
    /// Opens the socket in a data directory that this process has locked. Must be called within the runtime.
    ///
    /// # Errors
    /// The socket cannot be made: its path is too long (about a hundred bytes), for example.
    pub fn open(
        data_dir: &Path,
        engine: Arc<Engine>,
        settings: ShownSettings,
        own: TermAndRole,
    ) -> io::Result<ControlSocket> {
        let file = data_dir.join(CONTROL_FILE);
        let listener = bind(data_dir)?;
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(answer(stream, engine.clone(), settings.clone(), own))),
                    Err(error) => {
                        tracing::warn!(%error, "the control socket could not accept a connection; trying again");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                }
            }
        });
        Ok(ControlSocket { file, task })
    }
}

/// Binds the socket in a data directory that this process has locked.
///
/// # Errors
/// The socket cannot be made.
pub(super) fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    let file = data_dir.join(CONTROL_FILE);
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&file)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.task.abort();
        // The next start removes the file too.
        let _ = std::fs::remove_file(&self.file);
    }
}

async fn answer(mut stream: UnixStream, engine: Arc<Engine>, settings: ShownSettings, own: TermAndRole) {
    let mut said = vec![0; GREETING.len()];
    let read = tokio::time::timeout(GREETING_TIMEOUT, stream.read_exact(&mut said)).await;
    let is_read = matches!(read, Ok(Ok(_)));
    if is_read && said == FOLLOW_GREETING.as_bytes() {
        return stream_commits(stream, engine, None, ReplicaKind::Backup).await;
    }
    if is_read && said == RESUME_GREETING.as_bytes() {
        let mut mark = [0; MARK_BYTES];
        let read = tokio::time::timeout(GREETING_TIMEOUT, stream.read_exact(&mut mark)).await;
        let mark = matches!(read, Ok(Ok(_))).then(|| read_mark(mark));
        return stream_commits(stream, engine, mark, ReplicaKind::Backup).await;
    }
    if is_read && said == CONFIG_GREETING.as_bytes() {
        let text = settings.text();
        if let Err(error) =
            on_thread(stream, move |stream| PatientWriter::plain(stream).write_all(text.as_bytes())).await
        {
            tracing::info!(error, "a client that asked for the settings has gone");
        }
        return;
    }
    if is_read && said == PROMOTE_GREETING.as_bytes() {
        let why = no_promotion(own);
        tracing::warn!(why, "this daemon was not promoted");
        let _ = stream.write_all(format!("{REFUSED} {why}\n").as_bytes()).await;
        return;
    }
    if !is_read {
        return tracing::info!("a client of the control socket has gone without a word");
    }
    let is_ours = said == GREETING.as_bytes();
    match backup(stream, engine, is_ours, false).await {
        Ok(()) => tracing::info!("a backup was taken"),
        Err(error) if is_ours => tracing::warn!(error, "a backup was not taken"),
        Err(error) => tracing::warn!(error, "a client of the control socket was refused"),
    }
}

/// Streams a backup.
///
/// # Errors
/// A description: another backup is running, the disk fails, or the client is gone.
pub(super) async fn backup(
    stream: UnixStream,
    engine: Arc<Engine>,
    is_ours: bool,
    is_for_standby: bool,
) -> Result<(), String> {
    let backup_snapshot = match is_ours {
        true => engine.backup_snapshot().await.map(|own| if is_for_standby { own.for_standby() } else { own }),
        false => Err("the command is of another version than the daemon".to_owned()),
    };
    drop(engine);
    on_thread(stream, move |stream| match backup_snapshot {
        Ok(backup_snapshot) => {
            let patient = PatientWriter::for_backup(stream, backup_snapshot.cancelled());
            backup_snapshot.send(&mut io::BufWriter::with_capacity(BUFFER_BYTES, patient)).map_err(io::Error::other)
        }
        Err(words) => {
            refuse(&mut PatientWriter::plain(stream), &words)?;
            Err(io::Error::other(words))
        }
    })
    .await
}

/// Streams commits to a follower, until it or the writer ends. It gets those after its last one, `mark`, if all of them
/// are in memory, or else every later one.
pub(super) async fn stream_commits(
    stream: UnixStream,
    engine: Arc<Engine>,
    mark: Option<CommitMark>,
    kind: ReplicaKind,
) {
    let at = engine.clock.now();
    let resumed = mark.and_then(|mark| engine.replication.follow_after(mark, at, kind));
    let is_resumed = resumed.is_some();
    let follower = resumed.or_else(|| engine.replication.follow(at, kind));
    drop(engine);
    match streamed(stream, follower, is_resumed).await {
        Ok(DisconnectReason::Stopped) => {}
        Ok(DisconnectReason::Cancelled) => tracing::info!("a follower has gone"),
        Ok(cut) => tracing::warn!(why = cut.as_str(), "a follower was cut off"),
        Err(error) => tracing::info!(error, "a follower has gone"),
    }
}

async fn streamed(
    stream: UnixStream,
    follower: Option<Follower>,
    is_resumed: bool,
) -> Result<DisconnectReason, String> {
    on_thread(stream, move |stream| {
        let Some(follower) = follower.map(Arc::new) else {
            refuse(&mut PatientWriter::plain(stream), "as many follow already as may")?;
            return Err(io::Error::other("as many follow already as may"));
        };
        let mailbox = stream.try_clone()?;
        let patient = PatientWriter::for_follower(stream.try_clone()?, follower.clone());
        let mut out = io::BufWriter::with_capacity(BUFFER_BYTES, patient);
        tracing::info!("a follower connected");
        std::thread::scope(|scope| {
            scope.spawn(|| read_confirmations(&follower, mailbox));
            let sent = send(&follower, is_resumed, &mut out);
            // This ends the reading thread.
            let _ = stream.shutdown(std::net::Shutdown::Both);
            sent
        })
    })
    .await
}

/// Serves a client on a thread of its own.
async fn on_thread<T: Send + 'static>(
    stream: UnixStream,
    speak: impl FnOnce(BlockingStream) -> io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let stream = stream.into_std().map_err(|error| error.to_string())?;
    let done = tokio::task::spawn_blocking(move || {
        stream.set_nonblocking(false).and_then(|()| stream.set_write_timeout(Some(LOOK_AGAIN)))?;
        speak(stream)
    });
    done.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// A writer that waits for a slow reader, up to a limit.
struct PatientWriter {
    stream: BlockingStream,
    stall_max: Duration,
    is_over: Box<dyn Fn() -> bool + Send>,
}

impl PatientWriter {
    /// A writer to a backup, which the store's writer may cancel.
    fn for_backup(stream: BlockingStream, is_cancelled: impl Fn() -> bool + Send + 'static) -> PatientWriter {
        PatientWriter { stream, stall_max: STALL_MAX, is_over: Box::new(is_cancelled) }
    }

    /// A writer to a follower, until its queue is full.
    fn for_follower(stream: BlockingStream, follower: Arc<Follower>) -> PatientWriter {
        PatientWriter { stream, stall_max: Duration::MAX, is_over: Box::new(move || follower.is_given_up()) }
    }

    fn plain(stream: BlockingStream) -> PatientWriter {
        PatientWriter { stream, stall_max: LOOK_AGAIN, is_over: Box::new(|| false) }
    }
}

impl Write for PatientWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut waited = Duration::ZERO;
        loop {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && waited < self.stall_max => {}
                done => return done,
            }
            if (self.is_over)() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            waited += LOOK_AGAIN;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
/// Why a running owner is not promoted.
fn no_promotion(own: TermAndRole) -> String {
    match own.role {
        Role::Owner | Role::Standby => format!("this store is an owner's already, of term {}", own.term),
        Role::Copy => "a restored copy is promoted while it is stopped: stop this daemon first".to_owned(),
        Role::Member => "the nodes of a cluster take over by themselves".to_owned(),
    }
}
