//! One webhook: the reason of a failure, the waiting deliveries, the next request, the figures and the settings.

use std::sync::Arc;

use http::StatusCode;
use maud::{Markup, html};

use crate::api::native::health;
use crate::api::native::webhooks;
use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::webhook::{Webhook, WebhookState, WebhookStatus};
use crate::model::{App, Attempt, Delivery, DeliveryStatus, Scope, Time};
use crate::rules::health::Health;
use crate::rules::hold;
use crate::store::{AnyOf, AuditFilter, AuditRow, DeliveryQuery, ListWindow, Page, TenantScope};
use crate::ui::format::{self, foreign};
use crate::ui::frame::{Frame, Section, icon};
use crate::ui::mood::{self, WebhookMood};
use crate::ui::page_query::PageQuery;
use crate::ui::series::{self, ChartSeries, ChartSpan};

use super::audit;
use super::delivery_rows::{self, DeliveryRow, RowColumns};
use super::replays;
use super::webhook_health;
use super::webhook_rows::{self, WebhookRow};
use super::webhook_settings;

/// Deliveries in the list.
const DELIVERIES_SHOWN: usize = 10;
/// Entries of the audit in the list.
const CHANGES_SHOWN: usize = 8;

const TABS: [(&str, &str); 3] = [("", "All"), ("waiting", "Waiting"), ("failed", "Failed")];

pub struct WebhookPageView {
    pub row: WebhookRow,
    pub state: WebhookState,
    pub app: Option<Arc<App>>,
    pub last: Option<Attempt>,
    pub deliveries: Vec<DeliveryRow>,
    /// The value of the chosen tab.
    pub tab: &'static str,
    pub changes: Vec<AuditRow>,
    /// The entry of the audit that the search for changes ended at, if it ended before it was through.
    pub changes_until: Option<u128>,
    pub disable_at: Option<Time>,
    pub series: ChartSeries,
    /// `None` for a key that may not read attempts.
    pub health: Option<Health>,
}

/// `GET /ui/webhooks/{id}`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    let frame = Frame::new(context, request, Section::Webhooks);
    let view = view(context, request, &webhook)?;
    Ok(Step::Reply(frame.reply(StatusCode::OK, &webhook.name, &page(&view, &frame))))
}

fn view(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    webhook: &Arc<Webhook>,
) -> Result<WebhookPageView, ApiError> {
    let tenant = request.tenant();
    let page_query = PageQuery::of(request.http);
    let tab =
        TABS.into_iter().map(|(tab, _)| tab).find(|tab| page_query.get("status") == Some(tab)).unwrap_or_default();
    let mut row = webhook_rows::read(context, std::iter::once(webhook))?.swap_remove(0);
    webhook_rows::explain(context, request, &mut row)?;
    webhook_rows::count_failed(context, request, &mut row)?;
    let deliveries = match request.may(Scope::EventsRead) {
        true => delivery_rows::read(context, request, newest(context, tenant, webhook, tab)?)?,
        false => Vec::new(),
    };
    let changes = match request.may(Scope::Admin) {
        true => {
            let filter = AuditFilter { target: Some(webhook.id.to_string()), ..AuditFilter::default() };
            context.store.audit(tenant, &filter, super::newest(CHANGES_SHOWN))?
        }
        false => Page { rows: Vec::new(), next: None },
    };
    let state = context.store.shown_state(webhook.id, context.store.state(webhook.id), context.now);
    let span = ChartSpan::of(&page_query, context.now);
    let hours = context.store.webhook_hours(webhook.id, span.read_from(context.now))?;
    let health = match request.may(Scope::EventsRead) {
        true => Some(health::words(context, webhook.id, &hours.last_day(context.now))?),
        false => None,
    };
    Ok(WebhookPageView {
        state,
        app: context.registry.app(tenant, webhook.app_id).cloned(),
        last: webhook_rows::newest_attempt(context, tenant, webhook.id)?,
        deliveries,
        tab,
        changes: changes.rows,
        changes_until: changes.next,
        disable_at: hold::disable_at(webhook, &state),
        series: span.series(&hours, row.waiting),
        health,
        row,
    })
}

fn newest(
    context: &ApiContext<'_>,
    tenant: TenantScope,
    webhook: &Webhook,
    tab: &str,
) -> Result<Vec<Delivery>, ApiError> {
    if tab == "waiting" {
        let page = context.store.waiting(webhook.id, None, DELIVERIES_SHOWN, context.now)?;
        return Ok(page.rows.into_iter().map(|(delivery, _)| delivery).collect());
    }
    let query = DeliveryQuery {
        webhook: Some(webhook.id),
        status: (tab == "failed").then(|| AnyOf::new(vec![DeliveryStatus::Failed])),
        ..DeliveryQuery::all(tenant, ListWindow::newest(DELIVERIES_SHOWN))
    };
    Ok(match tab {
        "failed" => context.store.failed_deliveries(&query, None, context.now)?.rows,
        _ => context.store.deliveries(&query, context.now)?.rows,
    })
}

/// The page.
pub fn page(view: &WebhookPageView, frame: &Frame) -> Markup {
    let webhook = &view.row.webhook;
    let method = format!("{:?}", webhook.method).to_uppercase();
    html! {
        .head {
            div {
                p.crumb {
                    a href=(frame.link("webhooks")) { "Webhooks" }
                    @if let Some(app) = &view.app { " / " (foreign(&app.name)) }
                }
                h1 { (foreign(&webhook.name)) }
                p.lead { (view.row.mood.tag()) " " code { (method) " " (foreign(&webhook.url)) } }
                @if let Some(text) = &webhook.description { p.lead { (foreign(text)) } }
            }
            @if frame.may(Scope::WebhooksWrite) { (actions(view, frame)) }
        }
        (trouble(view, frame))
        .cols.main {
            div {
                (figures(view, frame))
                section aria-labelledby="fi" {
                    .head { h2 #fi { "Figures" } .acts { (series::links(&view.series)) } }
                    (series::charts(&view.series))
                }
                @if frame.may(Scope::EventsRead) { (deliveries(view, frame)) }
            }
            div {
                @if let Some(health) = &view.health {
                    (webhook_health::panel(health, (webhook.status != WebhookStatus::Disabled).then_some(&view.state)))
                }
                (webhook_settings::panel(webhook, frame))
                (changes(view, frame))
            }
        }
    }
}

fn actions(view: &WebhookPageView, frame: &Frame) -> Markup {
    let webhook = &view.row.webhook;
    let path = format!("webhooks/{}", webhook.id);
    let at = |action: &str| format!("{path}/{action}");
    html! {
        .acts {
            (frame.button(&at("test"), "btn main", "Send a test"))
            @match webhook.status {
                WebhookStatus::Enabled if matches!(view.row.mood, WebhookMood::Enabled | WebhookMood::Blocked) => {
                    (frame.button(&at("pause"), "btn", "Pause"))
                }
                WebhookStatus::Enabled => {
                    (frame.button(&at("resume"), "btn", "Try now"))
                    (frame.button(&at("pause"), "btn", "Pause"))
                }
                WebhookStatus::Paused => (frame.button(&at("resume"), "btn", "Resume")),
                WebhookStatus::Disabled => (frame.button(&at("enable"), "btn", "Enable")),
            }
            @if frame.may(Scope::DeliveriesRetry) {
                a.btn href=(frame.link(&format!("replays/new?webhook={}", webhook.id))) { "Replay…" }
            }
            a.btn href=(frame.link(&at("edit"))) { "Edit" }
        }
    }
}

fn trouble(view: &WebhookPageView, frame: &Frame) -> Markup {
    let (row, state) = (&view.row, &view.state);
    let failed = view.last.as_ref().map(|attempt| &attempt.made).filter(|made| !made.success);
    let shown = failed.filter(|made| !mood::is_hidden(made.outcome, frame.reader()));
    let error = shown.and_then(|made| made.error.as_deref()).filter(|error| !row.reason.contains(error));
    let class = if row.mood.is_failing() { "note bad" } else { "note" };
    // The explanation of a failure has its error, which is often the reason.
    let meaning = view.last.as_ref().filter(|_| failed.is_some()).map(|last| mood::meaning_of(last, frame.reader()));
    let (reason, meaning) = (mood::sentence(&row.reason), meaning.unwrap_or_default());
    html! {
        @if row.mood.needs_person() {
            div class=(class) role="status" {
                (icon(if row.mood.is_failing() { "bad" } else { "held" }))
                div {
                    p {
                        @if let Some(since) = state.failing_since.filter(|_| row.mood.is_failing()) {
                            b { "No attempt has succeeded since " (format::moment(since, frame.now)) "." } " "
                        }
                        @if !meaning.contains(&reason) { (foreign(&reason)) ". " }
                        (foreign(&meaning))
                    }
                    p {
                        (webhook_rows::outlook(row, frame))
                        @if let Some(at) = state.held_until().filter(|at| *at > frame.now) {
                            " The next request goes at "
                            (format::moment(at, frame.now))
                            ", "
                            (mood::until(at, frame.now))
                            "."
                        }
                        @if let Some(head) = row.blocking {
                            " "
                            (frame.link_if_may(Scope::EventsRead, &format!("deliveries/{}", head.id), "The delivery before them"))
                            @if let Some(at) = head.until { " goes again at " (format::moment(at, frame.now)) "." }
                        }
                        @if let Some(at) = view.disable_at {
                            " It is switched off at " (format::moment(at, frame.now)) " if nothing changes."
                        }
                    }
                    @if let Some(error) = error {
                        p { code { (foreign(error)) } }
                    }
                }
            }
        }
    }
}

fn figures(view: &WebhookPageView, frame: &Frame) -> Markup {
    let (ok, all) = view.row.day();
    let sums = &view.row.sums;
    let [p50, p95] = view.row.percentiles_ms.map(|ms| ms.map_or_else(|| "–".to_owned(), format::millis));
    let counted = |status: &str, number: u64| {
        let list = format!("deliveries?status={status}&webhook={}", view.row.webhook.id);
        frame.link_if_may(Scope::EventsRead, &list, &format::count(number))
    };
    html! {
        dl.panel.figs.four {
            div {
                dt { "Succeeded, 24 h" }
                dd { (format::percent(ok, all).unwrap_or_else(|| "–".to_owned())) }
                dd { (format::count(ok)) " of " (format::count(all)) }
            }
            div {
                dt { "Waiting" }
                dd { (counted("waiting", view.row.waiting)) }
                dd { (webhook_rows::lateness(view.row.late_since, frame)) }
            }
            div { dt { "Response, p95" } dd { (p95) } dd { "p50 " (p50) } }
            div {
                dt { "Failed for good" }
                dd { (counted("failed", sums.failed)) }
                dd { "of " (format::count(sums.deliveries)) " deliveries" }
            }
        }
    }
}

fn deliveries(view: &WebhookPageView, frame: &Frame) -> Markup {
    let id = view.row.webhook.id;
    let columns = RowColumns { check: false, webhook: false, ended: view.tab == "failed" };
    html! {
        section.panel aria-labelledby="dl" {
            header {
                h2 #dl { "Deliveries" }
                nav.seg aria-label="Status" {
                    @for (tab, words) in TABS {
                        a href={ "?status=" (tab) "#dl" } aria-current=[(tab == view.tab).then_some("true")] { (words) }
                    }
                }
            }
            @if view.deliveries.is_empty() {
                .pad { p.muted { "None." } }
            } @else {
                (delivery_rows::table(&view.deliveries, columns, "Deliveries of this webhook", frame))
            }
            footer {
                a href=(frame.link(&format!("deliveries?webhook={id}"))) { "All deliveries of this webhook" }
                @if view.row.waiting > 0 && frame.may(Scope::WebhooksWrite)
                    && frame.may(Scope::DeliveriesRetry) && view.row.webhook.status == WebhookStatus::Enabled {
                    (replays::waiting_button(id, "btn small", "Send what waits now…", frame))
                }
            }
        }
    }
}

fn changes(view: &WebhookPageView, frame: &Frame) -> Markup {
    html! {
        @if !view.changes.is_empty() || view.changes_until.is_some() {
            section.panel aria-labelledby="ch" {
                header {
                    h2 #ch { "Changes" }
                    a href=(frame.link(&format!("audit?target={}", view.row.webhook.id))) { "Audit" }
                }
                @match view.changes_until.filter(|_| view.changes.is_empty()) {
                    Some(next) => { .pad { p.muted { (audit::looked(next, frame)) " None of them is of this webhook." } } }
                    None => ul.words {
                        @for row in &view.changes {
                            li { span.muted { (format::moment(row.at, frame.now)) } p { code { (foreign(&row.action)) } } }
                        }
                    }
                }
            }
        }
    }
}
