//! CPU saturation: whether deliveries lag because of this machine's processor and not because of receivers.
//!
//! A probe is a task that yields and measures the time until the runtime polls it again. A request yields about four
//! times, so a request that takes only a few probes is delayed by the processor.

use crate::model::Time;

/// Interval of the checks.
const LOOK_MS: i64 = 10;
/// Backlog above which the processor counts as saturated, and below which it recovers.
const BACKLOG_HIGH: usize = 2_048;
const BACKLOG_LOW: usize = 512;
/// A request is CPU-bound if it takes under this many probes: then at least a quarter of it is scheduling delay. While
/// saturated the factor doubles, because both times fluctuate.
const CPU_BOUND_PROBES: f32 = 16.0;
const CPU_BOUND_PROBES_HIGH: f32 = 32.0;
/// Weight of a new probe in the mean.
const PROBE_SHARE: f32 = 0.25;

/// The verdict on the saturation of the processor, and the figures that it is made of.
#[derive(Debug, Default)]
pub struct CpuSaturation {
    /// Mean of the latest probes, in microseconds.
    probe_us: f32,
    looked_at: Time,
    is_high: bool,
}

impl CpuSaturation {
    /// Whether a check is due.
    pub fn is_due(&mut self, now: Time) -> bool {
        let is_due = now.since(self.looked_at).abs() >= LOOK_MS;
        if is_due {
            self.looked_at = now;
        }
        is_due
    }

    /// Records the duration of a probe.
    pub fn record_probe(&mut self, took_us: u32) {
        self.probe_us += (took_us as f32 - self.probe_us) * PROBE_SHARE;
    }

    /// Requests that take less than this are CPU-bound, in microseconds.
    pub fn cpu_bound_us(&self) -> f32 {
        self.probe_us * if self.is_high { CPU_BOUND_PROBES_HIGH } else { CPU_BOUND_PROBES }
    }

    /// Updates the verdict by the number of deliveries that wait behind CPU-bound requests.
    pub fn update(&mut self, backlog: usize) -> bool {
        self.is_high = backlog >= if self.is_high { BACKLOG_LOW } else { BACKLOG_HIGH };
        self.is_high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_with_a_backlog_and_falls_when_that_is_nearly_gone() {
        let mut saturation = CpuSaturation::default();
        let backlogs = [BACKLOG_HIGH - 1, BACKLOG_HIGH, BACKLOG_LOW, BACKLOG_LOW - 1, BACKLOG_HIGH - 1];
        assert_eq!(backlogs.map(|backlog| saturation.update(backlog)), [false, true, true, false, false]);
    }

    #[test]
    fn probes_count_by_their_mean() {
        let mut saturation = CpuSaturation::default();
        assert_eq!(saturation.cpu_bound_us(), 0.0, "on a clock that stands nothing is delayed");
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
