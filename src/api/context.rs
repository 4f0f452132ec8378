//! The context of a handler: store, settings, time and randomness.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;

use crate::model::machine::MachineState;
use crate::model::{AttemptId, Time, Webhook, WebhookId};
use crate::rules::exposition::ExpositionFormat;
use crate::rules::target;
use crate::rules::waiting::SendingPace;
use crate::store::{Registry, Store, TenantScope};

use super::jwt::JwtSettings;
use super::logins::PageSettings;

/// The settings that apply to requests (packaging/postrider.toml explains each).
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// Maximum size of the body of `POST /v1/events`.
    pub max_event_bytes: usize,
    pub retention_ms: i64,
    pub idempotency_window_ms: i64,
    /// The targets that webhooks may have.
    pub policy: target::TargetPolicy,
    /// The URL that clients use, without a trailing slash.
    pub public_url: String,
    pub metrics: MetricsAccess,
    pub pages: PageSettings,
    /// The lists of `DIALECT_LISTS` by name. A list that is not there is empty.
    pub dialect_lists: BTreeMap<&'static str, Vec<String>>,
    /// The tokens of a Svix server that the Svix shape accepts. `None` for none.
    pub foreign_tokens: Option<JwtSettings>,
}

/// The clients that may read `/metrics` on the main listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAccess {
    Everybody,
    /// Clients with the bearer token that has this SHA-256.
    Key([u8; 32]),
    /// Not served on this listener, because it has its own.
    Elsewhere,
}

/// One problem of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct HealthIssue {
    /// A stable name in snake case.
    pub code: &'static str,
    /// One sentence for people.
    pub detail: String,
}

/// The state that only the running daemon knows.
pub trait HealthSource: Send + Sync {
    /// The reasons why the daemon is not ready. Empty if it is ready.
    fn unready(&self) -> Vec<HealthIssue>;
    /// The problems that need attention although the daemon is ready.
    fn warnings(&self) -> Vec<HealthIssue>;
    /// Requests to a webhook that have no answer yet, and outcomes that are not durable.
    fn in_flight(&self, webhook: WebhookId) -> u32;
    /// The requests of a webhook, and the time from which its rate and its app's allow the next one.
    fn pace(&self, webhook: &Webhook) -> SendingPace;
    /// The last id that a reader of attempts may pass: `newest`, or less while an attempt that may have a lower id is not
    /// recorded yet. `has_drawn_ids` says whether attempts are read whose ids are drawn before their requests.
    fn pass_attempts(&self, newest: AttemptId, has_drawn_ids: bool) -> AttemptId;
    /// The daemon's own figures now.
    fn machine(&self) -> MachineState;
    /// The metrics in this exposition format.
    fn metrics(&self, format: ExpositionFormat) -> String;
    /// The use of the quotas that the tenant has.
    fn quotas(&self, tenant: TenantScope) -> Vec<QuotaUse>;
}

/// The use of a quota that has a limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct QuotaUse {
    /// The setting in the section `quotas`: `events_per_second`, `bytes_per_day`, `webhooks_per_app`,
    /// `webhooks_per_organization` or `waiting_deliveries`.
    pub quota: &'static str,
    pub limit: u64,
    /// For an organization's key the highest use of one app.
    pub used: u64,
}

/// The inputs of a handler besides the request.
pub struct ApiContext<'a> {
    pub store: &'a Store,
    /// One version of the registry for the whole request, so that checks and response agree.
    pub registry: Arc<Registry>,
    pub settings: &'a ApiSettings,
    /// The text of the OpenAPI document.
    pub description: &'a dyn Fn() -> Bytes,
    /// The OpenAPI document as an HTML page.
    pub reference_page: &'a dyn Fn() -> Bytes,
    pub health_source: &'a dyn HealthSource,
    pub now: Time,
    /// The time of the first run of the handler: `now`, except after a `Step::Wait`.
    pub since: Time,
    /// The position that the run before a `Step::Wait` reached. `None` in the first run.
    pub reached: Option<u128>,
    /// Fills a slice with random bytes suitable for secrets.
    pub random: &'a mut dyn FnMut(&mut [u8]),
}

impl ApiContext<'_> {
    /// `N` random bytes.
    pub fn draw<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.random)(&mut bytes);
        bytes
    }
}
