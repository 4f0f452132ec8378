//! Messages: the events of an app.

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::native::publish;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::event::EventAttributes;
use crate::model::{App, AppId, Event, Scope, Time};
use crate::rules::json;
use crate::rules::patterns::is_system;
use crate::store::{Applied, EventInput, PartitionCommand, Receipt, Rejection, WriteRequest};

use super::apps::{AppInput, read_uid};
use super::errors::absent;
use super::ids::{self, Noun, is_name, message_text};
use super::list;
use super::query::{CHANNEL_CHARS_MAX, EVENT_TYPE, SvixQuery, WITH_CONTENT};
use crate::api::dialects::derived::{self, ok};

/// Maximum number of channels of a message.
const CHANNELS_MAX: usize = 5;
/// Range of `payloadRetentionPeriod` in days.
const RETENTION_DAYS: std::ops::RangeInclusive<u64> = 5..=90;
/// Range of `payloadRetentionHours` in hours.
const RETENTION_HOURS: std::ops::RangeInclusive<u64> = 1..=2_160;

/// A message.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SvixMessage<'a> {
    id: String,
    event_id: Option<&'a str>,
    event_type: &'a str,
    /// Null for none.
    channels: Option<&'a [String]>,
    /// Byte for byte as received. `{}` without content, and `{"expired":true}` once erased.
    payload: Cow<'a, RawValue>,
    timestamp: Time,
    deliver_at: Option<Time>,
}

impl<'a> SvixMessage<'a> {
    /// `data` is `None` once erased. It is not looked at without content.
    pub fn new(event: &'a Event, data: Option<&'a [u8]>, with_content: bool) -> Result<Self, ApiError> {
        let attributes = &event.attributes;
        let fixed = |text: &'static str| serde_json::from_str::<&RawValue>(text).map_err(|_| super::unexpected());
        let payload = match with_content {
            false => fixed("{}")?,
            true => match derived::data(data)? {
                Some(payload) => payload,
                None => fixed(r#"{"expired":true}"#)?,
            },
        };
        Ok(SvixMessage {
            id: message_text(event.id),
            event_id: attributes.event_id.as_deref(),
            event_type: &attributes.event_type,
            channels: (!attributes.channels.is_empty()).then_some(attributes.channels.as_slice()),
            payload: Cow::Borrowed(payload),
            timestamp: event.received_at,
            deliver_at: attributes.deliver_at,
        })
    }
}

/// The filters of a list of messages, which other lists share.
pub struct MessageFilter {
    event_types: Vec<String>,
    channel: Option<String>,
}

impl MessageFilter {
    pub fn read(query: &SvixQuery) -> Result<MessageFilter, ApiError> {
        let event_types = query.event_types()?.into_iter().map(str::to_owned).collect();
        Ok(MessageFilter { event_types, channel: query.channel()?.map(str::to_owned) })
    }

    /// The filter of the poller, which names one type by `event_type`.
    pub fn read_one(query: &SvixQuery) -> Result<MessageFilter, ApiError> {
        let event_types = query.text(&EVENT_TYPE).into_iter().map(str::to_owned).collect();
        Ok(MessageFilter { event_types, channel: query.channel()?.map(str::to_owned) })
    }

    pub fn passes(&self, event: &Event) -> bool {
        let attributes = &event.attributes;
        (self.event_types.is_empty() || self.event_types.contains(&attributes.event_type))
            && self.channel.as_ref().is_none_or(|channel| attributes.channels.contains(channel))
    }
}

/// `GET /api/v1/app/{app_id}/msg`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = ids::app(context, request)?;
    let query = SvixQuery::read(request)?;
    let (window, filter) = (list::window(&query, Noun::Message)?, MessageFilter::read(&query)?);
    let with_content = query.flag(&WITH_CONTENT)?.unwrap_or(true);
    // The daemon's own events go to operational webhooks here, and are no messages of an application.
    let is_message = |event: &Event| !is_system(&event.attributes.event_type) && filter.passes(event);
    let page = context.store.events_two_way(app.id, window, with_content, context.now, is_message)?;
    list::window_page(
        Noun::Message,
        window,
        &page,
        |(event, _)| event.id.as_u128(),
        |(event, data)| SvixMessage::new(event, data.as_deref(), with_content),
    )
}

/// `GET /api/v1/app/{app_id}/msg/{msg_id}`.
pub fn get(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let (_, event) = ids::message(context, request)?;
    let with_content = SvixQuery::read(request)?.flag(&WITH_CONTENT)?.unwrap_or(true);
    let data = if with_content { context.store.data(event.id, context.now)? } else { None };
    ok(&SvixMessage::new(&event, data.as_deref(), with_content)?)
}

/// The members of a new message.
struct MessageInput {
    data: Bytes,
    attributes: EventAttributes,
    /// The application to be made if the path's is unknown.
    application: Option<AppInput>,
}

impl MessageInput {
    fn read(request: &RequestContext<'_>) -> Result<MessageInput, ApiError> {
        let mut object = request.object()?;
        let mut field_errors = FieldErrors::new();
        let event_type = object.required("eventType", &mut field_errors, publish::read_type);
        let before = field_errors.len();
        let channels = object.strings("channels", &mut field_errors, CHANNELS_MAX, read_channel);
        if channels.as_ref().is_some_and(Vec::is_empty) && field_errors.len() == before {
            field_errors.push(FieldError::new("/channels", "must have at least one item"));
        }
        let raw = raw_payload(&mut object, &mut field_errors);
        let member = if object.has("payload") { "payload" } else { "data" };
        let payload = match raw.is_some() && !object.has(member) {
            true => None,
            false => {
                object.required(if object.has(member) { member } else { "payload" }, &mut field_errors, read_payload)
            }
        };
        let whole = |days| move |raw: &RawValue| fields::whole(raw, days);
        object.optional("payloadRetentionPeriod", &mut field_errors, whole(RETENTION_DAYS));
        object.optional("payloadRetentionHours", &mut field_errors, whole(RETENTION_HOURS));
        let attributes = EventAttributes {
            event_type: event_type.unwrap_or_default(),
            event_id: object.optional("eventId", &mut field_errors, |raw| read_uid(raw, Noun::Message)),
            channels: channels.unwrap_or_default(),
            deliver_at: object.optional("deliverAt", &mut field_errors, fields::time),
            traceparent: publish::traceparent(&request.http.headers),
            ..EventAttributes::default()
        };
        let application = object.object("application", &mut field_errors);
        let application = application.map(|mut own| AppInput::read(&mut own, (None, false), &mut field_errors));
        fields::into_result(field_errors)?;
        let data = match (raw, payload) {
            (Some(raw), _) => Bytes::from(raw),
            (None, Some(payload)) => request.http.body.slice_ref(payload.get().as_bytes()),
            (None, None) => Bytes::new(),
        };
        Ok(MessageInput { data, attributes, application })
    }

    /// The command that publishes it in an app.
    fn command(&self, app: AppId) -> PartitionCommand {
        let (data, attributes) = (self.data.clone(), self.attributes.clone());
        let event = EventInput { app: Some(app), occurred_at: None, data, attributes, only: None };
        PartitionCommand::Publish(vec![event])
    }
}

fn read_payload(raw: &RawValue) -> FieldResult<&RawValue> {
    if raw.get().starts_with('{') { Ok(raw) } else { Err("must be an object".to_owned()) }
}

fn read_channel(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    match is_name(&text) && text.len() <= CHANNEL_CHARS_MAX {
        true => Ok(text),
        false => Err(format!("must be 1 to {CHANNEL_CHARS_MAX} of a-z, A-Z, 0-9, '_', '.', '-'")),
    }
}

/// `transformationsParams.rawPayload`: the body of the requests as text. It must be JSON here.
fn raw_payload(object: &mut JsonObject<'_>, field_errors: &mut FieldErrors) -> Option<String> {
    let mut params = object.object("transformationsParams", field_errors)?;
    params.optional("rawPayload", field_errors, |raw| {
        let text = fields::text(raw)?;
        match json::check(text.as_bytes(), json::JsonLimits::default()) {
            Ok(()) => Ok(text),
            Err(wrong) => Err(format!("must be JSON as text: {wrong}")),
        }
    })
}

/// `POST /api/v1/app/{app_id}/msg`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let found = match ids::app(context, request) {
        Ok(app) => Some(app),
        Err(api_error) if api_error == absent() => None,
        Err(api_error) => return Err(api_error),
    };
    let with_content = SvixQuery::read(request)?.flag(&WITH_CONTENT)?.unwrap_or(true);
    let input = match found {
        Some(_) => MessageInput::read(request)?,
        None => MessageInput::read(request).map_err(|api_error| named_application(request, api_error))?,
    };
    match (found, &input.application) {
        (Some(app), _) => publish_in(request, &app, input, with_content),
        (None, None) => Err(absent()),
        (None, Some(_)) => publish_in_new(request, input, with_content),
    }
}

/// Without a member `application` an unknown app is the first mistake.
fn named_application(request: &RequestContext<'_>, api_error: ApiError) -> ApiError {
    let names_one = request.object().is_ok_and(|object| object.has("application"));
    if names_one || api_error.status != StatusCode::UNPROCESSABLE_ENTITY { api_error } else { absent() }
}

fn publish_in(
    request: &RequestContext<'_>,
    app: &App,
    input: MessageInput,
    with_content: bool,
) -> Result<Step, ApiError> {
    Ok(publish(request.write(input.command(app.id))?, input.data, with_content))
}

/// Publishes the message. The store's mistakes are in a batch of events, and become those of this body.
fn publish(write_request: WriteRequest, data: Bytes, with_content: bool) -> Step {
    let then = move |result: Result<Applied, Rejection>| {
        let applied = result.map_err(|rejection| match rejection {
            Rejection::Invalid { pointer, .. } if pointer.ends_with("/app_id") => absent(),
            Rejection::Invalid { pointer, detail } if pointer.ends_with("/deliver_at") => {
                ApiError::invalid(vec![FieldError::new("/deliverAt", detail)])
            }
            other => other.into(),
        })?;
        published(StatusCode::ACCEPTED, applied, &data, with_content).map(Step::Reply)
    };
    Step::Apply { write_request: Box::new(write_request), then: Box::new(then) }
}

/// Makes the application of the body first, whose `uid` the path names.
fn publish_in_new(request: &RequestContext<'_>, mut input: MessageInput, with_content: bool) -> Result<Step, ApiError> {
    request.principal.need(Scope::AppsWrite)?;
    let application = input.application.take().unwrap_or_default();
    if application.uid() != Some(request.path.get("app_id")) {
        let detail = "must be there, and be the one in the path";
        return Err(ApiError::invalid(vec![FieldError::new("/application/uid", detail)]));
    }
    let mut write_request = request.write(application.ensure())?;
    let idempotency = write_request.idempotency.take();
    let caller = write_request.caller.clone();
    let then = move |applied: Result<Applied, _>| {
        let Receipt::EnsuredApp { app, .. } = applied?.receipt else { return Err(super::unexpected()) };
        let command = input.command(app.id).into();
        Ok(publish(WriteRequest { caller, idempotency, command }, input.data, with_content))
    };
    Ok(Step::Apply { write_request: Box::new(write_request), then: Box::new(then) })
}

/// The answer with a published message. 409 if its event id was there already.
pub fn published(
    status: StatusCode,
    applied: Applied,
    data: &Bytes,
    with_content: bool,
) -> Result<HttpResponse, ApiError> {
    let Receipt::Published(list) = applied.receipt else { return Err(super::unexpected()) };
    let one = list.first().ok_or_else(super::unexpected)?;
    if one.duplicate {
        return Err(ApiError::conflict("event_id_conflict", "a message with this eventId exists already"));
    }
    Ok(HttpResponse::json(status, &SvixMessage::new(&one.event, Some(data), with_content)?))
}

/// `DELETE /api/v1/app/{app_id}/msg/{msg_id}/content`.
pub fn erase(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id = ids::message(context, request)?.1.id;
    Ok(Step::apply(request.write(PartitionCommand::EraseEvent { id })?, |_| {
        Ok(HttpResponse::empty(StatusCode::NO_CONTENT))
    }))
}
