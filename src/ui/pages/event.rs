//! One event: its payload, which webhook got it, and why another did not.

use std::collections::HashSet;

use bytes::Bytes;
use http::StatusCode;
use maud::{Markup, html};
use serde_json::json;

use crate::api::native::{events, resend};
use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::{Delivery, Event, EventId, Scope, WebhookId};
use crate::ui::bodies;
use crate::ui::form::PostedForm;
use crate::ui::format::{self, foreign};
use crate::ui::frame::{Frame, Section};
use crate::ui::relay::{ApiCall, member, relay};
use crate::ui::respond::see_other;

use super::delivery_rows::{self, DeliveryRow, RowColumns};

const COLUMNS: RowColumns = RowColumns { check: false, webhook: true, ended: false };
/// Webhooks without a delivery that a page names.
const NOT_SENT_SHOWN: usize = 20;

pub struct EventPageView {
    pub event: Event,
    pub data: Option<String>,
    pub deliveries: Vec<DeliveryRow>,
    /// The webhooks of the app without a delivery. Those that want the type come first.
    pub not_sent: Vec<NotSent>,
}

/// A webhook that has no delivery of the event.
pub struct NotSent {
    pub webhook_id: WebhookId,
    pub name: String,
    /// A reason of the API's decisions.
    pub reason: &'static str,
}

fn in_path(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Event, ApiError> {
    let id: EventId = request.id("event")?;
    context.store.event(request.tenant(), id, context.now)?.ok_or_else(|| ApiError::not_found("event"))
}

/// `GET /ui/events/{id}`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let event = in_path(context, request)?;
    let frame = Frame::new(context, request, Section::Events);
    let data = context.store.data(event.id, context.now)?;
    let deliveries = context.store.deliveries_of(event.id, context.now)?;
    let view = EventPageView {
        not_sent: not_sent(context, request, &event, data.as_ref(), &deliveries),
        data: data.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        deliveries: delivery_rows::read(context, request, deliveries)?,
        event,
    };
    Ok(Step::Reply(frame.reply(StatusCode::OK, &view.event.attributes.event_type, &page(&view, &frame))))
}

/// The webhooks of the event's app without a delivery of it. None if the key may not read webhooks.
fn not_sent(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    event: &Event,
    data: Option<&Bytes>,
    deliveries: &[Delivery],
) -> Vec<NotSent> {
    if !request.may(Scope::WebhooksRead) {
        return Vec::new();
    }
    let sent: HashSet<_> = deliveries.iter().map(|delivery| delivery.webhook_id).collect();
    let others = context.registry.webhooks_of(event.app_id).filter(|webhook| !sent.contains(&webhook.id));
    let mut not_sent: Vec<_> = others
        .map(|webhook| NotSent {
            webhook_id: webhook.id,
            name: webhook.name.clone(),
            reason: events::filtered(webhook, event, data),
        })
        .collect();
    not_sent.sort_by_key(|other| other.reason == "type");
    not_sent
}

/// The page.
pub fn page(view: &EventPageView, frame: &Frame) -> Markup {
    let (event, attributes) = (&view.event, &view.event.attributes);
    let path = format!("events/{}", event.id);
    let waits = view.deliveries.iter().any(|row| !row.delivery.status.is_final());
    html! {
        .head {
            div {
                p.crumb { a href=(frame.link("events")) { "Events" } }
                h1 { (foreign(&attributes.event_type)) }
                p.lead { "Received at " (format::exact_moment(event.received_at, frame.now)) ", "
                    (format::counted(view.deliveries.len() as u64, "delivery", "deliveries")) "." }
            }
            @if frame.may(Scope::EventsWrite) {
                .acts {
                    @if waits { (frame.button(&format!("{path}/cancel"), "btn", "Cancel what waits")) }
                    @if event.erased_at.is_none() { a.btn href=(frame.link(&format!("{path}/erase"))) { "Erase…" } }
                }
            }
        }
        .cols.main {
            div {
                section.panel aria-labelledby="dl" {
                    header { h2 #dl { "Deliveries" } }
                    @if view.deliveries.is_empty() {
                        .pad { p.muted { "No webhook wanted it." } }
                    } @else {
                        (delivery_rows::table(&view.deliveries, COLUMNS, "Deliveries of this event", frame))
                    }
                }
                @if !view.not_sent.is_empty() { (others(view, frame)) }
                section.panel aria-labelledby="pl" {
                    header { h2 #pl { "Data" } }
                    .pad {
                        @match (&view.data, event.erased_at) {
                            (_, Some(at)) => p.muted { "Erased at " (format::moment(at, frame.now)) "." },
                            (Some(data), None) => (bodies::block(data)),
                            (None, None) => p.muted { "Not readable any more." },
                        }
                    }
                }
            }
            (facts(event, frame))
        }
    }
}

/// The webhooks without a delivery, each with its reason and a way to send the event to it.
fn others(view: &EventPageView, frame: &Frame) -> Markup {
    let path = format!("events/{}/resend", view.event.id);
    let may_send = frame.may(Scope::DeliveriesRetry) && view.data.is_some();
    let more = view.not_sent.len().saturating_sub(NOT_SENT_SHOWN);
    html! {
        section.panel aria-labelledby="ns" {
            header { h2 #ns { "Not sent to" } span.muted { "by the webhooks as they are now" } }
            table {
                caption.vh { "Webhooks without a delivery of this event" }
                thead {
                    tr {
                        th scope="col" { "Webhook" }
                        th scope="col" { "Why not" }
                        @if may_send { th.w-act scope="col" { span.vh { "Send" } } }
                    }
                }
                tbody {
                    @for other in view.not_sent.iter().take(NOT_SENT_SHOWN) {
                        tr {
                            td { a.key href=(frame.link(&format!("webhooks/{}", other.webhook_id))) { (foreign(&other.name)) } }
                            td { (reason_words(other.reason)) }
                            @if may_send {
                                @let chosen = html! {
                                    input type="hidden" name="webhook_id" value=(other.webhook_id);
                                    button.btn.small type="submit" { "Send it" }
                                };
                                td { (frame.form("one", &path, &chosen)) }
                            }
                        }
                    }
                }
            }
            @if more > 0 { footer { span { "And " (format::counted(more as u64, "other webhook", "other webhooks")) } } }
        }
    }
}

/// A reason of the API's decisions in words.
fn reason_words(reason: &str) -> &'static str {
    match reason {
        "type" => "It does not want this type.",
        "channel" => "It wants other channels.",
        "filter" => "Its filter does not match the data.",
        "created_later" => "It was made after the event.",
        "disabled" => "It is disabled.",
        "about_itself" => "It wants no events of the daemon about the webhook itself.",
        "changed_since" => "It was changed after the event, and did not want it then.",
        _ => "It did not want the event.",
    }
}

fn facts(event: &Event, frame: &Frame) -> Markup {
    let attributes = &event.attributes;
    let texts = [
        ("event_id", attributes.event_id.as_deref()),
        ("Subject", attributes.subject.as_deref()),
        ("Ordering key", attributes.ordering_key.as_deref()),
        ("traceparent", attributes.traceparent.as_deref()),
    ];
    html! {
        div {
            section.panel aria-labelledby="fa" {
                header { h2 #fa { "Facts" } }
                dl.facts {
                    @for (name, value) in texts {
                        @if let Some(value) = value { div { dt { (name) } dd { code { (foreign(value)) } } } }
                    }
                    @if !attributes.channels.is_empty() {
                        div { dt { "Channels" } dd { (foreign(&attributes.channels.join(", "))) } }
                    }
                    @for (name, value) in &attributes.metadata {
                        div { dt { (foreign(name)) } dd { (foreign(value)) } }
                    }
                    @if let Some(at) = attributes.deliver_at {
                        div { dt { "Not before" } dd { (format::moment(at, frame.now)) } }
                    }
                    @if let Some(at) = attributes.expires_at {
                        div { dt { "Expires" } dd { (format::moment(at, frame.now)) } }
                    }
                    div { dt { "Occurred" } dd { (format::exact_moment(event.occurred_at, frame.now)) } }
                    div { dt { "Size" } dd { (format::size(u64::from(event.data_bytes))) } }
                    div { dt { "Id" } dd { code { (event.id) } } }
                }
            }
        }
    }
}

/// `POST /ui/events/{id}/cancel`.
pub fn cancel(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let to = format!("../{}?done=cancelled", request.path.get("id"));
    let call = ApiCall { handler: events::cancel, body: String::new(), form: Some(&form) };
    relay(context, request, &call, move |_| see_other(&to))
}

/// `POST /ui/events/{id}/resend`: sends the event to one webhook.
pub fn resend(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let body = json!({ "webhook_id": form.get("webhook_id") }).to_string();
    let call = ApiCall { handler: resend::resend, body, form: Some(&form) };
    relay(context, request, &call, move |response| {
        let sent = member(&response, "id").as_str().map(str::to_owned).unwrap_or_default();
        see_other(&format!("../../deliveries/{sent}?done=retried"))
    })
}

/// `GET /ui/events/{id}/erase`.
pub fn ask_erase(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let event = in_path(context, request)?;
    let frame = Frame::new(context, request, Section::Events);
    let path = format!("events/{}", event.id);
    let fields = html! {
        p {
            "The data of the event and the bodies of all answers to it are erased. The records of its deliveries stay. "
            "This cannot be undone."
        }
        .acts {
            button.btn.danger type="submit" { "Erase" }
            a.btn href=(frame.link(&path)) { "Keep it" }
        }
    };
    let content = html! {
        .head { div { h1 { "Erase the data of " (foreign(&event.attributes.event_type)) } } }
        section.panel { (frame.form("pad fields", &format!("{path}/erase"), &fields)) }
    };
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Erase", &content)))
}

/// `POST /ui/events/{id}/erase`.
pub fn erase(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let to = format!("../{}?done=erased", request.path.get("id"));
    let call = ApiCall { handler: events::erase, body: String::new(), form: Some(&form) };
    relay(context, request, &call, move |_| see_other(&to))
}
