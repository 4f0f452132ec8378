//! Publishing (docs/api.md): from the bytes of a request to `EventInput`s, and from the receipt to the answer.
//!
//! Invariant: `data` is a slice of the received body and is never rewritten. On this hot path one scan of the
//! body checks it and finds its members, and only stored values are allocated.
//!
//! Checks that depend on the time (`deliver_at`, `expires_at`) or on the webhooks happen while the command is applied,
//! after the lookup of a stored answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::limits::{
    BATCH_EVENTS_MAX, CHANNEL_CHARS_MAX, CHANNELS_MAX, EVENT_ID_CHARS_MAX, METADATA_ENTRIES_MAX,
    METADATA_NAME_CHARS_MAX, METADATA_VALUE_CHARS_MAX, ORDERING_KEY_CHARS_MAX, SUBJECT_CHARS_MAX,
};
use crate::api::request_context::{RequestContext, strict_object};
use crate::api::response::HttpResponse;
use crate::api::step::{Step, Then};
use crate::model::event::EventAttributes;
use crate::model::{AppId, Event, EventId, Time};
use crate::rules::patterns;
use crate::store::{Applied, EventInput, PartitionCommand, Published, Receipt, Registry, Rejection, TenantScope};

use super::cloudevents;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The scope in which the app of a request is looked up.
pub struct AppLookup<'a> {
    pub registry: &'a Registry,
    pub tenant: TenantScope,
}

/// `POST /v1/events`.
pub fn one(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let place = AppLookup { registry: &context.registry, tenant: request.tenant() };
    let traceparent = traceparent(&request.http.headers);
    let (event, id_name) = match cloudevents::mode(&request.http.headers)? {
        cloudevents::CloudEventsMode::Native => (read_one(&request.http.body, &place, traceparent)?, "event_id"),
        cloudevents::CloudEventsMode::Batched => {
            let events = cloudevents::read_batch(&request.http.body, traceparent)?;
            let publish = Step::apply(request.write(PartitionCommand::Publish(events))?, show_many);
            return Ok(pointing(publish, "/events", "id"));
        }
        mode => (cloudevents::read_one(mode, request.http, traceparent)?, "id"),
    };
    let publish = Step::apply(request.write(PartitionCommand::Publish(vec![event]))?, show_one);
    Ok(pointing(publish, "/events/0", id_name))
}

/// The store's pointers lead into a native batch. For any other body, `prefix` is removed from them, and `id_name` is the
/// member that has the event's id.
fn pointing(step: Step, prefix: &'static str, id_name: &'static str) -> Step {
    let Step::Apply { write_request, then } = step else { return step };
    let within = move |pointer: String| {
        let inner = pointer.strip_prefix(prefix).unwrap_or(&pointer);
        inner.strip_suffix("/event_id").map_or(inner.to_owned(), |item| format!("{item}/{id_name}"))
    };
    let then: Then<_> = Box::new(move |result: Result<Applied, Rejection>| {
        then(result.map_err(|refusal| match refusal {
            Rejection::Invalid { pointer, detail } => Rejection::Invalid { pointer: within(pointer), detail },
            Rejection::Conflict { code, detail, pointer } => {
                Rejection::Conflict { code, detail, pointer: pointer.map(within) }
            }
            other => other,
        }))
    });
    Step::Apply { write_request, then }
}

/// `POST /v1/events/batch`.
pub fn batch(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let place = AppLookup { registry: &context.registry, tenant: request.tenant() };
    let bytes_max = context.settings.max_event_bytes;
    let events = read_batch(&request.http.body, &place, traceparent(&request.http.headers), bytes_max)?;
    Ok(Step::apply(request.write(PartitionCommand::Publish(events))?, show_many))
}

/// Reads one event from a body in the native form.
pub fn read_one(body: &Bytes, place: &AppLookup<'_>, traceparent: Option<String>) -> Result<EventInput, ApiError> {
    let mut field_errors = FieldErrors::new();
    let event = read_event(strict_object(body)?, body, place, &mut field_errors, traceparent)?;
    fields::into_result(field_errors)?;
    Ok(event)
}

fn read_batch(
    body: &Bytes,
    place: &AppLookup<'_>,
    traceparent: Option<String>,
    event_bytes_max: usize,
) -> Result<Vec<EventInput>, ApiError> {
    let mut field_errors = FieldErrors::new();
    let mut object = strict_object(body)?;
    let items =
        object.required("events", &mut field_errors, |raw| fields::elements(raw, BATCH_EVENTS_MAX)).unwrap_or_default();
    if items.is_empty() && field_errors.is_empty() {
        field_errors.push(FieldError::new("/events", "must have at least one item"));
    }
    object.finish(&mut field_errors);
    let mut events = Vec::with_capacity(items.len());
    for (number, raw) in items.into_iter().enumerate() {
        let at = format!("/events/{number}");
        if raw.get().len() > event_bytes_max {
            field_errors.push(FieldError::new(at, format!("is over {event_bytes_max} bytes")));
            continue;
        }
        match JsonObject::walked(raw.get(), at) {
            Ok(object) => events.push(read_event(object, body, place, &mut field_errors, traceparent.clone())?),
            Err(field_error) => field_errors.push(field_error),
        }
    }
    fields::into_result(field_errors)?;
    Ok(events)
}

/// Reads one event from its object. If a mistake was found, the event has no meaning. The error is an unknown app
/// (404).
fn read_event(
    mut object: JsonObject<'_>,
    body: &Bytes,
    place: &AppLookup<'_>,
    field_errors: &mut FieldErrors,
    traceparent: Option<String>,
) -> Result<EventInput, ApiError> {
    let event_type = object.required("type", field_errors, read_type);
    let data = object.take_text("data");
    if data.is_none() {
        field_errors.push(FieldError::new(object.at("data"), "is required"));
    }
    let data = data.map(|raw| body.slice_ref(raw.as_bytes())).unwrap_or_default();
    let app = app(&mut object, place, field_errors)?;
    let event_id = object.optional("event_id", field_errors, |raw| fields::line(raw, 1..=EVENT_ID_CHARS_MAX));
    let occurred_at = object.optional("occurred_at", field_errors, fields::time);
    let attributes = EventAttributes {
        event_type: event_type.unwrap_or_default(),
        event_id,
        subject: object.optional("subject", field_errors, |raw| fields::line(raw, 1..=SUBJECT_CHARS_MAX)),
        channels: object.strings("channels", field_errors, CHANNELS_MAX, read_channel).unwrap_or_default(),
        ordering_key: object
            .optional("ordering_key", field_errors, |raw| fields::line(raw, 1..=ORDERING_KEY_CHARS_MAX)),
        deliver_at: object.optional("deliver_at", field_errors, fields::time),
        expires_at: object.optional("expires_at", field_errors, fields::time),
        metadata: metadata(&mut object, field_errors),
        traceparent,
    };
    if let (Some(start), Some(end)) = (attributes.deliver_at, attributes.expires_at)
        && end < start
    {
        field_errors.push(FieldError::new(object.at("expires_at"), "must not lie before deliver_at"));
    }
    object.finish(field_errors);
    Ok(EventInput { app, occurred_at, only: None, data, attributes })
}

/// An event type that a producer may use. `postrider.*` is reserved for the daemon.
pub fn read_type(raw: &RawValue) -> FieldResult<String> {
    check_type(fields::text(raw)?)
}

pub(super) fn check_type(text: String) -> FieldResult<String> {
    if !patterns::is_type(&text) {
        return Err("must be 1 to 256 of a-z, A-Z, 0-9, '_', '.', '-'".to_owned());
    }
    if patterns::is_system(&text) {
        return Err("must not begin with postrider.: those are made by Postrider itself".to_owned());
    }
    Ok(text)
}

pub(super) fn read_channel(raw: &RawValue) -> FieldResult<String> {
    fields::line(raw, 1..=CHANNEL_CHARS_MAX)
}

/// The app that `app_id` names, by id or `uid`. 404 if there is none in scope.
pub(super) fn app(
    object: &mut JsonObject<'_>,
    place: &AppLookup<'_>,
    field_errors: &mut FieldErrors,
) -> Result<Option<AppId>, ApiError> {
    let Some(name) = object.optional("app_id", field_errors, fields::text) else {
        return Ok(None);
    };
    match place.registry.app_named(place.tenant, &name) {
        Some(app) => Ok(Some(app.id)),
        None => Err(ApiError {
            errors: vec![FieldError::new(object.at("app_id"), "not found")],
            ..ApiError::not_found("app")
        }),
    }
}

fn metadata(object: &mut JsonObject<'_>, field_errors: &mut FieldErrors) -> BTreeMap<String, String> {
    let Some(map) = object.object("metadata", field_errors) else {
        return BTreeMap::new();
    };
    let at = object.at("metadata");
    let mut entries = BTreeMap::new();
    let rest = map.rest();
    if rest.len() > METADATA_ENTRIES_MAX {
        field_errors.push(FieldError::new(at, format!("must have at most {METADATA_ENTRIES_MAX} entries")));
        return entries;
    }
    for (name, raw) in rest {
        let here = || format!("{at}/{}", crate::rules::json::escape_token(&name));
        if !(1..=METADATA_NAME_CHARS_MAX).contains(&name.chars().count()) {
            field_errors.push(FieldError::new(
                here(),
                format!("must have a name of 1 to {METADATA_NAME_CHARS_MAX} characters"),
            ));
        }
        match fields::line(raw, 0..=METADATA_VALUE_CHARS_MAX) {
            Ok(value) => drop(entries.insert(name.into_owned(), value)),
            Err(detail) => field_errors.push(FieldError::new(here(), detail)),
        }
    }
    entries
}

/// The `traceparent` header if it is valid (W3C Trace Context section 3.2). An invalid one is ignored, as that section
/// asks.
pub fn traceparent(headers: &HeaderMap) -> Option<String> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let (first, second) = (given.next()?, given.next());
    if second.is_some() {
        return None;
    }
    first.to_str().ok().filter(|text| is_traceparent(text)).map(str::to_owned)
}

/// `00-<32 hex>-<16 hex>-<2 hex>` in lower case. Neither id may be all zeros. Version `ff` is forbidden, and later
/// versions may be longer.
pub(super) fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, chars: usize| {
        part.len() == chars && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let set = |part: &str| part.bytes().any(|b| b != b'0');
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    match parts.as_slice() {
        [version, trace, parent, flags, rest @ ..] => {
            let shape = hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
            shape
                && *version != "ff"
                && set(trace)
                && set(parent)
                && (rest.is_empty() || *version != "00")
                && text.len() <= 128
        }
        _ => false,
    }
}

/// A published event.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Published")]
pub struct PublishView<'a> {
    id: EventId,
    r#type: &'a str,
    event_id: Option<&'a str>,
    app_id: AppId,
    occurred_at: Time,
    received_at: Time,
    subject: Option<&'a str>,
    /// Number of webhooks that it goes to.
    deliveries: u32,
    /// Whether the event existed already, so that nothing new is sent.
    duplicate: bool,
}

impl<'a> PublishView<'a> {
    pub fn new(event: &'a Event, duplicate: bool) -> Self {
        PublishView {
            id: event.id,
            r#type: &event.attributes.event_type,
            event_id: event.attributes.event_id.as_deref(),
            app_id: event.app_id,
            occurred_at: event.occurred_at,
            received_at: event.received_at,
            subject: event.attributes.subject.as_deref(),
            deliveries: event.deliveries,
            duplicate,
        }
    }
}

/// Published events, in the order of the request.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PublishedMany")]
pub struct BatchView<'a> {
    data: Vec<PublishView<'a>>,
}

/// One published event, or many of a batch of CloudEvents.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "PublishedAny")]
pub enum PublishedAny<'a> {
    One(PublishView<'a>),
    Many(BatchView<'a>),
}

fn published(applied: Applied) -> Result<Vec<Published>, ApiError> {
    match applied.receipt {
        Receipt::Published(list) => Ok(list),
        _ => Err(super::unexpected()),
    }
}

fn shown(published: &Published) -> PublishView<'_> {
    PublishView::new(&published.event, published.duplicate)
}

fn show_one(applied: Applied) -> Result<HttpResponse, ApiError> {
    let list = published(applied)?;
    let only = list.first().ok_or_else(super::unexpected)?;
    Ok(HttpResponse::json(StatusCode::ACCEPTED, &shown(only)))
}

fn show_many(applied: Applied) -> Result<HttpResponse, ApiError> {
    let list = published(applied)?;
    Ok(HttpResponse::json(StatusCode::ACCEPTED, &BatchView { data: list.iter().map(shown).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{App, Id, OrganizationId};

    const ORG: OrganizationId = Id::from_u128(1);
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn registry() -> Registry {
        let mut registry = Registry::default();
        for (id, org, uid) in [(2, ORG, Some("acme")), (3, Id::from_u128(9), Some("foreign"))] {
            registry.put_app(App {
                id: Id::from_u128(id),
                org_id: org,
                name: "app".to_owned(),
                uid: uid.map(str::to_owned),
                created_at: Time::ZERO,
                updated_at: Time::ZERO,
                ..App::default()
            });
        }
        registry
    }

    fn publish(body: &str) -> Result<EventInput, ApiError> {
        let registry = registry();
        let place = AppLookup { registry: &registry, tenant: TenantScope { org: ORG, app: None } };
        read_one(&Bytes::copy_from_slice(body.as_bytes()), &place, None)
    }

    fn publish_many(body: &str) -> Result<Vec<EventInput>, ApiError> {
        let registry = registry();
        let place = AppLookup { registry: &registry, tenant: TenantScope { org: ORG, app: None } };
        read_batch(&Bytes::copy_from_slice(body.as_bytes()), &place, None, 100)
    }

    fn pointers(api_error: &ApiError) -> Vec<&str> {
        api_error.errors.iter().map(|field_error| field_error.pointer.as_str()).collect()
    }

    #[test]
    fn data_stays_byte_for_byte() {
        for data in [
            r#"{"n":1e400,"m":9223372036854775809}"#,
            r#"{ "b" : 1 ,"a":[ 1.0, -0, "\u00e4\/" ] }"#,
            "null",
            "0.10",
            r#""text""#,
        ] {
            let event = publish(&format!("{{\"data\": {data} , \"type\":\"a.b\"}}")).unwrap();
            assert_eq!(event.data, data.as_bytes());
        }
    }

    #[test]
    fn data_is_a_slice_of_the_body() {
        let body = Bytes::from_static(br#"{"type":"a.b","data":{"id":42}}"#);
        let registry = registry();
        let place = AppLookup { registry: &registry, tenant: TenantScope { org: ORG, app: None } };
        let event = read_one(&body, &place, None).unwrap();
        assert!(body.as_ptr_range().contains(&event.data.as_ptr()));
    }

    #[test]
    fn every_field_is_read() {
        let event = publish(
            r#"{"type":"invoice.paid","data":{},"event_id":"e-1","occurred_at":"2026-11-22T03:29:00.123Z",
            "subject":"a@example.com","channels":["eu"],"app_id":"acme","ordering_key":"k",
            "deliver_at":"2026-11-22T04:00:00Z","expires_at":"2026-11-22T05:00:00+00:00","metadata":{"a":"b"}}"#,
        )
        .unwrap();
        assert_eq!(event.app, Some(Id::from_u128(2)));
        assert_eq!(event.attributes.event_id.as_deref(), Some("e-1"));
        assert_eq!(event.occurred_at, Some(Time(1_795_318_140_123)));
        assert_eq!(event.attributes.metadata["a"], "b");
        assert_eq!(event.attributes.channels, ["eu"]);
        assert!(event.attributes.deliver_at < event.attributes.expires_at);
    }

    #[test]
    fn null_is_the_same_as_absent() {
        let nulls = r#"{"type":"a","data":1,"event_id":null,"occurred_at":null,"subject":null,"channels":null,
            "app_id":null,"ordering_key":null,"deliver_at":null,"expires_at":null,"metadata":null}"#;
        assert_eq!(publish(nulls).unwrap(), publish(r#"{"type":"a","data":1}"#).unwrap());
    }

    #[test]
    fn every_bad_field_is_named() {
        let long = "x".repeat(600);
        for (members, pointer) in [
            (r#""type":"""#.to_owned(), "/type"),
            (r#""type":"a b""#.to_owned(), "/type"),
            (r#""type":"a\u0000b""#.to_owned(), "/type"),
            (format!(r#""type":"{}""#, "a".repeat(257)), "/type"),
            (r#""type":"postrider.x""#.to_owned(), "/type"),
            (r#""type":7"#.to_owned(), "/type"),
            (r#""type":null"#.to_owned(), "/type"),
            (r#""type":"a","event_id":"""#.to_owned(), "/event_id"),
            (format!(r#""type":"a","event_id":"{long}""#), "/event_id"),
            (r#""type":"a","event_id":"a\nb""#.to_owned(), "/event_id"),
            (r#""type":"a","occurred_at":"yesterday""#.to_owned(), "/occurred_at"),
            (r#""type":"a","occurred_at":1772704800"#.to_owned(), "/occurred_at"),
            (format!(r#""type":"a","subject":"{long}""#), "/subject"),
            (r#""type":"a","channels":"eu""#.to_owned(), "/channels"),
            (r#""type":"a","channels":["eu",""]"#.to_owned(), "/channels/1"),
            (r#""type":"a","ordering_key":[]"#.to_owned(), "/ordering_key"),
            (
                r#""type":"a","deliver_at":"2026-01-01T00:00:00Z","expires_at":"2025-12-31T00:00:00Z""#.to_owned(),
                "/expires_at",
            ),
            (r#""type":"a","metadata":[]"#.to_owned(), "/metadata"),
            (r#""type":"a","metadata":{"a/b":1}"#.to_owned(), "/metadata/a~1b"),
            (r#""type":"a","metadata":{"":"1"}"#.to_owned(), "/metadata/"),
            (format!(r#""type":"a","metadata":{{"a":"{long}{long}"}}"#), "/metadata/a"),
            (r#""type":"a","tpye":"b""#.to_owned(), "/tpye"),
        ] {
            let api_error = publish(&format!("{{\"data\":{{}},{members}}}")).unwrap_err();
            assert_eq!((api_error.status.as_u16(), pointers(&api_error)), (422, vec![pointer]), "{members}");
        }
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let api_error = publish(r#"{"subject":"","x":1}"#).unwrap_err();
        assert_eq!(pointers(&api_error), ["/type", "/data", "/subject", "/x"]);
    }

    #[test]
    fn text_that_is_not_strict_json_is_a_400() {
        for (body, code) in [
            ("", "malformed_json"),
            (r#"{"type":"a.b","data":{"#, "malformed_json"),
            (r#"{"type":"a","type":"b","data":{}}"#, "duplicate_member"),
            (r#"{"type":"a","data":{"x":{"a":1,"\u0061":2}}}"#, "duplicate_member"),
            (r#"{"type":"a","data":"\ud800"}"#, "lone_surrogate"),
            (r#"{"type":"a","data":{}} {}"#, "malformed_json"),
            (r#"{"type":"a","data":01}"#, "malformed_json"),
        ] {
            let api_error = publish(body).unwrap_err();
            assert_eq!((api_error.status.as_u16(), api_error.code), (400, code), "{body}");
        }
        for body in ["[]", "null", "7", "\"x\""] {
            assert_eq!(publish(body).unwrap_err().status, 422, "{body}");
        }
    }

    #[test]
    fn an_app_out_of_reach_is_not_found() {
        for name in ["foreign", "00000000-0000-0000-0000-000000000003", "nobody"] {
            let api_error = publish(&format!(r#"{{"type":"a","data":1,"app_id":"{name}"}}"#)).unwrap_err();
            assert_eq!((api_error.status.as_u16(), pointers(&api_error)), (404, vec!["/app_id"]), "{name}");
        }
    }

    #[test]
    fn a_batch_points_at_the_item() {
        let good = r#"{"type":"a","data":1}"#;
        let events = publish_many(&format!(r#"{{"events":[{good},{good}]}}"#)).unwrap();
        assert_eq!(events.len(), 2);
        let large = format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(100));
        let body = format!(r#"{{"events":[{good},{{"type":"a b","data":1}},7,{large}],"more":1}}"#);
        assert_eq!(pointers(&publish_many(&body).unwrap_err()), ["/more", "/events/1/type", "/events/2", "/events/3"]);
    }

    #[test]
    fn a_batch_has_one_to_a_thousand_events() {
        let of = |n: usize| format!(r#"{{"events":[{}]}}"#, vec![r#"{"type":"a","data":1}"#; n].join(","));
        assert_eq!(publish_many(&of(1_000)).unwrap().len(), 1_000);
        for body in [of(0), of(1_001), "{}".to_owned(), r#"{"events":{}}"#.to_owned()] {
            assert_eq!(pointers(&publish_many(&body).unwrap_err()), ["/events"]);
        }
    }

    #[test]
    fn only_a_valid_traceparent_is_used() {
        assert!(is_traceparent(TRACE));
        assert!(is_traceparent(&TRACE.replacen("00", "01", 1).replace("-01", "-01-more")));
        for bad in [
            "",
            "00",
            &TRACE.to_uppercase(),
            &TRACE.replacen("00", "ff", 1),
            &format!("{TRACE}-more"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.append("traceparent", TRACE.parse().unwrap());
        assert_eq!(traceparent(&headers).as_deref(), Some(TRACE));
        headers.append("traceparent", TRACE.parse().unwrap());
        assert_eq!(traceparent(&headers), None);
    }
}
