//! The fields of a webhook's form: a webhook as texts, and the texts as a request of the API.
//!
//! Invariant: a text that cannot be read becomes a mistake at its field. No part of it is dropped.

use serde_json::{Map, Value, json};

use crate::api::FieldError;
use crate::api::auth::sha256;
use crate::api::native::webhook_text::{MASK, ordered_value, shown_headers};
use crate::model::Webhook;
use crate::model::time::SECOND_MS;
use crate::model::webhook::{SignatureScheme, WebhookAuth, WebhookTls};
use crate::rules::durations;
use crate::rules::filter::Filter;
use crate::rules::json::{self, JsonLimits};
use crate::ui::form::PostedForm;

/// The name of the field that says which values the form was loaded with.
pub const LOADED_FIELD: &str = "loaded";
/// The name of the field with the names of the headers that the form was loaded with.
pub const LOADED_HEADERS_FIELD: &str = "loaded_headers";
/// The name of the field with the names in `metadata` that the form was loaded with, as a JSON array.
pub const LOADED_METADATA_FIELD: &str = "loaded_metadata";
/// Letters of a digest in `LOADED_FIELD`.
const DIGEST_CHARS: usize = 16;
/// Characters of a line that a mistake repeats.
const LINE_CHARS_SHOWN: usize = 40;
/// A value that no field of the API takes.
const REFUSED: &str = "false";

/// How a field's text becomes JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// One line, or a choice.
    Line,
    /// Lines of one text.
    Lines,
    Number,
    /// `true`, `false` or another word.
    Boolean,
    /// A list of words, separated by commas or white space.
    Words,
    /// A list of texts, one a line.
    Items,
    /// `NAME: VALUE`, one a line.
    Headers,
    Filter,
    /// A JSON object.
    Object,
    Schemes,
    /// Durations, or the name of a schedule.
    Schedule,
    /// A part of the member `auth`.
    Part,
    /// A part of the member `tls`, of several lines.
    PartLines,
}

/// One field of the form.
pub struct FormValue {
    pub name: &'static str,
    pub label: &'static str,
    pub kind: ValueKind,
    /// The meaning of an emptied field, and further hints. Empty for none.
    pub hint: &'static str,
}

const fn value(name: &'static str, label: &'static str, kind: ValueKind, hint: &'static str) -> FormValue {
    FormValue { name, label, kind, hint }
}

/// The fields, in the order of the form.
pub static VALUES: [FormValue; 33] = [
    value("url", "URL", ValueKind::Line, ""),
    value("name", "Name", ValueKind::Line, "Empty: the host of the URL."),
    value("description", "Description", ValueKind::Lines, ""),
    value("app_id", "App", ValueKind::Line, "Its id or uid. Empty: the default app."),
    value("event_types", "Types, one a line", ValueKind::Words, "Empty: all."),
    value("channels", "Channels, one a line", ValueKind::Items, "Empty: all."),
    value("filter", "Filter, as JSON", ValueKind::Filter, "Empty: every event passes."),
    value("method", "Method", ValueKind::Line, ""),
    value("field_set", "Body", ValueKind::Line, ""),
    value("content_type", "Media type", ValueKind::Line, ""),
    value("include_html", "HTML in legacy bodies", ValueKind::Boolean, ""),
    value("encrypted", "Encryption", ValueKind::Boolean, ""),
    value("signature", "Signature", ValueKind::Schemes, ""),
    value("headers", "Headers, one a line", ValueKind::Headers, "Each as NAME: VALUE."),
    value(
        "secret_headers",
        "Names of secret headers, one a line",
        ValueKind::Items,
        "Their values are not shown again.",
    ),
    value("secret", "Secret", ValueKind::Line, "Empty: a new one is made."),
    value("auth", "Authentication", ValueKind::Part, ""),
    value("auth_name", "User or header, by its name", ValueKind::Part, ""),
    value("auth_secret", "Password, token or value", ValueKind::Part, ""),
    value("tls_ca", "Only trusted CA, as PEM", ValueKind::PartLines, "Empty: the CAs of the installation."),
    value("tls_cert", "Client certificate, as PEM", ValueKind::PartLines, ""),
    value("tls_key", "Its private key, as PEM", ValueKind::PartLines, ""),
    value(
        "retry_schedule_s",
        "Retries after",
        ValueKind::Schedule,
        "Empty: 5s, 5m, 30m, 2h, 5h, 10h, 14h, 20h, 24h. For no retries write: none",
    ),
    value("timeout_ms", "Time limit, ms", ValueKind::Number, "Empty: 15000."),
    value("max_in_flight", "Requests at once", ValueKind::Number, "Empty: 16."),
    value("rate_limit_per_s", "Requests a second", ValueKind::Number, "Empty: no limit."),
    value("ordered", "Order", ValueKind::Boolean, ""),
    value("success_rule", "Delivered is", ValueKind::Line, ""),
    value("handshake", "Handshake", ValueKind::Boolean, ""),
    value("proxy", "Proxy", ValueKind::Line, ""),
    value(
        "disable_after_s",
        "Switched off after failures, seconds",
        ValueKind::Number,
        "Empty: 432000, which is 5 days. 0: never.",
    ),
    value("uid", "Uid", ValueKind::Line, "Unique in its app. Empty: none."),
    value("metadata", "Metadata, as a JSON object of strings", ValueKind::Object, "Empty: none."),
];

/// The field of this name.
pub fn value_of(name: &str) -> Option<&'static FormValue> {
    VALUES.iter().find(|value| value.name == name)
}

impl FormValue {
    /// The label without its hint after a comma.
    pub fn short_label(&self) -> &'static str {
        self.label.split_once(',').map_or(self.label, |(label, _)| label)
    }
}

impl ValueKind {
    /// Whether the field has several lines.
    pub const fn is_area(self) -> bool {
        match self {
            ValueKind::Lines | ValueKind::Words | ValueKind::Items | ValueKind::Headers | ValueKind::Filter => true,
            ValueKind::Object | ValueKind::PartLines => true,
            ValueKind::Line | ValueKind::Number | ValueKind::Boolean | ValueKind::Schemes => false,
            ValueKind::Schedule | ValueKind::Part => false,
        }
    }

    /// The items of a list's text.
    pub fn items(self, text: &str) -> Vec<&str> {
        // A channel may contain spaces and commas, which a type and a duration cannot.
        let is_end = |c: char| match self {
            ValueKind::Words | ValueKind::Schedule => c == ',' || c.is_whitespace(),
            _ => c == '\n',
        };
        text.split(is_end).map(str::trim).filter(|item| !item.is_empty()).collect()
    }
}

/// The fields of a webhook as the form shows them. Credentials are masked.
pub fn fields_of(webhook: &Webhook) -> PostedForm {
    let steps: Vec<String> = webhook.retry_schedule_s.iter().map(u32::to_string).collect();
    let schedule = if steps.is_empty() { "none".to_owned() } else { steps.join(", ") };
    let scheme = |scheme: &SignatureScheme| format!("{scheme:?}").to_lowercase();
    let schemes: Vec<String> = webhook.signature.iter().map(scheme).collect();
    let signature = if schemes.is_empty() { "none".to_owned() } else { schemes.join(",") };
    let headers: Vec<String> =
        shown_headers(webhook).into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let (auth, auth_name, auth_secret) = match &webhook.auth {
        None => ("", "", ""),
        Some(WebhookAuth::Basic { username, .. }) => ("basic", username.as_str(), MASK),
        Some(WebhookAuth::Bearer { .. }) => ("bearer", "", MASK),
        Some(WebhookAuth::Header { name, .. }) => ("header", name.as_str(), MASK),
    };
    let WebhookTls { ca_pem, client_cert_pem, client_key_pem } = webhook.tls.clone().unwrap_or_default();
    PostedForm::filled([
        ("name", webhook.name.clone()),
        ("description", webhook.description.clone().unwrap_or_default()),
        ("url", webhook.url.clone()),
        ("event_types", webhook.event_types.join("\n")),
        ("channels", webhook.channels.join("\n")),
        ("filter", webhook.filter.clone().unwrap_or_default()),
        ("method", word(webhook.method)),
        ("field_set", word(webhook.field_set)),
        ("content_type", word(webhook.content_type)),
        ("include_html", webhook.include_html.to_string()),
        ("encrypted", webhook.encrypted.to_string()),
        ("signature", signature),
        ("headers", headers.join("\n")),
        ("secret_headers", webhook.secret_headers.join("\n")),
        ("auth", auth.to_owned()),
        ("auth_name", auth_name.to_owned()),
        ("auth_secret", auth_secret.to_owned()),
        ("tls_ca", ca_pem.unwrap_or_default()),
        ("tls_cert", client_cert_pem.unwrap_or_default()),
        ("tls_key", client_key_pem.map(|_| MASK.to_owned()).unwrap_or_default()),
        ("retry_schedule_s", schedule),
        ("timeout_ms", webhook.timeout_ms.to_string()),
        ("max_in_flight", webhook.max_in_flight.to_string()),
        ("rate_limit_per_s", webhook.rate_limit_per_s.map(|rate| rate.to_string()).unwrap_or_default()),
        ("ordered", plain(&ordered_value(webhook.ordered))),
        ("success_rule", word(webhook.success_rule)),
        ("handshake", webhook.handshake.to_string()),
        ("proxy", word(webhook.proxy)),
        ("disable_after_s", webhook.disable_after_s.to_string()),
        ("uid", webhook.uid.clone().unwrap_or_default()),
        ("metadata", if webhook.metadata.is_empty() { String::new() } else { json!(webhook.metadata).to_string() }),
    ])
}

/// The word that the API has for a value.
fn word(value: impl serde::Serialize) -> String {
    plain(&json!(value))
}

/// A JSON value as text, without the quotes of a string.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The hidden fields with the values that a form is loaded with.
pub fn loaded(form: &PostedForm) -> PostedForm {
    PostedForm::filled([
        (LOADED_FIELD, digests(form)),
        (LOADED_HEADERS_FIELD, header_names(form)),
        (LOADED_METADATA_FIELD, metadata_names(form)),
    ])
}

/// The hidden fields that a posted form has.
pub fn repeated(form: &PostedForm) -> PostedForm {
    let hidden = [LOADED_FIELD, LOADED_HEADERS_FIELD, LOADED_METADATA_FIELD].into_iter().filter(|name| form.has(name));
    PostedForm::filled(hidden.map(|name| (name, form.get(name).to_owned())))
}

/// The hint of a field. The value of an emptied field is that of the preset, if the preset has another one.
pub fn hint_under(field: &FormValue, preset: Option<&Webhook>) -> String {
    let native = || field.hint.to_owned();
    let (Some(preset), Some((_, rest))) =
        (preset, field.hint.strip_prefix("Empty: ").and_then(|it| it.split_once('.')))
    else {
        return native();
    };
    let plain = fields_of(&Webhook::new(preset.org_id, preset.app_id));
    let own = fields_of(preset);
    let own = own.get(field.name);
    match own == plain.get(field.name) || own.is_empty() {
        true => native(),
        false => {
            format!("Empty: {}.{rest}", if field.kind == ValueKind::Schedule { spoken(own) } else { own.to_owned() })
        }
    }
}

/// The steps of a schedule with their units.
fn spoken(schedule: &str) -> String {
    let step = |text: &str| text.parse::<i64>().map_or_else(|_| text.to_owned(), |s| durations::exact(s * SECOND_MS));
    schedule.split(", ").map(step).collect::<Vec<_>>().join(", ")
}

/// `name:digest` of every field, for `is_untouched`.
fn digests(form: &PostedForm) -> String {
    let digests: Vec<String> = form.fields().map(|(name, text)| format!("{name}:{}", digest(name, text))).collect();
    digests.join(" ")
}

/// The names of the headers in the form, for `LOADED_HEADERS_FIELD`.
fn header_names(form: &PostedForm) -> String {
    let names = form.get("headers").lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name);
    names.collect::<Vec<_>>().join(" ")
}

/// The names in the metadata of the form, for `LOADED_METADATA_FIELD`.
fn metadata_names(form: &PostedForm) -> String {
    let metadata = serde_json::from_str::<Map<String, Value>>(form.get("metadata")).unwrap_or_default();
    json!(metadata.keys().collect::<Vec<_>>()).to_string()
}

/// A digest of a field's value as far as a browser gives it back. A browser sends lines that end in CR LF, and removes
/// the line breaks of a field of one line (HTML, section 4.10.5.1.2).
fn digest(name: &str, text: &str) -> String {
    let text = match value_of(name).is_some_and(|value| value.kind.is_area()) {
        true => unix_lines(text),
        false => text.replace(['\r', '\n'], ""),
    };
    let mut hex: String = sha256(&[text.trim().as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(DIGEST_CHARS);
    hex
}

/// The text with lines that end in LF.
fn unix_lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// Whether the field has the value that the form was loaded with. It is then not sent, so that the form never rewrites
/// a value that it cannot show exactly, or that has changed since.
fn is_untouched(form: &PostedForm, name: &str) -> bool {
    let mut pairs = form.get(LOADED_FIELD).split(' ').filter_map(|pair| pair.split_once(':'));
    pairs.any(|(loaded, hash)| loaded == name && hash == digest(name, form.get(name)))
}

/// The request of a form.
pub struct FormRequest {
    /// The text of a JSON object.
    pub body: String,
    /// Mistakes that the API does not see as they were written. Their members have a value that the API refuses.
    pub mistakes: Vec<FieldError>,
}

/// The request of the form. A new webhook leaves out empty fields. A changed one leaves out untouched fields, and sets
/// emptied ones to null, which means the default.
pub fn request_of(form: &PostedForm, is_new: bool) -> FormRequest {
    let mut members: Vec<(&str, String)> = Vec::new();
    let mut mistakes = Vec::new();
    let mut put = |name: &'static str, read: Result<String, Vec<FieldError>>| {
        let text = read.unwrap_or_else(|wrong| {
            mistakes.extend(wrong);
            REFUSED.to_owned()
        });
        members.push((name, text));
    };
    let is_sent = |name: &str| form.has(name) && (is_new || !is_untouched(form, name));
    for field in VALUES.iter().filter(|field| is_sent(field.name)) {
        let is_empty = form.get(field.name).trim().is_empty();
        match field.kind {
            ValueKind::Part | ValueKind::PartLines => {}
            _ if is_empty && is_new => {}
            // Schemes that the form does not offer stay.
            ValueKind::Schemes if is_empty => {}
            _ if is_empty => put(field.name, Ok("null".to_owned())),
            _ => put(field.name, json_of(form, field)),
        }
    }
    if ["auth", "auth_name", "auth_secret"].into_iter().any(is_sent) {
        match auth_of(form) {
            Ok(Value::Null) if is_new => {}
            read => put("auth", read.map(|auth| auth.to_string())),
        }
    }
    let parts = [("ca_pem", "tls_ca"), ("client_cert_pem", "tls_cert"), ("client_key_pem", "tls_key")];
    let parts = parts.into_iter().filter(|(_, name)| is_sent(name)).map(|(part, name)| {
        let text = unix_lines(form.get(name));
        (part.to_owned(), if text.trim().is_empty() { Value::Null } else { Value::from(text.trim()) })
    });
    let parts: Map<String, Value> = parts.filter(|(_, text)| !is_new || !text.is_null()).collect();
    if !parts.is_empty() {
        put("tls", Ok(Value::Object(parts).to_string()));
    }
    let members: Vec<String> = members.iter().map(|(name, text)| format!("\"{name}\":{text}")).collect();
    FormRequest { body: format!("{{{}}}", members.join(",")), mistakes }
}

/// The JSON text of a field that is not empty.
fn json_of(form: &PostedForm, field: &FormValue) -> Result<String, Vec<FieldError>> {
    let lines = unix_lines(form.get(field.name));
    let text = lines.trim();
    let read = match field.kind {
        ValueKind::Number => number(text),
        ValueKind::Boolean => text.parse::<bool>().map_or_else(|_| text.into(), Value::Bool),
        ValueKind::Words | ValueKind::Items => json!(field.kind.items(text)),
        ValueKind::Headers => return headers_of(&lines, form.get(LOADED_HEADERS_FIELD)),
        ValueKind::Filter => return filter_of(text),
        ValueKind::Object => return object_of(field.name, text, form.get(LOADED_METADATA_FIELD)),
        ValueKind::Schemes if text == "none" => text.into(),
        ValueKind::Schemes => json!(text.split(',').collect::<Vec<_>>()),
        ValueKind::Schedule => schedule_of(field.kind.items(text)),
        ValueKind::Line | ValueKind::Lines | ValueKind::Part | ValueKind::PartLines => text.into(),
    };
    Ok(read.to_string())
}

/// A number that cannot be read goes on as text, so that the API says where it is wrong.
fn number(text: &str) -> Value {
    serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| text.into(), Value::Number)
}

/// The filter as it was written: numbers keep every digit, and no member is lost.
fn filter_of(text: &str) -> Result<String, Vec<FieldError>> {
    let wrong = |(pointer, detail)| FieldError::new(format!("/filter{pointer}"), detail);
    let read = Filter::parse_text(text.as_bytes()).map(|filter| filter.as_json().to_owned());
    read.map_err(|mistakes| mistakes.into_iter().map(wrong).collect())
}

/// The object as it was written, and null for each loaded name that is gone. A value that is no object goes on, so that
/// the API refuses it in its own words.
fn object_of(name: &str, text: &str, loaded: &str) -> Result<String, Vec<FieldError>> {
    json::check(text.as_bytes(), JsonLimits::default())
        .map_err(|error| vec![FieldError::new(format!("/{name}{}", error.pointer), error.kind.to_string())])?;
    let Ok(Value::Object(mut object)) = serde_json::from_str(text) else { return Ok(text.to_owned()) };
    for name in serde_json::from_str::<Vec<String>>(loaded).unwrap_or_default() {
        object.entry(name).or_insert(Value::Null);
    }
    Ok(Value::Object(object).to_string())
}

/// The headers of the lines, and null for each loaded one that is gone.
fn headers_of(text: &str, loaded: &str) -> Result<String, Vec<FieldError>> {
    let mut headers: Map<String, Value> = Map::new();
    let mut mistakes = Vec::new();
    for (at, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
        let mut wrong = |detail: &str| {
            let shown: String = line.chars().take(LINE_CHARS_SHOWN).collect();
            let cut = if shown.len() < line.len() { "…" } else { "" };
            mistakes.push(FieldError::new("/headers", format!("line {}, “{shown}{cut}”, {detail}", at + 1)));
        };
        match line.split_once(':').map(|(name, value)| (name.trim(), value.trim())) {
            None => wrong("has no colon: write NAME: VALUE"),
            Some(("", _)) => wrong("has no name: write NAME: VALUE"),
            Some((name, _)) if headers.keys().any(|known| known.eq_ignore_ascii_case(name)) => {
                wrong("has the name of an earlier line: keep one of them");
            }
            Some((name, value)) => drop(headers.insert(name.to_owned(), value.into())),
        }
    }
    for name in loaded.split(' ').filter(|name| !name.is_empty()) {
        headers.entry(name).or_insert(Value::Null);
    }
    if mistakes.is_empty() { Ok(Value::Object(headers).to_string()) } else { Err(mistakes) }
}

/// The authentication of the form. Null for none.
fn auth_of(form: &PostedForm) -> Result<Value, Vec<FieldError>> {
    let (kind, name, secret) = (form.get("auth"), form.get("auth_name").trim(), form.get("auth_secret").trim());
    let wrong = |part: &str, detail: &str| Err(vec![FieldError::new(format!("/auth/{part}"), detail)]);
    match kind {
        "" if !(name.is_empty() && secret.is_empty() || secret == MASK) => {
            let detail = "is none, although there is a name or a secret: choose a kind, or empty both";
            Err(vec![FieldError::new("/auth", detail)])
        }
        "" => Ok(Value::Null),
        "basic" => Ok(json!({ "type": kind, "username": name, "password": secret })),
        "bearer" if secret.is_empty() => wrong("token", "must not be empty"),
        "bearer" if !name.is_empty() => wrong("name", "has no meaning for a bearer token: empty it"),
        "bearer" => Ok(json!({ "type": kind, "token": secret })),
        _ if secret.is_empty() => wrong("value", "must not be empty"),
        _ => Ok(json!({ "type": kind, "name": name, "value": secret })),
    }
}

/// A schedule by its name, or its steps in seconds.
fn schedule_of(items: Vec<&str>) -> Value {
    match items.as_slice() {
        [name] if name.starts_with(char::is_alphabetic) => json!(name),
        steps => steps.iter().map(|step| seconds(step)).collect(),
    }
}

/// A step of a schedule in seconds: `300`, `5m`, `2h`. Another text stays, so that the API says where it is wrong.
fn seconds(step: &str) -> Value {
    let (digits, factor) = match step.char_indices().last() {
        Some((at, 's')) => (&step[..at], 1),
        Some((at, 'm')) => (&step[..at], 60),
        Some((at, 'h')) => (&step[..at], 3_600),
        Some((at, 'd')) => (&step[..at], 86_400),
        _ => (step, 1),
    };
    digits.parse::<u32>().ok().and_then(|number| number.checked_mul(factor)).map_or_else(|| step.into(), Value::from)
}

/// The name of the field with the member at this pointer. It may be none of the form's.
pub fn field_at(pointer: &str) -> &str {
    let (member, rest) =
        pointer.trim_start_matches('/').split_once('/').unwrap_or((pointer.trim_start_matches('/'), ""));
    match (member, rest) {
        ("auth", "username" | "name") => "auth_name",
        ("auth", "password" | "token" | "value") => "auth_secret",
        ("tls", "client_cert_pem") => "tls_cert",
        ("tls", "client_key_pem") => "tls_key",
        ("tls", _) => "tls_ca",
        _ => member,
    }
}

/// The part of a field that the pointer names, as it was written. `None` if it is the whole field.
pub fn part_at(form: &PostedForm, pointer: &str) -> Option<String> {
    let (member, rest) = pointer.trim_start_matches('/').split_once('/')?;
    let field = value_of(member)?;
    let lines = unix_lines(form.get(member));
    match field.kind {
        ValueKind::Part | ValueKind::PartLines => None,
        ValueKind::Headers => Some(rest.replace("~1", "/").replace("~0", "~")),
        ValueKind::Words | ValueKind::Items | ValueKind::Schedule => {
            rest.parse::<usize>().ok().and_then(|at| field.kind.items(&lines).get(at).map(|item| (*item).to_owned()))
        }
        _ => Some(format!("/{rest}")),
    }
}

#[cfg(test)]
mod tests;
