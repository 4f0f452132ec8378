//! Commands on `state.redb`: the batch, and the method that applies each command.

use std::collections::HashMap;

use crate::model::id::{IdMap, WebhookId};
use crate::model::webhook::WebhookState;
use crate::model::{Time, Webhook};

use crate::kv::tables::{Key, Table};
use crate::kv::write_batch::WriteBatch;
use crate::store::apply::{ApplyResult, BatchInputs};
use crate::store::command::{Applied, Caller, Receipt, StateCommand, WriteRequest};
use crate::store::effects::Effects;
use crate::store::idempotency::answers::{AnswerRow, answer_row, check_stored};
use crate::store::partitions::set::PartitionSet;
use crate::store::registry::Registry;

/// One batch of commands on `state.redb`.
pub struct StateBatch<'a> {
    pub partition_set: &'a PartitionSet,
    /// The registry with the changes of this batch. It is published after the commit.
    pub registry: Registry,
    pub removed: HashMap<WebhookId, Time>,
    pub write_batch: WriteBatch,
    /// States of webhooks that this batch changes.
    pub states: IdMap<Webhook, WebhookState>,
    pub inputs: BatchInputs<'a>,
    pub effects: Effects,
    /// Requests that follow from this batch, in other files.
    pub follow: Vec<WriteRequest>,
}

impl StateBatch<'_> {
    pub fn apply(&mut self, write_request: &WriteRequest, command: &StateCommand) -> ApplyResult<Applied> {
        if let Some(idempotency) = &write_request.idempotency {
            let found = self.write_batch.get::<AnswerRow>(Table::StateAnswers, &idempotency.key)?;
            if let Some(applied) = check_stored(self.partition_set, found, idempotency, self.inputs.now)? {
                if idempotency.secret {
                    self.audit_shown_again(write_request.caller.as_ref(), &applied.receipt);
                }
                return Ok(applied);
            }
        }
        let receipt = self.run(write_request.caller.as_ref(), command)?;
        if let Some(idempotency) = &write_request.idempotency {
            let row = answer_row(self.partition_set, idempotency, &receipt, self.inputs.now, self.inputs.nonce());
            self.write_batch.put(Table::StateAnswers, Key::from_slice(&idempotency.key), &row);
        }
        Ok(Applied { receipt, replayed: false, extra: None })
    }

    fn run(&mut self, by: Option<&Caller>, command: &StateCommand) -> ApplyResult<Receipt> {
        match command {
            StateCommand::CreateOrganization { name, key } => self.create_organization(by, name, key),
            StateCommand::CreateApp { app } => self.create_app(by, app),
            StateCommand::EnsureApp { app } => self.ensure_app(by, app),
            StateCommand::EnsureOperationalApp => self.ensure_operational_app(by),
            StateCommand::UpdateApp { id, change } => self.update_app(by, *id, change),
            StateCommand::RemoveApp { id } => self.remove_app(by, *id),
            StateCommand::EndPortal { id } => self.end_portal(by, *id),
            StateCommand::CreateKey { key } => self.create_key(by, key),
            StateCommand::RevokeKey { id } => self.revoke_key(by, *id),
            StateCommand::RevokePortalLink { id, app, until } => self.revoke_portal_link(by, *id, *app, *until),
            StateCommand::CreateWebhook { webhook, of_app_max } => self.create_webhook(by, webhook, *of_app_max),
            StateCommand::UpdateWebhook { webhook } => self.update_webhook(by, webhook),
            StateCommand::RemoveWebhook { id } => self.remove_webhook(by, *id),
            StateCommand::SetStatus { id, status } => self.set_status(by, *id, *status),
            StateCommand::AutoDisable { id, reason, seen_at } => self.auto_disable(*id, *reason, *seen_at),
            StateCommand::RotateSecret { id, secret, overlap_s } => self.rotate_secret(by, *id, secret, *overlap_s),
            StateCommand::PutConsumer { webhook, name, consumer } => self.put_consumer(by, *webhook, name, *consumer),
            StateCommand::ReadSecret { id } => self.read_secret(by, *id),
            StateCommand::CreateJob { spec } => self.create_job(by, spec),
            StateCommand::CreateJobs { specs } => self.create_jobs(by, specs),
            StateCommand::CancelJob { id } => self.cancel_job(by, *id),
            StateCommand::SaveJob(job) => self.save_job(job),
            StateCommand::Audit(deed) => self.audit_entry(by, deed),
            StateCommand::AcceptClock => self.accept_clock(by),
            StateCommand::StoreAnswer { body } => Ok(Receipt::Kept(body.to_vec())),
            StateCommand::NoteShownAgain { receipt } => {
                self.audit_shown_again(by, receipt);
                Ok(Receipt::Done)
            }
            StateCommand::CreateEventType { definition } => self.create_event_type(by, definition),
            StateCommand::PutEventType { definition } => self.put_event_type(by, definition),
            StateCommand::UpdateEventType { name, change } => self.update_event_type(by, name, change),
            StateCommand::RemoveEventType { name, expunge } => self.remove_event_type(by, name, *expunge),
        }
    }
}
