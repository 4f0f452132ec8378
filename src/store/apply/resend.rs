//! Sends an event to a webhook by hand, and erases the response of one attempt.

use std::sync::Arc;

use crate::kv::tables::{self, Table};
use crate::model::attempt::Trigger;
use crate::model::id::{AttemptId, EventId, WebhookId};
use crate::model::webhook::WebhookStatus;
use crate::model::{Attempt, Event, Headers};
use crate::store::apply::deliveries::conflict;
use crate::store::apply::publish::NewDelivery;
use crate::store::apply::{ApplyResult, PartitionBatch};
use crate::store::command::{AuditEntry, Caller, Receipt, Rejection};

impl PartitionBatch<'_> {
    pub(in crate::store) fn resend(
        &mut self,
        by: Option<&Caller>,
        event: EventId,
        webhook: WebhookId,
    ) -> ApplyResult<Receipt> {
        let event = self.event_within(by, event)?;
        let known = self.registry.webhooks.get(&webhook).filter(|webhook| webhook.app_id == event.app_id).cloned();
        let webhook = known.ok_or(Rejection::NotFound("webhook"))?;
        if webhook.status == WebhookStatus::Disabled {
            return Err(conflict("webhook_disabled", "the webhook is disabled; enable it first"));
        }
        if event.erased_at.is_some() {
            return Err(conflict("event_erased", "the data of this event was erased"));
        }
        let replay_of = self.newest_final_to(webhook.id, &event)?;
        let data = self.data_of(&event)?;
        let deed = AuditEntry::on_event("event.resend", &event);
        let mut fresh: Event = event;
        // It is asked for now, so an `expires_at` in the past is dropped.
        fresh.attributes.expires_at = fresh.attributes.expires_at.filter(|end| *end > self.inputs.now);
        let making = NewDelivery { due: self.inputs.now, trigger: Trigger::Manual, replay_of, job: None };
        self.effects.probe_now.push(webhook.id);
        let delivery = self.make_delivery(&Arc::new(fresh), &data, &webhook, making)?;
        self.audit(by, deed);
        Ok(Receipt::Delivery(Box::new(delivery)))
    }

    pub(in crate::store) fn erase_response(&mut self, by: Option<&Caller>, id: AttemptId) -> ApplyResult<Receipt> {
        let found = self.write_batch.get::<Attempt>(Table::Attempts, id.as_bytes())?;
        let is_visible = |attempt: &Attempt| {
            by.is_none_or(|by| by.tenant.covers(attempt.org_id, attempt.app_id)) && self.is_retained(attempt.event_id)
        };
        let mut attempt = found.filter(is_visible).ok_or(Rejection::NotFound("attempt"))?;
        attempt.made.response_headers = Headers::default();
        attempt.made.response_body = None;
        attempt.response_erased_at.get_or_insert(self.inputs.now);
        self.write_batch.put(Table::Attempts, tables::one(id), &attempt);
        self.audit(by, AuditEntry::on_attempt("attempt.erase", &attempt));
        Ok(Receipt::Done)
    }
}
