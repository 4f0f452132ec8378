//! Recounts the figures of a partition from its deliveries and attempts.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::model::figures::{HourFigures, Minute, Sums};
use crate::model::id::WebhookId;
use crate::model::{Attempt, Delivery, DeliveryStatus};
use crate::rules::histogram;
use crate::store::figures::{FiguresOwner, hour_of, minute_of, owner_of, tenants_of};

/// Sums by webhook, job, app and organization.
#[derive(Debug, Default)]
pub(in crate::store) struct Recount {
    pub sums: HashMap<FiguresOwner, Sums>,
    /// The apps and organizations among the owners.
    pub tenants: HashSet<FiguresOwner>,
    /// The replay jobs among the owners. They have sums and no hours.
    pub jobs: HashSet<FiguresOwner>,
    /// Attempts that the deliveries count.
    pub attempts: u64,
}

impl Recount {
    pub fn delivery(&mut self, delivery: &Delivery) {
        self.attempts += u64::from(delivery.attempts);
        let [app, org] = tenants_of(delivery);
        self.tenants.extend([app, org]);
        self.jobs.extend(delivery.job_id.map(owner_of));
        for owner in [Some(delivery.webhook_id), Some(app), Some(org), delivery.job_id.map(owner_of)] {
            let Some(owner) = owner else { continue };
            let sums = self.sums.entry(owner).or_default();
            sums.deliveries += 1;
            match delivery.status {
                DeliveryStatus::Delivered => sums.delivered += 1,
                DeliveryStatus::Failed => sums.failed += 1,
                DeliveryStatus::Cancelled => sums.cancelled += 1,
                DeliveryStatus::Pending | DeliveryStatus::Retrying => {}
            }
        }
        for owner in [delivery.webhook_id, app, org] {
            self.sums.entry(owner).or_default().started += u64::from(delivery.attempts > 0);
        }
    }

    pub fn attempt(&mut self, attempt: &Attempt) {
        for owner in [attempt.webhook_id, owner_of(attempt.app_id), owner_of(attempt.org_id)] {
            let sums = self.sums.entry(owner).or_default();
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
}

/// The attempts of one webhook by the hour.
#[derive(Debug)]
pub(in crate::store) struct Hours {
    pub webhook: WebhookId,
    hours: BTreeMap<u32, HourFigures>,
}

impl Hours {
    pub fn of(webhook: WebhookId) -> Hours {
        Hours { webhook, hours: BTreeMap::new() }
    }

    pub fn attempt(&mut self, attempt: &Attempt) {
        let made = &attempt.made;
        let hour = self.hours.entry(hour_of(made.started_at)).or_default();
        hour.attempt(made.outcome, made.response_time_ms.map(|ms| (histogram::bucket(ms), ms)));
        hour.minute(minute_of(made.started_at)).add(Minute {
            started: u32::from(made.number == 1),
            attempts: 1,
            failures: u32::from(!made.success),
            ..Minute::default()
        });
    }

    /// The expected attempts of every hour.
    pub fn rows(&self) -> impl Iterator<Item = (u32, &HourFigures)> {
        self.hours.iter().map(|(hour, figures)| (*hour, figures))
    }
}

/// The part of an hour that attempts make. Hours of an earlier version have no outcomes and no histogram.
pub(in crate::store) fn attempts_of(hour: &HourFigures, is_old: bool) -> HourFigures {
    let minutes = hour.minutes.iter().filter(|(_, minute)| minute.attempts > 0).map(|(number, minute)| {
        let Minute { started, attempts, failures, .. } = *minute;
        (*number, Minute { started, attempts, failures, ..Minute::default() })
    });
    let rest = if is_old { HourFigures::default() } else { hour.clone() };
    HourFigures { minutes: minutes.collect(), ..rest }
}

/// Counts that the hours of an owner have in common with its sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::store) struct CommonCounts {
    pub attempts: i64,
    made: i64,
    delivered: i64,
    failed: i64,
    cancelled: i64,
    responses: i64,
}

impl CommonCounts {
    pub fn of_hour(hour: &HourFigures) -> CommonCounts {
        let total = hour.total();
        CommonCounts {
            attempts: total.attempts.into(),
            made: total.made.into(),
            delivered: total.delivered.into(),
            failed: total.failed.into(),
            cancelled: total.cancelled.into(),
            responses: hour.histogram.iter().map(|(_, count)| i64::from(*count)).sum(),
        }
    }

    pub fn of_sums(sums: &Sums) -> CommonCounts {
        CommonCounts {
            attempts: sums.attempts as i64,
            made: sums.deliveries as i64,
            delivered: sums.delivered as i64,
            failed: sums.failed as i64,
            cancelled: sums.cancelled as i64,
            responses: sums.responses as i64,
        }
    }

    /// The attempts alone, which hours of an earlier version count too.
    pub fn attempts_only(self) -> CommonCounts {
        CommonCounts { attempts: self.attempts, ..CommonCounts::default() }
    }

    /// Adds `times` times `other`.
    pub fn add(&mut self, other: CommonCounts, times: i64) {
        self.attempts += times * other.attempts;
        self.made += times * other.made;
        self.delivered += times * other.delivered;
        self.failed += times * other.failed;
        self.cancelled += times * other.cancelled;
        self.responses += times * other.responses;
    }
}
