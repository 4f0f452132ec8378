//! The writer's schedule: how long requests for sealed partitions are gathered, and when a checkpoint is due.
//!
//! Every moment is an uptime: a duration since an arbitrary start on a monotonic clock, which the caller reads. A jump
//! of the wall clock does not delay a commit.
//!
//! Invariant: a request with a responder is never gathered beyond the call that brought it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::kv::error::Result;
use crate::model::Time;
use crate::store::command::WriteRequest;
use crate::store::commit_log::CommitAppender;
use crate::store::writer::Writer;

/// Group-commit delay for sealed partitions: this long for each partition concerned, up to the maximum.
const SEALED_WAIT: Duration = Duration::from_millis(8);
const SEALED_WAIT_MAX: Duration = Duration::from_millis(200);
const SEALED_REQUESTS_MAX: usize = 256;
/// Maximum time between a WAL record and its checkpoint.
const CHECKPOINT_WAIT: Duration = Duration::from_secs(2);
/// Delay of the next checkpoint after a failure.
const CHECKPOINT_RETRY_WAIT: Duration = Duration::from_secs(1);
/// Interval at which the result of a running checkpoint is polled while the writer is idle.
const CHECKPOINT_POLL_WAIT: Duration = Duration::from_millis(50);
/// While the disk is full, the interval of the checks for space.
const SPACE_CHECK_WAIT: Duration = Duration::from_secs(1);
/// Interval at which an owner of a cluster looks whether the log has forgotten its end.
const LOG_CHECK_WAIT: Duration = Duration::from_secs(2);

/// Requests that are applied together. `R` is the caller's responder, which the store never uses.
#[derive(Debug)]
pub struct RequestBatch<R> {
    pub requests: Vec<WriteRequest>,
    /// One for each request. `None` if no caller waits for the result.
    pub responders: Vec<Option<R>>,
}

impl<R> Default for RequestBatch<R> {
    fn default() -> Self {
        RequestBatch { requests: Vec::new(), responders: Vec::new() }
    }
}

impl<R> From<Vec<WriteRequest>> for RequestBatch<R> {
    /// A batch without responders.
    fn from(requests: Vec<WriteRequest>) -> Self {
        let responders = std::iter::repeat_with(|| None).take(requests.len()).collect();
        RequestBatch { requests, responders }
    }
}

/// The result of `Writer::tick`.
#[derive(Debug)]
pub struct Tick {
    /// Time until the next call is due. `None` if none is.
    pub next: Option<Duration>,
    /// Results of the checkpoints that were requested or ended since the last call.
    pub checkpoints: Vec<Result<()>>,
    /// Whether the commit log has the commits of this store, as far as it was looked at.
    pub healed: Result<()>,
}

/// The state of the writer's storage, for the writer's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterHealth {
    /// Whether a sync has failed, so that writes may be lost, or the tenure has ended. Nothing more may be
    /// applied then.
    pub must_end: bool,
    /// Whether the tenure has ended: the commit log takes no more commits of this store, or this
    /// store lacks one of them.
    pub has_tenure_ended: bool,
    /// Whether publishing is refused because of the disk.
    pub is_disk_full: bool,
    /// Whether a write met ENOSPC, and no check that found space followed.
    pub has_run_out_of_space: bool,
    /// Bytes written to storage since the start.
    pub written_bytes: u64,
}

/// Requests for sealed partitions that wait for others, because one commit serves many of them.
#[derive(Debug, Default)]
pub(in crate::store) struct SealedBatch {
    requests: Vec<WriteRequest>,
    /// The arrival of the first of them.
    since: Option<Duration>,
    partitions: BTreeSet<u128>,
}

impl SealedBatch {
    fn push(&mut self, write_request: WriteRequest, partition: u128, uptime: Duration) {
        self.requests.push(write_request);
        self.partitions.insert(partition);
        self.since.get_or_insert(uptime);
    }

    /// Time until the batch is due. `None` if it is empty.
    fn wait(&self, uptime: Duration) -> Option<Duration> {
        let since = self.since?;
        let delay = (SEALED_WAIT * self.partitions.len() as u32).min(SEALED_WAIT_MAX);
        Some(if self.requests.len() >= SEALED_REQUESTS_MAX {
            Duration::ZERO
        } else {
            (since + delay).saturating_sub(uptime)
        })
    }

    fn take(&mut self) -> Vec<WriteRequest> {
        std::mem::take(self).requests
    }
}

/// When checkpoints are requested and run.
#[derive(Debug, Default)]
pub(in crate::store) struct CheckpointSchedule {
    /// When the oldest WAL record was seen that no checkpoint covers.
    uncheckpointed_since: Option<Duration>,
    /// Time of the last failure, until the next checkpoint may run.
    failed_at: Option<Duration>,
}

impl CheckpointSchedule {
    /// Notes whether the write-ahead log has records that no checkpoint covers. Returns whether one is due for them.
    fn is_due(&mut self, has_uncheckpointed: bool, uptime: Duration) -> bool {
        if has_uncheckpointed {
            self.uncheckpointed_since.get_or_insert(uptime);
        }
        self.uncheckpointed_since.is_some_and(|since| uptime >= since + CHECKPOINT_WAIT)
    }

    /// The checkpoint was requested or started. `is_left` says whether another must follow.
    fn restart(&mut self, is_left: bool, uptime: Duration) {
        self.uncheckpointed_since = is_left.then_some(uptime);
    }

    /// A checkpoint failed. Another is due even if the write-ahead log could not be read again.
    fn failed(&mut self, uptime: Duration) {
        self.restart(true, uptime);
        self.failed_at = Some(uptime);
    }

    /// Whether a checkpoint may run now.
    fn may_run(&mut self, uptime: Duration) -> bool {
        self.failed_at = self.failed_at.filter(|failed| uptime < *failed + CHECKPOINT_RETRY_WAIT);
        self.failed_at.is_none()
    }

    fn wait(&self, uptime: Duration) -> Option<Duration> {
        let due = self.uncheckpointed_since.map(|since| since + CHECKPOINT_WAIT);
        let retry = self.failed_at.map(|failed| failed + CHECKPOINT_RETRY_WAIT);
        [due, retry].into_iter().flatten().min().map(|at| at.saturating_sub(uptime))
    }
}

impl Writer {
    /// Sorts requests that arrived into batches, to be passed to `apply` one after the other. Requests for sealed
    /// partitions are the second batch. They wait for others, unless one of them has a responder.
    pub fn gather<R>(&mut self, arrived: Vec<(WriteRequest, Option<R>)>, uptime: Duration) -> [RequestBatch<R>; 2] {
        let mut batch =
            RequestBatch { requests: Vec::with_capacity(arrived.len()), responders: Vec::with_capacity(arrived.len()) };
        let mut responders = Vec::new();
        for (write_request, responder) in arrived {
            if let Some(partition) = self.sealed_partition_of(&write_request) {
                self.sealed_batch.push(write_request, partition, uptime);
                responders.push(responder);
            } else {
                batch.requests.push(write_request);
                batch.responders.push(responder);
            }
        }
        let is_due = self.sealed_batch.wait(uptime).is_some_and(|wait| wait.is_zero());
        if !is_due && responders.iter().all(Option::is_none) {
            return [batch, RequestBatch::default()];
        }
        let mut sealed = RequestBatch::from(self.sealed_batch.take());
        // The requests that were gathered before have no responder.
        let before = sealed.requests.len() - responders.len();
        sealed.responders.splice(before.., responders);
        [batch, sealed]
    }

    /// Does the timed work: heals a log that has forgotten its end, starts a due checkpoint, collects an ended one, checks the
    /// space of a full disk, and stores a run of fingerprints. The caller calls it after every batch, and again when `Tick::next` has passed.
    pub fn tick(&mut self, now: Time, uptime: Duration) -> Tick {
        let mut checkpoints = Vec::new();
        let healed = self.appender.as_mut().map_or(Ok(()), CommitAppender::heal_if_forgotten);
        if self.checkpoint_schedule.is_due(self.has_uncheckpointed(), uptime) {
            let requested = self.request_checkpoint();
            self.checkpoint_schedule.restart(requested.is_err() || self.has_uncheckpointed(), uptime);
            checkpoints.extend(requested.err().map(Err));
        }
        if self.checkpoint_schedule.may_run(uptime)
            && let Some(checkpoint) = self.take_checkpoint()
        {
            self.checkpoint_schedule.restart(self.has_uncheckpointed(), uptime);
            self.checkpoint_runner.run(checkpoint);
        }
        if let Some(ended) = self.checkpoint_runner.ended() {
            if let Err(error) = &ended {
                self.checkpoint_failed(error);
                self.checkpoint_schedule.failed(uptime);
                self.check_space(now);
            }
            checkpoints.push(ended);
        }
        if self.space.is_full() {
            self.check_space(now);
        }
        // A run is stored after the batch that filled it, so that no more than one delays a batch.
        let next = if self.store_fingerprints() { Some(Duration::ZERO) } else { self.next_tick(uptime) };
        Tick { next, checkpoints, healed }
    }

    /// Writes the file of a run of fingerprints that has none, unless the disk is full. Returns whether another lacks one.
    pub fn store_fingerprints(&mut self) -> bool {
        !self.space.is_full() && self.idempotency.store_next(&*self.partition_set.disk)
    }

    /// Time until the next timed work is due. `None` if there is none.
    fn next_tick(&self, uptime: Duration) -> Option<Duration> {
        let space = self.space.is_full().then_some(SPACE_CHECK_WAIT);
        let poll = self.checkpoint_runner.is_running().then_some(CHECKPOINT_POLL_WAIT);
        let log_check = self.appender.is_some().then_some(LOG_CHECK_WAIT);
        let waits = [self.sealed_batch.wait(uptime), self.checkpoint_schedule.wait(uptime), space, poll, log_check];
        waits.into_iter().flatten().min()
    }

    /// Ends the work with other threads before a stop: cancels the backup. Returns the gathered requests, to be applied
    /// before the last `checkpoint`.
    pub fn finish(&mut self) -> Vec<WriteRequest> {
        self.end_backup();
        self.sealed_batch.take()
    }

    /// The state of the writer's storage.
    pub fn health(&self) -> WriterHealth {
        WriterHealth {
            must_end: self.must_end(),
            has_tenure_ended: self.has_tenure_ended(),
            is_disk_full: self.space.is_full(),
            has_run_out_of_space: self.space.has_run_out(),
            written_bytes: self.partition_set.disk.written_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventId;
    use crate::store::verify::tests::{NOW, apply, store};
    use crate::store::{EventInput, Opened, PartitionCommand};

    const MS: Duration = Duration::from_millis(1);

    fn cancel(id: EventId) -> WriteRequest {
        WriteRequest::internal(PartitionCommand::CancelEvent { id })
    }

    fn publish(opened: &Opened) -> WriteRequest {
        let app = opened.store.registry().apps.keys().next().copied();
        let event = EventInput { app, ..EventInput::new("a", "{}") };
        WriteRequest::internal(PartitionCommand::Publish(vec![event]))
    }

    /// A store with an event in a sealed partition.
    fn with_sealed_event(folder: &tempfile::TempDir) -> (Opened, EventId) {
        let mut opened = store(folder);
        let request = publish(&opened);
        let event = apply(&mut opened, request).1[0].event.id;
        opened.writer.roll(NOW).unwrap();
        (opened, event)
    }

    #[test]
    fn requests_for_a_sealed_partition_wait_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let (mut opened, event) = with_sealed_event(&folder);
        let (new, old) = (publish(&opened), cancel(event));
        let [batch, sealed] = opened.writer.gather::<()>(vec![(old.clone(), None), (new, None)], MS);
        assert_eq!((batch.requests.len(), sealed.requests.len()), (1, 0));
        assert_eq!(opened.writer.tick(NOW, MS).next, Some(SEALED_WAIT));
        let [_, sealed] = opened.writer.gather::<()>(vec![(old.clone(), None)], MS + SEALED_WAIT / 2);
        assert_eq!(sealed.requests.len(), 0);
        let [batch, sealed] = opened.writer.gather::<()>(Vec::new(), MS + SEALED_WAIT);
        assert_eq!((batch.requests.len(), sealed.requests.len()), (0, 2));
        let many = vec![(old, None); SEALED_REQUESTS_MAX];
        assert_eq!(opened.writer.gather::<()>(many, MS).map(|batch| batch.requests.len()), [0, SEALED_REQUESTS_MAX]);
    }

    #[test]
    fn a_request_with_a_responder_takes_the_gathered_ones_with_it_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (mut opened, event) = with_sealed_event(&folder);
        opened.writer.gather::<u8>(vec![(cancel(event), None), (cancel(event), None)], MS);
        let arrived = vec![(cancel(event), Some(7)), (publish(&opened), Some(8)), (cancel(event), None)];
        let [batch, sealed] = opened.writer.gather(arrived, MS);
        assert_eq!(batch.responders, [Some(8)]);
        assert_eq!(sealed.requests.len(), 4);
        assert_eq!(sealed.responders, [None, None, Some(7), None]);
        assert_eq!(opened.writer.sealed_batch.wait(MS), None);
    }

    #[test]
    fn the_delay_rises_with_the_partitions_up_to_a_maximum() {
        let folder = tempfile::tempdir().unwrap();
        let request = publish(&store(&folder));
        let mut batch = SealedBatch::default();
        for partition in 0..100_u32 {
            batch.push(request.clone(), partition.into(), MS);
            let delay = (SEALED_WAIT * (partition + 1)).min(SEALED_WAIT_MAX);
            assert_eq!(batch.wait(2 * MS), Some(delay - MS), "partition {partition}");
        }
        assert_eq!(batch.wait(Duration::from_secs(9)), Some(Duration::ZERO));
    }

    #[test]
    fn a_record_is_checkpointed_two_seconds_after_it_was_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = store(&folder);
        assert_eq!(opened.writer.tick(NOW, MS).next, Some(CHECKPOINT_WAIT));
        let early = opened.writer.tick(NOW, CHECKPOINT_WAIT);
        assert_eq!((early.next, early.checkpoints.len()), (Some(MS), 0));
        let due = opened.writer.tick(NOW, MS + CHECKPOINT_WAIT);
        assert!(matches!(due.checkpoints[..], [Ok(())]), "{due:?}");
        assert_eq!(due.next, None, "an idle writer is not woken");
        assert_eq!(opened.writer.uncheckpointed_bytes(), 0);
    }

    #[test]
    fn a_checkpoint_on_a_thread_is_polled_until_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = store(&folder);
        opened.writer.start_checkpoint_thread().unwrap();
        opened.writer.tick(NOW, MS);
        let mut tick = opened.writer.tick(NOW, MS + CHECKPOINT_WAIT);
        while tick.checkpoints.is_empty() {
            assert_eq!(tick.next, Some(CHECKPOINT_POLL_WAIT));
            std::thread::yield_now();
            tick = opened.writer.tick(NOW, MS + CHECKPOINT_WAIT);
        }
        assert_eq!((tick.next, opened.writer.uncheckpointed_bytes()), (None, 0));
    }

    #[test]
    fn a_failed_checkpoint_delays_the_next_one() {
        let mut schedule = CheckpointSchedule::default();
        assert!(schedule.may_run(MS));
        schedule.failed(MS);
        assert!(!schedule.may_run(CHECKPOINT_RETRY_WAIT));
        assert_eq!(schedule.wait(CHECKPOINT_RETRY_WAIT), Some(MS));
        assert!(schedule.may_run(MS + CHECKPOINT_RETRY_WAIT));
        assert!(!schedule.is_due(false, CHECKPOINT_WAIT));
        // Without records in the current epoch too, because the frozen ones may have no checkpoint.
        assert!(schedule.is_due(false, MS + CHECKPOINT_WAIT));
    }
}
