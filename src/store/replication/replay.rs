//! Replays a replica's log into a copy of a store.
//!
//! Invariant: replay is idempotent, because a record consists of final keys and values. A copy is consistent at every commit
//! from the last one on that began before the copy was whole.

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
use crate::store::replication::CommitRecord;

/// Bytes of changes gathered before they are written.
const GATHERED_BYTES: usize = 32 << 20;
/// Approximate overhead of a gathered row beside its key and value, in bytes.
const ROW_BYTES: usize = 64;

/// A replay in progress.
#[derive(Debug)]
pub struct LogReplay<'a> {
    disk: &'a dyn Disk,
    gathered: BTreeMap<String, Layer>,
    bytes: usize,
}

impl<'a> LogReplay<'a> {
    /// Starts a replay into the copy on `disk`, whose files no other process has open.
    pub fn of(disk: &'a dyn Disk) -> LogReplay<'a> {
        LogReplay { disk, gathered: BTreeMap::new(), bytes: 0 }
    }

    /// Adds a commit.
    ///
    /// # Errors
    /// The record names no file of a store, or the disk fails.
    pub fn take(&mut self, record: CommitRecord) -> Result<()> {
        let CommitRecord { file, changes, .. } = record;
        let is_state = file == STATE_FILE;
        if !is_state && !is_partition(&file) {
            let error = std::io::Error::new(std::io::ErrorKind::InvalidData, "no file of a store");
            return Err(io(&file, error));
        }
        if is_state {
            self.begin_and_drop(&changes)?;
        }
        let layer = self.gathered.entry(file).or_default();
        for (table, changes) in changes {
            let bytes =
                |(key, value): (&Key, &Option<Vec<u8>>)| ROW_BYTES + key.len() + value.as_ref().map_or(0, Vec::len);
            self.bytes += changes.iter().map(bytes).sum::<usize>();
            layer[table as usize].extend(changes);
        }
        if self.bytes >= GATHERED_BYTES { self.write() } else { Ok(()) }
    }

    /// Writes the remaining changes. After `Ok` the copy contains all records, durable and closed.
    pub fn finish(mut self) -> Result<()> {
        self.write()
    }

    /// Creates the files of listed partitions and removes those of delisted ones.
    fn begin_and_drop(&mut self, changes: &wal::WalRecord) -> Result<()> {
        let of_list = changes.iter().filter(|(table, _)| *table == Table::Partitions);
        for (key, row) in of_list.flat_map(|(_, changes)| changes) {
            let Ok(first) = key.as_slice().try_into().map(u128::from_be_bytes) else { continue };
            let name = Partition::new(first, PartitionRow::default()).file_name();
            match row {
                Some(_) => self.begin(&name)?,
                None => {
                    self.gathered.remove(&name);
                    if self.exists(&name)? {
                        self.disk.remove(&name).map_err(|error| io(&name, error))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&self, name: &str) -> Result<()> {
        if self.exists(name)? {
            return Ok(());
        }
        Segment::create(self.disk, name, &PARTITION_TABLES, &[])
    }

    fn exists(&self, name: &str) -> Result<bool> {
        self.disk.exists(name).map_err(|error| io(name, error))
    }

    fn write(&mut self) -> Result<()> {
        self.bytes = 0;
        for (name, layer) in std::mem::take(&mut self.gathered) {
            // The partition may have been dropped before the copy began. The record that drops it follows.
            if name != STATE_FILE {
                self.begin(&name)?;
            }
            let file = Arc::new(Segment::open(self.disk, &name, OpenMode::Write, ACTIVE_CACHE_BYTES)?);
            let mut write_batch = WriteBatch::on(file.snapshot()?);
            for (table, changes) in crate::kv::tables::ALL_TABLES.into_iter().zip(layer) {
                write_batch.extend(table, changes);
            }
            file.commit(write_batch)?;
            Arc::into_inner(file).map_or(Ok(()), Segment::close)?;
        }
        Ok(())
    }
}

fn is_partition(file: &str) -> bool {
    let name = file.strip_prefix(PARTITIONS).and_then(|name| name.strip_prefix('/'));
    name.is_some_and(|name| first_of(name).is_some())
}

/// Whether the bytes decode to a record of a store's file.
pub fn is_sound(record: &[u8]) -> bool {
    CommitRecord::decode(record).is_some_and(|record| record.file == STATE_FILE || is_partition(&record.file))
}
