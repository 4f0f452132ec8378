//! Operational webhooks: endpoints that receive events about the endpoints and messages of all apps
//! (docs.svix.com/incoming-webhooks).
//!
//! They are webhooks of the organization's operational app, an app of its own. So a token of any other app reads nothing of
//! them.

use http::StatusCode;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::fields::JsonObject;
use crate::api::request_context::RequestContext;
use crate::api::step::Step;
use crate::store::{Applied, Command, Receipt, StateCommand, WriteRequest};

use super::endpoints::EndpointKind;
use super::iterator::item_page;
use super::query::SvixQuery;
use super::{endpoints, ids, list};

/// The event types of operational webhooks.
pub const EVENT_TYPES: [&str; 7] = [
    "endpoint.created",
    "endpoint.deleted",
    "endpoint.disabled",
    "endpoint.updated",
    "message.attempt.exhausted",
    "message.attempt.failing",
    "message.attempt.recovered",
];

/// `GET /api/v1/operational-webhook/endpoint`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if ids::operational_app(context, request).is_some() {
        return endpoints::list(context, request);
    }
    let query = SvixQuery::read(request)?;
    query.is_ascending(false)?;
    let travel = query.travel(ids::Noun::Endpoint)?;
    let none = item_page(std::iter::empty::<u128>(), travel.as_ref(), query.limit()?, u128::cmp);
    list::shown(&none, |_| String::new(), |_| Ok(()))
}

/// `POST /api/v1/operational-webhook/endpoint`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = ids::operational_app(context, request);
    endpoints::make(context, request, app.as_deref(), true)
}

/// `PUT /api/v1/operational-webhook/endpoint/{endpoint_id}`: makes an unknown one.
pub fn replace(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    match ids::operational_app(context, request) {
        Some(_) => endpoints::replace(context, request),
        None => {
            ids::name_in_path(request, "endpoint_id")?;
            endpoints::make(context, request, None, false)
        }
    }
}

/// Makes the operational app before its first webhook.
pub fn make_app_first(write_request: WriteRequest) -> Result<Step, ApiError> {
    let WriteRequest { caller, idempotency, command } = write_request;
    let command_of = move |applied: Applied| match (applied.receipt, command) {
        (Receipt::EnsuredApp { app, .. }, Command::State(StateCommand::CreateWebhook { mut webhook, of_app_max })) => {
            webhook.app_id = app.id;
            Ok(StateCommand::CreateWebhook { webhook, of_app_max })
        }
        _ => Err(super::unexpected()),
    };
    let first =
        WriteRequest { caller: caller.clone(), idempotency: None, command: StateCommand::EnsureOperationalApp.into() };
    let then = Box::new(move |applied: Result<Applied, _>| {
        let second = WriteRequest { caller, idempotency, command: command_of(applied?)?.into() };
        Ok(Step::apply(second, |applied| EndpointKind::Operational.received(StatusCode::CREATED, applied)))
    });
    Ok(Step::Apply { write_request: Box::new(first), then })
}

/// Drops the channels of an operational webhook, which has none.
pub fn without_channels(request: &RequestContext<'_>, object: &mut JsonObject<'_>) {
    if ids::is_operational(request) {
        object.take_any("channels");
    }
}
