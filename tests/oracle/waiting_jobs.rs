//! Jobs over waiting deliveries in the oracle: the open deliveries that become due now.

use postrider::model::id::{DeliveryId, EventId, WebhookId};
use postrider::model::job::{Job, JobMark, JobSpec};
use postrider::model::webhook::WebhookStatus;
use postrider::model::{Delivery, DeliveryStatus, Time};
use postrider::store::Receipt;

use super::Check;
use super::jobs::{is_like, looks_at};
use super::oracle::{Made, Oracle};

impl Oracle {
    /// Examines up to `limit` index entries of one partition, and stops at `make_max` deliveries.
    pub fn advance_waiting(
        &mut self,
        first: u128,
        mut job: Job,
        (limit, make_max): (u32, u32),
        now: Time,
    ) -> Check<Result<Receipt, String>> {
        if job.position.next().as_u128() < first {
            (job.position, job.mark) = (EventId::from_u128(first - 1), None);
        }
        let (began_with, before, mut left) = (job.mark, job.matched, limit);
        let mut is_cut = false;
        for webhook in self.waiting_webhooks(&job.spec) {
            if began_with.is_some_and(|mark| mark.webhook() > webhook) {
                continue;
            }
            let mark = began_with.filter(|mark| mark.webhook() == webhook);
            let entries: Vec<_> = self.entries(first, webhook, mark).into_iter().take(left as usize).collect();
            left -= u32::from(entries.is_empty());
            for (mark, id) in entries {
                is_cut = left == 0 || job.matched - before >= u64::from(make_max);
                if is_cut {
                    break;
                }
                left -= 1;
                job.mark = Some(mark);
                job.matched += u64::from(self.make_due(&job, mark, id, now)?);
            }
            is_cut |= left == 0;
            if is_cut {
                break;
            }
            job.mark = Some(JobMark::Queued(webhook, u64::MAX, DeliveryId::MAX));
        }
        if !is_cut {
            job.mark = None;
            self.leave_partition(first, &mut job);
        }
        self.follow.push(format!("save_job {}", job.id));
        Ok(Ok(Receipt::Job(Box::new(job))))
    }

    fn waiting_webhooks(&self, spec: &JobSpec) -> Vec<WebhookId> {
        let asked = self.webhooks.values().filter(|hook| {
            hook.status != WebhookStatus::Disabled && (spec.webhook == Some(hook.id) || spec.app == Some(hook.app_id))
        });
        asked.map(|hook| hook.id).collect()
    }

    /// The index entries of a webhook in one partition that follow `mark`.
    fn entries(&self, first: u128, webhook: WebhookId, mark: Option<JobMark>) -> Vec<(JobMark, DeliveryId)> {
        let here = || {
            let own = self.deliveries.values().filter(move |made| made.row.webhook_id == webhook);
            own.filter(move |made| !made.row.status.is_final() && self.home_of(made.row.event_id) == first)
        };
        let time = |row: &Delivery| row.next_attempt_at.unwrap_or(Time::ZERO).max(Time::ZERO);
        let mut due: Vec<_> = here().filter(|made| made.due).map(|made| (time(&made.row), made.row.id)).collect();
        due.sort_unstable();
        let mut queued: Vec<_> = here().filter_map(|made| Some((hash_of(made)?, made.row.id))).collect();
        queued.sort_unstable();
        match mark {
            Some(JobMark::Due(_, at, id)) => due.retain(|entry| *entry > (at, id)),
            Some(JobMark::Queued(_, hash, id)) => {
                due.clear();
                queued.retain(|entry| *entry > (hash, id));
            }
            None => {}
        }
        let due = due.into_iter().map(|(at, id)| (JobMark::Due(webhook, at, id), id));
        due.chain(queued.into_iter().map(|(hash, id)| (JobMark::Queued(webhook, hash, id), id))).collect()
    }

    /// Makes a delivery due now if the job is for it. Returns whether it is.
    fn make_due(&mut self, job: &Job, mark: JobMark, id: DeliveryId, now: Time) -> Check<bool> {
        let Some(made) = self.deliveries.get(&id) else { return Ok(false) };
        let row = &made.row;
        let is_newer = row.last_attempt_id.is_some_and(|last| last.as_u128() > job.id.as_u128());
        if id.as_u128() > job.id.as_u128() || is_newer || !self.is_kept(row.event_id, now) {
            return Ok(false);
        }
        if matches!(mark, JobMark::Queued(..)) && made.due {
            return Ok(false);
        }
        if !looks_at(&job.spec, &self.events[&row.event_id].event) || !is_like(&job.spec, row) {
            return Ok(false);
        }
        if self.is_delivered(row) {
            return Ok(false);
        }
        let Some(planned) = row.next_attempt_at.filter(|at| *at > now) else { return Ok(true) };
        if let Some(made) = self.deliveries.get_mut(&id) {
            made.row.manual = true;
            made.row.planned_at.get_or_insert(planned);
        }
        self.reschedule(id, now)?;
        Ok(true)
    }

    /// Whether another delivery of the event to the webhook has succeeded.
    fn is_delivered(&self, row: &Delivery) -> bool {
        let mut own = self.deliveries_of(row.event_id).filter(|made| made.row.webhook_id == row.webhook_id);
        own.any(|made| made.row.status == DeliveryStatus::Delivered)
    }

    /// Number of open deliveries that a job would be for.
    pub fn matching_waiting(&self, spec: &JobSpec, now: Time) -> u64 {
        let webhooks = self.waiting_webhooks(spec);
        let open = self.deliveries.values().map(|made| &made.row).filter(|row| !row.status.is_final());
        let wanted = open.filter(|row| {
            webhooks.contains(&row.webhook_id)
                && self.is_kept(row.event_id, now)
                && looks_at(spec, &self.events[&row.event_id].event)
                && is_like(spec, row)
                && !self.is_delivered(row)
        });
        wanted.count() as u64
    }
}

/// The hash of the key of a delivery's queue. `None` if it stands in no queue.
fn hash_of(made: &Made) -> Option<u64> {
    let (_, key) = made.line.as_ref()?;
    let Some(key) = key else { return Some(0) };
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    let head = digest.as_ref().first_chunk::<8>().map_or(1, |head| u64::from_be_bytes(*head));
    Some(head.max(1))
}
