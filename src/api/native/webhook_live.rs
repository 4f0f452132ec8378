//! The part of a webhook that its deliveries change: running state, last failure, requests in flight.

use serde::{Deserialize, Serialize};

use crate::api::context::ApiContext;
use crate::model::webhook::{CircuitState, Webhook, WebhookState, WebhookStatus};
use crate::model::{DeliveryId, Time, WebhookId};
use crate::rules::diagnosis::{DiagnosisReader, Failure};
use crate::store::Store;

/// The running state of a webhook as it is shown. It is stored with an answer that a caller may ask for again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookLive {
    /// As `Store::shown_state` gives it.
    #[serde(flatten)]
    pub state: WebhookState,
    /// The failure of the last attempt. `None` if the webhook is well.
    #[serde(default)]
    pub last_failure: Option<Failure>,
    /// Requests that have no answer yet, and outcomes that are not durable.
    #[serde(default)]
    pub in_flight: u32,
    /// `None` if no delivery stands behind another.
    #[serde(default)]
    pub queue_head: Option<QueueHead>,
    /// The reader of `reason`.
    #[serde(default)]
    pub reader: DiagnosisReader,
}

/// The delivery that stands before all others of a webhook that is ordered as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueHead {
    pub id: DeliveryId,
    /// Its next attempt. `None` if it is due.
    pub until: Option<Time>,
}

impl QueueHead {
    /// A damaged row gives no head. It must not hide the webhook.
    pub fn of(store: &Store, webhook: &Webhook, now: Time) -> Option<QueueHead> {
        let head = store.queue_head(webhook).ok().flatten()?;
        Some(QueueHead { id: head.id, until: head.next_attempt_at.filter(|at| *at > now) })
    }
}

impl WebhookLive {
    /// The state of `webhook` now.
    pub fn of(context: &ApiContext<'_>, reader: DiagnosisReader, webhook: &Webhook) -> WebhookLive {
        let state = context.store.state(webhook.id);
        let in_flight = context.health_source.in_flight(webhook.id);
        WebhookLive { reader, ..WebhookLive::with(context.store, webhook, state, context.now, in_flight) }
    }

    /// The same with another running state and a known number of requests in flight.
    pub fn with(store: &Store, webhook: &Webhook, state: WebhookState, now: Time, in_flight: u32) -> WebhookLive {
        let state = store.shown_state(webhook.id, state, now);
        let last_failure = may_have_failed(webhook, &state).then(|| last_failure(store, webhook.id, now)).flatten();
        WebhookLive {
            state,
            last_failure,
            in_flight,
            queue_head: QueueHead::of(store, webhook, now),
            reader: DiagnosisReader::default(),
        }
    }
}

/// Whether the last attempt is worth a look. A webhook that is well costs none.
fn may_have_failed(webhook: &Webhook, shown: &WebhookState) -> bool {
    shown.consecutive_failures > 0
        || shown.circuit != CircuitState::Closed
        || shown.retry_after.is_some()
        || webhook.status == WebhookStatus::Disabled
}

/// A damaged row gives no reason. It must not hide the webhook.
fn last_failure(store: &Store, webhook: WebhookId, now: Time) -> Option<Failure> {
    let last = store.last_attempt_of(webhook, now).ok().flatten()?;
    Failure::of_attempt(&last.made)
}
