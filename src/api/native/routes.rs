//! The native route table: every route of the native API, with its documentation.

use crate::api::auth;
use crate::api::cursor::CursorKind;
use crate::api::doc::schema::AnswerSchema;
use crate::api::doc::{AnswerDoc, RouteDoc, answer, doc, done, html_page, ok};
use crate::api::limits::EVENT_ID_CHARS_MAX;
use crate::api::media::BodyRule;
use crate::api::params::{
    DELIVERY_STATUS, EVENT_TYPE, FROM, LIMIT, OUTCOME, Param, ParamValues, SEARCH, STATUS_CODE, TO, WAITING_CURSOR,
    cursor,
};
use crate::api::problem;
use crate::api::route::RouteAccess::{Installation, Metrics, Open, Scope as Needs};
use crate::api::route::{ApiMount, Route, RouteAccess, RouteMethod};
use crate::model::Scope;

use super::deliveries::WEBHOOK_ID;
use super::events::{OWN_ID, SUBJECT};
use super::feed::WAIT_S;
use super::page::ListView;
use super::webhooks::APP_ID;
use super::{
    apps, attempt_request, attempt_stream, attempts, audit, bulk_retry, cloudevents, deliveries, event_types, events,
    feed, health, keys, meta, organizations, portal_links, publish, registered_types, replays, replication, resend,
    stats, stats_series, system, test_send, waiting, webhook_list, webhook_view, webhooks,
};

const ID: Param = Param::new("id", ParamValues::Id, "The id.");
const WEBHOOK: Param = Param::new("id", ParamValues::AppName, "The webhook's id, or its `uid` in the key's app.");
const EVENT_NAME: ParamValues = ParamValues::Text { chars_max: Some(EVENT_ID_CHARS_MAX) };
const EVENT: Param = Param::new("id", EVENT_NAME, "The event's id, or its `event_id` in the key's app.");
const APP: Param = Param::new("id", ParamValues::AppName, "The app's id or its `uid`.");
const LISTED: &str = "Newest first; with `status=failed` those that ended last come first.";

/// Whether a path begins with `start`.
const fn begins(path: &str, start: &str) -> bool {
    let (path, start) = (path.as_bytes(), start.as_bytes());
    let mut at = 0;
    while at < start.len() {
        if at == path.len() || path[at] != start[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The parameters of a native path: none, or the `id` of an object.
const fn segments_of(path: &str) -> &'static [Param] {
    if begins(path, "/v1/webhooks/{") {
        return &[WEBHOOK];
    }
    if begins(path, "/v1/events/{") {
        return &[EVENT];
    }
    let text = path.as_bytes();
    let mut at = 0;
    while at < text.len() && text[at] != b'{' {
        at += 1;
    }
    if at == text.len() { &[] } else { &[ID] }
}

pub(super) const fn get(path: &'static str, access: RouteAccess, doc: RouteDoc) -> Route {
    Route::new(RouteMethod::Get, path, access, BodyRule::None, doc).with_segments(segments_of(path))
}

pub(super) const fn post(path: &'static str, access: RouteAccess, body: BodyRule, doc: RouteDoc) -> Route {
    Route::new(RouteMethod::Post, path, access, body, doc).with_segments(segments_of(path))
}

pub(super) const fn put(path: &'static str, access: RouteAccess, doc: RouteDoc) -> Route {
    Route::new(RouteMethod::Put, path, access, BodyRule::Json, doc).with_segments(segments_of(path))
}

pub(super) const fn patch(path: &'static str, access: RouteAccess, doc: RouteDoc) -> Route {
    Route::new(RouteMethod::Patch, path, access, BodyRule::MergePatch, doc).with_segments(segments_of(path))
}

pub(super) const fn delete(path: &'static str, access: RouteAccess, doc: RouteDoc) -> Route {
    Route::new(RouteMethod::Delete, path, access, BodyRule::None, doc).with_segments(segments_of(path))
}

pub static ROUTES: &[Route] = &[
    post(
        "/v1/events",
        Needs(Scope::EventsWrite, publish::one),
        BodyRule::Event(cloudevents::check_mode),
        doc(
            "publishEvent",
            "events",
            "Publish an event, or CloudEvents in any mode",
            &[answer::<publish::PublishedAny>(
                202,
                "Durable, and on its way. `data` holds the answers to a batch of CloudEvents.",
            )],
        )
        .takes("NewEvent"),
    )
    .inline(),
    post(
        "/v1/events/batch",
        Needs(Scope::EventsWrite, publish::batch),
        BodyRule::Batch,
        doc(
            "publishEvents",
            "events",
            "Publish up to 1,000 events: all or none",
            &[answer::<publish::BatchView>(202, "All are durable, in one commit.")],
        )
        .takes("NewEvents"),
    )
    .inline(),
    get(
        "/v1/events",
        Needs(Scope::EventsRead, events::list),
        doc("listEvents", "events", "List events", &[ok::<events::EventListView>("Newest first.")]),
    )
    .with_query(&[EVENT_TYPE, APP_ID, OWN_ID, SUBJECT, FROM, TO, SEARCH, LIMIT, cursor(CursorKind::Events)]),
    get(
        "/v1/events/{id}",
        Needs(Scope::EventsRead, events::read),
        doc(
            "getEvent",
            "events",
            "Read an event, and what became of it at each webhook",
            &[ok::<events::RoutingView>("The event with its data.")],
        ),
    ),
    get(
        "/v1/events/{id}/deliveries",
        Needs(Scope::EventsRead, events::deliveries),
        doc(
            "listEventDeliveries",
            "events",
            "List an event's deliveries",
            &[ok::<ListView<deliveries::DeliveryView>>("Newest first.")],
        ),
    )
    .with_query(&[
        WEBHOOK_ID,
        DELIVERY_STATUS,
        STATUS_CODE,
        OUTCOME,
        SEARCH,
        LIMIT,
        cursor(CursorKind::Deliveries),
    ]),
    post(
        "/v1/events/{id}/cancel",
        Needs(Scope::EventsWrite, events::cancel),
        BodyRule::OptionalJson,
        doc(
            "cancelEvent",
            "events",
            "Cancel what is not delivered yet; a request under way is not recalled, and its attempt is recorded",
            &[ok::<events::CancelledView>("How many deliveries were cancelled.")],
        )
        .takes("Nothing"),
    ),
    delete(
        "/v1/events/{id}/data",
        Needs(Scope::EventsWrite, events::erase),
        doc(
            "eraseEventData",
            "events",
            "Erase the payload and the response bodies, keep the record",
            &[done("Erased.")],
        ),
    ),
    post(
        "/v1/webhooks",
        Needs(Scope::WebhooksWrite, webhooks::create),
        BodyRule::Json,
        doc(
            "createWebhook",
            "webhooks",
            "Make a webhook",
            &[answer::<webhook_view::NewWebhookView>(201, "The webhook, this once with its secret.")],
        )
        .takes("NewWebhook"),
    ),
    get("/v1/webhooks", Needs(Scope::WebhooksRead, webhook_list::list), webhook_list::DOC)
        .with_query(webhook_list::QUERY),
    get(
        "/v1/webhooks/{id}",
        Needs(Scope::WebhooksRead, webhooks::read),
        doc(
            "getWebhook",
            "webhooks",
            "Read a webhook",
            &[ok::<webhook_view::WebhookView>("The webhook, its credentials masked.")],
        ),
    ),
    patch(
        "/v1/webhooks/{id}",
        Needs(Scope::WebhooksWrite, webhooks::update),
        doc(
            "updateWebhook",
            "webhooks",
            "Change a webhook by a merge patch (RFC 7396)",
            &[ok::<webhook_view::WebhookView>("The webhook as it is now.")],
        )
        .takes("WebhookPatch"),
    ),
    delete(
        "/v1/webhooks/{id}",
        Needs(Scope::WebhooksWrite, webhooks::remove),
        doc("deleteWebhook", "webhooks", "Remove a webhook and cancel what waits for it", &[done("Removed.")]),
    ),
    get(
        "/v1/webhooks/{id}/secret",
        Needs(Scope::WebhooksSecret, webhooks::secret),
        doc(
            "getWebhookSecret",
            "webhooks",
            "Read the signing secrets; each reading is audited",
            &[ok::<webhook_view::SecretsView>("The current secret and those that still sign.")],
        ),
    ),
    post(
        "/v1/webhooks/{id}/rotate-secret",
        Needs(Scope::WebhooksSecret, webhooks::rotate_secret),
        BodyRule::OptionalJson,
        doc(
            "rotateWebhookSecret",
            "webhooks",
            "Make or set a new signing secret; old ones sign for a while",
            &[ok::<webhook_view::SecretsView>("The new secret and those that still sign.")],
        )
        .takes("Rotation"),
    ),
    post(
        "/v1/webhooks/{id}/test",
        Needs(Scope::WebhooksWrite, test_send::send),
        BodyRule::OptionalJson,
        doc(
            "testWebhook",
            "webhooks",
            "Send one signed request now and store nothing",
            &[ok::<attempts::TestAttemptView>("What happened.")],
        )
        .takes("Trial"),
    ),
    post(
        "/v1/webhooks/{id}/pause",
        Needs(Scope::WebhooksWrite, webhooks::pause),
        BodyRule::OptionalJson,
        doc(
            "pauseWebhook",
            "webhooks",
            "Hold deliveries back",
            &[ok::<webhook_view::WebhookView>("The paused webhook.")],
        )
        .takes("Nothing"),
    ),
    post(
        "/v1/webhooks/{id}/resume",
        Needs(Scope::WebhooksWrite, webhooks::resume),
        BodyRule::OptionalJson,
        doc(
            "resumeWebhook",
            "webhooks",
            "Send what was held back, oldest first: ends a pause, a hold by `Retry-After`, and the wait for a probe",
            &[ok::<webhook_view::WebhookView>("The enabled webhook.")],
        )
        .takes("Nothing"),
    ),
    replays::CREATE_REPLAY,
    replays::LIST_REPLAYS,
    replays::READ_REPLAY,
    replays::CANCEL_REPLAY,
    get(
        "/v1/webhooks/{id}/feed",
        Needs(Scope::EventsRead, feed::read),
        doc(
            "readFeed",
            "webhooks",
            "Fetch a webhook's events in commit order, waiting for new ones",
            &[ok::<feed::FeedView>(
                "Consumes nothing: go on from `next_cursor`. An event is in it at once, also before its `deliver_at`.",
            )],
        ),
    )
    .with_query(&[cursor(CursorKind::Feed), LIMIT, WAIT_S])
    // The daemon subscribes to the feed before it knows the caller.
    .with_segments(&[ID])
    .waits("id"),
    get(
        "/v1/webhooks/{id}/public-keys",
        Needs(Scope::WebhooksRead, webhooks::public_keys),
        doc(
            "getWebhookPublicKeys",
            "webhooks",
            "The Ed25519 keys that verify `v1a` signatures",
            &[ok::<webhook_view::PublicKeysView>("A JWK Set, and the Standard Webhooks spelling.")],
        ),
    ),
    get(
        "/v1/audit",
        Needs(Scope::Admin, audit::list),
        doc(
            "listAudit",
            "audit",
            "Who did what, when and from where",
            &[ok::<ListView<audit::AuditView>>("Newest first.")],
        ),
    )
    .with_query(&[audit::KEY_ID, audit::ACTION, audit::TARGET, FROM, TO, LIMIT, cursor(CursorKind::Audit)]),
    get("/v1/webhooks/{id}/stats", Needs(Scope::WebhooksRead, stats::of_webhook), stats::WEBHOOK_DOC)
        .with_query(&[stats::LAST]),
    get(
        "/v1/webhooks/{id}/health",
        Needs(Scope::WebhooksRead, health::of_webhook),
        doc(
            "getWebhookHealth",
            "figures",
            "How a webhook is doing, in words",
            &[ok::<health::HealthView>("Its state, then a word each about the last 24 hours, and why.")],
        ),
    ),
    get(
        "/v1/webhooks/{id}/deliveries",
        Needs(Scope::EventsRead, deliveries::of_webhook),
        doc(
            "listWebhookDeliveries",
            "deliveries",
            "List a webhook's deliveries",
            &[ok::<deliveries::DeliveryListView>(LISTED)],
        ),
    )
    .with_query(deliveries::FILTERS_OF_WEBHOOK),
    get(
        "/v1/webhooks/{id}/waiting",
        Needs(Scope::EventsRead, waiting::of_webhook),
        doc(
            "listWebhookWaiting",
            "deliveries",
            "List the open deliveries of a webhook, and why each waits",
            &[ok::<waiting::WaitingListView>("By due time, then those that stand behind another one in a queue.")],
        ),
    )
    .with_query(&[LIMIT, WAITING_CURSOR]),
    get(
        "/v1/webhooks/{id}/attempts",
        Needs(Scope::EventsRead, attempts::of_webhook),
        doc(
            "listWebhookAttempts",
            "deliveries",
            "List a webhook's attempts",
            &[ok::<ListView<attempts::AttemptView>>("Newest first.")],
        ),
    )
    .with_query(attempts::FILTERS),
    get(
        "/v1/deliveries",
        Needs(Scope::EventsRead, deliveries::list),
        doc("listDeliveries", "deliveries", "List deliveries", &[ok::<deliveries::DeliveryListView>(LISTED)]),
    )
    .with_query(deliveries::FILTERS),
    get(
        "/v1/deliveries/{id}",
        Needs(Scope::EventsRead, deliveries::read),
        doc("getDelivery", "deliveries", "Read a delivery", &[ok::<waiting::WaitingDeliveryView>("The delivery.")]),
    ),
    get(
        "/v1/deliveries/{id}/attempts",
        Needs(Scope::EventsRead, attempts::of_delivery),
        doc(
            "listDeliveryAttempts",
            "deliveries",
            "List a delivery's attempts",
            &[ok::<ListView<attempts::AttemptView>>("Newest first.")],
        ),
    )
    .with_query(attempts::FILTERS),
    post(
        "/v1/deliveries/{id}/retry",
        Needs(Scope::DeliveriesRetry, deliveries::retry),
        BodyRule::OptionalJson,
        doc(
            "retryDelivery",
            "deliveries",
            "Send at once; a final delivery as a new one",
            &[answer::<deliveries::RetriedView>(202, "The delivery that is sent.")],
        )
        .takes("Nothing"),
    ),
    post(
        "/v1/deliveries/retry",
        Needs(Scope::DeliveriesRetry, bulk_retry::retry),
        BodyRule::Json,
        doc(
            "retryDeliveries",
            "deliveries",
            "Send up to 250 deliveries at once, each with its own result",
            &[ok::<bulk_retry::RetriedManyView>("What became of each.")],
        )
        .takes("DeliveryIds"),
    ),
    post(
        "/v1/deliveries/{id}/cancel",
        Needs(Scope::EventsWrite, deliveries::cancel),
        BodyRule::OptionalJson,
        doc(
            "cancelDelivery",
            "deliveries",
            "Cancel a delivery; a request under way is not recalled: its attempt is recorded, and the delivery stays cancelled",
            &[ok::<deliveries::DeliveryView>("The cancelled delivery.")],
        )
        .takes("Nothing"),
    ),
    event_types::EVENT_TYPES,
    registered_types::CREATE_EVENT_TYPE,
    registered_types::READ_EVENT_TYPE,
    registered_types::PUT_EVENT_TYPE,
    registered_types::PATCH_EVENT_TYPE,
    registered_types::DELETE_EVENT_TYPE,
    resend::RESEND,
    attempts::ERASE_RESPONSE,
    attempt_stream::ATTEMPTS,
    attempt_request::ATTEMPT_REQUEST,
    get(
        "/v1/attempts/{id}",
        Needs(Scope::EventsRead, attempts::read),
        doc(
            "getAttempt",
            "deliveries",
            "Read an attempt",
            &[ok::<attempts::AttemptView>("With headers, response body and timings.")],
        ),
    ),
    get("/v1/stats", Needs(Scope::WebhooksRead, stats::all), stats::ALL_DOC).with_query(&[APP_ID, stats::LAST]),
    get("/v1/stats/series", Needs(Scope::WebhooksRead, stats_series::series), stats_series::DOC)
        .with_query(stats_series::QUERY),
    post(
        "/v1/apps",
        Needs(Scope::AppsWrite, apps::create),
        BodyRule::Json,
        doc("createApp", "apps", "Make an app", &[answer::<apps::AppView>(201, "The app.")]).takes("NewApp"),
    ),
    get(
        "/v1/apps",
        Needs(Scope::AppsRead, apps::list),
        doc("listApps", "apps", "List apps", &[ok::<ListView<apps::AppView>>("Newest first.")]),
    )
    .with_query(&[LIMIT, cursor(CursorKind::Apps)]),
    get(
        "/v1/apps/{id}",
        Needs(Scope::AppsRead, apps::read),
        doc("getApp", "apps", "Read an app", &[ok::<apps::AppView>("The app.")]),
    )
    .with_segments(&[APP]),
    patch(
        "/v1/apps/{id}",
        Needs(Scope::AppsWrite, apps::update),
        doc(
            "updateApp",
            "apps",
            "Change an app by a merge patch (RFC 7396)",
            &[ok::<apps::AppView>("The app as it is now.")],
        )
        .takes("AppPatch"),
    )
    .with_segments(&[APP]),
    delete(
        "/v1/apps/{id}",
        Needs(Scope::AppsWrite, apps::remove),
        doc("deleteApp", "apps", "Remove an app with its webhooks and keys", &[done("Removed.")]),
    )
    .with_segments(&[APP]),
    post(
        "/v1/keys",
        Needs(Scope::KeysWrite, keys::create),
        BodyRule::Json,
        doc(
            "createKey",
            "keys",
            "Make an API key",
            &[answer::<keys::NewKeyView>(201, "The key, this once with its text.")],
        )
        .takes("NewKey"),
    ),
    get(
        "/v1/keys",
        Needs(Scope::KeysRead, keys::list),
        doc(
            "listKeys",
            "keys",
            "List API keys",
            &[ok::<ListView<keys::KeyView>>("Newest first, without their texts.")],
        ),
    )
    .with_query(&[LIMIT, cursor(CursorKind::Keys)]),
    delete(
        "/v1/keys/{id}",
        Needs(Scope::KeysWrite, keys::revoke),
        doc("revokeKey", "keys", "Revoke an API key", &[done("Revoked.")]),
    ),
    post("/v1/portal-links", Needs(Scope::AppsWrite, portal_links::create), BodyRule::Json, portal_links::CREATE_DOC),
    delete("/v1/portal-links/{id}", Needs(Scope::AppsWrite, portal_links::revoke), portal_links::REVOKE_DOC),
    post(
        "/v1/organizations",
        Installation(organizations::create),
        BodyRule::Json,
        doc(
            "createOrganization",
            "organizations",
            "Make an organization (the installation's own key only)",
            &[answer::<organizations::NewOrganizationView>(
                201,
                "The organization, its default app, and this once its first key.",
            )],
        )
        .takes("NewOrganization"),
    ),
    get(
        "/v1/organizations",
        Installation(organizations::list),
        doc(
            "listOrganizations",
            "organizations",
            "List organizations (the installation's own key only)",
            &[ok::<ListView<organizations::OrganizationView>>("Newest first.")],
        ),
    )
    .with_query(&[LIMIT, cursor(CursorKind::Organizations)]),
    post(
        "/v1/clock/accept",
        Installation(meta::accept_clock),
        BodyRule::OptionalJson,
        doc(
            "acceptClock",
            "daemon",
            "Say that the clock is right, so that retention goes on (the installation's own key only)",
            &[ok::<meta::ClockView>("Retention goes on.")],
        )
        .takes("Nothing"),
    ),
    system::SYSTEM,
    replication::REPLICATION,
    get(
        "/healthz",
        Open(meta::alive),
        doc("getAlive", "daemon", "Whether the daemon answers", &[ok::<meta::AliveView>("It does.")]),
    )
    .inline(),
    get(
        "/readyz",
        Open(meta::ready),
        doc(
            "getReady",
            "daemon",
            "Whether events are taken and sent",
            &[ok::<meta::ReadyView>("They are."), answer::<meta::ReadyView>(503, "They are not, for these reasons.")],
        ),
    )
    .shared(),
    get(
        "/metrics",
        Metrics(meta::metrics),
        doc(
            "getMetrics",
            "daemon",
            "Metrics for Prometheus; may have its own key, or its own listener",
            &[AnswerDoc {
                status: 200,
                schema: Some(AnswerSchema::of::<meta::MetricsText>()),
                media_types: &["text/plain", "application/openmetrics-text"],
                description: "Prometheus' text format 0.0.4, or OpenMetrics 1.0 where `Accept` prefers it.",
            }],
        ),
    ),
    get(
        "/openapi.json",
        Open(meta::openapi),
        doc("getOpenapi", "daemon", "This document", &[ok::<meta::DocumentView>("OpenAPI 3.1.")]),
    ),
    get(
        "/docs",
        Open(meta::reference_page),
        doc(
            "getReference",
            "daemon",
            "This document as a page",
            &[html_page::<meta::ReferencePage>("One HTML page, which loads nothing else.")],
        ),
    ),
];

/// The native mount: bearer keys, problem documents, and every path that no dialect claims.
pub fn mount() -> ApiMount {
    ApiMount::new("native", "", ROUTES, auth::by_key, |api_error, error_context| {
        problem::render(api_error, error_context.request_id)
    })
}
