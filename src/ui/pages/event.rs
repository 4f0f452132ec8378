//! One event: its payload, and which webhook got it.

use http::StatusCode;
use maud::{Markup, html};

use crate::api::native::events;
use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::{Event, EventId, Scope};
use crate::ui::bodies;
use crate::ui::form::PostedForm;
use crate::ui::frame::{Frame, Section};
use crate::ui::relay::{ApiCall, relay};
use crate::ui::respond::see_other;
use crate::ui::write::{self, foreign};

use super::delivery_rows::{self, DeliveryRow, RowColumns};

const COLUMNS: RowColumns = RowColumns { check: false, webhook: true, ended: false };

pub struct EventPageView {
    pub event: Event,
    pub data: Option<String>,
    pub deliveries: Vec<DeliveryRow>,
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
        data: data.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        deliveries: delivery_rows::read(context, request.tenant(), deliveries)?,
        event,
    };
    Ok(Step::Reply(frame.reply(StatusCode::OK, &view.event.attributes.event_type, &page(&view, &frame))))
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
                p.lead { "Received at " (write::exact_moment(event.received_at, frame.now)) ", "
                    (write::counted(view.deliveries.len() as u64, "delivery", "deliveries")) "." }
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
                section.panel aria-labelledby="pl" {
                    header { h2 #pl { "Data" } }
                    .pad {
                        @match (&view.data, event.erased_at) {
                            (_, Some(at)) => p.muted { "Erased at " (write::moment(at, frame.now)) "." },
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
                        div { dt { "Not before" } dd { (write::moment(at, frame.now)) } }
                    }
                    @if let Some(at) = attributes.expires_at {
                        div { dt { "Expires" } dd { (write::moment(at, frame.now)) } }
                    }
                    div { dt { "Occurred" } dd { (write::exact_moment(event.occurred_at, frame.now)) } }
                    div { dt { "Size" } dd { (write::size(u64::from(event.data_bytes))) } }
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
