//! Live: attempts as they are made, newest first.
//!
//! The page works by itself, and asks for itself again without scripts. The module fetches the rows alone.

use http::HeaderValue;
use http::StatusCode;
use http::header::HeaderName;
use maud::{Markup, html};

use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::feed_topic::FeedTopic;
use crate::model::time::SECOND_MS;
use crate::model::{Attempt, AttemptId, Scope, Time};
use crate::store::{AttemptPage, AttemptQuery, Search, TenantScope};
use crate::ui::chips;
use crate::ui::filter;
use crate::ui::format::{self, foreign};
use crate::ui::frame::{self, Frame, Section};
use crate::ui::mood;
use crate::ui::page_query::PageQuery;
use crate::ui::respond::html as html_response;

use super::delivery_rows;

/// Rows of the page.
const ROWS_MAX: usize = 50;
/// Webhooks in the list to choose from.
const WEBHOOKS_SHOWN: usize = 25;
/// Seconds for which a request for rows may wait.
const WAIT_S_MAX: i64 = 25;
/// Seconds after which a page without scripts asks for itself again.
const RELOAD_S: u32 = 5;

/// The fields that have a chip where nothing passes.
const CHIPS: [&str; 3] = ["search", "webhook", "only"];

pub struct LiveView {
    /// Attempts, newest first, each with the name of its webhook.
    pub rows: Vec<(Attempt, String)>,
    /// The position behind which newer attempts are.
    pub reached: AttemptId,
    pub page_query: PageQuery,
    /// The webhooks to choose from: id and name.
    pub webhooks: Vec<(String, String)>,
    /// How far back the page looked, if it ended before it was full.
    pub looked_back_to: Option<Time>,
}

fn query_of(page_query: &PageQuery, tenant: TenantScope) -> AttemptQuery {
    AttemptQuery {
        tenant,
        webhook: page_query.get("webhook").and_then(|id| id.parse().ok()),
        delivery: None,
        event: None,
        success: (page_query.get("only") == Some("failed")).then_some(false),
        status: None,
        event_type: None,
        status_code: None,
        outcome: None,
        search: page_query.get("search").map(Search::new),
        window: super::newest(ROWS_MAX),
    }
}

/// The attempts after `after` in commit order, or the newest ones.
fn attempts(context: &ApiContext<'_>, query: &AttemptQuery, after: Option<AttemptId>) -> Result<AttemptPage, ApiError> {
    if query.webhook.is_some_and(|id| context.registry.webhook(query.tenant, id).is_none()) {
        return Ok(AttemptPage { is_end: true, ..AttemptPage::default() });
    }
    let last = context.health_source.pass_attempts(context.store.newest_attempt(), true);
    Ok(context.store.attempts_after(query, after, last, context.now)?)
}

/// The rows of a page, newest first, each with the name of its webhook.
fn named(context: &ApiContext<'_>, request: &RequestContext<'_>, attempts: Vec<Attempt>) -> Vec<(Attempt, String)> {
    let name = |attempt: &Attempt| delivery_rows::webhook_name(context, request, attempt.webhook_id);
    attempts.into_iter().rev().map(|attempt| (attempt.clone(), name(&attempt))).collect()
}

/// `GET /ui/live`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (page_query, tenant) = (filter::of(request.http, Section::Live), request.tenant());
    let page_of = attempts(context, &query_of(&page_query, tenant), None)?;
    let webhooks = delivery_rows::webhook_choices(context, request, WEBHOOKS_SHOWN, page_query.get("webhook"));
    let (reached, looked_back_to) = (page_of.reached, page_of.looked_back_to);
    let view = LiveView { rows: named(context, request, page_of.rows), reached, page_query, webhooks, looked_back_to };
    let frame = Frame::new(context, request, Section::Live);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Live", &page(&view, &frame))))
}

/// `GET /ui/live-rows?after=&wait_s=`: the rows after a position, as a fragment, as soon as there are some. Its header
/// `x-newest` is the next position. If there are more than a page, the newest ones are shown and `x-sampled` says so.
pub fn rows(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (page_query, tenant) = (filter::of(request.http, Section::Live), request.tenant());
    let (query, after) =
        (query_of(&page_query, tenant), page_query.get("after").and_then(|id| id.parse::<AttemptId>().ok()));
    let after = context.reached.map(AttemptId::from_u128).or(after);
    let wait_s = page_query.get("wait_s").and_then(|text| text.parse::<i64>().ok()).unwrap_or(0).clamp(0, WAIT_S_MAX);
    let mut found = attempts(context, &query, after)?;
    let until = context.since.plus_ms(wait_s * SECOND_MS);
    if found.rows.is_empty() && found.is_end && after.is_some() && context.now < until {
        return Ok(Step::Wait { topic: FeedTopic::Attempts, until, reached: Some(found.reached.as_u128()) });
    }
    let is_sampled = after.is_some() && found.rows.len() == ROWS_MAX && !found.is_end;
    if is_sampled {
        found = attempts(context, &query, None)?;
        found.rows.retain(|attempt| after.is_none_or(|after| attempt.id > after));
    }
    let frame = Frame::new(context, request, Section::Live);
    let rows = named(context, request, found.rows);
    // A page that is only looked at goes on with its session.
    let mut response = frame.renewing(html_response(StatusCode::OK, table_rows(&rows, &frame)));
    if let Ok(reached) = HeaderValue::from_str(&found.reached.to_string()) {
        response = response.with(HeaderName::from_static("x-newest"), reached);
    }
    Ok(Step::Reply(match is_sampled {
        true => response.with(HeaderName::from_static("x-sampled"), HeaderValue::from_static("1")),
        false => response,
    }))
}

/// The page.
pub fn page(view: &LiveView, frame: &Frame) -> Markup {
    let only = view.page_query.get("only").unwrap_or_default();
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
                a.btn href=(view.page_query.with("", "").link()) { "Reload" }
            }
        }
        noscript { meta http-equiv="refresh" content=(RELOAD_S); }
        (filters(view, only))
        section.panel aria-label="Attempts" {
            button.more type="button" data-live-more="" hidden { "Newer ones, show them" }
            table data-live=(view.reached) data-query=(view.page_query.with("", "").link()) {
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
            @if let Some(at) = view.looked_back_to {
                .pad {
                    p.muted {
                        "Looked at the newest " (format::counted(super::EXAMINED_MAX as u64, "attempt", "attempts"))
                        ", back to " (format::moment(at, frame.now)) "."
                        @if view.rows.is_empty() { " None of them passes these filters." }
                    }
                }
            } @else if view.rows.is_empty() {
                .pad data-live-none="" {
                    @if view.page_query == PageQuery::default() {
                        p.muted { "No attempts yet." }
                    } @else {
                        (chips::none_passes("No attempt passes these filters yet:", &view.page_query, &CHIPS, |name, value| {
                            if name == "webhook" { delivery_rows::chosen_name(&view.webhooks, value) } else { value.to_owned() }
                        }))
                    }
                }
            }
            footer {
                span { "The newest 200 are kept here" }
                a href=(frame.link("deliveries")) { "Look further back in deliveries" }
            }
        }
    }
}

fn filters(view: &LiveView, only: &str) -> Markup {
    html! {
        form.filters autocomplete="off" {
            label.grow {
                span.vh { "Search" }
                input type="search" name="search" placeholder="Type, error, URL or subject"
                    value=(view.page_query.get("search").unwrap_or_default());
            }
            (delivery_rows::webhook_field(&view.webhooks, view.page_query.get("webhook")))
            nav.seg aria-label="Outcome" {
                @for (value, words) in [("", "All"), ("failed", "Failed only")] {
                    a href=(view.page_query.with("only", value).link()) aria-current=[(only == value).then_some("true")] {
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
            @let answer = made.status_code.map_or_else(|| mood::answer(made, frame.reader()), |code| code.to_string());
            tr {
                td.nowrap.w-when { (format::exact_moment(made.started_at, frame.now)) }
                td.w-ans { (frame::state(&format!("{class} fold"), icon, &answer)) }
                td {
                    a.key href=(frame.link(&format!("deliveries/{}?attempt={}", attempt.delivery_id, made.number))) {
                        (foreign(&attempt.event_type))
                    }
                    span.sub.only-small { (foreign(webhook)) " · " (foreign(&answer)) }
                }
                td.big {
                    (frame.link_if_may(Scope::WebhooksRead, &format!("webhooks/{}", attempt.webhook_id), &foreign(webhook)))
                }
                td.num.big { (format::millis(made.timings.total)) }
            }
        }
    }
}
