//! sent.dm's envelope: every answer and every error but 401 and 403 is in it.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::auth::sha256;
use crate::api::context::ApiContext;
use crate::api::error::{ApiError, FieldError};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::{ErrorContext, RouteMethod};
use crate::api::step::Step;
use crate::model::Time;
use crate::rules::body::offset_time;

use super::{EVENT_TYPES, EVENTS, PROFILE_ID, ROTATE, TEST, WEBHOOK, WEBHOOKS};

const API_VERSION: HeaderName = HeaderName::from_static("x-api-version");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
/// The page that explains the codes, as the vendor prints it.
const ERRORS_URL: &str = "https://docs.sent.dm/errors/";
const VERSION: &str = "v3";
/// The name of the whole body among the fields.
const BODY: &str = "body";
/// The vendor's words for any mistake in a URL.
const BAD_URL: &str = "Endpoint URL must be a valid HTTP or HTTPS URL";

/// A response in the envelope.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Sent{T}")]
pub struct SentdmEnvelope<T> {
    #[schemars(extend("const" = true))]
    success: bool,
    data: T,
    error: (),
    meta: SentdmMeta,
}

/// An error in the envelope. 401 and 403 have no body.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SentError")]
pub struct SentdmFailure<'a> {
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
    /// The mistakes by field.
    details: Option<BTreeMap<String, Vec<&'a str>>>,
    doc_url: String,
}

/// The id and time of the request.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SentMeta")]
pub struct SentdmMeta {
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

/// The parts of an answer that come from the request.
#[derive(Clone)]
pub struct ReplyHead {
    request_id: String,
    now: Time,
    profile: Option<HeaderValue>,
}

impl ReplyHead {
    pub fn new(context: &ApiContext<'_>, request: &RequestContext<'_>) -> ReplyHead {
        ReplyHead {
            request_id: short_id(&request.http.request_id),
            now: context.now,
            profile: request.http.headers.get(PROFILE_ID).cloned(),
        }
    }

    /// The id of the request as `meta` shows it.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// `data` in the envelope, with the headers of every answer.
    pub fn answer(&self, status: StatusCode, data: impl Serialize) -> HttpResponse {
        let meta = SentdmMeta::new(&self.request_id, self.now);
        self.with_headers(HttpResponse::json(status, &SentdmEnvelope { success: true, data, error: (), meta }))
    }

    /// 204 without a body.
    pub fn no_content(&self) -> HttpResponse {
        self.with_headers(HttpResponse::empty(StatusCode::NO_CONTENT))
    }

    fn with_headers(&self, mut response: HttpResponse) -> HttpResponse {
        response.headers.insert(API_VERSION, HeaderValue::from_static(VERSION));
        if let Some(profile) = &self.profile {
            response.headers.insert(PROFILE_ID, profile.clone());
        }
        response
    }
}

/// `data` in the envelope of a 200.
pub fn ok_in_envelope(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    data: impl Serialize,
) -> Result<Step, ApiError> {
    Ok(Step::Reply(ReplyHead::new(context, request).answer(StatusCode::OK, data)))
}

/// The vendor's code for an error, from its error catalog.
fn code_of(api_error: &ApiError) -> &'static str {
    match (api_error.status, api_error.code) {
        (StatusCode::UNAUTHORIZED, "credentials_missing") => "AUTH_001",
        (StatusCode::UNAUTHORIZED, _) => "AUTH_002",
        (StatusCode::FORBIDDEN, _) => "AUTH_004",
        (_, "not_found") => "RESOURCE_008",
        (_, "invalid_profile_id") => "VALIDATION_003",
        (_, "invalid_header") => "VALIDATION_007",
        (StatusCode::CONFLICT, _) => "CONFLICT_001",
        (StatusCode::TOO_MANY_REQUESTS, _) => "BUSINESS_002",
        (StatusCode::GATEWAY_TIMEOUT, _) => "INTERNAL_004",
        (StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE, _) => "INTERNAL_005",
        (status, _) if status.is_server_error() => "INTERNAL_001",
        _ => "VALIDATION_001",
    }
}

/// 401 and 403 have an empty body and the code in a header. All other errors have the envelope, and wrong values are
/// 400 here.
pub fn render(api_error: &ApiError, error_context: &ErrorContext<'_>) -> HttpResponse {
    let code = code_of(api_error);
    let mut response = match api_error.status {
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => HttpResponse::empty(status),
        status => {
            let status = if status == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { status };
            let message = match api_error.errors.first() {
                _ if code == "INTERNAL_001" => {
                    format!("An unexpected error occurred while {}", action_at(error_context))
                }
                Some(first) if !api_error.is_about_json() => message_of(first),
                _ => api_error.detail.clone(),
            };
            let details = details_of(api_error);
            let error = SentdmError { code, message: &message, details, doc_url: format!("{ERRORS_URL}{code}") };
            let meta = SentdmMeta::new(error_context.request_id, error_context.now);
            HttpResponse::json(status, &SentdmFailure { success: false, data: (), error, meta })
        }
    };
    response.headers.insert(API_VERSION, HeaderValue::from_static(VERSION));
    response.headers.insert(ERROR_CODE, HeaderValue::from_static(code));
    response
}

/// The field of a mistake: `event_types.0` for the pointer `/event_types/0`.
fn field_of(field_error: &FieldError) -> String {
    match field_error.pointer.trim_start_matches('/') {
        "" => BODY.to_owned(),
        pointer => pointer.replace('/', "."),
    }
}

/// The mistake as a sentence. A detail that is one already stays.
fn message_of(field_error: &FieldError) -> String {
    match field_of(field_error) {
        field if field == "endpoint_url" => BAD_URL.to_owned(),
        _ if field_error.detail.starts_with(char::is_uppercase) => field_error.detail.clone(),
        field => format!("{field} {}", field_error.detail),
    }
}

/// The mistakes by field. `None` without any. A text that is no JSON is a mistake of the whole body.
fn details_of(api_error: &ApiError) -> Option<BTreeMap<String, Vec<&str>>> {
    if api_error.is_about_json() {
        return Some(BTreeMap::from([(BODY.to_owned(), vec![api_error.detail.as_str()])]));
    }
    let mut details: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for field_error in &api_error.errors {
        details.entry(field_of(field_error)).or_default().push(&field_error.detail);
    }
    Some(details).filter(|details| !details.is_empty())
}

/// The failed action, in the vendor's words.
fn action_at(error_context: &ErrorContext<'_>) -> &'static str {
    match (error_context.verb, error_context.pattern) {
        (Some(RouteMethod::Post), WEBHOOKS) => "creating the webhook",
        (Some(RouteMethod::Post), ROTATE) => "rotating the webhook secret",
        (Some(RouteMethod::Post), TEST) => "testing the webhook",
        (Some(RouteMethod::Put | RouteMethod::Patch), _) => "updating the webhook",
        (Some(RouteMethod::Delete), _) => "deleting the webhook",
        (_, EVENTS) => "retrieving webhook events",
        (_, EVENT_TYPES) => "retrieving event types",
        (_, WEBHOOK) => "retrieving the webhook",
        _ => "retrieving webhooks",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::json;

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
    fn a_text_that_is_no_json_is_a_mistake_of_the_body() {
        let error = json::check(b"{\"endpoint_url\":", json::JsonLimits::default()).expect_err("it ends too early");
        let error_context = ErrorContext {
            request_id: "r",
            now: Time::ZERO,
            pattern: WEBHOOKS,
            verb: Some(RouteMethod::Post),
            slashes: 1,
        };
        let response = render(&error.into(), &error_context);
        let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("ends too early"), "{message}");
        assert_eq!(body["error"]["details"], serde_json::json!({ "body": [message] }));
    }

    #[test]
    fn an_internal_error_names_the_failed_action() {
        use RouteMethod::{Delete, Get, Patch, Post, Put};
        for (verb, pattern, expected) in [
            (Get, EVENTS, "retrieving webhook events"),
            (Get, WEBHOOK, "retrieving the webhook"),
            (Get, EVENT_TYPES, "retrieving event types"),
            (Post, WEBHOOKS, "creating the webhook"),
            (Put, WEBHOOK, "updating the webhook"),
            (Patch, super::super::TOGGLE, "updating the webhook"),
            (Delete, WEBHOOK, "deleting the webhook"),
            (Post, ROTATE, "rotating the webhook secret"),
            (Post, TEST, "testing the webhook"),
        ] {
            let error_context =
                ErrorContext { request_id: "r", now: Time::ZERO, pattern, verb: Some(verb), slashes: 1 };
            let response = render(&ApiError::internal("a mistake"), &error_context);
            let body = std::str::from_utf8(&response.body).unwrap();
            assert!(body.contains(&format!("occurred while {expected}\"")), "{body}");
            assert!(!body.contains("a mistake"), "{body}");
        }
    }
}
