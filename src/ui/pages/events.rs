//! Published events: the list by type, subject and event_id, and a form that publishes one.

use http::StatusCode;
use maud::{Markup, html};
use serde_json::json;
use serde_json::value::RawValue;

use crate::api::cursor::{self, CursorKind};
use crate::api::native::publish;
use crate::api::{ApiContext, ApiError, FieldError, RequestContext, Step};
use crate::model::{Event, EventId, Scope, Time};
use crate::store::{EventName, EventQuery, ListWindow, Page, Search};
use crate::ui::chips;
use crate::ui::filter;
use crate::ui::form::{PostedForm, mistakes};
use crate::ui::format::{self, foreign};
use crate::ui::frame::{Frame, Section};
use crate::ui::page_query::{LASTS, PageQuery, Span};
use crate::ui::relay::{ApiCall, corrected, member, relay};
use crate::ui::respond::see_other;

/// Maximum number of rows of a page.
const ROWS_MAX: usize = 50;

pub struct EventsView {
    pub rows: Vec<Event>,
    pub page_query: PageQuery,
    pub next: Option<u128>,
    /// Events before this time are searched for and not looked up.
    pub indexed_from: Option<Time>,
}

/// The fields that have a chip where nothing passes.
const CHIPS: [&str; 7] = ["type", "event_id", "subject", "search", "last", "from", "to"];

/// `GET /ui/events`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Events);
    let view = view(context, request)?;
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Events", &page(&view, &frame))))
}

fn view(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<EventsView, ApiError> {
    let page_query = filter::of(request.http, Section::Events);
    let span = Span::of(&page_query, context.now);
    let before = page_query.get("cursor").and_then(|text| cursor::read(CursorKind::Events, text));
    let (event_id, subject) =
        (page_query.get("event_id").map(str::to_owned), page_query.get("subject").map(str::to_owned));
    let query = EventQuery {
        tenant: request.tenant(),
        event_type: page_query.get("type").map(str::to_owned),
        event_id: event_id.clone(),
        subject: subject.clone(),
        search: page_query.get("search").map(Search::new),
        window: ListWindow { from: span.from, to: span.to, before, ..super::newest(ROWS_MAX) },
    };
    let name = event_id.as_deref().map(EventName::EventId).or(subject.as_deref().map(EventName::Subject));
    let (page, indexed_from) = match name {
        Some(name) => {
            let found = context.store.named_events(&query, name, context.now)?;
            (Page { rows: found.rows, next: found.next }, found.indexed_from)
        }
        None => (context.store.events(&query, context.now)?, None),
    };
    Ok(EventsView { rows: page.rows, page_query, next: page.next, indexed_from })
}

/// The page.
pub fn page(view: &EventsView, frame: &Frame) -> Markup {
    html! {
        .head {
            div { h1 { "Events" } }
            .acts {
                @if frame.may(Scope::EventsWrite) { a.btn.main href=(frame.link("events/new")) { "Publish an event" } }
            }
        }
        (filters(view))
        section.panel {
            @if view.rows.is_empty() {
                .pad {
                    @if let Some(next) = view.next {
                        p {
                            "Looked at " (format::counted(super::EXAMINED_MAX as u64, "event", "events")) ", back to "
                            (format::moment(EventId::from_u128(next).time(), frame.now))
                            ". None of them passes these filters."
                        }
                        p.filters { (chips::chips(&view.page_query, &CHIPS, |_, value| value.to_owned())) }
                    }
                    @else if view.page_query == PageQuery::default() {
                        p { "No events yet. A program publishes them by POST /v1/events." }
                    }
                    @else {
                        (chips::none_passes("No event passes these filters:", &view.page_query, &CHIPS, |_, value| value.to_owned()))
                    }
                }
            } @else {
                (table(&view.rows, frame))
            }
            footer {
                span {
                    (format::counted(view.rows.len() as u64, "event", "events")) " on this page"
                    @if let Some(from) = view.indexed_from { "; complete from " (format::moment(from, frame.now)) " on" }
                }
                @if let Some(next) = view.next {
                    a.btn.small rel="next"
                        href={ (view.page_query.with("", "").link()) "&cursor=" (cursor::write(CursorKind::Events, next)) } {
                        @if view.rows.is_empty() { "Look further" } @else { "Older" }
                    }
                }
            }
        }
    }
}

fn filters(view: &EventsView) -> Markup {
    let field = |name: &str, words: &str| {
        html! {
            label.grow {
                span.vh { (words) }
                input type="search" name=(name) placeholder=(words) value=(view.page_query.get(name).unwrap_or_default());
            }
        }
    };
    html! {
        form.filters autocomplete="off" {
            (field("type", "Type"))
            (field("event_id", "event_id"))
            (field("subject", "Subject"))
            (field("search", "Search"))
            label {
                span.vh { "Time" }
                select name="last" {
                    option value="" { "Any time" }
                    @for (value, words, _) in LASTS {
                        option value=(value) selected[view.page_query.get("last") == Some(value)] { "Last " (words) }
                    }
                }
            }
            button.btn type="submit" { "Filter" }
        }
    }
}

/// Events as a table.
pub fn table(rows: &[Event], frame: &Frame) -> Markup {
    html! {
        table.fixed {
            caption.vh { "Events, newest first" }
            thead {
                tr {
                    th scope="col" { "Event" }
                    th.big scope="col" { "Subject" }
                    th.num.w-rate.big scope="col" { "Size" }
                    th.num.w-rate.big scope="col" { "Deliveries" }
                    th.num.w-when scope="col" { "Received" }
                }
            }
            tbody {
                @for event in rows {
                    @let attributes = &event.attributes;
                    tr {
                        td {
                            a.key href=(frame.link(&format!("events/{}", event.id))) {
                                (foreign(&attributes.event_type))
                            }
                            span.sub.cut.mono {
                                @match &attributes.event_id { Some(own) => (foreign(own)), None => (event.id) }
                            }
                        }
                        td.big { span.cut { (foreign(attributes.subject.as_deref().unwrap_or("–"))) } }
                        td.num.big {
                            @if event.erased_at.is_some() {
                                "erased"
                            } @else {
                                (format::size(u64::from(event.data_bytes)))
                            }
                        }
                        td.num.big { (format::count(u64::from(event.deliveries))) }
                        td.num.w-when.nowrap { (format::moment(event.received_at, frame.now)) }
                    }
                }
            }
        }
    }
}

/// `GET /ui/events/new`.
pub fn new(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Events);
    let form = PostedForm::filled([("type", "test.created".to_owned()), ("data", "{\"id\": 42}".to_owned())]);
    let content = new_page(&form, &[], &frame);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Publish an event", &content)))
}

/// The form that publishes an event.
pub fn new_page(form: &PostedForm, errors: &[FieldError], frame: &Frame) -> Markup {
    let fields = html! {
        label for="type" { "Type" }
        input #type type="text" name="type" value=(form.get("type")) required;
        label for="event_id" { "event_id" }
        input #event_id type="text" name="event_id" value=(form.get("event_id"));
        p.muted { "Optional. The same event_id again within a day is the same event." }
        label for="subject" { "Subject" }
        input #subject type="text" name="subject" value=(form.get("subject"));
        label for="data" { "Data, as JSON" }
        // A browser drops the first line break of an area.
        textarea #data name="data" rows="10" spellcheck="false" { "\n" (form.get("data")) }
        (mistakes(errors))
        .acts { button.btn.main type="submit" { "Publish" } a.btn href=(frame.link("events")) { "Leave it" } }
    };
    html! {
        .head {
            div {
                h1 { "Publish an event" }
                p.lead { "It goes to every webhook that wants its type, as if a program had published it." }
            }
        }
        section.panel { (frame.form("pad fields", "events/new", &fields)) }
    }
}

/// `POST /ui/events/new`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let data = if form.get("data").trim().is_empty() { "null" } else { form.get("data").trim() };
    let mut members = vec![format!("\"type\":{}", json!(form.get("type").trim()))];
    for name in ["event_id", "subject"] {
        if !form.get(name).trim().is_empty() {
            members.push(format!("\"{name}\":{}", json!(form.get(name).trim())));
        }
    }
    // Only a whole JSON value can stand in the body, so that the data cannot become other members.
    let made = match serde_json::from_str::<&RawValue>(data) {
        Ok(raw) => {
            members.push(format!("\"data\":{raw}"));
            let call = ApiCall { handler: publish::one, body: format!("{{{}}}", members.join(",")), form: Some(&form) };
            relay(context, request, &call, |response| {
                let id = member(&response, "id");
                see_other(&format!("{}?done=published", id.as_str().unwrap_or_default()))
            })
        }
        Err(error) => Err(ApiError::invalid(vec![FieldError::new("/data", format!("is no JSON: {error}"))])),
    };
    let frame = Frame::new(context, request, Section::Events);
    corrected(made, move |api_error| {
        let content = new_page(&form, &api_error.errors, &frame);
        frame.reply(api_error.status, "Publish an event", &content)
    })
}
