//! What the writer and a running backup tell each other.
//!
//! Invariant: a quiet partition is noted here before anything in it changes, with what the totals lost by that; and files
//! are closed only after the backup was told to let go, which it looks for all the time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::error::Result;
use super::super::file::io;
use super::STREAM;
use crate::model::figures::Sums;
use crate::model::id::WebhookId;

/// What the totals of a webhook or job lost.
pub type RemovedSums = (WebhookId, Sums);

/// Shared by a backup and the writer, while the backup is being taken.
#[derive(Debug, Default)]
pub struct BackupLease {
    cancelled: AtomicBool,
    unarchived: Mutex<BTreeMap<u128, Vec<RemovedSums>>>,
}

impl BackupLease {
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether the backup must let go of all files.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// # Errors
    /// The backup must let go of all files.
    pub(super) fn check_cancelled(&self) -> Result<()> {
        match self.is_cancelled() {
            false => Ok(()),
            true => Err(io(STREAM, std::io::Error::other("the daemon is stopping, or its disk has failed; try again"))),
        }
    }

    pub(super) fn record_unarchived(&self, first: u128, taken: Vec<RemovedSums>) {
        self.changes().entry(first).or_insert(taken);
    }

    pub(super) fn has_changed(&self, first: u128) -> bool {
        self.changes().contains_key(&first)
    }

    pub(super) fn removed_sums(&self, first: u128) -> Option<Vec<RemovedSums>> {
        self.changes().get(&first).cloned()
    }

    fn changes(&self) -> MutexGuard<'_, BTreeMap<u128, Vec<RemovedSums>>> {
        self.unarchived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
