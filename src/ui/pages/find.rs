//! One box that finds: the id of anything, an event_id, a subject, a type, or the name of a webhook.

use http::StatusCode;
use maud::{Markup, html};

use crate::api::cursor::{self, CursorKind};
use crate::api::dialects::{self, DialectObject};
use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::{ApiKey, Event, EventId, Scope, Webhook};
use crate::store::{EventName, EventQuery, ListWindow, Search};
use crate::ui::format::{self, foreign};
use crate::ui::frame::{Frame, Section};
use crate::ui::page_query::PageQuery;
use crate::ui::respond::see_other;

use super::events;

/// Rows of each list.
const ROWS_MAX: usize = 20;

#[derive(Default)]
pub struct FindView {
    pub wanted: String,
    pub webhooks: Vec<std::sync::Arc<Webhook>>,
    pub events: Vec<Event>,
    /// The position that a further search begins at, if this one ended before all events were looked at.
    pub next: Option<u128>,
}

/// `GET /ui/find?q=`. One hit goes straight there.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let page_query = PageQuery::of(request.http);
    let wanted = page_query.get("q").unwrap_or_default().to_owned();
    if let Some(to) = by_id(context, request, &wanted)? {
        return Ok(Step::Reply(see_other(&to)?));
    }
    let before = page_query.get("cursor").and_then(|text| cursor::read(CursorKind::Events, text));
    let view = view(context, request, wanted, before)?;
    match (view.webhooks.as_slice(), view.events.as_slice()) {
        ([webhook], []) if view.next.is_none() => {
            return Ok(Step::Reply(see_other(&format!("webhooks/{}", webhook.id))?));
        }
        ([], [event]) if view.next.is_none() => return Ok(Step::Reply(see_other(&format!("events/{}", event.id))?)),
        _ => {}
    }
    let frame = Frame::new(context, request, Section::Aside);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Find", &page(&view, &frame))))
}

/// The page of the object with this id, in the form of the daemon or of a dialect.
fn by_id(context: &ApiContext<'_>, request: &RequestContext<'_>, text: &str) -> Result<Option<String>, ApiError> {
    let tenant = request.tenant();
    let is_own = |key: &ApiKey| key.org_id == tenant.org && tenant.app.is_none_or(|own| key.app_id == Some(own));
    if request.may(Scope::KeysRead)
        && let Ok(id) = text.parse()
        && context.registry.key(id).is_some_and(|key| is_own(key))
    {
        return Ok(Some("keys".to_owned()));
    }
    for object in own_objects(text).into_iter().flatten().chain(dialects::object_of(text)) {
        if let Some(to) = page_of(context, request, object)? {
            return Ok(Some(to));
        }
    }
    Ok(None)
}

/// The objects that a text may name in the daemon's own form.
fn own_objects(text: &str) -> [Option<DialectObject>; 6] {
    [
        text.parse().ok().map(DialectObject::Webhook),
        text.parse().ok().map(DialectObject::App),
        text.parse().ok().map(DialectObject::Event),
        text.parse().ok().map(DialectObject::Delivery),
        text.parse().ok().map(DialectObject::Attempt),
        text.parse().ok().map(DialectObject::Replay),
    ]
}

/// The page of an object, if it exists and the key may read it.
fn page_of(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    object: DialectObject,
) -> Result<Option<String>, ApiError> {
    let (tenant, now) = (request.tenant(), context.now);
    let scope = match object {
        DialectObject::Webhook(_) => Scope::WebhooksRead,
        DialectObject::App(_) => Scope::AppsRead,
        _ => Scope::EventsRead,
    };
    if !request.may(scope) {
        return Ok(None);
    }
    Ok(match object {
        DialectObject::Webhook(id) => context.registry.webhook(tenant, id).map(|_| format!("webhooks/{id}")),
        DialectObject::App(id) => context.registry.app(tenant, id).map(|_| format!("apps/{id}")),
        DialectObject::Event(id) => context.store.event(tenant, id, now)?.map(|_| format!("events/{id}")),
        DialectObject::Delivery(id) => context.store.delivery(tenant, id, now)?.map(|_| format!("deliveries/{id}")),
        DialectObject::Attempt(id) => context.store.attempt(tenant, id, now)?.map(|attempt| {
            let number = attempt.made.number;
            format!("deliveries/{}?attempt={number}", attempt.delivery_id)
        }),
        DialectObject::Replay(id) => context.store.job(tenant, id)?.map(|_| format!("replays/{id}")),
    })
}

/// Whether a text is the name of a webhook that its owner gave it: its `uid`, or its id in the system that it was imported
/// from.
fn is_named(webhook: &Webhook, text: &str) -> bool {
    [&webhook.uid, &webhook.alias].into_iter().flatten().any(|own| own == text)
}

fn view(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    wanted: String,
    before: Option<u128>,
) -> Result<FindView, ApiError> {
    let mut view = FindView { wanted, ..FindView::default() };
    if view.wanted.is_empty() {
        return Ok(view);
    }
    let (tenant, search) = (request.tenant(), Search::new(&view.wanted));
    if request.may(Scope::WebhooksRead) {
        let webhooks = context.registry.webhooks_within(tenant);
        let found = webhooks.filter(|webhook| {
            search.within(&webhook.name) || search.within(&webhook.url) || is_named(webhook, &view.wanted)
        });
        view.webhooks = found.take(ROWS_MAX).cloned().collect();
    }
    if !request.may(Scope::EventsRead) {
        return Ok(view);
    }
    let window = super::newest(ROWS_MAX);
    let any = EventQuery { tenant, event_type: None, event_id: None, subject: None, search: None, window };
    let named = EventQuery { event_id: Some(view.wanted.clone()), ..any.clone() };
    view.events = context.store.named_events(&named, EventName::EventId(&view.wanted), context.now)?.rows;
    if view.events.is_empty() {
        let named = EventQuery { subject: Some(view.wanted.clone()), ..any.clone() };
        view.events = context.store.named_events(&named, EventName::Subject(&view.wanted), context.now)?.rows;
    }
    if view.events.is_empty() && view.webhooks.is_empty() {
        let window = ListWindow { before, ..window };
        let searched = EventQuery { search: Some(search), window, ..any };
        let page = context.store.events(&searched, context.now)?;
        (view.events, view.next) = (page.rows, page.next);
    }
    Ok(view)
}

/// The page.
pub fn page(view: &FindView, frame: &Frame) -> Markup {
    html! {
        .head {
            div {
                h1 { "Find" }
                p.lead {
                    @if view.wanted.is_empty() {
                        "Enter the id of anything, an event_id, a subject, a type, or the name of a webhook."
                    } @else {
                        "For " b { (foreign(&view.wanted)) }
                    }
                }
            }
        }
        @if !view.webhooks.is_empty() {
            section.panel aria-labelledby="wh" {
                header { h2 #wh { "Webhooks" } }
                ul.words {
                    @for webhook in &view.webhooks {
                        li {
                            a href=(frame.link(&format!("webhooks/{}", webhook.id))) { (foreign(&webhook.name)) }
                            p { (foreign(&webhook.url)) }
                        }
                    }
                }
            }
        }
        @if !view.events.is_empty() {
            section.panel aria-labelledby="ev" {
                header { h2 #ev { "Events" } }
                (events::table(&view.events, frame))
            }
        }
        @if let Some(next) = view.next {
            section.panel {
                .pad {
                    p {
                        "Looked at events back to " (format::moment(EventId::from_u128(next).time(), frame.now))
                        @if view.events.is_empty() { ". None of them is it." } @else { "." }
                    }
                    p {
                        a.btn rel="next" href={
                            (PageQuery::default().with("q", &view.wanted).link()) "&cursor=" (cursor::write(CursorKind::Events, next))
                        } { "Look further" }
                    }
                }
            }
        } @else if view.events.is_empty() && view.webhooks.is_empty() && !view.wanted.is_empty() {
            section.panel { .pad { p { "Nothing found." }
                p.muted { "An event may be older than the time that events are kept, or belong to another app." } } }
        }
    }
}
