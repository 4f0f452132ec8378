//! The routes below `/ui`, and the mount that serves them.

use http::StatusCode;
use http::header::ACCEPT;

use crate::api::auth::by_key;
use crate::api::doc::{RouteDoc, doc};
use crate::api::media::BodyRule;
use crate::api::route::{Handler, OpenHandler, OpenStepHandler, PageRules, Route, RouteAccess, RouteMethod};
use crate::api::{ApiContext, ApiError, ApiMount, HttpRequest, HttpResponse, RequestContext, Step};
use crate::model::Scope;

use super::pages::{
    apps, audit, deliveries, delivery, delivery_cancel, delivery_resend, errors, event, events, find, keys, live,
    overview, replays, shortcuts, system, test_result, webhook, webhook_actions, webhook_form, webhooks,
};
use super::portal::{enter, event_types, help, home, logo};
use super::{assets, login, respond, session};

/// The purpose that the key of sessions and forms is derived for.
pub const SESSION_KEY_PURPOSE: &str = "postrider ui session v1";

/// The pages are not part of the API's description.
const UNDESCRIBED: RouteDoc = doc("", "", "", &[]);

const fn get(path: &'static str, scope: Scope, handler: Handler) -> Route {
    Route::new(RouteMethod::Get, path, RouteAccess::Scope(scope, handler), BodyRule::None, UNDESCRIBED)
}

const fn post(path: &'static str, scope: Scope, handler: Handler) -> Route {
    Route::new(RouteMethod::Post, path, RouteAccess::Scope(scope, handler), BodyRule::Form, UNDESCRIBED)
}

/// A page or a form for every session.
const fn for_any(verb: RouteMethod, path: &'static str, handler: Handler) -> Route {
    let body = if matches!(verb, RouteMethod::Post) { BodyRule::Form } else { BodyRule::None };
    Route::new(verb, path, RouteAccess::Authorized(Scope::EventsRead, |_| Ok(()), handler), body, UNDESCRIBED)
}

const fn open(path: &'static str, handler: OpenHandler) -> Route {
    Route::new(RouteMethod::Get, path, RouteAccess::Open(handler), BodyRule::None, UNDESCRIBED)
}

const fn open_step(verb: RouteMethod, path: &'static str, body: BodyRule, handler: OpenStepHandler) -> Route {
    Route::new(verb, path, RouteAccess::OpenStep(handler), body, UNDESCRIBED)
}

/// The routes. Every POST reads its form by `PostedForm::read`, but for the login, which has no session.
static ROUTES: &[Route] = &[
    open("/", front_door).inline(),
    open("/ui", to_overview).inline(),
    open("/ui/login", login::show).inline(),
    open_step(RouteMethod::Post, "/ui/login", BodyRule::Form, login::submit),
    open_step(RouteMethod::Get, "/ui/enter", BodyRule::None, login::by_link).acts(),
    open("/ui/assets/{name}", assets::serve).inline(),
    for_any(RouteMethod::Get, "/ui/", overview::show),
    for_any(RouteMethod::Post, "/ui/logout", login::leave),
    for_any(RouteMethod::Post, "/ui/theme", login::set_theme),
    for_any(RouteMethod::Get, "/ui/renewed.css", login::renewed),
    for_any(RouteMethod::Get, "/ui/find", find::show),
    for_any(RouteMethod::Get, "/ui/shortcuts", shortcuts::show),
    get("/ui/webhooks", Scope::WebhooksRead, webhooks::show),
    get("/ui/webhooks/new", Scope::WebhooksWrite, webhook_form::new),
    post("/ui/webhooks/new", Scope::WebhooksWrite, webhook_form::create),
    get("/ui/webhooks/{id}", Scope::WebhooksRead, webhook::show),
    get("/ui/webhooks/{id}/edit", Scope::WebhooksWrite, webhook_form::edit),
    post("/ui/webhooks/{id}/edit", Scope::WebhooksWrite, webhook_form::update),
    post("/ui/webhooks/{id}/test", Scope::WebhooksWrite, test_result::send),
    post("/ui/webhooks/{id}/pause", Scope::WebhooksWrite, webhook_actions::pause),
    post("/ui/webhooks/{id}/resume", Scope::WebhooksWrite, webhook_actions::resume),
    post("/ui/webhooks/{id}/enable", Scope::WebhooksWrite, webhook_actions::enable),
    post("/ui/webhooks/{id}/secret", Scope::WebhooksSecret, webhook_actions::reveal),
    get("/ui/webhooks/{id}/rotate", Scope::WebhooksSecret, webhook_actions::ask_rotate),
    post("/ui/webhooks/{id}/rotate", Scope::WebhooksSecret, webhook_actions::rotate),
    get("/ui/webhooks/{id}/delete", Scope::WebhooksWrite, webhook_actions::ask_delete),
    post("/ui/webhooks/{id}/delete", Scope::WebhooksWrite, webhook_actions::delete),
    get("/ui/deliveries", Scope::EventsRead, deliveries::show),
    post("/ui/deliveries/retry", Scope::DeliveriesRetry, delivery_resend::resend),
    post("/ui/deliveries/cancel", Scope::EventsWrite, delivery_cancel::cancel),
    get("/ui/deliveries/{id}", Scope::EventsRead, delivery::show),
    post("/ui/deliveries/{id}/retry", Scope::DeliveriesRetry, delivery::retry),
    post("/ui/deliveries/{id}/cancel", Scope::EventsWrite, delivery::cancel),
    get("/ui/events", Scope::EventsRead, events::show),
    get("/ui/events/new", Scope::EventsWrite, events::new),
    post("/ui/events/new", Scope::EventsWrite, events::create),
    get("/ui/events/{id}", Scope::EventsRead, event::show),
    post("/ui/events/{id}/cancel", Scope::EventsWrite, event::cancel),
    post("/ui/events/{id}/resend", Scope::DeliveriesRetry, event::resend),
    get("/ui/events/{id}/erase", Scope::EventsWrite, event::ask_erase),
    post("/ui/events/{id}/erase", Scope::EventsWrite, event::erase),
    get("/ui/live", Scope::EventsRead, live::show),
    get("/ui/live-rows", Scope::EventsRead, live::rows).waits_for_attempts(),
    get("/ui/replays", Scope::DeliveriesRetry, replays::show),
    get("/ui/replays/new", Scope::DeliveriesRetry, replays::new),
    post("/ui/replays/new", Scope::DeliveriesRetry, replays::create),
    post("/ui/replays/count", Scope::DeliveriesRetry, replays::count),
    get("/ui/replays/{id}", Scope::DeliveriesRetry, replays::one),
    post("/ui/replays/{id}/stop", Scope::DeliveriesRetry, replays::stop),
    get("/ui/apps", Scope::AppsRead, apps::show),
    post("/ui/apps/new", Scope::AppsWrite, apps::create),
    get("/ui/apps/{id}", Scope::AppsRead, apps::one),
    post("/ui/apps/{id}/portal-link", Scope::AppsWrite, apps::portal_link),
    get("/ui/keys", Scope::KeysRead, keys::show),
    post("/ui/keys/new", Scope::KeysWrite, keys::create),
    get("/ui/keys/{id}/revoke", Scope::KeysWrite, keys::ask_revoke),
    post("/ui/keys/{id}/revoke", Scope::KeysWrite, keys::revoke),
    get("/ui/audit", Scope::Admin, audit::show),
    get("/ui/system", Scope::Admin, system::show),
    open_step(RouteMethod::Get, "/ui/portal/enter", BodyRule::None, enter::enter).acts(),
    open("/ui/portal/logo", logo::serve).inline(),
    for_any(RouteMethod::Get, "/ui/portal/", home::show),
    for_any(RouteMethod::Get, "/ui/portal/help", help::show),
    for_any(RouteMethod::Get, "/ui/portal/shortcuts", shortcuts::show),
    for_any(RouteMethod::Post, "/ui/portal/leave", enter::leave),
    for_any(RouteMethod::Post, "/ui/portal/theme", enter::set_theme),
    get("/ui/portal/event-types", Scope::EventsRead, event_types::show),
    get("/ui/portal/webhooks", Scope::WebhooksRead, webhooks::show),
    get("/ui/portal/webhooks/new", Scope::WebhooksWrite, webhook_form::new),
    post("/ui/portal/webhooks/new", Scope::WebhooksWrite, webhook_form::create),
    get("/ui/portal/webhooks/{id}", Scope::WebhooksRead, webhook::show),
    get("/ui/portal/webhooks/{id}/edit", Scope::WebhooksWrite, webhook_form::edit),
    post("/ui/portal/webhooks/{id}/edit", Scope::WebhooksWrite, webhook_form::update),
    post("/ui/portal/webhooks/{id}/test", Scope::WebhooksWrite, test_result::send),
    post("/ui/portal/webhooks/{id}/pause", Scope::WebhooksWrite, webhook_actions::pause),
    post("/ui/portal/webhooks/{id}/resume", Scope::WebhooksWrite, webhook_actions::resume),
    post("/ui/portal/webhooks/{id}/enable", Scope::WebhooksWrite, webhook_actions::enable),
    post("/ui/portal/webhooks/{id}/secret", Scope::WebhooksSecret, webhook_actions::reveal),
    get("/ui/portal/webhooks/{id}/rotate", Scope::WebhooksSecret, webhook_actions::ask_rotate),
    post("/ui/portal/webhooks/{id}/rotate", Scope::WebhooksSecret, webhook_actions::rotate),
    get("/ui/portal/webhooks/{id}/delete", Scope::WebhooksWrite, webhook_actions::ask_delete),
    post("/ui/portal/webhooks/{id}/delete", Scope::WebhooksWrite, webhook_actions::delete),
    get("/ui/portal/deliveries", Scope::EventsRead, deliveries::show),
    post("/ui/portal/deliveries/retry", Scope::DeliveriesRetry, delivery_resend::resend),
    post("/ui/portal/deliveries/cancel", Scope::EventsWrite, delivery_cancel::cancel),
    get("/ui/portal/deliveries/{id}", Scope::EventsRead, delivery::show),
    post("/ui/portal/deliveries/{id}/retry", Scope::DeliveriesRetry, delivery::retry),
    post("/ui/portal/deliveries/{id}/cancel", Scope::EventsWrite, delivery::cancel),
    get("/ui/portal/replays", Scope::DeliveriesRetry, replays::show),
    get("/ui/portal/replays/new", Scope::DeliveriesRetry, replays::new),
    post("/ui/portal/replays/new", Scope::DeliveriesRetry, replays::create),
    post("/ui/portal/replays/count", Scope::DeliveriesRetry, replays::count),
    get("/ui/portal/replays/{id}", Scope::DeliveriesRetry, replays::one),
    post("/ui/portal/replays/{id}/stop", Scope::DeliveriesRetry, replays::stop),
    for_any(RouteMethod::Get, "/ui/portal/{*rest}", nowhere),
];

/// The mount of the pages.
pub fn mount() -> ApiMount {
    let pages = PageRules { identify: session::identify, greets: is_browser };
    ApiMount::new("ui", "/ui", ROUTES, by_key, errors::render).with_pages(pages)
}

/// Whether a request for `/` comes from a browser: it asks for HTML and shows no key.
fn is_browser(http_request: &HttpRequest) -> bool {
    let wants_html = |line: &str| line.split(',').any(|part| part.trim().to_ascii_lowercase().starts_with("text/html"));
    let accept = http_request.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accept.into_iter().any(wants_html) && !http_request.headers.contains_key(http::header::AUTHORIZATION)
}

/// A page that the portal does not have.
fn nowhere(_: &mut ApiContext<'_>, _: &RequestContext<'_>) -> Result<Step, ApiError> {
    Err(ApiError::not_found("page"))
}

/// `GET /` in a browser.
fn front_door(_: &ApiContext<'_>, _: &HttpRequest) -> Result<HttpResponse, ApiError> {
    respond::moved(StatusCode::SEE_OTHER, "ui/")
}

/// `GET /ui`: the pages are relative to the folder.
fn to_overview(_: &ApiContext<'_>, _: &HttpRequest) -> Result<HttpResponse, ApiError> {
    respond::moved(StatusCode::PERMANENT_REDIRECT, "ui/")
}
