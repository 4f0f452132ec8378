//! Live: attempts as they are made, newest first.
//!
//! The page works by itself, and asks for itself again without scripts. The module fetches the rows alone.

use http::HeaderValue;
use http::StatusCode;
use http::header::HeaderName;
use maud::{Markup, html};

use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::{Attempt, AttemptId};
use crate::store::{AttemptQuery, ListWindow, Search};
use crate::ui::ask::Ask;
use crate::ui::frame::{self, Frame, Section};
use crate::ui::mood;
use crate::ui::respond::html as html_response;
use crate::ui::write::{self, foreign};

/// Rows of the page.
const ROWS_MAX: usize = 50;
/// Webhooks in the list to choose from.
const WEBHOOKS_SHOWN: usize = 25;
/// Seconds after which a page without scripts asks for itself again.
const RELOAD_S: u32 = 5;

pub struct LiveView {
    /// Attempts, newest first, each with the name of its webhook.
    pub rows: Vec<(Attempt, String)>,
    pub ask: Ask,
    pub webhooks: Vec<(String, String)>,
}

fn view(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    after: Option<AttemptId>,
) -> Result<LiveView, ApiError> {
    let (ask, tenant) = (Ask::of(request.http), request.tenant());
    let query = AttemptQuery {
        tenant,
        webhook: ask.get("webhook").and_then(|id| id.parse().ok()),
        delivery: None,
        event: None,
        success: (ask.get("only") == Some("failed")).then_some(false),
        status: None,
        event_type: None,
        status_code: None,
        outcome: None,
        search: ask.get("search").map(Search::new),
        window: ListWindow { from: None, to: None, before: None, limit: ROWS_MAX },
    };
    let page = context.store.attempts(&query, context.now)?;
    let name = |attempt: &Attempt| {
        let webhook = context.registry.webhook(tenant, attempt.webhook_id);
        webhook.map_or_else(|| attempt.webhook_id.to_string(), |webhook| webhook.name.clone())
    };
    let newer = page.rows.into_iter().filter(|attempt| after.is_none_or(|after| attempt.id > after));
    let rows = newer.map(|attempt| (attempt.clone(), name(&attempt))).collect();
    let webhooks = context.registry.webhooks_within(tenant);
    let webhooks =
        webhooks.take(WEBHOOKS_SHOWN).map(|webhook| (webhook.id.to_string(), webhook.name.clone())).collect();
    Ok(LiveView { rows, ask, webhooks })
}

/// `GET /ui/live`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let view = view(context, request, None)?;
    let frame = Frame::new(context, request, Section::Live);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Live", &page(&view, &frame))))
}

/// `GET /ui/live-rows?after=`: the rows after an attempt, as a fragment.
pub fn rows(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let after = Ask::of(request.http).get("after").and_then(|id| id.parse().ok());
    let view = view(context, request, after)?;
    let frame = Frame::new(context, request, Section::Live);
    // A page that is only looked at goes on with its session.
    let response = frame.renewing(html_response(StatusCode::OK, table_rows(&view.rows, &frame)));
    let newest = view.rows.first().and_then(|(attempt, _)| HeaderValue::from_str(&attempt.id.to_string()).ok());
    Ok(Step::Reply(match newest {
        Some(id) => response.with(HeaderName::from_static("x-newest"), id),
        None => response,
    }))
}

/// The page.
pub fn page(view: &LiveView, frame: &Frame) -> Markup {
    let newest = view.rows.first().map(|(attempt, _)| attempt.id.to_string()).unwrap_or_default();
    let only = view.ask.get("only").unwrap_or_default();
    html! {
        .head {
            div {
                h1 { "Live" }
                p.lead {
                    "Attempts as they are made, newest first. The list stands still while you scroll, select or hover."
                }
            }
            .acts {
                span.st { span.pulse {} span data-live-state="" role="status" { "Reload to see newer ones" } }
                button.btn type="button" data-live-pause="" aria-pressed="false" hidden { "Pause" }
                a.btn href=(view.ask.with("", "").link()) { "Reload" }
            }
        }
        noscript { meta http-equiv="refresh" content=(RELOAD_S); }
        (filters(view, only))
        section.panel aria-label="Attempts" {
            button.more type="button" data-live-more="" hidden { "Newer ones, show them" }
            table data-live=(newest) data-query=(view.ask.with("", "").link()) {
                caption.vh { "Attempts, newest first" }
                thead { tr {
                    th.w-when scope="col" { "Started" }
                    th.w-ans scope="col" { span.fold-h { "Answer" } }
                    th scope="col" { "Event" }
                    th.big scope="col" { "Webhook" }
                    th.num.w-ms.big scope="col" { "Took" }
                } }
                tbody { (table_rows(&view.rows, frame)) }
            }
            @if view.rows.is_empty() { .pad { p.muted { "No attempts yet." } } }
            footer {
                span { "The newest 200 are kept here" }
                a href=(frame.link("deliveries")) { "Look further back in deliveries" }
            }
        }
    }
}

fn filters(view: &LiveView, only: &str) -> Markup {
    html! {
        form.filters {
            label.grow {
                span.vh { "Search" }
                input type="search" name="search" placeholder="Type, error, URL or subject"
                    value=(view.ask.get("search").unwrap_or_default());
            }
            label {
                span.vh { "Webhook" }
                select name="webhook" {
                    option value="" { "All webhooks" }
                    @for (id, name) in &view.webhooks {
                        option value=(id) selected[view.ask.get("webhook") == Some(id)] { (foreign(name)) }
                    }
                }
            }
            nav.seg aria-label="Outcome" {
                @for (value, words) in [("", "All"), ("failed", "Failed only")] {
                    a href=(view.ask.with("only", value).link()) aria-current=[(only == value).then_some("true")] {
                        (words)
                    }
                }
            }
            @if !only.is_empty() { input type="hidden" name="only" value=(only); }
            button.btn type="submit" { "Filter" }
        }
    }
}

/// The rows alone.
pub fn table_rows(rows: &[(Attempt, String)], frame: &Frame) -> Markup {
    html! {
        @for (attempt, webhook) in rows {
            @let made = &attempt.made;
            @let (class, icon) = mood::attempt_parts(made);
            @let answer = made.status_code.map_or_else(|| mood::answer(made), |code| code.to_string());
            tr {
                td.nowrap.w-when { (write::exact_moment(made.started_at, frame.now)) }
                td.w-ans { (frame::state(&format!("{class} fold"), icon, &answer)) }
                td {
                    a.key href=(frame.link(&format!("deliveries/{}?attempt={}", attempt.delivery_id, made.number))) {
                        (foreign(&attempt.event_type))
                    }
                    span.sub.only-small { (foreign(webhook)) " · " (foreign(&answer)) }
                }
                td.big { a href=(frame.link(&format!("webhooks/{}", attempt.webhook_id))) { (foreign(webhook)) } }
                td.num.big { (write::millis(made.timings.total)) }
            }
        }
    }
}
