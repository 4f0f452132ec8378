//! The file of a run of fingerprints, read a page at a time.
//!
//! ```text
//! page 0      head: magic, first and last id of the span, counts, checksum of the summary, checksum of the head
//! pages 1..   sorted entries of 8 bytes, 512 to a page, the last page filled with zeros
//! summary     for each page its first entry and its checksum, then the first id of each block, then the filter
//! ```
//!
//! A file repeats rows of the partitions and is never synced. Invariant: every byte that is used has a checksum, so a
//! torn file is detected, and the run is rebuilt from the rows.

use std::io;

use crate::kv::disk::Disk;
use crate::model::id::EventId;
use crate::store::idempotency::filter::FingerprintFilter;
use crate::store::partitions::set::PARTITIONS;

const MAGIC: &[u8; 8] = b"prpfing1";
const PAGE_BYTES: usize = 4096;
const PAGE_ENTRIES: usize = PAGE_BYTES / 8;
/// Bytes of the head that are used, its checksum included.
const HEAD_BYTES: usize = 8 + 2 * 16 + 3 * 8 + 2 * 4;
/// Most entries of a file: a head with more is damaged.
const ENTRIES_MAX: u64 = 1 << 32;
/// End of the name of such a file.
const SUFFIX: &str = ".fingerprints";

/// The ids whose fingerprints a run has, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdSpan {
    pub from: EventId,
    pub last: EventId,
}

impl IdSpan {
    /// The path of the file of a run, below the data directory.
    pub fn file_name(self) -> String {
        let [from, last] = [self.from, self.last].map(|id| uuid::Uuid::from_u128(id.as_u128()).simple());
        format!("{PARTITIONS}/{from}-{last}{SUFFIX}")
    }

    /// The span that a file's name, without its folder, encodes. `None` for other files.
    pub fn of_file_name(name: &str) -> Option<IdSpan> {
        let (from, last) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let id = |text| Some(EventId::from_u128(uuid::Uuid::try_parse(text).ok()?.as_u128()));
        Some(IdSpan { from: id(from)?, last: id(last)? })
    }
}

/// Whether a file of the folder of partitions has fingerprints. A start removes those that it does not need.
pub fn is_run_file(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

/// The part of a run's file that stays in memory.
#[derive(Debug)]
pub struct RunSummary {
    /// First entry and checksum of each page.
    pages: Vec<(u64, u32)>,
    /// The first id of each block.
    pub blocks: Vec<EventId>,
    filter: FingerprintFilter,
}

/// The head of a run's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunHead {
    pub span: IdSpan,
    pub entries: u64,
    blocks: u64,
    filter_words: u64,
    summary_crc: u32,
}

impl RunHead {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.span.from.as_bytes());
        bytes.extend(self.span.last.as_bytes());
        [self.entries, self.blocks, self.filter_words].iter().for_each(|n| bytes.extend(n.to_le_bytes()));
        bytes.extend(self.summary_crc.to_le_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<RunHead> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        let (content, summary_crc) = content.split_last_chunk::<4>()?;
        let rest = content.strip_prefix(MAGIC)?;
        let (from, rest) = rest.split_first_chunk::<16>()?;
        let (last, rest) = rest.split_first_chunk::<16>()?;
        let mut counts = rest.chunks_exact(8).filter_map(|n| n.try_into().ok()).map(u64::from_le_bytes);
        let head = RunHead {
            span: IdSpan { from: EventId::from_bytes(*from), last: EventId::from_bytes(*last) },
            entries: counts.next()?,
            blocks: counts.next()?,
            filter_words: counts.next()?,
            summary_crc: u32::from_le_bytes(*summary_crc),
        };
        let is_whole = crc32fast::hash(&bytes[..HEAD_BYTES - 4]).to_le_bytes() == *crc;
        let is_bounded = [head.entries, head.blocks, head.filter_words].iter().all(|count| *count <= ENTRIES_MAX);
        (is_whole && is_bounded).then_some(head)
    }

    fn pages(&self) -> usize {
        (self.entries as usize).div_ceil(PAGE_ENTRIES)
    }

    fn summary_offset(&self) -> u64 {
        (1 + self.pages() as u64) * PAGE_BYTES as u64
    }

    fn summary_bytes(&self) -> usize {
        self.pages() * 12 + self.blocks as usize * 16 + self.filter_words as usize * 8
    }
}

/// Writes a run to its file. The head is written last, so that a file that was not written to its end has none.
///
/// # Errors
/// The disk fails or is full. The file is removed then, if possible.
pub fn write(disk: &dyn Disk, span: IdSpan, entries: &[u64], blocks: &[EventId]) -> io::Result<(RunHead, RunSummary)> {
    let name = span.file_name();
    if disk.exists(&name)? {
        disk.remove(&name)?;
    }
    let written = write_new(disk, span, entries, blocks);
    if written.is_err() {
        // If it stays, the next start removes it.
        let _ = disk.remove(&name);
    }
    written
}

fn write_new(disk: &dyn Disk, span: IdSpan, entries: &[u64], blocks: &[EventId]) -> io::Result<(RunHead, RunSummary)> {
    let mut body: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    body.resize(body.len().next_multiple_of(PAGE_BYTES), 0);
    let firsts = entries.iter().step_by(PAGE_ENTRIES).copied();
    let summary = RunSummary {
        pages: firsts.zip(body.chunks_exact(PAGE_BYTES).map(crc32fast::hash)).collect(),
        blocks: blocks.to_vec(),
        filter: FingerprintFilter::of(entries.iter().map(|entry| half_of(*entry))),
    };
    let in_memory = summary.encode();
    let head = RunHead {
        span,
        entries: entries.len() as u64,
        blocks: blocks.len() as u64,
        filter_words: summary.filter.words().len() as u64,
        summary_crc: crc32fast::hash(&in_memory),
    };
    body.extend(in_memory);
    let file = disk.open(&span.file_name(), true)?;
    file.set_len((PAGE_BYTES + body.len()) as u64)?;
    file.write(PAGE_BYTES as u64, &body)?;
    file.write(0, &head.encode())?;
    file.close()?;
    Ok((head, summary))
}

/// Reads the head of a span's file. `None` if it is damaged or not the head of this span.
///
/// # Errors
/// The file is missing, or the disk fails.
pub fn read_head(disk: &dyn Disk, span: IdSpan) -> io::Result<Option<RunHead>> {
    let mut bytes = [0; HEAD_BYTES];
    disk.open(&span.file_name(), false)?.read(0, &mut bytes)?;
    Ok(RunHead::decode(&bytes).filter(|head| head.span == span))
}

/// Reads the summary of a file.
///
/// # Errors
/// The disk fails, or the summary is damaged.
pub fn read_summary(disk: &dyn Disk, head: &RunHead) -> io::Result<RunSummary> {
    let file = disk.open(&head.span.file_name(), false)?;
    if file.len()? != head.summary_offset() + head.summary_bytes() as u64 {
        return Err(damaged());
    }
    let mut bytes = vec![0; head.summary_bytes()];
    file.read(head.summary_offset(), &mut bytes)?;
    if crc32fast::hash(&bytes) != head.summary_crc {
        return Err(damaged());
    }
    RunSummary::decode(head, &bytes).ok_or_else(damaged)
}

/// Reads all entries of a file.
///
/// # Errors
/// The disk fails, or a page is damaged.
pub fn read_entries(disk: &dyn Disk, head: &RunHead, summary: &RunSummary) -> io::Result<Vec<u64>> {
    let file = disk.open(&head.span.file_name(), false)?;
    let mut bytes = vec![0; head.pages() * PAGE_BYTES];
    file.read(PAGE_BYTES as u64, &mut bytes)?;
    if bytes.chunks_exact(PAGE_BYTES).zip(&summary.pages).any(|(page, (_, crc))| crc32fast::hash(page) != *crc) {
        return Err(damaged());
    }
    Ok(entries_in(&bytes).take(head.entries as usize).collect())
}

/// Numbers of the blocks whose entries have this half of a fingerprint, in ascending order.
///
/// # Errors
/// The disk fails, or a page is damaged.
pub fn find(disk: &dyn Disk, head: &RunHead, summary: &RunSummary, half: u32) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    if !summary.filter.may_have(half) {
        return Ok(found);
    }
    let (least, most) = (u64::from(half) << 32, u64::from(half) << 32 | u64::from(u32::MAX));
    let file = disk.open(&head.span.file_name(), false)?;
    // Entries of one half may begin on the page before the first page that begins with it.
    let mut number = summary.pages.partition_point(|(first, _)| *first < least).saturating_sub(1);
    let mut page = [0; PAGE_BYTES];
    while let Some((_, crc)) = summary.pages.get(number).filter(|(first, _)| *first <= most) {
        file.read(((1 + number) * PAGE_BYTES) as u64, &mut page)?;
        if crc32fast::hash(&page) != *crc {
            return Err(damaged());
        }
        let entries = entries_in(&page).take(head.entries as usize - number * PAGE_ENTRIES);
        found.extend(entries.filter(|entry| (least..=most).contains(entry)).map(|entry| entry as u32));
        number += 1;
    }
    Ok(found)
}

impl RunSummary {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.pages.iter().for_each(|(first, _)| bytes.extend(first.to_le_bytes()));
        self.pages.iter().for_each(|(_, crc)| bytes.extend(crc.to_le_bytes()));
        self.blocks.iter().for_each(|id| bytes.extend(id.as_bytes()));
        self.filter.words().iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes
    }

    fn decode(head: &RunHead, bytes: &[u8]) -> Option<RunSummary> {
        let (firsts, rest) = bytes.split_at_checked(head.pages() * 8)?;
        let (sums, rest) = rest.split_at_checked(head.pages() * 4)?;
        let (blocks, words) = rest.split_at_checked(head.blocks as usize * 16)?;
        let sums = sums.chunks_exact(4).filter_map(|sum| sum.try_into().ok()).map(u32::from_le_bytes);
        let blocks = blocks.chunks_exact(16).filter_map(|id| id.try_into().ok()).map(EventId::from_bytes);
        Some(RunSummary {
            pages: entries_in(firsts).zip(sums).collect(),
            blocks: blocks.collect(),
            filter: FingerprintFilter::from_words(entries_in(words).collect())?,
        })
    }
}

fn entries_in(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).filter_map(|entry| entry.try_into().ok()).map(u64::from_le_bytes)
}

/// The half of a fingerprint that an entry has.
fn half_of(entry: u64) -> u32 {
    (entry >> 32) as u32
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "damaged: a file of fingerprints does not have its checksum")
}
