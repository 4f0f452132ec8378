//! Secrets: rotation with an overlap, Ed25519 with its public keys, other schemes, encrypted bodies, and masks for
//! callers without the permission.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::signatures::{is_signed_by, parts, signed_text};
use crate::support::{Receiver, Request, START, TestDaemon};

async fn next_request(daemon: &TestDaemon, receiver: &Receiver) -> Request {
    daemon.publish("a", json!({ "n": 1 })).await;
    receiver.next().await
}

#[tokio::test]
async fn every_live_secret_signs_until_its_overlap_ends() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let given = format!("whsec_{}", STANDARD.encode([7; 24]));
    let webhook = daemon.webhook(&receiver.url(), json!({ "secret": given })).await;
    assert_eq!(webhook["secret"], given);
    assert_eq!(daemon.read_webhook(&webhook).await.get("secret"), None);
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    let rotated = daemon.post(&format!("{path}/rotate-secret"), json!({ "overlap_s": 600 })).await;
    let second = text(&rotated, "secret").to_owned();
    assert_eq!(rotated["previous"], json!([{ "secret": given, "expires_at": START.plus_ms(600_000).to_string() }]));
    let third = format!("whsec_{}", STANDARD.encode([9; 64]));
    daemon.post(&format!("{path}/rotate-secret"), json!({ "secret": third, "overlap_s": 60 })).await;

    let request = next_request(&daemon, &receiver).await;
    assert_eq!(parts(&request).len(), 3, "one for each live secret");
    for secret in [&given, &second, &third] {
        assert!(is_signed_by(&request, secret));
    }
    daemon.restart().await;
    let shown = daemon.get(&format!("{path}/secret")).await;
    assert_eq!((shown["secret"].as_str(), shown["previous"].as_array().unwrap().len()), (Some(third.as_str()), 2));
    // The earlier end counts. The first secret was to live longer when the second replaced it.
    daemon.advance_s(61);
    let request = next_request(&daemon, &receiver).await;
    assert_eq!(parts(&request).len(), 1);
    assert!(is_signed_by(&request, &third));
    assert_eq!(daemon.get(&format!("{path}/secret")).await["previous"], json!([]));
    daemon.post(&format!("{path}/rotate-secret"), json!({ "overlap_s": 0 })).await;
    assert!(
        !is_signed_by(&next_request(&daemon, &receiver).await, &third),
        "without an overlap the old secret ends at once"
    );
    let actions: Vec<Value> =
        daemon.get("/v1/audit").await["data"].as_array().unwrap().iter().map(|row| row["action"].clone()).collect();
    assert_eq!(actions.iter().filter(|action| *action == "webhook.rotate_secret").count(), 3);
    assert_eq!(actions.iter().filter(|action| *action == "webhook.read_secret").count(), 2, "each reading is audited");
}

/// A secret whose end was promised signs until then, or the rotation that would end it is refused.
#[tokio::test]
async fn an_eleventh_old_secret_is_refused() {
    let daemon = TestDaemon::start().await;
    let webhook = daemon.webhook("https://hooks.example.com/in", json!({})).await;
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    for _ in 0..10 {
        daemon.post(&format!("{path}/rotate-secret"), json!({})).await;
    }
    let refused = daemon.try_post(&format!("{path}/rotate-secret"), json!({})).await.expect(409);
    assert_eq!(refused["code"], "too_many_secrets");
    let shown = daemon.get(&format!("{path}/secret")).await;
    assert_eq!(shown["previous"].as_array().unwrap().last().unwrap()["secret"], webhook["secret"]);
    daemon.post(&format!("{path}/rotate-secret"), json!({ "overlap_s": 0 })).await;
    assert_eq!(daemon.get(&format!("{path}/secret")).await["previous"], json!([]));
}

#[tokio::test]
async fn ed25519_signatures_verify_with_the_served_keys() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "signature": ["standard", "ed25519"] })).await;
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    daemon.post(&format!("{path}/rotate-secret"), json!({})).await;
    let request = next_request(&daemon, &receiver).await;
    let versions: Vec<String> = parts(&request).into_iter().map(|(version, _)| version).collect();
    assert_eq!(versions, ["v1", "v1", "v1a", "v1a"]);
    let keys = daemon.get(&format!("{path}/public-keys")).await;
    let (jwks, texts) = (keys["keys"].as_array().unwrap(), keys["data"].as_array().unwrap());
    assert_eq!((jwks.len(), texts.len()), (2, 2));
    let signatures: Vec<Vec<u8>> = parts(&request)
        .into_iter()
        .filter(|(version, _)| version == "v1a")
        .map(|(_, signature)| STANDARD.decode(signature).unwrap())
        .collect();
    for (jwk, row) in jwks.iter().zip(texts) {
        assert_eq!((&jwk["kty"], &jwk["crv"]), (&json!("OKP"), &json!("Ed25519")));
        let key = URL_SAFE_NO_PAD.decode(text(jwk, "x")).unwrap();
        assert_eq!(STANDARD.decode(text(row, "public_key").strip_prefix("whpk_").unwrap()).unwrap(), key);
        let key = UnparsedPublicKey::new(&ED25519, key);
        assert_eq!(signatures.iter().filter(|s| key.verify(&signed_text(&request), s).is_ok()).count(), 1);
    }
}

#[tokio::test]
async fn schemes_are_a_list_or_none() {
    let daemon = TestDaemon::start().await;
    let (none, all) = (Receiver::start().await, Receiver::start().await);
    daemon.webhook(&none.url(), json!({ "signature": "none" })).await;
    let webhook = daemon.webhook(&all.url(), json!({ "signature": ["dfns", "sent", "standard"] })).await;
    daemon.publish("a", json!(1)).await;
    let request = none.next().await;
    assert!(!request.has("webhook-signature") && request.has("webhook-id"));
    let request = all.next().await;
    assert!(is_signed_by(&request, text(&webhook, "secret")));
    assert!(request.header("x-dfns-webhook-signature").starts_with("sha256="));
    assert!(request.has("x-webhook-signature") && request.has("x-webhook-id") && request.has("x-webhook-timestamp"));
}

#[tokio::test]
async fn an_encrypted_body_is_a_jwe_and_the_signature_covers_it() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "encrypted": true })).await;
    let secret = text(&webhook, "secret").to_owned();
    let (first, second) = (next_request(&daemon, &receiver).await, next_request(&daemon, &receiver).await);
    assert_eq!(first.header("content-type"), "application/jose");
    assert!(is_signed_by(&first, &secret));
    let key = postrider::rules::signing::parse_secret(&secret).unwrap();
    let opened = postrider::rules::jwe::open(&key, first.text()).expect("it opens");
    let body: Value = serde_json::from_slice(&opened).unwrap();
    assert_eq!(body["data"]["n"], 1);
    let nonce = |request: &Request| request.text().split('.').nth(2).unwrap().to_owned();
    assert_ne!(nonce(&first), nonce(&second), "no nonce twice");
    let refused =
        daemon.try_post("/v1/webhooks", json!({ "url": receiver.url(), "encrypted": true, "method": "get" })).await;
    assert_eq!(refused.expect(422)["errors"][0]["pointer"], "/encrypted");
}
