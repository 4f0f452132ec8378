//! What the floors above read. Every call opens its own short read transactions and never waits for the writer.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::figures::{Minute, Sums};
use crate::model::id::{AttemptId, DeliveryId, EventId, WebhookId};
use crate::model::webhook::WebhookState;
use crate::model::{Attempt, Delivery, Event, Time};

use super::command::Reach;
use super::job::{Job, JobId};
use super::query::{AttemptQuery, DeliveryQuery, EventQuery, Page, Window};
use super::registry::Registry;

/// A handle on the store for reading; cheap to clone. `now` hides what retention has ended.
#[derive(Clone)]
pub struct Store {}

/// A webhook's figures at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Lifetime sums.
    pub sums: Sums,
    /// `(minute since 1970, counts)` of the last 24 hours, oldest first, only those with something in them.
    pub minutes: Vec<(u32, Minute)>,
}

/// What waits within a reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    pub waiting: u64,
    pub oldest_due: Option<Time>,
}

/// One line of the audit (api.md section 3, `GET /v1/audit`).
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRow {
    pub id: crate::model::Id<AuditRow>,
    pub at: Time,
    pub org_id: crate::model::OrganizationId,
    pub key_id: Option<crate::model::KeyId>,
    pub action: String,
    pub target: String,
    pub remote_addr: Option<String>,
    pub request_id: Option<String>,
    /// JSON text of what changed, without secrets.
    pub changes: Option<String>,
}

impl Store {
    pub fn registry(&self) -> Arc<Registry> { todo!() }
    pub fn event(&self, reach: Reach, id: EventId, now: Time) -> super::Result<Option<Event>> { todo!() }
    /// The exact bytes of `data`; none once erased or expired.
    pub fn data(&self, id: EventId, now: Time) -> super::Result<Option<Bytes>> { todo!() }
    pub fn events(&self, query: &EventQuery, now: Time) -> super::Result<Page<Event>> { todo!() }
    pub fn delivery(&self, reach: Reach, id: DeliveryId, now: Time) -> super::Result<Option<Delivery>> { todo!() }
    pub fn deliveries(&self, query: &DeliveryQuery, now: Time) -> super::Result<Page<Delivery>> { todo!() }
    /// All deliveries of an event, replays included, oldest first.
    pub fn deliveries_of(&self, id: EventId, now: Time) -> super::Result<Vec<Delivery>> { todo!() }
    /// A webhook's deliveries after `after` in commit order, for the feed.
    pub fn feed(&self, webhook: WebhookId, after: Option<DeliveryId>, limit: usize, now: Time) -> super::Result<Vec<Delivery>> { todo!() }
    pub fn attempt(&self, reach: Reach, id: AttemptId, now: Time) -> super::Result<Option<Attempt>> { todo!() }
    pub fn attempts(&self, query: &AttemptQuery, now: Time) -> super::Result<Page<Attempt>> { todo!() }
    /// All attempts of a delivery, oldest first.
    pub fn attempts_of(&self, delivery: &Delivery, now: Time) -> super::Result<Vec<Attempt>> { todo!() }
    pub fn figures(&self, webhook: WebhookId, now: Time) -> super::Result<Figures> { todo!() }
    pub fn state(&self, webhook: WebhookId) -> WebhookState { todo!() }
    pub fn backlog(&self, webhooks: &[WebhookId]) -> super::Result<Backlog> { todo!() }
    /// The answer kept for `Idempotency-Key`, without doing anything: none where it is new; `Conflict` for another
    /// request's key and for a secret answer that is kept no longer.
    pub fn kept(&self, keep: &super::Keep, now: Time) -> std::result::Result<Option<super::Applied>, super::Refusal> { todo!() }
    pub fn job(&self, reach: Reach, id: JobId) -> super::Result<Option<Job>> { todo!() }
    pub fn jobs(&self, reach: Reach, window: Window) -> super::Result<Page<Job>> { todo!() }
    pub fn audit(&self, reach: Reach, window: Window) -> super::Result<Page<AuditRow>> { todo!() }
    /// How many events a job over `spec` would send again (`dry_run`).
    pub fn matching(&self, reach: Reach, spec: &super::job::JobSpec, now: Time) -> super::Result<u64> { todo!() }
}
