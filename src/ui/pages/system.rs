//! The installation: its readiness, its warnings and its settings.

use http::StatusCode;
use maud::{Markup, html};

use crate::api::{ApiContext, ApiError, HealthIssue, RequestContext, Step};
use crate::model::Time;
use crate::model::time::DAY_MS;
use crate::ui::frame::{self, Frame, Section};
use crate::ui::write::{self, foreign};

pub struct SystemPageView {
    pub reasons: Vec<HealthIssue>,
    pub warnings: Vec<HealthIssue>,
    pub free_bytes: Option<u64>,
    pub min_free_bytes: u64,
    pub partitions: usize,
    pub retention_ms: i64,
    pub idempotency_window_ms: i64,
    pub written_bytes: u64,
    pub public_url: String,
}

/// `GET /ui/system`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let view = SystemPageView {
        reasons: context.health_source.unready(),
        warnings: context.health_source.warnings(),
        free_bytes: context.store.free_bytes(),
        min_free_bytes: context.store.min_free_bytes(),
        partitions: context.store.partition_count(),
        retention_ms: context.store.retention_ms(),
        idempotency_window_ms: context.settings.idempotency_window_ms,
        written_bytes: context.store.written_bytes(),
        public_url: context.settings.public_url.clone(),
    };
    let frame = Frame::new(context, request, Section::System);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "System", &page(&view, &frame))))
}

/// The page.
pub fn page(view: &SystemPageView, frame: &Frame) -> Markup {
    let now: Time = frame.now;
    html! {
        .head { div { h1 { "System" } p.lead {
            @if view.reasons.is_empty() { (frame::tag("ok", "ok", "Ready")) " Events are taken and sent." }
            @else { (frame::tag("bad", "bad", "Not ready")) }
        } } }
        @if !view.reasons.is_empty() || !view.warnings.is_empty() {
            section.panel aria-labelledby="is" {
                header { h2 #is { "What needs attention" } }
                ul.words {
                    @for issue in &view.reasons {
                        li { (frame::state("bad", "bad", "Not ready")) p { (foreign(&issue.detail)) } }
                    }
                    @for issue in &view.warnings {
                        li { (frame::state("retry", "retry", "Warning")) p { (foreign(&issue.detail)) } }
                    }
                }
            }
        }
        dl.panel.figs.four {
            div {
                dt { "Disk free" }
                dd { @match view.free_bytes { Some(bytes) => (write::size(bytes)), None => "–" } }
                dd { "publishing stops below " (write::size(view.min_free_bytes)) }
            }
            div {
                dt { "Store" }
                dd { (view.partitions) }
                dd { @if view.partitions == 1 { "partition" } @else { "partitions" } }
            }
            div { dt { "Written" } dd { (write::size(view.written_bytes)) } dd { "since the start" } }
            div { dt { "Daemon" } dd { (env!("CARGO_PKG_VERSION")) } dd { "Postrider" } }
        }
        section.panel aria-labelledby="se" {
            header { h2 #se { "Settings" } }
            dl.facts {
                div { dt { "Address" } dd { code { (foreign(&view.public_url)) } } }
                div { dt { "Kept for" } dd { (write::age(view.retention_ms)) } }
                div { dt { "Repetitions" } dd { "recognised for " (write::age(view.idempotency_window_ms)) } }
                div { dt { "Clock" } dd { (write::exact_moment(now, now)) " UTC" } }
            }
            footer {
                span.muted {
                    "The oldest events are "
                    (view.retention_ms / DAY_MS)
                    " days old at most. More: "
                    code { "postrider doctor" }
                }
            }
        }
    }
}
