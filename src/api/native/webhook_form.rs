//! Reads the compound members of a webhook's form, for `webhook_fields`.
//!
//! A new webhook and a patched one are read alike: `webhook_patch` applies a patch to the webhook's JSON form first. So
//! an absent member and `null` mean the default here.

use std::collections::{BTreeMap, HashSet};

use http::{HeaderName, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::api::error::FieldError;
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::limits::{
    CHANNELS_MAX, CREDENTIAL_CHARS_MAX, DESCRIPTION_CHARS_MAX, EVENT_TYPES_MAX, HEADER_VALUE_BYTES_MAX, HEADERS_MAX,
    NAME_CHARS_MAX, PEM_BYTES_MAX, RATE_PER_S_MAX, RATE_PER_S_MIN, SCHEDULE_STEP_S_MAX, SCHEDULE_STEPS_MAX,
};
use crate::model::webhook::{
    DeliveryOrder, DisabledReason, SignatureScheme, Webhook, WebhookAuth, WebhookMethod, WebhookStatus, WebhookTls,
};
use crate::rules::filter::Filter;
use crate::rules::json::escape_token;
use crate::rules::retry::SCHEDULES;
use crate::rules::target::{self, TargetPolicy};
use crate::rules::{patterns, signing, tls_parts};

use super::publish::read_channel;
use super::webhook_text::MASK;

/// Headers of one hop (RFC 9110 section 7.6.1), and those that the sender sets for framing and tracing.
const RESERVED_HEADERS: [&str; 13] = [
    "connection",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "traceparent",
    "transfer-encoding",
    "upgrade",
];
const RESERVED_PREFIXES: [&str; 4] = ["content-", "webhook-", "postrider-", "x-webhook-"];

/// A member of a form that is being read.
pub struct FormField<'f, 'b> {
    pub name: &'static str,
    pub object: &'f mut JsonObject<'b>,
    /// `None` if the URL was checked before.
    pub policy: Option<&'f TargetPolicy>,
    pub errors: &'f mut FieldErrors,
}

impl<'b> FormField<'_, 'b> {
    /// The member, or `None` if it is absent, null or wrong.
    pub fn optional<T>(&mut self, read: impl FnOnce(&'b RawValue) -> FieldResult<T>) -> Option<T> {
        self.object.optional(self.name, self.errors, read)
    }

    /// One of the words of an enumeration. `names` lists them for the error.
    pub fn choice<T: DeserializeOwned>(&mut self, names: &str, default: T) -> T {
        self.optional(|raw| fields::choice(raw, names)).unwrap_or(default)
    }

    pub fn boolean(&mut self) -> bool {
        self.optional(fields::boolean).unwrap_or(false)
    }

    pub fn whole(&mut self, min: u64, max: u64, default: u64) -> u64 {
        self.optional(|raw| fields::whole(raw, min..=max)).unwrap_or(default)
    }
}

/// A text that is shown in lists.
pub fn read_name(raw: &RawValue) -> FieldResult<String> {
    fields::line(raw, 1..=NAME_CHARS_MAX)
}

pub fn read_url(webhook: &mut Webhook, field: &mut FormField<'_, '_>) {
    let policy = field.policy;
    let read_url = |raw: &RawValue| {
        let text = fields::text(raw)?;
        match policy.map(|policy| target::check_url(&text, policy)) {
            Some(Err(refused)) => Err(refused.to_string()),
            Some(Ok(_)) | None => Ok(text),
        }
    };
    webhook.url = field.object.required(field.name, field.errors, read_url).unwrap_or_default();
}

/// The host of a URL that was checked before. Empty if there is none.
fn host_of(url: &str) -> String {
    url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

pub fn read_description(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    match text.chars().count() <= DESCRIPTION_CHARS_MAX && !text.contains('\0') {
        true => Ok(text),
        false => Err(format!("must have at most {DESCRIPTION_CHARS_MAX} characters, none of them NUL")),
    }
}

pub fn read_auth(webhook: &mut Webhook, field: &mut FormField<'_, '_>) {
    let auth = field.object.object(field.name, field.errors);
    webhook.auth = auth.and_then(|auth| auth_of(auth, field.errors));
}

pub fn read_headers(webhook: &mut Webhook, field: &mut FormField<'_, '_>) {
    let headers = field.object.object(field.name, field.errors);
    webhook.headers = headers.map(|headers| headers_of(headers, field.errors)).unwrap_or_default();
}

pub fn read_secret_headers(webhook: &mut Webhook, field: &mut FormField<'_, '_>) {
    let name = |raw: &RawValue| read_header_name(fields::text(raw)?);
    let names = field.object.strings(field.name, field.errors, HEADERS_MAX, name);
    webhook.secret_headers = names.unwrap_or_default();
}

/// Refuses certificates and a key that no request could be made with.
pub fn read_tls(webhook: &mut Webhook, field: &mut FormField<'_, '_>) {
    let tls = field.object.object(field.name, field.errors);
    webhook.tls = tls.and_then(|tls| tls_of(tls, field.errors));
}

fn auth_of(mut auth: JsonObject<'_>, field_errors: &mut FieldErrors) -> Option<WebhookAuth> {
    let before = field_errors.len();
    let kind = auth.required("type", field_errors, |raw| match fields::text(raw)?.as_str() {
        kind @ ("basic" | "bearer" | "header") => Ok(kind.to_owned()),
        _ => Err("must be basic, bearer or header".to_owned()),
    })?;
    let read = match kind.as_str() {
        "basic" => WebhookAuth::Basic {
            username: auth.required("username", field_errors, read_username).unwrap_or_default(),
            password: auth.required("password", field_errors, read_credential).unwrap_or_default(),
        },
        "bearer" => {
            WebhookAuth::Bearer { token: auth.required("token", field_errors, read_header_value).unwrap_or_default() }
        }
        _ => WebhookAuth::Header {
            name: auth.required("name", field_errors, |raw| read_header_name(fields::text(raw)?)).unwrap_or_default(),
            value: auth.required("value", field_errors, read_header_value).unwrap_or_default(),
        },
    };
    auth.finish(field_errors);
    (field_errors.len() == before).then_some(read)
}

/// A user name must not contain a colon, and neither part a control character (RFC 7617 section 2).
fn read_username(raw: &RawValue) -> FieldResult<String> {
    let text = fields::line(raw, 0..=CREDENTIAL_CHARS_MAX)?;
    if text.contains(':') { Err("must not have a colon".to_owned()) } else { Ok(text) }
}

fn read_credential(raw: &RawValue) -> FieldResult<String> {
    unmasked(fields::line(raw, 0..=CREDENTIAL_CHARS_MAX)?)
}

/// Refuses the mask of a credential. A patch has put the stored credential in its place before.
fn unmasked(text: String) -> FieldResult<String> {
    if text == MASK { Err("is the mask that stands for a credential".to_owned()) } else { Ok(text) }
}

fn headers_of(map: JsonObject<'_>, field_errors: &mut FieldErrors) -> BTreeMap<String, String> {
    let at = map.pointer().to_owned();
    let mut headers = BTreeMap::new();
    let mut names = HashSet::new();
    let members = map.rest();
    if members.len() > HEADERS_MAX {
        field_errors.push(FieldError::new(at, format!("must have at most {HEADERS_MAX} entries")));
        return headers;
    }
    for (name, raw) in members {
        let here = format!("{at}/{}", escape_token(&name));
        if !names.insert(name.to_ascii_lowercase()) {
            field_errors.push(FieldError::new(here.clone(), "is there already, spelled otherwise"));
        }
        match read_header_name(name.into_owned()).and_then(|name| Ok((name, read_header_value(raw)?))) {
            Ok((name, value)) => drop(headers.insert(name, value)),
            Err(detail) => field_errors.push(FieldError::new(here, detail)),
        }
    }
    headers
}

/// A header's name (RFC 9110 section 5.6.2) that is not reserved for the sender itself.
pub fn read_header_name(name: String) -> FieldResult<String> {
    let lower = name.to_ascii_lowercase();
    if HeaderName::from_bytes(lower.as_bytes()).is_err() {
        return Err("must be a header name: letters, digits and !#$%&'*+-.^_`|~".to_owned());
    }
    let reserved = RESERVED_HEADERS.contains(&lower.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
        || signing::HEADERS.contains(&lower.as_str());
    if reserved { Err("is a header that cannot be set".to_owned()) } else { Ok(name) }
}

/// Visible ASCII, spaces and tabs, without spaces or tabs at the ends (RFC 9110 section 5.5).
pub fn read_header_value(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    let fits = text.len() <= HEADER_VALUE_BYTES_MAX && text.trim_matches([' ', '\t']) == text;
    match fits && text.is_ascii() && HeaderValue::from_str(&text).is_ok() {
        true => unmasked(text),
        false => Err(format!("must be a header value: up to {HEADER_VALUE_BYTES_MAX} visible ASCII characters")),
    }
}

fn tls_of(mut tls: JsonObject<'_>, field_errors: &mut FieldErrors) -> Option<WebhookTls> {
    let before = field_errors.len();
    let read = WebhookTls {
        ca_pem: tls.optional("ca_pem", field_errors, |raw| read_pem(raw, "CERTIFICATE-----")),
        client_cert_pem: tls.optional("client_cert_pem", field_errors, |raw| read_pem(raw, "CERTIFICATE-----")),
        client_key_pem: tls.optional("client_key_pem", field_errors, |raw| read_pem(raw, "PRIVATE KEY-----")),
    };
    let parts = [&read.ca_pem, &read.client_cert_pem, &read.client_key_pem].map(Option::as_deref);
    let refused = tls_parts::read(parts[0], parts[1], parts[2]).err().filter(|_| field_errors.len() == before);
    field_errors.extend(refused.map(|refused| FieldError::new(tls.at(refused.field), refused.detail)));
    tls.finish(field_errors);
    (read != WebhookTls::default()).then_some(read)
}

fn read_pem(raw: &RawValue, label: &str) -> FieldResult<String> {
    let text = fields::text(raw)?;
    let begins = text.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(label));
    let ends = text.lines().any(|line| line.starts_with("-----END ") && line.trim_end().ends_with(label));
    match begins && ends && text.is_ascii() && text.len() <= PEM_BYTES_MAX {
        true => Ok(text),
        false => Err(format!("must be PEM text with {}, at most {PEM_BYTES_MAX} bytes", label.trim_end_matches('-'))),
    }
}

/// An event type, or a pattern of event types.
pub fn read_pattern(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    match patterns::is_pattern(&text) {
        true => Ok(text),
        false => Err("must be an event type, or one ending in .* or .**, or *".to_owned()),
    }
}

pub fn read_event_types(webhook: &mut Webhook, field: &mut FormField<'_, '_>) {
    let types = field.object.strings(field.name, field.errors, EVENT_TYPES_MAX, read_pattern);
    webhook.event_types = types.unwrap_or_default();
}

pub fn read_channels(webhook: &mut Webhook, field: &mut FormField<'_, '_>) {
    let channels = field.object.strings(field.name, field.errors, CHANNELS_MAX, read_channel);
    webhook.channels = channels.unwrap_or_default();
}

pub fn read_filter(webhook: &mut Webhook, field: &mut FormField<'_, '_>) {
    let at = field.object.at(field.name);
    webhook.filter = field.object.take(field.name).and_then(|raw| match Filter::parse_text(raw.get().as_bytes()) {
        Ok(filter) => Some(filter.as_json().to_owned()),
        Err(mistakes) => {
            let mistakes = mistakes.into_iter();
            field.errors.extend(mistakes.map(|(pointer, detail)| FieldError::new(format!("{at}{pointer}"), detail)));
            None
        }
    });
}

pub fn read_signature(webhook: &mut Webhook, field: &mut FormField<'_, '_>) {
    let at = field.object.at(field.name);
    webhook.signature = match field.object.take(field.name) {
        None => vec![SignatureScheme::Standard],
        Some(raw) if raw.get() == "\"none\"" => Vec::new(),
        Some(raw) => read_schemes(raw, &at, field.errors),
    };
}

fn read_schemes(raw: &RawValue, at: &str, field_errors: &mut FieldErrors) -> Vec<SignatureScheme> {
    let mut schemes = Vec::new();
    match fields::elements(raw, 5) {
        Ok(items) if !items.is_empty() => {
            for (number, item) in items.into_iter().enumerate() {
                let read = fields::choice(item, "standard, ed25519, dfns, sent or svix");
                match read.and_then(|scheme| repeated(&schemes, scheme)) {
                    Ok(scheme) => schemes.push(scheme),
                    Err(detail) => field_errors.push(FieldError::new(format!("{at}/{number}"), detail)),
                }
            }
        }
        _ => {
            field_errors.push(FieldError::new(at, "must be \"none\" or a list of standard, ed25519, dfns, sent, svix"))
        }
    }
    schemes
}

fn repeated(schemes: &[SignatureScheme], scheme: SignatureScheme) -> FieldResult<SignatureScheme> {
    if schemes.contains(&scheme) { Err("is there already".to_owned()) } else { Ok(scheme) }
}

pub fn read_ordered(webhook: &mut Webhook, field: &mut FormField<'_, '_>) {
    let ordered = |raw: &RawValue| match raw.get() {
        "false" => Ok(DeliveryOrder::No),
        "true" => Ok(DeliveryOrder::Webhook),
        "\"key\"" => Ok(DeliveryOrder::Key),
        _ => Err("must be false, true or \"key\"".to_owned()),
    };
    webhook.ordered = field.optional(ordered).unwrap_or(DeliveryOrder::No);
}

/// A rate in requests per second.
pub fn read_rate(raw: &RawValue) -> FieldResult<f64> {
    fields::number(raw, RATE_PER_S_MIN..=RATE_PER_S_MAX)
}

pub fn read_schedule(webhook: &mut Webhook, field: &mut FormField<'_, '_>) {
    let at = field.object.at(field.name);
    webhook.retry_schedule_s = match field.object.take(field.name) {
        Some(raw) => schedule_of(raw, &at, field.errors),
        None => SCHEDULES[0].1.to_vec(),
    };
}

fn schedule_of(raw: &RawValue, at: &str, field_errors: &mut FieldErrors) -> Vec<u32> {
    if let Ok(name) = fields::text(raw) {
        let Some((_, steps)) = SCHEDULES.iter().find(|(known, _)| *known == name) else {
            let detail = "must be standard, dfns, sent, everlytic, svix or none, or a list of seconds";
            field_errors.push(FieldError::new(at, detail));
            return Vec::new();
        };
        return steps.to_vec();
    }
    let items = fields::elements(raw, SCHEDULE_STEPS_MAX).unwrap_or_else(|detail| {
        field_errors.push(FieldError::new(at, detail));
        Vec::new()
    });
    let mut steps = Vec::with_capacity(items.len());
    for (number, item) in items.into_iter().enumerate() {
        match fields::whole(item, 0..=SCHEDULE_STEP_S_MAX) {
            Ok(seconds) => steps.push(seconds as u32),
            Err(detail) => field_errors.push(FieldError::new(format!("{at}/{number}"), detail)),
        }
    }
    steps
}

/// A caller sets the status, so a webhook that becomes disabled here is disabled manually.
pub fn read_status(webhook: &mut Webhook, field: &mut FormField<'_, '_>) {
    let status = field.choice("enabled, paused or disabled", WebhookStatus::Enabled);
    webhook.disabled_reason = match status {
        WebhookStatus::Disabled if webhook.status == WebhookStatus::Disabled => {
            webhook.disabled_reason.or(Some(DisabledReason::Manual))
        }
        WebhookStatus::Disabled => Some(DisabledReason::Manual),
        WebhookStatus::Enabled | WebhookStatus::Paused => None,
    };
    webhook.status = status;
}

/// Names a webhook without a name after its host, and checks members against one another.
pub fn finish(webhook: &mut Webhook, field_errors: &mut FieldErrors) {
    if webhook.name.is_empty() {
        webhook.name = host_of(&webhook.url).chars().take(NAME_CHARS_MAX).collect();
    }
    let two_ids = [SignatureScheme::Standard, SignatureScheme::Ed25519];
    if webhook.signature.contains(&SignatureScheme::Svix) && webhook.signature.iter().any(|s| two_ids.contains(s)) {
        let detail = "must not have svix beside standard or ed25519: each would state another id of the event";
        field_errors.push(FieldError::new("/signature", detail));
    }
    if webhook.encrypted && matches!(webhook.method, WebhookMethod::Get | WebhookMethod::Delete) {
        field_errors.push(FieldError::new(
            "/encrypted",
            "needs a method with a body: get and delete send everything in the URL",
        ));
    }
    let set_by_auth = match &webhook.auth {
        Some(WebhookAuth::Basic { .. } | WebhookAuth::Bearer { .. }) => "authorization",
        Some(WebhookAuth::Header { name, .. }) => name.as_str(),
        None => return,
    };
    if let Some(name) = webhook.headers.keys().find(|name| name.eq_ignore_ascii_case(set_by_auth)) {
        field_errors.push(FieldError::new(format!("/headers/{}", escape_token(name)), "is set by auth already"));
    }
}

/// A signing secret: `whsec_` and base64 of 24 to 75 bytes.
pub fn read_secret(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    match signing::parse_secret(&text) {
        Ok(_) => Ok(text),
        Err(bad) => Err(format!("must be whsec_ and base64 of 24 to 75 bytes: {bad}")),
    }
}

#[cfg(test)]
mod tests;
