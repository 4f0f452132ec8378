//! Figures of one webhook, or of all that a key can see (api.md section 6).

use std::collections::BTreeMap;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::{ApiContext, QuotaUse};
use crate::api::error::ApiError;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::figures::Minute;
use crate::model::time::HOUR_MS;
use crate::model::{Time, WebhookId};
use crate::rules::{health, histogram};
use crate::store::WebhookFigures;

use super::webhooks;

/// Hours of the series, the current one included.
const HOURS: u32 = 24;
const MINUTES_PER_HOUR: u32 = 60;

#[derive(Serialize, JsonSchema)]
pub struct StatsView {
    /// Deliveries with at least one attempt.
    total_events: u64,
    successful_deliveries: u64,
    /// Failed attempts.
    failed_deliveries: u64,
    pending_deliveries: u64,
    /// Percent, one decimal.
    #[schemars(range(min = 0, max = 100))]
    success_rate: Option<f64>,
    /// In milliseconds.
    average_response_time_ms: Option<u32>,
    /// In milliseconds.
    p50_response_time_ms: Option<u32>,
    /// In milliseconds.
    p95_response_time_ms: Option<u32>,
    /// In milliseconds.
    p99_response_time_ms: Option<u32>,
    last_delivery: Option<Time>,
    last_24h_events: u64,
    last_24h_failures: u64,
    /// The last 24 clock hours, oldest first.
    hours: Vec<HourView>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
struct HourView {
    hour: Time,
    attempts: u64,
    failures: u64,
}

/// Figures of one webhook, and how far it is behind.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Stats")]
pub struct WebhookStatsView {
    #[serde(flatten)]
    stats: StatsView,
    /// When the oldest due delivery became due. For an ordered webhook, when its queue head first did.
    oldest_waiting: Option<Time>,
    /// The age of that time in milliseconds. 0 if no delivery waits.
    #[schemars(range(min = 0))]
    lag_ms: i64,
}

/// Figures of all webhooks of the caller.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AllStats")]
pub struct AllStatsView {
    #[serde(flatten)]
    stats: StatsView,
    backlog: u64,
    oldest_due: Option<Time>,
    /// The quotas that have a limit. Beyond one, requests are answered with 429.
    quotas: Vec<QuotaUse>,
}

impl StatsView {
    fn new(figures: &WebhookFigures, now: Time) -> Self {
        let sums = &figures.sums;
        let mut day = (0, 0);
        for (_, minute) in &figures.minutes {
            day.0 += u64::from(minute.started);
            day.1 += u64::from(minute.failures);
        }
        StatsView {
            total_events: sums.started,
            successful_deliveries: sums.delivered,
            failed_deliveries: sums.attempts_failed,
            pending_deliveries: sums.open(),
            success_rate: health::success_rate(sums.delivered, sums.attempts_failed),
            average_response_time_ms: health::average(sums.response_ms, sums.responses),
            p50_response_time_ms: histogram::percentile(&sums.histogram, 50),
            p95_response_time_ms: histogram::percentile(&sums.histogram, 95),
            p99_response_time_ms: histogram::percentile(&sums.histogram, 99),
            last_delivery: sums.last_attempt_at,
            last_24h_events: day.0,
            last_24h_failures: day.1,
            hours: hours(&figures.minutes, now),
        }
    }
}

/// The last 24 clock hours, oldest first, empty ones included.
fn hours(minutes: &[(u32, Minute)], now: Time) -> Vec<HourView> {
    let last = now.hour();
    let first = last.saturating_sub(HOURS - 1);
    let mut hours: Vec<HourView> = (first..=last)
        .map(|hour| HourView { hour: Time(i64::from(hour) * HOUR_MS), attempts: 0, failures: 0 })
        .collect();
    for (minute, counts) in minutes {
        let index = (minute / MINUTES_PER_HOUR).checked_sub(first);
        if let Some(hour) = index.and_then(|index| hours.get_mut(index as usize)) {
            hour.attempts += u64::from(counts.attempts);
            hour.failures += u64::from(counts.failures);
        }
    }
    hours
}

/// The summed figures of several webhooks.
pub fn together(context: &ApiContext<'_>, webhooks: &[WebhookId]) -> Result<WebhookFigures, ApiError> {
    let mut all = WebhookFigures::default();
    let mut minutes: BTreeMap<u32, Minute> = BTreeMap::new();
    for webhook in webhooks {
        let figures = context.store.figures(*webhook, context.now)?;
        all.sums.add(&figures.sums);
        for (minute, counts) in figures.minutes {
            minutes.entry(minute).or_default().add(counts);
        }
    }
    all.minutes = minutes.into_iter().collect();
    Ok(all)
}

/// `GET /v1/webhooks/{id}/stats`.
pub fn of_webhook(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    let figures = context.store.figures(webhook.id, context.now)?;
    let oldest_waiting = context.store.waiting_since(&webhook, context.now)?;
    let lag_ms = oldest_waiting.map_or(0, |since| context.now.since(since).max(0));
    let view = WebhookStatsView { stats: StatsView::new(&figures, context.now), oldest_waiting, lag_ms };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view)))
}

/// `GET /v1/stats`.
pub fn all(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhooks: Vec<WebhookId> =
        context.registry.webhooks_within(request.tenant()).map(|webhook| webhook.id).collect();
    let stats = StatsView::new(&together(context, &webhooks)?, context.now);
    let waiting = context.store.backlog(&webhooks, context.now)?;
    let quotas = context.health_source.quotas(request.tenant());
    let view = AllStatsView { stats, backlog: waiting.waiting, oldest_due: waiting.oldest_due, quotas };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::figures::Sums;

    #[test]
    fn the_hours_are_the_last_24_and_take_what_falls_into_them() {
        let now = Time(1_772_704_800_120);
        let minute = |n| Minute { started: 1, attempts: n, failures: 1 };
        let hour = now.hour();
        let minutes = [
            (hour * 60 - 24 * 60 + 59, minute(1)),
            ((hour - 23) * 60, minute(2)),
            (hour * 60 - 1, minute(4)),
            (hour * 60, minute(8)),
        ];
        let hours = hours(&minutes, now);
        assert_eq!(hours.len(), 24);
        assert_eq!(hours[0].attempts, 2, "what is older is in no hour");
        assert_eq!(hours[22].attempts, 4);
        assert_eq!(hours[23], HourView { hour: Time(1_772_704_800_000), attempts: 8, failures: 1 });
    }

    #[test]
    fn without_a_sample_there_is_no_rate_and_no_time() {
        let view = serde_json::to_value(StatsView::new(&WebhookFigures::default(), Time(0))).unwrap();
        for name in ["success_rate", "average_response_time_ms", "p99_response_time_ms", "last_delivery"] {
            assert!(view[name].is_null(), "{name}");
        }
        assert_eq!(view["total_events"], 0);
    }

    #[test]
    fn the_rate_counts_failed_attempts() {
        let sums = Sums { started: 1_250, delivered: 1_235, attempts_failed: 15, deliveries: 1_250, ..Sums::default() };
        let view =
            serde_json::to_value(StatsView::new(&WebhookFigures { sums, minutes: Vec::new() }, Time(0))).unwrap();
        assert_eq!(view["success_rate"], 98.8);
        assert_eq!(view["pending_deliveries"], 15);
    }
}
