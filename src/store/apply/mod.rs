//! Applying commands: the only code that decides which rows are written.
//!
//! Invariant: a command is checked before it changes the write batch. A rejected command has changed nothing in it.

mod apps;
mod audit;
mod consumers;
mod deliveries;
mod event_types;
pub(in crate::store) mod jobs;
mod keys;
mod operational;
pub(in crate::store) mod ordered_queues;
mod organizations;
mod portal_links;
pub(in crate::store) mod publish;
pub(in crate::store) mod record;
mod resend;
pub(in crate::store) mod retry_waits;
pub(in crate::store) mod state;
mod system_events;
mod waiting_jobs;
mod webhooks;

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::id::{AppId, EventId, Id, IdMap, Stamp, WebhookId};
use crate::model::webhook::WebhookState;
use crate::model::{Event, Time, Webhook};
use crate::rules::fanout::Fanout;

use crate::kv::codec;
use crate::kv::error::Error;
use crate::kv::tables::{Key, Table};
use crate::kv::write_batch::WriteBatch;
use crate::store::command::{
    Applied, AuditEntry, Caller, IdempotencyKey, PartitionCommand, Receipt, Rejection, StateCommand, WriteRequest,
};
use crate::store::effects::Effects;
use crate::store::event_names::NameRuns;
use crate::store::figures::FigureCache;
use crate::store::idempotency::answers::{AnswerRow, answer_row, check_stored};
use crate::store::idempotency::index::{Fingerprint, IdempotencyIndex};
use crate::store::partitions::set::PartitionSet;
use crate::store::recent_figures::RecentHour;
use crate::store::registry::Registry;

/// A source of ids. The daemon's ids rise with the clock, and a test may use its own.
pub trait IdSource: Send {
    fn next(&mut self, now: Time, random: u64) -> u128;
    /// From now on every id is greater than `id`.
    fn rise_above(&mut self, id: u128);
}

impl IdSource for Stamp {
    fn next(&mut self, now: Time, random: u64) -> u128 {
        Stamp::next::<()>(self, now, random).as_u128()
    }
    fn rise_above(&mut self, id: u128) {
        let other = Stamp::after(id);
        if other.ahead_of(self) {
            *self = other;
        }
    }
}

/// The inputs of a batch from outside the store: time, ids, randomness.
pub struct BatchInputs<'a> {
    pub now: Time,
    pub ids: &'a mut dyn IdSource,
    pub random: &'a mut dyn FnMut() -> u64,
}

impl BatchInputs<'_> {
    pub fn id<K>(&mut self) -> Id<K> {
        let random = (self.random)();
        Id::from_u128(self.ids.next(self.now, random))
    }

    pub fn nonce(&mut self) -> [u8; 12] {
        let (a, b) = ((self.random)().to_be_bytes(), (self.random)().to_be_bytes());
        std::array::from_fn(|i| if i < 8 { a[i] } else { b[i - 8] })
    }
}

/// Why a command was not applied: it was rejected, or storage failed.
#[derive(Debug)]
pub enum ApplyError {
    Rejected(Rejection),
    Storage(Error),
}

impl From<Error> for ApplyError {
    fn from(error: Error) -> ApplyError {
        ApplyError::Storage(error)
    }
}

impl From<Rejection> for ApplyError {
    fn from(refusal: Rejection) -> ApplyError {
        ApplyError::Rejected(refusal)
    }
}

/// The result of applying a command.
pub type ApplyResult<T> = Result<T, ApplyError>;

/// The fan-outs of apps, computed at first use and dropped when a webhook changes.
#[derive(Debug, Default)]
pub struct FanoutCache(HashMap<AppId, Arc<Fanout>>);

impl FanoutCache {
    pub fn of(&mut self, registry: &Registry, app: AppId) -> Arc<Fanout> {
        self.0.entry(app).or_insert_with(|| Arc::new(Fanout::of(registry.webhooks_of(app)))).clone()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// One batch of commands on a partition.
pub struct PartitionBatch<'a> {
    pub partition_set: &'a PartitionSet,
    /// The first id of the partition.
    pub first: u128,
    pub registry: Arc<Registry>,
    pub write_batch: WriteBatch,
    pub inputs: BatchInputs<'a>,
    pub figures: &'a mut FigureCache,
    pub fanouts: &'a mut FanoutCache,
    pub name_runs: &'a mut NameRuns,
    pub idempotency: &'a IdempotencyIndex,
    /// Fingerprints of this batch's event ids, for the idempotency index after the commit.
    pub new_fingerprints: HashMap<Fingerprint, Arc<Event>>,
    /// Fingerprints of this batch's stored answers, likewise.
    pub new_answers: Vec<(Fingerprint, EventId)>,
    /// States of webhooks with the changes of this batch.
    pub states: IdMap<Webhook, WebhookState>,
    pub effects: Effects,
    /// Requests that follow from this batch, in other files.
    pub follow: Vec<WriteRequest>,
    /// Audit lines, written to `state.redb` before this batch is acknowledged.
    pub audit: Vec<WriteRequest>,
}

impl PartitionBatch<'_> {
    pub fn apply(&mut self, write_request: &WriteRequest, command: &PartitionCommand) -> ApplyResult<Applied> {
        if let Some(idempotency) = &write_request.idempotency
            && let Some(applied) = self.stored_answer(idempotency, matches!(command, PartitionCommand::Publish(_)))?
        {
            return Ok(applied);
        }
        let receipt = self.run(write_request, command)?;
        if let Some(idempotency) = &write_request.idempotency {
            self.store_answer(idempotency, &receipt);
        }
        Ok(Applied { receipt, replayed: false, extra: None })
    }

    fn run(&mut self, write_request: &WriteRequest, command: &PartitionCommand) -> ApplyResult<Receipt> {
        let by = write_request.caller.as_ref();
        match command {
            PartitionCommand::Publish(events) => self.publish(by, events, write_request.idempotency.as_ref()),
            PartitionCommand::Record(report) => self.record(report),
            PartitionCommand::Expire { delivery, .. } => self.expire(*delivery),
            PartitionCommand::PromoteQueueHead { webhook, key_hash, delivery, .. } => {
                self.release(*webhook, *key_hash, *delivery)
            }
            PartitionCommand::DissolveQueues { webhook, limit, .. } => self.dissolve_queues(*webhook, *limit),
            PartitionCommand::CancelRemoved { webhook, limit, .. } => self.cancel_removed(*webhook, *limit),
            PartitionCommand::ShortenWaits { after, .. } => self.shorten_waits(after),
            PartitionCommand::Retry { id } => self.retry(by, *id),
            PartitionCommand::RetryMany { ids } => self.retry_many(by, ids),
            PartitionCommand::CancelDelivery { id } => self.cancel_delivery(by, *id),
            PartitionCommand::CancelEvent { id } => self.cancel_event(by, *id),
            PartitionCommand::EraseEvent { id } => self.erase_event(by, *id),
            PartitionCommand::EraseResponse { id } => self.erase_response(by, *id),
            PartitionCommand::Resend { event, webhook } => self.resend(by, *event, *webhook),
            PartitionCommand::AdvanceJob { id, limit, make_max } => self.advance_job(*id, *limit, *make_max),
        }
    }

    /// Adds an audit line. Actions of the daemon itself are not audited.
    fn audit(&mut self, by: Option<&Caller>, deed: AuditEntry) {
        if let Some(by) = by {
            self.audit.push(WriteRequest {
                caller: Some(by.clone()),
                idempotency: None,
                command: StateCommand::Audit(deed).into(),
            });
        }
    }

    /// The state of a webhook with the changes of this batch.
    fn state(&self, id: WebhookId) -> WebhookState {
        self.states.get(&id).copied().unwrap_or_else(|| self.partition_set.webhook_state(id))
    }

    /// The stored answer to the same `Idempotency-Key`, if there is one within the window.
    fn stored_answer(&self, idempotency: &IdempotencyKey, published: bool) -> ApplyResult<Option<Applied>> {
        let found = match self.write_batch.get::<AnswerRow>(Table::Answers, &idempotency.key)? {
            None if published => self.stored_answer_elsewhere(idempotency)?,
            found => found,
        };
        Ok(check_stored(self.partition_set, found, idempotency, self.inputs.now)?)
    }

    fn stored_answer_elsewhere(&self, idempotency: &IdempotencyKey) -> ApplyResult<Option<AnswerRow>> {
        let mut kept: Option<AnswerRow> = None;
        for id in self.candidates(crate::store::idempotency::index::of_answer(&idempotency.key))? {
            let Some(home) = self.partition_set.partition_of(id.as_u128()) else { continue };
            let snapshot = self.partition_set.snapshot(&home)?;
            let found = match snapshot.get(Table::Answers, &idempotency.key, codec::decode::<AnswerRow>)? {
                Some(None) => return Err(snapshot.damaged(Table::Answers, &idempotency.key).into()),
                found => found.flatten(),
            };
            kept = kept.into_iter().chain(found).max_by_key(|row| row.at);
        }
        Ok(kept)
    }

    /// The ids under which rows with this fingerprint may be committed.
    fn candidates(&self, fingerprint: Fingerprint) -> ApplyResult<Vec<EventId>> {
        let mut ids = Vec::new();
        for trace in self.idempotency.find(&*self.partition_set.disk, fingerprint) {
            ids.extend(self.partition_set.candidates(fingerprint, trace)?);
        }
        Ok(ids)
    }

    fn store_answer(&mut self, idempotency: &IdempotencyKey, receipt: &Receipt) {
        let row = answer_row(self.partition_set, idempotency, receipt, self.inputs.now, self.inputs.nonce());
        self.write_batch.put(Table::Answers, Key::from_slice(&idempotency.key), &row);
    }

    /// Completes the batch for its commit.
    pub fn finish(mut self) -> PartitionOutcome {
        let recent = self.figures.flush(&mut self.write_batch);
        self.effects.states.extend(self.states.iter().map(|(id, state)| (*id, *state)));
        PartitionOutcome {
            write_batch: self.write_batch,
            new_fingerprints: self.new_fingerprints.into_iter().map(|(print, event)| (print, event.id)).collect(),
            new_answers: self.new_answers,
            effects: self.effects,
            recent,
            follow: self.follow,
            audit: self.audit,
        }
    }
}

/// An applied batch of a partition, ready for its commit.
pub struct PartitionOutcome {
    pub write_batch: WriteBatch,
    /// Fingerprints of event ids that the idempotency index gets after the commit.
    pub new_fingerprints: Vec<(Fingerprint, EventId)>,
    /// Fingerprints of stored answers that it gets after the commit.
    pub new_answers: Vec<(Fingerprint, EventId)>,
    pub effects: Effects,
    /// Hours of webhooks whose attempts the batch counted.
    pub recent: Vec<RecentHour>,
    /// Requests that follow from this batch, in other files.
    pub follow: Vec<WriteRequest>,
    /// Audit lines, written to `state.redb` before this batch is acknowledged.
    pub audit: Vec<WriteRequest>,
}
