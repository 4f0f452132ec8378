//! Whether the disk has room for new events: not while less than the floor is free, nor after a write has found no space,
//! until a second has passed and no checkpoint waits for space any more.

use crate::model::Time;
use crate::model::time::SECOND_MS;

/// How often it is looked for, and how long publishing is refused at least when a write has found none.
const LOOK_EVERY_MS: i64 = SECOND_MS;

/// What the writer knows of the space on its disk. By default there is enough.
#[derive(Debug, Default)]
pub struct DiskSpace {
    is_below_floor: bool,
    /// A write has found none, and it is not known yet that there is some again.
    is_missing: bool,
    /// A write has found none since the last look.
    ran_out: bool,
    looked_at: Option<Time>,
}

impl DiskSpace {
    /// Notes that a write has found no space. It counts from the next look.
    pub fn ran_out(&mut self) {
        self.ran_out = true;
    }

    /// Looks, if it is time. `is_waiting`: whether there is a checkpoint to be run.
    pub fn look(&mut self, now: Time, is_below_floor: impl FnOnce() -> bool, is_waiting: impl FnOnce() -> bool) {
        let ran_out = std::mem::take(&mut self.ran_out);
        // A clock that went back does not stop it.
        if !ran_out && self.looked_at.is_some_and(|at| (0..LOOK_EVERY_MS).contains(&now.since(at))) {
            return;
        }
        self.looked_at = Some(now);
        self.is_below_floor = is_below_floor();
        self.is_missing = ran_out || self.is_missing && is_waiting();
    }

    /// Whether nothing new is taken.
    pub fn is_full(&self) -> bool {
        self.is_below_floor || self.is_missing
    }

    /// Whether that is because a write has found no space, whatever the floor.
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
    fn the_floor_is_looked_at_once_a_second() {
        let mut space = DiskSpace::default();
        for (ms, is_below, is_full) in [
            (0, false, false),
            (LOOK_EVERY_MS - 1, true, false),
            (LOOK_EVERY_MS, true, true),
            (LOOK_EVERY_MS + 1, false, true),
            (2 * LOOK_EVERY_MS, false, false),
            // The clock goes back.
            (-5_000, true, true),
        ] {
            space.look(at(ms), || is_below, || true);
            assert_eq!(space.is_full(), is_full, "at {ms} ms");
        }
    }

    #[test]
    fn a_write_without_space_stops_publishing_until_nothing_waits_for_it() {
        let mut space = DiskSpace::default();
        space.look(at(0), || false, || false);
        space.ran_out();
        assert!(!space.is_full(), "what was judged by the last look stays as it was");
        for (ms, is_waiting, is_full) in
            [(10, false, true), (10 + LOOK_EVERY_MS - 1, false, true), (3_000, true, true), (4_000, false, false)]
        {
            space.look(at(ms), || false, || is_waiting);
            assert_eq!((space.is_full(), space.is_missing()), (is_full, is_full), "at {ms} ms");
        }
    }
}
