//! Large payloads in the blob file beside a partition: written once, read back, erased, and refused when missing.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postrider::kv::segment::{BLOBS_SCHEMA, FIRST_SCHEMA, Segment};
use postrider::model::{EventId, Time};
use postrider::store::admin::{FileCheck, accept_loss, accept_lost_payloads, check_files, files, receive, verify};
use postrider::store::{Disk, Error, EventInput, PartitionCommand, RealDisk, Rejection, Retention, Store};

use super::bench::{Bench, DAY_MS, MASTER_KEY, START, open_on};
use crate::support::disk::FaultyDisk;

const LARGE_BYTES: usize = 64 << 10;

/// A payload that occurs nowhere else.
fn payload(number: usize) -> String {
    let word = format!("payload-{number:04} ");
    format!("\"{}\"", word.repeat(LARGE_BYTES / word.len()))
}

fn publish(bench: &mut Bench, number: usize) -> EventId {
    bench.publish("a", |event| event.data = payload(number).into()).0.event.id
}

fn read(bench: &Bench, event: EventId) -> postrider::store::Result<Option<String>> {
    let data = bench.opened.store.data(event, bench.now)?;
    Ok(data.map(|data| String::from_utf8(data.to_vec()).unwrap()))
}

/// The blob file of a data directory.
fn blobs(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder.join("partitions")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "blobs")).collect();
    assert!(found.len() < 2, "{found:?}");
    found.pop()
}

fn contains(path: &Path, text: &str) -> bool {
    let bytes = fs::read(path).unwrap();
    memchr::memmem::find(&bytes, text.as_bytes()).is_some()
}

fn disk(folder: &Path) -> Arc<dyn Disk> {
    Arc::new(RealDisk::lock(folder).unwrap())
}

#[test]
fn a_large_payload_is_in_the_blob_file_and_nowhere_else() {
    let mut bench = Bench::new();
    let small = bench.publish("a", |event| event.data = format!("\"{}\"", "s".repeat(8_190)).into()).0.event.id;
    assert_eq!(blobs(bench.folder()), None, "a payload of 8 KiB is in rows");
    let events: Vec<EventId> = (0..5).map(|number| publish(&mut bench, number)).collect();
    let check = |bench: &Bench, when: &str| {
        for (number, event) in events.iter().enumerate() {
            assert_eq!(read(bench, *event).unwrap(), Some(payload(number)), "{when}");
        }
        assert_eq!(read(bench, small).unwrap().map(|data| data.len()), Some(8_192), "{when}");
        assert!(bench.opened.store.verify(&mut |_| {}).unwrap().is_sound(), "{when}");
    };
    check(&bench, "in memory");
    bench.reopen();
    check(&bench, "after a kill");
    bench.opened.writer.checkpoint().unwrap();
    check(&bench, "after a checkpoint");
    bench.opened.writer.roll(bench.now).unwrap();
    check(&bench, "in a sealed partition");
    bench.reopen();
    check(&bench, "and after a start");
    let file = blobs(bench.folder()).unwrap();
    // Each of the five is a batch of its own, which begins a block.
    let bytes = payload(0).len() as u64;
    let expected = 4 * bytes.next_multiple_of(4_096) + bytes;
    assert_eq!(fs::metadata(&file).unwrap().len(), expected, "sealing gives the room back");
    for name in files(&RealDisk::unlocked(bench.folder())).unwrap() {
        let is_blobs = name.ends_with(".blobs");
        assert_eq!(contains(&bench.folder().join(&name), "payload-0003 payload-0003"), is_blobs, "{name}");
    }
}

#[test]
fn an_erased_payload_is_zeros_before_the_answer_and_its_neighbours_stay() {
    let mut bench = Bench::new();
    let events: Vec<EventId> = (0..3).map(|number| publish(&mut bench, number)).collect();
    let file = blobs(bench.folder()).unwrap();
    for sealed in [false, true] {
        let erased = if sealed { 2 } else { 1 };
        let command = PartitionCommand::EraseEvent { id: events[erased] };
        assert!(bench.apply(command.into()).0.is_ok());
        assert!(!contains(&file, &format!("payload-{erased:04}")), "{erased}");
        assert_eq!(read(&bench, events[erased]).unwrap(), None);
        assert_eq!(read(&bench, events[0]).unwrap(), Some(payload(0)));
        assert!(bench.opened.store.verify(&mut |_| {}).unwrap().is_sound());
        bench.reopen();
        bench.opened.writer.roll(bench.now).unwrap();
    }
    // The last place is not used again, although the rows that named it are gone.
    assert!(contains(&file, "payload-0000"));
}

#[test]
fn a_blob_file_that_is_missing_or_short_is_damage_by_its_name() {
    for is_cut in [true, false] {
        let mut bench = Bench::new();
        publish(&mut bench, 0);
        publish(&mut bench, 1);
        let folder = bench.kill();
        let file = blobs(folder.path()).unwrap();
        match is_cut {
            true => fs::File::options().write(true).open(&file).unwrap().set_len(payload(0).len() as u64).unwrap(),
            false => fs::remove_file(&file).unwrap(),
        }
        let name = format!("partitions/{}", file.file_name().unwrap().display());
        let opened = open_on(disk(folder.path()), START);
        let Err(error @ Error::BlobsDamaged { .. }) = opened else { panic!("{opened:?}") };
        assert!(error.to_string().starts_with(&name), "{error}");
        let report = verify(disk(folder.path()), &MASTER_KEY, &mut |_| {}).unwrap();
        assert!(report.problems.iter().any(|problem| problem.file == name), "{report:?}");
    }
}

/// Whether an event's payload is a damaged row.
fn is_lost(store: &Store, event: EventId) -> bool {
    matches!(store.data(event, START), Err(Error::Damaged { table: "data", .. }))
}

#[test]
fn lost_payloads_are_given_up_once_and_everything_else_stays() {
    for (is_cut, is_sealed) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut bench = Bench::new();
        let events = [publish(&mut bench, 0), publish(&mut bench, 1)];
        if is_sealed {
            bench.opened.writer.roll(START).unwrap();
        }
        let folder = bench.kill();
        let file = blobs(folder.path()).unwrap();
        match is_cut {
            true => fs::File::options().write(true).open(&file).unwrap().set_len(payload(0).len() as u64).unwrap(),
            false => fs::remove_file(&file).unwrap(),
        }
        let lost = accept_lost_payloads(&*disk(folder.path())).unwrap();
        let name = format!("partitions/{}", file.file_name().unwrap().display());
        assert_eq!(lost.iter().map(|lost| &lost.file).collect::<Vec<_>>(), [&name], "{lost:?}");
        assert_eq!(accept_lost_payloads(&*disk(folder.path())).unwrap(), []);

        let store = open_on(disk(folder.path()), START).unwrap().store;
        assert_eq!(is_lost(&store, events[0]), !is_cut);
        assert!(is_lost(&store, events[1]));
        drop(store);
        let report = verify(disk(folder.path()), &MASTER_KEY, &mut |_| {}).unwrap();
        assert_eq!(report.problems.len(), if is_cut { 1 } else { 2 }, "{report:?}");
        assert!(report.problems.iter().all(|problem| problem.table == Some("data")), "{report:?}");
    }
}

#[test]
fn a_payload_after_an_accepted_loss_takes_no_place_that_a_row_names() {
    let mut bench = Bench::new();
    let events: Vec<EventId> = (0..4).map(|number| publish(&mut bench, number)).collect();
    bench.reopen_after(|folder| {
        // The log is damaged at the third event, and of the payloads only the first is left.
        let journal = folder.join("journal");
        let mut log = fs::read(&journal).unwrap();
        let at = memchr::memmem::find(&log, events[2].as_bytes()).unwrap();
        log[at] ^= 1;
        fs::write(&journal, log).unwrap();
        let file = fs::File::options().write(true).open(blobs(folder).unwrap()).unwrap();
        file.set_len(payload(0).len() as u64).unwrap();
        assert_eq!(accept_lost_payloads(&*disk(folder)).unwrap(), [], "the log comes first");
        assert!(accept_loss(&*disk(folder)).unwrap().is_some());
        assert_eq!(accept_lost_payloads(&*disk(folder)).unwrap().len(), 1);
    });
    assert!(is_lost(&bench.opened.store, events[1]));
    let new = publish(&mut bench, 4);
    assert!(bench.apply(PartitionCommand::EraseEvent { id: events[1] }.into()).0.is_ok());
    assert_eq!(read(&bench, events[0]).unwrap(), Some(payload(0)));
    assert_eq!(read(&bench, new).unwrap(), Some(payload(4)));
}

#[test]
fn files_that_do_not_open_are_named_without_reading_their_rows() {
    let mut bench = Bench::new();
    publish(&mut bench, 0);
    bench.reopen_after(|folder| {
        let checked = || check_files(disk(folder)).unwrap();
        assert_eq!(checked(), FileCheck { files: 2, ..FileCheck::default() });
        let blobs = blobs(folder).unwrap();
        let partition = blobs.with_extension("redb");
        for path in [folder.join("state.redb"), partition, blobs] {
            let whole = fs::read(&path).unwrap();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
            let is_blobs = name.ends_with(".blobs");
            // A blob file is longer than its payloads.
            let short = if is_blobs { 100 } else { whole.len() / 2 };
            for bytes in [whole[..short].to_vec(), vec![0; whole.len()], Vec::new()] {
                // A blob file's payloads have checksums of their own, which only `verify` reads.
                if is_blobs && bytes.len() == whole.len() {
                    continue;
                }
                fs::write(&path, &bytes).unwrap();
                let damaged: Vec<String> = checked().damaged.into_iter().map(|defect| defect.file).collect();
                assert_eq!(damaged, [name], "{} of {} bytes", bytes.len(), whole.len());
                assert!(fs::read(&path).unwrap() == bytes, "nothing is changed");
            }
            fs::write(&path, whole).unwrap();
        }
        let id = "0195d5c8000070008000000000000001";
        let run = folder.join(format!("partitions/{id}-{id}.fingerprints"));
        fs::write(&run, [0; 5000]).unwrap();
        assert_eq!(checked().remade, [run.strip_prefix(folder).unwrap().to_str().unwrap()]);
        fs::remove_file(run).unwrap();
    });
}

#[test]
fn an_altered_payload_is_an_error_of_its_row_alone() {
    let mut bench = Bench::new();
    let events: Vec<EventId> = (0..3).map(|number| publish(&mut bench, number)).collect();
    let file = fs::File::options().write(true).open(blobs(bench.folder()).unwrap()).unwrap();
    file.write_all_at(b"X", payload(0).len() as u64 + 5).unwrap();
    let error = read(&bench, events[1]).unwrap_err();
    assert!(matches!(error, Error::Damaged { table: "data", .. }), "{error}");
    assert_eq!(read(&bench, events[0]).unwrap(), Some(payload(0)));
    assert_eq!(read(&bench, events[2]).unwrap(), Some(payload(2)));
    let report = bench.opened.store.verify(&mut |_| {}).unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(report.problems[0].table, Some("data"));
}

#[test]
fn without_room_a_large_payload_is_refused_and_nothing_names_it() {
    let faulty = FaultyDisk::new(1);
    let mut bench = Bench::on(Arc::new(faulty.clone()));
    let first = publish(&mut bench, 0);
    faulty.set_full(true);
    let mut event = EventInput::new("a", "1");
    event.data = format!("\"{}\"", "y".repeat(4 << 20)).into();
    let refused = bench.apply(PartitionCommand::Publish(vec![event]).into()).0;
    assert_eq!(refused.err(), Some(Rejection::DiskFull));
    faulty.set_full(false);
    for _ in 0..2 {
        bench.now = bench.now.plus_ms(2_000);
        bench.opened.writer.apply(&[], bench.now);
    }
    let second = publish(&mut bench, 1);
    assert_eq!(read(&bench, first).unwrap(), Some(payload(0)));
    assert_eq!(read(&bench, second).unwrap(), Some(payload(1)));
    assert!(bench.opened.store.verify(&mut |_| {}).unwrap().is_sound());
}

#[test]
fn a_batch_syncs_the_blob_file_only_for_large_payloads() {
    let folder = tempfile::tempdir().unwrap();
    let real = Arc::new(RealDisk::lock(folder.path()).unwrap());
    let traffic = real.traffic();
    let mut bench = Bench::on(real);
    publish(&mut bench, 0);
    let mut syncs_of = |large: bool| {
        let before = traffic.syncs.load(std::sync::atomic::Ordering::Relaxed);
        if large {
            publish(&mut bench, 1)
        } else {
            bench.publish("a", |_| {}).0.event.id
        };
        traffic.syncs.load(std::sync::atomic::Ordering::Relaxed) - before
    };
    assert_eq!((syncs_of(false), syncs_of(true)), (1, 2));
}

#[test]
fn an_earlier_program_refuses_a_store_from_its_first_blob_file_on() {
    for (is_large, schema) in [(false, FIRST_SCHEMA), (true, BLOBS_SCHEMA)] {
        let mut bench = Bench::new();
        bench.publish("a", |_| {});
        if is_large {
            publish(&mut bench, 0);
        }
        let folder = bench.kill();
        let state = Segment::open_for_reading(&RealDisk::lock(folder.path()).unwrap(), "state.redb").unwrap();
        assert_eq!(state.schema(), schema);
    }
}

/// A receiver of a backup that runs `action` at the first bytes.
struct InterferingReader<'a> {
    stream: Vec<u8>,
    action: Option<Box<dyn FnOnce() + 'a>>,
}

impl io::Write for InterferingReader<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.extend_from_slice(bytes);
        if let Some(action) = self.action.take() {
            action();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_payload_that_is_erased_during_a_backup_is_in_the_backup_and_no_longer_in_the_store() {
    let mut bench = Bench::new();
    let (erased, kept) = (publish(&mut bench, 0), publish(&mut bench, 1));
    let file = blobs(bench.folder()).unwrap();
    let snapshot = bench.opened.writer.backup_snapshot().unwrap();
    let mut reader = InterferingReader { stream: Vec::new(), action: None };
    let erase = || assert!(bench.apply(PartitionCommand::EraseEvent { id: erased }.into()).0.is_ok());
    reader.action = Some(Box::new(erase));
    snapshot.send(&mut reader).unwrap();
    let stream = std::mem::take(&mut reader.stream);
    drop(reader);
    assert!(!contains(&file, "payload-0000"));

    let copy = tempfile::tempdir().unwrap();
    receive(&mut &stream[..], &*disk(copy.path()), &mut |_| {}).unwrap();
    let report = verify(disk(copy.path()), &MASTER_KEY, &mut |_| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
    let store = open_on(disk(copy.path()), bench.now).unwrap().store;
    for (number, event) in [erased, kept].into_iter().enumerate() {
        assert_eq!(store.data(event, bench.now).unwrap().map(Vec::from), Some(payload(number).into_bytes()));
    }
}

#[test]
fn room_that_a_kill_left_in_a_sealed_partition_is_given_back_when_it_is_archived() {
    let mut bench = Bench::new();
    publish(&mut bench, 0);
    let file = blobs(bench.folder()).unwrap();
    let room = fs::metadata(&file).unwrap().len();
    bench.opened.writer.roll(bench.now).unwrap();
    let sealed = fs::metadata(&file).unwrap().len();
    assert!(sealed < room);
    // As if the kill had come before the room was given back.
    fs::File::options().write(true).open(&file).unwrap().set_len(room).unwrap();
    bench.reopen();
    assert_eq!(bench.opened.writer.maintain(bench.now, Retention::Paused).archived, 1);
    assert_eq!(fs::metadata(&file).unwrap().len(), sealed);
}

#[test]
fn retention_removes_the_blob_file_with_its_partition() {
    let mut bench = Bench::new();
    publish(&mut bench, 0);
    let file = blobs(bench.folder()).unwrap();
    bench.opened.writer.roll(bench.now).unwrap();
    bench.now = Time(bench.now.0 + 40 * DAY_MS);
    let done = bench.opened.writer.maintain(bench.now, Retention::Running);
    assert_eq!((done.dropped.len(), file.exists()), (1, true));
    bench.opened.store.unlink(&done.dropped[0]).unwrap();
    assert!(!file.exists());
}
