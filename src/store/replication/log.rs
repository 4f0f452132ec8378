//! The replica's log stores the commits after a copy in segments on a disk.
//!
//! A segment is a header and blocks. Each block is written and synced before the next one begins. So an unreadable block at
//! the end was cut short, and the log ends before it. An unreadable block that others follow is damage.
//!
//! Invariant: the commit numbers are consecutive. Each block header begins with a random salt that no event producer knows,
//! so no payload can pass for a header.

mod read;

use std::fmt;

use crate::kv::disk::StorageBackend;

use crate::kv::disk::Disk;
use crate::kv::error::{Error, Result, io};
use crate::model::Time;
use crate::store::replication::CommitPosition;

pub use read::{LogOutline, ReplicationLog};

/// Size at which a new segment begins, in bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;
const SEGMENT_MAGIC: &[u8; 16] = b"postrider log 1\n";
/// Bytes of magic, salt, number of the segment, last position before it and checksum.
const SEGMENT_HEAD_BYTES: usize = 16 + 8 + 4 + POINT_BYTES + 4;
const POINT_BYTES: usize = crate::store::replication::POINT_BYTES;
/// Bytes of salt, length and number of the records, first position, last position, position from which the copy is whole,
/// checksum of the records and checksum of the header.
const BLOCK_HEAD_BYTES: usize = 8 + 4 + 4 + 3 * POINT_BYTES + 4 + 4;
/// Position that marks a copy as not whole yet.
const NOT_WHOLE: CommitPosition = CommitPosition { number: u64::MAX, at: Time::ZERO };

/// Location of damage in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDamage {
    pub segment: String,
    pub byte: u64,
    /// Position of the last commit before it.
    pub last: CommitPosition,
}

impl fmt::Display for LogDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogDamage { byte, last, .. } = self;
        write!(
            f,
            "does not read back as it was written from byte {byte} on; whole up to commit {} ({})",
            last.number, last.at
        )
    }
}

impl LogDamage {
    /// The error that names the whole path of the segment: the log has a disk of its own beside the store's.
    pub fn error(&self, disk: &dyn Disk) -> Error {
        Error::ReplicaLogDamaged { file: format!("{}/{}", disk.describe(), self.segment), damage: self.to_string() }
    }
}

fn name_of(segment: u32) -> String {
    format!("{segment:06}.log")
}

/// The whole path of a segment, for errors: the log has a disk of its own beside the store's.
fn path_of(disk: &dyn Disk, segment: u32) -> String {
    format!("{}/{}", disk.describe(), name_of(segment))
}

/// Writes a log.
pub struct LogWriter {
    backend: Box<dyn StorageBackend>,
    salt: u64,
    segment: u32,
    /// Bytes of this segment. `before` counts the earlier segments.
    end: u64,
    before: u64,
    last: CommitPosition,
    whole: CommitPosition,
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter").field("segment", &self.segment).field("last", &self.last).finish_non_exhaustive()
    }
}

impl LogWriter {
    /// Creates a log of the commits after `from`, on a disk that has none. `salt` must be random.
    pub fn create(disk: &dyn Disk, salt: u64, from: CommitPosition) -> Result<LogWriter> {
        let (backend, end) = begin(disk, salt, 1, from)?;
        Ok(LogWriter { backend, salt, segment: 1, end, before: 0, last: from, whole: NOT_WHOLE })
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.before + self.end
    }

    /// Position of the last commit in the log.
    pub fn last(&self) -> CommitPosition {
        self.last
    }

    /// Appends the next records as one block and syncs it.
    pub fn append(&mut self, disk: &dyn Disk, records: &[&[u8]]) -> Result<()> {
        let points = || records.iter().filter_map(|record| crate::store::replication::point_of(record));
        let (Some(first), Some(last)) = (points().next(), points().next_back()) else { return Ok(()) };
        debug_assert_eq!(first.number, self.last.number + 1, "no commit is left out");
        self.last = last;
        let mut body = Vec::with_capacity(records.iter().map(|record| 4 + record.len()).sum());
        for record in records {
            body.extend_from_slice(&(record.len() as u32).to_le_bytes());
            body.extend_from_slice(record);
        }
        self.write(disk, first, records.len() as u32, body)
    }

    /// Records that the copy is whole: replaying the log restores every commit from the last one in it on.
    pub fn set_whole(&mut self, disk: &dyn Disk) -> Result<()> {
        self.whole = self.last;
        self.write(disk, self.last, 0, Vec::new())
    }

    fn write(&mut self, disk: &dyn Disk, first: CommitPosition, records: u32, body: Vec<u8>) -> Result<()> {
        if self.end >= SEGMENT_BYTES {
            let before = CommitPosition { number: first.number - u64::from(records > 0), at: first.at };
            let (backend, end) = begin(disk, self.salt, self.segment + 1, before)?;
            (self.before, self.end, self.backend) = (self.before + self.end, end, backend);
            self.segment += 1;
        }
        let mut block = Vec::with_capacity(BLOCK_HEAD_BYTES + body.len());
        block.extend_from_slice(&self.salt.to_le_bytes());
        block.extend_from_slice(&(body.len() as u32).to_le_bytes());
        block.extend_from_slice(&records.to_le_bytes());
        [first, self.last, self.whole].into_iter().for_each(|point| put(&mut block, point));
        block.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        let sum = crc32fast::hash(&block);
        block.extend_from_slice(&sum.to_le_bytes());
        block.extend_from_slice(&body);
        let path = path_of(disk, self.segment);
        self.backend.write(self.end, &block).and_then(|()| self.backend.sync_data()).map_err(|e| io(&path, e))?;
        self.end += block.len() as u64;
        Ok(())
    }
}

/// Creates a segment atomically.
fn begin(disk: &dyn Disk, salt: u64, segment: u32, before: CommitPosition) -> Result<(Box<dyn StorageBackend>, u64)> {
    let name = name_of(segment);
    let temporary = format!("{name}.new");
    let mut head = SEGMENT_MAGIC.to_vec();
    head.extend_from_slice(&salt.to_le_bytes());
    head.extend_from_slice(&segment.to_le_bytes());
    put(&mut head, before);
    let sum = crc32fast::hash(&head);
    head.extend_from_slice(&sum.to_le_bytes());
    let made = || {
        let backend = disk.open(&temporary, true)?;
        backend.set_len(head.len() as u64)?;
        backend.write(0, &head)?;
        backend.sync_data()?;
        backend.close()?;
        drop(backend);
        disk.rename(&temporary, &name)?;
        disk.open(&name, false)
    };
    let backend = made().map_err(|error| io(&path_of(disk, segment), error))?;
    Ok((backend, head.len() as u64))
}

fn put(bytes: &mut Vec<u8>, point: CommitPosition) {
    bytes.extend_from_slice(&point.number.to_le_bytes());
    bytes.extend_from_slice(&point.at.0.to_le_bytes());
}
