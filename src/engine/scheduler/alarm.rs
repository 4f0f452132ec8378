//! The scheduler's alarm: one sleep until the next timer.
//!
//! It is set again only to ring earlier or after it rang, so that a message costs no timer of the runtime. An alarm that
//! rings too early makes one round for nothing.

use crate::engine::clock::Clock;
use crate::engine::network::BoxFuture;
use crate::model::Time;

/// A clock that moved by more than this between two rounds may have been set, so the alarm is set again.
const STEP_MS: i64 = 1_000;

pub(super) struct Alarm<'a> {
    clock: &'a dyn Clock,
    sleep: BoxFuture<'a, ()>,
    /// When the sleep ends. `None` if it has ended.
    at: Option<Time>,
    /// The time of the last round.
    checked_at: Time,
}

impl<'a> Alarm<'a> {
    pub fn new(clock: &'a dyn Clock) -> Alarm<'a> {
        let never = Time(i64::MAX);
        Alarm { clock, sleep: clock.sleep_until(never), at: Some(never), checked_at: Time::ZERO }
    }

    /// Lets the alarm ring at `timer` or before. `now` is the time of the round.
    pub fn set(&mut self, timer: Time, now: Time) {
        let is_steady = now.since(self.checked_at).abs() <= STEP_MS;
        let rings_in_time = self.at.is_some_and(|at| at <= timer && at > now);
        self.checked_at = now;
        if !(is_steady && rings_in_time) {
            self.sleep = self.clock.sleep_until(timer);
            self.at = Some(timer);
        }
    }

    /// Waits until the alarm rings. Dropping the future leaves the alarm set.
    pub async fn rings(&mut self) {
        (&mut self.sleep).await;
        self.at = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

    use super::*;

    /// A clock that counts its sleeps, all of which end at once.
    #[derive(Default)]
    struct CountingClock {
        sleeps: AtomicUsize,
        until: AtomicI64,
    }

    impl Clock for CountingClock {
        fn now(&self) -> Time {
            Time::ZERO
        }

        fn monotonic_ms(&self) -> i64 {
            0
        }

        fn pause(&self, _: i64) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }

        fn sleep_until(&self, time: Time) -> BoxFuture<'_, ()> {
            self.sleeps.fetch_add(1, Ordering::Relaxed);
            self.until.store(time.0, Ordering::Relaxed);
            Box::pin(async {})
        }
    }

    #[tokio::test]
    async fn it_is_set_again_only_to_ring_earlier_or_after_it_rang_or_when_the_clock_stepped() {
        let clock = CountingClock::default();
        let mut alarm = Alarm::new(&clock);
        alarm.set(Time(5_000), Time(100));
        let sleeps = || (clock.sleeps.load(Ordering::Relaxed), clock.until.load(Ordering::Relaxed));
        let (first, _) = sleeps();
        for (timer, now, expected) in [
            (5_000, 200, (0, 5_000)),
            (9_000, 300, (0, 5_000)),
            (4_000, 400, (1, 4_000)),
            (9_000, 4_000, (2, 9_000)),
            (9_000, 4_500, (2, 9_000)),
            (9_000, 6_000, (3, 9_000)),
            (9_000, 2_000, (4, 9_000)),
        ] {
            alarm.set(Time(timer), Time(now));
            assert_eq!(sleeps(), (first + expected.0, expected.1), "{timer} at {now}");
        }
        alarm.rings().await;
        alarm.set(Time(9_000), Time(2_100));
        assert_eq!(sleeps(), (first + 5, 9_000));
    }
}
