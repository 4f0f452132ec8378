//! What a batch means for whoever sends: handed to the scheduler after the commit.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::attempt::Trigger;
use crate::model::id::{AttemptId, DeliveryId, EventId, KeyId, WebhookId};
use crate::model::webhook::WebhookState;
use crate::model::{DeliveryStatus, Event, Time};

/// Everything that one attempt needs, but for the webhook's configuration at the moment of sending.
#[derive(Debug, Clone)]
pub struct Dispatch {
    pub webhook_id: WebhookId,
    pub delivery_id: DeliveryId,
    pub event: Arc<Event>,
    pub data: Bytes,
    /// The attempt to be made, from 1.
    pub number: u32,
    pub due: Time,
    pub retry_of: Option<AttemptId>,
    pub trigger: Trigger,
    /// Not to be sent from then on: `expires_at`, or the end of the event's retention.
    pub end: Time,
}

/// A change of state that people are told of, for the log.
#[derive(Debug, Clone)]
pub struct StateChange {
    pub webhook_id: WebhookId,
    /// The delivery that it is about, and its event; none: the webhook itself.
    pub delivery: Option<(EventId, DeliveryId)>,
    pub kind: &'static str,
    pub reason: String,
}

/// What somebody did, as the audit has it, for the log.
#[derive(Debug, Clone)]
pub struct AuditLine {
    pub action: String,
    pub target: String,
    pub request_id: String,
    pub key_id: KeyId,
}

/// Deliveries that became final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FinalCounts {
    pub delivered: u64,
    pub failed: u64,
    pub cancelled: u64,
}

impl FinalCounts {
    /// Counts one that has `status` from now on; one that is not final is not counted.
    pub fn count(&mut self, status: DeliveryStatus) {
        match status {
            DeliveryStatus::Delivered => self.delivered += 1,
            DeliveryStatus::Failed => self.failed += 1,
            DeliveryStatus::Cancelled => self.cancelled += 1,
            DeliveryStatus::Pending | DeliveryStatus::Retrying => {}
        }
    }
}

#[derive(Debug, Default)]
pub struct Effects {
    /// Deliveries due now, with all that is needed.
    pub fresh: Vec<Dispatch>,
    /// Something of the webhook becomes due then.
    pub due: Vec<(WebhookId, Time)>,
    /// Deliveries whose outcome is durable: no longer in flight.
    pub recorded: Vec<DeliveryId>,
    /// Deliveries whose outcome could not be written: they will be sent again.
    pub unrecorded: Vec<DeliveryId>,
    /// Webhooks that somebody asked to be tried now, by sending something again by hand.
    pub probe_now: Vec<WebhookId>,
    /// Deliveries that must not be sent any more.
    pub withdrawn: Vec<(WebhookId, DeliveryId)>,
    pub states: Vec<(WebhookId, WebhookState)>,
    /// Webhooks, apps or keys changed.
    pub registry_changed: bool,
    pub state_changes: Vec<StateChange>,
    pub audit: Vec<AuditLine>,
    pub finals: FinalCounts,
    /// Webhooks that got new deliveries: who waits at their feed looks again.
    pub feeds: Vec<WebhookId>,
    /// The greatest id among the new deliveries.
    pub newest: Option<DeliveryId>,
    /// When the first of the new deliveries that end by themselves does so.
    pub next_expiry: Option<Time>,
    /// Replay jobs that have more to do.
    pub jobs: bool,
    /// Somebody says that the clock is right.
    pub clock_accepted: bool,
    /// Files that failed and were reopened, in words, for the log.
    pub failures: Vec<String>,
}

impl Effects {
    pub fn merge(&mut self, other: Effects) {
        self.fresh.extend(other.fresh);
        self.due.extend(other.due);
        self.recorded.extend(other.recorded);
        self.unrecorded.extend(other.unrecorded);
        self.probe_now.extend(other.probe_now);
        self.withdrawn.extend(other.withdrawn);
        self.states.extend(other.states);
        self.registry_changed |= other.registry_changed;
        self.state_changes.extend(other.state_changes);
        self.audit.extend(other.audit);
        self.finals.delivered += other.finals.delivered;
        self.finals.failed += other.finals.failed;
        self.finals.cancelled += other.finals.cancelled;
        self.feeds.extend(other.feeds);
        self.newest = self.newest.max(other.newest);
        self.next_expiry = [self.next_expiry, other.next_expiry].into_iter().flatten().min();
        self.jobs |= other.jobs;
        self.clock_accepted |= other.clock_accepted;
        self.failures.extend(other.failures);
    }
}
