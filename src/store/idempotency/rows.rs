//! Stores idempotency keys as rows, one per event id or `Idempotency-Key`.
//!
//! A commit writes the rows together with their events. The index reads them to check a hint. A start loads those that no
//! run's file covers.

use std::ops::Bound;

use crate::model::Time;
use crate::model::id::EventId;
use crate::mutants::mutant;

use crate::kv::codec;
use crate::kv::disk::Disk;
use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Table};
use crate::kv::write_batch::WriteBatch;
use crate::store::idempotency::index::{Fingerprint, Hint, IdempotencyIndex, KeyKind};
use crate::store::idempotency::run::{HintRun, remove_file};
use crate::store::idempotency::run_file::IdSpan;
use crate::store::partitions::set::{PARTITIONS, PartitionSet};
use crate::store::writer::Writer;

/// Puts a row into the write batch that points from `fingerprint` to `id`.
pub fn put_key(write_batch: &mut WriteBatch, id: EventId, kind: KeyKind, fingerprint: Fingerprint) {
    let mut key = tables::one(id);
    key.push(kind as u8);
    write_batch.put_bytes(Table::IdempotencyKeys, key, &fingerprint.to_be_bytes());
}

impl PartitionSet {
    /// The ids whose rows have `fingerprint` and that `hint` points to. Their events need not be the sought ones.
    pub fn candidates(&self, fingerprint: Fingerprint, hint: Hint) -> Result<Vec<EventId>> {
        let (first, last) = match hint {
            Hint::At(id) => return Ok(vec![id]),
            Hint::Within(first, last) => (first, last),
        };
        let mut found = Vec::new();
        self.scan_span(first, last, |print, id| found.extend((print == fingerprint).then_some(id)))?;
        Ok(found)
    }

    /// Visits the fingerprints of a span of ids, both ends included, in ascending order of ids.
    fn scan_span(&self, first: EventId, last: EventId, mut visit: impl FnMut(Fingerprint, EventId)) -> Result<()> {
        if first > last {
            return Ok(());
        }
        let home = self.partition_of(first.as_u128()).map_or(0, |partition| partition.first);
        let mut ended = [0xff; 17];
        ended[..16].copy_from_slice(last.as_bytes());
        for partition in self.partitions() {
            if (home..=last.as_u128()).contains(&partition.first) {
                let range = (Bound::Included(first.as_bytes().as_slice()), Bound::Included(ended.as_slice()));
                scan_fingerprints(&self.snapshot(&partition)?, range, &mut visit)?;
            }
        }
        Ok(())
    }
}

impl IdempotencyIndex {
    /// Loads the fingerprints of a partition's ids that are newer than the index's newest and not older than `window`.
    /// Before the end of `load_fingerprints` nothing is loaded.
    pub(in crate::store) fn load(&mut self, snapshot: &Snapshot, window: Time) -> Result<()> {
        if !self.is_loaded() {
            return Ok(());
        }
        let from = self.newest().map_or(EventId::MIN, |newest| newest.next()).max(EventId::floor(window));
        let range = (Bound::Included(from.as_bytes().as_slice()), Bound::Unbounded);
        self.insert_scanned(|visit| scan_fingerprints(snapshot, range, visit))
    }
}

impl Writer {
    /// Time before which no fingerprint is needed. The window ends with the newest id, so a clock that stepped ahead
    /// makes no fingerprint too old. A start after an idle time needs none that the daemon before it had removed.
    pub(in crate::store) fn fingerprint_horizon(&self, now: Time) -> Time {
        let newest = self.partition_set.newest().as_u128().max(self.active);
        let newest = EventId::from_u128(newest).max(self.idempotency.newest().unwrap_or(EventId::MIN));
        now.min(newest.time()).minus_ms(self.partition_set.options.idempotency_window_ms)
    }

    /// Loads the fingerprints of the window at a start: from the files of runs, and from rows where there is no run.
    /// The active partition is open.
    pub(in crate::store) fn load_fingerprints(&mut self, window: Time) -> Result<()> {
        let partition_set = self.partition_set.clone();
        let disk = &*partition_set.disk;
        let mut next = EventId::floor(window);
        self.idempotency = IdempotencyIndex::new(partition_set.options.fingerprints_max);
        self.idempotency.begin_at(next);
        for span in stored_spans(disk) {
            let is_needed = span.last >= next && span.from <= span.last;
            let run = is_needed.then(|| HintRun::open(disk, span, self.idempotency.young_max()).ok()).flatten();
            // A run that begins within another one is left of a merge, or of another moment.
            let Some(run) = run.filter(|run| run.span.from >= next || self.idempotency.newest().is_none()) else {
                remove_file(disk, span);
                continue;
            };
            self.load_span(next, span.from)?;
            self.idempotency.insert_stored(run);
            next = span.last.next();
        }
        self.load_span(next, EventId::MAX)?;
        self.idempotency.finish_loading();
        Ok(())
    }

    /// Loads the fingerprints of rows from an id on, before another.
    fn load_span(&mut self, from: EventId, end: EventId) -> Result<()> {
        if end <= from || mutant!("gap_unread") {
            return Ok(());
        }
        let last = EventId::from_u128(end.as_u128() - 1);
        let partition_set = self.partition_set.clone();
        self.idempotency.insert_scanned(|visit| partition_set.scan_span(from, last, visit))
    }

    /// Rebuilds the runs whose files cannot be read from their rows.
    ///
    /// # Errors
    /// The rows cannot be read. Lookups read them one by one then, and fail too.
    pub(in crate::store) fn rebuild_fingerprints(&mut self) -> Result<()> {
        let partition_set = self.partition_set.clone();
        for span in self.idempotency.prepare(&*partition_set.disk) {
            let mut rows = Vec::new();
            partition_set.scan_span(span.from, span.last, |print, id| rows.push((print, id)))?;
            self.idempotency.replace(span, rows);
        }
        Ok(())
    }
}

/// Spans of the files of runs, in their order. Of those that begin with one id the longest comes first.
fn stored_spans(disk: &dyn Disk) -> Vec<IdSpan> {
    // Without the list the rows are read.
    let names = disk.list(PARTITIONS).unwrap_or_default();
    let mut spans: Vec<IdSpan> = names.iter().filter_map(|name| IdSpan::of_file_name(name)).collect();
    spans.sort_by_key(|span| (span.from, std::cmp::Reverse(span.last)));
    spans
}

fn scan_fingerprints(
    snapshot: &Snapshot,
    range: (Bound<&[u8]>, Bound<&[u8]>),
    visit: &mut dyn FnMut(Fingerprint, EventId),
) -> Result<()> {
    snapshot.scan(Table::IdempotencyKeys, range, Direction::Up, |key, value| {
        let print = codec::decode_bytes(value).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let (Some(print), Some(id)) = (print, tables::first_id(key)) else {
            return Err(snapshot.damaged(Table::IdempotencyKeys, key));
        };
        visit(print, id);
        Ok(ScanStep::Go)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::snapshot::examined;
    use crate::store::backup::tests::opened_again;
    use crate::store::command::{
        Applied, Command, EventInput, IdempotencyKey, PartitionCommand, Receipt, WriteRequest,
    };
    use crate::store::partitions::open::Opened;
    use crate::store::verify::tests::{NOW, store};

    const PARTITION_COUNT: usize = 3;
    /// Fingerprints that fill the map of a test's store.
    const MAP: usize = 448;

    fn publish(
        opened: &mut Opened,
        names: impl Iterator<Item = String>,
        idempotency: Option<IdempotencyKey>,
    ) -> Vec<Applied> {
        let app = opened.store.registry().apps.keys().next().copied();
        let event = |name| {
            let mut event = EventInput { app, ..EventInput::new("a", "1") };
            event.attributes.event_id = Some(name);
            event
        };
        let requests: Vec<WriteRequest> = names
            .map(|name| WriteRequest {
                caller: None,
                idempotency: idempotency.clone(),
                command: Command::Partition(PartitionCommand::Publish(vec![event(name)])),
            })
            .collect();
        opened.writer.apply(&requests, NOW).results.into_iter().map(|result| result.unwrap()).collect()
    }

    /// A number of names that turns the map into a run.
    fn names(partition: usize) -> impl Iterator<Item = String> {
        (0..MAP).map(move |number| format!("{partition}/{number}"))
    }

    fn events(applied: &[Applied]) -> Vec<(EventId, bool)> {
        let lists = applied.iter().map(|applied| match &applied.receipt {
            Receipt::Published(list) => list.iter().map(|published| (published.event.id, published.duplicate)),
            other => panic!("{other:?}"),
        });
        lists.flatten().collect()
    }

    #[test]
    fn a_published_event_id_is_found_in_every_partition_and_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = store(&folder);
        let mut made = Vec::new();
        for partition in 0..PARTITION_COUNT {
            made.push(events(&publish(&mut opened, names(partition), None)));
            opened.writer.roll(NOW).unwrap();
        }
        assert!(made.iter().flatten().all(|(_, duplicate)| !duplicate));
        for start in 0..2 {
            for (partition, made) in made.iter().enumerate() {
                let again = events(&publish(&mut opened, names(partition), None));
                assert_eq!(again, made.iter().map(|(id, _)| (*id, true)).collect::<Vec<_>>());
            }
            let fresh = publish(&mut opened, std::iter::once(format!("fresh {start}")), None);
            assert!(!events(&fresh)[0].1);
            drop(opened);
            opened = opened_again(folder.path());
        }
    }

    #[test]
    fn an_answer_is_replayed_from_every_partition() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = store(&folder);
        let idempotency = IdempotencyKey { key: [9; 32], request: [1; 32], extra: None, secret: false };
        let first = publish(&mut opened, std::iter::once("kept".into()), Some(idempotency.clone()));
        for partition in 0..PARTITION_COUNT {
            publish(&mut opened, names(partition), None);
            opened.writer.roll(NOW).unwrap();
            let again = publish(&mut opened, std::iter::once("another".into()), Some(idempotency.clone()));
            assert!(again[0].replayed && !first[0].replayed);
            assert_eq!(events(&again), events(&first));
        }
    }

    /// A store with runs in every partition, each in a file.
    fn with_stored_runs(folder: &tempfile::TempDir) -> (Opened, Vec<Vec<(EventId, bool)>>) {
        let mut opened = store(folder);
        let mut made = Vec::new();
        for partition in 0..PARTITION_COUNT {
            made.push(events(&publish(&mut opened, names(partition), None)));
            opened.writer.roll(NOW).unwrap();
        }
        while opened.writer.tick(NOW, std::time::Duration::ZERO).next == Some(std::time::Duration::ZERO) {}
        assert!(!run_files(folder).is_empty());
        (opened, made)
    }

    fn run_files(folder: &tempfile::TempDir) -> Vec<std::path::PathBuf> {
        let files = std::fs::read_dir(folder.path().join("partitions")).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|end| end == "fingerprints")).collect()
    }

    fn assert_duplicates(opened: &mut Opened, made: &[Vec<(EventId, bool)>]) {
        for (partition, made) in made.iter().enumerate() {
            let again = events(&publish(opened, names(partition), None));
            assert_eq!(again, made.iter().map(|(id, _)| (*id, true)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_start_reads_the_files_of_runs_and_not_their_rows() {
        let folder = tempfile::tempdir().unwrap();
        let (opened, made) = with_stored_runs(&folder);
        drop(opened);
        examined::take();
        let mut opened = opened_again(folder.path());
        let (_, keys) = examined::take();
        assert!(keys < MAP as u64, "{keys} keys of {} are visited", MAP * PARTITION_COUNT);
        assert_duplicates(&mut opened, &made);
    }

    #[test]
    fn a_file_of_a_run_that_is_missing_torn_or_altered_is_made_of_the_rows_again() {
        for harm in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let (opened, made) = with_stored_runs(&folder);
            drop(opened);
            for path in run_files(&folder) {
                let mut bytes = std::fs::read(&path).unwrap();
                match harm {
                    0 => drop(bytes.drain(..)),
                    1 => bytes.truncate(5_000),
                    2 => bytes[4_100] ^= 1,
                    3 => bytes[3] ^= 1,
                    _ => {
                        std::fs::remove_file(&path).unwrap();
                        continue;
                    }
                }
                std::fs::write(&path, bytes).unwrap();
            }
            let mut opened = opened_again(folder.path());
            assert_duplicates(&mut opened, &made);
            assert!(opened.store.verify(&mut |_| {}).unwrap().unlisted.is_empty());
        }
    }

    #[test]
    fn a_run_that_lacks_its_file_between_two_others_is_read_from_the_rows() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = store(&folder);
        // Runs of one, half and a quarter of a map are no equals, so they are not merged.
        let mut made = Vec::new();
        for (partition, names) in [(0, names(0)), (1, names(1)), (2, names(2))] {
            let take = [9 * MAP, 4 * MAP, MAP][partition];
            let more = (0..take).map(move |number| format!("{partition}/more/{number}"));
            publish(&mut opened, more, None);
            made.push(events(&publish(&mut opened, names, None)));
        }
        while opened.writer.tick(NOW, std::time::Duration::ZERO).next == Some(std::time::Duration::ZERO) {}
        drop(opened);
        let mut files = run_files(&folder);
        files.sort();
        assert!(files.len() > 2, "{files:?}");
        std::fs::remove_file(&files[1]).unwrap();
        let mut opened = opened_again(folder.path());
        assert_duplicates(&mut opened, &made);
        let fresh = publish(&mut opened, std::iter::once("fresh".to_owned()), None);
        assert!(!events(&fresh)[0].1);
    }
}
