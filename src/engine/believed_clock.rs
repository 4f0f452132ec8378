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
    /// Number of times that the wall clock was accepted. A change ends every sleep, because its end may be far off now.
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

/// The cure of a clock that is not believed, for the log and `/readyz`.
pub const CURE: &str = "set the clock right, or take it as it is by `postrider doctor --accept-clock`; one that stays for \
                        5 minutes is taken by itself, unless it is a day behind or the retention ahead";
const _: () = assert!(LASTING_MS == 5 * 60_000, "CURE says how long");

impl Clock for BelievedClock {
    fn now(&self) -> Time {
        let mut state = self.lock();
        let was = *state;
        let (wall, monotonic_ms) = (self.machine.now(), self.machine.monotonic_ms());
        *state = was.observe(wall, monotonic_ms, self.retention_ms);
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
                let pause = self.pause_towards(time);
                if self.now() >= time || self.accepted.load(Ordering::Relaxed) != accepted {
                    return;
                }
                pause.await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::model::time::{DAY_MS, MINUTE_MS, SECOND_MS};

    const START: Time = Time(1_772_704_800_000);

    /// A machine whose monotonic clock is tokio's. Its pauses last exactly as long as they were asked to.
    struct Machine {
        began: Instant,
        ahead_ms: AtomicI64,
    }

    impl Clock for Machine {
        fn now(&self) -> Time {
            START.plus_ms(self.monotonic_ms() + self.ahead_ms.load(Ordering::Relaxed))
        }

        fn monotonic_ms(&self) -> i64 {
            self.began.elapsed().as_millis() as i64
        }

        fn pause(&self, ms: i64) -> BoxFuture<'_, ()> {
            Box::pin(sleep(Duration::from_millis(ms as u64)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_ends_within_a_second_of_a_step_that_is_believed_or_accepted() {
        for is_accepted in [false, true] {
            let machine = Arc::new(Machine { began: Instant::now(), ahead_ms: AtomicI64::new(0) });
            let clock = Arc::new(BelievedClock::new(machine.clone(), Some(START), DAY_MS));
            let (sleeping, until) = (clock.clone(), START.plus_ms(20 * MINUTE_MS));
            let slept = tokio::spawn(async move { sleeping.sleep_until(until).await });
            sleep(Duration::from_secs(10)).await;
            machine.ahead_ms.store(30 * MINUTE_MS, Ordering::Relaxed);
            if is_accepted {
                clock.accept();
            }
            slept.await.unwrap();
            let least_ms = if is_accepted { 10 * SECOND_MS } else { 10 * SECOND_MS + LASTING_MS };
            let ended = machine.monotonic_ms();
            assert!((least_ms..=least_ms + 2 * SECOND_MS).contains(&ended), "{is_accepted}: {ended}");
        }
    }
}
