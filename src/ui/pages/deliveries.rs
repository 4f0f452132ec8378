//! The list of deliveries: status tabs, filters in the address, and sending many again.

use http::StatusCode;
use maud::{Markup, html};

use crate::api::cursor::{self, CursorKind};
use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::{AttemptOutcome, Delivery, DeliveryId, DeliveryStatus, Scope, StatusCodes, Time, WebhookId};
use crate::store::{AnyOf, DeliveryQuery, FailedPosition, ListWindow, Search, TenantScope, TimeSpan};
use crate::ui::chips;
use crate::ui::counts;
use crate::ui::filter;
use crate::ui::form::PostedForm;
use crate::ui::format::{self, foreign};
use crate::ui::frame::{Frame, Section};
use crate::ui::page_query::{LASTS, PageQuery, Span};

use super::delivery_cancel;
use super::delivery_resend;
use super::delivery_rows::{self, DeliveryRow, RowColumns};

/// Rows of a page, which has at most 45 KB.
pub const ROWS_MAX: usize = 40;
/// Webhooks in the list to choose from, beside the chosen one. The page of a webhook leads to its deliveries too.
const WEBHOOKS_SHOWN: usize = 25;

/// The field of a form with the query of its list.
pub const LIST_FIELD: &str = "list";

const TABS: [(&str, &str); 7] = [
    ("", "All"),
    ("waiting", "Waiting"),
    ("pending", "Pending"),
    ("retrying", "Retrying"),
    ("failed", "Failed"),
    ("delivered", "Delivered"),
    ("cancelled", "Cancelled"),
];

pub struct DeliveriesView {
    pub rows: Vec<DeliveryRow>,
    pub page_query: PageQuery,
    /// The webhooks to choose from: id and name.
    pub webhooks: Vec<(String, String)>,
    /// The cursor of the next page.
    pub next: Option<String>,
    /// How far back the page looked, if it ended before it was full.
    pub looked_back_to: Option<Time>,
    /// The number of deliveries on the tabs `waiting` and `failed`. `None` if it is not known without a walk.
    pub waiting: Option<String>,
    pub failed: Option<String>,
}

impl DeliveriesView {
    /// The number on a tab.
    fn count_of(&self, tab: &str) -> Option<&str> {
        match tab {
            "waiting" => self.waiting.as_deref(),
            "failed" => self.failed.as_deref(),
            _ => None,
        }
    }

    /// The number of deliveries of the chosen tab.
    fn total(&self) -> Option<&str> {
        self.count_of(self.page_query.get("status").unwrap_or_default())
    }
}

/// `GET /ui/deliveries`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Deliveries);
    let view = view(context, request)?;
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Deliveries", &page(&view, &frame))))
}

/// The statuses of a tab. `None` for all.
fn statuses(tab: &str) -> Option<AnyOf<DeliveryStatus>> {
    match tab {
        "waiting" => Some(AnyOf::new(vec![DeliveryStatus::Pending, DeliveryStatus::Retrying])),
        _ => DeliveryStatus::parse(tab).map(|status| AnyOf::new(vec![status])),
    }
}

fn is_failed(page_query: &PageQuery) -> bool {
    page_query.get("status") == Some("failed") && page_query.get("event").is_none()
}

/// The query of an address. A value that cannot be read is absent.
fn query(page_query: &PageQuery, span: &Span, tenant: TenantScope) -> DeliveryQuery {
    let times = TimeSpan { from: span.from, to: span.to };
    let is_failed = is_failed(page_query);
    let outcome = page_query.get("outcome").unwrap_or_default();
    let codes = StatusCodes::parse(outcome).map(|codes| AnyOf::new(vec![codes]));
    let outcome = AttemptOutcome::ALL.into_iter().find(|one| one.as_str() == outcome).map(|one| AnyOf::new(vec![one]));
    let before =
        page_query.get("cursor").filter(|_| !is_failed).and_then(|text| cursor::read(CursorKind::Deliveries, text));
    DeliveryQuery {
        tenant,
        webhook: page_query.get("webhook").and_then(|id| id.parse().ok()),
        event: page_query.get("event").and_then(|id| id.parse().ok()),
        status: statuses(page_query.get("status").unwrap_or_default()),
        event_type: page_query.get("type").map(str::to_owned),
        status_code: codes,
        outcome,
        search: page_query.get("search").map(Search::new),
        ended: if is_failed { times } else { TimeSpan::default() },
        window: ListWindow {
            from: span.from.filter(|_| !is_failed),
            to: span.to.filter(|_| !is_failed),
            before,
            ..super::newest(ROWS_MAX)
        },
    }
}

fn view(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<DeliveriesView, ApiError> {
    let (page_query, tenant) = (filter::of(request.http, Section::Deliveries), request.tenant());
    let span = Span::of(&page_query, context.now);
    let query = query(&page_query, &span, tenant);
    let found = page_of(context, &page_query, &query)?;
    let webhooks = delivery_rows::webhook_choices(context, request, WEBHOOKS_SHOWN, page_query.get("webhook"));
    let is_short = found.next.is_some() && found.rows.len() < ROWS_MAX;
    let (waiting, failed) = tab_counts(context, &page_query, &span, (tenant, query.webhook))?;
    Ok(DeliveriesView {
        rows: delivery_rows::read(context, request, found.rows)?,
        page_query,
        webhooks,
        next: found.next,
        looked_back_to: found.back_to.filter(|_| is_short),
        waiting,
        failed,
    })
}

/// The numbers of waiting and failed deliveries for the tabs, as far as the filters leave them known.
fn tab_counts(
    context: &ApiContext<'_>,
    page_query: &PageQuery,
    span: &Span,
    owner: (TenantScope, Option<WebhookId>),
) -> Result<(Option<String>, Option<String>), ApiError> {
    let (tenant, webhook) = owner;
    let is_shown = webhook.is_none_or(|id| context.registry.webhook(tenant, id).is_some());
    if !is_shown || has_other_filters(page_query) {
        return Ok((None, None));
    }
    let waiting = match is_plain_waiting(page_query) {
        true => Some(format::count(counts::waiting(context, owner)?)),
        false => None,
    };
    Ok((waiting, counts::failed(context, owner, TimeSpan { from: span.from, to: span.to })?))
}

/// Whether the list is filtered by more than status, webhook and time.
fn has_other_filters(page_query: &PageQuery) -> bool {
    ["event", "type", "outcome", "search"].iter().any(|name| page_query.get(name).is_some())
}

/// The rows of a page.
#[derive(Default)]
struct FoundPage {
    rows: Vec<Delivery>,
    /// The cursor of the next page.
    next: Option<String>,
    /// The time that the next page begins at.
    back_to: Option<Time>,
}

/// Reads a page.
fn page_of(context: &ApiContext<'_>, page_query: &PageQuery, query: &DeliveryQuery) -> Result<FoundPage, ApiError> {
    let tenant = query.tenant;
    if is_failed(page_query) {
        let position = page_query.get("cursor").and_then(cursor::read_failed);
        let page = context.store.failed_deliveries(query, position, context.now)?;
        let back_to = page.next.map(|next| match next {
            FailedPosition::Indexed(at, _) => at,
            FailedPosition::Walked(id) => DeliveryId::from_u128(id).time(),
        });
        return Ok(FoundPage { rows: page.rows, next: page.next.map(cursor::write_failed), back_to });
    }
    // The due index knows no tenant, and a removed webhook has nothing in it.
    let is_there = query.webhook.is_none_or(|id| context.registry.webhook(tenant, id).is_some());
    if page_query.get("status") == Some("waiting") && is_plain_waiting(page_query) && is_there {
        let (rows, next) = waiting(context, page_query, query)?;
        return Ok(FoundPage { rows, next, back_to: None });
    }
    let page = context.store.deliveries(query, context.now)?;
    Ok(FoundPage {
        rows: page.rows,
        next: page.next.map(|next| cursor::write(CursorKind::Deliveries, next)),
        back_to: page.next.map(|next| DeliveryId::from_u128(next).time()),
    })
}

/// Whether a replay can mean the deliveries of the list: it knows neither a search nor a type. A list without a webhook
/// leads to the choice of a webhook or an app.
fn is_replayable(page_query: &PageQuery) -> bool {
    let is_listed = match page_query.get("status") {
        Some("failed") => true,
        // A replay of waiting deliveries has no other filter.
        Some("waiting") => is_plain_waiting(page_query),
        _ => false,
    };
    is_listed && ["search", "type", "event"].iter().all(|name| page_query.get(name).is_none())
}

/// Whether the list of waiting deliveries can come from the due index, which has no other filters than the webhook.
fn is_plain_waiting(page_query: &PageQuery) -> bool {
    ["event", "type", "outcome", "search", "last", "from", "to"].iter().all(|name| page_query.get(name).is_none())
}

/// The waiting deliveries by due time, of one webhook or of all.
fn waiting(
    context: &ApiContext<'_>,
    page_query: &PageQuery,
    query: &DeliveryQuery,
) -> Result<(Vec<Delivery>, Option<String>), ApiError> {
    let after = page_query.get("cursor").and_then(cursor::read_waiting);
    let page = match query.webhook {
        Some(webhook) => context.store.waiting(webhook, after, ROWS_MAX, context.now)?,
        None => context.store.waiting_of_all(query.tenant, after, ROWS_MAX, context.now)?,
    };
    let rows = page.rows.into_iter().map(|(delivery, _)| delivery).collect();
    Ok((rows, page.next.map(cursor::write_waiting)))
}

/// The page.
pub fn page(view: &DeliveriesView, frame: &Frame) -> Markup {
    let tab = view.page_query.get("status").unwrap_or_default();
    let columns =
        RowColumns { check: frame.may(Scope::DeliveriesRetry), webhook: true, ended: is_failed(&view.page_query) };
    html! {
        .head { div { h1 { "Deliveries" } } }
        (filters(view))
        .filters {
            nav.seg aria-label="Status" {
                @for (value, word) in TABS {
                    a href=(view.page_query.with("status", value).link()) aria-current=[(value == tab).then_some("true")] {
                        (word)
                        @if let Some(count) = view.count_of(value) { " " span.n { (count) } }
                    }
                }
            }
            (chips(view))
        }
        @if view.rows.is_empty() { (empty(view, frame)) } @else { (list(view, columns, frame)) }
    }
}

fn filters(view: &DeliveriesView) -> Markup {
    let chosen = |name: &str, value: &str| view.page_query.get(name) == Some(value);
    html! {
        form.filters autocomplete="off" {
            label.grow {
                span.vh { "Search" }
                input type="search" name="search" placeholder="An id, type, error or code"
                    value=(view.page_query.get("search").unwrap_or_default());
            }
            (delivery_rows::webhook_field(&view.webhooks, view.page_query.get("webhook")))
            label {
                span.vh { "Outcome" }
                select name="outcome" {
                    option value="" { "Any answer" }
                    @for class in ["2xx", "3xx", "4xx", "5xx"] {
                        option value=(class) selected[chosen("outcome", class)] { (class) }
                    }
                    @for outcome in AttemptOutcome::ALL {
                        option value=(outcome.as_str()) selected[chosen("outcome", outcome.as_str())] {
                            (outcome.as_str())
                        }
                    }
                }
            }
            label {
                span.vh { "Time" }
                select name="last" {
                    option value="" { "Any time" }
                    @for (value, words, _) in LASTS {
                        option value=(value) selected[chosen("last", value)] { "Last " (words) }
                    }
                }
            }
            @for kept in ["status", "type", "event"] {
                @if let Some(value) = view.page_query.get(kept) { input type="hidden" name=(kept) value=(value); }
            }
            button.btn type="submit" { "Filter" }
        }
    }
}

/// The fields that have a chip.
const CHIPS: [&str; 8] = ["search", "webhook", "event", "type", "outcome", "last", "from", "to"];

/// The filters in force, each with a link that removes it.
fn chips(view: &DeliveriesView) -> Markup {
    chips::chips(&view.page_query, &CHIPS, |name, value| {
        if name == "webhook" { delivery_rows::chosen_name(&view.webhooks, value) } else { value.to_owned() }
    })
}

/// The chosen tab as a filter that can be removed.
fn status_chip(view: &DeliveriesView) -> Markup {
    let status = view.page_query.get("status").unwrap_or_default();
    html! {
        span.chip {
            "status" b { (foreign(status)) }
            a href=(view.page_query.with("status", "").link()) aria-label="Remove the filter on status" { "×" }
        }
    }
}

/// How much a page looked at that ended before it was full.
fn looked(view: &DeliveriesView, frame: &Frame) -> Markup {
    // A search looks at the event of each delivery too.
    let rows_each = if view.page_query.get("search").is_some() { 2 } else { 1 };
    html! {
        "Looked at " (format::counted(super::EXAMINED_MAX as u64 / rows_each, "delivery", "deliveries"))
        @if let Some(at) = view.looked_back_to { ", back to " (format::moment(at, frame.now)) }
        "."
    }
}

fn empty(view: &DeliveriesView, frame: &Frame) -> Markup {
    html! {
        section.panel {
            .pad {
                @if let Some(next) = &view.next {
                    p { (looked(view, frame)) " None of them passes these filters." }
                    p { a.btn rel="next" href={ (view.page_query.with("", "").link()) "&cursor=" (next) } { "Look further" } }
                } @else if view.page_query == PageQuery::default() {
                    p { "No deliveries yet. Each event makes one for every webhook that wants it." }
                } @else {
                    p { "No delivery passes these filters:" @if view.page_query.get("status").is_some() { " " (status_chip(view)) } }
                    p.filters { (chips(view)) }
                    (chips::wider(&view.page_query))
                    @if let Some(search) = view.page_query.get("search").filter(|_| frame.portal.is_none()) {
                        p { a href=(frame.link(&PageQuery::default().with("q", search).to("find"))) { "Find an event of this event_id" } }
                    }
                    p { a href="?" { "Show all" } }
                }
            }
        }
    }
}

fn list(view: &DeliveriesView, columns: RowColumns, frame: &Frame) -> Markup {
    let table = delivery_rows::table(&view.rows, columns, "Deliveries", frame);
    let footer = html! {
        footer {
            span {
                @match view.total().filter(|_| view.page_query.get("cursor").is_none()) {
                    Some(total) => { "1–" (format::count(view.rows.len() as u64)) " of " (total) }
                    None => { (format::counted(view.rows.len() as u64, "delivery", "deliveries")) " on this page" }
                }
                @if view.looked_back_to.is_some() { ". " (looked(view, frame)) }
            }
            span.acts {
                @if view.page_query.get("cursor").is_some() {
                    a.btn.small.quiet href=(view.page_query.with("", "").link()) { "Newest" }
                }
                @if let Some(next) = &view.next {
                    a.btn.small rel="next" href={ (view.page_query.with("", "").link()) "&cursor=" (next) } {
                        @if view.looked_back_to.is_some() { "Look further" } @else { "Older" }
                    }
                }
            }
        }
    };
    if !columns.check {
        return html! { section.panel { (table) (footer) } };
    }
    let fields = html! {
        @if view.page_query != PageQuery::default() { input type="hidden" name=(LIST_FIELD) value=(view.page_query.with("", "").link()); }
        .bulk {
            button.btn.small type="submit" { "Send the chosen again" span data-chosen="" {} "…" }
            @if is_replayable(&view.page_query) {
                span.muted { "or" }
                a.btn.small href=(frame.link(&format!("replays/new{}", view.page_query.with("", "").link()))) {
                    "Send all " @if let Some(total) = view.total() { (total) " " }
                    @if view.page_query.get("status") == Some("waiting") { "now…" } @else { "again…" }
                }
                span.muted.big { "counts first, then asks; it can be stopped" }
            }
            @if frame.may(Scope::EventsWrite) {
                (frame.other_button(delivery_cancel::ACTION, "btn small quiet", "Cancel the chosen…"))
            }
        }
        (table)
        (footer)
    };
    frame.list_form("panel", delivery_resend::ACTION, &fields)
}

/// The list that a form came from, relative to the form's action, with a notice.
pub fn back(form: &PostedForm, done: &str) -> String {
    list_of(form.get(LIST_FIELD)).with("done", done).to("../deliveries")
}

/// The query of the list that a form came from, as a link ends with it.
pub fn kept_query(list: &str) -> String {
    list_of(list).link()
}

fn list_of(list: &str) -> PageQuery {
    filter::readable(&PageQuery::parse(list.trim_start_matches('?')), Section::Deliveries)
}
