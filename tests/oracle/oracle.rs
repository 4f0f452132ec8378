//! The oracle: the store's expected content as plain maps, changed request by request as the contract says.
//!
//! Invariant: a rejected request changes nothing here, and an accepted one changes everything it should at once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use postrider::model::figures::{HourFigures, Minute, Sums};
use postrider::model::id::{AppId, AttemptId, DeliveryId, EventId, Id, KeyId, OrganizationId, WebhookId};
use postrider::model::job::{Job, JobId};
use postrider::model::webhook::{DeliveryOrder, Webhook, WebhookState};
use postrider::model::{ApiKey, App, Attempt, Delivery, DeliveryStatus, Event, Organization, Time};
use postrider::store::{
    Applied, Command, IdempotencyKey, PartitionCommand, Receipt, Rejection, StateCommand, TenantScope, WriteRequest,
};

use super::drawn_values::Found;
use super::{Check, ensure};

/// A file that the store commits at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    State,
    Partition(u128),
    Nowhere(&'static str),
}

/// The expected result of a request: the receipt, or a word for the rejection.
pub type Verdict = Result<Applied, String>;

/// An ordered queue: a webhook's deliveries, or those of one ordering key.
pub type Line = (WebhookId, Option<String>);

#[derive(Debug, Clone, PartialEq)]
pub struct Posted {
    pub event: Event,
    pub data: Bytes,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    pub row: Delivery,
    pub line: Option<Line>,
    /// Whether it may be sent at `row.next_attempt_at`: it is open and the head of its queue.
    pub due: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub request: [u8; 32],
    pub at: Time,
    pub receipt: Receipt,
    pub extra: Option<Bytes>,
    pub is_secret: bool,
    /// The partition that stores it. `None` for the state file.
    pub home: Option<u128>,
    /// Whether it is unknown if it was stored, because its caller got no answer and no read shows it.
    pub is_doubtful: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    pub org: OrganizationId,
    pub action: &'static str,
    pub target: String,
    pub request_id: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Oracle {
    pub retention_ms: i64,
    pub window_ms: i64,
    /// First ids, oldest first. The last partition receives new events.
    pub partitions: Vec<u128>,
    pub organizations: BTreeMap<OrganizationId, Organization>,
    pub apps: BTreeMap<AppId, App>,
    pub keys: BTreeMap<KeyId, ApiKey>,
    pub webhooks: BTreeMap<WebhookId, Webhook>,
    pub removed: BTreeMap<WebhookId, Time>,
    pub states: BTreeMap<WebhookId, WebhookState>,
    pub events: BTreeMap<EventId, Posted>,
    pub deliveries: BTreeMap<DeliveryId, Made>,
    pub by_event: BTreeMap<EventId, Vec<DeliveryId>>,
    pub lines: BTreeMap<Line, BTreeSet<DeliveryId>>,
    pub attempts: BTreeMap<AttemptId, Attempt>,
    /// Sums by partition and owner.
    pub sums: BTreeMap<(u128, WebhookId), Sums>,
    /// Sums of dropped partitions.
    pub past: BTreeMap<WebhookId, Sums>,
    /// Figures by owner, hour and partition.
    pub hours: BTreeMap<(WebhookId, u32, u128), HourFigures>,
    /// The newest event of a caller's own id.
    pub named: BTreeMap<(AppId, String), EventId>,
    pub answers: BTreeMap<[u8; 32], Answer>,
    pub jobs: BTreeMap<JobId, Job>,
    pub audit: Vec<AuditLine>,
    /// Audit lines of changes in partitions, which are written after the partitions.
    pub pending_audit: Vec<AuditLine>,
    /// The greatest id that the store has drawn, as far as the oracle knows.
    pub last: u128,
    /// Names of events received before this may be forgotten, although the clock has stepped back since.
    pub forgotten_before: Time,

    // The expected effects of one batch. The comparison empties them.
    pub follow: Vec<String>,
    pub newly_due: Vec<(WebhookId, Time, DeliveryId)>,
    pub withdrawn: Vec<DeliveryId>,
    /// Events that changed since the last comparison.
    pub touched: BTreeSet<EventId>,
}

/// The write request that is being applied.
pub struct Asked<'a> {
    pub request: &'a WriteRequest,
    pub now: Time,
}

impl Oracle {
    /// The partition that an id belongs to.
    pub fn home(&self, id: u128) -> Option<u128> {
        self.partitions.iter().rev().find(|first| **first <= id).copied()
    }

    pub fn active(&self) -> u128 {
        self.partitions.last().copied().unwrap_or(0)
    }

    pub fn home_of(&self, event: EventId) -> u128 {
        self.home(event.as_u128()).unwrap_or(0)
    }

    pub fn is_kept(&self, event: EventId, now: Time) -> bool {
        now < event.time().plus_ms(self.retention_ms)
    }

    /// The file that a write request is for.
    pub fn place_of(&self, request: &WriteRequest) -> Place {
        let home = |id: EventId, what| self.home(id.as_u128()).map_or(Place::Nowhere(what), Place::Partition);
        match &request.command {
            Command::Partition(PartitionCommand::Publish(_)) => Place::Partition(self.active()),
            Command::Partition(PartitionCommand::Record(finished)) => home(finished.event_id, "delivery"),
            Command::Partition(PartitionCommand::Expire { event, .. })
            | Command::Partition(PartitionCommand::PromoteQueueHead { event, .. }) => home(*event, "delivery"),
            Command::Partition(PartitionCommand::CancelEvent { id })
            | Command::Partition(PartitionCommand::EraseEvent { id })
            | Command::Partition(PartitionCommand::Resend { event: id, .. }) => home(*id, "event"),
            Command::Partition(
                PartitionCommand::CancelRemoved { partition, .. } | PartitionCommand::DissolveQueues { partition, .. },
            ) => match self.partitions.contains(partition) {
                true => Place::Partition(*partition),
                false => Place::Nowhere("event"),
            },
            Command::Partition(PartitionCommand::ShortenWaits { partition, .. }) => Place::Partition(*partition),
            Command::Partition(PartitionCommand::Retry { id })
            | Command::Partition(PartitionCommand::CancelDelivery { id }) => match self.deliveries.get(id) {
                Some(made) => home(made.row.event_id, "delivery"),
                None => Place::Nowhere("delivery"),
            },
            Command::Partition(PartitionCommand::AdvanceJob { id, .. }) => match self.jobs.get(id) {
                Some(job) => self.place_from(job.position.next()),
                None => Place::Nowhere("replay"),
            },
            _ => Place::State,
        }
    }

    fn place_from(&self, id: EventId) -> Place {
        let first = self.home(id.as_u128()).or(self.partitions.first().copied());
        first.map_or(Place::Nowhere("event"), Place::Partition)
    }

    /// Applies a write request with ids from `found`, and returns the expected result.
    pub fn apply(&mut self, place: Place, asked: &Asked<'_>, found: &mut Found) -> Check<Verdict> {
        let home = match place {
            Place::Nowhere(what) => return Ok(Err(format!("not_found {what}"))),
            Place::Partition(first) => Some(first),
            Place::State => None,
        };
        if let Some(keep) = &asked.request.idempotency
            && let Some(verdict) = self.answered(keep, asked, home)
        {
            if let (Ok(applied), true, None) = (&verdict, keep.secret, home) {
                self.note_shown_again(asked, &applied.receipt);
            }
            return Ok(verdict);
        }
        let verdict = match home {
            Some(first) => self.on_partition(first, asked, found)?,
            None => self.on_state(asked, found)?,
        };
        if let (Some(keep), Ok(receipt)) = (&asked.request.idempotency, &verdict) {
            let receipt = receipt.clone();
            let (extra, is_secret) = (keep.extra.clone(), keep.secret);
            let answer =
                Answer { request: keep.request, at: asked.now, receipt, extra, is_secret, home, is_doubtful: false };
            self.answers.insert(keep.key, answer);
        }
        Ok(verdict.map(|receipt| Applied { receipt, replayed: false, extra: None }))
    }

    fn on_partition(&mut self, first: u128, asked: &Asked<'_>, found: &mut Found) -> Check<Result<Receipt, String>> {
        match &asked.request.command {
            Command::Partition(PartitionCommand::Publish(events)) => self.publish(asked, events, found),
            Command::Partition(PartitionCommand::Record(finished)) => self.record(first, finished, found),
            Command::Partition(PartitionCommand::Expire { delivery, .. }) => self.expire(first, *delivery, asked.now),
            Command::Partition(PartitionCommand::PromoteQueueHead { delivery, .. }) => self.release(*delivery),
            Command::Partition(PartitionCommand::CancelRemoved { webhook, .. }) => {
                self.sweep(first, *webhook, asked.now)
            }
            Command::Partition(PartitionCommand::DissolveQueues { webhook, .. }) => {
                self.dissolve(first, *webhook);
                Ok(Ok(Receipt::Done))
            }
            Command::Partition(PartitionCommand::Retry { id }) => self.retry(*id, asked, found),
            Command::Partition(PartitionCommand::Resend { event, webhook }) => {
                self.resend(*event, *webhook, asked, found)
            }
            Command::Partition(PartitionCommand::CancelDelivery { id }) => self.cancel_delivery(*id, asked),
            Command::Partition(PartitionCommand::CancelEvent { id }) => self.cancel_event(*id, asked),
            Command::Partition(PartitionCommand::EraseEvent { id }) => self.erase(*id, asked),
            Command::Partition(PartitionCommand::AdvanceJob { id, limit, make_max }) => {
                self.advance_job(first, *id, (*limit, *make_max), asked.now, found)
            }
            other => Err(format!("{other:?} does not belong to a partition")),
        }
    }

    /// The first answer to the same key, or the reason why there is none.
    fn answered(&self, keep: &IdempotencyKey, asked: &Asked<'_>, home: Option<u128>) -> Option<Verdict> {
        const PRIVATE_MS: i64 = 600_000;
        let answer = self.answers.get(&keep.key)?;
        let is_published = matches!(asked.request.command, Command::Partition(PartitionCommand::Publish(_)));
        let reached =
            if is_published { answer.home.is_some_and(|h| self.partitions.contains(&h)) } else { answer.home == home };
        let age_ms = asked.now.since(answer.at);
        if !reached || age_ms >= self.window_ms {
            return None;
        }
        if answer.request != keep.request {
            return Some(Err("conflict idempotency_key_reused".into()));
        }
        if answer.is_secret && age_ms >= PRIVATE_MS {
            return Some(Err("conflict answer_expired".into()));
        }
        Some(Ok(Applied { receipt: answer.receipt.clone(), replayed: true, extra: answer.extra.clone() }))
    }

    /// Whether the result of a request depends on invisible state.
    pub fn is_doubtful(&self, request: &WriteRequest, now: Time) -> bool {
        let doubtful_key = request.idempotency.as_ref().is_some_and(|keep| {
            self.answers
                .get(&keep.key)
                .is_some_and(|a| a.is_doubtful || (a.at <= self.forgotten_before && now.since(a.at) < self.window_ms))
        });
        let doubtful_name = |app: AppId, name: &String| {
            self.named
                .get(&(app, name.clone()))
                .is_some_and(|id| id.time() < self.forgotten_before.plus_ms(1) && now.since(id.time()) < self.window_ms)
        };
        let Command::Partition(PartitionCommand::Publish(events)) = &request.command else { return doubtful_key };
        doubtful_key
            || events.iter().any(|e| {
                let app = e.app.or_else(|| self.app_of(request.caller.as_ref().map(|by| by.tenant)?));
                e.attributes.event_id.as_ref().zip(app).is_some_and(|(name, app)| doubtful_name(app, name))
            })
    }

    /// The app of an object that names none.
    pub fn app_of(&self, tenant: TenantScope) -> Option<AppId> {
        tenant.app.or_else(|| self.organizations.get(&tenant.org).map(|o| o.default_app_id))
    }

    /// Whether an app is within a tenant scope.
    pub fn covers(&self, tenant: TenantScope, app: AppId) -> bool {
        self.apps.get(&app).is_some_and(|a| tenant.covers(a.org_id, app))
    }

    pub fn sums_of(&mut self, home: u128, owner: WebhookId) -> &mut Sums {
        self.sums.entry((home, owner)).or_default()
    }

    /// The counts of an owner in the minute of a time.
    pub fn minute_of(&mut self, home: u128, owner: WebhookId, at: Time) -> &mut Minute {
        self.hours.entry((owner, at.hour(), home)).or_default().minute((at.minute() % 60) as u8)
    }

    /// The hours of an owner, added up over the partitions.
    pub fn hours_of(&self, owner: WebhookId) -> BTreeMap<u32, HourFigures> {
        let mut hours: BTreeMap<u32, HourFigures> = BTreeMap::new();
        for ((_, hour, _), figures) in self.hours.iter().filter(|((other, _, _), _)| *other == owner) {
            hours.entry(*hour).or_default().add(figures);
        }
        hours
    }

    /// Sums of all time.
    pub fn lifetime(&self, owner: WebhookId) -> Sums {
        let mut all = self.past.get(&owner).cloned().unwrap_or_default();
        self.sums.iter().filter(|((_, other), _)| *other == owner).for_each(|(_, sums)| all.add(sums));
        all
    }

    /// A delivery as readers see it.
    pub fn shown(&self, row: &Delivery) -> Delivery {
        match self.removed.get(&row.webhook_id) {
            Some(at) if !row.status.is_final() => Delivery {
                status: DeliveryStatus::Cancelled,
                completed_at: Some(*at),
                next_attempt_at: None,
                ..row.clone()
            },
            _ => {
                // The webhook holds it back, but not past its own end.
                let held_until = self.states.get(&row.webhook_id).and_then(|state| state.held_until());
                let held_until = held_until.map(|until| until.min(row.expires_at.unwrap_or(Time::MAX)));
                Delivery {
                    next_attempt_at: row.next_attempt_at.map(|at| Some(at).max(held_until).unwrap_or(at)),
                    ..row.clone()
                }
            }
        }
    }

    /// Deliveries of an event, oldest first. Ids of published ones precede those of replays.
    pub fn deliveries_of(&self, event: EventId) -> impl Iterator<Item = &Made> {
        self.by_event.get(&event).into_iter().flatten().map(|id| &self.deliveries[id])
    }

    /// Attempts of a delivery, oldest first.
    pub fn attempts_of(&self, delivery: &Delivery) -> Vec<&Attempt> {
        let mut attempts = Vec::new();
        let mut next = delivery.last_attempt_id;
        while let Some(attempt) = next.and_then(|id| self.attempts.get(&id)) {
            attempts.push(attempt);
            next = attempt.retry_of;
        }
        attempts.reverse();
        attempts
    }

    /// All deliveries that are due at any time, as the scheduler must find them.
    pub fn due(&self) -> BTreeMap<WebhookId, Vec<(Time, DeliveryId)>> {
        let mut due: BTreeMap<WebhookId, Vec<(Time, DeliveryId)>> = BTreeMap::new();
        for made in self.deliveries.values().filter(|made| made.due) {
            let at = made.row.next_attempt_at.unwrap_or(Time::ZERO).max(Time::ZERO);
            due.entry(made.row.webhook_id).or_default().push((at, made.row.id));
        }
        due.values_mut().for_each(|of_one| of_one.sort_unstable());
        due
    }

    /// Heads of queues that wait for a `PromoteQueueHead`.
    pub fn held_heads(&self) -> Vec<DeliveryId> {
        let heads = self.lines.values().filter_map(BTreeSet::first);
        heads.filter(|id| !self.deliveries[id].due).copied().collect()
    }

    /// The labels of requests that release all heads that no request has released, and that empty the queues of webhooks
    /// that are not ordered.
    pub fn held_releases(&self) -> Vec<String> {
        let heads = self.held_heads().into_iter().map(|id| format!("release {id}"));
        let unordered = self.webhooks.values().filter(|webhook| webhook.ordered == DeliveryOrder::No);
        heads.chain(unordered.flat_map(|webhook| self.dissolutions(webhook.id))).collect()
    }

    /// Adds the lines of changes in partitions to the audit.
    pub fn write_pending_audit(&mut self) {
        self.audit.append(&mut self.pending_audit);
    }

    /// Deliveries with an expiry, and its time.
    pub fn ends(&self) -> BTreeMap<DeliveryId, Time> {
        let open = self.deliveries.values().filter(|made| !made.row.status.is_final());
        open.filter_map(|made| Some((made.row.id, made.row.expires_at?))).collect()
    }

    /// Begins a partition.
    pub fn begin(&mut self, first: u128) -> Check {
        ensure!(first > self.last, "the new partition begins at {first:x}, which is not after {:x}", self.last);
        self.partitions.push(first);
        self.last = first;
        Ok(())
    }

    /// Drops the oldest partition: its rows are removed, its sums stay, and its open deliveries fail.
    pub fn drop_oldest(&mut self) {
        let first = self.partitions.remove(0);
        let gone: Vec<EventId> =
            self.events.keys().filter(|id| self.partitions.iter().all(|p| id.as_u128() < *p)).copied().collect();
        for id in gone {
            self.events.remove(&id);
            for delivery in self.by_event.remove(&id).unwrap_or_default() {
                if let Some(line) = self.deliveries.remove(&delivery).and_then(|made| made.line) {
                    self.leave(&line, delivery);
                }
            }
        }
        self.attempts.retain(|_, attempt| self.events.contains_key(&attempt.event_id));
        self.touched.retain(|id| self.events.contains_key(id));
        self.named.retain(|_, id| self.events.contains_key(id));
        let owners: Vec<WebhookId> = self.sums.keys().filter(|(p, _)| *p == first).map(|(_, owner)| *owner).collect();
        for owner in owners {
            let mut sums = self.sums.remove(&(first, owner)).unwrap_or_default();
            sums.failed += sums.open();
            self.past.entry(owner).or_default().add(&sums);
        }
        self.hours.retain(|(_, _, p), _| *p != first);
        self.answers.retain(|_, answer| answer.home != Some(first));
    }

    /// Removes a delivery from its queue.
    pub fn leave(&mut self, line: &Line, id: DeliveryId) {
        if let Some(waiting) = self.lines.get_mut(line) {
            waiting.remove(&id);
        }
        self.lines.retain(|_, waiting| !waiting.is_empty());
    }

    /// Partitions whose last event's retention has ended.
    pub fn droppable(&self, now: Time) -> usize {
        let ended = |pair: &&[u128]| Id::<Event>::from_u128(pair[1]).time().plus_ms(self.retention_ms) <= now;
        self.partitions.windows(2).take_while(ended).count()
    }

    /// Number of open deliveries of a partition by webhook.
    pub fn open_in(&self, first: u128) -> BTreeMap<WebhookId, u64> {
        let mut open = BTreeMap::new();
        for ((_, owner), sums) in self.sums.iter().filter(|((p, _), sums)| *p == first && sums.open() > 0) {
            open.insert(*owner, sums.open());
        }
        open
    }
}

/// A word for a rejection.
pub fn word(refusal: &Rejection) -> String {
    match refusal {
        Rejection::NotFound(what) => format!("not_found {what}"),
        Rejection::Conflict { code, .. } => format!("conflict {code}"),
        Rejection::Invalid { pointer, .. } => format!("invalid {pointer}"),
        Rejection::Stale => "stale".into(),
        Rejection::DiskFull => "disk_full".into(),
        Rejection::Unconfirmed => "unconfirmed".into(),
        Rejection::Failed(_) | Rejection::TenureEnded => "failed".into(),
    }
}

/// A word for a request that follows from another one.
pub fn label(request: &WriteRequest) -> String {
    match &request.command {
        Command::Partition(PartitionCommand::PromoteQueueHead { delivery, .. }) => format!("release {delivery}"),
        Command::State(StateCommand::AutoDisable { id, reason, .. }) => format!("give_up {id} {reason:?}"),
        Command::Partition(PartitionCommand::Publish(events)) => {
            format!("publish {}", events[0].attributes.event_id.as_deref().unwrap_or("?"))
        }
        Command::State(StateCommand::SaveJob(job)) => format!("save_job {}", job.id),
        Command::Partition(PartitionCommand::CancelRemoved { webhook, partition, .. }) => {
            format!("sweep {webhook} {partition:x}")
        }
        Command::Partition(PartitionCommand::DissolveQueues { webhook, partition, .. }) => {
            format!("dissolve {webhook} {partition:x}")
        }
        other => format!("{other:?}"),
    }
}
