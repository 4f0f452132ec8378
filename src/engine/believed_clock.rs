//! The believed clock: the engine's clock, made of the machine's by the rule of `rules::believed_time`.
//!
//! Invariant: both clocks of the machine are read under one lock, so that two threads never disagree about a step.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::Time;
use crate::rules::believed_time::{Agreement, BelievedTime, LASTING_MS};

use crate::engine::clock::Clock;
use crate::engine::network::BoxFuture;

/// A clock whose `now` ignores steps of the wall clock until they have lasted or were accepted.
pub struct BelievedClock {
    machine: Arc<dyn Clock>,
    state: Mutex<BelievedTime>,
    /// Notified when the wall clock stepped, and when it is believed again.
    pub changed: Notify,
}

impl BelievedClock {
    /// `newest` is the time of the newest stored row, or `None` if the store is empty.
    pub fn new(machine: Arc<dyn Clock>, newest: Option<Time>) -> BelievedClock {
        let state = BelievedTime::at_start(machine.now(), machine.monotonic_ms(), newest);
        let clock = BelievedClock { machine, state: Mutex::new(state), changed: Notify::new() };
        if let (Agreement::Doubted, Some(newest)) = (state.agreement(), newest) {
            tracing::warn!(
                wall = %clock.wall(),
                newest = %newest,
                "the clock is far from where the last row was written: time goes on from that row {LASTING}"
            );
        }
        clock
    }

    /// Takes the wall clock as it is: an operator accepted it.
    pub fn accept(&self) {
        *self.lock() = BelievedTime::accepted(self.machine.now(), self.machine.monotonic_ms());
        self.changed.notify_one();
    }

    /// Milliseconds by which the wall clock is ahead of the believed time, negative if it is behind. `None` if both agree.
    pub fn off_ms(&self) -> Option<i64> {
        let now = self.now();
        let agreed = self.lock().agreement() == Agreement::Agreed;
        (!agreed).then(|| self.machine.now().since(now))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BelievedTime> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a change, and wakes the janitor.
    fn report(&self, was: Agreement, is: BelievedTime, wall: Time, now: Time) {
        let off_s = wall.since(now) / 1_000;
        match is.agreement() {
            Agreement::Agreed => tracing::warn!(%now, "the clock is believed"),
            Agreement::Doubted => {
                tracing::warn!(off_s, believed = %now, "the clock stepped: time goes on as before {LASTING}");
            }
            Agreement::Approaching => {
                tracing::warn!(
                    off_s,
                    "the clock was set back: time goes on at half speed until the clock has caught up"
                );
            }
        }
        debug_assert!(was != is.agreement() || was == Agreement::Doubted);
        self.changed.notify_one();
    }
}

/// How a step becomes believed, for the log.
const LASTING: &str = "until the step has lasted 5 minutes, or `postrider doctor --accept-clock` accepts it";
const _: () = assert!(LASTING_MS == 5 * 60_000, "LASTING says how long");

impl Clock for BelievedClock {
    fn now(&self) -> Time {
        let mut state = self.lock();
        let was = *state;
        let (wall, monotonic_ms) = (self.machine.now(), self.machine.monotonic_ms());
        *state = was.look(wall, monotonic_ms);
        let (is, now) = (*state, state.now(monotonic_ms));
        drop(state);
        if is.agreement() != was.agreement() {
            self.report(was.agreement(), is, wall, now);
        }
        now
    }

    fn wall(&self) -> Time {
        self.machine.now()
    }

    fn monotonic_ms(&self) -> i64 {
        self.machine.monotonic_ms()
    }

    fn pause(&self, ms: i64) -> BoxFuture<'_, ()> {
        self.machine.pause(ms)
    }
}
