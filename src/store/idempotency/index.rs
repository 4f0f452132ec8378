//! Indexes event ids and `Idempotency-Key`s by fingerprint.
//!
//! A map holds the newest fingerprints, each with the id that it was committed under. A full map becomes a **run**
//! (`HintRun`). Two runs of one size merge into one of twice that size, up to a limit, so that insertion and removal stay
//! short. Runs have files, which the next start opens instead of reading their rows.
//!
//! Invariants: an entry is only a hint, so the caller reads the rows it points to and compares them. Ids are inserted
//! in ascending order, commit by commit. Each run's span follows that of the run before, and no id between two spans
//! has a fingerprint of the window.

use std::collections::{HashMap, VecDeque};

use ring::digest::{Context, SHA256};

use crate::kv::disk::Disk;
use crate::model::Time;
use crate::model::id::{AppId, EventId};
use crate::store::idempotency::run::HintRun;
use crate::store::idempotency::run_file::IdSpan;

/// The first eight bytes of a SHA-256.
pub type Fingerprint = u64;

/// Number of fingerprints at which the map becomes a run: the capacity of a map with 65,536 slots.
pub const NEWEST_MAX: usize = 7 << 13;
/// Maximum size of a run, in full maps: merging two runs of half that size takes some milliseconds.
const RUN_MAPS_MAX: usize = 20;

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
#[derive(Debug)]
pub struct IdempotencyIndex {
    newest_map: HashMap<Fingerprint, EventId>,
    /// Oldest first.
    runs: VecDeque<HintRun>,
    newest: Option<EventId>,
    /// Smallest id that the index has, if it was committed: older ones are past the window.
    floor: EventId,
    newest_max: usize,
    /// Whether the fingerprints of earlier commits have been loaded.
    is_loaded: bool,
    /// Whether a run could not be stored, until the next round of maintenance.
    is_storing_paused: bool,
}

impl IdempotencyIndex {
    /// An empty index, whose map becomes a run at `newest_max` fingerprints.
    pub fn new(newest_max: usize) -> IdempotencyIndex {
        IdempotencyIndex {
            newest_map: HashMap::new(),
            runs: VecDeque::new(),
            newest: None,
            floor: EventId::MIN,
            newest_max: newest_max.max(1),
            is_loaded: false,
            is_storing_paused: false,
        }
    }

    /// Locations of rows that may have this fingerprint, newest first.
    pub fn find(&self, disk: &dyn Disk, fingerprint: Fingerprint) -> impl Iterator<Item = Hint> {
        let newest_map = self.newest_map.get(&fingerprint).map(|id| Hint::At(*id));
        newest_map.into_iter().chain(self.runs.iter().rev().flat_map(move |run| run.find(disk, fingerprint)))
    }

    /// Inserts the fingerprints of a commit. Its ids are greater than `newest`.
    pub fn insert(&mut self, committed: impl Iterator<Item = (Fingerprint, EventId)>) {
        for (fingerprint, id) in committed {
            self.newest_map.insert(fingerprint, id);
            self.newest = self.newest.max(Some(id));
        }
        if self.newest_map.len() >= self.newest_max {
            self.freeze();
        }
    }

    /// Inserts the fingerprints that `scan` visits, in ascending order of ids, a bounded number at once. An id has several
    /// fingerprints at times, and all of them go into one run: a start reads no row of an id that a run's file covers.
    ///
    /// # Errors
    /// Those of `scan`. Fingerprints that it visited before the error may be inserted.
    pub fn insert_scanned<E>(
        &mut self,
        scan: impl FnOnce(&mut dyn FnMut(Fingerprint, EventId)) -> Result<(), E>,
    ) -> Result<(), E> {
        let (many, mut read) = (4 * self.newest_max, Vec::new());
        scan(&mut |print, id| {
            if read.len() >= many && read.last().is_some_and(|(_, last)| *last != id) {
                self.insert_loaded(std::mem::take(&mut read));
            }
            read.push((print, id));
        })?;
        self.insert_loaded(read);
        Ok(())
    }

    /// Inserts all fingerprints of some ids, in ascending order of ids. A full map and more at once become a run directly.
    fn insert_loaded(&mut self, read: Vec<(Fingerprint, EventId)>) {
        if read.len() < self.newest_max {
            return self.insert(read.into_iter());
        }
        self.freeze();
        self.newest = self.newest.max(read.last().map(|(_, id)| *id));
        self.push_run(HintRun::of(self.next_from(), read));
    }

    /// Appends the run of a file. Its span follows the newest id.
    pub fn insert_stored(&mut self, run: HintRun) {
        self.freeze();
        self.newest = self.newest.max(Some(run.span.last));
        self.push_run(run);
    }

    /// Makes the map a run.
    fn freeze(&mut self) {
        if !self.newest_map.is_empty() {
            let newest_map = self.newest_map.drain().collect();
            self.push_run(HintRun::of(self.next_from(), newest_map));
        }
    }

    /// The first id of the next run's span.
    fn next_from(&self) -> EventId {
        self.runs.back().map_or(self.floor, |run| run.span.last.next().max(self.floor))
    }

    /// Whether `finish_loading` was called.
    pub fn is_loaded(&self) -> bool {
        self.is_loaded
    }

    /// Records that the fingerprints of earlier commits have been loaded.
    pub fn finish_loading(&mut self) {
        self.is_loaded = true;
    }

    /// Greatest id in the index.
    pub fn newest(&self) -> Option<EventId> {
        self.newest
    }

    /// Sets the smallest id that the index has.
    pub fn begin_at(&mut self, floor: EventId) {
        self.floor = self.floor.max(floor);
    }

    /// Number of entries up to which a run stays in memory: two larger ones do not fit into a run.
    pub fn young_max(&self) -> usize {
        RUN_MAPS_MAX * self.newest_max / 2
    }

    /// Appends a run and merges runs of about equal size, as a binary counter carries.
    fn push_run(&mut self, run: HintRun) {
        let young_max = self.young_max();
        self.runs.push_back(run);
        while let [.., before, last] = self.runs.make_contiguous()
            && before.is_in_memory()
            && last.is_in_memory()
            && before.len() <= young_max
            && before.len() / 4 * 3 <= last.len()
            && before.len() + last.len() <= RUN_MAPS_MAX * self.newest_max
        {
            let joined = self.runs.pop_back().zip(self.runs.pop_back()).map(|(last, before)| before.joined(last));
            self.runs.extend(joined);
        }
    }

    /// Removes entries received before `horizon`. A run is removed only as a whole, with its file.
    pub fn remove_before(&mut self, disk: &dyn Disk, horizon: Time) {
        while self.runs.front().is_some_and(|run| run.span.last.time() < horizon) {
            self.runs.pop_front().into_iter().for_each(|run| run.discard(disk));
        }
        self.newest_map.retain(|_, event| event.time() >= horizon);
        self.newest_map.shrink_to_fit();
        self.begin_at(EventId::floor(horizon));
        self.is_storing_paused = false;
    }

    /// Writes the file of the oldest run that has none. Returns whether another run lacks one. After a failure no run is
    /// stored until `remove_before`: the next start then reads the rows.
    pub fn store_next(&mut self, disk: &dyn Disk) -> bool {
        if self.is_storing_paused {
            return false;
        }
        let young_max = self.young_max();
        let mut unstored = self.runs.iter_mut().filter(|run| !run.is_stored());
        if let Some(run) = unstored.next() {
            self.is_storing_paused = run.store(disk, young_max).is_err();
        }
        unstored.next().is_some() && !self.is_storing_paused
    }

    /// Prepares the runs for lookups. Returns the spans of those that cannot be used.
    pub fn prepare(&mut self, disk: &dyn Disk) -> Vec<IdSpan> {
        self.runs.iter_mut().filter_map(|run| (!run.prepare(disk)).then_some(run.span)).collect()
    }

    /// Replaces the run of a span by one that was made of its rows.
    pub fn replace(&mut self, span: IdSpan, rows: Vec<(Fingerprint, EventId)>) {
        if let Some(run) = self.runs.iter_mut().find(|run| run.span == span) {
            *run = HintRun::of_span(span, rows);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kv::disk::RealDisk;
    use crate::kv::disk::tests::NoDescriptors;
    use crate::store::idempotency::run::BLOCK_IDS;

    /// A small map, so that tests exercise runs.
    const NEWEST: usize = 7 << 6;

    /// A uniform and deterministic fingerprint.
    pub fn print(number: u64) -> Fingerprint {
        head(ring::digest::digest(&SHA256, &number.to_be_bytes()).as_ref())
    }

    pub fn id(number: u64) -> EventId {
        EventId::from_u128(EventId::floor(Time(number as i64)).as_u128() + 5)
    }

    struct Fixture {
        disk: RealDisk,
        _folder: tempfile::TempDir,
    }

    fn disk() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        Fixture { disk: RealDisk::lock(folder.path()).unwrap(), _folder: folder }
    }

    fn index_of_range(numbers: std::ops::Range<u64>) -> IdempotencyIndex {
        let mut idempotency = IdempotencyIndex::new(NEWEST);
        for commit in numbers.clone().collect::<Vec<_>>().chunks(64) {
            // Within a commit the order is arbitrary.
            idempotency.insert(commit.iter().rev().map(|number| (print(*number), id(*number))));
        }
        assert_eq!(idempotency.newest(), Some(id(numbers.end - 1)));
        idempotency
    }

    fn hints(idempotency: &IdempotencyIndex, on: &Fixture, fingerprint: Fingerprint) -> Vec<Hint> {
        idempotency.find(&on.disk, fingerprint).collect()
    }

    fn leads_to(idempotency: &IdempotencyIndex, on: &Fixture, number: u64) -> bool {
        hints(idempotency, on, print(number)).into_iter().any(|trace| match trace {
            Hint::At(at) => at == id(number),
            Hint::Within(first, last) => (first..=last).contains(&id(number)),
        })
    }

    #[test]
    fn every_inserted_fingerprint_is_found_and_few_others() {
        let (many, on) = (5 * NEWEST as u64 + 100, disk());
        let mut idempotency = index_of_range(0..many);
        assert_eq!(idempotency.runs.len(), 2, "four runs are one by now");
        for is_stored in [false, true] {
            while is_stored && idempotency.store_next(&on.disk) {}
            assert!((0..many).all(|number| leads_to(&idempotency, &on, number)));
            let strangers =
                (many..2 * many).filter(|number| !hints(&idempotency, &on, print(*number)).is_empty()).count();
            assert!(strangers < 100, "{strangers}");
        }
    }

    #[test]
    fn a_hint_points_to_few_ids() {
        let (idempotency, on) = (index_of_range(0..2 * NEWEST as u64 + 99), disk());
        for trace in (0..NEWEST as u64).flat_map(|number| hints(&idempotency, &on, print(number))) {
            let Hint::Within(first, last) = trace else { panic!("{trace:?}") };
            assert!(last.time().since(first.time()) <= BLOCK_IDS as i64);
        }
    }

    #[test]
    fn runs_stay_few_and_bounded_and_the_old_ones_leave_memory() {
        let (mut idempotency, on) = (IdempotencyIndex::new(NEWEST), disk());
        for number in 0..40 {
            let ids = number * NEWEST as u64..(number + 1) * NEWEST as u64;
            idempotency.insert(ids.map(|number| (number << 32, id(number))));
            idempotency.store_next(&on.disk);
        }
        let runs = || idempotency.runs.iter();
        assert_eq!(runs().map(|run| run.len() / NEWEST).collect::<Vec<_>>(), [16, 16, 8]);
        assert_eq!(runs().map(HintRun::is_in_memory).collect::<Vec<_>>(), [false, false, true]);
        assert!(runs().all(|run| run.is_sorted() && run.is_stored()));
        assert_eq!(on.disk.list("partitions").unwrap().len(), 3, "the files of merged runs are gone");
        assert!((0..40 * NEWEST as u64).step_by(7).all(|number| {
            idempotency
                .find(&on.disk, number << 32)
                .any(|hint| matches!(hint, Hint::Within(a, b) if (a..=b).contains(&id(number))))
        }));
    }

    #[test]
    fn all_fingerprints_of_an_id_are_in_one_run() {
        let (mut idempotency, on) = (IdempotencyIndex::new(3), disk());
        // The first id has one fingerprint and the others two, so that no even number of fingerprints ends with an id.
        let ids = (0..200).map(|n: u64| (print(n), id(n.div_ceil(2))));
        let scanned: Result<(), ()> = idempotency.insert_scanned(|visit| {
            ids.clone().for_each(|(print, id)| visit(print, id));
            Ok(())
        });
        assert_eq!(scanned, Ok(()));
        for (print, id) in ids {
            let mut runs = idempotency.runs.iter().filter(|run| !run.find(&on.disk, print).is_empty());
            assert!(runs.any(|run| run.span.from <= id && id <= run.span.last), "{id} is in the span of another run");
        }
    }

    #[test]
    fn the_newest_of_two_with_one_fingerprint_comes_first() {
        let (mut idempotency, on) = (index_of_range(0..NEWEST as u64), disk());
        let later = NEWEST as u64 + 7;
        idempotency.insert([(print(3), id(later))].into_iter());
        let traces = hints(&idempotency, &on, print(3));
        assert!(matches!(traces[..], [Hint::At(at), Hint::Within(..)] if at == id(later)), "{traces:?}");
    }

    #[test]
    fn entries_before_the_horizon_are_removed_run_by_run() {
        let (many, on) = (NEWEST as u64, disk());
        let mut idempotency = index_of_range(0..many + 300);
        idempotency.store_next(&on.disk);
        idempotency.remove_before(&on.disk, Time(many as i64 / 2));
        assert!(leads_to(&idempotency, &on, 1), "a run goes as one");
        idempotency.remove_before(&on.disk, Time(many as i64 + 100));
        assert!(idempotency.runs.is_empty() && idempotency.newest_map.len() == 200);
        assert!(!leads_to(&idempotency, &on, many - 1) && leads_to(&idempotency, &on, many + 299));
        assert!(on.disk.list("partitions").unwrap().is_empty(), "its file is gone");
    }

    #[test]
    fn a_lack_of_descriptors_makes_no_run_again() {
        let on = disk();
        let many = 16 * NEWEST as u64;
        let mut idempotency = index_of_range(0..many);
        while idempotency.store_next(&on.disk) {}
        assert!(!idempotency.runs[0].is_in_memory());
        let hints: Vec<Hint> = idempotency.find(&NoDescriptors, print(7)).collect();
        let span = idempotency.runs[0].span;
        assert_eq!(hints, [Hint::Within(span.from, span.last)], "no fingerprint is missed");
        assert!(idempotency.prepare(&NoDescriptors).is_empty(), "rows are not read for it");
        assert!((0..many).all(|number| leads_to(&idempotency, &on, number)));
    }

    #[test]
    fn a_run_whose_file_is_damaged_meanwhile_leads_to_its_whole_span_until_it_is_replaced() {
        let on = disk();
        let many = 16 * NEWEST as u64;
        let mut idempotency = index_of_range(0..many);
        while idempotency.store_next(&on.disk) {}
        assert!(idempotency.prepare(&on.disk).is_empty());
        let span = idempotency.runs[0].span;
        let file = on.disk.open(&span.file_name(), false).unwrap();
        file.write(4096, &[0xee; 4096 * 14]).unwrap();
        assert!((0..many).all(|number| leads_to(&idempotency, &on, number)));
        assert_eq!(idempotency.prepare(&on.disk), [span]);
        idempotency.replace(span, (0..many).map(|number| (print(number), id(number))).collect());
        assert!(idempotency.prepare(&on.disk).is_empty());
        assert!((0..many).all(|number| leads_to(&idempotency, &on, number)));
    }
}
