//! Tests of finding events by name: over runs, partitions and pages, its cost, and stores of an earlier version.

use super::*;
use crate::kv::snapshot::examined;
use crate::kv::tables::Key;
use crate::kv::write_batch::WriteBatch;
use crate::store::command::TenantScope;
use crate::store::partitions::index_start::LaterIndex;
use crate::store::read::query::ListWindow;
use crate::store::verify::tests::{NOW, store};
use crate::store::{EventInput, Opened, PartitionCommand, Retention, WriteRequest};

/// Rows and index entries that a lookup of one event examines at most.
const CHEAP_READS: u64 = 40;

fn publish(opened: &mut Opened, after_ms: i64, subjects: &[&str]) -> Vec<EventId> {
    let app = opened.store.registry().apps.keys().next().copied();
    let event = |subject: &&str| {
        let mut event = EventInput { app, ..EventInput::new("none", "1") };
        event.attributes.subject = Some((*subject).to_owned());
        event
    };
    let command = PartitionCommand::Publish(subjects.iter().map(event).collect());
    let mut batch = opened.writer.apply(&[WriteRequest::internal(command)], NOW.plus_ms(after_ms));
    match batch.results.remove(0).unwrap().receipt {
        crate::store::Receipt::Published(published) => published.iter().map(|one| one.event.id).collect(),
        other => panic!("{other:?}"),
    }
}

fn query(opened: &Opened, subject: &str, limit: usize) -> EventQuery {
    let org = opened.store.registry().organizations().next().unwrap().id;
    EventQuery {
        tenant: TenantScope { org, app: None },
        event_type: None,
        event_id: None,
        subject: Some(subject.to_owned()),
        search: None,
        window: ListWindow::newest(limit),
    }
}

/// The whole list, page by page.
fn listed(opened: &Opened, subject: &str, limit: usize) -> Vec<EventId> {
    let (mut rows, mut query) = (Vec::new(), query(opened, subject, limit));
    loop {
        let page = opened.store.named_events(&query, EventName::Subject(subject), NOW).unwrap();
        assert!(page.rows.len() <= limit);
        rows.extend(page.rows.iter().map(|event| event.id));
        match page.next {
            Some(next) => query.window.before = Some(next),
            None => return rows,
        }
    }
}

/// Three events about Ann in each of three hours, in two partitions, among others.
fn three_hours(opened: &mut Opened) -> Vec<EventId> {
    let mut of_ann = Vec::new();
    for hour in 0..3 {
        for n in 0..3 {
            let ids = publish(opened, hour * 3_600_000 + n, &["bob", "ann", "eve"]);
            of_ann.push(ids[1]);
        }
        if hour == 1 {
            opened.writer.roll(NOW.plus_ms(hour * 3_600_000 + 9)).unwrap();
        }
    }
    of_ann.reverse();
    of_ann
}

#[test]
fn events_are_found_by_name_newest_first_over_runs_and_partitions() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    let expected = three_hours(&mut opened);
    for limit in [1, 2, 3, 4, 50] {
        assert_eq!(listed(&opened, "ann", limit), expected, "{limit} a page");
    }
    assert_eq!(listed(&opened, "unknown", 5), []);
    let org = opened.store.registry().organizations().next().unwrap().id;
    assert_ne!(EventName::Subject("a").hash(org), EventName::EventId("a").hash(org));
    assert!(opened.store.verify(&mut |_| {}).unwrap().is_sound());
}

#[test]
fn a_lookup_costs_the_same_whatever_lies_between() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    let expected = publish(&mut opened, 0, &["ann"]);
    for n in 0..20 {
        publish(&mut opened, n, &["bob"; 100]);
    }
    examined::take();
    assert_eq!(listed(&opened, "ann", 10), expected);
    let (rows, keys) = examined::take();
    assert!(rows + keys <= CHEAP_READS, "{rows} rows and {keys} keys");
}

#[test]
fn events_of_an_earlier_version_are_searched_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    let mut expected = three_hours(&mut opened);
    let state = opened.store.partition_set.state().unwrap();
    let mut write_batch = WriteBatch::on(state.snapshot().unwrap());
    write_batch.remove(Table::Meta, Key::from_slice(LaterIndex::FailedDeliveries.key()));
    state.commit(write_batch).unwrap();
    drop(state);
    assert_eq!(listed(&opened, "ann", 2), expected, "before the first maintenance");
    opened.writer.maintain(NOW, Retention::Running);
    opened.writer.roll(NOW.plus_ms(4 * 3_600_000)).unwrap();
    expected.insert(0, publish(&mut opened, 4 * 3_600_000, &["ann"])[0]);
    for limit in [1, 3, 50] {
        assert_eq!(listed(&opened, "ann", limit), expected, "{limit} a page");
    }
    let page = opened.store.named_events(&query(&opened, "ann", 1), EventName::Subject("ann"), NOW).unwrap();
    let newest = opened.store.partitions().pop().unwrap().0;
    assert_eq!(page.indexed_from, Some(EventId::from_u128(newest).time()));
}
