//! Tests that a backup is a consistent snapshot while the writer commits.

use std::io::{self, Write};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use crate::kv::blob_range::is_of_blobs;
use crate::kv::codec::{self, PayloadRow};
use crate::kv::memtable::Changes;
use crate::kv::payload::put_parts;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::segment::SCHEMA_KEY;
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, ALL_TABLES, PARTITION_TABLES, STATE_TABLES, Table};
use crate::kv::wal::{EPOCH_KEY, NEEDED_KEY};
use crate::model::{DeliveryId, EventId};
use crate::store::backup::{BackupProgress, Result, receive};
use crate::store::partitions::maintenance::Retention;
use crate::store::replication::COMMIT_KEY;
use crate::store::verify::tests::{NOW, apply, finished, store};
use crate::store::verify::{VerifyReport, verify};
use crate::store::{EventInput, Opened, PartitionCommand, RealDisk, WriteRequest};

pub type Rows = Vec<(Table, Vec<u8>, Vec<u8>)>;

fn rows(snapshot: &Snapshot, tables: &[Table]) -> Rows {
    let mut rows = Vec::new();
    for &table in tables {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let take = |key: &[u8], value: &[u8]| {
            match codec::decode_payload(value) {
                // A copy has the same payload in parts.
                Some(PayloadRow::Place(place)) if table == Table::Data => {
                    let mut parts = Changes::new();
                    put_parts(&mut parts, tables::first_id(key).unwrap(), &snapshot.blob(key, place).unwrap());
                    rows.extend(parts.into_iter().map(|(key, part)| (table, key.to_vec(), part.unwrap())));
                }
                _ => rows.push((table, key.to_vec(), value.to_vec())),
            }
            Ok(ScanStep::Go)
        };
        snapshot.scan(table, all, Direction::Up, take).unwrap();
    }
    rows
}

/// All rows of `state.redb`, then those of each partition.
fn all_rows(opened: &Opened) -> Vec<Rows> {
    let partition_set = &opened.store.partition_set;
    let partitions =
        partition_set.partitions().into_iter().map(|p| rows(&partition_set.snapshot(&p).unwrap(), &PARTITION_TABLES));
    let state = rows(&partition_set.state().unwrap().snapshot().unwrap(), &STATE_TABLES);
    std::iter::once(state).chain(partitions).collect()
}

pub fn publish(opened: &mut Opened, name: &str) -> EventId {
    let mut event = EventInput::new("a", "1");
    event.app = opened.store.registry().apps.keys().next().copied();
    event.attributes.event_id = Some(name.into());
    let fresh = apply(opened, WriteRequest::internal(PartitionCommand::Publish(vec![event]))).1;
    fresh.iter().map(|dispatch| dispatch.event.id).next().expect("a webhook wants it")
}

/// A store whose first partition is idle, with a delivery in it that can be retried.
pub fn store_with_archived_partition(folder: &tempfile::TempDir) -> (Opened, DeliveryId) {
    let mut opened = store(folder);
    let mut event = EventInput::new("a", "2");
    event.attributes.event_id = Some("last".into());
    opened.writer.roll(NOW).unwrap();
    let app = opened.store.registry().apps.keys().next().copied();
    let fresh =
        apply(&mut opened, WriteRequest::internal(PartitionCommand::Publish(vec![EventInput { app, ..event }]))).1;
    for dispatch in &fresh {
        apply(&mut opened, WriteRequest::internal(PartitionCommand::Record(Box::new(finished(dispatch, true)))));
    }
    // A delivery that waits in an ordered queue behind one of the first partition.
    apply(&mut opened, WriteRequest::internal(PartitionCommand::CancelEvent { id: fresh[0].event.id }));
    opened.writer.roll(NOW).unwrap();
    assert_eq!(opened.writer.maintain(NOW, Retention::Paused).archived, 1);
    (opened, fresh[0].delivery_id)
}

/// All rows without those about the write-ahead log, the blob file and the last commit, which a copy does not have.
pub fn shown(opened: &Opened) -> Vec<Rows> {
    let mut files = all_rows(opened);
    let is_own = |key: &[u8]| [EPOCH_KEY, NEEDED_KEY, SCHEMA_KEY, COMMIT_KEY].contains(&key) || is_of_blobs(key);
    files.iter_mut().for_each(|rows| rows.retain(|(_, key, _)| !is_own(key)));
    files
}

pub fn received(stream: &[u8], folder: &Path) -> Result<BackupProgress> {
    let disk = RealDisk::lock(folder).unwrap();
    receive(&mut &stream[..], &disk, &mut |_| {}).map(|received| received.progress)
}

pub fn walked(folder: &Path) -> VerifyReport {
    verify(Arc::new(RealDisk::lock(folder).unwrap()), &[7; 32], &mut |_| {}).unwrap()
}

pub fn opened_again(folder: &Path) -> Opened {
    let options = crate::store::StoreOptions {
        retention_ms: 1 << 40,
        idempotency_window_ms: 1 << 40,
        partition_max_bytes: 1 << 30,
        min_free_bytes: 0,
        row_payload_bytes_max: crate::store::ROW_PAYLOAD_BYTES_MAX,
        fingerprints_max: 448,
    };
    let disk = Arc::new(RealDisk::lock(folder).unwrap());
    crate::store::open(disk, options, &[7; 32], NOW, Box::new(|| 9)).unwrap()
}

#[test]
fn rows_written_after_the_snapshot_are_not_in_it_and_all_before_are() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut opened = store(&folder);
    publish(&mut opened, "before");
    assert!(opened.writer.has_uncheckpointed(), "some of it is in the write-ahead log only");
    let expected = shown(&opened);
    let backup_snapshot = opened.writer.backup_snapshot().unwrap();
    publish(&mut opened, "after");
    opened.writer.checkpoint().unwrap();
    opened.writer.roll(NOW).unwrap();
    publish(&mut opened, "in another partition");
    let mut stream = Vec::new();
    backup_snapshot.send(&mut stream).unwrap();
    let progress = received(&stream, copy.path()).unwrap();
    assert_eq!((progress.file_number, progress.files), (2, 2));
    let report = walked(copy.path());
    assert!(report.is_sound() && report.unlisted.is_empty(), "{report:?}");
    assert_eq!(shown(&opened_again(copy.path())), expected);
    assert_ne!(shown(&opened), expected);
}

/// A reader that runs `interfere` in the middle of the named file.
pub struct InterferingReader<'a> {
    pub stream: Vec<u8>,
    pub file: String,
    pub is_in_it: bool,
    pub deed: Option<Box<dyn FnOnce() + 'a>>,
}

impl Write for InterferingReader<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.extend_from_slice(bytes);
        if self.is_in_it
            && let Some(deed) = self.deed.take()
        {
            deed();
        }
        self.is_in_it |= bytes.ends_with(self.file.as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_archived_partition_that_changes_while_it_is_read_agrees_with_the_totals() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut opened, delivery) = store_with_archived_partition(&folder);
    let quiet = opened.store.partition_set.partitions().into_iter().find(|p| p.row().archived).unwrap();
    let file = quiet.file_name();
    let mut sink = InterferingReader { stream: Vec::new(), file: file.clone(), is_in_it: false, deed: None };
    let backup_snapshot = opened.writer.backup_snapshot().unwrap();
    sink.deed =
        Some(Box::new(|| drop(apply(&mut opened, WriteRequest::internal(PartitionCommand::Retry { id: delivery })))));
    backup_snapshot.send(&mut sink).unwrap();
    assert!(sink.deed.is_none(), "it was changed");
    let times = sink.stream.windows(file.len()).filter(|bytes| *bytes == file.as_bytes()).count();
    assert_eq!(times, 2, "it was read again");
    let stream = std::mem::take(&mut sink.stream);
    drop(sink);
    received(&stream, copy.path()).unwrap();
    let report = walked(copy.path());
    assert!(report.is_sound(), "{report:?}");
    assert!(!quiet.row().archived);
}

#[test]
fn an_archived_partition_is_in_it_as_it_is() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut opened, _) = store_with_archived_partition(&folder);
    let expected = shown(&opened);
    let mut stream = Vec::new();
    opened.writer.backup_snapshot().unwrap().send(&mut stream).unwrap();
    assert_eq!(received(&stream, copy.path()).unwrap().files, 4);
    let report = walked(copy.path());
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(shown(&opened_again(copy.path())), expected);
}

#[test]
fn no_partition_is_archived_or_dropped_during_a_backup_and_only_one_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (mut opened, _) = store_with_archived_partition(&folder);
    // The active partition becomes idle next.
    let event = publish(&mut opened, "cancelled");
    apply(&mut opened, WriteRequest::internal(PartitionCommand::CancelEvent { id: event }));
    opened.writer.roll(NOW).unwrap();
    let late = NOW.plus_ms(1 << 41);
    let backup_snapshot = opened.writer.backup_snapshot().unwrap();
    let refused = opened.writer.backup_snapshot().unwrap_err().to_string();
    assert!(refused.contains("another one"), "{refused}");
    let held = opened.writer.maintain(late, Retention::Running);
    assert_eq!((held.archived, held.dropped.len(), held.failures), (0, 0, vec![]));
    drop(backup_snapshot);
    assert!(opened.writer.maintain(late, Retention::Running).dropped.len() >= 2);
    assert!(opened.writer.backup_snapshot().is_ok());
}

#[test]
fn a_stream_that_ends_early_or_says_so_gives_no_backup() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    let mut stream = Vec::new();
    opened.writer.backup_snapshot().unwrap().send(&mut stream).unwrap();
    for parts in 0..12 {
        let copy = tempfile::tempdir().unwrap();
        let cut = &stream[..(stream.len() - 1) * parts / 11];
        assert!(received(cut, copy.path()).is_err(), "{} of {} bytes", cut.len(), stream.len());
    }
    let backup_snapshot = opened.writer.backup_snapshot().unwrap();
    opened.writer.end_backup();
    stream.clear();
    assert!(backup_snapshot.send(&mut stream).is_err());
    let copy = tempfile::tempdir().unwrap();
    let words = received(&stream, copy.path()).unwrap_err().to_string();
    assert!(words.starts_with("the daemon: ") && words.contains("try again"), "{words}");
}

#[test]
fn a_file_that_is_none_of_the_stores_is_not_made() {
    let name = b"partitions/../../elsewhere.redb";
    let head = [b"F".as_slice(), &1_u32.to_le_bytes(), &1_u32.to_le_bytes(), &(name.len() as u16).to_le_bytes(), name];
    let copy = tempfile::tempdir().unwrap();
    let words = received(&head.concat(), copy.path()).unwrap_err().to_string();
    assert!(words.contains("no backup of this version"), "{words}");
    assert_eq!(ALL_TABLES.len(), STATE_TABLES.len() + PARTITION_TABLES.len() - 1, "every table is copied");
}
