//! Replays: drives each job slice by slice at its rate, until every event is examined and every delivery is final.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::model::Time;
use crate::model::job::{Job, JobId, JobStatus};
use crate::store::{PartitionCommand, StateCommand, Store, WriteRequest};

use crate::engine::blocking_pool::BlockingPool;
use crate::engine::clock::Clock;
use crate::engine::write_queue::WriteQueue;

/// Events that one slice examines.
const SLICE_EVENTS: u32 = 500;
/// Interval at which a running job's progress is checked.
const ROUND_MS: i64 = 500;

/// Runs until the process ends. Without a running job it sleeps until `woken`.
pub async fn run(store: Store, write_queue: WriteQueue, clock: Arc<dyn Clock>, work: BlockingPool, woken: Arc<Notify>) {
    let mut allowances: HashMap<JobId, ReplayBudget> = HashMap::new();
    loop {
        let (reading, began) = (store.clone(), clock.now());
        let jobs = work.run(move || reading.running_jobs()).await;
        let jobs = match jobs {
            Some(Ok(jobs)) => jobs,
            Some(Err(error)) => {
                tracing::error!(%error, "replay jobs could not be read");
                Vec::new()
            }
            None => Vec::new(),
        };
        if jobs.is_empty() {
            allowances.clear();
            woken.notified().await;
            continue;
        }
        let mut busy = false;
        for job in jobs {
            let now = clock.now();
            let allowance = allowances.entry(job.id).or_insert(ReplayBudget { at: now, left: 1.0 });
            busy |= step(&job, allowance, &write_queue, now).await;
        }
        if !busy {
            clock.sleep_until(began.plus_ms(ROUND_MS)).await;
        }
    }
}

/// The deliveries that a job may still make at its rate.
struct ReplayBudget {
    at: Time,
    left: f64,
}

/// Advances a job. `true` if it has more to do at once.
async fn step(job: &Job, allowance: &mut ReplayBudget, write_queue: &WriteQueue, now: Time) -> bool {
    if job.exhausted {
        if job.ended() >= job.created {
            let done = Job { status: JobStatus::Done, finished_at: Some(now), ..job.clone() };
            let _ = write_queue.apply(Box::new(WriteRequest::internal(StateCommand::SaveJob(Box::new(done))))).await;
        }
        return false;
    }
    let make_max = match job.spec.rate_per_s {
        None => u32::MAX,
        Some(rate) => {
            let since_ms = now.since(allowance.at).max(0) as f64;
            allowance.left = (allowance.left + since_ms * rate / 1_000.0).min(rate.max(1.0));
            allowance.at = now;
            allowance.left.max(0.0) as u32
        }
    };
    if make_max == 0 {
        return false;
    }
    let before = job.moved();
    let advance = WriteRequest::internal(PartitionCommand::AdvanceJob { id: job.id, limit: SLICE_EVENTS, make_max });
    match write_queue.apply(Box::new(advance)).await {
        Ok(Ok(applied)) => {
            if let crate::store::Receipt::Job(after) = applied.receipt {
                allowance.left -= after.moved().saturating_sub(before) as f64;
                let goes_on = after.status == JobStatus::Running && !after.exhausted;
                return goes_on && (job.spec.rate_per_s.is_none() || allowance.left >= 1.0);
            }
            false
        }
        _ => false,
    }
}
