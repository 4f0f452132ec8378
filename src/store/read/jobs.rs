//! Reads replay jobs, their progress and the size of a dry run.
//!
//! Invariant: the commit that writes a job's delivery also updates the figures that its progress is read from.

use std::collections::HashSet;

use crate::model::id::{EventId, WebhookId};
use crate::model::{Delivery, Event, Time};

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::tables::Table;
use crate::model::job::{Job, JobId, JobSpec, JobStatus};
use crate::store::command::TenantScope;
use crate::store::figures::Owner;
use crate::store::read::lists::Store;
use crate::store::read::lookup::{data_in, decoded, deliveries_in, job_anywhere};
use crate::store::read::newest_first::NewestFirst;
use crate::store::read::query::{ListWindow, Page};
use crate::store::read::replay_scope::{self, job_within};

impl Store {
    pub fn job(&self, tenant: TenantScope, id: JobId) -> Result<Option<Job>> {
        let job = job_anywhere(&self.partition_set, id)?.filter(|job| job_within(&self.registry(), tenant, job));
        job.map(|job| self.with_progress(job)).transpose()
    }

    pub fn jobs(&self, tenant: TenantScope, window: ListWindow) -> Result<Page<Job>> {
        let registry = self.registry();
        let page = self.state_page(Table::Jobs, window, |job: &Job| job_within(&registry, tenant, job))?;
        let rows = page.rows.into_iter().map(|job| self.with_progress(job)).collect::<Result<_>>()?;
        Ok(Page { rows, next: page.next })
    }

    /// Jobs that are still running.
    pub fn running_jobs(&self) -> Result<Vec<Job>> {
        let jobs = self.saved_running_jobs()?;
        jobs.into_iter().map(|job| self.with_progress(job)).collect()
    }

    /// A function of its own, so that its snapshot is dropped before the sums are read. Reopening the file waits for the
    /// snapshot, and reading the sums waits for the reopening: holding both would deadlock.
    fn saved_running_jobs(&self) -> Result<Vec<Job>> {
        let snapshot = self.partition_set.state()?.snapshot()?;
        let mut jobs = Vec::new();
        snapshot.scan(
            Table::Jobs,
            (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded),
            Direction::Up,
            |key, value| {
                let job = codec::decode::<Job>(value).ok_or_else(|| snapshot.damaged(Table::Jobs, key))?;
                if job.status == JobStatus::Running {
                    jobs.push(job);
                }
                Ok(ScanStep::Go)
            },
        )?;
        Ok(jobs)
    }

    fn with_progress(&self, mut job: Job) -> Result<Job> {
        let sums = self.partition_set.lifetime(Owner::from_u128(job.id.as_u128()))?;
        job.created = job.created.max(sums.deliveries);
        job.delivered = sums.delivered;
        job.failed = sums.failed + sums.cancelled;
        Ok(job)
    }

    /// Number of deliveries that a job with `spec` would create (`dry_run`).
    pub fn matching(&self, tenant: TenantScope, spec: &JobSpec, now: Time) -> Result<u64> {
        if let Some(webhook) = replay_scope::replayed_webhook(spec) {
            return self.matching_deliveries(tenant, spec, webhook, now);
        }
        let registry = self.registry();
        let mut count = 0;
        let before = spec.to.map_or(u128::MAX, |to| EventId::floor(to).as_u128());
        let mut events = NewestFirst::below(&self.partition_set, Table::Events, &[], before);
        while let Some((id, snapshot)) = events.next_id()? {
            let id = EventId::from_u128(id);
            if !self.is_retained(id, now) || spec.from.is_some_and(|from| id.time() < from) {
                break;
            }
            let Some(event) = decoded::<Event>(snapshot, Table::Events, id.as_bytes())? else { continue };
            if event.erased_at.is_some()
                || !tenant.covers(event.org_id, event.app_id)
                || !replay_scope::covers(spec, &event)
            {
                continue;
            }
            let targets = replay_scope::targets(&registry, spec, &event);
            if targets.is_empty() {
                continue;
            }
            let made = deliveries_in(snapshot, &event)?;
            for webhook in targets {
                let own: Vec<&Delivery> = made.iter().filter(|d| d.webhook_id == webhook.id).collect();
                let is_chosen = replay_scope::chosen(spec, &webhook, &event, &own, || data_in(snapshot, &event))?;
                count += u64::from(is_chosen);
            }
        }
        Ok(count)
    }

    /// The same for a job over the deliveries of one webhook, newest first. The newest delivery of an event decides.
    fn matching_deliveries(&self, tenant: TenantScope, spec: &JobSpec, webhook: WebhookId, now: Time) -> Result<u64> {
        let registry = self.registry();
        let mut replayed = HashSet::new();
        let mut count = 0;
        let mut deliveries =
            NewestFirst::below(&self.partition_set, Table::DeliveriesByWebhook, webhook.as_bytes(), u128::MAX);
        while let Some((id, snapshot)) = deliveries.next_id()? {
            // An event has a lower id than its deliveries.
            let event_max = EventId::from_u128(id);
            if !self.is_retained(event_max, now) || spec.from.is_some_and(|from| event_max < EventId::floor(from)) {
                break;
            }
            let Some(delivery) = decoded::<Delivery>(snapshot, Table::Deliveries, event_max.as_bytes())? else {
                continue;
            };
            let id = delivery.event_id;
            let is_newest = if delivery.is_replay() { replayed.insert(id) } else { !replayed.contains(&id) };
            if !is_newest || !self.is_retained(id, now) {
                continue;
            }
            let Some(event) = decoded::<Event>(snapshot, Table::Events, id.as_bytes())? else { continue };
            if event.erased_at.is_some()
                || !tenant.covers(event.org_id, event.app_id)
                || !replay_scope::covers(spec, &event)
            {
                continue;
            }
            for webhook in replay_scope::targets(&registry, spec, &event) {
                let read = || data_in(snapshot, &event);
                count += u64::from(replay_scope::chosen(spec, &webhook, &event, &[&delivery], read)?);
            }
        }
        Ok(count)
    }
}
