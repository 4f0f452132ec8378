//! Figures of a webhook: sums that survive retention, and the last day by the minute.

use serde::{Deserialize, Serialize};

use super::time::Time;

/// Sums over a webhook's deliveries and attempts, of one partition or of all time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sums {
    /// Deliveries made by publishing or replaying.
    #[serde(rename = "d", default)]
    pub deliveries: u64,
    /// Deliveries with at least one attempt: `total_events`.
    #[serde(rename = "b", default)]
    pub started: u64,
    #[serde(rename = "o", default)]
    pub delivered: u64,
    /// Deliveries that ended failed.
    #[serde(rename = "x", default)]
    pub failed: u64,
    #[serde(rename = "c", default)]
    pub cancelled: u64,
    #[serde(rename = "t", default)]
    pub attempts: u64,
    /// Failed attempts: `failed_deliveries`.
    #[serde(rename = "f", default)]
    pub attempts_failed: u64,
    /// Attempts with an HTTP response, and the sum of their milliseconds.
    #[serde(rename = "r", default)]
    pub responses: u64,
    #[serde(rename = "m", default)]
    pub response_ms: u64,
    #[serde(rename = "l", default)]
    pub last_attempt_at: Option<Time>,
    /// Response times by bucket: `(bucket, count)`, sorted, without empty buckets.
    #[serde(rename = "h", default)]
    pub histogram: Vec<(u8, u64)>,
}

impl Sums {
    /// Deliveries that are not final.
    pub fn open(&self) -> u64 {
        self.deliveries.saturating_sub(self.delivered + self.failed + self.cancelled)
    }

    pub fn add(&mut self, other: &Sums) {
        self.deliveries += other.deliveries;
        self.started += other.started;
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.attempts += other.attempts;
        self.attempts_failed += other.attempts_failed;
        self.responses += other.responses;
        self.response_ms += other.response_ms;
        self.last_attempt_at = self.last_attempt_at.max(other.last_attempt_at);
        for &(bucket, count) in &other.histogram {
            self.tally(bucket, count);
        }
    }

    /// Reverts `add`. Before a partition changes, its sums leave the totals.
    pub fn subtract(&mut self, other: &Sums) {
        self.deliveries = self.deliveries.saturating_sub(other.deliveries);
        self.started = self.started.saturating_sub(other.started);
        self.delivered = self.delivered.saturating_sub(other.delivered);
        self.failed = self.failed.saturating_sub(other.failed);
        self.cancelled = self.cancelled.saturating_sub(other.cancelled);
        self.attempts = self.attempts.saturating_sub(other.attempts);
        self.attempts_failed = self.attempts_failed.saturating_sub(other.attempts_failed);
        self.responses = self.responses.saturating_sub(other.responses);
        self.response_ms = self.response_ms.saturating_sub(other.response_ms);
        for &(bucket, count) in &other.histogram {
            if let Ok(at) = self.histogram.binary_search_by_key(&bucket, |&(b, _)| b) {
                self.histogram[at].1 = self.histogram[at].1.saturating_sub(count);
            }
        }
        self.histogram.retain(|&(_, count)| count > 0);
    }

    /// Counts `count` response times of a bucket.
    pub fn tally(&mut self, bucket: u8, count: u64) {
        match self.histogram.binary_search_by_key(&bucket, |&(b, _)| b) {
            Ok(at) => self.histogram[at].1 += count,
            Err(at) => self.histogram.insert(at, (bucket, count)),
        }
    }
}

/// Counts of a webhook within one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Minute {
    /// Deliveries first attempted.
    pub started: u32,
    pub attempts: u32,
    pub failures: u32,
}

impl Minute {
    pub fn add(&mut self, other: Minute) {
        self.started += other.started;
        self.attempts += other.attempts;
        self.failures += other.failures;
    }
}
