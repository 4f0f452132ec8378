//! Everlytic, transactional e-mail v1 (white label: SenderGuide): webhooks without events (help.everlytic.com).

mod docs;
mod writes;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::api::auth::Principal;
use crate::api::context::{ApiContext, ApiSettings};
use crate::api::doc::answer;
use crate::api::error::{ApiError, FieldError};
use crate::api::media::BodyRule;
use crate::api::native::webhook_text::MASK;
use crate::api::request::HttpRequest;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::RouteAccess::Authorized;
use crate::api::route::{ErrorContext, Route, RouteMethod};
use crate::api::step::Step;
use crate::model::job::JobSpec;
use crate::model::time::DAY_MS;
use crate::model::webhook::{ContentType, FieldSet, WebhookAuth, WebhookMethod};
use crate::model::{AppId, DeliveryStatus, Scope, Time, Webhook, WebhookId};
use crate::store::{Registry, StateCommand, WriteRequest};

use crate::api::dialects::derived::{self, ok};
use crate::api::dialects::doc::doc;
use crate::api::dialects::{Dialect, credential, get, key_of, pages};

use self::writes::EverlyticRemoved;

pub static DIALECT: Dialect = Dialect {
    name: "everlytic",
    prefix: "/transactional/email/v1",
    routes: ROUTES,
    identify,
    render,
    doc: &docs::DOC,
    lenient: None,
    preset: None,
    read_id: |_| None,
};

const LIST: &str = "/transactional/email/v1/webhooks";

static ROUTES: &[Route] = &[
    get(
        LIST,
        Authorized(Scope::WebhooksRead, may_read, list),
        doc("listEverlyticWebhooks", "List webhooks", &[answer::<EverlyticList>(200, "Fifteen webhooks.")]),
    )
    .with_query(&[docs::PAGE]),
    get(
        "/transactional/email/v1/webhooks/{id}",
        Authorized(Scope::WebhooksRead, may_read, read),
        doc(
            "getEverlyticWebhook",
            "Read a webhook",
            &[answer::<EverlyticItem>(200, "The webhook, its password masked.")],
        ),
    )
    .with_segments(&[docs::ID]),
    get(
        "/transactional/email/v1/webhooks/failed/reprocess",
        Authorized(Scope::DeliveriesRetry, may_reprocess, reprocess),
        doc(
            "reprocessEverlyticFailures",
            "Send again what failed within the last seven days",
            &[answer::<EverlyticDone>(200, "The jobs are stored, and run.")],
        ),
    )
    .acts(),
    Route::new(
        RouteMethod::Post,
        LIST,
        Authorized(Scope::WebhooksWrite, may_write, writes::create),
        BodyRule::Json,
        doc("createEverlyticWebhook", "Make a webhook", &[answer::<EverlyticItem>(200, "The webhook.")])
            .takes("EverlyticWebhookInput"),
    ),
    Route::new(
        RouteMethod::Put,
        "/transactional/email/v1/webhooks/{id}",
        Authorized(Scope::WebhooksWrite, may_write, writes::update),
        BodyRule::Json,
        doc(
            "updateEverlyticWebhook",
            "Change a webhook; an optional field that is left out gets its default",
            &[answer::<EverlyticItem>(200, "The webhook as it is now.")],
        )
        .takes("EverlyticWebhookInput"),
    )
    .with_key()
    .with_segments(&[docs::ID]),
    Route::new(
        RouteMethod::Delete,
        "/transactional/email/v1/webhooks/{id}",
        Authorized(Scope::WebhooksWrite, may_write, writes::remove),
        BodyRule::None,
        doc(
            "deleteEverlyticWebhook",
            "Remove a webhook",
            &[answer::<EverlyticRemoved>(200, "Whether there was such a webhook.")],
        ),
    )
    .with_key()
    .with_segments(&[docs::ID]),
];

/// Number of webhooks on a page. The vendor's page names none. This is the default of the paginator that has these
/// fields.
const PER_PAGE: u64 = 15;
/// Maximum age in milliseconds of an event that `reprocess` covers.
const REPROCESS_MS: i64 = 7 * DAY_MS;

/// A webhook.
#[derive(Serialize, JsonSchema)]
struct EverlyticWebhook<'a> {
    id: WebhookId,
    url: &'a str,
    verb: WebhookMethod,
    auth_details: Option<EverlyticAuth<'a>>,
    #[schemars(extend("const" = "basic"))]
    auth_type: &'static str,
    #[schemars(extend("enum" = ["enabled", "disabled"]))]
    status: &'static str,
    /// JSON in a string.
    settings: String,
    content_type: ContentType,
    #[schemars(extend("enum" = ["standard", "legacy"]))]
    field_set: &'static str,
    updated_timestamp: Time,
    created_timestamp: Time,
    event_types: Vec<&'a str>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct EverlyticAuth<'a> {
    username: &'a str,
    /// Masked.
    password: &'static str,
}

impl<'a> EverlyticWebhook<'a> {
    fn new(webhook: &'a Webhook) -> Self {
        let auth_details = match &webhook.auth {
            Some(WebhookAuth::Basic { username, .. }) => Some(EverlyticAuth { username, password: MASK }),
            _ => None,
        };
        let event_types: Vec<&str> = webhook.event_types.iter().map(String::as_str).collect();
        EverlyticWebhook {
            id: webhook.id,
            url: &webhook.url,
            verb: webhook.method,
            auth_details,
            auth_type: "basic",
            status: if derived::is_active(webhook) { "enabled" } else { "disabled" },
            settings: json!({ "include_html": webhook.include_html }).to_string(),
            content_type: webhook.content_type,
            field_set: shown_field_set(webhook),
            updated_timestamp: webhook.updated_at,
            created_timestamp: webhook.created_at,
            event_types: if event_types.is_empty() { vec!["*"] } else { event_types },
        }
    }
}

fn shown_field_set(webhook: &Webhook) -> &'static str {
    if webhook.field_set == FieldSet::Legacy { "legacy" } else { "standard" }
}

/// A webhook, alone.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EverlyticOneWebhook")]
struct EverlyticItem<'a> {
    webhook: EverlyticWebhook<'a>,
}

/// `GET …/webhooks/{id}`.
fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    // Text that is no id gets the answer of an unknown webhook, as on the vendor's page.
    let id: Option<WebhookId> = request.path.get("id").parse().ok();
    let found = id.and_then(|id| context.registry.webhook(request.tenant(), id));
    ok(&EverlyticItem { webhook: EverlyticWebhook::new(found.ok_or_else(|| ApiError::not_found("Webhook"))?) })
}

/// A page of webhooks.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EverlyticWebhooks")]
struct EverlyticList<'a> {
    #[schemars(extend("const" = "webhook"))]
    r#type: &'static str,
    meta: EverlyticMeta,
    links: EverlyticLinks,
    data: Vec<EverlyticWebhook<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct EverlyticMeta {
    /// Number of pages, not of webhooks.
    total: u64,
    per_page: u64,
    current_page: u64,
    last_page: u64,
    /// Number of the previous page.
    from: Option<u64>,
    /// Number of the next page.
    to: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct EverlyticLinks {
    first: String,
    last: String,
    prev: Option<String>,
    next: Option<String>,
}

/// `GET …/webhooks`. The wording of the vendor's page is followed literally: `total` counts pages, and `from` and `to`
/// are the numbers of the previous and the next page.
fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let page = u64::from(request.query.number_or_default(&docs::PAGE)?);
    let rows: Vec<_> = context.registry.webhooks_within(request.tenant()).collect();
    let last = pages(rows.len() as u64, PER_PAGE).max(1);
    let before = Some((page - 1).min(last)).filter(|n| *n > 0);
    let after = Some(page + 1).filter(|n| *n <= last);
    let link = |page: u64| format!("{}{LIST}?page={page}", context.settings.public_url);
    let shown = rows.iter().skip(((page - 1) * PER_PAGE) as usize).take(PER_PAGE as usize);
    ok(&EverlyticList {
        r#type: "webhook",
        meta: EverlyticMeta {
            total: last,
            per_page: PER_PAGE,
            current_page: page,
            last_page: last,
            from: before,
            to: after,
        },
        links: EverlyticLinks { first: link(1), last: link(last), prev: before.map(link), next: after.map(link) },
        data: shown.map(|webhook| EverlyticWebhook::new(webhook)).collect(),
    })
}

/// The jobs are stored and running.
#[derive(Serialize, JsonSchema)]
struct EverlyticDone {
    #[schemars(extend("const" = true))]
    status: bool,
}

/// `GET …/webhooks/failed/reprocess`: a replay job over the failures of seven days, one for each app with webhooks.
fn reprocess(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let mut apps: Vec<AppId> =
        context.registry.webhooks_within(request.tenant()).map(|webhook| webhook.app_id).collect();
    apps.sort_unstable();
    apps.dedup();
    if apps.is_empty() {
        return ok(&EverlyticDone { status: true });
    }
    let from = context.now.minus_ms(REPROCESS_MS);
    let specs = apps.into_iter().map(|app| failures_of(app, from)).collect();
    let caller = Some(request.principal.caller());
    let write_request = WriteRequest { caller, idempotency: None, command: StateCommand::CreateJobs { specs }.into() };
    Ok(Step::apply(write_request, |_| Ok(HttpResponse::json(StatusCode::OK, &EverlyticDone { status: true }))))
}

/// A job over the failed deliveries of an app since `from`.
fn failures_of(app: AppId, from: Time) -> JobSpec {
    JobSpec {
        webhook: None,
        app: Some(app),
        from: Some(from),
        to: None,
        types: Vec::new(),
        status: Some(DeliveryStatus::Failed),
        missing: false,
        rate_per_s: None,
        last: Default::default(),
        waiting: false,
        retrying: false,
        erasing: false,
    }
}

/// HTTP Basic with the key as the password. Any user name is accepted.
fn identify(
    http_request: &HttpRequest,
    registry: &Registry,
    _: &ApiSettings,
    now: Time,
) -> Result<Principal, ApiError> {
    let key = key_of(password(http_request).as_deref(), registry, now, "Basic realm=\"postrider\"")?;
    Ok(Principal::new(key, http_request))
}

/// The text after the first colon (RFC 7617 section 2). The user name may have any encoding.
fn password(http_request: &HttpRequest) -> Option<String> {
    let (scheme, pair) = credential(&http_request.headers, "authorization")?.split_once(' ')?;
    let pair = STANDARD.decode(pair.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    String::from_utf8(pair[colon + 1..].to_vec()).ok()
}

fn may_read(principal: &Principal) -> Result<(), ApiError> {
    principal.need(Scope::WebhooksRead)
}

fn may_write(principal: &Principal) -> Result<(), ApiError> {
    principal.need(Scope::WebhooksWrite)
}

fn may_reprocess(principal: &Principal) -> Result<(), ApiError> {
    principal.need(Scope::DeliveriesRetry)
}

/// An error.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EverlyticError")]
struct EverlyticErrorEnvelope<'a> {
    #[schemars(with = "i64")]
    code: u16,
    message: &'a str,
    error: EverlyticErrors<'a>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct EverlyticErrors<'a> {
    errors: Vec<EverlyticError<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct EverlyticError<'a> {
    #[schemars(extend("enum" = ["global", "usageLimit"]))]
    domain: &'static str,
    #[schemars(extend("enum" = ["required", "ForbiddenAccess", "RequestLimit", "invalidParameter", "invalid"]))]
    reason: &'static str,
    message: Cow<'a, str>,
    #[schemars(extend("const" = "request"))]
    location_type: &'static str,
    #[schemars(extend("enum" = ["authorization", "default", "webhookValidation"]))]
    location: &'static str,
}

/// `{code, message, error: {errors: […]}}`. For an unknown webhook the status is 400 and the code inside is 412, as the
/// vendor prints it. Wrong fields are 412 in both.
fn render(api_error: &ApiError, _: &ErrorContext<'_>) -> HttpResponse {
    if api_error.code == "invalid_fields" {
        return invalid(&api_error.errors);
    }
    let (status, code) = match (api_error.code, api_error.status) {
        ("not_found", _) => (StatusCode::BAD_REQUEST, 412),
        (_, StatusCode::UNPROCESSABLE_ENTITY) => (StatusCode::BAD_REQUEST, 400),
        (_, status) => (status, status.as_u16()),
    };
    // Field errors beside another code name the place in a text that is not strict JSON.
    let is_text = !api_error.errors.is_empty();
    let (reason, location, message) = match api_error.status {
        StatusCode::UNAUTHORIZED => ("required", "authorization", "Login Required"),
        StatusCode::FORBIDDEN => ("ForbiddenAccess", "authorization", api_error.detail.as_str()),
        StatusCode::TOO_MANY_REQUESTS => ("RequestLimit", "default", api_error.detail.as_str()),
        StatusCode::BAD_REQUEST if !is_text => ("invalidParameter", "default", api_error.detail.as_str()),
        _ => ("invalid", "default", api_error.detail.as_str()),
    };
    let domain = if status == StatusCode::TOO_MANY_REQUESTS { "usageLimit" } else { "global" };
    let failure = EverlyticError { domain, reason, message: message.into(), location_type: "request", location };
    let error = EverlyticErrors { errors: vec![failure] };
    HttpResponse::json(status, &EverlyticErrorEnvelope { code, message, error })
}

/// 412 with every wrong field.
fn invalid(field_errors: &[FieldError]) -> HttpResponse {
    let failure = |field_error: &FieldError| {
        let name = field_error.pointer.trim_start_matches('/').replace('/', ".");
        let field = if name.is_empty() { "the body" } else { &name };
        EverlyticError {
            domain: "global",
            reason: if field_error.detail == "is required" { "required" } else { "invalid" },
            message: format!("{field} {}", field_error.detail).into(),
            location_type: "request",
            location: "webhookValidation",
        }
    };
    let error = EverlyticErrors { errors: field_errors.iter().map(failure).collect() };
    let message = "One or more of the required fields were invalid";
    HttpResponse::json(StatusCode::PRECONDITION_FAILED, &EverlyticErrorEnvelope { code: 412, message, error })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn call(authorization: &str) -> HttpRequest {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(authorization).unwrap());
        HttpRequest {
            method: http::Method::GET,
            path: LIST.to_owned(),
            query: None,
            headers,
            body: Default::default(),
            remote: None,
            request_id: String::new(),
        }
    }

    #[test]
    fn the_password_begins_behind_the_first_colon() {
        for (text, expected) in [("me:key", Some("key")), (":key", Some("key")), ("me:a:b", Some("a:b")), ("key", None)]
        {
            let given = call(&format!("Basic {}", STANDARD.encode(text)));
            assert_eq!(password(&given).as_deref(), expected, "{text}");
        }
        assert_eq!(password(&call(&format!("Basic {}", STANDARD.encode(b"\xfc:key")))).as_deref(), Some("key"));
        for other in ["Basic", "Basic ???", "Bearer bWU6a2V5"] {
            assert_eq!(password(&call(other)), None, "{other}");
        }
    }
}
