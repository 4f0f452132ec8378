//! The believed time: the wall clock, as far as the monotonic clock confirms it.
//!
//! Invariants: a step of the wall clock by more than `STEP_MS_MAX` changes nothing at once. A step forward is taken
//! after `LASTING_MS`, unless it would end the retention of an event that was acknowledged meanwhile. A step back is
//! never taken. Instead the believed time runs at half speed until the wall clock has caught up, so that no wait stands
//! still.

use crate::model::Time;
use crate::model::time::{DAY_MS, MINUTE_MS};
use crate::mutants::mutant;

/// Largest step of the wall clock that is taken at once, in milliseconds.
pub const STEP_MS_MAX: i64 = MINUTE_MS;
/// Time that a larger step must last before it is taken, in milliseconds.
pub const LASTING_MS: i64 = 5 * MINUTE_MS;
/// Lag up to which a clock that was set back is approached, in milliseconds. A larger one must be accepted.
pub const BEHIND_MS_MAX: i64 = DAY_MS;
/// Longest stop of the daemon that the next start believes at once, in milliseconds.
const STOPPED_MS_MAX: i64 = 31 * DAY_MS;
/// No clock that runs this program is before 2025-01-01. A clock that leaves such a time is taken at once.
const EARLIEST: Time = Time(1_735_689_600_000);
/// Part of the elapsed time by which the believed time advances while the wall clock catches up.
const SLOW_PARTS: i64 = 2;

/// Whether the wall clock and the believed time agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// They are the same.
    Agreed,
    /// The wall clock stepped. The believed time follows the monotonic clock.
    Doubted,
    /// The wall clock was set back and stays there. The believed time runs at half speed until both meet.
    Approaching,
}

/// The believed time, as of one reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BelievedTime {
    /// Readings of both clocks, and the believed time, when `agreement` began or was last confirmed.
    wall: Time,
    monotonic_ms: i64,
    believed: Time,
    agreement: Agreement,
}

impl BelievedTime {
    /// State at start. `last_seen` is the last time that the store knows of, or `None` if it is new. A wall clock before
    /// it, or longer after it than a stop usually lasts, is doubted.
    pub fn at_start(wall: Time, monotonic_ms: i64, last_seen: Option<Time>) -> BelievedTime {
        let agreed = BelievedTime::accepted(wall, monotonic_ms);
        match last_seen.filter(|last_seen| *last_seen >= EARLIEST) {
            Some(last_seen) if !(-STEP_MS_MAX..=STOPPED_MS_MAX).contains(&wall.since(last_seen)) => {
                BelievedTime { believed: last_seen, agreement: Agreement::Doubted, ..agreed }
            }
            _ => agreed,
        }
    }

    /// State after an operator accepted the wall clock.
    pub const fn accepted(wall: Time, monotonic_ms: i64) -> BelievedTime {
        BelievedTime { wall, monotonic_ms, believed: wall, agreement: Agreement::Agreed }
    }

    /// State after another reading of both clocks. A step forward by `retention_ms` or more is taken only when accepted:
    /// events that were acknowledged meanwhile would be older than that at once.
    pub fn observe(self, wall: Time, monotonic_ms: i64, retention_ms: i64) -> BelievedTime {
        let elapsed_ms = (monotonic_ms - self.monotonic_ms).max(0);
        let believed = self.now(monotonic_ms);
        let gap_ms = wall.since(believed);
        let step_ms = wall.since(self.wall) - elapsed_ms;
        let anchored = |agreement| BelievedTime { wall, monotonic_ms, believed, agreement };
        let leaves_an_unset_clock = believed < EARLIEST && wall >= EARLIEST;
        if gap_ms.abs() <= STEP_MS_MAX || leaves_an_unset_clock || mutant!("clock_step_taken") {
            BelievedTime::accepted(wall, monotonic_ms)
        } else if step_ms.abs() > STEP_MS_MAX {
            anchored(Agreement::Doubted)
        } else if self.agreement != Agreement::Doubted || elapsed_ms < LASTING_MS {
            self
        } else if gap_ms > 0 && gap_ms < retention_ms {
            BelievedTime::accepted(wall, monotonic_ms)
        } else if (-BEHIND_MS_MAX..0).contains(&gap_ms) {
            anchored(Agreement::Approaching)
        } else {
            self
        }
    }

    /// The believed time at a reading of the monotonic clock.
    pub fn now(self, monotonic_ms: i64) -> Time {
        let elapsed_ms = (monotonic_ms - self.monotonic_ms).max(0);
        let slowed = self.agreement == Agreement::Approaching;
        self.believed.plus_ms(if slowed { elapsed_ms / SLOW_PARTS } else { elapsed_ms })
    }

    /// Whether the wall clock is taken as it is.
    pub const fn agreement(self) -> Agreement {
        self.agreement
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::{HOUR_MS, SECOND_MS};

    const START: Time = Time(1_772_704_800_000);
    const RETENTION_MS: i64 = 31 * DAY_MS;

    /// Reads the clocks every second from `from_ms` to `to_ms`, with the wall clock `off_ms` beside the elapsed time.
    fn run(mut time: BelievedTime, from_ms: i64, to_ms: i64, off_ms: i64) -> BelievedTime {
        for at in (from_ms..=to_ms).step_by(SECOND_MS as usize) {
            time = time.observe(START.plus_ms(at + off_ms), at, RETENTION_MS);
        }
        time
    }

    #[test]
    fn a_step_that_is_undone_changes_nothing() {
        for off_ms in [40 * DAY_MS, 25 * HOUR_MS, 8 * HOUR_MS, -HOUR_MS, -START.0] {
            let start = BelievedTime::at_start(START, 0, Some(START));
            let stepped = run(start, SECOND_MS, 70 * SECOND_MS, off_ms);
            assert_eq!(stepped.agreement(), Agreement::Doubted, "{off_ms}");
            assert_eq!(stepped.now(70 * SECOND_MS), START.plus_ms(70 * SECOND_MS), "{off_ms}");
            let back = run(stepped, 71 * SECOND_MS, 72 * SECOND_MS, 0);
            assert_eq!(
                (back.agreement(), back.now(72 * SECOND_MS)),
                (Agreement::Agreed, START.plus_ms(72 * SECOND_MS))
            );
        }
    }

    #[test]
    fn a_step_forward_is_believed_once_it_has_lasted() {
        let start = BelievedTime::at_start(START, 0, Some(START));
        let almost = run(start, SECOND_MS, LASTING_MS, HOUR_MS);
        assert_eq!(almost.agreement(), Agreement::Doubted);
        let lasted = run(almost, LASTING_MS + SECOND_MS, LASTING_MS + SECOND_MS, HOUR_MS);
        let at = LASTING_MS + SECOND_MS;
        assert_eq!((lasted.agreement(), lasted.now(at)), (Agreement::Agreed, START.plus_ms(at + HOUR_MS)));
    }

    #[test]
    fn another_step_begins_the_wait_again() {
        let start = BelievedTime::at_start(START, 0, Some(START));
        let first = run(start, SECOND_MS, LASTING_MS - SECOND_MS, HOUR_MS);
        let second = run(first, LASTING_MS, 2 * LASTING_MS - SECOND_MS, 2 * HOUR_MS);
        assert_eq!(second.agreement(), Agreement::Doubted);
        assert_eq!(second.now(2 * LASTING_MS), START.plus_ms(2 * LASTING_MS));
    }

    #[test]
    fn a_clock_set_back_is_approached_at_half_speed_and_time_never_stands_still() {
        let mut time = BelievedTime::at_start(START, 0, Some(START));
        let mut last = time.now(0);
        for at in (SECOND_MS..3 * HOUR_MS).step_by(SECOND_MS as usize) {
            time = time.observe(START.plus_ms(at - HOUR_MS), at, RETENTION_MS);
            let now = time.now(at);
            assert!(now.since(last) >= SECOND_MS / 2 || time.agreement() == Agreement::Agreed, "{at}: {now} {last}");
            last = now;
        }
        assert_eq!((time.agreement(), last), (Agreement::Agreed, START.plus_ms(3 * HOUR_MS - SECOND_MS - HOUR_MS)));
    }

    #[test]
    fn a_clock_that_is_days_behind_is_believed_only_when_accepted() {
        let start = BelievedTime::at_start(START, 0, Some(START));
        let behind = run(start, SECOND_MS, 3 * LASTING_MS, -2 * DAY_MS);
        assert_eq!(
            (behind.agreement(), behind.now(3 * LASTING_MS)),
            (Agreement::Doubted, START.plus_ms(3 * LASTING_MS))
        );
        let accepted = BelievedTime::accepted(START.minus_ms(2 * DAY_MS), 4 * LASTING_MS);
        assert_eq!(accepted.now(4 * LASTING_MS), START.minus_ms(2 * DAY_MS));
    }

    #[test]
    fn a_step_as_long_as_the_retention_is_believed_only_when_accepted() {
        let start = BelievedTime::at_start(START, 0, Some(START));
        let late = 3 * LASTING_MS;
        assert_eq!(run(start, SECOND_MS, late, RETENTION_MS - HOUR_MS).agreement(), Agreement::Agreed);
        let ahead = run(start, SECOND_MS, late, RETENTION_MS);
        assert_eq!((ahead.agreement(), ahead.now(late)), (Agreement::Doubted, START.plus_ms(late)));
    }

    #[test]
    fn a_clock_that_was_never_set_is_left_at_once() {
        let unset = BelievedTime::at_start(Time(5_000), 0, Some(Time(4_000)));
        assert_eq!(unset.observe(START, 1_000, RETENTION_MS).now(1_000), START);
        assert_eq!(BelievedTime::at_start(START, 0, Some(Time(4_000))).agreement(), Agreement::Agreed);
    }

    #[test]
    fn a_start_doubts_a_clock_before_the_last_time_or_long_after_it() {
        let at = |wall: Time, last_seen| BelievedTime::at_start(wall, 0, last_seen);
        assert_eq!(at(START, None).agreement(), Agreement::Agreed);
        assert_eq!(at(START.plus_ms(7 * DAY_MS), Some(START)).now(0), START.plus_ms(7 * DAY_MS));
        assert_eq!(at(START.plus_ms(40 * DAY_MS), Some(START)).now(0), START);
        assert_eq!(at(START.minus_ms(HOUR_MS), Some(START)).now(0), START);
        assert_eq!(at(START.minus_ms(SECOND_MS), Some(START)).agreement(), Agreement::Agreed);
    }

    #[test]
    fn small_steps_and_drift_are_followed_at_once() {
        let mut time = BelievedTime::at_start(START, 0, None);
        for (at, off_ms) in [(1_000, 500), (2_000, -900), (3_000, 59_000), (4_000, 0)] {
            time = time.observe(START.plus_ms(at + off_ms), at, RETENTION_MS);
            assert_eq!((time.agreement(), time.now(at)), (Agreement::Agreed, START.plus_ms(at + off_ms)));
        }
    }
}
