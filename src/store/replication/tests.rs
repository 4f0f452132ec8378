//! Tests that replicas receive every commit once, in order, and that replay restores each.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::kv::scan::ScanStep;
use crate::kv::tables::{Key, Table};
use crate::model::DeliveryId;
use crate::model::time::DAY_MS;
use crate::store::backup::tests::{
    InterferingReader, opened_again, publish, shown, store_with_archived_partition, walked,
};
use crate::store::backup::{ReceivedBackup, receive};
use crate::store::partitions::maintenance::Retention;
use crate::store::replication::log::{LogOutline, LogWriter, ReplicationLog};
use crate::store::replication::replay::LogReplay;
use crate::store::replication::*;
use crate::store::verify::tests::{NOW, apply, finished, store};
use crate::store::{Opened, PartitionCommand, RealDisk, WriteRequest};

fn drained(follower: &Follower) -> Vec<Arc<[u8]>> {
    match follower.take(Duration::ZERO) {
        ReplicaBatch::Records(records) => records,
        ReplicaBatch::Over(cut) => panic!("{cut:?}"),
    }
}

fn point(number: u64) -> CommitPosition {
    CommitPosition { number, at: Time(1_000 * number as i64) }
}

/// A commit of one row to the state's file.
fn record(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend_from_slice(&point(number).at.0.to_le_bytes());
    bytes.extend_from_slice(&10_u16.to_le_bytes());
    bytes.extend_from_slice(b"state.redb");
    let changes = [(Key::from_slice(&[number as u8]), Some(vec![7; 100]))].into();
    wal::encode_changes(&[(Table::Totals, &changes)], &mut bytes);
    bytes
}

/// Makes the base of a follower, while an archived partition changes, so that it is read again.
fn base(opened: &mut Opened, folder: &Path, old: DeliveryId) -> ReceivedBackup {
    let quiet = opened.store.partition_set.partitions().into_iter().find(|p| p.row().archived).unwrap();
    let mut sink = InterferingReader { stream: Vec::new(), file: quiet.file_name(), is_in_it: false, deed: None };
    let backup_snapshot = opened.writer.backup_snapshot().unwrap();
    sink.deed = Some(Box::new(|| {
        publish(opened, "not in the moment");
        drop(apply(opened, WriteRequest::internal(PartitionCommand::Retry { id: old })));
    }));
    backup_snapshot.send(&mut sink).unwrap();
    assert!(sink.deed.is_none() && !quiet.row().archived);
    receive(&mut sink.stream.as_slice(), &RealDisk::lock(folder).unwrap(), &mut |_| {}).unwrap()
}

/// A copy of a base with the log applied up to a commit.
fn brought_to(base: &Path, records: &[Arc<[u8]>], number: u64) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let disk = RealDisk::lock(copy.path()).unwrap();
    fs::copy(base.join("state.redb"), copy.path().join("state.redb")).unwrap();
    for entry in fs::read_dir(base.join("partitions")).unwrap().flatten() {
        fs::copy(entry.path(), copy.path().join("partitions").join(entry.file_name())).unwrap();
    }
    let mut replay = LogReplay::of(&disk);
    for record in records {
        let record = CommitRecord::decode(record).unwrap();
        if record.point.number <= number {
            replay.take(record).unwrap();
        }
    }
    replay.finish().unwrap();
    copy
}

#[test]
fn a_copy_brought_forward_is_the_store_at_every_commit() {
    let (folder, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut opened, old) = store_with_archived_partition(&folder);
    let follower = opened.writer.replication().follow(NOW, ReplicaKind::Backup).unwrap();
    let first = opened.writer.replication().begun();
    assert_eq!(follower.from(), CommitPosition { number: first, at: NOW });
    publish(&mut opened, "before the base, and published all the same");
    let whole = base(&mut opened, kept.path(), old);
    assert!(whole.begun >= first + 3, "commits during the copy count");
    let mut expected = vec![(opened.writer.replication().begun(), shown(&opened))];
    assert_eq!(expected[0].0, whole.begun);
    let mut late = NOW;
    for step in 0..14 {
        match step {
            0 => drop(apply(&mut opened, WriteRequest::internal(PartitionCommand::Retry { id: old }))),
            3 => opened.writer.roll(late).unwrap(),
            5 => opened.writer.checkpoint().unwrap(),
            6 => drop(opened.writer.maintain(late, Retention::Paused)),
            8 => {
                late = late.plus_ms((1 << 40) + DAY_MS);
                assert!(!opened.writer.maintain(late, Retention::Running).dropped.is_empty());
            }
            11 => opened.writer.roll(late.plus_ms(1)).unwrap(),
            _ => drop(publish(&mut opened, &format!("step {step}"))),
        }
        expected.push((opened.writer.replication().begun(), shown(&opened)));
    }
    let records = drained(&follower);
    let numbers: Vec<u64> = records.iter().map(|record| point_of(record).unwrap().number).collect();
    assert_eq!(numbers, (first + 1..=opened.writer.replication().begun()).collect::<Vec<_>>());
    for (number, rows) in expected {
        let copy = brought_to(kept.path(), &records, number);
        let report = walked(copy.path());
        assert!(report.is_sound() && report.unlisted.is_empty(), "commit {number}: {report:?}");
        let found = shown(&opened_again(copy.path()));
        assert!(found == rows, "commit {number}: {} files, not {}", found.len(), rows.len());
    }
}

#[test]
fn a_large_commit_is_published_too_and_none_without_a_follower() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    publish(&mut opened, "unseen");
    let following = opened.writer.replication();
    assert_eq!(opened.writer.replication().stats(), ReplicationStats::default());
    let follower = opened.writer.replication().follow(NOW, ReplicaKind::Backup).unwrap();
    let events = (0..20).map(|n| {
        let mut event = crate::store::EventInput::new("a", format!("\"{}\"", "x".repeat(1 << 20)));
        event.app = opened.store.registry().apps.keys().next().copied();
        event.attributes.event_id = Some(format!("large {n}"));
        event
    });
    // The batch exceeds an epoch of the write-ahead log, so it is a redb commit of its own.
    let request = WriteRequest::internal(PartitionCommand::Publish(events.collect()));
    let fresh = apply(&mut opened, request).1;
    assert_eq!(opened.writer.replication().stats().followers, 0, "it has no whole copy yet");
    follower.confirm(following.begun());
    assert_eq!(opened.writer.replication().stats().followers, 1);
    let records: Vec<_> = drained(&follower).iter().map(|record| CommitRecord::decode(record).unwrap()).collect();
    assert_eq!(records.len(), 1);
    let of_meta = records[0].changes.iter().filter(|(table, _)| *table == Table::Meta);
    let keys: Vec<_> = of_meta.flat_map(|(_, changes)| changes.keys()).map(|key| key.as_slice().to_vec()).collect();
    assert_eq!(keys, [b"commit".to_vec()], "the epoch is the file's own");
    let data = records[0].changes.iter().find(|(table, _)| *table == Table::Data).unwrap();
    assert!(data.1.len() > 20 * 100);
    // A checkpoint publishes no commit.
    opened.writer.checkpoint().unwrap();
    apply(&mut opened, WriteRequest::internal(PartitionCommand::Record(Box::new(finished(&fresh[0], true)))));
    assert_eq!(drained(&follower).len(), 1);
    drop(follower);
    let before = following.begun();
    publish(&mut opened, "unseen again");
    assert_eq!((following.begun(), opened.writer.replication().stats()), (before + 1, ReplicationStats::default()));
}

#[test]
fn a_replica_that_is_too_slow_is_disconnected_and_no_commit_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    let (slow, other) = (
        opened.writer.replication().follow(NOW, ReplicaKind::Backup).unwrap(),
        opened.writer.replication().follow(NOW, ReplicaKind::Backup).unwrap(),
    );
    let following = opened.writer.replication();
    let mut bytes = 0;
    while opened.writer.replication().stats().cut == 0 {
        let (base, number) = (opened.store.partition_set.state().unwrap().snapshot().unwrap(), following.begun() + 1);
        let mut write_batch = WriteBatch::on(base);
        write_batch.set(Table::Totals, Key::from_slice(&[1]), Some(vec![0; 10 << 20]));
        let begun = following.begin("state.redb", NOW, &mut write_batch, false);
        following.end(begun, true);
        let records = drained(&other);
        assert_eq!(
            records.iter().filter_map(|record| point_of(record)).map(|p| p.number).collect::<Vec<_>>(),
            [number]
        );
        bytes += records[0].len();
    }
    assert!(bytes > QUEUE_BYTES_MAX && bytes < QUEUE_BYTES_MAX + (11 << 20), "{bytes}");
    assert!(matches!(slow.take(Duration::ZERO), ReplicaBatch::Over(DisconnectReason::Slow)));
    assert_eq!(opened.writer.replication().stats(), ReplicationStats { cut: 1, ..ReplicationStats::default() });
    drop(slow);
    publish(&mut opened, "for the other");
    assert_eq!(drained(&other).len(), 1);
}

/// Publishes twice on a thread, and returns the order of the events while `meanwhile` acts on the follower.
fn published_twice(meanwhile: impl FnOnce(Follower)) -> Vec<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    let follower = opened.writer.replication().follow(NOW, ReplicaKind::Backup).unwrap();
    follower.confirm(follower.from().number);
    let order = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            for answered in ["answered one", "answered two"] {
                publish(&mut opened, answered);
                order.lock().unwrap().push(answered);
            }
        });
        let mut seen = 0;
        while seen < 2 {
            let drained = follower.take(Duration::from_secs(60));
            let ReplicaBatch::Records(records) = drained else { panic!("{drained:?}") };
            assert!(!records.is_empty(), "nothing comes");
            seen += records.len();
        }
        // Enough turns for a publisher that does not wait.
        (0..10_000).take_while(|_| !publishing.is_finished()).for_each(|_| std::thread::yield_now());
        order.lock().unwrap().push("meanwhile");
        meanwhile(follower);
    });
    order.into_inner().unwrap()
}

#[test]
fn a_commit_is_answered_once_a_whole_replica_has_the_one_before_or_is_disconnected() {
    let order = ["answered one", "meanwhile", "answered two"];
    let kept = Mutex::new(None);
    let confirmed = published_twice(|follower| {
        follower.confirm(follower.from().number + 1);
        *kept.lock().unwrap() = Some(follower);
    });
    assert_eq!(confirmed, order);
    assert_eq!(published_twice(|follower| follower.leave()), order);
    assert_eq!(published_twice(drop), order);
}

#[test]
fn a_replica_that_confirms_nothing_for_too_long_is_disconnected() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    let follower = opened.writer.replication().follow(NOW, ReplicaKind::Backup).unwrap();
    publish(&mut opened, "followed");
    let last = follower.from().number + 1;
    assert!(!follower.queue.wait_for(last - 1, Duration::ZERO), "the one before the first is in the copy");
    assert!(follower.queue.wait_for(last, Duration::ZERO));
    assert!(follower.is_given_up());
    assert!(matches!(follower.take(Duration::ZERO), ReplicaBatch::Over(DisconnectReason::Slow)));
    publish(&mut opened, "by itself");
    publish(&mut opened, "again");
}

#[test]
fn a_standby_that_comes_while_others_are_waited_for_is_not_disconnected() {
    let replication = Arc::new(Replication::default());
    replication.resume(CommitMark { number: 5, run: 1 }, 2);
    let standby = || {
        let standby = replication.follow(NOW, ReplicaKind::Standby).unwrap();
        standby.confirm(4);
        standby
    };
    let silent = standby();
    let before = replication.standbys();
    let late = standby();
    replication.disconnect_late(6, before, false);
    assert_eq!((silent.is_given_up(), late.is_given_up()), (true, false));
    let before = replication.standbys();
    replication.disconnect_late(6, before, false);
    assert!(late.is_given_up(), "it has had its time now");
    assert_eq!(replication.stats().cut, 2);
}

#[test]
fn the_end_of_the_writer_is_sent_after_all_its_commits_and_a_failed_commit_ends_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    let follower = opened.writer.replication().follow(NOW, ReplicaKind::Backup).unwrap();
    let following = opened.writer.replication();
    let mut write_batch = WriteBatch::on(opened.store.partition_set.state().unwrap().snapshot().unwrap());
    let one_more = opened.writer.replication().follow(NOW, ReplicaKind::Backup).unwrap();
    let begun = following.begin("state.redb", NOW, &mut write_batch, false);
    following.end(begun, false);
    assert!(matches!(one_more.take(Duration::ZERO), ReplicaBatch::Over(DisconnectReason::Uncertain)));
    assert!(matches!(follower.take(Duration::ZERO), ReplicaBatch::Over(DisconnectReason::Uncertain)));
    drop(write_batch);
    let last = opened.writer.replication().follow(NOW, ReplicaKind::Backup).unwrap();
    assert_eq!(last.from().number, following.begun());
    publish(&mut opened, "last");
    let replication = opened.writer.replication();
    drop(opened);
    assert_eq!(drained(&last).len(), 1);
    assert!(matches!(last.take(Duration::from_secs(60)), ReplicaBatch::Over(DisconnectReason::Stopped)));
    assert_eq!(replication.stats().cut, 2);
    let more = replication.follow(NOW, ReplicaKind::Backup).unwrap();
    assert!(replication.follow(NOW, ReplicaKind::Backup).is_none(), "{FOLLOWERS_MAX} at most");
    drop(more);
}

/// A log with blocks of one, two, three records, and the copy whole after the third block.
fn log(folder: &Path) -> Vec<u64> {
    let disk = RealDisk::lock(folder).unwrap();
    let mut writer = LogWriter::create(&disk, 0x1234_5678_9abc_def0, point(10)).unwrap();
    let mut ends = vec![writer.bytes()];
    let mut next = 11;
    for count in [1, 2, 3, 4] {
        let records: Vec<Vec<u8>> = (next..next + count).map(record).collect();
        writer.append(&disk, &records.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        next += count;
        ends.push(writer.bytes());
        if count == 3 {
            writer.set_whole(&disk).unwrap();
            ends.push(writer.bytes());
        }
    }
    assert_eq!(writer.last(), point(20));
    ends
}

fn walk(folder: &Path) -> (Vec<u64>, LogOutline) {
    let disk = RealDisk::read_only(folder).unwrap();
    let log = ReplicationLog::on(&disk).unwrap().unwrap();
    let mut numbers = Vec::new();
    let outline = log
        .walk(|record| {
            numbers.push(point_of(record).unwrap().number);
            Ok(ScanStep::Go)
        })
        .unwrap();
    (numbers, outline)
}

#[test]
fn a_log_ends_where_it_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let ends = log(folder.path());
    let (numbers, outline) = walk(folder.path());
    assert_eq!(numbers, (11..=20).collect::<Vec<_>>());
    let whole = LogOutline {
        from: point(10),
        whole: Some(point(16)),
        last: point(20),
        segments: 1,
        bytes: *ends.last().unwrap(),
        torn_bytes: 0,
        damage: None,
    };
    assert_eq!(outline, whole);
    let disk = RealDisk::read_only(folder.path()).unwrap();
    assert_eq!(ReplicationLog::on(&disk).unwrap().unwrap().outline().unwrap(), whole);
    let name = folder.path().join("000001.log");
    let bytes = fs::read(&name).unwrap();
    for length in ends[0]..*ends.last().unwrap() {
        fs::write(&name, &bytes[..length as usize]).unwrap();
        let (numbers, outline) = walk(folder.path());
        let end = ends.iter().rposition(|end| *end <= length).unwrap();
        let last = [10, 11, 13, 16, 16, 20][end];
        assert_eq!(numbers, (11..=last).collect::<Vec<_>>());
        assert_eq!((outline.last, outline.damage), (point(last), None), "{length} bytes");
        assert_eq!(outline.torn_bytes, length - ends[end]);
        assert_eq!(outline.whole, (end >= 4).then_some(point(16)));
    }
}

#[test]
fn every_flipped_bit_is_damage_or_a_torn_end() {
    let folder = tempfile::tempdir().unwrap();
    let ends = log(folder.path());
    let name = folder.path().join("000001.log");
    let bytes = fs::read(&name).unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&name, &flipped).unwrap();
        let (numbers, outline) = walk(folder.path());
        let Some(end) = ends.iter().rposition(|end| *end <= at as u64) else {
            assert_eq!(outline.damage.map(|damage| damage.byte), Some(0), "byte {at} of the segment's head");
            continue;
        };
        let last = [10, 11, 13, 16, 16, 20][end];
        assert_eq!(numbers, (11..=last).collect::<Vec<_>>());
        match end {
            // No whole block follows the last one.
            4 => assert_eq!((outline.damage, outline.torn_bytes), (None, ends[5] - ends[4])),
            _ => {
                let damage = outline.damage.unwrap_or_else(|| panic!("byte {at}"));
                assert_eq!((damage.byte, damage.last), (ends[end], point(last)), "byte {at}");
                assert!(damage.to_string().contains(&format!("whole up to commit {last} ")), "{damage}");
            }
        }
    }
}

#[test]
fn a_segment_that_is_missing_or_another_logs_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::lock(folder.path()).unwrap();
    let mut writer = LogWriter::create(&disk, 1, point(0)).unwrap();
    let mut number = 0;
    let large = |number: u64| {
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.extend_from_slice(&point(number).at.0.to_le_bytes());
        bytes.extend_from_slice(&10_u16.to_le_bytes());
        bytes.extend_from_slice(b"state.redb");
        let changes = [(Key::from_slice(&[1]), Some(vec![7; 30 << 20]))].into();
        wal::encode_changes(&[(Table::Totals, &changes)], &mut bytes);
        bytes
    };
    while !folder.path().join("000003.log").exists() {
        number += 1;
        writer.append(&disk, &[&large(number)]).unwrap();
    }
    drop(disk);
    let (numbers, outline) = walk(folder.path());
    assert_eq!(numbers, (1..=number).collect::<Vec<_>>());
    assert_eq!((outline.segments, outline.last, outline.damage), (3, point(number), None));
    assert_eq!(outline.bytes, writer.bytes());
    let disk = RealDisk::read_only(folder.path()).unwrap();
    let seen = ReplicationLog::on(&disk)
        .unwrap()
        .unwrap()
        .walk(|record| Ok(if point_of(record).unwrap().number < 4 { ScanStep::Go } else { ScanStep::Stop }));
    assert_eq!(seen.unwrap().last, point(4), "it stops where it has seen enough");
    let second = fs::read(folder.path().join("000002.log")).unwrap();
    fs::write(folder.path().join("000002.log"), &second[..second.len() - 1]).unwrap();
    let damage = walk(folder.path()).1.damage.unwrap();
    assert_eq!(
        (damage.segment.as_str(), damage.last.number),
        ("000002.log", number - 2),
        "no torn end, with a segment after it"
    );
    fs::write(folder.path().join("000002.log"), fs::read(folder.path().join("000001.log")).unwrap()).unwrap();
    assert_eq!(walk(folder.path()).1.damage.unwrap().segment, "000002.log");
    fs::remove_file(folder.path().join("000002.log")).unwrap();
    let (numbers, outline) = walk(folder.path());
    assert_eq!(outline.damage.unwrap().segment, "000002.log");
    assert!(!numbers.is_empty());
}

#[test]
fn an_error_of_the_log_names_the_whole_path() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("standby");
    let disk = RealDisk::folder(&gone).unwrap();
    std::fs::remove_dir(&gone).unwrap();
    let error = LogWriter::create(&disk, 1, CommitPosition { number: 0, at: NOW }).unwrap_err();
    assert!(error.to_string().starts_with(&gone.join("000001.log").display().to_string()), "{error}");
}
