//! The writer: applies a batch of write requests file by file, and commits each file once.
//!
//! Invariant: a change that `apply` reports as applied is durable. A file that failed is closed and opened again before
//! its next use (`partitions::recovery`), and memory drops the failed batch. A request that ended with `Failed` or
//! `DiskFull` may be committed all the same, and applying it again does no harm.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use crate::model::id::{DeliveryId, EventId, Id, IdMap};
use crate::model::{Attempt, Time};
use crate::mutants::mutant;

use crate::kv::error::{Error, Result};
use crate::kv::segment::Segment;
use crate::kv::tables::Table;
use crate::kv::wal::Wal;
use crate::kv::write_batch::WriteBatch;
use crate::store::apply::state::StateBatch;
use crate::store::apply::{ApplyError, BatchInputs, FanoutCache, IdSource, PartitionBatch, PartitionOutcome};
use crate::store::backup::BackupLease;
use crate::store::checkpoints::CheckpointRunner;
use crate::store::command::{Applied, Command, PartitionCommand, Rejection, StateCommand, WriteRequest};
use crate::store::commit::{Checkpoint, CommitTarget, is_checkpoint_under_way};
use crate::store::commit_log::{AppendStats, CommitAppender};
use crate::store::effects::Effects;
use crate::store::event_names::NameRuns;
use crate::store::figures::FigureCache;
use crate::store::idempotency::index::{IdempotencyIndex, KeyKind};
use crate::store::idempotency::rows;
use crate::store::partitions::set::{PartitionSet, STATE_FILE};
use crate::store::partitions::space::DiskSpace;
use crate::store::read::lookup;
use crate::store::registry::Registry;
use crate::store::replication::{CommitPublisher, Replication};
use crate::store::writer_timing::{CheckpointSchedule, SealedBatch};

/// Maximum number of audit lines that wait for the disk.
const AUDIT_BACKLOG_MAX: usize = 10_000;
/// The result of a batch.
#[derive(Debug, Default)]
pub struct AppliedBatch {
    /// The results in the order of the requests.
    pub results: Vec<std::result::Result<Applied, Rejection>>,
    pub effects: Effects,
    /// Requests that follow from the batch, to be applied next.
    pub follow: Vec<WriteRequest>,
    /// Audit lines of the changes that were committed to partitions.
    audit: Vec<WriteRequest>,
}

/// The exclusive writer of a store.
pub struct Writer {
    pub(in crate::store) partition_set: Arc<PartitionSet>,
    pub(in crate::store) ids: Box<dyn IdSource>,
    pub(in crate::store) random: Box<dyn FnMut() -> u64 + Send>,
    pub(in crate::store) active: u128,
    pub(in crate::store) figures: HashMap<u128, FigureCache>,
    /// Whether apps and organizations have figures. A store of an earlier version gets them in the first round of
    /// maintenance.
    pub(in crate::store) counts_tenants: bool,
    pub(in crate::store) fanouts: FanoutCache,
    pub(in crate::store) name_runs: NameRuns,
    pub(in crate::store) idempotency: IdempotencyIndex,
    /// Failed files that are not open again yet, by the first ids of their partitions. 0 stands for `state.redb`.
    pub(in crate::store) failed_files: BTreeSet<u128>,
    /// Audit lines that are not written yet.
    pub(in crate::store) audit_backlog: Vec<WriteRequest>,
    pub(in crate::store) space: DiskSpace,
    pub(in crate::store) wal: Wal,
    /// A checkpoint that is due and that no thread runs yet.
    pub(in crate::store) checkpoint: Option<Checkpoint>,
    /// Bytes of the write-ahead log that the newest checkpoint flushes.
    pub(in crate::store) flushing_bytes: u64,
    /// Checkpoints since the active partition became full.
    pub(in crate::store) sealing_checkpoints: u32,
    /// Whether `state.redb` may list a newer partition than `active`, because the commit that lists it failed. Until it
    /// is read again, no partition may be the home of a new event.
    pub(in crate::store) is_roll_uncertain: bool,
    /// The lease of the running backup, if there is one.
    pub(in crate::store) backup: Weak<BackupLease>,
    /// Time of the current batch.
    pub(in crate::store) now: Time,
    /// The time that `state.redb` has as the last one.
    pub(in crate::store) last_seen: Time,
    pub(in crate::store) publisher: CommitPublisher,
    /// Appends each commit to the commit log first. `None` if the store is by itself.
    pub(in crate::store) appender: Option<CommitAppender>,
    pub(in crate::store) sealed_batch: SealedBatch,
    pub(in crate::store) checkpoint_schedule: CheckpointSchedule,
    /// The last field, because dropping it waits for a running checkpoint.
    pub(in crate::store) checkpoint_runner: CheckpointRunner,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("active", &self.active).finish_non_exhaustive()
    }
}

/// The file that a partition command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteTarget {
    Partition(u128),
    /// The object that the command names, of this kind, does not exist.
    Nowhere(&'static str),
}

/// A request of a batch with its command, at its index.
#[derive(Debug)]
struct Slot<'a, C> {
    index: usize,
    request: &'a WriteRequest,
    command: &'a C,
}

type WriteResult = std::result::Result<Applied, Rejection>;

/// The results of a batch, in the order of its requests. `None` until a request is applied.
struct Results(Vec<Option<WriteResult>>);

impl Results {
    fn of(requests: usize) -> Results {
        Results(vec![None; requests])
    }

    fn set(&mut self, index: usize, result: WriteResult) {
        self.0[index] = Some(result);
    }

    fn reject_all<C>(&mut self, slots: &[Slot<'_, C>], rejection: &Rejection) {
        slots.iter().for_each(|slot| self.set(slot.index, Err(rejection.clone())));
    }
}

impl Writer {
    /// The sealed partition that a request is for. Such requests are gathered, because one commit serves many of them.
    pub(in crate::store) fn sealed_partition_of(&self, write_request: &WriteRequest) -> Option<u128> {
        let Command::Partition(command) = &write_request.command else { return None };
        match self.target_of(command) {
            Ok(WriteTarget::Partition(first)) if first != self.active => Some(first),
            _ => None,
        }
    }

    /// Applies a batch and commits it: `state.redb` first, then the active partition, then sealed partitions.
    pub fn apply(&mut self, write_requests: &[WriteRequest], now: Time) -> AppliedBatch {
        self.now = now;
        let mut batch = AppliedBatch::default();
        let mut results = Results::of(write_requests.len());
        self.prepare(now, &mut batch);
        let (state, partitions) = self.grouped(write_requests, &mut results, &mut batch);
        if !state.is_empty() && !self.rejects_because_of_end(&state, &mut results) {
            self.apply_state(state, now, &mut results, &mut batch);
            // Before the next file, which must be compared with the state on disk.
            self.reopen_failed(now, &mut batch);
        }
        for (first, slots) in partitions {
            if !self.rejects_because_of_end(&slots, &mut results) {
                self.apply_partition(first, slots, now, &mut results, &mut batch);
                self.reopen_failed(now, &mut batch);
            }
        }
        self.write_audit(now, &mut batch);
        let unapplied = || Err(Rejection::Failed("not applied".into()));
        let has_tenure_ended = self.has_tenure_ended();
        let known = |result: WriteResult| match result {
            Err(Rejection::Failed(_)) if has_tenure_ended => Err(Rejection::TenureEnded),
            known => known,
        };
        batch.results = results.0.into_iter().map(|result| known(result.unwrap_or_else(unapplied))).collect();
        batch
    }

    /// Opens failed files again, looks for space, begins a new partition if the active one is full, and rebuilds runs
    /// of fingerprints whose files cannot be read.
    fn prepare(&mut self, now: Time, batch: &mut AppliedBatch) {
        // A reader may have met a damaged page: redb answers nothing more until the file is opened again.
        self.failed_files.extend(self.partition_set.failed());
        self.reopen_failed(now, batch);
        self.check_space(now);
        for prepared in [self.roll_if_full(now), self.rebuild_fingerprints()] {
            if let Err(error) = prepared {
                batch.effects.failures.push(error.to_string());
                self.mark_failed(&error);
                self.reopen_failed(now, batch);
            }
        }
    }

    /// The requests by file: those of `state.redb`, and those of each partition, the active one first.
    #[expect(clippy::type_complexity, reason = "two lists of slots, named by the caller")]
    fn grouped<'a>(
        &mut self,
        write_requests: &'a [WriteRequest],
        results: &mut Results,
        batch: &mut AppliedBatch,
    ) -> (Vec<Slot<'a, StateCommand>>, Vec<(u128, Vec<Slot<'a, PartitionCommand>>)>) {
        let mut state = Vec::new();
        let mut partitions: BTreeMap<u128, Vec<Slot<'a, PartitionCommand>>> = BTreeMap::new();
        for (index, request) in write_requests.iter().enumerate() {
            let command = match &request.command {
                Command::State(command) => {
                    state.push(Slot { index, request, command });
                    continue;
                }
                Command::Partition(command) => command,
            };
            if self.space.is_full() && matches!(command, PartitionCommand::Publish(_)) && request.caller.is_some() {
                results.set(index, Err(Rejection::DiskFull));
                continue;
            }
            let slot = Slot { index, request, command };
            match self.target_of(command) {
                Ok(WriteTarget::Partition(first)) if first == self.active && self.is_roll_uncertain => {
                    results.set(index, Err(Rejection::Failed(format!("{STATE_FILE} is being opened again"))));
                }
                Ok(WriteTarget::Partition(first)) => partitions.entry(first).or_default().push(slot),
                Ok(WriteTarget::Nowhere(kind)) => results.set(index, Err(Rejection::NotFound(kind))),
                Err(error) => self.fail(&[slot], &error, results, batch),
            }
        }
        let mut partitions: Vec<_> = partitions.into_iter().collect();
        partitions.sort_by_key(|(first, _)| (*first != self.active, *first));
        (state, partitions)
    }

    /// After a failed sync or the end of the tenure, rejects requests: memory may contain rows that are not on disk, and no
    /// commit may depend on them.
    fn rejects_because_of_end<C>(&self, slots: &[Slot<'_, C>], results: &mut Results) -> bool {
        if self.must_end() {
            // After the end of the tenure `apply` says so in its place.
            results.reject_all(slots, &Rejection::Failed("a sync to disk has failed".into()));
        }
        self.must_end()
    }

    /// Writes the audit lines of changes in partitions, before the changes are acknowledged. Lines that cannot be written
    /// now are written with the next batch.
    fn write_audit(&mut self, now: Time, batch: &mut AppliedBatch) {
        self.audit_backlog.append(&mut batch.audit);
        if self.audit_backlog.is_empty() || self.must_end() {
            return;
        }
        let lines = std::mem::take(&mut self.audit_backlog);
        let mut results = Results::of(lines.len());
        let slots = lines.iter().enumerate().filter_map(|(index, request)| match &request.command {
            Command::State(command) => Some(Slot { index, request, command }),
            Command::Partition(_) => None,
        });
        self.apply_state(slots.collect(), now, &mut results, batch);
        let is_unwritten =
            |result: &Option<WriteResult>| matches!(result, Some(Err(Rejection::Failed(_) | Rejection::DiskFull)));
        self.audit_backlog =
            lines.into_iter().zip(&results.0).filter(|(_, result)| is_unwritten(result)).map(|(n, _)| n).collect();
        self.audit_backlog.truncate(AUDIT_BACKLOG_MAX);
        self.reopen_failed(now, batch);
    }

    /// The partition of the object that a command names.
    ///
    /// # Errors
    /// The object could not be looked up.
    fn target_of(&self, command: &PartitionCommand) -> Result<WriteTarget> {
        let home = |id, noun| self.home(id, noun);
        Ok(match command {
            PartitionCommand::Publish(_) => WriteTarget::Partition(self.active),
            PartitionCommand::Record(report) => home(report.event_id, "delivery"),
            PartitionCommand::Expire { event, .. } | PartitionCommand::PromoteQueueHead { event, .. } => {
                home(*event, "delivery")
            }
            PartitionCommand::CancelEvent { id } | PartitionCommand::EraseEvent { id } => home(*id, "event"),
            PartitionCommand::Resend { event, .. } => home(*event, "event"),
            PartitionCommand::EraseResponse { id } => {
                let attempt = lookup::anywhere::<Attempt>(&self.partition_set, Table::Attempts, id.as_u128())?;
                attempt.map_or(WriteTarget::Nowhere("attempt"), |attempt| home(attempt.event_id, "attempt"))
            }
            PartitionCommand::CancelRemoved { partition, .. }
            | PartitionCommand::DissolveQueues { partition, .. }
            | PartitionCommand::ShortenWaits { partition, .. } => WriteTarget::Partition(*partition),
            PartitionCommand::Retry { id } | PartitionCommand::CancelDelivery { id } => {
                self.home_of_any(std::slice::from_ref(id))?
            }
            PartitionCommand::RetryMany { ids } => self.home_of_any(ids)?,
            PartitionCommand::AdvanceJob { id, .. } => {
                let job = lookup::job_anywhere(&self.partition_set, *id)?;
                job.map_or(WriteTarget::Nowhere("replay"), |job| self.first_from(job.position.next()))
            }
        })
    }

    /// The partition of the event of the first delivery that exists.
    fn home_of_any(&self, ids: &[DeliveryId]) -> Result<WriteTarget> {
        for id in ids {
            if let Some(found) = lookup::delivery_anywhere(&self.partition_set, *id)? {
                return Ok(self.home(found.event_id, "delivery"));
            }
        }
        Ok(WriteTarget::Nowhere("delivery"))
    }

    /// The partition of an event. `noun` is that of the object which the caller names.
    fn home(&self, id: EventId, noun: &'static str) -> WriteTarget {
        let partition = self.partition_set.partition_of(id.as_u128());
        partition.map_or(WriteTarget::Nowhere(noun), |partition| WriteTarget::Partition(partition.first))
    }

    /// The partition of an id. An id before all partitions belongs to the oldest one.
    fn first_from(&self, id: EventId) -> WriteTarget {
        let oldest = || self.partition_set.partitions().first().map(|p| p.first);
        let first = self.partition_set.partition_of(id.as_u128()).map(|p| p.first).or_else(oldest);
        first.map_or(WriteTarget::Nowhere("event"), WriteTarget::Partition)
    }

    /// Applies commands to `state.redb` in one commit. A command that cannot be applied leaves the batch, and the others
    /// are applied again without it.
    fn apply_state(
        &mut self,
        mut slots: Vec<Slot<'_, StateCommand>>,
        now: Time,
        results: &mut Results,
        batch: &mut AppliedBatch,
    ) {
        loop {
            let base = match self.partition_set.state().and_then(|file| file.snapshot()) {
                Ok(base) => base,
                Err(error) => return self.fail(&slots, &error, results, batch),
            };
            let mut on = StateBatch {
                partition_set: &self.partition_set,
                registry: Registry::clone(&self.partition_set.registry()),
                removed: HashMap::clone(&self.partition_set.removed()),
                write_batch: WriteBatch::on(base),
                states: IdMap::default(),
                inputs: BatchInputs { now, ids: &mut *self.ids, random: &mut *self.random },
                effects: Effects::default(),
                follow: Vec::new(),
            };
            if let Some((at, error)) = run_all(&slots, results, |slot| on.apply(slot.request, slot.command)) {
                self.fail(&[slots.remove(at)], &error, results, batch);
                continue;
            }
            let StateBatch { registry, removed, write_batch, states, mut effects, follow, .. } = on;
            effects.states.extend(states);
            if write_batch.is_empty() {
                return;
            }
            if let Err(error) = self.commit(CommitTarget::State, write_batch) {
                return self.fail(&slots, &error, results, batch);
            }
            if effects.registry_changed {
                self.partition_set.set_registry(registry);
                self.partition_set.set_removed(removed);
                self.fanouts.clear();
            }
            effects.states.iter().for_each(|(id, state)| self.partition_set.update_state(*id, *state));
            batch.effects.merge(effects);
            batch.follow.extend(follow);
            return;
        }
    }

    /// Applies commands to a partition in one commit, as `apply_state` does.
    fn apply_partition(
        &mut self,
        first: u128,
        mut slots: Vec<Slot<'_, PartitionCommand>>,
        now: Time,
        results: &mut Results,
        batch: &mut AppliedBatch,
    ) {
        let Some(partition) = self.partition_set.partition(first) else {
            return results.reject_all(&slots, &Rejection::NotFound("event"));
        };
        loop {
            let opened = self.open_for_writing(&partition).and_then(|file| Ok((file.snapshot()?, file)));
            let (base, file) = match opened {
                Ok(opened) => opened,
                Err(error) => return self.fail(&slots, &error, results, batch),
            };
            let figures = self.figures.entry(first).or_default();
            figures.counts_tenants = self.counts_tenants;
            let mut on = PartitionBatch {
                partition_set: &self.partition_set,
                first,
                registry: self.partition_set.registry(),
                write_batch: WriteBatch::on(base),
                inputs: BatchInputs { now, ids: &mut *self.ids, random: &mut *self.random },
                figures,
                fanouts: &mut self.fanouts,
                name_runs: &mut self.name_runs,
                idempotency: &self.idempotency,
                new_fingerprints: HashMap::new(),
                new_answers: Vec::new(),
                states: IdMap::default(),
                effects: Effects::default(),
                follow: Vec::new(),
                audit: Vec::new(),
            };
            if let Some((at, error)) = run_all(&slots, results, |slot| on.apply(slot.request, slot.command)) {
                on.figures.forget();
                self.fail(&[slots.remove(at)], &error, results, batch);
                continue;
            }
            let outcome = on.finish();
            let committed = self.commit_partition(first, &file, outcome, batch);
            drop(file);
            if let Err(error) = committed {
                self.figures.remove(&first);
                self.fail(&slots, &error, results, batch);
            }
            return;
        }
    }

    /// Commits an applied batch to its partition, then updates memory by it.
    fn commit_partition(
        &mut self,
        first: u128,
        file: &Arc<Segment>,
        outcome: PartitionOutcome,
        batch: &mut AppliedBatch,
    ) -> Result<()> {
        let PartitionOutcome { write_batch, new_fingerprints, new_answers, effects, recent, follow, audit } = outcome;
        if !write_batch.is_empty() {
            self.commit(CommitTarget::Partition(first, file), write_batch)?;
        }
        if mutant!("idempotency_after_event") && !new_fingerprints.is_empty() {
            let mut keys = WriteBatch::on(file.snapshot()?);
            for (fingerprint, id) in &new_fingerprints {
                rows::put_key(&mut keys, *id, KeyKind::EventId, *fingerprint);
            }
            let _ = self.commit(CommitTarget::Partition(first, file), keys);
        }
        effects.states.iter().for_each(|(id, state)| self.partition_set.update_state(*id, *state));
        self.partition_set.recent.replace(first, recent, self.now);
        self.idempotency.insert(new_fingerprints.into_iter().chain(new_answers));
        effects.newest.into_iter().for_each(|id| self.partition_set.raise_newest(id));
        batch.effects.merge(effects);
        batch.follow.extend(follow);
        batch.audit.extend(audit);
        Ok(())
    }

    /// Rejects requests that the store could not apply or commit, and marks the file that failed. If the tenure has ended with
    /// them, the commit log may have them.
    fn fail<C>(&mut self, slots: &[Slot<'_, C>], error: &Error, results: &mut Results, batch: &mut AppliedBatch) {
        let rejection = if self.has_tenure_ended() { Rejection::TenureEnded } else { rejection_of(error) };
        results.reject_all(slots, &rejection);
        batch.effects.failures.push(error.to_string());
        self.mark_failed(error);
    }

    /// Checks the free space, at most once a second. Every batch calls it.
    pub(in crate::store) fn check_space(&mut self, now: Time) {
        let is_below_floor = || self.partition_set.is_below_floor();
        self.space.check(now, is_below_floor, || is_checkpoint_under_way(&self.partition_set, self.active));
        self.partition_set.set_space_missing(self.space.is_missing());
    }

    /// Whether a sync has failed, whose writes may be lost, or the tenure has ended. Nothing more may be applied
    /// then.
    pub(in crate::store) fn must_end(&self) -> bool {
        self.partition_set.disk.has_lost_writes() || self.has_tenure_ended()
    }

    /// Whether a commit would not wait for the commit log.
    pub fn may_commit_now(&self) -> bool {
        self.appender.as_ref().is_none_or(CommitAppender::is_answering)
    }

    /// Whether the commit log takes no more commits of this store, or this store lacks one of them.
    pub(in crate::store) fn has_tenure_ended(&self) -> bool {
        self.appender.as_ref().is_some_and(CommitAppender::is_over)
    }

    /// Counts of the appends to the commit log. `None` if the store is by itself.
    pub fn append_stats(&self) -> Option<Arc<AppendStats>> {
        self.appender.as_ref().map(CommitAppender::stats)
    }

    /// The replicas to which this writer publishes its commits.
    pub fn replication(&self) -> Arc<Replication> {
        self.publisher.0.clone()
    }

    pub(in crate::store) fn id<K>(&mut self, now: Time) -> Id<K> {
        let random = (self.random)();
        Id::from_u128(self.ids.next(now, random))
    }
}

/// Applies requests one by one. The position of the first that the store could not apply, and the error.
fn run_all<'a, C>(
    slots: &[Slot<'a, C>],
    results: &mut Results,
    mut apply: impl FnMut(&Slot<'a, C>) -> std::result::Result<Applied, ApplyError>,
) -> Option<(usize, Error)> {
    for (at, slot) in slots.iter().enumerate() {
        match apply(slot) {
            Ok(applied) => results.set(slot.index, Ok(applied)),
            Err(ApplyError::Rejected(rejection)) => results.set(slot.index, Err(rejection)),
            Err(ApplyError::Storage(error)) => return Some((at, error)),
        }
    }
    None
}

fn rejection_of(error: &Error) -> Rejection {
    if error.is_disk_full() { Rejection::DiskFull } else { Rejection::Failed(error.to_string()) }
}
