//! Replay jobs: durable, over past events (`POST /v1/replays` in docs/api.md). A job may erase them in place of sending.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::delivery::ReplayJob;
use crate::model::id::{AppId, DeliveryId, EventId, Id, OrganizationId, WebhookId};
use crate::model::{AttemptOutcome, Delivery, DeliveryStatus, StatusCodes, Time};

pub type JobId = Id<ReplayJob>;

/// The events of a replay, and its target. Exactly one of `webhook` and `app` is set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobSpec {
    pub webhook: Option<WebhookId>,
    pub app: Option<AppId>,
    pub from: Option<Time>,
    pub to: Option<Time>,
    /// Exact types or patterns. Empty for all.
    pub types: Vec<String>,
    /// Only events whose last delivery has this final status. `None` for any final status.
    pub status: Option<DeliveryStatus>,
    /// Only events that match now and have no delivered or open delivery to the webhook.
    pub missing: bool,
    pub rate_per_s: Option<f64>,
    #[serde(default)]
    pub last: LastDeliveryFilter,
    /// Makes open deliveries due now in place of making new ones.
    #[serde(default)]
    pub waiting: bool,
    /// Also makes due the open deliveries of the events that had a failed attempt.
    #[serde(default)]
    pub retrying: bool,
    /// Erases the app's events in place of sending them. The other conditions but the time range and the types are not
    /// looked at.
    #[serde(default)]
    pub erasing: bool,
}

/// How far a job over waiting deliveries has come within its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobMark {
    /// The entries of the due index up to this one have been examined.
    Due(WebhookId, Time, DeliveryId),
    /// The entries of ordered queues, by the hash of their key, up to this one have been examined.
    Queued(WebhookId, u64, DeliveryId),
}

impl JobMark {
    pub const fn webhook(&self) -> WebhookId {
        match self {
            JobMark::Due(webhook, ..) | JobMark::Queued(webhook, ..) => *webhook,
        }
    }
}

/// The conditions for an event's last delivery to a webhook, beside its status. The default accepts any.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LastDeliveryFilter {
    /// The outcome is one of these. Empty for any.
    pub outcomes: Vec<AttemptOutcome>,
    /// The status code is one of these. Empty for any, also none.
    pub status_codes: Vec<StatusCodes>,
    /// The delivery became final at this time or later.
    pub ended_from: Option<Time>,
    /// The delivery became final before this time.
    pub ended_to: Option<Time>,
}

impl LastDeliveryFilter {
    pub fn passes(&self, last: &Delivery) -> bool {
        let has_code = |code: u16| self.status_codes.iter().any(|codes| codes.has(code));
        (self.outcomes.is_empty() || last.last_outcome.is_some_and(|outcome| self.outcomes.contains(&outcome)))
            && (self.status_codes.is_empty() || last.last_status_code.is_some_and(has_code))
            && self.ended_from.is_none_or(|from| last.completed_at.is_some_and(|at| at >= from))
            && self.ended_to.is_none_or(|to| last.completed_at.is_some_and(|at| at < to))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub org_id: OrganizationId,
    pub spec: JobSpec,
    pub status: JobStatus,
    pub matched: u64,
    pub created: u64,
    pub delivered: u64,
    pub failed: u64,
    pub created_at: Time,
    pub finished_at: Option<Time>,
    /// The last event examined.
    pub position: EventId,
    /// The last id that existed when the job began. Later events are not replayed.
    pub end: EventId,
    /// Whether every event has been examined. The job is done once its deliveries are final.
    pub exhausted: bool,
    /// The last entry that a job over waiting deliveries has examined. `None` before the first one of a partition.
    #[serde(default)]
    pub mark: Option<JobMark>,
    #[serde(default)]
    pub cancelled: u64,
}

impl Job {
    /// Number of its deliveries that are final.
    pub const fn ended(&self) -> u64 {
        self.delivered + self.failed + self.cancelled
    }

    /// Number of deliveries that were made, or made due, or of events that were erased.
    pub const fn moved(&self) -> u64 {
        if self.spec.waiting || self.spec.retrying || self.spec.erasing { self.matched } else { self.created }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum JobStatus {
    Running,
    Done,
    Cancelled,
}
