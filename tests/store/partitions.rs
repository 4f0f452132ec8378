//! Partitions begin and go without making publishers wait. A full one is sealed when redb has nearly all of it, and old
//! ones are dropped a few at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use postrider::daemon::accept_loss;
use postrider::model::EventId;
use postrider::model::job::{JobSpec, LastDeliveryFilter};
use postrider::store::admin::{Defect, check_files, verify, wal_damage};
use postrider::store::{Command, EventInput, PartitionCommand, RealDisk, Receipt, Retention, StateCommand};

use crate::store::bench::{Bench, DAY_MS, MASTER_KEY, START, open_on};
use crate::store::hooked_disk::HookedDisk;

/// Publishes events whose payloads have a megabyte together. Each is small enough for the partition's own file.
fn publish_megabyte(bench: &mut Bench) {
    for _ in 0..128 {
        bench.publish("a", |event| event.data = Bytes::from(format!("\"{}\"", "x".repeat(8_000))));
    }
}

#[test]
fn a_full_partition_waits_for_its_checkpoint_and_then_is_sealed_with_little_left() {
    let mut bench = Bench::new();
    publish_megabyte(&mut bench);
    bench.now = bench.now.plus_ms(2 * DAY_MS);
    bench.publish("b", |_| {});
    assert_eq!(bench.opened.store.partition_count(), 1, "a megabyte is not given to redb while publishers wait");
    let checkpoint = bench.opened.writer.take_checkpoint().expect("a checkpoint is pending");
    bench.publish("b", |_| {});
    assert_eq!(bench.opened.store.partition_count(), 1, "the checkpoint has not run yet");
    checkpoint.run().unwrap();
    bench.publish("b", |_| {});
    assert_eq!(bench.opened.store.partition_count(), 2);
    bench.reopen();
    assert_eq!(bench.opened.store.partition_count(), 2);
}

#[test]
fn a_full_partition_is_sealed_although_its_checkpoint_does_not_run() {
    let mut bench = Bench::new();
    publish_megabyte(&mut bench);
    bench.now = bench.now.plus_ms(2 * DAY_MS);
    bench.publish("b", |_| {});
    bench.publish("b", |_| {});
    assert_eq!(bench.opened.store.partition_count(), 2);
}

#[test]
fn expired_partitions_are_dropped_a_few_at_a_time() {
    let mut bench = Bench::new();
    for _ in 0..6 {
        bench.publish("a", |_| {});
        bench.now = bench.now.plus_ms(DAY_MS);
        bench.opened.writer.roll(bench.now).unwrap();
    }
    bench.now = bench.now.plus_ms(40 * DAY_MS);
    let mut dropped = Vec::new();
    loop {
        let done = bench.opened.writer.maintain(bench.now, Retention::Running);
        assert!(!done.dropped.is_empty() && done.dropped.len() < 6);
        done.dropped.iter().for_each(|partition| bench.opened.store.unlink(partition).unwrap());
        dropped.extend(done.dropped);
        if !done.is_more {
            break;
        }
    }
    assert_eq!(dropped.len(), 6);
    assert_eq!(bench.opened.store.verify(&mut |_| {}).unwrap().unlisted, Vec::<String>::new());
}

#[test]
fn ids_rise_over_a_start_although_the_newest_were_dropped_and_the_clock_stepped_back() {
    let mut bench = Bench::new();
    bench.webhook(|_| {});
    let (_, batch) = bench.publish("a", |_| {});
    bench.opened.writer.roll(bench.now.plus_ms(1_000)).unwrap();
    let end = bench.now.plus_ms(1_000 + 31 * DAY_MS);
    bench.opened.writer.roll(end.plus_ms(-20_000)).unwrap();
    // The last attempt of the old event is the newest row of the store.
    bench.now = end.plus_ms(-1);
    bench.record(&batch.effects.fresh[0], 200);
    let seen = bench.opened.store.newest_attempt();
    assert_eq!(seen.time(), bench.now);
    assert_eq!(bench.opened.writer.maintain(end, Retention::Running).dropped.len(), 1);
    bench.now = end.plus_ms(-5_000);
    bench.reopen();
    let (_, batch) = bench.publish("b", |_| {});
    let id = batch.effects.fresh[0].delivery_id.as_u128();
    assert!(id > seen.as_u128(), "a reader of attempts was at {seen:?}");
}

#[test]
fn a_job_over_waiting_deliveries_goes_on_behind_a_dropped_partition() {
    let mut bench = Bench::new();
    let hook = bench.webhook(|_| {});
    let later = bench.now.plus_ms(20 * DAY_MS);
    bench.publish("a", |event| event.attributes.deliver_at = Some(later));
    bench.opened.writer.roll(bench.now.plus_ms(1_000)).unwrap();
    bench.now = bench.now.plus_ms(2_000);
    // Its place in the index of due times is before that of the first one.
    let (_, batch) = bench.publish("b", |_| {});
    bench.record(&batch.effects.fresh[0], 500);
    let spec = JobSpec {
        webhook: Some(hook.id),
        app: None,
        from: None,
        to: None,
        types: Vec::new(),
        status: None,
        missing: false,
        rate_per_s: None,
        last: LastDeliveryFilter::default(),
        waiting: true,
        retrying: false,
        erasing: false,
    };
    let Ok(Receipt::Job(job)) = bench.apply(Command::State(StateCommand::CreateJob { spec })).0 else {
        panic!("a job")
    };
    let advance = |bench: &mut Bench, limit| -> u64 {
        let advance = PartitionCommand::AdvanceJob { id: job.id, limit, make_max: 10 };
        match bench.apply(Command::Partition(advance)).0 {
            Ok(Receipt::Job(job)) => job.matched,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(advance(&mut bench, 1), 1);
    bench.now = START.plus_ms(31 * DAY_MS + 1_000);
    assert_eq!(bench.opened.writer.maintain(bench.now, Retention::Running).dropped.len(), 1);
    assert_eq!(advance(&mut bench, 10), 2);
}

#[test]
fn a_start_opens_a_bounded_number_of_the_partitions_that_may_change() {
    let disk = HookedDisk::new();
    let mut bench = Bench::on(disk.clone());
    bench.webhook(|_| {});
    for _ in 0..70 {
        bench.publish("a", |_| {});
        bench.now = bench.now.plus_ms(1_000);
        bench.opened.writer.roll(bench.now).unwrap();
    }
    let now = bench.now;
    drop(bench);
    disk.take_open_max();
    let opened = open_on(disk.clone(), now).unwrap();
    assert_eq!(opened.store.partition_count(), 71);
    let open = disk.take_open_max();
    assert!(open < 60, "{open} files were open at once");
}

#[test]
fn a_state_file_that_is_older_than_a_partition_with_events_is_refused_and_nothing_is_removed() {
    for is_checkpointed in [false, true] {
        let mut bench = Bench::new();
        let aside = tempfile::tempdir().unwrap();
        std::fs::copy(bench.folder().join("state.redb"), aside.path().join("state.redb")).unwrap();
        bench.now = bench.now.plus_ms(1_000);
        bench.opened.writer.roll(bench.now).unwrap();
        bench.publish("a", |_| {});
        if is_checkpointed {
            bench.opened.writer.checkpoint().unwrap();
        }
        let folder = bench.kill();
        let partitions = || std::fs::read_dir(folder.path().join("partitions")).unwrap().count();
        std::fs::copy(aside.path().join("state.redb"), folder.path().join("state.redb")).unwrap();
        let report = verify(Arc::new(RealDisk::unlocked(folder.path())), &MASTER_KEY, &mut |_| {}).unwrap();
        let told = |problem: &Defect| problem.to_string().starts_with("state.redb: it is older than partitions/");
        assert!(report.problems.iter().any(told), "{:?}", report.problems);
        assert!(report.is_state_older && report.problems.iter().all(|problem| problem.file != "journal"));
        let disk = || Arc::new(RealDisk::unlocked(folder.path()));
        let check = check_files(disk()).unwrap();
        assert!(check.damaged.iter().any(told), "{:?}", check.damaged);
        let files = || std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let before: BTreeSet<_> = files().collect();
        for error in [wal_damage(disk()).unwrap_err().to_string(), accept_loss(folder.path()).unwrap_err().to_string()]
        {
            assert!(error.starts_with("state.redb: it is older than partitions/"), "{error}");
        }
        assert_eq!(files().filter(|name| !before.contains(name) && name != "lock").count(), 0, "no log was renamed");
        let error = open_on(Arc::new(RealDisk::lock(folder.path()).unwrap()), START).unwrap_err().to_string();
        assert!(error.starts_with("state.redb: it is older than partitions/"), "{error}");
        assert_eq!(partitions(), 2);
    }
}

/// Publishes an event. `None` if that was refused.
fn try_publish(bench: &mut Bench) -> Option<EventId> {
    let publish = Command::Partition(PartitionCommand::Publish(vec![EventInput::new("a", "{}")]));
    match bench.apply(publish).0 {
        Ok(Receipt::Published(published)) => Some(published[0].event.id),
        _ => None,
    }
}

#[test]
fn events_are_found_after_a_partition_began_in_a_commit_that_failed() {
    let mut began = 0;
    for syncs in 0..4 {
        let disk = HookedDisk::new();
        let mut bench = Bench::on(disk.clone());
        let mut acknowledged = vec![try_publish(&mut bench).expect("an event")];
        bench.now = bench.now.plus_ms(1_000);
        disk.fail_state_after(syncs);
        let rolled = bench.opened.writer.roll(bench.now);
        bench.now = bench.now.plus_ms(1_000);
        acknowledged.extend(try_publish(&mut bench));
        disk.heal_state();
        acknowledged.extend(try_publish(&mut bench));
        acknowledged.push(try_publish(&mut bench).expect("the file is open again"));
        began += usize::from(rolled.is_err() && bench.opened.store.partition_count() == 2);
        let tenant = bench.caller.tenant;
        let now = bench.now;
        let is_found = |bench: &Bench, id| bench.opened.store.event(tenant, id, now).unwrap().is_some();
        assert!(acknowledged.iter().all(|id| is_found(&bench, *id)), "after {syncs} syncs");
        drop(bench);
        let store = open_on(disk, now).unwrap().store;
        assert!(acknowledged.iter().all(|id| store.event(tenant, *id, now).unwrap().is_some()), "after {syncs} syncs");
    }
    assert!(began > 0, "no failed commit was on the disk");
}
