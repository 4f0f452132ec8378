//! Tests of finding the deliveries and attempts of one app among those of others: the cost, removed webhooks, many webhooks,
//! and stores of an earlier version.

use super::MERGED_WEBHOOKS_MAX;
use crate::kv::snapshot::examined;
use crate::kv::tables::{Key, Table};
use crate::kv::write_batch::WriteBatch;
use crate::model::attempt::AttemptMade;
use crate::model::id::{AppId, AttemptId, DeliveryId, OrganizationId, WebhookId};
use crate::model::{Attempt, Delivery, Webhook};
use crate::store::command::TenantScope;
use crate::store::partitions::index_start::LaterIndex;
use crate::store::read::query::{AttemptQuery, DeliveryQuery, ListWindow, Search};
use crate::store::verify::tests::{NOW, store};
use crate::store::{
    AttemptReport, Caller, Command, EventInput, Opened, PartitionCommand, Receipt, Retention, StateCommand,
    WriteRequest,
};

/// Events of the first app, more than a page examines rows.
const FOREIGN: usize = 5_200;
/// Rows and index entries that a page of three rows examines at most.
const CHEAP_READS: u64 = 40;
const TYPE: &str = "quiet";

struct Bench {
    _folder: tempfile::TempDir,
    opened: Opened,
    org: OrganizationId,
    busy: AppId,
    quiet: AppId,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let opened = store(&folder);
        let registry = opened.store.registry();
        let organization = registry.organizations().next().unwrap();
        let (org, busy) = (organization.id, organization.default_app_id);
        let quiet = *registry.apps.keys().find(|app| **app != busy).unwrap();
        Bench { _folder: folder, opened, org, busy, quiet }
    }

    fn apply(&mut self, command: impl Into<Command>) -> Receipt {
        let key = self.opened.store.registry().keys().next().unwrap().id;
        let tenant = TenantScope { org: self.org, app: None };
        let by = Caller { key, tenant, remote_addr: None, request_id: "r".into(), portal_link: None };
        let request = WriteRequest { caller: Some(by), idempotency: None, command: command.into() };
        self.opened.writer.apply(&[request], NOW).results.remove(0).unwrap().receipt
    }

    /// A webhook of an app that wants this type.
    fn webhook(&mut self, app: AppId, event_type: &str) -> WebhookId {
        let mut webhook = Webhook::new(self.org, app);
        webhook.url = "https://example.net/".to_owned();
        webhook.event_types = vec![event_type.to_owned()];
        match self.apply(StateCommand::CreateWebhook { webhook: Box::new(webhook), of_app_max: None }) {
            Receipt::Webhook(webhook) => webhook.id,
            other => panic!("{other:?}"),
        }
    }

    /// Publishes events of the quiet app. Returns their deliveries.
    fn publish(&mut self, count: usize) -> Vec<Delivery> {
        self.publish_to(self.quiet, None, count)
    }

    /// Publishes events in an app, perhaps to one webhook only.
    fn publish_to(&mut self, app: AppId, only: Option<WebhookId>, count: usize) -> Vec<Delivery> {
        let events = (0..count).map(|_| EventInput { app: Some(app), only, ..EventInput::new(TYPE, "1") });
        let Receipt::Published(published) = self.apply(PartitionCommand::Publish(events.collect())) else { panic!() };
        let of = |id| self.opened.store.deliveries_of(id, NOW).unwrap();
        published.iter().flat_map(|one| of(one.event.id)).collect()
    }

    /// Records an attempt of each delivery in one commit.
    fn attempt(&mut self, deliveries: &[Delivery]) {
        let made = AttemptMade { number: 1, success: true, started_at: NOW, ..AttemptMade::default() };
        let report = |one: &Delivery| Box::new(AttemptReport::new(one.event_id, one.id, made.clone()));
        let record = |one| WriteRequest::internal(PartitionCommand::Record(report(one)));
        let requests: Vec<WriteRequest> = deliveries.iter().map(record).collect();
        assert!(self.opened.writer.apply(&requests, NOW).results.iter().all(Result::is_ok));
    }

    /// Deliveries and attempts of the quiet app's webhook under those of the busy app. Returns the deliveries.
    fn buried(&mut self) -> Vec<Delivery> {
        self.webhook(self.quiet, TYPE);
        let busy = self.webhook(self.busy, TYPE);
        let own = self.publish(3);
        self.attempt(&own);
        let foreign = self.publish_to(self.busy, Some(busy), FOREIGN);
        self.attempt(&foreign);
        own
    }

    fn tenant(&self) -> TenantScope {
        TenantScope { org: self.org, app: Some(self.quiet) }
    }

    /// The newest deliveries of the quiet app, oldest first. Follows the pages.
    fn deliveries(&self, limit: usize) -> Vec<DeliveryId> {
        let mut query = deliveries_of(self.tenant(), limit);
        let mut ids = Vec::new();
        loop {
            let page = self.opened.store.deliveries(&query, NOW).unwrap();
            ids.extend(page.rows.iter().map(|delivery| delivery.id));
            assert!(page.next.is_none() || page.rows.len() == limit, "no page is short");
            match page.next {
                Some(next) => query.window.before = Some(next),
                None => break,
            }
        }
        ids.reverse();
        ids
    }

    fn first_page(&self, limit: usize) -> Vec<Attempt> {
        self.opened.store.attempts(&attempts_of(self.tenant(), limit), NOW).unwrap().rows
    }
}

fn deliveries_of(tenant: TenantScope, limit: usize) -> DeliveryQuery {
    DeliveryQuery { event_type: Some(TYPE.to_owned()), ..DeliveryQuery::all(tenant, ListWindow::newest(limit)) }
}

fn attempts_of(tenant: TenantScope, limit: usize) -> AttemptQuery {
    AttemptQuery {
        tenant,
        webhook: None,
        delivery: None,
        event: None,
        success: None,
        status: None,
        event_type: Some(TYPE.to_owned()),
        status_code: None,
        outcome: None,
        search: None,
        window: ListWindow::newest(limit),
    }
}

fn ids(deliveries: &[Delivery]) -> Vec<DeliveryId> {
    deliveries.iter().map(|delivery| delivery.id).collect()
}

#[test]
fn a_page_of_a_quiet_app_costs_the_same_whatever_lies_before_it() {
    let mut bench = Bench::new();
    let own = bench.buried();
    examined::take();
    assert_eq!(bench.deliveries(50), ids(&own));
    let (rows, keys) = examined::take();
    assert!(rows + keys <= CHEAP_READS, "{rows} rows and {keys} keys");
    let attempts = bench.first_page(50);
    let (rows, keys) = examined::take();
    assert!(rows + keys <= CHEAP_READS, "{rows} rows and {keys} keys");
    let of: Vec<DeliveryId> = attempts.iter().rev().map(|attempt| attempt.delivery_id).collect();
    assert_eq!(of, ids(&own));
    let (query, store) = (attempts_of(bench.tenant(), 2), &bench.opened.store);
    let last = store.newest_attempt();
    examined::take();
    let newest = store.attempts_after(&query, None, last, NOW).unwrap();
    let from_the_start = store.attempts_after(&query, Some(AttemptId::MIN), last, NOW).unwrap();
    let (rows, keys) = examined::take();
    assert!(rows + keys <= 2 * CHEAP_READS, "{rows} rows and {keys} keys");
    let shown = |rows: &[Attempt]| rows.iter().map(|attempt| attempt.delivery_id).collect::<Vec<_>>();
    assert_eq!(shown(&newest.rows), ids(&own[1..]));
    assert_eq!((shown(&from_the_start.rows), from_the_start.is_end), (ids(&own[..2]), false));
    let rest = store.attempts_after(&query, Some(from_the_start.reached), last, NOW).unwrap();
    assert_eq!((shown(&rest.rows), rest.is_end), (ids(&own[2..]), true));
    assert_eq!(bench.deliveries(1), ids(&own));
    assert!(bench.opened.store.verify(&mut |_| {}).unwrap().is_sound());
}

#[test]
fn a_page_of_the_newest_attempts_says_how_far_back_it_looked() {
    let mut bench = Bench::new();
    bench.webhook(bench.quiet, TYPE);
    let own = bench.publish(5);
    bench.attempt(&own);
    let attempts = |success: Option<bool>, limit, examined_max| {
        let window = ListWindow { examined_max, ..ListWindow::newest(limit) };
        let query = AttemptQuery { success, window, ..attempts_of(bench.tenant(), limit) };
        let last = bench.opened.store.newest_attempt();
        let page = bench.opened.store.attempts_after(&query, None, last, NOW).unwrap();
        (page.rows.len(), page.looked_back_to.is_some())
    };
    assert_eq!(attempts(Some(false), 3, 4), (0, true), "one attempt was not examined");
    assert_eq!(attempts(Some(false), 3, 5), (0, false), "there are no others");
    assert_eq!(attempts(Some(true), 3, 3), (3, false), "a full page is no short one");
    assert_eq!(attempts(None, 4, 3), (3, true));
}

#[test]
fn a_search_of_deliveries_counts_their_events_among_the_examined_rows() {
    let mut bench = Bench::new();
    bench.webhook(bench.quiet, TYPE);
    bench.publish(5);
    let goes_on = |examined_max| {
        let window = ListWindow { examined_max, ..ListWindow::newest(3) };
        let query = DeliveryQuery { search: Some(Search::new("absent")), window, ..deliveries_of(bench.tenant(), 3) };
        bench.opened.store.deliveries(&query, NOW).unwrap().next.is_some()
    };
    assert!(goes_on(8), "four of five deliveries, and their events");
    assert!(!goes_on(12));
}

#[test]
fn the_rows_of_several_webhooks_and_of_removed_ones_are_merged_in_order() {
    let mut bench = Bench::new();
    let webhooks: Vec<WebhookId> = (0..3).map(|_| bench.webhook(bench.quiet, TYPE)).collect();
    let mut own = Vec::new();
    for _ in 0..40 {
        own.extend(bench.publish(2));
    }
    assert_eq!(own.len(), 240);
    bench.attempt(&own);
    for webhook in &webhooks[..2] {
        bench.apply(StateCommand::RemoveWebhook { id: *webhook });
    }
    bench.opened.writer.maintain(NOW, Retention::Running);
    own.extend(bench.publish(1));
    for limit in [1, 7, 240, 250] {
        assert_eq!(bench.deliveries(limit), ids(&own), "{limit} a page");
    }
    let query = AttemptQuery { window: ListWindow::newest(17), ..attempts_of(bench.tenant(), 17) };
    let (mut after, mut seen) = (AttemptId::MIN, Vec::new());
    loop {
        let page = bench.opened.store.attempts_after(&query, Some(after), bench.opened.store.newest_attempt(), NOW);
        let page = page.unwrap();
        seen.extend(page.rows.iter().map(|attempt| attempt.delivery_id));
        after = page.reached;
        if page.is_end {
            break;
        }
    }
    assert_eq!(seen, ids(&own[..240]));
    let later = NOW.plus_ms((1 << 40) + 1);
    bench.opened.writer.maintain(later, Retention::Running);
    let state = bench.opened.store.partition_set.state().unwrap().snapshot().unwrap();
    assert_eq!(state.rows(Table::RemovedOfApp).unwrap(), 0, "nothing of them is kept");
    assert!(bench.opened.store.verify(&mut |_| {}).unwrap().is_sound());
}

#[test]
fn an_app_with_very_many_webhooks_is_found_among_all() {
    let mut bench = Bench::new();
    for n in 0..=MERGED_WEBHOOKS_MAX {
        bench.webhook(bench.quiet, if n == 0 { TYPE } else { "other" });
    }
    let own = bench.publish(3);
    let busy = bench.webhook(bench.busy, TYPE);
    bench.publish_to(bench.busy, Some(busy), 100);
    for limit in [1, 50] {
        assert_eq!(bench.deliveries(limit), ids(&own), "{limit} a page");
    }
}

#[test]
fn a_webhook_that_an_earlier_version_removed_is_found_among_all() {
    let mut bench = Bench::new();
    let webhook = bench.webhook(bench.quiet, TYPE);
    let mut own = bench.publish(2);
    bench.attempt(&own);
    bench.apply(StateCommand::RemoveWebhook { id: webhook });
    let state = bench.opened.store.partition_set.state().unwrap();
    let mut write_batch = WriteBatch::on(state.snapshot().unwrap());
    write_batch.remove(Table::Meta, Key::from_slice(LaterIndex::RemovedWebhooks.key()));
    write_batch.remove(Table::RemovedOfApp, crate::kv::tables::pair(bench.quiet, webhook));
    state.commit(write_batch).unwrap();
    drop(state);
    assert_eq!(bench.deliveries(1), ids(&own), "before the first maintenance");
    bench.opened.writer.maintain(NOW, Retention::Running);
    bench.webhook(bench.quiet, TYPE);
    own.extend(bench.publish(2));
    bench.opened.writer.roll(NOW.plus_ms(3_600_000)).unwrap();
    own.extend(bench.publish(2));
    for limit in [1, 3, 50] {
        assert_eq!(bench.deliveries(limit), ids(&own), "{limit} a page");
    }
}
