//! The installation: its readiness, its warnings and its settings.

use http::StatusCode;
use maud::{Markup, html};

use crate::api::{ApiContext, ApiError, HealthIssue, RequestContext, Step};
use crate::model::machine::MachineState;
use crate::model::time::DAY_MS;
use crate::ui::format::{self, foreign};
use crate::ui::frame::{self, Frame, Section};

use super::overview;

pub struct SystemPageView {
    pub reasons: Vec<HealthIssue>,
    pub warnings: Vec<HealthIssue>,
    pub state: MachineState,
    pub retention_ms: i64,
    pub idempotency_window_ms: i64,
    pub public_url: String,
}

/// `GET /ui/system`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let view = SystemPageView {
        reasons: context.health_source.unready(),
        warnings: context.health_source.warnings(),
        state: context.health_source.machine(),
        retention_ms: context.store.retention_ms(),
        idempotency_window_ms: context.settings.idempotency_window_ms,
        public_url: context.settings.public_url.clone(),
    };
    let frame = Frame::new(context, request, Section::System);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "System", &page(&view, &frame))))
}

/// The page.
pub fn page(view: &SystemPageView, frame: &Frame) -> Markup {
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
                        li { (frame::state("bad", "bad", "Not ready")) p { (format::with_code(&issue.detail)) } }
                    }
                    @for issue in &view.warnings {
                        li { (frame::state("retry", "retry", "Warning")) p { (format::with_code(&issue.detail)) } }
                    }
                }
            }
        }
        (overview::machine(&view.state, view.retention_ms / DAY_MS, frame))
        .cols.half {
            (store(view, frame))
            section.panel aria-labelledby="se" {
                header { h2 #se { "Settings" } }
                dl.facts {
                    div { dt { "Address" } dd { code { (foreign(&view.public_url)) } } }
                    div { dt { "Kept for" } dd { (format::age(view.retention_ms)) } }
                    div { dt { "Repetitions" } dd { "recognised for " (format::age(view.idempotency_window_ms)) } }
                    div { dt { "Clock" } dd { (clock(&view.state, frame)) } }
                }
                footer { span.muted { "More, with cures: " code { "postrider doctor" } } }
            }
        }
    }
}

/// The store and the work of the daemon at this moment.
fn store(view: &SystemPageView, frame: &Frame) -> Markup {
    let state = &view.state;
    let parts = [
        ("Webhooks, keys, audit", state.store.state),
        ("Write-ahead log", state.store.journal),
        ("Newest partition", state.store.active),
        ("Earlier partitions", state.store.sealed),
    ];
    let of = |count: usize, most: usize| format!("{} of {}", format::count(count as u64), format::count(most as u64));
    html! {
        section.panel aria-labelledby="st" {
            header { h2 #st { "Store and work" } }
            dl.facts {
                @for (name, bytes) in parts { div { dt { (name) } dd { (format::size(bytes)) } } }
                div {
                    dt { "Oldest event" }
                    dd { @match state.oldest_event { Some(at) => (format::moment(at, frame.now)), None => "none" } }
                }
                div { dt { "Publishes queued" } dd { (of(state.queue, state.queue_max)) } }
                div { dt { "Under way" } dd { (of(state.in_flight, state.in_flight_max)) } }
                div {
                    dt { "Commits" }
                    dd {
                        "p50 " (overview::commit_words(state.commit_p50_us))
                        ", p99 " (overview::commit_words(state.commit_p99_us))
                    }
                }
                div { dt { "Started" } dd { (format::moment(state.started_at, frame.now)) } }
            }
        }
    }
}

fn clock(state: &MachineState, frame: &Frame) -> Markup {
    html! {
        (format::exact_moment(frame.now, frame.now)) " UTC"
        @if let Some(ms) = state.clock_off_ms { ", off by " (ms) " ms" }
        @if !state.clock_trusted { ", not trusted: nothing expires" }
    }
}
