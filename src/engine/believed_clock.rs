//! The believed clock: the engine's clock, made of the machine's by the rule of `rules::believed_time`.
//!
//! Invariant: both clocks of the machine are read under one lock, so that two threads never disagree about a step.

use std::sync::atomic::{AtomicU64, Ordering};
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
    /// The retention of the store, in milliseconds.
    retention_ms: i64,
    /// How often the wall clock was accepted. A sleep ends when this changes, because its end may be far off now.
    accepted: AtomicU64,
    /// Notified when the wall clock stepped, and when it is believed again.
    pub changed: Notify,
}

impl BelievedClock {
    /// `last_seen` is the last time that the store knows of, or `None` if it is new.
    pub fn new(machine: Arc<dyn Clock>, last_seen: Option<Time>, retention_ms: i64) -> BelievedClock {
        let state = BelievedTime::at_start(machine.now(), machine.monotonic_ms(), last_seen);
        if let (Agreement::Doubted, Some(last_seen)) = (state.agreement(), last_seen) {
            tracing::warn!(
                wall = %machine.now(),
                %last_seen,
                "the clock is far from the last time that the store knows of: time goes on from there; {CURE}"
            );
        }
        let (state, accepted, changed) = (Mutex::new(state), AtomicU64::new(0), Notify::new());
        BelievedClock { machine, state, retention_ms, accepted, changed }
    }

    /// Takes the wall clock as it is: an operator accepted it.
    pub fn accept(&self) {
        let mut state = self.lock();
        *state = BelievedTime::accepted(self.machine.now(), self.machine.monotonic_ms());
        drop(state);
        self.accepted.fetch_add(1, Ordering::Relaxed);
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
                tracing::warn!(off_s, believed = %now, "the clock stepped: time goes on as before; {CURE}");
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

/// How the clock becomes believed, for the log and `/readyz`.
pub const CURE: &str = "set the clock right, or take it as it is by `postrider doctor --accept-clock`; one that stays for \
                        5 minutes is taken by itself, unless it is a day behind or the retention ahead";
const _: () = assert!(LASTING_MS == 5 * 60_000, "CURE says how long");

impl Clock for BelievedClock {
    fn now(&self) -> Time {
        let mut state = self.lock();
        let was = *state;
        let (wall, monotonic_ms) = (self.machine.now(), self.machine.monotonic_ms());
        *state = was.look(wall, monotonic_ms, self.retention_ms);
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

    fn sleep_until(&self, time: Time) -> BoxFuture<'_, ()> {
        let accepted = self.accepted.load(Ordering::Relaxed);
        Box::pin(async move {
            loop {
                // The pause begins before the clock is read, so that no step is missed.
                let pause = self.pause(time.since(self.now()).max(0));
                if self.now() >= time || self.accepted.load(Ordering::Relaxed) != accepted {
                    return;
                }
                pause.await;
            }
        })
    }
}
