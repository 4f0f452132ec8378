//! The quotas of tenants: their limits, and the check of requests.

use crate::model::Time;
use crate::model::time::DAY_MS;

/// The limits of the settings. 0: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuotaLimits {
    pub events_per_second: u64,
    pub bytes_per_day: u64,
    pub webhooks_per_app: u64,
    pub webhooks_per_organization: u64,
    pub waiting_deliveries: u64,
}

/// A quota of an app or an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    EventsPerSecond,
    BytesPerDay,
    WebhooksPerApp,
    WebhooksPerOrganization,
    WaitingDeliveries,
}

impl Quota {
    pub const ALL: [Quota; 5] = [
        Quota::EventsPerSecond,
        Quota::BytesPerDay,
        Quota::WebhooksPerApp,
        Quota::WebhooksPerOrganization,
        Quota::WaitingDeliveries,
    ];

    /// Stable, for machines: the name of the setting in the section `quotas`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Quota::EventsPerSecond => "events_per_second",
            Quota::BytesPerDay => "bytes_per_day",
            Quota::WebhooksPerApp => "webhooks_per_app",
            Quota::WebhooksPerOrganization => "webhooks_per_organization",
            Quota::WaitingDeliveries => "waiting_deliveries",
        }
    }

    pub const fn limit(self, limits: &QuotaLimits) -> u64 {
        match self {
            Quota::EventsPerSecond => limits.events_per_second,
            Quota::BytesPerDay => limits.bytes_per_day,
            Quota::WebhooksPerApp => limits.webhooks_per_app,
            Quota::WebhooksPerOrganization => limits.webhooks_per_organization,
            Quota::WaitingDeliveries => limits.waiting_deliveries,
        }
    }
}

/// A quota that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaExceeded {
    pub quota: Quota,
    pub limit: u64,
    /// Time from which the same request fits. `None` if that depends on others: webhooks are removed, or deliveries end.
    pub until: Option<Time>,
}

/// The events that an app has published.
#[derive(Debug, Clone, Copy)]
pub struct PublishedVolume {
    /// Events that may still be published at once. Below 0 after a batch that was larger than the limit.
    left: f64,
    at: Time,
    /// The day of `bytes`, in days after 1970.
    day: i64,
    bytes: u64,
}

impl PublishedVolume {
    /// An app that has published nothing.
    pub fn new(limits: &QuotaLimits, now: Time) -> PublishedVolume {
        PublishedVolume { left: limits.events_per_second as f64, at: now, day: now.0.div_euclid(DAY_MS), bytes: 0 }
    }

    /// Brings the volume to `now`: a second refills the events, and a day in UTC begins with no bytes.
    pub fn refill(&mut self, limits: &QuotaLimits, now: Time) {
        let most = limits.events_per_second as f64;
        let passed_s = now.since(self.at).max(0) as f64 / 1_000.0;
        self.left = (self.left + passed_s * most).min(most);
        self.at = now;
        let day = now.0.div_euclid(DAY_MS);
        if day != self.day {
            (self.day, self.bytes) = (day, 0);
        }
    }

    /// Checks a publish of so many events and bytes. A batch that is larger than a second's events is admitted with a
    /// full second, and uses up the following ones.
    pub fn check(&self, limits: &QuotaLimits, events: u64, bytes: u64) -> Result<(), QuotaExceeded> {
        let per_s = limits.events_per_second;
        let needed = events.min(per_s) as f64;
        if per_s > 0 && self.left < needed {
            let wait_ms = ((needed - self.left) / per_s as f64 * 1_000.0).ceil() as i64;
            let until = Some(self.at.plus_ms(wait_ms));
            return Err(QuotaExceeded { quota: Quota::EventsPerSecond, limit: per_s, until });
        }
        let limit = limits.bytes_per_day;
        if limit > 0 && self.bytes + bytes > limit {
            let until = Some(Time((self.day + 1) * DAY_MS));
            return Err(QuotaExceeded { quota: Quota::BytesPerDay, limit, until });
        }
        Ok(())
    }

    /// Counts a publish that was admitted.
    pub fn add(&mut self, events: u64, bytes: u64) {
        self.left -= events as f64;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Reverts the count of events that were not stored.
    pub fn give_back(&mut self, events: u64, bytes: u64) {
        self.left += events as f64;
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Events of the last second, as far as they are not refilled, and bytes of the day.
    pub fn used(&self, limits: &QuotaLimits) -> (u64, u64) {
        ((limits.events_per_second as f64 - self.left).max(0.0).ceil() as u64, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_events_and_a_day_its_bytes() {
        let limits = QuotaLimits { events_per_second: 10, bytes_per_day: 1_000, ..QuotaLimits::default() };
        let now = Time(5 * DAY_MS - 10_000);
        let mut volume = PublishedVolume::new(&limits, now);
        assert_eq!(volume.check(&limits, 10, 600), Ok(()));
        volume.add(10, 600);
        assert_eq!(volume.used(&limits), (10, 600));
        let exceeded = volume.check(&limits, 5, 1).unwrap_err();
        assert_eq!((exceeded.quota, exceeded.until), (Quota::EventsPerSecond, Some(now.plus_ms(500))));
        volume.refill(&limits, now.plus_ms(500));
        assert_eq!(volume.check(&limits, 5, 400), Ok(()));
        let exceeded = volume.check(&limits, 5, 401).unwrap_err();
        assert_eq!((exceeded.quota, exceeded.until), (Quota::BytesPerDay, Some(Time(5 * DAY_MS))));
        volume.refill(&limits, Time(5 * DAY_MS));
        assert_eq!(volume.check(&limits, 10, 1_000), Ok(()));
    }

    #[test]
    fn a_large_batch_waits_for_a_full_second_and_uses_up_the_next() {
        let limits = QuotaLimits { events_per_second: 10, ..QuotaLimits::default() };
        let mut volume = PublishedVolume::new(&limits, Time(0));
        assert_eq!(volume.check(&limits, 30, 0), Ok(()));
        volume.add(30, 0);
        volume.refill(&limits, Time(1_000));
        let until = volume.check(&limits, 1, 0).unwrap_err().until;
        assert_eq!(until, Some(Time(2_100)), "twenty events late, and one more");
        volume.refill(&limits, Time(2_100));
        assert_eq!(volume.check(&limits, 1, 0), Ok(()));
    }

    #[test]
    fn without_limits_everything_fits() {
        let limits = QuotaLimits::default();
        let volume = PublishedVolume::new(&limits, Time(0));
        assert_eq!(volume.check(&limits, u64::MAX, u64::MAX), Ok(()));
    }
}
