//! The list of webhooks, worst first.

use std::sync::Arc;

use http::StatusCode;
use maud::{Markup, html};

use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::webhook::WebhookStatus;
use crate::model::{App, Scope, Webhook};
use crate::store::Search;
use crate::ui::chips;
use crate::ui::filter;
use crate::ui::format::{self, foreign};
use crate::ui::frame::{Frame, Section};
use crate::ui::mood::WebhookMood;
use crate::ui::page_query::PageQuery;

use super::webhook_rows::{self, RankedWebhook, RowOrder, WebhookRow};

/// Rows of a page, which has at most 45 KB.
pub const ROWS_MAX: usize = 38;
/// Maximum number of apps to choose from, beside the chosen one. The list of apps leads to the webhooks of every app.
const APPS_SHOWN: usize = 25;

const STATES: [(&str, &str); 6] = [
    ("", "All"),
    ("trouble", "Trouble"),
    ("failing", "Failing"),
    ("enabled", "Enabled"),
    ("paused", "Paused"),
    ("disabled", "Disabled"),
];
const ORDERS: [(&str, &str, RowOrder); 4] = [
    ("worst", "Worst first", RowOrder::Worst),
    ("busiest", "Busiest first", RowOrder::Busiest),
    ("name", "Name", RowOrder::Name),
    ("newest", "Newest", RowOrder::Newest),
];

pub struct WebhooksView {
    pub rows: Vec<WebhookRow>,
    pub page_query: PageQuery,
    /// Webhooks that pass the search and the app, of each state of `STATES`.
    pub counts: [usize; 6],
    pub apps: Vec<Arc<App>>,
    /// Webhooks before the first row.
    pub skipped: usize,
    /// Webhooks of the chosen state.
    pub total: usize,
}

/// `GET /ui/webhooks`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Webhooks);
    let view = view(context, request)?;
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Webhooks", &page(&view, &frame))))
}

fn has_state(state: &str, webhook: &Webhook, mood: WebhookMood) -> bool {
    match state {
        "trouble" => mood.is_trouble(),
        "failing" => mood.is_failing(),
        "enabled" => webhook.status == WebhookStatus::Enabled,
        "paused" => webhook.status == WebhookStatus::Paused,
        "disabled" => webhook.status == WebhookStatus::Disabled,
        _ => true,
    }
}

fn view(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<WebhooksView, ApiError> {
    let (page_query, tenant) = (filter::of(request.http, Section::Webhooks), request.tenant());
    let search = page_query.get("search").map(Search::new);
    // An app that is not there has no webhooks.
    let app = page_query.get("app").map(|name| context.registry.app_named(tenant, name).map(|app| app.id));
    let (state, mut counts) = (page_query.get("state").unwrap_or_default(), [0; 6]);
    let mut wanted: Vec<RankedWebhook> = Vec::new();
    for webhook in context.registry.webhooks_within(tenant) {
        let is_found = search.as_ref().is_none_or(|search| {
            search.within(&webhook.name) || search.within(&webhook.url) || search.is(&webhook.id.to_string())
        });
        if !is_found || app.is_some_and(|app| app != Some(webhook.app_id)) {
            continue;
        }
        let ranked = webhook_rows::rank(context, webhook)?;
        for (count, (name, _)) in counts.iter_mut().zip(STATES) {
            *count += usize::from(has_state(name, webhook, ranked.mood));
        }
        if has_state(state, webhook, ranked.mood) {
            wanted.push(ranked);
        }
    }
    let total = wanted.len();
    let order = ORDERS.into_iter().find(|(name, _, _)| page_query.get("order") == Some(name));
    let order = order.map_or(RowOrder::Worst, |(_, _, order)| order);
    let skipped = page_query.get("cursor").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0).min(total);
    webhook_rows::sort(&mut wanted, order);
    let shown = wanted.iter().skip(skipped).take(ROWS_MAX).map(|ranked| &ranked.webhook);
    let mut rows = webhook_rows::read(context, shown)?;
    for row in &mut rows {
        webhook_rows::explain(context, request, row)?;
    }
    let within = context.registry.apps().filter(|app| tenant.covers(app.org_id, app.id));
    let mut apps: Vec<_> = within.take(APPS_SHOWN).cloned().collect();
    let chosen = page_query.get("app").and_then(|name| context.registry.app_named(tenant, name));
    apps.extend(chosen.filter(|chosen| !apps.iter().any(|app| app.id == chosen.id)).cloned());
    Ok(WebhooksView { rows, page_query, counts, apps, skipped, total })
}

/// The page.
pub fn page(view: &WebhooksView, frame: &Frame) -> Markup {
    html! {
        .head {
            div { h1 { "Webhooks" } }
            .acts {
                @if frame.may(Scope::WebhooksWrite) {
                    a.btn.main href=(frame.link("webhooks/new")) { "New webhook" }
                }
            }
        }
        (filters(view))
        section.panel {
            @if view.rows.is_empty() {
                .pad {
                    @if view.counts[0] == 0 && view.page_query == PageQuery::default() {
                        p { "No webhook yet. A webhook is a URL and which events it wants." }
                    } @else {
                        (chips::none_passes("No webhook passes these filters:", &view.page_query, &["search", "app", "state"], |name, value| {
                            let app = view.apps.iter().find(|app| name == "app" && app.id.to_string() == value);
                            app.map_or_else(|| value.to_owned(), |app| app.name.clone())
                        }))
                    }
                }
            } @else {
                (webhook_rows::table(&view.rows, "Webhooks", frame))
            }
            footer {
                span { (format::counted(view.total as u64, "webhook", "webhooks")) }
                span.muted { "Success over 24 hours, p95 over all time" }
                @if view.skipped + view.rows.len() < view.total {
                    @let next = view.skipped + view.rows.len();
                    a.btn.small rel="next" href={ (view.page_query.with("", "").link()) "&cursor=" (next) } {
                        "More"
                    }
                }
            }
        }
    }
}

fn filters(view: &WebhooksView) -> Markup {
    let (state, order) =
        (view.page_query.get("state").unwrap_or_default(), view.page_query.get("order").unwrap_or("worst"));
    html! {
        form.filters autocomplete="off" {
            label.grow {
                span.vh { "Search names and URLs" }
                input type="search" name="search" placeholder="Search names and URLs"
                    value=(view.page_query.get("search").unwrap_or_default());
            }
            nav.seg aria-label="State" {
                @for ((value, word), count) in STATES.into_iter().zip(view.counts) {
                    a href=(view.page_query.with("state", value).link()) aria-current=[(value == state).then_some("true")] {
                        (word) " " span.n { (format::count(count as u64)) }
                    }
                }
            }
            @if view.apps.len() > 1 {
                label {
                    span.vh { "App" }
                    select name="app" {
                        option value="" { "All apps" }
                        @for app in &view.apps {
                            @let id = app.id.to_string();
                            option value=(id) selected[view.page_query.get("app") == Some(&id)] { (foreign(&app.name)) }
                        }
                    }
                }
            }
            label {
                span.vh { "Order" }
                select name="order" {
                    @for (value, words, _) in ORDERS { option value=(value) selected[value == order] { (words) } }
                }
            }
            @if !state.is_empty() { input type="hidden" name="state" value=(state); }
            button.btn type="submit" { "Filter" }
        }
    }
}
