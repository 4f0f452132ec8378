//! How webhooks, secrets and public keys are shown.
//!
//! Invariant: a credential leaves only through `Shown::secret`, `SecretsView` and nothing else: `auth`, headers that hold
//! credentials and the client key are masked.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::model::Time;
use crate::model::id::{AppId, WebhookId};
use crate::model::webhook::{
    CircuitState, ContentType, DeliveryOrder, DisabledReason, FieldSet, SignatureScheme, SigningSecret, SuccessRule,
    Webhook, WebhookAuth, WebhookMethod, WebhookProxy, WebhookState, WebhookStatus, WebhookTls,
};
use crate::rules::secrecy;

/// Stands for a credential. Sent back in a patch it leaves the credential unchanged.
pub const MASK: &str = "********";

/// A webhook in the order of api.md section 5.
#[derive(Serialize)]
pub struct WebhookView<'a> {
    id: WebhookId,
    app_id: AppId,
    created_at: Time,
    updated_at: Time,
    name: &'a str,
    description: Option<&'a str>,
    url: &'a str,
    method: WebhookMethod,
    content_type: ContentType,
    field_set: FieldSet,
    include_html: bool,
    auth: Option<Value>,
    /// Only in the answer to its creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    headers: BTreeMap<&'a str, &'a str>,
    secret_headers: &'a [String],
    event_types: &'a [String],
    channels: &'a [String],
    filter: Option<&'a RawValue>,
    status: WebhookStatus,
    disabled_reason: Option<DisabledReason>,
    encrypted: bool,
    signature: SignatureView<'a>,
    tls: Option<Value>,
    proxy: WebhookProxy,
    handshake: bool,
    success_rule: SuccessRule,
    retry_schedule_s: &'a [u32],
    timeout_ms: u32,
    max_in_flight: u32,
    rate_limit_per_s: Option<f64>,
    ordered: Value,
    disable_after_s: u64,
    consecutive_failures: u32,
    last_attempt_at: Option<Time>,
    last_success_at: Option<Time>,
    circuit: CircuitState,
}

impl<'a> WebhookView<'a> {
    /// The view for reading: without its secret.
    pub fn new(webhook: &'a Webhook, state: &WebhookState) -> Self {
        WebhookView {
            id: webhook.id,
            app_id: webhook.app_id,
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
            name: &webhook.name,
            description: webhook.description.as_deref(),
            url: &webhook.url,
            method: webhook.method,
            content_type: webhook.content_type,
            field_set: webhook.field_set,
            include_html: webhook.include_html,
            auth: webhook.auth.as_ref().map(|auth| auth_value(auth, true)),
            secret: None,
            headers: webhook.headers.iter().map(|(name, value)| (name.as_str(), shown(webhook, name, value))).collect(),
            secret_headers: &webhook.secret_headers,
            event_types: &webhook.event_types,
            channels: &webhook.channels,
            filter: webhook.filter.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            status: webhook.status,
            disabled_reason: webhook.disabled_reason,
            encrypted: webhook.encrypted,
            signature: SignatureView(&webhook.signature),
            tls: webhook.tls.as_ref().map(|tls| tls_value(tls, true)),
            proxy: webhook.proxy,
            handshake: webhook.handshake,
            success_rule: webhook.success_rule,
            retry_schedule_s: &webhook.retry_schedule_s,
            timeout_ms: webhook.timeout_ms,
            max_in_flight: webhook.max_in_flight,
            rate_limit_per_s: webhook.rate_limit_per_s,
            ordered: ordered_value(webhook.ordered),
            disable_after_s: webhook.disable_after_s,
            consecutive_failures: state.consecutive_failures,
            last_attempt_at: state.last_attempt_at,
            last_success_at: state.last_success_at,
            circuit: state.circuit,
        }
    }

    /// The view after creation: with its current secret, and without attempts.
    pub fn created(webhook: &'a Webhook) -> Self {
        let secret = webhook.secrets.first().map(|secret| secret.text.as_str());
        WebhookView { secret, ..WebhookView::new(webhook, &WebhookState::default()) }
    }
}

/// The value of one of the webhook's own headers, as far as it may be shown.
fn shown<'a>(webhook: &Webhook, name: &str, value: &'a str) -> &'a str {
    if secrecy::is_secret_header(webhook, name) { MASK } else { value }
}

/// `"none"`, or the list of schemes.
struct SignatureView<'a>(&'a [SignatureScheme]);

impl Serialize for SignatureView<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() { to.serialize_str("none") } else { self.0.serialize(to) }
    }
}

fn ordered_value(ordered: DeliveryOrder) -> Value {
    match ordered {
        DeliveryOrder::No => Value::Bool(false),
        DeliveryOrder::Webhook => Value::Bool(true),
        DeliveryOrder::Key => Value::from("key"),
    }
}

fn auth_value(auth: &WebhookAuth, masked: bool) -> Value {
    let secret = |text: &str| if masked { MASK.to_owned() } else { text.to_owned() };
    match auth {
        WebhookAuth::Basic { username, password } => {
            json!({ "type": "basic", "username": username, "password": secret(password) })
        }
        WebhookAuth::Bearer { token } => json!({ "type": "bearer", "token": secret(token) }),
        WebhookAuth::Header { name, value } => json!({ "type": "header", "name": name, "value": secret(value) }),
    }
}

fn tls_value(tls: &WebhookTls, masked: bool) -> Value {
    let key = tls.client_key_pem.as_deref().map(|key| if masked { MASK } else { key });
    json!({ "ca_pem": tls.ca_pem, "client_cert_pem": tls.client_cert_pem, "client_key_pem": key })
}

/// The writable fields as JSON texts with their credentials, as the base of a merge patch. They are never shown.
pub fn writable(webhook: &Webhook) -> Vec<(&'static str, String)> {
    let text = |value: Value| value.to_string();
    vec![
        ("name", text(json!(webhook.name))),
        ("description", text(json!(webhook.description))),
        ("url", text(json!(webhook.url))),
        ("method", text(json!(webhook.method))),
        ("content_type", text(json!(webhook.content_type))),
        ("field_set", text(json!(webhook.field_set))),
        ("include_html", text(json!(webhook.include_html))),
        ("auth", text(webhook.auth.as_ref().map_or(Value::Null, |auth| auth_value(auth, false)))),
        ("headers", text(json!(webhook.headers))),
        ("secret_headers", text(json!(webhook.secret_headers))),
        ("event_types", text(json!(webhook.event_types))),
        ("channels", text(json!(webhook.channels))),
        ("filter", webhook.filter.clone().unwrap_or_else(|| "null".to_owned())),
        ("status", text(json!(webhook.status))),
        ("encrypted", text(json!(webhook.encrypted))),
        ("signature", text(json!(SignatureView(&webhook.signature)))),
        ("tls", text(webhook.tls.as_ref().map_or(Value::Null, |tls| tls_value(tls, false)))),
        ("proxy", text(json!(webhook.proxy))),
        ("handshake", text(json!(webhook.handshake))),
        ("success_rule", text(json!(webhook.success_rule))),
        ("retry_schedule_s", text(json!(webhook.retry_schedule_s))),
        ("timeout_ms", text(json!(webhook.timeout_ms))),
        ("max_in_flight", text(json!(webhook.max_in_flight))),
        ("rate_limit_per_s", text(json!(webhook.rate_limit_per_s))),
        ("ordered", text(ordered_value(webhook.ordered))),
        ("disable_after_s", text(json!(webhook.disable_after_s))),
    ]
}

/// The answer of `…/secret` and `…/rotate-secret`.
#[derive(Serialize)]
pub struct SecretsView<'a> {
    secret: Option<&'a str>,
    previous: Vec<PreviousSecretView<'a>>,
}

#[derive(Serialize)]
struct PreviousSecretView<'a> {
    secret: &'a str,
    expires_at: Option<Time>,
}

impl<'a> SecretsView<'a> {
    /// The secrets that sign at `now`, newest first.
    pub fn new(webhook: &'a Webhook, now: Time) -> Self {
        let mut live = webhook.live_secrets(now);
        let secret = live.next().map(|secret| secret.text.as_str());
        let previous = live
            .map(|SigningSecret { text, expires_at, .. }| PreviousSecretView { secret: text, expires_at: *expires_at });
        SecretsView { secret, previous: previous.collect() }
    }
}

/// Whether this member of a webhook's JSON form is set by Postrider alone.
pub fn is_read_only(name: &str) -> bool {
    const READ_ONLY: [&str; 9] = [
        "id",
        "app_id",
        "created_at",
        "updated_at",
        "disabled_reason",
        "consecutive_failures",
        "last_attempt_at",
        "last_success_at",
        "circuit",
    ];
    READ_ONLY.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Id;

    const SECRETS: [&str; 4] = ["whsec_current", "whsec_previous", "the-password", "the-key"];

    fn webhook() -> Webhook {
        let mut webhook = Webhook::new(Id::MIN, Id::MIN);
        webhook.auth = Some(WebhookAuth::Basic { username: "u".to_owned(), password: "the-password".to_owned() });
        webhook.tls = Some(WebhookTls { client_key_pem: Some("the-key".to_owned()), ..WebhookTls::default() });
        webhook.secrets = vec![
            SigningSecret { text: "whsec_current".to_owned(), created_at: Time(5), expires_at: None },
            SigningSecret { text: "whsec_previous".to_owned(), created_at: Time(0), expires_at: Some(Time(9)) },
            SigningSecret { text: "whsec_over".to_owned(), created_at: Time(0), expires_at: Some(Time(5)) },
        ];
        webhook
    }

    #[test]
    fn a_webhook_is_read_without_any_credential() {
        let shown = serde_json::to_string(&WebhookView::new(&webhook(), &WebhookState::default())).unwrap();
        assert!(!SECRETS.iter().any(|secret| shown.contains(secret)), "{shown}");
        assert!(!shown.contains("\"secret\""));
        assert!(shown.contains(r#""auth":{"type":"basic","username":"u","password":"********"}"#));
    }

    #[test]
    fn its_creation_shows_the_secret_and_nothing_else() {
        let shown = serde_json::to_value(WebhookView::created(&webhook())).unwrap();
        assert_eq!(shown["secret"], "whsec_current");
        assert!(!SECRETS[1..].iter().any(|secret| shown.to_string().contains(secret)));
    }

    #[test]
    fn no_scheme_and_no_order_have_their_own_words() {
        let mut webhook = webhook();
        webhook.signature.clear();
        webhook.ordered = DeliveryOrder::Key;
        let shown = serde_json::to_value(WebhookView::new(&webhook, &WebhookState::default())).unwrap();
        assert_eq!((&shown["signature"], &shown["ordered"]), (&json!("none"), &json!("key")));
    }

    #[test]
    fn only_live_secrets_are_shown_the_current_one_apart() {
        let shown = serde_json::to_value(SecretsView::new(&webhook(), Time(5))).unwrap();
        let previous = json!([{ "secret": "whsec_previous", "expires_at": Time(9) }]);
        assert_eq!(shown, json!({ "secret": "whsec_current", "previous": previous }));
    }
}
