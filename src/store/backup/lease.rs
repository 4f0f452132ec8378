//! What the writer and a running backup tell each other.
//!
//! Invariant: a quiet partition is noted here before anything in it changes, with what the totals lost by that; and files
//! are closed only after the backup was told to let go, which it looks for all the time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kv::error::Result;
use crate::kv::segment::io;
use crate::model::figures::Sums;
use crate::model::id::WebhookId;
use crate::store::backup::STREAM;

/// What the totals of a webhook or job lost.
pub type RemovedSums = (WebhookId, Sums);

/// Shared by a backup and the writer, while the backup is being taken.
#[derive(Debug, Default)]
pub struct BackupLease {
    cancelled: AtomicBool,
    unarchived: Mutex<BTreeMap<u128, Vec<RemovedSums>>>,
}

impl BackupLease {
    pub(in crate::store) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether the backup must let go of all files.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// # Errors
    /// The backup must let go of all files.
    pub(in crate::store) fn check_cancelled(&self) -> Result<()> {
        match self.is_cancelled() {
            false => Ok(()),
            true => Err(io(STREAM, std::io::Error::other("the daemon is stopping, or its disk has failed; try again"))),
        }
    }

    pub(in crate::store) fn record_unarchived(&self, first: u128, taken: Vec<RemovedSums>) {
        self.changes().entry(first).or_insert(taken);
    }

    pub(in crate::store) fn has_changed(&self, first: u128) -> bool {
        self.changes().contains_key(&first)
    }

    pub(in crate::store) fn removed_sums(&self, first: u128) -> Option<Vec<RemovedSums>> {
        self.changes().get(&first).cloned()
    }

    fn changes(&self) -> MutexGuard<'_, BTreeMap<u128, Vec<RemovedSums>>> {
        self.unarchived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
