//! Decides whether the wall clock is trusted for retention.
//!
//! Invariant: after a jump of the wall clock, retention waits until it has agreed with the monotonic clock for
//! `AGREEMENT_MS`.

use crate::model::Time;
use crate::model::time::{DAY_MS, HOUR_MS, MINUTE_MS};

/// Maximum drift of the two clocks between two readings, in milliseconds.
const DRIFT_MS_MAX: i64 = MINUTE_MS;
/// Time that the clocks must agree before retention resumes, in milliseconds.
pub const AGREEMENT_MS: i64 = HOUR_MS;
/// Maximum lead of the clock over the newest row at start, in milliseconds.
const AHEAD_MS_MAX: i64 = DAY_MS;

/// State between two readings of the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockTrust {
    wall: Time,
    monotonic_ms: i64,
    /// End of the distrust on the monotonic clock. `None` if the clock is trusted.
    distrusted_until_ms: Option<i64>,
}

impl ClockTrust {
    /// State at start. `newest` is the time of the newest row, or `None` if the store is empty. A clock behind that row is not
    /// trusted before it reaches the row's time.
    pub fn at_start(wall: Time, monotonic_ms: i64, newest: Option<Time>) -> ClockTrust {
        let ahead_ms = newest.map_or(0, |newest| wall.since(newest));
        let is_doubtful = !(-DRIFT_MS_MAX..=AHEAD_MS_MAX).contains(&ahead_ms);
        let until_ms = monotonic_ms + AGREEMENT_MS.max(-ahead_ms);
        ClockTrust { wall, monotonic_ms, distrusted_until_ms: is_doubtful.then_some(until_ms) }
    }

    /// State after another reading of both clocks.
    pub fn observe(self, wall: Time, monotonic_ms: i64) -> ClockTrust {
        let drift = wall.since(self.wall) - (monotonic_ms - self.monotonic_ms);
        let distrusted_until_ms = if drift.abs() > DRIFT_MS_MAX {
            Some(monotonic_ms + AGREEMENT_MS)
        } else {
            self.distrusted_until_ms.filter(|until| monotonic_ms < *until)
        };
        ClockTrust { wall, monotonic_ms, distrusted_until_ms }
    }

    /// Whether retention may drop expired partitions by the wall clock.
    pub const fn is_trusted(self) -> bool {
        self.distrusted_until_ms.is_none()
    }

    /// State after an operator accepted the clock.
    pub const fn accepted(self) -> ClockTrust {
        ClockTrust { distrusted_until_ms: None, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time(1_772_704_800_000);

    #[test]
    fn a_jump_stops_retention_until_an_hour_of_agreement() {
        let mut trust = ClockTrust::at_start(START, 0, Some(START));
        assert!(trust.is_trusted());
        for jump_ms in [-HOUR_MS, DAY_MS, 40 * DAY_MS, -START.0] {
            trust = trust.observe(START.plus_ms(MINUTE_MS), MINUTE_MS);
            let jumped = trust.observe(START.plus_ms(2 * MINUTE_MS + jump_ms), 2 * MINUTE_MS);
            assert!(!jumped.is_trusted(), "{jump_ms}");
            let later = jumped.observe(jumped.wall.plus_ms(HOUR_MS - 1), 2 * MINUTE_MS + HOUR_MS - 1);
            assert!(!later.is_trusted());
            assert!(later.observe(later.wall.plus_ms(1), 2 * MINUTE_MS + HOUR_MS).is_trusted());
        }
    }

    #[test]
    fn a_clock_far_from_the_newest_row_is_not_believed_at_start() {
        assert!(!ClockTrust::at_start(START.plus_ms(40 * DAY_MS), 0, Some(START)).is_trusted());
        assert!(ClockTrust::at_start(START.plus_ms(HOUR_MS), 0, Some(START)).is_trusted());
        assert!(ClockTrust::at_start(START, 0, None).is_trusted());
        assert!(ClockTrust::at_start(START.minus_ms(MINUTE_MS), 0, Some(START)).is_trusted());
        let behind = ClockTrust::at_start(START.minus_ms(DAY_MS), 0, Some(START));
        assert!(!behind.observe(START.minus_ms(1), DAY_MS - 1).is_trusted(), "it is still behind the newest row");
        assert!(behind.observe(START, DAY_MS).is_trusted());
        assert!(ClockTrust::at_start(START.plus_ms(40 * DAY_MS), 0, Some(START)).accepted().is_trusted());
    }
}
