//! Endpoints: the webhooks of an app.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors};
use crate::api::native::{webhook_form, webhooks};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::webhook::WebhookStatus;
use crate::model::{App, AppId, Time, Webhook};
use crate::rules::signing;
use crate::store::{Applied, Receipt, StateCommand, first_secret};

use super::apps::shown_rate;
use super::endpoint_form::{self, EndpointInput};
use super::errors::absent;
use super::ids::{self, Noun};
use super::iterator::item_page;
use super::query::SvixQuery;
use super::{event_types, headers, list, operational};

/// An endpoint.
#[derive(Serialize, JsonSchema)]
pub struct SvixEndpoint<'a> {
    #[serde(flatten)]
    shared: SvixOperationalEndpoint<'a>,
    /// Null for all.
    channels: Option<&'a [String]>,
    #[schemars(with = "i64")]
    version: u16,
}

/// An operational webhook, which has no channels and no version.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SvixOperationalEndpoint<'a> {
    id: String,
    uid: Option<&'a str>,
    url: &'a str,
    description: &'a str,
    disabled: bool,
    /// Null for all.
    event_types: Option<&'a [String]>,
    /// The same, for older clients.
    filter_types: Option<&'a [String]>,
    throttle_rate: Option<u64>,
    /// The same, for older clients.
    rate_limit: Option<u64>,
    metadata: &'a BTreeMap<String, String>,
    created_at: Time,
    updated_at: Time,
}

impl<'a> SvixEndpoint<'a> {
    pub fn new(webhook: &'a Webhook) -> Self {
        let shared = SvixOperationalEndpoint::new(webhook);
        SvixEndpoint { shared, channels: some(&webhook.channels), version: 1 }
    }
}

impl<'a> SvixOperationalEndpoint<'a> {
    fn new(webhook: &'a Webhook) -> Self {
        let types = some(&webhook.event_types);
        let rate = webhook.rate_limit_per_s.map(shown_rate);
        SvixOperationalEndpoint {
            id: Noun::Endpoint.write(webhook.id),
            uid: webhook.uid.as_deref(),
            url: &webhook.url,
            description: webhook.description.as_deref().unwrap_or_default(),
            disabled: webhook.status == WebhookStatus::Disabled,
            event_types: types,
            filter_types: types,
            throttle_rate: rate,
            rate_limit: rate,
            metadata: &webhook.metadata,
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
        }
    }
}

fn some(list: &[String]) -> Option<&[String]> {
    (!list.is_empty()).then_some(list)
}

pub fn received(applied: Applied) -> Result<Arc<Webhook>, ApiError> {
    match applied.receipt {
        Receipt::Webhook(webhook) => Ok(webhook),
        _ => Err(super::unexpected()),
    }
}

/// The kind of endpoint that a route is of, which decides the members that are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointKind {
    OfApp,
    Operational,
}

impl EndpointKind {
    fn of(request: &RequestContext<'_>) -> EndpointKind {
        if ids::is_operational(request) { EndpointKind::Operational } else { EndpointKind::OfApp }
    }

    fn shown(self, status: StatusCode, webhook: &Webhook) -> HttpResponse {
        match self {
            EndpointKind::OfApp => HttpResponse::json(status, &SvixEndpoint::new(webhook)),
            EndpointKind::Operational => HttpResponse::json(status, &SvixOperationalEndpoint::new(webhook)),
        }
    }

    /// The answer with the webhook that a command left.
    pub fn received(self, status: StatusCode, applied: Applied) -> Result<HttpResponse, ApiError> {
        Ok(self.shown(status, &*received(applied)?))
    }
}

/// `GET /api/v1/app/{app_id}/endpoint`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = ids::app(context, request)?;
    let query = SvixQuery::read(request)?;
    let (limit, is_ascending, travel) = (query.limit()?, query.is_ascending(false)?, query.travel(Noun::Endpoint)?);
    let all: Vec<&Arc<Webhook>> = context.registry.webhooks_of(app.id).collect();
    let page = match is_ascending {
        true => item_page(all.into_iter(), travel.as_ref(), limit, |webhook, place| webhook.id.as_u128().cmp(place)),
        false => {
            item_page(all.into_iter().rev(), travel.as_ref(), limit, |webhook, place| place.cmp(&webhook.id.as_u128()))
        }
    };
    let id = |webhook: &&Arc<Webhook>| Noun::Endpoint.write(webhook.id);
    match EndpointKind::of(request) {
        EndpointKind::OfApp => list::shown(&page, id, |webhook| Ok(SvixEndpoint::new(webhook))),
        EndpointKind::Operational => list::shown(&page, id, |webhook| Ok(SvixOperationalEndpoint::new(webhook))),
    }
}

/// `GET /api/v1/app/{app_id}/endpoint/{endpoint_id}`.
pub fn get(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = ids::endpoint(context, request)?.1;
    Ok(Step::Reply(EndpointKind::of(request).shown(StatusCode::OK, &webhook)))
}

/// `POST /api/v1/app/{app_id}/endpoint`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = ids::app(context, request)?;
    make(context, request, Some(&app), true)
}

/// Makes an endpoint. A body of PUT has no secret and no headers. Without an app it is an operational webhook, whose app is
/// made first.
pub fn make(
    context: &mut ApiContext<'_>,
    request: &RequestContext<'_>,
    app: Option<&App>,
    is_post: bool,
) -> Result<Step, ApiError> {
    let mut object = request.object()?;
    operational::without_channels(request, &mut object);
    let mut field_errors = FieldErrors::new();
    let input = EndpointInput::read(&mut object, (None, false), &context.settings.policy, &mut field_errors);
    event_types::check(context, request, input.named_types(), &[], &mut field_errors);
    let mut webhook = Webhook::new(request.tenant().org, app.map_or(AppId::MIN, |app| app.id));
    endpoint_form::preset(&mut webhook);
    let mut secret = None;
    if is_post {
        secret = object.optional("secret", &mut field_errors, super::secrets::read);
        let given = object.object("headers", &mut field_errors);
        webhook.headers = given.map(|map| headers::read(map, &mut field_errors)).unwrap_or_default();
    }
    fields::into_result(field_errors)?;
    input.apply(&mut webhook, false);
    webhook_form::finish(&mut webhook, &mut Vec::new());
    webhooks::check_bypass(None, &webhook, request)?;
    let secret = secret.unwrap_or_else(|| signing::make_secret(|| context.draw()));
    webhook.secrets = first_secret(secret, context.now);
    let command = StateCommand::CreateWebhook { webhook: Box::new(webhook), of_app_max: None };
    let write_request = request.write_secret(command, None)?;
    match app {
        Some(_) => {
            let kind = EndpointKind::of(request);
            Ok(Step::apply(write_request, move |applied| kind.received(StatusCode::CREATED, applied)))
        }
        None => operational::make_app_first(write_request),
    }
}

/// `PUT /api/v1/app/{app_id}/endpoint/{endpoint_id}`: makes an unknown one. Secret and headers stay.
pub fn replace(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = ids::app(context, request)?;
    match ids::endpoint(context, request) {
        Ok((_, webhook)) => change(context, request, &webhook, false),
        Err(api_error) if api_error == absent() => make(context, request, Some(&app), false),
        Err(api_error) => Err(api_error),
    }
}

/// `PATCH /api/v1/app/{app_id}/endpoint/{endpoint_id}`.
pub fn patch(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = ids::endpoint(context, request)?.1;
    change(context, request, &webhook, true)
}

fn change(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    old: &Webhook,
    is_patch: bool,
) -> Result<Step, ApiError> {
    let mut object = request.object()?;
    operational::without_channels(request, &mut object);
    let mut field_errors = FieldErrors::new();
    let input = EndpointInput::read(&mut object, (Some(old), is_patch), &context.settings.policy, &mut field_errors);
    if is_patch && object.take("secret").is_some() {
        field_errors.push(FieldError::new("/secret", "is changed by POST …/secret/rotate, with key"));
    }
    event_types::check(context, request, input.named_types(), &old.event_types, &mut field_errors);
    fields::into_result(field_errors)?;
    let mut webhook = old.clone();
    input.apply(&mut webhook, is_patch);
    webhooks::check_bypass(Some(old), &webhook, request)?;
    let kind = EndpointKind::of(request);
    if webhook == *old {
        return Ok(Step::Reply(kind.shown(StatusCode::OK, old)));
    }
    let write_request = request.write(StateCommand::UpdateWebhook { webhook: Box::new(webhook) })?;
    Ok(Step::apply(write_request, move |applied| kind.received(StatusCode::OK, applied)))
}

/// `DELETE /api/v1/app/{app_id}/endpoint/{endpoint_id}`.
pub fn remove(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id = ids::endpoint(context, request)?.1.id;
    Ok(Step::apply(request.write(StateCommand::RemoveWebhook { id })?, |_| {
        Ok(HttpResponse::empty(StatusCode::NO_CONTENT))
    }))
}
