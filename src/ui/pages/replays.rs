//! Replays: the list, one with its progress, and a new one that is counted before it is started.

use http::StatusCode;
use maud::{Markup, html};
use serde_json::{Value, json};

use crate::api::cursor::{self, CursorKind};
use crate::api::native::replays;
use crate::api::{ApiContext, ApiError, FieldError, RequestContext, Step};
use crate::model::job::{Job, JobId, JobSpec, JobStatus};
use crate::model::{AttemptOutcome, WebhookId};
use crate::model::{Scope, StatusCodes};
use crate::store::{ListWindow, Registry, TenantScope};
use crate::ui::filter;
use crate::ui::form::{self, PostedForm, line};
use crate::ui::format::{self, foreign};
use crate::ui::frame::{self, Frame, Section};
use crate::ui::page_query::{LASTS, PageQuery, Span};
use crate::ui::relay::{ApiCall, corrected, member, relay};
use crate::ui::respond::{html as html_response, see_other};

use super::replay_targets::{self, APP_TARGET, PausedTarget, ReplayTarget, ReplayTargets, WRITTEN_FIELD};

/// Maximum number of rows of a page.
const ROWS_MAX: usize = 50;
/// Deliveries above which the number must be typed.
const UNTYPED_MAX: u64 = 10_000;
/// Seconds of a minute.
const SECONDS: f64 = 60.0;
/// Fields of the form that become fields of the request.
const FIELDS: [&str; 5] = ["webhook", "status", "outcome", "from", "to"];

/// `GET /ui/replays`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Replays);
    let before = filter::of(request.http, Section::Replays)
        .get("cursor")
        .and_then(|text| cursor::read(CursorKind::Replays, text));
    let window = ListWindow { before, ..ListWindow::newest(ROWS_MAX) };
    let page = context.store.jobs(request.tenant(), window)?;
    let rows: Vec<(String, Job)> =
        page.rows.into_iter().map(|job| (target(&context.registry, request.tenant(), &job.spec), job)).collect();
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Replays", &list_page(&rows, page.next, &frame))))
}

/// The name of a replay's target.
fn target(registry: &Registry, tenant: TenantScope, spec: &JobSpec) -> String {
    let webhook = spec.webhook.and_then(|id| registry.webhook(tenant, id)).map(|webhook| webhook.name.clone());
    let app = spec.app.and_then(|id| registry.app(tenant, id)).map(|app| format!("all webhooks of {}", app.name));
    webhook.or(app).unwrap_or_else(|| "a deleted webhook".to_owned())
}

fn status(job: &Job) -> Markup {
    match job.status {
        JobStatus::Running => frame::state("retry", "retry", "Running"),
        JobStatus::Done => frame::state("ok", "ok", "Done"),
        JobStatus::Cancelled => frame::state("off", "off", "Stopped"),
    }
}

/// The list of replays, each with the name of its target.
pub fn list_page(rows: &[(String, Job)], next: Option<u128>, frame: &Frame) -> Markup {
    html! {
        .head {
            div {
                h1 { "Replays" }
                p.lead { "Past events, sent again. A replay can be stopped, and goes on after a restart." }
            }
            .acts { @if frame.may(Scope::DeliveriesRetry) { a.btn.main href=(frame.link("replays/new")) { "New replay" } } }
        }
        section.panel {
            @if rows.is_empty() {
                .pad { p { "No replays yet." } }
            } @else {
                table {
                    caption.vh { "Replays, newest first" }
                    thead { tr {
                        th scope="col" { "Status" } th scope="col" { "To" } th.num scope="col" { "Matched" }
                        th.num.big scope="col" { "Delivered" }
                        th.num.big scope="col" { "Failed" }
                        th.num.big scope="col" { "Cancelled" }
                        th.num scope="col" { "Begun" }
                    } }
                    tbody {
                        @for (target, job) in rows {
                            tr {
                                td { (status(job)) }
                                td { a.key href=(frame.link(&format!("replays/{}", job.id))) { (foreign(target)) } }
                                td.num { (format::count(job.matched)) }
                                td.num.big { @if follows(job) { (format::count(job.delivered)) } @else { "–" } }
                                td.num.big { @if follows(job) { (format::count(job.failed)) } @else { "–" } }
                                td.num.big { @if follows(job) { (format::count(job.cancelled)) } @else { "–" } }
                                td.num.nowrap { (format::moment(job.created_at, frame.now)) }
                            }
                        }
                    }
                }
            }
            @if let Some(next) = next {
                footer {
                    a.btn.small rel="next" href={ "?cursor=" (cursor::write(CursorKind::Replays, next)) } { "Older" }
                }
            }
        }
    }
}

/// `GET /ui/replays/{id}`.
pub fn one(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id: JobId = request.id("replay")?;
    let job = context.store.job(request.tenant(), id)?.ok_or_else(|| ApiError::not_found("replay"))?;
    let paused = PausedTarget::of(&context.registry, request.tenant(), job.spec.webhook, job.spec.app);
    let target = ReplayTarget { name: target(&context.registry, request.tenant(), &job.spec), paused };
    let frame = Frame::new(context, request, Section::Replays);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Replay", &one_page(&target, &job, &frame))))
}

/// The page of one replay. A running one asks for itself again.
pub fn one_page(target: &ReplayTarget, job: &Job, frame: &Frame) -> Markup {
    let path = format!("replays/{}", job.id);
    // The deliveries made are counted at once, and the matched ones with the slice that they are in.
    let matched = job.matched.max(job.created);
    html! {
        .head data-reload=[(job.status == JobStatus::Running).then_some("2")] {
            div {
                p.crumb { a href=(frame.link("replays")) { "Replays" } }
                h1 { "Replay to " (foreign(&target.name)) }
                p.lead { (status(job)) " begun at " (format::moment(job.created_at, frame.now))
                    @if let Some(at) = job.finished_at { ", ended at " (format::moment(at, frame.now)) } "." }
            }
            .acts {
                @if job.status == JobStatus::Running {
                    @if frame.may(Scope::DeliveriesRetry) { (frame.button(&format!("{path}/stop"), "btn", "Stop")) }
                    a.btn href=(frame.link(&path)) { "Look again" }
                }
            }
        }
        @if !job.spec.erasing { (target.paused.note(frame)) }
        dl.panel.figs {
            div {
                dt { "Matched" }
                dd { (format::count(matched)) }
                dd { @if job.exhausted { "all were looked at" } @else { "so far" } }
            }
            @if follows(job) { (followed(job)) } @else { (moved(job)) }
        }
        @if job.spec.waiting && let Some(webhook) = job.spec.webhook {
            p.filters {
                a.btn.small href=(frame.link(&format!("deliveries?webhook={webhook}"))) { "Deliveries of this webhook" }
            }
        }
        section.panel aria-labelledby="fo" { header { h2 #fo { "What it is for" } } (conditions(&job.spec, frame)) }
    }
}

/// Whether a replay makes deliveries, and follows them to their end.
const fn follows(job: &Job) -> bool {
    !(job.spec.waiting || job.spec.retrying || job.spec.erasing)
}

/// The figure of a replay that makes no deliveries: those that it made due, or the events that it erased.
fn moved(job: &Job) -> Markup {
    let (name, of) = if job.spec.erasing { ("Erased", "payloads") } else { ("Made due", "the same deliveries") };
    html! { div { dt { (name) } dd { (format::count(job.moved())) } dd { (of) } } }
}

/// The figures of a replay that makes deliveries.
fn followed(job: &Job) -> Markup {
    let ended = job.ended();
    html! {
            div { dt { "Made" } dd { (format::count(job.created)) } dd { "deliveries" } }
            div {
                dt { "Delivered" }
                dd { (format::count(job.delivered)) }
                dd { (format::percent(job.delivered, ended).unwrap_or_else(|| "–".to_owned())) }
            }
            div { dt { "Failed" } dd { (format::count(job.failed)) } dd { "for good" } }
            @if job.cancelled > 0 {
                div { dt { "Cancelled" } dd { (format::count(job.cancelled)) } dd { "not sent again" } }
            }
            div { dt { "Under way" } dd { (format::count(job.created.saturating_sub(ended))) } dd { "not ended" } }
    }
}

fn conditions(spec: &JobSpec, frame: &Frame) -> Markup {
    let outcomes: Vec<&str> = spec.last.outcomes.iter().map(|outcome| outcome.as_str()).collect();
    let (ended_from, ended_to) = (spec.last.ended_from, spec.last.ended_to);
    let times = [("From", spec.from), ("Until", spec.to), ("Ended from", ended_from), ("Ended until", ended_to)];
    let codes: Vec<String> = spec.last.status_codes.iter().map(StatusCodes::text).collect();
    html! {
        dl.facts {
            @if spec.waiting { div { dt { "Deliveries" } dd { "that waited: the same ones, due at once" } } }
            @if spec.erasing { div { dt { "Payloads" } dd { "are erased, and nothing is sent" } } }
            @if spec.missing { div { dt { "Events" } dd { "that the webhook wants and never got" } } }
            @if let Some(status) = spec.status { div { dt { "Status" } dd { (status.as_str()) } } }
            @if !outcomes.is_empty() { div { dt { "Outcome" } dd { (outcomes.join(", ")) } } }
            @if !codes.is_empty() { div { dt { "Answer" } dd { (codes.join(", ")) } } }
            @if !spec.types.is_empty() { div { dt { "Types" } dd { code { (foreign(&spec.types.join(", "))) } } } }
            @for (name, at) in times {
                @if let Some(at) = at { div { dt { (name) } dd { (format::moment(at, frame.now)) } } }
            }
            div {
                dt { "Rate" }
                dd {
                    @match spec.rate_per_s {
                        Some(rate) => { (rate) " a second" } None => "as fast as the webhook takes them"
                    }
                }
            }
        }
    }
}

/// `POST /ui/replays/{id}/stop`.
pub fn stop(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let to = format!("../{}?done=stopped", request.path.get("id"));
    let call = ApiCall { handler: replays::cancel, body: String::new(), form: Some(&form) };
    relay(context, request, &call, move |_| see_other(&to))
}

/// `GET /ui/replays/new`: the fields of the address are the filter.
pub fn new(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let page_query = filter::of(request.http, Section::Replays);
    let span = Span::of(&page_query, context.now);
    let mut form: Vec<(&'static str, String)> = Vec::new();
    for name in ["webhook", "status", "outcome"] {
        form.extend(page_query.get(name).map(|value| (name, value.to_owned())));
    }
    // A relative time is fixed here, so that the count and the replay mean the same.
    form.extend(span.from.map(|at| ("from", at.to_string())));
    form.extend(span.to.map(|at| ("to", at.to_string())));
    if page_query.get("status") != Some("waiting") && page_query.get("rate").is_none() {
        form.extend(usual_rate(context, request, &page_query)?.map(|rate| ("rate", rate.to_string())));
    }
    form.extend(page_query.get("rate").map(|rate| ("rate", rate.to_owned())));
    let frame = Frame::new(context, request, Section::Replays);
    let form = PostedForm::filled(form);
    let content = new_page(&ReplayTargets::of(context, request.tenant(), &form), &form, &[], &frame);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "New replay", &content)))
}

/// The part of a webhook's own rate that a replay takes unless its form says otherwise: one of five.
const SHARE_OF_RATE: f64 = 5.0;

/// The rate of a replay to the webhook of the address, in deliveries per second. It is a fifth of the webhook's limit
/// or of its busiest minute in the last 24 hours, and at least 1. `None` if nothing is known of the webhook.
fn usual_rate(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    page_query: &PageQuery,
) -> Result<Option<u32>, ApiError> {
    let named = page_query.get("webhook").and_then(|id| id.parse::<WebhookId>().ok());
    let Some(webhook) = named.and_then(|id| context.registry.webhook(request.tenant(), id)) else { return Ok(None) };
    let minutes = context.store.figures(webhook.id, context.now)?.minutes;
    let busiest = minutes.iter().map(|(_, minute)| f64::from(minute.attempts) / SECONDS).max_by(f64::total_cmp);
    let own = webhook.rate_limit_per_s.or(busiest.filter(|rate| *rate > 0.0));
    Ok(own.map(|rate| (rate / SHARE_OF_RATE).max(1.0) as u32))
}

/// Says that a replay has one target, where its list had several.
fn one_target() -> Markup {
    html! {
        p.note {
            "A replay goes to one webhook, or to all webhooks of one app. Choose it here, and make another replay for each \
             further app."
        }
    }
}

/// The field for a target that is not listed.
fn written_target(written: &str) -> Markup {
    html! {
        label for=(WRITTEN_FIELD) { "Or to another" }
        input id=(WRITTEN_FIELD) type="text" name=(WRITTEN_FIELD) value=(written) autocomplete="off"
            aria-describedby="hint-other";
        p.muted #hint-other { "The id or the uid of a webhook, or of an app for all of its webhooks." }
    }
}

/// The form of a new replay.
pub fn new_page(targets: &ReplayTargets, form: &PostedForm, errors: &[FieldError], frame: &Frame) -> Markup {
    let chosen = |name: &str, value: &str| form.get(name) == value;
    let wrong = |name: &str| form::is_wrong(name, errors).then_some("true");
    let described = |name: &str| form::is_wrong(name, errors).then(|| format!("wrong-{name}"));
    let statuses = [
        ("failed", "that failed"),
        ("cancelled", "that were cancelled"),
        ("delivered", "that were delivered"),
        ("missing", "that it wants and never got"),
        ("waiting", "that wait for it, now"),
        ("", "of any kind"),
    ];
    let fields = html! {
        @if form.get("webhook").is_empty() && targets.listed.len() > 1 { (one_target()) }
        label for="webhook" { "To" }
        select #webhook name="webhook" required[targets.written.is_none()] aria-invalid=[wrong("webhook")]
            aria-describedby=[described("webhook")] {
            @if targets.asks(form) { option value="" selected { "Choose…" } }
            @for (id, name) in &targets.listed { option value=(id) selected[chosen("webhook", id)] { (foreign(name)) } }
        }
        (form::mistakes_of("webhook", errors))
        @if let Some(written) = &targets.written { (written_target(written)) }
        label for="status" { "Events" }
        select #status name="status" aria-invalid=[wrong("status")] aria-describedby=[described("status")] {
            @for (value, words) in statuses { option value=(value) selected[chosen("status", value)] { (words) } }
        }
        (form::mistakes_of("status", errors))
        (line("from", "From", "2026-11-28T02:00:00Z", form, errors))
        (line("to", "Until", "now", form, errors))
        label for="outcome" { "Whose last answer was" }
        select #outcome name="outcome" aria-invalid=[wrong("outcome")] aria-describedby=[described("outcome")] {
            option value="" { "any" }
            @for value in outcomes(form.get("outcome")) {
                option value=(value) selected[chosen("outcome", &value)] { (foreign(&value)) }
            }
        }
        (form::mistakes_of("outcome", errors))
        (line("rate", "At most, a second", "as fast as the webhook takes them", form, errors))
        (form::mistakes_beside(&["webhook", "status", "from", "to", "outcome", "rate"], errors))
        .acts { button.btn.main type="submit" { "Count first" } a.btn href=(frame.link("replays")) { "Leave it" } }
    };
    html! {
        .head {
            div {
                h1 { "New replay" }
                p.lead { "It is counted first. Nothing is sent before you have seen the number." }
            }
            .acts {
                nav.seg aria-label="From" {
                    @for (value, words, _) in LASTS {
                        a href=(query_of(form).with("from", "").with("to", "").with("last", value).link()) {
                            "Last " (words)
                        }
                    }
                }
            }
        }
        section.panel { (frame.form("pad fields", "replays/count", &fields)) }
    }
}

/// The outcomes to choose from, and the chosen one if it is another, such as a single status.
fn outcomes(chosen: &str) -> Vec<String> {
    let classes = ["2xx", "3xx", "4xx", "5xx"].into_iter();
    let mut all: Vec<String> =
        classes.chain(AttemptOutcome::ALL.into_iter().map(|outcome| outcome.as_str())).map(str::to_owned).collect();
    if !chosen.is_empty() && !all.iter().any(|one| one == chosen) {
        all.push(chosen.to_owned());
    }
    all
}

/// The address that fills the form with the same filter.
fn query_of(form: &PostedForm) -> PageQuery {
    let names = FIELDS.into_iter().chain(["rate"]);
    names.fold(PageQuery::default(), |page_query, name| page_query.with(name, form.get(name).trim()))
}

/// A form that counts the waiting deliveries of a webhook, and then asks whether to send them now.
pub fn waiting_button(webhook: WebhookId, class: &str, words: &str, frame: &Frame) -> Markup {
    let fields = html! {
        input type="hidden" name="webhook" value=(webhook);
        input type="hidden" name="status" value="waiting";
        button class=(class) type="submit" { (words) }
    };
    frame.form("one", "replays/count", &fields)
}

/// The request of a form.
fn request_json(form: &PostedForm, is_dry: bool) -> Value {
    let target = form.get("webhook");
    let mut body = match target.strip_prefix(APP_TARGET) {
        Some(app) => json!({ "app_id": app, "dry_run": is_dry }),
        None => json!({ "webhook_id": target, "dry_run": is_dry }),
    };
    let is_failed = form.get("status") == "failed";
    match form.get("status") {
        "missing" => body["missing"] = true.into(),
        "waiting" => body["waiting"] = true.into(),
        "" => {}
        status => body["status"] = status.into(),
    }
    // Times are those of the end for failed deliveries, as in their list.
    for (name, ended) in [("from", "ended_from"), ("to", "ended_to")] {
        if !form.get(name).trim().is_empty() {
            body[if is_failed { ended } else { name }] = form.get(name).trim().into();
        }
    }
    match form.get("outcome") {
        "" => {}
        code if StatusCodes::parse(code).is_some() => body["status_code"] = json!([code]),
        outcome => body["outcome"] = json!([outcome]),
    }
    // An unreadable rate is for the API to refuse.
    match (form.get("rate").trim(), form.get("rate").trim().parse::<f64>()) {
        ("", _) => {}
        (_, Ok(rate)) => body["rate_per_s"] = rate.into(),
        (text, Err(_)) => body["rate_per_s"] = text.into(),
    }
    body
}

/// `POST /ui/replays/count`: says how much would be sent, and asks.
pub fn count(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = replay_targets::resolved(context, request.tenant(), PostedForm::read(context, request)?);
    let call = ApiCall { handler: replays::create, body: request_json(&form, true).to_string(), form: None };
    let frame = Frame::new(context, request, Section::Replays);
    let (shown, to) = (form.clone(), replay_targets::target_of(context, request.tenant(), &form));
    let counted = relay(context, request, &call, move |response| {
        let matched = member(&response, "matched").as_u64().unwrap_or(0);
        let at_least = member(&response, "at_least").as_bool().unwrap_or(false);
        let content = confirm_page(&to, Counted { matched, at_least }, &shown, None, &frame);
        Ok(html_response(StatusCode::OK, frame.page("Replay", &content)))
    });
    shown_again(context, request, form, counted)
}

/// A mistake of the request as one of the form's field that the member comes from.
pub fn at_field(mistake: &FieldError) -> FieldError {
    let member = mistake.pointer.trim_start_matches('/');
    let field = match member.split('/').next().unwrap_or_default() {
        "webhook_id" | "app_id" => "webhook",
        "missing" | "waiting" => "status",
        "ended_from" => "from",
        "ended_to" => "to",
        "status_code" => "outcome",
        "rate_per_s" => "rate",
        other => other,
    };
    FieldError::new(format!("/{field}"), mistake.detail.clone())
}

/// The form with its mistakes, if there are any.
fn shown_again(
    context: &mut ApiContext<'_>,
    request: &RequestContext<'_>,
    form: PostedForm,
    done: Result<Step, ApiError>,
) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Replays);
    let targets = ReplayTargets::of(context, request.tenant(), &form);
    corrected(done, move |api_error| {
        let said: Vec<FieldError> = api_error.errors.iter().map(at_field).collect();
        frame.reply(api_error.status, "New replay", &new_page(&targets, &form, &said, &frame))
    })
}

/// The size of a replay before it is started.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    pub matched: u64,
    /// Whether the count ended early, so that more may match.
    pub at_least: bool,
}

impl Counted {
    /// Whether the number is to be typed before the replay is started.
    fn must_be_typed(self) -> bool {
        self.at_least || self.matched > UNTYPED_MAX
    }
}

/// The page that asks before a replay is started.
pub fn confirm_page(
    to: &ReplayTarget,
    counted: Counted,
    form: &PostedForm,
    said: Option<&str>,
    frame: &Frame,
) -> Markup {
    let Counted { matched, at_least } = counted;
    let most = if at_least { "at least " } else { "" };
    let fields = html! {
        @for name in FIELDS { input type="hidden" name=(name) value=(form.get(name)); }
        input type="hidden" name="rate" value=(form.get("rate"));
        input type="hidden" name="matched" value=(matched);
        @if at_least { input type="hidden" name="at_least" value="true"; }
        dl.facts {
            div {
                dt { "Events" }
                dd { @if form.get("status").is_empty() { "of any kind" } @else { (foreign(form.get("status"))) } }
            }
            div {
                dt { "From" }
                dd { @if form.get("from").is_empty() { "the oldest kept" } @else { (foreign(form.get("from"))) } }
            }
            div { dt { "Until" } dd { @if form.get("to").is_empty() { "now" } @else { (foreign(form.get("to"))) } } }
            @if !form.get("outcome").is_empty() { div { dt { "Outcome" } dd { (foreign(form.get("outcome"))) } } }
            div {
                dt { "Rate" }
                dd {
                    @if form.get("rate").is_empty() {
                        "as fast as the webhook takes them"
                    } @else {
                        (foreign(form.get("rate"))) " a second"
                    }
                }
            }
        }
        @if counted.must_be_typed() {
            label for="typed" { "Type the number to go on" }
            input #typed type="text" name="typed" inputmode="numeric" autocomplete="off" required;
        }
        @if let Some(said) = said { p.wrong role="alert" { (said) } }
        .acts {
            @if matched > 0 || at_least {
                button.btn.main type="submit" { "Send " (most) (counted_deliveries(counted, form)) }
            }
            a.btn href=(frame.link(&query_of(form).to("replays/new"))) { "Change" }
        }
    };
    html! {
        .head {
            div {
                h1 { @if at_least { "At least " } (counted_deliveries(counted, form)) " to " (foreign(&to.name)) }
                p.lead { (said_before(counted, form, to.paused)) }
            }
        }
        (to.paused.note(frame))
        section.panel { (frame.form("pad fields", "replays/new", &fields)) }
    }
}

/// The number of events, or of deliveries that wait.
fn counted_deliveries(counted: Counted, form: &PostedForm) -> String {
    match form.get("status") {
        "waiting" => format::counted(counted.matched, "delivery", "deliveries"),
        _ => format::counted(counted.matched, "event", "events"),
    }
}

/// The sentence below the number of a replay that is not started.
fn said_before(counted: Counted, form: &PostedForm, paused: PausedTarget) -> &'static str {
    match (counted.at_least, counted.matched, form.get("status")) {
        (true, ..) => "The count ended early, so more may match. Nothing has been sent yet.",
        (false, 0, _) => "Nothing matches: there is nothing to send.",
        (.., "waiting") if paused != PausedTarget::None => "The same deliveries become due. Nothing has been sent yet.",
        (.., "waiting") => "The same deliveries become due at once. Nothing has been sent yet.",
        _ => "Each is sent again as a new delivery. Nothing has been sent yet.",
    }
}

/// `POST /ui/replays/new`: starts it.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = replay_targets::resolved(context, request.tenant(), PostedForm::read(context, request)?);
    let matched = form.get("matched").parse::<u64>().unwrap_or(0);
    let counted = Counted { matched, at_least: form.get("at_least") == "true" };
    if counted.must_be_typed() && form.get("typed").replace([',', ' '], "") != matched.to_string() {
        let frame = Frame::new(context, request, Section::Replays);
        let to = replay_targets::target_of(context, request.tenant(), &form);
        let content = confirm_page(&to, counted, &form, Some("This is not the number."), &frame);
        return Ok(Step::Reply(frame.reply(StatusCode::UNPROCESSABLE_ENTITY, "Replay", &content)));
    }
    let call = ApiCall { handler: replays::create, body: request_json(&form, false).to_string(), form: Some(&form) };
    let made =
        relay(context, request, &call, |response| see_other(member(&response, "id").as_str().unwrap_or_default()));
    shown_again(context, request, form, made)
}
