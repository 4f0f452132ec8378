//! Backup and restore of a data directory. A backup is a directory like the one that it copies.
//!
//! Invariant: a directory under its final name is whole. A backup is made beside its destination, synced and renamed. A
//! restored store is made in the same way and verified, and it is a store only once `state.redb` has its name.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Settings;
use crate::engine::clock::SystemRandomness;
use crate::store::admin::{
    self, BackupProgress, CommitPosition, OnBackupProgress, OnVerifyProgress, Role, TermAndRole,
};
use crate::store::{self, LOCK_FILE, RealDisk};

use super::backup_repo::{self, BASE, RestorePoint};
use super::keys::{FIRST_KEY_FILE, MASTER_KEY_FILE, master_key};
use super::offline::{hand_over, has_store};
use super::protocol::{GREETING, greet, without_answer};
use super::{DaemonError, lock_folder, standby_log};

/// Suffix of an incomplete backup, and name of an incomplete store.
pub(super) const PARTIAL: &str = "partial";
/// Bytes that are copied between two calls of the progress callback.
const PIECE_BYTES: usize = 4 << 20;

/// Copies the store of the data directory to `to`, which must not exist. A running daemon streams its store. Without a
/// daemon the files are copied. The master key and the first key are copied too if they are in the data directory, unless
/// `without_key`.
///
/// # Errors
/// There is no store, `to` exists, the daemon does not answer, or the disk fails. Then there is no file at `to`.
pub fn backup(
    settings: &Settings,
    to: &Path,
    without_key: bool,
    progress: OnBackupProgress<'_>,
) -> Result<BackupProgress, DaemonError> {
    let from = &settings.data_dir;
    // `components` drops a trailing slash.
    let to = &to.components().collect::<PathBuf>();
    has_store(from)?;
    if fs::symlink_metadata(to).is_ok() {
        return Err(failed(to, io::Error::new(io::ErrorKind::AlreadyExists, "is there already")));
    }
    let mut name = to.as_os_str().to_owned();
    name.push(".");
    name.push(PARTIAL);
    let partial = PathBuf::from(name);
    let copied = lock_empty(&partial).and_then(|disk| {
        let copied = match lock_to_read(from) {
            Ok(lock) => {
                let copied = copy_locked(from, &lock, &partial, progress)?;
                standby_log::apply_log(from, &*disk).map(|()| copied)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ask(from, &*disk, progress).map_err(|error| without_answer(settings, error))
            }
            Err(error) => Err(failed(from, error)),
        }?;
        complete(&partial, settings, without_key)?;
        Ok(copied)
    });
    match copied {
        Ok(copied) => {
            fs::rename(&partial, to).map_err(|error| failed(to, error))?;
            sync(folder_of(to))?;
            Ok(copied)
        }
        Err(error) => {
            // The directory has an incomplete name, and the next backup to this place removes it too.
            let _ = fs::remove_dir_all(&partial);
            Err(error)
        }
    }
}

/// Completes a copy: adds the master key and the first key of the data directory, unless `without_key`, and syncs the
/// folders.
pub(super) fn complete(copied: &Path, settings: &Settings, without_key: bool) -> Result<(), DaemonError> {
    for name in [MASTER_KEY_FILE, FIRST_KEY_FILE] {
        let key = settings.data_dir.join(name);
        if !without_key && exists(&key)? {
            copy(&key, &copied.join(name), &mut |_| ())?;
        }
    }
    admin::FOLDERS.into_iter().try_for_each(|folder| sync(&copied.join(folder)))
}

/// An empty directory, locked for this process. Leftovers of an earlier one are removed.
pub(super) fn lock_empty(partial: &Path) -> Result<Arc<dyn store::Disk>, DaemonError> {
    if exists(partial)? {
        let _lock = lock_folder(partial)?;
        fs::remove_dir_all(partial).map_err(|error| failed(partial, error))?;
    }
    lock_folder(partial).map_err(|error| match error {
        DaemonError::Io { source, .. } => failed(partial, source),
        error => error,
    })
}

/// Locks a store for reading its files. A folder that this process cannot write, as on a read-only medium, is locked by
/// the lock file that is there. Without that file it stays unlocked.
///
/// # Errors
/// `WouldBlock` if a daemon holds the lock.
fn lock_to_read(from: &Path) -> io::Result<RealDisk> {
    match RealDisk::lock(from) {
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            RealDisk::read_only(from)
        }
        locked => locked,
    }
}

/// Copies the files of a store under a lock.
///
/// # Errors
/// A daemon has made the lock file meanwhile, or the disk fails.
fn copy_locked(
    from: &Path,
    lock: &RealDisk,
    to: &Path,
    progress: OnBackupProgress<'_>,
) -> Result<BackupProgress, DaemonError> {
    let copied = copy_files(from, to, progress)?;
    if !lock.is_locked() && exists(&from.join(LOCK_FILE))? {
        return Err(store::Error::InUse(from.display().to_string()).into());
    }
    Ok(copied)
}

/// Asks the daemon for its store and writes it to files.
fn ask(from: &Path, to: &dyn store::Disk, progress: OnBackupProgress<'_>) -> Result<BackupProgress, DaemonError> {
    let stream = greet(from, GREETING)
        .map_err(|error| DaemonError::Unreachable(format!("{} is in use, and {error}", from.display())))?;
    Ok(admin::receive(&mut io::BufReader::with_capacity(PIECE_BYTES, stream), to, progress)?.progress)
}

/// Copies the files of a store that no process has open.
fn copy_files(from: &Path, to: &Path, progress: OnBackupProgress<'_>) -> Result<BackupProgress, DaemonError> {
    let names = files_of(from)?;
    let mut at = BackupProgress { file_number: 0, files: names.len(), bytes: 0 };
    for name in &names {
        at.file_number += 1;
        progress(at);
        copy(&from.join(name), &to.join(name), &mut |bytes| {
            at.bytes += bytes;
            progress(at);
        })?;
    }
    Ok(at)
}

/// The files of a store. The last one makes the others a store.
fn files_of(dir: &Path) -> Result<Vec<String>, DaemonError> {
    admin::files(&RealDisk::unlocked(dir)).map_err(|error| match error {
        store::Error::Io { file, source } => failed(&dir.join(file), source),
        other => other.into(),
    })
}

fn is_store(dir: &Path) -> Result<bool, DaemonError> {
    admin::has_store(&RealDisk::unlocked(dir)).map_err(|error| failed(dir, error))
}

/// Copies a file with access for its owner only, and syncs it.
fn copy(from: &Path, to: &Path, copied: &mut dyn FnMut(u64)) -> Result<(), DaemonError> {
    let mut input = fs::File::open(from).map_err(|error| failed(from, error))?;
    let mut options = fs::OpenOptions::new();
    let output = options.write(true).create_new(true).mode(0o600).open(to);
    let mut output = output.map_err(|error| failed(to, error))?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let bytes = input.read(&mut piece).map_err(|error| failed(from, error))?;
        if bytes == 0 {
            return output.sync_all().map_err(|error| failed(to, error));
        }
        output.write_all(&piece[..bytes]).map_err(|error| failed(to, error))?;
        copied(bytes as u64);
    }
}

/// The result of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    pub progress: BackupProgress,
    /// The file of the first key. `None` if the backup has none.
    pub first_key: Option<PathBuf>,
    /// The last commit in the restored store. `None` for a plain backup.
    pub point: Option<CommitPosition>,
}

/// The source of a restore.
struct RestoreSource {
    copy: PathBuf,
    /// The folder of the log that follows the copy, and the last commit to apply.
    log: Option<(PathBuf, CommitPosition)>,
}

/// Restores a backup as the store of the data directory, which must have none, after verifying all of it. A follower's
/// directory is restored as it was after the last commit at or before `at`. Without `at` it is the last commit.
///
/// # Errors
/// There is a store or a part of one, a daemon uses either directory, or the backup is damaged, sealed by another key,
/// or has no such commit. The data directory has no store then.
pub fn restore(
    settings: &Settings,
    from: &Path,
    at: Option<RestorePoint>,
    progress: OnBackupProgress<'_>,
    walking: OnVerifyProgress<'_>,
) -> Result<Restored, DaemonError> {
    let source = if backup_repo::is_one(from) {
        let (generation, point) = backup_repo::choose(from, at)?;
        RestoreSource { copy: generation.path.join(BASE), log: Some((generation.path, point)) }
    } else if at.is_some() {
        let words = "is no directory that --follow has made: a plain backup is of one moment";
        return Err(failed(from, io::Error::new(io::ErrorKind::InvalidInput, words)));
    } else {
        RestoreSource { copy: from.to_owned(), log: None }
    };
    let point = source.log.as_ref().map(|(_, point)| *point);
    let progress = put_in_place(settings, &source, progress, walking)?;
    let has_first_key = exists(&source.copy.join(FIRST_KEY_FILE))?;
    let first_key = has_first_key.then(|| settings.data_dir.join(FIRST_KEY_FILE));
    Ok(Restored { progress, first_key, point })
}

fn put_in_place(
    settings: &Settings,
    source: &RestoreSource,
    progress: OnBackupProgress<'_>,
    walking: OnVerifyProgress<'_>,
) -> Result<BackupProgress, DaemonError> {
    let (to, from) = (&settings.data_dir, &source.copy);
    if !is_store(from)? {
        return Err(failed(from, io::Error::new(io::ErrorKind::NotFound, "there is no backup here")));
    }
    let lock = fs::File::open(from.join(LOCK_FILE));
    if lock.as_ref().is_ok_and(|lock| matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock))) {
        return Err(store::Error::InUse(from.display().to_string()).into());
    }
    if backup_repo::is_one(to) {
        let words = "is a directory of backups that --follow has made";
        return Err(failed(to, io::Error::new(io::ErrorKind::AlreadyExists, words)));
    }
    let is_new = !exists(to)?;
    let to = &target_of(to)?;
    let disk = lock_folder(to)?;
    let has_store = is_store(to)? || files_of(to)?.len() > 1;
    if has_store {
        let words = "there is a store already, or part of one: nothing was changed";
        return Err(failed(to, io::Error::new(io::ErrorKind::AlreadyExists, words)));
    }
    let partial = to.join(PARTIAL);
    let restored = fill(settings, source, &partial, progress, walking).and_then(|copied| {
        // The last file makes a store, so no daemon starts on these files before.
        for name in files_of(&partial)? {
            disk.rename(&format!("{PARTIAL}/{name}"), &name).map_err(|error| failed(Path::new(&name), error))?;
        }
        Ok(copied)
    });
    let _ = fs::remove_dir_all(&partial);
    if restored.is_err() && is_new {
        let _ = fs::remove_dir_all(to);
        return restored;
    }
    hand_over(to).and(restored)
}

/// The directory to restore into. If `to` is a symbolic link whose destination was moved away, it is that destination:
/// systemd leaves such a link at a service's StateDirectory.
fn target_of(to: &Path) -> Result<PathBuf, DaemonError> {
    match fs::read_link(to) {
        Ok(end) if !exists(to)? => Ok(folder_of(to).join(end)),
        _ => Ok(to.to_owned()),
    }
}

/// Copies a backup to `partial` with its key, and verifies the copy.
fn fill(
    settings: &Settings,
    source: &RestoreSource,
    partial: &Path,
    progress: OnBackupProgress<'_>,
    walking: OnVerifyProgress<'_>,
) -> Result<BackupProgress, DaemonError> {
    let disk = lock_empty(partial)?;
    let from = &source.copy;
    let copied = copy_files(from, partial, progress)?;
    match &source.log {
        Some((log, point)) => bring_forward(&*disk, log, *point)?,
        None => standby_log::apply_log(from, &*disk)?,
    }
    let to = &settings.data_dir;
    // A key that lies in the data directory already is used instead of the backup's own.
    let (own, kept) = (to.join(MASTER_KEY_FILE), from.join(MASTER_KEY_FILE));
    if settings.master_key.is_none() && !exists(&own)? && exists(&kept)? {
        copy(&kept, &partial.join(MASTER_KEY_FILE), &mut |_| ())?;
    }
    let key_dir = if exists(&partial.join(MASTER_KEY_FILE))? { partial } else { to };
    let opening = Settings { data_dir: key_dir.to_owned(), ..settings.clone() };
    let key = master_key(&opening, &*disk, &SystemRandomness::default())?;
    let report = admin::verify(disk.clone(), &key, walking)?;
    if let Some(first) = report.problems.first() {
        let words = match report.problems.len() {
            1 => format!("a problem in the backup: {first}"),
            number => format!("{number} problems in the backup, the first of them: {first}"),
        };
        return Err(failed(from, io::Error::new(io::ErrorKind::InvalidData, words)));
    }
    // The store that was copied may run elsewhere. A store that was overtaken stays so.
    let term_and_role = admin::term_and_role(&*disk)?;
    admin::set_term_and_role(&*disk, TermAndRole { role: Role::Copy, ..term_and_role })?;
    // The store of the backup does not know the first key of another store.
    let (first, own_first) = (from.join(FIRST_KEY_FILE), to.join(FIRST_KEY_FILE));
    if exists(&first)? {
        copy(&first, &partial.join(FIRST_KEY_FILE), &mut |_| ())?;
        fs::rename(partial.join(FIRST_KEY_FILE), &own_first).map_err(|error| failed(&own_first, error))?;
    }
    if key_dir == partial {
        fs::rename(partial.join(MASTER_KEY_FILE), &own).map_err(|error| failed(&own, error))?;
    }
    Ok(copied)
}

/// Applies the log to a copy, up to a commit.
fn bring_forward(copy: &dyn store::Disk, log: &Path, to: CommitPosition) -> Result<(), DaemonError> {
    let disk = RealDisk::read_only(log).map_err(|error| failed(log, error))?;
    let read = admin::replay_log(&disk, copy, to.number)?;
    if read.is_none_or(|read| read.last.number < to.number) {
        return Err(failed(log, io::Error::new(io::ErrorKind::InvalidData, "the log has changed while it was read")));
    }
    Ok(())
}

fn exists(path: &Path) -> Result<bool, DaemonError> {
    path.try_exists().map_err(|error| failed(path, error))
}

/// The folder that holds `path`.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(super) fn sync(folder: &Path) -> Result<(), DaemonError> {
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(folder, error))
}

fn failed(path: &Path, source: io::Error) -> DaemonError {
    DaemonError::Io { context: path.display().to_string(), source }
}
