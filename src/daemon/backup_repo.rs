//! The directory of a follower: generations, each a copy of the store and a log of the commits after it.
//!
//! ```text
//! DEST/follow            marks the directory as such
//! DEST/lock              locked by the process that writes it
//! DEST/000001/base/      a copy, like any backup
//! DEST/000001/000001.log the commits after it
//! ```
//!
//! Invariant: a generation counts once its log says that its copy is whole. A generation that is removed loses its name
//! first.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use super::DaemonError;
use crate::model::Time;
use crate::store::admin::{self, CommitPosition, LogOutline};
use crate::store::{LOCK_FILE, RealDisk};

/// The copy of a generation.
pub const BASE: &str = "base";
const MARK_FILE: &str = "follow";
const MARK: &str = "postrider follow 1\n";
/// Suffix of a generation that is being removed.
const GONE: &str = "gone";

/// A directory of generations that this process writes to.
#[derive(Debug)]
pub struct BackupRepo {
    pub root: PathBuf,
    _lock: fs::File,
}

/// A readable generation.
#[derive(Debug)]
pub struct Generation {
    pub number: u32,
    pub path: PathBuf,
    pub outline: LogOutline,
}

/// A point in the past to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestorePoint {
    Number(u64),
    Time(Time),
}

impl BackupRepo {
    /// Locks a directory for this process and makes it if it is missing. Incomplete generations are removed.
    ///
    /// # Errors
    /// The directory contains something else, another process has the lock, or the disk fails.
    pub fn lock(root: &Path) -> Result<BackupRepo, DaemonError> {
        let failed = |source| failed(root, source);
        if !is_one(root) && fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some()) {
            let words = "is neither empty nor a directory that --follow has made";
            return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, words)));
        }
        make_private(root).map_err(failed)?;
        let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(root.join(LOCK_FILE));
        let lock = lock.map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => {
                failed(io::Error::new(io::ErrorKind::ResourceBusy, "another process writes to it"))
            }
            fs::TryLockError::Error(error) => failed(error),
        })?;
        fs::write(root.join(MARK_FILE), MARK).and_then(|()| sync(root)).map_err(failed)?;
        let place = BackupRepo { root: root.to_owned(), _lock: lock };
        for entry in fs::read_dir(root).map_err(failed)?.flatten() {
            if entry.path().extension().is_some_and(|ending| ending == GONE) {
                fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        let whole = whole(root)?;
        for number in numbers(root)?.into_iter().filter(|number| !whole.contains(number)) {
            place.remove(number)?;
        }
        Ok(place)
    }

    pub fn path(&self, generation: u32) -> PathBuf {
        path(&self.root, generation)
    }

    /// Makes the folder of a new generation.
    pub fn begin(&self) -> Result<(u32, RealDisk), DaemonError> {
        let number = numbers(&self.root)?.last().map_or(1, |last| last + 1);
        let path = self.path(number);
        let disk = make_private(&path).and_then(|()| sync(&self.root)).and_then(|()| RealDisk::folder(&path));
        disk.map(|disk| (number, disk)).map_err(|source| failed(&path, source))
    }

    /// Removes a generation. After a crash the next start completes the removal.
    pub fn remove(&self, generation: u32) -> Result<(), DaemonError> {
        remove(&self.root, generation)
    }

    /// Removes all whole generations but the newest `keep` and returns them. It runs on a thread, because reading logs
    /// and removing files takes long and the daemon waits for its follower.
    pub fn prune(&self, keep: usize) -> JoinHandle<Result<Vec<u32>, DaemonError>> {
        let root = self.root.clone();
        std::thread::spawn(move || {
            let mut whole = whole(&root)?;
            whole.truncate(whole.len().saturating_sub(keep));
            whole.iter().try_for_each(|number| remove(&root, *number))?;
            Ok(whole)
        })
    }
}

fn path(root: &Path, generation: u32) -> PathBuf {
    root.join(format!("{generation:06}"))
}

/// Whole generations, oldest first.
fn whole(root: &Path) -> Result<Vec<u32>, DaemonError> {
    let all = generations(root)?;
    Ok(all.iter().filter(|generation| generation.outline.whole.is_some()).map(|g| g.number).collect())
}

fn remove(root: &Path, generation: u32) -> Result<(), DaemonError> {
    let path = path(root, generation);
    let gone = path.with_extension(GONE);
    let renamed = match fs::rename(&path, &gone) {
        // Another process is removing it, or has removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed,
    };
    let removed = renamed.and_then(|()| sync(root)).and_then(|()| fs::remove_dir_all(&gone));
    removed.map_err(|source| failed(&path, source))
}

/// Whether a follower writes, or wrote, to this directory.
pub fn is_one(root: &Path) -> bool {
    fs::read_to_string(root.join(MARK_FILE)).is_ok_and(|text| text == MARK)
}

fn numbers(root: &Path) -> Result<Vec<u32>, DaemonError> {
    let entries = fs::read_dir(root).map_err(|source| failed(root, source))?;
    let name = |entry: fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse().ok());
    let mut numbers: Vec<u32> = entries.flatten().filter_map(name).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// All generations, oldest first. A generation without a log is left out.
///
/// # Errors
/// The directory or a log cannot be read. Damage is part of the outline.
pub fn generations(root: &Path) -> Result<Vec<Generation>, DaemonError> {
    let mut found = Vec::new();
    for number in numbers(root)? {
        let path = path(root, number);
        let disk = match RealDisk::read_only(&path) {
            Ok(disk) => disk,
            // It was removed after it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(failed(&path, source)),
        };
        let Some(outline) = admin::log_outline(&disk)? else { continue };
        found.push(Generation { number, path, outline });
    }
    Ok(found)
}

/// The generation and commit for a point in time: the last commit at or before it, or the last of all without `at`. A
/// copy without commits after it stands for the time at which it was begun.
///
/// # Errors
/// There is none, or it lies behind damage. Then the error names the last commit that can be restored.
pub fn choose(root: &Path, at: Option<RestorePoint>) -> Result<(Generation, CommitPosition), DaemonError> {
    let refused = |kind, words: String| Err(failed(root, io::Error::new(kind, words)));
    let mut oldest = None;
    for generation in generations(root)?.into_iter().rev() {
        let Some(whole) = generation.outline.whole else { continue };
        let may_be_here = match at {
            None => true,
            Some(RestorePoint::Number(number)) => whole.number <= number,
            Some(RestorePoint::Time(time)) => whole.at <= time,
        };
        if may_be_here {
            let point = find(&generation, whole, at)?;
            return Ok((generation, point));
        }
        oldest = Some(whole);
    }
    match oldest {
        Some(first) => {
            let (number, at) = (first.number, first.at);
            let words = format!("the first commit here is {number} ({at}), which is later; `restore --list` shows all");
            refused(io::ErrorKind::NotFound, words)
        }
        None => refused(io::ErrorKind::NotFound, "no copy here is whole yet".to_owned()),
    }
}

/// Finds the commit in a generation. The log is read up to it.
fn find(
    generation: &Generation,
    whole: CommitPosition,
    at: Option<RestorePoint>,
) -> Result<CommitPosition, DaemonError> {
    let disk = RealDisk::read_only(&generation.path).map_err(|source| failed(&generation.path, source))?;
    // The last commit that is not later, at any position, because the clock may have been set back.
    let mut found = whole;
    let mut is_past = false;
    let walked = admin::walk_log(&disk, |point| {
        if point.number < whole.number {
            return ControlFlow::Continue(());
        }
        let is_meant = match at {
            None => true,
            Some(RestorePoint::Number(number)) => point.number <= number,
            Some(RestorePoint::Time(time)) => point.at <= time,
        };
        is_past |= !is_meant;
        if is_meant {
            found = point;
        }
        let is_last = matches!(at, Some(RestorePoint::Number(number)) if point.number >= number);
        if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    match walked.and_then(|walked| walked.damage) {
        Some(damage) if !is_past => {
            let segment = generation.path.join(&damage.segment);
            let last = damage.last.number;
            let way_out = match last >= whole.number {
                true => format!("; `--at {last}` restores that"),
                false => String::new(),
            };
            let words = format!("{damage}{way_out}");
            Err(failed(&segment, io::Error::new(io::ErrorKind::InvalidData, words)))
        }
        _ => Ok(found),
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

fn failed(path: &Path, source: io::Error) -> DaemonError {
    DaemonError::Io { context: path.display().to_string(), source }
}
