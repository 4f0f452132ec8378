//! The figures of one partition while it is written: sums, running state and hours of webhooks, apps and organizations.
//!
//! A batch is counted by webhook. At its end the counts are added to the rows of the webhook, its app and its
//! organization. So the number of rows that it writes does not follow the number of its deliveries.
//!
//! Invariant: a commit writes its counts together with the counted rows. A failed commit clears this cache.

use std::collections::{BTreeSet, HashMap, hash_map};
use std::hash::BuildHasherDefault;

use serde::{Deserialize, Serialize};

use crate::model::figures::{HourFigures, Sums};
use crate::model::id::{Id, IdHasher, IdMap};
use crate::model::webhook::WebhookState;
use crate::model::{Attempt, Delivery, DeliveryStatus, Time, Webhook};
use crate::rules::histogram;

use crate::kv::error::Result;
use crate::kv::tables::{self, Table};
use crate::kv::write_batch::WriteBatch;
use crate::store::event_type_counts::TypeCounts;
use crate::store::recent_figures::RecentHour;

/// The owner of figures: a webhook, or an app, an organization or a replay job under its own id.
pub type FiguresOwner = Id<Webhook>;

/// An app, an organization or a replay job as an owner of figures.
pub(in crate::store) fn owner_of<K>(id: Id<K>) -> FiguresOwner {
    FiguresOwner::from_u128(id.as_u128())
}

/// The owners above a webhook: its app and its organization.
pub(in crate::store) fn tenants_of(delivery: &Delivery) -> [FiguresOwner; 2] {
    [owner_of(delivery.app_id), owner_of(delivery.org_id)]
}

/// The hour that a moment is counted in. Hour 0 is the row of the sums, so the first hour of 1970, where a machine
/// without a clock starts, is counted in hour 1.
pub(in crate::store) fn hour_of(at: Time) -> u32 {
    at.hour().max(1)
}

/// The minute of its hour that a moment is counted in.
pub(in crate::store) fn minute_of(at: Time) -> u8 {
    (at.minute() % 60) as u8
}

/// The row of hour 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SumsRow {
    pub sums: Sums,
    pub state: WebhookState,
}

/// Rows held in memory. Above this number they are written and dropped.
const CACHED_ROWS_MAX: usize = 50_000;

/// The figures of one partition while it is written: stored rows, and the counts of the running batch.
#[derive(Debug, Default)]
pub struct FigureCache {
    sums: IdMap<Webhook, SumsRow>,
    hours: HashMap<(FiguresOwner, u32), HourFigures, BuildHasherDefault<IdHasher>>,
    /// Events by their types.
    pub types: TypeCounts,
    /// Counts of the running batch.
    pending: IdMap<Webhook, BatchCounts>,
    /// Whether apps and organizations have figures: from the first round of maintenance of a store of an earlier version on.
    pub(in crate::store) counts_tenants: bool,
}

/// Counts of one batch under one webhook or job.
#[derive(Debug, Default)]
struct BatchCounts {
    /// The app and the organization of a webhook. `None` if they have no figures, and for a job.
    tenants: Option<[FiguresOwner; 2]>,
    sums: Sums,
    /// The new state of the webhook. `None` if the batch did not change it.
    state: Option<WebhookState>,
    hours: Vec<(u32, HourFigures)>,
}

impl BatchCounts {
    fn owners(&self, own: FiguresOwner) -> impl Iterator<Item = FiguresOwner> + use<> {
        [Some(own), self.tenants.map(|t| t[0]), self.tenants.map(|t| t[1])].into_iter().flatten()
    }
}

impl FigureCache {
    /// Counts a new delivery.
    pub fn made(&mut self, write_batch: &WriteBatch, delivery: &Delivery) -> Result<()> {
        self.webhook(write_batch, delivery)?.sums.deliveries += 1;
        let at = delivery.created_at;
        self.hour(write_batch, delivery.webhook_id, at)?.minute(minute_of(at)).made += 1;
        if let Some(job) = delivery.job_id {
            self.job(write_batch, owner_of(job))?.sums.deliveries += 1;
        }
        Ok(())
    }

    /// Counts a delivery that ended at `at` with `status`.
    pub fn ended(
        &mut self,
        write_batch: &WriteBatch,
        delivery: &Delivery,
        status: DeliveryStatus,
        at: Time,
    ) -> Result<()> {
        end(&mut self.webhook(write_batch, delivery)?.sums, status);
        self.hour(write_batch, delivery.webhook_id, at)?.minute(minute_of(at)).end(status);
        if let Some(job) = delivery.job_id {
            end(&mut self.job(write_batch, owner_of(job))?.sums, status);
        }
        Ok(())
    }

    /// Counts an attempt. `is_first` says whether it is the first one of its delivery.
    pub fn attempted(
        &mut self,
        write_batch: &WriteBatch,
        delivery: &Delivery,
        attempt: &Attempt,
        is_first: bool,
    ) -> Result<()> {
        let made = &attempt.made;
        let sums = &mut self.webhook(write_batch, delivery)?.sums;
        sums.started += u64::from(is_first);
        sums.attempts += 1;
        sums.attempts_failed += u64::from(!made.success);
        sums.last_attempt_at = sums.last_attempt_at.max(Some(made.started_at));
        let response = made.response_time_ms.map(|ms| (histogram::bucket(ms), ms));
        if let Some((bucket, ms)) = response {
            sums.responses += 1;
            sums.response_ms += u64::from(ms);
            sums.tally(bucket, 1);
        }
        let hour = self.hour(write_batch, delivery.webhook_id, made.started_at)?;
        hour.attempt(made.outcome, response);
        let minute = hour.minute(minute_of(made.started_at));
        minute.started += u32::from(is_first);
        minute.attempts += 1;
        minute.failures += u32::from(!made.success);
        Ok(())
    }

    /// Sets the running state of the webhook of a delivery that is counted in this batch.
    pub fn set_state(&mut self, write_batch: &WriteBatch, delivery: &Delivery, state: WebhookState) -> Result<()> {
        self.webhook(write_batch, delivery)?.state = Some(state);
        Ok(())
    }

    /// The counts of a delivery's webhook in this batch.
    fn webhook(&mut self, write_batch: &WriteBatch, delivery: &Delivery) -> Result<&mut BatchCounts> {
        let tenants = self.counts_tenants.then(|| tenants_of(delivery));
        self.counts(write_batch, delivery.webhook_id, tenants)
    }

    fn job(&mut self, write_batch: &WriteBatch, job: FiguresOwner) -> Result<&mut BatchCounts> {
        self.counts(write_batch, job, None)
    }

    /// The counts of `own` in this batch. The stored sums are read with the first count, so that a damaged row is the
    /// error of the command that needs it.
    fn counts(
        &mut self,
        write_batch: &WriteBatch,
        own: FiguresOwner,
        tenants: Option<[FiguresOwner; 2]>,
    ) -> Result<&mut BatchCounts> {
        match self.pending.entry(own) {
            hash_map::Entry::Occupied(counts) => Ok(counts.into_mut()),
            hash_map::Entry::Vacant(place) => {
                let counts = BatchCounts { tenants, ..BatchCounts::default() };
                for owner in counts.owners(own) {
                    if let hash_map::Entry::Vacant(place) = self.sums.entry(owner) {
                        let row = write_batch.get(Table::Figures, &tables::figures(owner, 0))?;
                        place.insert(row.unwrap_or_default());
                    }
                }
                Ok(place.insert(counts))
            }
        }
    }

    /// The counts of a webhook in this batch, in the hour of `at`.
    fn hour(&mut self, write_batch: &WriteBatch, own: FiguresOwner, at: Time) -> Result<&mut HourFigures> {
        let hour = hour_of(at);
        let counts = self.pending.entry(own).or_default();
        let place = match counts.hours.iter().position(|(other, _)| *other == hour) {
            Some(place) => place,
            None => {
                for owner in counts.owners(own) {
                    if let hash_map::Entry::Vacant(place) = self.hours.entry((owner, hour)) {
                        let row = write_batch.get(Table::Figures, &tables::figures(owner, hour))?;
                        place.insert(row.unwrap_or_default());
                    }
                }
                counts.hours.push((hour, HourFigures::default()));
                counts.hours.len() - 1
            }
        };
        Ok(&mut counts.hours[place].1)
    }

    /// Puts the changed rows into the write batch. Returns the hours of webhooks that changed.
    pub fn flush(&mut self, write_batch: &mut WriteBatch) -> Vec<RecentHour> {
        let (mut changed_sums, mut changed_hours) = (BTreeSet::new(), BTreeSet::new());
        let mut recent = Vec::new();
        for (own, counts) in std::mem::take(&mut self.pending) {
            for owner in counts.owners(own) {
                let row = self.sums.entry(owner).or_default();
                row.sums.add(&counts.sums);
                if let Some(state) = counts.state.filter(|_| owner == own) {
                    row.state = state;
                }
                changed_sums.insert(owner);
                for (hour, figures) in &counts.hours {
                    self.hours.entry((owner, *hour)).or_default().add(figures);
                    changed_hours.insert((owner, *hour));
                }
            }
            for (hour, _) in &counts.hours {
                recent.push(RecentHour::new(own, *hour, &self.hours[&(own, *hour)]));
            }
        }
        for owner in changed_sums {
            write_batch.put(Table::Figures, tables::figures(owner, 0), &self.sums[&owner]);
        }
        for key in changed_hours {
            write_batch.put(Table::Figures, tables::figures(key.0, key.1), &self.hours[&key]);
        }
        self.types.flush(write_batch);
        if self.sums.len() + self.hours.len() > CACHED_ROWS_MAX {
            self.forget();
        }
        recent
    }

    /// Clears the cache. The next use reads the committed rows.
    pub fn forget(&mut self) {
        *self = FigureCache { counts_tenants: self.counts_tenants, ..FigureCache::default() };
    }
}

fn end(sums: &mut Sums, status: DeliveryStatus) {
    match status {
        DeliveryStatus::Delivered => sums.delivered += 1,
        DeliveryStatus::Failed => sums.failed += 1,
        DeliveryStatus::Cancelled => sums.cancelled += 1,
        DeliveryStatus::Pending | DeliveryStatus::Retrying => {}
    }
}
