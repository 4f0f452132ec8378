//! Reads replay jobs and their progress.
//!
//! Invariant: the commit that writes a job's delivery also updates the figures that its progress is read from.

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::tables::Table;
use crate::model::job::{Job, JobId, JobStatus};
use crate::store::command::TenantScope;
use crate::store::figures::FiguresOwner;
use crate::store::read::lists::Store;
use crate::store::read::lookup::job_anywhere;
use crate::store::read::query::{ListWindow, Page};
use crate::store::read::replay_scope::job_within;

impl Store {
    /// A replay job with its progress. `None` if there is none within `tenant`.
    pub fn job(&self, tenant: TenantScope, id: JobId) -> Result<Option<Job>> {
        let job = job_anywhere(&self.partition_set, id)?.filter(|job| job_within(&self.registry(), tenant, job));
        job.map(|job| self.with_progress(job)).transpose()
    }

    /// A page of the replay jobs within `tenant`, newest first, each with its progress.
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
        let sums = self.partition_set.lifetime(FiguresOwner::from_u128(job.id.as_u128()))?;
        job.created = job.created.max(sums.deliveries);
        job.delivered = sums.delivered;
        job.failed = sums.failed;
        job.cancelled = sums.cancelled;
        Ok(job)
    }
}
