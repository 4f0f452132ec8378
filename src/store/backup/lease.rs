//! The backup lease coordinates the writer with a running backup.
//!
//! Invariant: before changing an archived partition the writer records it here with the sums it removed from the totals. The
//! writer closes files only after cancelling the backup, which polls `is_cancelled`. Before it overwrites an erased payload in
//! a blob file, it stores the bytes here, because the backup's snapshot still has the event.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kv::blob_range::BlobRange;
use crate::kv::error::{Result, io};
use crate::kv::segment::Segment;
use crate::model::figures::Sums;
use crate::model::id::WebhookId;
use crate::store::backup::STREAM;

/// Maximum bytes of erased payloads that are stored for a backup. A backup that needs more fails.
const ERASED_BYTES_MAX: usize = 64 << 20;

/// Sums that were removed from the totals of a webhook or job.
pub(in crate::store) type RemovedSums = (WebhookId, Sums);

/// Shared by the writer and a backup while the backup runs.
#[derive(Debug, Default)]
pub(in crate::store) struct BackupLease {
    cancelled: AtomicBool,
    unarchived: Mutex<BTreeMap<u128, Vec<RemovedSums>>>,
    erased: Mutex<ErasedPayloads>,
}

/// Payloads that were erased while the backup runs.
#[derive(Debug, Default)]
struct ErasedPayloads {
    /// Each payload has the partition's file and its offset in the blob file as key.
    payloads: BTreeMap<(String, u64), Vec<u8>>,
    bytes: usize,
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

    /// Stores payloads of `file` that are about to be overwritten. A payload that cannot be read is not stored.
    pub(in crate::store) fn store_erased(&self, file: &Segment, places: &[BlobRange]) {
        let mut erased = self.erased();
        for place in places {
            let bytes = erased.bytes + place.bytes as usize;
            if bytes > ERASED_BYTES_MAX {
                continue;
            }
            if let Ok(Some(payload)) = file.blobs().read(*place) {
                erased.bytes = bytes;
                erased.payloads.insert((file.name().to_owned(), place.offset), payload);
            }
        }
    }

    /// The bytes of a payload that was erased meanwhile.
    pub(in crate::store) fn erased_payload(&self, file: &str, place: BlobRange) -> Option<Vec<u8>> {
        self.erased().payloads.get(&(file.to_owned(), place.offset)).cloned()
    }

    fn erased(&self) -> MutexGuard<'_, ErasedPayloads> {
        self.erased.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes(&self) -> MutexGuard<'_, BTreeMap<u128, Vec<RemovedSums>>> {
        self.unarchived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
