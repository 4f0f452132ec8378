//! Recounts the figures of a partition from its deliveries and attempts.

use std::collections::{BTreeMap, HashMap};

use crate::model::figures::{Minute, Sums};
use crate::model::id::WebhookId;
use crate::model::{Attempt, Delivery, DeliveryStatus};
use crate::rules::histogram;
use crate::store::figures::{HourRow, Owner, hour_of};

/// Sums by webhook and by job.
#[derive(Debug, Default)]
pub(in crate::store) struct Recount {
    pub sums: HashMap<Owner, Sums>,
    /// Attempts that the deliveries count.
    pub attempts: u64,
}

impl Recount {
    pub fn delivery(&mut self, delivery: &Delivery) {
        self.attempts += u64::from(delivery.attempts);
        let job = delivery.job_id.map(|job| Owner::from_u128(job.as_u128()));
        for owner in [Some(delivery.webhook_id), job].into_iter().flatten() {
            let sums = self.sums.entry(owner).or_default();
            sums.deliveries += 1;
            match delivery.status {
                DeliveryStatus::Delivered => sums.delivered += 1,
                DeliveryStatus::Failed => sums.failed += 1,
                DeliveryStatus::Cancelled => sums.cancelled += 1,
                DeliveryStatus::Pending | DeliveryStatus::Retrying => {}
            }
        }
        self.sums.entry(delivery.webhook_id).or_default().started += u64::from(delivery.attempts > 0);
    }

    pub fn attempt(&mut self, attempt: &Attempt) {
        let sums = self.sums.entry(attempt.webhook_id).or_default();
        sums.attempts += 1;
        sums.attempts_failed += u64::from(!attempt.made.success);
        sums.last_attempt_at = sums.last_attempt_at.max(Some(attempt.made.started_at));
        if let Some(ms) = attempt.made.response_time_ms {
            sums.responses += 1;
            sums.response_ms += u64::from(ms);
            sums.tally(histogram::bucket(ms), 1);
        }
    }
}

/// The hours of one webhook.
#[derive(Debug)]
pub(in crate::store) struct Hours {
    pub webhook: WebhookId,
    hours: BTreeMap<u32, BTreeMap<u8, Minute>>,
}

impl Hours {
    pub fn of(webhook: WebhookId) -> Hours {
        Hours { webhook, hours: BTreeMap::new() }
    }

    pub fn attempt(&mut self, attempt: &Attempt) {
        let at = attempt.made.started_at;
        let minutes = self.hours.entry(hour_of(at)).or_default();
        minutes.entry((at.minute() % 60) as u8).or_default().add(Minute {
            started: u32::from(attempt.made.number == 1),
            attempts: 1,
            failures: u32::from(!attempt.made.success),
        });
    }

    /// The expected row of every hour.
    pub fn rows(&self) -> impl Iterator<Item = (u32, HourRow)> {
        self.hours.iter().map(|(hour, minutes)| {
            let row = minutes.iter().map(|(minute, m)| (*minute, m.started, m.attempts, m.failures)).collect();
            (*hour, row)
        })
    }
}
