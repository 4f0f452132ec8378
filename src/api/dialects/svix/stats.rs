//! Counts of an endpoint's attempts.

use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::request_context::RequestContext;
use crate::api::step::Step;

use super::errors::refused;
use super::ids;
use super::query::{SINCE, SvixQuery, UNTIL};
use crate::api::dialects::derived::ok;

const DAY_MS: i64 = 86_400_000;
/// The longest span. The clocks of callers may differ by some minutes.
const SPAN_MS: i64 = 28 * DAY_MS;
const SKEW_MS: i64 = 5 * 60_000;

/// Attempts by their status. The last three are always 0, because an attempt is shown once it has ended.
#[derive(Serialize, JsonSchema)]
pub struct SvixStats {
    success: u64,
    fail: u64,
    pending: u64,
    sending: u64,
    canceled: u64,
}

/// Attempts by their outcome.
#[derive(Serialize, JsonSchema)]
pub struct SvixAttemptStats {
    success: u64,
    fail: u64,
    canceled: u64,
}

/// `GET …/endpoint/{endpoint_id}/stats`, by the minute.
pub fn get(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (success, fail) = count(context, request)?;
    ok(&SvixStats { success, fail, pending: 0, sending: 0, canceled: 0 })
}

/// `GET …/endpoint/{endpoint_id}/attempt-stats`, by the minute.
pub fn attempts(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (success, fail) = count(context, request)?;
    ok(&SvixAttemptStats { success, fail, canceled: 0 })
}

/// The attempts within the span of the query that succeeded, and those that failed.
fn count(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<(u64, u64), ApiError> {
    let webhook = ids::endpoint(context, request)?.1;
    let query = SvixQuery::read(request)?;
    let until = query.time(&UNTIL)?.unwrap_or(context.now);
    let since = query.time(&SINCE)?.unwrap_or_else(|| until.minus_ms(SPAN_MS));
    if until > context.now {
        return Err(refused("invalid_range", "until must not lie in the future"));
    }
    if since > until || until.since(since) > SPAN_MS + SKEW_MS {
        return Err(refused("invalid_range", "since must lie before until, and at most 28 days"));
    }
    let span = context.store.webhook_hours(webhook.id, since)?;
    let (mut attempts, mut fail) = (0, 0);
    for (_, counts) in span.minutes().filter(|(minute, _)| (since.minute()..=until.minute()).contains(minute)) {
        attempts += u64::from(counts.attempts);
        fail += u64::from(counts.failures);
    }
    Ok((attempts.saturating_sub(fail), fail))
}
