//! The daemon's own endpoints, without a key: liveness, readiness, metrics, and the description of the API.

use bytes::Bytes;
use http::header::{ACCEPT, RETRY_AFTER, VARY};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::request::HttpRequest;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::rules::exposition::ExpositionFormat;
use crate::store::StateCommand;

/// `Retry-After` seconds of an unready answer.
const READY_RETRY_S: u32 = 1;

/// `GET /healthz`: the process answers.
pub fn alive(_: &ApiContext<'_>, _: &HttpRequest) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::json(StatusCode::OK, &json!({ "status": "ok" })))
}

/// `GET /readyz`: whether events are taken and sent, or why not.
pub fn ready(context: &ApiContext<'_>, _: &HttpRequest) -> Result<HttpResponse, ApiError> {
    let (reasons, warnings) = (context.health_source.unready(), context.health_source.warnings());
    if reasons.is_empty() {
        let answer = json!({ "status": "ready", "reasons": [], "warnings": warnings });
        return Ok(HttpResponse::json(StatusCode::OK, &answer));
    }
    let answer = json!({ "status": "unready", "reasons": reasons, "warnings": warnings });
    let mut response = HttpResponse::json(StatusCode::SERVICE_UNAVAILABLE, &answer);
    response.headers.insert(RETRY_AFTER, HeaderValue::from(READY_RETRY_S));
    Ok(response)
}

/// `POST /v1/clock/accept`: retention goes on by the clock as it is.
pub fn accept_clock(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    request.no_fields()?;
    let answer = Bytes::from(json!({ "clock_trusted": true, "now": context.now }).to_string());
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

/// `GET /openapi.json`, as the settings want it.
pub fn openapi(context: &ApiContext<'_>, _: &HttpRequest) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::new(StatusCode::OK, "application/json", (context.description)()))
}
