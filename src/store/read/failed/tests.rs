//! Tests of the list of failed deliveries: its order, its cost, and stores of an earlier version.

use std::ops::Bound;

use super::*;
use crate::kv::snapshot::examined;
use crate::kv::tables::Key;
use crate::kv::write_batch::WriteBatch;
use crate::model::id::WebhookId;
use crate::model::job::{JobSpec, LastDeliveryFilter};
use crate::store::command::{Caller, TenantScope};
use crate::store::partitions::index_start::LaterIndex;
use crate::store::read::query::{COUNTED_ROWS_MAX, ListWindow, TimeSpan};
use crate::store::verify::tests::{NOW, apply, finished, store, webhook};
use crate::store::{Dispatch, EventInput, Opened, PartitionCommand, Retention, StateCommand, WriteRequest};

/// Rows and index entries that a page of ten examines at most.
const CHEAP_READS: u64 = 100;

/// A store with a webhook whose deliveries fail at their first attempt.
pub(in crate::store) fn failing(folder: &tempfile::TempDir) -> (Opened, WebhookId) {
    let mut opened = store(folder);
    let hook = crate::model::Webhook { retry_schedule_s: vec![], ..webhook(crate::model::webhook::DeliveryOrder::No) };
    let registry = opened.store.registry();
    let (org, app) = (registry.organizations().next().unwrap().id, *registry.apps.keys().next().unwrap());
    let hook = crate::model::Webhook { org_id: org, app_id: app, event_types: vec!["ill".into()], ..hook };
    let key = registry.keys().next().unwrap().id;
    let by = Caller {
        key,
        tenant: TenantScope { org, app: None },
        remote_addr: None,
        request_id: "r".into(),
        portal_link: None,
    };
    let command = StateCommand::CreateWebhook { webhook: Box::new(hook), of_app_max: None }.into();
    let made = apply(&mut opened, WriteRequest { caller: Some(by), idempotency: None, command }).0;
    let crate::store::Receipt::Webhook(made) = made else { panic!("{made:?}") };
    (opened, made.id)
}

/// Publishes events. Returns the dispatches of the webhook, one for each.
pub(in crate::store) fn publish(opened: &mut Opened, hook: WebhookId, count: usize) -> Vec<Dispatch> {
    let app = opened.store.registry().apps.keys().next().copied();
    let events = (0..count).map(|_| EventInput { app, ..EventInput::new("ill", "1") }).collect();
    let fresh = apply(opened, WriteRequest::internal(PartitionCommand::Publish(events))).1;
    fresh.into_iter().filter(|dispatch| dispatch.webhook_id == hook).collect()
}

/// Records a failed attempt that ended `after_ms` after `NOW`.
pub(in crate::store) fn fail(opened: &mut Opened, dispatch: &Dispatch, after_ms: i64) -> DeliveryId {
    let mut report = finished(dispatch, false);
    report.made.finished_at = NOW.plus_ms(after_ms);
    apply(opened, WriteRequest::internal(PartitionCommand::Record(Box::new(report))));
    dispatch.delivery_id
}

fn query(opened: &Opened, webhook: Option<WebhookId>, limit: usize) -> DeliveryQuery {
    let org = opened.store.registry().organizations().next().unwrap().id;
    DeliveryQuery {
        tenant: TenantScope { org, app: None },
        webhook,
        event: None,
        status: None,
        event_type: Some("ill".into()),
        status_code: None,
        outcome: None,
        search: None,
        ended: TimeSpan::default(),
        window: ListWindow::newest(limit),
    }
}

/// The whole list, page by page.
fn listed(opened: &Opened, query: &DeliveryQuery) -> Vec<DeliveryId> {
    let (mut rows, mut position) = (Vec::new(), None);
    loop {
        let page = opened.store.failed_deliveries(query, position, NOW).unwrap();
        assert!(page.rows.len() <= query.window.limit);
        rows.extend(page.rows.iter().map(|delivery| delivery.id));
        match page.next {
            Some(next) => position = Some(next),
            None => return rows,
        }
    }
}

/// Removes the index and its start, as in a store of an earlier version.
fn make_old(opened: &mut Opened) {
    for partition in opened.store.partition_set.partitions() {
        let snapshot = opened.store.partition_set.snapshot(&partition).unwrap();
        let mut keys = Vec::new();
        let all = (Bound::Unbounded, Bound::Unbounded);
        let gather = |key: &[u8], _: &[u8]| {
            keys.push(Key::from_slice(key));
            Ok(ScanStep::Go)
        };
        snapshot.scan(Table::FailedByOwner, all, Direction::Up, gather).unwrap();
        let mut write_batch = WriteBatch::on(snapshot);
        keys.into_iter().for_each(|key| write_batch.remove(Table::FailedByOwner, key));
        opened.store.partition_set.read(&partition).unwrap().commit(write_batch).unwrap();
    }
    let state = opened.store.partition_set.state().unwrap();
    let mut write_batch = WriteBatch::on(state.snapshot().unwrap());
    write_batch.remove(Table::Meta, Key::from_slice(LaterIndex::FailedDeliveries.key()));
    state.commit(write_batch).unwrap();
}

#[test]
fn failed_deliveries_come_by_their_end_over_partitions_and_not_by_their_making() {
    let folder = tempfile::tempdir().unwrap();
    let (mut opened, hook) = failing(&folder);
    let old = publish(&mut opened, hook, 5);
    opened.writer.roll(NOW).unwrap();
    let new = publish(&mut opened, hook, 5);
    let mut ends = Vec::new();
    for (n, (a, b)) in old.iter().zip(&new).enumerate() {
        ends.push((1_000 - n as i64, fail(&mut opened, b, 1_000 - n as i64)));
        // The first two end at the same millisecond.
        ends.push((2_000 - n as i64 / 2, fail(&mut opened, a, 2_000 - n as i64 / 2)));
    }
    ends.sort_unstable();
    let expected: Vec<DeliveryId> = ends.iter().rev().map(|(_, id)| *id).collect();
    for limit in [1, 3, 10, 50] {
        assert_eq!(listed(&opened, &query(&opened, Some(hook), limit)), expected, "by webhook, {limit} a page");
        assert_eq!(listed(&opened, &query(&opened, None, limit)), expected, "by organization, {limit} a page");
    }
    let span = TimeSpan { from: Some(NOW.plus_ms(998)), to: Some(NOW.plus_ms(2_000)) };
    let within = DeliveryQuery { ended: span, ..query(&opened, Some(hook), 3) };
    let expected: Vec<DeliveryId> =
        ends.iter().rev().filter(|(end, _)| (998..2_000).contains(end)).map(|(_, id)| *id).collect();
    assert_eq!(listed(&opened, &within), expected);
    let page = opened.store.failed_deliveries(&within, None, NOW).unwrap();
    assert_eq!(page.indexed_from, None, "a new store has every entry");
    let tenant = within.tenant;
    let counted =
        |webhook, ended, most| opened.store.failed_count((tenant, webhook), ended, most, NOW).unwrap().unwrap();
    for webhook in [Some(hook), None] {
        let of_any_type = |ended| DeliveryQuery { event_type: None, ended, ..query(&opened, webhook, 7) };
        for ended in [TimeSpan::default(), span] {
            assert_eq!(counted(webhook, ended, 1_000), listed(&opened, &of_any_type(ended)).len());
        }
        assert_eq!(counted(webhook, TimeSpan::default(), 2), 2, "a count ends where its caller says");
    }
}

#[test]
fn a_page_of_failed_deliveries_costs_the_same_whatever_lies_between() {
    let folder = tempfile::tempdir().unwrap();
    let (mut opened, hook) = failing(&folder);
    let first = publish(&mut opened, hook, 1);
    let failed = fail(&mut opened, &first[0], 1);
    for _ in 0..4 {
        publish(&mut opened, hook, 500);
    }
    examined::take();
    let page = opened.store.failed_deliveries(&query(&opened, Some(hook), 10), None, NOW).unwrap();
    let (rows, keys) = examined::take();
    assert_eq!(page.rows.iter().map(|d| d.id).collect::<Vec<_>>(), [failed]);
    assert_eq!(page.next, None);
    assert!(rows + keys <= CHEAP_READS, "{rows} rows and {keys} keys");
}

#[test]
fn a_store_of_an_earlier_version_lists_indexed_failures_first_and_the_rest_behind_them() {
    let folder = tempfile::tempdir().unwrap();
    let (mut opened, hook) = failing(&folder);
    let dispatches = publish(&mut opened, hook, 6);
    let old: Vec<DeliveryId> = (0..3).map(|n| fail(&mut opened, &dispatches[n], n as i64)).collect();
    make_old(&mut opened);
    let newest_first = vec![old[2], old[1], old[0]];
    assert_eq!(listed(&opened, &query(&opened, Some(hook), 2)), newest_first, "before the first maintenance");
    opened.writer.maintain(NOW.plus_ms(5), Retention::Running);
    let new: Vec<DeliveryId> = (3..6).map(|n| fail(&mut opened, &dispatches[n], 10 - n as i64)).collect();
    let expected: Vec<DeliveryId> = new.iter().copied().chain(newest_first).collect();
    for limit in [1, 2, 3, 10] {
        assert_eq!(listed(&opened, &query(&opened, Some(hook), limit)), expected, "{limit} a page");
        assert_eq!(listed(&opened, &query(&opened, None, limit)), expected, "{limit} a page");
    }
    let page = opened.store.failed_deliveries(&query(&opened, Some(hook), 1), None, NOW.plus_ms(60)).unwrap();
    assert_eq!(page.indexed_from, Some(NOW.plus_ms(5)));
    let owner = (query(&opened, None, 1).tenant, Some(hook));
    let counted = |from| opened.store.failed_count(owner, TimeSpan { from, to: None }, 10, NOW.plus_ms(60)).unwrap();
    assert_eq!(
        (counted(None), counted(Some(NOW.plus_ms(5)))),
        (None, Some(3)),
        "only the entries of the index are counted"
    );
    assert!(opened.store.verify(&mut |_| {}).unwrap().is_sound(), "old deliveries need no entries");
    // A later partition is complete, and a span since the start of the index needs no walk.
    opened.writer.roll(NOW).unwrap();
    let recent =
        DeliveryQuery { ended: TimeSpan { from: Some(NOW.plus_ms(5)), to: None }, ..query(&opened, Some(hook), 10) };
    examined::take();
    assert_eq!(listed(&opened, &recent), [new[0], new[1], new[2]]);
    let (rows, keys) = examined::take();
    assert!(rows + keys <= CHEAP_READS, "{rows} rows and {keys} keys");
}

/// A job that would send again to `hook` its deliveries that ended with `status`.
fn job(hook: WebhookId, status: DeliveryStatus) -> JobSpec {
    JobSpec {
        webhook: Some(hook),
        app: None,
        from: None,
        to: None,
        types: Vec::new(),
        status: Some(status),
        missing: false,
        rate_per_s: None,
        last: LastDeliveryFilter::default(),
        waiting: false,
        retrying: false,
        erasing: false,
    }
}

#[test]
fn a_dry_run_over_failures_reads_their_index_and_any_other_ends_early() {
    let folder = tempfile::tempdir().unwrap();
    let (mut opened, hook) = failing(&folder);
    let made = publish(&mut opened, hook, COUNTED_ROWS_MAX + 1);
    for (n, dispatch) in made.iter().take(3).enumerate() {
        fail(&mut opened, dispatch, n as i64);
    }
    let tenant = query(&opened, None, 1).tenant;
    let count = |opened: &Opened, spec: JobSpec| {
        examined::take();
        let count = opened.store.matching(tenant, &spec, NOW).unwrap();
        let (rows, keys) = examined::take();
        (count.matched, count.at_least, rows + keys)
    };
    let (matched, at_least, cost) = count(&opened, job(hook, DeliveryStatus::Failed));
    assert_eq!((matched, at_least), (3, false));
    assert!(cost < CHEAP_READS, "{cost}");
    let latest = LastDeliveryFilter { ended_from: Some(NOW.plus_ms(2)), ..LastDeliveryFilter::default() };
    assert_eq!(count(&opened, JobSpec { last: latest, ..job(hook, DeliveryStatus::Failed) }).0, 1);
    let (matched, at_least, cost) = count(&opened, job(hook, DeliveryStatus::Delivered));
    assert_eq!((matched, at_least), (0, true));
    assert!(cost < 4 * COUNTED_ROWS_MAX as u64, "{cost}");
    let waiting = count(&opened, JobSpec { status: None, waiting: true, ..job(hook, DeliveryStatus::Failed) });
    assert_eq!((waiting.0, waiting.1), (COUNTED_ROWS_MAX as u64 - 2, false), "row by row, as the job");
    assert!(waiting.2 < 4 * COUNTED_ROWS_MAX as u64, "{}", waiting.2);
    let last = LastDeliveryFilter { outcomes: vec![crate::model::AttemptOutcome::Timeout], ..Default::default() };
    let filtered = JobSpec { status: None, waiting: true, last, ..job(hook, DeliveryStatus::Failed) };
    assert_eq!(count(&opened, filtered).0, 0);
    make_old(&mut opened);
    let (matched, at_least, _) = count(&opened, job(hook, DeliveryStatus::Failed));
    assert_eq!((matched, at_least), (2, true), "the walk begins with the newest and ends before the oldest");
}

#[test]
fn a_page_without_an_index_reads_each_row_once_and_ends_where_its_window_says() {
    const EXAMINED: usize = 130;
    let folder = tempfile::tempdir().unwrap();
    let (mut opened, hook) = failing(&folder);
    publish(&mut opened, hook, 400);
    let mut absent = DeliveryQuery { event_type: Some("well".into()), ..query(&opened, None, 10) };
    absent.window.examined_max = EXAMINED;
    examined::take();
    let page = opened.store.deliveries(&absent, NOW).unwrap();
    let (rows, keys) = examined::take();
    assert!(page.rows.is_empty() && page.next.is_some());
    // The keys are read a slice at a time.
    assert!(rows == 0 && keys < 2 * EXAMINED as u64, "{rows} rows by key and {keys} entries");
}
