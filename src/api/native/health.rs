//! `GET /v1/webhooks/{id}/health`: a word each for success, speed and activity, with its reason (api.md section 6).

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::limits::LIMIT_MAX;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::AttemptOutcome;
use crate::rules::health::{self, HealthInput};
use crate::store::{DeliveryQuery, ListWindow};

use super::webhooks;

/// How many of the newest deliveries are judged.
const RECENT: usize = 10;

/// How a webhook does, in a word each.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Health")]
pub struct HealthView {
    #[schemars(extend("enum" = ["excellent", "good", "warning", "critical", "unknown"]))]
    success_rate: &'static str,
    #[schemars(extend("enum" = ["fast", "acceptable", "slow", "critical", "unknown"]))]
    response_time: &'static str,
    #[schemars(extend("enum" = ["active", "idle", "failing", "unknown"]))]
    activity: &'static str,
    reasons: HealthReasonsView,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct HealthReasonsView {
    success_rate: String,
    response_time: String,
    activity: String,
}

/// `GET /v1/webhooks/{id}/health`.
pub fn of_webhook(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    let figures = context.store.figures(webhook.id, context.now)?;
    let query = DeliveryQuery {
        tenant: request.tenant(),
        webhook: Some(webhook.id),
        event: None,
        status: None,
        event_type: None,
        status_code: None,
        outcome: None,
        search: None,
        ended: Default::default(),
        window: ListWindow { from: None, to: None, before: None, limit: LIMIT_MAX as usize },
    };
    // The newest deliveries with an attempt. A waiting delivery has none to judge.
    let newest = context.store.deliveries(&query, context.now)?;
    let tried: Vec<_> = newest.rows.iter().filter(|delivery| delivery.attempts > 0).take(RECENT).collect();
    let failed = tried.iter().filter(|delivery| delivery.last_outcome != Some(AttemptOutcome::Success)).count();
    let health = health::health(&HealthInput {
        success_rate: health::success_rate(figures.sums.delivered, figures.sums.attempts_failed),
        average_response_ms: health::average(figures.sums.response_ms, figures.sums.responses),
        attempts_last_day: figures.minutes.iter().map(|(_, minute)| u64::from(minute.attempts)).sum(),
        recent_deliveries: tried.len() as u32,
        recent_failures: failed as u32,
    });
    let answer = HealthView {
        success_rate: health.success_rate.state,
        response_time: health.response_time.state,
        activity: health.activity.state,
        reasons: HealthReasonsView {
            success_rate: health.success_rate.reason,
            response_time: health.response_time.reason,
            activity: health.activity.reason,
        },
    };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &answer)))
}
