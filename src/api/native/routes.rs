//! The native route table: every line of api.md section 3, in its order.

use crate::api::auth;
use crate::api::media::BodyRule;
use crate::api::problem;
use crate::api::route::RouteAccess::{Installation, Metrics, Open, Scope as Needs};
use crate::api::route::{ApiMount, Route, RouteAccess, RouteMethod};
use crate::model::Scope;

use super::{
    apps, attempts, audit, cloudevents, deliveries, events, feed, health, keys, meta, organizations, publish, replays,
    stats, test_send, webhooks,
};

const NONE: &[&str] = &[];
const PAGE: &[&str] = &["limit", "cursor"];
const WINDOW: &[&str] = &["from", "to", "limit", "cursor"];
const EVENTS: &[&str] = &["type", "app_id", "subject", "from", "to", "search", "limit", "cursor"];
const ATTEMPTS: &[&str] = &["status", "type", "from", "to", "status_code", "search", "limit", "cursor"];
const DELIVERIES: &[&str] =
    &["webhook_id", "event_id", "status", "type", "from", "to", "status_code", "search", "limit", "cursor"];
const OF_EVENT: &[&str] = &["webhook_id", "status", "status_code", "search", "limit", "cursor"];
const OF_WEBHOOK: &[&str] = &["event_id", "status", "type", "from", "to", "status_code", "search", "limit", "cursor"];
const WEBHOOKS: &[&str] = &["app_id", "status", "search", "limit", "cursor"];
const FEED: &[&str] = &["cursor", "limit", "wait_s"];

const fn get(path: &'static str, access: RouteAccess, query: &'static [&'static str]) -> Route {
    Route::new(RouteMethod::Get, path, access, BodyRule::None).with_query(query)
}

const fn post(path: &'static str, access: RouteAccess, body: BodyRule) -> Route {
    Route::new(RouteMethod::Post, path, access, body)
}

const fn patch(path: &'static str, access: RouteAccess) -> Route {
    Route::new(RouteMethod::Patch, path, access, BodyRule::MergePatch)
}

const fn delete(path: &'static str, access: RouteAccess) -> Route {
    Route::new(RouteMethod::Delete, path, access, BodyRule::None)
}

pub static ROUTES: &[Route] = &[
    post("/v1/events", Needs(Scope::EventsWrite, publish::one), BodyRule::Event(cloudevents::check_mode)).inline(),
    post("/v1/events/batch", Needs(Scope::EventsWrite, publish::batch), BodyRule::Batch).inline(),
    get("/v1/events", Needs(Scope::EventsRead, events::list), EVENTS),
    get("/v1/events/{id}", Needs(Scope::EventsRead, events::read), NONE),
    get("/v1/events/{id}/deliveries", Needs(Scope::EventsRead, events::deliveries), OF_EVENT),
    post("/v1/events/{id}/cancel", Needs(Scope::EventsWrite, events::cancel), BodyRule::OptionalJson),
    delete("/v1/events/{id}/data", Needs(Scope::EventsWrite, events::erase)),
    post("/v1/webhooks", Needs(Scope::WebhooksWrite, webhooks::create), BodyRule::Json),
    get("/v1/webhooks", Needs(Scope::WebhooksRead, webhooks::list), WEBHOOKS),
    get("/v1/webhooks/{id}", Needs(Scope::WebhooksRead, webhooks::read), NONE),
    patch("/v1/webhooks/{id}", Needs(Scope::WebhooksWrite, webhooks::update)),
    delete("/v1/webhooks/{id}", Needs(Scope::WebhooksWrite, webhooks::remove)),
    get("/v1/webhooks/{id}/secret", Needs(Scope::WebhooksSecret, webhooks::secret), NONE),
    post(
        "/v1/webhooks/{id}/rotate-secret",
        Needs(Scope::WebhooksSecret, webhooks::rotate_secret),
        BodyRule::OptionalJson,
    ),
    post("/v1/webhooks/{id}/test", Needs(Scope::WebhooksWrite, test_send::send), BodyRule::OptionalJson),
    post("/v1/webhooks/{id}/pause", Needs(Scope::WebhooksWrite, webhooks::pause), BodyRule::OptionalJson),
    post("/v1/webhooks/{id}/resume", Needs(Scope::WebhooksWrite, webhooks::resume), BodyRule::OptionalJson),
    post("/v1/replays", Needs(Scope::EventsWrite, replays::create), BodyRule::Json),
    get("/v1/replays", Needs(Scope::EventsWrite, replays::list), WINDOW),
    get("/v1/replays/{id}", Needs(Scope::EventsWrite, replays::read), NONE),
    post("/v1/replays/{id}/cancel", Needs(Scope::EventsWrite, replays::cancel), BodyRule::OptionalJson),
    get("/v1/webhooks/{id}/feed", Needs(Scope::EventsRead, feed::read), FEED).waits("id"),
    get("/v1/webhooks/{id}/public-keys", Needs(Scope::WebhooksRead, webhooks::public_keys), NONE),
    get("/v1/audit", Needs(Scope::Admin, audit::list), WINDOW),
    get("/v1/webhooks/{id}/stats", Needs(Scope::WebhooksRead, stats::of_webhook), NONE),
    get("/v1/webhooks/{id}/health", Needs(Scope::WebhooksRead, health::of_webhook), NONE),
    get("/v1/webhooks/{id}/deliveries", Needs(Scope::EventsRead, deliveries::of_webhook), OF_WEBHOOK),
    get("/v1/webhooks/{id}/attempts", Needs(Scope::EventsRead, attempts::of_webhook), ATTEMPTS),
    get("/v1/deliveries", Needs(Scope::EventsRead, deliveries::list), DELIVERIES),
    get("/v1/deliveries/{id}", Needs(Scope::EventsRead, deliveries::read), NONE),
    get("/v1/deliveries/{id}/attempts", Needs(Scope::EventsRead, attempts::of_delivery), ATTEMPTS),
    post("/v1/deliveries/{id}/retry", Needs(Scope::EventsWrite, deliveries::retry), BodyRule::OptionalJson),
    post("/v1/deliveries/{id}/cancel", Needs(Scope::EventsWrite, deliveries::cancel), BodyRule::OptionalJson),
    get("/v1/attempts/{id}", Needs(Scope::EventsRead, attempts::read), NONE),
    get("/v1/stats", Needs(Scope::WebhooksRead, stats::all), NONE),
    post("/v1/apps", Needs(Scope::AppsWrite, apps::create), BodyRule::Json),
    get("/v1/apps", Needs(Scope::AppsRead, apps::list), PAGE),
    get("/v1/apps/{id}", Needs(Scope::AppsRead, apps::read), NONE),
    patch("/v1/apps/{id}", Needs(Scope::AppsWrite, apps::update)),
    delete("/v1/apps/{id}", Needs(Scope::AppsWrite, apps::remove)),
    post("/v1/keys", Needs(Scope::KeysWrite, keys::create), BodyRule::Json),
    get("/v1/keys", Needs(Scope::KeysRead, keys::list), PAGE),
    delete("/v1/keys/{id}", Needs(Scope::KeysWrite, keys::revoke)),
    post("/v1/organizations", Installation(organizations::create), BodyRule::Json),
    get("/v1/organizations", Installation(organizations::list), PAGE),
    post("/v1/clock/accept", Installation(meta::accept_clock), BodyRule::OptionalJson),
    get("/healthz", Open(meta::alive), NONE),
    get("/readyz", Open(meta::ready), NONE),
    get("/metrics", Metrics(meta::metrics), NONE),
    get("/openapi.json", Open(meta::openapi), NONE),
];

/// The native surface: bearer keys, problem documents, and every path that no dialect has.
pub fn mount() -> ApiMount {
    ApiMount::new("native", "", ROUTES, auth::by_bearer, |api_error, error_context| {
        problem::render(api_error, error_context.request_id)
    })
}
