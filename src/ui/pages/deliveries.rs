//! The list of deliveries: status tabs, filters in the address, and sending many again.

use std::sync::Arc;

use http::StatusCode;
use maud::{Markup, html};
use serde_json::json;

use crate::api::cursor::{self, CursorKind};
use crate::api::native::bulk_retry;
use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::{AttemptOutcome, Delivery, DeliveryStatus, Scope, StatusCodes, Webhook, WebhookId};
use crate::store::{AnyOf, DeliveryQuery, ListWindow, Search, TenantScope, TimeSpan};
use crate::ui::ask::{Ask, LASTS, Span};
use crate::ui::form::PostedForm;
use crate::ui::frame::{Frame, Section};
use crate::ui::relay::{ApiCall, relay};
use crate::ui::respond::see_other;
use crate::ui::write::{self, foreign};

use super::delivery_rows::{self, DeliveryRow, RowColumns};

/// Rows of a page.
const ROWS_MAX: usize = 40;
/// Webhooks in the list to choose from, beside the chosen one. The page of a webhook leads to its deliveries too.
const WEBHOOKS_SHOWN: usize = 25;
/// The fields that the address may have.
pub const KNOWN: &[&str] =
    &["status", "webhook", "event", "type", "outcome", "search", "last", "from", "to", "cursor", "done"];

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
    pub ask: Ask,
    pub span: Span,
    pub webhooks: Vec<Arc<Webhook>>,
    /// The cursor of the next page.
    pub next: Option<String>,
    /// Names in the address that mean nothing here.
    pub unknown: Vec<String>,
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

fn is_failed(ask: &Ask) -> bool {
    ask.get("status") == Some("failed") && ask.get("event").is_none()
}

/// The query of an address. A value that cannot be read is absent.
fn query(ask: &Ask, span: &Span, tenant: TenantScope) -> DeliveryQuery {
    let times = TimeSpan { from: span.from, to: span.to };
    let is_failed = is_failed(ask);
    let outcome = ask.get("outcome").unwrap_or_default();
    let codes = StatusCodes::parse(outcome).map(|codes| AnyOf::new(vec![codes]));
    let outcome = AttemptOutcome::ALL.into_iter().find(|one| one.as_str() == outcome).map(|one| AnyOf::new(vec![one]));
    let before = ask.get("cursor").filter(|_| !is_failed).and_then(|text| cursor::read(CursorKind::Deliveries, text));
    DeliveryQuery {
        tenant,
        webhook: ask.get("webhook").and_then(|id| id.parse().ok()),
        event: ask.get("event").and_then(|id| id.parse().ok()),
        status: statuses(ask.get("status").unwrap_or_default()),
        event_type: ask.get("type").map(str::to_owned),
        status_code: codes,
        outcome,
        search: ask.get("search").map(Search::new),
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
    let (ask, tenant) = (Ask::of(request.http), request.tenant());
    let span = Span::of(&ask, context.now);
    let (found, next) = page_of(context, &ask, &query(&ask, &span, tenant))?;
    let mut webhooks: Vec<_> = context.registry.webhooks_within(tenant).take(WEBHOOKS_SHOWN).cloned().collect();
    let chosen = ask.get("webhook").and_then(|id| id.parse().ok()).and_then(|id| context.registry.webhook(tenant, id));
    webhooks.extend(chosen.filter(|chosen| !webhooks.iter().any(|one| one.id == chosen.id)).cloned());
    let unknown = ask.unknown(KNOWN).into_iter().map(str::to_owned).collect();
    Ok(DeliveriesView { rows: delivery_rows::read(context, tenant, found)?, ask, span, webhooks, next, unknown })
}

/// The rows of a page, and the cursor of the next one.
fn page_of(
    context: &ApiContext<'_>,
    ask: &Ask,
    query: &DeliveryQuery,
) -> Result<(Vec<Delivery>, Option<String>), ApiError> {
    let tenant = query.tenant;
    if query.webhook.is_some_and(|id| context.registry.webhook(tenant, id).is_none()) {
        return Ok((Vec::new(), None));
    }
    if is_failed(ask) {
        let position = ask.get("cursor").and_then(cursor::read_failed);
        let page = context.store.failed_deliveries(query, position, context.now)?;
        return Ok((page.rows, page.next.map(cursor::write_failed)));
    }
    if ask.get("status") == Some("waiting") && is_plain_waiting(ask) {
        return waiting(context, ask, query);
    }
    let page = context.store.deliveries(query, context.now)?;
    Ok((page.rows, page.next.map(|next| cursor::write(CursorKind::Deliveries, next))))
}

/// Whether a replay can mean exactly the deliveries of the list: it is for one webhook, and knows neither a search nor a type.
fn is_replayable(ask: &Ask) -> bool {
    let has = |name| ask.get(name).is_some_and(|value: &str| !value.is_empty());
    let is_listed = match ask.get("status") {
        Some("failed") => true,
        // A replay of waiting deliveries has no other filter.
        Some("waiting") => is_plain_waiting(ask),
        _ => false,
    };
    is_listed && has("webhook") && !has("search") && !has("type") && !has("event")
}

/// Whether the list of waiting deliveries can come from the due index, which has no other filters than the webhook.
fn is_plain_waiting(ask: &Ask) -> bool {
    ["event", "type", "outcome", "search", "last", "from", "to"].iter().all(|name| ask.get(name).is_none())
}

/// The waiting deliveries, by due time: of one webhook with further pages, or the first of each webhook.
fn waiting(
    context: &ApiContext<'_>,
    ask: &Ask,
    query: &DeliveryQuery,
) -> Result<(Vec<Delivery>, Option<String>), ApiError> {
    if let Some(webhook) = query.webhook {
        let after = ask.get("cursor").and_then(cursor::read_waiting);
        let page = context.store.waiting(webhook, after, ROWS_MAX, context.now)?;
        let rows = page.rows.into_iter().map(|(delivery, _)| delivery).collect();
        return Ok((rows, page.next.map(cursor::write_waiting)));
    }
    let ids: Vec<WebhookId> = context.registry.webhooks_within(query.tenant).map(|webhook| webhook.id).collect();
    let mut rows = Vec::new();
    for id in ids {
        let page = context.store.waiting(id, None, ROWS_MAX, context.now)?;
        rows.extend(page.rows.into_iter().map(|(delivery, _)| delivery));
    }
    rows.sort_by_key(|delivery| (delivery.next_attempt_at, delivery.id));
    rows.truncate(ROWS_MAX);
    Ok((rows, None))
}

/// The page.
pub fn page(view: &DeliveriesView, frame: &Frame) -> Markup {
    let tab = view.ask.get("status").unwrap_or_default();
    let columns = RowColumns { check: frame.may(Scope::EventsWrite), webhook: true, ended: is_failed(&view.ask) };
    html! {
        .head { div { h1 { "Deliveries" } } }
        @if !view.unknown.is_empty() {
            p.note role="status" { "Not known here, and left out: " (foreign(&view.unknown.join(", "))) }
        }
        (filters(view))
        .filters {
            nav.seg aria-label="Status" {
                @for (value, word) in TABS {
                    a href=(view.ask.with("status", value).link()) aria-current=[(value == tab).then_some("true")] {
                        (word)
                    }
                }
            }
            (chips(view))
        }
        @if view.rows.is_empty() { (empty(view)) } @else { (list(view, columns, frame)) }
    }
}

fn filters(view: &DeliveriesView) -> Markup {
    let chosen = |name: &str, value: &str| view.ask.get(name) == Some(value);
    html! {
        form.filters {
            label.grow {
                span.vh { "Search" }
                input type="search" name="search" placeholder="An id, event_id, type, error or code"
                    value=(view.ask.get("search").unwrap_or_default());
            }
            label {
                span.vh { "Webhook" }
                select name="webhook" {
                    option value="" { "All webhooks" }
                    @for webhook in &view.webhooks {
                        @let id = webhook.id.to_string();
                        option value=(id) selected[chosen("webhook", &id)] { (foreign(&webhook.name)) }
                    }
                }
            }
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
                @if let Some(value) = view.ask.get(kept) { input type="hidden" name=(kept) value=(value); }
            }
            button.btn type="submit" { "Filter" }
        }
    }
}

/// The filters in force, each with a link that removes it.
fn chips(view: &DeliveriesView) -> Markup {
    let name_of = |id: &str| {
        let webhook = view.webhooks.iter().find(|webhook| webhook.id.to_string() == id);
        webhook.map_or_else(|| id.to_owned(), |webhook| webhook.name.clone())
    };
    html! {
        @for name in ["search", "webhook", "event", "type", "outcome", "last", "from", "to"] {
            @if let Some(value) = view.ask.get(name) {
                @let shown = if name == "webhook" { name_of(value) } else { value.to_owned() };
                span.chip {
                    (name) b { (foreign(&shown)) }
                    a href=(view.ask.with(name, "").link()) aria-label={ "Remove the filter on " (name) } { "×" }
                }
            }
        }
    }
}

fn empty(view: &DeliveriesView) -> Markup {
    html! {
        section.panel {
            .pad {
                @if let Some(next) = &view.next {
                    p { "Nothing found so far: only a part of the deliveries was looked at." }
                    p { a.btn rel="next" href={ (view.ask.with("", "").link()) "&cursor=" (next) } { "Look further" } }
                } @else if view.ask == Ask::default() {
                    p { "No deliveries yet. Each event makes one for every webhook that wants it." }
                } @else {
                    p { "No delivery passes these filters." }
                    @if view.span.words.is_some() {
                        p { a href=(view.ask.with("last", "").link()) { "Look at any time" } }
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
            span { (write::counted(view.rows.len() as u64, "delivery", "deliveries")) " on this page" }
            span.acts {
                @if view.ask.get("cursor").is_some() {
                    a.btn.small.quiet href=(view.ask.with("", "").link()) { "Newest" }
                }
                @if let Some(next) = &view.next {
                    a.btn.small rel="next" href={ (view.ask.with("", "").link()) "&cursor=" (next) } { "Older" }
                }
            }
        }
    };
    if !columns.check {
        return html! { section.panel { (table) (footer) } };
    }
    let fields = html! {
        .bulk {
            button.btn.small type="submit" { "Send the chosen again" }
            @if is_replayable(&view.ask) {
                span.muted { "or" }
                a.btn.small href=(frame.link(&format!("replays/new{}", view.ask.with("", "").link()))) {
                    @if view.ask.get("status") == Some("waiting") { "Send all now…" } @else { "Send all again…" }
                }
                span.muted.big { "counts first, then asks; it can be stopped" }
            }
        }
        (table)
        (footer)
    };
    frame.form("panel", "deliveries/retry", &fields)
}

/// `POST /ui/deliveries/retry`: sends the chosen deliveries again.
pub fn retry(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let ids: Vec<&str> = form.all("id[]").collect();
    if ids.is_empty() {
        return Ok(Step::Reply(see_other("../deliveries?done=none-chosen")?));
    }
    let call = ApiCall { handler: bulk_retry::retry, body: json!({ "ids": ids }).to_string(), form: Some(&form) };
    relay(context, request, &call, |_| see_other("../deliveries?done=retried-many"))
}
