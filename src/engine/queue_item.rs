//! The items of the write queue, and its depth.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::oneshot;

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

/// The waiting publishes, and the states that the handles and the loop share.
#[derive(Default)]
pub struct QueueDepth {
    publishes: AtomicUsize,
    bytes: AtomicUsize,
    stopping: AtomicBool,
    /// Whether storage failed the last batch.
    failing: AtomicBool,
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

    /// Whether storage failed the last batch.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    pub fn set_failing(&self, is_failing: bool) {
        self.failing.store(is_failing, Ordering::Relaxed);
    }
}
