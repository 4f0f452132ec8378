//! Tests of fairness: between apps, between webhooks, and with a slot for the next webhook.

use bytes::Bytes;

use crate::engine::scheduler::body_budget::BODIES_BYTES_MAX;
use crate::engine::scheduler::fixture::{dispatch_to, webhook};
use crate::engine::scheduler::lanes::*;
use crate::model::webhook::{ContentType, DeliveryOrder};
use crate::model::{Event, Id};

const NOW: Time = Time(1_000_000);

/// Webhooks as (app, webhook), with `waiting` due deliveries each.
fn lanes(in_flight_max: usize, webhooks: &[(u128, u128)], waiting: u128) -> (Lanes, Registry) {
    let mut registry = Registry::default();
    for (app, id) in webhooks {
        registry.put_webhook(Arc::new(webhook(|w| (w.app_id, w.id) = (Id::from_u128(*app), Id::from_u128(*id)))));
    }
    let mut lanes = Lanes::new(in_flight_max, Arc::default());
    publish(&mut lanes, &registry, webhooks, waiting);
    (lanes, registry)
}

fn publish(lanes: &mut Lanes, registry: &Registry, webhooks: &[(u128, u128)], count: u128) {
    let fresh = webhooks
        .iter()
        .flat_map(|(_, id)| (0..count).map(move |n| dispatch_to(Id::from_u128(*id), id * 10_000 + n, NOW)));
    let effects = Effects { fresh: fresh.collect(), ..Effects::default() };
    lanes.apply_effects(effects, registry, |_| WebhookState::default(), NOW);
}

fn turns(lanes: &mut Lanes) -> Vec<u128> {
    std::iter::from_fn(|| lanes.next(NOW)).map(|(dispatch, _)| dispatch.webhook_id.as_u128()).collect()
}

/// The end of a dispatched request.
fn ended(dispatch: &Dispatch, is_answered: bool) -> EndedRequest {
    let (webhook, delivery) = (dispatch.webhook_id, dispatch.delivery_id);
    EndedRequest { webhook, delivery, took_us: 1_000, is_answered }
}

/// Ends one request of a webhook.
fn end_one(lanes: &mut Lanes, webhook: u128, is_answered: bool) {
    let id = Id::from_u128(webhook);
    let delivery =
        lanes.outstanding.iter().find(|(_, out)| out.webhook == id && out.groups.is_some()).map(|(id, _)| *id);
    let delivery = delivery.expect("a request in flight");
    lanes.finished(EndedRequest { webhook: id, delivery, took_us: 1_000, is_answered }, NOW);
}

#[test]
fn apps_take_turns_and_within_an_app_its_webhooks() {
    let (mut lanes, _) = lanes(100, &[(1, 11), (1, 12), (1, 13), (2, 21)], 2);
    let turns = turns(&mut lanes);
    assert_eq!(turns, [11, 21, 12, 21, 13, 11, 12, 13]);
}

#[test]
fn hundreds_of_webhooks_may_hang_and_there_is_a_slot_for_the_next() {
    let (mut lanes, mut registry) = lanes(1_000, &[], 0);
    let mut publish_to = |lanes: &mut Lanes, id: u128| {
        let new = |w: &mut Webhook| {
            (w.app_id, w.id, w.max_in_flight) = (Id::from_u128(id), Id::from_u128(id), 16);
            w.url = format!("http://{id}.example/");
        };
        registry.put_webhook(Arc::new(webhook(new)));
        publish(lanes, &registry, &[(id, id)], 50);
        turns(lanes).len()
    };
    let taken: Vec<usize> = (1..=200).map(|id| publish_to(&mut lanes, id)).collect();
    assert_eq!((taken[0], taken[30]), (16, 16));
    assert!(taken[32..].iter().all(|taken| (1..=2).contains(taken)), "{taken:?}");
    assert!(lanes.outstanding() < 900);
    // A webhook that answers may use its whole limit.
    assert_eq!(publish_to(&mut lanes, 500), 1);
    let mut sent = 0;
    for _ in 0..40 {
        end_one(&mut lanes, 500, true);
        sent += turns(&mut lanes).len();
    }
    assert_eq!(sent, 40);
}

#[test]
fn the_cap_holds_and_a_recorded_outcome_frees_a_slot() {
    let (mut lanes, registry) = lanes(4, &[(1, 1), (2, 2)], 50);
    let first: Vec<Dispatch> = std::iter::from_fn(|| lanes.next(NOW)).map(|(dispatch, _)| dispatch).collect();
    assert_eq!((first.len(), lanes.outstanding()), (4, 4));
    lanes.finished(ended(&first[0], true), NOW);
    assert!(lanes.next(NOW).is_none(), "not durable yet");
    let effects = Effects { recorded: vec![first[0].delivery_id], ..Effects::default() };
    lanes.apply_effects(effects, &registry, |_| WebhookState::default(), NOW);
    assert_eq!(turns(&mut lanes).len(), 1);
}

#[test]
fn a_delivery_due_again_in_the_batch_that_recorded_it_is_found() {
    let (mut lanes, registry) = lanes(10, &[(1, 1)], 1);
    let (sent, _) = lanes.next(NOW).unwrap();
    lanes.finished(ended(&sent, true), NOW);
    let (id, delivery) = (sent.webhook_id, sent.delivery_id);
    let effects = Effects { recorded: vec![delivery], due: vec![(id, NOW)], ..Effects::default() };
    lanes.apply_effects(effects, &registry, |_| WebhookState::default(), NOW);
    assert_eq!(lanes.reads.len(), 1);
    let slice = DueSlice { ready: vec![sent], last: Some((NOW, delivery)), ..DueSlice::default() };
    lanes.fill(id, slice, NOW);
    assert_eq!(turns(&mut lanes), [1]);
}

/// A webhook with 16 slots, whose requests took `us` each, and `waiting` more deliveries.
fn busy(change: impl Fn(&mut Webhook), us: u32, waiting: u128) -> Lanes {
    let (mut lanes, mut registry) = lanes(1_000, &[], 0);
    registry.put_webhook(Arc::new(webhook(|w| {
        (w.app_id, w.id, w.max_in_flight) = (Id::from_u128(1), Id::from_u128(1), 16);
        change(w);
    })));
    publish(&mut lanes, &registry, &[(1, 1)], 16 + waiting);
    turns(&mut lanes);
    lanes.change(Id::from_u128(1), NOW, |lane| lane.took(us, NOW));
    lanes
}

#[test]
fn a_backlog_counts_where_requests_are_cpu_bound() {
    let backlog = |us| busy(|_| {}, us, 500).backlog(1_000.0, NOW);
    assert_eq!((backlog(900), backlog(1_100)), (500, 0), "a slow receiver keeps its own waiting");
    assert_eq!(busy(|_| {}, 900, 100).backlog(1_000.0, NOW), 0, "few");
}

#[test]
fn deliveries_in_the_index_belong_to_the_backlog() {
    let mut lanes = busy(|_| {}, 900, 500);
    let effects = Effects { due: vec![(Id::from_u128(1), NOW)], ..Effects::default() };
    lanes.apply_effects(effects, &Registry::default(), |_| WebhookState::default(), NOW);
    assert!(lanes.backlog(1_000.0, NOW) > 500);
}

#[test]
fn deliveries_that_wait_for_something_else_are_no_backlog() {
    assert_eq!(busy(|w| w.ordered = DeliveryOrder::Webhook, 900, 500).backlog(1_000.0, NOW), 0);
    assert_eq!(busy(|w| w.rate_limit_per_s = Some(100.0), 900, 500).backlog(1_000.0, NOW), 0);
    assert_eq!(busy(|w| w.status = WebhookStatus::Paused, 900, 500).backlog(1_000.0, NOW), 0);
}

#[test]
fn no_backlog_counts_for_a_receiver_that_has_fallen_silent() {
    let lanes = busy(|_| {}, 900, 500);
    let backlog: Vec<usize> = [0, 200, 300].map(|ms| lanes.backlog(1_000.0, NOW.plus_ms(ms))).into();
    assert_eq!(backlog, [500, 500, 0]);
    // The same holds for a webhook that has not answered yet.
    let (lanes, _) = self::lanes(1_000, &[(1, 1)], 500);
    assert_eq!(lanes.backlog(1_000.0, NOW), 0);
}

#[test]
fn a_clock_that_was_set_back_prolongs_no_wait_of_this_machine() {
    let day_ago = NOW.minus_ms(86_400_000);
    let (mut lanes, _) = lanes(10, &[(1, 11)], 1);
    let (dispatch, _) = lanes.next(NOW).unwrap();
    lanes.withhold(dispatch.webhook_id, dispatch.delivery_id, NOW.plus_ms(5_000), NOW);
    assert_eq!(lanes.next_timer(), Some(NOW.plus_ms(5_000)));
    lanes.set_back(day_ago);
    let due = lanes.next_timer().unwrap();
    assert!(due.since(day_ago) <= 30_000, "{due}");
    lanes.tick(due);
    assert_eq!(lanes.reads.len(), 1);
}

#[test]
fn a_clock_that_was_set_back_leaves_the_times_of_the_index() {
    let (mut lanes, mut registry) = lanes(10, &[], 0);
    registry.put_webhook(Arc::new(webhook(|w| w.id = Id::from_u128(11))));
    let due = Effects { due: vec![(Id::from_u128(11), NOW)], ..Effects::default() };
    lanes.apply_effects(due, &registry, |_| WebhookState::default(), NOW.minus_ms(1_000));
    lanes.set_back(NOW.minus_ms(86_400_000));
    assert_eq!(lanes.next_timer(), Some(NOW));
}

/// Publishes `waiting` deliveries to a webhook of an app at a host. Returns the webhooks of the requests that go out.
fn publish_at((lanes, registry): &mut (Lanes, Registry), app: u128, id: u128, host: &str, waiting: u128) -> Vec<u128> {
    registry.put_webhook(Arc::new(webhook(|w| {
        (w.app_id, w.id, w.max_in_flight) = (Id::from_u128(app), Id::from_u128(id), 16);
        w.url = format!("https://{host}/hooks/{id}");
    })));
    publish(lanes, registry, &[(app, id)], waiting);
    turns(lanes)
}

/// Sends to `count` webhooks until every one has met a timeout, then as much as the shares allow.
fn time_out(all: &mut (Lanes, Registry), webhooks: &[(u128, u128, String)]) {
    for (app, id, host) in webhooks {
        publish_at(all, *app, *id, host, 4);
    }
    while let Some((delivery, webhook)) = all
        .0
        .outstanding
        .iter()
        .map(|(id, out)| (*id, out.webhook))
        .find(|(_, webhook)| all.0.lanes[webhook].was_answered.is_none())
    {
        all.0.finished(EndedRequest { webhook, delivery, took_us: 1_000, is_answered: false }, NOW);
        let recorded = Effects { recorded: vec![delivery], ..Effects::default() };
        all.0.apply_effects(recorded, &all.1, |_| WebhookState::default(), NOW);
        turns(&mut all.0);
    }
}

#[test]
fn a_silent_host_leaves_slots_whichever_apps_its_webhooks_belong_to() {
    let mut all = lanes(1_000, &[], 0);
    let webhooks: Vec<_> = (1..=1_100).map(|id| (id, id, "silent.example".to_owned())).collect();
    for (app, id, host) in &webhooks {
        publish_at(&mut all, *app, *id, host, 4);
    }
    // Before the first timeout each may show that it answers.
    assert_eq!(all.0.outstanding(), 750);
    time_out(&mut all, &webhooks);
    assert!(all.0.outstanding() <= 400, "{}", all.0.outstanding());
    assert_eq!(publish_at(&mut all, 5_000, 5_000, "well.example", 40), [5_000; 16]);
}

#[test]
fn an_app_with_silent_hosts_leaves_slots_to_other_apps_and_to_its_own_webhooks_that_answer() {
    let mut all = lanes(1_000, &[], 0);
    let webhooks: Vec<_> = (1..=1_100).map(|id| (1, id, format!("host-{id}.example"))).collect();
    time_out(&mut all, &webhooks);
    assert!(all.0.outstanding() <= 400, "{}", all.0.outstanding());
    assert_eq!(publish_at(&mut all, 1, 7_000, "well.example", 4), [7_000]);
    end_one(&mut all.0, 7_000, true);
    assert_eq!(turns(&mut all.0), [7_000; 3]);
    assert_eq!(publish_at(&mut all, 2, 5_000, "other.example", 40), [5_000; 16]);
}

#[test]
fn a_thousand_silent_apps_at_hosts_of_their_own_leave_slots_to_a_webhook_that_was_answered() {
    let mut all = lanes(1_000, &[], 0);
    assert_eq!(publish_at(&mut all, 5_000, 5_000, "well.example", 1), [5_000]);
    end_one(&mut all.0, 5_000, true);
    let webhooks: Vec<_> = (1..=1_100).map(|id| (id, id, format!("host-{id}.example"))).collect();
    time_out(&mut all, &webhooks);
    assert_eq!(all.0.outstanding(), 980);
    assert_eq!(publish_at(&mut all, 5_000, 5_000, "well.example", 4), [5_000]);
    end_one(&mut all.0, 5_000, true);
    assert_eq!(turns(&mut all.0), [5_000]);
}

#[test]
fn a_lane_without_a_share_is_looked_at_again_soon() {
    let mut all = lanes(1_000, &[], 0);
    let webhooks: Vec<_> = (1..=1_100).map(|id| (id, id, "silent.example".to_owned())).collect();
    time_out(&mut all, &webhooks);
    assert!(!all.0.parked.is_empty());
    let due = all.0.next_timer().unwrap();
    assert!(due <= NOW.plus_ms(PARKED_MS), "{due}");
}

#[test]
fn a_busy_app_that_is_answered_uses_all_slots() {
    let mut all = lanes(1_000, &[], 0);
    for id in 1..=100 {
        let sent = publish_at(&mut all, 1, id, "fast.example", 16);
        sent.into_iter().for_each(|id| end_one(&mut all.0, id, true));
    }
    // Their outcomes are not durable yet.
    assert_eq!(all.0.outstanding(), 1_000);
}

#[test]
fn a_scheduler_that_stops_has_no_timer_for_parked_lanes() {
    let mut all = lanes(1_000, &[], 0);
    let webhooks: Vec<_> = (1..=1_100).map(|id| (id, id, "silent.example".to_owned())).collect();
    time_out(&mut all, &webhooks);
    assert!(all.0.next_timer().is_some());
    all.0.stop();
    all.0.tick(NOW.plus_ms(1_000));
    assert_eq!(all.0.next_timer(), None);
}

#[test]
fn a_webhook_with_another_url_uses_the_share_of_its_new_origin() {
    let (mut lanes, mut registry) = lanes(10, &[(1, 11)], 1);
    let id = Id::from_u128(11);
    let before = lanes.lanes[&id].groups.clone();
    let mut reload = |url: &str| {
        let change = |w: &mut Webhook| (w.app_id, w.id, w.url) = (Id::from_u128(1), id, url.to_owned());
        registry.put_webhook(Arc::new(webhook(change)));
        let effects = Effects { registry_changed: true, ..Effects::default() };
        lanes.apply_effects(effects, &registry, |_| WebhookState::default(), NOW);
        let now = &lanes.lanes[&id].groups;
        [0, 1].map(|group| Arc::ptr_eq(&before[group], &now[group]))
    };
    assert_eq!(reload("http://127.0.0.1/"), [true, true]);
    assert_eq!(reload("https://elsewhere.example/"), [true, false]);
}

/// Publishes `count` deliveries of `data_bytes` to a webhook of an app with form bodies, which is counted with four times
/// as much. Returns the webhooks of the requests that go out.
fn publish_large(
    (lanes, registry): &mut (Lanes, Registry),
    app: u128,
    id: u128,
    data_bytes: u32,
    count: u128,
) -> Vec<u128> {
    registry.put_webhook(Arc::new(webhook(|w| {
        (w.app_id, w.id, w.content_type) = (Id::from_u128(app), Id::from_u128(id), ContentType::Form);
        w.url = format!("https://host-{id}.example/");
    })));
    let fresh = (0..count).map(|n| {
        let dispatch = dispatch_to(Id::from_u128(id), id * 10_000 + n, NOW);
        let event = Event { data_bytes, ..Event::clone(&dispatch.event) };
        Dispatch { event: Arc::new(event), data: Bytes::new(), ..dispatch }
    });
    let effects = Effects { fresh: fresh.collect(), ..Effects::default() };
    lanes.apply_effects(effects, registry, |_| WebhookState::default(), NOW);
    turns(lanes)
}

const MIB: u32 = 1 << 20;

#[test]
fn bodies_of_one_app_leave_bytes_to_others_and_small_bodies_wait_for_none() {
    let mut all = lanes(1_000, &[], 0);
    let sent: usize = (1..=1_000).map(|id| publish_large(&mut all, 1, id, MIB, 2).len()).sum();
    assert_eq!((sent, all.0.bodies.taken()), (24, 96 << 20));
    assert_eq!(publish_large(&mut all, 2, 5_000, MIB, 3), [5_000; 3]);
    assert_eq!(publish_at(&mut all, 1, 6_000, "well.example", 4), [6_000; 4]);
    (0..6).for_each(|_| drop(publish_large(&mut all, 3, 7_000, MIB, 30)));
    assert!(all.0.bodies.taken() <= BODIES_BYTES_MAX);
    assert!(all.0.next_timer().unwrap() <= NOW.plus_ms(PARKED_MS));
    all.0.stop();
    assert_eq!(all.0.next_timer(), None);
}

#[test]
fn bodies_of_many_silent_apps_leave_bytes_to_a_webhook_that_was_answered() {
    let mut all = lanes(1_000, &[], 0);
    publish_at(&mut all, 5_000, 5_000, "host-5000.example", 1);
    end_one(&mut all.0, 5_000, true);
    (1..=300).for_each(|id| drop(publish_large(&mut all, id, id, MIB, 30)));
    let taken = all.0.bodies.taken();
    assert!((200 << 20..=214 << 20).contains(&taken), "{taken}");
    assert_eq!(publish_large(&mut all, 5_001, 5_001, MIB, 1), [0; 0]);
    // The first of these is the one that was answered.
    assert_eq!(publish_large(&mut all, 5_000, 5_000, MIB, 2), [5_000]);
}

#[test]
fn webhooks_of_an_app_that_wait_for_bytes_take_turns_and_every_end_frees_them() {
    let mut all = lanes(1_000, &[], 0);
    assert_eq!(publish_large(&mut all, 1, 1, MIB, 60).len(), 24);
    assert_eq!(publish_large(&mut all, 1, 2, MIB, 1).len() + publish_large(&mut all, 1, 3, MIB, 1).len(), 0);
    let mut next = |end: &dyn Fn(&mut Lanes, DeliveryId)| {
        let id = Id::from_u128(1);
        let running = all.0.outstanding.iter().find(|(_, out)| out.webhook == id && out.groups.is_some());
        let delivery = *running.unwrap().0;
        end(&mut all.0, delivery);
        turns(&mut all.0)
    };
    let finish = |lanes: &mut Lanes, delivery| {
        lanes.finished(EndedRequest { webhook: Id::from_u128(1), delivery, took_us: 1_000, is_answered: true }, NOW);
    };
    assert_eq!([next(&finish), next(&finish), next(&finish), next(&finish)], [[1], [2], [3], [1]]);
    assert_eq!(next(&|lanes, delivery| lanes.unreadable(Id::from_u128(1), delivery, NOW)), [1]);
    assert_eq!(next(&|lanes, delivery| lanes.dropped(Id::from_u128(1), delivery, NOW)), [1]);
    next(&|lanes, delivery| lanes.withhold(Id::from_u128(1), delivery, NOW.plus_ms(1_000), NOW));
    let running: Vec<DeliveryId> = all.0.outstanding.keys().copied().collect();
    for delivery in running {
        let webhook = all.0.outstanding[&delivery].webhook;
        all.0.finished(EndedRequest { webhook, delivery, took_us: 1_000, is_answered: true }, NOW);
    }
    let group = all.0.lanes[&Id::from_u128(2)].groups[0].clone();
    assert_eq!((all.0.bodies.taken(), group.body_bytes()), (0, 0));
}

#[test]
fn a_body_over_the_whole_budget_is_sent_alone() {
    let mut all = lanes(1_000, &[], 0);
    assert_eq!(publish_large(&mut all, 1, 1, 100 * MIB, 2), [1]);
    assert_eq!(publish_large(&mut all, 2, 2, MIB, 1), [0; 0]);
    end_one(&mut all.0, 1, false);
    let sent = turns(&mut all.0);
    assert_eq!(sent.len(), 1, "{sent:?}");
    end_one(&mut all.0, sent[0], false);
    assert_eq!(sent[0] + turns(&mut all.0)[0], 3, "the other one");
}

#[test]
fn a_turn_that_is_not_used_goes_on_to_the_next_lane() {
    let mut all = lanes(1_000, &[], 0);
    assert_eq!(publish_large(&mut all, 1, 1, 100 * MIB, 1), [1]);
    assert_eq!(publish_large(&mut all, 2, 2, 100 * MIB, 1).len() + publish_large(&mut all, 3, 3, MIB, 1).len(), 0);
    all.0.change(Id::from_u128(2), NOW, |lane| {
        lane.webhook = Arc::new(Webhook { status: WebhookStatus::Paused, ..Webhook::clone(&lane.webhook) });
    });
    end_one(&mut all.0, 1, false);
    assert_eq!(turns(&mut all.0), [0; 0], "its turn");
    let later = all.0.next_timer().expect("a timer");
    all.0.tick(later);
    assert_eq!(all.0.next(later).map(|(dispatch, _)| dispatch.webhook_id), Some(Id::from_u128(3)));
}

#[test]
fn a_delivery_whose_payload_cannot_be_read_is_not_sent_again() {
    let mut all = lanes(1_000, &[], 0);
    assert_eq!(publish_large(&mut all, 1, 1, MIB, 1), [1]);
    all.0.unreadable(Id::from_u128(1), Id::from_u128(10_000), NOW);
    assert_eq!((all.0.outstanding(), all.0.lanes[&Id::from_u128(1)].in_flight()), (0, 0));
    assert!(all.0.next(NOW).is_none() && all.0.reads.is_empty());
}

#[test]
fn lanes_without_room_keep_few_deliveries_and_no_large_payload_in_memory() {
    let mut all = lanes(1, &[(1, 1)], 1);
    assert!(all.0.next(NOW).is_some(), "the only slot");
    let body = |id: u128, n: u128, len: usize| {
        let dispatch = dispatch_to(Id::from_u128(id), id * 10_000 + n, NOW);
        let event = Event { data_bytes: len as u32, ..Event::clone(&dispatch.event) };
        Dispatch { event: Arc::new(event), data: vec![b'1'; len].into(), ..dispatch }
    };
    for id in 2..=200 {
        all.1.put_webhook(Arc::new(webhook(|w| (w.app_id, w.id) = (Id::from_u128(id), Id::from_u128(id)))));
        let fresh = (0..100).map(|n| body(id, n, if n < 4 { 1 << 20 } else { 1_000 })).collect();
        all.0.apply_effects(Effects { fresh, ..Effects::default() }, &all.1, |_| WebhookState::default(), NOW);
    }
    assert!(!all.0.has_room(0));
    let own = all.0.lanes[&Id::from_u128(200)].queue_bytes();
    assert!(own <= 96 << 10, "{own}");
    assert!(all.0.queued_bytes <= LANES_BYTES_MAX + (1 << 20) + 200 * (96 << 10), "{}", all.0.queued_bytes);
}
