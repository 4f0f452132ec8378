//! Replay jobs over waiting deliveries: makes open deliveries due now, one slice of the indexes at a time.
//!
//! Invariant: a delivery that was made or attempted after the job began is left alone, so a job ends although receivers go on
//! failing.

use std::sync::Arc;

use crate::kv::tables::{self, Table};
use crate::model::id::{DeliveryId, EventId, WebhookId};
use crate::model::job::{Job, JobMark};
use crate::model::webhook::WebhookStatus;
use crate::model::{Delivery, Event, Time, Webhook};
use crate::store::apply::{ApplyResult, PartitionBatch};
use crate::store::command::Receipt;
use crate::store::read::replay_scope::{covers, waiting_webhooks};

impl PartitionBatch<'_> {
    /// Examines up to `limit` index entries of this partition, and stops at `make_max` deliveries.
    pub(super) fn advance_waiting(&mut self, mut job: Job, limit: u32, make_max: u32) -> ApplyResult<Receipt> {
        let (before, mut left) = (job.matched, limit);
        if job.position.next().as_u128() < self.first {
            // The job begins, or retention has dropped the partition of its mark.
            (job.position, job.mark) = (EventId::from_u128(self.first - 1), None);
        }
        let began_with = job.mark;
        let is_ahead = |id: &WebhookId| began_with.is_none_or(|mark| mark.webhook() <= *id);
        for webhook in waiting_webhooks(&self.registry, &job.spec).into_iter().filter(is_ahead) {
            let mark = began_with.filter(|mark| mark.webhook() == webhook);
            let entries = self.waiting_entries(webhook, mark, left)?;
            if entries.is_empty() {
                // A webhook without entries costs a lookup in its indexes.
                left -= 1;
            }
            let matched_before = job.matched;
            for (mark, id) in entries {
                if left == 0 || job.matched - before >= u64::from(make_max) {
                    self.probe_if(job.matched > matched_before, webhook);
                    return Ok(self.saved(job));
                }
                left -= 1;
                job.mark = Some(mark);
                if self.is_made_due(&job, mark, id)? {
                    job.matched += 1;
                }
            }
            self.probe_if(job.matched > matched_before, webhook);
            if left == 0 {
                return Ok(self.saved(job));
            }
            job.mark = Some(JobMark::Queued(webhook, u64::MAX, DeliveryId::MAX));
        }
        job.mark = None;
        self.leave_partition(&mut job);
        Ok(self.saved(job))
    }

    fn probe_if(&mut self, has_matched: bool, webhook: WebhookId) {
        let is_enabled = |webhook: &Arc<Webhook>| webhook.status == WebhookStatus::Enabled;
        if has_matched && self.registry.webhooks.get(&webhook).is_some_and(is_enabled) {
            self.effects.probe_now.push(webhook);
        }
    }

    /// The next entries of a webhook: those of the due index, then those of its queues.
    fn waiting_entries(
        &self,
        webhook: WebhookId,
        mark: Option<JobMark>,
        limit: u32,
    ) -> ApplyResult<Vec<(JobMark, DeliveryId)>> {
        let mut entries = Vec::new();
        let prefix = webhook.as_bytes();
        let due_after = match mark {
            None => Some(tables::due(webhook, Time::ZERO, DeliveryId::MIN)),
            Some(JobMark::Due(_, at, id)) => Some(tables::due(webhook, at, id)),
            Some(JobMark::Queued(..)) => None,
        };
        if let Some(after) = due_after {
            let keys = self.write_batch.keys_after(Table::Due, prefix, &after, limit as usize)?;
            let due = keys.iter().filter_map(|key| tables::read_due(key));
            entries.extend(due.map(|(_, at, id)| (JobMark::Due(webhook, at, id), id)));
        }
        let left = (limit as usize).saturating_sub(entries.len());
        if left > 0 {
            let after = match mark {
                Some(JobMark::Queued(_, hash, id)) => tables::queue(webhook, hash, id),
                _ => tables::queue(webhook, 0, DeliveryId::MIN),
            };
            let keys = self.write_batch.keys_after(Table::Queue, prefix, &after, left)?;
            let queued = keys.iter().filter_map(|key| tables::read_queue(key));
            entries.extend(queued.map(|(_, hash, id)| (JobMark::Queued(webhook, hash, id), id)));
        }
        Ok(entries)
    }

    /// Makes the delivery of an entry due now. Returns whether the job is for it.
    fn is_made_due(&mut self, job: &Job, mark: JobMark, id: DeliveryId) -> ApplyResult<bool> {
        let Some(delivery) = self.write_batch.get::<Delivery>(Table::Deliveries, id.as_bytes())? else {
            return Ok(false);
        };
        let began = job.id.as_u128();
        let is_newer = id.as_u128() > began || delivery.last_attempt_id.is_some_and(|last| last.as_u128() > began);
        if delivery.status.is_final() || is_newer || !self.is_retained(delivery.event_id) {
            return Ok(false);
        }
        // The head of a queue is in the due index too.
        let due = delivery.next_attempt_at.map(|at| tables::due(delivery.webhook_id, at, id));
        if let (JobMark::Queued(..), Some(key)) = (mark, due)
            && self.write_batch.has(Table::Due, &key)?
        {
            return Ok(false);
        }
        let event = self.write_batch.get::<Event>(Table::Events, delivery.event_id.as_bytes())?;
        let covered = event.filter(|event| covers(&job.spec, event) && job.spec.last.passes(&delivery));
        let Some(event) = covered else { return Ok(false) };
        // A resend may have delivered the event meanwhile.
        if self.is_delivered_to(delivery.webhook_id, &event)? {
            return Ok(false);
        }
        if delivery.next_attempt_at.is_some_and(|at| at > self.inputs.now) {
            self.pull_forward(delivery)?;
        }
        Ok(true)
    }
}
