//! The audit: each action with its key, its time and its address.

use http::StatusCode;
use maud::{Markup, html};

use crate::api::cursor::{self, CursorKind};
use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::Id;
use crate::model::id::without_prefix;
use crate::store::{AuditFilter, AuditRow, ListWindow};
use crate::ui::chips;
use crate::ui::filter;
use crate::ui::format::{self, foreign};
use crate::ui::frame::{Frame, Section};
use crate::ui::page_query::{PageQuery, Span};

/// Maximum number of rows of a page.
const ROWS_MAX: usize = 50;

/// The fields of the address that filter, with their words.
const FILTERS: [(&str, &str); 3] =
    [("action", "Action, such as webhook."), ("target", "Id of the object"), ("key", "Id of the key")];

/// The fields that have a chip where nothing passes.
const CHIPS: [&str; 6] = ["action", "target", "key", "last", "from", "to"];

pub struct AuditPageView {
    /// Each entry with the name of its key.
    pub rows: Vec<(AuditRow, String)>,
    pub page_query: PageQuery,
    pub next: Option<u128>,
}

/// `GET /ui/audit`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let page_query = filter::of(request.http, Section::Audit);
    let span = Span::of(&page_query, context.now);
    let filter = AuditFilter {
        key_id: page_query.get("key").and_then(|id| id.parse().ok()),
        action: page_query.get("action").map(str::to_owned),
        target: page_query.get("target").map(|target| without_prefix(target).to_owned()),
    };
    let before = page_query.get("cursor").and_then(|text| cursor::read(CursorKind::Audit, text));
    let window = ListWindow { from: span.from, to: span.to, before, ..super::newest(ROWS_MAX) };
    let page = context.store.audit(request.tenant(), &filter, window)?;
    let name = |row: &AuditRow| match row.key_id {
        Some(id) => context.registry.key(id).map_or_else(|| id.to_string(), |key| key.name.clone()),
        None => "the daemon".to_owned(),
    };
    let rows = page.rows.into_iter().map(|row| (row.clone(), name(&row))).collect();
    let view = AuditPageView { rows, page_query, next: page.next };
    let frame = Frame::new(context, request, Section::Audit);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Audit", &self::page(&view, &frame))))
}

/// The page.
pub fn page(view: &AuditPageView, frame: &Frame) -> Markup {
    html! {
        .head { div { h1 { "Audit" } p.lead { "Every change and every secret that was shown, newest first." } } }
        form.filters autocomplete="off" {
            @for (name, words) in FILTERS {
                label.grow {
                    span.vh { (words) }
                    input type="search" name=(name) placeholder=(words) value=(view.page_query.get(name).unwrap_or_default());
                }
            }
            button.btn type="submit" { "Filter" }
        }
        section.panel {
            @if view.rows.is_empty() {
                .pad {
                    @if let Some(next) = view.next {
                        p { (looked(next, frame)) " None of them passes these filters." }
                        p.filters { (chips::chips(&view.page_query, &CHIPS, |_, value| value.to_owned())) }
                    } @else if view.page_query == PageQuery::default() {
                        p { "Nothing here yet." }
                    } @else {
                        (chips::none_passes("No entry passes these filters:", &view.page_query, &CHIPS, |_, value| value.to_owned()))
                    }
                }
            } @else {
                table.fixed {
                    caption.vh { "Audit" }
                    thead {
                        tr {
                            th.w-when scope="col" { "When" }
                            th.w-type scope="col" { "Action" }
                            th.w-hook scope="col" { "By" }
                            th.w-hook.big scope="col" { "From" }
                            th.big scope="col" { "Changes" }
                        }
                    }
                    tbody { @for (row, by) in &view.rows { (entry(row, by, frame)) } }
                }
            }
            @if let Some(next) = view.next {
                @let is_short = view.rows.len() < ROWS_MAX;
                footer {
                    span { @if is_short && !view.rows.is_empty() { (looked(next, frame)) } }
                    @let next = cursor::write(CursorKind::Audit, next);
                    a.btn.small rel="next" href={ (view.page_query.with("", "").link()) "&cursor=" (next) } {
                        @if is_short { "Look further" } @else { "Older" }
                    }
                }
            }
        }
    }
}

/// How much a page looked at that ended before it was full.
pub fn looked(next: u128, frame: &Frame) -> Markup {
    html! {
        "Looked at " (format::counted(super::EXAMINED_MAX as u64, "entry", "entries")) ", back to "
        (format::moment(Id::<AuditRow>::from_u128(next).time(), frame.now)) "."
    }
}

fn entry(row: &AuditRow, by: &str, frame: &Frame) -> Markup {
    let changes = row.changes.as_deref().filter(|changes| *changes != "{}").unwrap_or_default();
    html! {
        tr {
            td.nowrap { (format::moment(row.at, frame.now)) }
            td { code { (foreign(&row.action)) } span.sub.mono { (foreign(&row.target)) } }
            td { (foreign(by)) }
            td.big { (foreign(row.remote_addr.as_deref().unwrap_or("–"))) }
            td.big { span.sub.mono { (foreign(changes)) } }
        }
    }
}
