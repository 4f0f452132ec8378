//! The items of the write queue, and its depth.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use tokio::sync::oneshot;

use crate::model::Time;
use crate::store::admin::BackupSnapshot;
use crate::store::{Applied, Maintained, Rejection, Retention, WriteRequest};

/// Receives the result of a request.
pub type Responder = oneshot::Sender<Result<Applied, Rejection>>;

/// An item of the queue.
pub enum QueueItem {
    Request(Box<WriteRequest>, usize, Option<Responder>),
    /// A round of maintenance.
    Maintenance(Retention, oneshot::Sender<Result<Maintained, String>>),
    /// Takes a snapshot of the store for a backup.
    Backup(oneshot::Sender<Result<BackupSnapshot, String>>),
    /// Ends the loop after everything that was sent before.
    End,
}

/// Time for which a write without space counts if no other write follows. It is longer than the wait of an outcome that is
/// written again, so that readiness does not alternate.
const NO_SPACE_COUNTED_MS: i64 = 30_000;
/// In place of a time: no write was without space.
const NEVER: i64 = i64::MIN;

/// The end of a batch, as far as the storage's health is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchEnd {
    /// At least one request was written.
    Written,
    /// No request was written, and storage did not fail.
    Nothing,
    /// Storage failed because the disk had no space.
    WithoutSpace,
    /// Storage failed.
    Failed,
}

impl BatchEnd {
    /// Whether storage failed the batch.
    pub fn is_failure(self) -> bool {
        matches!(self, BatchEnd::WithoutSpace | BatchEnd::Failed)
    }
}

/// The waiting publishes, and the states that the handles and the loop share.
pub struct QueueDepth {
    publishes: AtomicUsize,
    bytes: AtomicUsize,
    stopping: AtomicBool,
    /// Whether storage failed the last batch, for another reason than lack of space.
    failing: AtomicBool,
    /// The time of the last write without space, or `NEVER` if a later one succeeded.
    without_space_at: AtomicI64,
}

impl Default for QueueDepth {
    fn default() -> Self {
        Self {
            publishes: AtomicUsize::default(),
            bytes: AtomicUsize::default(),
            stopping: AtomicBool::default(),
            failing: AtomicBool::default(),
            without_space_at: AtomicI64::new(NEVER),
        }
    }
}

impl QueueDepth {
    /// Waiting publishes.
    pub fn publishes(&self) -> usize {
        self.publishes.load(Ordering::Relaxed)
    }

    /// Payload bytes of the waiting publishes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A publish of so many bytes waits from now on.
    pub fn add_publish(&self, bytes: usize) {
        self.publishes.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A publish of so many bytes has left the queue.
    pub fn remove_publish(&self, bytes: usize) {
        self.publishes.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether publishes are rejected because the daemon is stopping.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Rejects publishes from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether storage failed the last batch, for another reason than lack of space.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Whether the last storage failure was a write without space, a short time ago, and none succeeded since.
    pub fn lacks_space(&self, now: Time) -> bool {
        let at = self.without_space_at.load(Ordering::Relaxed);
        at != NEVER && now.since(Time(at)) < NO_SPACE_COUNTED_MS
    }

    /// Records the end of a batch.
    pub fn batch_ended(&self, end: BatchEnd, now: Time) {
        self.failing.store(end == BatchEnd::Failed, Ordering::Relaxed);
        match end {
            BatchEnd::Nothing => {}
            BatchEnd::WithoutSpace => self.without_space_at.store(now.0, Ordering::Relaxed),
            BatchEnd::Written | BatchEnd::Failed => self.without_space_at.store(NEVER, Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_space_counts_until_a_write_succeeds_or_for_a_time() {
        let (depth, at) = (QueueDepth::default(), |ms: i64| Time(1_000_000 + ms));
        let shown = |ms| (depth.lacks_space(at(ms)), depth.is_failing());
        assert_eq!(shown(0), (false, false));
        depth.batch_ended(BatchEnd::WithoutSpace, at(0));
        assert_eq!(shown(0), (true, false));
        // A batch of rejections alone proves nothing.
        depth.batch_ended(BatchEnd::Nothing, at(1_500));
        assert_eq!(shown(2_000), (true, false));
        depth.batch_ended(BatchEnd::Written, at(2_000));
        assert_eq!(shown(2_000), (false, false));
        depth.batch_ended(BatchEnd::WithoutSpace, at(3_000));
        assert_eq!(shown(3_000 + NO_SPACE_COUNTED_MS), (false, false));
        depth.batch_ended(BatchEnd::WithoutSpace, at(50_000));
        depth.batch_ended(BatchEnd::Failed, at(51_000));
        assert_eq!(shown(51_000), (false, true), "the last failure was another one");
    }
}
