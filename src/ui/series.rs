//! The charts of one span: attempts, waiting deliveries and response times, with the same numbers as a table.

use maud::{Markup, html};

use crate::api::native::stats_series::{self, Steps};
use crate::model::Time;
use crate::model::figures::Sums;
use crate::model::time::{DAY_MS, HOUR_MS, MINUTE_MS};

use crate::rules::histogram;
use crate::store::HourSpan;

use super::chart::{self, Bin};
use super::format;
use super::page_query::PageQuery;

/// The spans that pages offer: the value of `last`, its words, its length and the length of a step.
pub const SPANS: [(&str, &str, i64, i64); 5] = [
    ("1h", "1 h", HOUR_MS, MINUTE_MS),
    ("3h", "3 h", 3 * HOUR_MS, 3 * MINUTE_MS),
    ("24h", "24 h", DAY_MS, HOUR_MS),
    ("7d", "7 d", 7 * DAY_MS, 3 * HOUR_MS),
    ("31d", "31 d", 31 * DAY_MS, 12 * HOUR_MS),
];
/// The index of the span that is shown unless the address names another.
const USUAL: usize = 2;

/// The figures of one span, oldest step first.
pub struct ChartSeries {
    /// The value of `last`.
    pub last: &'static str,
    pub from: Time,
    pub step_ms: i64,
    pub rows: Vec<ChartRow>,
}

/// The figures of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChartRow {
    pub attempts: Bin,
    /// Deliveries that waited at the end of the step. `None` if it is not known.
    pub waiting: Option<u64>,
    /// Response times at 50 and 95 percent. `None` without a response, or if the step is shorter than an hour.
    pub percentiles_ms: [Option<u32>; 2],
}

/// The span that an address names, in equal steps.
#[derive(Debug, Clone, Copy)]
pub struct ChartSpan {
    last: &'static str,
    steps: Steps,
}

impl ChartSpan {
    pub fn of(page_query: &PageQuery, now: Time) -> ChartSpan {
        let (last, _, span_ms, step_ms) =
            SPANS.into_iter().find(|(last, ..)| page_query.get("last") == Some(last)).unwrap_or(SPANS[USUAL]);
        ChartSpan { last, steps: stats_series::steps_until(now, span_ms, step_ms) }
    }

    /// The time from which on a page reads hours, for this span and for the last 24 hours.
    pub fn read_from(&self, now: Time) -> Time {
        self.steps.from.min(now.minus_ms(DAY_MS))
    }

    /// The figures of the span. `waiting` is the number of deliveries that wait now.
    pub fn series(&self, hours: &HourSpan, waiting: u64) -> ChartSeries {
        let rows = stats_series::rows(self.steps, hours, waiting);
        let rows = rows.iter().map(|row| {
            let (ok, failed) = row.attempts();
            ChartRow { attempts: Bin { ok, failed }, waiting: row.waiting(), percentiles_ms: row.percentiles_ms() }
        });
        let Steps { from, step_ms, .. } = self.steps;
        ChartSeries { last: self.last, from, step_ms, rows: rows.collect() }
    }
}

/// Response times at so many percent, over the hours from that of `from` on.
pub fn percentiles_ms<const N: usize>(span: &HourSpan, from: Time, percents: [u8; N]) -> [Option<u32>; N] {
    let mut sums = Sums::default();
    for (bucket, count) in span.hours.range(from.hour()..).flat_map(|(_, hour)| &hour.histogram) {
        sums.tally(*bucket, u64::from(*count));
    }
    percentiles_of(&sums, percents)
}

/// Response times at so many percent of a histogram.
pub fn percentiles_of<const N: usize>(sums: &Sums, percents: [u8; N]) -> [Option<u32>; N] {
    percents.map(|percent| histogram::percentile(&sums.histogram, percent))
}

/// Links to the spans.
pub fn links(series: &ChartSeries) -> Markup {
    html! {
        nav.seg aria-label="Time span" {
            @for (value, words, ..) in SPANS {
                a href={ "?last=" (value) } aria-current=[(value == series.last).then_some("true")] { (words) }
            }
        }
    }
}

/// The charts.
pub fn charts(series: &ChartSeries) -> Markup {
    let bins: Vec<Bin> = series.rows.iter().map(|row| row.attempts).collect();
    let waiting: Vec<Option<u64>> = series.rows.iter().map(|row| row.waiting).collect();
    let percentiles: [Vec<Option<u64>>; 2] =
        [0, 1].map(|at| series.rows.iter().map(|row| row.percentiles_ms[at].map(u64::from)).collect());
    let axis = chart::ChartAxis { from: series.from, step_ms: series.step_ms };
    let title = format!("Attempts, {} each", format::age(series.step_ms));
    html! {
        .panel { (chart::attempts(&title, &bins, axis, &as_table(series, &[ATTEMPTS_OK, ATTEMPTS_FAILED]))) }
        .cols.half {
            .panel { (chart::waiting(&waiting, axis, &as_table(series, &[WAITING]))) }
            .panel { (chart::responses(&percentiles, axis, &as_table(series, &[P50, P95]))) }
        }
    }
}

/// A column of a table: its head, and its value in a step. `None` where nothing is known or nothing happened.
type TableColumn = (&'static str, fn(&ChartRow) -> Option<String>);

const ATTEMPTS_OK: TableColumn = ("Succeeded", |row| has_attempts(row).then(|| format::count(row.attempts.ok)));
const ATTEMPTS_FAILED: TableColumn = ("Failed", |row| has_attempts(row).then(|| format::count(row.attempts.failed)));
const WAITING: TableColumn = ("Waiting", |row| row.waiting.filter(|waiting| *waiting > 0).map(format::count));
const P50: TableColumn = ("p50", |row| row.percentiles_ms[0].map(format::millis));
const P95: TableColumn = ("p95", |row| row.percentiles_ms[1].map(format::millis));

fn has_attempts(row: &ChartRow) -> bool {
    row.attempts != Bin::default()
}

/// The numbers of a chart. Steps without any are left out.
fn as_table(series: &ChartSeries, columns: &[TableColumn]) -> Markup {
    let axis = chart::ChartAxis { from: series.from, step_ms: series.step_ms };
    let is_shown = |row: &ChartRow| columns.iter().any(|(_, value)| value(row).is_some());
    html! {
        details.as-table {
            summary { "as a table" }
            table {
                thead {
                    tr { th scope="col" { "From" } @for (head, _) in columns { th.num scope="col" { (head) } } }
                }
                tbody {
                    @for (at, row) in series.rows.iter().enumerate().filter(|(_, row)| is_shown(row)) {
                        tr {
                            td { (axis.time(at)) }
                            @for (_, value) in columns { td.num { (value(row).unwrap_or_else(|| "–".to_owned())) } }
                        }
                    }
                }
            }
        }
    }
}
