//! Whether deliveries fall behind because this machine has no time for them, and not because receivers take theirs.
//!
//! A probe is a task that steps back and waits until the runtime comes to it again. An exchange waits for that about four times,
//! so where it takes only some times longer than a probe, it is the processor that holds it up.

use crate::model::Time;

/// How often it is looked at.
const LOOK_MS: i64 = 10;
/// Deliveries that wait behind the processor before it is too much, and below which it is well again.
const BACKLOG_HIGH: usize = 2_048;
const BACKLOG_LOW: usize = 512;
/// An exchange is held up by the processor if it takes less than so many times what a probe takes: then a quarter of it and more
/// is waiting. Once there is too much, twice as many: both times are measured in a crowd, and jump.
const CPU_BOUND_PROBES: f32 = 16.0;
const CPU_BOUND_PROBES_HIGH: f32 = 32.0;
/// How much of the mean a new probe is.
const PROBE_SHARE: f32 = 0.25;

#[derive(Debug, Default)]
pub struct CpuSaturation {
    /// Of the latest probes, in microseconds.
    probe_us: f32,
    looked_at: Time,
    is_high: bool,
}

impl CpuSaturation {
    /// Whether it is time to look again.
    pub fn is_due(&mut self, now: Time) -> bool {
        let is_due = now.since(self.looked_at).abs() >= LOOK_MS;
        if is_due {
            self.looked_at = now;
        }
        is_due
    }

    /// How long a probe took.
    pub fn record_probe(&mut self, took_us: u32) {
        self.probe_us += (took_us as f32 - self.probe_us) * PROBE_SHARE;
    }

    /// Exchanges that take less than this are held up by the processor, in microseconds.
    pub fn cpu_bound_us(&self) -> f32 {
        self.probe_us * if self.is_high { CPU_BOUND_PROBES_HIGH } else { CPU_BOUND_PROBES }
    }

    /// Whether so many that wait behind exchanges that are held up are too many.
    pub fn update(&mut self, backlog: usize) -> bool {
        self.is_high = backlog >= if self.is_high { BACKLOG_LOW } else { BACKLOG_HIGH };
        self.is_high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_with_a_crowd_and_falls_when_that_is_nearly_gone() {
        let mut saturation = CpuSaturation::default();
        let crowds = [BACKLOG_HIGH - 1, BACKLOG_HIGH, BACKLOG_LOW, BACKLOG_LOW - 1, BACKLOG_HIGH - 1];
        assert_eq!(crowds.map(|backlog| saturation.update(backlog)), [false, true, true, false, false]);
    }

    #[test]
    fn probes_count_by_their_mean() {
        let mut saturation = CpuSaturation::default();
        assert_eq!(saturation.cpu_bound_us(), 0.0, "on a clock that stands nothing is held up");
        (0..50).for_each(|_| saturation.record_probe(1_000));
        assert!((15_980.0..=16_000.0).contains(&saturation.cpu_bound_us()));
        saturation.record_probe(0);
        assert!((11_980.0..=12_000.0).contains(&saturation.cpu_bound_us()));
        saturation.update(BACKLOG_HIGH);
        assert!((23_960.0..=24_000.0).contains(&saturation.cpu_bound_us()));
    }

    #[test]
    fn it_is_looked_at_now_and_then_also_when_the_clock_is_set_back() {
        let mut saturation = CpuSaturation::default();
        let due: Vec<bool> = [5_000, 5_009, 5_010, 4_000].map(|at| saturation.is_due(Time(at))).into();
        assert_eq!(due, [true, false, true, true]);
    }
}
