//! The commands: every change of the store as data, and the results.
//!
//! Invariant: existence, idempotency and tenant scope are checked while a command is applied, in the transaction that
//! writes. Ids, the time and randomness are inputs of the batch, so the same commands produce the same store.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::attempt::AttemptMade;
use crate::model::event::EventAttributes;
use crate::model::event_type::{EventType, EventTypeChange, EventTypeDefinition};
use crate::model::feed_consumer::FeedConsumer;
use crate::model::id::{AppId, AttemptId, DeliveryId, EventId, KeyId, OrganizationId, PortalLinkId, WebhookId};
use crate::model::webhook::{DisabledReason, SigningSecret, Webhook, WebhookStatus};
use crate::model::{ApiKey, App, Attempt, Delivery, Event, MakerRate, Organization, Scope, Time};

use crate::model::job::{Job, JobId, JobSpec};

/// The objects that a caller may access: those of one organization, or of one of its apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TenantScope {
    pub org: OrganizationId,
    pub app: Option<AppId>,
}

impl TenantScope {
    /// Whether an object of `org` and `app` is in scope.
    pub fn covers(&self, org: OrganizationId, app: AppId) -> bool {
        self.org == org && self.app.is_none_or(|own| own == app)
    }
}

/// The caller of a command, for its tenant scope and for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub key: KeyId,
    pub tenant: TenantScope,
    pub remote_addr: Option<IpAddr>,
    pub request_id: String,
    /// The portal link by which the caller acts for the key.
    pub portal_link: Option<PortalLinkId>,
}

/// The `Idempotency-Key` of a request, reduced to hashes.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// SHA-256 of API key, route and `Idempotency-Key`.
    pub key: [u8; 32],
    /// SHA-256 of the request's body.
    pub request: [u8; 32],
    /// Bytes that the answer needs besides the receipt. They are stored with it and returned in `Applied::extra`.
    pub extra: Option<Bytes>,
    /// Whether the answer contains a secret. Then it is stored sealed, and for 10 minutes only.
    pub secret: bool,
}

impl fmt::Debug for IdempotencyKey {
    /// Omits `extra`, which may be the text of a new key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyKey").field("key", &self.key).field("secret", &self.secret).finish_non_exhaustive()
    }
}

/// A command with its caller and its idempotency key.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// `None` if the daemon itself is the caller.
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
    /// Creates an organization with its default app and its first key. Receipt: `Organization`.
    CreateOrganization { name: String, key: NewKey },
    /// Creates an app. `Conflict` if another app has its `uid`. Receipt: `App`.
    CreateApp { app: AppSettings },
    /// Returns the app that has the `uid`, unchanged. If there is none, creates it. Receipt: `App`.
    EnsureApp { app: AppSettings },
    /// Returns the app of the organization's operational webhooks. If there is none, creates it. A key of one app is
    /// refused. Receipt: `App`.
    EnsureOperationalApp,
    /// Changes an app. `Conflict` if another app has the new `uid`. Receipt: `App`.
    UpdateApp { id: AppId, change: AppChange },
    /// Removes the app, its webhooks and its keys. The default app is refused. Receipt: `Done`.
    RemoveApp { id: AppId },
    /// Ends all portal tokens of the app, and all portal links that exist. Receipt: `Done`.
    EndPortal { id: AppId },
    /// Creates an API key. Receipt: `Key`.
    CreateKey { key: NewKey },
    /// Revokes an API key. Receipt: `Done`.
    RevokeKey { id: KeyId },
    /// Ends a portal link of `app`, which expires at `until` at the latest. Receipt: `Done`.
    RevokePortalLink { id: PortalLinkId, app: AppId, until: Time },
    /// Creates a webhook. `id`, `org_id`, times and version are set while applying. `Conflict` if another webhook of
    /// the app has the `uid`, or if the app has `of_app_max` webhooks. Receipt: `Webhook`.
    CreateWebhook { webhook: Box<Webhook>, of_app_max: Option<usize> },
    /// Replaces a webhook. `webhook.version` is the version that the change was derived from. `Stale` if the webhook
    /// has another version now. Receipt: `Webhook`.
    UpdateWebhook { webhook: Box<Webhook> },
    /// Removes a webhook. Receipt: `Done`.
    RemoveWebhook { id: WebhookId },
    /// Sets `paused` or `enabled`. `Conflict` if the webhook is disabled. Receipt: `Webhook`.
    SetStatus { id: WebhookId, status: WebhookStatus },
    /// Makes `secret` the current one. The old ones sign for `overlap_s` more seconds. Receipt: `Webhook`.
    RotateSecret { id: WebhookId, secret: SigningSecret, overlap_s: u32 },
    /// Sets the position of a consumer of the feed. If `seeks` is above the stored number, this is a seek. If it is
    /// below, nothing changes. `Conflict` for a new consumer if the webhook has 100. Receipt: `Done`.
    PutConsumer { webhook: WebhookId, name: String, consumer: FeedConsumer },
    /// Records in the audit that secrets were read. Receipt: `Webhook`.
    ReadSecret { id: WebhookId },
    /// Disables a webhook because of its attempts, unless it was changed after `seen_at`. Receipt: `Done`.
    AutoDisable { id: WebhookId, reason: DisabledReason, seen_at: Time },
    /// Creates a replay job. Receipt: `Job`.
    CreateJob { spec: JobSpec },
    /// Creates all of the replay jobs, or none. Receipt: `Done`.
    CreateJobs { specs: Vec<JobSpec> },
    /// Cancels a replay job. Receipt: `Job`.
    CancelJob { id: JobId },
    /// Saves the progress of a running job. Receipt: `Done`.
    SaveJob(Box<Job>),
    /// Writes an audit line about a change in a partition. Receipt: `Done`.
    Audit(AuditEntry),
    /// Confirms the clock: an audit line is written, retention continues once that is durable, and retries that a later
    /// clock planned come earlier. Receipt: `Done`.
    AcceptClock,
    /// Stores an answer for an `Idempotency-Key` whose request needed no other command. Receipt: `Kept`.
    StoreAnswer { body: Bytes },
    /// Notes that the stored answer `receipt` was repeated, which is a read of its secret. Receipt: `Done`.
    NoteShownAgain { receipt: Receipt },
    /// Registers an event type. An archived one of the name is replaced and no longer archived. `Conflict` if one of
    /// the name is not archived. Receipt: `EventType`.
    CreateEventType { definition: EventTypeDefinition },
    /// Replaces or registers an event type. Receipt: `EventType`.
    PutEventType { definition: EventTypeDefinition },
    /// Changes a registered event type. Receipt: `EventType`.
    UpdateEventType { name: String, change: EventTypeChange },
    /// Archives an event type. With `expunge` its row is removed. Receipt: `Done`.
    RemoveEventType { name: String, expunge: bool },
}

/// A change of the partition of an event.
#[derive(Debug, Clone)]
pub enum PartitionCommand {
    /// Stores one event, or all or none of a batch. Receipt: `Published`, in the same order.
    Publish(Vec<EventInput>),
    /// Records the outcome of one attempt. Receipt: `Recorded`.
    Record(Box<AttemptReport>),
    /// Fails a delivery whose `expires_at` has passed, whatever is left of its schedule. Receipt: `Recorded`.
    Expire { event: EventId, delivery: DeliveryId },
    /// Makes the head of an ordered queue due, if it is not due already. Receipt: `Done`.
    PromoteQueueHead { webhook: WebhookId, key_hash: u64, delivery: DeliveryId, event: EventId },
    /// Takes up to `limit` deliveries of one partition out of the queues of a webhook that is not ordered any more, and makes
    /// them due. A request for the rest follows. If the webhook is ordered again, its queues stay, and the heads that the
    /// partition has become due. Receipt: `Done`.
    DissolveQueues { webhook: WebhookId, partition: u128, limit: u32 },
    /// Rewrites up to `limit` open deliveries of a removed webhook in one partition as cancelled. Receipt: `Done`.
    CancelRemoved { webhook: WebhookId, partition: u128, limit: u32 },
    /// Plans retries of a partition anew if they are later than their rule can plan them now, because the clock was set
    /// back. It looks at due entries after the key `after`. Receipt: `Done`.
    ShortenWaits { partition: u128, after: Vec<u8> },
    /// Sends an open delivery at once. A final one is sent again as a new delivery with `replay_of`. Receipt:
    /// `Delivery`.
    Retry { id: DeliveryId },
    /// Does the same as `Retry` for several deliveries of one partition. Receipt: `Retried`, in the same order.
    RetryMany { ids: Vec<DeliveryId> },
    /// Cancels an open delivery. `Conflict` if the delivery is final. Receipt: `Delivery`.
    CancelDelivery { id: DeliveryId },
    /// Cancels the open deliveries of an event. Receipt: `Cancelled`.
    CancelEvent { id: EventId },
    /// Erases payload and response bodies. The records stay. Receipt: `Done`.
    EraseEvent { id: EventId },
    /// Erases the headers and the body of one attempt's response. The record stays. Receipt: `Done`.
    EraseResponse { id: AttemptId },
    /// Sends an event to a webhook of its app once, whatever the webhook selects, by a new delivery. A failure plans no
    /// retry, and other deliveries stay as they are. Receipt: `Delivery`.
    Resend { event: EventId, webhook: WebhookId },
    /// Makes the next deliveries of a running job from up to `limit` events, and stops at `make_max` deliveries.
    /// Receipt: `Job`.
    AdvanceJob { id: JobId, limit: u32, make_max: u32 },
}

/// A change of an event or a delivery by a caller, for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub org: OrganizationId,
    /// `None` if the entry concerns the organization.
    pub app: Option<AppId>,
    /// For example `delivery.retry`.
    pub action: &'static str,
    /// The id of the changed object.
    pub target: String,
}

impl AuditEntry {
    /// The entry of a change of a delivery.
    pub fn on_delivery(action: &'static str, delivery: &Delivery) -> AuditEntry {
        AuditEntry { org: delivery.org_id, app: Some(delivery.app_id), action, target: delivery.id.to_string() }
    }

    /// The entry of a change of an attempt.
    pub fn on_attempt(action: &'static str, attempt: &Attempt) -> AuditEntry {
        AuditEntry { org: attempt.org_id, app: Some(attempt.app_id), action, target: attempt.id.to_string() }
    }

    /// The entry of a change of an event.
    pub fn on_event(action: &'static str, event: &Event) -> AuditEntry {
        AuditEntry { org: event.org_id, app: Some(event.app_id), action, target: event.id.to_string() }
    }
}

/// An event as a producer posts it, after validation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventInput {
    /// `None` for the caller's own app, or else the default app.
    pub app: Option<AppId>,
    /// `None` for the time of receipt.
    pub occurred_at: Option<Time>,
    /// The only webhook that it goes to, whatever the webhook selects. `None` for all that want it.
    pub only: Option<WebhookId>,
    /// The exact bytes of `data`.
    pub data: Bytes,
    pub attributes: EventAttributes,
}

impl EventInput {
    /// An event with nothing but a type and its data.
    pub fn new(event_type: impl Into<String>, data: impl Into<Bytes>) -> EventInput {
        let attributes = EventAttributes { event_type: event_type.into(), ..EventAttributes::default() };
        EventInput { data: data.into(), attributes, ..EventInput::default() }
    }
}

/// A key to be created. Its id and time are set while applying. The default has no scope, no end and no rate of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewKey {
    pub app: Option<AppId>,
    pub name: String,
    pub scopes: Vec<Scope>,
    pub hash: [u8; 32],
    pub expires_at: Option<Time>,
    pub rate_per_s: Option<f64>,
    pub installation: bool,
    pub makers: Vec<MakerRate>,
    pub feature_flags: Vec<String>,
    /// Whether it is a token of an app's portal.
    pub portal: bool,
}

/// An app as a caller describes it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AppSettings {
    pub name: String,
    pub uid: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub throttle_rate_per_s: Option<f64>,
    pub alias: Option<String>,
}

/// A change of an app. `None` leaves a field as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AppChange {
    pub name: Option<String>,
    pub uid: Option<Option<String>>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub throttle_rate_per_s: Option<Option<f64>>,
    pub alias: Option<Option<String>>,
}

/// A finished attempt of a delivery. Its consequences are decided while applying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptReport {
    pub event_id: EventId,
    pub delivery_id: DeliveryId,
    /// Drawn before sending if the body names it (`field_set: dfns`), otherwise while applying. It is used only if it
    /// is greater than the delivery's id, so draw it at the later of now and that id's time.
    pub attempt_id: Option<AttemptId>,
    /// An attempt whose number is recorded already is ignored.
    pub made: AttemptMade,
    /// `Retry-After` of a 429 or 503 as a time, capped.
    pub hold_until: Option<Time>,
    /// The party that a failure is booked on. It is not stored.
    pub cause: FailureCause,
}

/// The party that a failed attempt is booked on. A success ignores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailureCause {
    /// The attempt counts for the webhook's circuit and disabling.
    #[default]
    Receiver,
    /// The request can never be sent, so the delivery ends. The webhook's state stays as it is.
    Request,
    /// The daemon has a bug. The schedule goes on, and the webhook's state stays as it is.
    Daemon,
}

impl AttemptReport {
    /// The report of an attempt whose id is drawn while applying, and that holds nothing back.
    pub fn new(event_id: EventId, delivery_id: DeliveryId, made: AttemptMade) -> AttemptReport {
        AttemptReport { event_id, delivery_id, attempt_id: None, made, hold_until: None, cause: FailureCause::Receiver }
    }
}

/// The result of a command. It is stored for `Idempotency-Key`, and the same pure function renders it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Receipt {
    Published(Vec<Published>),
    Organization {
        organization: Box<Organization>,
        app: Box<App>,
        key: Box<ApiKey>,
    },
    App(App),
    Key(ApiKey),
    Webhook(Arc<Webhook>),
    Delivery(Box<Delivery>),
    Cancelled(u32),
    Job(Box<Job>),
    /// The bytes that `StoreAnswer` stored.
    Kept(Vec<u8>),
    /// The delivery after the outcome. `None` if the outcome was recorded before.
    Recorded(Option<Box<Delivery>>),
    Done,
    Retried(Vec<RetriedDelivery>),
    /// The event type, and whether its name was not registered before.
    EventType {
        event_type: Box<EventType>,
        is_new: bool,
    },
    /// The app that `EnsureApp` or `EnsureOperationalApp` found or made, and whether it made it.
    EnsuredApp {
        app: App,
        is_new: bool,
    },
}

/// The result of publishing one event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    pub event: Arc<Event>,
    /// Whether the event existed already: its `event_id` was repeated within the window.
    pub duplicate: bool,
}

/// The result of one retry of several: the delivery that is sent, or why none is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetriedDelivery {
    /// The delivery that was asked for.
    pub id: DeliveryId,
    pub sent: Option<Box<Delivery>>,
    /// The code and the sentence of the rejection.
    pub rejection: Option<(String, String)>,
}

/// A receipt. `replayed` says that it is the stored answer to an earlier request with the same `Idempotency-Key`.
#[derive(Clone, PartialEq)]
pub struct Applied {
    pub receipt: Receipt,
    pub replayed: bool,
    /// `IdempotencyKey::extra` of the first request, if `replayed`.
    pub extra: Option<Bytes>,
}

impl fmt::Debug for Applied {
    /// Omits `extra`, which may be the text of a new key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Applied");
        shown.field("receipt", &self.receipt).field("replayed", &self.replayed).finish_non_exhaustive()
    }
}

/// Why a command was rejected. It changed nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    #[error("{0} not found")]
    NotFound(&'static str),
    /// `code` is the stable code of the problem document. `pointer` is a JSON Pointer (RFC 6901) to the value at fault, if the
    /// request body has it.
    #[error("{detail}")]
    Conflict { code: &'static str, detail: String, pointer: Option<String> },
    /// A value that only the store can check. `pointer` is a JSON Pointer (RFC 6901) into the request body.
    #[error("{detail}")]
    Invalid { pointer: String, detail: String },
    /// The webhook has changed since it was read. The caller reads it again and repeats the command.
    #[error("changed since it was read")]
    Stale,
    /// The free space is below `min_free_bytes`.
    #[error("the disk is full")]
    DiskFull,
    /// An answer requires a standby, and none has confirmed the commit. The change may be stored nevertheless.
    #[error("no standby has it")]
    Unconfirmed,
    /// This node no longer owns the store of the cluster. The change may be stored nevertheless.
    #[error("another node may own the store now")]
    TenureEnded,
    /// Storage failed. Nothing of the command is visible.
    #[error("storage failed: {0}")]
    Failed(String),
}

/// A new signing secret for a webhook that came without one.
pub fn first_secret(text: String, now: Time) -> Vec<SigningSecret> {
    vec![SigningSecret { text, created_at: now, expires_at: None }]
}
