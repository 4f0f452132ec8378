//! The views of webhooks, secrets and public keys.
//!
//! Invariant: a credential leaves only through `NewWebhookView` and `SecretsView`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::api::doc::schema::extends;
use crate::model::Time;
use crate::model::webhook::{SigningSecret, Webhook};
use crate::rules::signing;

use super::webhook_fields::{FIELDS, shown_schema};
use super::webhook_live::WebhookLive;

/// A webhook without its secret: the members of `FIELDS`.
pub struct WebhookView<'a> {
    webhook: &'a Webhook,
    live: WebhookLive,
}

impl<'a> WebhookView<'a> {
    pub fn new(webhook: &'a Webhook, live: WebhookLive) -> Self {
        WebhookView { webhook, live }
    }
}

impl Serialize for WebhookView<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(FIELDS.len()))?;
        for field in FIELDS {
            let text = RawValue::from_string((field.shown)(self.webhook, &self.live));
            map.serialize_entry(field.name, &text.ok())?;
        }
        map.end()
    }
}

impl JsonSchema for WebhookView<'_> {
    fn schema_name() -> Cow<'static, str> {
        "Webhook".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
        let members = FIELDS.iter().map(|field| (field.name.to_owned(), shown_schema(field)));
        json_schema!({ "type": "object", "required": names, "properties": members.collect::<Map<String, Value>>() })
    }
}

/// A new webhook, this once with its secret.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CreatedWebhook")]
pub struct NewWebhookView<'a> {
    #[serde(flatten)]
    #[schemars(schema_with = "extends::<WebhookView>")]
    webhook: WebhookView<'a>,
    #[schemars(with = "String")]
    secret: Option<&'a str>,
}

impl<'a> NewWebhookView<'a> {
    pub fn new(webhook: &'a Webhook) -> Self {
        let secret = webhook.secrets.first().map(|secret| secret.text.as_str());
        NewWebhookView { webhook: WebhookView::new(webhook, WebhookLive::default()), secret }
    }
}

/// The secrets of a webhook.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Secrets")]
pub struct SecretsView<'a> {
    #[schemars(with = "String")]
    secret: Option<&'a str>,
    previous: Vec<PreviousSecretView<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct PreviousSecretView<'a> {
    secret: &'a str,
    #[schemars(with = "Time")]
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

/// The public keys of a webhook: as a JWK Set (RFC 7517), and as Standard Webhooks writes them.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PublicKeys")]
pub struct PublicKeysView {
    #[schemars(with = "Vec<JsonWebKey>")]
    keys: Value,
    data: Vec<PublicKeyView>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct PublicKeyView {
    public_key: String,
    expires_at: Option<Time>,
}

/// A key of `signing::jwks`.
#[derive(JsonSchema)]
#[schemars(inline, description = "")]
pub struct JsonWebKey {
    #[schemars(extend("const" = "OKP"))]
    pub kty: String,
    #[schemars(extend("const" = "Ed25519"))]
    pub crv: String,
    pub x: String,
    pub kid: String,
    #[schemars(extend("const" = "sig"))]
    pub r#use: String,
    #[schemars(extend("const" = "EdDSA"))]
    pub alg: String,
}

impl PublicKeysView {
    /// The keys that sign at `now`, newest first.
    pub fn new(webhook: &Webhook, now: Time) -> Self {
        let (mut keys, mut data) = (Vec::new(), Vec::new());
        for secret in webhook.live_secrets(now) {
            if let Ok(parsed) = signing::parse_any_secret(&secret.text) {
                let key = parsed.public_key();
                data.push(PublicKeyView { public_key: signing::public_key_text(&key), expires_at: secret.expires_at });
                keys.push(key);
            }
        }
        PublicKeysView { keys: signing::jwks(&keys)["keys"].take(), data }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Id;
    use crate::model::webhook::{DeliveryOrder, WebhookAuth, WebhookTls};

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
        let shown = serde_json::to_string(&WebhookView::new(&webhook(), WebhookLive::default())).unwrap();
        assert!(!SECRETS.iter().any(|secret| shown.contains(secret)), "{shown}");
        assert!(!shown.contains("\"secret\""));
        assert!(shown.contains(r#""auth":{"type":"basic","username":"u","password":"********"}"#));
    }

    #[test]
    fn its_creation_shows_the_secret_and_nothing_else() {
        let shown = serde_json::to_value(NewWebhookView::new(&webhook())).unwrap();
        assert_eq!(shown["secret"], "whsec_current");
        assert!(!SECRETS[1..].iter().any(|secret| shown.to_string().contains(secret)));
    }

    #[test]
    fn no_scheme_and_no_order_have_their_own_words() {
        let mut webhook = webhook();
        webhook.signature.clear();
        webhook.ordered = DeliveryOrder::Key;
        let shown = serde_json::to_value(WebhookView::new(&webhook, WebhookLive::default())).unwrap();
        assert_eq!((&shown["signature"], &shown["ordered"]), (&json!("none"), &json!("key")));
    }

    #[test]
    fn only_live_secrets_are_shown_the_current_one_apart() {
        let shown = serde_json::to_value(SecretsView::new(&webhook(), Time(5))).unwrap();
        let previous = json!([{ "secret": "whsec_previous", "expires_at": Time(9) }]);
        assert_eq!(shown, json!({ "secret": "whsec_current", "previous": previous }));
    }
}
