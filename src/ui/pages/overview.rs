//! Overview: one sentence about everything, then the webhooks that need a person, worst first.

use http::StatusCode;
use maud::{Markup, html};

use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::figures::Minute;
use crate::model::machine::MachineState;
use crate::model::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::model::{Scope, Time};
use crate::store::Backlog;
use crate::ui::format::{self, foreign};
use crate::ui::frame::{Frame, Section};
use crate::ui::mood::WebhookMood;
use crate::ui::page_query::PageQuery;
use crate::ui::series::{self, ChartSeries, ChartSpan};

use super::webhook_rows::{self, RowOrder, WebhookRow};

/// Rows of the list of webhooks.
const WEBHOOKS_SHOWN: usize = 7;
/// Rows of the list of trouble.
const TROUBLES_SHOWN: usize = 20;

pub struct OverviewView {
    /// The worst webhooks, worst first.
    pub rows: Vec<WebhookRow>,
    /// The moods of all webhooks.
    pub moods: Vec<WebhookMood>,
    pub series: ChartSeries,
    pub figures: OverviewFigures,
    pub machine: Option<MachineFacts>,
    pub public_url: String,
}

/// The figures of all webhooks together.
#[derive(Default)]
pub struct OverviewFigures {
    pub started_last_hour: u64,
    pub ok_last_hour: u64,
    pub attempts_last_hour: u64,
    pub ok_day: u64,
    pub attempts_day: u64,
    pub waiting: u64,
    /// Since when the next delivery to go waits.
    pub late_since: Option<Time>,
    /// At 50, 95 and 99 percent, over the clock hours of the last 24 hours.
    pub percentiles_ms: [Option<u32>; 3],
    /// Requests under way.
    pub in_flight: u32,
    /// Deliveries ever made.
    pub deliveries: u64,
}

/// Facts about the machine, for keys with `admin`.
pub struct MachineFacts {
    pub state: MachineState,
    pub retention_days: i64,
}

/// `GET /ui/`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if !request.may(Scope::WebhooksRead) {
        let first = crate::ui::login::first_page(&request.principal.key);
        return Ok(Step::Reply(crate::ui::respond::see_other(first)?));
    }
    let frame = Frame::new(context, request, Section::Overview);
    let view = view(context, request)?;
    let content = if view.figures.deliveries == 0 { first_steps(&view, &frame) } else { page(&view, &frame) };
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Overview", &content)))
}

fn view(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<OverviewView, ApiError> {
    let (tenant, now) = (request.tenant(), context.now);
    let page_query = PageQuery::of(request.http);
    let mut all = Vec::new();
    for webhook in context.registry.webhooks_within(tenant) {
        all.push(webhook_rows::rank(context, webhook)?);
    }
    webhook_rows::sort(&mut all, RowOrder::Worst);
    let mut rows = webhook_rows::read(context, all.iter().take(TROUBLES_SHOWN).map(|ranked| &ranked.webhook))?;
    for row in &mut rows {
        webhook_rows::explain(context, request, row)?;
        webhook_rows::count_failed(context, request, row)?;
    }
    let moods = all.iter().map(|ranked| ranked.mood).collect();
    let span = ChartSpan::of(&page_query, now);
    let hours = context.store.tenant_hours(tenant, span.read_from(now), now)?;
    let backlog = context.store.tenant_backlog(tenant, now)?;
    let series = span.series(&hours, backlog.waiting);
    // On the day of an upgrade only the figures of the webhooks go back far enough.
    let minutes = match hours.complete_from {
        Some(complete) if complete > now.minus_ms(DAY_MS) => context.store.tenant_figures(tenant, now)?.minutes,
        _ => hours.last_day(now),
    };
    let figures = OverviewFigures {
        deliveries: context.store.tenant_sums(tenant, now)?.deliveries,
        percentiles_ms: series::percentiles_ms(&hours, webhook_rows::day_start(now), [50, 95, 99]),
        in_flight: all.iter().map(|ranked| context.health_source.in_flight(ranked.webhook.id)).sum(),
        ..sum_up(&minutes, backlog, now)
    };
    let machine = request.may(Scope::Admin).then(|| MachineFacts {
        state: context.health_source.machine(),
        retention_days: context.store.retention_ms() / DAY_MS,
    });
    let public_url = context.settings.public_url.clone();
    Ok(OverviewView { rows, moods, series, figures, machine, public_url })
}

fn sum_up(minutes: &[(u32, Minute)], backlog: Backlog, now: Time) -> OverviewFigures {
    let mut figures = OverviewFigures {
        waiting: backlog.waiting,
        late_since: backlog.oldest_due.filter(|due| *due <= now),
        ..OverviewFigures::default()
    };
    for (minute, counts) in minutes {
        let ok = u64::from(counts.attempts.saturating_sub(counts.failures));
        figures.ok_day += ok;
        figures.attempts_day += u64::from(counts.attempts);
        if Time(i64::from(*minute) * MINUTE_MS) >= now.minus_ms(HOUR_MS) {
            figures.started_last_hour += u64::from(counts.started);
            figures.ok_last_hour += ok;
            figures.attempts_last_hour += u64::from(counts.attempts);
        }
    }
    figures
}

/// The state of everything in one or two sentences.
fn sentence(moods: &[WebhookMood]) -> String {
    let count = |mood: WebhookMood| moods.iter().filter(|own| **own == mood).count();
    let sentences: Vec<String> = [
        (count(WebhookMood::Failing), "fails", "fail"),
        (count(WebhookMood::SwitchedOff), "was switched off", "were switched off"),
        (count(WebhookMood::HeldBack), "is held back by its receiver", "are held back by their receivers"),
        (count(WebhookMood::Blocked), "is blocked by a failed delivery", "are blocked by failed deliveries"),
        (count(WebhookMood::Paused), "is paused", "are paused"),
        (count(WebhookMood::Disabled), "is disabled", "are disabled"),
    ]
    .into_iter()
    .filter(|(number, _, _)| *number > 0)
    .map(|(number, one, many)| match number {
        1 => format!("one {one}"),
        _ => format!("{} {many}", format::count(number as u64)),
    })
    .collect();
    if sentences.is_empty() {
        return "All webhooks deliver. There is nothing to do.".to_owned();
    }
    let others = if count(WebhookMood::Enabled) > 0 { " All others deliver." } else { "" };
    format!("Of {}, {}.{others}", format::counted(moods.len() as u64, "webhook", "webhooks"), sentences.join(", "))
}

/// The page.
pub fn page(view: &OverviewView, frame: &Frame) -> Markup {
    html! {
        .head {
            div { h1 { "Overview" } p.lead { (sentence(&view.moods)) } }
            .acts {
                (series::links(&view.series))
            }
        }
        (needs(view, frame))
        (figures(&view.figures, frame))
        (series::charts(&view.series))
        section.panel aria-labelledby="wh" {
            header { h2 #wh { "Webhooks, worst first" } a href=(frame.link("webhooks")) { "All " (format::count(view.moods.len() as u64)) } }
            (webhook_rows::table(&view.rows[..view.rows.len().min(WEBHOOKS_SHOWN)], "Webhooks, worst first", frame))
        }
        @if let Some(facts) = &view.machine { (machine(&facts.state, facts.retention_days, frame)) }
    }
}

fn needs(view: &OverviewView, frame: &Frame) -> Markup {
    let troubled = || view.rows.iter().filter(|row| row.mood.needs_person());
    let count = view.moods.iter().filter(|mood| mood.needs_person()).count();
    html! {
        @if count > 0 {
            section.panel aria-labelledby="needs" {
                header {
                    h2 #needs { "Needs you" }
                    span.muted { (format::count(count as u64)) " of " (format::counted(view.moods.len() as u64, "webhook", "webhooks")) }
                }
                ul.needs { @for row in troubled().take(TROUBLES_SHOWN) { (need(row, frame)) } }
            }
        }
    }
}

fn need(row: &WebhookRow, frame: &Frame) -> Markup {
    let path = format!("webhooks/{}", row.webhook.id);
    let may_write = frame.may(Scope::WebhooksWrite);
    html! {
        li {
            (row.mood.tag())
            div {
                b { a href=(frame.link(&path)) { (foreign(&row.webhook.name)) } } ": " (foreign(&row.reason)) ". "
                p { (webhook_rows::outlook(row, frame)) }
            }
            .acts {
                @if may_write && row.mood == WebhookMood::Paused {
                    (frame.button(&format!("{path}/resume"), "btn small", "Resume"))
                }
                @if may_write && matches!(row.mood, WebhookMood::Failing | WebhookMood::HeldBack) {
                    (frame.button(&format!("{path}/test"), "btn small", "Send a test"))
                }
                a.btn.small.quiet href=(frame.link(&path)) { "Open" }
            }
        }
    }
}

fn figures(figures: &OverviewFigures, frame: &Frame) -> Markup {
    let last_hour = format::percent(figures.ok_last_hour, figures.attempts_last_hour);
    let [p50, p95, p99] = figures.percentiles_ms.map(|ms| ms.map_or_else(|| "–".to_owned(), format::millis));
    html! {
        dl.panel.figs {
            div {
                dt { "Deliveries, last hour" }
                dd { (format::count(figures.started_last_hour)) }
                dd { "tried for the first time" }
            }
            div {
                dt { "Attempts that succeeded" }
                dd { (last_hour.unwrap_or_else(|| "–".to_owned())) }
                dd {
                    (format::percent(figures.ok_day, figures.attempts_day).unwrap_or_else(|| "–".to_owned()))
                    " in 24 hours"
                }
            }
            div {
                dt { "Waiting" }
                dd {
                    (frame.link_if_may(Scope::EventsRead, "deliveries?status=waiting", &format::count(figures.waiting)))
                }
                dd { (webhook_rows::lateness(figures.late_since, frame)) }
            }
            div { dt { "Response time, p95" } dd { (p95) } dd { "p50 " (p50) ", p99 " (p99) } }
            div {
                dt { "Under way" }
                dd { (format::count(u64::from(figures.in_flight))) }
                dd {
                    (format::count(figures.attempts_day - figures.ok_day)) " failed, "
                    @let failed = frame.failed.as_ref().map_or("for good".to_owned(), |failed| format!("{failed} for good"));
                    (frame.link_if_may(Scope::EventsRead, "deliveries?status=failed&last=24h", &failed))
                    " in 24 hours"
                }
            }
        }
    }
}

/// The figures of the machine.
pub fn machine(state: &MachineState, retention_days: i64, frame: &Frame) -> Markup {
    html! {
        dl.panel.figs {
            div {
                dt { "Disk free" }
                dd { @match state.disk_free_bytes { Some(bytes) => (format::size(bytes)), None => "–" } }
                dd { "publishing stops below " (format::size(state.min_free_bytes)) }
            }
            div {
                dt { "Store" }
                dd { (format::size(state.store.total())) }
                dd {
                    (format::counted(state.partitions as u64, "partition", "partitions"))
                    ", kept for " (retention_days) " days"
                }
            }
            div {
                dt { "Commit, p99" }
                dd { (commit_words(state.commit_p99_us)) }
                dd { @if state.queue == 0 { "publish queue empty" } @else { (format::count(state.queue as u64)) " queued" } }
            }
            div {
                dt { "Followers" }
                dd { (format::count(state.followers as u64)) }
                dd { (format::size(state.follower_queue_bytes as u64)) " behind" }
            }
            div {
                dt { "Daemon" }
                dd { (env!("CARGO_PKG_VERSION")) }
                dd {
                    "up " (format::age(frame.now.since(state.started_at)))
                    @if state.clock_trusted { ", clock trusted" } @else { ", clock not trusted" }
                }
            }
        }
    }
}

/// The time of a commit.
pub fn commit_words(us: Option<u32>) -> String {
    us.map_or_else(|| "–".to_owned(), |us| format::millis(us.div_ceil(1_000)))
}

/// The page while nothing was published yet.
pub fn first_steps(view: &OverviewView, frame: &Frame) -> Markup {
    let has_webhook = !view.rows.is_empty();
    html! {
        .head {
            div {
                h1 { "Overview" }
                p.lead {
                    "Postrider is ready. Nothing has been published yet. Three steps, and this page shows what happens."
                }
            }
        }
        (needs(view, frame))
        section.panel aria-label="First steps" {
            ol.steps {
                li.done { div { h2 { "The daemon runs" } p { "Version " (env!("CARGO_PKG_VERSION")) "." } } }
                li class=[has_webhook.then_some("done")] {
                    div {
                        h2 { "Say where to send" }
                        p {
                            "A webhook is a URL and which events it wants. "
                            @if frame.may(Scope::WebhooksWrite) {
                                a href=(frame.link("webhooks/new")) { "Make one here" } ", or let"
                            }
                            @else { "Let" }
                            " a receiver for development make one for itself:"
                        }
                        pre { span.p { "$" } " postrider listen --create --type 'invoice.*'" }
                    }
                }
                li {
                    div {
                        h2 { "Publish an event" }
                        p {
                            "From your program"
                            @if frame.may(Scope::EventsWrite) {
                                ", or " a href=(frame.link("events/new")) { "from here" }
                            }
                            ". It is on the disk before the answer comes."
                        }
                        pre {
                            span.p { "$" } " curl " (foreign(&view.public_url)) "/v1/events \\\n"
                            "    -H \"authorization: Bearer $POSTRIDER_TOKEN\" \\\n"
                            "    -H 'content-type: application/json' \\\n"
                            "    -d '{\"type\": \"invoice.paid\", \"data\": {\"id\": 42}}'"
                        }
                    }
                }
                li {
                    div {
                        h2 { "See it arrive" }
                        p { a href=(frame.link("live")) { "Live" } " shows every attempt as it is made." }
                    }
                }
            }
        }
    }
}
