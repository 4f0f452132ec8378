//! Commands on existing deliveries and events: retry, cancel, erase, and the cancelling of removed webhooks'
//! deliveries.

use std::sync::Arc;

use crate::model::attempt::Trigger;
use crate::model::id::{DeliveryId, EventId, WebhookId};
use crate::model::webhook::{Webhook, WebhookStatus};
use crate::model::{Delivery, DeliveryStatus, Event};
use crate::mutants::mutant;
use crate::rules::transition::{self, TransitionInput};

use crate::kv::payload::CHUNK_BYTES;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::tables::{self, Table};
use crate::store::apply::publish::NewDelivery;
use crate::store::apply::{ApplyError, ApplyResult, PartitionBatch};
use crate::store::command::{AuditEntry, Caller, Receipt, Rejection, RetriedDelivery};

/// Maximum replays of one event that are loaded together.
pub(in crate::store) const REPLAYS_MAX: usize = 100_000;

impl PartitionBatch<'_> {
    pub(in crate::store) fn retry(&mut self, by: Option<&Caller>, id: DeliveryId) -> ApplyResult<Receipt> {
        let was = self.delivery_within(by, id)?;
        let webhook = self.registry.webhooks.get(&was.webhook_id).cloned();
        let Some(webhook) = webhook else {
            return Err(conflict("webhook_removed", "the webhook of this delivery was removed"));
        };
        if webhook.status == WebhookStatus::Disabled {
            return Err(conflict("webhook_disabled", "the webhook of this delivery is disabled; enable it first"));
        }
        let event = self.event_of(&was)?;
        if event.erased_at.is_some() {
            return Err(conflict("event_erased", "the data of this event was erased"));
        }
        let deed = AuditEntry::on_delivery("delivery.retry", &was);
        self.effects.probe_now.push(webhook.id);
        let receipt = if was.status.is_final() { self.replay(&event, &was, &webhook) } else { self.pull_forward(was) }?;
        self.audit(by, deed);
        Ok(receipt)
    }

    /// Retries each delivery by itself. A rejected one leaves the others as they are.
    pub(in crate::store) fn retry_many(&mut self, by: Option<&Caller>, ids: &[DeliveryId]) -> ApplyResult<Receipt> {
        let mut retried = Vec::with_capacity(ids.len());
        for &id in ids {
            let (sent, rejection) = match self.retry(by, id) {
                Ok(Receipt::Delivery(delivery)) => (Some(delivery), None),
                Ok(_) => (None, None),
                Err(ApplyError::Rejected(rejection)) => (None, Some(code_and_detail(&rejection))),
                Err(failed) => return Err(failed),
            };
            retried.push(RetriedDelivery { id, sent, rejection });
        }
        Ok(Receipt::Retried(retried))
    }

    fn replay(&mut self, event: &Arc<Event>, was: &Delivery, webhook: &Webhook) -> ApplyResult<Receipt> {
        let data = self.data_of(event)?;
        let making = NewDelivery { due: self.inputs.now, trigger: Trigger::Replay, replay_of: Some(was.id), job: None };
        let mut event = Event::clone(event);
        // A retry is asked for now, so an `expires_at` in the past is dropped.
        event.attributes.expires_at = event.attributes.expires_at.filter(|end| *end > self.inputs.now);
        let delivery = self.make_delivery(&Arc::new(event), &data, webhook, making)?;
        Ok(Receipt::Delivery(Box::new(delivery)))
    }

    /// Makes an open delivery due now. It keeps its position in an ordered queue and in the retry schedule.
    pub(super) fn pull_forward(&mut self, was: Delivery) -> ApplyResult<Receipt> {
        let mut delivery = Delivery { manual: true, ..was.clone() };
        let now = self.inputs.now;
        if let Some(due) = was.next_attempt_at.filter(|due| *due > now) {
            let old = tables::due(was.webhook_id, due, was.id);
            let may_go = self.write_batch.has(Table::Due, &old)?;
            self.write_batch.remove(Table::Due, old);
            delivery.next_attempt_at = Some(now);
            // A second request leaves the planned time as it is.
            delivery.planned_at = was.planned_at.or(Some(due));
            if may_go {
                self.write_batch.put_key(Table::Due, tables::due(was.webhook_id, now, was.id));
                self.effects.due.push((was.webhook_id, now));
            }
        }
        self.write_batch.put(Table::Deliveries, tables::one(was.id), &delivery);
        Ok(Receipt::Delivery(Box::new(delivery)))
    }

    pub(in crate::store) fn cancel_delivery(&mut self, by: Option<&Caller>, id: DeliveryId) -> ApplyResult<Receipt> {
        let was = self.delivery_within(by, id)?;
        match self.cancel(&was)? {
            Some(delivery) => {
                self.audit(by, AuditEntry::on_delivery("delivery.cancel", &delivery));
                Ok(Receipt::Delivery(Box::new(delivery)))
            }
            None => Err(conflict("delivery_final", &format!("the delivery is already {}", was.status.as_str()))),
        }
    }

    pub(in crate::store) fn cancel_event(&mut self, by: Option<&Caller>, id: EventId) -> ApplyResult<Receipt> {
        let event = self.event_within(by, id)?;
        let mut count = 0;
        for delivery in self.deliveries_of(&event)? {
            count += u32::from(self.cancel(&delivery)?.is_some());
        }
        self.audit(by, AuditEntry::on_event("event.cancel", &event));
        Ok(Receipt::Cancelled(count))
    }

    fn cancel(&mut self, was: &Delivery) -> ApplyResult<Option<Delivery>> {
        let Some(status) = transition::next(was.status, TransitionInput::Cancelled) else { return Ok(None) };
        let mut delivery = was.clone();
        self.move_on(was, &mut delivery, status, None, self.end_of(was, self.inputs.now))?;
        self.write_batch.put(Table::Deliveries, tables::one(was.id), &delivery);
        if !mutant!("cancel_keeps_lane") {
            self.effects.withdrawn.push((was.webhook_id, was.id));
        }
        Ok(Some(delivery))
    }

    pub(in crate::store) fn erase_event(&mut self, by: Option<&Caller>, id: EventId) -> ApplyResult<Receipt> {
        let mut event = self.event_within(by, id)?;
        for delivery in self.deliveries_of(&event)? {
            self.cancel(&delivery)?;
            for mut attempt in self.attempts_of(&delivery)? {
                if attempt.made.response_body.take().is_some() {
                    attempt.response_erased_at.get_or_insert(self.inputs.now);
                }
                self.write_batch.put(Table::Attempts, tables::one(attempt.id), &attempt);
            }
        }
        let kept = if mutant!("erase_keeps_data") { CHUNK_BYTES } else { 0 };
        self.write_batch.erase_payload(id, (event.data_bytes as usize).saturating_sub(kept))?;
        event.data_bytes = 0;
        event.erased_at.get_or_insert(self.inputs.now);
        self.write_batch.put(Table::Events, tables::one(id), &event);
        self.audit(by, AuditEntry::on_event("event.erase", &event));
        Ok(Receipt::Done)
    }

    /// Cancels up to `limit` open deliveries of a removed webhook in this partition.
    pub(in crate::store) fn cancel_removed(&mut self, webhook: WebhookId, limit: u32) -> ApplyResult<Receipt> {
        let mut open = self.write_batch.keys(Table::Due, webhook.as_bytes(), limit as usize)?;
        // Only the head of a queue is due. The others would take a round each.
        let left = (limit as usize).saturating_sub(open.len());
        open.extend(self.write_batch.keys(Table::Queue, webhook.as_bytes(), left)?);
        for key in open {
            let found = match tables::last_id(&key) {
                Some(id) => self.write_batch.get::<Delivery>(Table::Deliveries, DeliveryId::as_bytes(&id))?,
                None => None,
            };
            let cancelled = match &found {
                Some(delivery) => self.cancel(delivery)?.is_some(),
                None => false,
            };
            if !cancelled {
                // Without this an index entry without an open delivery would be found forever.
                self.write_batch.remove(Table::Due, key.clone());
                self.write_batch.remove(Table::Queue, key);
            }
        }
        Ok(Receipt::Done)
    }

    fn delivery_within(&self, by: Option<&Caller>, id: DeliveryId) -> ApplyResult<Delivery> {
        let found = self.write_batch.get::<Delivery>(Table::Deliveries, id.as_bytes())?;
        let visible =
            found.filter(|d| by.is_none_or(|by| by.tenant.covers(d.org_id, d.app_id)) && self.is_retained(d.event_id));
        let mut delivery = visible.ok_or(Rejection::NotFound("delivery"))?;
        if !delivery.status.is_final() && !self.registry.webhooks.contains_key(&delivery.webhook_id) {
            delivery.status = DeliveryStatus::Cancelled;
        }
        Ok(delivery)
    }

    pub(super) fn event_within(&self, by: Option<&Caller>, id: EventId) -> ApplyResult<Event> {
        let found = self.write_batch.get::<Event>(Table::Events, id.as_bytes())?;
        let visible =
            found.filter(|e| by.is_none_or(|by| by.tenant.covers(e.org_id, e.app_id)) && self.is_retained(e.id));
        Ok(visible.ok_or(Rejection::NotFound("event"))?)
    }

    pub(in crate::store) fn event_of(&self, delivery: &Delivery) -> ApplyResult<Arc<Event>> {
        let key = delivery.event_id;
        let found = self.write_batch.get::<Event>(Table::Events, key.as_bytes())?;
        found.map(Arc::new).ok_or_else(|| self.write_batch.base().damaged(Table::Events, key.as_bytes()).into())
    }

    /// Whether the event's retention has not ended.
    pub(in crate::store) fn is_retained(&self, event: EventId) -> bool {
        self.inputs.now < event.time().plus_ms(self.partition_set.options.retention_ms)
    }

    /// All deliveries of an event: published ones, which follow the event, and replays.
    pub(in crate::store) fn deliveries_of(&self, event: &Event) -> ApplyResult<Vec<Delivery>> {
        let mut ids: Vec<DeliveryId> = Vec::new();
        let from = std::ops::Bound::Included(event.id.as_bytes().as_slice());
        self.write_batch.base().scan(
            Table::Deliveries,
            (from, std::ops::Bound::Unbounded),
            Direction::Up,
            |key, _| {
                if ids.len() >= event.deliveries as usize {
                    return Ok(ScanStep::Stop);
                }
                ids.extend(tables::last_id::<Delivery>(key));
                Ok(ScanStep::Go)
            },
        )?;
        for key in self.write_batch.keys(Table::ReplaysByEvent, event.id.as_bytes(), REPLAYS_MAX)? {
            ids.extend(tables::last_id::<Delivery>(&key));
        }
        let mut deliveries = Vec::with_capacity(ids.len());
        for id in ids {
            let found = self.write_batch.get::<Delivery>(Table::Deliveries, id.as_bytes())?;
            deliveries.extend(found.filter(|d| d.event_id == event.id));
        }
        Ok(deliveries)
    }
}

/// The code and the sentence of a rejection.
fn code_and_detail(rejection: &Rejection) -> (String, String) {
    let code = match rejection {
        Rejection::Conflict { code, .. } => code,
        Rejection::NotFound(_) => "not_found",
        _ => "rejected",
    };
    (code.to_owned(), rejection.to_string())
}

pub(in crate::store) fn conflict(code: &'static str, detail: &str) -> crate::store::apply::ApplyError {
    Rejection::Conflict { code, detail: detail.to_owned(), pointer: None }.into()
}

/// The conflict of a `uid` that another object has.
pub(in crate::store) fn uid_taken(detail: &str) -> crate::store::apply::ApplyError {
    Rejection::Conflict { code: "uid_taken", detail: detail.to_owned(), pointer: Some("/uid".to_owned()) }.into()
}
