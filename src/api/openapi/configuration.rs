//! The schemas of configured objects: webhooks, apps, keys, organizations, replays.

use serde_json::{Map, Value, json};

use crate::api::limits::{
    CHANNEL_CHARS_MAX, CHANNELS_MAX, CREDENTIAL_CHARS_MAX, DESCRIPTION_CHARS_MAX, DISABLE_AFTER_S_MAX, EVENT_TYPES_MAX,
    HEADER_VALUE_BYTES_MAX, HEADERS_MAX, IN_FLIGHT_MAX, NAME_CHARS_MAX, OVERLAP_S_MAX, PEM_BYTES_MAX, RATE_PER_S_MAX,
    RATE_PER_S_MIN, SCHEDULE_STEP_S_MAX, SCHEDULE_STEPS_MAX, TIMEOUT_MS_MAX, TIMEOUT_MS_MIN,
};
use crate::api::native::webhook_form as form_of;
use crate::model::Scope;
use crate::rules::patterns::TYPE_BYTES_MAX;
use crate::rules::target::URL_BYTES_MAX;

use crate::api::doc::parts::{
    about, app_name, boolean, choice, count, event_type, form, id, items, line, nullable, number, record, reference,
    secret, text, time, whole,
};

pub fn schemas() -> Map<String, Value> {
    let created = json!({ "allOf": [reference("Webhook"), record([("secret", text())])] });
    let created_key = json!({ "allOf": [reference("Key"), record([("key", text())])] });
    let first = record([("default_app", reference("App")), ("key_id", id()), ("key", text())]);
    [
        ("NewWebhook", new_webhook()),
        ("WebhookPatch", webhook_patch()),
        ("Webhook", webhook()),
        ("WebhookStatus", choice(&["enabled", "paused", "disabled"])),
        ("CreatedWebhook", created),
        ("Auth", auth()),
        ("Filter", filter()),
        ("FilterPatch", filter_patch()),
        ("Secrets", secrets()),
        ("Rotation", form(&[], [("secret", secret()), ("overlap_s", whole(0, OVERLAP_S_MAX))])),
        ("Trial", form(&[], [("type", event_type()), ("data", json!({}))])),
        ("PublicKeys", public_keys()),
        ("NewReplay", new_replay()),
        ("Replay", replay()),
        ("Matched", record([("matched", count())])),
        ("NewApp", form(&["name"], [("name", name()), ("uid", uid())])),
        ("AppPatch", json!({ "type": "object", "properties": { "name": name(), "uid": nullable(uid()) }, "additionalProperties": false })),
        ("App", app()),
        ("NewKey", new_key()),
        ("Key", key()),
        ("CreatedKey", created_key),
        ("NewOrganization", form(&["name"], [("name", name())])),
        ("Organization", organization()),
        ("CreatedOrganization", json!({ "allOf": [reference("Organization"), first] })),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

fn name() -> Value {
    line(1, NAME_CHARS_MAX)
}

fn uid() -> Value {
    let mut schema = about(app_name(), "The caller's own name for the app; not of the form of a UUID.");
    schema["not"] = json!({ "type": "string", "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$" });
    schema
}

fn rate() -> Value {
    number(RATE_PER_S_MIN, RATE_PER_S_MAX)
}

fn pattern() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": TYPE_BYTES_MAX, "pattern": "^(\\*|[a-zA-Z0-9_.-]+(\\.\\*\\*?)?)$" })
}

/// The fields of a webhook that a caller may set, without null.
fn settable() -> Vec<(&'static str, Value)> {
    let schedules: Vec<&str> = form_of::SCHEDULES.iter().map(|(name, _)| *name).collect();
    let seconds = items(whole(0, SCHEDULE_STEP_S_MAX), SCHEDULE_STEPS_MAX);
    vec![
        ("name", about(line(1, NAME_CHARS_MAX), "The URL's host where it is not given.")),
        ("description", json!({ "type": "string", "maxLength": DESCRIPTION_CHARS_MAX, "pattern": "^[^\\u0000]*$" })),
        (
            "url",
            json!({ "type": "string", "format": "uri", "maxLength": URL_BYTES_MAX, "pattern": "^[hH][tT][tT][pP][sS]?://", "description": "http or https; no user info, no fragment, no closed port, no private address unless it is allowed." }),
        ),
        ("method", choice(&["get", "put", "post", "patch", "delete"])),
        ("content_type", choice(&["application/json", "application/x-www-form-urlencoded"])),
        ("field_set", choice(&["standard", "raw", "legacy", "dfns", "sent", "flat"])),
        ("include_html", boolean()),
        ("auth", reference("Auth")),
        ("headers", headers(header_value())),
        ("secret_headers", secret_headers()),
        ("event_types", about(items(pattern(), EVENT_TYPES_MAX), "Types, `order.*`, `order.**` or `*`; none: all.")),
        ("channels", about(items(line(1, CHANNEL_CHARS_MAX), CHANNELS_MAX), "None: all.")),
        ("filter", reference("Filter")),
        ("status", reference("WebhookStatus")),
        ("encrypted", about(boolean(), "The body as JWE; needs a method with a body.")),
        ("signature", signature()),
        ("tls", tls()),
        ("proxy", proxy()),
        ("handshake", boolean()),
        ("success_rule", choice(&["2xx", "200"])),
        (
            "retry_schedule_s",
            json!({ "anyOf": [seconds, choice(&schedules)], "description": "Seconds after the attempt before, or the name of a schedule." }),
        ),
        ("timeout_ms", whole(TIMEOUT_MS_MIN, TIMEOUT_MS_MAX)),
        ("max_in_flight", whole(1, IN_FLIGHT_MAX)),
        ("rate_limit_per_s", rate()),
        ("ordered", json!({ "anyOf": [choice(&["key"]), boolean()] })),
        ("disable_after_s", whole(0, DISABLE_AFTER_S_MAX)),
    ]
}

fn new_webhook() -> Value {
    let mut properties: Map<String, Value> = Map::new();
    properties.insert("app_id".to_owned(), nullable(app_name()));
    for (field, schema) in settable() {
        let schema = if field == "url" { schema } else { nullable(schema) };
        properties.insert(field.to_owned(), schema);
    }
    properties.insert("secret".to_owned(), nullable(secret()));
    let example = json!([{ "url": "https://example.com/webhooks", "event_types": ["invoice.*"] }]);
    json!({ "type": "object", "required": ["url"], "properties": properties, "additionalProperties": false, "examples": example })
}

/// A merge patch may also hold parts of `auth` and `tls`, where the webhook has the rest.
fn webhook_patch() -> Value {
    let mut properties: Map<String, Value> = Map::new();
    for (field, schema) in settable() {
        let schema = match field {
            "url" => schema,
            "headers" => nullable(headers(nullable(header_value()))),
            "auth" => nullable(auth_parts()),
            "filter" => nullable(reference("FilterPatch")),
            "tls" => nullable(tls_parts()),
            _ => nullable(schema),
        };
        properties.insert(field.to_owned(), schema);
    }
    json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "description": "RFC 7396: null brings a field's default back, or takes one header away; of `auth` and `tls` the parts that change are enough. A credential sent back as its mask stays as it is.",
    })
}

fn headers(value: Value) -> Value {
    json!({
        "type": "object",
        "propertyNames": { "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" },
        "additionalProperties": value,
        "maxProperties": HEADERS_MAX,
        "description": "Extra request headers; not those of one hop, `host`, `content-*`, and what signing sets.",
    })
}

fn proxy() -> Value {
    about(
        choice(&["default", "none"]),
        "`none`: directly, although `delivery.proxy` names a proxy. Only for keys with the scope `admin`, and so is another `url` then.",
    )
}

fn secret_headers() -> Value {
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
fn auth_parts() -> Value {
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

fn signature() -> Value {
    let schemes = choice(&["standard", "ed25519", "dfns", "sent"]);
    let list = json!({ "type": "array", "items": schemes, "minItems": 1, "uniqueItems": true });
    json!({ "anyOf": [choice(&["none"]), list] })
}

/// Parts of a certificate and its key in a patch, or the key's mask.
fn tls_parts() -> Value {
    let pem = || json!({ "type": "string", "maxLength": PEM_BYTES_MAX });
    form(&[], [("ca_pem", pem()), ("client_cert_pem", pem()), ("client_key_pem", pem())])
}

fn tls() -> Value {
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

/// One object and no union, so that generators that turn schemas into classes make one that holds itself.
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

/// RFC 7396 merges objects, so the patch is merged into the current filter and the whole is checked.
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

fn webhook() -> Value {
    let mut schema = record([
        ("id", id()),
        ("app_id", id()),
        ("created_at", time()),
        ("updated_at", time()),
        ("disabled_reason", nullable(choice(&["manual", "failures", "gone"]))),
        ("consecutive_failures", count()),
        ("last_attempt_at", nullable(time())),
        ("last_success_at", nullable(time())),
        ("circuit", choice(&["closed", "open", "half_open"])),
    ]);
    const MAY_BE_NULL: [&str; 5] = ["description", "auth", "filter", "tls", "rate_limit_per_s"];
    for (field, shown) in settable() {
        let shown = match field {
            "retry_schedule_s" => items(count(), SCHEDULE_STEPS_MAX),
            "tls" => json!({ "type": "object", "description": "The client's key is masked." }),
            _ => shown,
        };
        let shown = if MAY_BE_NULL.contains(&field) { nullable(shown) } else { shown };
        schema["properties"][field] = shown;
        if let Some(required) = schema["required"].as_array_mut() {
            required.push(field.into());
        }
    }
    schema
}

fn secrets() -> Value {
    let previous = record([("secret", text()), ("expires_at", time())]);
    record([("secret", text()), ("previous", json!({ "type": "array", "items": previous }))])
}

fn public_keys() -> Value {
    let jwk = record([
        ("kty", json!({ "const": "OKP" })),
        ("crv", json!({ "const": "Ed25519" })),
        ("x", text()),
        ("kid", text()),
        ("use", json!({ "const": "sig" })),
        ("alg", json!({ "const": "EdDSA" })),
    ]);
    let row = record([("public_key", text()), ("expires_at", nullable(time()))]);
    record([("keys", json!({ "type": "array", "items": jwk })), ("data", json!({ "type": "array", "items": row }))])
}

fn new_replay() -> Value {
    let mut schema = form(
        &[],
        [
            ("webhook_id", about(id(), "Either this or `app_id`.")),
            ("app_id", app_name()),
            ("from", time()),
            ("to", time()),
            ("types", items(pattern(), EVENT_TYPES_MAX)),
            ("status", reference("DeliveryStatus")),
            (
                "missing",
                about(boolean(), "Only events that match now and were never delivered there; not with `status`."),
            ),
            ("dry_run", boolean()),
            ("rate_per_s", rate()),
        ],
    );
    schema["oneOf"] = json!([
        { "required": ["webhook_id"], "properties": { "webhook_id": { "type": "string" }, "app_id": { "type": "null" } } },
        { "required": ["app_id"], "properties": { "app_id": { "type": "string" }, "webhook_id": { "type": "null" } } },
    ]);
    schema
}

fn replay() -> Value {
    record([
        ("id", id()),
        ("webhook_id", nullable(id())),
        ("app_id", nullable(id())),
        ("status", choice(&["running", "done", "cancelled"])),
        ("matched", count()),
        ("created", count()),
        ("delivered", count()),
        ("failed", count()),
        ("created_at", time()),
        ("finished_at", nullable(time())),
    ])
}

fn app() -> Value {
    record([
        ("id", id()),
        ("name", text()),
        ("uid", nullable(text())),
        ("default", about(boolean(), "Whether it is what everything belongs to that names no app.")),
        ("created_at", time()),
        ("updated_at", time()),
    ])
}

fn scopes() -> Value {
    let mut schema = items(choice(&Scope::ALL.map(Scope::as_str)), Scope::ALL.len());
    schema["minItems"] = 1.into();
    schema
}

fn new_key() -> Value {
    form(
        &["name", "scopes"],
        [
            ("name", name()),
            ("scopes", about(scopes(), "Only scopes that the maker has as well.")),
            ("app_id", about(app_name(), "Confines the key to an app.")),
            ("expires_at", time()),
            ("rate_per_s", rate()),
        ],
    )
}

fn key() -> Value {
    record([
        ("id", id()),
        ("name", text()),
        ("scopes", scopes()),
        ("app_id", nullable(id())),
        ("created_at", time()),
        ("expires_at", nullable(time())),
        ("rate_per_s", nullable(rate())),
    ])
}

fn organization() -> Value {
    record([("id", id()), ("name", text()), ("default_app_id", id()), ("created_at", time())])
}
