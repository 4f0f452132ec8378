//! Attempts: list and read (docs/concepts.md, "When it is tried again").

use std::collections::BTreeMap;

use http::StatusCode;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::context::ApiContext;
use crate::api::cursor::CursorKind;
use crate::api::doc::{doc, done};
use crate::api::error::ApiError;
use crate::api::params::{
    DELIVERY_STATUS, EVENT_TYPE, FROM_RECORDED, LIMIT, OUTCOME, Param, SEARCH, STATUS_CODE, TO_RECORDED, cursor,
};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::Route;
use crate::api::route::RouteAccess::Scope as Needs;
use crate::api::step::Step;
use crate::model::webhook::WebhookMethod;
use crate::model::{
    Attempt, AttemptId, AttemptMade, AttemptOutcome, DeliveryId, EventId, Headers, Scope, Time, Timings, Trigger,
    WebhookId,
};
use crate::rules::diagnosis::{self, Diagnosis, DiagnosisReader, Failure};
use crate::store::{AttemptQuery, PartitionCommand};

use super::routes::delete;
use super::{deliveries, page, webhooks};

pub const ERASE_RESPONSE: Route = delete(
    "/v1/attempts/{id}/response",
    Needs(Scope::EventsWrite, erase_response),
    doc(
        "eraseAttemptResponse",
        "deliveries",
        "Erase the headers and the body of an attempt's response, keep the record",
        &[done("Erased.")],
    ),
);

/// An attempt: one request of a delivery.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Attempt")]
pub struct AttemptView<'a> {
    #[schemars(with = "AttemptId")]
    id: Option<AttemptId>,
    #[schemars(with = "DeliveryId")]
    delivery_id: Option<DeliveryId>,
    #[schemars(with = "EventId")]
    event_id: Option<EventId>,
    webhook_id: WebhookId,
    #[schemars(range(min = 1))]
    number: u32,
    retry_of: Option<AttemptId>,
    trigger: Trigger,
    url: &'a str,
    method: WebhookMethod,
    started_at: Time,
    finished_at: Time,
    success: bool,
    outcome: AttemptOutcome,
    #[schemars(range(min = 100, max = 999))]
    status_code: Option<u16>,
    error: Option<&'a str>,
    /// In milliseconds.
    response_time_ms: Option<u32>,
    next_attempt_at: Option<Time>,
    remote_addr: Option<&'a str>,
    /// Credentials are masked.
    #[schemars(with = "BTreeMap<String, String>")]
    request_headers: Map<String, Value>,
    /// Credentials are masked.
    #[schemars(with = "BTreeMap<String, String>")]
    response_headers: Map<String, Value>,
    /// As text, cut at 16 KiB.
    response_body: Option<&'a str>,
    /// When the body of the response was erased: with its event, or with its headers on request.
    response_erased_at: Option<Time>,
    /// In milliseconds; null for a phase that did not occur.
    timings_ms: Timings,
    /// Why it failed, in words. Null if it succeeded.
    reason: Option<Diagnosis>,
}

/// An attempt of a test request. It is not stored, so it has no ids.
#[derive(Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "TrialAttempt", transform = without_ids)]
pub struct TestAttemptView<'a>(#[schemars(schema_with = "AttemptView::json_schema")] AttemptView<'a>);

fn without_ids(schema: &mut Schema) {
    for name in ["id", "delivery_id", "event_id", "retry_of", "next_attempt_at", "response_erased_at"] {
        schema.ensure_object()["properties"][name] = json!({ "type": "null" });
    }
}

impl<'a> AttemptView<'a> {
    pub fn new(reader: DiagnosisReader, attempt: &'a Attempt) -> Self {
        let view = AttemptView::without_ids(reader, attempt.webhook_id, &attempt.made);
        AttemptView {
            id: Some(attempt.id),
            delivery_id: Some(attempt.delivery_id),
            event_id: Some(attempt.event_id),
            retry_of: attempt.retry_of,
            next_attempt_at: attempt.next_attempt_at,
            response_erased_at: attempt.response_erased_at,
            reason: view.reason.map(|reason| reason.of_attempt(attempt.id)),
            ..view
        }
    }

    /// The view of a test's attempt. The attempt is not stored, so it has no ids.
    pub fn unstored(reader: DiagnosisReader, webhook_id: WebhookId, made: &'a AttemptMade) -> TestAttemptView<'a> {
        TestAttemptView(AttemptView::without_ids(reader, webhook_id, made))
    }

    fn without_ids(reader: DiagnosisReader, webhook_id: WebhookId, made: &'a AttemptMade) -> Self {
        AttemptView {
            id: None,
            delivery_id: None,
            event_id: None,
            webhook_id,
            number: made.number,
            retry_of: None,
            trigger: made.trigger,
            url: &made.url,
            method: made.method,
            started_at: made.started_at,
            finished_at: made.finished_at,
            success: made.success,
            outcome: made.outcome,
            status_code: made.status_code,
            error: made.error.as_deref(),
            response_time_ms: made.response_time_ms,
            next_attempt_at: None,
            remote_addr: made.remote_addr.as_deref(),
            request_headers: headers(&made.request_headers),
            response_headers: headers(&made.response_headers),
            response_body: made.response_body.as_deref(),
            response_erased_at: None,
            timings_ms: made.timings,
            reason: Failure::of_attempt(made).map(|failure| diagnosis::for_reader(reader, &failure)),
        }
    }
}

/// Header lines as one object in their order. Repeated ones are joined as in RFC 9110 section 5.3.
pub fn headers(lines: &Headers) -> Map<String, Value> {
    let mut map = Map::new();
    for (name, value) in lines.iter() {
        match map.get_mut(name) {
            Some(Value::String(before)) => {
                before.push_str(", ");
                before.push_str(value);
            }
            _ => drop(map.insert(name.to_owned(), Value::String(value.to_owned()))),
        }
    }
    map
}

/// The parameters of lists of attempts.
pub const FILTERS: &[Param] = &[
    DELIVERY_STATUS,
    EVENT_TYPE,
    FROM_RECORDED,
    TO_RECORDED,
    STATUS_CODE,
    OUTCOME,
    SEARCH,
    LIMIT,
    cursor(CursorKind::Attempts),
];

fn listed(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    webhook: Option<WebhookId>,
    delivery: Option<DeliveryId>,
) -> Result<Step, ApiError> {
    let query = AttemptQuery {
        tenant: request.tenant(),
        webhook,
        delivery,
        event: None,
        success: None,
        status: request.query.delivery_status()?,
        event_type: request.query.event_type()?,
        status_code: request.query.status_code()?,
        outcome: request.query.outcome()?,
        search: request.query.search()?,
        window: request.query.window(CursorKind::Attempts)?,
    };
    let page = context.store.attempts(&query, context.now)?;
    Ok(Step::Reply(page::response(CursorKind::Attempts, &page, |row| AttemptView::new(request.reader(), row))))
}

/// `GET /v1/webhooks/{id}/attempts`.
pub fn of_webhook(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    listed(context, request, Some(webhook.id), None)
}

/// `GET /v1/deliveries/{id}/attempts`.
pub fn of_delivery(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let delivery = deliveries::in_path(context, request)?;
    listed(context, request, Some(delivery.webhook_id), Some(delivery.id))
}

/// `GET /v1/attempts/{id}`.
pub fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id: AttemptId = request.id("attempt")?;
    let found = context.store.attempt(request.tenant(), id, context.now)?;
    let attempt = found.ok_or_else(|| ApiError::not_found("attempt"))?;
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &AttemptView::new(request.reader(), &attempt))))
}

/// `DELETE /v1/attempts/{id}/response`.
fn erase_response(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id: AttemptId = request.id("attempt")?;
    if context.store.attempt(request.tenant(), id, context.now)?.is_none() {
        return Err(ApiError::not_found("attempt"));
    }
    let write_request = request.write(PartitionCommand::EraseResponse { id })?;
    Ok(Step::apply(write_request, |_| Ok(HttpResponse::empty(StatusCode::NO_CONTENT))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_headers_are_one_member() {
        let lines = [("b", "1"), ("a", "2"), ("b", "3")].into_iter().collect();
        assert_eq!(serde_json::to_string(&headers(&lines)).unwrap(), r#"{"b":"1, 3","a":"2"}"#);
    }
}
