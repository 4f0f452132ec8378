//! `GET /v1/event-types`: the types of the events that were received within the retention.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::params::{LIMIT, Param, ParamValues};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::Time;
use crate::rules::patterns;
use crate::store::EventTypeCount;

use super::webhooks::APP_ID;

const CURSOR: Param = Param::new("cursor", ParamValues::EventType, "The `next_cursor` of the page before.");
pub const FILTERS: &[Param] = &[APP_ID, LIMIT, CURSOR];

/// A type of events that were received.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EventTypeRow")]
struct EventTypeView<'a> {
    r#type: &'a str,
    /// Events of the last 24 hours.
    last_24h_events: u64,
    /// The minute of the latest event.
    last_seen: Time,
}

/// Event types by name.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EventTypeList")]
pub struct EventTypeListView<'a> {
    data: Vec<EventTypeView<'a>>,
    next_cursor: Option<String>,
    /// In a store of an earlier version: types that were seen only before this time are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    indexed_from: Option<Time>,
}

impl<'a> EventTypeView<'a> {
    fn new(row: &'a EventTypeCount) -> Self {
        EventTypeView { r#type: &row.event_type, last_24h_events: row.last_24h, last_seen: row.last_seen }
    }
}

/// `GET /v1/event-types`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let mut tenant = request.tenant();
    if let Some(name) = request.query.text(&APP_ID) {
        let app = context.registry.app_named(tenant, name).ok_or_else(|| ApiError::not_found("app"))?;
        tenant.app = Some(app.id);
    }
    let after = request.query.text(&CURSOR);
    if after.is_some_and(|after| !patterns::is_type(after)) {
        return Err(crate::api::params::wrong(CURSOR.name, "is not the cursor of this list"));
    }
    let page = context.store.event_types(tenant, after, request.query.limit()?, context.now)?;
    let view = EventTypeListView {
        data: page.rows.iter().map(EventTypeView::new).collect(),
        next_cursor: page.next.clone(),
        indexed_from: page.indexed_from,
    };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view)))
}
