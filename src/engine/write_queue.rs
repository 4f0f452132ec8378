//! The write queue: group commit of everything that changes the store.
//!
//! It collects waiting requests, applies them in one batch, and answers all of them after the commit. Its loop runs on
//! a thread in the daemon and in a task of the one runtime in a simulation.
//!
//! Invariant: an answer is sent after the commit of its change. When `WAITING_PUBLISHES_MAX` publishes wait, the next
//! one is rejected at once. Outcomes are bounded by the deliveries in flight.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;

use tokio::sync::{Notify, SemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::mutants::mutant;
use crate::store::backup::BackupSnapshot;
use crate::store::partitions::maintenance::{Maintained, Retention};
use crate::store::{Applied, Effects, Error, Rejection, WriteRequest, Writer};

use crate::engine::admission::PublishAdmission;
use crate::engine::blocking_pool::BlockingPool;
use crate::engine::checkpoints::CheckpointRunner;
use crate::engine::clock::Clock;
use crate::engine::critical_task::CriticalTask;
use crate::engine::log_backoff::LogBackoff;
use crate::engine::metrics::Metrics;
use crate::engine::retry_buffer::RetryBuffer;

/// Maximum publishes that wait for the writer.
pub const WAITING_PUBLISHES_MAX: usize = 8_192;
/// Maximum payload bytes that wait for the writer.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// Maximum requests in one commit.
const BATCH_REQUESTS_MAX: usize = 4_096;
/// Approximate maximum payload bytes in one commit.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Group-commit delay for sealed partitions: this long for each partition concerned, up to the maximum.
const SEALED_WAIT: Duration = Duration::from_millis(8);
const SEALED_WAIT_MAX: Duration = Duration::from_millis(200);
const SEALED_REQUESTS_MAX: usize = 256;
/// Maximum time between a WAL record and its checkpoint.
const CHECKPOINT_WAIT: Duration = Duration::from_secs(2);
/// While the disk is full, the interval of the checks for space.
const SPACE_CHECK_WAIT: Duration = Duration::from_secs(1);
/// The longest wait of an idle task, after which it checks for remaining handles.
const IDLE_WAIT: Duration = Duration::from_secs(3_600);

type Responder = oneshot::Sender<Result<Applied, Rejection>>;

enum QueueItem {
    Request(Box<WriteRequest>, usize, Option<Responder>),
    /// A round of maintenance.
    Maintenance(Retention, oneshot::Sender<Result<Maintained, String>>),
    /// Takes a snapshot of the store for a backup.
    Backup(oneshot::Sender<Result<BackupSnapshot, String>>),
    /// Ends the loop after everything that was sent before.
    End,
}

/// Why a publish did not reach the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// Too many publishes wait. The client may try again.
    Full,
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

#[derive(Default)]
struct QueueDepth {
    publishes: AtomicUsize,
    bytes: AtomicUsize,
    stopping: AtomicBool,
    /// Whether storage failed the last batch.
    failing: AtomicBool,
}

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
        };
        let writer_loop = WriterLoop {
            parts,
            checkpoints: CheckpointRunner::start(work)?,
            waiting,
            sealed_batch: Vec::new(),
            sealed_since: None,
            sealed_partitions: BTreeSet::new(),
            retry_buffer: RetryBuffer::default(),
            uncheckpointed_since: None,
            failing_batches: LogBackoff::default(),
            failing_checkpoints: LogBackoff::default(),
            was_full: false,
            written_bytes: 0,
            ended: false,
        };
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
            self.metrics.in_line();
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
        self.waiting.publishes.load(Ordering::Relaxed)
    }

    /// Whether publishes are rejected because the daemon is stopping.
    pub fn is_stopping(&self) -> bool {
        self.waiting.stopping.load(Ordering::Relaxed)
    }

    /// Whether storage failed the last batch.
    pub fn is_failing(&self) -> bool {
        self.waiting.failing.load(Ordering::Relaxed)
    }

    /// Rejects publishes from now on.
    pub fn stop_publishing(&self) {
        self.waiting.stopping.store(true, Ordering::Relaxed);
    }

    fn admit(&self, write_request: &WriteRequest) -> Result<usize, Busy> {
        let Some(events) = write_request.command.published() else { return Ok(0) };
        if self.waiting.stopping.load(Ordering::Relaxed) {
            return Err(Busy::Stopping);
        }
        let bytes: usize = events.iter().map(|event| event.data.len()).sum::<usize>() + events.len();
        let full = self.waiting.publishes.load(Ordering::Relaxed) >= WAITING_PUBLISHES_MAX
            || self.waiting.bytes.load(Ordering::Relaxed) + bytes > WAITING_BYTES_MAX;
        if full {
            self.metrics.queue_full();
            return Err(Busy::Full);
        }
        self.waiting.publishes.fetch_add(1, Ordering::Relaxed);
        self.waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// The loop that owns the writer.
struct WriterLoop {
    parts: WriterParts,
    checkpoints: CheckpointRunner,
    waiting: Arc<QueueDepth>,
    sealed_batch: Vec<(WriteRequest, Option<Responder>)>,
    sealed_since: Option<Instant>,
    sealed_partitions: BTreeSet<u128>,
    retry_buffer: RetryBuffer,
    /// Time of the oldest WAL record that no checkpoint covers.
    uncheckpointed_since: Option<Instant>,
    failing_batches: LogBackoff,
    failing_checkpoints: LogBackoff,
    /// Whether the last log line about space said that the disk is full.
    was_full: bool,
    /// Bytes written up to the last commit.
    written_bytes: u64,
    ended: bool,
}

impl WriterLoop {
    fn run_on_thread(mut self, jobs: &Receiver<QueueItem>) {
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

    async fn run_in_task(mut self, jobs: Receiver<QueueItem>, arrived: Arc<Notify>) {
        self.begin();
        while !self.is_over() {
            let job = match jobs.try_recv() {
                Ok(job) => Some(job),
                Err(TryRecvError::Disconnected) => {
                    self.ended = true;
                    None
                }
                Err(TryRecvError::Empty) => {
                    // A notification that comes before the wait is remembered by `Notify`.
                    let _ = tokio::time::timeout(self.wait().unwrap_or(IDLE_WAIT), arrived.notified()).await;
                    None
                }
            };
            self.step(job, &jobs);
        }
    }

    fn begin(&mut self) {
        let first = std::mem::take(&mut self.parts.first);
        self.apply(first.into_iter().map(|write_request| (write_request, None)).collect());
    }

    /// Whether the loop must end. After a failed sync it notifies the process.
    fn is_over(&self) -> bool {
        if self.parts.writer.has_lost_writes() {
            tracing::error!("a sync to disk failed: what was written is uncertain, so nothing more is accepted");
            self.parts.broken.notify_one();
            return true;
        }
        self.ended
    }

    /// Time until the next timed step. `None` if there is none.
    fn wait(&self) -> Option<Duration> {
        let older = self.sealed_since.map(|since| self.sealed_wait().saturating_sub(since.elapsed()));
        let unchecked = self.uncheckpointed_since.map(|since| CHECKPOINT_WAIT.saturating_sub(since.elapsed()));
        let full = self.was_full.then_some(SPACE_CHECK_WAIT);
        [older, unchecked, full, self.retry_buffer.wait(), self.checkpoints.look()].into_iter().flatten().min()
    }

    /// Applies an item and all items that wait behind it, then does the steps that are due.
    fn step(&mut self, job: Option<QueueItem>, jobs: &Receiver<QueueItem>) {
        if let Some(job) = job {
            self.take(job, jobs);
        }
        if self.ended {
            self.parts.writer.end_backup();
            self.flush_sealed();
            self.write_outcomes();
            let checked = self.parts.writer.checkpoint();
            checked.unwrap_or_else(|error| self.log_failed_checkpoint(&error));
            return;
        }
        if self.sealed_since.is_some_and(|since| since.elapsed() >= self.sealed_wait()) {
            self.flush_sealed();
        }
        if self.retry_buffer.wait().is_some_and(|wait| wait.is_zero()) {
            self.write_outcomes();
        }
        self.checkpoint();
        if self.was_full {
            self.look_for_space();
        }
    }

    /// Applies everything that waits now, as one batch.
    fn take(&mut self, first: QueueItem, jobs: &Receiver<QueueItem>) {
        let mut batch = Vec::new();
        let (mut bytes, mut rounds, mut backups) = (0, Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                QueueItem::Request(write_request, size, answer) => {
                    if size > 0 {
                        self.waiting.publishes.fetch_sub(1, Ordering::Relaxed);
                        self.waiting.bytes.fetch_sub(size, Ordering::Relaxed);
                    }
                    bytes += size;
                    if let Some(place) = self.parts.writer.sealed_partition_of(&write_request) {
                        self.sealed_partitions.insert(place);
                        self.sealed_since.get_or_insert_with(Instant::now);
                        self.sealed_batch.push((*write_request, answer));
                    } else {
                        batch.push((*write_request, answer));
                    }
                }
                QueueItem::Maintenance(retention, answer) => rounds.push((retention, answer)),
                QueueItem::Backup(answer) => backups.push(answer),
                QueueItem::End => self.ended = true,
            }
            let full = self.ended || batch.len() >= BATCH_REQUESTS_MAX || bytes >= BATCH_BYTES_MAX;
            next = if full { None } else { jobs.try_recv().ok() };
        }
        self.apply(batch);
        if self.sealed_batch.len() >= SEALED_REQUESTS_MAX
            || self.sealed_batch.iter().any(|(_, answer)| answer.is_some())
        {
            self.flush_sealed();
        }
        for (retention, answer) in rounds {
            self.maintain(retention, answer);
        }
        for answer in backups {
            let backup_snapshot = self.parts.writer.backup_snapshot().map_err(|error| error.to_string());
            // If the caller is gone, the snapshot is dropped.
            let _ = answer.send(backup_snapshot);
        }
    }

    /// Starts the checkpoint that is due and handles the result of the previous one.
    fn checkpoint(&mut self) {
        let writer = &mut self.parts.writer;
        if self.uncheckpointed_since.is_some_and(|since| since.elapsed() >= CHECKPOINT_WAIT) {
            self.uncheckpointed_since = Some(Instant::now());
            if let Err(error) = writer.request_checkpoint() {
                self.log_failed_checkpoint(&error);
            }
        }
        let writer = &mut self.parts.writer;
        if self.checkpoints.may_run()
            && let Some(checkpoint) = writer.take_checkpoint()
        {
            self.uncheckpointed_since = writer.has_uncheckpointed().then(Instant::now);
            self.checkpoints.run(checkpoint);
        }
        match self.checkpoints.ended() {
            Some(Ok(())) if self.failing_checkpoints.reset() => tracing::info!("checkpoints can be made again"),
            Some(Err(error)) => {
                writer.checkpoint_failed(&error);
                self.uncheckpointed_since = Some(Instant::now());
                self.log_failed_checkpoint(&error);
                self.look_for_space();
            }
            _ => {}
        }
    }

    fn look_for_space(&mut self) {
        self.parts.writer.check_space(self.parts.clock.now());
        self.log_space();
    }

    fn log_failed_checkpoint(&mut self, error: &Error) {
        if let Some(failures) = self.failing_checkpoints.record() {
            tracing::error!(%error, failures, "a checkpoint failed; the journal still holds what it was for; trying again");
        }
    }

    fn sealed_wait(&self) -> Duration {
        (SEALED_WAIT * self.sealed_partitions.len() as u32).min(SEALED_WAIT_MAX)
    }

    fn flush_sealed(&mut self) {
        self.sealed_since = None;
        self.sealed_partitions.clear();
        let older = std::mem::take(&mut self.sealed_batch);
        self.apply(older);
    }

    /// Retries the outcomes that could not be written.
    fn write_outcomes(&mut self) {
        let outcomes = self.retry_buffer.take_outcomes();
        if mutant!("outcome_twice") {
            self.apply(outcomes.iter().cloned().map(|write_request| (write_request, None)).collect());
            if self.retry_buffer.wait().is_some() {
                return;
            }
        }
        self.apply(outcomes.into_iter().map(|write_request| (write_request, None)).collect());
    }

    fn apply(&mut self, batch: Vec<(WriteRequest, Option<Responder>)>) {
        if batch.is_empty() {
            return;
        }
        let now = self.parts.clock.now();
        let started = Instant::now();
        let (mut write_requests, mut answers) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for (write_request, answer) in batch {
            write_requests.push(write_request);
            answers.push(answer);
        }
        while !write_requests.is_empty() {
            let done = self.parts.writer.apply(&write_requests, now);
            // Bytes that checkpoints wrote since the last commit count for this one.
            let before = std::mem::replace(&mut self.written_bytes, self.parts.writer.written_bytes());
            let written = self.written_bytes.saturating_sub(before);
            self.parts.metrics.committed(write_requests.len(), started.elapsed(), written);
            self.waiting.failing.store(!done.effects.failures.is_empty(), Ordering::Relaxed);
            self.log_failures(&done.effects.failures);
            self.parts.metrics.applied(&write_requests, &done.results);
            let mut effects = done.effects;
            effects.unrecorded =
                self.retry_buffer.add_failed(&write_requests, &done.results, self.parts.writer.is_disk_full());
            (self.parts.effects)(effects);
            for (answer, result) in answers.drain(..).zip(done.results) {
                if let Some(answer) = answer {
                    // The caller may be gone. The change is committed all the same.
                    let _ = answer.send(result);
                }
            }
            write_requests = done.follow;
        }
        self.log_space();
        match self.parts.writer.has_uncheckpointed() {
            true => drop(self.uncheckpointed_since.get_or_insert_with(Instant::now)),
            false => self.uncheckpointed_since = None,
        }
    }

    fn log_failures(&mut self, failures: &[String]) {
        for failure in failures {
            if let Some(failures) = self.failing_batches.record() {
                tracing::error!(
                    failure,
                    failures,
                    "storage failed; nothing of the batch is kept, the file is opened again"
                );
            }
        }
        // While the disk is full, batches without writes succeed and prove nothing.
        if failures.is_empty() && !self.parts.writer.is_disk_full() && self.failing_batches.reset() {
            tracing::info!("storage takes batches again");
        }
    }

    /// Logs when the disk becomes full, and when it has space again.
    fn log_space(&mut self) {
        let is_full = self.parts.writer.is_disk_full();
        match (self.was_full, is_full) {
            (false, true) => tracing::error!(
                "the disk is full: publishing is refused until more than min_free_bytes are free; deliveries go on"
            ),
            (true, false) => tracing::info!("the disk has space again: publishing goes on"),
            _ => {}
        }
        self.was_full = is_full;
    }

    fn maintain(&mut self, retention: Retention, answer: oneshot::Sender<Result<Maintained, String>>) {
        let mut done = self.parts.writer.maintain(self.parts.clock.now(), retention);
        self.log_space();
        for failure in &done.failures {
            tracing::error!(failure, "a part of the upkeep failed; it is tried again in the next round");
        }
        (self.parts.effects)(std::mem::take(&mut done.effects));
        let mut follow = self.retry_buffer.take_follow_ups();
        follow.extend(done.follow.iter().cloned());
        self.apply(follow.into_iter().map(|write_request| (write_request, None)).collect());
        let _ = answer.send(Ok(done));
    }
}
