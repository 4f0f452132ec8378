//! Indexes event ids and `Idempotency-Key`s by fingerprint, in memory.
//!
//! A map holds the newest fingerprints, each with the id that it was committed under. A full map becomes a **run**: eight
//! bytes per entry, half of the fingerprint and the number of its block of ids. Two runs of one size merge into one of twice
//! that size, up to a limit, so that insertion and removal stay short.
//!
//! Invariants: an entry is only a hint, so the caller reads the rows it points to and compares them. Ids are inserted in
//! ascending order, commit by commit: each run's ids follow those of the run before.

use std::collections::{HashMap, VecDeque};

use ring::digest::{Context, SHA256};

use crate::model::Time;
use crate::model::id::{AppId, EventId};

/// The first eight bytes of a SHA-256.
pub type Fingerprint = u64;

/// Number of fingerprints at which the map becomes a run: the capacity of a map with 65,536 slots. Unit tests use a small
/// one, so that they exercise runs.
pub(in crate::store) const NEWEST_MAX: usize = if cfg!(test) { 7 << 6 } else { 7 << 13 };
/// Maximum number of fingerprints in a run: merging two of half that size takes some milliseconds.
const RUN_MAX: usize = 20 * NEWEST_MAX;
/// Number of ids in one block, hence of rows that the check of one hint reads.
const BLOCK_IDS: usize = 64;

/// Kind of an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    EventId = 0,
    Answer = 1,
}

/// Fingerprint of a caller's own event id.
pub fn of_event_id(app: AppId, event_id: &str) -> Fingerprint {
    let mut hash = Context::new(&SHA256);
    hash.update(b"event_id");
    hash.update(app.as_bytes());
    hash.update(event_id.as_bytes());
    head(hash.finish().as_ref())
}

/// Fingerprint of an `Idempotency-Key`'s hash.
pub fn of_answer(key: &[u8; 32]) -> Fingerprint {
    head(key) ^ 1
}

/// The first eight bytes of the `Idempotency-Key`'s hash that has this fingerprint.
pub fn head_of_answer(fingerprint: Fingerprint) -> [u8; 8] {
    (fingerprint ^ 1).to_be_bytes()
}

fn head(bytes: &[u8]) -> u64 {
    bytes.first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head))
}

/// Location of rows that may have a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Under this id.
    At(EventId),
    /// Under one of these ids, both ends included.
    Within(EventId, EventId),
}

/// Fingerprints of the idempotency window.
#[derive(Debug, Default)]
pub struct IdempotencyIndex {
    newest_map: HashMap<Fingerprint, EventId>,
    /// Oldest first.
    runs: VecDeque<HintRun>,
    newest: Option<EventId>,
}

impl IdempotencyIndex {
    /// Locations of rows that may have this fingerprint, newest first.
    pub fn find(&self, fingerprint: Fingerprint) -> impl Iterator<Item = Hint> {
        let newest_map = self.newest_map.get(&fingerprint).map(|id| Hint::At(*id));
        newest_map.into_iter().chain(self.runs.iter().rev().flat_map(move |run| run.find(fingerprint)))
    }

    /// Inserts the fingerprints of a commit. Its ids are greater than `newest`.
    pub fn insert(&mut self, committed: impl Iterator<Item = (Fingerprint, EventId)>) {
        for (fingerprint, id) in committed {
            self.newest_map.insert(fingerprint, id);
            self.newest = self.newest.max(Some(id));
        }
        if self.newest_map.len() >= NEWEST_MAX {
            self.freeze();
        }
    }

    /// Inserts fingerprints read at start, in ascending order of ids. `NEWEST_MAX` and more at once become a run directly.
    pub fn insert_loaded(&mut self, read: Vec<(Fingerprint, EventId)>) {
        if read.len() < NEWEST_MAX {
            return self.insert(read.into_iter());
        }
        self.freeze();
        self.newest = self.newest.max(read.last().map(|(_, id)| *id));
        self.push_run(HintRun::of(read));
    }

    fn freeze(&mut self) {
        if !self.newest_map.is_empty() {
            let newest_map = self.newest_map.drain().collect();
            self.push_run(HintRun::of(newest_map));
        }
    }

    /// Greatest id in the index.
    pub fn newest(&self) -> Option<EventId> {
        self.newest
    }

    /// Appends a run and merges runs of about equal size, as a binary counter carries.
    fn push_run(&mut self, run: HintRun) {
        self.runs.push_back(run);
        while let [.., before, last] = self.runs.make_contiguous()
            && before.entries.len() / 4 * 3 <= last.entries.len()
            && before.entries.len() + last.entries.len() <= RUN_MAX
        {
            let joined = self.runs.pop_back().zip(self.runs.pop_back()).map(|(last, before)| before.joined(last));
            self.runs.extend(joined);
        }
    }

    /// Removes entries received before `horizon`. A run is removed only as a whole.
    pub fn remove_before(&mut self, horizon: Time) {
        while self.runs.front().is_some_and(|run| run.last.time() < horizon) {
            self.runs.pop_front();
        }
        self.newest_map.retain(|_, event| event.time() >= horizon);
        self.newest_map.shrink_to_fit();
    }
}

/// An immutable sorted run of fingerprints.
#[derive(Debug)]
struct HintRun {
    /// Sorted entries: the first half of the fingerprint, then the number of its block.
    entries: Vec<u64>,
    /// The first id of each block.
    blocks: Vec<EventId>,
    last: EventId,
}

impl HintRun {
    fn of(mut entries: Vec<(Fingerprint, EventId)>) -> HintRun {
        entries.sort_unstable_by_key(|(_, id)| id.as_u128());
        let blocks: Vec<EventId> = entries.chunks(BLOCK_IDS).map(|block| block[0].1).collect();
        let last = entries.last().map_or(EventId::MIN, |(_, id)| *id);
        let numbered = entries.chunks(BLOCK_IDS).enumerate();
        let mut entries: Vec<u64> =
            numbered.flat_map(|(number, block)| block.iter().map(move |(print, _)| entry(*print, number))).collect();
        entries.sort_unstable();
        HintRun { entries, blocks, last }
    }

    /// Merges this run with the next one.
    fn joined(mut self, next: HintRun) -> HintRun {
        let shift = self.blocks.len() as u64;
        let mut entries = Vec::with_capacity(self.entries.len() + next.entries.len());
        let (mut own, mut other) =
            (self.entries.into_iter().peekable(), next.entries.into_iter().map(|e| e + shift).peekable());
        while let (Some(a), Some(b)) = (own.peek(), other.peek()) {
            entries.extend(if a <= b { own.next() } else { other.next() });
        }
        entries.extend(own.chain(other));
        self.blocks.extend(next.blocks);
        HintRun { entries, blocks: self.blocks, last: next.last }
    }

    /// Blocks that may contain the fingerprint, newest first.
    fn find(&self, fingerprint: Fingerprint) -> impl Iterator<Item = Hint> {
        let (least, most) = (entry(fingerprint, 0), entry(fingerprint, u32::MAX as usize));
        let start = self.index_of(least);
        let same = self.entries[start..].iter().take_while(move |entry| **entry <= most).count();
        self.entries[start..start + same].iter().rev().map(|entry| self.block(*entry as u32 as usize))
    }

    /// Number of entries before `sought`. Fingerprints are uniform, so the search starts at the interpolated position.
    fn index_of(&self, sought: u64) -> usize {
        let len = self.entries.len();
        let guess = ((u128::from(sought) * len as u128) >> 64) as usize;
        let (mut low, mut high, mut step) = (guess, guess, BLOCK_IDS);
        while low > 0 && self.entries[low - 1] >= sought {
            low = low.saturating_sub(step);
            step *= 2;
        }
        while high < len && self.entries[high] < sought {
            high = (high + step).min(len);
            step *= 2;
        }
        low + self.entries[low..high].partition_point(|entry| *entry < sought)
    }

    fn block(&self, number: usize) -> Hint {
        let end = self.blocks.get(number + 1).copied().unwrap_or(self.last);
        Hint::Within(self.blocks[number], end)
    }
}

fn entry(fingerprint: Fingerprint, block: usize) -> u64 {
    fingerprint >> 32 << 32 | block as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A uniform and deterministic fingerprint.
    fn print(number: u64) -> Fingerprint {
        head(ring::digest::digest(&SHA256, &number.to_be_bytes()).as_ref())
    }

    fn id(number: u64) -> EventId {
        EventId::from_u128(EventId::floor(Time(number as i64)).as_u128() + 5)
    }

    fn index_of_range(numbers: std::ops::Range<u64>) -> IdempotencyIndex {
        let mut idempotency = IdempotencyIndex::default();
        for commit in numbers.clone().collect::<Vec<_>>().chunks(64) {
            // Within a commit the order is arbitrary.
            idempotency.insert(commit.iter().rev().map(|number| (print(*number), id(*number))));
        }
        assert_eq!(idempotency.newest(), Some(id(numbers.end - 1)));
        idempotency
    }

    fn leads_to(idempotency: &IdempotencyIndex, number: u64) -> bool {
        idempotency.find(print(number)).any(|trace| match trace {
            Hint::At(at) => at == id(number),
            Hint::Within(first, last) => (first..=last).contains(&id(number)),
        })
    }

    #[test]
    fn every_inserted_fingerprint_is_found_and_few_others() {
        let many = 5 * NEWEST_MAX as u64 + 100;
        let idempotency = index_of_range(0..many);
        assert_eq!(idempotency.runs.len(), 2, "four runs are one by now");
        assert!((0..many).all(|number| leads_to(&idempotency, number)));
        let strangers = (many..2 * many).filter(|number| idempotency.find(print(*number)).next().is_some()).count();
        assert!(strangers < 100, "{strangers}");
    }

    #[test]
    fn a_hint_points_to_few_ids() {
        let idempotency = index_of_range(0..2 * NEWEST_MAX as u64 + 99);
        for trace in (0..NEWEST_MAX as u64).flat_map(|number| idempotency.find(print(number)).collect::<Vec<_>>()) {
            let Hint::Within(first, last) = trace else { panic!("{trace:?}") };
            assert!(last.time().since(first.time()) <= BLOCK_IDS as i64);
        }
    }

    #[test]
    fn runs_stay_few_and_bounded() {
        let mut idempotency = IdempotencyIndex::default();
        for number in 0..40 {
            let ids = number * NEWEST_MAX as u64..(number + 1) * NEWEST_MAX as u64;
            idempotency.insert(ids.map(|number| (number << 32, id(number))));
        }
        let sizes: Vec<usize> = idempotency.runs.iter().map(|run| run.entries.len() / NEWEST_MAX).collect();
        assert_eq!(sizes, [16, 16, 8]);
        assert!(idempotency.runs.iter().all(|run| run.entries.is_sorted() && run.blocks.is_sorted()));
    }

    #[test]
    fn the_newest_of_two_with_one_fingerprint_comes_first() {
        let mut idempotency = index_of_range(0..NEWEST_MAX as u64);
        let later = NEWEST_MAX as u64 + 7;
        idempotency.insert([(print(3), id(later))].into_iter());
        let traces: Vec<Hint> = idempotency.find(print(3)).collect();
        assert!(matches!(traces[..], [Hint::At(at), Hint::Within(..)] if at == id(later)), "{traces:?}");
    }

    #[test]
    fn entries_before_the_horizon_are_removed_run_by_run() {
        let many = NEWEST_MAX as u64;
        let mut idempotency = index_of_range(0..many + 300);
        idempotency.remove_before(Time(many as i64 / 2));
        assert!(leads_to(&idempotency, 1), "a run goes as one");
        idempotency.remove_before(Time(many as i64 + 100));
        assert!(idempotency.runs.is_empty() && idempotency.newest_map.len() == 200);
        assert!(!leads_to(&idempotency, many - 1) && leads_to(&idempotency, many + 299));
    }

    #[test]
    fn an_index_is_found_from_any_interpolated_position() {
        let entries: Vec<u64> = (0..1_000).map(|n| if n < 900 { n } else { u64::MAX - 1_000 + n }).collect();
        let run = HintRun { entries: entries.clone(), blocks: vec![id(0)], last: id(9) };
        for sought in entries.iter().flat_map(|e| [e.saturating_sub(1), *e, e.saturating_add(1)]).chain([1 << 63]) {
            assert_eq!(run.index_of(sought), entries.partition_point(|entry| *entry < sought), "{sought}");
        }
    }
}
