//! Reads a replica's log: its commits, its records, its end and its damage.

use crate::kv::disk::StorageBackend;

use crate::kv::disk::Disk;
use crate::kv::error::{Result, io};
use crate::kv::scan::ScanStep;
use crate::store::replication::log::{
    BLOCK_HEAD_BYTES, LogDamage, NOT_WHOLE, POINT_BYTES, SEGMENT_HEAD_BYTES, SEGMENT_MAGIC, name_of,
};
use crate::store::replication::{CommitPosition, point_of, replay};

/// Outline of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOutline {
    /// Position of the commit before the log's first one.
    pub from: CommitPosition,
    /// First commit that the copy can be replayed to. `None` if the copy is not whole.
    pub whole: Option<CommitPosition>,
    /// Position of the last commit in the log.
    pub last: CommitPosition,
    pub segments: u32,
    /// Readable bytes.
    pub bytes: u64,
    /// Bytes of an incomplete block at the end.
    pub torn_bytes: u64,
    pub damage: Option<LogDamage>,
}

/// A log on a disk.
#[derive(Debug)]
pub struct ReplicationLog<'a> {
    disk: &'a dyn Disk,
    segments: u32,
}

/// Callback for a record, which returns whether to go on.
type Visit<'a> = &'a mut dyn FnMut(&[u8]) -> Result<ScanStep>;

impl<'a> ReplicationLog<'a> {
    /// Opens the log on a disk. `None` if the disk has none.
    pub fn on(disk: &'a dyn Disk) -> Result<Option<ReplicationLog<'a>>> {
        let names = disk.list("").map_err(|error| io("the log", error))?;
        let numbers = names.iter().filter_map(|name| name.strip_suffix(".log")?.parse::<u32>().ok());
        Ok(numbers.max().map(|segments| ReplicationLog { disk, segments }))
    }

    /// Reads the outline from the block headers, without the records.
    pub fn outline(&self) -> Result<LogOutline> {
        self.scan(None)
    }

    /// Passes every record to `visit` in order until it stops. The outline covers the records passed.
    pub fn walk(&self, mut visit: impl FnMut(&[u8]) -> Result<ScanStep>) -> Result<LogOutline> {
        self.scan(Some(&mut visit))
    }

    fn scan(&self, mut visit: Option<Visit<'_>>) -> Result<LogOutline> {
        let start = CommitPosition { number: 0, ..NOT_WHOLE };
        let mut seen = LogOutline {
            from: start,
            whole: None,
            last: start,
            segments: self.segments,
            bytes: 0,
            torn_bytes: 0,
            damage: None,
        };
        let mut salt = None;
        for number in 1..=self.segments {
            let name = name_of(number);
            let segment = LogSegment::open(self.disk, &name)?;
            let head = segment.as_ref().map_or(Ok(None), LogSegment::head)?;
            let is_next = |head: &LogSegmentHead| {
                head.number == number
                    && (number == 1 || head.before.number == seen.last.number)
                    && salt.is_none_or(|salt| salt == head.salt)
            };
            let (Some(segment), Some(head)) = (segment, head.filter(is_next)) else {
                seen.damage = Some(LogDamage { segment: name, byte: 0, last: seen.last });
                return Ok(seen);
            };
            if number == 1 {
                (seen.from, seen.last) = (head.before, head.before);
            }
            salt = Some(head.salt);
            if !self.scan_segment(&segment, (number, head.salt), &mut seen, &mut visit)? {
                return Ok(seen);
            }
        }
        Ok(seen)
    }

    /// Whether the blocks after this segment are to be read too.
    fn scan_segment(
        &self,
        segment: &LogSegment<'_>,
        (number, salt): (u32, u64),
        seen: &mut LogOutline,
        visit: &mut Option<Visit<'_>>,
    ) -> Result<bool> {
        // At the end of the log a block may have its header and lack its body.
        let with_body = visit.is_some() || number == self.segments;
        let mut at = SEGMENT_HEAD_BYTES as u64;
        while at < segment.bytes {
            let Some(block) = segment.block(at, salt, seen.last.number, with_body)? else {
                seen.bytes += at;
                match number == self.segments && !segment.is_followed(at, salt)? {
                    true => seen.torn_bytes = segment.bytes - at,
                    false => {
                        seen.damage = Some(LogDamage { segment: segment.name.to_owned(), byte: at, last: seen.last });
                    }
                }
                return Ok(false);
            };
            seen.whole = block.whole.or(seen.whole);
            if let Some(visit) = visit {
                for record in block.records() {
                    seen.last = point_of(record).unwrap_or(seen.last);
                    if let ScanStep::Stop = visit(record)? {
                        return Ok(false);
                    }
                }
            }
            seen.last = block.last;
            at += block.bytes;
        }
        seen.bytes += at;
        Ok(true)
    }
}

struct LogSegment<'a> {
    name: &'a str,
    backend: Box<dyn StorageBackend>,
    bytes: u64,
}

struct LogSegmentHead {
    salt: u64,
    number: u32,
    /// Position of the last commit before the segment.
    before: CommitPosition,
}

struct LogBlock {
    /// Bytes of the block, its header included.
    bytes: u64,
    last: CommitPosition,
    whole: Option<CommitPosition>,
    /// The records. Empty if only headers are read.
    body: Vec<u8>,
}

impl LogBlock {
    fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.body.as_slice();
        std::iter::from_fn(move || {
            let (bytes, after) = rest.split_first_chunk::<4>()?;
            let (record, after) = after.split_at_checked(u32::from_le_bytes(*bytes) as usize)?;
            rest = after;
            Some(record)
        })
    }

    /// Whether the body has `count` readable records with consecutive numbers after `before`.
    fn is_sound(&self, before: u64, count: u32) -> bool {
        let (mut number, mut bytes) = (before, 0);
        for record in self.records() {
            number += 1;
            bytes += 4 + record.len();
            if point_of(record).is_none_or(|point| point.number != number) || !replay::is_sound(record) {
                return false;
            }
        }
        bytes == self.body.len() && number - before == u64::from(count) && number == self.last.number
    }
}

impl<'a> LogSegment<'a> {
    /// Opens a segment. `None` if there is no such file.
    fn open(disk: &dyn Disk, name: &'a str) -> Result<Option<LogSegment<'a>>> {
        let failed = |error| io(name, error);
        if !disk.exists(name).map_err(failed)? {
            return Ok(None);
        }
        let backend = disk.open(name, false).map_err(failed)?;
        let bytes = backend.len().map_err(failed)?;
        Ok(Some(LogSegment { name, backend, bytes }))
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        self.backend.read(at, bytes).map_err(|error| io(self.name, error))
    }

    fn head(&self) -> Result<Option<LogSegmentHead>> {
        let mut head = [0; SEGMENT_HEAD_BYTES];
        if self.bytes < SEGMENT_HEAD_BYTES as u64 {
            return Ok(None);
        }
        self.read(0, &mut head)?;
        let (fields, sum) = head.split_at(SEGMENT_HEAD_BYTES - 4);
        if !fields.starts_with(SEGMENT_MAGIC) || crc32fast::hash(fields).to_le_bytes() != sum {
            return Ok(None);
        }
        let fields = &fields[SEGMENT_MAGIC.len()..];
        let before = point_of(&fields[12..]);
        Ok(before.map(|before| LogSegmentHead { salt: long(fields, 0), number: short(fields, 8), before }))
    }

    /// The block at `at` that follows commit `last`. `None` if no complete block begins there.
    fn block(&self, at: u64, salt: u64, last: u64, with_body: bool) -> Result<Option<LogBlock>> {
        let left = self.bytes - at;
        if left < BLOCK_HEAD_BYTES as u64 {
            return Ok(None);
        }
        let mut head = [0; BLOCK_HEAD_BYTES];
        self.read(at, &mut head)?;
        let Some(found) = BlockHead::read(&head, salt) else { return Ok(None) };
        let bytes = BLOCK_HEAD_BYTES as u64 + u64::from(found.body_bytes);
        let is_next = found.first.number == last + u64::from(found.records > 0);
        if !is_next || left < bytes {
            return Ok(None);
        }
        let mut block = LogBlock { bytes, last: found.last, whole: found.whole, body: Vec::new() };
        if with_body {
            block.body = vec![0; found.body_bytes as usize];
            self.read(at + BLOCK_HEAD_BYTES as u64, &mut block.body)?;
            if crc32fast::hash(&block.body) != found.sum || !block.is_sound(last, found.records) {
                return Ok(None);
            }
        }
        Ok(Some(block))
    }

    /// Whether a whole block follows `at`, where no block begins.
    fn is_followed(&self, at: u64, salt: u64) -> Result<bool> {
        let mut rest = vec![0; (self.bytes - at) as usize];
        self.read(at, &mut rest)?;
        let name = salt.to_le_bytes();
        let mut from = 1;
        while let Some(found) = rest.get(from..).and_then(|rest| rest.windows(8).position(|bytes| bytes == name)) {
            let start = from + found;
            let head = rest[start..].first_chunk::<BLOCK_HEAD_BYTES>().and_then(|head| BlockHead::read(head, salt));
            let body = head.and_then(|head| {
                let body = rest[start + BLOCK_HEAD_BYTES..].get(..head.body_bytes as usize)?;
                (crc32fast::hash(body) == head.sum).then_some(())
            });
            if body.is_some() {
                return Ok(true);
            }
            from = start + 1;
        }
        Ok(false)
    }
}

struct BlockHead {
    body_bytes: u32,
    records: u32,
    first: CommitPosition,
    last: CommitPosition,
    whole: Option<CommitPosition>,
    sum: u32,
}

impl BlockHead {
    fn read(head: &[u8; BLOCK_HEAD_BYTES], salt: u64) -> Option<BlockHead> {
        let (fields, sum) = head.split_at(BLOCK_HEAD_BYTES - 4);
        if long(fields, 0) != salt || crc32fast::hash(fields).to_le_bytes() != sum {
            return None;
        }
        let point = |n: usize| point_of(&fields[16 + n * POINT_BYTES..]);
        Some(BlockHead {
            body_bytes: short(fields, 8),
            records: short(fields, 12),
            first: point(0)?,
            last: point(1)?,
            whole: point(2).filter(|point| *point != NOT_WHOLE),
            sum: short(fields, 16 + 3 * POINT_BYTES),
        })
    }
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]))
}

fn short(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|n| bytes[at + n]))
}
