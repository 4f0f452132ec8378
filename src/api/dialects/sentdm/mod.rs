//! sent.dm, API v3: an event is one delivery, in an envelope with the request's id and time (docs.sent.dm).

mod docs;
mod envelope;
mod event_types;
mod views;
mod writes;

use std::sync::Arc;

use http::HeaderName;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::auth::Principal;
use crate::api::context::{ApiContext, ApiSettings};
use crate::api::doc::{answer, done};
use crate::api::error::ApiError;
use crate::api::media::BodyRule;
use crate::api::params::Param;
use crate::api::request::HttpRequest;
use crate::api::request_context::RequestContext;
use crate::api::route::RouteAccess::Authorized;
use crate::api::route::{Route, RouteMethod};
use crate::api::step::Step;
use crate::model::{AppId, Scope, Time, Webhook, WebhookId};
use crate::store::{DeliveryQuery, DeliverySlice, ListWindow, Registry, TenantScope};

use crate::api::dialects::derived;
use crate::api::dialects::doc::doc;
use crate::api::dialects::{Dialect, credential, get, key_of, pages};

use envelope::{SentdmEnvelope, ok_in_envelope, render};
use views::{SentdmEvent, SentdmOneWebhook, SentdmPagination, SentdmWebhook};
use writes::{SentdmNewSecret, SentdmTested};

pub static DIALECT: Dialect = Dialect {
    name: "sentdm",
    prefix: "/v3",
    routes: ROUTES,
    identify,
    render,
    doc: &docs::DOC,
    lenient: None,
    preset: None,
    read_id: |_| None,
};

const WEBHOOKS: &str = "/v3/webhooks";
const WEBHOOK: &str = "/v3/webhooks/{id}";
const EVENTS: &str = "/v3/webhooks/{id}/events";
const EVENT_TYPES: &str = "/v3/webhooks/event-types";
const TOGGLE: &str = "/v3/webhooks/{id}/toggle-status";
const ROTATE: &str = "/v3/webhooks/{id}/rotate-secret";
const TEST: &str = "/v3/webhooks/{id}/test";

static ROUTES: &[Route] = &[
    get(
        WEBHOOKS,
        Authorized(Scope::WebhooksRead, may_read, list),
        doc(
            "listSentWebhooks",
            "List webhooks",
            &[answer::<SentdmEnvelope<SentdmWebhookList>>(200, "A page, newest first.")],
        ),
    )
    .with_query(&[docs::PAGE, docs::PAGE_SIZE, docs::SEARCH, docs::IS_ACTIVE]),
    get(
        EVENT_TYPES,
        Authorized(Scope::WebhooksRead, may_read, event_types),
        doc(
            "listSentEventTypes",
            "List the event types that webhooks name, and Postrider's own",
            &[answer::<SentdmEnvelope<SentdmEventTypeList>>(200, "By name.")],
        ),
    ),
    get(
        WEBHOOK,
        Authorized(Scope::WebhooksRead, may_read, read),
        doc(
            "getSentWebhook",
            "Read a webhook",
            &[answer::<SentdmEnvelope<SentdmOneWebhook>>(200, "The webhook, without its secret.")],
        ),
    )
    .with_segments(&[docs::ID]),
    get(
        EVENTS,
        Authorized(Scope::EventsRead, may_read_events, events),
        doc(
            "listSentWebhookEvents",
            "List a webhook's events: its deliveries",
            &[answer::<SentdmEnvelope<SentdmEventList>>(200, "A page, newest first.")],
        ),
    )
    .with_query(&[docs::PAGE, docs::PAGE_SIZE, docs::SEARCH])
    .with_segments(&[docs::ID]),
    Route::new(
        RouteMethod::Post,
        WEBHOOKS,
        Authorized(Scope::WebhooksWrite, may_write, writes::create),
        BodyRule::Json,
        doc(
            "createSentWebhook",
            "Make a webhook",
            &[answer::<SentdmEnvelope<SentdmOneWebhook>>(201, "The webhook, this once with its secret.")],
        )
        .takes("NewSentWebhook"),
    ),
    Route::new(
        RouteMethod::Put,
        WEBHOOK,
        Authorized(Scope::WebhooksWrite, may_write, writes::update),
        BodyRule::OptionalJson,
        doc(
            "updateSentWebhook",
            "Change a webhook; a field that is left out stays",
            &[answer::<SentdmEnvelope<SentdmOneWebhook>>(200, "The webhook as it is now, without its secret.")],
        )
        .takes("SentWebhookUpdate"),
    )
    .with_key()
    .with_segments(&[docs::ID]),
    Route::new(
        RouteMethod::Delete,
        WEBHOOK,
        Authorized(Scope::WebhooksWrite, may_write, writes::remove),
        BodyRule::None,
        doc("deleteSentWebhook", "Remove a webhook", &[done("It is removed.")]),
    )
    .with_key()
    .with_segments(&[docs::ID]),
    Route::new(
        RouteMethod::Patch,
        TOGGLE,
        Authorized(Scope::WebhooksWrite, may_write, writes::toggle),
        BodyRule::Json,
        doc(
            "toggleSentWebhook",
            "Turn a webhook on or off",
            &[answer::<SentdmEnvelope<SentdmOneWebhook>>(200, "The webhook as it is now, without its secret.")],
        )
        .takes("SentWebhookStatus"),
    )
    .with_key()
    .with_segments(&[docs::ID]),
    Route::new(
        RouteMethod::Post,
        ROTATE,
        Authorized(Scope::WebhooksSecret, may_rotate, writes::rotate),
        BodyRule::OptionalJson,
        doc(
            "rotateSentWebhookSecret",
            "Make a new secret; the old one signs no more",
            &[answer::<SentdmEnvelope<SentdmNewSecret>>(200, "The new secret.")],
        )
        .takes("SentSandbox"),
    )
    .with_segments(&[docs::ID]),
    Route::new(
        RouteMethod::Post,
        TEST,
        Authorized(Scope::WebhooksWrite, may_write, writes::test),
        BodyRule::OptionalJson,
        doc(
            "testSentWebhook",
            "Send one signed request now and store nothing",
            &[answer::<SentdmEnvelope<SentdmTested>>(200, "Whether it was delivered.")],
        )
        .takes("SentWebhookTest"),
    )
    .with_segments(&[docs::ID]),
];

const API_KEY: &str = "x-api-key";
const PROFILE_ID: HeaderName = HeaderName::from_static("x-profile-id");
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

/// The tenant scope of a request: the profile in `x-profile-id`, the key's own app, or the default app.
fn scope(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<TenantScope, ApiError> {
    let tenant = request.tenant();
    let default = || context.registry.organization(tenant.org).map(|org| org.default_app_id);
    let mut profiles = request.http.headers.get_all(PROFILE_ID).iter();
    let app = match profiles.next() {
        None => tenant.app.or_else(default),
        Some(value) => {
            let malformed = || ApiError::bad_request("invalid_profile_id", "x-profile-id must be a UUID, given once");
            let text = value.to_str().ok().filter(|_| profiles.next().is_none());
            let id: AppId = text.and_then(|text| text.parse().ok()).ok_or_else(malformed)?;
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
    ok_in_envelope(context, request, SentdmEventList { events, pagination: paging.of(slice.total) })
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
        webhook: Some(webhook),
        search: Some(search),
        ..DeliveryQuery::all(request.tenant(), ListWindow::newest(limit))
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
    ok_in_envelope(context, request, SentdmWebhookList { webhooks, pagination: paging.of(rows.len() as u64) })
}

/// `GET /v3/webhooks/{id}`.
fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = in_path(context, request)?;
    ok_in_envelope(context, request, SentdmOneWebhook(SentdmWebhook::new(&webhook, &context.store.state(webhook.id))))
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline, rename = "EventTypes")]
struct SentdmEventTypeList<'a> {
    event_types: Vec<SentdmEventType<'a>>,
    /// Everything is on one page.
    pagination: SentdmPagination,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct SentdmEventType<'a> {
    name: &'a str,
    /// The same as `name`.
    event_type: &'a str,
    display_name: String,
    description: String,
    is_active: bool,
    sub_types: (),
}

/// `GET /v3/webhooks/event-types`: Postrider accepts any type, so the list contains the types that webhooks name, and
/// its own.
fn event_types(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let tenant = scope(context, request)?;
    let names = derived::named_types(context.registry.webhooks_within(tenant));
    let event_types = names.into_iter().map(|name| SentdmEventType {
        name,
        event_type: name,
        display_name: in_words(name),
        description: format!("Events of type {name}"),
        is_active: true,
        sub_types: (),
    });
    let event_types: Vec<_> = event_types.collect();
    let count = event_types.len() as u64;
    let pagination = SentdmPageQuery { page: 1, page_size: count.max(1) }.of(count);
    ok_in_envelope(context, request, SentdmEventTypeList { event_types, pagination })
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
fn identify(
    http_request: &HttpRequest,
    registry: &Registry,
    _: &ApiSettings,
    now: Time,
) -> Result<Principal, ApiError> {
    let key = key_of(credential(&http_request.headers, API_KEY), registry, now, "ApiKey realm=\"postrider\"")?;
    if key.app_id.is_some() && http_request.headers.contains_key(PROFILE_ID) {
        return Err(ApiError::forbidden("profile_key", "only an organization's key may send x-profile-id"));
    }
    Ok(Principal::new(key, http_request))
}

fn may_read(principal: &Principal) -> Result<(), ApiError> {
    principal.need(Scope::WebhooksRead)
}

fn may_write(principal: &Principal) -> Result<(), ApiError> {
    principal.need(Scope::WebhooksWrite)
}

fn may_rotate(principal: &Principal) -> Result<(), ApiError> {
    principal.need(Scope::WebhooksSecret)
}

fn may_read_events(principal: &Principal) -> Result<(), ApiError> {
    principal.need(Scope::EventsRead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_in_words() {
        assert_eq!(in_words("message.delivered"), "Message Delivered");
        assert_eq!(in_words("wallet.transfer_out.v-2"), "Wallet Transfer Out V 2");
    }
}
