//! Outcomes and commands on deliveries, in the oracle.

use postrider::model::attempt::{AttemptMade, AttemptOutcome, Trigger};
use postrider::model::id::{AttemptId, DeliveryId, EventId, OrganizationId, WebhookId};
use postrider::model::webhook::{Webhook, WebhookStatus};
use postrider::model::{Attempt, Delivery, DeliveryStatus, Time};
use postrider::rules::{circuit, histogram, patterns, retry};
use postrider::store::{AttemptReport, Receipt};

use super::delivery_life::{Cause, owners_of};
use super::drawn_values::Found;
use super::oracle::{Asked, AuditLine, Oracle};
use super::{Check, ensure};

const STATUS_GONE: u16 = 410;

/// The next attempt after a failed one: the planned one, or one after the wait of this number, from 1.
#[derive(Clone, Copy)]
enum NextEntry {
    Planned(Time),
    Wait(u32),
}

/// Whether an attempt was made besides the schedule: a caller asked for it, and it replaced no planned first attempt.
fn is_extra(was: &Delivery, finished: &AttemptMade) -> bool {
    let was_planned_later = was.planned_at.is_some_and(|at| at > finished.started_at);
    finished.trigger == Trigger::Manual && (was_planned_later || was.attempts > was.unscheduled)
}

fn entry_after(was: &Delivery, finished: &AttemptMade) -> NextEntry {
    let of_schedule = was.attempts - was.unscheduled;
    match (is_extra(was, finished), was.planned_at.filter(|at| *at > finished.started_at)) {
        (true, Some(at)) => NextEntry::Planned(at),
        (true, None) => NextEntry::Wait(of_schedule),
        (false, _) => NextEntry::Wait(of_schedule + 1),
    }
}

type Answered = Check<Result<Receipt, String>>;

impl Oracle {
    pub fn record(&mut self, first: u128, finished: &AttemptReport, found: &mut Found) -> Answered {
        let id = finished.delivery_id;
        let here = self.deliveries.get(&id).filter(|made| self.home_of(made.row.event_id) == first);
        let Some(was) = here.map(|made| made.row.clone()).filter(|row| row.attempts + 1 == finished.made.number) else {
            return Ok(Ok(Receipt::Recorded(None)));
        };
        let given = finished.attempt_id.filter(|given| given.as_u128() > id.as_u128());
        let attempt = found.attempt(given, &was, finished.made.number)?;
        let webhook = self.webhooks.get(&was.webhook_id).cloned();
        let next = self.judge_next(webhook.as_ref(), finished, &was, &attempt)?;
        if given.is_none() {
            ensure!(attempt.id.as_u128() > self.last, "attempt {} is not after all ids before it", attempt.id);
            self.last = attempt.id.as_u128();
        }
        let id_of_it = given.unwrap_or(attempt.id);
        let expected = expected_attempt(finished, &was, id_of_it, next, self.is_erased(was.event_id));
        self.attempts.insert(attempt.id, expected);
        self.note_attempt(first, &was, finished, &attempt);
        if !was.status.is_final() {
            match (next, &webhook) {
                (Some(at), _) => {
                    if let Some(made) = self.deliveries.get_mut(&id) {
                        made.row.status = DeliveryStatus::Retrying;
                    }
                    self.reschedule(id, at)?;
                }
                (None, None) => self.finish(
                    id,
                    DeliveryStatus::Cancelled,
                    self.removed_at(was.webhook_id, finished.made.finished_at),
                )?,
                (None, Some(_)) if finished.made.success => {
                    self.finish(id, DeliveryStatus::Delivered, finished.made.finished_at)?
                }
                (None, Some(_)) => self.finish(id, DeliveryStatus::Failed, finished.made.finished_at)?,
            }
        }
        let row = self.deliveries[&id].row.clone();
        if let Some(webhook) = webhook {
            self.judge_webhook(&webhook, finished);
            let is_exhausted = row.status == DeliveryStatus::Failed && !was.status.is_final() && !row.resend;
            if is_exhausted && !patterns::is_system(&row.event_type) {
                self.follow.push(format!("publish delivery.exhausted:{id}"));
            }
        }
        Ok(Ok(Receipt::Recorded(Some(Box::new(row)))))
    }

    fn is_erased(&self, event: EventId) -> bool {
        self.events.get(&event).is_some_and(|posted| posted.event.erased_at.is_some())
    }

    fn removed_at(&self, webhook: WebhookId, otherwise: Time) -> Time {
        self.removed.get(&webhook).copied().unwrap_or(otherwise)
    }

    /// The time of the next attempt as the store drew it, if it is permitted.
    fn judge_next(
        &self,
        webhook: Option<&Webhook>,
        finished: &AttemptReport,
        was: &Delivery,
        attempt: &Attempt,
    ) -> Check<Option<Time>> {
        let gone = finished.made.status_code == Some(STATUS_GONE);
        let schedule = webhook.filter(|_| !finished.made.success && !gone && !was.resend && !was.status.is_final());
        let schedule = schedule.map(|w| &w.retry_schedule_s);
        let end = was.expires_at.unwrap_or(Time::MAX);
        let entry = entry_after(was, &finished.made);
        let at = |jitter| {
            let schedule = schedule?;
            let next = match entry {
                NextEntry::Planned(at) => Some(at.max(finished.made.finished_at)),
                NextEntry::Wait(number) => {
                    retry::next_attempt(schedule, number, finished.made.started_at, finished.made.finished_at, jitter)
                }
            };
            next.map(|at| at.max(finished.hold_until.unwrap_or(Time::ZERO)).min(end))
        };
        let wait_s = match entry {
            NextEntry::Planned(_) => 0,
            NextEntry::Wait(number) => schedule.and_then(|s| s.get(number as usize - 1)).copied().unwrap_or(0),
        };
        let (earliest, latest) = (at(0), at(u64::from(wait_s) * 100));
        let next = attempt.next_attempt_at;
        let within = match (earliest, latest, next) {
            (Some(earliest), Some(latest), Some(next)) => (earliest..=latest).contains(&next),
            (None, None, None) => true,
            _ => false,
        };
        ensure!(within, "the next attempt of {} is {next:?}, not in {earliest:?} ..= {latest:?}", was.id);
        Ok(next)
    }

    fn note_attempt(&mut self, first: u128, was: &Delivery, finished: &AttemptReport, attempt: &Attempt) {
        if let Some(made) = self.deliveries.get_mut(&was.id) {
            let row = &mut made.row;
            row.attempts = finished.made.number;
            row.first_attempt_at = row.first_attempt_at.or(Some(finished.made.started_at));
            row.last_attempt_id = Some(attempt.id);
            row.last_status_code = finished.made.status_code;
            row.last_outcome = Some(finished.made.outcome);
            row.last_error.clone_from(&finished.made.error);
            row.last_response_time_ms = finished.made.response_time_ms;
            row.manual = false;
            row.planned_at = None;
            if self.webhooks.contains_key(&was.webhook_id)
                && !finished.made.success
                && finished.made.status_code != Some(STATUS_GONE)
                // A resend has no schedule.
                && !was.resend
                && is_extra(was, &finished.made)
            {
                row.unscheduled += 1;
            }
        }
        self.touched.insert(was.event_id);
        owners_of(was).into_iter().for_each(|owner| self.count_attempt(first, owner, was.attempts == 0, finished));
    }

    fn count_attempt(&mut self, first: u128, owner: WebhookId, begun: bool, finished: &AttemptReport) {
        let made = &finished.made;
        let sums = self.sums_of(first, owner);
        sums.started += u64::from(begun);
        sums.attempts += 1;
        sums.attempts_failed += u64::from(!made.success);
        sums.last_attempt_at = sums.last_attempt_at.max(Some(made.started_at));
        if let Some(ms) = made.response_time_ms {
            sums.responses += 1;
            sums.response_ms += u64::from(ms);
            sums.tally(histogram::bucket(ms), 1);
        }
        let minute = self.minute_of(first, owner, made.started_at);
        minute.started += u32::from(begun);
        minute.attempts += 1;
        minute.failures += u32::from(!made.success);
        let hour = self.hours.entry((owner, made.started_at.hour(), first)).or_default();
        hour.attempt(made.outcome, made.response_time_ms.map(|ms| (histogram::bucket(ms), ms)));
    }

    fn judge_webhook(&mut self, webhook: &Webhook, finished: &AttemptReport) {
        let seen = circuit::AttemptSummary {
            started_at: finished.made.started_at,
            finished_at: finished.made.finished_at,
            success: finished.made.success,
            gone: finished.made.status_code == Some(STATUS_GONE),
            hold_until: finished.hold_until,
            proxy_failed: finished.made.outcome == AttemptOutcome::ProxyError,
        };
        let known = self.states.get(&webhook.id).copied().unwrap_or_default();
        let (state, changes) = circuit::after(known, webhook.disable_after_s, seen);
        self.states.insert(webhook.id, state);
        for change in changes {
            let kind = match change {
                circuit::CircuitChange::Failing | circuit::CircuitChange::Warning => "webhook.failing",
                circuit::CircuitChange::Recovered => "webhook.recovered",
                circuit::CircuitChange::Disabled(reason) => {
                    self.follow.push(format!("give_up {} {reason:?}", webhook.id));
                    "webhook.disabled"
                }
            };
            if kind != "webhook.disabled" || webhook.status != WebhookStatus::Disabled {
                self.follow.push(format!("publish {kind}:{}:{}", webhook.id, state.sequence));
            }
        }
    }

    pub fn expire(&mut self, first: u128, id: DeliveryId, now: Time) -> Answered {
        let here = self.deliveries.get(&id).filter(|made| self.home_of(made.row.event_id) == first);
        let Some(was) = here.map(|made| made.row.clone()).filter(|row| !row.status.is_final()) else {
            return Ok(Ok(Receipt::Recorded(None)));
        };
        if self.webhooks.contains_key(&was.webhook_id) {
            self.finish(id, DeliveryStatus::Failed, now)?;
            if let Some(made) = self.deliveries.get_mut(&id) {
                made.row.last_outcome = Some(AttemptOutcome::Expired);
                made.row.last_error = Some(AttemptOutcome::Expired.phrase().to_owned());
            }
        } else {
            self.finish(id, DeliveryStatus::Cancelled, self.removed_at(was.webhook_id, now))?;
        }
        Ok(Ok(Receipt::Recorded(Some(Box::new(self.deliveries[&id].row.clone())))))
    }

    pub fn sweep(&mut self, first: u128, webhook: WebhookId, now: Time) -> Answered {
        let open = self.deliveries.values().filter(|made| {
            made.row.webhook_id == webhook && !made.row.status.is_final() && self.home_of(made.row.event_id) == first
        });
        for id in open.map(|made| made.row.id).collect::<Vec<_>>() {
            self.cancel(id, now)?;
        }
        Ok(Ok(Receipt::Done))
    }

    /// Cancels an open delivery. Its end is the removal of its webhook, if that came first.
    fn cancel(&mut self, id: DeliveryId, now: Time) -> Check {
        let at = self.removed_at(self.deliveries[&id].row.webhook_id, now);
        self.finish(id, DeliveryStatus::Cancelled, at)?;
        self.withdrawn.push(id);
        Ok(())
    }

    fn visible(&self, id: DeliveryId, asked: &Asked<'_>) -> Option<Delivery> {
        let row = &self.deliveries.get(&id)?.row;
        let covered = asked.request.caller.as_ref().is_none_or(|by| by.tenant.covers(row.org_id, row.app_id));
        (covered && self.is_kept(row.event_id, asked.now)).then(|| self.shown(row))
    }

    pub fn retry(&mut self, id: DeliveryId, asked: &Asked<'_>, found: &mut Found) -> Answered {
        let Some(was) = self.visible(id, asked) else { return Ok(Err("not_found delivery".into())) };
        let Some(webhook) = self.webhooks.get(&was.webhook_id) else {
            return Ok(Err("conflict webhook_removed".into()));
        };
        if webhook.status == WebhookStatus::Disabled {
            return Ok(Err("conflict webhook_disabled".into()));
        }
        if self.is_erased(was.event_id) {
            return Ok(Err("conflict event_erased".into()));
        }
        if was.status.is_final() {
            let mut event = self.events[&was.event_id].event.clone();
            event.attributes.expires_at = event.attributes.expires_at.filter(|end| *end > asked.now);
            let cause =
                Cause { now: asked.now, due: asked.now, trigger: Trigger::Replay, replay_of: Some(id), job: None };
            let row = self.make(&event, was.webhook_id, &cause, found)?;
            self.audit_delivery_action(asked, &was, "delivery.retry");
            return Ok(Ok(Receipt::Delivery(Box::new(row))));
        }
        self.audit_delivery_action(asked, &was, "delivery.retry");
        self.touched.insert(was.event_id);
        // A hold of the webhook is shown, and changes nothing in the delivery.
        let own_time = self.deliveries.get(&id).and_then(|made| made.row.next_attempt_at).filter(|at| *at > asked.now);
        if let Some(made) = self.deliveries.get_mut(&id) {
            made.row.manual = true;
            if let (Some(at), None) = (own_time, was.planned_at) {
                made.row.planned_at = Some(at);
            }
        }
        if own_time.is_some() {
            self.reschedule(id, asked.now)?;
        }
        Ok(Ok(Receipt::Delivery(Box::new(self.deliveries[&id].row.clone()))))
    }

    pub fn resend(&mut self, id: EventId, webhook: WebhookId, asked: &Asked<'_>, found: &mut Found) -> Answered {
        if !self.visible_event(id, asked) {
            return Ok(Err("not_found event".into()));
        }
        let mut event = self.events[&id].event.clone();
        let Some(known) = self.webhooks.get(&webhook).filter(|webhook| webhook.app_id == event.app_id) else {
            return Ok(Err("not_found webhook".into()));
        };
        if known.status == WebhookStatus::Disabled {
            return Ok(Err("conflict webhook_disabled".into()));
        }
        if event.erased_at.is_some() {
            return Ok(Err("conflict event_erased".into()));
        }
        let own = self.deliveries_of(id).map(|made| &made.row).filter(|row| row.webhook_id == webhook);
        let replay_of = own.filter(|row| row.status.is_final()).map(|row| row.id).max();
        event.attributes.expires_at = event.attributes.expires_at.filter(|end| *end > asked.now);
        let cause = Cause { now: asked.now, due: asked.now, trigger: Trigger::Manual, replay_of, job: None };
        let row = self.make(&event, webhook, &cause, found)?;
        self.audit_event_action(asked, id, "event.resend");
        Ok(Ok(Receipt::Delivery(Box::new(row))))
    }

    pub fn cancel_delivery(&mut self, id: DeliveryId, asked: &Asked<'_>) -> Answered {
        let Some(was) = self.visible(id, asked) else { return Ok(Err("not_found delivery".into())) };
        if was.status.is_final() {
            return Ok(Err("conflict delivery_final".into()));
        }
        self.cancel(id, asked.now)?;
        self.audit_delivery_action(asked, &was, "delivery.cancel");
        Ok(Ok(Receipt::Delivery(Box::new(self.deliveries[&id].row.clone()))))
    }

    fn visible_event(&self, id: EventId, asked: &Asked<'_>) -> bool {
        let Some(posted) = self.events.get(&id) else { return false };
        let covers = |by: &postrider::store::Caller| by.tenant.covers(posted.event.org_id, posted.event.app_id);
        asked.request.caller.as_ref().is_none_or(covers) && self.is_kept(id, asked.now)
    }

    fn cancel_all(&mut self, id: EventId, now: Time) -> Check<u32> {
        let open: Vec<DeliveryId> =
            self.deliveries_of(id).filter(|made| !made.row.status.is_final()).map(|made| made.row.id).collect();
        for delivery in &open {
            self.cancel(*delivery, now)?;
        }
        Ok(open.len() as u32)
    }

    pub fn cancel_event(&mut self, id: EventId, asked: &Asked<'_>) -> Answered {
        if !self.visible_event(id, asked) {
            return Ok(Err("not_found event".into()));
        }
        let count = self.cancel_all(id, asked.now)?;
        self.audit_event_action(asked, id, "event.cancel");
        Ok(Ok(Receipt::Cancelled(count)))
    }

    fn audit_delivery_action(&mut self, asked: &Asked<'_>, row: &Delivery, action: &'static str) {
        self.audit_action(asked, row.org_id, action, row.id.to_string());
    }

    fn audit_event_action(&mut self, asked: &Asked<'_>, id: EventId, action: &'static str) {
        self.audit_action(asked, self.events[&id].event.org_id, action, id.to_string());
    }

    /// Actions of callers are audited. Actions of the daemon are not.
    fn audit_action(&mut self, asked: &Asked<'_>, org: OrganizationId, action: &'static str, target: String) {
        if let Some(by) = &asked.request.caller {
            self.pending_audit.push(AuditLine { org, action, target, request_id: Some(by.request_id.clone()) });
        }
    }

    pub fn erase(&mut self, id: EventId, asked: &Asked<'_>) -> Answered {
        if !self.visible_event(id, asked) {
            return Ok(Err("not_found event".into()));
        }
        self.cancel_all(id, asked.now)?;
        self.touched.insert(id);
        for attempt in self.attempts.values_mut().filter(|attempt| attempt.event_id == id) {
            if attempt.made.response_body.take().is_some() {
                attempt.response_erased_at.get_or_insert(asked.now);
            }
        }
        if let Some(posted) = self.events.get_mut(&id) {
            posted.data.clear();
            posted.event.data_bytes = 0;
            posted.event.erased_at = posted.event.erased_at.or(Some(asked.now));
        }
        self.audit_event_action(asked, id, "event.erase");
        Ok(Ok(Receipt::Done))
    }
}

fn expected_attempt(
    finished: &AttemptReport,
    was: &Delivery,
    id: AttemptId,
    next: Option<Time>,
    erased: bool,
) -> Attempt {
    let mut made = finished.made.clone();
    made.response_body = made.response_body.filter(|_| !erased);
    Attempt {
        id,
        delivery_id: was.id,
        event_id: was.event_id,
        webhook_id: was.webhook_id,
        org_id: was.org_id,
        app_id: was.app_id,
        event_type: was.event_type.clone(),
        retry_of: was.last_attempt_id,
        next_attempt_at: next,
        made,
        response_erased_at: None,
    }
}
