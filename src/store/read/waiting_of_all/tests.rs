//! Tests of the list of waiting deliveries of all webhooks: its order, its pages and its cost.

use crate::kv::snapshot::examined;
use crate::model::webhook::{DeliveryOrder, Webhook};
use crate::model::{Delivery, DeliveryId, WebhookId};
use crate::store::verify::tests::{NOW, apply, finished, store, webhook};
use crate::store::{
    Caller, Command, EventInput, Opened, PartitionCommand, Receipt, StateCommand, TenantScope, WriteRequest,
};

/// Rows and index entries that a page of ten examines at most.
const CHEAP_READS: u64 = 60;

fn tenant(opened: &Opened) -> TenantScope {
    TenantScope { org: opened.store.registry().organizations().next().unwrap().id, app: None }
}

fn ask(opened: &mut Opened, command: impl Into<Command>) -> Receipt {
    let key = opened.store.registry().keys().next().unwrap().id;
    let by = Caller { key, tenant: tenant(opened), remote_addr: None, request_id: "r".into(), portal_link: None };
    apply(opened, WriteRequest { caller: Some(by), idempotency: None, command: command.into() }).0
}

fn create(opened: &mut Opened, event_type: &str, ordered: DeliveryOrder) -> WebhookId {
    let registry = opened.store.registry();
    let (org_id, app_id) = (tenant(opened).org, *registry.apps.keys().next().unwrap());
    let hook = Webhook { org_id, app_id, event_types: vec![event_type.to_owned()], ..webhook(ordered) };
    match ask(opened, StateCommand::CreateWebhook { webhook: Box::new(hook), of_app_max: None }) {
        Receipt::Webhook(made) => made.id,
        other => panic!("{other:?}"),
    }
}

/// Publishes an event of a type. Records a failed attempt of each delivery, if that is asked for.
fn publish(opened: &mut Opened, event_type: &str, is_failed: bool) {
    let app = opened.store.registry().apps.keys().next().copied();
    let event = EventInput { app, ..EventInput::new(event_type, "1") };
    let fresh = apply(opened, WriteRequest::internal(PartitionCommand::Publish(vec![event]))).1;
    for dispatch in fresh.iter().filter(|_| is_failed) {
        apply(opened, WriteRequest::internal(PartitionCommand::Record(Box::new(finished(dispatch, false)))));
    }
}

/// The whole list, by pages.
fn all(opened: &Opened, limit: usize) -> Vec<(Delivery, Option<DeliveryId>)> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = opened.store.waiting_of_all(tenant(opened), after, limit, NOW).unwrap();
        assert!(page.rows.len() == limit || page.next.is_none());
        rows.extend(page.rows);
        match page.next {
            Some(next) => after = Some(next),
            None => return rows,
        }
    }
}

#[test]
fn the_list_has_every_waiting_delivery_once_by_due_time_then_those_behind_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    for _ in 0..3 {
        create(&mut opened, "w", DeliveryOrder::No);
    }
    create(&mut opened, "w", DeliveryOrder::Webhook);
    let removed = create(&mut opened, "w", DeliveryOrder::No);
    for number in 0..5 {
        publish(&mut opened, "w", number % 2 == 1);
    }
    ask(&mut opened, StateCommand::RemoveWebhook { id: removed });
    let whole = all(&opened, 1_000);
    let mut of_each = Vec::new();
    for webhook in opened.store.registry().webhooks_within(tenant(&opened)) {
        of_each.extend(opened.store.waiting(webhook.id, None, 1_000, NOW).unwrap().rows);
    }
    assert!(of_each.len() > 20 && of_each.iter().any(|(_, behind)| behind.is_some()));
    let due = |row: &(Delivery, Option<DeliveryId>)| row.0.next_attempt_at.filter(|_| row.1.is_none());
    of_each.sort_by_key(|row| (row.1.is_some(), due(row), row.0.id));
    assert_eq!(whole, of_each, "as the lists of the webhooks together");
    for limit in [1, 2, 7] {
        assert_eq!(all(&opened, limit), whole, "{limit} a page");
    }
}

#[test]
fn a_page_costs_the_same_with_many_idle_webhooks_and_long_lists() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = store(&folder);
    create(&mut opened, "w", DeliveryOrder::No);
    for _ in 0..300 {
        create(&mut opened, "idle", DeliveryOrder::No);
    }
    for _ in 0..100 {
        publish(&mut opened, "w", false);
    }
    examined::take();
    let page = opened.store.waiting_of_all(tenant(&opened), None, 10, NOW).unwrap();
    let (rows, keys) = examined::take();
    assert_eq!(page.rows.len(), 10);
    assert!(rows + keys <= CHEAP_READS, "{rows} rows and {keys} keys");
}
