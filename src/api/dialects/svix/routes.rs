//! The routes, with the kinds of tokens that they accept.

use http::HeaderMap;

use crate::api::doc::{RouteDoc, answer, done, ok};
use crate::api::error::ApiError;
use crate::api::media::BodyRule;
use crate::api::route::RouteAccess::{self, Open};
use crate::api::route::{Route, RouteMethod};

use super::apps::{self, SvixApplication};
use super::attempts::{self, SvixAttempt};
use super::destinations::{self, SvixEndpointMessage, SvixMessageEndpoint};
use super::endpoints::{self, SvixEndpoint};
use super::headers::{self, SvixHeaders};
use super::list::SvixList;
use super::messages::{self, SvixMessage};
use super::permissions::*;
use super::portal::{self, SvixPortalAccess, SvixWhoami};
use super::resend::{self, SvixEmpty, SvixPrecheck};
use super::secrets::{self, SvixSecret};
use super::stats::{self, SvixAttemptStats, SvixStats};
use super::tasks::{self, SvixBackgroundTask, SvixTask};
use super::{docs, event_type_routes, fetching_routes, health, operational_routes, query};
use crate::api::dialects::doc::doc;

pub const fn route(verb: RouteMethod, path: &'static str, access: RouteAccess, body: BodyRule, doc: RouteDoc) -> Route {
    Route::new(verb, path, access, body, doc)
}

/// A message is accepted with any `Content-Type`.
fn any_body(_: &HeaderMap) -> Result<(), ApiError> {
    Ok(())
}

pub static ROUTES: &[Route] = &[
    route(
        RouteMethod::Get,
        "/api/v1/health",
        Open(health::ready),
        BodyRule::None,
        doc("svixHealth", "Whether events are taken and sent", &[done("They are.")]),
    ),
    route(
        RouteMethod::Get,
        "/api/v1/health/ping",
        Open(health::ping),
        BodyRule::None,
        doc("svixPing", "Whether the daemon answers", &[done("It does.")]),
    )
    .inline(),
    route(
        RouteMethod::Get,
        "/api/v1/app",
        org_apps_read(apps::list),
        BodyRule::None,
        doc("svixListApplications", "List applications", &[ok::<SvixList<SvixApplication>>("A page.")]),
    )
    .with_query(&[query::LIMIT, query::ITERATOR, query::ORDER]),
    route(
        RouteMethod::Post,
        "/api/v1/app",
        org_apps_write(apps::create),
        BodyRule::AnyType,
        doc(
            "svixCreateApplication",
            "Create an application",
            &[
                answer::<SvixApplication>(201, "The application."),
                ok::<SvixApplication>("The existing one, with `get_if_exists`."),
            ],
        )
        .takes("SvixApplicationIn"),
    )
    .with_query(&[query::GET_IF_EXISTS]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}",
        apps_read(apps::get),
        BodyRule::None,
        doc("svixGetApplication", "Read an application", &[ok::<SvixApplication>("The application.")]),
    )
    .with_segments(&[docs::SEG_APP_ID]),
    route(
        RouteMethod::Put,
        "/api/v1/app/{app_id}",
        org_apps_write(apps::replace),
        BodyRule::AnyType,
        doc(
            "svixUpdateApplication",
            "Replace an application, or create it",
            &[ok::<SvixApplication>("The application."), answer::<SvixApplication>(201, "The new application.")],
        )
        .takes("SvixApplicationIn"),
    )
    .with_segments(&[docs::SEG_APP_ID]),
    route(
        RouteMethod::Patch,
        "/api/v1/app/{app_id}",
        org_apps_write(apps::patch),
        BodyRule::AnyType,
        doc("svixPatchApplication", "Change an application", &[ok::<SvixApplication>("The application.")])
            .takes("SvixApplicationPatch"),
    )
    .with_segments(&[docs::SEG_APP_ID]),
    route(
        RouteMethod::Delete,
        "/api/v1/app/{app_id}",
        org_apps_write(apps::remove),
        BodyRule::None,
        doc("svixDeleteApplication", "Remove an application with everything of it", &[done("It is gone.")]),
    )
    .with_segments(&[docs::SEG_APP_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/endpoint",
        webhooks_read(endpoints::list),
        BodyRule::None,
        doc("svixListEndpoints", "List endpoints", &[ok::<SvixList<SvixEndpoint>>("A page.")]),
    )
    .with_query(&[query::LIMIT, query::ITERATOR, query::ORDER])
    .with_segments(&[docs::SEG_APP_ID]),
    route(
        RouteMethod::Post,
        "/api/v1/app/{app_id}/endpoint",
        webhooks_write(endpoints::create),
        BodyRule::AnyType,
        doc("svixCreateEndpoint", "Create an endpoint", &[answer::<SvixEndpoint>(201, "The endpoint.")])
            .takes("SvixEndpointIn"),
    )
    .with_segments(&[docs::SEG_APP_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}",
        webhooks_read(endpoints::get),
        BodyRule::None,
        doc("svixGetEndpoint", "Read an endpoint", &[ok::<SvixEndpoint>("The endpoint.")]),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Put,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}",
        webhooks_write(endpoints::replace),
        BodyRule::AnyType,
        doc(
            "svixUpdateEndpoint",
            "Replace an endpoint, or create it",
            &[ok::<SvixEndpoint>("The endpoint."), answer::<SvixEndpoint>(201, "The new endpoint.")],
        )
        .takes("SvixEndpointIn"),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Patch,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}",
        webhooks_write(endpoints::patch),
        BodyRule::AnyType,
        doc("svixPatchEndpoint", "Change an endpoint", &[ok::<SvixEndpoint>("The endpoint.")])
            .takes("SvixEndpointPatch"),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Delete,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}",
        webhooks_write(endpoints::remove),
        BodyRule::None,
        doc("svixDeleteEndpoint", "Remove an endpoint", &[done("It is gone.")]),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/headers",
        webhooks_read(headers::get),
        BodyRule::None,
        doc(
            "svixGetEndpointHeaders",
            "Read the headers of an endpoint's requests",
            &[ok::<SvixHeaders>("The headers.")],
        ),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Put,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/headers",
        webhooks_write(headers::replace),
        BodyRule::AnyType,
        doc("svixUpdateEndpointHeaders", "Replace all headers", &[done("They are replaced.")]).takes("SvixHeadersIn"),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Patch,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/headers",
        webhooks_write(headers::patch),
        BodyRule::AnyType,
        doc("svixPatchEndpointHeaders", "Change some headers", &[done("They are changed.")]).takes("SvixHeadersPatch"),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/secret",
        webhooks_secret(secrets::get),
        BodyRule::None,
        doc(
            "svixGetEndpointSecret",
            "Read the signing secret; each reading is audited",
            &[ok::<SvixSecret>("The secret.")],
        ),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Post,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/secret/rotate",
        webhooks_secret(secrets::rotate),
        BodyRule::AnyType,
        doc("svixRotateEndpointSecret", "Make or set a new signing secret", &[ok::<SvixSecret>("The new secret.")])
            .may_take("SvixRotateIn"),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/stats",
        webhooks_read(stats::get),
        BodyRule::None,
        doc("svixGetEndpointStats", "Count an endpoint's attempts", &[ok::<SvixStats>("The counts.")]),
    )
    .with_query(&[query::SINCE, query::UNTIL])
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/msg",
        events_read(destinations::messages),
        BodyRule::None,
        doc(
            "svixListEndpointMessages",
            "List the messages that an endpoint was tried with",
            &[ok::<SvixList<SvixEndpointMessage>>("A page.")],
        ),
    )
    .with_query(&[
        query::LIMIT,
        query::ITERATOR,
        query::CHANNEL,
        query::STATUS,
        query::BEFORE,
        query::AFTER,
        query::WITH_CONTENT,
        query::EVENT_TYPES,
        query::EXPANDED_STATUSES,
    ])
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Post,
        "/api/v1/app/{app_id}/msg",
        org_events_write(messages::create),
        BodyRule::Event(any_body),
        doc("svixCreateMessage", "Send a message", &[answer::<SvixMessage>(202, "The message, which is durable.")])
            .takes("SvixMessageIn"),
    )
    .with_query(&[query::WITH_CONTENT])
    .with_segments(&[docs::SEG_APP_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/msg",
        events_read(messages::list),
        BodyRule::None,
        doc("svixListMessages", "List messages", &[ok::<SvixList<SvixMessage>>("A page.")]),
    )
    .with_query(&[
        query::LIMIT,
        query::ITERATOR,
        query::CHANNEL,
        query::BEFORE,
        query::AFTER,
        query::WITH_CONTENT,
        query::EVENT_TYPES,
    ])
    .with_segments(&[docs::SEG_APP_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/msg/{msg_id}",
        events_read(messages::get),
        BodyRule::None,
        doc("svixGetMessage", "Read a message", &[ok::<SvixMessage>("The message.")]),
    )
    .with_query(&[query::WITH_CONTENT])
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_MSG_ID]),
    route(
        RouteMethod::Delete,
        "/api/v1/app/{app_id}/msg/{msg_id}/content",
        org_events_write(messages::erase),
        BodyRule::None,
        doc("svixExpungeMessage", "Erase the payload of a message", &[done("It is erased.")]),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_MSG_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/attempt/msg/{msg_id}",
        events_read(attempts::of_message),
        BodyRule::None,
        doc("svixListAttemptsByMessage", "List the attempts of a message", &[ok::<SvixList<SvixAttempt>>("A page.")]),
    )
    .with_query(&[
        query::LIMIT,
        query::ITERATOR,
        query::STATUS,
        query::STATUS_CODE_CLASS,
        query::CHANNEL,
        query::BEFORE,
        query::AFTER,
        query::WITH_CONTENT,
        query::WITH_MSG,
        query::EVENT_TYPES,
        query::ENDPOINT_ID,
    ])
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_MSG_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/attempt/endpoint/{endpoint_id}",
        events_read(attempts::of_endpoint),
        BodyRule::None,
        doc(
            "svixListAttemptsByEndpoint",
            "List the attempts of an endpoint",
            &[ok::<SvixList<SvixAttempt>>("A page.")],
        ),
    )
    .with_query(&[
        query::LIMIT,
        query::ITERATOR,
        query::STATUS,
        query::STATUS_CODE_CLASS,
        query::CHANNEL,
        query::BEFORE,
        query::AFTER,
        query::WITH_CONTENT,
        query::WITH_MSG,
        query::EVENT_TYPES,
    ])
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/msg/{msg_id}/attempt",
        events_read(attempts::of_message),
        BodyRule::None,
        doc(
            "svixListMessageAttempts",
            "List the attempts of a message, as old clients do",
            &[ok::<SvixList<SvixAttempt>>("A page.")],
        ),
    )
    .with_query(&[
        query::LIMIT,
        query::ITERATOR,
        query::STATUS,
        query::STATUS_CODE_CLASS,
        query::CHANNEL,
        query::BEFORE,
        query::AFTER,
        query::WITH_CONTENT,
        query::WITH_MSG,
        query::EVENT_TYPES,
        query::ENDPOINT_ID,
    ])
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_MSG_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/attempt",
        events_read(attempts::of_message_and_endpoint),
        BodyRule::None,
        doc(
            "svixListMessageEndpointAttempts",
            "List the attempts of a message at an endpoint, as old clients do",
            &[ok::<SvixList<SvixAttempt>>("A page.")],
        ),
    )
    .with_query(&[
        query::LIMIT,
        query::ITERATOR,
        query::STATUS,
        query::STATUS_CODE_CLASS,
        query::CHANNEL,
        query::BEFORE,
        query::AFTER,
        query::WITH_CONTENT,
        query::WITH_MSG,
        query::EVENT_TYPES,
    ])
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_MSG_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}",
        events_read(attempts::get),
        BodyRule::None,
        doc("svixGetAttempt", "Read an attempt", &[ok::<SvixAttempt>("The attempt.")]),
    )
    .with_query(&[query::WITH_CONTENT, query::WITH_MSG])
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_MSG_ID, docs::SEG_ATTEMPT_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/msg/{msg_id}/endpoint",
        events_read(destinations::endpoints),
        BodyRule::None,
        doc(
            "svixListMessageEndpoints",
            "List the endpoints of a message, removed ones too",
            &[ok::<SvixList<SvixMessageEndpoint>>("A page.")],
        ),
    )
    .with_query(&[query::LIMIT, query::ITERATOR])
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_MSG_ID]),
    route(
        RouteMethod::Post,
        "/api/v1/auth/app-portal-access/{app_id}",
        org_keys_write(portal::create),
        BodyRule::AnyType,
        doc(
            "svixCreatePortalAccess",
            "Make a token for an application's portal",
            &[ok::<SvixPortalAccess>("The token.")],
        )
        .may_take("SvixPortalAccessIn"),
    )
    .with_segments(&[docs::SEG_APP_ID]),
    route(
        RouteMethod::Post,
        "/api/v1/auth/dashboard-access/{app_id}",
        org_keys_write(portal::create_plain),
        BodyRule::None,
        doc(
            "svixCreateDashboardAccess",
            "Make a token for an application's portal, as older clients do",
            &[ok::<SvixPortalAccess>("The token.")],
        ),
    )
    .with_segments(&[docs::SEG_APP_ID]),
    route(
        RouteMethod::Post,
        "/api/v1/auth/logout",
        apps_read(portal::logout),
        BodyRule::None,
        doc("svixLogout", "End the token that calls", &[done("It is ended.")]),
    ),
    route(
        RouteMethod::Get,
        "/api/v1/auth/whoami",
        apps_read(portal::whoami),
        BodyRule::None,
        doc("svixWhoami", "The caller", &[ok::<SvixWhoami>("The caller.")]),
    ),
    fetching_routes::POLL,
    fetching_routes::POLL_AS_CONSUMER,
    fetching_routes::SEEK,
    fetching_routes::EXPUNGE_SOME,
    fetching_routes::EXPUNGE_ALL,
    event_type_routes::LIST,
    event_type_routes::CREATE,
    event_type_routes::GET,
    event_type_routes::REPLACE,
    event_type_routes::PATCH,
    event_type_routes::REMOVE,
    route(
        RouteMethod::Post,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/send-example",
        org_events_write(resend::send_example),
        BodyRule::AnyType,
        doc(
            "svixSendExample",
            "Send an example of an event type to one endpoint",
            &[ok::<SvixMessage>("The message.")],
        )
        .takes("SvixExampleIn"),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Post,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/recover",
        retry(resend::recover),
        BodyRule::AnyType,
        doc("svixRecoverEndpoint", "Send everything again that failed", &[answer::<SvixTask>(202, "It begins.")])
            .takes("SvixRecoverIn"),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Delete,
        "/api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content",
        org_events_write(attempts::erase),
        BodyRule::None,
        doc("svixExpungeAttempt", "Erase the answer of an attempt", &[done("It is erased.")]),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_MSG_ID, docs::SEG_ATTEMPT_ID]),
    route(
        RouteMethod::Post,
        "/api/v1/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend",
        retry(resend::resend),
        BodyRule::None,
        doc("svixResendMessage", "Send a message again to one endpoint", &[answer::<SvixEmpty>(202, "It is sent.")]),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_MSG_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/background-task",
        org_events_read(tasks::list),
        BodyRule::None,
        doc("svixListTasks", "List tasks in the background", &[ok::<SvixList<SvixBackgroundTask>>("A page.")]),
    )
    .with_query(&[query::LIMIT, query::ITERATOR, query::ORDER, query::TASK_STATUS, query::TASK]),
    route(
        RouteMethod::Get,
        "/api/v1/background-task/{task_id}",
        org_events_read(tasks::get),
        BodyRule::None,
        doc("svixGetTask", "Read a task in the background", &[ok::<SvixBackgroundTask>("The task.")]),
    )
    .with_segments(&[docs::SEG_TASK_ID]),
    route(
        RouteMethod::Post,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/replay-missing",
        retry(resend::replay_missing),
        BodyRule::AnyType,
        doc("svixReplayMissing", "Send what an endpoint wants and never got", &[answer::<SvixTask>(202, "It begins.")])
            .takes("SvixReplayIn"),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Post,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/bulk-replay",
        retry(resend::bulk_replay),
        BodyRule::AnyType,
        doc("svixBulkReplay", "Send again what has ended", &[answer::<SvixTask>(202, "It begins.")])
            .takes("SvixBulkReplayIn"),
    )
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Get,
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/attempt-stats",
        webhooks_read(stats::attempts),
        BodyRule::None,
        doc("svixGetAttemptStats", "Count an endpoint's attempts by outcome", &[ok::<SvixAttemptStats>("The counts.")]),
    )
    .with_query(&[query::SINCE, query::UNTIL])
    .with_segments(&[docs::SEG_APP_ID, docs::SEG_ENDPOINT_ID]),
    route(
        RouteMethod::Post,
        "/api/v1/app/{app_id}/msg/precheck/active",
        org_events_read(resend::precheck),
        BodyRule::AnyType,
        doc("svixPrecheckMessage", "Whether a message would go to an endpoint", &[ok::<SvixPrecheck>("The answer.")])
            .takes("SvixPrecheckIn"),
    )
    .with_segments(&[docs::SEG_APP_ID]),
    route(
        RouteMethod::Post,
        "/api/v1/auth/app/{app_id}/expire-all",
        org_keys_write(portal::expire_all),
        BodyRule::AnyType,
        doc("svixExpireAllTokens", "End all tokens of an application's portal", &[done("They are ended.")])
            .may_take("SvixExpireAllIn"),
    )
    .with_segments(&[docs::SEG_APP_ID]),
    operational_routes::LIST,
    operational_routes::CREATE,
    operational_routes::GET,
    operational_routes::REPLACE,
    operational_routes::PATCH,
    operational_routes::REMOVE,
    operational_routes::HEADERS,
    operational_routes::REPLACE_HEADERS,
    operational_routes::PATCH_HEADERS,
    operational_routes::SECRET,
    operational_routes::ROTATE,
];
