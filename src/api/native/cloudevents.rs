//! CloudEvents 1.0 over HTTP on `POST /v1/events`: structured, binary and batched content mode (CloudEvents HTTP
//! binding 1.0.2 section 3, JSON format 1.0.2).
//!
//! `source` and `id` together are the `event_id`. `subject` and `time` become `subject` and `occurred_at`. The
//! partitioning extension's `partitionkey` is the `ordering_key`, the tracing extension's `traceparent` the trace
//! context. Other attributes go to `metadata`. JSON `data` is stored byte for byte. Other data is stored as a JSON
//! string: text as text, bytes as base64.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde_json::value::RawValue;

use crate::api::auth::sha256;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::limits::{
    BATCH_EVENTS_MAX, EVENT_ID_CHARS_MAX, METADATA_ENTRIES_MAX, METADATA_NAME_CHARS_MAX, METADATA_VALUE_CHARS_MAX,
    ORDERING_KEY_CHARS_MAX, SUBJECT_CHARS_MAX,
};
use crate::api::media;
use crate::api::params::percent;
use crate::api::request::HttpRequest;
use crate::api::request_context::{strict, strict_object};
use crate::model::event::EventAttributes;
use crate::store::EventInput;

use super::publish;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCHED: &str = "application/cloudevents-batch+json";
/// A header of every request in binary mode, and of no other request.
const VERSION_HEADER: HeaderName = HeaderName::from_static("ce-specversion");
/// The attributes that the specification types as strings, URIs or times, so they must not be numbers.
const TEXTS: [&str; 8] = ["specversion", "id", "source", "type", "subject", "time", "dataschema", "datacontenttype"];

/// The mode of an event in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudEventsMode {
    /// Postrider's own form.
    Native,
    Structured,
    Batched,
    /// The attributes are `ce-` headers, and the body is the data.
    Binary,
}

/// The mode of a request, by its headers. 415 if the body has none of the modes.
pub fn mode(headers: &HeaderMap) -> Result<CloudEventsMode, ApiError> {
    let is_binary = headers.contains_key(VERSION_HEADER);
    let media_type = match is_binary {
        true => media::media_type(headers).or_else(|_| Ok::<_, ApiError>(None))?,
        false => media::media_type(headers)?,
    };
    match media_type.as_deref() {
        Some(STRUCTURED) => Ok(CloudEventsMode::Structured),
        Some(BATCHED) => Ok(CloudEventsMode::Batched),
        Some(other) if other.starts_with("application/cloudevents") => Err(media::wanted(&[STRUCTURED, BATCHED])),
        _ if is_binary => Ok(CloudEventsMode::Binary),
        Some("application/json") => Ok(CloudEventsMode::Native),
        _ => Err(media::wanted(&["application/json", STRUCTURED, BATCHED])),
    }
}

/// 415 if the headers announce no mode of an event.
pub fn check_mode(headers: &HeaderMap) -> Result<(), ApiError> {
    mode(headers).map(drop)
}

/// The one event of a request in structured or binary mode.
pub fn read_one(
    mode: CloudEventsMode,
    http_request: &HttpRequest,
    traceparent: Option<String>,
) -> Result<EventInput, ApiError> {
    if mode == CloudEventsMode::Binary {
        return read_binary(http_request, traceparent);
    }
    let mut field_errors = FieldErrors::new();
    let event = read_structured(strict_object(&http_request.body)?, &http_request.body, traceparent, &mut field_errors);
    fields::into_result(field_errors)?;
    Ok(event)
}

/// The events of a request in batched mode: a JSON array.
pub fn read_batch(body: &Bytes, traceparent: Option<String>) -> Result<Vec<EventInput>, ApiError> {
    let whole: &RawValue =
        serde_json::from_str(strict(body)?).map_err(|_| ApiError::bad_request("malformed_json", "not JSON"))?;
    let items = fields::elements(whole, BATCH_EVENTS_MAX)
        .map_err(|detail| ApiError::invalid(vec![FieldError::new("", detail)]))?;
    if items.is_empty() {
        return Err(ApiError::invalid(vec![FieldError::new("", "must have at least one item")]));
    }
    let mut field_errors = FieldErrors::new();
    let mut events = Vec::with_capacity(items.len());
    for (number, raw) in items.into_iter().enumerate() {
        match JsonObject::walked(raw.get(), format!("/{number}")) {
            Ok(object) => events.push(read_structured(object, body, traceparent.clone(), &mut field_errors)),
            Err(field_error) => field_errors.push(field_error),
        }
    }
    fields::into_result(field_errors)?;
    Ok(events)
}

fn read_structured(
    mut object: JsonObject<'_>,
    body: &Bytes,
    traceparent: Option<String>,
    field_errors: &mut FieldErrors,
) -> EventInput {
    let (data, base64) = (object.take_text("data"), object.take("data_base64"));
    if data.is_some() && base64.is_some() {
        field_errors.push(FieldError::new(object.at("data_base64"), "must not stand beside data"));
    }
    if let Some(raw) = base64
        && fields::text(raw).ok().is_none_or(|text| STANDARD.decode(text).is_err())
    {
        field_errors.push(FieldError::new(object.at("data_base64"), "must be a string of base64"));
    }
    let kept = data.or(base64.map(RawValue::get));
    let data = kept.map_or(Bytes::from_static(b"null"), |text| body.slice_ref(text.as_bytes()));
    let at = object.pointer().to_owned();
    let mut attributes = BTreeMap::new();
    for (name, raw) in object.rest() {
        match scalar(&name, raw) {
            Ok(Some(text)) => drop(attributes.insert(name.into_owned(), text)),
            Ok(None) => {}
            Err(detail) => {
                field_errors.push(FieldError::new(format!("{at}/{}", crate::rules::json::escape_token(&name)), detail))
            }
        }
    }
    assemble(attributes, data, traceparent, |name, detail| {
        field_errors.push(FieldError::new(format!("{at}/{name}"), detail))
    })
}

/// An attribute as text. `None` for `null`, which means absent.
fn scalar(name: &str, raw: &RawValue) -> FieldResult<Option<String>> {
    match raw.get().as_bytes()[0] {
        b'n' => Ok(None),
        b'"' => fields::text(raw).map(Some),
        b'{' | b'[' => Err("must be a string, a number or a boolean".to_owned()),
        _ if TEXTS.contains(&name) => Err("must be a string".to_owned()),
        _ => Ok(Some(raw.get().to_owned())),
    }
}

fn read_binary(http_request: &HttpRequest, traceparent: Option<String>) -> Result<EventInput, ApiError> {
    let mut attributes = BTreeMap::new();
    for (header, value) in &http_request.headers {
        let Some(name) = header.as_str().strip_prefix("ce-") else { continue };
        let text = value.to_str().ok().and_then(percent);
        let text = text.ok_or_else(|| ApiError::invalid_header(format!("{header} must be percent-encoded UTF-8")))?;
        if attributes.insert(name.to_owned(), text.into_owned()).is_some() {
            return Err(ApiError::invalid_header(format!("{header} is given more than once")));
        }
    }
    let media_type = match http_request.headers.contains_key(http::header::CONTENT_TYPE) {
        true => media::media_type(&http_request.headers).ok().flatten().unwrap_or("application/octet-stream".into()),
        false => "application/json".into(),
    };
    let data = binary_data(&media_type, &http_request.body)?;
    if media_type != "application/json" {
        attributes.insert("datacontenttype".to_owned(), media_type.into_owned());
    }
    let mut mistakes = Vec::new();
    let event = assemble(attributes, data, traceparent, |name, detail| mistakes.push(format!("ce-{name} {detail}")));
    match mistakes.is_empty() {
        true => Ok(event),
        false => Err(ApiError::invalid_header(mistakes.join("; "))),
    }
}

/// The body as `data`: JSON as it is, text as a JSON string, other bytes as a JSON string of base64.
fn binary_data(media_type: &str, body: &Bytes) -> Result<Bytes, ApiError> {
    if body.is_empty() {
        return Ok(Bytes::from_static(b"null"));
    }
    if media_type == "application/json" || media_type.ends_with("+json") {
        strict(body)?;
        return Ok(body.clone());
    }
    let text = match std::str::from_utf8(body) {
        Ok(text) if media_type.starts_with("text/") => serde_json::to_vec(text),
        _ => serde_json::to_vec(&STANDARD.encode(body)),
    };
    Ok(Bytes::from(text.expect("a string serialises")))
}

/// The event that the attributes describe. `mistake` receives each wrong attribute.
fn assemble(
    mut attributes: BTreeMap<String, String>,
    data: Bytes,
    traceparent: Option<String>,
    mut mistake: impl FnMut(&str, String),
) -> EventInput {
    if attributes.remove("specversion").as_deref() != Some("1.0") {
        mistake("specversion", "must be 1.0".to_owned());
    }
    let mut required = |name: &str, good: fn(&str) -> bool, detail: &str| {
        let value = attributes.get(name).cloned().unwrap_or_default();
        if !good(&value) {
            mistake(name, detail.to_owned());
        }
        value
    };
    let id = required("id", is_line, "is required, without control characters");
    let source = required("source", is_reference, "is required, a URI reference without white space");
    let event_type = required("type", |_| true, "");
    let mut optional = |name: &str, chars_max: usize| {
        let value = attributes.remove(name)?;
        let fits = (1..=chars_max).contains(&value.chars().count()) && is_line(&value);
        if !fits {
            mistake(name, format!("must have 1 to {chars_max} characters, no control characters"));
        }
        fits.then_some(value)
    };
    let subject = optional("subject", SUBJECT_CHARS_MAX);
    let ordering_key = optional("partitionkey", ORDERING_KEY_CHARS_MAX);
    let occurred_at = attributes
        .remove("time")
        .and_then(|text| text.parse().map_err(|_| mistake("time", "must be an RFC 3339 time".to_owned())).ok());
    attributes.remove("type");
    let own_trace = attributes.remove("traceparent").filter(|text| publish::is_traceparent(text));
    for (name, value) in &attributes {
        if !is_attribute(name) {
            mistake(&crate::rules::json::escape_token(name), "is not the name of an attribute: a-z and 0-9".to_owned());
        } else if value.chars().count() > METADATA_VALUE_CHARS_MAX || !is_line_or_empty(value) {
            mistake(name, format!("must have at most {METADATA_VALUE_CHARS_MAX} characters, no control characters"));
        }
    }
    if attributes.len() > METADATA_ENTRIES_MAX {
        mistake("", format!("there may be at most {METADATA_ENTRIES_MAX} attributes"));
    }
    let event_type = publish::check_type(event_type).map_err(|detail| mistake("type", detail)).unwrap_or_default();
    EventInput {
        occurred_at,
        data,
        attributes: EventAttributes {
            event_type,
            event_id: Some(event_id(&source, &id)),
            subject,
            ordering_key,
            metadata: attributes,
            traceparent: own_trace.or(traceparent),
            ..EventAttributes::default()
        },
        ..EventInput::default()
    }
}

/// One text for both. A source contains no spaces, so two pairs never give the same text. A long text is hashed.
fn event_id(source: &str, id: &str) -> String {
    let text = format!("{source} {id}");
    match text.chars().count() <= EVENT_ID_CHARS_MAX {
        true => text,
        false => format!("sha256 {}", URL_SAFE_NO_PAD.encode(sha256(&[text.as_bytes()]))),
    }
}

fn is_line(text: &str) -> bool {
    !text.is_empty() && is_line_or_empty(text)
}

fn is_line_or_empty(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn is_reference(text: &str) -> bool {
    is_line(text) && !text.contains(char::is_whitespace)
}

/// Whether a name is an attribute (CloudEvents 1.0 section 3.1): lower-case letters and digits.
fn is_attribute(name: &str) -> bool {
    (1..=METADATA_NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, Method};

    use super::*;
    use crate::model::Time;

    fn call(headers: &[(&str, &str)], body: &str) -> HttpRequest {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        HttpRequest {
            method: Method::POST,
            path: "/v1/events".to_owned(),
            query: None,
            headers: map,
            body: Bytes::copy_from_slice(body.as_bytes()),
            remote: None,
            request_id: String::new(),
        }
    }

    fn structured(body: &str) -> Result<EventInput, ApiError> {
        let http_request = call(&[("content-type", "application/cloudevents+json; charset=utf-8")], body);
        read_one(mode(&http_request.headers)?, &http_request, None)
    }

    fn binary(headers: &[(&str, &str)], body: &str) -> Result<EventInput, ApiError> {
        let http_request = call(&[headers, &[("ce-specversion", "1.0")]].concat(), body);
        read_one(mode(&http_request.headers)?, &http_request, None)
    }

    const BASE: [(&str, &str); 3] = [("ce-id", "A-1"), ("ce-source", "/shop"), ("ce-type", "order.paid")];

    #[test]
    fn the_headers_decide_the_mode() {
        for (headers, expected) in [
            (&[("content-type", "application/json")][..], CloudEventsMode::Native),
            (&[("content-type", "application/cloudevents+json")], CloudEventsMode::Structured),
            (&[("content-type", "application/cloudevents-batch+json")], CloudEventsMode::Batched),
            (&[("content-type", "application/json"), ("ce-specversion", "1.0")], CloudEventsMode::Binary),
            (&[("content-type", "text/plain"), ("ce-specversion", "1.0")], CloudEventsMode::Binary),
        ] {
            assert_eq!(mode(&call(headers, "").headers).unwrap(), expected);
        }
        for content_type in ["text/plain", "application/cloudevents+avro", "application/xml"] {
            assert_eq!(mode(&call(&[("content-type", content_type)], "").headers).unwrap_err().status, 415);
        }
    }

    #[test]
    fn a_structured_event_is_stored_with_its_data_and_its_attributes() {
        let event = structured(
            r#"{"specversion":"1.0","id":"A-1","source":"/shop","type":"order.paid","subject":"s",
            "time":"2026-03-05T10:00:00.120Z","datacontenttype":"application/json","comexampleextension":7,"flag":true,
            "partitionkey":"p","absent":null,"data":{"n":1e400 , "a":"\u00e4"}}"#,
        )
        .unwrap();
        assert_eq!(event.data, r#"{"n":1e400 , "a":"\u00e4"}"#);
        assert_eq!(event.attributes.event_id.as_deref(), Some("/shop A-1"));
        assert_eq!(event.attributes.event_type, "order.paid");
        assert_eq!(event.attributes.subject.as_deref(), Some("s"));
        assert_eq!(event.occurred_at, Some(Time(1_772_704_800_120)));
        assert_eq!(event.attributes.ordering_key.as_deref(), Some("p"));
        let kept: Vec<_> = event.attributes.metadata.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            kept,
            ["comexampleextension=7", "datacontenttype=application/json", "flag=true", "id=A-1", "source=/shop"]
        );
    }

    #[test]
    fn a_binary_event_is_its_headers_and_its_body() {
        let json = [&BASE[..], &[("content-type", "application/json"), ("ce-note", "a%20%C3%A4")]].concat();
        let event = binary(&json, r#"{"n":1e400}"#).unwrap();
        assert_eq!(event.data, r#"{"n":1e400}"#);
        assert_eq!(event.attributes.metadata["note"], "a ä");
        let text = [&BASE[..], &[("content-type", "text/plain")]].concat();
        assert_eq!(binary(&text, "a \"b\"").unwrap().data, r#""a \"b\"""#);
        let bytes = [&BASE[..], &[("content-type", "application/octet-stream")]].concat();
        assert_eq!(binary(&bytes, "abc").unwrap().data, r#""YWJj""#);
        assert_eq!(binary(&json, "").unwrap().data, "null");
        assert_eq!(binary(&json, "{").unwrap_err().status, 400);
    }

    #[test]
    fn bad_attributes_are_named() {
        let api_error =
            structured(r#"{"specversion":"0.3","id":"","source":"a b","type":"x y","Bad":"1","list":[]}"#).unwrap_err();
        let pointers: Vec<_> = api_error.errors.iter().map(|field_error| field_error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/list", "/specversion", "/id", "/source", "/Bad", "/type"]);
        let api_error = binary(&[("ce-source", "/s"), ("ce-type", "a")], "").unwrap_err();
        assert_eq!((api_error.status.as_u16(), api_error.code), (422, "invalid_header"));
        assert!(api_error.detail.contains("ce-id"), "{}", api_error.detail);
    }

    #[test]
    fn both_kinds_of_data_at_once_are_refused_and_base64_is_checked() {
        let base = r#""specversion":"1.0","id":"1","source":"s","type":"t""#;
        assert!(structured(&format!(r#"{{{base},"data":1,"data_base64":"AA=="}}"#)).is_err());
        assert!(structured(&format!(r#"{{{base},"data_base64":"%"}}"#)).is_err());
        assert_eq!(structured(&format!(r#"{{{base},"data_base64":"AA=="}}"#)).unwrap().data, r#""AA==""#);
        assert_eq!(structured(&format!("{{{base}}}")).unwrap().data, "null");
    }

    #[test]
    fn a_batch_is_an_array_and_points_at_its_items() {
        let good = r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
        let read = |body: &str| read_batch(&Bytes::copy_from_slice(body.as_bytes()), None);
        assert_eq!(read(&format!("[{good},{good}]")).unwrap().len(), 2);
        let api_error = read(&format!(r#"[{good},{{"specversion":"1.0","id":"1","source":"s"}},7]"#)).unwrap_err();
        let pointers: Vec<_> = api_error.errors.iter().map(|field_error| field_error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/1/type", "/2"]);
        assert_eq!(read("[]").unwrap_err().status, 422);
        assert_eq!(read("{}").unwrap_err().status, 422);
    }

    #[test]
    fn a_long_source_still_gives_an_event_id_of_its_own() {
        let long = "s".repeat(400);
        let (first, second) = (event_id(&long, "1"), event_id(&long, "2"));
        assert_ne!(first, second);
        assert!(first.len() <= EVENT_ID_CHARS_MAX);
    }
}
