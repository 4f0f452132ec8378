//! The shortages of this machine that kept requests from being made, for the log, `/readyz` and `/metrics`.
//!
//! Invariant: a shortage makes no attempt, so it never counts against a receiver.

use std::sync::{Mutex, PoisonError};

use crate::engine::log_backoff::LogBackoff;
use crate::engine::sender::Shortage;
use crate::model::Time;

/// Time without a shortage after which it counts as over.
const OVER_MS: i64 = 30_000;

/// The latest shortage.
#[derive(Debug, Default)]
pub struct Shortages {
    latest: Mutex<LatestShortage>,
}

#[derive(Debug, Default)]
struct LatestShortage {
    seen: Option<(Shortage, Time)>,
    backoff: LogBackoff,
}

impl Shortages {
    /// Records a request that could not be made, and logs it with back-off.
    pub fn record(&self, shortage: Shortage, now: Time) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.seen.is_none_or(|(seen, at)| seen != shortage || now.since(at) >= OVER_MS) {
            latest.backoff.reset();
        }
        latest.seen = Some((shortage, now));
        if let Some(count) = latest.backoff.record() {
            let why = shortage.words();
            tracing::warn!(count, shortage = shortage.as_str(), "deliveries wait, because {why}");
        }
    }

    /// The shortage that requests met lately. `None` if it is over.
    pub fn current(&self, now: Time) -> Option<Shortage> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.seen.filter(|(_, at)| now.since(*at) < OVER_MS).map(|(shortage, _)| shortage)
    }
}
