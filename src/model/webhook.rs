//! A webhook: its configuration (docs/api.md) and its running state.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::id::{AppId, OrganizationId, WebhookId};
use super::time::Time;

/// Default of a webhook's `timeout_ms`.
pub const TIMEOUT_MS_DEFAULT: u32 = 15_000;
/// Default of a webhook's `max_in_flight`.
pub const IN_FLIGHT_DEFAULT: u32 = 16;
/// Default of a webhook's `disable_after_s`.
pub const DISABLE_AFTER_S_DEFAULT: u64 = 432_000;

/// A webhook's configuration. It changes only by command and is stored in `state.redb`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Webhook {
    pub id: WebhookId,
    pub org_id: OrganizationId,
    pub app_id: AppId,
    pub name: String,
    pub description: Option<String>,
    pub url: String,
    pub method: WebhookMethod,
    pub content_type: ContentType,
    pub field_set: FieldSet,
    pub include_html: bool,
    pub auth: Option<WebhookAuth>,
    pub headers: BTreeMap<String, String>,
    /// Exact types or patterns. Empty for all but `postrider.*`.
    pub event_types: Vec<String>,
    /// Empty for all channels.
    pub channels: Vec<String>,
    /// The declarative match on `data`, as the JSON text that was given.
    pub filter: Option<String>,
    pub status: WebhookStatus,
    pub disabled_reason: Option<DisabledReason>,
    pub encrypted: bool,
    /// The schemes that sign. Empty for unsigned requests.
    pub signature: Vec<SignatureScheme>,
    pub tls: Option<WebhookTls>,
    pub handshake: bool,
    pub success_rule: SuccessRule,
    /// Seconds from the start of one attempt to the next. The length is the number of retries.
    pub retry_schedule_s: Vec<u32>,
    pub timeout_ms: u32,
    pub max_in_flight: u32,
    pub rate_limit_per_s: Option<f64>,
    pub ordered: DeliveryOrder,
    /// Seconds from the first failure since the last success until the webhook is disabled. 0 for never.
    pub disable_after_s: u64,
    /// Live signing secrets, newest first. The first is the current one.
    pub secrets: Vec<SigningSecret>,
    pub created_at: Time,
    pub updated_at: Time,
    /// Rises with every change. A change that is based on an older version is rejected.
    pub version: u64,
    /// Names of `headers` whose values are credentials, besides names that say so themselves.
    #[serde(default)]
    pub secret_headers: Vec<String>,
    #[serde(default)]
    pub proxy: WebhookProxy,
    /// When `status` changed last. `None` if a version without this field changed it.
    #[serde(default)]
    pub status_since: Option<Time>,
    /// The caller's own name for the webhook, unique within its app. It names the webhook in paths.
    #[serde(default)]
    pub uid: Option<String>,
    /// The caller's own data. Postrider reads none of it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Its id in the system that it was imported from, unique within its app. Paths of the Svix shape take it.
    #[serde(default)]
    pub alias: Option<String>,
}

impl Webhook {
    /// A webhook with every default and without a name, a URL and a secret. The store sets its id and its times.
    pub fn new(org_id: OrganizationId, app_id: AppId) -> Webhook {
        Webhook {
            id: WebhookId::MIN,
            org_id,
            app_id,
            name: String::new(),
            description: None,
            url: String::new(),
            method: WebhookMethod::Post,
            content_type: ContentType::Json,
            field_set: FieldSet::Standard,
            include_html: false,
            auth: None,
            headers: BTreeMap::new(),
            event_types: Vec::new(),
            channels: Vec::new(),
            filter: None,
            status: WebhookStatus::Enabled,
            disabled_reason: None,
            encrypted: false,
            signature: vec![SignatureScheme::Standard],
            tls: None,
            handshake: false,
            success_rule: SuccessRule::Any2xx,
            retry_schedule_s: Vec::new(),
            timeout_ms: TIMEOUT_MS_DEFAULT,
            max_in_flight: IN_FLIGHT_DEFAULT,
            rate_limit_per_s: None,
            ordered: DeliveryOrder::No,
            disable_after_s: DISABLE_AFTER_S_DEFAULT,
            secrets: Vec::new(),
            created_at: Time::ZERO,
            updated_at: Time::ZERO,
            version: 0,
            secret_headers: Vec::new(),
            proxy: WebhookProxy::Default,
            status_since: None,
            uid: None,
            metadata: BTreeMap::new(),
            alias: None,
        }
    }

    /// The secrets that sign at `now`, newest first.
    pub fn live_secrets(&self, now: Time) -> impl Iterator<Item = &SigningSecret> {
        self.secrets.iter().filter(move |s| s.expires_at.is_none_or(|end| now < end))
    }
}

impl fmt::Debug for Webhook {
    /// Omits credentials, because a webhook may be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("id", &self.id)
            .field("url", &self.url)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A signing secret as shown (`whsec_…`), and the end of its validity.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningSecret {
    pub text: String,
    pub created_at: Time,
    /// `None` for the current secret.
    pub expires_at: Option<Time>,
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum WebhookMethod {
    Get,
    Put,
    #[default]
    Post,
    Patch,
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ContentType {
    #[default]
    #[serde(rename = "application/json")]
    Json,
    #[serde(rename = "application/x-www-form-urlencoded")]
    Form,
}

/// The shape of the body that is sent (docs/api.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldSet {
    #[default]
    Standard,
    Raw,
    Legacy,
    Dfns,
    Sent,
    Flat,
}

impl FieldSet {
    /// Whether the body contains the id of its attempt, which is then drawn before the request.
    pub const fn has_attempt_id(self) -> bool {
        matches!(self, FieldSet::Dfns)
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum WebhookAuth {
    Basic { username: String, password: String },
    Bearer { token: String },
    Header { name: String, value: String },
}

impl fmt::Debug for WebhookAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WebhookAuth::Basic { .. } => "Basic(…)",
            WebhookAuth::Bearer { .. } => "Bearer(…)",
            WebhookAuth::Header { .. } => "Header(…)",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookStatus {
    Enabled,
    Paused,
    Disabled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DisabledReason {
    Manual,
    Failures,
    Gone,
}

/// A signature scheme: Standard Webhooks HMAC, Standard Webhooks Ed25519, or a vendor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureScheme {
    Standard,
    Ed25519,
    Dfns,
    Sent,
    /// Svix's: Standard Webhooks HMAC over the message's id in Svix's form, in headers of Svix's names.
    Svix,
}

/// PEM texts: a pinned CA, and a client certificate with its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct WebhookTls {
    #[serde(default)]
    pub ca_pem: Option<String>,
    #[serde(default)]
    pub client_cert_pem: Option<String>,
    #[serde(default)]
    pub client_key_pem: Option<String>,
}

impl fmt::Debug for WebhookTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

/// Whether requests go through the proxy of the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookProxy {
    /// As set by `delivery.proxy` and `delivery.no_proxy`.
    #[default]
    Default,
    /// Directly, regardless of the settings.
    None,
}

/// The rule that decides which status codes count as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SuccessRule {
    #[serde(rename = "2xx")]
    Any2xx,
    #[serde(rename = "200")]
    Only200,
}

/// Whether deliveries go strictly one after another, and within which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryOrder {
    No,
    Webhook,
    Key,
}

/// The running state of a webhook. It is stored with the figures and not with the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WebhookState {
    /// Rises with every change. Of several copies the one with the highest number is valid.
    #[serde(rename = "n")]
    pub sequence: u64,
    #[serde(rename = "c", default)]
    pub consecutive_failures: u32,
    /// Time of the first failed attempt since the last success.
    #[serde(rename = "f", default)]
    pub failing_since: Option<Time>,
    #[serde(rename = "a", default)]
    pub last_attempt_at: Option<Time>,
    #[serde(rename = "s", default)]
    pub last_success_at: Option<Time>,
    #[serde(rename = "k", default)]
    pub circuit: CircuitState,
    /// While the circuit is open: when the next probe may go.
    #[serde(rename = "h", default)]
    pub hold_until: Option<Time>,
    /// Whether the warning at half of `disable_after_s` was published.
    #[serde(rename = "w", default)]
    pub warned: bool,
    /// Probes that failed since the circuit opened.
    #[serde(rename = "p", default)]
    pub failed_probes: u32,
    /// The time that a `Retry-After` asked for. Only its passing ends it.
    #[serde(rename = "r", default)]
    pub retry_after: Option<Time>,
}

impl WebhookState {
    /// The time before which nothing is sent.
    pub fn held_until(&self) -> Option<Time> {
        self.hold_until.max(self.retry_after)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    #[default]
    Closed,
    Open,
    HalfOpen,
}
