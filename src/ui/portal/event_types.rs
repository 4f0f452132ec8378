//! The event types that the app has got, for a tenant who chooses some.

use http::StatusCode;
use maud::{Markup, html};

use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::rules::patterns;
use crate::store::EventTypePage;
use crate::ui::format::{self, foreign};
use crate::ui::frame::{Frame, Section};
use crate::ui::page_query::PageQuery;

/// Maximum number of rows of a page.
const ROWS_MAX: usize = 50;

/// `GET /ui/portal/event-types`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::EventTypes);
    let page_query = PageQuery::of(request.http);
    let after = page_query.get("cursor").filter(|after| patterns::is_type(after));
    let types = context.store.event_types(request.tenant(), after, ROWS_MAX, context.now)?;
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Event types", &page(&types, &frame))))
}

/// The page.
pub fn page(types: &EventTypePage, frame: &Frame) -> Markup {
    html! {
        .head {
            div {
                h1 { "Event types" }
                p.lead { "The types of the events that came for you, as far back as events are kept." }
            }
        }
        section.panel {
            @if types.rows.is_empty() {
                .pad { p { "No event yet." } }
            } @else {
                table {
                    caption.vh { "Event types" }
                    thead {
                        tr {
                            th scope="col" { "Type" }
                            th.num scope="col" { "24 hours" }
                            th.num scope="col" { "Last seen" }
                        }
                    }
                    tbody {
                        @for row in &types.rows {
                            tr {
                                td { code { (foreign(&row.event_type)) } }
                                td.num { (format::count(row.last_24h)) }
                                td.num.nowrap { (format::moment(row.last_seen, frame.now)) }
                            }
                        }
                    }
                }
            }
            @if let Some(next) = &types.next {
                footer { a.btn.small rel="next" href={ "?cursor=" (next) } { "More" } }
            }
        }
    }
}
