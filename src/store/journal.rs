//! The journal: what the latest batches changed in the active partition, in one piece and with one sync each.
//!
//! A durable redb commit costs two syncs over scattered pages; a record here costs one, in order. So a batch is durable once
//! its record is, is read from memory (`recent.rs`) until redb has it too, and every so often one durable redb commit (a
//! checkpoint) makes redb's own what has come together.
//!
//! The file has two halves. The records between two checkpoints are an epoch; epochs take turns with the halves, so that one
//! fills while a checkpoint makes redb's own what the other holds.
//!
//! Invariant: the partition's file says, in the same commit that makes them durable, up to which epoch records are in it, and
//! a half is written over only when its epoch is. So at most two epochs are not in the file; opening applies their records
//! again, in order. A record is the keys and values themselves: applying one twice changes nothing.

use std::sync::Arc;

use redb::StorageBackend;

use super::disk::Disk;
use super::draft::{Changes, Draft};
use super::error::Result;
use super::file::{File, io};
use super::tables::{ALL_TABLES, Table};

pub const JOURNAL_FILE: &str = "journal";
const JOURNAL_NEW: &str = "journal.new";
/// Where a partition says up to which epoch journal records are in it.
pub const EPOCH_KEY: &[u8] = b"journal_epoch";
/// The records of an epoch, in bytes.
pub const EPOCH_BYTES_MAX: u64 = 16 << 20;
/// The file: a half for each of two epochs.
pub const JOURNAL_BYTES: u64 = 2 * EPOCH_BYTES_MAX;
/// A larger record's memory is given back.
const RECORD_BYTES_KEPT_MAX: usize = 2 << 20;
/// Length, checksum, epoch, partition and number of a record.
const HEAD_BYTES: usize = 4 + 4 + 8 + 16 + 8;

/// What one batch changed, table by table.
pub type Record = Vec<(Table, Changes)>;

/// What putting records into a partition came to.
#[derive(Debug, Clone, Copy)]
pub struct Replayed {
    /// The epoch up to which records are in the file.
    pub now: u64,
    /// There were some.
    pub is_replayed: bool,
}

/// The records that a file does not say it holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// In order.
    pub records: Vec<Record>,
    /// The epoch of the last one.
    pub epoch: u64,
}

pub struct Journal {
    backend: Box<dyn StorageBackend>,
    partition: u128,
    epoch: u64,
    /// Records since `restart`: shows that the records of one epoch are followed by those of the next.
    number: u64,
    /// Bytes of this epoch's records.
    end: u64,
    /// The last record as written: its memory is the next one's.
    record: Vec<u8>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("epoch", &self.epoch).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal, or makes it.
    pub fn open(disk: &dyn Disk) -> Result<Journal> {
        if !disk.exists(JOURNAL_FILE).map_err(failed)? {
            // By renaming, which syncs the folder: a file that only its own sync has made safe may be nowhere after a cut.
            let made = disk.open(JOURNAL_NEW, true).map_err(failed)?;
            made.set_len(JOURNAL_BYTES).map_err(failed)?;
            made.close().map_err(failed)?;
            disk.rename(JOURNAL_NEW, JOURNAL_FILE).map_err(failed)?;
        }
        let backend = disk.open(JOURNAL_FILE, false).map_err(failed)?;
        if backend.len().map_err(failed)? < JOURNAL_BYTES {
            backend.set_len(JOURNAL_BYTES).map_err(failed)?;
        }
        Ok(Journal { backend, partition: 0, epoch: 0, number: 0, end: 0, record: Vec::new() })
    }

    /// Begins anew, for the records of `partition` that come after `epoch`.
    pub fn restart(&mut self, partition: u128, epoch: u64) {
        (self.partition, self.epoch, self.number, self.end) = (partition, epoch + 1, 0, 0);
    }

    /// Begins the next epoch. The one before this one must be in the partition's file: its half is written over.
    pub fn turn(&mut self) {
        (self.epoch, self.end) = (self.epoch + 1, 0);
    }

    /// The epoch that the records have.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Bytes of this epoch's records.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// Writes a record and syncs it. False: it does not fit into this epoch, and nothing was written.
    pub fn append(&mut self, changes: &[(Table, &Changes)]) -> Result<bool> {
        encode(self.partition, self.epoch, self.number, changes, &mut self.record);
        let bytes = self.record.len() as u64;
        if self.end + bytes > EPOCH_BYTES_MAX {
            return Ok(false);
        }
        self.backend.write(half(self.epoch) + self.end, &self.record).map_err(failed)?;
        self.backend.sync_data().map_err(failed)?;
        self.end += bytes;
        self.number += 1;
        if self.record.capacity() > RECORD_BYTES_KEPT_MAX {
            self.record = Vec::new();
        }
        Ok(true)
    }

    /// The records of `partition` that came after `epoch`. A torn one ends them: it was never acknowledged.
    ///
    /// # Errors
    /// Records are missing between those of one epoch and those of the next.
    pub fn after(&self, partition: u128, epoch: u64) -> Result<Tail> {
        let mut tail = Tail { records: Vec::new(), epoch };
        let mut next = None;
        for epoch in [epoch + 1, epoch + 2] {
            let mut at = 0;
            while let Some(found) = self.read(at, partition, epoch)? {
                // The first of all may have any number, unless there should be others before it.
                let is_next = next.map_or(epoch == tail.epoch + 1, |next| found.number == next);
                if !is_next {
                    let key = format!("record {}, before record {}", next.unwrap_or_default(), found.number);
                    return Err(super::Error::Damaged { file: JOURNAL_FILE.to_owned(), table: "records", key });
                }
                tail.records.push(found.record);
                at += found.bytes;
                next = Some(found.number + 1);
            }
            if at > 0 {
                tail.epoch = epoch;
            }
        }
        Ok(tail)
    }

    /// Puts the records that came after what `file` says it holds into it, in one durable commit.
    pub fn replay(&self, partition: u128, file: &Arc<File>) -> Result<Replayed> {
        let mut draft = Draft::over(file.snapshot()?);
        let epoch = draft.get::<u64>(Table::Meta, EPOCH_KEY)?.unwrap_or(0);
        let tail = self.after(partition, epoch)?;
        if tail.records.is_empty() {
            return Ok(Replayed { now: epoch, is_replayed: false });
        }
        tail.records.into_iter().for_each(|record| draft.absorb(record));
        draft.put(Table::Meta, EPOCH_KEY.to_vec(), &tail.epoch);
        file.commit(draft)?;
        Ok(Replayed { now: tail.epoch, is_replayed: true })
    }

    /// The record at `at` bytes in an epoch's half; none: no whole one of that epoch begins there.
    fn read(&self, at: u64, partition: u128, epoch: u64) -> Result<Option<Found>> {
        let left = EPOCH_BYTES_MAX - at;
        if (HEAD_BYTES as u64) > left {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        self.backend.read(half(epoch) + at, &mut head).map_err(failed)?;
        let body_bytes = u64::from(u32::from_le_bytes([head[0], head[1], head[2], head[3]]));
        let bytes = HEAD_BYTES as u64 + body_bytes;
        if head[8..16] != epoch.to_le_bytes() || head[16..32] != partition.to_be_bytes() || bytes > left {
            return Ok(None);
        }
        let mut whole = vec![0; bytes as usize];
        self.backend.read(half(epoch) + at, &mut whole).map_err(failed)?;
        if crc32fast::hash(&whole[8..]).to_le_bytes() != head[4..8] {
            return Ok(None);
        }
        let number = u64::from_le_bytes(std::array::from_fn(|n| head[32 + n]));
        Ok(decode(&whole[HEAD_BYTES..]).map(|record| Found { record, number, bytes }))
    }
}

struct Found {
    record: Record,
    number: u64,
    bytes: u64,
}

/// Where the half of an epoch begins.
fn half(epoch: u64) -> u64 {
    epoch % 2 * EPOCH_BYTES_MAX
}

/// Length, checksum of all that follows it, epoch, partition, number; then for each table its number, how many keys, and for each
/// key both lengths and both bytes. A value's length is one more than its bytes; 0 stands for removed.
fn encode(partition: u128, epoch: u64, number: u64, changes: &[(Table, &Changes)], record: &mut Vec<u8>) {
    let values = changes.iter().flat_map(|(_, of_table)| of_table.iter());
    let bytes: usize = values.map(|(key, value)| 6 + key.len() + value.as_ref().map_or(0, Vec::len)).sum();
    record.clear();
    record.reserve(HEAD_BYTES + bytes + 5 * changes.len());
    record.extend_from_slice(&[0; 8]);
    record.extend_from_slice(&epoch.to_le_bytes());
    record.extend_from_slice(&partition.to_be_bytes());
    record.extend_from_slice(&number.to_le_bytes());
    for (table, of_table) in changes {
        record.push(*table as u8);
        record.extend_from_slice(&(of_table.len() as u32).to_le_bytes());
        for (key, value) in *of_table {
            record.extend_from_slice(&(key.len() as u16).to_le_bytes());
            record.extend_from_slice(&value.as_ref().map_or(0, |value| value.len() as u32 + 1).to_le_bytes());
            record.extend_from_slice(key);
            record.extend_from_slice(value.as_deref().unwrap_or_default());
        }
    }
    let body_bytes = (record.len() - HEAD_BYTES) as u32;
    record[..4].copy_from_slice(&body_bytes.to_le_bytes());
    let sum = crc32fast::hash(&record[8..]);
    record[4..8].copy_from_slice(&sum.to_le_bytes());
}

fn decode(mut bytes: &[u8]) -> Option<Record> {
    let mut record = Record::new();
    while let Some((number, rest)) = bytes.split_first() {
        let table = *ALL_TABLES.get(usize::from(*number))?;
        let (count, mut rest) = rest.split_first_chunk::<4>()?;
        let mut changes = Changes::new();
        for _ in 0..u32::from_le_bytes(*count) {
            let (key_bytes, after) = rest.split_first_chunk::<2>()?;
            let (value_bytes, after) = after.split_first_chunk::<4>()?;
            let (key, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*key_bytes)))?;
            let (value, after) = match (u32::from_le_bytes(*value_bytes) as usize).checked_sub(1) {
                None => (None, after),
                Some(length) => after.split_at_checked(length).map(|(value, after)| (Some(value.to_vec()), after))?,
            };
            changes.insert(key.to_vec(), value);
            rest = after;
        }
        record.push((table, changes));
        bytes = rest;
    }
    Some(record)
}

fn failed(error: std::io::Error) -> super::Error {
    io(JOURNAL_FILE, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(n: u8) -> Changes {
        Changes::from([(vec![n, 1], Some(vec![n; 300])), (vec![n, 2], None), (vec![n, 3], Some(vec![]))])
    }

    #[test]
    fn what_was_appended_is_read_back_in_order_and_only_for_its_epoch_and_partition() {
        let folder = tempfile::tempdir().unwrap();
        let disk = super::super::RealDisk::take(folder.path()).unwrap();
        let mut journal = Journal::open(&disk).unwrap();
        journal.restart(7, 0);
        for n in 0..3 {
            assert!(journal.append(&[(Table::Events, &changes(n)), (Table::Due, &changes(n + 9))]).unwrap());
        }
        let tail = journal.after(7, 0).unwrap();
        assert_eq!((tail.records.len(), tail.epoch), (3, 1));
        assert_eq!(tail.records[1], vec![(Table::Events, changes(1)), (Table::Due, changes(10))]);
        assert!(journal.after(7, 1).unwrap().records.is_empty());
        assert!(journal.after(8, 0).unwrap().records.is_empty());
        // A shorter epoch over a longer one: the old tail is not read.
        journal.restart(7, 2);
        assert!(journal.append(&[(Table::Events, &changes(5))]).unwrap());
        assert_eq!(journal.after(7, 2).unwrap().records.len(), 1);
    }

    #[test]
    fn two_epochs_are_read_in_order_and_nothing_may_be_missing_between_them() {
        let folder = tempfile::tempdir().unwrap();
        let disk = super::super::RealDisk::take(folder.path()).unwrap();
        let mut journal = Journal::open(&disk).unwrap();
        journal.restart(7, 4);
        let append = |journal: &mut Journal, n| journal.append(&[(Table::Events, &changes(n))]).unwrap();
        assert!(append(&mut journal, 1) && append(&mut journal, 2));
        let last = half(5) + journal.bytes() / 2;
        journal.turn();
        assert!(append(&mut journal, 3));
        let tail = journal.after(7, 4).unwrap();
        assert_eq!((tail.records.len(), tail.epoch), (3, 6));
        assert_eq!(tail.records[2], vec![(Table::Events, changes(3))]);
        assert_eq!(journal.after(7, 5).unwrap().records.len(), 1);
        // Either record of the epoch before.
        for at in [half(5), last] {
            let mut byte = [0];
            journal.backend.read(at + 50, &mut byte).unwrap();
            journal.backend.write(at + 50, &[byte[0] ^ 1]).unwrap();
            let found = journal.after(7, 4);
            assert!(matches!(found, Err(super::super::Error::Damaged { .. })), "{found:?}");
            journal.backend.write(at + 50, &byte).unwrap();
        }
        assert_eq!(journal.after(7, 4).unwrap(), tail);
    }

    #[test]
    fn a_torn_record_ends_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let disk = super::super::RealDisk::take(folder.path()).unwrap();
        let mut journal = Journal::open(&disk).unwrap();
        journal.restart(7, 0);
        journal.append(&[(Table::Events, &changes(1))]).unwrap();
        let first = half(1);
        let end = first + journal.bytes();
        journal.append(&[(Table::Events, &changes(2))]).unwrap();
        for at in [end, end + 5, end + 40, first + journal.bytes() - 1] {
            let mut byte = [0];
            journal.backend.read(at, &mut byte).unwrap();
            journal.backend.write(at, &[byte[0] ^ 0x10]).unwrap();
            assert_eq!(journal.after(7, 0).unwrap().records.len(), 1, "at {at}");
            journal.backend.write(at, &byte).unwrap();
        }
        assert_eq!(journal.after(7, 0).unwrap().records.len(), 2);
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let disk = super::super::RealDisk::take(folder.path()).unwrap();
        let mut journal = Journal::open(&disk).unwrap();
        journal.restart(7, 0);
        let large = Changes::from([(vec![1], Some(vec![0; EPOCH_BYTES_MAX as usize]))]);
        assert!(!journal.append(&[(Table::Data, &large)]).unwrap());
        assert_eq!(journal.bytes(), 0);
    }
}
