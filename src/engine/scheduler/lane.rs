//! A lane: one webhook's deliveries in memory, its cursor into the due index, and whether it may send.
//!
//! Invariant: `queue`, the deliveries in flight and the index after `cursor` are together all that is due. A delivery
//! in `held` is never dispatched twice.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::id::{AppId, DeliveryId, IdSet};
use crate::model::webhook::{CircuitState, DeliveryOrder, Webhook, WebhookState, WebhookStatus};
use crate::model::{Delivery, Time};
use crate::mutants::mutant;
use crate::rules::circuit;
use crate::rules::request_bytes::counted_bytes;
use crate::store::Dispatch;
use crate::store::{DueKey, DueSlice};

use crate::engine::handshake::Grant;
use crate::engine::scheduler::groups::RequestGroups;
use crate::engine::scheduler::in_flight::{InFlightCount, RATE_CATCH_UP_MS};

/// Deliveries of one webhook that wait in memory while all lanes together have no room. More stay in the index.
const LANE_DELIVERIES_MAX: usize = 64;
/// Approximate bytes of one webhook that wait in memory while there is no room. Above them, further deliveries wait
/// without their payload.
const LANE_BYTES_MAX: usize = 48 << 10;
/// Deliveries that the index may have of one webhook, for the backlog.
const INDEX_DELIVERIES: usize = 1_024;
/// Approximate bytes of a delivery in memory besides its payload.
const DISPATCH_BYTES: usize = 512;
/// Length of the queue below which it is filled from the index, and its approximate bytes.
const LANE_LOW: usize = 64;
const LANE_LOW_BYTES: usize = 48 << 10;
/// Maximum outcomes that are not durable, as a multiple of `max_in_flight`. Together with the deliveries in flight it
/// bounds how many requests a receiver sees twice after a kill.
const UNRECORDED_FACTOR: usize = 32;
/// Weight of a new request in the mean.
const TOOK_SHARE: f32 = 1.0 / 16.0;
/// Time without a response after which a receiver counts as hanging, however fast it was before.
const SILENT_MS: i64 = 250;
/// Longest wait after a request that was not made or not recorded, in milliseconds.
const WITHHELD_MS_MAX: i64 = 30_000;

/// The turn of a lane among those whose next body is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyTurn {
    None,
    /// The lane waits for its turn, out of the ring.
    Waits,
    /// Its turn has come.
    Granted,
}

/// One webhook's deliveries in memory, and the state that decides whether it may send.
pub struct Lane {
    pub app: AppId,
    pub webhook: Arc<Webhook>,
    pub state: WebhookState,
    queue: VecDeque<Dispatch>,
    queue_bytes: usize,
    /// Deliveries in the queue, in flight, or sent with an outcome that is not durable.
    held: IdSet<Delivery>,
    in_flight: usize,
    /// Publishes the number of requests in flight for readers outside the scheduler.
    pub in_flight_count: InFlightCount,
    /// Mean duration of the latest requests, in microseconds.
    takes_us: Option<f32>,
    /// When a request ended last.
    took_at: Time,
    /// Requests sent since one ended.
    unanswered: usize,
    /// Whether the last request that ended was answered. `None` if none has ended.
    pub was_answered: Option<bool>,
    /// The groups whose shares of the slots the webhook uses.
    pub groups: RequestGroups,
    unrecorded: usize,
    /// Entries of the index up to here are in memory or done.
    cursor: Option<DueKey>,
    /// When the first entry after `cursor` is due. `None` if no entry is known.
    more: Option<Time>,
    /// Whether entries after `cursor` are due already and wait for `more`. The lane offers nothing past them.
    waits_for_more: bool,
    reading: bool,
    /// While a read runs: the entry from which to read again, because one before the cursor was added meanwhile.
    low: Option<DueKey>,
    /// While a read runs: deliveries that ended meanwhile. The slice may be older and still contain them.
    settled: IdSet<Delivery>,
    /// The grant of a receiver with `handshake`. Until it is asked, one request at a time is sent.
    grant: Option<Grant>,
    /// Set while the installation cannot send for the webhook: nothing is sent before this time, then one at a time.
    withheld_until: Option<Time>,
    /// Whether a caller asked for a probe: the next request does not wait for the circuit.
    probes_now: bool,
    /// The next moment that the rate allows, in milliseconds.
    rate_next_ms: f64,
    /// Whether the lane is in the ring of lanes that may send.
    pub is_in_ring: bool,
    /// Its turn among the lanes whose next body is counted.
    pub body_turn: BodyTurn,
    /// Time of the lane's timer, if it is set.
    pub timer: Option<Time>,
}

/// The next step of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneNeed {
    /// Send at once.
    Send,
    /// Read the index after this entry.
    Read(Option<DueKey>),
    /// Check again at this time.
    Wait(Time),
    /// Rest until the lane changes.
    Rest,
}

impl Lane {
    pub fn new(webhook: Arc<Webhook>, state: WebhookState, groups: RequestGroups) -> Lane {
        Lane {
            app: webhook.app_id,
            webhook,
            state,
            queue: VecDeque::new(),
            queue_bytes: 0,
            held: IdSet::default(),
            in_flight: 0,
            in_flight_count: InFlightCount::default(),
            takes_us: None,
            took_at: Time::ZERO,
            unanswered: 0,
            was_answered: None,
            groups,
            unrecorded: 0,
            cursor: None,
            more: None,
            waits_for_more: false,
            reading: false,
            low: None,
            settled: IdSet::default(),
            grant: None,
            withheld_until: None,
            probes_now: false,
            rate_next_ms: 0.0,
            is_in_ring: false,
            body_turn: BodyTurn::None,
            timer: None,
        }
    }

    /// Offers a delivery that was just committed and is due. It stays in memory if no due entry of the index stands
    /// before it. With `has_room` the lanes together hold little, so this one may exceed its share.
    pub fn offer(&mut self, mut dispatch: Dispatch, has_room: bool) {
        if self.waits_for_more {
            self.go_back_to(dispatch.due);
            return;
        }
        let behind = self.more.is_some_and(|more| more <= dispatch.due) || self.reading;
        let full = self.queue.len() >= LANE_DELIVERIES_MAX;
        let place = (dispatch.due, dispatch.delivery_id);
        if behind || full && !has_room {
            self.note_due(dispatch.due);
            return;
        }
        self.cursor = self.cursor.max(Some(place));
        if !has_room && self.queue_bytes + bytes_of(&dispatch) > LANE_BYTES_MAX {
            dispatch.leave_out_data();
        }
        self.push(dispatch);
    }

    fn push(&mut self, dispatch: Dispatch) {
        if self.held.insert(dispatch.delivery_id) {
            self.queue_bytes += bytes_of(&dispatch);
            self.queue.push_back(dispatch);
        }
    }

    /// The index has an entry at `due`. If it lies before the cursor, reading goes back to it.
    pub fn note_due(&mut self, due: Time) {
        self.go_back_to(due);
        self.more = Some(self.more.map_or(due, |more| more.min(due)));
    }

    fn go_back_to(&mut self, due: Time) {
        let before = (due.minus_ms(1), DeliveryId::MAX);
        if self.cursor.is_some_and(|cursor| cursor > before) {
            self.cursor = Some(before);
        }
        if self.reading {
            self.low = Some(self.low.map_or(before, |low| low.min(before)));
        }
    }

    /// Adds a slice of the index that `LaneNeed::Read` asked for.
    pub fn fill(&mut self, slice: DueSlice) {
        self.reading = false;
        // An entry added while reading may lie before or after the slice: `more` is the earlier time.
        self.more = [slice.next, self.more].into_iter().flatten().min();
        self.cursor = slice.last.max(self.cursor);
        if let Some(low) = self.low.take() {
            self.cursor = self.cursor.map(|cursor| cursor.min(low));
        }
        let settled = std::mem::take(&mut self.settled);
        for dispatch in slice.ready {
            if !settled.contains(&dispatch.delivery_id) {
                self.push(dispatch);
            }
        }
    }

    /// Reading failed. The lane reads again at `again`.
    pub fn read_failed(&mut self, again: Time) {
        self.reading = false;
        self.low = None;
        self.settled.clear();
        self.more = Some(again);
        self.waits_for_more = true;
    }

    /// The next step of the lane, to be called after every change. `LaneNeed::Read` is returned once until `fill`.
    pub fn need(&mut self, now: Time) -> LaneNeed {
        if let Some(rate) = self.rate() {
            // At most one interval ahead: the rate may have been raised, or the clock set back.
            self.rate_next_ms = self.rate_next_ms.min(now.0 as f64 + 1_000.0 / rate);
            self.in_flight_count.set_rate_until(Time(self.rate_next_ms.ceil() as i64));
        } else {
            self.in_flight_count.set_rate_until(Time::ZERO);
        }
        match self.blocked_until(now) {
            Blocked::Free => {}
            Blocked::Until(time) => return LaneNeed::Wait(time),
            Blocked::Stays => return LaneNeed::Rest,
        }
        let is_low = self.queue.len() < LANE_LOW && self.queue_bytes < LANE_LOW_BYTES;
        if !self.reading && is_low && self.more.is_some_and(|more| more <= now) {
            self.reading = true;
            // Entries added from now on count anew.
            self.more = None;
            self.waits_for_more = false;
            return LaneNeed::Read(self.cursor);
        }
        if !self.queue.is_empty() {
            return LaneNeed::Send;
        }
        match self.more {
            Some(more) if !self.reading => LaneNeed::Wait(more),
            _ => LaneNeed::Rest,
        }
    }

    /// Whether a delivery of the lane may be sent now.
    pub fn may_send(&self, now: Time) -> bool {
        !self.queue.is_empty() && self.blocked_until(now) == Blocked::Free
    }

    fn blocked_until(&self, now: Time) -> Blocked {
        if self.webhook.status != WebhookStatus::Enabled {
            return Blocked::Stays;
        }
        // A requested probe skips the circuit's wait and still honours `Retry-After`.
        let probes = WebhookState { hold_until: None, ..self.state };
        let held_until = circuit::held_until(if self.probes_now { probes } else { self.state }, now);
        if let Some(until) = held_until {
            return Blocked::Until(until);
        }
        if let Some(until) = self.withheld_until.filter(|until| *until > now) {
            return Blocked::Until(until);
        }
        let outstanding = self.in_flight + self.unrecorded;
        // Half-open or withheld: one probe at a time. Ordered: the next delivery is known only when the outcome is
        // durable.
        let single = self.state.circuit != CircuitState::Closed
            || self.webhook.ordered == DeliveryOrder::Webhook
            || self.withheld_until.is_some()
            || self.is_unasked();
        let most = if single { 1 } else { self.webhook.max_in_flight as usize };
        let full =
            if single { outstanding >= 1 } else { self.in_flight >= most || outstanding >= most * UNRECORDED_FACTOR };
        let is_unbounded = !single && mutant!("in_flight_unbounded");
        if full && !is_unbounded {
            return Blocked::Stays;
        }
        if !mutant!("rate_ignored") && self.rate().is_some() && (now.0 as f64) < self.rate_next_ms {
            return Blocked::Until(Time(self.rate_next_ms.ceil() as i64));
        }
        Blocked::Free
    }

    fn granted(&self) -> Option<&Grant> {
        self.grant.as_ref().filter(|grant| self.webhook.handshake && grant.url == self.webhook.url)
    }

    fn is_unasked(&self) -> bool {
        self.webhook.handshake && self.granted().is_none()
    }

    /// Requests per second: the lower of the webhook's limit and the receiver's grant.
    fn rate(&self) -> Option<f64> {
        let allowed = self.granted().and_then(|grant| grant.per_s);
        match (self.webhook.rate_limit_per_s, allowed) {
            (Some(own), Some(allowed)) => Some(own.min(allowed)),
            (own, allowed) => own.or(allowed),
        }
    }

    /// Sends a probe without waiting for the circuit.
    pub fn probe_now(&mut self) {
        self.probes_now = true;
    }

    /// Stores the receiver's grant, which the current request asked for.
    pub fn allow(&mut self, grant: Option<Grant>, now: Time) {
        if self.grant == grant {
            return;
        }
        self.grant = grant;
        if let Some(rate) = self.rate() {
            self.rate_next_ms = self.rate_next_ms.max(now.0 as f64 + 1_000.0 / rate);
        }
    }

    /// Removes the next delivery to be sent.
    pub fn take(&mut self, now: Time) -> Option<Dispatch> {
        let dispatch = self.queue.pop_front()?;
        self.queue_bytes = self.queue_bytes.saturating_sub(bytes_of(&dispatch));
        self.probes_now = false;
        self.body_turn = BodyTurn::None;
        self.in_flight += 1;
        self.in_flight_count.set(self.in_flight);
        self.unanswered += 1;
        if let Some(rate) = self.rate() {
            let from = self.rate_next_ms.max(now.0 as f64 - RATE_CATCH_UP_MS);
            self.rate_next_ms = from + 1_000.0 / rate;
            self.in_flight_count.set_rate_until(Time(self.rate_next_ms.ceil() as i64));
        }
        Some(dispatch)
    }

    /// Records the duration of a request since its dispatch.
    pub fn took(&mut self, took_us: u32, now: Time) {
        let mean = self.takes_us.unwrap_or(took_us as f32);
        self.takes_us = Some(mean + (took_us as f32 - mean) * TOOK_SHARE);
        self.took_at = now;
    }

    /// Whether requests are being answered in less than `most_us` microseconds.
    pub fn answers_within(&self, most_us: f32, now: Time) -> bool {
        self.takes_us.is_some_and(|us| us < most_us) && now.since(self.took_at) < SILENT_MS
    }

    /// Approximate due deliveries that would be sent at once if requests took no time.
    pub fn backlog(&self, now: Time) -> usize {
        let waits_for_more = self.webhook.ordered == DeliveryOrder::Webhook
            || self.rate().is_some()
            || self.state.circuit != CircuitState::Closed
            || self.webhook.status != WebhookStatus::Enabled
            || circuit::held_until(self.state, now).is_some();
        let of_index = if self.reading || self.more.is_some_and(|more| more <= now) { INDEX_DELIVERIES } else { 0 };
        if waits_for_more { 0 } else { self.queue.len() + of_index }
    }

    /// The request ended, and its outcome is on its way to the write queue.
    pub fn finished(&mut self) {
        self.withheld_until = None;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.in_flight_count.set(self.in_flight);
        self.unanswered = 0;
        self.unrecorded += 1;
    }

    /// The outcome is durable.
    pub fn recorded(&mut self, delivery: DeliveryId) {
        self.settle(delivery);
        if self.held.remove(&delivery) {
            self.unrecorded = self.unrecorded.saturating_sub(1);
        }
    }

    /// The request was dropped without an outcome. Its entry is still in the index.
    pub fn given_up(&mut self, delivery: DeliveryId, again: Time) {
        if self.held.remove(&delivery) {
            self.unrecorded = self.unrecorded.saturating_sub(1);
        }
        self.go_back_to(Time::ZERO);
        self.more = Some(self.more.map_or(again, |more| more.min(again)));
        self.waits_for_more = true;
    }

    /// The request was not made, for an installation fault or a shortage. Its entry is still in the index.
    pub fn withhold(&mut self, delivery: DeliveryId, until: Time) {
        self.finished();
        self.given_up(delivery, until);
        self.withheld_until = Some(until);
    }

    /// The clock was set back to `now`. A wait that this machine chose is counted from there.
    pub fn set_back(&mut self, now: Time) {
        self.timer = None;
        self.took_at = self.took_at.min(now);
        self.withheld_until = self.withheld_until.map(|until| until.min(now.plus_ms(WITHHELD_MS_MAX)));
        if self.waits_for_more {
            self.more = self.more.map(|more| more.min(now.plus_ms(WITHHELD_MS_MAX)));
        }
    }

    pub fn is_withheld(&self) -> bool {
        self.withheld_until.is_some()
    }

    /// The cause of withheld requests may be gone: sends again, one request at first.
    pub fn release(&mut self) {
        self.withheld_until = self.withheld_until.map(|_| Time::ZERO);
        // All withheld deliveries are due.
        self.more = self.more.map(|_| Time::ZERO);
    }

    fn settle(&mut self, delivery: DeliveryId) {
        if self.reading {
            self.settled.insert(delivery);
        }
    }

    /// Removes a delivery that must not be sent any more. One in flight goes on.
    pub fn withdraw(&mut self, delivery: DeliveryId) {
        self.settle(delivery);
        let before = self.queue.len();
        self.queue.retain(|dispatch| dispatch.delivery_id != delivery);
        if self.queue.len() < before {
            self.held.remove(&delivery);
            self.queue_bytes = self.queue.iter().map(bytes_of).sum();
        }
    }

    /// The bytes that the next request is counted with. 0 if it is not counted, or if nothing waits.
    pub fn next_body_bytes(&self) -> usize {
        self.queue.front().map_or(0, |dispatch| counted_bytes(&self.webhook, dispatch.payload_bytes()))
    }

    /// Approximate memory of the waiting deliveries.
    pub fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight + self.unrecorded
    }

    /// Requests in flight since one ended: at a hanging receiver, all of them.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Whether the lane can be dropped: nothing in memory, no known entry in the index, and no rate in force.
    pub fn is_idle(&self, now: Time) -> bool {
        let is_held_back = self.rate().is_some() && self.rate_next_ms > now.0 as f64;
        self.queue.is_empty() && self.held.is_empty() && self.more.is_none() && !self.reading && !is_held_back
    }
}

fn bytes_of(dispatch: &Dispatch) -> usize {
    DISPATCH_BYTES + dispatch.data.len()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocked {
    Free,
    Until(Time),
    /// The lane stays blocked until the configuration changes or an outcome arrives.
    Stays,
}

#[cfg(test)]
mod tests;
