//! Tests that numbers go on over restarts, that a replica resumes by number, and that a promoted replica is the store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::store::backup::receive;
use crate::store::backup::tests::{opened_again, publish, shown};
use crate::store::replication::replica::Replica;
use crate::store::replication::tail::{TAIL_BYTES_MAX, UNFOLLOWED_TAIL_BYTES_MAX};
use crate::store::replication::*;
use crate::store::verify::tests::{NOW, store};
use crate::store::{Opened, RealDisk};

/// The mark of the last published commit of a follower that receives from `follower`.
fn received_marks(follower: &Follower) -> Vec<CommitMark> {
    let ReplicaBatch::Records(records) = follower.take(Duration::ZERO) else { panic!("it was disconnected") };
    records.iter().map(|record| CommitMark::of(&CommitRecord::decode(record).unwrap())).collect()
}

fn numbers(marks: &[CommitMark]) -> Vec<u64> {
    marks.iter().map(|mark| mark.number).collect()
}

/// The base of a standby, and the replica over it.
fn replica(opened: &mut Opened, folder: &Path) -> Replica {
    let mut stream = Vec::new();
    opened.writer.backup_snapshot().unwrap().for_standby().send(&mut stream).unwrap();
    receive(&mut stream.as_slice(), &RealDisk::lock(folder).unwrap(), &mut |_| {}).unwrap();
    reopened(folder)
}

fn reopened(folder: &Path) -> Replica {
    let log = folder.join("standby");
    std::fs::create_dir_all(&log).unwrap();
    let (disk, log) = (RealDisk::folder(folder).unwrap(), RealDisk::folder(&log).unwrap());
    Replica::open(Arc::new(disk), Arc::new(log), Box::new(|| 5)).unwrap()
}

#[test]
fn numbers_go_on_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    publish(&mut opened, "first");
    publish(&mut opened, "second");
    let last = opened.writer.replication().begun();
    assert!(last >= 2);
    drop(opened);
    let mut opened = opened_again(folder.path());
    assert_eq!(opened.writer.replication().begun(), last);
    opened.writer.roll(NOW).unwrap();
    let rolled = opened.writer.replication().begun();
    assert!(rolled > last);
    publish(&mut opened, "third");
    opened.writer.close().unwrap();
    drop(opened);
    assert_eq!(opened_again(folder.path()).writer.replication().begun(), rolled + 1);
}

#[test]
fn a_replica_resumes_where_the_tail_has_its_missing_commits_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    let replication = opened.writer.replication();
    let follower = replication.follow(NOW, ReplicaKind::Standby).unwrap();
    publish(&mut opened, "first");
    let last = *received_marks(&follower).last().unwrap();
    drop(follower);
    publish(&mut opened, "second");
    publish(&mut opened, "third");
    let after = |mark| replication.follow_after(mark, NOW, ReplicaKind::Standby);
    let follower = after(last).unwrap();
    assert_eq!(follower.from().number, last.number);
    publish(&mut opened, "four");
    let seen = received_marks(&follower);
    assert_eq!(numbers(&seen), (last.number + 1..=last.number + 3).collect::<Vec<_>>());
    let newest = *seen.last().unwrap();
    assert!(after(newest).is_some(), "it lacks nothing");
    assert!(after(CommitMark { number: newest.number + 1, ..newest }).is_none(), "it is ahead");
    assert!(after(CommitMark { run: newest.run - 1, ..newest }).is_none(), "it is of another history");
    drop(follower);
    drop(opened);
    let mut opened = opened_again(folder.path());
    let replication = opened.writer.replication();
    let after = |mark| replication.follow_after(mark, NOW, ReplicaKind::Standby);
    assert!(after(newest).is_some(), "nothing was committed since");
    assert!(after(last).is_none(), "the tail was the process's");
    // A commit before the replica is back is still there.
    let begun = replication.begun();
    publish(&mut opened, "five");
    assert_eq!(numbers(&received_marks(&after(CommitMark { number: begun, ..newest }).unwrap())), [begun + 1]);
}

#[test]
fn a_failed_commit_ends_the_tail_and_so_does_its_size() {
    let mut tail = CommitTail::new(7);
    let before = CommitMark { number: 7, run: 1 };
    let record = |bytes: usize| Arc::<[u8]>::from(vec![0; bytes]);
    let ours = |number| CommitMark { number, run: 2 };
    tail.push(8, record(10), false);
    tail.push(9, record(10), false);
    assert_eq!(tail.since(before, before, 2).map(|records| records.len()), Some(2));
    assert_eq!(tail.since(ours(8), before, 2).map(|records| records.len()), Some(1));
    tail.restart(10);
    assert!(tail.since(ours(9), before, 2).is_none(), "commit 10 may be on the disk");
    tail.push(11, record(UNFOLLOWED_TAIL_BYTES_MAX + 1), false);
    assert!(!tail.is_retained());
    tail.retain_after(11);
    for number in 12..=16 {
        tail.push(number, record(TAIL_BYTES_MAX / 4), true);
    }
    assert!(tail.is_retained() && tail.since(ours(11), before, 2).is_none());
    assert_eq!(tail.since(ours(12), before, 2).map(|records| records.len()), Some(4));
}

#[test]
fn a_promoted_replica_is_the_store_although_it_was_killed() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut opened = store(&folder);
    publish(&mut opened, "before");
    let follower = opened.writer.replication().follow(NOW, ReplicaKind::Standby).unwrap();
    let mut standby = replica(&mut opened, copy.path());
    assert_eq!(standby.last().number, follower.from().number);
    for step in 0..6 {
        if step == 3 {
            opened.writer.roll(NOW).unwrap();
        }
        publish(&mut opened, &format!("step {step}"));
        let ReplicaBatch::Records(records) = follower.take(Duration::ZERO) else { panic!("it was disconnected") };
        let records: Vec<&[u8]> = records.iter().map(|record| &**record).collect();
        standby.append(&records).unwrap();
        assert!(standby.append(&records).is_err(), "commits are applied once");
        match step {
            1 => standby.write().unwrap(),
            // A kill: the log has the commits that the files lack.
            2 | 4 => {
                drop(standby);
                standby = reopened(copy.path());
            }
            _ => {}
        }
        assert_eq!(standby.last().number, opened.writer.replication().begun());
    }
    let last = standby.last();
    standby.close().unwrap();
    assert!(std::fs::read_dir(copy.path().join("standby")).unwrap().next().is_none(), "it needs no log any more");
    let promoted = opened_again(copy.path());
    assert_eq!(promoted.writer.replication().begun(), last.number);
    assert!(shown(&promoted) == shown(&opened));
}

#[test]
fn an_answer_that_requires_a_standby_waits_for_its_own_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    let replication = opened.writer.replication();
    let follower = replication.follow(NOW, ReplicaKind::Standby).unwrap();
    assert!(!replication.has_standby(), "its copy is not whole");
    publish(&mut opened, "first");
    let last = *received_marks(&follower).last().unwrap();
    follower.confirm(last.number);
    assert!(replication.has_standby() && replication.wait_for_standbys());
    assert_eq!((replication.stats().standbys, replication.stats().standby_lag), (1, 0));
    publish(&mut opened, "second");
    assert_eq!(replication.stats().standby_lag, 1);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| replication.wait_for_standbys());
        follower.confirm(last.number + 1);
        assert!(waiting.join().unwrap());
    });
    follower.confirm(last.number + 100);
    publish(&mut opened, "third");
    assert_eq!(replication.stats().standby_lag, 1, "a number from the future confirms nothing");
}

#[test]
fn an_answer_that_requires_a_standby_waits_for_every_connected_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    let replication = opened.writer.replication();
    let followers = [(); 2].map(|()| replication.follow(NOW, ReplicaKind::Standby).unwrap());
    publish(&mut opened, "first");
    let first = replication.begun();
    followers.iter().for_each(|follower| follower.confirm(first));
    assert!(replication.wait_for_standbys());
    publish(&mut opened, "second");
    followers[0].confirm(first + 1);
    // The other one confirms nothing in time.
    assert!(replication.wait_for_standbys(), "one standby has it");
    assert_eq!(
        (replication.stats().standbys, replication.stats().cut),
        (1, 1),
        "the one that lacks it is none any more"
    );
    assert!(followers[1].is_given_up() && !followers[0].is_given_up());
    // If none confirms in time, no later commit waits for them again.
    publish(&mut opened, "third");
    assert!(!replication.wait_for_standbys());
    assert!(followers[0].is_given_up() && !replication.has_standby());
}
