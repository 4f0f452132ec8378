//! The effects of a committed batch on the scheduler, the feeds, the timers and the log.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::attempt::Trigger;
use crate::model::id::{AttemptId, DeliveryId, EventId, KeyId, WebhookId};
use crate::model::webhook::WebhookState;
use crate::model::{DeliveryStatus, Event, Time};

/// The data that one attempt needs besides the webhook's configuration at the time of sending.
#[derive(Debug, Clone)]
pub struct Dispatch {
    pub webhook_id: WebhookId,
    pub delivery_id: DeliveryId,
    pub event: Arc<Event>,
    /// The payload. Empty if it was erased, or if it is left out of memory (`lacks_data`).
    pub data: Bytes,
    /// The number of the attempt to be made, from 1.
    pub number: u32,
    pub due: Time,
    pub retry_of: Option<AttemptId>,
    pub trigger: Trigger,
    /// The last moment for sending: `expires_at`, or the end of the event's retention.
    pub end: Time,
}

impl Dispatch {
    /// Whether the payload is left out of memory, so that it is read before the attempt.
    pub fn lacks_data(&self) -> bool {
        self.data.is_empty() && self.payload_bytes() > 0
    }

    /// Leaves the payload out of memory.
    pub fn leave_out_data(&mut self) {
        if self.payload_bytes() > 0 && self.data.len() == self.event.data_bytes as usize {
            self.data = Bytes::new();
        }
    }

    /// Length of the payload, in memory or not.
    pub fn payload_bytes(&self) -> usize {
        let stored = if self.event.erased_at.is_some() { 0 } else { self.event.data_bytes as usize };
        self.data.len().max(stored)
    }
}

/// A change of state for the log.
#[derive(Debug, Clone)]
pub struct StateChange {
    pub webhook_id: WebhookId,
    /// The delivery concerned, and its event. `None` if the change concerns the webhook itself.
    pub delivery: Option<(EventId, DeliveryId)>,
    pub kind: &'static str,
    pub reason: String,
}

/// An audit line for the log.
#[derive(Debug, Clone)]
pub struct AuditLine {
    pub action: String,
    pub target: String,
    pub request_id: String,
    pub key_id: KeyId,
}

/// Counts of deliveries that became final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FinalCounts {
    pub delivered: u64,
    pub failed: u64,
    pub cancelled: u64,
}

impl FinalCounts {
    /// Counts a delivery by its new status. A status that is not final is ignored.
    pub fn count(&mut self, status: DeliveryStatus) {
        match status {
            DeliveryStatus::Delivered => self.delivered += 1,
            DeliveryStatus::Failed => self.failed += 1,
            DeliveryStatus::Cancelled => self.cancelled += 1,
            DeliveryStatus::Pending | DeliveryStatus::Retrying => {}
        }
    }
}

/// The effects of a committed batch. Each consumer of the engine takes its own fields.
#[derive(Debug, Default)]
pub struct Effects {
    /// Deliveries due now, with the data to send.
    pub fresh: Vec<Dispatch>,
    /// Webhooks with a delivery that becomes due at a time.
    pub due: Vec<(WebhookId, Time)>,
    /// Deliveries whose outcome is durable. They are no longer in flight.
    pub recorded: Vec<DeliveryId>,
    /// Deliveries whose outcome could not be written. They are sent again.
    pub unrecorded: Vec<DeliveryId>,
    /// Webhooks that are probed at once, because a caller sent a delivery again.
    pub probe_now: Vec<WebhookId>,
    /// Deliveries that must not be sent any more.
    pub withdrawn: Vec<(WebhookId, DeliveryId)>,
    pub states: Vec<(WebhookId, WebhookState)>,
    /// Whether webhooks, apps or keys changed.
    pub registry_changed: bool,
    pub state_changes: Vec<StateChange>,
    pub audit: Vec<AuditLine>,
    pub finals: FinalCounts,
    /// Webhooks with new deliveries, whose feeds wake up.
    pub feeds: Vec<WebhookId>,
    /// The greatest id among the new deliveries and attempts.
    pub newest: Option<DeliveryId>,
    /// The earliest `expires_at` of the new deliveries.
    pub next_expiry: Option<Time>,
    /// Whether replay jobs have more to do.
    pub jobs: bool,
    /// Whether a caller confirmed the clock.
    pub clock_accepted: bool,
    /// Descriptions of files that failed and were opened again, for the log.
    pub failures: Vec<String>,
}

impl Effects {
    /// Adds the effects of a later batch.
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
