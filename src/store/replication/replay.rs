//! Replays a replica's log into a copy of a store.
//!
//! Invariant: replay is idempotent, because a record consists of final keys and values, and a file skips the records up to
//! its mark. A copy is consistent at every commit from the last one on that began before the copy was whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kv::disk::Disk;
use crate::kv::error::{Result, io};
use crate::kv::memtable::Layer;
use crate::kv::segment::{ACTIVE_CACHE_BYTES, OpenMode, Segment};
use crate::kv::tables::{Key, PARTITION_TABLES, Table};
use crate::kv::wal;
use crate::kv::write_batch::WriteBatch;
use crate::store::partitions::set::{PARTITIONS, Partition, PartitionRow, STATE_FILE, first_of};
use crate::store::replication::{CommitMark, CommitRecord};

/// Bytes of changes gathered before they are written.
const GATHERED_BYTES: usize = 32 << 20;
/// Approximate overhead of a gathered row beside its key and value, in bytes.
const ROW_BYTES: usize = 64;
/// Maximum files that are kept open between two writes.
const OPEN_FILES_MAX: usize = 8;

/// A replay in progress.
#[derive(Debug)]
pub struct LogReplay<'a> {
    disk: &'a dyn Disk,
    files: ReplayedFiles,
}

impl<'a> LogReplay<'a> {
    /// Starts a replay into the copy on `disk`, whose files no other process has open.
    pub fn of(disk: &'a dyn Disk) -> LogReplay<'a> {
        LogReplay { disk, files: ReplayedFiles::default() }
    }

    /// Adds a commit.
    ///
    /// # Errors
    /// The record names no file of a store, or the disk fails.
    pub fn take(&mut self, record: CommitRecord) -> Result<()> {
        self.files.take(self.disk, record)
    }

    /// Writes the remaining changes. After `Ok` the copy contains all records, durable and closed.
    pub fn finish(self) -> Result<()> {
        self.files.finish(self.disk)
    }
}

/// The files of a copy, and the changes that are not written to them yet.
#[derive(Debug, Default)]
pub(super) struct ReplayedFiles {
    gathered: BTreeMap<String, Layer>,
    bytes: usize,
    /// Open files. They stay open between two writes.
    open: BTreeMap<String, Arc<Segment>>,
    /// Number of the last commit that each file contains, for the files whose mark was read.
    marks: BTreeMap<String, u64>,
}

impl ReplayedFiles {
    /// Adds a commit, unless its file contains it.
    ///
    /// # Errors
    /// The record names no file of a store, or the disk fails.
    pub fn take(&mut self, disk: &dyn Disk, record: CommitRecord) -> Result<()> {
        let CommitRecord { point, file, changes } = record;
        let is_state = file == STATE_FILE;
        if !is_state && !is_partition(&file) {
            let error = std::io::Error::new(std::io::ErrorKind::InvalidData, "no file of a store");
            return Err(io(&file, error));
        }
        if point.number <= self.mark(disk, &file)? {
            return Ok(());
        }
        if is_state {
            self.begin_and_drop(disk, &changes)?;
        }
        let layer = self.gathered.entry(file).or_default();
        for (table, changes) in changes {
            let bytes =
                |(key, value): (&Key, &Option<Vec<u8>>)| ROW_BYTES + key.len() + value.as_ref().map_or(0, Vec::len);
            self.bytes += changes.iter().map(bytes).sum::<usize>();
            layer[table as usize].extend(changes);
        }
        if self.bytes >= GATHERED_BYTES { self.write(disk) } else { Ok(()) }
    }

    /// Writes the remaining changes and closes the files.
    pub fn finish(mut self, disk: &dyn Disk) -> Result<()> {
        self.write(disk)?;
        self.open.into_values().try_for_each(close)
    }

    /// Number of the last commit that a file contained before the replay. 0 if there is no file, or it has no mark.
    fn mark(&mut self, disk: &dyn Disk, name: &str) -> Result<u64> {
        if let Some(mark) = self.marks.get(name) {
            return Ok(*mark);
        }
        let mark = match exists(disk, name)? {
            true => CommitMark::stored(&self.file(disk, name)?.snapshot()?)?.map_or(0, |mark| mark.number),
            false => 0,
        };
        self.marks.insert(name.to_owned(), mark);
        Ok(mark)
    }

    /// A file, open for writing. If too many are open, another is closed.
    fn file(&mut self, disk: &dyn Disk, name: &str) -> Result<Arc<Segment>> {
        if let Some(file) = self.open.get(name) {
            return Ok(file.clone());
        }
        if self.open.len() >= OPEN_FILES_MAX
            && let Some((_, oldest)) = self.open.pop_first()
        {
            close(oldest)?;
        }
        let file = Arc::new(Segment::open(disk, name, OpenMode::Write, ACTIVE_CACHE_BYTES)?);
        self.open.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    /// Creates the files of listed partitions and removes those of delisted ones.
    fn begin_and_drop(&mut self, disk: &dyn Disk, changes: &wal::WalRecord) -> Result<()> {
        let of_list = changes.iter().filter(|(table, _)| *table == Table::Partitions);
        for (key, row) in of_list.flat_map(|(_, changes)| changes) {
            let Ok(first) = key.as_slice().try_into().map(u128::from_be_bytes) else { continue };
            let name = Partition::new(first, PartitionRow::default()).file_name();
            match row {
                Some(_) => begin(disk, &name)?,
                None => {
                    self.gathered.remove(&name);
                    self.marks.remove(&name);
                    self.open.remove(&name).map_or(Ok(()), close)?;
                    if exists(disk, &name)? {
                        disk.remove(&name).map_err(|error| io(&name, error))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes the gathered changes. Afterwards they are durable.
    pub fn write(&mut self, disk: &dyn Disk) -> Result<()> {
        self.bytes = 0;
        for (name, layer) in std::mem::take(&mut self.gathered) {
            // The partition may have been dropped before the copy began. The record that drops it follows.
            if name != STATE_FILE {
                begin(disk, &name)?;
            }
            let file = self.file(disk, &name)?;
            let mut write_batch = WriteBatch::on(file.snapshot()?);
            for (table, changes) in crate::kv::tables::ALL_TABLES.into_iter().zip(layer) {
                write_batch.extend(table, changes);
            }
            file.commit(write_batch)?;
        }
        Ok(())
    }
}

fn begin(disk: &dyn Disk, name: &str) -> Result<()> {
    if exists(disk, name)? {
        return Ok(());
    }
    Segment::create(disk, name, &PARTITION_TABLES, &[])
}

fn exists(disk: &dyn Disk, name: &str) -> Result<bool> {
    disk.exists(name).map_err(|error| io(name, error))
}

fn close(file: Arc<Segment>) -> Result<()> {
    Arc::into_inner(file).map_or(Ok(()), Segment::close)
}

fn is_partition(file: &str) -> bool {
    let name = file.strip_prefix(PARTITIONS).and_then(|name| name.strip_prefix('/'));
    name.is_some_and(|name| first_of(name).is_some())
}

/// Whether the bytes decode to a record of a store's file.
pub fn is_sound(record: &[u8]) -> bool {
    CommitRecord::decode(record).is_some_and(|record| record.file == STATE_FILE || is_partition(&record.file))
}
