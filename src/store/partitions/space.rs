//! Disk space: whether publishing is refused because the disk is full.
//!
//! Publishing is refused while free space is under `min_free_bytes`, and after ENOSPC until a second has passed and no
//! checkpoint is pending.

use crate::model::Time;
use crate::model::time::SECOND_MS;

/// Interval of the checks, and minimum time of refusal after ENOSPC.
const CHECK_EVERY_MS: i64 = SECOND_MS;

/// The writer's knowledge of the space on its disk. The default is enough space.
#[derive(Debug, Default)]
pub struct DiskSpace {
    is_below_floor: bool,
    /// Whether a write met ENOSPC and no later check found space.
    is_missing: bool,
    /// Whether a write met ENOSPC since the last check.
    ran_out: bool,
    checked_at: Option<Time>,
}

impl DiskSpace {
    /// Records ENOSPC. It counts from the next check.
    pub fn ran_out(&mut self) {
        self.ran_out = true;
    }

    /// Checks the space if a check is due. `is_waiting` says whether a checkpoint is pending.
    pub fn check(&mut self, now: Time, is_below_floor: impl FnOnce() -> bool, is_waiting: impl FnOnce() -> bool) {
        let ran_out = std::mem::take(&mut self.ran_out);
        // A clock that steps back does not stop the checks.
        if !ran_out && self.checked_at.is_some_and(|at| (0..CHECK_EVERY_MS).contains(&now.since(at))) {
            return;
        }
        self.checked_at = Some(now);
        self.is_below_floor = is_below_floor();
        self.is_missing = ran_out || self.is_missing && is_waiting();
    }

    /// Whether publishing is refused.
    pub fn is_full(&self) -> bool {
        self.is_below_floor || self.is_missing
    }

    /// Whether a write met ENOSPC, and no check that found space followed.
    pub fn has_run_out(&self) -> bool {
        self.is_missing || self.ran_out
    }

    /// Whether publishing is refused because a write met ENOSPC.
    pub fn is_missing(&self) -> bool {
        self.is_missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Time {
        Time(1_000_000 + ms)
    }

    #[test]
    fn the_floor_is_checked_at_once_a_second() {
        let mut space = DiskSpace::default();
        for (ms, is_below, is_full) in [
            (0, false, false),
            (CHECK_EVERY_MS - 1, true, false),
            (CHECK_EVERY_MS, true, true),
            (CHECK_EVERY_MS + 1, false, true),
            (2 * CHECK_EVERY_MS, false, false),
            // The clock steps back.
            (-5_000, true, true),
        ] {
            space.check(at(ms), || is_below, || true);
            assert_eq!(space.is_full(), is_full, "at {ms} ms");
        }
    }

    #[test]
    fn a_write_without_space_stops_publishing_until_nothing_waits_for_it() {
        let mut space = DiskSpace::default();
        space.check(at(0), || false, || false);
        space.ran_out();
        assert!(!space.is_full(), "the free space of the last check still counts");
        assert!(space.has_run_out());
        for (ms, is_waiting, is_full) in
            [(10, false, true), (10 + CHECK_EVERY_MS - 1, false, true), (3_000, true, true), (4_000, false, false)]
        {
            space.check(at(ms), || false, || is_waiting);
            assert_eq!((space.is_full(), space.is_missing()), (is_full, is_full), "at {ms} ms");
        }
    }
}
