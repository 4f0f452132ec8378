//! `GET /v1/attempts`: attempts to all webhooks in commit order, for clients that follow them.
//!
//! Reading removes nothing. The cursor holds the caller's position, and never skips a late commit.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::cursor::{self, CursorKind};
use crate::api::doc::{doc, ok};
use crate::api::error::ApiError;
use crate::api::params::{EVENT_TYPE, FROM_RECORDED, LIMIT, OUTCOME, Param, ParamValues, SEARCH, STATUS_CODE};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::Route;
use crate::api::route::RouteAccess::Scope as Needs;
use crate::api::step::Step;
use crate::model::feed_topic::FeedTopic;
use crate::model::time::SECOND_MS;
use crate::model::{Id, Scope, Time};
use crate::store::{AttemptQuery, ListWindow};

use super::attempts::AttemptView;
use super::deliveries::WEBHOOK_ID;
use super::feed::WAIT_S;
use super::routes::get;
use super::stats::narrowed;
use super::webhooks::APP_ID;

pub const ATTEMPTS: Route = get(
    "/v1/attempts",
    Needs(Scope::EventsRead, list),
    doc(
        "followAttempts",
        "deliveries",
        "Follow attempts to all webhooks in commit order, waiting for new ones",
        &[ok::<AttemptStreamView>("Consumes nothing: go on from `next_cursor`.")],
    ),
)
.with_query(FILTERS)
.waits_for_attempts();

const AFTER: Param = Param::new(
    "after",
    ParamValues::Cursor(CursorKind::AttemptStream),
    "Only what was recorded after this `next_cursor`. Without it and `from` the newest attempts are given.",
);
const SUCCESS: Param = Param::new("success", ParamValues::Boolean, "Only attempts that succeeded, or only others.");

const FILTERS: &[Param] =
    &[AFTER, WAIT_S, WEBHOOK_ID, APP_ID, SUCCESS, OUTCOME, STATUS_CODE, EVENT_TYPE, FROM_RECORDED, SEARCH, LIMIT];

/// Attempts in the order in which they were recorded.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AttemptStream")]
pub struct AttemptStreamView<'a> {
    /// Oldest first. A page of a filtered stream may have no rows, and its cursor still goes on.
    data: Vec<AttemptView<'a>>,
    next_cursor: String,
    /// If a filtered page of the newest attempts ended before it was full: attempts before this time were not examined.
    examined_from: Option<Time>,
}

/// Answers at once if there are attempts, or more to examine, or no wait was requested. Otherwise the handler runs again
/// after `Step::Wait`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let params = &request.query;
    let webhook = params.id(&WEBHOOK_ID)?;
    if webhook.is_some_and(|id| context.registry.webhook(request.tenant(), id).is_none()) {
        return Err(ApiError::not_found("webhook"));
    }
    let query = AttemptQuery {
        tenant: narrowed(context, request)?,
        webhook,
        delivery: None,
        event: None,
        success: params.boolean(&SUCCESS)?,
        status: None,
        event_type: params.event_type()?,
        status_code: params.status_code()?,
        outcome: params.outcome()?,
        search: params.search()?,
        window: ListWindow { from: params.time(&FROM_RECORDED)?, ..ListWindow::newest(params.limit()?) },
    };
    let after = params.position(&AFTER, CursorKind::AttemptStream)?;
    let after = context.reached.or(after).map(Id::from_u128);
    let until = context.since.plus_ms(i64::from(params.number_or_default(&WAIT_S)?) * SECOND_MS);
    // Only attempts with a body of this form have ids from before their requests.
    let has_late_ids = |id| context.registry.webhook_by_id(id).is_none_or(|hook| hook.field_set.has_attempt_id());
    let newest = context.store.newest_attempt();
    let last = context.health_source.pass_attempts(newest, webhook.is_none_or(has_late_ids));
    let page = context.store.attempts_after(&query, after, last, context.now)?;
    // The newest attempts are an answer, also if there are none.
    let may_wait = after.is_some() || query.window.from.is_some();
    if page.rows.is_empty() && page.is_end && may_wait && context.now < until {
        return Ok(Step::Wait { topic: FeedTopic::Attempts, until, reached: Some(page.reached.as_u128()) });
    }
    let view = AttemptStreamView {
        data: page.rows.iter().map(|row| AttemptView::new(request.reader(), row)).collect(),
        next_cursor: cursor::write(CursorKind::AttemptStream, page.reached.as_u128()),
        examined_from: page.looked_back_to,
    };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view)))
}
