//! Reading a webhook's configuration out of JSON: every field of api.md section 5 judged, all mistakes at once.
//!
//! A create and a patched webhook go through the same reading: a patch is applied to the webhook's JSON form first
//! (`webhook_patch`), so absent and `null` mean the default here, whichever it is.

use std::collections::{BTreeMap, HashSet};

use http::{HeaderName, HeaderValue};
use serde_json::value::RawValue;

use crate::api::error::FieldError;
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::limits::{
    CHANNELS_MAX, CREDENTIAL_CHARS_MAX, DESCRIPTION_CHARS_MAX, DISABLE_AFTER_S_MAX, EVENT_TYPES_MAX,
    HEADER_VALUE_BYTES_MAX, HEADERS_MAX, IN_FLIGHT_MAX, NAME_CHARS_MAX, PEM_BYTES_MAX, RATE_PER_S_MAX, RATE_PER_S_MIN,
    SCHEDULE_STEP_S_MAX, SCHEDULE_STEPS_MAX, TIMEOUT_MS_MAX, TIMEOUT_MS_MIN,
};
use crate::model::webhook::{
    ContentType, DISABLE_AFTER_S_DEFAULT, DeliveryOrder, DisabledReason, FieldSet, IN_FLIGHT_DEFAULT, SignatureScheme,
    SuccessRule, TIMEOUT_MS_DEFAULT, Webhook, WebhookAuth, WebhookMethod, WebhookProxy, WebhookStatus, WebhookTls,
};
use crate::rules::filter::Filter;
use crate::rules::json::escape_token;
use crate::rules::target::{self, TargetPolicy};
use crate::rules::{patterns, signing};

use super::publish::read_channel;

/// Retry schedules by name, in seconds: Standard Webhooks' recommendation, and the vendors' (api.md section 5).
pub const SCHEDULES: [(&str, &[u32]); 5] = [
    ("standard", &[5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]),
    ("dfns", &[60, 660, 6_480, 79_200]),
    ("sent", &[60, 120, 240]),
    ("everlytic", &[300; 864]),
    ("none", &[]),
];

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

/// Reads every writable field out of `object` into `webhook`, which is meaningless if a mistake was found. Without a
/// `policy` the URL is not judged again: it was, when it was given.
pub fn read(
    webhook: &mut Webhook,
    object: &mut JsonObject<'_>,
    policy: Option<&TargetPolicy>,
    field_errors: &mut FieldErrors,
) {
    read_target(webhook, object, policy, field_errors);
    read_request(webhook, object, field_errors);
    read_selection(webhook, object, field_errors);
    read_signing(webhook, object, field_errors);
    read_pace(webhook, object, field_errors);
    read_status(webhook, object, field_errors);
    judge_together(webhook, field_errors);
}

fn read_target(
    webhook: &mut Webhook,
    object: &mut JsonObject<'_>,
    policy: Option<&TargetPolicy>,
    field_errors: &mut FieldErrors,
) {
    let judge = |raw: &RawValue| {
        let text = fields::text(raw)?;
        match policy.map(|policy| target::check_url(&text, policy)) {
            Some(Err(refused)) => Err(refused.to_string()),
            Some(Ok(target)) => Ok((text, target.host.to_string())),
            None => Ok((text, String::new())),
        }
    };
    let (url, host) = object.required("url", field_errors, judge).unwrap_or_default();
    let host = if host.is_empty() { host_of(&url) } else { host };
    webhook.name = object
        .optional("name", field_errors, |raw| fields::line(raw, 1..=NAME_CHARS_MAX))
        .unwrap_or_else(|| host.chars().take(NAME_CHARS_MAX).collect());
    webhook.url = url;
    webhook.description = object.optional("description", field_errors, read_description);
}

/// The host of a URL that was judged before; empty where there is none.
fn host_of(url: &str) -> String {
    url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

fn read_description(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    match text.chars().count() <= DESCRIPTION_CHARS_MAX && !text.contains('\0') {
        true => Ok(text),
        false => Err(format!("must have at most {DESCRIPTION_CHARS_MAX} characters, none of them NUL")),
    }
}

fn read_request(webhook: &mut Webhook, object: &mut JsonObject<'_>, field_errors: &mut FieldErrors) {
    let method = |raw: &RawValue| fields::choice(raw, "get, put, post, patch or delete");
    webhook.method = object.optional("method", field_errors, method).unwrap_or(WebhookMethod::Post);
    let content_type = |raw: &RawValue| fields::choice(raw, "application/json or application/x-www-form-urlencoded");
    webhook.content_type = object.optional("content_type", field_errors, content_type).unwrap_or(ContentType::Json);
    let field_set = |raw: &RawValue| fields::choice(raw, "standard, raw, legacy, dfns, sent or flat");
    webhook.field_set = object.optional("field_set", field_errors, field_set).unwrap_or(FieldSet::Standard);
    webhook.include_html = object.optional("include_html", field_errors, fields::boolean).unwrap_or(false);
    webhook.handshake = object.optional("handshake", field_errors, fields::boolean).unwrap_or(false);
    let success_rule = |raw: &RawValue| fields::choice(raw, "2xx or 200");
    webhook.success_rule = object.optional("success_rule", field_errors, success_rule).unwrap_or(SuccessRule::Any2xx);
    webhook.auth = object.object("auth", field_errors).and_then(|auth| read_auth(auth, field_errors));
    webhook.headers =
        object.object("headers", field_errors).map(|headers| read_headers(headers, field_errors)).unwrap_or_default();
    let at = object.at("secret_headers");
    webhook.secret_headers = object
        .optional("secret_headers", field_errors, |raw| fields::elements(raw, HEADERS_MAX))
        .map_or_else(Vec::new, |names| {
            let names = names.into_iter().enumerate();
            names.filter_map(|(number, raw)| read_header_name(raw, format!("{at}/{number}"), field_errors)).collect()
        });
    webhook.tls = object.object("tls", field_errors).and_then(|tls| read_tls(tls, field_errors));
    let proxy = |raw: &RawValue| fields::choice(raw, "default or none");
    webhook.proxy = object.optional("proxy", field_errors, proxy).unwrap_or(WebhookProxy::Default);
}

fn read_auth(mut auth: JsonObject<'_>, field_errors: &mut FieldErrors) -> Option<WebhookAuth> {
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
            name: auth.required("name", field_errors, |raw| judge_header_name(fields::text(raw)?)).unwrap_or_default(),
            value: auth.required("value", field_errors, read_header_value).unwrap_or_default(),
        },
    };
    auth.finish(field_errors);
    (field_errors.len() == before).then_some(read)
}

/// RFC 7617 section 2: a user name cannot have a colon, neither part a control character.
fn read_username(raw: &RawValue) -> FieldResult<String> {
    let text = fields::line(raw, 0..=CREDENTIAL_CHARS_MAX)?;
    if text.contains(':') { Err("must not have a colon".to_owned()) } else { Ok(text) }
}

fn read_credential(raw: &RawValue) -> FieldResult<String> {
    fields::line(raw, 0..=CREDENTIAL_CHARS_MAX)
}

fn read_headers(map: JsonObject<'_>, field_errors: &mut FieldErrors) -> BTreeMap<String, String> {
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
        match judge_header_name(name.into_owned()).and_then(|name| Ok((name, read_header_value(raw)?))) {
            Ok((name, value)) => drop(headers.insert(name, value)),
            Err(detail) => field_errors.push(FieldError::new(here, detail)),
        }
    }
    headers
}

/// A header's name (RFC 9110 section 5.6.2) that is not reserved for the sender itself.
fn judge_header_name(name: String) -> FieldResult<String> {
    let lower = name.to_ascii_lowercase();
    if HeaderName::from_bytes(lower.as_bytes()).is_err() {
        return Err("must be a header name: letters, digits and !#$%&'*+-.^_`|~".to_owned());
    }
    let reserved = RESERVED_HEADERS.contains(&lower.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
        || signing::HEADERS.contains(&lower.as_str());
    if reserved { Err("is a header that cannot be set".to_owned()) } else { Ok(name) }
}

fn read_header_name(raw: &RawValue, at: String, field_errors: &mut FieldErrors) -> Option<String> {
    fields::text(raw).and_then(judge_header_name).map_err(|detail| field_errors.push(FieldError::new(at, detail))).ok()
}

/// Visible ASCII, spaces and tabs, without spaces or tabs at the ends (RFC 9110 section 5.5).
fn read_header_value(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    let fits = text.len() <= HEADER_VALUE_BYTES_MAX && text.trim_matches([' ', '\t']) == text;
    match fits && text.is_ascii() && HeaderValue::from_str(&text).is_ok() {
        true => Ok(text),
        false => Err(format!("must be a header value: up to {HEADER_VALUE_BYTES_MAX} visible ASCII characters")),
    }
}

/// PEM is only looked at from outside here; whether the certificates and the key fit is found out when they are used.
fn read_tls(mut tls: JsonObject<'_>, field_errors: &mut FieldErrors) -> Option<WebhookTls> {
    let read = WebhookTls {
        ca_pem: tls.optional("ca_pem", field_errors, |raw| read_pem(raw, "CERTIFICATE-----")),
        client_cert_pem: tls.optional("client_cert_pem", field_errors, |raw| read_pem(raw, "CERTIFICATE-----")),
        client_key_pem: tls.optional("client_key_pem", field_errors, |raw| read_pem(raw, "PRIVATE KEY-----")),
    };
    match (&read.client_cert_pem, &read.client_key_pem) {
        (Some(_), None) => {
            field_errors.push(FieldError::new(tls.at("client_key_pem"), "must be given with client_cert_pem"))
        }
        (None, Some(_)) => {
            field_errors.push(FieldError::new(tls.at("client_cert_pem"), "must be given with client_key_pem"))
        }
        _ => {}
    }
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

fn read_selection(webhook: &mut Webhook, object: &mut JsonObject<'_>, field_errors: &mut FieldErrors) {
    let pattern = |raw: &RawValue| {
        let text = fields::text(raw)?;
        match patterns::is_pattern(&text) {
            true => Ok(text),
            false => Err("must be an event type, or one ending in .* or .**, or *".to_owned()),
        }
    };
    webhook.event_types = object.strings("event_types", field_errors, EVENT_TYPES_MAX, pattern).unwrap_or_default();
    webhook.channels = object.strings("channels", field_errors, CHANNELS_MAX, read_channel).unwrap_or_default();
    let at = object.at("filter");
    webhook.filter = object.take("filter").and_then(|raw| match Filter::parse_text(raw.get().as_bytes()) {
        Ok(filter) => Some(filter.as_json().to_owned()),
        Err(mistakes) => {
            field_errors.extend(
                mistakes.into_iter().map(|(pointer, detail)| FieldError::new(format!("{at}{pointer}"), detail)),
            );
            None
        }
    });
}

fn read_signing(webhook: &mut Webhook, object: &mut JsonObject<'_>, field_errors: &mut FieldErrors) {
    webhook.encrypted = object.optional("encrypted", field_errors, fields::boolean).unwrap_or(false);
    let at = object.at("signature");
    webhook.signature = match object.take("signature") {
        None => vec![SignatureScheme::Standard],
        Some(raw) if raw.get() == "\"none\"" => Vec::new(),
        Some(raw) => read_schemes(raw, &at, field_errors),
    };
}

fn read_schemes(raw: &RawValue, at: &str, field_errors: &mut FieldErrors) -> Vec<SignatureScheme> {
    let mut schemes = Vec::new();
    match fields::elements(raw, 4) {
        Ok(items) if !items.is_empty() => {
            for (number, item) in items.into_iter().enumerate() {
                let read = fields::choice(item, "standard, ed25519, dfns or sent");
                match read.and_then(|scheme| repeated(&schemes, scheme)) {
                    Ok(scheme) => schemes.push(scheme),
                    Err(detail) => field_errors.push(FieldError::new(format!("{at}/{number}"), detail)),
                }
            }
        }
        _ => field_errors.push(FieldError::new(at, "must be \"none\" or a list of standard, ed25519, dfns, sent")),
    }
    schemes
}

fn repeated(schemes: &[SignatureScheme], scheme: SignatureScheme) -> FieldResult<SignatureScheme> {
    if schemes.contains(&scheme) { Err("is there already".to_owned()) } else { Ok(scheme) }
}

fn read_pace(webhook: &mut Webhook, object: &mut JsonObject<'_>, field_errors: &mut FieldErrors) {
    webhook.retry_schedule_s = read_schedule(object, field_errors);
    let timeout = |raw: &RawValue| fields::whole(raw, TIMEOUT_MS_MIN..=TIMEOUT_MS_MAX);
    webhook.timeout_ms =
        object.optional("timeout_ms", field_errors, timeout).map_or(TIMEOUT_MS_DEFAULT, |ms| ms as u32);
    let in_flight = |raw: &RawValue| fields::whole(raw, 1..=IN_FLIGHT_MAX);
    webhook.max_in_flight =
        object.optional("max_in_flight", field_errors, in_flight).map_or(IN_FLIGHT_DEFAULT, |n| n as u32);
    webhook.rate_limit_per_s = object.optional("rate_limit_per_s", field_errors, read_rate);
    let ordered = |raw: &RawValue| match raw.get() {
        "false" => Ok(DeliveryOrder::No),
        "true" => Ok(DeliveryOrder::Webhook),
        "\"key\"" => Ok(DeliveryOrder::Key),
        _ => Err("must be false, true or \"key\"".to_owned()),
    };
    webhook.ordered = object.optional("ordered", field_errors, ordered).unwrap_or(DeliveryOrder::No);
    let disable_after = |raw: &RawValue| fields::whole(raw, 0..=DISABLE_AFTER_S_MAX);
    webhook.disable_after_s =
        object.optional("disable_after_s", field_errors, disable_after).unwrap_or(DISABLE_AFTER_S_DEFAULT);
}

/// Requests per second.
pub fn read_rate(raw: &RawValue) -> FieldResult<f64> {
    fields::number(raw, RATE_PER_S_MIN..=RATE_PER_S_MAX)
}

fn read_schedule(object: &mut JsonObject<'_>, field_errors: &mut FieldErrors) -> Vec<u32> {
    let at = object.at("retry_schedule_s");
    let Some(raw) = object.take("retry_schedule_s") else {
        return SCHEDULES[0].1.to_vec();
    };
    if let Ok(name) = fields::text(raw) {
        let Some((_, steps)) = SCHEDULES.iter().find(|(known, _)| *known == name) else {
            field_errors
                .push(FieldError::new(at, "must be standard, dfns, sent, everlytic or none, or a list of seconds"));
            return Vec::new();
        };
        return steps.to_vec();
    }
    let items = fields::elements(raw, SCHEDULE_STEPS_MAX).unwrap_or_else(|detail| {
        field_errors.push(FieldError::new(at.clone(), detail));
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
fn read_status(webhook: &mut Webhook, object: &mut JsonObject<'_>, field_errors: &mut FieldErrors) {
    let status = |raw: &RawValue| fields::choice(raw, "enabled, paused or disabled");
    let status = object.optional("status", field_errors, status).unwrap_or(WebhookStatus::Enabled);
    webhook.disabled_reason = match status {
        WebhookStatus::Disabled if webhook.status == WebhookStatus::Disabled => {
            webhook.disabled_reason.or(Some(DisabledReason::Manual))
        }
        WebhookStatus::Disabled => Some(DisabledReason::Manual),
        WebhookStatus::Enabled | WebhookStatus::Paused => None,
    };
    webhook.status = status;
}

/// Checks between several fields.
fn judge_together(webhook: &Webhook, field_errors: &mut FieldErrors) {
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

/// A signing secret: `whsec_` and base64 of 24 to 64 bytes.
pub fn read_secret(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    match signing::parse_secret(&text) {
        Ok(_) => Ok(text),
        Err(bad) => Err(format!("must be whsec_ and base64 of 24 to 64 bytes: {bad}")),
    }
}

#[cfg(test)]
mod tests;
