//! `GET /v1/webhooks/{id}/health`: a webhook's state, then a word each about the last 24 hours (docs/concepts.md).

use std::collections::HashSet;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::limits::LIMIT_MAX;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::figures::Minute;
use crate::model::time::DAY_MS;
use crate::model::webhook::{CircuitState, DisabledReason, Webhook, WebhookState, WebhookStatus};
use crate::model::{DeliveryId, Time, WebhookId};
use crate::rules::health::{self, Health, HealthInput};
use crate::rules::hold;
use crate::store::ListWindow;

use super::waiting_for::WaitingForView;
use super::webhook_live::QueueHead;
use super::webhooks;

/// Number of the latest attempted deliveries that `activity` is derived from.
const RECENT_DELIVERIES: usize = 10;

/// How a webhook does: its state, and a word each for the last 24 hours.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Health")]
pub struct HealthView {
    state: HealthStateView,
    #[schemars(extend("enum" = ["excellent", "good", "warning", "critical", "unknown"]))]
    success_rate: &'static str,
    #[schemars(extend("enum" = ["fast", "acceptable", "slow", "critical", "unknown"]))]
    response_time: &'static str,
    #[schemars(extend("enum" = ["active", "idle", "failing", "unknown"]))]
    activity: &'static str,
    reasons: HealthReasonsView,
}

/// Whether the webhook sends, and why not.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct HealthStateView {
    #[schemars(extend("enum" = ["enabled", "paused", "disabled"]))]
    status: &'static str,
    /// When `status` changed last; null if an older version changed it.
    since: Option<Time>,
    #[schemars(extend("enum" = ["manual", "failures", "gone", null]))]
    disabled_reason: Option<&'static str>,
    /// Why nothing is sent now; null if nothing holds the deliveries.
    waiting_for: Option<WaitingForView>,
    #[schemars(extend("enum" = ["closed", "open", "half_open"]))]
    circuit: &'static str,
    failing_since: Option<Time>,
    consecutive_failures: u32,
    failed_probes: u32,
    /// A failed attempt from then on disables the webhook.
    disable_at: Option<Time>,
    /// Deliveries that are not final.
    waiting: u64,
    /// Since when the next delivery to go waits.
    oldest_waiting: Option<Time>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct HealthReasonsView {
    state: String,
    success_rate: String,
    response_time: String,
    activity: String,
}

impl HealthStateView {
    fn new(
        webhook: &Webhook,
        (shown, head): (&WebhookState, Option<QueueHead>),
        waiting: u64,
        oldest_waiting: Option<Time>,
    ) -> HealthStateView {
        HealthStateView {
            status: match webhook.status {
                WebhookStatus::Enabled => "enabled",
                WebhookStatus::Paused => "paused",
                WebhookStatus::Disabled => "disabled",
            },
            since: webhook.status_since,
            disabled_reason: webhook.disabled_reason.map(|reason| match reason {
                DisabledReason::Manual => "manual",
                DisabledReason::Failures => "failures",
                DisabledReason::Gone => "gone",
            }),
            waiting_for: WaitingForView::of(webhook, shown, head),
            circuit: match shown.circuit {
                CircuitState::Closed => "closed",
                CircuitState::Open => "open",
                CircuitState::HalfOpen => "half_open",
            },
            failing_since: shown.failing_since,
            consecutive_failures: shown.consecutive_failures,
            failed_probes: shown.failed_probes,
            disable_at: hold::disable_at(webhook, shown),
            waiting,
            oldest_waiting,
        }
    }
}

/// `GET /v1/webhooks/{id}/health`.
pub fn of_webhook(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    let shown = webhooks::state_now(context, webhook.id);
    let figures = context.store.figures(webhook.id, context.now)?;
    let health = words(context, webhook.id, &figures.minutes)?;
    let oldest_waiting = context.store.waiting_since(&webhook, context.now)?;
    let head = QueueHead::of(context.store, &webhook, context.now);
    let answer = HealthView {
        state: HealthStateView::new(&webhook, (&shown, head), figures.sums.open(), oldest_waiting),
        success_rate: health.success_rate.state,
        response_time: health.response_time.state,
        activity: health.activity.state,
        reasons: HealthReasonsView {
            state: hold::sentence(&webhook, &shown),
            success_rate: health.success_rate.reason,
            response_time: health.response_time.reason,
            activity: health.activity.reason,
        },
    };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &answer)))
}

/// A word each about the last 24 hours of a webhook with the counts of these minutes.
pub fn words(context: &ApiContext<'_>, webhook: WebhookId, minutes: &[(u32, Minute)]) -> Result<Health, ApiError> {
    Ok(health::health(&measured(minutes, &last_attempts(context, webhook)?)))
}

/// The fields of an attempt that health is derived from.
#[derive(Debug, Clone, Copy)]
struct RecentAttempt {
    delivery: DeliveryId,
    success: bool,
    response_time_ms: Option<u32>,
}

/// Up to `LIMIT_MAX` attempts of the last 24 hours, newest first.
fn last_attempts(context: &ApiContext<'_>, webhook: WebhookId) -> Result<Vec<RecentAttempt>, ApiError> {
    let from = Some(context.now.minus_ms(DAY_MS));
    let window = ListWindow { from, ..ListWindow::newest(LIMIT_MAX as usize) };
    Ok(context.store.attempt_fronts(webhook, window, context.now, |front| RecentAttempt {
        delivery: front.delivery_id,
        success: front.success,
        response_time_ms: front.response_time_ms,
    })?)
}

/// The counts of the last 24 hours. `attempts` are the newest of them, newest first.
fn measured(minutes: &[(u32, Minute)], attempts: &[RecentAttempt]) -> HealthInput {
    let (mut made, mut failed) = (0, 0);
    for (_, minute) in minutes {
        made += u64::from(minute.attempts);
        failed += u64::from(minute.failures);
    }
    let responses: Vec<u64> = attempts.iter().filter_map(|attempt| attempt.response_time_ms).map(u64::from).collect();
    // The newest attempt of a delivery comes first.
    let mut seen = HashSet::new();
    let recent = attempts.iter().filter(|attempt| seen.insert(attempt.delivery)).take(RECENT_DELIVERIES);
    let (mut recent_deliveries, mut recent_failures) = (0, 0);
    for attempt in recent {
        recent_deliveries += 1;
        recent_failures += u32::from(!attempt.success);
    }
    HealthInput {
        average_response_ms: health::average(responses.iter().sum(), responses.len() as u64),
        attempts: made,
        failures: failed,
        recent_deliveries,
        recent_failures,
    }
}
