//! The byte budget of bodies in flight, and the lanes that wait for it.
//!
//! A request holds its payload and the body that is rendered from it until it ends. The scheduler counts the most that
//! both can take before it dispatches a delivery, so nothing is read, rendered or booked for a delivery that waits. A
//! request whose bytes are few is not counted: requests in flight bound their sum.
//!
//! Invariants: `taken` is the sum over the counted requests in flight. A lane whose next body is counted passes no lane
//! of its app that waits. One counted request is always admitted, however large it is.

use std::collections::VecDeque;

use crate::model::id::{AppId, IdMap, WebhookId};
use crate::model::{App, Time, Webhook};
use crate::rules::shares;

use crate::engine::scheduler::lane::{BodyTurn, Lane};

/// Counted bytes of all requests in flight above which no further counted request begins. The last one may exceed it.
pub const BODIES_BYTES_MAX: usize = 240 << 20;
/// Longest time after which lanes that wait are checked again.
const CHECK_MS: i64 = 20;

/// The bytes in use, and the lanes that wait, by app in the order in which they are served.
#[derive(Debug, Default)]
pub struct BodyBudget {
    taken: usize,
    apps: VecDeque<AppId>,
    waiting: IdMap<App, VecDeque<WebhookId>>,
    /// Whether bytes have become free since the lanes that wait were checked.
    is_freed: bool,
    /// When they are checked at the latest. `None` if none waits.
    check_at: Option<Time>,
}

impl BodyBudget {
    /// Counted bytes of the requests in flight.
    pub fn taken(&self) -> usize {
        self.taken
    }

    pub fn take(&mut self, bytes: usize) {
        self.taken += bytes;
    }

    pub fn free(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_sub(bytes);
        self.is_freed |= bytes > 0;
    }

    /// When lanes that wait are checked at the latest. `None` if none waits.
    pub fn check_at(&self) -> Option<Time> {
        self.check_at
    }

    /// Whether the turn of a lane that waits may have come.
    pub fn is_due(&self, now: Time) -> bool {
        self.check_at.is_some_and(|at| self.is_freed || at <= now || at.since(now) > CHECK_MS)
    }

    /// Whether the next request of a lane may begin.
    pub fn admits(&self, lane: &Lane) -> bool {
        if lane.next_body_bytes() == 0 {
            return true;
        }
        let is_first = lane.body_turn == BodyTurn::Granted || !self.waiting.contains_key(&lane.app);
        is_first && has_room(lane, lane.groups[0].body_bytes(), self.taken)
    }

    /// Appends a lane to those of its app that wait.
    pub fn wait(&mut self, app: AppId, id: WebhookId, now: Time) {
        self.check_at.get_or_insert(now.plus_ms(CHECK_MS));
        let lanes = self.waiting.entry(app).or_default();
        if lanes.is_empty() {
            self.apps.push_back(app);
        }
        lanes.push_back(id);
    }

    /// The lanes whose turn has come, one of each app after the other for as long as there is room.
    pub fn grant(&mut self, lanes: &mut IdMap<Webhook, Lane>, now: Time) -> Vec<WebhookId> {
        let (mut granted, mut taken, mut refused) = (Vec::new(), self.taken, 0);
        let mut by_app: IdMap<App, usize> = IdMap::default();
        while refused < self.apps.len() && taken < BODIES_BYTES_MAX {
            let Some(app) = self.apps.pop_front() else { break };
            let mut queue = self.waiting.remove(&app).unwrap_or_default();
            while queue.front().is_some_and(|id| lanes.get(id).is_none_or(|lane| lane.body_turn != BodyTurn::Waits)) {
                queue.pop_front();
            }
            if let Some(lane) = queue.front().and_then(|id| lanes.get_mut(id)) {
                let own = by_app.entry(app).or_insert_with(|| lane.groups[0].body_bytes());
                if has_room(lane, *own, taken) {
                    let bytes = lane.next_body_bytes();
                    (*own, taken, refused) = (*own + bytes, taken + bytes, 0);
                    lane.body_turn = BodyTurn::Granted;
                    granted.extend(queue.pop_front());
                } else {
                    refused += 1;
                }
            }
            if !queue.is_empty() {
                self.waiting.insert(app, queue);
                self.apps.push_back(app);
            }
        }
        // A lane that was granted its turn may not send after all.
        self.is_freed = false;
        self.check_at = (!self.apps.is_empty()).then(|| now.plus_ms(CHECK_MS));
        granted
    }

    /// Nothing more is sent, so no lane waits.
    pub fn stop(&mut self) {
        self.check_at = None;
        self.apps.clear();
        self.waiting.clear();
    }
}

/// Whether a lane may have one more counted request, with `own` bytes of its app and `taken` of all in flight.
fn has_room(lane: &Lane, own: usize, taken: usize) -> bool {
    taken == 0
        || shares::has_body_room(lane.was_answered, taken, BODIES_BYTES_MAX)
            && shares::has_body_share(own, taken, BODIES_BYTES_MAX)
}
