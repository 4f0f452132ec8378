//! Written rows can be read afterwards, even after closing and opening.

use postrider::model::attempt::Trigger;
use postrider::model::job::JobSpec;
use postrider::model::webhook::{DeliveryOrder, Webhook, WebhookStatus};
use postrider::model::{DeliveryStatus, Time};
use postrider::store::Retention;
use postrider::store::{
    AuditFilter, Command, DeliveryQuery, EventInput, ListWindow, PartitionCommand, Receipt, Rejection, StateCommand,
    WriteRequest,
};

use crate::store::bench::{Bench, DAY_MS, finished};

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
    let tenant = bench.caller.tenant;
    let delivery = store.delivery(tenant, first.delivery_id, bench.now).unwrap();
    let store = bench.opened.store.clone();
    assert!(delivery.is_some());
    let delivery = store.delivery(tenant, first.delivery_id, bench.now).unwrap().unwrap();
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
    let (first, _) = bench.publish("a", |e| e.attributes.event_id = Some("x".into()));
    bench.reopen();
    let (again, batch) = bench.publish("a", |e| e.attributes.event_id = Some("x".into()));
    assert_eq!((again.event.id, again.duplicate, batch.effects.fresh.len()), (first.event.id, true, 0));
    let mut other = EventInput::new("a", "1");
    other.attributes.event_id = Some("x".into());
    let (refused, _) = bench.apply(Command::Partition(PartitionCommand::Publish(vec![other])));
    assert!(matches!(refused, Err(Rejection::Conflict { code: "event_id_conflict", .. })), "{refused:?}");
    bench.now = bench.now.plus_ms(DAY_MS);
    let (late, _) = bench.publish("a", |e| e.attributes.event_id = Some("x".into()));
    assert!(!late.duplicate);
}

#[test]
fn ordered_deliveries_go_one_after_another_across_partitions() {
    let mut bench = Bench::new();
    let hook = bench.webhook(|w| w.ordered = DeliveryOrder::Webhook);
    let (_, one) = bench.publish("a", |_| {});
    let now = bench.now;
    bench.opened.writer.roll(now).unwrap();
    bench.now = bench.now.plus_ms(10);
    let (_, two) = bench.publish("b", |_| {});
    assert_eq!((one.effects.fresh.len(), two.effects.fresh.len()), (1, 0));
    assert_eq!(bench.opened.store.due_heads().unwrap().len(), 1);
    bench.record(&one.effects.fresh[0], 200);
    let slice = bench.opened.store.due(hook.id, None, bench.now, 10, 1 << 20).unwrap();
    assert_eq!(slice.ready.iter().map(|d| d.event.attributes.event_type.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_slice_of_due_deliveries_leaves_out_large_payloads() {
    let mut bench = Bench::new();
    let hook = bench.webhook(|_| {});
    let large = format!("\"{}\"", "x".repeat(10_000));
    for data in ["1", &large, "2"] {
        bench.publish("a", |event| event.data = data.to_owned().into());
    }
    let store = bench.opened.store.clone();
    let slice = store.due(hook.id, None, bench.now, 10, 8 * 10_001).unwrap();
    let [one, left_out, other] = &slice.ready[..] else { panic!("{slice:?}") };
    assert_eq!((&one.data[..], &other.data[..]), (b"1".as_slice(), b"2".as_slice()));
    assert!(left_out.lacks_data() && !one.lacks_data() && !other.lacks_data());
    assert_eq!(left_out.payload_bytes(), large.len());
    assert_eq!(store.data(left_out.event.id, bench.now).unwrap().unwrap(), large.as_bytes());
    assert!(!store.due(hook.id, None, bench.now, 10, 8 * large.len()).unwrap().ready[1].lacks_data());
}

/// Types of a webhook's events that are due now.
fn due_types(bench: &Bench, hook: &Webhook) -> Vec<String> {
    let slice = bench.opened.store.due(hook.id, None, bench.now, 100, 1 << 20).unwrap();
    slice.ready.iter().map(|one| one.event.attributes.event_type.clone()).collect()
}

#[test]
fn the_queues_of_a_webhook_that_is_not_ordered_any_more_are_emptied_in_slices() {
    let mut bench = Bench::new();
    let hook = bench.webhook(|w| w.ordered = DeliveryOrder::Key);
    let publish = |bench: &mut Bench, event_type: &str, key: &str| {
        bench.publish(event_type, |event| event.attributes.ordering_key = Some(key.into())).1
    };
    let head = publish(&mut bench, "a", "x").effects.fresh[0].clone();
    publish(&mut bench, "b", "x");
    publish(&mut bench, "c", "y");
    publish(&mut bench, "d", "y");
    let now = bench.now;
    bench.opened.writer.roll(now).unwrap();
    bench.now = bench.now.plus_ms(10);
    publish(&mut bench, "e", "x");
    bench.record(&head, 500);
    assert_eq!(due_types(&bench, &hook), ["c"]);
    let update = Webhook { ordered: DeliveryOrder::No, ..Webhook::clone(&hook) };
    let update = Command::State(StateCommand::UpdateWebhook { webhook: Box::new(update) });
    let request = WriteRequest { caller: Some(bench.caller.clone()), idempotency: None, command: update };
    // The daemon ends before the requests that follow. The next start makes them.
    let follow = bench.opened.writer.apply(&[request], bench.now).follow;
    bench.reopen();
    let partitions = |requests: &[WriteRequest]| -> Vec<u128> {
        let of_one = |request: &WriteRequest| match request.command {
            Command::Partition(PartitionCommand::DissolveQueues { partition, .. }) => Some(partition),
            _ => None,
        };
        requests.iter().filter_map(of_one).collect()
    };
    let listed: Vec<u128> = bench.opened.store.partitions().into_iter().map(|(first, _)| first).collect();
    assert_eq!((partitions(&follow), partitions(&bench.opened.first)), (listed.clone(), listed.clone()));
    for (partition, due) in [(listed[0], ["b", "c", "d"].as_slice()), (listed[1], &["b", "c", "d", "e"])] {
        let dissolve = PartitionCommand::DissolveQueues { webhook: hook.id, partition, limit: 1 };
        bench.apply(Command::Partition(dissolve)).0.unwrap();
        let mut types = due_types(&bench, &hook);
        types.sort_unstable();
        assert_eq!(types, due);
    }
    assert!(bench.opened.store.verify(&mut |_| {}).unwrap().is_sound());
    bench.reopen();
    assert!(bench.opened.first.is_empty());
}

#[test]
fn a_webhook_that_is_ordered_again_keeps_its_queues() {
    let mut bench = Bench::new();
    let hook = bench.webhook(|w| w.ordered = DeliveryOrder::Webhook);
    for event_type in ["a", "b"] {
        bench.publish(event_type, |_| {});
    }
    let set = |ordered, version| {
        let webhook = Box::new(Webhook { ordered, version, ..Webhook::clone(&hook) });
        let command = Command::State(StateCommand::UpdateWebhook { webhook });
        WriteRequest { caller: Some(bench.caller.clone()), idempotency: None, command }
    };
    let changes = [set(DeliveryOrder::No, 1), set(DeliveryOrder::Webhook, 2)];
    let follow = bench.opened.writer.apply(&changes, bench.now).follow;
    assert_eq!(follow.len(), 1);
    bench.opened.writer.apply(&follow, bench.now);
    assert_eq!(due_types(&bench, &hook), ["a"]);
}

#[test]
fn retention_hides_to_the_millisecond_and_keeps_the_lifetime_figures() {
    let mut bench = Bench::new();
    let hook = bench.webhook(|_| {});
    let (published, batch) = bench.publish("a", |_| {});
    bench.record(&batch.effects.fresh[0], 200);
    let (tenant, store) = (bench.caller.tenant, bench.opened.store.clone());
    let end = published.event.received_at.plus_ms(31 * DAY_MS);
    assert!(store.event(tenant, published.event.id, Time(end.0 - 1)).unwrap().is_some());
    assert!(store.event(tenant, published.event.id, end).unwrap().is_none());
    assert!(store.delivery(tenant, batch.effects.fresh[0].delivery_id, end).unwrap().is_none());

    bench.now = bench.now.plus_ms(2 * DAY_MS);
    bench.publish("b", |_| {});
    let counted = bench.opened.writer.maintain(bench.now, Retention::Running);
    assert_eq!((counted.archived, counted.dropped.len()), (1, 0));
    assert_eq!(store.figures(hook.id, bench.now).unwrap().sums.delivered, 1);
    bench.now = end.plus_ms(3 * DAY_MS);
    let dropped = bench.opened.writer.maintain(bench.now, Retention::Running);
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
    assert_eq!(bench.opened.writer.maintain(bench.now, Retention::Running).archived, 1);
    bench.reopen();
    let (again, batch) = bench.apply(Command::Partition(PartitionCommand::Retry { id: done.delivery_id }));
    let Ok(Receipt::Delivery(again)) = again else { panic!("{again:?}") };
    assert_eq!(again.replay_of, Some(done.delivery_id));
    bench.record(&batch.effects.fresh[0], 200);
    let sums = bench.opened.store.figures(hook.id, bench.now).unwrap().sums;
    assert_eq!((sums.deliveries, sums.delivered, sums.attempts), (2, 2, 2));
    assert_eq!(bench.opened.writer.maintain(bench.now, Retention::Running).archived, 1);
    let sums = bench.opened.store.figures(hook.id, bench.now).unwrap().sums;
    assert_eq!((sums.deliveries, sums.delivered, sums.attempts), (2, 2, 2));
    let all = bench.opened.store.deliveries_of(done.event.id, bench.now).unwrap();
    assert_eq!(all.len(), 2);
}

#[test]
fn a_replay_by_webhook_examines_every_partition_despite_earlier_replays() {
    let mut bench = Bench::new();
    let hook = bench.webhook(|_| {});
    let mut done = Vec::new();
    for _ in 0..3 {
        for _ in 0..2 {
            let (_, batch) = bench.publish("a", |_| {});
            bench.record(&batch.effects.fresh[0], 200);
            done.push(batch.effects.fresh[0].delivery_id);
            bench.now = bench.now.plus_ms(10);
        }
        bench.opened.writer.roll(bench.now).unwrap();
        bench.now = bench.now.plus_ms(10);
    }
    // The oldest partition contains replays whose ids lie in the span of the newest.
    for id in &done[..2] {
        let (_, batch) = bench.apply(Command::Partition(PartitionCommand::Retry { id: *id }));
        bench.record(&batch.effects.fresh[0], 200);
        bench.now = bench.now.plus_ms(10);
    }
    let spec = JobSpec {
        webhook: Some(hook.id),
        app: None,
        from: None,
        to: None,
        types: Vec::new(),
        status: None,
        missing: false,
        rate_per_s: None,
        last: Default::default(),
        waiting: false,
        retrying: false,
        erasing: false,
    };
    let counted = bench.opened.store.matching(bench.caller.tenant, &spec, bench.now).unwrap();
    let (made, _) = bench.apply(Command::State(StateCommand::CreateJob { spec }));
    let Ok(Receipt::Job(mut job)) = made else { panic!("{made:?}") };
    while !job.exhausted {
        let advance = PartitionCommand::AdvanceJob { id: job.id, limit: 3, make_max: 100 };
        let (advanced, _) = bench.apply(Command::Partition(advance));
        let Ok(Receipt::Job(next)) = advanced else { panic!("{advanced:?}") };
        job = next;
    }
    assert_eq!((counted.matched, counted.at_least, job.created), (6, false, 6));
}

#[test]
fn a_removed_webhook_reads_as_cancelled_at_once_and_is_swept() {
    let mut bench = Bench::new();
    let hook = bench.webhook(|_| {});
    let (_, batch) = bench.publish("a", |_| {});
    let id = batch.effects.fresh[0].delivery_id;
    bench.apply(Command::State(StateCommand::RemoveWebhook { id: hook.id })).0.unwrap();
    let (tenant, store) = (bench.caller.tenant, bench.opened.store.clone());
    assert_eq!(store.delivery(tenant, id, bench.now).unwrap().unwrap().status, DeliveryStatus::Cancelled);
    let round = bench.opened.writer.maintain(bench.now, Retention::Running);
    assert_eq!(round.follow.len(), 1);
    let swept = bench.opened.writer.apply(&round.follow, bench.now);
    assert!(swept.results.iter().all(|result| result.is_ok()));
    assert!(store.due_heads().unwrap().is_empty());
    bench.opened.writer.maintain(bench.now, Retention::Running);
    assert_eq!(store.delivery(tenant, id, bench.now).unwrap().unwrap().status, DeliveryStatus::Cancelled);
}

/// A webhook that a receiver's `Retry-After` holds, after one failed attempt.
fn held(bench: &mut Bench) -> Webhook {
    let hook = bench.webhook(|_| {});
    let fresh = bench.publish("a", |_| {}).1.effects.fresh[0].clone();
    let mut report = finished(&fresh, bench.now, 503);
    report.hold_until = Some(bench.now.plus_ms(600_000));
    bench.apply(Command::Partition(PartitionCommand::Record(Box::new(report)))).0.unwrap();
    assert_eq!(bench.opened.store.state(hook.id).consecutive_failures, 1);
    Webhook::clone(&hook)
}

fn apply_together(bench: &mut Bench, commands: [StateCommand; 2]) {
    let caller = Some(bench.caller.clone());
    let requests = commands.map(|command| WriteRequest {
        caller: caller.clone(),
        idempotency: None,
        command: Command::State(command),
    });
    let batch = bench.opened.writer.apply(&requests, bench.now);
    assert!(batch.results.iter().all(Result::is_ok), "{:?}", batch.results);
}

#[test]
fn a_hold_that_two_requests_of_one_batch_end_is_ended_once() {
    let mut bench = Bench::new();
    let hook = held(&mut bench);
    let before = bench.opened.store.state(hook.id).sequence;
    let resume = || StateCommand::SetStatus { id: hook.id, status: WebhookStatus::Enabled };
    apply_together(&mut bench, [resume(), resume()]);
    let state = bench.opened.store.state(hook.id);
    assert_eq!((state.retry_after, state.sequence), (None, before + 1));
    let audit = bench.opened.store.audit(bench.caller.tenant, &AuditFilter::default(), ListWindow::newest(10)).unwrap();
    assert_eq!(audit.rows.iter().filter(|row| row.action == "webhook.resume").count(), 1);
}

#[test]
fn a_state_that_was_reset_stays_reset_when_the_same_batch_resumes_the_webhook() {
    let mut bench = Bench::new();
    let hook = held(&mut bench);
    let moved = Webhook { url: "https://hooks.example.com/new".into(), ..hook.clone() };
    let resume = StateCommand::SetStatus { id: hook.id, status: WebhookStatus::Enabled };
    apply_together(&mut bench, [StateCommand::UpdateWebhook { webhook: Box::new(moved) }, resume]);
    let state = bench.opened.store.state(hook.id);
    assert_eq!((state.consecutive_failures, state.retry_after), (0, None), "failures of the old URL do not count");
    bench.reopen();
    assert_eq!(bench.opened.store.state(hook.id), state);
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
    let mut window = ListWindow::newest(4);
    let mut seen = Vec::new();
    loop {
        let query = DeliveryQuery { webhook: Some(hook.id), ..DeliveryQuery::all(bench.caller.tenant, window) };
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
