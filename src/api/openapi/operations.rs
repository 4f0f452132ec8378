//! The operations of the native routes: name, request and answers.

use crate::api::doc::{AnswerDoc, Operation, answer, done, ok};
use crate::api::route::{Route, RouteMethod};

/// The operation of a route. Panics without one: the tests go through all routes.
pub fn of(route: &Route) -> &'static Operation {
    let found = OPERATIONS.iter().find(|operation| operation.verb == route.verb && operation.path == route.path);
    found.unwrap_or_else(|| panic!("{} {} is described nowhere", route.verb.as_str(), route.path))
}

const fn get(
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    answers: &'static [AnswerDoc],
) -> Operation {
    Operation { verb: RouteMethod::Get, path, id, tag, summary, request: None, answers }
}

const fn post(
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    request: &'static str,
    answers: &'static [AnswerDoc],
) -> Operation {
    Operation { verb: RouteMethod::Post, path, id, tag, summary, request: Some(request), answers }
}

const fn patch(
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    request: &'static str,
    answers: &'static [AnswerDoc],
) -> Operation {
    Operation { verb: RouteMethod::Patch, path, id, tag, summary, request: Some(request), answers }
}

const fn delete(
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    answers: &'static [AnswerDoc],
) -> Operation {
    Operation { verb: RouteMethod::Delete, path, id, tag, summary, request: None, answers }
}

pub static OPERATIONS: &[Operation] = &[
    post(
        "/v1/events",
        "publishEvent",
        "events",
        "Publish an event, or CloudEvents in any mode",
        "NewEvent",
        &[answer(202, "PublishedAny", "Durable, and on its way. `data` holds the answers to a batch of CloudEvents.")],
    ),
    post(
        "/v1/events/batch",
        "publishEvents",
        "events",
        "Publish up to 1,000 events: all or none",
        "NewEvents",
        &[answer(202, "PublishedMany", "All are durable, in one commit.")],
    ),
    get("/v1/events", "listEvents", "events", "List events", &[ok("[Event]", "Newest first.")]),
    get(
        "/v1/events/{id}",
        "getEvent",
        "events",
        "Read an event, and what became of it at each webhook",
        &[ok("EventWithDecisions", "The event with its data.")],
    ),
    get(
        "/v1/events/{id}/deliveries",
        "listEventDeliveries",
        "events",
        "List an event's deliveries",
        &[ok("[Delivery]", "Newest first.")],
    ),
    post(
        "/v1/events/{id}/cancel",
        "cancelEvent",
        "events",
        "Cancel what is not delivered yet",
        "Nothing",
        &[ok("CancelledEvent", "How many deliveries were cancelled.")],
    ),
    delete(
        "/v1/events/{id}/data",
        "eraseEventData",
        "events",
        "Erase the payload and the response bodies, keep the record",
        &[done("Erased.")],
    ),
    post(
        "/v1/webhooks",
        "createWebhook",
        "webhooks",
        "Make a webhook",
        "NewWebhook",
        &[answer(201, "CreatedWebhook", "The webhook, this once with its secret.")],
    ),
    get("/v1/webhooks", "listWebhooks", "webhooks", "List webhooks", &[ok("[Webhook]", "Newest first.")]),
    get(
        "/v1/webhooks/{id}",
        "getWebhook",
        "webhooks",
        "Read a webhook",
        &[ok("Webhook", "The webhook, its credentials masked.")],
    ),
    patch(
        "/v1/webhooks/{id}",
        "updateWebhook",
        "webhooks",
        "Change a webhook by a merge patch (RFC 7396)",
        "WebhookPatch",
        &[ok("Webhook", "The webhook as it is now.")],
    ),
    delete(
        "/v1/webhooks/{id}",
        "deleteWebhook",
        "webhooks",
        "Remove a webhook and cancel what waits for it",
        &[done("Removed.")],
    ),
    get(
        "/v1/webhooks/{id}/secret",
        "getWebhookSecret",
        "webhooks",
        "Read the signing secrets; each reading is audited",
        &[ok("Secrets", "The current secret and those that still sign.")],
    ),
    post(
        "/v1/webhooks/{id}/rotate-secret",
        "rotateWebhookSecret",
        "webhooks",
        "Make or set a new signing secret; old ones sign for a while",
        "Rotation",
        &[ok("Secrets", "The new secret and those that still sign.")],
    ),
    post(
        "/v1/webhooks/{id}/test",
        "testWebhook",
        "webhooks",
        "Send one signed request now and store nothing",
        "Trial",
        &[ok("TrialAttempt", "What happened.")],
    ),
    post(
        "/v1/webhooks/{id}/pause",
        "pauseWebhook",
        "webhooks",
        "Hold deliveries back",
        "Nothing",
        &[ok("Webhook", "The paused webhook.")],
    ),
    post(
        "/v1/webhooks/{id}/resume",
        "resumeWebhook",
        "webhooks",
        "Send what was held back, oldest first",
        "Nothing",
        &[ok("Webhook", "The enabled webhook.")],
    ),
    post(
        "/v1/replays",
        "createReplay",
        "replays",
        "Send past events again",
        "NewReplay",
        &[answer(202, "Replay", "The job runs."), ok("Matched", "A dry run: how many events it would be.")],
    ),
    get("/v1/replays", "listReplays", "replays", "List replays", &[ok("[Replay]", "Newest first.")]),
    get("/v1/replays/{id}", "getReplay", "replays", "Read a replay", &[ok("Replay", "The job as it stands.")]),
    post(
        "/v1/replays/{id}/cancel",
        "cancelReplay",
        "replays",
        "Stop a replay",
        "Nothing",
        &[ok("Replay", "The cancelled job.")],
    ),
    get(
        "/v1/webhooks/{id}/feed",
        "readFeed",
        "webhooks",
        "Fetch a webhook's events in commit order, waiting for new ones",
        &[ok("Feed", "Consumes nothing: go on from `next_cursor`.")],
    ),
    get(
        "/v1/webhooks/{id}/public-keys",
        "getWebhookPublicKeys",
        "webhooks",
        "The Ed25519 keys that verify `v1a` signatures",
        &[ok("PublicKeys", "A JWK Set, and the Standard Webhooks spelling.")],
    ),
    get("/v1/audit", "listAudit", "audit", "Who did what, when and from where", &[ok("[AuditRow]", "Newest first.")]),
    get(
        "/v1/webhooks/{id}/stats",
        "getWebhookStats",
        "figures",
        "A webhook's figures",
        &[ok("Stats", "Lifetime sums and the last day.")],
    ),
    get(
        "/v1/webhooks/{id}/health",
        "getWebhookHealth",
        "figures",
        "How a webhook is doing, in words",
        &[ok("Health", "A word each, and why.")],
    ),
    get(
        "/v1/webhooks/{id}/deliveries",
        "listWebhookDeliveries",
        "deliveries",
        "List a webhook's deliveries",
        &[ok("[Delivery]", "Newest first.")],
    ),
    get(
        "/v1/webhooks/{id}/attempts",
        "listWebhookAttempts",
        "deliveries",
        "List a webhook's attempts",
        &[ok("[Attempt]", "Newest first.")],
    ),
    get("/v1/deliveries", "listDeliveries", "deliveries", "List deliveries", &[ok("[Delivery]", "Newest first.")]),
    get("/v1/deliveries/{id}", "getDelivery", "deliveries", "Read a delivery", &[ok("Delivery", "The delivery.")]),
    get(
        "/v1/deliveries/{id}/attempts",
        "listDeliveryAttempts",
        "deliveries",
        "List a delivery's attempts",
        &[ok("[Attempt]", "Newest first.")],
    ),
    post(
        "/v1/deliveries/{id}/retry",
        "retryDelivery",
        "deliveries",
        "Send at once; a final delivery as a new one",
        "Nothing",
        &[answer(202, "Delivery", "The delivery that is sent.")],
    ),
    post(
        "/v1/deliveries/{id}/cancel",
        "cancelDelivery",
        "deliveries",
        "Cancel a delivery",
        "Nothing",
        &[ok("Delivery", "The cancelled delivery.")],
    ),
    get(
        "/v1/attempts/{id}",
        "getAttempt",
        "deliveries",
        "Read an attempt",
        &[ok("Attempt", "With headers, response body and timings.")],
    ),
    get(
        "/v1/stats",
        "getStats",
        "figures",
        "The figures of everything the key can see",
        &[ok("AllStats", "Sums, the last day, and what waits.")],
    ),
    post("/v1/apps", "createApp", "apps", "Make an app", "NewApp", &[answer(201, "App", "The app.")]),
    get("/v1/apps", "listApps", "apps", "List apps", &[ok("[App]", "Newest first.")]),
    get("/v1/apps/{id}", "getApp", "apps", "Read an app", &[ok("App", "The app.")]),
    patch(
        "/v1/apps/{id}",
        "updateApp",
        "apps",
        "Change an app by a merge patch (RFC 7396)",
        "AppPatch",
        &[ok("App", "The app as it is now.")],
    ),
    delete("/v1/apps/{id}", "deleteApp", "apps", "Remove an app with its webhooks and keys", &[done("Removed.")]),
    post(
        "/v1/keys",
        "createKey",
        "keys",
        "Make an API key",
        "NewKey",
        &[answer(201, "CreatedKey", "The key, this once with its text.")],
    ),
    get("/v1/keys", "listKeys", "keys", "List API keys", &[ok("[Key]", "Newest first, without their texts.")]),
    delete("/v1/keys/{id}", "revokeKey", "keys", "Revoke an API key", &[done("Revoked.")]),
    post(
        "/v1/organizations",
        "createOrganization",
        "organizations",
        "Make an organization (the installation's own key only)",
        "NewOrganization",
        &[answer(201, "CreatedOrganization", "The organization, its default app, and this once its first key.")],
    ),
    get(
        "/v1/organizations",
        "listOrganizations",
        "organizations",
        "List organizations (the installation's own key only)",
        &[ok("[Organization]", "Newest first.")],
    ),
    post(
        "/v1/clock/accept",
        "acceptClock",
        "daemon",
        "Say that the clock is right, so that retention goes on (the installation's own key only)",
        "Nothing",
        &[ok("ClockAccepted", "Retention goes on.")],
    ),
    get("/healthz", "getAlive", "daemon", "Whether the daemon answers", &[ok("Alive", "It does.")]),
    get(
        "/readyz",
        "getReady",
        "daemon",
        "Whether events are taken and sent",
        &[ok("Ready", "They are."), answer(503, "Ready", "They are not, for these reasons.")],
    ),
    get(
        "/metrics",
        "getMetrics",
        "daemon",
        "Metrics for Prometheus; may have its own key, or its own listener",
        &[AnswerDoc {
            status: 200,
            schema: Some("Metrics"),
            media_type: "text/plain",
            description: "Prometheus text format.",
        }],
    ),
    get("/openapi.json", "getOpenapi", "daemon", "This document", &[ok("AnyObject", "OpenAPI 3.1.")]),
];
