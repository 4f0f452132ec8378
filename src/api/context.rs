//! What a handler may look at: the store, the settings, the time; and where its randomness comes from.

use std::sync::Arc;

use serde::Serialize;

use super::openapi::Description;
use crate::model::Time;
use crate::rules::target;
use crate::store::{Registry, Store};

/// The settings that requests are judged by (api.md section 9).
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// The whole body of `POST /v1/events`.
    pub max_event_bytes: usize,
    pub retention_ms: i64,
    pub idempotency_window_ms: i64,
    /// Where webhooks may point.
    pub policy: target::TargetPolicy,
    /// What clients reach this daemon by, without a slash at the end.
    pub public_url: String,
    pub metrics: MetricsAccess,
    /// The OpenAPI document of what is served.
    pub description: Description,
}

/// Who may read `/metrics` on the main listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAccess {
    Everybody,
    /// Whoever shows, as a bearer token, the text with this SHA-256.
    Key([u8; 32]),
    /// Nobody: it has its own listener.
    Elsewhere,
}

/// One thing that is wrong with the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthIssue {
    /// Stable, in snake case.
    pub code: &'static str,
    pub detail: String,
}

/// What only the running daemon knows about itself.
pub trait HealthSource: Send + Sync {
    /// Why it is not ready; empty when it is.
    fn unready(&self) -> Vec<HealthIssue>;
    /// What somebody should look at although it is ready.
    fn warnings(&self) -> Vec<HealthIssue>;
    /// Prometheus text format.
    fn metrics(&self) -> String;
}

pub struct ApiContext<'a> {
    pub store: &'a Store,
    /// One value for the whole call: what is checked and what is answered agree.
    pub registry: Arc<Registry>,
    pub settings: &'a ApiSettings,
    pub health_source: &'a dyn HealthSource,
    pub now: Time,
    /// When the call was first handled: `now`, except after a `Step::Wait`.
    pub since: Time,
    /// Fills a slice with random bytes fit for secrets.
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
