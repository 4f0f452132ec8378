//! `GET /v1/webhooks`: webhooks by an order of the caller's choice, with the figures of the last 24 hours on request.
//!
//! Invariant: the order comes from memory. With figures a page ends early once it has examined `INDEXED_ROWS_MAX` rows,
//! and has at least one webhook. The figures of `READ_TOGETHER` webhooks are read at once.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::cursor::{self, RankedPosition};
use crate::api::doc::schema::extends;
use crate::api::doc::{RouteDoc, doc, ok};
use crate::api::error::ApiError;
use crate::api::params::{self, LIMIT, Param, ParamValues, SEARCH, WEBHOOKS_CURSOR};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::figures::Sums;
use crate::model::time::DAY_MS;
use crate::model::webhook::{DeliveryOrder, WebhookStatus};
use crate::model::{Time, Webhook, WebhookId};
use crate::rules::diagnosis::DiagnosisReader;
use crate::rules::ranking;
use crate::store::{HourSpan, INDEXED_ROWS_MAX, QUEUES_MAX, Search};

use super::stats::{self, HourView};
use super::stats_counts::{CountsView, ResponseTimesView};
use super::webhook_live::WebhookLive;
use super::webhook_view::WebhookView;
use super::webhooks::{APP_ID, WEBHOOK_STATUS, state_now};

/// Webhooks whose figures are read at once, so that each partition is opened once for all of them.
const READ_TOGETHER: usize = 25;

pub const INCLUDE: Param =
    Param::new("include", ParamValues::Pattern(include_pattern), "`figures` adds those of the last 24 hours.");
pub const ORDER: Param = Param::new(
    "order",
    ParamValues::Pattern(order_pattern),
    "`newest` (without it), `name`, `worst` or `busiest` first. The last two use the last 24 clock hours.",
);
pub const STATE: Param = Param::new(
    "state",
    ParamValues::Pattern(state_pattern),
    "`trouble`: only webhooks that fail now, that their receiver holds back, or that failures or a 410 have disabled.",
);

pub const QUERY: &[Param] = &[APP_ID, WEBHOOK_STATUS, STATE, SEARCH, ORDER, INCLUDE, LIMIT, WEBHOOKS_CURSOR];
pub const DOC: RouteDoc = doc(
    "listWebhooks",
    "webhooks",
    "List webhooks",
    &[ok::<WebhookListView<'_>>("Newest first, or by `order`. With figures a page may have fewer rows than `limit`.")],
);

fn include_pattern() -> String {
    "^figures$".to_owned()
}

fn order_pattern() -> String {
    format!("^({})$", ORDERS.map(|(name, _)| name).join("|"))
}

fn state_pattern() -> String {
    "^trouble$".to_owned()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListOrder {
    Newest,
    Name,
    Worst,
    Busiest,
}

const ORDERS: [(&str, ListOrder); 4] = [
    ("newest", ListOrder::Newest),
    ("name", ListOrder::Name),
    ("worst", ListOrder::Worst),
    ("busiest", ListOrder::Busiest),
];

/// A webhook of a list.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ListedWebhook")]
pub struct ListedWebhookView<'a> {
    #[serde(flatten)]
    #[schemars(schema_with = "extends::<WebhookView>")]
    webhook: WebhookView<'a>,
    /// Only with `include=figures`.
    #[serde(skip_serializing_if = "Option::is_none")]
    figures: Option<WebhookFiguresView>,
}

/// Figures of a webhook in the last 24 hours, and of its open deliveries.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookFigures")]
pub struct WebhookFiguresView {
    /// The first counted minute.
    from: Time,
    to: Time,
    /// Counts before this time are of an earlier version, which counted less; null if they are complete.
    complete_from: Option<Time>,
    #[serde(flatten)]
    counts: CountsView,
    /// Percent of the attempts that succeeded, one decimal.
    #[schemars(range(min = 0, max = 100))]
    success_rate: Option<f64>,
    /// Attempts by their outcome, of the clock hours in the span.
    by_outcome: BTreeMap<&'static str, u64>,
    #[serde(flatten)]
    responses: ResponseTimesView,
    /// Deliveries that are not final.
    waiting: u64,
    /// When the oldest due delivery became due.
    oldest_waiting: Option<Time>,
    last_attempt_at: Option<Time>,
    /// The last 24 clock hours, oldest first.
    hours: Vec<HourView>,
}

/// A page of webhooks.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookList")]
pub struct WebhookListView<'a> {
    data: Vec<ListedWebhookView<'a>>,
    next_cursor: Option<String>,
}

/// `GET /v1/webhooks`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let order = read_order(request)?;
    let after = request.query.webhooks_position()?;
    if after.as_ref().is_some_and(|after| after.letters() != letters(order)) {
        return Err(params::wrong(WEBHOOKS_CURSOR.name, "is of another order"));
    }
    let limit = request.query.limit()?;
    let with_figures = read_word(request, &INCLUDE, "figures")?;
    let mut rows = Vec::new();
    for webhook in wanted(context, request)? {
        let position = position(context, order, &webhook)?;
        if after.as_ref().is_none_or(|after| *after < position) {
            rows.push((position, webhook));
        }
    }
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    let all = rows.len();
    rows.truncate(limit);
    let data = match with_figures {
        true => with_their_figures(context, request.reader(), &rows)?,
        false => rows.iter().map(|(_, webhook)| listed(context, request.reader(), webhook, None)).collect(),
    };
    let last = data.len().checked_sub(1).map(|last| &rows[last].0);
    let next_cursor = last.filter(|_| data.len() < all).map(cursor::write_ranked);
    let view = WebhookListView { data, next_cursor };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view)))
}

fn listed<'a>(
    context: &ApiContext<'_>,
    reader: DiagnosisReader,
    webhook: &'a Webhook,
    figures: Option<WebhookFiguresView>,
) -> ListedWebhookView<'a> {
    ListedWebhookView { webhook: WebhookView::new(webhook, WebhookLive::of(context, reader, webhook)), figures }
}

/// The first of the rows with their figures, until `INDEXED_ROWS_MAX` rows are examined.
fn with_their_figures<'a>(
    context: &ApiContext<'_>,
    reader: DiagnosisReader,
    rows: &'a [(RankedPosition, Arc<Webhook>)],
) -> Result<Vec<ListedWebhookView<'a>>, ApiError> {
    let (from, mut examined) = (stats::first_minute(context.now, DAY_MS), 0);
    let mut data = Vec::new();
    for together in rows.chunks(READ_TOGETHER) {
        let ids: Vec<WebhookId> = together.iter().map(|(_, webhook)| webhook.id).collect();
        let read = context.store.hours_of(&ids, from)?.into_iter().zip(context.store.sums_of(&ids, context.now)?);
        for ((_, webhook), (hours, sums)) in together.iter().zip(read) {
            // The sums take the list of partitions, and a row of each that may change.
            examined += hours.rows + 2 * context.store.partition_count();
            examined += if webhook.ordered != DeliveryOrder::No && sums.open() > 0 { QUEUES_MAX } else { 1 };
            if examined > INDEXED_ROWS_MAX && !data.is_empty() {
                return Ok(data);
            }
            data.push(listed(context, reader, webhook, Some(figures(context, webhook, &hours, &sums)?)));
        }
    }
    Ok(data)
}

fn read_order(request: &RequestContext<'_>) -> Result<ListOrder, ApiError> {
    let Some(text) = request.query.text(&ORDER) else { return Ok(ListOrder::Newest) };
    let matches_search = ORDERS.into_iter().find(|(name, _)| *name == text).map(|(_, order)| order);
    matches_search.ok_or_else(|| params::wrong(ORDER.name, "must be newest, name, worst or busiest"))
}

/// Whether a parameter has its only value. `false` if it is absent.
fn read_word(request: &RequestContext<'_>, param: &Param, word: &str) -> Result<bool, ApiError> {
    match request.query.text(param) {
        None => Ok(false),
        Some(text) if text == word => Ok(true),
        Some(_) => Err(params::wrong(param.name, &format!("must be {word}"))),
    }
}

/// The webhooks that pass the filters, newest first.
fn wanted(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Vec<Arc<Webhook>>, ApiError> {
    let mut tenant = request.tenant();
    if let Some(name) = request.query.text(&APP_ID) {
        let app = context.registry.app_named(tenant, name).ok_or_else(|| ApiError::not_found("app"))?;
        tenant.app = Some(app.id);
    }
    let status = match request.query.text(&WEBHOOK_STATUS) {
        None => None,
        Some("enabled") => Some(WebhookStatus::Enabled),
        Some("paused") => Some(WebhookStatus::Paused),
        Some("disabled") => Some(WebhookStatus::Disabled),
        Some(_) => return Err(params::wrong(WEBHOOK_STATUS.name, "must be enabled, paused or disabled")),
    };
    let search = request.query.search()?;
    let in_trouble_only = read_word(request, &STATE, "trouble")?;
    let is_in_trouble =
        |webhook: &Webhook| ranking::is_in_trouble(ranking::severity(webhook, &state_now(context, webhook.id)));
    let passes = |webhook: &&Arc<Webhook>| {
        status.is_none_or(|status| webhook.status == status)
            && search.as_ref().is_none_or(|search| matches_search(search, webhook))
            && (!in_trouble_only || is_in_trouble(webhook))
    };
    Ok(context.registry.webhooks_within(tenant).filter(passes).cloned().collect())
}

fn matches_search(search: &Search, webhook: &Webhook) -> bool {
    let texts = [webhook.name.as_str(), &webhook.url, webhook.description.as_deref().unwrap_or_default()];
    texts.iter().any(|text| search.within(text))
        || webhook.event_types.iter().any(|text| search.within(text))
        || search.is(&webhook.id.to_string())
}

const fn letters(order: ListOrder) -> &'static str {
    match order {
        ListOrder::Newest => cursor::NEWEST_LETTERS,
        ListOrder::Name => cursor::NAME_LETTERS,
        ListOrder::Worst => cursor::WORST_LETTERS,
        ListOrder::Busiest => cursor::BUSIEST_LETTERS,
    }
}

/// The position of a webhook in the list. Webhooks of the same rank or name are ordered newest first.
fn position(context: &ApiContext<'_>, order: ListOrder, webhook: &Webhook) -> Result<RankedPosition, ApiError> {
    let id = Reverse(webhook.id);
    Ok(match order {
        ListOrder::Newest => RankedPosition::Newest(id),
        ListOrder::Name => RankedPosition::Name(webhook.name.to_lowercase(), id),
        ListOrder::Worst => {
            let recent = context.store.recent_attempts(webhook.id, context.now)?;
            let severity = ranking::severity(webhook, &state_now(context, webhook.id));
            let badness = ranking::badness(severity, recent.attempts, recent.failures);
            RankedPosition::Worst(Reverse(badness), id)
        }
        ListOrder::Busiest => {
            let recent = context.store.recent_attempts(webhook.id, context.now)?;
            RankedPosition::Busiest(Reverse(recent.attempts), id)
        }
    })
}

/// The figures of a webhook in the last 24 hours, from its hours and its lifetime sums.
fn figures(
    context: &ApiContext<'_>,
    webhook: &Webhook,
    hours: &HourSpan,
    sums: &Sums,
) -> Result<WebhookFiguresView, ApiError> {
    let from = stats::first_minute(context.now, DAY_MS);
    let counted = stats::counted_since(from, hours);
    let oldest_waiting = if sums.open() == 0 { None } else { context.store.waiting_since(webhook, context.now)? };
    let minutes: Vec<_> = hours.minutes().collect();
    Ok(WebhookFiguresView {
        from,
        to: context.now,
        complete_from: stats::complete_from(hours, from, context.now),
        success_rate: counted.success_rate(),
        by_outcome: counted.by_outcome(),
        responses: counted.responses(),
        waiting: sums.open(),
        oldest_waiting,
        last_attempt_at: sums.last_attempt_at,
        hours: stats::hours(&minutes, context.now),
        counts: counted.counts,
    })
}
