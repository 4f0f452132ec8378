//! Keeps the durations of the latest commits, for their percentiles.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

/// Number of commits that the percentiles are of.
const COMMITS: usize = 1_024;

/// A ring of durations in microseconds. The writer thread alone writes.
#[derive(Debug)]
pub(in crate::engine) struct RecentCommits {
    took_us: Vec<AtomicU32>,
    /// Number of commits so far.
    count: AtomicUsize,
}

impl Default for RecentCommits {
    fn default() -> Self {
        RecentCommits { took_us: (0..COMMITS).map(|_| AtomicU32::new(0)).collect(), count: AtomicUsize::new(0) }
    }
}

impl RecentCommits {
    pub fn record(&self, took: Duration) {
        let at = self.count.load(Ordering::Relaxed);
        let took_us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.took_us[at % COMMITS].store(took_us, Ordering::Relaxed);
        self.count.store(at + 1, Ordering::Release);
    }

    /// The 50th and 99th percentile by nearest rank, in microseconds. `None` before the first commit.
    pub fn percentiles(&self) -> (Option<u32>, Option<u32>) {
        let count = self.count.load(Ordering::Acquire).min(COMMITS);
        let mut took: Vec<u32> = self.took_us[..count].iter().map(|us| us.load(Ordering::Relaxed)).collect();
        took.sort_unstable();
        let rank = |percent: usize| (percent * count).div_ceil(100).max(1) - 1;
        (took.get(rank(50)).copied(), took.get(rank(99)).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentiles_are_of_the_latest_commits() {
        let commits = RecentCommits::default();
        assert_eq!(commits.percentiles(), (None, None));
        commits.record(Duration::from_micros(7));
        assert_eq!(commits.percentiles(), (Some(7), Some(7)));
        for us in 1..=COMMITS as u64 {
            commits.record(Duration::from_micros(us));
        }
        assert_eq!(commits.percentiles(), (Some(512), Some(1_014)));
        for _ in 0..COMMITS {
            commits.record(Duration::from_secs(1));
        }
        assert_eq!(commits.percentiles(), (Some(1_000_000), Some(1_000_000)), "older ones are gone");
    }
}
