//! An immutable sorted run of fingerprints: eight bytes for each, in memory or in a file of its own.
//!
//! An entry is half of the fingerprint and the number of its block of ids. A young run stays in memory, because it may
//! still be merged, and has a file for the next start. An old run is read from its file.
//!
//! Invariant: a run has the fingerprint of every row whose id is in its span. A file that cannot be read leads to the
//! whole span, so that no fingerprint is missed.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::kv::disk::Disk;
use crate::model::id::EventId;
use crate::mutants::mutant;
use crate::store::idempotency::index::{Fingerprint, Hint};
use crate::store::idempotency::run_file::{self, IdSpan, RunHead, RunSummary};

/// Number of ids in one block, hence of rows that the check of one hint reads.
pub const BLOCK_IDS: usize = 64;

/// An immutable sorted run of fingerprints.
#[derive(Debug)]
pub struct HintRun {
    pub span: IdSpan,
    content: RunContent,
    /// Whether the span has a file, as far as is known.
    is_stored: bool,
    /// Spans of the runs that were merged into this one. Their files are removed once this run has one.
    replaced: Vec<IdSpan>,
}

#[derive(Debug)]
enum RunContent {
    Memory {
        /// Sorted entries: the first half of the fingerprint, then the number of its block.
        entries: Vec<u64>,
        /// The first id of each block.
        blocks: Vec<EventId>,
    },
    File(StoredRun),
}

/// A run that is read from its file.
#[derive(Debug)]
struct StoredRun {
    head: RunHead,
    /// `None` until it is read.
    summary: Option<RunSummary>,
    is_damaged: AtomicBool,
}

impl HintRun {
    /// The run of these fingerprints, which are all of the ids from `from` to the greatest of them.
    pub fn of(from: EventId, entries: Vec<(Fingerprint, EventId)>) -> HintRun {
        let last = entries.iter().map(|(_, id)| *id).max().unwrap_or(from);
        HintRun::of_span(IdSpan { from, last }, entries)
    }

    /// The run of a span, of which these are all fingerprints.
    pub fn of_span(span: IdSpan, mut entries: Vec<(Fingerprint, EventId)>) -> HintRun {
        entries.sort_unstable_by_key(|(_, id)| id.as_u128());
        let blocks: Vec<EventId> = entries.chunks(BLOCK_IDS).map(|block| block[0].1).collect();
        let numbered = entries.chunks(BLOCK_IDS).enumerate();
        let mut entries: Vec<u64> =
            numbered.flat_map(|(number, block)| block.iter().map(move |(print, _)| entry(*print, number))).collect();
        entries.sort_unstable();
        HintRun { span, content: RunContent::Memory { entries, blocks }, is_stored: false, replaced: Vec::new() }
    }

    /// The run of a file. One of at most `young_max` entries is read into memory.
    ///
    /// # Errors
    /// The file is missing or damaged, or the disk fails.
    pub fn open(disk: &dyn Disk, span: IdSpan, young_max: usize) -> io::Result<HintRun> {
        let head = run_file::read_head(disk, span)?.ok_or(io::ErrorKind::InvalidData)?;
        let content = if head.entries as usize <= young_max {
            let summary = run_file::read_summary(disk, &head)?;
            RunContent::Memory { entries: run_file::read_entries(disk, &head, &summary)?, blocks: summary.blocks }
        } else {
            RunContent::File(StoredRun { head, summary: None, is_damaged: AtomicBool::default() })
        };
        Ok(HintRun { span, content, is_stored: true, replaced: Vec::new() })
    }

    /// Number of fingerprints.
    pub fn len(&self) -> usize {
        match &self.content {
            RunContent::Memory { entries, .. } => entries.len(),
            RunContent::File(stored) => stored.head.entries as usize,
        }
    }

    /// Whether the run is in memory, so that it can be merged.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.content, RunContent::Memory { .. })
    }

    /// Whether the run has a file.
    pub fn is_stored(&self) -> bool {
        self.is_stored
    }

    /// Writes the run to its file, and removes the files of the runs that it replaces. A run of more than `young_max`
    /// entries leaves memory.
    ///
    /// # Errors
    /// The disk fails or is full. The run stays as it was.
    pub fn store(&mut self, disk: &dyn Disk, young_max: usize) -> io::Result<()> {
        let RunContent::Memory { entries, blocks } = &self.content else { return Ok(()) };
        let (head, summary) = run_file::write(disk, self.span, entries, blocks)?;
        if entries.len() > young_max {
            self.content =
                RunContent::File(StoredRun { head, summary: Some(summary), is_damaged: AtomicBool::default() });
        }
        self.is_stored = true;
        std::mem::take(&mut self.replaced).into_iter().for_each(|span| remove_file(disk, span));
        Ok(())
    }

    /// Removes the files of the run.
    pub fn discard(self, disk: &dyn Disk) {
        let own = self.is_stored.then_some(self.span);
        own.into_iter().chain(self.replaced).for_each(|span| remove_file(disk, span));
    }

    /// Reads the summary of a run that is not in memory. Returns whether the run can be used. If it cannot, its file is
    /// damaged or missing, and the caller rebuilds the run from the rows of its span.
    pub fn prepare(&mut self, disk: &dyn Disk) -> bool {
        let RunContent::File(stored) = &mut self.content else { return true };
        let mut is_damaged = stored.is_damaged.load(Ordering::Relaxed);
        if stored.summary.is_none() {
            let read = run_file::read_summary(disk, &stored.head);
            is_damaged |= read.as_ref().is_err_and(is_damage);
            stored.summary = read.ok();
        }
        !is_damaged
    }

    /// Merges this run with the next one. Both are in memory.
    pub fn joined(self, next: HintRun) -> HintRun {
        let span = IdSpan { from: self.span.from, last: next.span.last };
        let files = [&self, &next].into_iter().filter(|run| run.is_stored).map(|run| run.span);
        let mut replaced: Vec<IdSpan> = files.collect();
        replaced.extend(self.replaced.into_iter().chain(next.replaced));
        let (RunContent::Memory { entries: own, mut blocks }, RunContent::Memory { entries: other, blocks: others }) =
            (self.content, next.content)
        else {
            unreachable!("only runs in memory are merged");
        };
        let shift = if mutant!("merge_misplaces") { 0 } else { blocks.len() as u64 };
        let mut entries = Vec::with_capacity(own.len() + other.len());
        let (mut own, mut other) = (own.into_iter().peekable(), other.into_iter().map(|e| e + shift).peekable());
        while let (Some(a), Some(b)) = (own.peek(), other.peek()) {
            entries.extend(if a <= b { own.next() } else { other.next() });
        }
        entries.extend(own.chain(other));
        blocks.extend(others);
        HintRun { span, content: RunContent::Memory { entries, blocks }, is_stored: false, replaced }
    }

    /// Blocks that may contain the fingerprint, newest first.
    pub fn find(&self, disk: &dyn Disk, fingerprint: Fingerprint) -> Vec<Hint> {
        match &self.content {
            RunContent::Memory { entries, blocks } => {
                let (least, most) = (entry(fingerprint, 0), entry(fingerprint, u32::MAX as usize));
                let start = index_of(entries, least);
                let same = entries[start..].iter().take_while(|entry| **entry <= most).count();
                let numbers = entries[start..start + same].iter().rev();
                numbers.map(|entry| self.block(blocks, *entry as u32 as usize)).collect()
            }
            RunContent::File(stored) => stored.find(disk, fingerprint).map_or_else(
                || vec![Hint::Within(self.span.from, self.span.last)],
                |(blocks, numbers)| numbers.iter().rev().map(|number| self.block(blocks, *number as usize)).collect(),
            ),
        }
    }

    fn block(&self, blocks: &[EventId], number: usize) -> Hint {
        let last = self.span.last;
        Hint::Within(blocks.get(number).copied().unwrap_or(self.span.from), *blocks.get(number + 1).unwrap_or(&last))
    }

    #[cfg(test)]
    pub fn is_sorted(&self) -> bool {
        match &self.content {
            RunContent::Memory { entries, blocks } => entries.is_sorted() && blocks.is_sorted(),
            RunContent::File(_) => true,
        }
    }
}

impl StoredRun {
    /// First ids of all blocks, and numbers of the blocks that may contain the fingerprint. `None` if the file cannot be
    /// read now. The run of a damaged file is rebuilt before the next batch.
    fn find(&self, disk: &dyn Disk, fingerprint: Fingerprint) -> Option<(&[EventId], Vec<u32>)> {
        let summary = self.summary.as_ref()?;
        let found = run_file::find(disk, &self.head, summary, (fingerprint >> 32) as u32);
        self.is_damaged.fetch_or(found.as_ref().is_err_and(is_damage), Ordering::Relaxed);
        Some((&summary.blocks, found.ok()?))
    }
}

/// Whether reading the file again is of no use. A lack of descriptors or of memory ends by itself.
fn is_damage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    !shortages.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A file that stays is removed by the next start.
pub fn remove_file(disk: &dyn Disk, span: IdSpan) {
    let _ = disk.remove(&span.file_name());
}

/// Number of entries before `sought`. Fingerprints are uniform, so the search starts at the interpolated position.
fn index_of(entries: &[u64], sought: u64) -> usize {
    let len = entries.len();
    let guess = ((u128::from(sought) * len as u128) >> 64) as usize;
    let (mut low, mut high, mut step) = (guess, guess, BLOCK_IDS);
    while low > 0 && entries[low - 1] >= sought {
        low = low.saturating_sub(step);
        step *= 2;
    }
    while high < len && entries[high] < sought {
        high = (high + step).min(len);
        step *= 2;
    }
    low + entries[low..high].partition_point(|entry| *entry < sought)
}

fn entry(fingerprint: Fingerprint, block: usize) -> u64 {
    fingerprint >> 32 << 32 | block as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::disk::RealDisk;
    use crate::store::idempotency::index::tests::{id, print};

    fn run(numbers: std::ops::Range<u64>) -> HintRun {
        HintRun::of(id(numbers.start), numbers.map(|number| (print(number), id(number))).collect())
    }

    #[test]
    fn an_index_is_found_from_any_interpolated_position() {
        let entries: Vec<u64> = (0..1_000).map(|n| if n < 900 { n } else { u64::MAX - 1_000 + n }).collect();
        for sought in entries.iter().flat_map(|e| [e.saturating_sub(1), *e, e.saturating_add(1)]).chain([1 << 63]) {
            assert_eq!(index_of(&entries, sought), entries.partition_point(|entry| *entry < sought), "{sought}");
        }
    }

    #[test]
    fn a_run_finds_the_same_in_its_file_as_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::lock(folder.path()).unwrap();
        // Several pages, and one half of a fingerprint that fills more than one of them.
        let same = (3_000..4_500).map(|number| (print(5) >> 32 << 32, id(number)));
        let entries: Vec<_> = (0..3_000).map(|number| (print(number), id(number))).chain(same).collect();
        let mut stored = HintRun::of(id(0), entries.clone());
        stored.store(&disk, 0).unwrap();
        let memory = HintRun::of(id(0), entries);
        let mut opened = HintRun::open(&disk, stored.span, 0).unwrap();
        assert!(opened.prepare(&disk) && !opened.is_in_memory() && !stored.is_in_memory());
        for fingerprint in (0..6_000).map(print).chain([0, u64::MAX]) {
            let expected = memory.find(&disk, fingerprint);
            assert_eq!(stored.find(&disk, fingerprint), expected, "{fingerprint:x}");
            assert_eq!(opened.find(&disk, fingerprint), expected, "{fingerprint:x}");
        }
    }

    #[test]
    fn every_altered_byte_of_a_file_is_detected_or_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::lock(folder.path()).unwrap();
        let mut whole = run(0..1_500);
        whole.store(&disk, 1_500).unwrap();
        let path = folder.path().join(whole.span.file_name());
        let bytes = std::fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(509).chain((0..80).step_by(3)) {
            let mut altered = bytes.clone();
            altered[at] ^= 4;
            std::fs::write(&path, &altered).unwrap();
            let Ok(mut run) = HintRun::open(&disk, whole.span, 0) else { continue };
            let is_ready = run.prepare(&disk);
            for number in (0..1_500).step_by(13) {
                let found = run.find(&disk, print(number));
                let leads = |hint: &Hint| matches!(hint, Hint::Within(a, b) if (*a..=*b).contains(&id(number)));
                assert!(!is_ready || found.iter().any(leads), "byte {at}, number {number}");
            }
        }
    }

    #[test]
    fn a_merged_run_replaces_the_files_of_its_parts_once_it_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::lock(folder.path()).unwrap();
        let mut parts = [run(0..100), run(100..200), run(200..300)];
        parts[..2].iter_mut().for_each(|part| part.store(&disk, 1_000).unwrap());
        let spans = [parts[0].span, parts[1].span];
        let mut merged = parts.into_iter().reduce(HintRun::joined).unwrap();
        assert!(spans.iter().all(|span| disk.exists(&span.file_name()).unwrap()));
        merged.store(&disk, 1_000).unwrap();
        assert!(!spans.iter().any(|span| disk.exists(&span.file_name()).unwrap()));
        let span = merged.span;
        assert_eq!(HintRun::open(&disk, span, 1_000).unwrap().len(), 300);
        merged.discard(&disk);
        assert!(!disk.exists(&span.file_name()).unwrap());
    }
}
