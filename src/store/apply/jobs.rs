//! Replay jobs: a job's row, and one slice of its events at a time.
//!
//! Invariant: the deliveries of a slice name their job and event, and a job makes at most one for each event and
//! webhook. So a slice that is applied twice after a crash makes nothing twice. A job of one webhook that is disabled or removed
//! ends as cancelled, at the event that it has reached.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use crate::kv::tables::{self, Key, Table};
use crate::model::attempt::Trigger;
use crate::model::id::{DeliveryId, EventId, WebhookId};
use crate::model::job::{Job, JobId, JobSpec, JobStatus};
use crate::model::{Delivery, DeliveryStatus, Event};
use crate::store::apply::audit::AuditSubject;
use crate::store::apply::deliveries::{REPLAYS_MAX, conflict};
use crate::store::apply::publish::NewDelivery;
use crate::store::apply::state::StateBatch;
use crate::store::apply::{ApplyResult, PartitionBatch};
use crate::store::command::{Caller, Receipt, Rejection, StateCommand, WriteRequest};
use crate::store::read::replay_scope::{app_of, chosen, covers, has_target, job_within, replayed_webhook, targets};

/// The newest replays of an event that a resend, or a job over waiting deliveries, examines.
const REPLAYS_EXAMINED_MAX: usize = 1_000;

/// Maximum number of events that a job erases in one commit. Erasing an event also rewrites its open deliveries and its
/// attempts.
const ERASED_MAX: u64 = 100;

/// Events that a job examines in one commit.
struct JobSlice {
    /// Oldest first.
    events: Vec<Event>,
    /// Every matching event up to this id is in the slice or was in an earlier one.
    reached: EventId,
    /// Whether no later event of the partition can match.
    is_last: bool,
}

impl StateBatch<'_> {
    pub(super) fn create_job(&mut self, by: Option<&Caller>, spec: &JobSpec) -> ApplyResult<Receipt> {
        let by = self.check_job(by, spec)?;
        let id: JobId = self.inputs.id();
        let about = AuditSubject { org: by.tenant.org, app: app_of(&self.registry, spec) };
        let job = Job {
            id,
            org_id: by.tenant.org,
            spec: spec.clone(),
            status: JobStatus::Running,
            matched: 0,
            created: 0,
            delivered: 0,
            failed: 0,
            created_at: self.inputs.now,
            finished_at: None,
            position: spec
                .from
                .map_or(EventId::MIN, |from| EventId::from_u128(EventId::floor(from).as_u128().saturating_sub(1))),
            end: EventId::from_u128(id.as_u128()),
            exhausted: false,
            mark: None,
            cancelled: 0,
        };
        self.write_batch.put(Table::Jobs, tables::one(id), &job);
        self.effects.jobs = true;
        self.note(
            Some(by),
            about,
            if spec.erasing { "app.erase_events" } else { "replay.create" },
            &id.to_string(),
            json!({ "webhook_id": spec.webhook, "app_id": spec.app }),
        );
        Ok(Receipt::Job(Box::new(job)))
    }

    /// Creates all jobs or none: every job is checked before the first is written.
    pub(super) fn create_jobs(&mut self, by: Option<&Caller>, specs: &[JobSpec]) -> ApplyResult<Receipt> {
        for spec in specs {
            self.check_job(by, spec)?;
        }
        for spec in specs {
            self.create_job(by, spec)?;
        }
        Ok(Receipt::Done)
    }

    /// Returns the caller of a job. Refuses a job whose webhook or app is not within the caller's scope.
    fn check_job<'b>(&self, by: Option<&'b Caller>, spec: &JobSpec) -> ApplyResult<&'b Caller> {
        let by = by.ok_or(Rejection::NotFound("organization"))?;
        if let Some(id) = spec.webhook {
            self.webhook_within(Some(by), id)?;
        }
        if let Some(id) = spec.app {
            self.app_within(Some(by), id)?;
        }
        Ok(by)
    }

    pub(super) fn cancel_job(&mut self, by: Option<&Caller>, id: JobId) -> ApplyResult<Receipt> {
        let job = self.write_batch.get::<Job>(Table::Jobs, id.as_bytes())?;
        let visible = |job: &Job| by.is_none_or(|by| job_within(&self.registry, by.tenant, job));
        let mut job = job.filter(visible).ok_or(Rejection::NotFound("replay"))?;
        if job.status != JobStatus::Running {
            return Err(conflict("replay_final", "the replay has ended already"));
        }
        job.status = JobStatus::Cancelled;
        job.finished_at = Some(self.inputs.now);
        self.write_batch.put(Table::Jobs, tables::one(id), &job);
        let about = AuditSubject { org: job.org_id, app: app_of(&self.registry, &job.spec) };
        self.note(by, about, "replay.cancel", &id.to_string(), json!({}));
        Ok(Receipt::Job(Box::new(job)))
    }

    pub(super) fn save_job(&mut self, job: &Job) -> ApplyResult<Receipt> {
        let known = self.write_batch.get::<Job>(Table::Jobs, job.id.as_bytes())?;
        if known.is_some_and(|known| known.status == JobStatus::Running) {
            self.write_batch.put(Table::Jobs, tables::one(job.id), job);
        }
        Ok(Receipt::Done)
    }
}

impl PartitionBatch<'_> {
    pub(in crate::store) fn advance_job(&mut self, id: JobId, limit: u32, make_max: u32) -> ApplyResult<Receipt> {
        let job = crate::store::read::lookup::job_anywhere(self.partition_set, id)?;
        let Some(mut job) = job.filter(|job| job.status == JobStatus::Running && !job.exhausted) else {
            return Err(Rejection::NotFound("replay").into());
        };
        if !has_target(&self.registry, &job.spec) {
            job.status = JobStatus::Cancelled;
            job.finished_at = Some(self.inputs.now);
            return Ok(self.saved(job));
        }
        if job.spec.waiting {
            return self.advance_waiting(job, limit, make_max);
        }
        if job.spec.erasing {
            return self.advance_erasing(job, limit);
        }
        let before = job.created;
        let slice = match replayed_webhook(&job.spec) {
            Some(webhook) => self.events_delivered_to(webhook, &job, limit)?,
            None => self.events_after(&job, limit)?,
        };
        let mut is_done_here = slice.is_last;
        let mut reached = slice.reached;
        let mut last = job.position;
        for event in slice.events {
            if job.created - before >= u64::from(make_max) {
                is_done_here = false;
                reached = last;
                break;
            }
            last = event.id;
            self.replay_event(&mut job, Arc::new(event))?;
        }
        job.position = reached;
        if is_done_here {
            self.leave_partition(&mut job);
        }
        Ok(self.saved(job))
    }

    /// Erases the app's events of the next slice. The audit line of the job's begin covers all of them.
    fn advance_erasing(&mut self, mut job: Job, limit: u32) -> ApplyResult<Receipt> {
        let slice = self.events_after(&job, limit)?;
        let (before, mut is_done_here, mut reached) = (job.matched, slice.is_last, slice.reached);
        for event in slice.events {
            if job.matched - before >= ERASED_MAX {
                (is_done_here, reached) = (false, EventId::from_u128(event.id.as_u128() - 1));
                break;
            }
            let is_own = job.spec.app == Some(event.app_id) && covers(&job.spec, &event);
            if is_own && self.is_retained(event.id) && event.erased_at.is_none() {
                self.erase_event(None, event.id)?;
                job.matched += 1;
            }
        }
        job.position = reached;
        if is_done_here {
            self.leave_partition(&mut job);
        }
        Ok(self.saved(job))
    }

    /// Ends the job in this partition, even if it had no row. It continues in the next one or ends.
    pub(super) fn leave_partition(&self, job: &mut Job) {
        match self.partition_end().filter(|end| *end < job.end) {
            Some(end) => job.position = end,
            None => job.exhausted = true,
        }
    }

    /// Saves the job's progress after this batch.
    pub(super) fn saved(&mut self, job: Job) -> Receipt {
        self.follow.push(WriteRequest::internal(StateCommand::SaveJob(Box::new(job.clone()))));
        self.effects.jobs = job.status == JobStatus::Running && !job.exhausted;
        Receipt::Job(Box::new(job))
    }

    /// The last id that an event of this partition may have. `None` for the newest partition.
    fn partition_end(&self) -> Option<EventId> {
        let next = self.partition_set.partitions().into_iter().find(|partition| partition.first > self.first)?;
        Some(EventId::from_u128(next.first.saturating_sub(1)))
    }

    /// The next events of this partition.
    fn events_after(&self, job: &Job, limit: u32) -> ApplyResult<JobSlice> {
        let (after, end) = (tables::one(job.position), tables::one(job.end));
        let keys = self.keys_within(Table::Events, &after, &end, limit)?;
        let ids: BTreeSet<EventId> = keys.iter().filter_map(|key| tables::last_id(key)).collect();
        let is_last = keys.len() < limit as usize;
        let reached = ids.last().copied().filter(|_| !is_last).unwrap_or(job.end);
        self.slice_of(ids, reached, is_last)
    }

    /// The next events of this partition that have a delivery to `webhook`. It includes events with replays to other
    /// webhooks, because replays are listed by event.
    ///
    /// Published deliveries have the ids right after their event's, so the index of the webhook lists them in the order
    /// of events. The ids of replays may lie beyond the partition's last event.
    fn events_delivered_to(&self, webhook: WebhookId, job: &Job, limit: u32) -> ApplyResult<JobSlice> {
        let pair = |id: EventId| tables::pair(webhook, id);
        let end = self.partition_end().map_or(job.end, |end| end.min(job.end));
        let published = self.keys_within(Table::DeliveriesByWebhook, &pair(job.position), &pair(end), limit)?;
        let of_event = |id: EventId| tables::pair(id, DeliveryId::MAX);
        let replayed = self.keys_within(Table::ReplaysByEvent, &of_event(job.position), &of_event(job.end), limit)?;
        let is_cut = |keys: &[Key]| keys.len() == limit as usize;
        let mut reached = job.end;
        if let Some(last) = published.last().filter(|_| is_cut(&published)).and_then(|key| tables::last_id(key)) {
            reached = reached.min(last);
        }
        if let Some(last) = replayed.last().filter(|_| is_cut(&replayed)).and_then(|key| tables::first_id(key)) {
            reached = reached.min(last);
        }
        let mut ids: BTreeSet<EventId> = replayed.iter().filter_map(|key| tables::first_id(key)).collect();
        for key in &published {
            let Some(id) = tables::last_id::<Delivery>(key) else { continue };
            let delivery = self.write_batch.get::<Delivery>(Table::Deliveries, id.as_bytes())?;
            ids.extend(delivery.filter(|delivery| !delivery.is_replay()).map(|delivery| delivery.event_id));
        }
        ids.retain(|id| *id > job.position && *id <= reached);
        self.slice_of(ids, reached, !is_cut(&published) && !is_cut(&replayed))
    }

    fn slice_of(&self, ids: BTreeSet<EventId>, reached: EventId, is_last: bool) -> ApplyResult<JobSlice> {
        let mut events = Vec::with_capacity(ids.len());
        for id in ids {
            events.extend(self.write_batch.get::<Event>(Table::Events, id.as_bytes())?);
        }
        Ok(JobSlice { events, reached, is_last })
    }

    /// The first keys after `after` and up to `end`, of `limit` at most, with those of this batch.
    fn keys_within(&self, table: Table, after: &[u8], end: &[u8], limit: u32) -> ApplyResult<Vec<Key>> {
        Ok(self.write_batch.keys_between(table, after, end, limit as usize)?)
    }

    fn replay_event(&mut self, job: &mut Job, event: Arc<Event>) -> ApplyResult<()> {
        if !self.is_retained(event.id) || event.erased_at.is_some() || !covers(&job.spec, &event) {
            return Ok(());
        }
        let targets = targets(&self.registry, &job.spec, &event);
        if targets.is_empty() {
            return Ok(());
        }
        let before = match replayed_webhook(&job.spec) {
            Some(webhook) => self.deliveries_to(webhook, &event)?,
            None => self.deliveries_of(&event)?,
        };
        let mut data = None;
        for webhook in targets {
            let own: Vec<&Delivery> = before.iter().filter(|d| d.webhook_id == webhook.id).collect();
            let made = own.iter().any(|d| d.job_id == Some(job.id));
            if job.spec.retrying && !made {
                self.make_due(job, &own)?;
            }
            if !made && !chosen(&job.spec, &webhook, &event, &own, || self.data_once(&event, &mut data))? {
                continue;
            }
            job.matched += 1;
            job.created += 1;
            if made {
                continue;
            }
            let replay_of = own.last().map(|d| d.id);
            let making = NewDelivery { due: self.inputs.now, trigger: Trigger::Replay, replay_of, job: Some(job.id) };
            let mut fresh = Event::clone(&event);
            fresh.attributes.expires_at = fresh.attributes.expires_at.filter(|end| *end > self.inputs.now);
            let data = self.data_once(&event, &mut data)?;
            self.make_delivery(&Arc::new(fresh), &data, &webhook, making)?;
        }
        Ok(())
    }

    /// Makes due the open deliveries of an event that had a failed attempt before the job began.
    fn make_due(&mut self, job: &mut Job, own: &[&Delivery]) -> ApplyResult<()> {
        if own.iter().any(|one| one.status == DeliveryStatus::Delivered) {
            return Ok(());
        }
        let is_older = |one: &&&Delivery| one.last_attempt_id.is_some_and(|last| last.as_u128() < job.id.as_u128());
        let open: Vec<Delivery> =
            own.iter().filter(|one| !one.status.is_final()).filter(is_older).map(|one| (*one).clone()).collect();
        for delivery in open {
            job.matched += 1;
            self.effects.probe_now.push(delivery.webhook_id);
            if delivery.next_attempt_at.is_some_and(|at| at > self.inputs.now) {
                self.pull_forward(delivery)?;
            }
        }
        Ok(())
    }

    /// The payload of an event, which is read at the first call.
    fn data_once(&self, event: &Event, data: &mut Option<Bytes>) -> ApplyResult<Bytes> {
        match data {
            Some(data) => Ok(data.clone()),
            None => Ok(data.insert(self.data_of(event)?).clone()),
        }
    }

    /// The deliveries of an event to one webhook, oldest first: the published one, and replays.
    fn deliveries_to(&self, webhook: WebhookId, event: &Event) -> ApplyResult<Vec<Delivery>> {
        let mut deliveries: Vec<Delivery> = self.published_to(webhook, event)?.into_iter().collect();
        for key in self.write_batch.keys(Table::ReplaysByEvent, event.id.as_bytes(), REPLAYS_MAX)? {
            let Some(id) = tables::last_id::<Delivery>(&key) else { continue };
            if self.write_batch.has(Table::DeliveriesByWebhook, &tables::pair(webhook, id))? {
                deliveries.extend(self.write_batch.get::<Delivery>(Table::Deliveries, id.as_bytes())?);
            }
        }
        Ok(deliveries)
    }

    /// The delivery to a webhook that publishing made.
    fn published_to(&self, webhook: WebhookId, event: &Event) -> ApplyResult<Option<Delivery>> {
        let (from, to) = (tables::pair(webhook, event.id), tables::pair(webhook, DeliveryId::MAX));
        let keys = self.keys_within(Table::DeliveriesByWebhook, &from, &to, 1)?;
        let Some(id) = keys.first().and_then(|key| tables::last_id::<Delivery>(key)) else { return Ok(None) };
        let found = self.write_batch.get::<Delivery>(Table::Deliveries, id.as_bytes())?;
        Ok(found.filter(|delivery| delivery.event_id == event.id && !delivery.is_replay()))
    }

    /// The newest delivery of an event to a webhook that `wanted` accepts: one of the newest replays, or the published one.
    fn newest_to(
        &self,
        webhook: WebhookId,
        event: &Event,
        wanted: impl Fn(&Delivery) -> bool,
    ) -> ApplyResult<Option<DeliveryId>> {
        let replays = self.write_batch.keys(Table::ReplaysByEvent, event.id.as_bytes(), REPLAYS_MAX)?;
        for key in replays.iter().rev().take(REPLAYS_EXAMINED_MAX) {
            let Some(id) = tables::last_id::<Delivery>(key) else { continue };
            if !self.write_batch.has(Table::DeliveriesByWebhook, &tables::pair(webhook, id))? {
                continue;
            }
            if self.write_batch.get::<Delivery>(Table::Deliveries, id.as_bytes())?.is_some_and(|one| wanted(&one)) {
                return Ok(Some(id));
            }
        }
        Ok(self.published_to(webhook, event)?.filter(wanted).map(|delivery| delivery.id))
    }

    /// The newest final delivery of an event to a webhook.
    pub(super) fn newest_final_to(&self, webhook: WebhookId, event: &Event) -> ApplyResult<Option<DeliveryId>> {
        self.newest_to(webhook, event, |delivery| delivery.status.is_final())
    }

    /// Whether a delivery of an event to a webhook has succeeded.
    pub(super) fn is_delivered_to(&self, webhook: WebhookId, event: &Event) -> ApplyResult<bool> {
        let found = self.newest_to(webhook, event, |delivery| delivery.status == DeliveryStatus::Delivered)?;
        Ok(found.is_some())
    }
}
