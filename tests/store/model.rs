//! The model test: seeded random commands against an in-memory oracle, what must hold checked after every batch.
//!
//! Between batches the store is closed and opened, cut off and opened from what was written, its partition sealed, its journal
//! checkpointed. `POSTRIDER_SEED=7 cargo test --test store model` replays one seed; `POSTRIDER_STEPS` makes each longer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use postrider::model::id::{DeliveryId, EventId, WebhookId};
use postrider::model::webhook::{Ordered, Status};
use postrider::model::{DeliveryStatus, Time};
use postrider::store::{AttemptQuery, Command, Dispatch, NewEvent, Receipt, Refusal, Window};

use crate::bench::{Bench, finished};

const SEEDS: u64 = 12;
const STEPS: u64 = 150;
const SCHEDULE_S: [u32; 2] = [5, 300];

/// xorshift64*: the same numbers for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.below(from.len() as u64) as usize]) }
    }
}

#[derive(Debug, Clone)]
struct Hook {
    event_type: Option<&'static str>,
    ordered: bool,
    status: Status,
    removed: bool,
}

#[derive(Debug, Clone)]
struct Told {
    event_type: &'static str,
    data: Option<Bytes>,
    event_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Sent {
    event: EventId,
    webhook: WebhookId,
    status: DeliveryStatus,
    attempts: u32,
    failures: u32,
    replay_of: Option<DeliveryId>,
}

#[derive(Debug, Default)]
struct Oracle {
    hooks: BTreeMap<WebhookId, Hook>,
    events: BTreeMap<EventId, Told>,
    sent: BTreeMap<DeliveryId, Sent>,
}

impl Oracle {
    fn open(&self) -> Vec<DeliveryId> {
        self.sent.iter().filter(|(_, sent)| !sent.status.is_final()).map(|(id, _)| *id).collect()
    }

    /// What the due index must hold for a webhook: all that is open, or the oldest where they go in order.
    fn due(&self, webhook: WebhookId) -> BTreeSet<DeliveryId> {
        let open = self.sent.iter().filter(|(_, s)| s.webhook == webhook && !s.status.is_final()).map(|(id, _)| *id);
        if self.hooks[&webhook].ordered { open.take(1).collect() } else { open.collect() }
    }
}

struct Run {
    bench: Bench,
    oracle: Oracle,
    chance: Chance,
}

#[test]
fn random_histories_agree_with_the_oracle() {
    let one = std::env::var("POSTRIDER_SEED").ok().and_then(|seed| seed.parse().ok());
    let steps = std::env::var("POSTRIDER_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(STEPS);
    let seeds = one.map_or(1..=SEEDS, |seed| seed..=seed);
    for seed in seeds {
        println!("seed {seed}: replay with POSTRIDER_SEED={seed}");
        let chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut run = Run { bench: Bench::new(), oracle: Oracle::default(), chance };
        for step in 0..steps {
            run.step();
            run.check_some();
            if step % 25 == 24 {
                run.check_all();
            }
        }
        run.check_all();
    }
}

impl Run {
    fn step(&mut self) {
        self.bench.now = self.bench.now.plus_ms(self.chance.below(40_000) as i64);
        match self.chance.below(100) {
            0..4 => self.create_hook(),
            4..40 => self.publish(),
            40..74 => self.record(),
            74..78 => self.retry(),
            78..81 => self.cancel(),
            81..83 => self.cancel_event(),
            83..85 => self.erase(),
            85..87 => self.set_status(),
            87 => self.remove_hook(),
            88..90 => self.bench.opened.writer.roll(self.bench.now).unwrap(),
            90..93 => self.upkeep(),
            93..95 => self.bench.opened.writer.checkpoint().unwrap(),
            95..97 => self.bench.reopen(),
            _ => self.bench.crash(),
        }
    }

    fn create_hook(&mut self) {
        let event_type = self.chance.pick(&[None, Some("a"), Some("b")]).unwrap();
        let ordered = self.chance.below(3) == 0;
        let hook = self.bench.webhook(|w| {
            w.event_types = event_type.map(str::to_owned).into_iter().collect();
            w.ordered = if ordered { Ordered::Webhook } else { Ordered::No };
            w.retry_schedule_s = SCHEDULE_S.to_vec();
            w.disable_after_s = 0;
        });
        self.oracle.hooks.insert(hook.id, Hook { event_type, ordered, status: Status::Enabled, removed: false });
    }

    fn publish(&mut self) {
        let count = 1 + self.chance.below(4);
        let mut events = Vec::new();
        for _ in 0..count {
            let event_type = self.chance.pick(&["a", "b"]).unwrap();
            let event_id = (self.chance.below(4) == 0).then(|| format!("{event_type}-{}", self.chance.below(20)));
            // The same event_id always comes with the same type and bytes; other bytes are tried in `conflicts`.
            let size = event_id.as_ref().map_or(1 + self.chance.below(20_000) as usize, |id| id.len() * 100);
            events.push((event_type, Bytes::from(vec![b'7'; size]), event_id));
        }
        let conflicts = self.chance.below(12) == 0;
        let known = |oracle: &Oracle, id: &String| {
            oracle.events.iter().find(|(_, e)| e.event_id.as_ref() == Some(id)).map(|(id, e)| (*id, e.data.is_some()))
        };
        let mut orders: Vec<NewEvent> = events
            .iter()
            .map(|(event_type, data, event_id)| NewEvent {
                event_type: (*event_type).to_owned(),
                data: data.clone(),
                event_id: event_id.clone(),
                ..NewEvent::default()
            })
            .collect();
        let clash = orders.iter().position(|e| {
            e.event_id.as_ref().and_then(|id| known(&self.oracle, id)).is_some_and(|(_, has_data)| has_data)
        });
        if let (true, Some(at)) = (conflicts, clash) {
            orders[at].data = Bytes::from_static(b"null");
            let (result, _) = self.bench.apply(Command::Publish(orders));
            assert!(matches!(result, Err(Refusal::Conflict { code: "event_id_conflict", .. })), "{result:?}");
            return;
        }
        let (result, _) = self.bench.apply(Command::Publish(orders));
        let Ok(Receipt::Published(published)) = result else { panic!("{result:?}") };
        for ((event_type, data, event_id), published) in events.into_iter().zip(published) {
            let before = event_id.as_ref().and_then(|id| known(&self.oracle, id)).map(|(id, _)| id);
            assert_eq!(published.duplicate, before.is_some());
            assert!(before.is_none_or(|id| id == published.event.id));
            if !published.duplicate {
                self.learn_event(published.event.id, Told { event_type, data: Some(data), event_id });
            }
        }
    }

    fn learn_event(&mut self, id: EventId, told: Told) {
        let wanted = |hook: &Hook| {
            !hook.removed && hook.status != Status::Disabled && hook.event_type.is_none_or(|t| t == told.event_type)
        };
        let mut expected: BTreeSet<WebhookId> =
            self.oracle.hooks.iter().filter(|(_, hook)| wanted(hook)).map(|(id, _)| *id).collect();
        for delivery in self.bench.opened.store.deliveries_of(id, self.bench.now).unwrap() {
            assert!(expected.remove(&delivery.webhook_id), "a delivery nobody asked for: {delivery:?}");
            let sent = Sent {
                event: id,
                webhook: delivery.webhook_id,
                status: DeliveryStatus::Pending,
                attempts: 0,
                failures: 0,
                replay_of: None,
            };
            self.oracle.sent.insert(delivery.id, sent);
        }
        assert!(expected.is_empty(), "not sent to {expected:?}");
        self.oracle.events.insert(id, told);
    }

    fn record(&mut self) {
        let hooks: Vec<WebhookId> = self.oracle.hooks.keys().copied().collect();
        let Some(webhook) = self.chance.pick(&hooks) else { return };
        let slice = self.bench.opened.store.due(webhook, None, Time::MAX, 8, 1 << 20).unwrap();
        assert!(slice.damaged.is_empty(), "{:?}", slice.damaged);
        let ready: Vec<&Dispatch> = slice.ready.iter().collect();
        let Some(dispatch) = self.chance.pick(&ready).cloned() else { return };
        let status = self.chance.pick(&[200, 200, 200, 500, 500, 410]).unwrap();
        let order = Command::Record(Box::new(finished(&dispatch, self.bench.now, status)));
        let (result, _) = self.bench.apply(order.clone());
        assert!(matches!(result, Ok(Receipt::Recorded(Some(_)))), "{result:?}");
        // Handed in again, as after a reopen: nothing happens.
        let (again, _) = self.bench.apply(order);
        assert_eq!(again, Ok(Receipt::Recorded(None)));
        let hook = self.oracle.hooks.get_mut(&webhook).unwrap();
        let sent = self.oracle.sent.get_mut(&dispatch.delivery_id).unwrap();
        assert_eq!((dispatch.number, dispatch.event.id), (sent.attempts + 1, sent.event));
        sent.attempts += 1;
        sent.failures += u32::from(status != 200);
        sent.status = match status {
            _ if hook.removed => DeliveryStatus::Cancelled,
            200 => DeliveryStatus::Delivered,
            500 if (sent.attempts as usize) <= SCHEDULE_S.len() => DeliveryStatus::Retrying,
            _ => DeliveryStatus::Failed,
        };
        if status == 410 && !hook.removed {
            hook.status = Status::Disabled;
        }
    }

    fn any_delivery(&mut self) -> Option<DeliveryId> {
        let all: Vec<DeliveryId> = self.oracle.sent.keys().copied().collect();
        self.chance.pick(&all)
    }

    fn retry(&mut self) {
        let Some(id) = self.any_delivery() else { return };
        let was = self.oracle.sent[&id].clone();
        let hook = self.oracle.hooks[&was.webhook].clone();
        let erased = self.oracle.events[&was.event].data.is_none();
        let (result, _) = self.bench.apply(Command::Retry { id });
        if hook.removed || hook.status == Status::Disabled || erased {
            assert!(matches!(result, Err(Refusal::Conflict { .. })), "{result:?}");
            return;
        }
        let Ok(Receipt::Delivery(delivery)) = result else { panic!("{result:?}") };
        if was.status.is_final() {
            assert_eq!(delivery.replay_of, Some(id));
            let sent = Sent { status: DeliveryStatus::Pending, attempts: 0, failures: 0, replay_of: Some(id), ..was };
            self.oracle.sent.insert(delivery.id, sent);
        } else {
            assert!(delivery.id == id && delivery.next_attempt_at <= Some(self.bench.now));
        }
    }

    fn cancel(&mut self) {
        let Some(id) = self.any_delivery() else { return };
        let (result, _) = self.bench.apply(Command::CancelDelivery { id });
        let is_removed = self.oracle.hooks[&self.oracle.sent[&id].webhook].removed;
        let sent = self.oracle.sent.get_mut(&id).unwrap();
        if sent.status.is_final() || is_removed {
            assert!(matches!(result, Err(Refusal::Conflict { code: "delivery_final", .. })), "{result:?}");
        } else {
            assert!(matches!(result, Ok(Receipt::Delivery(_))), "{result:?}");
            sent.status = DeliveryStatus::Cancelled;
        }
    }

    fn cancel_event(&mut self) {
        let all: Vec<EventId> = self.oracle.events.keys().copied().collect();
        let Some(id) = self.chance.pick(&all) else { return };
        let (result, _) = self.bench.apply(Command::CancelEvent { id });
        let count = self.end_open(id);
        assert_eq!(result, Ok(Receipt::Cancelled(count)));
    }

    fn erase(&mut self) {
        let all: Vec<EventId> = self.oracle.events.keys().copied().collect();
        let Some(id) = self.chance.pick(&all) else { return };
        let (result, _) = self.bench.apply(Command::EraseEvent { id });
        assert_eq!(result, Ok(Receipt::Done));
        self.end_open(id);
        self.oracle.events.get_mut(&id).unwrap().data = None;
    }

    fn end_open(&mut self, event: EventId) -> u32 {
        let open = self.oracle.sent.values_mut().filter(|sent| sent.event == event && !sent.status.is_final());
        open.map(|sent| sent.status = DeliveryStatus::Cancelled).count() as u32
    }

    fn set_status(&mut self) {
        let hooks: Vec<WebhookId> = self.oracle.hooks.iter().filter(|(_, h)| !h.removed).map(|(id, _)| *id).collect();
        let Some(id) = self.chance.pick(&hooks) else { return };
        let status = self.chance.pick(&[Status::Paused, Status::Enabled]).unwrap();
        let hook = self.oracle.hooks.get_mut(&id).unwrap();
        if hook.status == Status::Disabled {
            let (refused, _) = self.bench.apply(Command::SetStatus { id, status });
            assert!(matches!(refused, Err(Refusal::Conflict { code: "webhook_disabled", .. })), "{refused:?}");
            // Enabled again, as PATCH does it.
            let mut webhook = postrider::model::Webhook::clone(&self.bench.opened.store.registry().webhooks[&id]);
            webhook.status = Status::Enabled;
            hook.status = Status::Enabled;
            self.bench.apply(Command::UpdateWebhook { webhook: Box::new(webhook) }).0.unwrap();
        } else {
            self.bench.apply(Command::SetStatus { id, status }).0.unwrap();
            hook.status = status;
        }
    }

    fn remove_hook(&mut self) {
        let hooks: Vec<WebhookId> = self.oracle.hooks.iter().filter(|(_, h)| !h.removed).map(|(id, _)| *id).collect();
        let Some(id) = self.chance.pick(&hooks) else { return };
        self.bench.apply(Command::RemoveWebhook { id }).0.unwrap();
        self.oracle.hooks.get_mut(&id).unwrap().removed = true;
    }

    fn upkeep(&mut self) {
        let done = self.bench.opened.writer.upkeep(self.bench.now, false).unwrap();
        assert!(done.dropped.is_empty(), "nothing is a month old yet");
        let swept = self.bench.opened.writer.apply(&done.follow, self.bench.now);
        assert!(swept.results.iter().all(|result| result.is_ok()), "{:?}", swept.results);
        if done.follow.is_empty() {
            return;
        }
        // What a removed webhook left open is final now, as it has read ever since.
        let removed: BTreeSet<WebhookId> =
            self.oracle.hooks.iter().filter(|(_, h)| h.removed).map(|(id, _)| *id).collect();
        for sent in self.oracle.sent.values_mut().filter(|s| removed.contains(&s.webhook) && !s.status.is_final()) {
            sent.status = DeliveryStatus::Cancelled;
        }
    }

    /// Cheap enough for every batch: a few deliveries, and one webhook's due entries.
    fn check_some(&mut self) {
        for _ in 0..4 {
            if let Some(id) = self.any_delivery() {
                self.check_delivery(id);
            }
        }
        let hooks: Vec<WebhookId> = self.oracle.hooks.iter().filter(|(_, h)| !h.removed).map(|(id, _)| *id).collect();
        if let Some(id) = self.chance.pick(&hooks) {
            self.check_due(id);
        }
    }

    fn check_all(&mut self) {
        let ids: Vec<DeliveryId> = self.oracle.sent.keys().copied().collect();
        ids.into_iter().for_each(|id| self.check_delivery(id));
        for (id, told) in &self.oracle.events {
            let event = self.bench.opened.store.event(self.bench.caller.reach, *id, self.bench.now).unwrap().unwrap();
            assert_eq!((event.event_type.as_str(), &event.event_id), (told.event_type, &told.event_id));
            assert_eq!(self.bench.opened.store.data(*id, self.bench.now).unwrap(), told.data, "{id}");
        }
        let hooks: Vec<(WebhookId, bool)> = self.oracle.hooks.iter().map(|(id, hook)| (*id, hook.removed)).collect();
        for (id, removed) in hooks {
            self.check_figures(id, removed);
            if !removed {
                self.check_due(id);
            }
        }
    }

    fn check_delivery(&self, id: DeliveryId) {
        let (store, now) = (&self.bench.opened.store, self.bench.now);
        let sent = &self.oracle.sent[&id];
        let found = store.delivery(self.bench.caller.reach, id, now).unwrap().unwrap_or_else(|| panic!("{id} is lost"));
        let removed = self.oracle.hooks[&sent.webhook].removed;
        let status = if removed && !sent.status.is_final() { DeliveryStatus::Cancelled } else { sent.status };
        assert_eq!(
            (found.status, found.attempts, found.replay_of),
            (status, sent.attempts, sent.replay_of),
            "{found:?}"
        );
        assert_eq!(found.next_attempt_at.is_some(), !status.is_final(), "{found:?}");
        assert_eq!(found.completed_at.is_some(), status.is_final(), "{found:?}");
        let attempts = store.attempts_of(&found, now).unwrap();
        let numbers: Vec<u32> = attempts.iter().map(|attempt| attempt.number).collect();
        assert_eq!(numbers, (1..=sent.attempts).collect::<Vec<_>>());
        assert_eq!(attempts.iter().filter(|attempt| !attempt.success).count() as u32, sent.failures);
    }

    fn check_due(&self, webhook: WebhookId) {
        let slice = self.bench.opened.store.due(webhook, None, Time::MAX, 10_000, usize::MAX).unwrap();
        let found: BTreeSet<DeliveryId> = slice.ready.iter().map(|dispatch| dispatch.delivery_id).collect();
        assert_eq!(found, self.oracle.due(webhook), "what is due for {webhook}");
    }

    fn check_figures(&self, webhook: WebhookId, removed: bool) {
        let sums = self.bench.opened.store.figures(webhook, self.bench.now).unwrap().sums;
        let own: Vec<&Sent> = self.oracle.sent.values().filter(|sent| sent.webhook == webhook).collect();
        let count = |status| own.iter().filter(|sent| sent.status == status).count() as u64;
        let attempts: u64 = own.iter().map(|sent| u64::from(sent.attempts)).sum();
        let failures: u64 = own.iter().map(|sent| u64::from(sent.failures)).sum();
        assert_eq!((sums.deliveries, sums.attempts, sums.attempts_failed), (own.len() as u64, attempts, failures));
        assert_eq!(sums.started, own.iter().filter(|sent| sent.attempts > 0).count() as u64);
        assert_eq!(sums.responses, attempts);
        if !removed {
            let ends =
                (count(DeliveryStatus::Delivered), count(DeliveryStatus::Failed), count(DeliveryStatus::Cancelled));
            assert_eq!((sums.delivered, sums.failed, sums.cancelled), ends);
            assert_eq!(
                sums.open(),
                self.oracle.open().iter().filter(|id| self.oracle.sent[id].webhook == webhook).count() as u64
            );
        }
        let window = Window { from: None, to: None, before: None, limit: 250 };
        let query = AttemptQuery {
            reach: self.bench.caller.reach,
            webhook: Some(webhook),
            delivery: None,
            event: None,
            success: None,
            status: None,
            event_type: None,
            status_code: None,
            search: None,
            window,
        };
        let page = self.bench.opened.store.attempts(&query, self.bench.now).unwrap();
        assert_eq!(page.rows.len() as u64, attempts.min(250));
        assert!(page.rows.windows(2).all(|pair| pair[0].id > pair[1].id), "newest first");
    }
}
