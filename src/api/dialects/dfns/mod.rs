//! Dfns: a webhook event is one attempt, and absent values are omitted (docs.dfns.co, "Webhooks").

mod docs;
mod user_actions;
mod writes;

use bytes::Bytes;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::auth::{self, Principal};
use crate::api::context::ApiContext;
use crate::api::cursor::{self, CursorKind};
use crate::api::doc::answer;
use crate::api::error::{ApiError, FieldError};
use crate::api::media::BodyRule;
use crate::api::params;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::RouteAccess::Authorized;
use crate::api::route::{ErrorContext, Route, RouteMethod};
use crate::api::step::{Step, TestSend};
use crate::api::stored_answers;
use crate::model::{AttemptMade, Scope, Time, Webhook};
use crate::rules::dfns_id;
use crate::store::{AttemptDetails, AttemptFilter, AttemptQuery, ListWindow};

use std::sync::Arc;

use crate::api::dialects::derived::{self, ok};
use crate::api::dialects::doc::doc;
use crate::api::dialects::{Dialect, DialectList, DialectObject, get};

use self::user_actions::{DfnsChallenge, DfnsUserActionToken};
use self::writes::DfnsDeleted;

/// `X-DFNS-APPID` and the signature of user actions are ignored.
pub static DIALECT: Dialect = Dialect {
    name: "dfns",
    prefix: "/webhooks",
    routes: ROUTES,
    identify: auth::by_key,
    render,
    doc: &docs::DOC,
    lenient: None,
    preset: None,
    read_id,
};

fn read_id(text: &str) -> Option<DialectObject> {
    let webhook = dfns_id::parse_webhook(text).map(DialectObject::Webhook);
    webhook.or_else(|| dfns_id::parse_event(text).map(DialectObject::Attempt))
}

static ROUTES: &[Route] = &[
    get(
        "/webhooks",
        Authorized(Scope::WebhooksRead, may_read, list),
        doc(
            "listDfnsWebhooks",
            "List webhooks (`Webhooks:Read`)",
            &[answer::<DfnsList<DfnsWebhook>>(200, "Newest first; `nextPageToken` is left out at the end.")],
        ),
    )
    .with_query(&[docs::LIMIT, docs::pagination_token(CursorKind::Webhooks)]),
    get(
        "/webhooks/{id}",
        Authorized(Scope::WebhooksRead, may_read, read),
        doc("getDfnsWebhook", "Read a webhook (`Webhooks:Read`)", &[answer::<DfnsWebhook>(200, "The webhook.")]),
    )
    .with_segments(&[docs::ID]),
    get(
        "/webhooks/{id}/events",
        Authorized(Scope::EventsRead, may_read_events, events),
        doc(
            "listDfnsWebhookEvents",
            "List a webhook's events: its attempts (`Webhooks:Events:Read`)",
            &[answer::<DfnsList<DfnsWebhookEvent>>(200, "Newest first; `nextPageToken` is left out at the end.")],
        ),
    )
    .with_query(&[docs::DELIVERY_FAILED, docs::KIND, docs::LIMIT, docs::pagination_token(CursorKind::Attempts)])
    .with_segments(&[docs::ID]),
    get(
        "/webhooks/{id}/events/{event}",
        Authorized(Scope::EventsRead, may_read_events, event),
        doc(
            "getDfnsWebhookEvent",
            "Read a webhook event: one attempt (`Webhooks:Events:Read`)",
            &[answer::<DfnsWebhookEvent>(200, "The attempt.")],
        ),
    )
    .with_segments(&[docs::ID, docs::EVENT]),
    Route::new(
        RouteMethod::Post,
        "/webhooks/{id}/ping",
        Authorized(Scope::WebhooksWrite, may_ping, ping),
        BodyRule::OptionalJson,
        doc(
            "pingDfnsWebhook",
            "Send one signed request now and store nothing (`Webhooks:Ping`)",
            &[answer::<DfnsPong>(200, "What happened.")],
        )
        .takes("Nothing"),
    )
    .with_segments(&[docs::ID]),
    Route::new(
        RouteMethod::Post,
        "/webhooks",
        Authorized(Scope::WebhooksWrite, may_create, writes::create),
        BodyRule::Json,
        doc(
            "createDfnsWebhook",
            "Make a webhook (`Webhooks:Create`)",
            &[answer::<DfnsNewWebhook>(200, "The webhook with its secret, shown this once.")],
        )
        .takes("NewDfnsWebhook"),
    ),
    Route::new(
        RouteMethod::Put,
        "/webhooks/{id}",
        Authorized(Scope::WebhooksWrite, may_update, writes::update),
        BodyRule::OptionalJson,
        doc(
            "updateDfnsWebhook",
            "Change a webhook (`Webhooks:Update`); a field that is left out stays",
            &[answer::<DfnsWebhook>(200, "The webhook as it is now.")],
        )
        .takes("DfnsWebhookChange"),
    )
    .with_key()
    .with_segments(&[docs::ID]),
    Route::new(
        RouteMethod::Delete,
        "/webhooks/{id}",
        Authorized(Scope::WebhooksWrite, may_delete, writes::remove),
        BodyRule::OptionalJson,
        doc(
            "deleteDfnsWebhook",
            "Remove a webhook (`Webhooks:Delete`)",
            &[answer::<DfnsDeleted>(200, "The webhook is removed.")],
        )
        .takes("Nothing"),
    )
    .with_key()
    .with_segments(&[docs::ID]),
    Route::new(
        RouteMethod::Post,
        "/auth/action/init",
        Authorized(Scope::WebhooksWrite, may_sign, user_actions::init),
        BodyRule::Json,
        doc(
            "createDfnsUserActionChallenge",
            "Begin the signature of a user action (`Auth:Action:Sign`); it is not verified",
            &[answer::<DfnsChallenge>(200, "A random challenge.")],
        )
        .takes("DfnsUserAction"),
    ),
    Route::new(
        RouteMethod::Post,
        "/auth/action",
        Authorized(Scope::WebhooksWrite, may_sign, user_actions::complete),
        BodyRule::Json,
        doc(
            "createDfnsUserActionSignature",
            "End the signature of a user action (`Auth:Action:Sign`); it is not verified",
            &[answer::<DfnsUserActionToken>(200, "A token that no route looks at.")],
        )
        .takes("DfnsUserActionSignature"),
    ),
];

/// The credentials that a challenge shows as allowed. The vendor's key signer signs with no other one.
pub const CREDENTIALS: DialectList = DialectList {
    name: "dfns_credentials",
    form: "ids of credentials, each of 1 to 128 letters, digits, - and _",
    is_entry: user_actions::is_credential,
};

/// The fields of a body in the order of the published description.
const BODY_FIELDS: [&str; 4] = ["url", "events", "status", "description"];
/// The event type of a ping.
const PING_TYPE: &str = "postrider.test";
const PING_DATA: &[u8] = br#"{"test":true}"#;

/// One attempt.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DfnsWebhookEvent<'a> {
    #[schemars(extend("pattern" = docs::id_pattern("whe")))]
    id: String,
    kind: &'a str,
    date: Time,
    delivery_failed: bool,
    #[schemars(range(min = 1))]
    delivery_attempt: u32,
    /// Unix seconds.
    timestamp_sent: i64,
    /// The status code, or the outcome of an attempt without one.
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("pattern" = docs::id_pattern("whe")))]
    retry_of: Option<String>,
    /// Omitted if no retry follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    next_attempt_date: Option<Time>,
    /// Byte for byte as received. Null once erased.
    data: Option<&'a RawValue>,
}

impl<'a> DfnsWebhookEvent<'a> {
    fn new(facts: &'a AttemptDetails) -> Result<Self, ApiError> {
        let attempt = &facts.attempt;
        Ok(DfnsWebhookEvent {
            id: dfns_id::event(attempt.id),
            kind: &facts.event.attributes.event_type,
            date: facts.event.occurred_at,
            delivery_failed: !attempt.made.success,
            delivery_attempt: attempt.made.number,
            timestamp_sent: attempt.made.signed_at,
            status: status(&attempt.made),
            error: attempt.made.error.as_deref(),
            retry_of: attempt.retry_of.map(dfns_id::event),
            next_attempt_date: derived::next_retry(attempt, &facts.delivery),
            data: derived::data(facts.data.as_deref())?,
        })
    }
}

/// The status code, or the outcome of an attempt without one.
fn status(made: &AttemptMade) -> String {
    made.status_code.map_or_else(|| made.outcome.as_str().to_owned(), |code| code.to_string())
}

/// A webhook.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DfnsWebhook<'a> {
    #[schemars(extend("pattern" = docs::id_pattern("wh")))]
    id: String,
    url: &'a str,
    #[schemars(length(min = 1))]
    events: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    description: Option<&'a str>,
    #[schemars(extend("enum" = ["Enabled", "Disabled"]))]
    status: &'static str,
    date_created: Time,
    date_updated: Time,
}

impl<'a> DfnsWebhook<'a> {
    fn new(webhook: &'a Webhook) -> Self {
        let events: Vec<&str> = webhook.event_types.iter().map(String::as_str).collect();
        DfnsWebhook {
            id: dfns_id::webhook(webhook.id),
            url: &webhook.url,
            events: if events.is_empty() { vec!["*"] } else { events },
            description: webhook.description.as_deref(),
            status: if derived::is_active(webhook) { "Enabled" } else { "Disabled" },
            date_created: webhook.created_at,
            date_updated: webhook.updated_at,
        }
    }
}

/// A webhook at its creation.
#[derive(Serialize, JsonSchema)]
struct DfnsNewWebhook<'a> {
    #[serde(flatten)]
    webhook: DfnsWebhook<'a>,
    secret: &'a str,
}

/// A page of a list.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "{T}s")]
struct DfnsList<T> {
    items: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    next_page_token: Option<String>,
}

/// The webhook in the path. 400 for text that is no webhook's id, 404 for an unknown one.
fn in_path(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Arc<Webhook>, ApiError> {
    let id = dfns_id::parse_webhook(request.path.get("id")).ok_or_else(|| bad_id("webhookId"))?;
    context.registry.webhook(request.tenant(), id).cloned().ok_or_else(|| ApiError::not_found("webhook"))
}

fn bad_id(name: &str) -> ApiError {
    ApiError::bad_request("invalid_id", format!("{name} is invalid"))
}

/// `limit` and `paginationToken`.
fn window(request: &RequestContext<'_>, kind: CursorKind) -> Result<ListWindow, ApiError> {
    let param = docs::pagination_token(kind);
    let token = |text| cursor::read(kind, text).ok_or_else(|| params::wrong(param.name, "is invalid"));
    Ok(ListWindow {
        before: request.query.text(&param).map(token).transpose()?,
        ..ListWindow::newest(request.query.number_or_default(&docs::LIMIT)? as usize)
    })
}

/// `GET /webhooks/{webhookId}/events/{webhookEventId}`.
fn event(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id = dfns_id::parse_event(request.path.get("event")).ok_or_else(|| bad_id("webhookEventId"));
    let (webhook, id) = (in_path(context, request)?, id?);
    let found = context.store.attempt_details(request.tenant(), id, context.now)?;
    let found = found.filter(|facts| facts.attempt.webhook_id == webhook.id);
    ok(&DfnsWebhookEvent::new(&found.ok_or_else(|| ApiError::not_found("webhook event"))?)?)
}

/// `GET /webhooks/{webhookId}/events`.
fn events(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let query = AttemptQuery {
        tenant: request.tenant(),
        webhook: Some(in_path(context, request)?.id),
        delivery: None,
        event: None,
        success: request.query.boolean(&docs::DELIVERY_FAILED)?.map(|failed| !failed),
        status: None,
        event_type: request.query.text(&docs::KIND).map(str::to_owned),
        status_code: None,
        outcome: None,
        search: None,
        window: window(request, CursorKind::Attempts)?,
    };
    let page = context.store.attempts_details(&query, &AttemptFilter::default(), context.now)?;
    let items = page.rows.iter().map(DfnsWebhookEvent::new).collect::<Result<_, _>>()?;
    ok(&DfnsList { items, next_page_token: page.next.map(|next| cursor::write(CursorKind::Attempts, next)) })
}

/// `GET /webhooks`.
fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let ListWindow { before, limit, .. } = window(request, CursorKind::Webhooks)?;
    let after = |webhook: &&Arc<Webhook>| before.is_none_or(|before| webhook.id.as_u128() < before);
    let mut rows: Vec<_> = context.registry.webhooks_within(request.tenant()).filter(after).take(limit + 1).collect();
    let more = rows.len() > limit;
    rows.truncate(limit);
    let last = rows.last().filter(|_| more);
    let next_page_token = last.map(|webhook| cursor::write(CursorKind::Webhooks, webhook.id.as_u128()));
    ok(&DfnsList { items: rows.iter().map(|webhook| DfnsWebhook::new(webhook)).collect(), next_page_token })
}

/// `GET /webhooks/{webhookId}`.
fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    ok(&DfnsWebhook::new(&*in_path(context, request)?))
}

/// The result of a ping.
#[derive(Serialize, JsonSchema)]
struct DfnsPong<'a> {
    /// The status code, or the outcome of an attempt without one.
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    error: Option<&'a str>,
}

/// `POST /webhooks/{webhookId}/ping`: sends one signed request now and stores nothing.
fn ping(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = in_path(context, request)?;
    request.no_fields()?;
    if let Some(stored) = stored_answers::response(context, request)? {
        return Ok(Step::Reply(stored));
    }
    let give = stored_answers::storing(request)?;
    let test_send = TestSend { webhook, event_type: PING_TYPE.to_owned(), data: Bytes::from_static(PING_DATA) };
    Ok(Step::Test {
        test_send: Box::new(test_send),
        then: Box::new(move |made| {
            let pong = DfnsPong { status: status(&made), error: made.error.as_deref() };
            Ok(give(HttpResponse::json(StatusCode::OK, &pong)))
        }),
    })
}

fn may_read(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::WebhooksRead, "Webhooks:Read")
}

fn may_read_events(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::EventsRead, "Webhooks:Events:Read")
}

fn may_create(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::WebhooksWrite, "Webhooks:Create")
}

fn may_update(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::WebhooksWrite, "Webhooks:Update")
}

fn may_delete(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::WebhooksWrite, "Webhooks:Delete")
}

fn may_sign(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::WebhooksWrite, "Auth:Action:Sign")
}

fn may_ping(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::WebhooksWrite, "Webhooks:Ping")
}

fn may(principal: &Principal, scope: Scope, permission: &str) -> Result<(), ApiError> {
    if principal.key.may(scope) {
        return Ok(());
    }
    let name = &principal.key.name;
    Err(ApiError::forbidden("scope_missing", format!("{name} is not authorized to perform operation ({permission})")))
}

/// An error.
#[derive(Serialize, JsonSchema)]
struct DfnsError<'a> {
    error: DfnsErrorBody<'a>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct DfnsErrorBody<'a> {
    message: &'a str,
}

/// The field error that comes first in the order of the published fields.
fn first_field_error(errors: &[FieldError]) -> Option<&FieldError> {
    let place = |error: &&FieldError| {
        let name = error.pointer.split('/').nth(1).unwrap_or_default();
        BODY_FIELDS.iter().position(|field| *field == name).unwrap_or(BODY_FIELDS.len())
    };
    errors.iter().min_by_key(place)
}

/// Wrong values are 400 here, and the message is the first one's.
fn render(api_error: &ApiError, _: &ErrorContext<'_>) -> HttpResponse {
    let status = derived::wrong_values_as_400(api_error.status);
    let first = first_field_error(&api_error.errors).filter(|_| api_error.status == StatusCode::UNPROCESSABLE_ENTITY);
    let message = match (status, first) {
        (StatusCode::UNAUTHORIZED, _) => "Not Authorized.".to_owned(),
        (StatusCode::INTERNAL_SERVER_ERROR, _) => "Internal Server Error".to_owned(),
        (_, Some(FieldError { pointer, detail })) => match pointer.trim_start_matches('/').replace('/', ".") {
            body if body.is_empty() => format!("the body {detail}"),
            name => format!("{name} {detail}"),
        },
        (_, None) => api_error.detail.clone(),
    };
    HttpResponse::json(status, &DfnsError { error: DfnsErrorBody { message: &message } })
}
