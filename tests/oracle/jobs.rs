//! Replay jobs in the oracle: the past events that are sent again, slice by slice.

use std::collections::BTreeSet;
use std::sync::Arc;

use postrider::model::attempt::Trigger;
use postrider::model::id::{EventId, WebhookId};
use postrider::model::job::{Job, JobId, JobSpec, JobStatus};
use postrider::model::webhook::WebhookStatus;
use postrider::model::{Delivery, DeliveryStatus, Event, Time};
use postrider::rules::fanout::{self, Decision};
use postrider::rules::patterns;
use postrider::store::{Receipt, TenantScope};

use super::Check;
use super::delivery_life::Cause;
use super::drawn_values::Found;
use super::oracle::{Asked, Oracle};

/// Events that a job examines at once, and the last id that is done then.
struct Slice {
    events: Vec<EventId>,
    reached: EventId,
    is_last: bool,
}

type Answered = Check<Result<Receipt, String>>;

impl Oracle {
    pub fn create_job(&mut self, spec: &JobSpec, asked: &Asked<'_>, found: &mut Found) -> Answered {
        let Some(by) = &asked.request.caller else { return Ok(Err("not_found organization".into())) };
        if spec.webhook.is_some_and(|id| self.webhook_within(Some(by.tenant), id).is_none()) {
            return Ok(Err("not_found webhook".into()));
        }
        if spec.app.is_some_and(|id| !self.covers(by.tenant, id)) {
            return Ok(Err("not_found app".into()));
        }
        let at = found
            .jobs
            .iter()
            .position(|job| job.spec == *spec)
            .ok_or_else(|| format!("no job of {spec:?} is there"))?;
        let id = found.jobs.remove(at).id;
        let before = |from: Time| EventId::from_u128(EventId::floor(from).as_u128().saturating_sub(1));
        let job = Job {
            id,
            org_id: by.tenant.org,
            spec: spec.clone(),
            status: JobStatus::Running,
            matched: 0,
            created: 0,
            delivered: 0,
            failed: 0,
            created_at: asked.now,
            finished_at: None,
            position: spec.from.map_or(EventId::MIN, before),
            end: EventId::from_u128(id.as_u128()),
            exhausted: false,
            mark: None,
            cancelled: 0,
        };
        self.jobs.insert(id, job.clone());
        self.note(asked, by.tenant.org, "replay.create", id.to_string());
        Ok(Ok(Receipt::Job(Box::new(job))))
    }

    pub fn cancel_job(&mut self, id: JobId, asked: &Asked<'_>) -> Answered {
        let tenant = asked.request.caller.as_ref().map(|by| by.tenant);
        let Some(job) =
            self.jobs.get(&id).filter(|job| tenant.is_none_or(|tenant| self.covers_job(tenant, job))).cloned()
        else {
            return Ok(Err("not_found replay".into()));
        };
        if job.status != JobStatus::Running {
            return Ok(Err("conflict replay_final".into()));
        }
        let job = Job { status: JobStatus::Cancelled, finished_at: Some(asked.now), ..job };
        self.jobs.insert(id, job.clone());
        self.note(asked, job.org_id, "replay.cancel", id.to_string());
        Ok(Ok(Receipt::Job(Box::new(job))))
    }

    pub fn save_job(&mut self, job: &Job) -> Answered {
        if self.jobs.get(&job.id).is_some_and(|known| known.status == JobStatus::Running) {
            self.jobs.insert(job.id, job.clone());
        }
        Ok(Ok(Receipt::Done))
    }

    pub fn covers_job(&self, tenant: TenantScope, job: &Job) -> bool {
        let app = job.spec.app.or_else(|| job.spec.webhook.and_then(|id| self.webhooks.get(&id)).map(|w| w.app_id));
        job.org_id == tenant.org && tenant.app.is_none_or(|own| app == Some(own))
    }

    /// Examines up to `limit` events of one partition, and stops at `make_max` deliveries.
    pub fn advance_job(
        &mut self,
        first: u128,
        id: JobId,
        (limit, make_max): (u32, u32),
        now: Time,
        found: &mut Found,
    ) -> Answered {
        let running = self.jobs.get(&id).filter(|job| job.status == JobStatus::Running && !job.exhausted);
        let Some(mut job) = running.cloned() else { return Ok(Err("not_found replay".into())) };
        let can_send = |id: WebhookId| self.webhooks.get(&id).is_some_and(|w| w.status != WebhookStatus::Disabled);
        if !job.spec.webhook.is_none_or(can_send) {
            job.status = JobStatus::Cancelled;
            job.finished_at = Some(now);
            self.follow.push(format!("save_job {id}"));
            return Ok(Ok(Receipt::Job(Box::new(job))));
        }
        if job.spec.waiting {
            return self.advance_waiting(first, job, (limit, make_max), now);
        }
        let slice = match job.spec.webhook.filter(|_| !job.spec.missing) {
            Some(webhook) => self.slice_of_webhook(first, &job, webhook, limit as usize),
            None => self.slice_of_all(first, &job, limit as usize),
        };
        let before = job.created;
        let mut is_done_here = slice.is_last;
        let mut is_cut = false;
        for event in &slice.events {
            is_cut = job.created - before >= u64::from(make_max);
            if is_cut {
                is_done_here = false;
                break;
            }
            job.position = *event;
            self.again(&mut job, *event, now, found)?;
        }
        if !is_cut {
            job.position = slice.reached;
        }
        if is_done_here {
            self.leave_partition(first, &mut job);
        }
        self.follow.push(format!("save_job {id}"));
        Ok(Ok(Receipt::Job(Box::new(job))))
    }

    pub fn leave_partition(&self, first: u128, job: &mut Job) {
        let later = self.partitions.iter().find(|p| **p > first && **p <= job.end.as_u128());
        match later {
            Some(next) => job.position = EventId::from_u128(next - 1),
            None => job.exhausted = true,
        }
    }

    /// The next events of a partition.
    fn slice_of_all(&self, first: u128, job: &Job, limit: usize) -> Slice {
        let after = |id: &EventId| *id > job.position && *id <= job.end;
        let here = self.events.keys().filter(|id| after(id) && self.home_of(**id) == first);
        let events: Vec<EventId> = here.take(limit).copied().collect();
        let is_last = events.len() < limit;
        let reached = if is_last { job.end } else { events[events.len() - 1] };
        Slice { events, reached, is_last }
    }

    /// The same among the deliveries to one webhook, and among the replays of any webhook by event.
    fn slice_of_webhook(&self, first: u128, job: &Job, webhook: WebhookId, limit: usize) -> Slice {
        let within = |id: u128| id > job.position.as_u128() && id <= job.end.as_u128();
        let here = || self.deliveries.values().map(|made| &made.row).filter(|row| self.home_of(row.event_id) == first);
        let is_replay = |row: &Delivery| row.replay_of.is_some() || row.job_id.is_some() || row.resend;
        let is_here = |id: u128| self.home(id) == Some(first);
        let own =
            here().filter(|row| row.webhook_id == webhook && within(row.id.as_u128()) && is_here(row.id.as_u128()));
        let own: Vec<&Delivery> = own.take(limit).collect();
        let mut replays: Vec<_> = here()
            .filter(|row| is_replay(row) && within(row.event_id.as_u128()))
            .map(|row| (row.event_id, row.id))
            .collect();
        replays.sort_unstable();
        replays.truncate(limit);
        let last_own = own.last().filter(|_| own.len() == limit).map(|row| EventId::from_u128(row.id.as_u128()));
        let last_replay = replays.last().filter(|_| replays.len() == limit).map(|(event, _)| *event);
        let reached = [Some(job.end), last_own, last_replay].into_iter().flatten().min().unwrap_or(job.end);
        let published = own.iter().filter(|row| !is_replay(row)).map(|row| row.event_id);
        let events: BTreeSet<EventId> = published.chain(replays.iter().map(|(event, _)| *event)).collect();
        let events = events.into_iter().filter(|id| *id > job.position && *id <= reached).collect();
        Slice { events, reached, is_last: last_own.is_none() && last_replay.is_none() }
    }

    fn again(&mut self, job: &mut Job, id: EventId, now: Time, found: &mut Found) -> Check {
        let posted = self.events[&id].clone();
        if !self.is_kept(id, now) || posted.event.erased_at.is_some() || !looks_at(&job.spec, &posted.event) {
            return Ok(());
        }
        for webhook in self.targets(&job.spec, &posted.event) {
            let own: Vec<Delivery> = self
                .deliveries_of(id)
                .filter(|made| made.row.webhook_id == webhook)
                .map(|made| made.row.clone())
                .collect();
            let done = own.iter().any(|row| row.job_id == Some(job.id));
            if !done && !self.chooses(&job.spec, webhook, &posted.event, &posted.data, &own) {
                continue;
            }
            job.matched += 1;
            job.created += 1;
            if !done {
                let mut event = posted.event.clone();
                event.attributes.expires_at = event.attributes.expires_at.filter(|end| *end > now);
                let replay_of = own.last().map(|row| row.id);
                let cause = Cause { now, due: now, trigger: Trigger::Replay, replay_of, job: Some(job.id) };
                self.make(&event, webhook, &cause, found)?;
            }
        }
        Ok(())
    }

    fn targets(&self, spec: &JobSpec, event: &Event) -> Vec<WebhookId> {
        let aimed = self.webhooks.values().filter(|webhook| {
            webhook.app_id == event.app_id
                && webhook.status != WebhookStatus::Disabled
                && spec.webhook.is_none_or(|id| id == webhook.id)
                && spec.app.is_none_or(|app| app == event.app_id)
        });
        aimed.map(|webhook| webhook.id).collect()
    }

    fn chooses(&self, spec: &JobSpec, webhook: WebhookId, event: &Event, data: &[u8], own: &[Delivery]) -> bool {
        if spec.missing {
            let reached = own.iter().any(|row| row.status == DeliveryStatus::Delivered || !row.status.is_final());
            let decision = fanout::decide(
                &Arc::new(self.webhooks[&webhook].clone()),
                &event.attributes.event_type,
                &event.attributes.channels,
                data,
            );
            return !reached && decision == Decision::Wanted;
        }
        let delivered = own.iter().rev().find(|row| row.status == DeliveryStatus::Delivered);
        let Some(says) = delivered.or(own.last()) else { return false };
        let is_over = own.iter().all(|row| row.status.is_final());
        is_over && spec.status.is_none_or(|status| says.status == status) && is_like(spec, says)
    }

    /// Number of deliveries that a job with `spec` would make.
    pub fn matching(&self, tenant: TenantScope, spec: &JobSpec, now: Time) -> u64 {
        if spec.waiting {
            return self.matching_waiting(spec, now);
        }
        let mut count = 0;
        for posted in self.events.values() {
            let event = &posted.event;
            let looked_at = self.is_kept(event.id, now)
                && event.erased_at.is_none()
                && tenant.covers(event.org_id, event.app_id)
                && looks_at(spec, event);
            if !looked_at {
                continue;
            }
            for webhook in self.targets(spec, event) {
                let own: Vec<Delivery> = self
                    .deliveries_of(event.id)
                    .filter(|made| made.row.webhook_id == webhook)
                    .map(|made| made.row.clone())
                    .collect();
                count += u64::from(self.chooses(spec, webhook, event, &posted.data, &own));
            }
        }
        count
    }

    /// A job as shown, with the counts of its deliveries.
    pub fn job_shown(&self, id: JobId) -> Option<Job> {
        let mut job = self.jobs.get(&id)?.clone();
        let sums = self.lifetime(WebhookId::from_u128(id.as_u128()));
        job.created = job.created.max(sums.deliveries);
        job.delivered = sums.delivered;
        job.failed = sums.failed;
        job.cancelled = sums.cancelled;
        Some(job)
    }
}

/// Whether the last delivery ended as the job asks for.
pub fn is_like(spec: &JobSpec, last: &Delivery) -> bool {
    let filter = &spec.last;
    let code = last.last_status_code.map(|code| code.to_string()).unwrap_or_default();
    let is_code = |codes: &str| code == codes || codes.ends_with("xx") && code.get(..1) == codes.get(..1);
    let within = last
        .completed_at
        .is_some_and(|at| filter.ended_from.is_none_or(|from| from <= at) && filter.ended_to.is_none_or(|to| at < to));
    let is_outcome = last.last_outcome.is_some_and(|outcome| filter.outcomes.contains(&outcome));
    (filter.outcomes.is_empty() || is_outcome)
        && (filter.status_codes.is_empty() || filter.status_codes.iter().any(|codes| is_code(&codes.text())))
        && (within || filter.ended_from.is_none() && filter.ended_to.is_none())
}

pub fn looks_at(spec: &JobSpec, event: &Event) -> bool {
    spec.from.is_none_or(|from| event.received_at >= from)
        && spec.to.is_none_or(|to| event.received_at < to)
        && (spec.types.is_empty()
            || spec.types.iter().any(|pattern| patterns::matches(pattern, &event.attributes.event_type)))
}
