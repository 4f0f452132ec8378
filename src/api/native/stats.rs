//! The figures of a webhook, or of everything within the caller's tenant: of all time, or of the last hours or days.
//!
//! Invariant: `GET /v1/stats` reads the figures of the app or the organization, so its cost does not follow the number of
//! webhooks.

use std::collections::BTreeMap;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::{ApiContext, QuotaUse};
use crate::api::doc::{RouteDoc, doc, ok};
use crate::api::error::ApiError;
use crate::api::params::{Param, ParamValues, Params, wrong};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::Time;
use crate::model::figures::Minute;
use crate::model::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::rules::health;
use crate::store::{HourSpan, TenantScope, WebhookFigures};

use super::stats_counts::{CountsView, ResponseTimesView, SpanCounts};
use super::webhooks;

/// Hours of the series, the current one included.
const HOURS: u32 = 24;
const MINUTES_PER_HOUR: u32 = 60;

pub const LAST: Param = Param::new(
    "last",
    ParamValues::Pattern(last_pattern),
    "Only the last `1h`, `24h`, `7d` or `31d`, to the minute. Outcomes and response times are of the clock hours in it.",
);

/// The values of `last`, with their lengths.
const SPANS: [(&str, i64); 4] = [("1h", HOUR_MS), ("24h", DAY_MS), ("7d", 7 * DAY_MS), ("31d", 31 * DAY_MS)];

fn last_pattern() -> String {
    format!("^({})$", SPANS.map(|(name, _)| name).join("|"))
}

/// The length of the span that `last` names, in milliseconds.
pub fn last_ms(query: &Params) -> Result<Option<i64>, ApiError> {
    let Some(text) = query.text(&LAST) else { return Ok(None) };
    let found = SPANS.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, ms)| Some(ms)).ok_or_else(|| wrong(LAST.name, "must be 1h, 24h, 7d or 31d"))
}

pub const WEBHOOK_DOC: RouteDoc = doc(
    "getWebhookStats",
    "figures",
    "A webhook's figures",
    &[ok::<WebhookStatsView>("Sums of all time or of a span, and the last day.")],
);
pub const ALL_DOC: RouteDoc = doc(
    "getStats",
    "figures",
    "The figures of everything the key can see",
    &[ok::<AllStatsView>("Sums of all time or of a span, the last day, and what waits.")],
);

#[derive(Serialize, JsonSchema)]
pub struct StatsView {
    /// Deliveries with at least one attempt.
    total_events: u64,
    successful_deliveries: u64,
    /// Failed attempts.
    failed_deliveries: u64,
    /// Deliveries that are not final.
    pending_deliveries: u64,
    /// Percent of the attempts that succeeded, one decimal.
    #[schemars(range(min = 0, max = 100))]
    success_rate: Option<f64>,
    #[serde(flatten)]
    responses: ResponseTimesView,
    last_delivery: Option<Time>,
    last_24h_events: u64,
    last_24h_failures: u64,
    /// The last 24 clock hours, oldest first.
    hours: Vec<HourView>,
    #[serde(flatten)]
    span: StatsSpanView,
}

/// The span of the figures, and its counts.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct StatsSpanView {
    /// The first counted minute; null if the figures are of all time.
    from: Option<Time>,
    to: Time,
    /// Counts before this time are of an earlier version, which counted less; null if the span is complete.
    complete_from: Option<Time>,
    #[serde(flatten)]
    counts: CountsView,
    /// Attempts by their outcome; null if the figures are of all time.
    by_outcome: Option<BTreeMap<&'static str, u64>>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct HourView {
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

/// Figures of everything that the caller can see, removed webhooks included.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AllStats")]
pub struct AllStatsView {
    #[serde(flatten)]
    stats: StatsView,
    /// Deliveries that are not final.
    backlog: u64,
    /// When the oldest due delivery became due; null if none is due.
    oldest_due: Option<Time>,
    /// The quotas that have a limit. Beyond one, requests are answered with 429.
    quotas: Vec<QuotaUse>,
}

impl StatsView {
    /// Figures of all time.
    fn new(figures: &WebhookFigures, now: Time) -> Self {
        let sums = &figures.sums;
        let mut day = (0, 0);
        for (_, minute) in &figures.minutes {
            day.0 += u64::from(minute.started);
            day.1 += u64::from(minute.failures);
        }
        let counts = CountsView::of_sums(sums);
        StatsView {
            total_events: sums.started,
            successful_deliveries: sums.delivered,
            failed_deliveries: sums.attempts_failed,
            pending_deliveries: sums.open(),
            success_rate: health::success_rate(sums.attempts_succeeded(), sums.attempts_failed),
            responses: ResponseTimesView::of_sums(sums),
            last_delivery: sums.last_attempt_at,
            last_24h_events: day.0,
            last_24h_failures: day.1,
            hours: hours(&figures.minutes, now),
            span: StatsSpanView { from: None, to: now, complete_from: None, counts, by_outcome: None },
        }
    }

    /// The same with the figures of the minutes since `from` in place of those of all time.
    fn since(self, from: Time, hours: &HourSpan) -> Self {
        let counted = counted_since(from, hours);
        StatsView {
            total_events: counted.started,
            successful_deliveries: counted.delivered(),
            failed_deliveries: counted.failures(),
            success_rate: counted.success_rate(),
            responses: counted.responses(),
            span: StatsSpanView {
                from: Some(from),
                complete_from: complete_from(hours, from, self.span.to),
                by_outcome: Some(counted.by_outcome()),
                counts: counted.counts,
                ..self.span
            },
            ..self
        }
    }
}

/// Since when the figures of a span that begins at `from` are complete. `None` if the whole span is.
pub fn complete_from(hours: &HourSpan, from: Time, now: Time) -> Option<Time> {
    hours.complete_from.map(|at| at.min(now)).filter(|at| *at > from)
}

/// The counts of the minutes since `from`, and the outcomes and response times of the hours since then.
pub fn counted_since(from: Time, hours: &HourSpan) -> SpanCounts {
    let mut counted = SpanCounts::default();
    hours.minutes().filter(|(minute, _)| *minute >= from.minute()).for_each(|(_, counts)| counted.add_minute(&counts));
    hours.hours.iter().filter(|(hour, _)| **hour >= from.hour()).for_each(|(_, hour)| counted.add_hour(hour));
    counted
}

/// The first minute of the span that ends with the running minute.
pub fn first_minute(now: Time, span_ms: i64) -> Time {
    let minute = i64::from(now.minus_ms(span_ms).minute()) + 1;
    Time(minute * MINUTE_MS)
}

/// The last 24 clock hours, oldest first, empty ones included.
pub fn hours(minutes: &[(u32, Minute)], now: Time) -> Vec<HourView> {
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

/// `GET /v1/webhooks/{id}/stats`.
pub fn of_webhook(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    let span_ms = last_ms(&request.query)?;
    let mut stats = StatsView::new(&context.store.figures(webhook.id, context.now)?, context.now);
    if let Some(span_ms) = span_ms {
        let from = first_minute(context.now, span_ms);
        stats = stats.since(from, &context.store.webhook_hours(webhook.id, from)?);
    }
    let oldest_waiting = context.store.waiting_since(&webhook, context.now)?;
    let lag_ms = oldest_waiting.map_or(0, |since| context.now.since(since).max(0));
    let view = WebhookStatsView { stats, oldest_waiting, lag_ms };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view)))
}

/// `GET /v1/stats`.
pub fn all(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let tenant = narrowed(context, request)?;
    let span_ms = last_ms(&request.query)?;
    let mut stats = StatsView::new(&context.store.tenant_figures(tenant, context.now)?, context.now);
    if let Some(span_ms) = span_ms {
        let from = first_minute(context.now, span_ms);
        stats = stats.since(from, &context.store.tenant_hours(tenant, from, context.now)?);
    }
    let waiting = context.store.tenant_backlog(tenant, context.now)?;
    let quotas = context.health_source.quotas(tenant);
    let view = AllStatsView { stats, backlog: waiting.waiting, oldest_due: waiting.oldest_due, quotas };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view)))
}

/// The caller's tenant, narrowed to the app that the query names.
pub fn narrowed(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<TenantScope, ApiError> {
    let tenant = request.tenant();
    let Some(name) = request.query.text(&webhooks::APP_ID) else { return Ok(tenant) };
    let app = context.registry.app_named(tenant, name).ok_or_else(|| ApiError::not_found("app"))?;
    Ok(TenantScope { app: Some(app.id), ..tenant })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::figures::{HourFigures, Sums};

    #[test]
    fn the_hours_are_the_last_24_with_their_attempts() {
        let now = Time(1_772_704_800_120);
        let minute = |n| Minute { started: 1, attempts: n, failures: 1, ..Minute::default() };
        let hour = now.hour();
        let minutes = [
            (hour * 60 - 24 * 60 + 59, minute(1)),
            ((hour - 23) * 60, minute(2)),
            (hour * 60 - 1, minute(4)),
            (hour * 60, minute(8)),
        ];
        let hours = hours(&minutes, now);
        assert_eq!(hours.len(), 24);
        assert_eq!(hours[0].attempts, 2, "an older attempt is in no hour");
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
        // Two attempts succeeded although their deliveries were cancelled meanwhile.
        let sums = Sums { started: 9, delivered: 5, cancelled: 2, attempts: 9, attempts_failed: 2, ..Sums::default() };
        let view =
            serde_json::to_value(StatsView::new(&WebhookFigures { sums, minutes: Vec::new() }, Time(0))).unwrap();
        assert_eq!(view["success_rate"], 77.8);
    }

    #[test]
    fn a_span_counts_from_its_first_minute_and_its_hours_from_their_begin() {
        let now = Time(1_772_704_800_120);
        let from = first_minute(now, HOUR_MS);
        assert_eq!(from, Time(1_772_704_800_000 - 59 * MINUTE_MS), "the running minute is the 60th");
        let mut hours = HourSpan::default();
        let before: &mut HourFigures = hours.hours.entry(now.hour() - 1).or_default();
        before.minute(0).attempts = 7;
        before.minute(1).attempts = 2;
        before.attempt(crate::model::AttemptOutcome::Timeout, None);
        hours.hours.entry(now.hour()).or_default().minute(0).made = 3;
        let figures = WebhookFigures::default();
        let view = serde_json::to_value(StatsView::new(&figures, now).since(from, &hours)).unwrap();
        assert_eq!((&view["attempts"], &view["made"]), (&2.into(), &3.into()));
        assert_eq!(view["by_outcome"], serde_json::json!({ "timeout": 1 }));
        assert_eq!(view["complete_from"], serde_json::Value::Null);
        let late = HourSpan { complete_from: Some(now), ..hours };
        let view = serde_json::to_value(StatsView::new(&figures, now).since(from, &late)).unwrap();
        assert_eq!(view["complete_from"], serde_json::json!(now));
    }
}
