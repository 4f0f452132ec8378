//! The write-ahead log of the active partition: one record and one sync for each batch.
//!
//! A durable redb commit costs two syncs over scattered pages, a record costs one in sequence. A batch is durable once
//! its WAL record is synced. Readers see it through the memtable until the next checkpoint writes it into redb.
//!
//! The file has two halves. The records between two checkpoints are an epoch, and epochs alternate between the halves:
//! one fills while a checkpoint flushes the other.
//!
//! Invariant: each checkpoint stores the last epoch that it contains. A half is reused only after its epoch is
//! checkpointed, so recovery replays at most two epochs. A record contains final keys and values, so replaying one that
//! redb contains already changes nothing.

use redb::StorageBackend;

use crate::kv::disk::Disk;
use crate::kv::error::{Result, io};
use crate::kv::memtable::Changes;
use crate::kv::tables::{ALL_TABLES, Key, Table};
use crate::mutants::mutant;

pub const WAL_FILE: &str = "journal";
const WAL_FILE_NEW: &str = "journal.new";
/// Key in `meta` of the last epoch that the partition's file contains.
pub const EPOCH_KEY: &[u8] = b"journal_epoch";
/// Maximum bytes of the records of an epoch.
pub const EPOCH_BYTES_MAX: u64 = 16 << 20;
/// Bytes of the file: one half for each of two epochs.
pub const WAL_BYTES: u64 = 2 * EPOCH_BYTES_MAX;
/// Above this size the buffer of a record is freed after use.
const BUFFER_BYTES_MAX: usize = 2 << 20;
/// Bytes of a record's head: length, checksum, epoch, partition and number.
const HEAD_BYTES: usize = 4 + 4 + 8 + 16 + 8;
/// Bytes that are searched for a later record when a record and its length are unreadable.
const SEARCHED_BYTES_MAX: u64 = 1 << 20;

/// The changes of one batch, by table.
pub type WalRecord = Vec<(Table, Changes)>;

/// The end of the records that a partition's file does not contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalPosition {
    /// The epoch of the last record.
    pub epoch: u64,
    /// Bytes of that epoch's records.
    pub bytes: u64,
    /// The number of the next record.
    number: u64,
}

pub struct Wal {
    backend: Box<dyn StorageBackend>,
    partition: u128,
    epoch: u64,
    /// Records since `reset`. Consecutive numbers prove that no record is missing between two epochs.
    number: u64,
    /// Bytes of this epoch's records.
    end: u64,
    /// The buffer of the last record, reused for the next.
    record: Vec<u8>,
}

impl std::fmt::Debug for Wal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wal").field("epoch", &self.epoch).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Wal {
    /// Opens the write-ahead log. A missing one is made.
    pub fn open(disk: &dyn Disk) -> Result<Wal> {
        if !disk.exists(WAL_FILE).map_err(failed)? {
            // The rename syncs the folder: without it a power cut may remove a file that was synced.
            let made = disk.open(WAL_FILE_NEW, true).map_err(failed)?;
            made.set_len(WAL_BYTES).map_err(failed)?;
            made.close().map_err(failed)?;
            disk.rename(WAL_FILE_NEW, WAL_FILE).map_err(failed)?;
        }
        let backend = disk.open(WAL_FILE, false).map_err(failed)?;
        if backend.len().map_err(failed)? < WAL_BYTES {
            backend.set_len(WAL_BYTES).map_err(failed)?;
        }
        Ok(Wal { backend, partition: 0, epoch: 0, number: 0, end: 0, record: Vec::new() })
    }

    /// Starts empty, for the records of `partition` after `epoch`.
    pub fn reset(&mut self, partition: u128, epoch: u64) {
        (self.partition, self.epoch, self.number, self.end) = (partition, epoch + 1, 0, 0);
    }

    /// Starts the next epoch in the other half. The epoch before this one must be checkpointed, because its half is
    /// overwritten.
    pub fn rotate(&mut self) {
        (self.epoch, self.end) = (self.epoch + 1, 0);
    }

    /// The current epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Bytes of the current epoch's records.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// Appends a record and syncs it. `false` if it does not fit into this epoch. Then nothing was written.
    pub fn append(&mut self, changes: &[(Table, &Changes)]) -> Result<bool> {
        encode(self.partition, self.epoch, self.number, changes, &mut self.record);
        let bytes = self.record.len() as u64;
        if self.end + bytes > EPOCH_BYTES_MAX {
            return Ok(false);
        }
        self.backend.write(half(self.epoch) + self.end, &self.record).map_err(failed)?;
        if !mutant!("ack_before_commit") {
            self.backend.sync_data().map_err(failed)?;
        }
        self.end += bytes;
        self.number += 1;
        if self.record.capacity() > BUFFER_BYTES_MAX {
            self.record = Vec::new();
        }
        Ok(true)
    }

    /// Passes the records of `partition` after `epoch` to `take`, each with its epoch. A torn record ends them, because
    /// it was never acknowledged. `None` if there are no records.
    ///
    /// # Errors
    /// `Damaged` if records are missing between two epochs, or if a later record follows an unreadable one. Such a
    /// record is damaged and not torn, and its batch was acknowledged.
    pub fn records_after(
        &self,
        partition: u128,
        epoch: u64,
        mut take: impl FnMut(u64, WalRecord),
    ) -> Result<Option<WalPosition>> {
        let mut end: Option<WalPosition> = None;
        let first = epoch + 1;
        for epoch in [first, first + 1] {
            let mut bytes = 0;
            while let Some(found) = self.read(bytes, partition, epoch)? {
                // The first record may have any number, unless an earlier epoch has records.
                let is_next = end.map_or(epoch == first, |end| found.number == end.number);
                if !is_next {
                    let key = format!("record {}, before record {}", end.map_or(0, |end| end.number), found.number);
                    return Err(crate::kv::error::Error::Damaged { file: WAL_FILE.to_owned(), table: "records", key });
                }
                bytes += found.bytes;
                end = Some(WalPosition { epoch, bytes, number: found.number + 1 });
                take(epoch, found.record);
            }
            if self.is_followed(bytes, partition, epoch)? {
                let key = format!("byte {}", half(epoch) + bytes);
                return Err(crate::kv::error::Error::Damaged { file: WAL_FILE.to_owned(), table: "records", key });
            }
        }
        Ok(end)
    }

    /// Continues after the last record of `partition`. The epoch's records are written and synced again: if the
    /// previous process ended because a sync failed, they may exist in the page cache only.
    pub fn resume(&mut self, partition: u128, end: WalPosition) -> Result<()> {
        let mut again = vec![0; end.bytes as usize];
        self.backend.read(half(end.epoch), &mut again).map_err(failed)?;
        self.backend.write(half(end.epoch), &again).map_err(failed)?;
        self.backend.sync_data().map_err(failed)?;
        (self.partition, self.epoch, self.number, self.end) = (partition, end.epoch, end.number, end.bytes);
        Ok(())
    }

    /// Whether a whole record of this epoch follows `at`, where no readable record begins. The search runs only if the
    /// bytes at `at` resemble a record's head but for one bit, because older records lie beyond the last one. The
    /// payload of a torn record cannot pass for a record: it would have to name the partition, whose id has 42 random
    /// bits that no producer knows.
    fn is_followed(&self, at: u64, partition: u128, epoch: u64) -> Result<bool> {
        let name = [epoch.to_le_bytes().as_slice(), &partition.to_be_bytes()].concat();
        let seen_bytes = (EPOCH_BYTES_MAX - at).min(HEAD_BYTES as u64 + SEARCHED_BYTES_MAX);
        if seen_bytes <= HEAD_BYTES as u64 {
            return Ok(false);
        }
        let mut head = [0; HEAD_BYTES];
        self.backend.read(half(epoch) + at, &mut head).map_err(failed)?;
        // Nothing was ever written here.
        if head[8..32] == [0; 24] {
            return Ok(false);
        }
        let differing: u32 = head[8..32].iter().zip(&name).map(|(found, wanted)| (found ^ wanted).count_ones()).sum();
        if differing > 1 {
            return Ok(false);
        }
        // The length and each of its one-bit variants are tried, so a single flipped bit is detected in a record of any
        // size.
        let body_bytes = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let flipped = (0..u32::BITS).map(|bit| body_bytes ^ 1 << bit);
        for body_bytes in std::iter::once(body_bytes).chain(flipped) {
            let next = at + HEAD_BYTES as u64 + u64::from(body_bytes);
            if next < EPOCH_BYTES_MAX && self.read(next, partition, epoch)?.is_some() {
                return Ok(true);
            }
        }
        let mut seen = vec![0; seen_bytes as usize];
        self.backend.read(half(epoch) + at, &mut seen).map_err(failed)?;
        let mut from = HEAD_BYTES;
        while let Some(found) = seen[from..].iter().position(|byte| *byte == name[0]) {
            let start = from + found;
            if seen[start..].starts_with(&name) && self.read(at + start as u64 - 8, partition, epoch)?.is_some() {
                return Ok(true);
            }
            from = start + 1;
        }
        Ok(false)
    }

    /// Reads the record at `at` bytes in an epoch's half. `None` if no whole record of that epoch begins there.
    fn read(&self, at: u64, partition: u128, epoch: u64) -> Result<Option<FoundRecord>> {
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
        Ok(decode_changes(&whole[HEAD_BYTES..]).map(|record| FoundRecord { record, number, bytes }))
    }
}

struct FoundRecord {
    record: WalRecord,
    number: u64,
    bytes: u64,
}

/// Offset of the half of an epoch.
fn half(epoch: u64) -> u64 {
    epoch % 2 * EPOCH_BYTES_MAX
}

/// Encodes length, checksum of all that follows it, epoch, partition and number, then the changes.
fn encode(partition: u128, epoch: u64, number: u64, changes: &[(Table, &Changes)], record: &mut Vec<u8>) {
    let values = changes.iter().flat_map(|(_, of_table)| of_table.iter());
    let bytes: usize = values.map(|(key, value)| 6 + key.len() + value.as_ref().map_or(0, Vec::len)).sum();
    record.clear();
    record.reserve(HEAD_BYTES + bytes + 5 * changes.len());
    record.extend_from_slice(&[0; 8]);
    record.extend_from_slice(&epoch.to_le_bytes());
    record.extend_from_slice(&partition.to_be_bytes());
    record.extend_from_slice(&number.to_le_bytes());
    encode_changes(changes, record);
    let body_bytes = (record.len() - HEAD_BYTES) as u32;
    record[..4].copy_from_slice(&body_bytes.to_le_bytes());
    let sum = crc32fast::hash(&record[8..]);
    record[4..8].copy_from_slice(&sum.to_le_bytes());
}

/// Encodes, for each table, its number and the count of keys, and for each key both lengths and both byte strings. The
/// length of a value is one more than its bytes; 0 stands for a removed row.
pub(crate) fn encode_changes(changes: &[(Table, &Changes)], record: &mut Vec<u8>) {
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
}

/// Decodes the bytes that `encode_changes` wrote. `None` for other bytes.
pub(crate) fn decode_changes(mut bytes: &[u8]) -> Option<WalRecord> {
    let mut record = WalRecord::new();
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
            changes.insert(Key::from_slice(key), value);
            rest = after;
        }
        record.push((table, changes));
        bytes = rest;
    }
    Some(record)
}

fn failed(error: std::io::Error) -> crate::kv::error::Error {
    io(WAL_FILE, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(n: u8) -> Changes {
        let key = |last: u8| Key::from_slice(&[n, last]);
        Changes::from([(key(1), Some(vec![n; 300])), (key(2), None), (key(3), Some(vec![]))])
    }

    /// A write-ahead log for partition 7, after `epoch`.
    fn made(epoch: u64) -> (tempfile::TempDir, crate::kv::disk::RealDisk, Wal) {
        let folder = tempfile::tempdir().unwrap();
        let disk = crate::kv::disk::RealDisk::take(folder.path()).unwrap();
        let mut wal = Wal::open(&disk).unwrap();
        wal.reset(7, epoch);
        (folder, disk, wal)
    }

    /// The records after an epoch, and the epoch of the last one.
    fn after(wal: &Wal, partition: u128, epoch: u64) -> Result<(Vec<WalRecord>, u64)> {
        let mut records = Vec::new();
        let end = wal.records_after(partition, epoch, |_, record| records.push(record))?;
        Ok((records, end.map_or(epoch, |end| end.epoch)))
    }

    #[test]
    fn what_was_appended_is_read_back_in_order_and_only_for_its_epoch_and_partition() {
        let (_folder, _disk, mut wal) = made(0);
        for n in 0..3 {
            assert!(wal.append(&[(Table::Events, &changes(n)), (Table::Due, &changes(n + 9))]).unwrap());
        }
        let (records, epoch) = after(&wal, 7, 0).unwrap();
        assert_eq!((records.len(), epoch), (3, 1));
        assert_eq!(records[1], vec![(Table::Events, changes(1)), (Table::Due, changes(10))]);
        assert!(after(&wal, 7, 1).unwrap().0.is_empty());
        assert!(after(&wal, 8, 0).unwrap().0.is_empty());
        // A shorter epoch overwrites a longer one: the old tail is not read.
        wal.reset(7, 2);
        assert!(wal.append(&[(Table::Events, &changes(5))]).unwrap());
        assert_eq!(after(&wal, 7, 2).unwrap().0.len(), 1);
    }

    #[test]
    fn two_epochs_are_read_in_order_and_nothing_may_be_missing_between_them() {
        let (_folder, _disk, mut wal) = made(4);
        let append = |wal: &mut Wal, n| wal.append(&[(Table::Events, &changes(n))]).unwrap();
        assert!(append(&mut wal, 1) && append(&mut wal, 2));
        let last = half(5) + wal.bytes() / 2;
        wal.rotate();
        assert!(append(&mut wal, 3));
        let tail = after(&wal, 7, 4).unwrap();
        assert_eq!((tail.0.len(), tail.1), (3, 6));
        assert_eq!(tail.0[2], vec![(Table::Events, changes(3))]);
        assert_eq!(after(&wal, 7, 5).unwrap().0.len(), 1);
        // One byte in either record of the epoch before.
        for at in [half(5), last] {
            let mut byte = [0];
            wal.backend.read(at + 50, &mut byte).unwrap();
            wal.backend.write(at + 50, &[byte[0] ^ 1]).unwrap();
            let found = after(&wal, 7, 4);
            assert!(matches!(found, Err(crate::kv::error::Error::Damaged { .. })), "{found:?}");
            wal.backend.write(at + 50, &byte).unwrap();
        }
        assert_eq!(after(&wal, 7, 4).unwrap(), tail);
    }

    #[test]
    fn it_goes_on_behind_the_last_record_after_a_restart() {
        let (_folder, disk, mut wal) = made(0);
        let append = |wal: &mut Wal, n| assert!(wal.append(&[(Table::Events, &changes(n))]).unwrap());
        append(&mut wal, 1);
        wal.rotate();
        append(&mut wal, 2);
        append(&mut wal, 3);
        drop(wal);
        let mut wal = Wal::open(&disk).unwrap();
        let end = wal.records_after(7, 0, |_, _| ()).unwrap().unwrap();
        wal.resume(7, end).unwrap();
        append(&mut wal, 4);
        wal.rotate();
        append(&mut wal, 5);
        // The first epoch is overwritten.
        let (records, epoch) = after(&wal, 7, 1).unwrap();
        assert_eq!((records.len(), epoch), (4, 3));
        assert_eq!(records[3], vec![(Table::Events, changes(5))]);
    }

    #[test]
    fn a_torn_record_ends_the_journal() {
        let (_folder, _disk, mut wal) = made(0);
        wal.append(&[(Table::Events, &changes(1))]).unwrap();
        let first = half(1);
        let end = first + wal.bytes();
        wal.append(&[(Table::Events, &changes(2))]).unwrap();
        for at in [end, end + 5, end + 40, first + wal.bytes() - 1] {
            let mut byte = [0];
            wal.backend.read(at, &mut byte).unwrap();
            wal.backend.write(at, &[byte[0] ^ 0x10]).unwrap();
            assert_eq!(after(&wal, 7, 0).unwrap().0.len(), 1, "at {at}");
            wal.backend.write(at, &byte).unwrap();
        }
        assert_eq!(after(&wal, 7, 0).unwrap().0.len(), 2);
    }

    #[test]
    fn a_record_that_others_follow_is_damaged_and_not_torn() {
        let (_folder, _disk, mut wal) = made(0);
        wal.append(&[(Table::Events, &changes(1))]).unwrap();
        let second = half(1) + wal.bytes();
        wal.append(&[(Table::Events, &changes(2))]).unwrap();
        let last = half(1) + wal.bytes();
        wal.append(&[(Table::Events, &changes(3))]).unwrap();
        for bit in 8 * second..8 * last {
            let mut byte = [0];
            wal.backend.read(bit / 8, &mut byte).unwrap();
            wal.backend.write(bit / 8, &[byte[0] ^ 1 << (bit % 8)]).unwrap();
            let found = after(&wal, 7, 0);
            assert!(matches!(found, Err(crate::kv::error::Error::Damaged { .. })), "bit {bit}: {found:?}");
            wal.backend.write(bit / 8, &byte).unwrap();
        }
        assert_eq!(after(&wal, 7, 0).unwrap().0.len(), 3);
    }

    #[test]
    fn a_flipped_bit_in_a_large_record_is_damage_as_well() {
        let (_folder, _disk, mut wal) = made(0);
        let large = Changes::from([(Key::from_slice(&[1]), Some(vec![7; 2 * SEARCHED_BYTES_MAX as usize]))]);
        assert!(wal.append(&[(Table::Data, &large)]).unwrap());
        let body_bits = 8 * HEAD_BYTES as u64..8 * wal.bytes();
        wal.append(&[(Table::Events, &changes(2))]).unwrap();
        for bit in (0..8 * HEAD_BYTES as u64).chain(body_bits.step_by(1_000_003)) {
            let mut byte = [0];
            let at = half(1) + bit / 8;
            wal.backend.read(at, &mut byte).unwrap();
            wal.backend.write(at, &[byte[0] ^ 1 << (bit % 8)]).unwrap();
            let found = after(&wal, 7, 0);
            assert!(matches!(found, Err(crate::kv::error::Error::Damaged { .. })), "bit {bit}: {found:?}");
            wal.backend.write(at, &byte).unwrap();
        }
        assert_eq!(after(&wal, 7, 0).unwrap().0.len(), 2);
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let (_folder, _disk, mut wal) = made(0);
        let large = Changes::from([(Key::from_slice(&[1]), Some(vec![0; EPOCH_BYTES_MAX as usize]))]);
        assert!(!wal.append(&[(Table::Data, &large)]).unwrap());
        assert_eq!(wal.bytes(), 0);
    }
}
