//! Tests of figures: their cost, and stores of an earlier version.

use super::*;
use crate::kv::snapshot::examined;
use crate::kv::write_batch::WriteBatch;
use crate::model::webhook::DeliveryOrder;
use crate::model::{DeliveryId, Webhook};
use crate::store::partitions::tenant_figures::FIGURES_START_KEY;
use crate::store::read::failed::tests::{fail, failing, publish};
use crate::store::verify::tests::{NOW, apply, finished, webhook};
use crate::store::{Caller, Opened, PartitionCommand, Retention, StateCommand, WriteRequest};

/// Rows and entries that the figures of an organization take at most.
const CHEAP_READS: u64 = 60;

/// Rows and entries that the open deliveries of an organization take at most, in a store with one partition.
const OPEN_READS: u64 = 5;

fn tenant(opened: &Opened) -> TenantScope {
    TenantScope { org: opened.store.registry().organizations().next().unwrap().id, app: None }
}

fn caller(opened: &Opened) -> Caller {
    let key = opened.store.registry().keys().next().unwrap().id;
    Caller { key, tenant: tenant(opened), remote_addr: None, request_id: "r".into(), portal_link: None }
}

fn state(opened: &mut Opened, command: StateCommand) {
    let caller = Some(caller(opened));
    apply(opened, WriteRequest { caller, idempotency: None, command: command.into() });
}

fn cost<T>(read: impl FnOnce() -> Result<T>) -> u64 {
    examined::take();
    read().unwrap();
    let (rows, keys) = examined::take();
    rows + keys
}

/// The sums of every webhook that has ever been, added up.
fn added(opened: &Opened, webhooks: &[WebhookId], now: Time) -> Sums {
    let mut all = Sums::default();
    webhooks.iter().for_each(|id| all.add(&opened.store.figures(*id, now).unwrap().sums));
    all
}

#[test]
fn the_figures_of_an_organization_cost_the_same_with_many_webhooks() {
    let folder = tempfile::tempdir().unwrap();
    let (mut opened, hook) = failing(&folder);
    let (org, app) = (tenant(&opened).org, *opened.store.registry().apps.keys().next().unwrap());
    for _ in 0..300 {
        let other = Webhook { org_id: org, app_id: app, event_types: vec!["ill".into()], ..webhook(DeliveryOrder::No) };
        state(&mut opened, StateCommand::CreateWebhook { webhook: Box::new(other), of_app_max: None });
    }
    let events = vec![crate::store::EventInput { app: Some(app), ..crate::store::EventInput::new("ill", "1") }];
    let fresh = apply(&mut opened, WriteRequest::internal(PartitionCommand::Publish(events))).1;
    assert!(fresh.len() > 300);
    let rows = |opened: &Opened| {
        let partition = opened.store.partition_set.partitions().pop().unwrap();
        opened.store.partition_set.snapshot(&partition).unwrap().rows(Table::Figures).unwrap()
    };
    let before = rows(&opened);
    publish(&mut opened, hook, 500);
    assert_eq!(rows(&opened), before, "a batch writes no row more for each delivery");
    let reports = fresh
        .iter()
        .map(|dispatch| WriteRequest::internal(PartitionCommand::Record(Box::new(finished(dispatch, true)))));
    opened.writer.apply(&reports.collect::<Vec<_>>(), NOW);
    let scope = tenant(&opened);
    let figures = cost(|| opened.store.tenant_figures(scope, NOW));
    let hours = cost(|| opened.store.tenant_hours(scope, NOW.minus_ms(31 * DAY_MS), NOW));
    assert!(figures <= CHEAP_READS && hours <= CHEAP_READS, "{figures} and {hours} are examined");
    // The order of webhooks comes from memory once the rows of the day have been read.
    opened.store.recent_attempts(hook, NOW).unwrap();
    assert_eq!(cost(|| opened.store.recent_attempts(hook, NOW)), 0);
    // So do the hours of a row, of which only the running one has attempts.
    let hours: Vec<_> = opened.store.recent_hours(hook, NOW).unwrap().collect();
    let (day, running) = (opened.store.recent_attempts(hook, NOW).unwrap(), *hours.last().unwrap());
    assert_eq!((hours.len(), running, day.attempts > 0), (24, day, true));
    assert_eq!(cost(|| opened.store.recent_hours(hook, NOW).map(Iterator::count)), 0);
    // And the response times of the day.
    let read = opened.store.webhook_hours(hook, NOW.minus_ms(23 * HOUR_MS)).unwrap();
    let mut responses = Sums::default();
    for (bucket, count) in read.hours.values().flat_map(|hour| &hour.histogram) {
        responses.tally(*bucket, u64::from(*count));
    }
    assert_eq!((opened.store.recent_responses(hook, NOW).unwrap(), responses.histogram.is_empty()), (responses, false));
    assert_eq!(cost(|| opened.store.recent_responses(hook, NOW)), 0);
    // Where nothing is hidden, open deliveries come from the sums alone: the list of partitions, and a row of each.
    let open = cost(|| opened.store.tenant_open(scope, NOW));
    assert!(open <= OPEN_READS, "{open} are examined");
}

/// Removes the figures of apps and organizations and their start, as in a store of an earlier version.
fn make_old(opened: &mut Opened) {
    let owners = [tenant(opened).org.as_u128(), opened.store.registry().apps.keys().next().unwrap().as_u128()];
    let owners = owners.map(FiguresOwner::from_u128);
    for partition in opened.store.partition_set.partitions() {
        let file = opened.writer.open_for_writing(&partition).unwrap();
        let mut write_batch = WriteBatch::on(file.snapshot().unwrap());
        for owner in owners {
            let mut hours = vec![0];
            each_hour(write_batch.base(), owner, 1, |hour, _| hours.push(hour)).unwrap();
            hours.into_iter().for_each(|hour| write_batch.remove(Table::Figures, tables::figures(owner, hour)));
        }
        opened
            .writer
            .commit(crate::store::commit::CommitTarget::Partition(partition.first, &file), write_batch)
            .unwrap();
    }
    let state = opened.store.partition_set.state().unwrap();
    let mut write_batch = WriteBatch::on(state.snapshot().unwrap());
    write_batch.remove(Table::Meta, Key::from_slice(FIGURES_START_KEY));
    owners.into_iter().for_each(|owner| write_batch.remove(Table::Totals, tables::one(owner)));
    state.commit(write_batch).unwrap();
    opened.writer.counts_tenants = false;
    opened.writer.figures.clear();
}

#[test]
fn a_store_of_an_earlier_version_adds_up_its_webhooks_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut opened, hook) = failing(&folder);
    let mut hooks: Vec<WebhookId> = opened.store.registry().webhooks.keys().copied().collect();
    hooks.retain(|id| opened.store.registry().webhooks[id].org_id == tenant(&opened).org);
    assert!(hooks.contains(&hook));
    let archived = publish(&mut opened, hook, 2);
    for dispatch in &archived {
        fail(&mut opened, dispatch, 1);
    }
    let waiting = publish(&mut opened, hook, 3);
    make_old(&mut opened);
    let scope = tenant(&opened);
    fail(&mut opened, &waiting[0], 2);
    let sums = |opened: &Opened, now| opened.store.tenant_figures(scope, now).unwrap();
    assert_eq!(sums(&opened, NOW).sums, added(&opened, &hooks, NOW), "before the first round");
    assert_eq!(opened.store.tenant_hours(scope, NOW, NOW).unwrap().complete_from, Some(Time::MAX));
    opened.writer.maintain(NOW.plus_ms(5), Retention::Running);
    let figures = sums(&opened, NOW);
    assert_eq!(figures.sums, added(&opened, &hooks, NOW), "after it");
    assert_eq!(figures.minutes, opened.store.added_figures(scope, NOW).unwrap().minutes, "the last day of webhooks");
    assert_eq!(opened.store.tenant_hours(scope, NOW, NOW).unwrap().complete_from, Some(NOW.plus_ms(5)));
    fail(&mut opened, &waiting[1], 3);
    publish(&mut opened, hook, 1);
    opened.writer.roll(NOW.plus_ms(10)).unwrap();
    publish(&mut opened, hook, 1);
    opened.writer.maintain(NOW.plus_ms(20), Retention::Running);
    state(&mut opened, StateCommand::RemoveWebhook { id: hook });
    let last = DeliveryId::from_u128(waiting[2].delivery_id.as_u128());
    assert_eq!(
        sums(&opened, NOW).sums.open(),
        added(&opened, &hooks, NOW).open() - 3,
        "{last} and two more are cancelled"
    );
    for _ in 0..3 {
        let follow = opened.writer.maintain(NOW.plus_ms(30), Retention::Running).follow;
        opened.writer.apply(&follow, NOW.plus_ms(30));
        let (found, wanted) = (sums(&opened, NOW).sums, added(&opened, &hooks, NOW));
        assert_eq!((found.deliveries, found.attempts, found.cancelled), (wanted.deliveries, wanted.attempts, 3));
    }
    let report = opened.store.verify(&mut |_| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
}

#[test]
fn sums_that_are_read_together_are_those_that_are_read_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (mut opened, hook) = failing(&folder);
    let (org, app) = (tenant(&opened).org, *opened.store.registry().apps.keys().next().unwrap());
    let other = Webhook { org_id: org, app_id: app, event_types: vec!["ill".into()], ..webhook(DeliveryOrder::No) };
    state(&mut opened, StateCommand::CreateWebhook { webhook: Box::new(other), of_app_max: None });
    for dispatch in publish(&mut opened, hook, 3) {
        fail(&mut opened, &dispatch, 1);
    }
    let ids: Vec<WebhookId> = opened.store.registry().webhooks.keys().copied().collect();
    let (alone, together) = (ids.iter(), opened.store.sums_of(&ids, NOW).unwrap());
    let alone: Vec<_> = alone.map(|id| opened.store.sums(*id, NOW).unwrap()).collect();
    assert_eq!(alone, together);
    assert_eq!(together.iter().map(|own| own.failed).max(), Some(3));
    let waits = together.iter().find(|own| own.open() == 3);
    assert!(waits.is_some(), "the deliveries of the other webhook: {together:?}");
}

#[test]
fn a_delivery_that_is_settled_in_the_middle_of_a_read_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut opened, hook) = failing(&folder);
    publish(&mut opened, hook, 2);
    let scope = tenant(&opened);
    state(&mut opened, StateCommand::RemoveWebhook { id: hook });
    let Opened { store, writer, .. } = &mut opened;
    let writer = std::cell::RefCell::new(writer);
    let reads = std::cell::Cell::new(0);
    let (sums, hidden) = store
        .with_hidden_open(scope, NOW, || {
            let sums = store.partition_set.lifetime(owner_within(scope))?;
            if reads.replace(reads.get() + 1) == 0 {
                let mut writer = writer.borrow_mut();
                let follow = writer.maintain(NOW, Retention::Running).follow;
                writer.apply(&follow, NOW);
            }
            Ok(sums)
        })
        .unwrap();
    assert_eq!((sums.cancelled, hidden.count(), reads.get()), (2, 0, 2));
}
