//! One webhook's lane: what waits for it in memory, what the index still has, and whether it may send.
//!
//! Invariant: `queue`, what is in flight and what the index has after `cursor` together are all that is due; a delivery in
//! `held` is never handed out a second time.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::id::{AppId, DeliveryId, IdSet};
use crate::model::webhook::{CircuitState, DeliveryOrder, Webhook, WebhookState, WebhookStatus};
use crate::model::{Delivery, Time};
use crate::store::Dispatch;
use crate::store::read::due::DueSlice;
use crate::store::read::lookup::DueKey;

use crate::engine::handshake::Grant;

/// Deliveries of one webhook that wait in memory; what is more stays in the index, but where all lanes together have room.
pub const LANE_DELIVERIES_MAX: usize = 1_024;
/// Payload bytes of one webhook that wait in memory, about.
pub const LANE_BYTES_MAX: usize = 2 << 20;
/// Deliveries read from the index at once.
pub const SLICE_DELIVERIES_MAX: usize = 512;
/// What a delivery in memory takes beside its payload, about.
const DISPATCH_BYTES: usize = 512;
/// Under this the lane is filled from the index.
const LANE_LOW: usize = 64;
/// Outcomes that are not durable yet, as a multiple of `max_in_flight`: with what is in flight this bounds what a kill
/// makes a receiver see twice.
const UNRECORDED_FACTOR: usize = 32;
/// How much of the mean a new request is.
const TOOK_SHARE: f32 = 1.0 / 16.0;
/// A receiver that has not answered for so long hangs, however fast it was before.
const SILENT_MS: i64 = 250;
/// How far behind its rate a webhook may catch up, so that a late timer does not lower the rate.
const RATE_CATCH_UP_MS: f64 = 20.0;

pub struct Lane {
    pub app: AppId,
    pub webhook: Arc<Webhook>,
    pub state: WebhookState,
    queue: VecDeque<Dispatch>,
    queue_bytes: usize,
    /// In the queue, in flight, or sent with an outcome that is not durable yet.
    held: IdSet<Delivery>,
    in_flight: usize,
    /// How long requests take, in microseconds: the mean of the latest.
    takes_us: Option<f32>,
    /// When one was over the last time.
    took_at: Time,
    /// Sent since the last request was over.
    unanswered: usize,
    unrecorded: usize,
    /// Entries of the index up to here are in memory or done with.
    cursor: Option<DueKey>,
    /// When the index has something after `cursor`; none: nothing that is known of.
    more: Option<Time>,
    reading: bool,
    /// While reading: where reading has to begin again afterwards, because something was noted there meanwhile.
    low: Option<DueKey>,
    /// While reading: what ended meanwhile. The slice may be older than that and still have it.
    settled: IdSet<Delivery>,
    /// What the receiver of a webhook with `handshake` allows; until it has been asked, one request at a time.
    grant: Option<Grant>,
    /// Somebody asked for it to be tried now: the next request is a probe that need not wait for its turn.
    probes_now: bool,
    /// The next moment that the rate allows, in milliseconds.
    rate_next_ms: f64,
    /// Stands in the ring of those that may send now.
    pub is_in_ring: bool,
    /// A timer is set for then.
    pub timer: Option<Time>,
}

/// What a lane needs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneNeed {
    /// It may send at once.
    Send,
    /// It is to be filled from the index, after this place.
    Read(Option<DueKey>),
    /// Look again then.
    Wait(Time),
    /// Nothing until something happens to it.
    Rest,
}

impl Lane {
    pub fn new(webhook: Arc<Webhook>, state: WebhookState) -> Lane {
        Lane {
            app: webhook.app_id,
            webhook,
            state,
            queue: VecDeque::new(),
            queue_bytes: 0,
            held: IdSet::default(),
            in_flight: 0,
            takes_us: None,
            took_at: Time::ZERO,
            unanswered: 0,
            unrecorded: 0,
            cursor: None,
            more: None,
            reading: false,
            low: None,
            settled: IdSet::default(),
            grant: None,
            probes_now: false,
            rate_next_ms: 0.0,
            is_in_ring: false,
            timer: None,
        }
    }

    /// A delivery that was just committed and is due: kept in memory if nothing that is due stands before it in the index.
    /// `has_room`: the lanes together hold little, so this one may hold more than its own share.
    pub fn offer(&mut self, dispatch: Dispatch, has_room: bool) {
        let behind = self.more.is_some_and(|more| more <= dispatch.due) || self.reading;
        let full = self.queue.len() >= LANE_DELIVERIES_MAX || self.queue_bytes >= LANE_BYTES_MAX;
        let place = (dispatch.due, dispatch.delivery_id);
        if behind || full && !has_room {
            self.note_due(dispatch.due);
            return;
        }
        self.cursor = self.cursor.max(Some(place));
        self.push(dispatch);
    }

    fn push(&mut self, dispatch: Dispatch) {
        if self.held.insert(dispatch.delivery_id) {
            self.queue_bytes += bytes_of(&dispatch);
            self.queue.push_back(dispatch);
        }
    }

    /// The index has something from `due` on. If it lies before the cursor, reading goes back to it.
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

    /// A slice of the index, asked for by `Need::Read`.
    pub fn fill(&mut self, slice: DueSlice) {
        self.reading = false;
        // What was noted while reading may lie before or after the slice: `more` keeps the earlier of both.
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

    /// Reading failed: try again later.
    pub fn read_failed(&mut self, again: Time) {
        self.reading = false;
        self.low = None;
        self.settled.clear();
        self.more = Some(again);
    }

    /// What the lane needs; called after every change. `Need::Read` is given once until `fill`.
    pub fn need(&mut self, now: Time) -> LaneNeed {
        if let Some(rate) = self.rate() {
            // One turn ahead at the most: the rate may have been raised since, or the clock set back.
            self.rate_next_ms = self.rate_next_ms.min(now.0 as f64 + 1_000.0 / rate);
        }
        match self.blocked_until(now) {
            Blocked::Free => {}
            Blocked::Until(time) => return LaneNeed::Wait(time),
            Blocked::Stays => return LaneNeed::Rest,
        }
        if !self.reading && self.queue.len() < LANE_LOW && self.more.is_some_and(|more| more <= now) {
            self.reading = true;
            // Entries noted from now on are news.
            self.more = None;
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

    /// Whether something of it may be sent now.
    pub fn may_send(&self, now: Time) -> bool {
        !self.queue.is_empty() && self.blocked_until(now) == Blocked::Free
    }

    fn blocked_until(&self, now: Time) -> Blocked {
        if self.webhook.status != WebhookStatus::Enabled {
            return Blocked::Stays;
        }
        // What the receiver asked for holds also against those who are in a hurry.
        let held_until = if self.probes_now { self.state.retry_after } else { self.state.held_until() };
        if let Some(until) = held_until.filter(|until| *until > now) {
            return Blocked::Until(until);
        }
        let outstanding = self.in_flight + self.unrecorded;
        // Half open: one probe at a time. Ordered: the next one is known only when the outcome is durable.
        let single = self.state.circuit != CircuitState::Closed
            || self.webhook.ordered == DeliveryOrder::Webhook
            || self.is_unasked();
        let most = if single { 1 } else { self.webhook.max_in_flight as usize };
        let full =
            if single { outstanding >= 1 } else { self.in_flight >= most || outstanding >= most * UNRECORDED_FACTOR };
        if full {
            return Blocked::Stays;
        }
        if self.rate().is_some() && (now.0 as f64) < self.rate_next_ms {
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

    /// Requests per second: the webhook's own limit, and what the receiver allows.
    fn rate(&self) -> Option<f64> {
        let allowed = self.granted().and_then(|grant| grant.per_s);
        match (self.webhook.rate_limit_per_s, allowed) {
            (Some(own), Some(allowed)) => Some(own.min(allowed)),
            (own, allowed) => own.or(allowed),
        }
    }

    /// Does not wait for the circuit's next probe.
    pub fn probe_now(&mut self) {
        self.probes_now = true;
    }

    /// What the receiver allows, asked for by the request that is out or was just sent.
    pub fn allow(&mut self, grant: Option<Grant>, now: Time) {
        if self.grant == grant {
            return;
        }
        self.grant = grant;
        if let Some(rate) = self.rate() {
            self.rate_next_ms = self.rate_next_ms.max(now.0 as f64 + 1_000.0 / rate);
        }
    }

    /// Takes the next delivery to be sent.
    pub fn take(&mut self, now: Time) -> Option<Dispatch> {
        let dispatch = self.queue.pop_front()?;
        self.queue_bytes = self.queue_bytes.saturating_sub(bytes_of(&dispatch));
        self.probes_now = false;
        self.in_flight += 1;
        self.unanswered += 1;
        if let Some(rate) = self.rate() {
            let from = self.rate_next_ms.max(now.0 as f64 - RATE_CATCH_UP_MS);
            self.rate_next_ms = from + 1_000.0 / rate;
        }
        Some(dispatch)
    }

    /// How long a request took, from being handed out.
    pub fn took(&mut self, took_us: u32, now: Time) {
        let mean = self.takes_us.unwrap_or(took_us as f32);
        self.takes_us = Some(mean + (took_us as f32 - mean) * TOOK_SHARE);
        self.took_at = now;
    }

    /// Whether requests go on being answered, in less than that many microseconds.
    pub fn answers_within(&self, most_us: f32, now: Time) -> bool {
        self.takes_us.is_some_and(|us| us < most_us) && now.since(self.took_at) < SILENT_MS
    }

    /// Deliveries that are due, about, and would be sent at once if requests took no time.
    pub fn backlog(&self, now: Time) -> usize {
        let waits_for_more = self.webhook.ordered == DeliveryOrder::Webhook
            || self.rate().is_some()
            || self.state.circuit != CircuitState::Closed
            || self.webhook.status != WebhookStatus::Enabled
            || self.state.held_until().is_some_and(|until| until > now);
        let of_index = if self.reading || self.more.is_some_and(|more| more <= now) { LANE_DELIVERIES_MAX } else { 0 };
        if waits_for_more { 0 } else { self.queue.len() + of_index }
    }

    /// The request is over; its outcome is on its way to the ledger.
    pub fn finished(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
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

    /// The request was given up without an outcome: its entry is still in the index.
    pub fn given_up(&mut self, delivery: DeliveryId, again: Time) {
        if self.held.remove(&delivery) {
            self.unrecorded = self.unrecorded.saturating_sub(1);
        }
        self.go_back_to(Time::ZERO);
        self.more = Some(self.more.map_or(again, |more| more.min(again)));
    }

    fn settle(&mut self, delivery: DeliveryId) {
        if self.reading {
            self.settled.insert(delivery);
        }
    }

    /// A delivery that must not be sent any more leaves the queue; one in flight goes on.
    pub fn withdraw(&mut self, delivery: DeliveryId) {
        self.settle(delivery);
        let before = self.queue.len();
        self.queue.retain(|dispatch| dispatch.delivery_id != delivery);
        if self.queue.len() < before {
            self.held.remove(&delivery);
            self.queue_bytes = self.queue.iter().map(bytes_of).sum();
        }
    }

    /// Memory that its waiting deliveries take, about.
    pub fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight + self.unrecorded
    }

    /// Requests out since one was over: all of them, at a receiver that hangs.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Whether it can be forgotten: nothing in memory, nothing known of in the index, and no rate that still holds it.
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
    /// Until something happens: a change of configuration, an outcome.
    Stays,
}

#[cfg(test)]
mod tests;
