//! Maintenance of the partitions: begins a new one, archives idle ones, drops expired ones.
//!
//! Invariant: lifetime figures are `totals` plus the sums of the partitions that are not archived. The commit that
//! delists a partition adds its sums to `totals`. The file is unlinked later and off the writer thread, because
//! unlinking a large file takes long.

use std::sync::Arc;

use crate::kv::segment::ACTIVE_CACHE_BYTES;
use crate::model::figures::Sums;
use crate::model::id::{Id, WebhookId};
use crate::model::time::DAY_MS;
use crate::model::webhook::WebhookState;
use crate::model::{Time, Webhook};
use crate::mutants::mutant;

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::payload::erased_in;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Key, Table};
use crate::kv::write_batch::WriteBatch;
use crate::store::command::{EventInput, PartitionCommand, WriteRequest};
use crate::store::commit::CommitTarget;
use crate::store::effects::Effects;
use crate::store::figures::{SumsRow, owner_of};
use crate::store::partitions::last_dropped;
use crate::store::partitions::set::{Partition, PartitionRow, PartitionSet};
use crate::store::read::lookup::{decoded, last_id, sums_of};
use crate::store::writer::{AppliedBatch, Writer};

/// Age at which a new partition begins, whatever the size of the active one.
const PARTITION_MS_MAX: i64 = DAY_MS;
/// Maximum number of partitions that one round archives. Publishers wait for a round.
const ROUND_PARTITIONS_MAX: usize = 4;
/// Maximum number of partitions that one round drops.
pub const ROUND_DROPPED_MAX: usize = 4;
/// Bytes of the write-ahead log above which a partition is not sealed yet, because every batch waits for the flush.
const SEALED_BYTES_MAX: u64 = 512 << 10;
/// Checkpoints that run before a full partition is sealed. Under load each leaves fewer records than the one before.
const SEALING_CHECKPOINTS_MAX: u32 = 4;

/// Whether maintenance drops partitions whose retention has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    Running,
    /// Nothing is dropped, because the clock is not trusted.
    Paused,
}

/// A delisted partition, whose file is still there.
#[derive(Debug)]
pub struct DroppedPartition(pub(in crate::store) Arc<Partition>);

impl DroppedPartition {
    /// The path of its file below the data directory.
    pub fn file_name(&self) -> String {
        self.0.file_name()
    }
}

/// The result of a round of maintenance.
#[derive(Debug, Default)]
pub struct Maintained {
    /// Delisted partitions. `Store::unlink` removes their files, and the next start removes the rest.
    pub dropped: Vec<DroppedPartition>,
    pub archived: usize,
    /// Whether there is more to archive or to drop than one round does.
    pub is_more: bool,
    /// Requests that follow from the round.
    pub follow: Vec<WriteRequest>,
    /// Descriptions of failures. The rest of the round was done, and the next round tries again.
    pub failures: Vec<String>,
    /// Effects of reopening failed files, for the scheduler.
    pub effects: Effects,
}

impl Writer {
    /// Begins a new partition if the active one is large or old enough and redb contains nearly all of its records.
    pub(in crate::store) fn roll_if_full(&mut self, now: Time) -> Result<()> {
        let active = Partition::new(self.active, PartitionRow::default());
        let opened = self.partition_set.partition(self.active).and_then(|active| active.opened());
        let bytes =
            self.partition_set.disk.len(&active.file_name()).unwrap_or(0) + opened.map_or(0, |file| file.blobs().end());
        let age_ms = now.since(Id::<Partition>::from_u128(self.active).time());
        if bytes < self.partition_set.options.partition_max_bytes && age_ms < PARTITION_MS_MAX {
            return Ok(());
        }
        if self.uncheckpointed_bytes() <= SEALED_BYTES_MAX {
            return self.roll(now);
        }
        // While a checkpoint runs beside the batches, the full partition takes in a little more.
        match self.is_checkpoint_under_way() {
            // No thread runs a checkpoint that is still waiting since the last batch.
            true if self.checkpoint.is_some() => self.roll(now),
            true => Ok(()),
            false if self.sealing_checkpoints == SEALING_CHECKPOINTS_MAX => self.roll(now),
            false => {
                self.sealing_checkpoints += 1;
                self.request_checkpoint()
            }
        }
    }

    /// Seals the active partition and begins another. The file is made before the list names it, so a cut leaves at
    /// worst a file that is not listed.
    pub fn roll(&mut self, now: Time) -> Result<()> {
        self.now = now;
        if !mutant!("narrowed_before_commit") {
            self.checkpoint()?;
        }
        let first = self.id::<Partition>(now).as_u128();
        let new = Partition::new(first, PartitionRow::default());
        self.partition_set.create_partition(&new)?;
        // Opened before it is listed, because readers never open the active partition.
        let opened = self
            .partition_set
            .write(&new, ACTIVE_CACHE_BYTES)
            .and_then(|_| self.wal.announce(&*self.partition_set.disk, first, self.active))
            .and_then(|()| self.partition_set.state()?.snapshot());
        let state = match opened {
            Ok(state) => state,
            Err(error) => {
                // The list does not name the file yet. On a full disk its space is needed.
                let _ = self.partition_set.close(&new);
                let _ = self.partition_set.disk.remove(&new.file_name());
                return Err(error);
            }
        };
        let old = self.partition_set.partition(self.active);
        let mut write_batch = WriteBatch::on(state);
        write_batch.put(Table::Partitions, tables::partition(first), &new.row());
        let sealed = old.map(|old| (PartitionRow { sealed: true, ..old.row() }, old));
        if let Some((row, old)) = &sealed {
            write_batch.put(Table::Partitions, tables::partition(old.first), row);
        }
        if let Err(error) = self.commit(CommitTarget::State, write_batch) {
            self.is_roll_uncertain = true;
            self.failed_files.insert(0);
            return Err(error);
        }
        if let Some((row, old)) = sealed {
            old.set_row(row);
            if let Some(file) = old.opened() {
                // The room stays if the disk fails, and costs only space.
                let _ = file.blobs().trim();
            }
            // The next use opens it with the small cache of a sealed partition.
            self.partition_set.close_if_unused(&old);
        }
        self.partition_set.add_partition(new);
        self.active = first;
        self.sealing_checkpoints = 0;
        self.wal.reset(first, 0);
        Ok(())
    }

    /// One round: archives idle partitions, drops expired ones unless retention is paused, and removes
    /// expired entries of the idempotency index. A part that fails does not stop the others.
    pub fn maintain(&mut self, now: Time, retention: Retention) -> Maintained {
        self.now = now;
        let mut done = Maintained::default();
        // Reopens failed files first, so that the round finds every file open, and at the end those that failed
        // meanwhile.
        self.reopen_failed_files(now, &mut done);
        // A backup reads files that archiving closes and dropping removes.
        let is_backup_running = self.is_backup_running();
        for partition in self.partition_set.partitions() {
            let row = partition.row();
            if row.sealed && !row.archived && !is_backup_running {
                if done.archived == ROUND_PARTITIONS_MAX {
                    done.is_more = true;
                    break;
                }
                let counted = self.archive_if_idle(&partition);
                done.archived += usize::from(self.record_failure(counted, &mut done).unwrap_or(false));
            }
        }
        if retention == Retention::Running && !is_backup_running {
            let dropped = self.drop_expired(now, &mut done);
            self.record_failure(dropped, &mut done);
        }
        if retention == Retention::Running {
            let stored = self.store_last_seen(now);
            self.record_failure(stored, &mut done);
        }
        let counted = self.start_tenant_figures(now);
        self.record_failure(counted, &mut done);
        let begun = self.store_index_start(now);
        self.record_failure(begun, &mut done);
        let swept = self.sweep_removed(&mut done);
        self.record_failure(swept, &mut done);
        let forgotten = self.forget_removed(now);
        self.record_failure(forgotten, &mut done);
        let forgotten = self.expire_answers(now);
        self.record_failure(forgotten, &mut done);
        let horizon = self.fingerprint_horizon(now);
        self.idempotency.remove_before(&*self.partition_set.disk, horizon);
        self.reopen_failed_files(now, &mut done);
        done
    }

    fn reopen_failed_files(&mut self, now: Time, done: &mut Maintained) {
        let mut mended = AppliedBatch::default();
        self.failed_files.extend(self.partition_set.failed());
        self.reopen_failed(now, &mut mended);
        done.failures.append(&mut mended.effects.failures);
        done.follow.append(&mut mended.follow);
        done.effects.merge(mended.effects);
    }

    fn record_failure<T>(&mut self, result: Result<T>, done: &mut Maintained) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.mark_failed(&error);
                done.failures.push(error.to_string());
                None
            }
        }
    }

    fn archive_if_idle(&mut self, partition: &Arc<Partition>) -> Result<bool> {
        let idle = self.partition_set.is_idle(partition)?;
        if idle {
            self.archive(partition)?;
        }
        Ok(idle)
    }

    /// Archives an idle partition: adds its sums and states to `state.redb` and closes its file.
    fn archive(&mut self, partition: &Arc<Partition>) -> Result<()> {
        self.settle_blobs(partition)?;
        let snapshot = self.partition_set.snapshot(partition)?;
        let last = last_id(&snapshot)?.max(partition.first);
        let last_hour = self.last_hour(&snapshot)?;
        let row = PartitionRow { sealed: true, archived: true, last: Some(last), last_hour };
        let mut write_batch = WriteBatch::on(self.partition_set.state()?.snapshot()?);
        for (owner, figures) in sums_of(&snapshot)? {
            add_total(&mut write_batch, owner, |totals| totals.add(&figures.sums))?;
            self.copy_state(&mut write_batch, owner, figures.state)?;
        }
        write_batch.put(Table::Partitions, tables::partition(partition.first), &row);
        drop(snapshot);
        self.commit(CommitTarget::State, write_batch)?;
        partition.set_row(row);
        self.figures.remove(&partition.first);
        self.partition_set.close(partition)
    }

    /// Overwrites erased payloads that a full disk or a kill left, and gives room back, because no later work does either in
    /// an archived partition.
    fn settle_blobs(&mut self, partition: &Arc<Partition>) -> Result<()> {
        if !erased_in(&self.partition_set.snapshot(partition)?)?.is_empty() {
            self.open_for_writing(partition)?.finish_erasures()?;
        }
        if let Some(file) = partition.opened() {
            // The room stays if the disk fails, and costs only space.
            let _ = file.blobs().trim();
        }
        Ok(())
    }

    /// The last hour of the figures in a partition. `None` if no organization has figures there.
    fn last_hour(&self, snapshot: &Snapshot) -> Result<Option<u32>> {
        let mut last = None;
        for organization in self.partition_set.registry().organizations.keys() {
            let owner = owner_of(*organization);
            let (from, to) = (tables::figures(owner, 1), tables::figures(owner, u32::MAX));
            let span = (std::ops::Bound::Included(from.as_slice()), std::ops::Bound::Included(to.as_slice()));
            snapshot.scan(Table::Figures, span, Direction::Down, |key, _| {
                last = last.max(key.last_chunk::<4>().map(|hour| u32::from_be_bytes(*hour)));
                Ok(ScanStep::Stop)
            })?;
        }
        Ok(last)
    }

    /// Copies a partition's state of a webhook to `state.redb`, before the partition is no longer read for it.
    fn copy_state(&self, write_batch: &mut WriteBatch, owner: WebhookId, state: WebhookState) -> Result<()> {
        let known = write_batch.get::<WebhookState>(Table::States, owner.as_bytes())?;
        let is_newer = known.is_none_or(|known| known.sequence < state.sequence);
        if is_newer && self.partition_set.registry().webhooks.contains_key(&owner) {
            write_batch.put(Table::States, tables::one(owner), &state);
        }
        Ok(())
    }

    /// Unarchives a partition before it changes: subtracts its sums from `totals`.
    pub(in crate::store) fn unarchive(&mut self, partition: &Arc<Partition>) -> Result<()> {
        let snapshot = self.partition_set.snapshot(partition)?;
        let row = PartitionRow { archived: false, last: None, last_hour: None, ..partition.row() };
        let mut write_batch = WriteBatch::on(self.partition_set.state()?.snapshot()?);
        let mut taken = Vec::new();
        for (owner, figures) in sums_of(&snapshot)? {
            add_total(&mut write_batch, owner, |totals| totals.subtract(&figures.sums))?;
            taken.push((owner, figures.sums));
        }
        write_batch.put(Table::Partitions, tables::partition(partition.first), &row);
        drop(snapshot);
        self.commit(CommitTarget::State, write_batch)?;
        self.record_unarchived(partition.first, taken);
        partition.set_row(row);
        Ok(())
    }

    fn drop_expired(&mut self, now: Time, done: &mut Maintained) -> Result<()> {
        let partitions = self.partition_set.partitions();
        for pair in partitions.windows(2) {
            // All events of a partition were received before the next partition began.
            let newest = if mutant!("retention_drops_live") { &pair[0] } else { &pair[1] };
            let end = Id::<Partition>::from_u128(newest.first).time().plus_ms(self.partition_set.options.retention_ms);
            if end > now {
                break;
            }
            if done.dropped.len() == ROUND_DROPPED_MAX {
                done.is_more = true;
                break;
            }
            done.follow.extend(self.drop_partition(&pair[0])?);
            done.dropped.push(DroppedPartition(pair[0].clone()));
        }
        if !done.dropped.is_empty() {
            // Queue heads may have gone with their partition.
            done.follow.extend(self.broken_queues()?);
        }
        Ok(())
    }

    /// Delists a partition and counts its open deliveries as failed. Its file stays until it is unlinked.
    fn drop_partition(&mut self, partition: &Arc<Partition>) -> Result<Vec<WriteRequest>> {
        let mut follow = Vec::new();
        let mut write_batch = WriteBatch::on(self.partition_set.state()?.snapshot()?);
        if !partition.row().archived {
            let snapshot = self.partition_set.snapshot(partition)?;
            for (owner, mut figures) in sums_of(&snapshot)? {
                let expired = figures.sums.open();
                figures.sums.failed += expired;
                self.copy_state(&mut write_batch, owner, figures.state)?;
                add_total(&mut write_batch, owner, |totals| totals.add(&figures.sums))?;
                if expired > 0 {
                    follow.extend(self.expired_event(owner, expired, partition.first));
                }
            }
        }
        let last = match partition.row().last {
            Some(last) => last,
            None => last_id(&self.partition_set.snapshot(partition)?)?,
        };
        last_dropped::store_greatest(&mut write_batch, last)?;
        write_batch.remove(Table::Partitions, tables::partition(partition.first));
        self.commit(CommitTarget::State, write_batch)?;
        self.partition_set.take_partition(partition.first);
        self.partition_set.recent.forget_partition(partition.first);
        self.figures.remove(&partition.first);
        Ok(follow)
    }

    fn expired_event(&self, webhook: WebhookId, count: u64, partition: u128) -> Option<WriteRequest> {
        let registry = self.partition_set.registry();
        let webhook = registry.webhooks.get(&webhook)?;
        let data =
            serde_json::json!({ "webhook_id": webhook.id.to_string(), "count": count, "reason": "retention ended" });
        let mut event = EventInput::new("postrider.delivery.expired", data.to_string());
        event.app = Some(webhook.app_id);
        event.attributes.event_id =
            Some(format!("delivery.expired:{}:{}", webhook.id, uuid::Uuid::from_u128(partition)));
        event.attributes.metadata.insert("webhook_id".to_owned(), webhook.id.to_string());
        Some(WriteRequest::internal(PartitionCommand::Publish(vec![event])))
    }

    /// Cancels the open deliveries of removed webhooks in slices. A webhook without any is forgotten.
    fn sweep_removed(&mut self, done: &mut Maintained) -> Result<()> {
        const SLICE: u32 = 2_000;
        let removed = self.partition_set.removed();
        let mut finished = Vec::new();
        for &webhook in removed.keys() {
            let mut open = false;
            for partition in self.partition_set.open_partitions() {
                let snapshot = self.partition_set.snapshot(&partition)?;
                let left = [Table::Due, Table::Queue]
                    .into_iter()
                    .map(|table| has_prefix(&snapshot, table, webhook.as_bytes()));
                if left.collect::<Result<Vec<bool>>>()?.contains(&true) {
                    open = true;
                    done.follow.push(WriteRequest::internal(PartitionCommand::CancelRemoved {
                        webhook,
                        partition: partition.first,
                        limit: SLICE,
                    }));
                }
            }
            if !open {
                finished.push(webhook);
            }
        }
        if finished.is_empty() {
            return Ok(());
        }
        let mut write_batch = WriteBatch::on(self.partition_set.state()?.snapshot()?);
        let mut left = std::collections::HashMap::clone(&removed);
        for webhook in &finished {
            write_batch.remove(Table::Tombstones, tables::one(*webhook));
            write_batch.remove(Table::States, tables::one(*webhook));
            left.remove(webhook);
        }
        self.commit(CommitTarget::State, write_batch)?;
        self.partition_set.set_removed(left);
        for webhook in finished {
            self.partition_set.remove_state(webhook);
            self.partition_set.recent.forget_webhook(webhook);
        }
        Ok(())
    }

    /// Forgets a bounded number of removed webhooks whose deliveries have all expired.
    fn forget_removed(&mut self, now: Time) -> Result<()> {
        const SLICE: usize = 1_000;
        let snapshot = self.partition_set.state()?.snapshot()?;
        let horizon = now.minus_ms(self.partition_set.options.retention_ms);
        let (mut old, whole) = (Vec::new(), (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded));
        snapshot.scan(Table::RemovedOfApp, whole, Direction::Up, |key, value| {
            if codec::decode::<Time>(value).is_none_or(|at| at < horizon) {
                old.push(Key::from_slice(key));
            }
            Ok(if old.len() < SLICE { ScanStep::Go } else { ScanStep::Stop })
        })?;
        if old.is_empty() {
            return Ok(());
        }
        let mut write_batch = WriteBatch::on(snapshot);
        old.into_iter().for_each(|key| write_batch.remove(Table::RemovedOfApp, key));
        self.commit(CommitTarget::State, write_batch)
    }

    /// Removes a bounded number of stored answers of `state.redb` whose window has ended.
    fn expire_answers(&mut self, now: Time) -> Result<()> {
        const SLICE: usize = 1_000;
        let snapshot = self.partition_set.state()?.snapshot()?;
        let horizon = now.minus_ms(self.partition_set.options.idempotency_window_ms);
        let mut old = Vec::new();
        snapshot.scan(
            Table::StateAnswers,
            (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded),
            Direction::Up,
            |key, value| {
                if codec::decode::<crate::store::idempotency::answers::AnswerRow>(value)
                    .is_none_or(|answer| answer.at <= horizon)
                {
                    old.push(Key::from_slice(key));
                }
                Ok(if old.len() < SLICE { ScanStep::Go } else { ScanStep::Stop })
            },
        )?;
        if old.is_empty() {
            return Ok(());
        }
        let mut write_batch = WriteBatch::on(snapshot);
        old.into_iter().for_each(|key| write_batch.remove(Table::StateAnswers, key));
        self.commit(CommitTarget::State, write_batch)
    }
}

fn has_prefix(snapshot: &Snapshot, table: Table, prefix: &[u8]) -> Result<bool> {
    let mut found = false;
    snapshot.scan(
        table,
        (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded),
        Direction::Up,
        |key, _| {
            found = key.starts_with(prefix);
            Ok(ScanStep::Stop)
        },
    )?;
    Ok(found)
}

fn add_total(write_batch: &mut WriteBatch, owner: Id<Webhook>, change: impl FnOnce(&mut Sums)) -> Result<()> {
    let mut totals = write_batch.get::<Sums>(Table::Totals, owner.as_bytes())?.unwrap_or_default();
    change(&mut totals);
    write_batch.put(Table::Totals, tables::one(owner), &totals);
    Ok(())
}

impl PartitionSet {
    /// Lifetime sums of a webhook or job.
    ///
    /// The snapshot of the totals also says which partitions they include, because the list in memory changes a moment
    /// before or after them.
    pub(in crate::store) fn lifetime(&self, owner: Id<Webhook>) -> Result<Sums> {
        Ok(self.lifetimes(&[owner])?.pop().unwrap_or_default())
    }

    /// `lifetime` of several owners, in their order. Each partition is read once for all of them.
    pub(in crate::store) fn lifetimes(&self, owners: &[Id<Webhook>]) -> Result<Vec<Sums>> {
        loop {
            if let Some(sums) = self.lifetimes_at_one_snapshot(owners)? {
                return Ok(sums);
            }
        }
    }

    /// `None` if a partition that the snapshot lists was dropped meanwhile.
    fn lifetimes_at_one_snapshot(&self, owners: &[Id<Webhook>]) -> Result<Option<Vec<Sums>>> {
        let state = self.state()?.snapshot()?;
        let mut sums = Vec::with_capacity(owners.len());
        for owner in owners {
            sums.push(decoded::<Sums>(&state, Table::Totals, owner.as_bytes())?.unwrap_or_default());
        }
        let mut unarchived = Vec::new();
        state.scan(
            Table::Partitions,
            (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded),
            Direction::Up,
            |key, value| {
                let row = codec::decode::<PartitionRow>(value).ok_or_else(|| state.damaged(Table::Partitions, key))?;
                unarchived.extend(key.try_into().ok().filter(|_| !row.archived).map(u128::from_be_bytes));
                Ok(ScanStep::Go)
            },
        )?;
        drop(state);
        let newest = self.partitions().last().map_or(0, |p| p.first);
        for first in unarchived {
            let Some(partition) = self.partition(first) else {
                if first > newest {
                    // The partition has just begun and is empty.
                    continue;
                }
                return Ok(None);
            };
            let snapshot = self.snapshot(&partition)?;
            for (owner, sums) in owners.iter().zip(&mut sums) {
                if let Some(row) = decoded::<SumsRow>(&snapshot, Table::Figures, &tables::figures(*owner, 0))? {
                    sums.add(&row.sums);
                }
            }
        }
        Ok(Some(sums))
    }
}
