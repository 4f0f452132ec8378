//! Renders the body of an attempt (api.md section 7, seeds/shapes.md section 2).
//!
//! Invariant: the body depends on stored values only, so that an old attempt's body can be shown exactly as it was sent.
//! `standard` and `raw` carry `data` byte for byte as received. Of the others, only `dfns` re-serialises it.
//!
//! As a form (and as the query string of `get` and `delete`), a field set's top-level members are the fields. A string
//! is the string itself. Every other value is its JSON text as received (`null` is `null`).
//!
//! If `data` is not an object, the sets that spread its members (`legacy`, `flat`, and `raw` as a form) have one member
//! `data` instead. If `data` has a member that the set has itself, the set's own member is sent and that of `data` is
//! omitted. So a receiver can trust the envelope.

use std::borrow::Cow;
use std::io::Write as _;

use serde_json::value::RawValue;
use url::form_urlencoded::byte_serialize;

use super::js_json::JsonLoss;
use super::{dfns_id, js_json, jwe, signing};
use crate::model::webhook::{ContentType, FieldSet, WebhookMethod};
use crate::model::{AttemptId, Event, Time};

/// Body settings of a webhook, or of an attempt's snapshot of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyShape {
    pub method: WebhookMethod,
    pub content_type: ContentType,
    pub field_set: FieldSet,
    pub include_html: bool,
}

/// Values that a body is rendered from.
#[derive(Debug, Clone, Copy)]
pub struct BodyInput<'a> {
    pub event: &'a Event,
    /// Payload as received. Empty if it was erased, which renders as `null`.
    pub data: &'a [u8],
    /// Id of the attempt, chosen before the request because Dfns's body contains it.
    pub attempt_id: AttemptId,
    /// Number of the attempt, from 1.
    pub number: u32,
    pub retry_of: Option<AttemptId>,
    /// The signature's timestamp, Unix seconds.
    pub timestamp_s: i64,
}

/// Rendered request content: a body with its type, or a query string and an empty body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedBody {
    pub body: Vec<u8>,
    /// `None` if the request has no body, not even an empty one.
    pub content_type: Option<&'static str>,
    /// Query string without `?`, appended to the URL's own query.
    pub query: Option<String>,
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
/// Initial capacity for an envelope besides `data`, in bytes.
const ENVELOPE_BYTES: usize = 192;

/// The body of one attempt.
pub fn render(shape: BodyShape, facts: &BodyInput) -> RenderedBody {
    let in_query = is_in_query(shape.method);
    let form = in_query || shape.content_type == ContentType::Form;
    let mut fields = BodyFields::new(form, facts.data.len() + ENVELOPE_BYTES);
    match shape.field_set {
        FieldSet::Raw if !form => fields.out.extend_from_slice(facts.data_or_null()),
        FieldSet::Raw => fields.spread(facts, |_| true),
        FieldSet::Standard => standard(&mut fields, facts),
        FieldSet::Legacy => legacy(&mut fields, facts, shape.include_html),
        FieldSet::Dfns => dfns(&mut fields, facts),
        FieldSet::Sent => sent(&mut fields, facts),
        FieldSet::Flat => flat(&mut fields, facts),
    }
    let bare = form || shape.field_set == FieldSet::Raw;
    let body = if bare { fields.out } else { fields.closed() };
    if in_query {
        // The output of byte_serialize is ASCII.
        let query = String::from_utf8(body).unwrap_or_default();
        return RenderedBody { body: Vec::new(), content_type: None, query: Some(query) };
    }
    RenderedBody { body, content_type: Some(if form { FORM } else { JSON }), query: None }
}

/// Maximum bytes of the content that `render` makes of `data_bytes` of payload, and `RenderedBody::sealed` of that, besides
/// the event's attributes. Encoding as a form triples a byte at most. ECMAScript writes `1e20` with 21 digits.
pub fn bytes_max(shape: BodyShape, is_sealed: bool, data_bytes: usize) -> usize {
    let is_form = is_in_query(shape.method) || shape.content_type == ContentType::Form;
    let plain = data_bytes.saturating_mul(match (shape.field_set, is_form) {
        (FieldSet::Dfns, _) => 6,
        (_, true) => 3,
        (_, false) => 1,
    });
    if is_sealed { plain.saturating_mul(4).div_ceil(3) } else { plain }
}

/// Whether the content is the query string.
fn is_in_query(method: WebhookMethod) -> bool {
    matches!(method, WebhookMethod::Get | WebhookMethod::Delete)
}

impl RenderedBody {
    /// The same content, encrypted (api.md section 8). The body becomes a JWE. `get` and `delete` have a query string
    /// only, whose pairs become the one pair `jwe=…`, so that an `encrypted` webhook sends nothing in the clear.
    pub fn sealed(self, secret: &signing::SecretKey, nonce: [u8; 12]) -> RenderedBody {
        match self.query {
            Some(query) => {
                let text = jwe::seal(secret, nonce, query.as_bytes());
                RenderedBody { body: Vec::new(), content_type: None, query: Some(format!("jwe={text}")) }
            }
            None => {
                let text = jwe::seal(secret, nonce, &self.body);
                RenderedBody { body: text.into_bytes(), content_type: Some(jwe::CONTENT_TYPE), query: None }
            }
        }
    }
}

/// Checks that `data` reaches a receiver of `field_set` with its value unchanged. The error describes the change. Only
/// `dfns` rewrites `data` as ECMAScript would (`rules::js_json`), which rounds numbers. The order of members is no part
/// of a value. It costs a walk over `data`. Other sets cost nothing.
pub fn fits(field_set: FieldSet, data: &[u8]) -> Result<(), String> {
    if field_set != FieldSet::Dfns {
        return Ok(());
    }
    match js_json::rewrite(data, &mut Vec::new()) {
        Some(loss @ JsonLoss::Number) => {
            Err(format!("`data` has {loss}, which a receiver of `dfns` bodies reads otherwise"))
        }
        Some(JsonLoss::Order) | None => Ok(()),
    }
}

impl<'a> BodyInput<'a> {
    fn data_or_null(&self) -> &'a [u8] {
        if self.data.is_empty() { b"null" } else { self.data }
    }

    /// The top-level members of `data` in their order. `None` if it is not an object.
    fn members(&self) -> Option<Vec<DataMember<'a>>> {
        struct DataMembers<'a>(Vec<DataMember<'a>>);
        impl<'de> serde::Deserialize<'de> for DataMembers<'de> {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = DataMembers<'de>;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                        let mut members = Vec::new();
                        while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                            members.push(DataMember { name: name.get(), value: value.get() });
                        }
                        Ok(DataMembers(members))
                    }
                }
                from.deserialize_map(Visitor)
            }
        }
        serde_json::from_slice::<DataMembers>(self.data).ok().map(|members| members.0)
    }
}

/// One member of `data`, both halves as JSON text.
#[derive(Clone, Copy)]
struct DataMember<'a> {
    name: &'a str,
    value: &'a str,
}

/// Decodes a JSON string. `None` if `json` is not a string.
fn unquoted(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str::<String>(json).ok().map(Cow::Owned) } else { Some(inner.into()) }
}

/// `{"id","type","timestamp","data"}`.
fn standard(fields: &mut BodyFields, facts: &BodyInput) {
    fields.shown("id", facts.event.id);
    fields.text("type", &facts.event.attributes.event_type);
    fields.shown("timestamp", facts.event.occurred_at);
    fields.json("data", facts.data_or_null());
}

/// Everlytic's older shape: `{"event":{"event_id","event_date","event_type", …members of data}}`. The member `html` is
/// left out unless the webhook wants it and the event is of type `sent`.
fn legacy(fields: &mut BodyFields, facts: &BodyInput, include_html: bool) {
    let mut inner = BodyFields::new(false, facts.data.len() + ENVELOPE_BYTES);
    inner.shown("event_id", facts.event.id);
    inner.shown("event_date", facts.event.occurred_at);
    inner.text("event_type", &facts.event.attributes.event_type);
    let html = include_html && facts.event.attributes.event_type == "sent";
    inner.spread(facts, |name| match name {
        "event_id" | "event_date" | "event_type" => false,
        "html" => html,
        _ => true,
    });
    fields.json("event", &inner.closed());
}

/// Dfns's webhook event as of the time of sending. Its outcome is unknown then, so `status` and `error` are absent.
/// `data` is written as ECMAScript writes it, because the vendor's receivers check the signature over a re-serialised
/// body.
fn dfns(fields: &mut BodyFields, facts: &BodyInput) {
    fields.text("id", &dfns_id::event(facts.attempt_id));
    fields.text("kind", &facts.event.attributes.event_type);
    fields.shown("date", facts.event.occurred_at);
    fields.number("deliveryAttempt", i64::from(facts.number));
    fields.number("timestampSent", facts.timestamp_s);
    if let Some(earlier) = facts.retry_of {
        fields.text("retryOf", &dfns_id::event(earlier));
    }
    if fields.form {
        let mut data = Vec::new();
        js_json::rewrite(facts.data_or_null(), &mut data);
        fields.json("data", &data);
    } else {
        fields.begin("data");
        js_json::rewrite(facts.data_or_null(), &mut fields.out);
    }
}

/// sent.dm's envelope `{field, sub_type, event, timestamp, payload, request_id}`: `message.delivered` is of the field
/// `message` and the sub-type `message.delivered`, which newer receivers read as `event`. A type without a dot is all
/// three, because receivers compare the type in the header with one of them. `payload` is `data` as received.
/// `request_id` is the id of the event.
fn sent(fields: &mut BodyFields, facts: &BodyInput) {
    let kind = facts.event.attributes.event_type.as_str();
    fields.text("field", kind.split('.').next().unwrap_or_default());
    fields.text("sub_type", kind);
    fields.text("event", kind);
    fields.shown("timestamp", whole_seconds(facts.event.occurred_at));
    fields.json("payload", facts.data_or_null());
    fields.shown("request_id", facts.event.id);
}

/// Instantly's flat object: `{timestamp, event_type, workspace, lead_email?, …members of data}`. The workspace is the
/// organization, and the lead's address is the event's subject. Without a subject, `data` may have a `lead_email` of
/// its own.
fn flat(fields: &mut BodyFields, facts: &BodyInput) {
    fields.shown("timestamp", facts.event.occurred_at);
    fields.text("event_type", &facts.event.attributes.event_type);
    fields.shown("workspace", facts.event.org_id);
    let subject = facts.event.attributes.subject.as_deref();
    if let Some(address) = subject {
        fields.text("lead_email", address);
    }
    fields.spread(facts, |name| match name {
        "timestamp" | "event_type" | "workspace" => false,
        "lead_email" => subject.is_none(),
        _ => true,
    });
}

/// A time as sent.dm's bodies have it: `yyyy-MM-ddTHH:mm:ssZ`.
fn whole_seconds(time: Time) -> String {
    let text = time.to_string();
    format!("{}Z", text.split(['.', 'Z']).next().unwrap_or_default())
}

/// A time as sent.dm's API writes it: with the offset in digits, and without a fraction's trailing zeros.
pub fn offset_time(time: Time) -> String {
    let text = time.to_string();
    let bare = text.trim_end_matches('Z');
    let short = if bare.contains('.') { bare.trim_end_matches('0').trim_end_matches('.') } else { bare };
    format!("{short}+00:00")
}

/// Named values that are written as a JSON object or as form pairs.
struct BodyFields {
    out: Vec<u8>,
    form: bool,
    none_yet: bool,
}

impl BodyFields {
    fn new(form: bool, capacity: usize) -> BodyFields {
        BodyFields { out: Vec::with_capacity(capacity), form, none_yet: true }
    }

    /// Begins a value under a name of the field set.
    fn begin(&mut self, name: &str) {
        self.separate();
        if self.form {
            self.out.extend_from_slice(name.as_bytes());
            self.out.push(b'=');
        } else {
            self.out.push(b'"');
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b"\":");
        }
    }

    fn separate(&mut self) {
        match (self.none_yet, self.form) {
            (true, true) => {}
            (true, false) => self.out.push(b'{'),
            (false, true) => self.out.push(b'&'),
            (false, false) => self.out.push(b','),
        }
        self.none_yet = false;
    }

    fn text(&mut self, name: &str, value: &str) {
        self.begin(name);
        if self.form {
            encode(value.as_bytes(), &mut self.out);
        } else {
            serde_json::to_writer(&mut self.out, value).expect("a Vec takes all");
        }
    }

    /// A text without `"` and `\`, such as an id or a time.
    fn shown(&mut self, name: &str, value: impl std::fmt::Display) {
        self.begin(name);
        if self.form {
            encode(value.to_string().as_bytes(), &mut self.out);
        } else {
            write!(self.out, "\"{value}\"").expect("a Vec takes all");
        }
    }

    fn number(&mut self, name: &str, value: i64) {
        self.begin(name);
        write!(self.out, "{value}").expect("a Vec takes all");
    }

    /// A value that is JSON already.
    fn json(&mut self, name: &str, json: &[u8]) {
        self.begin(name);
        self.value(json);
    }

    fn value(&mut self, json: &[u8]) {
        if !self.form {
            self.out.extend_from_slice(json);
            return;
        }
        let text = std::str::from_utf8(json).ok().and_then(|json| unquoted(json.trim_ascii()));
        encode(text.as_ref().map_or(json, |text| text.as_bytes()), &mut self.out);
    }

    /// The members of `data` for which `wanted` is true. If `data` is not an object, one member `data`.
    fn spread(&mut self, facts: &BodyInput, wanted: impl Fn(&str) -> bool) {
        let Some(members) = facts.members() else {
            self.json("data", facts.data_or_null());
            return;
        };
        for member in members {
            let name = unquoted(member.name).unwrap_or_default();
            if !wanted(&name) {
                continue;
            }
            self.separate();
            if self.form {
                encode(name.as_bytes(), &mut self.out);
                self.out.push(b'=');
            } else {
                self.out.extend_from_slice(member.name.as_bytes());
                self.out.push(b':');
            }
            self.value(member.value.as_bytes());
        }
    }

    /// The JSON object.
    fn closed(mut self) -> Vec<u8> {
        if self.none_yet {
            self.out.push(b'{');
        }
        self.out.push(b'}');
        self.out
    }
}

/// The WHATWG's application/x-www-form-urlencoded serializer: space is `+`.
fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for part in byte_serialize(bytes) {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
