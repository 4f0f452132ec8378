//! Replay jobs: a job's row, and one slice of its events at a time.
//!
//! Invariant: the deliveries of a slice name their job and event, and a job makes at most one for each event and
//! webhook. So a slice that is applied twice after a crash makes nothing twice.

use std::sync::Arc;

use serde_json::json;

use crate::kv::scan::{Direction, ScanStep};
use crate::kv::tables::{self, Table};
use crate::model::attempt::Trigger;
use crate::model::id::EventId;
use crate::model::job::{Job, JobId, JobSpec, JobStatus};
use crate::model::{Delivery, Event};
use crate::store::apply::audit::AuditSubject;
use crate::store::apply::deliveries::conflict;
use crate::store::apply::publish::NewDelivery;
use crate::store::apply::state::StateBatch;
use crate::store::apply::{ApplyResult, PartitionBatch};
use crate::store::command::{Caller, Receipt, Rejection, StateCommand, WriteRequest};
use crate::store::read::replay_scope::{app_of, chosen, covers, job_within, targets};

impl StateBatch<'_> {
    pub(super) fn create_job(&mut self, by: Option<&Caller>, spec: &JobSpec) -> ApplyResult<Receipt> {
        let by = by.ok_or(Rejection::NotFound("organization"))?;
        if let Some(id) = spec.webhook {
            self.webhook_within(Some(by), id)?;
        }
        if let Some(id) = spec.app {
            self.app_within(Some(by), id)?;
        }
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
        };
        self.write_batch.put(Table::Jobs, tables::one(id), &job);
        self.effects.jobs = true;
        self.note(
            Some(by),
            about,
            "replay.create",
            &id.to_string(),
            json!({ "webhook_id": spec.webhook, "app_id": spec.app }),
        );
        Ok(Receipt::Job(Box::new(job)))
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
        let before = job.created;
        let mut last = job.position;
        let events = self.events_after(job.position, job.end, limit)?;
        let mut is_done_here = events.len() < limit as usize;
        for event in events {
            if job.created - before >= u64::from(make_max) {
                is_done_here = false;
                break;
            }
            last = event.id;
            self.replay_event(&mut job, Arc::new(event))?;
        }
        job.position = last;
        if is_done_here {
            // This partition is done, even if it has no event. The job continues in the next one or ends.
            let partitions = self.partition_set.partitions();
            let next = partitions.into_iter().find(|p| p.first > self.first && p.first <= job.end.as_u128());
            match next {
                Some(next) => job.position = EventId::from_u128(next.first.saturating_sub(1)),
                None => job.exhausted = true,
            }
        }
        self.follow.push(WriteRequest::internal(StateCommand::SaveJob(Box::new(job.clone()))));
        self.effects.jobs = !job.exhausted;
        Ok(Receipt::Job(Box::new(job)))
    }

    fn events_after(&self, position: EventId, end: EventId, limit: u32) -> ApplyResult<Vec<Event>> {
        let mut ids = Vec::new();
        let range = (
            std::ops::Bound::Excluded(position.as_bytes().as_slice()),
            std::ops::Bound::Included(end.as_bytes().as_slice()),
        );
        self.write_batch.base().scan(Table::Events, range, Direction::Up, |key, _| {
            ids.push(key.to_vec());
            Ok(if ids.len() < limit as usize { ScanStep::Go } else { ScanStep::Stop })
        })?;
        let mut events = Vec::with_capacity(ids.len());
        for key in ids {
            events.extend(self.write_batch.get::<Event>(Table::Events, &key)?);
        }
        Ok(events)
    }

    fn replay_event(&mut self, job: &mut Job, event: Arc<Event>) -> ApplyResult<()> {
        if !self.is_kept(event.id) || event.erased_at.is_some() || !covers(&job.spec, &event) {
            return Ok(());
        }
        let targets = targets(&self.registry, &job.spec, &event);
        if targets.is_empty() {
            return Ok(());
        }
        let before = self.deliveries_of(&event)?;
        let data = self.data_of(&event)?;
        for webhook in targets {
            let own: Vec<&Delivery> = before.iter().filter(|d| d.webhook_id == webhook.id).collect();
            let made = own.iter().any(|d| d.job_id == Some(job.id));
            if !made && !chosen(&job.spec, &webhook, &event, &data, &own) {
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
            self.make_delivery(&Arc::new(fresh), &data, &webhook, making)?;
        }
        Ok(())
    }
}
