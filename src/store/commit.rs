//! Commits and checkpoints: where a batch becomes durable.
//!
//! Every commit of the running writer passes `Writer::commit`. Three callers commit to files that no writer has open: a
//! changed master key, a replayed replication log and a received backup. In the active partition a record of the
//! write-ahead log is the commit. Checkpoints write the records into redb later.
//!
//! Invariant: a half of the write-ahead log is reused only after a checkpoint contains its epoch.

use std::sync::{Arc, Weak};

use crate::kv::error::{Error, Result};
use crate::kv::segment::{ACTIVE_CACHE_BYTES, BLOBS_SCHEMA, OTHER_CACHE_BYTES, Segment, catch_panic};
use crate::kv::tables::{Key, Table};
use crate::kv::wal::{EPOCH_BYTES_MAX, EPOCH_KEY, NEEDED_KEY};
use crate::kv::write_batch::WriteBatch;
use crate::model::Time;
use crate::mutants::mutant;
use crate::store::partitions::set::{Partition, PartitionSet, STATE_FILE};
use crate::store::writer::Writer;

/// Bytes of an epoch's records above which a checkpoint is due: a quarter of the maximum, so that batches fit in while
/// it runs. The rows of twice as many bytes are in memory then.
const CHECKPOINT_DUE_BYTES: u64 = EPOCH_BYTES_MAX / 4;

/// The file that a commit changes.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum CommitTarget<'a> {
    State,
    /// The partition's first id and its segment, open for writing.
    Partition(u128, &'a Arc<Segment>),
}

impl CommitTarget<'_> {
    fn file_name(&self) -> &str {
        match self {
            CommitTarget::State => STATE_FILE,
            CommitTarget::Partition(_, file) => file.name(),
        }
    }
}

/// Whether the write-ahead log may have records that the active partition's file lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WalNeed {
    Needed,
    /// The daemon stops.
    Unneeded,
}

/// Flushes the active partition's frozen memtable. Until it has run, the writer blocks once the other half of the
/// write-ahead log is full.
#[derive(Debug)]
pub struct Checkpoint {
    /// Dangling if the segment was closed. Opening it again replays the write-ahead log.
    file: Weak<Segment>,
}

impl Checkpoint {
    /// # Errors
    /// The caller passes the error to `Writer::checkpoint_failed`.
    pub fn run(self) -> Result<()> {
        self.file.upgrade().map_or(Ok(()), |file| catch_panic(file.name(), || file.flush()).flatten())
    }
}

impl Writer {
    /// Commits a write batch, makes it visible and publishes it to the followers. After a failed commit to `state.redb`
    /// the file is marked for reopening, so that memory agrees with it.
    ///
    /// In a cluster the commit log has the commit first. After a failed commit this store lacks a commit of that log, so the
    /// tenure ends, and the next start applies it.
    ///
    /// # Errors
    /// The commit failed. The error does not say whether it is on disk.
    pub(in crate::store) fn commit(&mut self, target: CommitTarget<'_>, mut write_batch: WriteBatch) -> Result<()> {
        let is_in_cluster = self.appender.is_some();
        let mut begun = self.publisher.0.begin(target.file_name(), self.now, &mut write_batch, is_in_cluster);
        if let (Some(appender), Some(record)) = (&mut self.appender, &begun.record)
            && let Err(error) = appender.append(begun.number, record.clone())
        {
            self.publisher.0.end(begun, false);
            return Err(error);
        }
        if mutant!("follower_misses_state") && matches!(target, CommitTarget::State) {
            begun.record = None;
        }
        let committed = match target {
            CommitTarget::State => self.partition_set.state().and_then(|file| file.commit(write_batch)),
            CommitTarget::Partition(first, file) => self.commit_partition_batch(first, file, write_batch),
        };
        if let (Some(appender), Err(_)) = (&mut self.appender, &committed) {
            appender.end();
        }
        self.publisher.0.end(begun, committed.is_ok());
        if let (CommitTarget::State, Err(error)) = (target, &committed) {
            self.mark_failed(error);
        }
        committed
    }

    /// Commits a write batch: its large payloads first, then its rows. Erased payloads are overwritten last, when no
    /// crash can bring their rows back.
    fn commit_partition_batch(&mut self, first: u128, file: &Arc<Segment>, mut write_batch: WriteBatch) -> Result<()> {
        let has_blobs = self.place_payloads(file, &mut write_batch)?;
        if has_blobs && !mutant!("blob_after_record") {
            file.blobs().sync()?;
        }
        let erased = write_batch.take_erased();
        self.commit_rows(first, file, write_batch)?;
        if has_blobs && mutant!("blob_after_record") {
            file.blobs().sync()?;
        }
        self.store_erased(file, &erased);
        file.blobs().erase(erased)
    }

    /// Writes the large payloads of a batch into the blob file, whose sync must follow. `false` if it has none.
    fn place_payloads(&mut self, file: &Segment, write_batch: &mut WriteBatch) -> Result<bool> {
        if write_batch.has_payloads() {
            self.partition_set.state()?.raise_schema(BLOBS_SCHEMA)?;
        }
        let PartitionSet { disk, options, .. } = &*self.partition_set;
        write_batch.place_payloads(file.blobs(), &**disk, options.partition_max_bytes)
    }

    /// Commits the rows of a write batch. In the active partition a WAL record is the commit if it fits. Everywhere else
    /// it is a redb commit.
    fn commit_rows(&mut self, first: u128, file: &Arc<Segment>, write_batch: WriteBatch) -> Result<()> {
        if first != self.active {
            return file.commit(write_batch);
        }
        let mut is_written = self.wal.append(&write_batch.changes())?;
        if !is_written && self.wal.bytes() > 0 {
            self.rotate_wal(file)?;
            is_written = self.wal.append(&write_batch.changes())?;
        }
        if !is_written {
            return self.commit_all(first, file, write_batch, WalNeed::Needed);
        }
        file.insert(write_batch.into_layer());
        if (self.wal.bytes() >= CHECKPOINT_DUE_BYTES || file.has_many_layers()) && !file.is_flushing() {
            self.begin_epoch(file);
        }
        Ok(())
    }

    /// Commits the memtable and `write_batch` to redb in one commit and resets the write-ahead log.
    fn commit_all(
        &mut self,
        first: u128,
        file: &Arc<Segment>,
        mut write_batch: WriteBatch,
        need: WalNeed,
    ) -> Result<()> {
        let epoch = self.wal.epoch();
        write_batch.put(Table::Meta, Key::from_slice(NEEDED_KEY), &(need == WalNeed::Needed));
        write_batch.put(Table::Meta, Key::from_slice(EPOCH_KEY), &epoch);
        file.commit(write_batch)?;
        self.wal.reset(first, epoch);
        Ok(())
    }

    /// Begins the next epoch. If the previous checkpoint has not run, it runs here.
    fn rotate_wal(&mut self, file: &Arc<Segment>) -> Result<()> {
        file.flush()?;
        self.begin_epoch(file);
        Ok(())
    }

    /// Freezes the memtable for a checkpoint and rotates the write-ahead log.
    fn begin_epoch(&mut self, file: &Arc<Segment>) {
        self.flushing_bytes = self.wal.bytes();
        file.freeze(self.wal.epoch());
        self.wal.rotate();
        self.checkpoint = Some(Checkpoint { file: Arc::downgrade(file) });
    }

    /// The checkpoint that is due. It runs once, on any thread, while batches go on.
    pub fn take_checkpoint(&mut self) -> Option<Checkpoint> {
        self.checkpoint.take()
    }

    /// Makes a checkpoint due, if the write-ahead log has records and no checkpoint is under way.
    pub fn request_checkpoint(&mut self) -> Result<()> {
        let Some(partition) = self.partition_set.partition(self.active) else { return Ok(()) };
        let file = self.open_for_writing(&partition)?;
        if self.wal.bytes() > 0 && !file.is_flushing() {
            self.begin_epoch(&file);
        }
        Ok(())
    }

    /// Whether a checkpoint is due or running.
    pub(in crate::store) fn is_checkpoint_under_way(&self) -> bool {
        is_checkpoint_under_way(&self.partition_set, self.active)
    }

    /// Bytes of the write-ahead log that redb does not contain.
    pub(in crate::store) fn uncheckpointed_bytes(&self) -> u64 {
        self.wal.bytes() + if self.is_checkpoint_under_way() { self.flushing_bytes } else { 0 }
    }

    /// Whether the write-ahead log has records that no checkpoint covers.
    pub(in crate::store) fn has_uncheckpointed(&self) -> bool {
        self.wal.bytes() > 0
    }

    /// Runs a checkpoint at once and resets the write-ahead log.
    pub fn checkpoint(&mut self) -> Result<()> {
        self.checkpoint_with(WalNeed::Needed, |writer, file| Ok(writer.wal.bytes() > 0 || file.is_flushing()))
    }

    /// Runs the last checkpoint before a stop, after the files of runs of fingerprints. The partition does not need the
    /// write-ahead log afterwards, so nothing more may be applied. After a failed sync nothing is done.
    pub fn close(&mut self) -> Result<()> {
        if self.must_end() {
            return Ok(());
        }
        while self.store_fingerprints() {}
        if mutant!("stop_forgets_records")
            && let Some(active) = self.partition_set.partition(self.active)
        {
            self.partition_set.close(&active)?;
            let file = self.partition_set.write(&active, ACTIVE_CACHE_BYTES)?;
            let marks = WriteBatch::on(file.snapshot()?);
            return self.commit_all(active.first, &file, marks, WalNeed::Unneeded);
        }
        self.checkpoint_with(WalNeed::Unneeded, |_, _| Ok(true))
    }

    /// Records that the active partition needs the write-ahead log from now on.
    pub(in crate::store) fn require_wal(&mut self) -> Result<()> {
        if !self.wal.has_head() {
            return Ok(());
        }
        self.checkpoint_with(WalNeed::Needed, |_, file| Ok(!file.needs_wal()?))
    }

    fn checkpoint_with(
        &mut self,
        need: WalNeed,
        is_due: impl FnOnce(&Writer, &Arc<Segment>) -> Result<bool>,
    ) -> Result<()> {
        let Some(partition) = self.partition_set.partition(self.active) else { return Ok(()) };
        // A closed segment may lack records of the write-ahead log. Opening it replays them.
        let file = self.open_for_writing(&partition)?;
        if !is_due(self, &file)? {
            return Ok(());
        }
        let write_batch = WriteBatch::on(file.snapshot()?);
        self.commit_all(partition.first, &file, write_batch, need).inspect_err(|error| {
            drop(file);
            self.checkpoint_failed(error);
        })
    }

    /// Opens the active partition again after a checkpoint failed. The write-ahead log still has its records.
    pub fn checkpoint_failed(&mut self, error: &Error) {
        self.mark_failed(error);
        let Some(partition) = self.partition_set.partition(self.active) else { return };
        self.figures.remove(&partition.first);
        self.end_backup();
        // Only the writer opens the active partition, so readers would find it closed until the next batch.
        let _ = self.reopen_for_writing(&partition);
    }

    /// The segment of a partition, open for writing. An archived partition is unarchived first, and opening the active
    /// one replays the write-ahead log.
    pub(in crate::store) fn open_for_writing(&mut self, partition: &Arc<Partition>) -> Result<Arc<Segment>> {
        if partition.row().archived {
            self.unarchive(partition)?;
        }
        if partition.first != self.active {
            let partition_set = self.partition_set.clone();
            return partition_set.write_prepared(partition, OTHER_CACHE_BYTES, |file| self.finish_erasures(file));
        }
        let partition_set = self.partition_set.clone();
        partition_set.write_prepared(partition, ACTIVE_CACHE_BYTES, |file| self.recover(partition.first, file))
    }

    /// Closes a partition and opens it again for writing, after it failed.
    pub(in crate::store) fn reopen_for_writing(&mut self, partition: &Arc<Partition>) -> Result<Arc<Segment>> {
        let partition_set = self.partition_set.clone();
        if partition.first == self.active {
            return partition_set
                .reopen_prepared(partition, ACTIVE_CACHE_BYTES, |file| self.recover(partition.first, file));
        }
        partition_set.reopen_prepared(partition, OTHER_CACHE_BYTES, |file| self.finish_erasures(file))
    }

    /// Overwrites the erased payloads of a segment that was opened. Without space they wait for the next opening.
    fn finish_erasures(&mut self, file: &Arc<Segment>) -> Result<()> {
        match file.finish_erasures() {
            Err(error) if error.is_disk_full() => {
                self.space.ran_out();
                Ok(())
            }
            resumed => resumed,
        }
    }

    /// Replays the records that the segment does not contain. The write-ahead log continues after them. No reader sees
    /// the segment before, because it lacks acknowledged batches.
    fn recover(&mut self, first: u128, file: &Arc<Segment>) -> Result<()> {
        let end = file.replay_wal(first, &self.wal)?;
        file.resume_blobs()?;
        let partition_set = self.partition_set.clone();
        if let Err(error) = self.wal.prepare(&*partition_set.disk, first, file.epoch()?) {
            // A log of an earlier version has no head, and the disk may be full. The first record writes the head.
            if !error.is_disk_full() {
                return Err(error);
            }
            self.space.ran_out();
        }
        let Some(end) = end else {
            self.wal.reset(first, file.epoch()?);
            return self.finish_erasures(file);
        };
        self.wal.resume(first, end)?;
        self.finish_erasures(file)?;
        if file.is_flushing() {
            self.flushing_bytes = EPOCH_BYTES_MAX;
            self.checkpoint = Some(Checkpoint { file: Arc::downgrade(file) });
        }
        self.idempotency.load(&file.snapshot()?, Time::ZERO)
    }
}

/// Whether frozen layers of the active partition wait for a flush.
pub(in crate::store) fn is_checkpoint_under_way(partition_set: &PartitionSet, active: u128) -> bool {
    let file = partition_set.partition(active).and_then(|active| active.opened());
    file.is_some_and(|file| file.is_flushing())
}
