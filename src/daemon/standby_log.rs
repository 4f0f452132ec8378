//! The log of a closed standby or node: the commits that its files lack.
//!
//! Invariant: no byte of a damaged log is removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::DaemonError;
use crate::store::admin::{self, UnappliedLog};
use crate::store::{Disk, RealDisk};

/// The folder of the replica's log, below the data directory.
pub(super) const LOG_FOLDER: &str = "standby";

/// The commits that only the log of the closed standby or node in a data directory has. `None` for another store, or without
/// a log. Nothing is changed.
///
/// # Errors
/// A file of the store does not open, or the disk fails. Damage of the log is part of the answer.
pub(super) fn unapplied(data_dir: &Path) -> Result<Option<UnappliedLog>, DaemonError> {
    let folder = data_dir.join(LOG_FOLDER);
    if !folder.is_dir() {
        return Ok(None);
    }
    let (disk, log) = (RealDisk::unlocked(data_dir), RealDisk::unlocked(&folder));
    Ok(admin::unapplied(Arc::new(disk), &log)?)
}

/// Applies the commits that only the log of the standby or node in `data_dir` has to a copy of its files.
///
/// # Errors
/// The log is damaged, or a disk fails.
pub(super) fn apply_log(data_dir: &Path, copy: &dyn Disk) -> Result<(), DaemonError> {
    let Some(found) = unapplied(data_dir)? else { return Ok(()) };
    let log = RealDisk::unlocked(&data_dir.join(LOG_FOLDER));
    if let Some(damage) = found.damage {
        return Err(damage.error(&log).into());
    }
    if found.commits > 0 {
        admin::replay_log(&log, copy, u64::MAX)?;
    }
    Ok(())
}

/// Applies the commits before the damage of a standby's log, and keeps the log under another name. Returns the new path.
/// `None` if the log is whole.
pub(super) fn give_up_damaged(data_dir: &Path, disk: &dyn Disk) -> Result<Option<PathBuf>, DaemonError> {
    if unapplied(data_dir)?.is_none_or(|found| found.damage.is_none()) {
        return Ok(None);
    }
    let folder = data_dir.join(LOG_FOLDER);
    admin::replay_log(&RealDisk::unlocked(&folder), disk, u64::MAX)?;
    let mut number = 1;
    let kept = loop {
        let kept = data_dir.join(format!("{LOG_FOLDER}.damaged-{number}"));
        if !kept.exists() {
            break kept;
        }
        number += 1;
    };
    fs::rename(&folder, &kept).and_then(|()| fs::File::open(data_dir)?.sync_all()).map_err(|e| failed(&kept, e))?;
    Ok(Some(kept))
}

fn failed(path: &Path, source: io::Error) -> DaemonError {
    DaemonError::Io { context: path.display().to_string(), source }
}
