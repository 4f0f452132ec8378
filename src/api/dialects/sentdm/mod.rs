//! sent.dm, API v3: an event is one delivery, in an envelope with the request's id and time (docs.sent.dm).

mod docs;

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::auth::{Principal, sha256};
use crate::api::context::ApiContext;
use crate::api::doc::answer;
use crate::api::error::ApiError;
use crate::api::params::Param;
use crate::api::request::HttpRequest;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::RouteAccess::Judged;
use crate::api::route::{ErrorContext, Route};
use crate::api::step::Step;
use crate::model::webhook::WebhookState;
use crate::model::{AppId, DeliveryId, DeliveryStatus, Scope, Time, Webhook, WebhookId};
use crate::rules::body::offset_time;
use crate::rules::patterns;
use crate::store::{DeliveryDetails, DeliveryQuery, DeliverySlice, ListWindow, Registry, TenantScope};

use crate::api::dialects::derived;
use crate::api::dialects::doc::doc;
use crate::api::dialects::{Dialect, credential, get, key_of, pages};

pub static DIALECT: Dialect =
    Dialect { name: "sentdm", prefix: "/v3", routes: ROUTES, identify, render, doc: &docs::DOC, lenient: None };

const WEBHOOKS: &str = "/v3/webhooks";
const WEBHOOK: &str = "/v3/webhooks/{id}";
const EVENTS: &str = "/v3/webhooks/{id}/events";
const EVENT_TYPES: &str = "/v3/webhooks/event-types";

static ROUTES: &[Route] = &[
    get(
        WEBHOOKS,
        Judged(Scope::WebhooksRead, may_read, list),
        doc(
            "listSentWebhooks",
            "List webhooks",
            &[answer::<SentdmEnvelope<SentdmWebhookList>>(200, "A page, newest first.")],
        ),
    )
    .with_query(&[docs::PAGE, docs::PAGE_SIZE, docs::SEARCH, docs::IS_ACTIVE]),
    get(
        EVENT_TYPES,
        Judged(Scope::WebhooksRead, may_read, event_types),
        doc(
            "listSentEventTypes",
            "List the event types that webhooks name, and Postrider's own",
            &[answer::<SentdmEnvelope<SentdmEventTypeList>>(200, "By name.")],
        ),
    ),
    get(
        WEBHOOK,
        Judged(Scope::WebhooksRead, may_read, read),
        doc(
            "getSentWebhook",
            "Read a webhook",
            &[answer::<SentdmEnvelope<SentdmOneWebhook>>(200, "The webhook, without its secret.")],
        ),
    )
    .with_segments(&[docs::ID]),
    get(
        EVENTS,
        Judged(Scope::EventsRead, may_read_events, events),
        doc(
            "listSentWebhookEvents",
            "List a webhook's events: its deliveries",
            &[answer::<SentdmEnvelope<SentdmEventList>>(200, "A page, newest first.")],
        ),
    )
    .with_query(&[docs::PAGE, docs::PAGE_SIZE, docs::SEARCH])
    .with_segments(&[docs::ID]),
];

const API_KEY: &str = "x-api-key";
const PROFILE_ID: HeaderName = HeaderName::from_static("x-profile-id");
const API_VERSION: HeaderName = HeaderName::from_static("x-api-version");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
/// The page that explains the codes, as the vendor prints it.
const ERRORS_URL: &str = "https://docs.sent.dm/errors/";
const VERSION: &str = "v3";
/// The event types that Postrider itself publishes.
const SYSTEM_TYPES: [&str; 5] = [
    "postrider.delivery.exhausted",
    "postrider.delivery.expired",
    "postrider.webhook.disabled",
    "postrider.webhook.failing",
    "postrider.webhook.recovered",
];

/// A response in the envelope.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Sent{T}")]
struct SentdmEnvelope<T> {
    #[schemars(extend("const" = true))]
    success: bool,
    data: T,
    error: (),
    meta: SentdmMeta,
}

/// An error in the envelope. 401 and 403 have no body.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SentError")]
struct SentdmFailure<'a> {
    #[schemars(extend("const" = false))]
    success: bool,
    data: (),
    error: SentdmError<'a>,
    meta: SentdmMeta,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct SentdmError<'a> {
    #[schemars(extend("pattern" = "^[A-Z]+_[0-9]{3}$"))]
    code: &'static str,
    message: &'a str,
    details: (),
    doc_url: String,
}

/// The id and time of the request.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SentMeta")]
struct SentdmMeta {
    #[schemars(extend("pattern" = "^req_[0-9A-Za-z]{10}$"))]
    request_id: String,
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
    #[schemars(extend("const" = "v3"))]
    version: &'static str,
}

impl SentdmMeta {
    fn new(request_id: &str, now: Time) -> SentdmMeta {
        SentdmMeta { request_id: short_id(request_id), timestamp: offset_time(now), version: VERSION }
    }
}

/// `req_` and ten characters of base62: the request's own id if it has that form, otherwise one derived from it.
fn short_id(request_id: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let given = request_id.strip_prefix("req_").filter(|rest| rest.len() == 10);
    if given.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        return request_id.to_owned();
    }
    let hash = sha256(&[request_id.as_bytes()]);
    let digits = hash.iter().take(10).map(|byte| char::from(DIGITS[usize::from(*byte) % DIGITS.len()]));
    format!("req_{}", digits.collect::<String>())
}

/// The position of a page.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SentPagination")]
struct SentdmPagination {
    page: u64,
    page_size: u64,
    total_count: u64,
    total_pages: u64,
    has_more: bool,
    cursors: (),
}

/// `page` from 1, and `page_size`.
#[derive(Clone, Copy)]
struct SentdmPageQuery {
    page: u64,
    page_size: u64,
}

impl SentdmPageQuery {
    /// Reads both parameters, which are required. The errors use the vendor's words.
    fn read(request: &RequestContext<'_>) -> Result<SentdmPageQuery, ApiError> {
        let number = |param: &Param| {
            let max = u64::from(param.bounds().max);
            request.query.text(param).and_then(|text| text.parse().ok()).filter(|n| (1..=max).contains(n))
        };
        let wrong = |detail| ApiError::bad_request("invalid_parameter", detail);
        let page = number(&docs::PAGE).ok_or_else(|| wrong("Page must be 1 or greater"))?;
        let page_size = number(&docs::PAGE_SIZE);
        Ok(SentdmPageQuery { page, page_size: page_size.ok_or_else(|| wrong("Page size must be between 1 and 100"))? })
    }

    fn skip(self) -> u64 {
        (self.page - 1) * self.page_size
    }

    fn of(self, total_count: u64) -> SentdmPagination {
        let total_pages = pages(total_count, self.page_size);
        SentdmPagination {
            page: self.page,
            page_size: self.page_size,
            total_count,
            total_pages,
            has_more: self.page < total_pages,
            cursors: (),
        }
    }
}

/// One delivery.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SentEvent")]
struct SentdmEvent<'a> {
    id: DeliveryId,
    event_type: &'a str,
    /// Byte for byte as received. Null once erased.
    event_data: Option<&'a RawValue>,
    #[schemars(extend("enum" = ["pending", "retrying", "delivered", "failed"]))]
    delivery_status: &'static str,
    #[schemars(with = "Option<i64>")]
    http_status_code: Option<u16>,
    response_body: Option<&'a str>,
    delivery_attempts: u32,
    error_message: Option<&'a str>,
    #[schemars(with = "Time")]
    created_at: String,
    #[schemars(with = "Option<Time>")]
    processing_started_at: Option<String>,
    #[schemars(with = "Option<Time>")]
    processing_completed_at: Option<String>,
}

impl<'a> SentdmEvent<'a> {
    fn new(facts: &'a DeliveryDetails) -> Result<Self, ApiError> {
        let delivery = &facts.delivery;
        let response_body = facts.last.as_ref().and_then(|last| last.made.response_body.as_deref());
        Ok(SentdmEvent {
            id: delivery.id,
            event_type: &delivery.event_type,
            event_data: derived::data(facts.data.as_deref())?,
            delivery_status: match delivery.status {
                DeliveryStatus::Pending => "pending",
                DeliveryStatus::Retrying => "retrying",
                DeliveryStatus::Delivered => "delivered",
                DeliveryStatus::Failed | DeliveryStatus::Cancelled => "failed",
            },
            http_status_code: delivery.last_status_code,
            response_body: response_body.filter(|body| !body.is_empty()),
            delivery_attempts: delivery.attempts,
            error_message: delivery.last_error.as_deref(),
            created_at: offset_time(delivery.created_at),
            processing_started_at: delivery.first_attempt_at.map(offset_time),
            processing_completed_at: delivery.completed_at.map(offset_time),
        })
    }
}

/// A webhook.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SentWebhook")]
struct SentdmWebhook<'a> {
    id: WebhookId,
    display_name: &'a str,
    endpoint_url: &'a str,
    /// Always null here. The secret is shown when it is made.
    signing_secret: (),
    is_active: bool,
    #[schemars(length(min = 1))]
    event_types: Vec<&'a str>,
    event_filters: (),
    retry_count: usize,
    timeout_seconds: u32,
    #[schemars(with = "Option<Time>")]
    last_delivery_attempt_at: Option<String>,
    #[schemars(with = "Option<Time>")]
    last_successful_delivery_at: Option<String>,
    consecutive_failures: u32,
    #[schemars(with = "Time")]
    created_at: String,
    #[schemars(with = "Option<Time>")]
    updated_at: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline, rename = "OneWebhook")]
struct SentdmOneWebhook<'a>(SentdmWebhook<'a>);

impl<'a> SentdmWebhook<'a> {
    fn new(webhook: &'a Webhook, state: &WebhookState) -> Self {
        let event_types: Vec<&str> = webhook.event_types.iter().map(String::as_str).collect();
        SentdmWebhook {
            id: webhook.id,
            display_name: &webhook.name,
            endpoint_url: &webhook.url,
            signing_secret: (),
            is_active: derived::is_active(webhook),
            event_types: if event_types.is_empty() { vec!["*"] } else { event_types },
            event_filters: (),
            retry_count: webhook.retry_schedule_s.len(),
            timeout_seconds: webhook.timeout_ms.div_ceil(1_000),
            last_delivery_attempt_at: state.last_attempt_at.map(offset_time),
            last_successful_delivery_at: state.last_success_at.map(offset_time),
            consecutive_failures: state.consecutive_failures,
            created_at: offset_time(webhook.created_at),
            updated_at: Some(webhook.updated_at).filter(|at| *at != webhook.created_at).map(offset_time),
        }
    }
}

/// The tenant scope of a request: the profile in `x-profile-id`, the key's own app, or the default app.
fn scope(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<TenantScope, ApiError> {
    let tenant = request.tenant();
    let default = || context.registry.organization(tenant.org).map(|org| org.default_app_id);
    let app = match request.http.headers.get(PROFILE_ID) {
        None => tenant.app.or_else(default),
        Some(value) => {
            let malformed = || ApiError::bad_request("invalid_profile_id", "x-profile-id must be a UUID");
            let id: AppId = value.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(malformed)?;
            context.registry.app(tenant, id).map(|app| app.id)
        }
    };
    Ok(TenantScope { app: Some(app.ok_or_else(not_found)?), ..tenant })
}

fn not_found() -> ApiError {
    ApiError::not_found("Webhook")
}

fn in_path(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Arc<Webhook>, ApiError> {
    let bad = |_| ApiError::bad_request("invalid_id", "Invalid webhook ID format.");
    let id: WebhookId = request.path.get("id").parse().map_err(bad)?;
    context.registry.webhook(scope(context, request)?, id).cloned().ok_or_else(not_found)
}

/// `data` in the envelope, with the headers of every answer.
fn give(context: &ApiContext<'_>, request: &RequestContext<'_>, data: impl Serialize) -> Result<Step, ApiError> {
    let meta = SentdmMeta::new(&request.http.request_id, context.now);
    let mut response = HttpResponse::json(StatusCode::OK, &SentdmEnvelope { success: true, data, error: (), meta });
    response.headers.insert(API_VERSION, HeaderValue::from_static(VERSION));
    if let Some(profile) = request.http.headers.get(PROFILE_ID) {
        response.headers.insert(PROFILE_ID, profile.clone());
    }
    Ok(Step::Reply(response))
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline, rename = "Events")]
struct SentdmEventList<'a> {
    events: Vec<SentdmEvent<'a>>,
    pagination: SentdmPagination,
}

/// `GET /v3/webhooks/{id}/events`.
fn events(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = in_path(context, request)?;
    let paging = SentdmPageQuery::read(request)?;
    let slice = slice(context, request, webhook.id, paging)?;
    let events = slice.rows.iter().map(SentdmEvent::new).collect::<Result<_, _>>()?;
    give(context, request, SentdmEventList { events, pagination: paging.of(slice.total) })
}

fn slice(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    webhook: WebhookId,
    paging: SentdmPageQuery,
) -> Result<DeliverySlice, ApiError> {
    let (skip, limit) = (paging.skip(), paging.page_size as usize);
    let Some(search) = request.query.search()? else {
        return Ok(context.store.delivery_slice(webhook, skip, limit, context.now)?);
    };
    let query = DeliveryQuery {
        tenant: request.tenant(),
        webhook: Some(webhook),
        event: None,
        status: None,
        event_type: None,
        status_code: None,
        outcome: None,
        search: Some(search),
        ended: Default::default(),
        window: ListWindow { from: None, to: None, before: None, limit },
    };
    Ok(context.store.delivery_search(&query, skip, limit, context.now)?)
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline, rename = "Webhooks")]
struct SentdmWebhookList<'a> {
    webhooks: Vec<SentdmWebhook<'a>>,
    pagination: SentdmPagination,
}

/// `GET /v3/webhooks`.
fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let tenant = scope(context, request)?;
    let paging = SentdmPageQuery::read(request)?;
    let (search, is_active) = (request.query.search()?, request.query.boolean(&docs::IS_ACTIVE)?);
    let wanted = |webhook: &&Arc<Webhook>| {
        is_active.is_none_or(|active| active == derived::is_active(webhook))
            && search.as_ref().is_none_or(|search| search.within(&webhook.name) || search.within(&webhook.url))
    };
    let rows: Vec<_> = context.registry.webhooks_within(tenant).filter(wanted).collect();
    let skip = usize::try_from(paging.skip()).unwrap_or(usize::MAX);
    let shown = rows.iter().skip(skip).take(paging.page_size as usize);
    let webhooks = shown.map(|webhook| SentdmWebhook::new(webhook, &context.store.state(webhook.id))).collect();
    give(context, request, SentdmWebhookList { webhooks, pagination: paging.of(rows.len() as u64) })
}

/// `GET /v3/webhooks/{id}`.
fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = in_path(context, request)?;
    give(context, request, SentdmOneWebhook(SentdmWebhook::new(&webhook, &context.store.state(webhook.id))))
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline, rename = "EventTypes")]
struct SentdmEventTypeList<'a> {
    event_types: Vec<SentdmEventType<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct SentdmEventType<'a> {
    name: &'a str,
    display_name: String,
    description: String,
    is_active: bool,
}

/// `GET /v3/webhooks/event-types`: Postrider accepts any type, so the list contains the types that webhooks name, and
/// its own.
fn event_types(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let mut names: BTreeSet<&str> = SYSTEM_TYPES.into();
    for webhook in context.registry.webhooks_within(scope(context, request)?) {
        names.extend(webhook.event_types.iter().map(String::as_str).filter(|name| patterns::is_type(name)));
    }
    let event_types = names.into_iter().map(|name| SentdmEventType {
        name,
        display_name: in_words(name),
        description: format!("Events of type {name}"),
        is_active: true,
    });
    give(context, request, SentdmEventTypeList { event_types: event_types.collect() })
}

/// `message.delivered` as `Message Delivered`.
fn in_words(name: &str) -> String {
    let words = name.split(['.', '_', '-']).filter(|word| !word.is_empty()).map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_ascii_uppercase() + rest
    });
    words.collect::<Vec<_>>().join(" ")
}

/// `x-api-key`. Only a key of the whole organization may name a profile.
fn identify(http_request: &HttpRequest, registry: &Registry, now: Time) -> Result<Principal, ApiError> {
    let key = key_of(credential(&http_request.headers, API_KEY), registry, now, "ApiKey realm=\"postrider\"")?;
    if key.app_id.is_some() && http_request.headers.contains_key(PROFILE_ID) {
        return Err(ApiError::forbidden("profile_key", "only an organization's key may send x-profile-id"));
    }
    Ok(Principal::new(key, http_request))
}

fn may_read(principal: &Principal) -> Result<(), ApiError> {
    principal.need(Scope::WebhooksRead)
}

fn may_read_events(principal: &Principal) -> Result<(), ApiError> {
    principal.need(Scope::EventsRead)
}

/// The vendor's code for an error, from its error catalog.
fn code_of(api_error: &ApiError) -> &'static str {
    match (api_error.status, api_error.code) {
        (StatusCode::UNAUTHORIZED, "credentials_missing") => "AUTH_001",
        (StatusCode::UNAUTHORIZED, _) => "AUTH_002",
        (StatusCode::FORBIDDEN, _) => "AUTH_004",
        (_, "not_found") => "RESOURCE_008",
        (_, "invalid_profile_id") => "VALIDATION_003",
        (StatusCode::CONFLICT, _) => "CONFLICT_001",
        (StatusCode::TOO_MANY_REQUESTS, _) => "BUSINESS_002",
        (StatusCode::GATEWAY_TIMEOUT, _) => "INTERNAL_004",
        (StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE, _) => "INTERNAL_005",
        (status, _) if status.is_server_error() => "INTERNAL_001",
        _ => "VALIDATION_001",
    }
}

/// 401 and 403 have an empty body and the code in a header. All other errors have the envelope.
fn render(api_error: &ApiError, error_context: &ErrorContext<'_>) -> HttpResponse {
    let code = code_of(api_error);
    let mut response = match api_error.status {
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => HttpResponse::empty(status),
        status => {
            let unexpected =
                format!("An unexpected error occurred while retrieving {}", what_is_at(error_context.pattern));
            let message = if code == "INTERNAL_001" { &unexpected } else { &api_error.detail };
            let error = SentdmError { code, message, details: (), doc_url: format!("{ERRORS_URL}{code}") };
            let meta = SentdmMeta::new(error_context.request_id, error_context.now);
            HttpResponse::json(status, &SentdmFailure { success: false, data: (), error, meta })
        }
    };
    response.headers.insert(API_VERSION, HeaderValue::from_static(VERSION));
    response.headers.insert(ERROR_CODE, HeaderValue::from_static(code));
    response
}

fn what_is_at(pattern: &str) -> &'static str {
    match pattern {
        EVENTS => "webhook events",
        EVENT_TYPES => "event types",
        WEBHOOK => "the webhook",
        _ => "webhooks",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_ten_characters_and_one_in_that_form_stays() {
        assert_eq!(short_id("req_7X9zKp2jDw"), "req_7X9zKp2jDw");
        for other in ["", "req_7X9zKp2jD", "req_7X9zKp2jD-", "019cbd70-9d78-7320-aa3a-de3497964cb8"] {
            let made = short_id(other);
            assert!(made.len() == 14 && made[4..].bytes().all(|b| b.is_ascii_alphanumeric()), "{made}");
            assert_eq!(made, short_id(other), "one request has one id");
        }
    }

    #[test]
    fn an_internal_error_says_what_was_being_read() {
        for (pattern, expected) in [(EVENTS, "webhook events"), (WEBHOOK, "the webhook"), (EVENT_TYPES, "event types")]
        {
            let error_context = ErrorContext { request_id: "r", now: Time::ZERO, pattern, slashes: 1 };
            let response = render(&ApiError::internal("a mistake"), &error_context);
            let body = std::str::from_utf8(&response.body).unwrap();
            assert!(body.contains(&format!("while retrieving {expected}\"")), "{body}");
            assert!(!body.contains("a mistake"), "{body}");
        }
    }

    #[test]
    fn types_in_words() {
        assert_eq!(in_words("message.delivered"), "Message Delivered");
        assert_eq!(in_words("wallet.transfer_out.v-2"), "Wallet Transfer Out V 2");
    }
}
