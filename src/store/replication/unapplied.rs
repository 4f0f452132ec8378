//! Counts the commits that a killed standby or node has in its log alone.
//!
//! Invariant: no file is changed. The next start, `promote` and a backup apply these commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kv::disk::Disk;
use crate::kv::error::{Result, io};
use crate::kv::read_only::ReadOnlyDisk;
use crate::kv::scan::ScanStep;
use crate::kv::segment::{OTHER_CACHE_BYTES, OpenMode, Segment};
use crate::store::replication::log::{LogDamage, ReplicationLog};
use crate::store::replication::{CommitMark, CommitRecord};
use crate::store::term::{Role, term_and_role};

/// The log of a closed standby or node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnappliedLog {
    /// Commits that the log has and the files lack, before any damage.
    pub commits: u64,
    /// Number of the last commit before any damage.
    pub last: u64,
    pub damage: Option<LogDamage>,
}

/// Reads the log on `log_disk` of the standby or node on `disk`, whose files no process has open. `None` for the store of an
/// owner, or without a log.
///
/// # Errors
/// A file does not open, or a disk fails.
pub fn unapplied(disk: Arc<dyn Disk>, log_disk: &dyn Disk) -> Result<Option<UnappliedLog>> {
    let disk = ReadOnlyDisk(disk);
    let Some(log) = ReplicationLog::on(log_disk)? else { return Ok(None) };
    if !matches!(term_and_role(&disk)?.role, Role::Standby | Role::Member) {
        return Ok(None);
    }
    let (mut marks, mut commits) = (BTreeMap::new(), 0);
    let walked = log.walk(|record| {
        if let Some(CommitRecord { point, file, .. }) = CommitRecord::decode(record) {
            let mark = match marks.get(&file) {
                Some(mark) => *mark,
                None => *marks.entry(file.clone()).or_insert(mark_of(&disk, &file)?),
            };
            commits += u64::from(point.number > mark);
        }
        Ok(ScanStep::Go)
    })?;
    Ok(Some(UnappliedLog { commits, last: walked.last.number, damage: walked.damage }))
}

/// Number of the last commit that a file contains. 0 if there is no file, or it has no mark.
fn mark_of(disk: &dyn Disk, name: &str) -> Result<u64> {
    if !disk.exists(name).map_err(|error| io(name, error))? {
        return Ok(0);
    }
    let file = Arc::new(Segment::open(disk, name, OpenMode::Write, OTHER_CACHE_BYTES)?);
    Ok(CommitMark::stored(&file.snapshot()?)?.map_or(0, |mark| mark.number))
}
