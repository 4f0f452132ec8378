//! Debug output never contains a secret, because it lands in logs.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use postrider::api::request::HttpRequest;
use postrider::api::response::HttpResponse;
use postrider::config::{SecretSetting as Setting, Settings};
use postrider::daemon::FirstKey;
use postrider::model::webhook::{SigningSecret, Webhook, WebhookAuth, WebhookTls};
use postrider::model::{AppId, Id, OrganizationId, Time};
use postrider::rules::signing;
use postrider::store::{Applied, Command, IdempotencyKey, Receipt, StateCommand, WriteRequest};

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

fn secret() -> SigningSecret {
    SigningSecret { text: SECRET.to_owned(), created_at: Time(0), expires_at: None }
}

fn webhook() -> Webhook {
    let (org, app) = (OrganizationId::MIN, AppId::MIN);
    let mut webhook = postrider::model::Webhook::new(org, app);
    webhook.secrets = vec![secret()];
    webhook.auth = Some(WebhookAuth::Bearer { token: SECRET.to_owned() });
    webhook.tls = Some(WebhookTls { client_key_pem: Some(SECRET.to_owned()), ..WebhookTls::default() });
    webhook.headers.insert("x-own".to_owned(), SECRET.to_owned());
    webhook
}

fn keep() -> IdempotencyKey {
    IdempotencyKey { key: [1; 32], request: [2; 32], extra: Some(Bytes::from_static(SECRET.as_bytes())), secret: true }
}

#[test]
fn no_debug_text_holds_a_secret() {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static(SECRET));
    headers.insert("x-api-key", HeaderValue::from_static(SECRET));
    let call = HttpRequest {
        method: Method::POST,
        path: "/v1/webhooks".to_owned(),
        query: Some(format!("key={SECRET}")),
        headers,
        body: Bytes::from_static(SECRET.as_bytes()),
        remote: None,
        request_id: "r".to_owned(),
    };
    let settings = Settings {
        admin_key: Some(Setting::new(SECRET)),
        master_key: Some(Setting::new(SECRET)),
        metrics: postrider::config::MetricsSettings { listen: None, key: Some(Setting::new(SECRET)) },
        ..Settings::default()
    };
    let created = StateCommand::CreateWebhook { webhook: Box::new(webhook()), of_app_max: None };
    let rotated = StateCommand::RotateSecret { id: Id::MIN, secret: secret(), overlap_s: 1 };
    let receipt = Receipt::Webhook(webhook().into());
    let key = signing::parse_secret(&signing::make_secret(|| [7; 24])).expect("a secret");
    let key_text = signing::make_secret(|| [7; 24]);
    let texts = [
        format!("{:?}", webhook()),
        format!("{:?}", webhook().auth),
        format!("{:?}", webhook().tls),
        format!("{:?}", WebhookAuth::Basic { username: "u".to_owned(), password: SECRET.to_owned() }),
        format!("{:?}", WebhookAuth::Header { name: "x".to_owned(), value: SECRET.to_owned() }),
        format!("{:?}", secret()),
        format!(
            "{:?}",
            WriteRequest { caller: None, idempotency: Some(keep()), command: Command::State(created.clone()) }
        ),
        format!("{:?}", WriteRequest { caller: None, idempotency: Some(keep()), command: Command::State(rotated) }),
        format!("{:#?}", created),
        format!("{:?}", receipt),
        format!("{:?}", Applied { receipt, replayed: true, extra: Some(Bytes::from_static(SECRET.as_bytes())) }),
        format!("{:?}", call),
        format!("{:?}", HttpResponse::new(StatusCode::OK, "application/json", SECRET)),
        format!("{:?}", settings),
        format!("{:?}", FirstKey { text: SECRET.to_owned(), file: "first-key".into() }),
    ];
    for text in texts {
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!text.contains("104, 117, 110, 116"), "bytes, number by number: {text}");
    }
    assert!(!format!("{key:?}").contains(&key_text[6..20]));
}
