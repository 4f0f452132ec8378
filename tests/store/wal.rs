//! Damage of the write-ahead log after a kill: refused by name, found by the verification, and given up on request.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postrider::model::EventId;
use postrider::store::admin::{accept_loss, verify, wal_damage};
use postrider::store::{Disk, Error, Opened, RealDisk, TenantScope};

use crate::store::bench::{Bench, MASTER_KEY, START, open_on};

/// Bytes of one half of the log, and of both.
const HALF_BYTES: u64 = 16 << 20;
const RECORDS_BYTES: u64 = 2 * HALF_BYTES;

/// The data directory of a killed daemon.
struct Killed {
    folder: tempfile::TempDir,
    tenant: TenantScope,
    events: Vec<EventId>,
    /// Where the records are in the log, oldest first.
    records: Vec<Range<u64>>,
}

/// A store with records in two epochs of the log, three in each.
fn killed() -> Killed {
    let mut bench = Bench::new();
    bench.webhook(|_| {});
    let mut events = Vec::new();
    for event in 0..6 {
        if event == 3 {
            bench.opened.writer.request_checkpoint().unwrap();
        }
        events.push(bench.publish("a", |event| event.data = vec![b'1'; 3_000].into()).0.event.id);
    }
    let tenant = bench.caller.tenant;
    let partition = bench.opened.store.partitions()[0].0;
    let folder = bench.kill();
    let records = records(&fs::read(folder.path().join("journal")).unwrap(), partition);
    assert_eq!(records.len(), 6, "{records:?}");
    Killed { folder, tenant, events, records }
}

/// The places of a partition's records, in the order of their epochs.
fn records(log: &[u8], partition: u128) -> Vec<Range<u64>> {
    let name = partition.to_be_bytes();
    let mut found = Vec::new();
    for half in [1, 0] {
        let mut at = half * HALF_BYTES as usize;
        while log[at + 16..at + 32] == name {
            let bytes = 40 + u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
            found.push(at as u64..(at + bytes) as u64);
            at += bytes;
        }
    }
    found
}

impl Killed {
    /// A copy of the directory whose log is damaged.
    fn damaged(&self, harm: impl FnOnce(&Path)) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("partitions")).unwrap();
        for name in files(self.folder.path()) {
            fs::copy(self.folder.path().join(&name), copy.path().join(&name)).unwrap();
        }
        harm(&copy.path().join("journal"));
        copy
    }

    /// Number of the events that are found, which must be the first ones.
    fn found(&self, opened: &Opened) -> usize {
        let is_there = |id: &&EventId| opened.store.event(self.tenant, **id, START).unwrap().is_some();
        let found = self.events.iter().take_while(is_there).count();
        assert_eq!(self.events.iter().filter(is_there).count(), found, "no event is missing between others");
        found
    }

    /// Damage is refused by name and changes nothing, is found by the verification, and is given up on request, with
    /// all that was before it.
    fn is_refused(&self, what: &str, kept: usize, harm: impl FnOnce(&Path)) {
        let folder = self.damaged(harm);
        let disk = || -> Arc<dyn Disk> { Arc::new(RealDisk::lock(folder.path()).unwrap()) };
        let before = content(folder.path());
        let opened = open_on(disk(), START);
        let Err(error @ Error::WalDamaged { .. }) = opened else { panic!("{what}: {opened:?}") };
        assert!(error.to_string().starts_with("journal: "), "{what}: {error}");
        assert_eq!(before.get("journal"), content(folder.path()).get("journal"), "{what}: the log was changed");
        let report = verify(disk(), &MASTER_KEY, &mut |_| {}).unwrap();
        assert!(report.problems.iter().any(|problem| problem.file == "journal"), "{what}: {report:?}");
        assert!(wal_damage(disk()).unwrap().is_some(), "{what}");
        let loss = accept_loss(&*disk()).unwrap().expect("a loss");
        assert_eq!(loss.kept_as.is_some(), before.contains_key("journal"), "{what}: {loss:?}");
        if let Some(name) = &loss.kept_as {
            assert_eq!(fs::read(folder.path().join(name)).ok().as_ref(), before.get("journal"), "{what}");
        }
        assert_eq!(accept_loss(&*disk()).unwrap(), None, "{what}: the loss is accepted once");
        assert_eq!(self.found(&open_on(disk(), START).unwrap()), kept, "{what}");
        assert!(verify(disk(), &MASTER_KEY, &mut |_| {}).unwrap().is_sound(), "{what}");
    }

    fn is_accepted(&self, what: &str, kept: usize, harm: impl FnOnce(&Path)) {
        let folder = self.damaged(harm);
        let disk = || -> Arc<dyn Disk> { Arc::new(RealDisk::lock(folder.path()).unwrap()) };
        assert_eq!(wal_damage(disk()).unwrap(), None, "{what}");
        assert_eq!(accept_loss(&*disk()).unwrap(), None, "{what}");
        assert_eq!(self.found(&open_on(disk(), START).unwrap()), kept, "{what}");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let names = |below: &str| {
        let entries = fs::read_dir(folder.join(below)).unwrap().map(Result::unwrap);
        let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
        files.map(|entry| Path::new(below).join(entry.file_name())).collect::<Vec<_>>()
    };
    [names(""), names("partitions")].concat()
}

fn content(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let read = |name: PathBuf| (name.display().to_string(), fs::read(folder.join(&name)).unwrap());
    files(folder).into_iter().map(read).collect()
}

fn zero(log: &Path, range: Range<u64>) {
    let file = fs::File::options().write(true).open(log).unwrap();
    file.write_all_at(&vec![0; (range.end - range.start) as usize], range.start).unwrap();
}

/// Bytes of the head that was written last. After a power cut it may be missing, as the next sync makes it durable.
fn newest_head(log: &Path) -> Range<u64> {
    let file = fs::File::open(log).unwrap();
    let slots = [RECORDS_BYTES, RECORDS_BYTES + 4096];
    let newest = slots.into_iter().max_by_key(|slot| {
        let mut sequence = [0; 8];
        file.read_exact_at(&mut sequence, slot + 8).unwrap();
        u64::from_le_bytes(sequence)
    });
    newest.unwrap()..newest.unwrap() + 4096
}

fn cut(log: &Path, bytes: u64) {
    fs::File::options().write(true).open(log).unwrap().set_len(bytes).unwrap();
}

#[test]
fn a_missing_log_is_damage() {
    killed().is_refused("removed", 0, |log| fs::remove_file(log).unwrap());
}

#[test]
fn a_log_that_was_cut_short_is_damage_wherever_it_was_cut() {
    let killed = killed();
    let places = [
        (0, 0),
        (100, 0),
        (HALF_BYTES, 0),
        (killed.records[1].end, 2),
        (killed.records[1].end - 1, 1),
        (RECORDS_BYTES, 6),
        (RECORDS_BYTES + 4096, 6),
    ];
    for (bytes, kept) in places {
        killed.is_refused(&format!("cut to {bytes} bytes"), kept, |log| cut(log, bytes));
    }
}

#[test]
fn a_log_without_its_head_is_damage_and_one_with_a_torn_head_is_not() {
    let killed = killed();
    killed.is_refused("both heads", 6, |log| zero(log, RECORDS_BYTES..RECORDS_BYTES + 8192));
    killed.is_refused("all of it", 0, |log| zero(log, 0..RECORDS_BYTES + 8192));
    killed.is_accepted("one head", 6, |log| zero(log, RECORDS_BYTES..RECORDS_BYTES + 4096));
    killed.is_accepted("the other head", 6, |log| zero(log, RECORDS_BYTES + 4096..RECORDS_BYTES + 8192));
}

#[test]
fn a_log_of_another_store_is_damage() {
    let mut other = Bench::new();
    for _ in 0..2 {
        other.now = other.now.plus_ms(1_000);
        other.opened.writer.roll(other.now).unwrap();
    }
    other.publish("a", |_| {});
    let other = other.kill();
    killed().is_refused("another log", 0, |log| {
        fs::copy(other.path().join("journal"), log).unwrap();
    });
}

#[test]
fn a_record_that_others_follow_is_damaged_by_a_zeroed_head_or_sector() {
    let killed = killed();
    for record in [0, 1, 2, 3, 4] {
        let start = killed.records[record].start;
        killed.is_refused(&format!("head of {record}"), record, |log| zero(log, start..start + 40));
        let sector = (start + 1_000) / 512 * 512;
        killed.is_refused(&format!("sector in {record}"), record, |log| zero(log, sector..sector + 512));
    }
    // The head of the log says that the second epoch has begun, and so the first one was whole.
    killed.is_refused("the first epoch", 0, |log| zero(log, HALF_BYTES..RECORDS_BYTES));
    let (last, next) = (killed.records[2].clone(), killed.records[3].start..killed.records[5].end);
    killed.is_refused("between two epochs", 2, |log| {
        zero(log, last);
        zero(log, next);
    });
}

#[test]
fn zeros_from_any_record_on_are_damage() {
    let killed = killed();
    for record in 0..6 {
        let start = killed.records[record].start;
        let end = if start < HALF_BYTES { HALF_BYTES } else { RECORDS_BYTES };
        killed.is_refused(&format!("zeros from {record}"), record, |log| zero(log, start..end));
        let folder = killed.damaged(|log| zero(log, start..end));
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::lock(folder.path()).unwrap());
        let lost = accept_loss(&*disk).unwrap().expect("a loss").lost.records;
        // At least: the head does not know where the epoch before its own began.
        let known = [3, 5, 4, 3, 2, 1];
        assert_eq!(lost, known[record], "zeros from {record}");
    }
}

#[test]
fn a_last_record_that_a_power_cut_tore_ends_the_log() {
    let killed = killed();
    let last = killed.records[5].clone();
    killed.is_accepted("head", 5, |log| {
        zero(log, newest_head(log));
        zero(log, last.start..last.start + 40);
    });
    killed.is_accepted("sector", 5, |log| {
        zero(log, newest_head(log));
        zero(log, last.end - 600..last.end - 100);
    });
    killed.is_accepted("whole", 6, |_| {});
    // A kill leaves the head that counts the last record.
    killed.is_refused("head after a kill", 5, |log| zero(log, last.start..last.start + 40));
}

#[test]
fn a_clean_stop_needs_no_log_and_the_next_start_needs_it_again() {
    let mut bench = Bench::new();
    let (published, _) = bench.publish("a", |_| {});
    let (id, tenant) = (published.event.id, bench.caller.tenant);
    bench.opened.writer.close().unwrap();
    let folder = bench.kill();
    let disk = || -> Arc<dyn Disk> { Arc::new(RealDisk::lock(folder.path()).unwrap()) };
    fs::remove_file(folder.path().join("journal")).unwrap();
    assert_eq!(wal_damage(disk()).unwrap(), None);
    let opened = open_on(disk(), START).unwrap();
    assert!(opened.store.event(tenant, id, START).unwrap().is_some());
    drop(opened);
    fs::remove_file(folder.path().join("journal")).unwrap();
    assert!(matches!(open_on(disk(), START), Err(Error::WalDamaged { .. })));
}
