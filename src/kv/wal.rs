//! The write-ahead log of the active partition: one record and one sync for each batch.
//!
//! A durable redb commit costs two syncs over scattered pages, a record costs one in sequence. A batch is durable once
//! its WAL record is synced. Readers see it through the memtable until the next checkpoint writes it into redb.
//!
//! The file has two halves. The records between two checkpoints are an epoch, and epochs alternate between the halves:
//! one fills while a checkpoint flushes the other.
//!
//! A head behind the halves (`wal_head`) names the partition and the epoch that the log belongs to. The row
//! `NEEDED_KEY` of a partition's file says that the partition needs its log. Without the log such a partition does not
//! open.
//!
//! After the sync of each record the writer writes a head that counts the record. The next sync makes that head
//! durable. So recovery after a kill notices every missing record. After a power cut it may miss the loss of the last
//! record only.
//!
//! Invariant: each checkpoint stores the last epoch that it contains. A half is reused only after its epoch is
//! checkpointed, so recovery replays at most two epochs. A record contains final keys and values, so replaying one that
//! redb contains already changes nothing.

use memchr::memmem::Finder;
use redb::StorageBackend;

use crate::kv::disk::Disk;
use crate::kv::error::{Error, Result, io};
use crate::kv::memtable::Changes;
use crate::kv::tables::{ALL_TABLES, Key, Table};
use crate::kv::wal_head::{HEADS_BYTES, SLOTS, WAL_HEAD_BYTES, WalHead};
use crate::mutants::mutant;

/// Name of the write-ahead log in the data directory.
pub const WAL_FILE: &str = "journal";
const WAL_FILE_NEW: &str = "journal.new";
/// Key in `meta` of the last epoch that the partition's file contains.
pub const EPOCH_KEY: &[u8] = b"journal_epoch";
/// Key in `meta`: whether the write-ahead log may have records that the partition's file lacks. Files of older versions
/// lack the row, and a clean stop sets it to `false`.
pub const NEEDED_KEY: &[u8] = b"journal_needed";
/// Maximum bytes of the records of an epoch.
pub const EPOCH_BYTES_MAX: u64 = 16 << 20;
/// Bytes of the records: one half for each of two epochs. `WAL_FILE_BYTES` is the length of the file.
pub const WAL_BYTES: u64 = 2 * EPOCH_BYTES_MAX;
/// Bytes of the whole file: the records, and the heads behind them.
pub const WAL_FILE_BYTES: u64 = WAL_BYTES + HEADS_BYTES;
/// Above this size the buffer of a record is freed after use.
const BUFFER_BYTES_MAX: usize = 2 << 20;
/// Bytes of a record's head: length, checksum, epoch, partition and number.
const HEAD_BYTES: usize = 4 + 4 + 8 + 16 + 8;
/// Bytes that the search for a later record reads at once.
const SEARCHED_BYTES: usize = 64 << 10;
/// Bytes of a record's epoch and partition, which the search looks for.
const NAME_BYTES: usize = 8 + 16;

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
    /// The number of that epoch's first record.
    first: u64,
}

/// Records that cannot be recovered, because they follow a damaged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LostRecords {
    /// Number of lost records, as far as readable records after them show.
    pub records: u64,
    /// Rows of events in those of them that are readable.
    pub events: u64,
}

/// The write-ahead log, which serves one partition at a time.
pub struct Wal {
    /// `None` if the file is missing.
    backend: Option<Box<dyn StorageBackend>>,
    /// Length of the file in bytes.
    len: u64,
    /// The newest head in the file. `None` if no head is readable.
    head: Option<WalHead>,
    partition: u128,
    epoch: u64,
    /// Records since `reset`. Consecutive numbers prove that no record is missing between two epochs.
    number: u64,
    /// The number of this epoch's first record.
    first: u64,
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
    /// Opens the write-ahead log as it is. `prepare` makes a missing one.
    pub fn open(disk: &dyn Disk) -> Result<Wal> {
        let backend = if disk.exists(WAL_FILE).map_err(failed)? {
            Some(disk.open(WAL_FILE, false).map_err(failed)?)
        } else {
            None
        };
        let len = backend.as_ref().map_or(Ok(0), |backend| backend.len()).map_err(failed)?;
        let mut wal =
            Wal { backend, len, head: None, partition: 0, epoch: 0, number: 0, first: 0, end: 0, record: Vec::new() };
        for slot in 0..SLOTS {
            let mut bytes = [0; WAL_HEAD_BYTES];
            wal.read_bytes(WAL_BYTES + WalHead::slot(slot), &mut bytes)?;
            let found = WalHead::decode(&bytes);
            wal.head = [wal.head, found].into_iter().flatten().max_by_key(|head| head.sequence);
        }
        Ok(wal)
    }

    /// Whether the file says which partition and epoch its records are of. Logs of earlier versions do not.
    pub fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// Refuses a log that cannot contain the records after `epoch` of a partition that needs them.
    ///
    /// # Errors
    /// `WalDamaged` if the log is missing, cut short, without a head, or of another partition or epoch.
    pub fn check(&self, partition: u128, epoch: u64) -> Result<()> {
        if self.backend.is_none() {
            return Err(damaged("the file is missing".to_owned()));
        }
        if self.len < WAL_FILE_BYTES {
            return Err(damaged(format!("the file is cut short: {} of {WAL_FILE_BYTES} bytes", self.len)));
        }
        match self.head {
            None => Err(damaged("its head is unreadable".to_owned())),
            Some(head) if head.partition != partition && head.previous != partition => {
                Err(damaged("its head names another partition".to_owned()))
            }
            Some(head) if head.partition == partition && head.epoch > epoch + 2 => {
                Err(damaged(format!("it is at epoch {}, and the partition is at {epoch}", head.epoch)))
            }
            Some(_) => Ok(()),
        }
    }

    /// Makes the file if it is missing or short, and gives it a head for the records of `partition` after `epoch` if it
    /// has none. Afterwards the partition may need the log.
    pub fn prepare(&mut self, disk: &dyn Disk, partition: u128, epoch: u64) -> Result<()> {
        self.make(disk)?;
        if self.head.is_some_and(|head| head.partition == partition || head.previous == partition) {
            return Ok(());
        }
        self.announce_head(WalHead { sequence: 0, partition, previous: 0, epoch: epoch + 1, number: 0, durable: 0 })
    }

    /// Makes the log that of the new partition `partition`, durably. The list of partitions may name it afterwards.
    /// redb must contain all records of `previous`, which the log serves as well until then.
    pub fn announce(&mut self, disk: &dyn Disk, partition: u128, previous: u128) -> Result<()> {
        self.make(disk)?;
        self.announce_head(WalHead { sequence: 0, partition, previous, epoch: 1, number: 0, durable: 0 })
    }

    fn make(&mut self, disk: &dyn Disk) -> Result<()> {
        if self.backend.is_none() {
            // The rename syncs the folder: without it a power cut may remove a file that was synced.
            let made = disk.open(WAL_FILE_NEW, true).map_err(failed)?;
            made.set_len(WAL_FILE_BYTES).map_err(failed)?;
            made.close().map_err(failed)?;
            disk.rename(WAL_FILE_NEW, WAL_FILE).map_err(failed)?;
            self.backend = Some(disk.open(WAL_FILE, false).map_err(failed)?);
            self.len = WAL_FILE_BYTES;
            self.fill_page_cache()?;
        }
        if self.len < WAL_FILE_BYTES {
            self.backend()?.set_len(WAL_FILE_BYTES).map_err(failed)?;
            self.len = WAL_FILE_BYTES;
        }
        Ok(())
    }

    /// Reads the new file, whose halves are holes, so that the page cache has single pages for it. The first record in
    /// an uncached place would make a folio as large as the record, and the kernel counts all of it as written for each
    /// later record in it (docs/performance.md). Recovery reads an older file in the same way.
    fn fill_page_cache(&self) -> Result<()> {
        let mut read = vec![0; SEARCHED_BYTES];
        (0..WAL_BYTES).step_by(SEARCHED_BYTES).try_for_each(|offset| self.read_bytes(offset, &mut read))
    }

    /// Writes a head and syncs it. The first one fills all slots, so that a later one needs no space on a full disk.
    fn announce_head(&mut self, head: WalHead) -> Result<()> {
        let heads = if self.head.is_none() { SLOTS } else { 1 };
        (0..heads).try_for_each(|_| self.write_head(head))?;
        self.backend()?.sync_data().map_err(failed)
    }

    /// Writes a head with the next sequence number. The caller syncs it.
    fn write_head(&mut self, head: WalHead) -> Result<()> {
        let head = WalHead { sequence: self.head.map_or(0, |head| head.sequence + 1), ..head };
        self.backend()?.write(WAL_BYTES + WalHead::slot(head.sequence), &head.encode()).map_err(failed)?;
        self.head = Some(head);
        Ok(())
    }

    fn backend(&self) -> Result<&dyn StorageBackend> {
        self.backend.as_deref().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))
    }

    /// Reads bytes of the file. Bytes beyond its end are zero.
    fn read_bytes(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let there = self.len.saturating_sub(offset).min(out.len() as u64) as usize;
        out[there..].fill(0);
        if there == 0 { Ok(()) } else { self.backend()?.read(offset, &mut out[..there]).map_err(failed) }
    }

    /// Starts empty, for the records of `partition` after `epoch`.
    pub fn reset(&mut self, partition: u128, epoch: u64) {
        (self.partition, self.epoch, self.number, self.first, self.end) = (partition, epoch + 1, 0, 0, 0);
    }

    /// Starts the next epoch in the other half. The epoch before this one must be checkpointed, because its half is
    /// overwritten.
    pub fn rotate(&mut self) {
        (self.epoch, self.end, self.first) = (self.epoch + 1, 0, self.number);
    }

    /// The current epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Bytes of the current epoch's records.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// Appends a record and syncs it, then writes a head that counts it. `false` if the record does not fit into this
    /// epoch. Nothing was written then.
    pub fn append(&mut self, changes: &[(Table, &Changes)]) -> Result<bool> {
        encode(self.partition, self.epoch, self.number, changes, &mut self.record);
        let bytes = self.record.len() as u64;
        if self.end + bytes > EPOCH_BYTES_MAX {
            return Ok(false);
        }
        self.backend()?.write(half(self.epoch) + self.end, &self.record).map_err(failed)?;
        if !mutant!("ack_before_commit") {
            self.backend()?.sync_data().map_err(failed)?;
        }
        let (partition, epoch, number, durable) = (self.partition, self.epoch, self.first, self.number + 1);
        self.write_head(WalHead { sequence: 0, partition, previous: 0, epoch, number, durable })?;
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
    /// `WalDamaged` if records are missing that the head counts as durable, or if a later record follows an unreadable
    /// one. Such a record is damaged and not torn, and its batch was acknowledged.
    pub fn records_after(
        &self,
        partition: u128,
        epoch: u64,
        mut take: impl FnMut(u64, WalRecord),
    ) -> Result<Option<WalPosition>> {
        let mut end: Option<WalPosition> = None;
        let first = epoch + 1;
        for epoch in [first, first + 1] {
            let (mut bytes, mut first_number) = (0, None);
            while let Some(found) = self.read(bytes, partition, epoch)? {
                // The first record may have any number, unless an earlier epoch has records.
                let is_next = end.map_or(epoch == first, |end| found.number == end.number);
                if !is_next {
                    let number = end.map_or(0, |end| end.number);
                    return Err(damaged(format!("record {number} is unreadable, and record {} is not", found.number)));
                }
                bytes += found.bytes;
                let first = *first_number.get_or_insert(found.number);
                end = Some(WalPosition { epoch, bytes, number: found.number + 1, first });
                take(epoch, found.record);
            }
            if let Some((at, found)) = self.next_record(bytes, partition, epoch)? {
                let (from, number) = (half(epoch) + bytes, found.number);
                let at = half(epoch) + at;
                return Err(damaged(format!("byte {from} is unreadable, and record {number} at byte {at} is not")));
            }
        }
        let Some(head) = self.head.filter(|head| head.partition == partition && head.epoch >= first) else {
            return Ok(end);
        };
        // An epoch begins only after all records of the one before were synced, and that one has at least one.
        let is_begun = head.epoch == first + 1;
        let number = end.map_or(if is_begun { 0 } else { head.number }, |end| end.number);
        match (is_begun && end.is_none()) || number < head.durable {
            true => Err(damaged(format!("record {number} is unreadable, and {} were written", head.durable))),
            false => Ok(end),
        }
    }

    /// Passes the records of `partition` after `epoch` to `take` up to the first damage. Returns the records after it,
    /// which are lost.
    ///
    /// # Errors
    /// The disk fails.
    pub fn salvage(&self, partition: u128, epoch: u64, mut take: impl FnMut(u64, WalRecord)) -> Result<LostRecords> {
        let mut lost = LostRecords::default();
        let (mut next, mut last, mut first_lost, mut is_whole) = (None, None, None, true);
        let first = epoch + 1;
        for epoch in [first, first + 1] {
            let mut at = 0;
            loop {
                let found = match self.read(at, partition, epoch)? {
                    Some(found) => Some((at, found)),
                    None => self.next_record(at, partition, epoch)?,
                };
                let Some((start, found)) = found else { break };
                // As in `records_after`: a record has the next number, and only that of the first epoch may be any.
                is_whole &= start == at && next.map_or(epoch == first, |next| next == found.number);
                at = start + found.bytes;
                last = Some(found.number);
                if is_whole {
                    next = Some(found.number + 1);
                    take(epoch, found.record);
                } else {
                    first_lost.get_or_insert(found.number);
                    let events = found.record.iter().filter(|(table, _)| *table == Table::Events);
                    lost.events += events.map(|(_, changes)| changes.len() as u64).sum::<u64>();
                }
            }
        }
        let begun = |epoch| self.head.filter(|head| (head.partition, head.epoch) == (partition, epoch));
        let counted = begun(first + 1).or(begun(first)).map_or(0, |head| head.durable);
        let written = counted.max(last.map_or(0, |last| last + 1));
        let from = next.or(begun(first).map(|head| head.number)).or(first_lost).unwrap_or(written);
        lost.records = written.saturating_sub(from);
        Ok(lost)
    }

    /// Continues after the last record of `partition`. The epoch's records are written and synced again: if the
    /// previous process ended because a sync failed, they may exist in the page cache only.
    pub fn resume(&mut self, partition: u128, end: WalPosition) -> Result<()> {
        let mut again = vec![0; end.bytes as usize];
        self.read_bytes(half(end.epoch), &mut again)?;
        self.backend()?.write(half(end.epoch), &again).map_err(failed)?;
        self.backend()?.sync_data().map_err(failed)?;
        (self.partition, self.epoch, self.number, self.end) = (partition, end.epoch, end.number, end.bytes);
        self.first = end.first;
        Ok(())
    }

    /// The next whole record of this epoch behind `at`, where no readable record begins, and its offset.
    ///
    /// Each record is synced before the next is written, so such a record proves that the one at `at` was whole.
    /// Records of other epochs, which may lie behind the last one, do not count. The payload of a torn record cannot
    /// pass for a record: it would have to name the partition, whose id has 34 random bits that no producer knows.
    fn next_record(&self, at: u64, partition: u128, epoch: u64) -> Result<Option<(u64, FoundRecord)>> {
        let name: [u8; NAME_BYTES] =
            [epoch.to_le_bytes().as_slice(), &partition.to_be_bytes()].concat().try_into().unwrap_or_default();
        let finder = Finder::new(&name);
        let mut seen = vec![0; SEARCHED_BYTES + NAME_BYTES];
        let blank = seen.clone();
        // A record's name follows its length and checksum.
        let mut base = at + 8 + 1;
        while base < EPOCH_BYTES_MAX && half(epoch) + base < self.len {
            let bytes = (EPOCH_BYTES_MAX - base).min(seen.len() as u64) as usize;
            self.read_bytes(half(epoch) + base, &mut seen[..bytes])?;
            // Most of a half was never written to. This comparison is several times faster than the search.
            let is_blank = seen[..bytes] == blank[..bytes];
            for start in finder.find_iter(if is_blank { &[] } else { &seen[..bytes] }) {
                let record = base + start as u64 - 8;
                if let Some(found) = self.read(record, partition, epoch)? {
                    return Ok(Some((record, found)));
                }
            }
            base += SEARCHED_BYTES as u64;
        }
        Ok(None)
    }

    /// Reads the record at `at` bytes in an epoch's half. `None` if no whole record of that epoch begins there.
    fn read(&self, at: u64, partition: u128, epoch: u64) -> Result<Option<FoundRecord>> {
        let left = EPOCH_BYTES_MAX - at;
        if (HEAD_BYTES as u64) > left {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        self.read_bytes(half(epoch) + at, &mut head)?;
        let body_bytes = u64::from(u32::from_le_bytes([head[0], head[1], head[2], head[3]]));
        let bytes = HEAD_BYTES as u64 + body_bytes;
        if head[8..16] != epoch.to_le_bytes() || head[16..32] != partition.to_be_bytes() || bytes > left {
            return Ok(None);
        }
        let mut whole = vec![0; bytes as usize];
        self.read_bytes(half(epoch) + at, &mut whole)?;
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
/// length of a value is one more than its bytes, and 0 stands for a removed row.
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

fn failed(error: std::io::Error) -> Error {
    io(WAL_FILE, error)
}

fn damaged(damage: String) -> Error {
    Error::WalDamaged { file: WAL_FILE.to_owned(), damage }
}

#[cfg(test)]
mod tests;
