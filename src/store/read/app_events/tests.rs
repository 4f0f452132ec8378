//! Tests of finding the events of one app among those of others: in both directions, its cost, and stores of an earlier
//! version.

use crate::kv::snapshot::examined;
use crate::kv::tables::{Key, Table};
use crate::kv::write_batch::WriteBatch;
use crate::model::Time;
use crate::model::id::{AppId, EventId};
use crate::store::command::TenantScope;
use crate::store::partitions::index_start::LaterIndex;
use crate::store::read::query::{EventQuery, ListWindow};
use crate::store::verify::tests::{NOW, store};
use crate::store::{EventInput, Opened, PartitionCommand, Receipt, Retention, TwoWayWindow, WriteRequest};

/// Rows and index entries that a page of three events examines at most.
const CHEAP_READS: u64 = 20;
/// Events of the default app before, between and behind those of the second app.
const FOREIGN: usize = 300;

/// The default app and the second app.
fn apps(opened: &Opened) -> (AppId, AppId) {
    let registry = opened.store.registry();
    let default = registry.organizations().next().unwrap().default_app_id;
    (default, *registry.apps.keys().find(|app| **app != default).unwrap())
}

fn publish(opened: &mut Opened, app: AppId, count: usize, now: Time) -> Vec<EventId> {
    let events = (0..count).map(|_| EventInput { app: Some(app), ..EventInput::new("none", "1") });
    let command = PartitionCommand::Publish(events.collect());
    match opened.writer.apply(&[WriteRequest::internal(command)], now).results.remove(0).unwrap().receipt {
        Receipt::Published(published) => published.iter().map(|one| one.event.id).collect(),
        other => panic!("{other:?}"),
    }
}

/// Publishes the second app's events among those of the default app. Returns them, oldest first, with the one of `store`.
fn buried(opened: &mut Opened) -> Vec<EventId> {
    let (default, second) = apps(opened);
    let mut own: Vec<EventId> = listed(opened, second, 10);
    for _ in 0..2 {
        publish(opened, default, FOREIGN, NOW);
        own.extend(publish(opened, second, 1, NOW));
    }
    publish(opened, default, FOREIGN, NOW);
    own
}

/// The newest events of an app by the native list, oldest first. Follows the pages.
fn listed(opened: &Opened, app: AppId, limit: usize) -> Vec<EventId> {
    let org = opened.store.registry().organizations().next().unwrap().id;
    let mut query = EventQuery {
        tenant: TenantScope { org, app: Some(app) },
        event_type: None,
        event_id: None,
        subject: None,
        search: None,
        window: ListWindow::newest(limit),
    };
    let mut ids = Vec::new();
    loop {
        let page = opened.store.events(&query, NOW).unwrap();
        ids.extend(page.rows.iter().map(|event| event.id));
        match page.next {
            Some(next) => query.window.before = Some(next),
            None => break,
        }
    }
    ids.reverse();
    ids
}

/// One page in either direction.
fn one_page(opened: &Opened, app: AppId, is_rising: bool) -> Vec<EventId> {
    let window = TwoWayWindow { from: 0, to: u128::MAX, is_rising, limit: 2 };
    let page = opened.store.events_two_way(app, window, false, NOW, |_| true).unwrap();
    page.rows.iter().map(|(event, _)| event.id).collect()
}

#[test]
fn the_first_page_of_an_app_costs_the_same_whatever_lies_between() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    let own = buried(&mut opened);
    let second = apps(&opened).1;
    examined::take();
    assert_eq!(one_page(&opened, second, true), own[..2]);
    assert_eq!(one_page(&opened, second, false), [own[2], own[1]]);
    let (rows, keys) = examined::take();
    assert!(rows + keys <= 2 * CHEAP_READS, "{rows} rows and {keys} keys");
    assert_eq!(listed(&opened, second, 2), own);
    let (rows, keys) = examined::take();
    assert!(rows + keys <= 2 * CHEAP_READS, "{rows} rows and {keys} keys");
    assert!(opened.store.verify(&mut |_| {}).unwrap().is_sound());
}

#[test]
fn the_events_that_an_earlier_version_stored_are_found_among_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    let (default, second) = apps(&opened);
    let mut own = listed(&opened, second, 10);
    let state = opened.store.partition_set.state().unwrap();
    let mut write_batch = WriteBatch::on(state.snapshot().unwrap());
    write_batch.remove(Table::Meta, Key::from_slice(LaterIndex::EventsByApp.key()));
    state.commit(write_batch).unwrap();
    drop(state);
    let partition = opened.store.partition_set.partitions().pop().unwrap();
    let file = opened.store.partition_set.read(&partition).unwrap();
    let mut write_batch = WriteBatch::on(file.snapshot().unwrap());
    write_batch.remove(Table::EventsByApp, crate::kv::tables::pair(second, own[0]));
    file.commit(write_batch).unwrap();
    drop(file);
    assert_eq!(listed(&opened, second, 2), own, "before the first maintenance");
    opened.writer.maintain(NOW, Retention::Running);
    own.extend(publish(&mut opened, second, 3, NOW));
    opened.writer.roll(NOW.plus_ms(3_600_000)).unwrap();
    publish(&mut opened, default, 3, NOW);
    own.extend(publish(&mut opened, second, 3, NOW));
    for limit in [1, 3, 50] {
        assert_eq!(listed(&opened, second, limit), own, "{limit} a page");
    }
    assert_eq!(one_page(&opened, second, true), own[..2]);
    assert_eq!(one_page(&opened, second, false), [own[6], own[5]]);
    assert!(opened.store.verify(&mut |_| {}).unwrap().is_sound());
}
