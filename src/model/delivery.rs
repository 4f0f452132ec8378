//! A delivery: one event on its way to one webhook, with its state.

use serde::{Deserialize, Serialize};

use super::attempt::AttemptOutcome;
use super::id::{AppId, AttemptId, DeliveryId, EventId, OrganizationId, WebhookId};
use super::time::Time;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub id: DeliveryId,
    pub event_id: EventId,
    pub webhook_id: WebhookId,
    pub org_id: OrganizationId,
    pub app_id: AppId,
    pub event_type: String,
    pub status: DeliveryStatus,
    /// Finished attempts.
    pub attempts: u32,
    /// When the next attempt is scheduled. `None` once the delivery is final.
    pub next_attempt_at: Option<Time>,
    pub created_at: Time,
    pub first_attempt_at: Option<Time>,
    /// When the delivery became final.
    pub completed_at: Option<Time>,
    /// The final delivery that this one repeats.
    pub replay_of: Option<DeliveryId>,
    /// The replay job that made it.
    pub job_id: Option<super::id::Id<ReplayJob>>,
    pub expires_at: Option<Time>,
    pub ordering_key: Option<String>,
    pub last_attempt_id: Option<AttemptId>,
    pub last_status_code: Option<u16>,
    pub last_outcome: Option<AttemptOutcome>,
    pub last_error: Option<String>,
    pub last_response_time_ms: Option<u32>,
    /// Whether a caller asked for the next attempt.
    #[serde(default)]
    pub manual: bool,
    /// Number of `attempts` that used no entry of the retry schedule, because a caller asked for them.
    #[serde(default)]
    pub unscheduled: u32,
    /// When the schedule plans the attempt that a caller pulled forward. `None` if no attempt was pulled forward.
    #[serde(default)]
    pub planned_at: Option<Time>,
    /// Whether a caller sent the event to the webhook by hand. Such a delivery has one attempt and no schedule.
    #[serde(default)]
    pub resend: bool,
}

impl Delivery {
    /// Whether a retry of a final delivery, a resend or a replay job made it, and not the publishing of its event.
    pub const fn is_replay(&self) -> bool {
        self.replay_of.is_some() || self.job_id.is_some() || self.resend
    }

    /// Number of used entries of the retry schedule, which is the index of the next one.
    pub const fn schedule_position(&self) -> u32 {
        self.attempts.saturating_sub(self.unscheduled)
    }
}

/// A durable replay of past events, as the type of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayJob {}

/// The state of a delivery. `rules::transition` defines the transitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    /// Without an attempt.
    #[default]
    Pending,
    /// Failed at least once, with a retry scheduled.
    Retrying,
    Delivered,
    Failed,
    Cancelled,
}

impl DeliveryStatus {
    pub const ALL: [DeliveryStatus; 5] = [
        DeliveryStatus::Pending,
        DeliveryStatus::Retrying,
        DeliveryStatus::Delivered,
        DeliveryStatus::Failed,
        DeliveryStatus::Cancelled,
    ];

    /// Whether the status never changes again.
    pub const fn is_final(self) -> bool {
        matches!(self, DeliveryStatus::Delivered | DeliveryStatus::Failed | DeliveryStatus::Cancelled)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            DeliveryStatus::Pending => "pending",
            DeliveryStatus::Retrying => "retrying",
            DeliveryStatus::Delivered => "delivered",
            DeliveryStatus::Failed => "failed",
            DeliveryStatus::Cancelled => "cancelled",
        }
    }

    pub fn parse(text: &str) -> Option<DeliveryStatus> {
        DeliveryStatus::ALL.into_iter().find(|s| s.as_str() == text)
    }
}
