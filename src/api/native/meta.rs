//! What the daemon says about itself, without a key: alive, ready, metrics, and this API's description.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::api::call::{Call, Reply};
use crate::api::context::Context;
use crate::api::fault::Fault;
use crate::api::openapi;

/// Seconds after which readiness may be asked for again.
const READY_RETRY_S: u32 = 1;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi::document().to_string().into());

/// `GET /healthz`: the process answers.
pub fn alive(_: &Context<'_>, _: &Call) -> Result<Reply, Fault> {
    Ok(Reply::json(StatusCode::OK, &json!({ "status": "ok" })))
}

/// `GET /readyz`: whether events are taken and sent, or why not.
pub fn ready(context: &Context<'_>, _: &Call) -> Result<Reply, Fault> {
    let reasons = context.vitals.unready();
    if reasons.is_empty() {
        return Ok(Reply::json(StatusCode::OK, &json!({ "status": "ready", "reasons": [] })));
    }
    let answer = json!({ "status": "unready", "reasons": reasons });
    let mut reply = Reply::json(StatusCode::SERVICE_UNAVAILABLE, &answer);
    reply.headers.insert(RETRY_AFTER, HeaderValue::from(READY_RETRY_S));
    Ok(reply)
}

/// `GET /metrics`, in Prometheus's text format.
pub fn metrics(context: &Context<'_>, _: &Call) -> Result<Reply, Fault> {
    Ok(Reply::new(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", context.vitals.metrics()))
}

/// `GET /openapi.json`: built once.
pub fn openapi(_: &Context<'_>, _: &Call) -> Result<Reply, Fault> {
    Ok(Reply::new(StatusCode::OK, "application/json", DOCUMENT.clone()))
}
