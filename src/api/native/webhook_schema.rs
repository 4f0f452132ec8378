//! The schemas of a webhook's members and of its forms.

use serde_json::{Map, Value, json};

use crate::api::doc::parts::{
    about, boolean, choice, count, form, id, items, line, nullable, number, reference, text, time, whole,
};
use crate::api::limits::{
    CREDENTIAL_CHARS_MAX, DESCRIPTION_CHARS_MAX, EVENT_TYPES_MAX, HEADER_VALUE_BYTES_MAX, HEADERS_MAX, PEM_BYTES_MAX,
    RATE_PER_S_MAX, RATE_PER_S_MIN, SCHEDULE_STEP_S_MAX, SCHEDULE_STEPS_MAX,
};
use crate::rules::patterns::TYPE_BYTES_MAX;
use crate::rules::retry::SCHEDULES;
use crate::rules::target::URL_BYTES_MAX;

use super::owned;
use super::waiting_for;

/// The components of webhooks' forms, without the forms themselves.
pub fn components() -> Map<String, Value> {
    [
        ("WebhookStatus", choice(&["enabled", "paused", "disabled"])),
        ("Auth", auth()),
        ("Filter", filter()),
        ("FilterPatch", filter_patch()),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

pub fn description() -> Value {
    json!({ "type": "string", "maxLength": DESCRIPTION_CHARS_MAX, "pattern": "^[^\\u0000]*$" })
}

pub fn url() -> Value {
    let description =
        "http or https; no user info, no fragment, no closed port, no private address unless it is allowed.";
    let schema = json!({ "type": "string", "format": "uri", "maxLength": URL_BYTES_MAX, "pattern": "^[hH][tT][tT][pP][sS]?://" });
    about(schema, description)
}

pub fn auth_reference() -> Value {
    reference("Auth")
}

pub fn filter_reference() -> Value {
    reference("Filter")
}

pub fn filter_patch_reference() -> Value {
    reference("FilterPatch")
}

pub fn status_reference() -> Value {
    reference("WebhookStatus")
}

pub fn status_since() -> Value {
    about(time(), "When `status` changed last; null if an older version changed it.")
}

pub fn failing_since() -> Value {
    about(time(), "The first failed attempt since the last success.")
}

pub fn failed_probes() -> Value {
    about(count(), "Probes that failed since the circuit opened.")
}

pub fn held_until() -> Value {
    about(time(), "Nothing is sent before: the next probe of an open circuit, or the time in `Retry-After`.")
}

pub fn disable_at() -> Value {
    about(time(), "A failed attempt from then on disables the webhook, unless one succeeds before.")
}

pub fn waiting_for() -> Value {
    let until =
        about(nullable(time()), "When the next request may go. Null if a call has to end it, or a probe is under way.");
    let behind = about(nullable(id()), "The head of the queue of a webhook that is ordered as a whole.");
    let members = json!({ "reason": choice(&waiting_for::reasons()), "until": until, "behind": behind });
    let schema = json!({ "type": "object", "required": ["reason", "until", "behind"], "properties": members });
    about(schema, "Why no delivery of the webhook is sent now. Null if nothing holds them.")
}

pub fn in_flight() -> Value {
    about(count(), "Requests without an answer yet.")
}

pub fn reason() -> Value {
    let members = json!({
        "words": about(text(), "The cause."),
        "fix": about(text(), "The cure."),
    });
    let schema = json!({ "type": "object", "required": ["words", "fix"], "properties": members });
    about(schema, "Why deliveries fail or wait, in words. Null if the webhook is well.")
}

pub fn pattern() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": TYPE_BYTES_MAX, "pattern": "^(\\*|[a-zA-Z0-9_.-]+(\\.\\*\\*?)?)$" })
}

pub fn event_types() -> Value {
    about(items(pattern(), EVENT_TYPES_MAX), "Types, `order.*`, `order.**` or `*`; none: all.")
}

pub fn rate() -> Value {
    number(RATE_PER_S_MIN, RATE_PER_S_MAX)
}

pub fn retry_schedule() -> Value {
    let names: Vec<&str> = SCHEDULES.iter().map(|(name, _)| *name).collect();
    let seconds = items(whole(0, SCHEDULE_STEP_S_MAX), SCHEDULE_STEPS_MAX);
    about(json!({ "anyOf": [seconds, choice(&names)] }), "Seconds after the attempt before, or the name of a schedule.")
}

pub fn uid() -> Value {
    owned::uid_schema("Your own name for the webhook, unique in its app; not of the form of a UUID.")
}

pub fn ordered() -> Value {
    json!({ "anyOf": [choice(&["key"]), boolean()] })
}

pub fn headers() -> Value {
    headers_of(header_value())
}

pub fn header_patch() -> Value {
    headers_of(nullable(header_value()))
}

fn headers_of(value: Value) -> Value {
    json!({
        "type": "object",
        "propertyNames": { "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" },
        "additionalProperties": value,
        "maxProperties": HEADERS_MAX,
        "description": "Extra request headers; not those of one hop, `host`, `content-*`, and what signing sets.",
    })
}

pub fn secret_headers() -> Value {
    let name = json!({ "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" });
    about(
        items(name, HEADERS_MAX),
        "Names of `headers` that hold credentials: they are masked wherever they are read. Those whose names say so (`authorization`, `x-api-key`, `cookie`, …) are masked anyway.",
    )
}

fn header_value() -> Value {
    json!({ "type": "string", "maxLength": HEADER_VALUE_BYTES_MAX, "pattern": "^([!-~]([ -~\\t]*[!-~])?)?$" })
}

fn auth() -> Value {
    let kind = |name: &str| json!({ "const": name });
    let credential = line(0, CREDENTIAL_CHARS_MAX);
    let mut username = credential.clone();
    username["pattern"] = "^[^:\\u0000-\\u001f\\u007f-\\u009f]*$".into();
    let name = json!({ "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" });
    let basic = [("type", kind("basic")), ("username", username), ("password", credential)];
    json!({
        "oneOf": [
            form(&["type", "username", "password"], basic),
            form(&["type", "token"], [("type", kind("bearer")), ("token", header_value())]),
            form(&["type", "name", "value"], [("type", kind("header")), ("name", name), ("value", header_value())]),
        ],
    })
}

/// Parts of a credential in a patch. `null` removes a part, and a change of `type` removes all others.
pub fn auth_parts() -> Value {
    let text = || json!({ "type": "string" });
    form(
        &[],
        [
            ("type", choice(&["basic", "bearer", "header"])),
            ("username", text()),
            ("password", text()),
            ("token", header_value()),
            ("name", text()),
            ("value", header_value()),
        ],
    )
}

pub fn signature() -> Value {
    let schemes = choice(&["standard", "ed25519", "dfns", "sent", "svix"]);
    // Svix's scheme states another id than the two of Standard Webhooks.
    let two_ids = json!({ "allOf": [
        { "contains": { "const": "svix" } }, { "contains": { "enum": ["standard", "ed25519"] } },
    ] });
    let list = json!({ "type": "array", "items": schemes, "minItems": 1, "uniqueItems": true, "not": two_ids });
    json!({ "anyOf": [choice(&["none"]), list] })
}

/// Parts of a certificate and its key in a patch, or the key's mask.
pub fn tls_parts() -> Value {
    let pem = || json!({ "type": "string", "maxLength": PEM_BYTES_MAX });
    form(&[], [("ca_pem", pem()), ("client_cert_pem", pem()), ("client_key_pem", pem())])
}

pub fn tls() -> Value {
    let pem = |label: &str| {
        let block = format!("-----BEGIN {label}-----\\r?\\n[A-Za-z0-9+/=\\r\\n]+\\n-----END {label}-----");
        json!({ "type": "string", "maxLength": PEM_BYTES_MAX, "pattern": format!("^({block}\\r?\\n?)+$") })
    };
    let mut schema = form(
        &[],
        [
            ("ca_pem", pem("CERTIFICATE")),
            ("client_cert_pem", pem("CERTIFICATE")),
            ("client_key_pem", pem("PRIVATE KEY")),
        ],
    );
    schema["description"] = "A pinned CA; a client certificate and its key, given together.".into();
    let pair = |kind: &str| json!({ "client_cert_pem": { "type": kind }, "client_key_pem": { "type": kind } });
    let both = json!({ "required": ["client_cert_pem", "client_key_pem"], "properties": pair("string") });
    schema["anyOf"] = json!([{ "properties": pair("null") }, both]);
    schema
}

pub fn shown_tls() -> Value {
    json!({ "type": "object", "description": "The client's key is masked." })
}

/// One object and no union, so that generators of classes make one class that refers to itself.
fn filter() -> Value {
    let without = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), json!(false))).collect::<Map<_, _>>();
    json!({
        "type": "object",
        "properties": filter_members("Filter"),
        "additionalProperties": false,
        "if": { "required": ["path"] },
        "then": { "minProperties": 2, "maxProperties": 2, "properties": without(&["all", "any", "not"]) },
        "else": { "minProperties": 1, "maxProperties": 1, "properties": without(&OPERATORS) },
        "description": "A match on `data`: one of `all`, `any` and `not`, or a `path` (JSON Pointer) with one operator. At most 8 deep, at most 64 conditions.",
        "examples": [{ "all": [{ "path": "/total", "gte": 100 }, { "not": { "path": "/country", "in": ["NO", "SE"] } }] }],
    })
}

/// RFC 7396 merges objects, so the patch is merged into the current filter and the result is checked.
fn filter_patch() -> Value {
    let members = filter_members("FilterPatch").into_iter().map(|(name, schema)| (name, nullable(schema)));
    let description = "Put over the filter that is there, member by member; null takes one away. Lists are replaced.";
    json!({ "type": "object", "properties": members.collect::<Map<_, _>>(), "additionalProperties": false, "description": description })
}

const OPERATORS: [&str; 9] = ["eq", "ne", "in", "exists", "prefix", "gt", "gte", "lt", "lte"];

/// `within` names the schema inside `not`.
fn filter_members(within: &str) -> Map<String, Value> {
    let nested = json!({ "type": "array", "items": reference("Filter") });
    let path = json!({ "type": "string", "maxLength": 1024, "pattern": "^(/([^~]|~[01])*)*$" });
    let mut properties: Map<String, Value> = Map::new();
    for (name, schema) in [("all", nested.clone()), ("any", nested), ("not", reference(within)), ("path", path)] {
        properties.insert(name.to_owned(), schema);
    }
    for operator in OPERATORS {
        let operand = match operator {
            "eq" | "ne" => json!({}),
            "in" => json!({ "type": "array", "items": {} }),
            "exists" => boolean(),
            "prefix" => text(),
            _ => json!({ "type": "number" }),
        };
        properties.insert(operator.to_owned(), operand);
    }
    properties
}

pub fn proxy() -> Value {
    about(
        choice(&["default", "none"]),
        "`none`: directly, although `delivery.proxy` names a proxy. Only for the installation's own key with the scope `admin`, and so is another `url` then.",
    )
}
