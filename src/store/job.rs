//! Replay jobs: durable, over past events (api.md section 3, `POST /v1/replays`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::delivery::ReplayJob;
use crate::model::id::{AppId, EventId, Id, OrganizationId, WebhookId};
use crate::model::{DeliveryStatus, Time};

pub type JobId = Id<ReplayJob>;

/// Which events go again, and where. Exactly one of `webhook` and `app`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    pub webhook: Option<WebhookId>,
    pub app: Option<AppId>,
    pub from: Option<Time>,
    pub to: Option<Time>,
    /// Exact types or patterns. Empty for all.
    pub types: Vec<String>,
    /// Only deliveries of this status. `None` for any.
    pub status: Option<DeliveryStatus>,
    /// Only events that match now and were never delivered there.
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
    /// Events after this were not there when the job began.
    pub end: EventId,
    /// Set when every event has been examined; the job is done when its deliveries are final.
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
