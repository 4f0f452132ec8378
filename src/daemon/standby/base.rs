//! The copy of the owner's store that a standby begins with.
//!
//! Invariant: the log of the copy begins before the copy is asked for, so no commit falls between them. A store under its
//! final name is whole: `state.redb` gets its name last.

use std::fs;
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;

use super::{LOG_FOLDER, NAME_FILE, failed, random};
use crate::api::link::{LinkRequest, LinkStream};
use crate::config::Settings;
use crate::daemon::DaemonError;
use crate::daemon::backup::{PARTIAL, lock_empty, sync};
use crate::daemon::keys;
use crate::daemon::link::OtherMachine;
use crate::store::admin::{self, CommitPosition, LogWriter, Role, TermAndRole};
use crate::store::{self, Disk, RealDisk};

/// Bytes of the copy that are read at once.
const PIECE_BYTES: usize = 4 << 20;
/// Maximum commits that are left for the replica to apply when it opens. Meanwhile new commits wait in the owner's
/// memory.
const LEFT_MAX: u64 = 2_000;
/// Interval at which the copy waits for the commits that are in it.
const WAIT: Duration = Duration::from_millis(50);

/// The end of a copy: the reason of a failure that may pass, or nothing.
type CopyEnd = Result<Result<(), String>, store::Error>;

/// A copy that is being made.
pub(in crate::daemon) struct BaseCopy {
    settings: Settings,
    partial: PathBuf,
    disk: Arc<dyn Disk>,
    log_disk: RealDisk,
    log: LogWriter,
    /// Number of the last commit in the log.
    logged: Arc<AtomicU64>,
    is_cancelled: Arc<AtomicBool>,
    copying: Option<JoinHandle<CopyEnd>>,
    /// The owner's stream, to end the copy.
    stream: UnixStream,
    role: Role,
    term: u64,
    is_whole: bool,
}

impl Drop for BaseCopy {
    fn drop(&mut self) {
        self.is_cancelled.store(true, Ordering::Release);
        let _ = self.stream.shutdown(Shutdown::Both);
        // The thread has the directory locked, which the next copy needs.
        let _ = self.copying.take().map(JoinHandle::join);
        if !self.is_whole {
            // A folder that stays is removed by the next start or copy.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// Removes the copy that an earlier process began in the data directory and did not complete.
///
/// # Errors
/// The disk fails.
pub(in crate::daemon) fn remove_unfinished(data_dir: &Path) -> Result<(), DaemonError> {
    let partial = data_dir.join(PARTIAL);
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&partial, error)),
        _ => Ok(()),
    }
}

impl BaseCopy {
    /// Begins a copy beside the store of the data directory, with the log of the commits after `from`. `of` is the name
    /// of the store, and the role and the term that the copy has.
    ///
    /// # Errors
    /// `Unreachable` if the owner gives none, or the disk fails.
    pub fn begin(
        settings: &Settings,
        runtime: &Handle,
        owner: &OtherMachine,
        from: CommitPosition,
        of: (&str, Role, u64),
    ) -> Result<BaseCopy, DaemonError> {
        let partial = settings.data_dir.join(PARTIAL);
        let disk = lock_empty(&partial)?;
        let folder = partial.join(LOG_FOLDER);
        let log_disk = RealDisk::folder(&folder).map_err(|source| failed(&folder, source))?;
        fs::write(folder.join(NAME_FILE), of.0).map_err(|source| failed(&folder, source))?;
        let log = LogWriter::create(&log_disk, random()(), from)?;
        let link_request = LinkRequest { stream: LinkStream::Base, store: None, term: 0, owner_run: None, key: None };
        let answer = runtime.block_on(owner.ask(&link_request)).map_err(DaemonError::Unreachable)?;
        let Some(stream) = answer.stream else { return Err(DaemonError::Unreachable(answer.detail)) };
        let (logged, is_cancelled) = (Arc::new(AtomicU64::new(from.number)), Arc::new(AtomicBool::new(false)));
        let (to, seen, cancelled) = (disk.clone(), logged.clone(), is_cancelled.clone());
        let reading = stream.try_clone().map_err(|source| failed(&partial, source))?;
        let copying = std::thread::spawn(move || {
            let mut stream = BufReader::with_capacity(PIECE_BYTES, reading);
            let received = match admin::receive(&mut stream, &*to, &mut |_| ()) {
                Err(store::Error::Io { file, source }) if admin::is_stream(&file) => {
                    return Ok(Err(source.to_string()));
                }
                received => received?,
            };
            bring_forward(&folder, &*to, (from.number, received.begun), &seen, &cancelled)
        });
        Ok(BaseCopy {
            settings: settings.clone(),
            partial,
            disk,
            log_disk,
            log,
            logged,
            is_cancelled,
            copying: Some(copying),
            stream,
            role: of.1,
            term: of.2,
            is_whole: false,
        })
    }

    /// Adds commits to the log.
    pub fn append(&mut self, records: &[&[u8]]) -> Result<(), DaemonError> {
        self.log.append(&self.log_disk, records)?;
        self.logged.store(self.log.last().number, Ordering::Release);
        Ok(())
    }

    /// Whether the copy is whole, or has failed.
    pub fn has_ended(&mut self) -> bool {
        self.copying.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Completes the copy. The inner error is a reason that may pass.
    ///
    /// # Errors
    /// The master key of this machine does not open the copy, or the disk fails.
    pub fn finish(mut self) -> Result<Result<WholeCopy, String>, DaemonError> {
        let ended = self.copying.take().map(JoinHandle::join);
        let Some(Ok(ended)) = ended else {
            return Err(DaemonError::Engine("the thread that copies the owner's store has panicked".to_owned()));
        };
        if let Err(words) = ended? {
            return Ok(Err(words));
        }
        let key = keys::stored_master_key(&self.settings, &*self.disk)?;
        if !admin::opens(&*self.disk, &key)? {
            let words =
                "the owner's store opens with another master key: give this machine the owner's (docs/standby.md)"
                    .to_owned();
            return Err(store::Error::MasterKey(words).into());
        }
        admin::set_term_and_role(&*self.disk, TermAndRole { term: self.term, role: self.role, overtaken_by: 0 })?;
        self.is_whole = true;
        Ok(Ok(WholeCopy { partial: self.partial.clone() }))
    }
}

/// Applies the log to the copy, until at most `LEFT_MAX` commits are left. `span` has the number before the log's first
/// commit, and that of the last commit that may be in the copy.
fn bring_forward(
    log: &Path,
    copy: &dyn Disk,
    span: (u64, u64),
    logged: &AtomicU64,
    is_cancelled: &AtomicBool,
) -> CopyEnd {
    let log_disk = RealDisk::unlocked(log);
    let (mut applied, begun) = span;
    loop {
        let last = logged.load(Ordering::Acquire);
        if is_cancelled.load(Ordering::Acquire) {
            return Ok(Err("the connection ended before the copy was whole".to_owned()));
        }
        if last < begun {
            // The log grows in another task, and copying a store takes far longer than this wait.
            std::thread::park_timeout(WAIT);
            continue;
        }
        if last - applied <= LEFT_MAX {
            return Ok(Ok(()));
        }
        admin::replay_log(&log_disk, copy, last)?;
        applied = last;
    }
}

/// A whole copy, beside the store of the data directory.
pub(in crate::daemon) struct WholeCopy {
    partial: PathBuf,
}

impl WholeCopy {
    /// Puts the copy in the place of the store in the data directory, whose files are closed.
    ///
    /// # Errors
    /// The disk fails. Without `state.redb` the next start copies anew.
    pub fn put_in_place(self, disk: &dyn Disk, data_dir: &Path) -> Result<(), DaemonError> {
        let old = admin::files(disk)?;
        for name in old.iter().rev() {
            // The list names `state.redb` even if it is missing.
            if disk.exists(name).map_err(|source| failed(&data_dir.join(name), source))? {
                disk.remove(name).map_err(|source| failed(&data_dir.join(name), source))?;
            }
        }
        remove_fingerprints(data_dir)?;
        let log = data_dir.join(LOG_FOLDER);
        if log.exists() {
            fs::remove_dir_all(&log).map_err(|source| failed(&log, source))?;
        }
        fs::rename(self.partial.join(LOG_FOLDER), &log).map_err(|source| failed(&log, source))?;
        sync(data_dir)?;
        for name in admin::files(&RealDisk::unlocked(&self.partial))? {
            let moved = disk.rename(&format!("{PARTIAL}/{name}"), &name);
            moved.map_err(|source| failed(&data_dir.join(&name), source))?;
        }
        fs::remove_dir_all(&self.partial).map_err(|source| failed(&self.partial, source))
    }
}

/// Removes the files of fingerprints of an earlier store, which are no part of a copy.
fn remove_fingerprints(data_dir: &Path) -> Result<(), DaemonError> {
    let folder = data_dir.join("partitions");
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(()) };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.extension().is_some_and(|end| end == "fingerprints") {
            fs::remove_file(&path).map_err(|source| failed(&path, source))?;
        }
    }
    Ok(())
}
