//! The members of a webhook: one table that reads, shows, patches and describes them and names the flags of the CLI.
//!
//! Invariant: `shown` has no credentials. `FieldForm::stored` may have them and is never shown.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::doc::parts::{about, app_name, boolean, choice, count, id, items, line, nullable, secret, time, whole};
use crate::api::fields::{FieldErrors, JsonObject};
use crate::api::limits::{
    CHANNEL_CHARS_MAX, CHANNELS_MAX, DISABLE_AFTER_S_MAX, IN_FLIGHT_MAX, NAME_CHARS_MAX, SCHEDULE_STEPS_MAX,
    TIMEOUT_MS_MAX, TIMEOUT_MS_MIN,
};
use crate::model::webhook::{
    ContentType, DISABLE_AFTER_S_DEFAULT, FieldSet, IN_FLIGHT_DEFAULT, SuccessRule, TIMEOUT_MS_DEFAULT, Webhook,
    WebhookMethod, WebhookProxy,
};
use crate::rules::target::TargetPolicy;
use crate::rules::{diagnosis, hold};

use super::waiting_for::WaitingForView;
use super::webhook_form::{self as form, FormField};
use super::webhook_live::WebhookLive;
use super::{owned, webhook_schema as schema, webhook_text as texts};
use FlagValue::{Boolean, Choice, Json, Number, Text, Texts, Whole};

/// One member of a webhook's JSON form.
pub struct WebhookField {
    pub name: &'static str,
    /// The member as JSON text, without credentials.
    pub shown: fn(&Webhook, &WebhookLive) -> String,
    /// The schema of `shown`.
    pub schema: fn() -> Value,
    pub may_be_null: bool,
    /// `None` if Postrider alone sets the member.
    pub form: Option<FieldForm>,
}

/// The form of a member that callers set.
pub struct FieldForm {
    /// Reads the member into the webhook. An absent member and `null` mean its default.
    pub read: fn(&mut Webhook, &mut FormField<'_, '_>),
    /// The member as JSON text with its credentials. `None` if `shown` is complete.
    pub stored: Option<fn(&Webhook) -> String>,
    /// The schema of a new webhook's member. `None` if it is that of `shown`.
    pub schema: Option<fn() -> Value>,
    /// The schema of a patch's member. `None` if it is that of a new webhook's.
    pub patch_schema: Option<fn() -> Value>,
    /// The flags of `postrider webhook create`. The URL is an argument there.
    pub flags: &'static [FieldFlag],
}

/// A flag of the CLI that sets a member, or a part of it.
pub struct FieldFlag {
    /// The name without its dashes.
    pub long: &'static str,
    /// The name it had before, which still works.
    pub former: Option<&'static str>,
    pub value_name: &'static str,
    pub help: &'static str,
    pub value: FlagValue,
}

/// The value of a flag, and how it becomes JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagValue {
    Text,
    Boolean,
    Whole,
    Number,
    /// A list of texts, separated by commas or repeated.
    Texts,
    /// JSON, `@FILE` or `-`.
    Json,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `none`, or a list of these words separated by commas.
    NoneOrTexts(&'static [&'static str]),
    /// A word, or durations separated by commas.
    WordOrSeconds,
    /// `true`, `false` or another of these words.
    WordOrBoolean(&'static [&'static str]),
    /// A duration; a bare number is milliseconds.
    Milliseconds,
    /// A duration; a bare number is seconds.
    Seconds,
    /// `USER:PASSWORD`.
    BasicAuth,
    BearerAuth,
    /// `NAME: VALUE`.
    HeaderAuth,
    /// `NAME: VALUE`, repeated.
    Header,
    /// `NAME: VALUE`, repeated: a header whose name is also listed.
    SecretHeader,
    /// A PEM file, for the member of this name.
    PemFile(&'static str),
}

/// Reads every writable member of `object` into `webhook`. If a mistake was found, the webhook has no meaning. Without
/// a `policy` the URL is not checked again.
pub fn read(
    webhook: &mut Webhook,
    object: &mut JsonObject<'_>,
    policy: Option<&TargetPolicy>,
    field_errors: &mut FieldErrors,
) {
    for (field, form) in writable() {
        (form.read)(webhook, &mut FormField { name: field.name, object, policy, errors: field_errors });
    }
    form::finish(webhook, field_errors);
}

/// The writable members in which `webhook` differs from a new one, as a form gives them. Credentials are among them.
pub fn chosen(webhook: &Webhook) -> Map<String, Value> {
    let plain = Webhook::new(webhook.org_id, webhook.app_id);
    let stored = writable().map(|(field, _)| (field.name, field.stored(webhook), field.stored(&plain)));
    let chosen = stored.filter(|(_, own, plain)| own != plain);
    chosen.filter_map(|(name, own, _)| Some((name.to_owned(), serde_json::from_str(&own).ok()?))).collect()
}

/// The members that callers set.
pub fn writable() -> impl Iterator<Item = (&'static WebhookField, &'static FieldForm)> {
    FIELDS.iter().filter_map(|field| Some((field, field.form.as_ref()?)))
}

/// Whether Postrider alone sets the member of this name.
pub fn is_read_only(name: &str) -> bool {
    FIELDS.iter().any(|field| field.name == name && field.form.is_none())
}

impl WebhookField {
    /// The member as JSON text with its credentials: the base of a merge patch.
    pub fn stored(&self, webhook: &Webhook) -> String {
        match self.form.as_ref().and_then(|form| form.stored) {
            Some(stored) => stored(webhook),
            None => (self.shown)(webhook, &WebhookLive::default()),
        }
    }

    const fn or_null(mut self) -> WebhookField {
        self.may_be_null = true;
        self
    }

    const fn read_by(
        mut self,
        read: fn(&mut Webhook, &mut FormField<'_, '_>),
        flags: &'static [FieldFlag],
    ) -> WebhookField {
        self.form = Some(FieldForm { read, stored: None, schema: None, patch_schema: None, flags });
        self
    }

    const fn stored_as(mut self, stored: fn(&Webhook) -> String) -> WebhookField {
        if let Some(form) = &mut self.form {
            form.stored = Some(stored);
        }
        self
    }

    const fn given_as(mut self, schema: fn() -> Value) -> WebhookField {
        if let Some(form) = &mut self.form {
            form.schema = Some(schema);
        }
        self
    }

    const fn patched_as(mut self, schema: fn() -> Value) -> WebhookField {
        if let Some(form) = &mut self.form {
            form.patch_schema = Some(schema);
        }
        self
    }
}

/// A member that is only shown.
const fn field(name: &'static str, schema: fn() -> Value, shown: fn(&Webhook, &WebhookLive) -> String) -> WebhookField {
    WebhookField { name, shown, schema, may_be_null: false, form: None }
}

const fn flag(long: &'static str, value_name: &'static str, value: FlagValue, help: &'static str) -> FieldFlag {
    FieldFlag { long, former: None, value_name, help, value }
}

/// A flag that had another name.
const fn renamed(former: &'static str, flag: FieldFlag) -> FieldFlag {
    FieldFlag { former: Some(former), ..flag }
}

/// A boolean flag whose value may be omitted.
const fn switch(long: &'static str, help: &'static str) -> FieldFlag {
    flag(long, "true|false", Boolean, help)
}

fn text(value: impl Serialize) -> String {
    serde_json::to_string(&value).unwrap_or_else(|_| "null".to_owned())
}

/// The members in the order of docs/api.md.
pub static FIELDS: &[WebhookField] = &[
    field("id", id, |webhook, _| text(webhook.id)),
    field("app_id", id, |webhook, _| text(webhook.app_id)),
    field("created_at", time, |webhook, _| text(webhook.created_at)),
    field("updated_at", time, |webhook, _| text(webhook.updated_at)),
    field(
        "name",
        || about(line(1, NAME_CHARS_MAX), "The URL's host where it is not given."),
        |webhook, _| text(&webhook.name),
    )
    .read_by(
        |webhook, field| webhook.name = field.optional(form::read_name).unwrap_or_default(),
        &[flag("name", "TEXT", Text, "A name for people; the URL's host if not given")],
    ),
    field("description", schema::description, |webhook, _| text(&webhook.description)).or_null().read_by(
        |webhook, field| webhook.description = field.optional(form::read_description),
        &[flag("description", "TEXT", Text, "Purpose of the webhook")],
    ),
    field("url", schema::url, |webhook, _| text(&webhook.url)).read_by(form::read_url, &[]),
    field("method", || choice(&["get", "put", "post", "patch", "delete"]), |webhook, _| text(webhook.method)).read_by(
        |webhook, field| webhook.method = field.choice("get, put, post, patch or delete", WebhookMethod::Post),
        &[flag("method", "METHOD", Choice(&["get", "put", "post", "patch", "delete"]), "The request's method")],
    ),
    field(
        "content_type",
        || choice(&["application/json", "application/x-www-form-urlencoded"]),
        |webhook, _| text(webhook.content_type),
    )
    .read_by(
        |webhook, field| {
            let names = "application/json or application/x-www-form-urlencoded";
            webhook.content_type = field.choice(names, ContentType::Json);
        },
        &[flag(
            "content-type",
            "TYPE",
            Choice(&["application/json", "application/x-www-form-urlencoded"]),
            "The body's media type",
        )],
    ),
    field(
        "field_set",
        || choice(&["standard", "raw", "legacy", "dfns", "sent", "flat"]),
        |webhook, _| text(webhook.field_set),
    )
    .read_by(
        |webhook, field| {
            webhook.field_set = field.choice("standard, raw, legacy, dfns, sent or flat", FieldSet::Standard);
        },
        &[flag(
            "field-set",
            "SHAPE",
            Choice(&["standard", "raw", "legacy", "dfns", "sent", "flat"]),
            "The body's shape",
        )],
    ),
    field("include_html", boolean, |webhook, _| text(webhook.include_html)).read_by(
        |webhook, field| webhook.include_html = field.boolean(),
        &[switch("include-html", "Keep `html` in legacy bodies of sent events")],
    ),
    field("auth", schema::auth_reference, |webhook, _| texts::auth_text(webhook, true))
        .or_null()
        .read_by(
            form::read_auth,
            &[
                flag("auth-basic", "USER:PASSWORD", FlagValue::BasicAuth, "Send Basic credentials"),
                flag("auth-bearer", "TOKEN", FlagValue::BearerAuth, "Send a bearer token"),
                flag(
                    "auth-header",
                    "NAME: VALUE",
                    FlagValue::HeaderAuth,
                    "Send a header that authenticates, kept secret unlike --header",
                ),
            ],
        )
        .stored_as(|webhook| texts::auth_text(webhook, false))
        .patched_as(schema::auth_parts),
    field("headers", schema::headers, |webhook, _| text(texts::shown_headers(webhook)))
        .read_by(
            form::read_headers,
            &[flag("header", "NAME: VALUE", FlagValue::Header, "Send a further header; may be repeated")],
        )
        .stored_as(|webhook| text(&webhook.headers))
        .patched_as(schema::header_patch),
    field("secret_headers", schema::secret_headers, |webhook, _| text(&webhook.secret_headers)).read_by(
        form::read_secret_headers,
        &[flag(
            "secret-header",
            "NAME: VALUE",
            FlagValue::SecretHeader,
            "Send a further header whose value is a credential: masked wherever it is read; may be repeated",
        )],
    ),
    field("event_types", schema::event_types, |webhook, _| text(&webhook.event_types)).read_by(
        form::read_event_types,
        &[renamed(
            "event-type",
            flag(
                "type",
                "PATTERN",
                Texts,
                "Event types to send: invoice.paid, order.* (one segment), order.** (any depth)",
            ),
        )],
    ),
    field(
        "channels",
        || about(items(line(1, CHANNEL_CHARS_MAX), CHANNELS_MAX), "None: all."),
        |webhook, _| text(&webhook.channels),
    )
    .read_by(
        form::read_channels,
        &[flag("channel", "CHANNEL", Texts, "Channels to send; comma-separated or repeated")],
    ),
    field("filter", schema::filter_reference, |webhook, _| webhook.filter.clone().unwrap_or_else(|| text(())))
        .or_null()
        .read_by(form::read_filter, &[flag("filter", "JSON", Json, "A match on the event's data, as JSON, @FILE or -")])
        .patched_as(schema::filter_patch_reference),
    field("status", schema::status_reference, |webhook, _| text(webhook.status)).read_by(
        form::read_status,
        &[flag("status", "STATUS", Choice(&["enabled", "paused", "disabled"]), "Whether it is sent to")],
    ),
    field("disabled_reason", || choice(&["manual", "failures", "gone"]), |webhook, _| text(webhook.disabled_reason))
        .or_null(),
    field("status_since", schema::status_since, |webhook, _| text(webhook.status_since)).or_null(),
    field(
        "encrypted",
        || about(boolean(), "The body as JWE; needs a method with a body."),
        |webhook, _| text(webhook.encrypted),
    )
    .read_by(|webhook, field| webhook.encrypted = field.boolean(), &[switch("encrypted", "Send the body as JWE")]),
    field("signature", schema::signature, |webhook, _| texts::signature_text(webhook)).read_by(
        form::read_signature,
        &[flag(
            "signature",
            "SCHEME",
            FlagValue::NoneOrTexts(&["none", "standard", "ed25519", "dfns", "sent", "svix"]),
            "none, or one or several schemes; comma-separated",
        )],
    ),
    field("tls", schema::shown_tls, |webhook, _| texts::tls_text(webhook, true))
        .or_null()
        .read_by(
            form::read_tls,
            &[
                flag("tls-ca", "FILE", FlagValue::PemFile("ca_pem"), "Trust only this CA (PEM file)"),
                flag(
                    "tls-cert",
                    "FILE",
                    FlagValue::PemFile("client_cert_pem"),
                    "Present this client certificate (PEM file)",
                ),
                flag(
                    "tls-key",
                    "FILE",
                    FlagValue::PemFile("client_key_pem"),
                    "The client certificate's private key (PEM file)",
                ),
            ],
        )
        .stored_as(|webhook| texts::tls_text(webhook, false))
        .given_as(schema::tls)
        .patched_as(schema::tls_parts),
    field("proxy", schema::proxy, |webhook, _| text(webhook.proxy)).read_by(
        |webhook, field| webhook.proxy = field.choice("default or none", WebhookProxy::Default),
        &[flag(
            "proxy",
            "PROXY",
            Choice(&["default", "none"]),
            "none: directly although delivery.proxy names a proxy, which needs the key of the installation",
        )],
    ),
    field("handshake", boolean, |webhook, _| text(webhook.handshake)).read_by(
        |webhook, field| webhook.handshake = field.boolean(),
        &[switch("handshake", "Ask by the CloudEvents webhook handshake first")],
    ),
    field("success_rule", || choice(&["2xx", "200"]), |webhook, _| text(webhook.success_rule)).read_by(
        |webhook, field| webhook.success_rule = field.choice("2xx or 200", SuccessRule::Any2xx),
        &[flag("success-rule", "RULE", Choice(&["2xx", "200"]), "Statuses that count as delivered")],
    ),
    field("retry_schedule_s", || items(count(), SCHEDULE_STEPS_MAX), |webhook, _| text(&webhook.retry_schedule_s))
        .read_by(
            form::read_schedule,
            &[flag(
                "retry-schedule",
                "SCHEDULE",
                FlagValue::WordOrSeconds,
                "Waits between attempts (5s,5m,2h), or standard, dfns, sent, everlytic, svix, none",
            )],
        )
        .given_as(schema::retry_schedule),
    field("timeout_ms", || whole(TIMEOUT_MS_MIN, TIMEOUT_MS_MAX), |webhook, _| text(webhook.timeout_ms)).read_by(
        |webhook, field| {
            webhook.timeout_ms = field.whole(TIMEOUT_MS_MIN, TIMEOUT_MS_MAX, TIMEOUT_MS_DEFAULT.into()) as u32;
        },
        &[renamed(
            "timeout-ms",
            flag("timeout", "DURATION", FlagValue::Milliseconds, "Limit of a whole request, 1s to 2m"),
        )],
    ),
    field("max_in_flight", || whole(1, IN_FLIGHT_MAX), |webhook, _| text(webhook.max_in_flight)).read_by(
        |webhook, field| webhook.max_in_flight = field.whole(1, IN_FLIGHT_MAX, IN_FLIGHT_DEFAULT.into()) as u32,
        &[flag("max-in-flight", "N", Whole, "Requests under way at once, 1 to 1000")],
    ),
    field("rate_limit_per_s", schema::rate, |webhook, _| text(webhook.rate_limit_per_s)).or_null().read_by(
        |webhook, field| webhook.rate_limit_per_s = field.optional(form::read_rate),
        &[flag("rate-limit", "N", Number, "Requests a second")],
    ),
    field("ordered", schema::ordered, |webhook, _| text(texts::ordered_value(webhook.ordered))).read_by(
        form::read_ordered,
        &[flag(
            "ordered",
            "ORDER",
            FlagValue::WordOrBoolean(&["false", "true", "key"]),
            "One after another: true for the webhook, key for each ordering key",
        )],
    ),
    field("disable_after_s", || whole(0, DISABLE_AFTER_S_MAX), |webhook, _| text(webhook.disable_after_s)).read_by(
        |webhook, field| webhook.disable_after_s = field.whole(0, DISABLE_AFTER_S_MAX, DISABLE_AFTER_S_DEFAULT),
        &[renamed(
            "disable-after-s",
            flag("disable-after", "DURATION", FlagValue::Seconds, "Disable after this long without a success; 0 never"),
        )],
    ),
    field("uid", schema::uid, |webhook, _| text(&webhook.uid)).or_null().read_by(
        |webhook, field| webhook.uid = field.optional(owned::read_uid::<Webhook>),
        &[flag("uid", "UID", Text, "Your own name for it, unique in the app; usable in place of the id")],
    ),
    field("metadata", owned::metadata_schema, |webhook, _| text(&webhook.metadata))
        .read_by(
            |webhook, field| webhook.metadata = field.optional(owned::read_metadata).unwrap_or_default(),
            &[flag("metadata", "JSON", Json, "Your own data, an object of strings, as JSON, @FILE or -")],
        )
        .patched_as(owned::metadata_patch),
    field("consecutive_failures", count, |_, live| text(live.state.consecutive_failures)),
    field("last_attempt_at", time, |_, live| text(live.state.last_attempt_at)).or_null(),
    field("last_success_at", time, |_, live| text(live.state.last_success_at)).or_null(),
    field("circuit", || choice(&["closed", "open", "half_open"]), |_, live| text(live.state.circuit)),
    field("failing_since", schema::failing_since, |_, live| text(live.state.failing_since)).or_null(),
    field("failed_probes", schema::failed_probes, |_, live| text(live.state.failed_probes)),
    field("held_until", schema::held_until, |_, live| text(live.state.held_until())).or_null(),
    field("disable_at", schema::disable_at, |webhook, live| text(hold::disable_at(webhook, &live.state))).or_null(),
    field("waiting_for", schema::waiting_for, |webhook, live| {
        text(WaitingForView::of(webhook, &live.state, live.queue_head))
    })
    .or_null(),
    field("in_flight", schema::in_flight, |_, live| text(live.in_flight)),
    field("reason", schema::reason, |webhook, live| {
        text(diagnosis::of_webhook(live.reader, webhook, &live.state, live.last_failure.as_ref()))
    })
    .or_null(),
];

/// The schema of the member as it is shown.
pub fn shown_schema(field: &WebhookField) -> Value {
    if field.may_be_null { nullable((field.schema)()) } else { (field.schema)() }
}

/// The schema, or null. Every member of a form but the URL may be null.
fn or_null(field: &str, schema: Value) -> Value {
    if field == "url" { schema } else { nullable(schema) }
}

/// The schema of a new webhook.
pub fn new_webhook() -> Value {
    let mut properties: Map<String, Value> = Map::new();
    properties.insert("app_id".to_owned(), nullable(app_name()));
    for (field, form) in writable() {
        properties.insert(field.name.to_owned(), or_null(field.name, form.schema.unwrap_or(field.schema)()));
    }
    properties.insert("secret".to_owned(), nullable(secret()));
    let examples = json!([{ "url": "https://example.com/webhooks", "event_types": ["invoice.*"] }]);
    json!({ "type": "object", "required": ["url"], "properties": properties, "additionalProperties": false, "examples": examples })
}

/// The schema of a merge patch, which may also have parts of `auth` and `tls`.
pub fn webhook_patch() -> Value {
    let members = writable().map(|(field, form)| {
        let schema = form.patch_schema.or(form.schema).unwrap_or(field.schema);
        (field.name.to_owned(), or_null(field.name, schema()))
    });
    let description = "RFC 7396: null brings a field's default back, or takes one header away; of `auth` and `tls` the \
                       parts that change are enough. A credential sent back as its mask stays as it is.";
    json!({
        "type": "object",
        "properties": members.collect::<Map<_, _>>(),
        "additionalProperties": false,
        "description": description,
    })
}

#[cfg(test)]
mod tests;
