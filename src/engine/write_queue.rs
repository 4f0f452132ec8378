//! The write queue: the handle through which every change of the store reaches the writer.
//!
//! The writer loop (`writer_loop`) takes the waiting requests out of it, and answers them after their commit.
//!
//! Invariant: when `WAITING_PUBLISHES_MAX` publishes wait, the next one is rejected at once. Outcomes are bounded by the
//! deliveries in flight.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

use tokio::sync::{Notify, SemaphorePermit, oneshot};

use crate::model::Time;
use crate::store::admin::{AppendStats, BackupSnapshot};
use crate::store::{Applied, Maintained, Rejection, Retention, WriteRequest};

use crate::engine::admission::PublishAdmission;
use crate::engine::blocking_pool::BlockingPool;
use crate::engine::metrics::Metrics;
use crate::engine::queue_item::{QueueDepth, QueueItem};
use crate::engine::writer_loop::{WriterLoop, WriterParts};

/// Maximum publishes that wait for the writer.
pub const WAITING_PUBLISHES_MAX: usize = 8_192;
/// Maximum payload bytes that wait for the writer.
const WAITING_BYTES_MAX: usize = 256 << 20;

/// Why a request did not reach the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// Too many publishes wait. The client may try again.
    Full,
    /// The log of the cluster takes no commits. The client may try again.
    LogUnanswered,
    /// The daemon is stopping.
    Stopping,
}

/// The handle. It is cheap to clone.
#[derive(Clone)]
pub struct WriteQueue {
    jobs: Sender<QueueItem>,
    /// Wakes the loop if it is a task. `None` if it is a thread.
    arrived: Option<Arc<Notify>>,
    waiting: Arc<QueueDepth>,
    admission: Arc<PublishAdmission>,
    metrics: Arc<Metrics>,
    /// Counts of the appends to the commit log. `None` without a cluster.
    append_stats: Option<Arc<AppendStats>>,
}

/// The thread or task that runs the loop.
pub enum Driver {
    Thread(std::thread::JoinHandle<()>),
    Task(tokio::task::JoinHandle<()>),
}

impl Driver {
    /// Waits until the loop has ended.
    pub async fn ended(self) {
        let _ = match self {
            Driver::Thread(thread) => tokio::task::spawn_blocking(move || drop(thread.join())).await,
            Driver::Task(task) => task.await,
        };
    }
}

impl WriteQueue {
    /// Starts the loop on a thread or in a task, as `work` says. It ends when it is told to or when every handle is
    /// dropped, after all waiting requests are applied.
    pub fn start(parts: WriterParts, work: BlockingPool) -> std::io::Result<(WriteQueue, Driver)> {
        let (jobs, waiting_jobs) = mpsc::channel();
        let waiting = Arc::new(QueueDepth::default());
        let arrived = (work == BlockingPool::Inline).then(Arc::<Notify>::default);
        let write_queue = WriteQueue {
            jobs,
            arrived: arrived.clone(),
            waiting: waiting.clone(),
            admission: Arc::default(),
            metrics: parts.metrics.clone(),
            append_stats: parts.writer.append_stats(),
        };
        let writer_loop = WriterLoop::new(parts, waiting, work)?;
        let driver = match arrived {
            None => Driver::Thread(
                std::thread::Builder::new()
                    .name("writer".into())
                    .spawn(move || writer_loop.run_on_thread(&waiting_jobs))?,
            ),
            Some(arrived) => Driver::Task(tokio::spawn(writer_loop.run_in_task(waiting_jobs, arrived))),
        };
        Ok((write_queue, driver))
    }

    fn send(&self, job: QueueItem) -> Result<(), Busy> {
        self.jobs.send(job).map_err(|_| Busy::Stopping)?;
        if let Some(arrived) = &self.arrived {
            arrived.notify_one();
        }
        Ok(())
    }

    /// Applies a request and waits for its commit.
    pub async fn apply(&self, write_request: Box<WriteRequest>) -> Result<Result<Applied, Rejection>, Busy> {
        if self.is_log_stuck() {
            return Err(Busy::LogUnanswered);
        }
        let _permit = self.wait_for_admission(&write_request).await;
        let bytes = self.admit(&write_request)?;
        let (answer, answered) = oneshot::channel();
        self.send(QueueItem::Request(write_request, bytes, Some(answer)))?;
        answered.await.map_err(|_| Busy::Stopping)
    }

    /// Waits for the admission of a publish, while admission is limited.
    async fn wait_for_admission(&self, write_request: &WriteRequest) -> Option<SemaphorePermit<'_>> {
        write_request.command.published()?;
        let permit = self.admission.acquire().await;
        if permit.is_some() {
            self.metrics.publish_queued();
        }
        permit
    }

    /// The admission control of publishes, for the scheduler.
    pub fn admission(&self) -> &PublishAdmission {
        &self.admission
    }

    /// Queues a request that has no caller waiting, such as an outcome.
    pub fn push(&self, write_request: WriteRequest) {
        // The loop ends only after the drain. Deliveries in flight then are sent again after the next start.
        let _ = self.send(QueueItem::Request(Box::new(write_request), 0, None));
    }

    /// Runs a round of maintenance.
    pub async fn maintain(&self, retention: Retention) -> Result<Maintained, String> {
        let (answer, answered) = oneshot::channel();
        self.send(QueueItem::Maintenance(retention, answer)).map_err(|_| "stopping".to_owned())?;
        answered.await.map_err(|_| "stopping".to_owned())?
    }

    /// A snapshot of the store, after the requests that wait now.
    pub async fn backup_snapshot(&self) -> Result<BackupSnapshot, String> {
        let (answer, answered) = oneshot::channel();
        self.send(QueueItem::Backup(answer)).map_err(|_| "stopping".to_owned())?;
        answered.await.map_err(|_| "stopping".to_owned())?
    }

    /// Ends the loop after everything that waits now. Later callers get `Busy::Stopping`.
    pub fn end(&self) {
        let _ = self.send(QueueItem::End);
    }

    /// Waiting publishes, for metrics.
    pub fn waiting_publishes(&self) -> usize {
        self.waiting.publishes()
    }

    /// Whether publishes are rejected because the daemon is stopping.
    pub fn is_stopping(&self) -> bool {
        self.waiting.is_stopping()
    }

    /// Whether storage failed the last batch, for another reason than lack of space.
    pub fn is_failing(&self) -> bool {
        self.waiting.is_failing()
    }

    /// Whether the last storage failure was a write without space, a short time ago, and none succeeded since.
    pub fn lacks_space(&self, now: Time) -> bool {
        self.waiting.lacks_space(now)
    }

    /// Whether the log of the cluster takes no commits, so that changes are refused.
    pub fn is_log_stuck(&self) -> bool {
        self.append_stats.as_ref().is_some_and(|appends| appends.is_stuck())
    }

    /// Rejects publishes from now on.
    pub fn stop_publishing(&self) {
        self.waiting.stop();
    }

    fn admit(&self, write_request: &WriteRequest) -> Result<usize, Busy> {
        let Some(events) = write_request.command.published() else { return Ok(0) };
        if self.waiting.is_stopping() {
            return Err(Busy::Stopping);
        }
        let bytes: usize = events.iter().map(|event| event.data.len()).sum::<usize>() + events.len();
        let full =
            self.waiting.publishes() >= WAITING_PUBLISHES_MAX || self.waiting.bytes() + bytes > WAITING_BYTES_MAX;
        if full {
            self.metrics.queue_full();
            return Err(Busy::Full);
        }
        self.waiting.add_publish(bytes);
        Ok(bytes)
    }
}
