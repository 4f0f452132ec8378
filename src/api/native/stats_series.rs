//! `GET /v1/stats/series`: figures by equal steps of time, with the deliveries that waited at the end of each.

use std::collections::BTreeMap;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::doc::{RouteDoc, doc, ok};
use crate::api::error::ApiError;
use crate::api::limits::SERIES_ROWS_MAX;
use crate::api::params::{FROM, Param, ParamValues, Params, TO, wrong};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::model::{Time, WebhookId};
use crate::store::{HourSpan, TenantScope};

use super::deliveries::WEBHOOK_ID;
use super::stats::{self, LAST};
use super::stats_counts::{CountsView, ResponseTimesView, SpanCounts};
use super::webhooks::APP_ID;

pub const STEP: Param = Param::new(
    "step",
    ParamValues::Pattern(step_pattern),
    "The length of a row in minutes, hours or days, such as `5m`, `1h` or `1d`. Rows begin at multiples of it in UTC.",
);

pub const QUERY: &[Param] = &[WEBHOOK_ID, APP_ID, FROM, TO, STEP, LAST];
pub const DOC: RouteDoc = doc(
    "getStatsSeries",
    "figures",
    "Figures by steps of time",
    &[ok::<SeriesView>("A row for each step, oldest first.")],
);

/// The longest step: 31 days.
const STEP_MS_MAX: i64 = 31 * DAY_MS;
/// Up to this span the default step is a minute. Beyond it, the default is an hour, and a day if hours would be too
/// many rows.
const MINUTES_SPAN_MS_MAX: i64 = 3 * HOUR_MS;

fn step_pattern() -> String {
    "^[1-9][0-9]{0,4}[mhd]$".to_owned()
}

/// Rows of figures, oldest first.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StatsSeries")]
pub struct SeriesView {
    from: Time,
    to: Time,
    #[schemars(range(min = 60))]
    step_s: i64,
    /// Counts before this time are of an earlier version, which counted less; null if the series is complete.
    complete_from: Option<Time>,
    data: Vec<SeriesRowView>,
}

/// The figures of one step.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StatsSeriesRow")]
pub struct SeriesRowView {
    from: Time,
    to: Time,
    #[serde(flatten)]
    counts: CountsView,
    /// Percent of the attempts that succeeded, one decimal.
    #[schemars(range(min = 0, max = 100))]
    success_rate: Option<f64>,
    /// Attempts by their outcome; null if the step is shorter than an hour.
    by_outcome: Option<BTreeMap<&'static str, u64>>,
    #[serde(flatten)]
    responses: ResponseTimesView,
    /// Deliveries that waited at the end of the row, or wait now; null before `complete_from`.
    waiting: Option<u64>,
}

/// The rows that a request asks for: `from` and `to` at multiples of `step_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    pub from: Time,
    to: Time,
    pub step_ms: i64,
}

impl Steps {
    /// The steps of a query, up to the one that contains `now`.
    fn read(query: &Params, now: Time) -> Result<Steps, ApiError> {
        let last_ms = stats::last_ms(query)?;
        let to = query.time(&TO)?.unwrap_or(now.plus_ms(1)).min(now.plus_ms(1));
        let from = match (query.time(&FROM)?, last_ms) {
            (Some(_), Some(_)) => return Err(wrong(LAST.name, "and from exclude each other")),
            (Some(from), None) => from.max(Time::ZERO),
            (None, span_ms) => to.minus_ms(span_ms.unwrap_or(DAY_MS)).max(Time::ZERO),
        };
        if from >= to {
            return Err(wrong(FROM.name, "must be before to, and before now"));
        }
        let span_ms = to.since(from);
        let step_ms = match read_step(query)? {
            Some(step_ms) => step_ms,
            None if span_ms <= MINUTES_SPAN_MS_MAX => MINUTE_MS,
            None if span_ms < SERIES_ROWS_MAX * HOUR_MS => HOUR_MS,
            None => DAY_MS,
        };
        let steps = Steps {
            from: Time(from.0.div_euclid(step_ms) * step_ms),
            to: Time((to.0 - 1).div_euclid(step_ms) * step_ms + step_ms),
            step_ms,
        };
        match steps.rows() {
            rows if rows > SERIES_ROWS_MAX => {
                let detail = format!("would make {rows} rows of this span; at most {SERIES_ROWS_MAX} are allowed");
                Err(wrong(STEP.name, &detail))
            }
            _ => Ok(steps),
        }
    }

    const fn rows(&self) -> i64 {
        self.to.since(self.from) / self.step_ms
    }

    /// The row of a time, counted from the first one. `None` if it is before or behind all rows.
    fn row_of(&self, at: Time) -> Option<usize> {
        let row = at.since(self.from).div_euclid(self.step_ms);
        usize::try_from(row).ok().filter(|_| row < self.rows())
    }

    fn counted(&self, hours: &HourSpan) -> Vec<SpanCounts> {
        let mut rows = vec![SpanCounts::default(); self.rows() as usize];
        for (minute, counts) in hours.minutes() {
            if let Some(row) = self.row_of(Time(i64::from(minute) * MINUTE_MS)) {
                rows[row].add_minute(&counts);
            }
        }
        for (hour, figures) in hours.hours.iter().filter(|_| self.has_hours()) {
            if let Some(row) = self.row_of(Time(i64::from(*hour) * HOUR_MS)) {
                rows[row].add_hour(figures);
            }
        }
        rows
    }

    /// Whether every row consists of whole hours.
    const fn has_hours(&self) -> bool {
        self.step_ms % HOUR_MS == 0
    }
}

/// The length of `step`, in milliseconds.
fn read_step(query: &Params) -> Result<Option<i64>, ApiError> {
    let Some(text) = query.text(&STEP) else { return Ok(None) };
    let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let unit_ms = match unit {
        "m" => Some(MINUTE_MS),
        "h" => Some(HOUR_MS),
        "d" => Some(DAY_MS),
        _ => None,
    };
    let is_whole = !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: Option<i64> = number.parse().ok().filter(|number| is_whole && *number <= 99_999);
    let step_ms = number.zip(unit_ms).map(|(number, unit_ms)| number * unit_ms);
    match step_ms.filter(|step_ms| *step_ms <= STEP_MS_MAX) {
        Some(step_ms) => Ok(Some(step_ms)),
        None => Err(wrong(STEP.name, "must be a number of minutes, hours or days such as 5m, 1h or 1d, at most 31d")),
    }
}

/// The rows, with the deliveries that waited at the end of each: those that wait now, less those made since, and those
/// that ended since. Before `complete_from` nothing is known of them.
pub fn rows(steps: Steps, hours: &HourSpan, waiting_now: u64) -> Vec<SeriesRowView> {
    let counted = steps.counted(hours);
    let behind = hours.minutes().filter(|(minute, _)| Time(i64::from(*minute) * MINUTE_MS) >= steps.to);
    let grown: i64 = behind.map(|(_, minute)| i64::from(minute.made) - i64::from(minute.ended())).sum();
    let mut waiting = waiting_now as i64 - grown;
    let mut rows = Vec::with_capacity(counted.len());
    for (number, span) in counted.into_iter().enumerate().rev() {
        let from = steps.from.plus_ms(number as i64 * steps.step_ms);
        let to = from.plus_ms(steps.step_ms);
        let is_known = hours.complete_from.is_none_or(|complete| to >= complete);
        rows.push(SeriesRowView {
            from,
            to,
            success_rate: span.success_rate(),
            by_outcome: steps.has_hours().then(|| span.by_outcome()),
            responses: span.responses(),
            waiting: is_known.then_some(waiting.max(0) as u64),
            counts: span.counts.clone(),
        });
        waiting -= span.counts.growth();
    }
    rows.reverse();
    rows
}

/// The owner of the figures of a series.
#[derive(Debug, Clone, Copy)]
enum SeriesOwner {
    Webhook(WebhookId),
    Tenant(TenantScope),
}

/// The steps of the last `span_ms`, of which the last one contains now.
pub const fn steps_until(now: Time, span_ms: i64, step_ms: i64) -> Steps {
    let to = Time(now.0.div_euclid(step_ms) * step_ms + step_ms);
    Steps { from: Time(to.0 - span_ms), to, step_ms }
}

/// The hours from `from` on, and the number of open deliveries.
fn figures_of(context: &ApiContext<'_>, owner: SeriesOwner, from: Time) -> Result<(HourSpan, u64), ApiError> {
    let (store, now) = (context.store, context.now);
    Ok(match owner {
        SeriesOwner::Webhook(id) => (store.webhook_hours(id, from)?, store.sums(id, now)?.open()),
        SeriesOwner::Tenant(tenant) => (store.tenant_hours(tenant, from, now)?, store.tenant_open(tenant, now)?),
    })
}

impl SeriesRowView {
    /// Succeeded and failed attempts.
    pub const fn attempts(&self) -> (u64, u64) {
        self.counts.attempts()
    }

    pub const fn waiting(&self) -> Option<u64> {
        self.waiting
    }

    /// Response times at 50 and 95 percent.
    pub const fn percentiles_ms(&self) -> [Option<u32>; 2] {
        self.responses.percentiles_ms()
    }
}

/// `GET /v1/stats/series`.
pub fn series(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let tenant = stats::narrowed(context, request)?;
    let steps = Steps::read(&request.query, context.now)?;
    let webhook: Option<WebhookId> = request.query.id(&WEBHOOK_ID)?;
    let owner = match webhook {
        Some(id) => context.registry.webhook(tenant, id).map(|webhook| SeriesOwner::Webhook(webhook.id)),
        None => Some(SeriesOwner::Tenant(tenant)),
    };
    let owner = owner.ok_or_else(|| ApiError::not_found("webhook"))?;
    let (hours, waiting) = figures_of(context, owner, steps.from)?;
    let view = SeriesView {
        from: steps.from,
        to: steps.to,
        step_s: steps.step_ms / 1_000,
        complete_from: stats::complete_from(&hours, steps.from, context.now),
        data: rows(steps, &hours, waiting),
    };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::params::EmptyValues;

    const KNOWN: &[Param] = &[FROM, TO, STEP, LAST];
    const NOW: Time = Time(1_772_704_830_000);

    fn steps(query: &str) -> Result<Steps, ApiError> {
        Steps::read(&Params::parse(Some(query), KNOWN, EmptyValues::Refused).unwrap(), NOW)
    }

    #[test]
    fn rows_begin_at_multiples_of_the_step_and_end_with_the_running_one() {
        let day = steps("").unwrap();
        assert_eq!((day.step_ms, day.rows(), day.to), (HOUR_MS, 25, Time(1_772_704_800_000 + HOUR_MS)));
        let hour = steps("last=1h").unwrap();
        assert_eq!((hour.step_ms, hour.rows()), (MINUTE_MS, 61));
        let past = steps("from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z&step=6h").unwrap();
        assert_eq!((past.rows(), past.from.to_string()), (4, "2026-03-01T00:00:00.000Z".to_owned()));
        assert_eq!(steps("last=31d").unwrap().step_ms, HOUR_MS);
        for bad in [
            "step=0m",
            "step=5",
            "step=m",
            "step=5s",
            "step=32d",
            "step=05m",
            "step=%C3%A4",
            "last=2h",
            "last=31d&step=1m",
            "from=2030-01-01T00:00:00Z",
            "last=1h&from=2026-03-01T00:00:00Z",
            "from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z",
        ] {
            assert_eq!(steps(bad).unwrap_err().code, "invalid_parameter", "{bad}");
        }
    }

    #[test]
    fn waiting_is_counted_backwards_from_now() {
        let steps = steps("last=1h&step=30m").unwrap();
        assert_eq!(steps.rows(), 3);
        let first = steps.from.minute();
        let mut hours = HourSpan::default();
        for (minute, made, delivered) in [(first, 5, 1), (first + 30, 0, 3), (first + 60, 2, 1)] {
            let counts = hours.hours.entry(minute / 60).or_default().minute((minute % 60) as u8);
            (counts.made, counts.delivered) = (made, delivered);
        }
        let waiting: Vec<_> = rows(steps, &hours, 3).iter().map(|row| row.waiting).collect();
        assert_eq!(waiting, [Some(5), Some(2), Some(3)]);
        let late = HourSpan { complete_from: Some(steps.from.plus_ms(40 * MINUTE_MS)), ..hours };
        let waiting: Vec<_> = rows(steps, &late, 3).iter().map(|row| row.waiting).collect();
        assert_eq!(waiting, [None, Some(2), Some(3)], "nothing is known before");
    }
}
