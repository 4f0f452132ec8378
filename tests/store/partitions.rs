//! Partitions begin and go without making publishers wait. A full one is sealed when redb has nearly all of it, and old
//! ones are dropped a few at a time.

use bytes::Bytes;
use postrider::store::Retention;

use crate::store::bench::{Bench, DAY_MS};

/// Publishes this many events of 100 KiB.
fn publish_large(bench: &mut Bench, events: usize) {
    for _ in 0..events {
        bench.publish("a", |event| event.data = Bytes::from(format!("\"{}\"", "x".repeat(100 << 10))));
    }
}

#[test]
fn a_full_partition_waits_for_its_checkpoint_and_then_is_sealed_with_little_left() {
    let mut bench = Bench::new();
    publish_large(&mut bench, 10);
    bench.now = bench.now.plus_ms(2 * DAY_MS);
    bench.publish("b", |_| {});
    assert_eq!(bench.opened.store.partition_count(), 1, "a megabyte is not given to redb while publishers wait");
    let checkpoint = bench.opened.writer.take_checkpoint().expect("it is called for");
    bench.publish("b", |_| {});
    assert_eq!(bench.opened.store.partition_count(), 1, "it is still being run");
    checkpoint.run().unwrap();
    bench.publish("b", |_| {});
    assert_eq!(bench.opened.store.partition_count(), 2);
    bench.reopen();
    assert_eq!(bench.opened.store.partition_count(), 2);
}

#[test]
fn a_full_partition_is_sealed_although_nobody_runs_its_checkpoint() {
    let mut bench = Bench::new();
    publish_large(&mut bench, 10);
    bench.now = bench.now.plus_ms(2 * DAY_MS);
    bench.publish("b", |_| {});
    bench.publish("b", |_| {});
    assert_eq!(bench.opened.store.partition_count(), 2);
}

#[test]
fn what_retention_has_ended_goes_a_few_partitions_at_a_time() {
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
