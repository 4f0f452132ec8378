//! Reads beside the writer, which rolls, archives, unarchives and drops partitions meanwhile. No read sees a doubled
//! sum, half a row or an error, and no reader of a feed misses a delivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::oracle::Rng;
use crate::oracle::history::{History, finished_well, plain_event, plain_webhook};
use crate::support::disk::FaultyDisk;
use postrider::model::Time;
use postrider::model::id::{DeliveryId, WebhookId};
use postrider::model::time::{DAY_MS, HOUR_MS};
use postrider::store::Retention;
use postrider::store::{
    Caller, Command, Dispatch, FINGERPRINTS_MAX, ListWindow, Opened, PartitionCommand, ROW_PAYLOAD_BYTES_MAX, Receipt,
    StateCommand, Store, StoreOptions, TenantScope, WriteRequest, open,
};

const START: Time = Time(1_772_704_800_000);
const ROUNDS: u64 = 120;

/// A store with one webhook, and the scope of all its objects.
struct Bench {
    opened: Opened,
    by: Caller,
    webhook: WebhookId,
    now: Time,
}

impl Bench {
    fn new(retention_ms: i64) -> Bench {
        let options = StoreOptions {
            retention_ms,
            idempotency_window_ms: HOUR_MS,
            partition_max_bytes: 1 << 30,
            min_free_bytes: 0,
            row_payload_bytes_max: ROW_PAYLOAD_BYTES_MAX,
            fingerprints_max: FINGERPRINTS_MAX,
        };
        let mut rng = Rng::new(1);
        let disk = Arc::new(FaultyDisk::new(1));
        let mut opened = open(disk, options, &[7; 32], START, Box::new(move || rng.draw())).unwrap();
        let first = History::new(Rng::new(2)).batch(&crate::oracle::oracle::Oracle::default(), START);
        let Ok(Receipt::Organization { organization, key, .. }) =
            opened.writer.apply(&first, START).results.remove(0).map(|a| a.receipt)
        else {
            panic!("no organization")
        };
        let tenant = TenantScope { org: organization.id, app: None };
        let by = Caller { key: key.id, tenant, remote_addr: None, request_id: "r".into(), portal_link: None };
        let mut bench = Bench { opened, by, webhook: WebhookId::MIN, now: START };
        let command = StateCommand::CreateWebhook { webhook: Box::new(plain_webhook("hook", START)), of_app_max: None };
        let (Receipt::Webhook(webhook), _) = bench.apply(Command::State(command)) else { panic!("no webhook") };
        bench.webhook = webhook.id;
        bench
    }

    fn apply(&mut self, command: Command) -> (Receipt, Vec<Dispatch>) {
        let request = WriteRequest { caller: Some(self.by.clone()), idempotency: None, command };
        let mut batch = self.opened.writer.apply(&[request], self.now);
        assert_eq!(batch.effects.failures, Vec::<String>::new());
        (batch.results.remove(0).unwrap().receipt, batch.effects.fresh)
    }

    fn publish(&mut self, number: u64) -> Dispatch {
        self.apply(Command::Partition(PartitionCommand::Publish(vec![plain_event(number)]))).1.remove(0)
    }
}

/// Reads every list and every object once.
fn read_all(store: &Store, bench: (TenantScope, WebhookId), now: Time) {
    let (tenant, webhook) = bench;
    let window = ListWindow::newest(30);
    let events = store.events(&crate::oracle::drawn_values::events(tenant, window), now).unwrap().rows;
    for event in events.iter().rev().take(3) {
        let made = store.deliveries_of(event.id, now).unwrap();
        made.iter().for_each(|delivery| drop(store.attempts_of(delivery, now).unwrap()));
        store.data(event.id, now).unwrap();
    }
    store.deliveries(&crate::oracle::drawn_values::deliveries(tenant, Some(webhook), window), now).unwrap();
    store.attempts(&crate::oracle::drawn_values::attempts(tenant, None, window), now).unwrap();
    store.due_heads().unwrap();
    store.backlog(&[webhook], now).unwrap();
    store.running_jobs().unwrap();
}

#[test]
fn sums_are_never_seen_twice_or_not_at_all_while_partitions_come_and_go() {
    let mut bench = Bench::new(2 * DAY_MS);
    let (store, of) = (bench.opened.store.clone(), (bench.by.tenant, bench.webhook));
    let (made, making, now_ms, over) =
        (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(START.0 as u64), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let at_least = made.load(Ordering::SeqCst);
                let now = Time(now_ms.load(Ordering::SeqCst) as i64);
                let sums = store.figures(of.1, now).unwrap().sums;
                let at_most = making.load(Ordering::SeqCst);
                assert!((at_least..=at_most).contains(&sums.deliveries), "{sums:?} of {at_least} to {at_most}");
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                read_all(&store, of, Time(now_ms.load(Ordering::SeqCst) as i64));
            }
        });
        for round in 0..ROUNDS {
            bench.now = bench.now.plus_ms(5 * HOUR_MS);
            now_ms.store(bench.now.0 as u64, Ordering::SeqCst);
            making.fetch_add(2, Ordering::SeqCst);
            let first = bench.publish(2 * round);
            made.fetch_add(1, Ordering::SeqCst);
            bench.apply(Command::Partition(PartitionCommand::Record(Box::new(finished_well(&first, bench.now)))));
            let now = bench.now;
            bench.opened.writer.roll(now).unwrap();
            assert_eq!(bench.opened.writer.maintain(now, Retention::Running).failures, Vec::<String>::new());
            // The partition is archived by now. The retry unarchives it.
            let again = bench.apply(Command::Partition(PartitionCommand::Retry { id: first.delivery_id })).1.remove(0);
            made.fetch_add(1, Ordering::SeqCst);
            bench.apply(Command::Partition(PartitionCommand::Record(Box::new(finished_well(&again, bench.now)))));
            assert_eq!(bench.opened.writer.maintain(now, Retention::Running).failures, Vec::<String>::new());
        }
        over.store(true, Ordering::SeqCst);
    });
    assert!(store.partitions().len() < 15, "nothing was dropped");
}

#[test]
fn a_feed_misses_nothing_that_is_committed_late_to_an_older_partition() {
    let mut bench = Bench::new(400 * DAY_MS);
    let (store, webhook) = (bench.opened.store.clone(), bench.webhook);
    let over = AtomicBool::new(false);
    let mut made: Vec<DeliveryId> = Vec::new();
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen: Vec<DeliveryId> = Vec::new();
            loop {
                let last_round = over.load(Ordering::SeqCst);
                let page = store.feed(webhook, seen.last().copied(), 5, Time(START.0 + DAY_MS)).unwrap();
                seen.extend(page.iter().map(|delivery| delivery.id));
                if page.is_empty() && last_round {
                    return seen;
                }
            }
        });
        let mut older: Vec<DeliveryId> = Vec::new();
        for round in 0..ROUNDS {
            bench.now = bench.now.plus_ms(10);
            let first = bench.publish(round);
            made.push(first.delivery_id);
            bench.apply(Command::Partition(PartitionCommand::Record(Box::new(finished_well(&first, bench.now)))));
            older.push(first.delivery_id);
            if round % 10 == 9 {
                let now = bench.now;
                bench.opened.writer.roll(now).unwrap();
            }
            // One batch with a replay in an older partition and a publish in the active one.
            let again = WriteRequest {
                caller: Some(bench.by.clone()),
                idempotency: None,
                command: Command::Partition(PartitionCommand::Retry { id: older[round as usize / 2] }),
            };
            let fresh = WriteRequest {
                caller: Some(bench.by.clone()),
                idempotency: None,
                command: Command::Partition(PartitionCommand::Publish(vec![plain_event(round)])),
            };
            let batch = bench.opened.writer.apply(&[again, fresh], bench.now);
            made.extend(batch.effects.fresh.iter().map(|dispatch| dispatch.delivery_id));
        }
        over.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    made.sort();
    assert_eq!(seen, made);
}
