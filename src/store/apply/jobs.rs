//! Replay jobs: one slice of a job's events at a time.
//!
//! Invariant: the deliveries of a slice name their job and event, and a job makes at most one for each event and
//! webhook. So a slice that is applied twice after a crash makes nothing twice.

use std::sync::Arc;

use crate::kv::scan::{Direction, ScanStep};
use crate::kv::tables::Table;
use crate::model::attempt::Trigger;
use crate::model::id::EventId;
use crate::model::job::{Job, JobId, JobStatus};
use crate::model::{Delivery, Event};
use crate::store::apply::publish::NewDelivery;
use crate::store::apply::{ApplyResult, PartitionBatch};
use crate::store::command::{Receipt, Rejection, StateCommand, WriteRequest};
use crate::store::read::replay_scope::{chosen, covers, targets};

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
