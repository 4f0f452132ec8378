//! Attempts and response times of the last day in memory, by webhook and hour. Webhooks are ranked and listed without
//! reading their hours.
//!
//! Invariant: an entry has the counts of the newest committed row of its partition, webhook and hour. The first use reads
//! the committed rows of the day, and every commit replaces the entries of the rows that it changed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::model::figures::{HourFigures, Sums};
use crate::model::id::{IdMap, WebhookId};
use crate::model::{Time, Webhook};

/// Number of hours that are stored: a day, and the running hour.
pub const RECENT_HOURS: u32 = 25;

/// The attempts of a webhook in one hour, as one partition counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentHour {
    pub webhook: WebhookId,
    pub hour: u32,
    pub attempts: u32,
    pub failures: u32,
    /// Response times by bucket.
    pub histogram: Box<[(u8, u32)]>,
}

impl RecentHour {
    pub fn new(webhook: WebhookId, hour: u32, figures: &HourFigures) -> RecentHour {
        let total = figures.total();
        let histogram = figures.histogram.as_slice().into();
        RecentHour { webhook, hour, attempts: total.attempts, failures: total.failures, histogram }
    }
}

/// Clock hours of a day.
const DAY_HOURS: usize = RECENT_HOURS as usize - 1;

/// Attempts of a webhook in a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecentAttempts {
    pub attempts: u64,
    pub failures: u64,
}

/// The entries of all webhooks.
#[derive(Debug, Default)]
pub struct RecentFigures {
    entries: RwLock<IdMap<Webhook, Vec<(u128, RecentHour)>>>,
    is_loaded: AtomicBool,
}

impl RecentFigures {
    /// Whether the committed rows of the day have been read.
    pub fn is_loaded(&self) -> bool {
        self.is_loaded.load(Ordering::Acquire)
    }

    pub fn set_loaded(&self) {
        self.is_loaded.store(true, Ordering::Release);
    }

    /// Replaces the entries of rows that a commit to the partition `first` changed.
    pub fn replace(&self, first: u128, changed: Vec<RecentHour>, now: Time) {
        if changed.is_empty() {
            return;
        }
        let oldest = now.hour().saturating_sub(RECENT_HOURS - 1);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        for hour in changed.into_iter().filter(|changed| changed.hour >= oldest) {
            let of_webhook = entries.entry(hour.webhook).or_default();
            match of_webhook.iter_mut().find(|(other, known)| *other == first && known.hour == hour.hour) {
                Some((_, known)) => *known = hour,
                None => {
                    of_webhook.retain(|(_, known)| known.hour >= oldest);
                    of_webhook.push((first, hour));
                }
            }
        }
    }

    /// Adds an entry that was read from a partition. A newer one of a commit stays.
    pub fn add_read(&self, first: u128, read: RecentHour) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let of_webhook = entries.entry(read.webhook).or_default();
        if !of_webhook.iter().any(|(other, known)| *other == first && known.hour == read.hour) {
            of_webhook.push((first, read));
        }
    }

    /// Drops all entries. The next use reads the rows again.
    pub fn forget(&self) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        self.is_loaded.store(false, Ordering::Release);
        entries.clear();
    }

    pub fn forget_partition(&self, first: u128) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.values_mut().for_each(|of_webhook| of_webhook.retain(|(other, _)| *other != first));
    }

    pub fn forget_webhook(&self, webhook: WebhookId) {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).remove(&webhook);
    }

    /// The attempts of a webhook in the last 24 clock hours, the running one included.
    pub fn of(&self, webhook: WebhookId, now: Time) -> RecentAttempts {
        self.hours_of(webhook, now).into_iter().fold(RecentAttempts::default(), |mut sum, hour| {
            sum.attempts += hour.attempts;
            sum.failures += hour.failures;
            sum
        })
    }

    /// The attempts of a webhook in each of the last 24 clock hours, oldest first.
    pub fn hours_of(&self, webhook: WebhookId, now: Time) -> [RecentAttempts; DAY_HOURS] {
        let oldest = now.hour().saturating_sub(RECENT_HOURS - 2);
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut hours = [RecentAttempts::default(); DAY_HOURS];
        for (_, entry) in entries.get(&webhook).into_iter().flatten() {
            let index = entry.hour.checked_sub(oldest).map(|index| index as usize);
            if let Some(hour) = index.and_then(|index| hours.get_mut(index)) {
                hour.attempts += u64::from(entry.attempts);
                hour.failures += u64::from(entry.failures);
            }
        }
        hours
    }

    /// Response times of a webhook in the last 24 clock hours. Only the histogram of the result is filled.
    pub fn responses_of(&self, webhook: WebhookId, now: Time) -> Sums {
        let hours = now.hour().saturating_sub(RECENT_HOURS - 2)..=now.hour();
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut sums = Sums::default();
        for (_, entry) in entries.get(&webhook).into_iter().flatten().filter(|(_, entry)| hours.contains(&entry.hour)) {
            entry.histogram.iter().for_each(|(bucket, count)| sums.tally(*bucket, u64::from(*count)));
        }
        sums
    }
}
