//! What a batch means for whoever sends: handed to the scheduler after the commit.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::attempt::Trigger;
use crate::model::id::{AttemptId, DeliveryId, WebhookId};
use crate::model::webhook::WebhookState;
use crate::model::{Event, Time};

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

/// A state of a webhook that people are told of, for logs and metrics.
#[derive(Debug, Clone)]
pub struct Told {
    pub webhook_id: WebhookId,
    pub kind: &'static str,
    pub reason: String,
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
    pub lost: Vec<DeliveryId>,
    /// Webhooks that somebody asked to be tried now, by sending something again by hand.
    pub hurried: Vec<WebhookId>,
    /// Deliveries that must not be sent any more.
    pub withdrawn: Vec<(WebhookId, DeliveryId)>,
    pub states: Vec<(WebhookId, WebhookState)>,
    /// Webhooks, apps or keys changed.
    pub registry_changed: bool,
    pub told: Vec<Told>,
    /// Webhooks that got new deliveries: who waits at their feed looks again.
    pub fed: Vec<WebhookId>,
    /// The greatest id among the new deliveries.
    pub newest: Option<DeliveryId>,
    /// When the first of the new deliveries that end by themselves does so.
    pub ends: Option<Time>,
    /// Replay jobs that have more to do.
    pub jobs: bool,
    /// Files that failed and were reopened, in words, for the log.
    pub failures: Vec<String>,
}

impl Effects {
    pub fn merge(&mut self, other: Effects) {
        self.fresh.extend(other.fresh);
        self.due.extend(other.due);
        self.recorded.extend(other.recorded);
        self.lost.extend(other.lost);
        self.hurried.extend(other.hurried);
        self.withdrawn.extend(other.withdrawn);
        self.states.extend(other.states);
        self.registry_changed |= other.registry_changed;
        self.told.extend(other.told);
        self.fed.extend(other.fed);
        self.newest = self.newest.max(other.newest);
        self.ends = [self.ends, other.ends].into_iter().flatten().min();
        self.jobs |= other.jobs;
        self.failures.extend(other.failures);
    }
}
