//! The writer loop: group commit of the requests that wait in the write queue.
//!
//! It applies them in one batch and answers all of them after the commit. It runs on a thread in the daemon and in a
//! task of the one runtime in a simulation. `Writer::tick` decides which timed work is due.
//!
//! Invariant: an answer is sent after the commit of its change, and after a standby has the commit if that is required.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::mutants::mutant;
use crate::store::{Effects, Maintained, Rejection, RequestBatch, Retention, WriteRequest, Writer};

use crate::engine::blocking_pool::BlockingPool;
use crate::engine::clock::Clock;
use crate::engine::critical_task::CriticalTask;
use crate::engine::metrics::Metrics;
use crate::engine::queue_item::{BatchEnd, QueueDepth, QueueItem, Responder};
use crate::engine::retry_buffer::RetryBuffer;
use crate::engine::storage_log::StorageLog;

/// Maximum requests in one commit.
const BATCH_REQUESTS_MAX: usize = 4_096;
/// Approximate maximum payload bytes in one commit.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// The longest wait of an idle task, after which it checks for remaining handles.
const IDLE_WAIT: Duration = Duration::from_secs(3_600);

/// Interval at which a task asks whether the log of a cluster would answer.
const LOG_AGAIN: Duration = Duration::from_millis(100);

/// The inputs of the loop.
pub struct WriterParts {
    /// The first field, so that it is dropped first.
    pub critical_task: CriticalTask,
    pub writer: Writer,
    pub first: Vec<WriteRequest>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    /// Consumes the effects of every batch.
    pub effects: Box<dyn FnMut(Effects) + Send>,
    /// Notified when a sync failed: the loop has ended, and the process must end.
    pub broken: Arc<Notify>,
}

/// The loop that owns the writer.
pub(super) struct WriterLoop {
    parts: WriterParts,
    waiting: Arc<QueueDepth>,
    retry_buffer: RetryBuffer,
    log: StorageLog,
    /// The start of the writer's monotonic clock.
    started: Instant,
    /// Time of the next timed work of the writer.
    next_tick: Option<Instant>,
    /// Bytes written up to the last commit.
    written_bytes: u64,
    /// Whether the last wait for a standby ended without its confirmation.
    is_standby_lost: bool,
    ended: bool,
}

impl WriterLoop {
    /// # Errors
    /// A thread cannot be made.
    pub(super) fn new(
        mut parts: WriterParts,
        waiting: Arc<QueueDepth>,
        work: BlockingPool,
    ) -> std::io::Result<WriterLoop> {
        if work == BlockingPool::Threads {
            parts.writer.start_checkpoint_thread()?;
        }
        Ok(WriterLoop {
            parts,
            waiting,
            retry_buffer: RetryBuffer::default(),
            log: StorageLog::default(),
            started: Instant::now(),
            next_tick: None,
            written_bytes: 0,
            is_standby_lost: false,
            ended: false,
        })
    }

    pub(super) fn run_on_thread(mut self, jobs: &Receiver<QueueItem>) {
        self.begin();
        while !self.is_over() {
            let job = match self.wait() {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => jobs.recv_timeout(wait),
            };
            self.ended |= matches!(job, Err(RecvTimeoutError::Disconnected));
            self.step(job.ok(), jobs);
        }
    }

    pub(super) async fn run_in_task(mut self, jobs: Receiver<QueueItem>, arrived: Arc<Notify>) {
        self.wait_for_log().await;
        self.begin();
        while !self.is_over() {
            let job = match jobs.try_recv() {
                Ok(job) => Some(job),
                Err(TryRecvError::Disconnected) => {
                    self.ended = true;
                    None
                }
                Err(TryRecvError::Empty) => {
                    // `Notify` stores a notification that comes before the wait.
                    let _ = tokio::time::timeout(self.wait().unwrap_or(IDLE_WAIT), arrived.notified()).await;
                    None
                }
            };
            self.wait_for_log().await;
            self.step(job, &jobs);
        }
    }

    /// Waits until the log of a cluster would answer.
    async fn wait_for_log(&mut self) {
        while !self.parts.writer.may_commit_now() {
            tokio::time::sleep(LOG_AGAIN).await;
        }
    }

    fn begin(&mut self) {
        let first = std::mem::take(&mut self.parts.first);
        self.apply(first.into());
        self.tick();
    }

    /// Whether the loop must end. After a failed sync it notifies the process.
    fn is_over(&self) -> bool {
        let health = self.parts.writer.health();
        if health.must_end {
            if health.has_tenure_ended {
                tracing::error!("another node may own the cluster's store now, so nothing more is accepted");
            } else {
                tracing::error!(
                    "a sync to disk failed: the last writes may not be durable, so nothing more is accepted"
                );
            }
            self.parts.broken.notify_one();
            return true;
        }
        self.ended
    }

    /// Time until the next timed step. `None` if there is none.
    fn wait(&self) -> Option<Duration> {
        let tick = self.next_tick.map(|at| at.saturating_duration_since(Instant::now()));
        [tick, self.retry_buffer.wait()].into_iter().flatten().min()
    }

    /// Applies an item and all items that wait behind it, then does the steps that are due.
    fn step(&mut self, job: Option<QueueItem>, jobs: &Receiver<QueueItem>) {
        self.take(job, jobs);
        if self.ended {
            let gathered = self.parts.writer.finish();
            self.apply(gathered.into());
            self.write_outcomes();
            let checkpoint = self.parts.writer.close();
            self.log.checkpoint(&checkpoint);
            return;
        }
        if self.retry_buffer.wait().is_some_and(|wait| wait.is_zero()) {
            self.write_outcomes();
        }
        self.tick();
    }

    /// Applies everything that waits now, and the requests that the writer has gathered long enough.
    fn take(&mut self, first: Option<QueueItem>, jobs: &Receiver<QueueItem>) {
        let mut arrived = Vec::new();
        let (mut bytes, mut rounds, mut backups) = (0, Vec::new(), Vec::new());
        let mut next = first;
        while let Some(job) = next {
            match job {
                QueueItem::Request(write_request, size, answer) => {
                    if size > 0 {
                        self.waiting.remove_publish(size);
                    }
                    bytes += size;
                    arrived.push((*write_request, answer));
                }
                QueueItem::Maintenance(retention, answer) => rounds.push((retention, answer)),
                QueueItem::Backup(answer) => backups.push(answer),
                QueueItem::End => self.ended = true,
            }
            let full = self.ended || arrived.len() >= BATCH_REQUESTS_MAX || bytes >= BATCH_BYTES_MAX;
            next = if full { None } else { jobs.try_recv().ok() };
        }
        let batches = self.parts.writer.gather(arrived, self.started.elapsed());
        batches.into_iter().for_each(|batch| self.apply(batch));
        for (retention, answer) in rounds {
            self.maintain(retention, answer);
        }
        for answer in backups {
            let backup_snapshot = self.parts.writer.backup_snapshot().map_err(|error| error.to_string());
            // If the caller is gone, the snapshot is dropped.
            let _ = answer.send(backup_snapshot);
        }
    }

    /// Lets the writer do its timed work.
    fn tick(&mut self) {
        let tick = self.parts.writer.tick(self.parts.clock.now(), self.started.elapsed());
        tick.checkpoints.iter().for_each(|ended| self.log.checkpoint(ended));
        if let Err(error) = &tick.healed {
            tracing::error!(%error, "the log of the cluster has forgotten commits, and this node cannot append them again");
        }
        self.log.space(&self.parts.writer.health());
        self.next_tick = tick.next.map(|wait| Instant::now() + wait);
    }

    /// Retries the outcomes that could not be written.
    fn write_outcomes(&mut self) {
        let outcomes = self.retry_buffer.take_outcomes();
        if mutant!("outcome_twice") {
            self.apply(outcomes.clone().into());
            if self.retry_buffer.wait().is_some() {
                return;
            }
        }
        self.apply(outcomes.into());
    }

    /// Rejects requests that a caller waits for while no standby would confirm them.
    fn reject_unconfirmable(&mut self, batch: RequestBatch<Responder>) -> RequestBatch<Responder> {
        let replication = self.parts.writer.replication();
        self.is_standby_lost &= replication.is_standby_required() && !replication.has_standby();
        if !self.is_standby_lost {
            return batch;
        }
        let mut rest = RequestBatch::default();
        for (request, responder) in batch.requests.into_iter().zip(batch.responders) {
            match responder {
                Some(responder) => drop(responder.send(Err(Rejection::Unconfirmed))),
                None => {
                    rest.requests.push(request);
                    rest.responders.push(None);
                }
            }
        }
        rest
    }

    /// Waits until every connected standby has the last commit, if answers require one. Returns whether the results may be sent.
    fn is_confirmed(&mut self, responders: &[Option<Responder>]) -> bool {
        let replication = self.parts.writer.replication();
        if !replication.is_standby_required() || responders.iter().all(Option::is_none) {
            return true;
        }
        let is_confirmed = replication.wait_for_standbys();
        if !is_confirmed && !self.is_standby_lost {
            tracing::error!("no standby confirms commits, and standby.required is set: changes are refused");
        }
        self.is_standby_lost = !is_confirmed;
        is_confirmed
    }

    fn apply(&mut self, batch: RequestBatch<Responder>) {
        let RequestBatch { mut requests, mut responders } = self.reject_unconfirmable(batch);
        if requests.is_empty() {
            return;
        }
        let mut has_failed = false;
        while !requests.is_empty() {
            let started = Instant::now();
            // Read for each round: the round before may have accepted another time.
            let now = self.parts.clock.now();
            let done = self.parts.writer.apply(&requests, now);
            let health = self.parts.writer.health();
            // Bytes that checkpoints wrote since the last commit count for this one.
            let before = std::mem::replace(&mut self.written_bytes, health.written_bytes);
            let written = self.written_bytes.saturating_sub(before);
            self.parts.metrics.committed(requests.len(), started.elapsed(), written);
            let end = match (done.effects.failures.is_empty(), health.has_run_out_of_space) {
                (true, _) if done.results.iter().any(Result::is_ok) => BatchEnd::Written,
                (true, _) => BatchEnd::Nothing,
                (false, true) => BatchEnd::WithoutSpace,
                (false, false) => BatchEnd::Failed,
            };
            self.waiting.batch_ended(end, now);
            self.log.batch(&done.effects.failures, end, &health);
            self.parts.metrics.applied(&requests, &done.results);
            let mut effects = done.effects;
            effects.unrecorded = self.retry_buffer.add_failed(&requests, &done.results, health.is_disk_full);
            (self.parts.effects)(effects);
            let is_confirmed = self.is_confirmed(&responders);
            for (responder, result) in responders.drain(..).zip(done.results) {
                if let Some(responder) = responder {
                    let result = if is_confirmed { result } else { result.and(Err(Rejection::Unconfirmed)) };
                    // The caller may be gone. The change is committed all the same.
                    let _ = responder.send(result);
                }
            }
            // A file that is opened again asks for its queues' heads. While the disk is full that fails again, so it waits
            // for the next round of maintenance.
            let is_again = has_failed && end.is_failure();
            has_failed |= end.is_failure();
            requests = done.follow;
            if is_again {
                self.retry_buffer.add_follow_ups(std::mem::take(&mut requests));
            }
        }
        self.log.space(&self.parts.writer.health());
    }

    fn maintain(&mut self, retention: Retention, answer: oneshot::Sender<Result<Maintained, String>>) {
        let mut done = self.parts.writer.maintain(self.parts.clock.now(), retention);
        self.log.space(&self.parts.writer.health());
        for failure in &done.failures {
            tracing::error!(failure, "a part of the maintenance failed; it is tried again in the next round");
        }
        (self.parts.effects)(std::mem::take(&mut done.effects));
        let mut follow = self.retry_buffer.take_follow_ups();
        follow.extend(done.follow.iter().cloned());
        self.apply(follow.into());
        let _ = answer.send(Ok(done));
    }
}
