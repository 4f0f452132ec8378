//! The store by itself: what is written is there afterwards, also after it was closed and opened again.

use std::sync::Arc;

use bytes::Bytes;
use postrider::model::attempt::{Outcome, Timings, Trigger};
use postrider::model::id::{AppId, OrganizationId, WebhookId};
use postrider::model::webhook::*;
use postrider::model::{DeliveryStatus, Scope, Time};
use postrider::store::{
    Applied, Batch, Caller, Command, DeliveryQuery, Dispatch, Finished, NewEvent, NewKey, Opened, Options, Order,
    Published, Reach, RealDisk, Receipt, Refusal, Window, open,
};

const START: Time = Time(1_772_704_800_000);
const DAY_MS: i64 = 86_400_000;

struct Bench {
    folder: tempfile::TempDir,
    opened: Opened,
    now: Time,
    caller: Caller,
}

fn options() -> Options {
    Options {
        retention_ms: 31 * DAY_MS,
        idempotency_window_ms: DAY_MS,
        partition_max_bytes: 1 << 30,
        min_free_bytes: 0,
    }
}

fn open_at(folder: &tempfile::TempDir, now: Time) -> Opened {
    let disk = Arc::new(RealDisk::take(folder.path()).unwrap());
    let mut seed = 0x9e37_79b9_7f4a_7c15u64 ^ now.0 as u64;
    let random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    open(disk, options(), &[7; 32], now, Box::new(random)).unwrap()
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = open_at(&folder, START);
        assert!(opened.is_new);
        let key = NewKey {
            app: None,
            name: "first".into(),
            scopes: vec![Scope::Admin],
            hash: [1; 32],
            expires_at: None,
            rate_per_s: None,
            installation: true,
        };
        let order = Order::internal(Command::CreateOrganization { name: "default".into(), key });
        let batch = opened.writer.apply(&[order], START);
        let Ok(Applied { receipt: Receipt::Organization { organization, key, .. }, .. }) = &batch.results[0] else {
            panic!("{:?}", batch.results)
        };
        let reach = Reach { org: organization.id, app: None };
        let caller = Caller { key: key.id, reach, remote_addr: None, request_id: "r".into() };
        Bench { folder, opened, now: START, caller }
    }

    fn apply(&mut self, command: Command) -> (std::result::Result<Receipt, Refusal>, Batch) {
        let order = Order { by: Some(self.caller.clone()), keep: None, command };
        let mut batch = self.opened.writer.apply(&[order], self.now);
        let mut follow = std::mem::take(&mut batch.follow);
        while !follow.is_empty() {
            let mut next = self.opened.writer.apply(&follow, self.now);
            for result in &next.results {
                assert!(result.is_ok(), "{result:?}");
            }
            follow = std::mem::take(&mut next.follow);
            batch.effects.merge(next.effects);
        }
        (batch.results.pop().unwrap().map(|applied| applied.receipt), batch)
    }

    fn reopen(&mut self) {
        let now = self.now;
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        let spare = tempfile::tempdir().unwrap();
        drop(std::mem::replace(&mut self.opened, open_at(&spare, now)));
        self.opened = open_at(&folder, now);
        self.folder = folder;
    }

    fn webhook(&mut self, change: impl FnOnce(&mut Webhook)) -> Arc<Webhook> {
        let mut webhook = webhook();
        change(&mut webhook);
        match self.apply(Command::CreateWebhook { webhook: Box::new(webhook) }).0 {
            Ok(Receipt::Webhook(webhook)) => webhook,
            other => panic!("{other:?}"),
        }
    }

    fn publish(&mut self, event_type: &str, change: impl FnOnce(&mut NewEvent)) -> (Published, Batch) {
        let mut event =
            NewEvent { event_type: event_type.into(), data: Bytes::from_static(b"{\"id\":42}"), ..NewEvent::default() };
        change(&mut event);
        match self.apply(Command::Publish(vec![event])) {
            (Ok(Receipt::Published(mut all)), batch) => (all.pop().unwrap(), batch),
            other => panic!("{other:?}"),
        }
    }

    fn record(&mut self, dispatch: &Dispatch, status: u16) -> Batch {
        let finished = finished(dispatch, self.now, status);
        let (result, batch) = self.apply(Command::Record(Box::new(finished)));
        assert!(matches!(result, Ok(Receipt::Recorded(Some(_)))), "{result:?}");
        batch
    }
}

fn webhook() -> Webhook {
    Webhook {
        id: WebhookId::MIN,
        org_id: OrganizationId::MIN,
        app_id: AppId::MIN,
        name: "hook".into(),
        description: None,
        url: "https://hooks.example.com/in".into(),
        method: Method::Post,
        content_type: ContentType::Json,
        field_set: FieldSet::Standard,
        include_html: false,
        auth: None,
        headers: Default::default(),
        event_types: vec![],
        channels: vec![],
        filter: None,
        status: Status::Enabled,
        disabled_reason: None,
        encrypted: false,
        signature: vec![Scheme::Standard],
        tls: None,
        handshake: false,
        success_rule: SuccessRule::Any2xx,
        retry_schedule_s: vec![5, 300],
        timeout_ms: 15_000,
        max_in_flight: 16,
        rate_limit_per_s: None,
        ordered: Ordered::No,
        disable_after_s: 432_000,
        secrets: vec![Secret {
            text: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(),
            created_at: START,
            expires_at: None,
        }],
        created_at: START,
        updated_at: START,
        version: 0,
    }
}

fn finished(dispatch: &Dispatch, at: Time, status: u16) -> Finished {
    let success = (200..300).contains(&status);
    Finished {
        event_id: dispatch.event.id,
        delivery_id: dispatch.delivery_id,
        attempt_id: None,
        number: dispatch.number,
        trigger: dispatch.trigger,
        url: "https://hooks.example.com/in".into(),
        method: Method::Post,
        field_set: FieldSet::Standard,
        content_type: ContentType::Json,
        include_html: false,
        signed_at: at.seconds(),
        started_at: at,
        finished_at: at.plus_ms(120),
        success,
        outcome: if success { Outcome::Success } else { Outcome::HttpStatus },
        status_code: Some(status),
        error: (!success).then(|| "Internal Server Error".into()),
        response_time_ms: Some(120),
        remote_addr: None,
        request_headers: vec![],
        response_headers: vec![],
        response_body: Some("ok".into()),
        timings: Timings { total: 120, ..Timings::default() },
        hold_until: None,
    }
}

#[test]
fn an_event_is_delivered_after_a_retry_and_everything_is_there_after_a_restart() {
    let mut bench = Bench::new();
    let hook = bench.webhook(|_| {});
    let (published, batch) = bench.publish("invoice.paid", |_| {});
    assert_eq!(published.event.deliveries, 1);
    let first = batch.effects.fresh[0].clone();
    assert_eq!((first.number, first.trigger, &first.data[..]), (1, Trigger::Event, b"{\"id\":42}".as_slice()));

    bench.now = bench.now.plus_ms(1_000);
    let failed = bench.record(&first, 500);
    let due = failed.effects.due[0].1;
    assert!(due >= bench.now.plus_ms(5_000) && due <= bench.now.plus_ms(6_600), "{due}");
    bench.reopen();
    let store = bench.opened.store.clone();
    assert_eq!(store.due_heads().unwrap(), [(hook.id, due)]);
    let slice = store.due(hook.id, None, due, 10, 1 << 20).unwrap();
    assert_eq!((slice.ready.len(), slice.ready[0].number, slice.ready[0].trigger), (1, 2, Trigger::Retry));

    bench.now = due;
    bench.record(&slice.ready[0], 200);
    let reach = bench.caller.reach;
    let delivery = store.delivery(reach, first.delivery_id, bench.now).unwrap();
    let store = bench.opened.store.clone();
    assert!(delivery.is_some());
    let delivery = store.delivery(reach, first.delivery_id, bench.now).unwrap().unwrap();
    assert_eq!((delivery.status, delivery.attempts, delivery.next_attempt_at), (DeliveryStatus::Delivered, 2, None));
    let attempts = store.attempts_of(&delivery, bench.now).unwrap();
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[1].retry_of, Some(attempts[0].id));
    let figures = store.figures(hook.id, bench.now).unwrap();
    assert_eq!((figures.sums.started, figures.sums.delivered, figures.sums.attempts_failed), (1, 1, 1));
    assert_eq!(figures.minutes.iter().map(|(_, m)| m.attempts).sum::<u32>(), 2);
    assert!(store.due_heads().unwrap().is_empty());
}

#[test]
fn the_same_event_id_is_one_event_and_other_data_is_a_conflict() {
    let mut bench = Bench::new();
    bench.webhook(|_| {});
    let (first, _) = bench.publish("a", |e| e.event_id = Some("x".into()));
    bench.reopen();
    let (again, batch) = bench.publish("a", |e| e.event_id = Some("x".into()));
    assert_eq!((again.event.id, again.duplicate, batch.effects.fresh.len()), (first.event.id, true, 0));
    let mut other = NewEvent { event_type: "a".into(), data: Bytes::from_static(b"1"), ..NewEvent::default() };
    other.event_id = Some("x".into());
    let (refused, _) = bench.apply(Command::Publish(vec![other]));
    assert!(matches!(refused, Err(Refusal::Conflict { code: "event_id_conflict", .. })), "{refused:?}");
    bench.now = bench.now.plus_ms(DAY_MS);
    let (late, _) = bench.publish("a", |e| e.event_id = Some("x".into()));
    assert!(!late.duplicate);
}

#[test]
fn ordered_deliveries_go_one_after_another_across_partitions() {
    let mut bench = Bench::new();
    let hook = bench.webhook(|w| w.ordered = Ordered::Webhook);
    let (_, one) = bench.publish("a", |_| {});
    let now = bench.now;
    bench.opened.writer.roll(now).unwrap();
    bench.now = bench.now.plus_ms(10);
    let (_, two) = bench.publish("b", |_| {});
    assert_eq!((one.effects.fresh.len(), two.effects.fresh.len()), (1, 0));
    assert_eq!(bench.opened.store.due_heads().unwrap().len(), 1);
    bench.record(&one.effects.fresh[0], 200);
    let slice = bench.opened.store.due(hook.id, None, bench.now, 10, 1 << 20).unwrap();
    assert_eq!(slice.ready.iter().map(|d| d.event.event_type.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn retention_hides_to_the_millisecond_and_keeps_the_lifetime_figures() {
    let mut bench = Bench::new();
    let hook = bench.webhook(|_| {});
    let (published, batch) = bench.publish("a", |_| {});
    bench.record(&batch.effects.fresh[0], 200);
    let (reach, store) = (bench.caller.reach, bench.opened.store.clone());
    let end = published.event.received_at.plus_ms(31 * DAY_MS);
    assert!(store.event(reach, published.event.id, Time(end.0 - 1)).unwrap().is_some());
    assert!(store.event(reach, published.event.id, end).unwrap().is_none());
    assert!(store.delivery(reach, batch.effects.fresh[0].delivery_id, end).unwrap().is_none());

    bench.now = bench.now.plus_ms(2 * DAY_MS);
    bench.publish("b", |_| {});
    let counted = bench.opened.writer.upkeep(bench.now, false).unwrap();
    assert_eq!((counted.counted, counted.dropped.len()), (1, 0));
    assert_eq!(store.figures(hook.id, bench.now).unwrap().sums.delivered, 1);
    bench.now = end.plus_ms(3 * DAY_MS);
    let dropped = bench.opened.writer.upkeep(bench.now, false).unwrap();
    assert_eq!(dropped.dropped.len(), 1);
    let sums = store.figures(hook.id, bench.now).unwrap().sums;
    assert_eq!((sums.deliveries, sums.delivered, sums.started), (2, 1, 1));
}

#[test]
fn a_sealed_and_counted_partition_takes_a_replay_and_the_sums_stay_right() {
    let mut bench = Bench::new();
    let hook = bench.webhook(|_| {});
    let (_, batch) = bench.publish("a", |_| {});
    let done = batch.effects.fresh[0].clone();
    bench.record(&done, 200);
    bench.opened.writer.roll(bench.now.plus_ms(1)).unwrap();
    bench.now = bench.now.plus_ms(10);
    assert_eq!(bench.opened.writer.upkeep(bench.now, false).unwrap().counted, 1);
    bench.reopen();
    let (again, batch) = bench.apply(Command::Retry { id: done.delivery_id });
    let Ok(Receipt::Delivery(again)) = again else { panic!("{again:?}") };
    assert_eq!(again.replay_of, Some(done.delivery_id));
    bench.record(&batch.effects.fresh[0], 200);
    let sums = bench.opened.store.figures(hook.id, bench.now).unwrap().sums;
    assert_eq!((sums.deliveries, sums.delivered, sums.attempts), (2, 2, 2));
    assert_eq!(bench.opened.writer.upkeep(bench.now, false).unwrap().counted, 1);
    let sums = bench.opened.store.figures(hook.id, bench.now).unwrap().sums;
    assert_eq!((sums.deliveries, sums.delivered, sums.attempts), (2, 2, 2));
    let all = bench.opened.store.deliveries_of(done.event.id, bench.now).unwrap();
    assert_eq!(all.len(), 2);
}

#[test]
fn a_removed_webhook_reads_as_cancelled_at_once_and_is_swept() {
    let mut bench = Bench::new();
    let hook = bench.webhook(|_| {});
    let (_, batch) = bench.publish("a", |_| {});
    let id = batch.effects.fresh[0].delivery_id;
    bench.apply(Command::RemoveWebhook { id: hook.id }).0.unwrap();
    let (reach, store) = (bench.caller.reach, bench.opened.store.clone());
    assert_eq!(store.delivery(reach, id, bench.now).unwrap().unwrap().status, DeliveryStatus::Cancelled);
    let round = bench.opened.writer.upkeep(bench.now, false).unwrap();
    assert_eq!(round.follow.len(), 1);
    let swept = bench.opened.writer.apply(&round.follow, bench.now);
    assert!(swept.results.iter().all(|result| result.is_ok()));
    assert!(store.due_heads().unwrap().is_empty());
    bench.opened.writer.upkeep(bench.now, false).unwrap();
    assert_eq!(store.delivery(reach, id, bench.now).unwrap().unwrap().status, DeliveryStatus::Cancelled);
}

#[test]
fn lists_over_partitions_come_newest_first_page_by_page() {
    let mut bench = Bench::new();
    let hook = bench.webhook(|_| {});
    for n in 0..10 {
        bench.now = bench.now.plus_ms(10);
        bench.publish(&format!("t{n}"), |_| {});
        if n % 3 == 0 {
            bench.opened.writer.roll(bench.now).unwrap();
        }
    }
    let store = bench.opened.store.clone();
    let mut window = Window { from: None, to: None, before: None, limit: 4 };
    let mut seen = Vec::new();
    loop {
        let query = DeliveryQuery {
            reach: bench.caller.reach,
            webhook: Some(hook.id),
            event: None,
            status: None,
            event_type: None,
            status_code: None,
            search: None,
            window,
        };
        let page = store.deliveries(&query, bench.now).unwrap();
        seen.extend(page.rows.iter().map(|d| d.event_type.clone()));
        match page.next {
            Some(next) => window.before = Some(next),
            None => break,
        }
    }
    let expected: Vec<String> = (0..10).rev().map(|n| format!("t{n}")).collect();
    assert_eq!(seen, expected);
}
