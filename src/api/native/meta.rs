//! The daemon's own endpoints, which need no key: liveness, readiness, metrics, and the OpenAPI document.

use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, RETRY_AFTER, VARY};
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::context::{ApiContext, HealthIssue};
use crate::api::error::ApiError;
use crate::api::request::HttpRequest;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::Time;
use crate::rules::exposition::ExpositionFormat;
use crate::store::StateCommand;

/// `Retry-After` seconds of an unready answer.
const READY_RETRY_S: u32 = 1;

/// Policy of the API reference, whose page has its style inside and no script (W3C CSP Level 3).
const PAGE_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Liveness.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Alive")]
pub struct AliveView {
    #[schemars(extend("const" = "ok"))]
    status: &'static str,
}

/// Readiness.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Ready")]
pub struct ReadyView {
    #[schemars(extend("enum" = ["ready", "unready"]))]
    status: &'static str,
    reasons: Vec<HealthIssue>,
    warnings: Vec<HealthIssue>,
}

/// The clock as it is trusted now.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ClockAccepted")]
pub struct ClockView {
    #[schemars(extend("const" = true))]
    clock_trusted: bool,
    now: Time,
}

/// Metrics in the text format of Prometheus.
#[derive(JsonSchema)]
#[schemars(rename = "Metrics")]
pub struct MetricsText(pub String);

/// The OpenAPI document as a page.
#[derive(JsonSchema)]
#[schemars(rename = "ReferencePage")]
pub struct ReferencePage(pub String);

/// The OpenAPI document.
#[derive(JsonSchema)]
#[schemars(rename = "AnyObject")]
pub struct DocumentView(pub Map<String, Value>);

/// `GET /healthz`: the process answers.
pub fn alive(_: &ApiContext<'_>, _: &HttpRequest) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::json(StatusCode::OK, &AliveView { status: "ok" }))
}

/// `GET /readyz`: whether events are accepted and sent, or why not.
pub fn ready(context: &ApiContext<'_>, _: &HttpRequest) -> Result<HttpResponse, ApiError> {
    let (reasons, warnings) = (context.health_source.unready(), context.health_source.warnings());
    if reasons.is_empty() {
        return Ok(HttpResponse::json(StatusCode::OK, &ReadyView { status: "ready", reasons, warnings }));
    }
    let answer = ReadyView { status: "unready", reasons, warnings };
    let mut response = HttpResponse::json(StatusCode::SERVICE_UNAVAILABLE, &answer);
    response.headers.insert(RETRY_AFTER, HeaderValue::from(READY_RETRY_S));
    Ok(response)
}

/// `POST /v1/clock/accept`: retention continues by the current clock.
pub fn accept_clock(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    request.no_fields()?;
    let answer = HttpResponse::json(StatusCode::OK, &ClockView { clock_trusted: true, now: context.now }).body;
    let write_request = request.write_with(StateCommand::AcceptClock, answer.clone())?;
    Ok(Step::apply(write_request, move |applied| {
        Ok(HttpResponse::new(StatusCode::OK, "application/json", applied.extra.unwrap_or(answer)))
    }))
}

/// `GET /metrics`, in the exposition format that `Accept` prefers.
pub fn metrics(context: &ApiContext<'_>, http_request: &HttpRequest) -> Result<HttpResponse, ApiError> {
    Ok(exposition(http_request, |format| context.health_source.metrics(format)))
}

/// The answer of every listener that serves `/metrics`.
pub fn exposition(http_request: &HttpRequest, render: impl FnOnce(ExpositionFormat) -> String) -> HttpResponse {
    let accept = http_request.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = ExpositionFormat::negotiate(accept);
    HttpResponse::new(StatusCode::OK, format.content_type(), render(format))
        .with(VARY, HeaderValue::from_static("accept"))
}

/// `GET /openapi.json`, filtered by the settings.
pub fn openapi(context: &ApiContext<'_>, _: &HttpRequest) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::new(StatusCode::OK, "application/json", (context.description)()))
}

/// `GET /docs`, filtered by the settings.
pub fn reference_page(context: &ApiContext<'_>, _: &HttpRequest) -> Result<HttpResponse, ApiError> {
    let response = HttpResponse::new(StatusCode::OK, "text/html; charset=utf-8", (context.reference_page)());
    Ok(response.with(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY)))
}
