//! The lanes, and the order of sending: fair between apps, and between the webhooks of an app.
//!
//! Invariant: a lane is in the ring exactly when it may send now. Any other lane costs nothing until its timer fires or
//! it changes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use crate::model::id::{AppId, DeliveryId, IdMap, WebhookId};
use crate::model::webhook::{WebhookState, WebhookStatus};
use crate::model::{App, Delivery, Time, Webhook};
use crate::mutants::mutant;
use crate::rules::shares::{self, DIVIDED_SLOTS_MIN};
use crate::store::{Dispatch, Effects, Registry};
use crate::store::{DueKey, DueSlice};

use crate::engine::handshake::Grant;
use crate::engine::scheduler::body_budget::BodyBudget;
use crate::engine::scheduler::groups::{GroupTable, RequestGroups};
use crate::engine::scheduler::in_flight::InFlightCounts;
use crate::engine::scheduler::lane::{BodyTurn, Lane, LaneNeed};
use crate::engine::scheduler::throttle::AppThrottles;

/// The lanes of all webhooks with due deliveries, and the ring of those that may send.
pub struct Lanes {
    lanes: IdMap<Webhook, Lane>,
    /// Approximate memory of all waiting deliveries.
    queued_bytes: usize,
    /// Apps with sendable lanes, and their webhooks, in round-robin order.
    ring: VecDeque<AppId>,
    of_app: IdMap<App, VecDeque<WebhookId>>,
    timers: BinaryHeap<Reverse<(Time, WebhookId)>>,
    /// Lanes to be filled from the index.
    pub reads: Vec<(WebhookId, Option<DueKey>)>,
    /// Dispatched deliveries whose outcome is not durable.
    outstanding: IdMap<Delivery, OutstandingDelivery>,
    in_flight_max: usize,
    in_flight_counts: Arc<InFlightCounts>,
    groups: GroupTable,
    throttles: AppThrottles,
    bodies: BodyBudget,
    /// Lanes that may send and lack a share of the slots. They are checked again once requests have ended, and after
    /// `PARKED_MS`.
    parked: Vec<WebhookId>,
    parked_until: Option<Time>,
    /// Requests that ended since the parked lanes were checked.
    ended: usize,
}

/// A delivery that was dispatched.
struct OutstandingDelivery {
    webhook: WebhookId,
    /// The groups that count its request. `None` once the request has ended.
    groups: Option<RequestGroups>,
    /// The bytes that the request is counted with.
    body_bytes: usize,
}

/// A request that ended.
#[derive(Debug, Clone, Copy)]
pub struct EndedRequest {
    pub webhook: WebhookId,
    pub delivery: DeliveryId,
    /// Time since the dispatch, in microseconds.
    pub took_us: u32,
    /// Whether the receiver sent a response.
    pub is_answered: bool,
}

/// Longest time after which a lane that lacks a share is checked again.
const PARKED_MS: i64 = 20;
/// The parked lanes are checked once more requests have ended than their number divided by this.
const PARKED_PARTS: usize = 8;
/// Shares of the slots. Below the first, a webhook may use its own limit. Above it, a webhook may have that many
/// unanswered requests, and above the second share one. So hundreds of webhooks can hang while the others still find
/// slots.
const UNDIVIDED_PARTS: (f64, f64) = (0.5, 0.75);
const UNANSWERED_MAX: usize = 2;
/// Maximum bytes in memory over all lanes. Above them each lane is held to its own share, which is small.
const LANES_BYTES_MAX: usize = 32 << 20;
/// Bytes in memory below which there is no backlog, whatever the index holds.
const BACKLOG_BYTES_MIN: usize = 128 << 10;
/// Delay before a delivery whose outcome could not be written is sent again.
const LOST_WAIT_MS: i64 = 5_000;

impl Lanes {
    pub fn new(in_flight_max: usize, in_flight_counts: Arc<InFlightCounts>) -> Lanes {
        Lanes {
            lanes: IdMap::default(),
            queued_bytes: 0,
            ring: VecDeque::new(),
            of_app: IdMap::default(),
            timers: BinaryHeap::new(),
            reads: Vec::new(),
            outstanding: IdMap::default(),
            in_flight_max,
            in_flight_counts,
            groups: GroupTable::default(),
            throttles: AppThrottles::default(),
            bodies: BodyBudget::default(),
            parked: Vec::new(),
            parked_until: None,
            ended: 0,
        }
    }

    /// Applies the effects of a batch.
    pub fn apply_effects(
        &mut self,
        effects: Effects,
        registry: &Registry,
        state: impl Fn(WebhookId) -> WebhookState,
        now: Time,
    ) {
        if effects.registry_changed {
            self.reload(registry, now);
        }
        // Ends come before due entries: a delivery in both is due again.
        for (id, delivery) in effects.withdrawn {
            self.change(id, now, |lane| lane.withdraw(delivery));
        }
        for delivery in effects.recorded {
            if let Some(id) = self.remove_outstanding(delivery, now) {
                self.change(id, now, |lane| lane.recorded(delivery));
            }
        }
        for delivery in effects.unrecorded {
            if let Some(id) = self.remove_outstanding(delivery, now) {
                self.change(id, now, |lane| lane.given_up(delivery, now.plus_ms(LOST_WAIT_MS)));
            }
        }
        for (id, state) in effects.states {
            if mutant!("failure_blocks_others") {
                let all: Vec<WebhookId> = self.lanes.keys().copied().collect();
                all.into_iter().for_each(|id| self.change(id, now, |lane| lane.state = state));
            }
            self.change(id, now, |lane| lane.state = state);
        }
        for id in effects.probe_now {
            self.lane(id, registry, &state);
            self.change(id, now, Lane::probe_now);
        }
        for (id, due) in effects.due {
            self.lane(id, registry, &state);
            self.change(id, now, |lane| lane.note_due(due));
        }
        for dispatch in effects.fresh {
            let id = dispatch.webhook_id;
            self.lane(id, registry, &state);
            let has_room = self.has_room(0);
            self.change(id, now, |lane| lane.offer(dispatch, has_room));
        }
    }

    fn lane(&mut self, id: WebhookId, registry: &Registry, state: impl Fn(WebhookId) -> WebhookState) {
        if let (false, Some(webhook)) = (self.lanes.contains_key(&id), registry.webhook_by_id(id)) {
            if let Some(app) = registry.app_by_id(webhook.app_id) {
                self.throttles.add_app(app);
            }
            let groups = self.groups.of(webhook);
            let mut lane = Lane::new(webhook.clone(), state(id), groups);
            lane.in_flight_count = self.in_flight_counts.begin(id);
            self.lanes.insert(id, lane);
        }
    }

    /// Reloads the configurations. The lane of a removed webhook is dropped once it has no delivery in flight.
    fn reload(&mut self, registry: &Registry, now: Time) {
        self.ring.extend(self.throttles.reload(registry));
        let lanes: Vec<(WebhookId, Arc<Webhook>)> =
            self.lanes.iter().map(|(id, lane)| (*id, lane.webhook.clone())).collect();
        for (id, was) in lanes {
            match registry.webhook_by_id(id) {
                Some(webhook) => {
                    // Every change of the configuration reloads all lanes, and few change their URL.
                    let groups = (was.url != webhook.url).then(|| self.groups.of(webhook));
                    self.change(id, now, |lane| {
                        lane.webhook = webhook.clone();
                        if let Some(groups) = groups {
                            lane.groups = groups;
                        }
                    });
                }
                None => self.change(id, now, |lane| {
                    lane.webhook =
                        Arc::new(Webhook { status: WebhookStatus::Disabled, ..Webhook::clone(&lane.webhook) });
                }),
            }
        }
        self.lanes.retain(|id, lane| registry.webhook_by_id(*id).is_some() || lane.in_flight() > 0);
        self.queued_bytes = self.lanes.values().map(Lane::queue_bytes).sum();
    }

    /// Changes a lane, then updates its position.
    fn change(&mut self, id: WebhookId, now: Time, change: impl FnOnce(&mut Lane)) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            let before = lane.queue_bytes();
            change(lane);
            self.queued_bytes = (self.queued_bytes + lane.queue_bytes()).saturating_sub(before);
            self.settle(id, now);
        }
    }

    /// Whether the lanes together hold little, with `coming` bytes that are being read for them.
    pub fn has_room(&self, coming: usize) -> bool {
        self.queued_bytes + coming < LANES_BYTES_MAX
    }

    fn settle(&mut self, id: WebhookId, now: Time) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let mut need = lane.need(now);
        if let LaneNeed::Read(after) = need {
            self.reads.push((id, after));
            need = lane.need(now);
        }
        match need {
            // The next delivery may be another than the one that waits for the budget.
            LaneNeed::Send if lane.body_turn == BodyTurn::Waits && lane.next_body_bytes() > 0 => {}
            LaneNeed::Send if !lane.is_in_ring => {
                lane.is_in_ring = true;
                let app = lane.app;
                let turns = self.of_app.entry(app).or_default();
                if turns.is_empty() {
                    self.ring.push_back(app);
                }
                turns.push_back(id);
            }
            LaneNeed::Wait(time)
                if lane.timer.is_none_or(|timer| (time < timer || timer <= now) && !mutant!("lost_wake_up")) =>
            {
                lane.timer = Some(time);
                self.timers.push(Reverse((time, id)));
            }
            _ => {}
        }
    }

    /// The next delivery to be sent, if one may be.
    pub fn next(&mut self, now: Time) -> Option<(Dispatch, Arc<Webhook>)> {
        self.check_parked(now);
        while let Some(app) = self.throttles.awake(now) {
            self.ring.push_back(app);
        }
        while self.outstanding.len() < self.in_flight_max {
            let app = self.ring.pop_front()?;
            if self.of_app.contains_key(&app) && self.throttles.rests(app, now) {
                continue;
            }
            let Some(turns) = self.of_app.get_mut(&app) else { continue };
            let Some(id) = turns.pop_front() else { continue };
            let Some(lane) = self.lanes.get_mut(&id) else {
                self.put_back(app, None);
                continue;
            };
            let may_send = lane.may_send(now);
            if may_send && !has_share(lane, self.outstanding.len(), self.in_flight_max, now) {
                lane.is_in_ring = false;
                self.put_back(app, None);
                self.park(id, now);
                continue;
            }
            if may_send && !self.bodies.admits(lane) {
                lane.is_in_ring = false;
                lane.body_turn = BodyTurn::Waits;
                self.bodies.wait(app, id, now);
                self.put_back(app, None);
                continue;
            }
            let before = lane.queue_bytes();
            let body_bytes = lane.next_body_bytes();
            let taken = if may_send { lane.take(now) } else { None };
            self.queued_bytes = (self.queued_bytes + lane.queue_bytes()).saturating_sub(before);
            let (webhook, groups) = (lane.webhook.clone(), lane.groups.clone());
            let again = lane.may_send(now);
            lane.is_in_ring = again;
            self.put_back(app, again.then_some(id));
            if !again {
                self.settle(id, now);
            }
            if let Some(dispatch) = taken {
                if let Some(until) = self.throttles.sent(app, now) {
                    self.in_flight_counts.app_rests(app, until);
                }
                self.begin(id, dispatch.delivery_id, groups, body_bytes);
                return Some((dispatch, webhook));
            }
        }
        None
    }

    /// Counts the request of a delivery that is dispatched.
    fn begin(&mut self, webhook: WebhookId, delivery: DeliveryId, groups: RequestGroups, body_bytes: usize) {
        groups.iter().for_each(|group| group.dispatched());
        groups[0].add_body(body_bytes);
        self.bodies.take(body_bytes);
        self.in_flight_counts.set_body_bytes(self.bodies.taken());
        self.outstanding.insert(delivery, OutstandingDelivery { webhook, groups: Some(groups), body_bytes });
    }

    /// Keeps a lane out of the ring until slots may be free.
    fn park(&mut self, id: WebhookId, now: Time) {
        if self.parked.is_empty() {
            self.ended = 0;
        }
        self.parked.push(id);
        self.parked_until.get_or_insert(now.plus_ms(PARKED_MS));
    }

    /// Nothing more is sent, so no lane waits for a share.
    pub fn stop(&mut self) {
        self.parked.clear();
        self.parked_until = None;
        self.bodies.stop();
        self.throttles.wake_all();
    }

    /// Returns parked lanes, and those that wait for the byte budget, to the ring if there may be room for them.
    fn check_parked(&mut self, now: Time) {
        let is_due = self.parked_until.is_some_and(|until| until <= now || until.since(now) > PARKED_MS);
        if is_due || self.ended > self.parked.len() / PARKED_PARTS {
            (self.parked_until, self.ended) = (None, 0);
            for id in std::mem::take(&mut self.parked) {
                self.settle(id, now);
            }
        }
        if self.bodies.is_due(now) {
            for id in self.bodies.grant(&mut self.lanes, now) {
                self.settle(id, now);
            }
        }
    }

    fn put_back(&mut self, app: AppId, id: Option<WebhookId>) {
        let turns = self.of_app.entry(app).or_default();
        turns.extend(id);
        if turns.is_empty() {
            self.of_app.remove(&app);
        } else {
            self.ring.push_back(app);
        }
    }

    /// Removes a delivery from memory. `true` if it is neither in flight nor waiting for its outcome to be durable.
    pub fn withdraw(&mut self, id: WebhookId, delivery: DeliveryId, now: Time) -> bool {
        if self.outstanding.contains_key(&delivery) {
            return false;
        }
        self.change(id, now, |lane| lane.withdraw(delivery));
        true
    }

    pub fn fill(&mut self, id: WebhookId, slice: DueSlice, now: Time) {
        self.change(id, now, |lane| lane.fill(slice));
    }

    pub fn read_failed(&mut self, id: WebhookId, again: Time, now: Time) {
        self.change(id, now, |lane| lane.read_failed(again));
    }

    /// Stores the receiver's latest grant.
    pub fn allow(&mut self, id: WebhookId, grant: Option<Grant>, now: Time) {
        self.change(id, now, |lane| lane.allow(grant, now));
    }

    /// A request ended.
    pub fn finished(&mut self, request: EndedRequest, now: Time) {
        self.end(request.delivery, request.is_answered, now);
        self.change(request.webhook, now, |lane| {
            lane.took(request.took_us, now);
            lane.was_answered = Some(request.is_answered);
            lane.finished();
        });
    }

    /// A delivery was taken and not sent. Its outcome will be recorded.
    pub fn dropped(&mut self, id: WebhookId, delivery: DeliveryId, now: Time) {
        self.end(delivery, false, now);
        self.change(id, now, Lane::finished);
    }

    /// A request of the webhook was not made. Nothing of the webhook is sent before `until`.
    pub fn withhold(&mut self, id: WebhookId, delivery: DeliveryId, until: Time, now: Time) {
        self.remove_outstanding(delivery, now);
        self.change(id, now, |lane| lane.withhold(delivery, until));
    }

    /// Counts the end of a request in its groups, once.
    fn end(&mut self, delivery: DeliveryId, is_answered: bool, now: Time) {
        let ending = self.outstanding.get_mut(&delivery);
        if let Some((groups, body_bytes)) = ending.and_then(|out| Some((out.groups.take()?, out.body_bytes))) {
            groups.iter().for_each(|group| group.ended(is_answered, now));
            groups[0].remove_body(body_bytes);
            self.bodies.free(body_bytes);
            self.in_flight_counts.set_body_bytes(self.bodies.taken());
        }
        self.ended += 1;
    }

    /// The slot of a delivery is free again. Returns its webhook if it was dispatched.
    fn remove_outstanding(&mut self, delivery: DeliveryId, now: Time) -> Option<WebhookId> {
        self.end(delivery, false, now);
        self.outstanding.remove(&delivery).map(|delivery| delivery.webhook)
    }

    /// A delivery was taken and its payload cannot be read. It is not sent, and its entry stays in the index.
    pub fn unreadable(&mut self, id: WebhookId, delivery: DeliveryId, now: Time) {
        self.remove_outstanding(delivery, now);
        self.change(id, now, |lane| {
            lane.finished();
            lane.recorded(delivery);
        });
    }

    /// The cause of withheld requests may be gone.
    pub fn release(&mut self, now: Time) {
        let held: Vec<WebhookId> =
            self.lanes.iter().filter(|(_, lane)| lane.is_withheld()).map(|(id, _)| *id).collect();
        held.into_iter().for_each(|id| self.change(id, now, Lane::release));
    }

    /// Whether the waiting deliveries have enough bytes in memory to count as a backlog.
    pub fn has_backlog(&self) -> bool {
        self.queued_bytes >= BACKLOG_BYTES_MIN
    }

    /// Deliveries that wait only for their webhook's requests in flight, where these take less than `cpu_bound_us`.
    pub fn backlog(&self, cpu_bound_us: f32, now: Time) -> usize {
        if !self.has_backlog() {
            return 0;
        }
        let is_counted = |lane: &&Lane| lane.answers_within(cpu_bound_us, now) && !self.throttles.has_rate(lane.app);
        self.lanes.values().filter(is_counted).map(|lane| lane.backlog(now)).sum()
    }

    /// Wakes the lanes whose timer fired.
    pub fn tick(&mut self, now: Time) {
        while self.timers.peek().is_some_and(|Reverse((time, _))| *time <= now) {
            let Some(Reverse((time, id))) = self.timers.pop() else { return };
            self.change(id, now, |lane| {
                if lane.timer == Some(time) {
                    lane.timer = None;
                }
            });
        }
    }

    /// The clock was set back: timers that were set before are forgotten, and every lane sets its own anew.
    pub fn set_back(&mut self, now: Time) {
        self.timers.clear();
        self.ring.extend(self.throttles.wake_all());
        let ids: Vec<WebhookId> = self.lanes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.change(id, now, |lane| lane.set_back(now)));
    }

    /// When the next timer fires.
    pub fn next_timer(&self) -> Option<Time> {
        let of_lanes = self.timers.peek().map(|Reverse((time, _))| *time);
        let waits = [of_lanes, self.parked_until, self.bodies.check_at(), self.throttles.next_timer()];
        waits.into_iter().flatten().min()
    }

    /// Dispatched deliveries whose outcome is not durable.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Drops idle lanes. They return with their next delivery.
    pub fn forget_idle(&mut self, now: Time) {
        self.lanes.retain(|_, lane| !lane.is_idle(now) || lane.is_in_ring || lane.timer.is_some());
        self.in_flight_counts.retain(|id| self.lanes.contains_key(&id), now);
        self.groups.forget_unused();
    }
}

/// Whether a webhook may have one more request in flight, with `taken` of `slots` in use.
fn has_share(lane: &Lane, taken: usize, slots: usize, now: Time) -> bool {
    let part = taken as f64 / slots as f64;
    let most = if part < UNDIVIDED_PARTS.1 { UNANSWERED_MAX } else { 1 };
    let has_own = slots < DIVIDED_SLOTS_MIN || part < UNDIVIDED_PARTS.0 || lane.unanswered() < most;
    let is_exempt = shares::is_exempt(lane.was_answered, lane.in_flight(), taken, slots);
    let is_reserved = shares::is_reserved(lane.was_answered, taken, slots);
    has_own && !is_reserved && (is_exempt || lane.groups.iter().all(|group| group.has_share(taken, slots, now)))
}

#[cfg(test)]
mod tests;
