//! Recording an attempt: its row, and its consequences for the delivery, the figures and the webhook.

use crate::model::attempt::{AttemptMade, AttemptOutcome, Trigger};
use crate::model::id::{AttemptId, DeliveryId};
use crate::model::webhook::{Webhook, WebhookStatus};
use crate::model::{Attempt, Delivery, DeliveryStatus, Time};
use crate::mutants::mutant;
use crate::rules::retry::{self, FinishedAttempt};
use crate::rules::transition::{self, TransitionInput};
use crate::rules::{circuit, durations, patterns};

use crate::kv::tables::{self, Key, Table};
use crate::store::apply::operational::{self, FAILURES_TO_NOTICE, Occurrence};
use crate::store::apply::{ApplyResult, PartitionBatch, system_events};
use crate::store::command::{AttemptReport, FailureCause, Receipt, StateCommand, WriteRequest};
use crate::store::effects::StateChange;

/// The receiver asks for no more requests (RFC 9110, section 15.5.11).
const STATUS_GONE: u16 = 410;

impl PartitionBatch<'_> {
    pub(in crate::store) fn record(&mut self, report: &AttemptReport) -> ApplyResult<Receipt> {
        let (id, made) = (report.delivery_id, &report.made);
        self.effects.recorded.push(id);
        let Some(mut delivery) = self.write_batch.get::<Delivery>(Table::Deliveries, id.as_bytes())? else {
            return Ok(Receipt::Recorded(None));
        };
        // An outcome that is recorded already may come again after a file was reopened.
        let is_next = made.number == delivery.attempts + 1;
        let is_repeated = mutant!("outcome_twice") && made.number <= delivery.attempts;
        if !is_next && !is_repeated {
            return Ok(Receipt::Recorded(None));
        }
        let webhook = self.registry.webhooks.get(&delivery.webhook_id).cloned();
        let gone = made.status_code == Some(STATUS_GONE);
        let was = delivery.clone();
        let next = match &webhook {
            Some(webhook) if !made.success && !gone && !delivery.resend && report.cause != FailureCause::Request => {
                self.schedule_next(&mut delivery, webhook, made)
            }
            _ => None,
        };
        // `Retry-After` holds back the whole webhook, so the next attempt is not earlier.
        let next = next.map(|at| at.max(report.hold_until.unwrap_or(Time::ZERO)));
        let next = next.map(|at| at.min(delivery.expires_at.unwrap_or(Time::MAX)));
        let happening = match (&webhook, made.success, next) {
            // The delivery has read as cancelled since its webhook was removed.
            (None, ..) if !mutant!("removed_still_counts") => TransitionInput::Cancelled,
            (_, true, _) => TransitionInput::Succeeded,
            (_, false, Some(_)) => TransitionInput::FailedWithRetry,
            (_, false, None) => TransitionInput::FailedForGood,
        };
        // `None` if the delivery was cancelled in flight. Then the attempt is stored and the delivery stays as it is.
        let status = transition::next(delivery.status, happening);
        let next = next.filter(|_| status == Some(DeliveryStatus::Retrying));
        let mut attempt = self.attempt_of(report, &delivery, next);
        if status.is_none() && self.event_of(&delivery)?.erased_at.is_some() {
            // The event was erased while the request was in flight, and the response may repeat its payload.
            attempt.made.response_body = None;
        }
        note_attempt(&mut delivery, &attempt);
        if let Some(status) = status {
            let at = self.end_of(&was, made.finished_at);
            self.move_on(&was, &mut delivery, status, next, at)?;
        }
        self.effects.newest = self.effects.newest.max(Some(DeliveryId::from_u128(attempt.id.as_u128())));
        self.write_batch.put(Table::Attempts, tables::one(attempt.id), &attempt);
        self.write_batch.put_key(Table::AttemptsByWebhook, tables::pair(delivery.webhook_id, attempt.id));
        self.write_batch.put(Table::Deliveries, tables::one(id), &delivery);
        self.figures.attempted(&self.write_batch, &delivery, &attempt, was.attempts == 0)?;
        if let Some(webhook) = webhook {
            if made.success || report.cause == FailureCause::Receiver {
                self.update_webhook_state(&webhook, &delivery, report, gone)?;
            }
            // A resend has no schedule that could be used up.
            if !was.status.is_final() && !delivery.resend {
                self.publish_progress(&webhook, &delivery, &attempt)?;
            }
        }
        Ok(Receipt::Recorded(Some(Box::new(delivery))))
    }

    /// The time of the next attempt after a failed one, and the delivery's position in the retry schedule.
    fn schedule_next(&mut self, delivery: &mut Delivery, webhook: &Webhook, made: &AttemptMade) -> Option<Time> {
        let attempt = FinishedAttempt {
            manual: made.trigger == Trigger::Manual,
            position: delivery.schedule_position(),
            planned_at: delivery.planned_at,
            started_at: made.started_at,
            finished_at: made.finished_at,
        };
        let next = retry::after_failure(&webhook.retry_schedule_s, attempt, (self.inputs.random)());
        delivery.unscheduled += u32::from(!next.is_scheduled);
        next.at
    }

    fn attempt_of(&mut self, report: &AttemptReport, delivery: &Delivery, next: Option<Time>) -> Attempt {
        Attempt {
            // An id drawn by a clock that had stepped back would point to an older partition.
            id: report.attempt_id.filter(|id| id.as_u128() > delivery.id.as_u128()).unwrap_or_else(|| self.inputs.id()),
            delivery_id: delivery.id,
            event_id: delivery.event_id,
            webhook_id: delivery.webhook_id,
            org_id: delivery.org_id,
            app_id: delivery.app_id,
            event_type: delivery.event_type.clone(),
            retry_of: delivery.last_attempt_id,
            next_attempt_at: next,
            made: report.made.clone(),
            response_erased_at: None,
        }
    }

    /// Moves an open delivery: its status, its due entry, its queue and the counts by state.
    pub(in crate::store) fn move_on(
        &mut self,
        was: &Delivery,
        delivery: &mut Delivery,
        status: DeliveryStatus,
        next: Option<Time>,
        at: Time,
    ) -> ApplyResult<()> {
        let old = was.next_attempt_at.map(|due| tables::due(was.webhook_id, due, was.id));
        // A delivery behind a queue head is not due, whatever its outcome.
        let may_go = match (&old, next) {
            (Some(old), Some(_)) => self.write_batch.has(Table::Due, old)?,
            _ => false,
        };
        if let Some(old) = old {
            self.write_batch.remove(Table::Due, old);
        }
        delivery.status = status;
        delivery.next_attempt_at = next;
        if let Some(due) = next.filter(|_| may_go) {
            self.write_batch.put_key(Table::Due, tables::due(delivery.webhook_id, due, delivery.id));
            self.effects.due.push((delivery.webhook_id, due));
        }
        if !status.is_final() {
            return Ok(());
        }
        delivery.completed_at = Some(at);
        if status == DeliveryStatus::Failed {
            failed_keys(delivery, at).into_iter().for_each(|key| self.write_batch.put_key(Table::FailedByOwner, key));
        }
        self.effects.finals.count(status);
        if let Some(end) = was.expires_at {
            self.write_batch.remove(Table::Expiries, tables::expiry(end, was.id));
        }
        self.figures.ended(&self.write_batch, delivery, status, at)?;
        // Both possible queues are checked, because the setting may have changed since the delivery was made.
        let key = delivery.ordering_key.as_deref().map(crate::store::apply::publish::key_hash);
        for key_hash in [Some(0), key].into_iter().flatten() {
            self.dequeue(delivery.webhook_id, key_hash, delivery.id)?;
        }
        Ok(())
    }

    /// Applies the attempt to the webhook's state: circuit, counters and disabling.
    fn update_webhook_state(
        &mut self,
        webhook: &Webhook,
        delivery: &Delivery,
        report: &AttemptReport,
        gone: bool,
    ) -> ApplyResult<()> {
        let made = &report.made;
        let seen = circuit::AttemptSummary {
            started_at: made.started_at,
            finished_at: made.finished_at,
            success: made.success,
            gone,
            hold_until: report.hold_until,
            proxy_failed: made.outcome == AttemptOutcome::ProxyError,
        };
        let (state, changes) = circuit::after(self.state(webhook.id), webhook.disable_after_s, seen);
        self.figures.set_state(&self.write_batch, delivery, state)?;
        self.states.insert(webhook.id, state);
        for change in changes {
            self.publish_change(webhook, change, made, state.sequence);
        }
        Ok(())
    }

    fn publish_change(&mut self, webhook: &Webhook, change: circuit::CircuitChange, made: &AttemptMade, sequence: u64) {
        let error = made.error.clone().unwrap_or_default();
        let (kind, reason) = match change {
            circuit::CircuitChange::Failing => (
                "webhook.failing",
                format!("{} consecutive failed attempts; the last: {error}", circuit::FAILURES_TO_OPEN),
            ),
            circuit::CircuitChange::Warning => {
                ("webhook.failing", format!("no success for half of disable_after_s; the last: {error}"))
            }
            circuit::CircuitChange::Recovered => ("webhook.recovered", "an attempt succeeded".to_owned()),
            circuit::CircuitChange::Disabled(reason) => {
                let seen_at = made.finished_at;
                self.follow.push(WriteRequest::internal(StateCommand::AutoDisable { id: webhook.id, reason, seen_at }));
                let words = match reason {
                    crate::model::webhook::DisabledReason::Gone => "the receiver answered 410 Gone".to_owned(),
                    _ => format!(
                        "no success for {}; the last: {error}",
                        durations::exact((webhook.disable_after_s as i64).saturating_mul(1_000))
                    ),
                };
                ("webhook.disabled", words)
            }
        };
        if kind == "webhook.disabled" && webhook.status == WebhookStatus::Disabled {
            return;
        }
        self.effects.state_changes.push(StateChange {
            webhook_id: webhook.id,
            delivery: None,
            kind,
            reason: reason.clone(),
        });
        self.follow.push(system_events::about(
            webhook,
            kind,
            &reason,
            &format!("{kind}:{}:{sequence}", webhook.id),
            &[],
        ));
    }

    fn publish_exhausted(&mut self, webhook: &Webhook, delivery: &Delivery) {
        let kind = "delivery.exhausted";
        let reason = delivery.last_error.clone().unwrap_or_default();
        let about = Some((delivery.event_id, delivery.id));
        self.effects.state_changes.push(StateChange {
            webhook_id: webhook.id,
            delivery: about,
            kind,
            reason: reason.clone(),
        });
        // A system event about a system event would repeat without end.
        if patterns::is_system(&delivery.event_type) {
            return;
        }
        let ids = [("delivery_id", delivery.id.to_string()), ("event_id", delivery.event_id.to_string())];
        self.follow.push(system_events::about(webhook, kind, &reason, &format!("{kind}:{}", delivery.id), &ids));
    }

    /// Publishes that an open delivery is failing, exhausted or recovered.
    fn publish_progress(&mut self, webhook: &Webhook, delivery: &Delivery, attempt: &Attempt) -> ApplyResult<()> {
        if delivery.status == DeliveryStatus::Failed {
            self.publish_exhausted(webhook, delivery);
        }
        let occurrence = match delivery.status {
            DeliveryStatus::Failed => Occurrence::Exhausted(attempt),
            DeliveryStatus::Retrying if delivery.attempts == FAILURES_TO_NOTICE => Occurrence::Failing(attempt),
            DeliveryStatus::Delivered if delivery.attempts > FAILURES_TO_NOTICE => Occurrence::Recovered(attempt),
            _ => return Ok(()),
        };
        if operational::is_wanted(&self.registry, webhook, occurrence) {
            let event = self.event_of(delivery)?;
            self.follow.extend(operational::about(&self.registry, webhook, occurrence, Some(&event)));
        }
        Ok(())
    }

    /// When a delivery that ends at `at` has ended: at the removal of its webhook, if that came first.
    pub(in crate::store) fn end_of(&self, delivery: &Delivery, at: Time) -> Time {
        self.partition_set.removed().get(&delivery.webhook_id).copied().unwrap_or(at)
    }

    /// Fails a delivery whose `expires_at` has passed.
    pub(in crate::store) fn expire(&mut self, id: DeliveryId) -> ApplyResult<Receipt> {
        self.effects.recorded.push(id);
        let Some(was) = self.write_batch.get::<Delivery>(Table::Deliveries, id.as_bytes())? else {
            return Ok(Receipt::Recorded(None));
        };
        let is_removed = !self.registry.webhooks.contains_key(&was.webhook_id);
        let happening = if is_removed { TransitionInput::Cancelled } else { TransitionInput::Expired };
        let Some(status) = transition::next(was.status, happening) else { return Ok(Receipt::Recorded(None)) };
        let mut delivery = was.clone();
        self.move_on(&was, &mut delivery, status, None, self.end_of(&was, self.inputs.now))?;
        if !is_removed {
            delivery.last_outcome = Some(AttemptOutcome::Expired);
            delivery.last_error = Some(AttemptOutcome::Expired.phrase().to_owned());
        }
        self.write_batch.put(Table::Deliveries, tables::one(id), &delivery);
        Ok(Receipt::Recorded(Some(Box::new(delivery))))
    }

    /// The attempts of a delivery, newest first.
    pub(in crate::store) fn attempts_of(&self, delivery: &Delivery) -> ApplyResult<Vec<Attempt>> {
        let mut attempts = Vec::new();
        let mut next: Option<AttemptId> = delivery.last_attempt_id;
        while let Some(id) = next {
            let Some(attempt) = self.write_batch.get::<Attempt>(Table::Attempts, id.as_bytes())? else { break };
            next = attempt.retry_of;
            attempts.push(attempt);
        }
        Ok(attempts)
    }
}

/// The index keys of a failed delivery that ended at `at`.
pub(in crate::store) fn failed_keys(delivery: &Delivery, at: Time) -> [Key; 3] {
    [
        tables::failed(delivery.webhook_id, at, delivery.id),
        tables::failed(delivery.app_id, at, delivery.id),
        tables::failed(delivery.org_id, at, delivery.id),
    ]
}

fn note_attempt(delivery: &mut Delivery, attempt: &Attempt) {
    delivery.attempts = attempt.made.number;
    delivery.first_attempt_at.get_or_insert(attempt.made.started_at);
    delivery.last_attempt_id = Some(attempt.id);
    delivery.last_status_code = attempt.made.status_code;
    delivery.last_outcome = Some(attempt.made.outcome);
    delivery.last_error = attempt.made.error.clone();
    delivery.last_response_time_ms = attempt.made.response_time_ms;
    delivery.manual = false;
    delivery.planned_at = None;
}
