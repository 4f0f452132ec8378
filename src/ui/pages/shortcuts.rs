//! The keys of the pages, and the switch that turns them off (WCAG 2.2, 2.1.4).

use http::StatusCode;
use maud::{Markup, html};

use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::ui::frame::{Frame, Section};

/// The keys that lead to a page, with its name, and whether the portal has the page.
const PAGE_KEYS: [(&[&str], &str, bool); 7] = [
    (&["/"], "Find", false),
    (&["g", "o"], "Overview, or the first page", true),
    (&["g", "w"], "Webhooks", false),
    (&["g", "d"], "Deliveries", true),
    (&["g", "e"], "Events", false),
    (&["g", "l"], "Live", false),
    (&["g", "r"], "Replays", true),
];

/// The keys within a page, with their meanings. Each meaning is reachable without its key.
const KEYS: [(&[&str], &str); 6] = [
    (&["j", "k"], "The next row, the row before"),
    (&["Enter"], "Opens the row"),
    (&["x"], "Chooses the row, or leaves it"),
    (&["r"], "Sends the chosen rows or the shown delivery again, after a question"),
    (&["[", "]"], "The attempt before, the next attempt"),
    (&["Esc"], "Leaves a field or a row"),
];

/// `GET /ui/shortcuts`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Aside);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Keys", &page(&frame))))
}

/// The page.
pub fn page(frame: &Frame) -> Markup {
    let is_there = |in_portal: bool| in_portal || frame.portal.is_none();
    let pages = PAGE_KEYS.into_iter().filter(|(.., in_portal)| is_there(*in_portal));
    let keys = pages.map(|(keys, meaning, _)| (keys, meaning)).chain(KEYS);
    html! {
        .head {
            div {
                h1 { "Keys" }
                p.lead { "They work outside of fields, with scripts on. Everything is reachable without them." }
            }
            .acts { button.btn type="button" data-keys="" hidden { "Switch the keys off" } }
        }
        section.panel {
            table {
                caption.vh { "Keys" }
                thead { tr { th scope="col" { "Key" } th scope="col" { "What it does" } } }
                tbody {
                    @for (keys, meaning) in keys {
                        tr {
                            td.nowrap { @for key in keys { kbd { (key) } " " } }
                            td { (meaning) }
                        }
                    }
                    tr { td.nowrap { kbd { "?" } } td { "This list" } }
                }
            }
        }
    }
}
