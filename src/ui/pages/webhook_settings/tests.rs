//! Tests of the settings that a page lists.

use super::*;
use crate::model::Id;
use crate::model::webhook::{ContentType, WebhookProxy, WebhookTls};

#[test]
fn every_setting_that_is_set_is_shown_without_its_secret() {
    let mut webhook = Webhook::new(Id::MIN, Id::MIN);
    assert_eq!(further(&webhook), []);
    webhook.content_type = ContentType::Form;
    webhook.include_html = true;
    webhook.auth = Some(WebhookAuth::Header { name: "X-Api-Key".to_owned(), value: "hidden-1".to_owned() });
    let headers = [("authorization", "hidden-2"), ("X-Own", "hidden-3"), ("X-Tenant", "acme")];
    webhook.headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    webhook.secret_headers = vec!["X-Own".to_owned()];
    webhook.encrypted = true;
    webhook.tls = Some(WebhookTls {
        ca_pem: Some("CERTIFICATE".to_owned()),
        client_cert_pem: Some("CERTIFICATE".to_owned()),
        client_key_pem: Some("hidden-4".to_owned()),
    });
    webhook.proxy = WebhookProxy::None;
    webhook.handshake = true;
    webhook.success_rule = SuccessRule::Only200;
    webhook.disable_after_s = 7_200;
    webhook.uid = Some("own-1".to_owned());
    webhook.metadata = [("team".to_owned(), "a".to_owned())].into();
    let shown = further(&webhook);
    let pairs: Vec<(&str, &str)> = shown.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [
        ("Media type", "application/x-www-form-urlencoded"),
        ("HTML", "kept in legacy bodies"),
        ("Authentication", "the secret header X-Api-Key"),
        ("Headers", "X-Own (secret), X-Tenant, authorization (secret)"),
        ("Secret headers", "X-Own"),
        ("Encryption", "the body as JWE"),
        ("Certificates", "an own CA, a client certificate"),
        ("Proxy", "none"),
        ("Handshake", "of CloudEvents, before the first request"),
        ("Delivered is", "200 only"),
        ("Switched off after", "2h of failures"),
        ("Uid", "own-1"),
        ("Metadata", "{\"team\":\"a\"}"),
    ];
    assert_eq!(pairs, expected);
    assert_eq!(
        writable().count(),
        SHOWN_APART.len() + expected.len(),
        "a member that callers set is shown apart, or is in this test",
    );
}
