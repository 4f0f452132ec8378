//! Replay jobs: durable, over past events (api.md section 3, `POST /v1/replays`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::delivery::ReplayJob;
use crate::model::id::{AppId, EventId, Id, OrganizationId, WebhookId};
use crate::model::{DeliveryStatus, Time};

pub type JobId = Id<ReplayJob>;

/// The events of a replay, and its target. Exactly one of `webhook` and `app` is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    pub webhook: Option<WebhookId>,
    pub app: Option<AppId>,
    pub from: Option<Time>,
    pub to: Option<Time>,
    /// Exact types or patterns. Empty for all.
    pub types: Vec<String>,
    /// Only events whose last delivery has this final status. `None` for any final status.
    pub status: Option<DeliveryStatus>,
    /// Only events that match now and have no delivery to the webhook.
    pub missing: bool,
    pub rate_per_s: Option<f64>,
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum JobStatus {
    Running,
    Done,
    Cancelled,
}
