//! Recovery of a failed file: reopens it and rebuilds its state in memory.
//!
//! Invariant: a failed commit may still be on disk, because its last sync may fail after the header is written. So
//! nothing is assumed rolled back. The registry, the list of partitions, fingerprints, states and due entries are
//! loaded as at a start. redb answers nothing after an error until its file is opened again.

use crate::kv::error::{Error, Result};
use crate::kv::wal::WAL_FILE;
use crate::model::Time;
use crate::model::id::Id;
use crate::store::partitions::open::{load_state, remove_unlisted};
use crate::store::partitions::set::{PARTITIONS, STATE_FILE, owner_of};
use crate::store::partitions::tenant_figures;
use crate::store::read::lookup::{heads_in, last_id};
use crate::store::writer::{AppliedBatch, Writer};

impl Writer {
    /// Marks the file that an error names as failed, and notes a lack of space.
    pub(in crate::store) fn mark_failed(&mut self, error: &Error) {
        if error.is_disk_full() {
            self.space.ran_out();
        }
        let (Error::Storage { file, .. } | Error::Io { file, .. }) = error else { return };
        if file == STATE_FILE {
            self.failed_files.insert(0);
        } else if file == WAL_FILE {
            // Opening the active partition replays the write-ahead log.
            self.failed_files.insert(self.active);
        } else if let Some(first) =
            file.strip_prefix(PARTITIONS).and_then(|name| owner_of(name.trim_start_matches('/')))
        {
            self.failed_files.insert(first);
        }
    }

    /// Reopens failed files. A file that cannot be opened is tried again with the next batch.
    pub(in crate::store) fn reopen_failed(&mut self, now: Time, batch: &mut AppliedBatch) {
        if self.failed_files.is_empty() || self.must_end() {
            return;
        }
        // Closing a file waits for its readers.
        self.end_backup();
        for first in std::mem::take(&mut self.failed_files) {
            let mended = if first == 0 { self.reopen_state(batch) } else { self.reopen_partition(first, now, batch) };
            if let Err(error) = mended {
                batch.effects.failures.push(error.to_string());
                self.failed_files.insert(first);
            }
        }
    }

    fn reopen_state(&mut self, batch: &mut AppliedBatch) -> Result<()> {
        self.partition_set.reopen_state()?;
        let counted: Vec<u128> =
            self.partition_set.partitions().iter().filter(|p| p.row().archived).map(|p| p.first).collect();
        let last = load_state(&self.partition_set)?;
        self.counts_tenants = tenant_figures::stored(&self.partition_set)?.is_some();
        self.ids.rise_above(last);
        for partition in self.partition_set.partitions() {
            if !partition.row().sealed && partition.first != self.active {
                // The failed commit had begun this partition. redb must contain the records of the one before, because
                // the write-ahead log goes on for this one.
                self.checkpoint()?;
                self.active = partition.first;
                self.open_for_writing(&partition)?;
            }
            if partition.row().archived && !counted.contains(&partition.first) {
                self.figures.remove(&partition.first);
                let _ = self.partition_set.close(&partition);
            }
        }
        remove_unlisted(&self.partition_set, &self.wal)?;
        self.is_roll_uncertain = false;
        self.fanouts.clear();
        self.name_runs.forget();
        let effects = &mut batch.effects;
        effects.registry_changed = true;
        effects.jobs = true;
        let registry = self.partition_set.registry();
        effects.states.extend(registry.webhooks.keys().map(|id| (*id, self.partition_set.webhook_state(*id))));
        batch.follow.extend(self.broken_queues()?);
        Ok(())
    }

    fn reopen_partition(&mut self, first: u128, now: Time, batch: &mut AppliedBatch) -> Result<()> {
        let Some(partition) = self.partition_set.partition(first) else { return Ok(()) };
        self.figures.remove(&first);
        self.partition_set.recent.forget();
        if partition.row().archived {
            // A failed file reports its failure again when it is closed, and is closed all the same.
            let _ = self.partition_set.close(&partition);
            return Ok(());
        }
        let file = self.reopen_for_writing(&partition)?;
        let snapshot = file.snapshot()?;
        self.load_states(&snapshot)?;
        self.partition_set.raise_newest(Id::from_u128(last_id(&snapshot)?));
        let window = self.fingerprint_horizon(now);
        self.idempotency.load(&self.partition_set.snapshot(&partition)?, window)?;
        let effects = &mut batch.effects;
        for (webhook, at) in heads_in(&snapshot)? {
            effects.due.push((webhook, at));
            effects.feeds.push(webhook);
            effects.states.push((webhook, self.partition_set.webhook_state(webhook)));
        }
        drop(snapshot);
        batch.follow.extend(self.broken_queues()?);
        Ok(())
    }
}
