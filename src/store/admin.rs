//! Administration of whole stores: backup, replication, verification, compaction and the master key.
//!
//! The daemon and the command line reach these through here only. A function that takes a disk needs a store that no
//! writer has open.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::kv::disk::Disk;
use crate::kv::error::{Result, io};
use crate::kv::read_only::ReadOnlyDisk;
use crate::kv::scan::ScanStep;
use crate::kv::wal::WAL_FILE;
use crate::store::partitions::set::{PARTITIONS, owner_of};
use crate::store::replication::log::ReplicationLog;
use crate::store::secrets::vault::KEY_BYTES;

pub use crate::kv::wal::{LostRecords, WAL_BYTES};
pub use crate::store::backup::{
    BackupProgress, BackupSnapshot, OnBackupProgress, ReceivedBackup, is_stream, receive, refuse,
};
pub use crate::store::commit_log::{
    AppendStats, Appended, CommitAppender, CommitLog, FenceError, LogEntry, LogMark, LogTail, LogUnreachable,
    TenureEnd, append_outcome, fence, fold_wal, read_next,
};
pub use crate::store::partitions::blob_loss::{LostPayloads, accept_lost_payloads};
pub use crate::store::partitions::compact::{Compacted, compact};
pub use crate::store::partitions::set::{STATE_FILE, has_partitions};
pub use crate::store::partitions::state_age::refuse_older_state;
pub use crate::store::partitions::wal_loss::{AcceptedLoss, accept_loss, wal_damage};
pub use crate::store::replication::log::{LogOutline, LogWriter};
pub use crate::store::replication::replay::LogReplay;
pub use crate::store::replication::replica::{Replica, last_mark, remove_log};
pub use crate::store::replication::unapplied::{UnappliedLog, unapplied};
pub use crate::store::replication::{
    CommitMark, CommitPosition, CommitRecord, DisconnectReason, Follower, QUEUE_BYTES_MAX, ReplicaBatch, ReplicaKind,
    Replication, ReplicationStats, point_of, renumber,
};
pub use crate::store::secrets::master_key::{closed_derived_key, opens, rewrap};
pub use crate::store::term::{Role, TermAndRole, set_term_and_role, term_and_role};
pub use crate::store::verify::{
    Defect, FileCheck, OnVerifyProgress, VerifyProgress, VerifyReport, check_files, verify,
};

/// The folders that contain files of a store, below its directory and the inner one first.
pub const FOLDERS: [&str; 2] = [PARTITIONS, ""];

/// The key that wraps a store's data key.
pub type MasterKey = [u8; KEY_BYTES];

/// Whether the directory contains a store.
pub fn has_store(disk: &dyn Disk) -> std::io::Result<bool> {
    disk.exists(STATE_FILE)
}

/// The files of a store, as paths below its directory. The last one is `state.redb`, which is listed even if it is
/// missing. Without it the other files are no store.
///
/// # Errors
/// A folder or file cannot be read. The error names it.
pub fn files(disk: &dyn Disk) -> Result<Vec<String>> {
    let mut names = disk.list(PARTITIONS).map_err(|error| io(PARTITIONS, error))?;
    names.retain(|name| owner_of(name).is_some());
    names.sort();
    names.iter_mut().for_each(|name| *name = format!("{PARTITIONS}/{name}"));
    if disk.exists(WAL_FILE).map_err(|error| io(WAL_FILE, error))? {
        names.push(WAL_FILE.into());
    }
    names.push(STATE_FILE.into());
    Ok(names)
}

/// The outline of the replication log on a disk, from its headers. `None` if there is no log.
///
/// # Errors
/// The disk fails. Damage is part of the outline.
pub fn log_outline(disk: &dyn Disk) -> Result<Option<LogOutline>> {
    ReplicationLog::on(disk)?.map(|log| log.outline()).transpose()
}

/// Reads the replication log on a disk, and passes the position of every commit to `visit` until that breaks. The outline
/// covers the commits that were read. `None` if there is no log.
///
/// # Errors
/// The disk fails. Damage is part of the outline.
pub fn walk_log(
    disk: &dyn Disk,
    mut visit: impl FnMut(CommitPosition) -> ControlFlow<()>,
) -> Result<Option<LogOutline>> {
    let Some(log) = ReplicationLog::on(disk)? else { return Ok(None) };
    let walked = log.walk(|record| match point_of(record).map(&mut visit) {
        Some(ControlFlow::Break(())) => Ok(ScanStep::Stop),
        _ => Ok(ScanStep::Go),
    });
    walked.map(Some)
}

/// A disk that shows the files of another one, and keeps all writes in memory.
pub fn without_writes(disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
    Arc::new(ReadOnlyDisk(disk))
}

/// Applies the replication log on a disk to a copy of a store, up to the commit `number`. The outline covers the commits that
/// were read. `None` if there is no log.
///
/// # Errors
/// A disk fails. Damage is part of the outline.
pub fn replay_log(log: &dyn Disk, copy: &dyn Disk, number: u64) -> Result<Option<LogOutline>> {
    let Some(log) = ReplicationLog::on(log)? else { return Ok(None) };
    let mut replay = LogReplay::of(copy);
    let walked = log.walk(|record| {
        if let Some(record) = CommitRecord::decode(record).filter(|record| record.point.number <= number) {
            replay.take(record)?;
        }
        let is_before = point_of(record).is_some_and(|point| point.number < number);
        Ok(if is_before { ScanStep::Go } else { ScanStep::Stop })
    })?;
    replay.finish()?;
    Ok(Some(walked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RealDisk;
    use crate::store::verify::tests::{NOW, store};

    #[test]
    fn the_files_of_a_store_end_with_the_one_that_makes_them_a_store() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::unlocked(folder.path());
        assert!(files(&disk).unwrap_err().to_string().starts_with("partitions: "), "there is no folder");
        let mut opened = store(&folder);
        opened.writer.roll(NOW).unwrap();
        drop(opened);
        std::fs::write(folder.path().join("partitions/other.redb"), "").unwrap();
        let names = files(&disk).unwrap();
        let [blobs, first, second, journal, state] = &names[..] else { panic!("{names:?}") };
        assert!(first.starts_with("partitions/") && first < second, "{names:?}");
        assert_eq!(blobs.strip_suffix("blobs"), first.strip_suffix("redb"), "its payloads are listed with it");
        assert_eq!((journal.as_str(), state.as_str()), ("journal", "state.redb"));
        assert!(has_store(&disk).unwrap());
        std::fs::remove_file(folder.path().join("state.redb")).unwrap();
        assert!(!has_store(&disk).unwrap());
        assert_eq!(files(&disk).unwrap(), names, "it is listed even if it is missing");
    }
}
