//! An event as a producer posted it. Its `data` is stored apart, as the exact bytes received.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::id::{AppId, EventId, OrganizationId};
use super::time::Time;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    pub org_id: OrganizationId,
    pub app_id: AppId,
    /// `invoice.paid`: 1 to 128 of `[a-zA-Z0-9_.-]`.
    pub event_type: String,
    /// The caller's own id, unique per app within the idempotency window.
    pub event_id: Option<String>,
    pub occurred_at: Time,
    pub received_at: Time,
    /// Instantly's shape calls it `lead_email`.
    pub subject: Option<String>,
    pub channels: Vec<String>,
    pub ordering_key: Option<String>,
    pub deliver_at: Option<Time>,
    pub expires_at: Option<Time>,
    pub metadata: BTreeMap<String, String>,
    /// The event's W3C trace context, sent on with every attempt.
    pub traceparent: Option<String>,
    /// Deliveries made by publishing it.
    pub deliveries: u32,
    /// Length of `data` in bytes; 0 once erased.
    pub data_bytes: u32,
    /// When `data` was erased on request.
    pub erased_at: Option<Time>,
}
