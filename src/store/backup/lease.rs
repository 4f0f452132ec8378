//! The backup lease coordinates the writer with a running backup.
//!
//! Invariant: before changing an archived partition the writer records it here with the sums it removed from the totals. The
//! writer closes files only after cancelling the backup, which polls `is_cancelled`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kv::error::{Result, io};
use crate::model::figures::Sums;
use crate::model::id::WebhookId;
use crate::store::backup::STREAM;

/// Sums that were removed from the totals of a webhook or job.
pub(in crate::store) type RemovedSums = (WebhookId, Sums);

/// Shared by the writer and a backup while the backup runs.
#[derive(Debug, Default)]
pub(in crate::store) struct BackupLease {
    cancelled: AtomicBool,
    unarchived: Mutex<BTreeMap<u128, Vec<RemovedSums>>>,
}

impl BackupLease {
    pub(in crate::store) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether the backup must release all files.
    pub(in crate::store) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// # Errors
    /// The backup must release all files.
    pub(in crate::store) fn check_cancelled(&self) -> Result<()> {
        match self.is_cancelled() {
            false => Ok(()),
            true => Err(io(STREAM, std::io::Error::other("the daemon is stopping, or its disk has failed; try again"))),
        }
    }

    pub(in crate::store) fn record_unarchived(&self, first: u128, sums: Vec<RemovedSums>) {
        self.changes().entry(first).or_insert(sums);
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
