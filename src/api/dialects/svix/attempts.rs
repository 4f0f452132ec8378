//! Attempts of a message or of an endpoint.

use bytes::Bytes;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::attempt::Trigger;
use crate::model::{Attempt, AttemptId, Event, Time, WebhookId};
use crate::store::{PAGE_BYTES_MAX, PartitionCommand, TwoWayPage, TwoWayWindow};

use super::errors::absent;
use super::ids::{self, Noun, is_name, message_text};
use super::list;
use super::messages::{MessageFilter, SvixMessage};
use super::query::{ENDPOINT_ID, SvixQuery, WITH_CONTENT, WITH_MSG};
use crate::api::dialects::derived::ok;

/// `status` of a successful attempt.
pub const SUCCESS: u8 = 0;
/// `status` of a failed attempt.
pub const FAIL: u8 = 2;

/// An attempt.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SvixAttempt<'a> {
    id: String,
    msg_id: String,
    endpoint_id: String,
    url: &'a str,
    timestamp: Time,
    /// The body of the answer, or the phrase of the error where there was none. `{}` without content.
    response: &'a str,
    /// 0 without an answer.
    #[schemars(with = "i64")]
    response_status_code: u16,
    #[schemars(with = "i64")]
    response_duration_ms: u32,
    /// 0 for success, 2 for fail.
    #[schemars(with = "i64")]
    status: u8,
    status_text: &'static str,
    /// 1 if a caller asked for it, otherwise 0.
    #[schemars(with = "i64")]
    trigger_type: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SvixMessage<'a>")]
    msg: Option<SvixMessage<'a>>,
}

/// The members of an attempt that a caller asks for.
#[derive(Debug, Clone, Copy)]
struct AttemptParts {
    with_content: bool,
    with_msg: bool,
}

impl AttemptParts {
    fn read(query: &SvixQuery) -> Result<AttemptParts, ApiError> {
        let with_content = query.flag(&WITH_CONTENT)?.unwrap_or(true);
        Ok(AttemptParts { with_content, with_msg: query.flag(&WITH_MSG)?.unwrap_or(false) })
    }

    fn has_data(self) -> bool {
        self.with_msg && self.with_content
    }
}

impl<'a> SvixAttempt<'a> {
    fn new(
        attempt: &'a Attempt,
        event: &'a Event,
        data: Option<&'a [u8]>,
        parts: AttemptParts,
    ) -> Result<Self, ApiError> {
        let made = &attempt.made;
        let message = || SvixMessage::new(event, data, parts.with_content);
        Ok(SvixAttempt {
            id: Noun::Attempt.write(attempt.id),
            msg_id: message_text(attempt.event_id),
            endpoint_id: Noun::Endpoint.write(attempt.webhook_id),
            url: &made.url,
            timestamp: made.started_at,
            response: if parts.with_content { answer_of(attempt) } else { "{}" },
            response_status_code: made.status_code.unwrap_or(0),
            response_duration_ms: made.timings.total,
            status: status_of(attempt),
            status_text: if made.success { "success" } else { "fail" },
            trigger_type: u8::from(matches!(made.trigger, Trigger::Manual | Trigger::Replay)),
            msg: parts.with_msg.then(message).transpose()?,
        })
    }
}

pub fn status_of(attempt: &Attempt) -> u8 {
    if attempt.made.success { SUCCESS } else { FAIL }
}

/// The body of the answer, or the error of an attempt without one.
fn answer_of(attempt: &Attempt) -> &str {
    if attempt.response_erased_at.is_some() {
        return "EXPUNGED";
    }
    match (&attempt.made.response_body, attempt.made.status_code) {
        (Some(body), _) => body,
        (None, Some(_)) => "",
        (None, None) => attempt.made.error.as_deref().unwrap_or_default(),
    }
}

/// The filters of a list of attempts.
struct AttemptConditions {
    status: Option<u8>,
    class: Option<u16>,
    message: MessageFilter,
    /// Only of this webhook.
    webhook: Option<WebhookId>,
}

impl AttemptConditions {
    fn read(query: &SvixQuery) -> Result<AttemptConditions, ApiError> {
        let (status, class) = (query.status()?, query.status_class()?);
        Ok(AttemptConditions { status, class, message: MessageFilter::read(query)?, webhook: None })
    }

    fn passes(&self, attempt: &Attempt, event: &Event) -> bool {
        self.status.is_none_or(|status| status == status_of(attempt))
            && self.class.is_none_or(|class| class == attempt.made.status_code.unwrap_or(0) / 100)
            && self.webhook.is_none_or(|webhook| webhook == attempt.webhook_id)
            && self.message.passes(event)
    }
}

type Found = (Attempt, Event, Option<Bytes>);

fn shown(window: TwoWayWindow, page: &TwoWayPage<Found>, parts: AttemptParts) -> Result<Step, ApiError> {
    list::window_page(
        Noun::Attempt,
        window,
        page,
        |(attempt, ..)| attempt.id.as_u128(),
        |(attempt, event, data)| SvixAttempt::new(attempt, event, data.as_deref(), parts),
    )
}

/// `GET /api/v1/app/{app_id}/attempt/endpoint/{endpoint_id}`.
pub fn of_endpoint(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (app, webhook) = ids::endpoint(context, request)?;
    let query = SvixQuery::read(request)?;
    let (window, parts) = (list::window(&query, Noun::Attempt)?, AttemptParts::read(&query)?);
    let conditions = AttemptConditions::read(&query)?;
    let wanted = |attempt: &Attempt, event: &Event| attempt.app_id == app.id && conditions.passes(attempt, event);
    let page = context.store.attempts_two_way(webhook.id, window, parts.has_data(), context.now, wanted)?;
    shown(window, &page, parts)
}

/// `GET /api/v1/app/{app_id}/attempt/msg/{msg_id}`.
pub fn of_message(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let query = SvixQuery::read(request)?;
    let (app, _) = ids::message(context, request)?;
    let named = query.text(&ENDPOINT_ID);
    let webhook = match named {
        None => None,
        Some(name) if is_name(name) => Some(ids::find_endpoint(context, app.id, name).ok_or_else(absent)?.id),
        Some(_) => return Err(super::errors::wrong_query(ENDPOINT_ID.name, "must be an id or uid")),
    };
    of_one(context, request, &query, webhook)
}

/// `GET /api/v1/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/attempt`, of old clients.
pub fn of_message_and_endpoint(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = ids::endpoint(context, request)?.1.id;
    of_one(context, request, &SvixQuery::read(request)?, Some(webhook))
}

/// The attempts of one message over all its deliveries.
fn of_one(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    query: &SvixQuery,
    webhook: Option<WebhookId>,
) -> Result<Step, ApiError> {
    let (_, event) = ids::message(context, request)?;
    let (window, parts) = (list::window(query, Noun::Attempt)?, AttemptParts::read(query)?);
    let conditions = AttemptConditions { webhook, ..AttemptConditions::read(query)? };
    let accepts = |attempt: &Attempt| conditions.passes(attempt, &event);
    let mut page = context.store.attempts_of_event(event.id, window, context.now, accepts)?;
    let data = if parts.has_data() { context.store.data(event.id, context.now)? } else { None };
    // Each row repeats the payload, so fewer rows of a large one fit into a page.
    let fitting = PAGE_BYTES_MAX / data.as_ref().map_or(0, Bytes::len).max(1);
    if page.rows.len() > fitting.max(1) {
        page.rows.truncate(fitting.max(1));
        (page.examined, page.is_end) = (None, false);
    }
    let rows = page.rows.into_iter().map(|attempt| (attempt, event.clone(), data.clone())).collect();
    shown(window, &TwoWayPage { rows, examined: page.examined, is_end: page.is_end }, parts)
}

/// `GET /api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}`.
pub fn get(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (app, event) = ids::message(context, request)?;
    let parts = AttemptParts::read(&SvixQuery::read(request)?)?;
    let id: AttemptId = ids::attempt_in_path(request)?.ok_or_else(absent)?;
    let attempt = context.store.attempt(ids::within(&app), id, context.now)?;
    let attempt = attempt.filter(|attempt| attempt.event_id == event.id).ok_or_else(absent)?;
    let data = if parts.has_data() { context.store.data(event.id, context.now)? } else { None };
    ok(&SvixAttempt::new(&attempt, &event, data.as_deref(), parts)?)
}

/// `DELETE /api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content`.
pub fn erase(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (app, event) = ids::message(context, request)?;
    let id: AttemptId = ids::attempt_in_path(request)?.ok_or_else(absent)?;
    let attempt = context.store.attempt(ids::within(&app), id, context.now)?;
    attempt.filter(|attempt| attempt.event_id == event.id).ok_or_else(absent)?;
    Ok(Step::apply(request.write(PartitionCommand::EraseResponse { id })?, |_| {
        Ok(HttpResponse::empty(StatusCode::NO_CONTENT))
    }))
}
