//! Rows of webhooks: state, reason, the last day, and how much waits.

use std::cmp::Reverse;
use std::sync::Arc;

use maud::{Markup, html};

use crate::api::native::webhook_live::QueueHead;
use crate::api::{ApiContext, ApiError, RequestContext};
use crate::model::figures::Sums;
use crate::model::time::{DAY_MS, HOUR_MS};
use crate::model::{Attempt, Scope, Time, Webhook, WebhookId};
use crate::store::{AttemptQuery, ListWindow, RecentAttempts, TenantScope, TimeSpan};
use crate::ui::chart::{self, Bin};
use crate::ui::counts;
use crate::ui::format::{self, foreign};
use crate::ui::frame::Frame;
use crate::ui::mood::{self, PageReader, WebhookMood};
use crate::ui::series;

/// A webhook with its figures.
pub struct WebhookRow {
    pub webhook: Arc<Webhook>,
    pub mood: WebhookMood,
    /// Why it needs a person. Empty if it does not.
    pub reason: String,
    /// The delivery that blocks the others.
    pub blocking: Option<QueueHead>,
    /// The last 24 clock hours, oldest first.
    pub hours: Vec<Bin>,
    /// At 50 and 95 percent, over the clock hours of the last 24 hours.
    pub percentiles_ms: [Option<u32>; 2],
    pub waiting: u64,
    /// Since when the next delivery to go waits.
    pub late_since: Option<Time>,
    /// Deliveries that failed for good in the last 24 hours. `None` where they are not shown or not known.
    pub failed_day: Option<String>,
    pub last_attempt_at: Option<Time>,
    pub sums: Sums,
}

impl WebhookRow {
    /// Succeeded attempts and all attempts of the last 24 hours.
    pub fn day(&self) -> (u64, u64) {
        let (ok, failed) = self.hours.iter().fold((0, 0), |(ok, failed), bin| (ok + bin.ok, failed + bin.failed));
        (ok, ok + failed)
    }
}

/// The start of the first of the last 24 clock hours.
pub fn day_start(now: Time) -> Time {
    Time(i64::from(now.hour()) * HOUR_MS).minus_ms(DAY_MS - HOUR_MS)
}

/// A webhook with its rank among others, which comes from memory.
pub struct RankedWebhook {
    pub webhook: Arc<Webhook>,
    pub mood: WebhookMood,
    pub recent: RecentAttempts,
}

/// Reads the rank of a webhook.
pub fn rank(context: &ApiContext<'_>, webhook: &Arc<Webhook>) -> Result<RankedWebhook, ApiError> {
    Ok(RankedWebhook {
        mood: WebhookMood::now(context, webhook),
        recent: context.store.recent_attempts(webhook.id, context.now)?,
        webhook: webhook.clone(),
    })
}

/// Reads the figures of the webhooks of a page, in their order. The figures of the last day come from memory, and each
/// partition is read once for the sums of all of them. `explain` reads the rest.
pub fn read<'w>(
    context: &ApiContext<'_>,
    webhooks: impl Iterator<Item = &'w Arc<Webhook>>,
) -> Result<Vec<WebhookRow>, ApiError> {
    let webhooks: Vec<_> = webhooks.cloned().collect();
    let ids: Vec<WebhookId> = webhooks.iter().map(|webhook| webhook.id).collect();
    let sums = context.store.sums_of(&ids, context.now)?;
    let row = |(webhook, sums): (Arc<Webhook>, Sums)| {
        let hours = context.store.recent_hours(webhook.id, context.now)?;
        Ok(WebhookRow {
            mood: WebhookMood::now(context, &webhook),
            reason: String::new(),
            blocking: None,
            hours: hours.map(|hour| Bin { ok: hour.attempts - hour.failures, failed: hour.failures }).collect(),
            percentiles_ms: series::percentiles_of(&context.store.recent_responses(webhook.id, context.now)?, [50, 95]),
            waiting: sums.open(),
            late_since: None,
            failed_day: None,
            last_attempt_at: sums.last_attempt_at,
            sums,
            webhook,
        })
    };
    webhooks.into_iter().zip(sums).map(row).collect()
}

/// Reads why a webhook needs a person, and since when its next delivery waits.
pub fn explain(context: &ApiContext<'_>, request: &RequestContext<'_>, row: &mut WebhookRow) -> Result<(), ApiError> {
    if row.waiting > 0 {
        row.late_since = context.store.waiting_since(&row.webhook, context.now)?;
    }
    if row.mood.needs_person() {
        let shown = context.store.shown_state(row.webhook.id, context.store.state(row.webhook.id), context.now);
        let last = newest_attempt(context, request.tenant(), row.webhook.id)?;
        let last = last.as_ref().map(|attempt| &attempt.made);
        row.reason = mood::reason(&row.webhook, (row.mood, &shown), last, PageReader::of(request));
    }
    if row.mood == WebhookMood::Blocked {
        row.blocking = mood::blocking(context, &row.webhook);
    }
    Ok(())
}

/// Reads how many deliveries failed for good in the last 24 hours, if the webhook needs a person.
pub fn count_failed(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    row: &mut WebhookRow,
) -> Result<(), ApiError> {
    if row.mood.needs_person() {
        let day = TimeSpan { from: Some(context.now.minus_ms(DAY_MS)), to: None };
        row.failed_day = counts::failed(context, (request.tenant(), Some(row.webhook.id)), day)?;
    }
    Ok(())
}

/// How much of a webhook in trouble waits, how late it is, and how much failed for good, in sentences.
pub fn outlook(row: &WebhookRow, frame: &Frame) -> Markup {
    let list = |status: &str| format!("deliveries?status={status}&webhook={}", row.webhook.id);
    let waits = format::counted(row.waiting, "delivery waits", "deliveries wait");
    html! {
        @if row.waiting == 0 {
            "Nothing waits."
        } @else {
            (frame.link_if_may(Scope::EventsRead, &list("waiting"), &waits))
            @if let Some(since) = row.late_since { ", late by up to " (format::age(frame.now.since(since))) }
            "."
        }
        @match row.failed_day.as_deref() {
            Some("0") if row.waiting > 0 => " None failed for good in 24 hours.",
            None | Some("0") => {}
            Some(failed) => {
                " "
                (frame.link_if_may(Scope::EventsRead, &(list("failed") + "&last=24h"), &format!("{failed} failed for good")))
                " in 24 hours."
            }
        }
    }
}

/// How late the deliveries that wait are, below their number.
pub fn lateness(late_since: Option<Time>, frame: &Frame) -> Markup {
    html! {
        @match late_since {
            Some(since) => { "late by up to " b { (format::age(frame.now.since(since))) } }
            None => "nothing is late",
        }
    }
}

/// The newest attempt of a webhook.
pub fn newest_attempt(
    context: &ApiContext<'_>,
    tenant: TenantScope,
    webhook: WebhookId,
) -> Result<Option<Attempt>, ApiError> {
    let query = AttemptQuery {
        tenant,
        webhook: Some(webhook),
        delivery: None,
        event: None,
        success: None,
        status: None,
        event_type: None,
        status_code: None,
        outcome: None,
        search: None,
        window: ListWindow::newest(1),
    };
    Ok(context.store.attempts(&query, context.now)?.rows.into_iter().next())
}

/// The order of a list of webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    Worst,
    Busiest,
    Name,
    Newest,
}

/// Sorts webhooks.
pub fn sort(rows: &mut [RankedWebhook], order: RowOrder) {
    match order {
        RowOrder::Worst => {
            rows.sort_by_key(|row| (Reverse(row.mood), Reverse(row.recent.failures), Reverse(row.recent.attempts)));
        }
        RowOrder::Busiest => rows.sort_by_key(|row| Reverse(row.recent.attempts)),
        RowOrder::Name => rows.sort_by_cached_key(|row| row.webhook.name.to_lowercase()),
        RowOrder::Newest => rows.sort_by_key(|row| Reverse(row.webhook.id)),
    }
}

/// The rows as a table.
pub fn table(rows: &[WebhookRow], caption: &str, frame: &Frame) -> Markup {
    html! {
        table.fixed {
            caption.vh { (caption) }
            thead {
                tr {
                    th.w-state scope="col" { span.fold-h { "State" } }
                    th scope="col" { "Webhook" }
                    th.mid scope="col" { "Events" }
                    th.w-spark.big scope="col" { "24 hours" }
                    th.num.w-rate.big scope="col" { "Success" }
                    th.num.w-rate.big scope="col" { "p95" }
                    th.num.w-rate.big scope="col" { "Waiting" }
                    th.num.w-when scope="col" { "Last try" }
                }
            }
            tbody { @for row in rows { (table_row(row, frame)) } }
        }
    }
}

fn table_row(row: &WebhookRow, frame: &Frame) -> Markup {
    let webhook = &row.webhook;
    let (ok, all) = row.day();
    let success = format::percent(ok, all).unwrap_or_else(|| "–".to_owned());
    let types = if webhook.event_types.is_empty() { "all".to_owned() } else { webhook.event_types.join(", ") };
    html! {
        tr {
            td { (row.mood.folded()) }
            td {
                a.key href=(frame.link(&format!("webhooks/{}", webhook.id))) { (foreign(&webhook.name)) }
                span.sub.cut { @if row.reason.is_empty() { (foreign(&webhook.url)) } @else { (foreign(&row.reason)) } }
                span.sub.only-small { (success) " · " (format::count(row.waiting)) " waiting" }
            }
            td.mid { code.cut { (foreign(&types)) } }
            td.big { (chart::spark(&row.hours)) }
            td.num.big { (success) }
            td.num.big { @match row.percentiles_ms[1] { Some(ms) => (format::millis(ms)), None => "–" } }
            td.num.big {
                @if row.waiting == 0 { span.muted { "0" } } @else { (format::count(row.waiting)) }
                @if let Some(since) = row.late_since { span.sub { "late " (format::age(frame.now.since(since))) } }
            }
            td.num { @match row.last_attempt_at { Some(at) => (format::ago(at, frame.now)), None => "–" } }
        }
    }
}
