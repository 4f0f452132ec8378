//! A copy of a store that is being written to: every row of every file as it stood at one moment, as a stream, and the
//! files that whoever reads the stream makes of it.
//!
//! Invariant: the copy is the store between two batches of the writer, or there is none: a stream that does not say that it
//! is whole gives no backup. Files that may change are read through redb snapshots, taken at that moment. Of the quiet ones,
//! which may be many, only one is open at a time; if something in one changes meanwhile, it is read again as it is then, and
//! what the writer took out of the totals for it is taken out of the copy's as well (`hold`).

mod lease;
mod receive;
#[cfg(test)]
pub(in crate::store) mod tests;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Bound;
use std::sync::Arc;

pub use lease::BackupLease;
pub use receive::{ReceivedBackup, receive};

use crate::kv::codec;
use crate::kv::error::{Error, Result};
use crate::kv::segment::{Segment, catch_panic, io};
use crate::kv::snapshot::{Direction, ScanStep, Snapshot};
use crate::kv::tables::{self, Key, PARTITION_TABLES, STATE_TABLES, Table};
use crate::model::Webhook;
use crate::model::figures::Sums;
use crate::store::partitions::set::{Partition, PartitionRow, PartitionSet};
use crate::store::verify::ReadOnlyDisk;
use crate::store::writer::Writer;
use lease::RemovedSums;

/// What a frame of the stream begins with. A file's frame has its number, how many there are, and its name; a row's its
/// table, key and value; the last says that it was all, with the number of the last commit that may be in it, or what went
/// wrong.
const FILE: u8 = b'F';
const ROW: u8 = b'R';
const WHOLE: u8 = b'W';
const FAILED: u8 = b'X';
/// Where errors of the stream are said to be.
pub const STREAM: &str = "the backup";
/// Where errors are said to be that whoever sends the stream tells.
pub const SENDER: &str = "the daemon";
/// Rows between two looks at whether going on makes sense.
const ROWS_BETWEEN_LOOKS: u32 = 256;

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupProgress {
    /// From 1.
    pub file_number: usize,
    pub files: usize,
    /// Copied so far, over all files.
    pub bytes: u64,
}

/// Takes how far a copy is, every few megabytes.
pub type OnBackupProgress<'a> = &'a mut dyn FnMut(BackupProgress);

/// The store at one moment.
#[derive(Debug)]
pub struct BackupSnapshot {
    partition_set: Arc<PartitionSet>,
    hold: Arc<BackupLease>,
    state: Snapshot,
    /// Partitions that may change.
    open: Vec<Snapshot>,
    /// The others: nothing in them is due, and the totals have their sums.
    quiet: Vec<Arc<Partition>>,
}

impl Writer {
    /// Takes hold of the store as it is now. Until the moment is dropped no partition is counted or dropped.
    ///
    /// # Errors
    /// Another backup is being taken, or a file does not open.
    pub fn backup_snapshot(&mut self) -> Result<BackupSnapshot> {
        if self.backup.upgrade().is_some() {
            let words = "another one is being taken";
            return Err(io(STREAM, std::io::Error::new(std::io::ErrorKind::ResourceBusy, words)));
        }
        let (open, quiet): (Vec<_>, Vec<_>) =
            self.partition_set.partitions().into_iter().partition(|p| !p.row().archived);
        let mut snapshots = Vec::with_capacity(open.len());
        for partition in &open {
            snapshots.push(self.open_for_writing(partition)?.snapshot()?);
        }
        let hold = Arc::new(BackupLease::default());
        self.backup = Arc::downgrade(&hold);
        Ok(BackupSnapshot {
            partition_set: self.partition_set.clone(),
            hold,
            state: self.partition_set.state()?.snapshot()?,
            open: snapshots,
            quiet,
        })
    }

    /// Whether a backup is being taken.
    pub(in crate::store) fn is_held(&self) -> bool {
        self.backup.strong_count() > 0
    }

    /// Tells a backup that is being taken to let go of all files: they are about to be closed.
    pub fn end_backup(&mut self) {
        if let Some(hold) = std::mem::take(&mut self.backup).upgrade() {
            hold.cancel();
        }
    }

    /// Tells a backup that is being taken what a quiet partition, which is about to change, had in the totals.
    pub(in crate::store) fn tell_backup(&self, first: u128, sums: Vec<RemovedSums>) {
        if let Some(hold) = self.backup.upgrade() {
            hold.record_unarchived(first, sums);
        }
    }
}

impl BackupSnapshot {
    /// What the writer ends the backup by, for whoever waits for the other side of the stream.
    pub fn hold(&self) -> Arc<BackupLease> {
        self.hold.clone()
    }

    /// Writes all of it to `out`. What goes wrong is said in the stream as well, if that can still be written to.
    pub fn send(self, out: &mut dyn Write) -> Result<()> {
        let following = self.partition_set.replication.clone();
        let sent = self.send_files(out);
        let ended = match &sent {
            Ok(()) => {
                let whole = [&[WHOLE], following.begun().to_le_bytes().as_slice()].concat();
                out.write_all(&whole).and_then(|()| out.flush())
            }
            Err(error) => refuse(out, &error.to_string()),
        };
        sent.and(ended.map_err(cut))
    }

    fn send_files(self, out: &mut dyn Write) -> Result<()> {
        let BackupSnapshot { partition_set, hold, state, open, quiet } = self;
        let files = 1 + open.len() + quiet.len();
        let mut sender = BackupSender { out, hold: &hold, file_number: 0, files };
        // The newest first: what is pinned longest is what changes least.
        for snapshot in open.into_iter().rev() {
            sender.begin(snapshot.file())?;
            sender.partition(&snapshot, None)?;
        }
        let mut taken = BTreeMap::new();
        for partition in &quiet {
            taken.extend(sender.quiet(&partition_set, partition)?.map(|sums| (partition.first, sums)));
        }
        sender.begin(state.file())?;
        sender.state(&state, &taken)
    }
}

/// Ends a stream that is not whole, and says why.
///
/// # Errors
/// It cannot be written to any more.
pub fn refuse(out: &mut dyn Write, words: &str) -> std::io::Result<()> {
    let words = &words.as_bytes()[..words.len().min(usize::from(u16::MAX))];
    out.write_all(&[&[FAILED], (words.len() as u16).to_le_bytes().as_slice(), words].concat())?;
    out.flush()
}

struct BackupSender<'a> {
    out: &'a mut dyn Write,
    hold: &'a BackupLease,
    file_number: usize,
    files: usize,
}

impl BackupSender<'_> {
    fn begin(&mut self, name: &str) -> Result<()> {
        self.file_number += 1;
        self.head(name)
    }

    /// The same name once more: the file begins again.
    fn head(&mut self, name: &str) -> Result<()> {
        let numbers = [self.file_number as u32, self.files as u32].map(u32::to_le_bytes).concat();
        let head = [&[FILE], numbers.as_slice(), &(name.len() as u16).to_le_bytes(), name.as_bytes()].concat();
        self.out.write_all(&head).map_err(cut)
    }

    fn row(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        let mut head = [ROW, table as u8, 0, 0, 0, 0, 0, 0];
        head[2..4].copy_from_slice(&(key.len() as u16).to_le_bytes());
        head[4..].copy_from_slice(&(value.len() as u32).to_le_bytes());
        [&head, key, value].into_iter().try_for_each(|bytes| self.out.write_all(bytes)).map_err(cut)
    }

    /// All rows of a partition. With `quiet`, its first id: an error as soon as something in it changes.
    fn partition(&mut self, snapshot: &Snapshot, quiet: Option<u128>) -> Result<()> {
        PARTITION_TABLES.into_iter().try_for_each(|table| self.table(snapshot, table, quiet, |_, _| Ok(None)))
    }

    /// The rows of a table, with the values that `change` gives in place of their own.
    fn table(
        &mut self,
        snapshot: &Snapshot,
        table: Table,
        quiet: Option<u128>,
        change: impl Fn(&[u8], &[u8]) -> Result<Option<Vec<u8>>>,
    ) -> Result<()> {
        let mut rows = 0;
        snapshot.scan(table, (Bound::Unbounded, Bound::Unbounded), Direction::Up, |key, value| {
            if rows % ROWS_BETWEEN_LOOKS == 0 {
                self.hold.check_cancelled()?;
                if quiet.is_some_and(|first| self.hold.has_changed(first)) {
                    return Err(changed());
                }
            }
            rows += 1;
            self.row(table, key, change(key, value)?.as_deref().unwrap_or(value))?;
            Ok(ScanStep::Go)
        })
    }

    /// A quiet partition, through a handle of its own: nobody waits for it to be closed. If something in it has changed
    /// meanwhile, what was read may be anything: it is read again from the writer's handle. Gives what the totals lost then.
    fn quiet(&mut self, partition_set: &PartitionSet, partition: &Partition) -> Result<Option<Vec<RemovedSums>>> {
        let name = partition.file_name();
        self.begin(&name)?;
        let disk = ReadOnlyDisk(partition_set.disk.clone());
        let read = catch_panic(&name, || {
            let file = Arc::new(Segment::open_for_reading(&disk, &name)?);
            self.partition(&file.snapshot()?, Some(partition.first))
        });
        let Some(taken) = self.hold.removed_sums(partition.first) else { return read.flatten().map(|()| None) };
        while !partition_set.is_open_for_writing(partition) {
            self.hold.check_cancelled()?;
            // The writer is about to open it: a short wait.
            std::thread::yield_now();
        }
        self.head(&name)?;
        self.partition(&partition_set.snapshot(partition)?, None)?;
        Ok(Some(taken))
    }

    /// `state.redb`, which says of the partitions that were read later than the moment that their sums are not in its
    /// totals.
    fn state(&mut self, state: &Snapshot, taken: &BTreeMap<u128, Vec<RemovedSums>>) -> Result<()> {
        let mut out_of: BTreeMap<Key, Vec<Sums>> = BTreeMap::new();
        for (owner, sums) in taken.values().flatten() {
            out_of.entry(tables::one::<Webhook>(*owner)).or_default().push(sums.clone());
        }
        for table in STATE_TABLES {
            self.table(state, table, None, |key, value| {
                let of_partition = || key.try_into().is_ok_and(|key| taken.contains_key(&u128::from_be_bytes(key)));
                match (table, out_of.get(key)) {
                    (Table::Partitions, _) if of_partition() => {
                        let row: PartitionRow = codec::decode(value).ok_or_else(|| state.damaged(table, key))?;
                        Ok(Some(codec::encode(&PartitionRow { archived: false, last: None, ..row })))
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

fn cut(error: std::io::Error) -> Error {
    io(STREAM, error)
}

fn changed() -> Error {
    io(STREAM, std::io::Error::new(std::io::ErrorKind::Interrupted, "a file changed while it was read"))
}
