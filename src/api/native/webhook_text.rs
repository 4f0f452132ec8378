//! The members of a webhook that are not shown as they are stored.
//!
//! Invariant: a credential is in a text only if `masked` is false, which is for the base of a merge patch.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::model::webhook::{DeliveryOrder, Webhook, WebhookAuth};
use crate::rules::secrecy;

/// Stands for a credential. Sent back in a patch it leaves the credential unchanged.
pub const MASK: &str = "********";

/// The headers, with masks for credentials.
pub fn shown_headers(webhook: &Webhook) -> BTreeMap<&str, &str> {
    let headers = webhook.headers.iter();
    headers.map(|(name, value)| (name.as_str(), shown(webhook, name, value))).collect()
}

/// The value of one of the webhook's own headers, as far as it may be shown.
fn shown<'a>(webhook: &Webhook, name: &str, value: &'a str) -> &'a str {
    if secrecy::is_secret_header(webhook, name) { MASK } else { value }
}

/// `"none"`, or the list of schemes.
pub fn signature_text(webhook: &Webhook) -> String {
    let schemes = &webhook.signature;
    if schemes.is_empty() { json!("none") } else { json!(schemes) }.to_string()
}

pub fn ordered_value(ordered: DeliveryOrder) -> Value {
    match ordered {
        DeliveryOrder::No => Value::Bool(false),
        DeliveryOrder::Webhook => Value::Bool(true),
        DeliveryOrder::Key => Value::from("key"),
    }
}

/// The credentials that authenticate a request, or `null`.
pub fn auth_text(webhook: &Webhook, masked: bool) -> String {
    let secret = |text: &str| if masked { MASK.to_owned() } else { text.to_owned() };
    let auth = match &webhook.auth {
        None => Value::Null,
        Some(WebhookAuth::Basic { username, password }) => {
            json!({ "type": "basic", "username": username, "password": secret(password) })
        }
        Some(WebhookAuth::Bearer { token }) => json!({ "type": "bearer", "token": secret(token) }),
        Some(WebhookAuth::Header { name, value }) => json!({ "type": "header", "name": name, "value": secret(value) }),
    };
    auth.to_string()
}

/// The certificates and the key, or `null`.
pub fn tls_text(webhook: &Webhook, masked: bool) -> String {
    let Some(tls) = &webhook.tls else { return Value::Null.to_string() };
    let key = tls.client_key_pem.as_deref().map(|key| if masked { MASK } else { key });
    json!({ "ca_pem": tls.ca_pem, "client_cert_pem": tls.client_cert_pem, "client_key_pem": key }).to_string()
}
