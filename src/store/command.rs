//! Everything that changes the store: one enum, and what comes back.
//!
//! Invariant: a command is data. Existence, idempotency and scope are judged while it is applied, in the transaction that
//! writes; ids, the time and jitter come in with the transaction, so the same commands give the same store.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::attempt::{AttemptOutcome, Timings, Trigger};
use crate::model::id::{AppId, AttemptId, DeliveryId, EventId, KeyId, OrganizationId, WebhookId};
use crate::model::webhook::{
    ContentType, DisabledReason, FieldSet, SigningSecret, Webhook, WebhookMethod, WebhookStatus,
};
use crate::model::{ApiKey, App, Delivery, Event, Headers, Organization, Scope, Time};

use crate::store::job::{Job, JobId, JobSpec};

/// What a caller may touch: one organization, or one app of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TenantScope {
    pub org: OrganizationId,
    pub app: Option<AppId>,
}

impl TenantScope {
    /// Whether something of `org` and `app` lies within.
    pub fn covers(&self, org: OrganizationId, app: AppId) -> bool {
        self.org == org && self.app.is_none_or(|own| own == app)
    }
}

/// Who asks for a command, for scope and for the audit record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub key: KeyId,
    pub tenant: TenantScope,
    pub remote_addr: Option<IpAddr>,
    pub request_id: String,
}

/// The `Idempotency-Key` of a request, already reduced to what is compared.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// SHA-256 of API key, route and `Idempotency-Key`.
    pub key: [u8; 32],
    /// SHA-256 of the request's body.
    pub request: [u8; 32],
    /// What the answer needs beside the receipt, kept with it and given back in `Applied::extra`.
    pub extra: Option<Bytes>,
    /// The answer holds a secret: receipt and extra are kept sealed, and for 10 minutes only.
    pub secret: bool,
}

impl fmt::Debug for IdempotencyKey {
    /// Without `extra`, which is the text of a new key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyKey").field("key", &self.key).field("secret", &self.secret).finish_non_exhaustive()
    }
}

/// A command with who asked for it and whether its answer is kept.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// None: the daemon itself.
    pub caller: Option<Caller>,
    pub idempotency: Option<IdempotencyKey>,
    pub command: Command,
}

impl WriteRequest {
    /// A command of the daemon itself.
    pub fn internal(command: impl Into<Command>) -> WriteRequest {
        WriteRequest { caller: None, idempotency: None, command: command.into() }
    }
}

/// A change of the store, by the file that it is applied to.
#[derive(Debug, Clone)]
pub enum Command {
    State(StateCommand),
    Partition(PartitionCommand),
}

impl From<StateCommand> for Command {
    fn from(command: StateCommand) -> Command {
        Command::State(command)
    }
}

impl From<PartitionCommand> for Command {
    fn from(command: PartitionCommand) -> Command {
        Command::Partition(command)
    }
}

impl Command {
    /// The events of a publish. `None` for every other command.
    pub fn published(&self) -> Option<&[EventInput]> {
        match self {
            Command::Partition(PartitionCommand::Publish(events)) => Some(events),
            _ => None,
        }
    }
}

/// A change of `state.redb`.
#[derive(Debug, Clone)]
pub enum StateCommand {
    /// Receipt: `Organization`.
    CreateOrganization { name: String, key: NewKey },
    /// Receipt: `App`. A taken `uid`: `Conflict`.
    CreateApp { name: String, uid: Option<String> },
    /// Receipt: `App`.
    UpdateApp { id: AppId, name: Option<String>, uid: Option<Option<String>> },
    /// Removes the app, its webhooks and its keys; refused for the default app. Receipt: `Done`.
    RemoveApp { id: AppId },
    /// Receipt: `Key`.
    CreateKey { key: NewKey },
    /// Receipt: `Done`.
    RevokeKey { id: KeyId },
    /// `id`, `org_id`, times and version are set while applying. Receipt: `Webhook`.
    CreateWebhook { webhook: Box<Webhook> },
    /// Replaces a webhook made from the reading with `webhook.version`; another version now: `Stale`. Receipt: `Webhook`.
    UpdateWebhook { webhook: Box<Webhook> },
    /// Receipt: `Done`.
    RemoveWebhook { id: WebhookId },
    /// `paused` or `enabled`; a disabled webhook: `Conflict`. Receipt: `Webhook`.
    SetStatus { id: WebhookId, status: WebhookStatus },
    /// Makes `secret` the current one, from now on; the old ones sign for `overlap_s` more seconds. Receipt: `Webhook`.
    RotateSecret { id: WebhookId, secret: SigningSecret, overlap_s: u32 },
    /// Notes in the audit that secrets were read. Receipt: `Webhook`.
    ReadSecret { id: WebhookId },
    /// Disables a webhook because of what its attempts showed, unless it was changed after `seen_at`. Receipt: `Done`.
    AutoDisable { id: WebhookId, reason: DisabledReason, seen_at: Time },
    /// Receipt: `Job`.
    CreateJob { spec: JobSpec },
    /// Receipt: `Job`.
    CancelJob { id: JobId },
    /// Writes back what a slice or a check made of a job that is still running. Receipt: `Done`.
    SaveJob(Box<Job>),
    /// Writes a line of the audit about what was done in a partition. Receipt: `Done`.
    Audit(AuditEntry),
    /// Somebody says that the clock is right: noted in the audit, and retention goes on once that is durable. Receipt: `Done`.
    AcceptClock,
    /// Keeps the bytes of an answer that no command made, for `Idempotency-Key`. Receipt: `Kept`.
    StoreAnswer { body: Bytes },
}

/// A change of the partition of an event.
#[derive(Debug, Clone)]
pub enum PartitionCommand {
    /// One event, or a batch: all or none. Receipt: `Published`, in the same order.
    Publish(Vec<EventInput>),
    /// The outcome of one attempt. Receipt: `Recorded`.
    Record(Box<AttemptMade>),
    /// Ends a delivery whose time is over, whatever is left of its schedule. Receipt: `Recorded`.
    Expire { event: EventId, delivery: DeliveryId },
    /// Lets the next of an ordered queue go, if it is not due already. Receipt: `Done`.
    PromoteQueueHead { webhook: WebhookId, key_hash: u64, delivery: DeliveryId, event: EventId },
    /// Rewrites up to `limit` open deliveries of a removed webhook in one partition as cancelled. Receipt: `Done`.
    CancelRemoved { webhook: WebhookId, partition: u128, limit: u32 },
    /// Sends a delivery at once; a final one as a new delivery with `replay_of`. Receipt: `Delivery`.
    Retry { id: DeliveryId },
    /// Receipt: `Delivery`; an already final one: `Conflict`.
    CancelDelivery { id: DeliveryId },
    /// Cancels what is not final of an event. Receipt: `Cancelled`.
    CancelEvent { id: EventId },
    /// Erases payload and response bodies, keeps the record. Receipt: `Done`.
    EraseEvent { id: EventId },
    /// Makes the next deliveries of a running job, out of up to `limit` events; no event more once there are `make_max`.
    /// Receipt: `Job`.
    AdvanceJob { id: JobId, limit: u32, make_max: u32 },
}

/// What somebody did to an event or a delivery, for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub org: OrganizationId,
    pub app: AppId,
    /// `delivery.retry`.
    pub action: &'static str,
    /// The id of what it was done to.
    pub target: String,
}

impl AuditEntry {
    pub fn on_delivery(action: &'static str, delivery: &Delivery) -> AuditEntry {
        AuditEntry { org: delivery.org_id, app: delivery.app_id, action, target: delivery.id.to_string() }
    }

    pub fn on_event(action: &'static str, event: &Event) -> AuditEntry {
        AuditEntry { org: event.org_id, app: event.app_id, action, target: event.id.to_string() }
    }
}

/// An event as a producer posts it, already validated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventInput {
    /// None: the caller's own app, or the default app.
    pub app: Option<AppId>,
    pub event_type: String,
    /// The exact bytes of `data`.
    pub data: Bytes,
    pub event_id: Option<String>,
    pub occurred_at: Option<Time>,
    pub subject: Option<String>,
    pub channels: Vec<String>,
    pub ordering_key: Option<String>,
    pub deliver_at: Option<Time>,
    pub expires_at: Option<Time>,
    pub metadata: BTreeMap<String, String>,
    pub traceparent: Option<String>,
}

/// A key to be made: its id and time are set while applying.
#[derive(Debug, Clone, PartialEq)]
pub struct NewKey {
    pub app: Option<AppId>,
    pub name: String,
    pub scopes: Vec<Scope>,
    pub hash: [u8; 32],
    pub expires_at: Option<Time>,
    pub rate_per_s: Option<f64>,
    pub installation: bool,
}

/// One finished attempt as the sender saw it. What follows from it is decided while applying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptMade {
    pub event_id: EventId,
    pub delivery_id: DeliveryId,
    /// Drawn before sending where the body names it (`field_set: dfns`); otherwise stamped while applying. Kept only if it
    /// is greater than the delivery's id: draw it at the later of now and that id's time.
    pub attempt_id: Option<AttemptId>,
    /// Which attempt this was, from 1: one that was recorded already is not recorded twice.
    pub number: u32,
    pub trigger: Trigger,
    pub url: String,
    pub method: WebhookMethod,
    pub field_set: FieldSet,
    pub content_type: ContentType,
    pub include_html: bool,
    pub signed_at: i64,
    pub started_at: Time,
    pub finished_at: Time,
    /// By the webhook's success rule.
    pub success: bool,
    pub outcome: AttemptOutcome,
    pub status_code: Option<u16>,
    pub error: Option<String>,
    pub response_time_ms: Option<u32>,
    pub remote_addr: Option<String>,
    pub request_headers: Headers,
    pub response_headers: Headers,
    pub response_body: Option<String>,
    pub timings: Timings,
    /// `Retry-After` of a 429 or 503, as a time, already capped.
    pub hold_until: Option<Time>,
}

/// What a command gave. Kept as it is for `Idempotency-Key`, and shown again by the same pure function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Receipt {
    Published(Vec<Published>),
    Organization {
        organization: Organization,
        app: App,
        key: ApiKey,
    },
    App(App),
    Key(ApiKey),
    Webhook(Arc<Webhook>),
    Delivery(Box<Delivery>),
    Cancelled(u32),
    Job(Box<Job>),
    /// The bytes that were kept by `KeepAnswer`.
    Kept(Vec<u8>),
    /// Whether the outcome was new, and the delivery after it.
    Recorded(Option<Box<Delivery>>),
    Done,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    pub event: Arc<Event>,
    /// The event was there already: `event_id` again within the window.
    pub duplicate: bool,
}

/// A receipt, and whether it is the first answer given again for the same `Idempotency-Key`.
#[derive(Clone, PartialEq)]
pub struct Applied {
    pub receipt: Receipt,
    pub replayed: bool,
    /// `Keep::extra` of the first time, where `replayed`.
    pub extra: Option<Bytes>,
}

impl fmt::Debug for Applied {
    /// Without `extra`, which is the text of a new key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Applied");
        shown.field("receipt", &self.receipt).field("replayed", &self.replayed).finish_non_exhaustive()
    }
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    #[error("{0} not found")]
    NotFound(&'static str),
    /// `code` is the stable code of the problem document.
    #[error("{detail}")]
    Conflict { code: &'static str, detail: String },
    /// A value that only the store can judge; `pointer` is a JSON Pointer into the request body.
    #[error("{detail}")]
    Invalid { pointer: String, detail: String },
    /// The webhook has changed since it was read: read again and repeat.
    #[error("changed since it was read")]
    Stale,
    /// Free space is under `min_free_bytes`.
    #[error("the disk is full")]
    DiskFull,
    /// The store failed; nothing of the command is kept.
    #[error("storage failed: {0}")]
    Failed(String),
}

/// A new signing secret for a webhook that came without one.
pub fn first_secret(text: String, now: Time) -> Vec<SigningSecret> {
    vec![SigningSecret { text, created_at: now, expires_at: None }]
}
