//! Streams a consistent backup of a store while the writer runs.
//!
//! Invariant: the backup equals the store between two batches of the writer. A stream without the final `WHOLE` frame gives
//! no backup.
//!
//! Open partitions are read through snapshots of one point in time. Archived partitions may be many, so only one is open at a
//! time. If an archived partition changes meanwhile, it is read again. The sums that the writer removed from the totals for
//! it are then removed from the backup's totals as well (`lease`).

mod lease;
mod receive;
#[cfg(test)]
pub(in crate::store) mod tests;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Bound;
use std::sync::Arc;

pub(in crate::store) use lease::BackupLease;
pub use receive::{ReceivedBackup, receive};

use crate::kv::blob_range::{BlobRange, is_of_blobs};
use crate::kv::codec::{self, PayloadRow};
use crate::kv::error::{Error, Result, io};
use crate::kv::memtable::Changes;
use crate::kv::payload;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::segment::{SCHEMA_KEY, Segment, catch_panic};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Key, PARTITION_TABLES, STATE_TABLES, Table};
use crate::kv::wal::NEEDED_KEY;
use crate::model::Webhook;
use crate::model::figures::Sums;
use crate::store::partitions::set::{Partition, PartitionRow, PartitionSet};
use crate::store::replication::COMMIT_KEY;
use crate::store::replication::Replication;
use crate::store::verify::ReadOnlyDisk;
use crate::store::writer::Writer;
use lease::RemovedSums;

/// First byte of a frame. `FILE` carries the file's number, the number of files and its name. `ROW` carries table, key and
/// value. `WHOLE` ends a complete stream with the number of the last commit that may be in it. `FAILED` carries the error.
const FILE: u8 = b'F';
const ROW: u8 = b'R';
const WHOLE: u8 = b'W';
const FAILED: u8 = b'X';
/// File name that errors of the stream report.
pub(in crate::store) const STREAM: &str = "the backup";
/// File name that errors reported by the sender carry.
const SENDER: &str = "the daemon";
/// Number of rows between two checks of the lease.
const ROWS_BETWEEN_CHECKS: u32 = 256;

/// Whether the file that an error of `receive` names stands for the daemon or the connection, and not for the disk.
pub fn is_stream(file: &str) -> bool {
    [STREAM, SENDER].contains(&file)
}

/// Progress of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupProgress {
    /// Number of the current file, from 1.
    pub file_number: usize,
    pub files: usize,
    /// Bytes copied so far, over all files.
    pub bytes: u64,
}

/// Callback that receives the progress every few megabytes.
pub type OnBackupProgress<'a> = &'a mut dyn FnMut(BackupProgress);

/// A consistent snapshot of the store.
#[derive(Debug)]
pub struct BackupSnapshot {
    partition_set: Arc<PartitionSet>,
    replication: Arc<Replication>,
    lease: Arc<BackupLease>,
    state: Snapshot,
    /// Snapshots of the open partitions.
    open: Vec<Snapshot>,
    /// The archived partitions: nothing in them is due, and the totals contain their sums.
    archived: Vec<Arc<Partition>>,
    is_for_standby: bool,
}

impl Writer {
    /// Takes a snapshot of the store. Until it is dropped, no partition is archived or dropped.
    ///
    /// # Errors
    /// Another backup is running, or a file does not open.
    pub fn backup_snapshot(&mut self) -> Result<BackupSnapshot> {
        if self.backup.upgrade().is_some() {
            let words = "another one is being taken";
            return Err(io(STREAM, std::io::Error::new(std::io::ErrorKind::ResourceBusy, words)));
        }
        let (open, archived): (Vec<_>, Vec<_>) =
            self.partition_set.partitions().into_iter().partition(|p| !p.row().archived);
        let mut snapshots = Vec::with_capacity(open.len());
        for partition in &open {
            snapshots.push(self.open_for_writing(partition)?.snapshot()?);
        }
        let lease = Arc::new(BackupLease::default());
        self.backup = Arc::downgrade(&lease);
        Ok(BackupSnapshot {
            partition_set: self.partition_set.clone(),
            replication: self.replication(),
            lease,
            state: self.partition_set.state()?.snapshot()?,
            open: snapshots,
            archived,
            is_for_standby: false,
        })
    }

    /// Whether a backup is running.
    pub(in crate::store) fn is_backup_running(&self) -> bool {
        self.backup.strong_count() > 0
    }

    /// Stores payloads for a running backup before they are overwritten.
    pub(in crate::store) fn store_erased(&self, file: &Segment, places: &[BlobRange]) {
        if let Some(lease) = self.backup.upgrade() {
            lease.store_erased(file, places);
        }
    }

    /// Cancels a running backup before the files are closed.
    pub(in crate::store) fn end_backup(&mut self) {
        if let Some(lease) = std::mem::take(&mut self.backup).upgrade() {
            lease.cancel();
        }
    }

    /// Records for a running backup the sums that an archived partition, which is about to change, had in the totals.
    pub(in crate::store) fn record_unarchived(&self, first: u128, sums: Vec<RemovedSums>) {
        if let Some(lease) = self.backup.upgrade() {
            lease.record_unarchived(first, sums);
        }
    }
}

impl BackupSnapshot {
    /// The same snapshot for a standby: the stream also has the mark of the last commit in each file, by which the
    /// standby resumes.
    #[must_use]
    pub fn for_standby(self) -> BackupSnapshot {
        BackupSnapshot { is_for_standby: true, ..self }
    }

    /// A check whether the writer has cancelled the backup, so that it must release all files.
    pub fn cancelled(&self) -> impl Fn() -> bool + Send + use<> {
        let lease = self.lease.clone();
        move || lease.is_cancelled()
    }

    /// Writes the backup to `out`. An error is also written to the stream, if the stream still accepts writes.
    pub fn send(self, out: &mut dyn Write) -> Result<()> {
        let replication = self.replication.clone();
        let sent = self.send_files(out);
        let ended = match &sent {
            Ok(()) => {
                let whole = [&[WHOLE], replication.begun().to_le_bytes().as_slice()].concat();
                out.write_all(&whole).and_then(|()| out.flush())
            }
            Err(error) => refuse(out, &error.to_string()),
        };
        sent.and(ended.map_err(stream_error))
    }

    fn send_files(self, out: &mut dyn Write) -> Result<()> {
        let BackupSnapshot { partition_set, lease, state, open, archived, is_for_standby, .. } = self;
        let files = 1 + open.len() + archived.len();
        let mut sender = BackupSender { out, lease: &lease, file_number: 0, files, is_for_standby };
        // The newest snapshot is sent first. The snapshots that stay pinned longest then change least.
        for snapshot in open.into_iter().rev() {
            sender.begin(snapshot.file())?;
            sender.partition(&snapshot, None)?;
        }
        let mut removed = BTreeMap::new();
        for partition in &archived {
            removed.extend(sender.archived(&partition_set, partition)?.map(|sums| (partition.first, sums)));
        }
        sender.begin(state.file())?;
        sender.state(&state, &removed)
    }
}

/// Ends an incomplete stream with the reason.
///
/// # Errors
/// The stream accepts no more writes.
pub fn refuse(out: &mut dyn Write, words: &str) -> std::io::Result<()> {
    let words = &words.as_bytes()[..words.len().min(usize::from(u16::MAX))];
    out.write_all(&[&[FAILED], (words.len() as u16).to_le_bytes().as_slice(), words].concat())?;
    out.flush()
}

struct BackupSender<'a> {
    out: &'a mut dyn Write,
    lease: &'a BackupLease,
    file_number: usize,
    files: usize,
    is_for_standby: bool,
}

impl BackupSender<'_> {
    fn begin(&mut self, name: &str) -> Result<()> {
        self.file_number += 1;
        self.head(name)
    }

    /// Writes a `FILE` frame. A repeated name restarts the file.
    fn head(&mut self, name: &str) -> Result<()> {
        let numbers = [self.file_number as u32, self.files as u32].map(u32::to_le_bytes).concat();
        let head = [&[FILE], numbers.as_slice(), &(name.len() as u16).to_le_bytes(), name.as_bytes()].concat();
        self.out.write_all(&head).map_err(stream_error)
    }

    fn row(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        let mut head = [ROW, table as u8, 0, 0, 0, 0, 0, 0];
        head[2..4].copy_from_slice(&(key.len() as u16).to_le_bytes());
        head[4..].copy_from_slice(&(value.len() as u32).to_le_bytes());
        [&head, key, value].into_iter().try_for_each(|bytes| self.out.write_all(bytes)).map_err(stream_error)
    }

    /// Sends a payload of the blob file in parts, as rows hold smaller ones. `key` is that of its row in `snapshot`.
    fn payload(&mut self, snapshot: &Snapshot, key: &[u8], place: BlobRange) -> Result<ScanStep> {
        let payload = match snapshot.blob(key, place) {
            Ok(payload) => payload,
            Err(error) => self.lease.erased_payload(snapshot.file(), place).ok_or(error)?,
        };
        let mut rows = Changes::new();
        if let Some(event) = tables::first_id(key) {
            payload::put_parts(&mut rows, event, &payload);
        }
        for (key, row) in &rows {
            self.row(Table::Data, key, row.as_deref().unwrap_or_default())?;
        }
        Ok(ScanStep::Go)
    }

    /// Sends all rows of a partition. `archived` is the first id of an archived one and makes a change in it an error.
    fn partition(&mut self, snapshot: &Snapshot, archived: Option<u128>) -> Result<()> {
        PARTITION_TABLES.into_iter().try_for_each(|table| self.table(snapshot, table, archived, |_, _| Ok(None)))
    }

    /// Sends the rows of a table, each with the value that `change` returns in place of its own, if any.
    fn table(
        &mut self,
        snapshot: &Snapshot,
        table: Table,
        archived: Option<u128>,
        change: impl Fn(&[u8], &[u8]) -> Result<Option<Vec<u8>>>,
    ) -> Result<()> {
        let mut rows = 0;
        snapshot.scan(table, (Bound::Unbounded, Bound::Unbounded), Direction::Up, |key, value| {
            if rows % ROWS_BETWEEN_CHECKS == 0 {
                self.lease.check_cancelled()?;
                if archived.is_some_and(|first| self.lease.has_changed(first)) {
                    return Err(changed());
                }
            }
            rows += 1;
            // A log of `backup --follow` has numbers of its own, so the marks of the store say nothing about it.
            if table == Table::Meta && (is_of_this_copy(key) || key == COMMIT_KEY && !self.is_for_standby) {
                return Ok(ScanStep::Go);
            }
            if table == Table::Data
                && let Some(PayloadRow::Place(place)) = codec::decode_payload(value)
            {
                return self.payload(snapshot, key, place);
            }
            self.row(table, key, change(key, value)?.as_deref().unwrap_or(value))?;
            Ok(ScanStep::Go)
        })
    }

    /// Sends an archived partition through a handle of its own, so that its closing blocks no thread. If the partition changed
    /// meanwhile, the rows read are invalid, and it is sent again from the writer's handle. Returns the removed sums then.
    fn archived(&mut self, partition_set: &PartitionSet, partition: &Partition) -> Result<Option<Vec<RemovedSums>>> {
        let name = partition.file_name();
        self.begin(&name)?;
        let disk = ReadOnlyDisk(partition_set.disk.clone());
        let read = catch_panic(&name, || {
            let file = Arc::new(Segment::open_for_reading(&disk, &name)?);
            self.partition(&file.snapshot()?, Some(partition.first))
        });
        let Some(removed) = self.lease.removed_sums(partition.first) else { return read.flatten().map(|()| None) };
        while !partition_set.is_open_for_writing(partition) {
            self.lease.check_cancelled()?;
            // The writer is about to open the file, so the wait is short.
            std::thread::yield_now();
        }
        self.head(&name)?;
        self.partition(&partition_set.snapshot(partition)?, None)?;
        Ok(Some(removed))
    }

    /// Sends `state.redb`. Partitions that were read after the snapshot are marked as not archived, and their sums are
    /// subtracted from the totals.
    fn state(&mut self, state: &Snapshot, removed: &BTreeMap<u128, Vec<RemovedSums>>) -> Result<()> {
        let mut out_of: BTreeMap<Key, Vec<Sums>> = BTreeMap::new();
        for (owner, sums) in removed.values().flatten() {
            out_of.entry(tables::one::<Webhook>(*owner)).or_default().push(sums.clone());
        }
        for table in STATE_TABLES {
            self.table(state, table, None, |key, value| {
                let of_partition = || key.try_into().is_ok_and(|key| removed.contains_key(&u128::from_be_bytes(key)));
                match (table, out_of.get(key)) {
                    (Table::Partitions, _) if of_partition() => {
                        let row: PartitionRow = codec::decode(value).ok_or_else(|| state.damaged(table, key))?;
                        Ok(Some(codec::encode(&PartitionRow { archived: false, last: None, last_hour: None, ..row })))
                    }
                    (Table::Totals, Some(out)) => {
                        let mut totals: Sums = codec::decode(value).ok_or_else(|| state.damaged(table, key))?;
                        out.iter().for_each(|sums| totals.subtract(sums));
                        Ok(Some(codec::encode(&totals)))
                    }
                    _ => Ok(None),
                }
            })?;
        }
        Ok(())
    }
}

/// Whether a row of `meta` is about files that the backup does not have: the write-ahead log and the blob file. The schema
/// of a backup is that of a new file.
fn is_of_this_copy(key: &[u8]) -> bool {
    key == NEEDED_KEY || key == SCHEMA_KEY || is_of_blobs(key)
}

fn stream_error(error: std::io::Error) -> Error {
    io(STREAM, error)
}

fn changed() -> Error {
    io(STREAM, std::io::Error::new(std::io::ErrorKind::Interrupted, "a file changed while it was read"))
}
