//! A standby's replica: applies the owner's commits to files that stay open.
//!
//! A commit is durable once the replica's log has it. The files take the changes together, every few seconds. A start
//! applies the rest of the log.
//!
//! Invariant: the files and the log together contain every commit up to `last`. A file skips the records that it contains
//! already, so the log may reach back further than the files.

use std::ops::Bound;
use std::sync::Arc;

use crate::kv::codec;
use crate::kv::disk::Disk;
use crate::kv::error::{Result, io};
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::segment::{OTHER_CACHE_BYTES, OpenMode, Segment};
use crate::kv::tables::Table;
use crate::model::Time;
use crate::store::partitions::set::{Partition, PartitionRow, STATE_FILE};
use crate::store::replication::log::{LogWriter, ReplicationLog};
use crate::store::replication::replay::ReplayedFiles;
use crate::store::replication::{CommitMark, CommitPosition, CommitRecord};

/// Bytes of the log after which it begins anew, once the files have its commits.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// Suffix of a segment of the log that was being made.
const UNFINISHED: &str = ".new";

/// A whole copy of a store, which follows its owner.
pub struct Replica {
    disk: Arc<dyn Disk>,
    log_disk: Arc<dyn Disk>,
    /// `None` while it is made anew.
    log: Option<LogWriter>,
    files: ReplayedFiles,
    last: CommitMark,
    at: Time,
    random: Box<dyn FnMut() -> u64 + Send>,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Replica {
    /// Opens the copy on `disk`, and applies the log on `log_disk` to it. No other process has either open.
    ///
    /// # Errors
    /// The log is damaged, or a disk fails.
    pub fn open(
        disk: Arc<dyn Disk>,
        log_disk: Arc<dyn Disk>,
        random: Box<dyn FnMut() -> u64 + Send>,
    ) -> Result<Replica> {
        let mut files = ReplayedFiles::default();
        let (mut last, mut at) = (last_mark(&*disk)?, Time::ZERO);
        if let Some(log) = ReplicationLog::on(&*log_disk)? {
            let walked = log.walk(|record| {
                if let Some(record) = CommitRecord::decode(record) {
                    at = record.point.at;
                    last = last.max(CommitMark::of(&record));
                    files.take(&*disk, record)?;
                }
                Ok(ScanStep::Go)
            })?;
            // A failed commit has a number too, and leaves no mark in the copy.
            last.number = last.number.max(walked.from.number);
            if let Some(damage) = walked.damage {
                return Err(damage.error(&*log_disk));
            }
        }
        let mut replica = Replica { disk, log_disk, log: None, files, last, at, random };
        replica.write()?;
        Ok(replica)
    }

    /// The last commit that is durable here.
    pub fn last(&self) -> CommitMark {
        self.last
    }

    /// Adds the next commits. After `Ok` they are durable.
    ///
    /// # Errors
    /// A commit is missing, a record is damaged, or a disk fails. The replica is opened again then.
    pub fn append(&mut self, records: &[&[u8]]) -> Result<()> {
        let mut commits = Vec::with_capacity(records.len());
        for record in records {
            let commit = CommitRecord::decode(record);
            let next = self.last.number + 1 + commits.len() as u64;
            let commit = commit.filter(|commit| commit.point.number == next).ok_or_else(|| {
                let error = std::io::Error::new(std::io::ErrorKind::InvalidData, "a commit is missing or damaged");
                io("the owner's stream", error)
            })?;
            commits.push(commit);
        }
        if let Some(log) = &mut self.log {
            log.append(&*self.log_disk, records)?;
        }
        for commit in commits {
            (self.last, self.at) = (CommitMark::of(&commit), commit.point.at);
            self.files.take(&*self.disk, commit)?;
        }
        Ok(())
    }

    /// Writes the gathered commits to the files, and begins the log anew if it has become long.
    ///
    /// # Errors
    /// A disk fails. The replica is opened again then.
    pub fn write(&mut self) -> Result<()> {
        self.files.write(&*self.disk)?;
        if self.log.as_ref().is_none_or(|log| log.bytes() >= LOG_BYTES_MAX) {
            self.log = None;
            remove_log(&*self.log_disk)?;
            let from = CommitPosition { number: self.last.number, at: self.at };
            self.log = Some(LogWriter::create(&*self.log_disk, (self.random)(), from)?);
        }
        Ok(())
    }

    /// Writes the rest and closes all files. Afterwards the copy is a store that needs no log.
    ///
    /// # Errors
    /// A disk fails.
    pub fn close(self) -> Result<()> {
        self.files.finish(&*self.disk)?;
        drop(self.log);
        remove_log(&*self.log_disk)
    }
}

/// Removes a replica's log, the last segment first: the segments left after a cut are a log too. After `Ok` no power cut brings
/// the log back. A store that was an owner's since must not be taken for a replica, which needs no write-ahead log.
///
/// # Errors
/// The disk fails.
pub fn remove_log(disk: &dyn Disk) -> Result<()> {
    let mut names = disk.list("").map_err(|error| io("the log", error))?;
    names.retain(|name| {
        let name = name.strip_suffix(UNFINISHED).unwrap_or(name);
        name.strip_suffix(".log").is_some_and(|number| number.parse::<u32>().is_ok())
    });
    names.sort();
    names.iter().rev().try_for_each(|name| remove_segment(disk, name).map_err(|error| io(name, error)))
}

/// Removes a segment of the log. Renaming syncs the folder, and removing does not.
fn remove_segment(disk: &dyn Disk, name: &str) -> std::io::Result<()> {
    if name.ends_with(UNFINISHED) {
        return disk.remove(name);
    }
    let removed = format!("{name}{UNFINISHED}");
    disk.rename(name, &removed)?;
    disk.remove(&removed)
}

/// The greatest mark of the files that may change, of a store that no writer has open and whose write-ahead log is not needed.
///
/// # Errors
/// A file cannot be read.
pub fn last_mark(disk: &dyn Disk) -> Result<CommitMark> {
    let state = Arc::new(Segment::open(disk, STATE_FILE, OpenMode::Write, OTHER_CACHE_BYTES)?);
    let mut names = Vec::new();
    let snapshot = state.snapshot()?;
    snapshot.scan(Table::Partitions, (Bound::Unbounded, Bound::Unbounded), Direction::Up, |key, value| {
        let first = key.try_into().map(u128::from_be_bytes).ok();
        let row = codec::decode::<PartitionRow>(value);
        let (Some(first), Some(row)) = (first, row) else { return Err(snapshot.damaged(Table::Partitions, key)) };
        if !row.archived {
            names.push(Partition::new(first, row).file_name());
        }
        Ok(ScanStep::Go)
    })?;
    let mut mark = CommitMark::stored(&snapshot)?;
    drop(snapshot);
    Arc::into_inner(state).map_or(Ok(()), Segment::close)?;
    for name in names {
        // The files of a copy that was cut may lack one that the log drops.
        if !disk.exists(&name).map_err(|error| io(&name, error))? {
            continue;
        }
        let file = Arc::new(Segment::open(disk, &name, OpenMode::Write, OTHER_CACHE_BYTES)?);
        mark = mark.max(CommitMark::stored(&file.snapshot()?)?);
        Arc::into_inner(file).map_or(Ok(()), Segment::close)?;
    }
    Ok(mark.unwrap_or_default())
}
