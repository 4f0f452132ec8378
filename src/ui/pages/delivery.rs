//! One delivery: the way so far and to come, its attempts, and the request and answer of one of them.

use http::StatusCode;
use maud::{Markup, html};

use crate::api::native::attempt_request::{self, AttemptRequestView};
use crate::api::native::deliveries;
use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::{Attempt, Delivery, DeliveryId, DeliveryStatus, Event, Scope, Time, Trigger};
use crate::rules::waiting::{self, DeliveryWait};
use crate::store::TenantScope;
use crate::ui::bodies;
use crate::ui::chart;
use crate::ui::curl;
use crate::ui::form::PostedForm;
use crate::ui::format::{self, foreign};
use crate::ui::frame::{Frame, Section, icon};
use crate::ui::mood;
use crate::ui::page_query::PageQuery;
use crate::ui::relay::{ApiCall, member, relay};
use crate::ui::respond::see_other;

use super::delivery_rows::webhook_name;
use super::test_result;

/// Attempts that a page shows.
const ATTEMPTS_SHOWN: usize = 100;

pub struct DeliveryPageView {
    pub delivery: Delivery,
    pub event: Option<Event>,
    /// The event's data as received. `None` once it is erased or expired.
    pub data: Option<String>,
    pub webhook: String,
    /// Oldest first.
    pub attempts: Vec<Attempt>,
    /// The index of the attempt whose request and answer are shown.
    pub chosen: usize,
    /// Planned attempts after the next one: distance to the one before, and time.
    pub planned: Vec<(u32, Time)>,
    /// Attempts that the schedule allows in all.
    pub attempts_max: usize,
    pub wait: Option<DeliveryWait>,
    /// The request of the chosen attempt, made again.
    pub sent: Option<AttemptRequestView>,
    /// The delivery that repeats this one and was made last.
    pub repeated_by: Option<DeliveryId>,
}

/// `GET /ui/deliveries/{id}`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let delivery = deliveries::in_path(context, request)?;
    let frame = Frame::new(context, request, Section::Deliveries);
    let view = view(context, request, delivery)?;
    Ok(Step::Reply(frame.reply(StatusCode::OK, &view.delivery.event_type, &page(&view, &frame))))
}

fn view(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    delivery: Delivery,
) -> Result<DeliveryPageView, ApiError> {
    let (tenant, now) = (request.tenant(), context.now);
    let mut attempts = context.store.attempts_of(&delivery, now)?;
    attempts.drain(..attempts.len().saturating_sub(ATTEMPTS_SHOWN));
    let wanted = PageQuery::of(request.http).get("attempt").and_then(|text| text.parse::<u32>().ok());
    let chosen = attempts.iter().position(|attempt| Some(attempt.made.number) == wanted);
    let data = context.store.data(delivery.event_id, now)?;
    let webhook = context.registry.webhook(tenant, delivery.webhook_id);
    let mut planned = Vec::new();
    if let (Some(webhook), Some(next)) = (webhook, delivery.next_attempt_at) {
        let mut at = next;
        for step in webhook.retry_schedule_s.iter().skip(delivery.schedule_position() as usize) {
            at = at.plus_ms(i64::from(*step) * 1_000);
            planned.push((*step, at));
        }
    }
    let chosen = chosen.unwrap_or(attempts.len().saturating_sub(1));
    let sent = match attempts.get(chosen) {
        Some(attempt) => sent(context, tenant, attempt)?,
        None => None,
    };
    // Only a final delivery is repeated.
    let others = match delivery.status.is_final() {
        true => context.store.deliveries_of(delivery.event_id, now)?,
        false => Vec::new(),
    };
    let repeated_by = others.iter().rfind(|other| other.replay_of == Some(delivery.id)).map(|other| other.id);
    let behind = context.store.standing_before(&delivery)?;
    Ok(DeliveryPageView {
        chosen,
        sent,
        repeated_by,
        event: context.store.event(tenant, delivery.event_id, now)?,
        data: data.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        webhook: webhook_name(context, request, delivery.webhook_id),
        attempts,
        planned,
        attempts_max: webhook.map_or(0, |webhook| webhook.retry_schedule_s.len() + 1),
        wait: webhook.and_then(|webhook| {
            let now_of = (context.store.state(webhook.id), context.health_source.pace(webhook));
            waiting::of_delivery(&delivery, webhook, now_of, behind, now)
        }),
        delivery,
    })
}

fn sent(
    context: &ApiContext<'_>,
    tenant: TenantScope,
    attempt: &Attempt,
) -> Result<Option<AttemptRequestView>, ApiError> {
    let Some(details) = context.store.attempt_details(tenant, attempt.id, context.now)? else { return Ok(None) };
    let webhook = context.registry.webhook(tenant, attempt.webhook_id);
    attempt_request::view(&details, webhook.map(|webhook| &**webhook)).map(Some)
}

/// The page.
pub fn page(view: &DeliveryPageView, frame: &Frame) -> Markup {
    let delivery = &view.delivery;
    let event_id = view.event.as_ref().and_then(|event| event.attributes.event_id.clone());
    let event_name = event_id.unwrap_or_else(|| delivery.event_id.to_string());
    html! {
        .head {
            div {
                p.crumb {
                    a href=(frame.link("deliveries")) { "Deliveries" } " / "
                    @let webhook = format!("webhooks/{}", delivery.webhook_id);
                    (frame.link_if_may(Scope::WebhooksRead, &webhook, &foreign(&view.webhook))) " / "
                    @if frame.portal.is_none() {
                        a href=(frame.link(&format!("events/{}", delivery.event_id))) { "event " (foreign(&event_name)) }
                    } @else {
                        "event " (foreign(&event_name))
                    }
                }
                h1 { (foreign(&delivery.event_type)) }
                p.lead { (mood::delivery_tag(delivery.status)) (sentence(view, frame)) (repeats(view, frame)) }
            }
            (actions(view, frame))
        }
        (way(view, frame))
        @if !view.attempts.is_empty() { (attempts(view, frame)) } @else { (unsent(view, frame)) }
    }
}

fn sentence(view: &DeliveryPageView, frame: &Frame) -> Markup {
    let delivery = &view.delivery;
    let made = format::counted(u64::from(delivery.attempts), "attempt", "attempts");
    html! {
        (made)
        @if delivery.attempts as usize <= view.attempts_max && !delivery.status.is_final() {
            " of " (view.attempts_max)
        }
        " made. "
        @if let Some(wait) = &view.wait {
            (wait_words(wait.reason.as_str()))
            @if let Some(until) = wait.until.filter(|until| *until > frame.now) {
                " until " (format::moment(until, frame.now)) ", " (mood::until(until, frame.now))
            }
            "."
        } @else if let Some(ended) = delivery.completed_at {
            "Ended at " (format::exact_moment(ended, frame.now)) "."
            @if delivery.status == DeliveryStatus::Failed && let Some(error) = &delivery.last_error {
                " The reason: " (foreign(error)) "."
            }
        }
    }
}

/// The delivery that this one repeats, the one that repeats it, and the replay that made it.
fn repeats(view: &DeliveryPageView, frame: &Frame) -> Markup {
    let delivery = &view.delivery;
    html! {
        @if let Some(earlier) = delivery.replay_of {
            " It repeats " a href=(frame.link(&format!("deliveries/{earlier}"))) { "an earlier delivery" } "."
        }
        @if let Some(later) = view.repeated_by {
            " It was sent again as " a href=(frame.link(&format!("deliveries/{later}"))) { "another delivery" } "."
        }
        @if let Some(job) = delivery.job_id {
            " " (frame.link_if_may(Scope::DeliveriesRetry, &format!("replays/{job}"), "A replay")) " made it."
        }
    }
}

fn wait_words(reason: &str) -> &'static str {
    match reason {
        "paused" => "Its webhook is paused",
        "disabled" => "Its webhook is disabled",
        "circuit" => "Its webhook fails, and is probed with one request at a time",
        "receiver" => "The receiver asked to be left alone",
        "rate" => "It waits for the rate limit of its webhook",
        "in_flight" => "It is under way, or the next to go",
        "order" => "It stands behind another one, because its webhook is ordered",
        _ => "It waits for its next attempt",
    }
}

/// The actions. A delivery of a removed webhook has none, and without its data nothing can be sent.
fn actions(view: &DeliveryPageView, frame: &Frame) -> Markup {
    let delivery = &view.delivery;
    let path = format!("deliveries/{}", delivery.id);
    html! {
        @if frame.may(Scope::DeliveriesRetry) && view.attempts_max > 0 {
            .acts {
                @if view.data.is_some() {
                    @let words = if delivery.status.is_final() { "Send again" } else { "Send now" };
                    (frame.button(&format!("{path}/retry"), "btn main", words))
                }
                @if frame.may(Scope::EventsWrite) && !delivery.status.is_final() {
                    (frame.button(&format!("{path}/cancel"), "btn", "Cancel"))
                }
            }
        }
    }
}

fn way(view: &DeliveryPageView, frame: &Frame) -> Markup {
    let delivery = &view.delivery;
    html! {
        section.panel aria-labelledby="way" {
            header {
                h2 #way { "The way so far, and what comes" }
                span.muted { "made " (format::exact_moment(delivery.created_at, frame.now)) }
            }
            .scroll tabindex="0" role="group" aria-labelledby="way" {
                ol.way {
                    @for attempt in &view.attempts { (made_step(attempt, frame)) }
                    @if let Some(next) = delivery.next_attempt_at {
                        li.retry.next {
                            (icon("retry"))
                            b { (mood::until(next, frame.now)) }
                            (format::moment(next, frame.now))
                        }
                    }
                    @for (step, at) in &view.planned {
                        li.todo {
                            (icon("todo"))
                            b { (format::age(i64::from(*step) * 1_000)) }
                            "≈ " (format::moment(*at, frame.now))
                        }
                    }
                }
            }
        }
    }
}

fn made_step(attempt: &Attempt, frame: &Frame) -> Markup {
    let made = &attempt.made;
    let (class, icon_name) = mood::attempt_parts(made);
    let word = made.status_code.map_or_else(|| made.outcome.as_str().replace('_', " "), |code| code.to_string());
    html! {
        li class=(class) {
            (icon(icon_name))
            b { (word) }
            (format::moment(made.started_at, frame.now))
            br;
            (trigger(made.trigger))
        }
    }
}

fn trigger(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Event => "event",
        Trigger::Retry => "schedule",
        Trigger::Manual => "by hand",
        _ => "replay",
    }
}

fn attempts(view: &DeliveryPageView, frame: &Frame) -> Markup {
    let longest = view.attempts.iter().map(|attempt| attempt.made.timings.total).max().unwrap_or(0);
    let phases = [("f-dns", "dns"), ("f-con", "connect"), ("f-tls", "tls"), ("f-wait", "wait"), ("f-body", "body")];
    html! {
        section.panel aria-labelledby="at" {
            header {
                h2 #at { "Attempts" }
                span.legend.big { @for (class, word) in phases { (chart::key(class, word)) } }
            }
            table {
                caption.vh { "Attempts of this delivery, newest first" }
                thead {
                    tr {
                        th.w-no scope="col" { "No." }
                        th scope="col" { "Answer" }
                        th.big scope="col" { "Why" }
                        th.big scope="col" { "Time in it" }
                        th.num.w-ms scope="col" { "Took" }
                        th.num.w-when scope="col" { "Started" }
                    }
                }
                tbody {
                    @for (at, attempt) in view.attempts.iter().enumerate().rev() {
                        (attempt_row(attempt, at == view.chosen, longest, frame))
                    }
                }
            }
            @if let Some(attempt) = view.attempts.get(view.chosen) {
                .pair { (request_of(view, attempt, frame)) (test_result::answer(&attempt.made, attempt.response_erased_at.or(erased_at(view)), frame)) }
            }
        }
    }
}

fn attempt_row(attempt: &Attempt, is_chosen: bool, longest_ms: u32, frame: &Frame) -> Markup {
    let made = &attempt.made;
    let (class, icon_name) = mood::attempt_parts(made);
    html! {
        tr class=[is_chosen.then_some("sel")] aria-current=[is_chosen.then_some("true")] {
            td.w-no { a.key href={ "?attempt=" (made.number) "#at" } { "#" (made.number) } }
            td { (crate::ui::frame::state(class, icon_name, &mood::answer(made, frame.reader()))) }
            td.big { (trigger(made.trigger)) }
            td.big { (chart::split(&made.timings, longest_ms)) }
            td.num.w-ms { (format::millis(made.timings.total)) }
            td.num.w-when.nowrap { (format::moment(made.started_at, frame.now)) }
        }
    }
}

fn request_of(view: &DeliveryPageView, attempt: &Attempt, frame: &Frame) -> Markup {
    let made = &attempt.made;
    let method = format!("{:?}", made.method).to_uppercase();
    html! {
        section aria-labelledby="rq" {
            h3 #rq { "Request of attempt " (made.number) }
            p.start { (method) " " (foreign(view.sent.as_ref().map_or(&made.url, |sent| &sent.url))) }
            h4 { "Headers" }
            (bodies::headers(&made.request_headers))
            (body(view, frame))
            @if let Some(curl) = view.sent.as_ref().and_then(curl::command) {
                details {
                    summary { "The request as a curl command" }
                    pre { code data-copy="" { (foreign(&curl)) } }
                }
            }
        }
    }
}

/// The body as it was sent, or as far as it is known. A request without a body shows the data of its event.
fn body(view: &DeliveryPageView, frame: &Frame) -> Markup {
    let Some((sent, body)) = view.sent.as_ref().and_then(|sent| Some((sent, sent.body.as_ref()?))) else {
        return html! { h4 { "Data of the event" } (data(view, frame)) };
    };
    html! {
        @if sent.was_encrypted() {
            h4 { "Body before it was encrypted" }
            p.muted { "It was sent encrypted, and the encrypted text is not kept." }
        } @else if sent.exact {
            h4 { "Body as sent" }
        } @else {
            h4 { "Body, made again" }
            p.muted { "The webhook was changed or removed since, so the body may have differed." }
        }
        (bodies::block(body))
    }
}

/// The time that the event was erased.
fn erased_at(view: &DeliveryPageView) -> Option<Time> {
    view.event.as_ref().and_then(|event| event.erased_at)
}

fn data(view: &DeliveryPageView, frame: &Frame) -> Markup {
    html! {
        @match &view.data {
            Some(data) => (bodies::block(data)),
            None => p.muted {
                @match erased_at(view) {
                    Some(at) => { "Erased at " (format::moment(at, frame.now)) "." }
                    None => "Older than the time that events are kept.",
                }
            },
        }
    }
}

fn unsent(view: &DeliveryPageView, frame: &Frame) -> Markup {
    html! { section.panel aria-labelledby="da" { header { h2 #da { "Data of the event" } } .pad { (data(view, frame)) } } }
}

/// `POST /ui/deliveries/{id}/retry`.
pub fn retry(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let own = request.path.get("id").to_owned();
    let call = ApiCall { handler: deliveries::retry, body: String::new(), form: Some(&form) };
    relay(context, request, &call, move |response| {
        let sent = member(&response, "id").as_str().map_or(own, str::to_owned);
        see_other(&format!("../{sent}?done=retried"))
    })
}

/// `POST /ui/deliveries/{id}/cancel`.
pub fn cancel(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let to = format!("../{}?done=cancelled", request.path.get("id"));
    let call = ApiCall { handler: deliveries::cancel, body: String::new(), form: Some(&form) };
    relay(context, request, &call, move |_| see_other(&to))
}
