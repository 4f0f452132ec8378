//! Counts of deliveries and attempts over a span of time, from the figures of its minutes and hours.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::AttemptOutcome;
use crate::model::figures::{HourFigures, Minute, Sums};
use crate::rules::{health, histogram};

/// Deliveries and attempts in a span of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct CountsView {
    /// Deliveries made by publishing or replaying.
    made: u64,
    /// Deliveries that ended: `delivered`, `failed` and `cancelled` together.
    ended: u64,
    delivered: u64,
    failed: u64,
    cancelled: u64,
    attempts: u64,
    /// Failed attempts.
    failures: u64,
}

impl CountsView {
    pub fn of_sums(sums: &Sums) -> CountsView {
        CountsView {
            made: sums.deliveries,
            ended: sums.delivered + sums.failed + sums.cancelled,
            delivered: sums.delivered,
            failed: sums.failed,
            cancelled: sums.cancelled,
            attempts: sums.attempts,
            failures: sums.attempts_failed,
        }
    }

    /// Succeeded and failed attempts.
    pub const fn attempts(&self) -> (u64, u64) {
        (self.attempts.saturating_sub(self.failures), self.failures)
    }

    /// Deliveries that were made and did not end within the span. Negative if more ended.
    pub const fn growth(&self) -> i64 {
        self.made as i64 - self.ended as i64
    }

    fn add(&mut self, minute: &Minute) {
        self.made += u64::from(minute.made);
        self.ended += u64::from(minute.ended());
        self.delivered += u64::from(minute.delivered);
        self.failed += u64::from(minute.failed);
        self.cancelled += u64::from(minute.cancelled);
        self.attempts += u64::from(minute.attempts);
        self.failures += u64::from(minute.failures);
    }
}

/// Figures of a span: its minutes, and the outcomes and response times of its hours.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpanCounts {
    pub counts: CountsView,
    /// Deliveries first attempted.
    pub started: u64,
    outcomes: BTreeMap<u8, u64>,
    /// Only the response times are in use.
    responses: Sums,
}

impl SpanCounts {
    pub fn add_minute(&mut self, minute: &Minute) {
        self.counts.add(minute);
        self.started += u64::from(minute.started);
    }

    /// Adds the outcomes and the response times of an hour.
    pub fn add_hour(&mut self, hour: &HourFigures) {
        for (code, count) in &hour.outcomes {
            *self.outcomes.entry(*code).or_default() += u64::from(*count);
        }
        for (bucket, count) in &hour.histogram {
            self.responses.tally(*bucket, u64::from(*count));
            self.responses.responses += u64::from(*count);
        }
        self.responses.response_ms += hour.response_ms;
    }

    /// Deliveries that ended `delivered`.
    pub const fn delivered(&self) -> u64 {
        self.counts.delivered
    }

    /// Failed attempts.
    pub const fn failures(&self) -> u64 {
        self.counts.failures
    }

    /// The attempts by outcome, without outcomes that none has.
    pub fn by_outcome(&self) -> BTreeMap<&'static str, u64> {
        let word = |code: &u8| AttemptOutcome::of_code(*code).map(AttemptOutcome::as_str);
        self.outcomes.iter().filter_map(|(code, count)| Some((word(code)?, *count))).collect()
    }

    /// Percent of the attempts that succeeded.
    pub fn success_rate(&self) -> Option<f64> {
        let (attempts, failures) = (self.counts.attempts, self.counts.failures);
        health::success_rate(attempts.saturating_sub(failures), failures)
    }

    pub fn responses(&self) -> ResponseTimesView {
        ResponseTimesView::of_sums(&self.responses)
    }
}

/// Response times over all attempts with a response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct ResponseTimesView {
    /// In milliseconds.
    average_response_time_ms: Option<u32>,
    /// In milliseconds.
    p50_response_time_ms: Option<u32>,
    /// In milliseconds.
    p95_response_time_ms: Option<u32>,
    /// In milliseconds.
    p99_response_time_ms: Option<u32>,
}

impl ResponseTimesView {
    /// At 50 and 95 percent.
    pub const fn percentiles_ms(&self) -> [Option<u32>; 2] {
        [self.p50_response_time_ms, self.p95_response_time_ms]
    }

    pub fn of_sums(sums: &Sums) -> ResponseTimesView {
        ResponseTimesView {
            average_response_time_ms: health::average(sums.response_ms, sums.responses),
            p50_response_time_ms: histogram::percentile(&sums.histogram, 50),
            p95_response_time_ms: histogram::percentile(&sums.histogram, 95),
            p99_response_time_ms: histogram::percentile(&sums.histogram, 99),
        }
    }
}
