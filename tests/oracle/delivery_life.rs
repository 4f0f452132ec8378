//! The life of a delivery in the oracle: it is made, waits in its queue, becomes due and ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use postrider::model::attempt::Trigger;
use postrider::model::id::{DeliveryId, Id, WebhookId};
use postrider::model::job::JobId;
use postrider::model::webhook::{DeliveryOrder, Webhook};
use postrider::model::{Delivery, DeliveryStatus, Event, Time};
use postrider::store::{Command, PartitionCommand, WriteRequest};

use super::drawn_values::Found;
use super::oracle::{Line, Made, Oracle, label};
use super::{Check, ensure};

/// Why a delivery is made.
pub struct Cause {
    pub now: Time,
    pub due: Time,
    pub trigger: Trigger,
    pub replay_of: Option<DeliveryId>,
    pub job: Option<JobId>,
}

impl Oracle {
    /// Makes a delivery at the end of its queue.
    pub fn make(&mut self, event: &Event, webhook: WebhookId, cause: &Cause, found: &mut Found) -> Check<Delivery> {
        let home = self.home_of(event.id);
        let id = found.delivery(event.id, webhook, cause.replay_of, cause.job)?;
        ensure!(id.as_u128() > self.last, "delivery {id} is not after all ids before it");
        self.last = id.as_u128();
        let due = cause.due.min(event.attributes.expires_at.unwrap_or(Time::MAX));
        let row = Delivery {
            id,
            event_id: event.id,
            webhook_id: webhook,
            org_id: event.org_id,
            app_id: event.app_id,
            event_type: event.attributes.event_type.clone(),
            status: DeliveryStatus::Pending,
            attempts: 0,
            next_attempt_at: Some(due),
            created_at: cause.now.max(event.received_at),
            first_attempt_at: None,
            completed_at: None,
            replay_of: cause.replay_of,
            job_id: cause.job,
            expires_at: event.attributes.expires_at,
            ordering_key: event.attributes.ordering_key.clone(),
            last_attempt_id: None,
            last_status_code: None,
            last_outcome: None,
            last_error: None,
            last_response_time_ms: None,
            manual: cause.trigger == Trigger::Manual,
            unscheduled: 0,
            planned_at: None,
            resend: cause.trigger == Trigger::Manual,
        };
        let line = line_of(&self.webhooks[&webhook], event.attributes.ordering_key.as_deref());
        let waits = line.as_ref().is_some_and(|line| self.lines.contains_key(line));
        if let Some(line) = &line {
            self.lines.entry(line.clone()).or_default().insert(id);
        }
        self.by_event.entry(event.id).or_default().push(id);
        self.touched.insert(event.id);
        if !waits {
            self.newly_due.push((webhook, due, id));
        }
        self.deliveries.insert(id, Made { row: row.clone(), line, due: !waits });
        for owner in owners_of(&row).into_iter().chain(cause.job.map(owner)) {
            self.sums_of(home, owner).deliveries += 1;
        }
        for owner in owners_of(&row) {
            self.minute_of(home, owner, row.created_at).made += 1;
        }
        Ok(row)
    }

    /// Makes an open delivery final and promotes the next one of its queue.
    pub fn finish(&mut self, id: DeliveryId, status: DeliveryStatus, at: Time) -> Check {
        let made = self.deliveries.get_mut(&id).ok_or_else(|| format!("{id} is not known"))?;
        ensure!(!made.row.status.is_final(), "{id} has ended already");
        made.row.status = status;
        made.row.next_attempt_at = None;
        made.row.completed_at = Some(at);
        made.due = false;
        let line = made.line.take();
        let row = made.row.clone();
        let home = self.home_of(row.event_id);
        self.touched.insert(row.event_id);
        for owner in owners_of(&row) {
            let minute = self.minute_of(home, owner, at);
            match status {
                DeliveryStatus::Delivered => minute.delivered += 1,
                DeliveryStatus::Failed => minute.failed += 1,
                _ => minute.cancelled += 1,
            }
        }
        for owner in owners_of(&row).into_iter().chain(row.job_id.map(owner)) {
            let sums = self.sums_of(home, owner);
            match status {
                DeliveryStatus::Delivered => sums.delivered += 1,
                DeliveryStatus::Failed => sums.failed += 1,
                _ => sums.cancelled += 1,
            }
        }
        if let Some(line) = line {
            self.leave(&line, id);
            self.next_of(&line, home);
        }
        Ok(())
    }

    /// Promotes the head of a queue: at once if it is in the same partition, by a request if not.
    fn next_of(&mut self, line: &Line, home: u128) {
        let next = self.lines.get(line).and_then(|waiting| waiting.first()).map(|id| self.deliveries[id].row.clone());
        let Some(next) = next else { return };
        if self.home_of(next.event_id) == home {
            self.let_go(next.id);
        } else {
            self.follow.push(format!("release {}", next.id));
        }
    }

    /// Makes the head of a queue due.
    pub fn let_go(&mut self, id: DeliveryId) {
        if let Some(made) = self.deliveries.get_mut(&id)
            && let (Some(due), true) = (made.row.next_attempt_at, made.line.is_some())
        {
            made.due = true;
            self.newly_due.push((made.row.webhook_id, due, id));
        }
    }

    pub fn release(&mut self, id: DeliveryId) -> Check<Result<postrider::store::Receipt, String>> {
        self.let_go(id);
        Ok(Ok(postrider::store::Receipt::Done))
    }

    /// The labels of the requests that empty the queues of a webhook: one for each partition that has a part of them.
    pub fn dissolutions(&self, webhook: WebhookId) -> BTreeSet<String> {
        let lines = self.lines.iter().filter(|((of, _), _)| *of == webhook);
        let queued = lines.flat_map(|(_, waiting)| waiting).map(|id| self.home_of(self.deliveries[id].row.event_id));
        queued.map(|home| format!("dissolve {webhook} {home:x}")).collect()
    }

    /// Takes the deliveries of a partition out of the queues of a webhook that is not ordered. If it is ordered again, only the
    /// heads become due.
    pub fn dissolve(&mut self, first: u128, webhook: WebhookId) {
        let Some(order) = self.webhooks.get(&webhook).map(|webhook| webhook.ordered) else { return };
        let lines: Vec<Line> = self.lines.keys().filter(|(of, _)| *of == webhook).cloned().collect();
        for line in lines {
            let waiting = self.lines[&line].clone();
            let heads_only = if order == DeliveryOrder::No { waiting.len() } else { 1 };
            let here = |id: &&DeliveryId| self.home_of(self.deliveries[id].row.event_id) == first;
            for id in waiting.iter().take(heads_only).filter(here).copied().collect::<Vec<_>>() {
                self.let_go(id);
                if order == DeliveryOrder::No {
                    self.leave(&line, id);
                    self.deliveries.entry(id).and_modify(|made| made.line = None);
                }
            }
        }
    }

    /// Applies a request that was not answered before a cut, if the start did not repeat it: no row shows whether it is there.
    pub fn settle_release(&mut self, request: &WriteRequest, repeated: &BTreeSet<String>) {
        match &request.command {
            Command::Partition(PartitionCommand::PromoteQueueHead { delivery, .. })
                if self.held_heads().contains(delivery) && !repeated.contains(&label(request)) =>
            {
                self.let_go(*delivery);
            }
            Command::Partition(PartitionCommand::DissolveQueues { webhook, partition, .. }) => {
                if self.held_releases().contains(&label(request)) && !repeated.contains(&label(request)) {
                    self.dissolve(*partition, *webhook);
                }
                // The webhook may be ordered again.
                for id in self.held_heads() {
                    let row = &self.deliveries[&id].row;
                    let is_own = row.webhook_id == *webhook && self.home_of(row.event_id) == *partition;
                    if is_own && !repeated.contains(&format!("release {id}")) {
                        self.let_go(id);
                    }
                }
            }
            _ => {}
        }
    }

    /// Moves the next attempt of an open delivery.
    pub fn reschedule(&mut self, id: DeliveryId, at: Time) -> Check {
        let made = self.deliveries.get_mut(&id).ok_or_else(|| format!("{id} is not known"))?;
        made.row.next_attempt_at = Some(at);
        self.touched.insert(made.row.event_id);
        if made.due {
            self.newly_due.push((made.row.webhook_id, at, id));
        }
        Ok(())
    }

    /// A webhook in the form for the rules.
    pub fn shared(&self, id: WebhookId) -> Arc<Webhook> {
        Arc::new(self.webhooks[&id].clone())
    }
}

/// The id of an app, an organization or a job as an owner of figures.
pub fn owner<K>(id: Id<K>) -> WebhookId {
    WebhookId::from_u128(id.as_u128())
}

/// The owners of a delivery's figures: its webhook, its app and its organization.
pub fn owners_of(row: &Delivery) -> [WebhookId; 3] {
    [row.webhook_id, owner(row.app_id), owner(row.org_id)]
}

fn line_of(webhook: &Webhook, ordering_key: Option<&str>) -> Option<Line> {
    match (webhook.ordered, ordering_key) {
        (DeliveryOrder::No, _) | (DeliveryOrder::Key, None) => None,
        (DeliveryOrder::Webhook, _) => Some((webhook.id, None)),
        (DeliveryOrder::Key, Some(key)) => Some((webhook.id, Some(key.to_owned()))),
    }
}
