//! Dfns's webhooks, written in its shape at a daemon over sockets.

use http::Method;
use ring::hmac;
use serde_json::{Value, json};

use crate::support::{Client, Receiver, Request, TestDaemon};

const URL: &str = "https://hooks.example.com/in";

async fn call(client: &Client, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = client.call(method, path, &[("content-type", "application/json")], body).await;
    (answer.status.as_u16(), answer.json())
}

fn message(text: &str) -> Value {
    json!({ "error": { "message": text } })
}

/// The path of the webhook in the vendor's shape and in the native one.
fn paths(shown: &Value) -> (String, String) {
    let id = shown["id"].as_str().expect("an id");
    let native = postrider::rules::dfns_id::parse_webhook(id).expect("a webhook's id");
    (format!("/webhooks/{id}"), format!("/v1/webhooks/{native}"))
}

/// The vendor's rule for receivers: the text of the secret is the key, and the body alone is signed.
fn is_signed(request: &Request, secret: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let hex: String = hmac::sign(&key, &request.body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    request.header("x-dfns-webhook-signature") == format!("sha256={hex}")
}

#[tokio::test]
async fn a_dfns_webhook_lives_from_create_to_delete() {
    let (daemon, receiver) = (TestDaemon::start().await, Receiver::start().await);
    let given = json!({ "url": receiver.url(), "events": ["*"], "description": "books" });
    let (status, made) = call(&daemon, Method::POST, "/webhooks", &given).await;
    assert_eq!(status, 200, "{made}");
    assert_eq!(
        (&made["events"], &made["description"], &made["status"]),
        (&json!(["*"]), &json!("books"), &json!("Enabled"))
    );
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    let (path, native_path) = paths(&made);
    let native = daemon.get(&native_path).await;
    assert_eq!(native["name"], "127.0.0.1");
    assert_eq!((&native["signature"], &native["field_set"]), (&json!(["dfns"]), &json!("dfns")));
    assert_eq!((&native["success_rule"], &native["event_types"]), (&json!("200"), &json!([])));
    let same = daemon.webhook(URL, json!({ "retry_schedule_s": "dfns" })).await;
    assert_eq!(native["retry_schedule_s"], same["retry_schedule_s"]);

    daemon.publish("wallet.created", json!({ "n": 1 })).await;
    let request = receiver.next().await;
    assert!(is_signed(&request, &secret), "{:?}", request.headers);
    assert_eq!(request.json()["kind"], "wallet.created");
    let (status, pong) = call(&daemon, Method::POST, &format!("{path}/ping"), &json!({})).await;
    assert_eq!((status, pong), (200, json!({ "status": "200" })));
    assert!(is_signed(&receiver.next().await, &secret));

    daemon.advance_s(1);
    let mut expected = made.clone();
    expected.as_object_mut().expect("an object").remove("secret");
    assert_eq!(
        call(&daemon, Method::GET, &path, &Value::Null).await,
        (200, expected.clone()),
        "the secret is shown once"
    );
    let change = json!({ "events": ["wallet.created", "wallet.activated"], "status": "Disabled" });
    let (status, changed) = call(&daemon, Method::PUT, &path, &change).await;
    expected["events"] = change["events"].clone();
    expected["status"] = json!("Disabled");
    expected["dateUpdated"] = changed["dateUpdated"].clone();
    assert_ne!(changed["dateUpdated"], made["dateUpdated"]);
    assert_eq!((status, &changed), (200, &expected));
    let native = daemon.get(&native_path).await;
    assert_eq!((&native["status"], &native["disabled_reason"]), (&json!("disabled"), &json!("manual")));
    // All of it again changes nothing.
    let again =
        json!({ "url": changed["url"], "events": changed["events"], "description": "books", "status": "Disabled" });
    assert_eq!(call(&daemon, Method::PUT, &path, &again).await, (200, changed));
    let (_, on) = call(&daemon, Method::PUT, &path, &json!({ "status": "Enabled", "url": URL, "events": ["*"] })).await;
    assert_eq!((&on["status"], &on["url"], &on["events"]), (&json!("Enabled"), &json!(URL), &json!(["*"])));
    assert_eq!(daemon.get(&native_path).await["name"], "hooks.example.com", "the webhook still has its host as name");

    assert_eq!(call(&daemon, Method::DELETE, &path, &Value::Null).await, (200, json!({ "deleted": true })));
    assert_eq!(call(&daemon, Method::DELETE, &path, &json!({})).await, (404, message("webhook not found")));
    let audit = daemon.get("/v1/audit?limit=100").await.to_string();
    for action in ["webhook.create", "webhook.update", "webhook.delete"] {
        assert!(audit.contains(action), "{action}: {audit}");
    }
}

#[tokio::test]
async fn every_flaw_in_a_dfns_webhook_is_a_400() {
    let daemon = TestDaemon::start().await;
    let good = json!({ "url": URL, "events": ["a.b"] });
    let (_, made) = call(&daemon, Method::POST, "/webhooks", &good).await;
    let (path, _) = paths(&made);
    for (field, value, says) in [
        ("url", json!("ftp://a.example/"), "url "),
        ("url", json!("http://10.0.0.1/"), "url "),
        ("url", json!(5), "url must be a string"),
        ("events", json!([]), "events must have at least one item"),
        ("events", json!("*"), "events must be an array"),
        ("events", json!(["a b"]), "events.0 "),
        ("description", json!("x".repeat(257)), "description must have at most 256 characters"),
        ("status", json!("enabled"), "status must be Enabled or Disabled"),
        ("name", json!("x"), "name is not a known field"),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        for (method, path) in [(Method::POST, "/webhooks"), (Method::PUT, path.as_str())] {
            let (status, answer) = call(&daemon, method.clone(), path, &body).await;
            let found = answer["error"]["message"].as_str().unwrap_or_default();
            assert!(status == 400 && found.starts_with(says), "{method} {field} {value}: {status} {answer}");
        }
    }
    let several_flaws = json!({ "status": "x", "events": "a", "url": "zz" });
    for (body, says) in [
        (json!({ "events": ["a"] }), "url is required"),
        (json!({ "url": URL }), "events is required"),
        (json!({}), "url is required"),
        (json!({ "url": URL, "status": "x" }), "events is required"),
    ] {
        assert_eq!(call(&daemon, Method::POST, "/webhooks", &body).await, (400, message(says)));
    }
    let (_, answer) = call(&daemon, Method::POST, "/webhooks", &several_flaws).await;
    assert!(answer["error"]["message"].as_str().is_some_and(|text| text.starts_with("url ")), "{answer}");
    let (status, _) = call(&daemon, Method::DELETE, &path, &json!({ "x": 1 })).await;
    assert_eq!(status, 400);
    for method in [Method::PUT, Method::DELETE] {
        let (status, answer) = call(&daemon, method, "/webhooks/x", &json!({})).await;
        assert_eq!((status, answer), (400, message("webhookId is invalid")));
    }
    let key = daemon.post("/v1/keys", json!({ "name": "reader", "scopes": ["webhooks:read"] })).await;
    let reader = daemon.with_key(key["key"].as_str().expect("a key"));
    for (method, path, permission) in [
        (Method::POST, "/webhooks", "Webhooks:Create"),
        (Method::PUT, path.as_str(), "Webhooks:Update"),
        (Method::DELETE, path.as_str(), "Webhooks:Delete"),
        (Method::POST, "/auth/action/init", "Auth:Action:Sign"),
        (Method::POST, "/auth/action", "Auth:Action:Sign"),
    ] {
        let says = format!("reader is not authorized to perform operation ({permission})");
        assert_eq!(call(&reader, method, path, &good).await, (403, message(&says)));
    }
    assert_eq!(daemon.get("/v1/webhooks").await["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_long_native_description_is_sent_back_unchanged() {
    let daemon = TestDaemon::start().await;
    let long = "x".repeat(300);
    daemon.webhook(URL, json!({ "description": long })).await;
    let (_, list) = call(&daemon, Method::GET, "/webhooks", &Value::Null).await;
    let (path, _) = paths(&list["items"][0]);
    let given = json!({ "url": URL, "events": ["*"], "description": long, "status": "Disabled" });
    let (status, changed) = call(&daemon, Method::PUT, &path, &given).await;
    assert_eq!((status, &changed["description"], &changed["status"]), (200, &json!(long), &json!("Disabled")));
    let (status, refused) = call(&daemon, Method::PUT, &path, &json!({ "description": "y".repeat(300) })).await;
    assert_eq!(status, 400, "{refused}");
}

#[tokio::test]
async fn a_dfns_write_with_an_idempotency_key_happens_once() {
    let daemon = TestDaemon::start().await;
    let once = async |method: Method, path: &str, body: &Value| {
        let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
        let answer = daemon.call(method, path, &headers, body.to_string()).await;
        (answer.status.as_u16(), answer.header("idempotent-replayed").is_some(), answer.json())
    };
    let good = json!({ "url": URL, "events": ["a.b"] });
    let (status, replayed, made) = once(Method::POST, "/webhooks", &good).await;
    assert_eq!((status, replayed), (200, false));
    assert_eq!(once(Method::POST, "/webhooks", &good).await, (200, true, made.clone()), "with the secret again");
    let (path, _) = paths(&made);
    let change = json!({ "description": "first" });
    let (status, replayed, changed) = once(Method::PUT, &path, &change).await;
    assert_eq!((status, replayed), (200, false), "{changed}");
    call(&daemon, Method::PUT, &path, &json!({ "description": "second" })).await;
    assert_eq!(once(Method::PUT, &path, &change).await, (200, true, changed));
    assert_eq!(call(&daemon, Method::GET, &path, &Value::Null).await.1["description"], "second");
    let deleted = json!({ "deleted": true });
    assert_eq!(once(Method::DELETE, &path, &json!({})).await, (200, false, deleted.clone()));
    assert_eq!(once(Method::DELETE, &path, &json!({})).await, (200, true, deleted));
    assert_eq!(once(Method::DELETE, &path, &Value::Null).await.0, 409, "another request");
}

#[tokio::test]
async fn a_user_action_is_signed_in_form_only() {
    let lists = [("dfns_credentials", vec!["cr-1".to_owned(), "cr-2".to_owned()])];
    let daemon = TestDaemon::with(|settings| settings.dialect_lists = lists.into_iter().collect()).await;
    let action = json!({
        "userActionPayload": "", "userActionHttpMethod": "POST", "userActionHttpPath": "/webhooks/x/ping",
        "userActionServerKind": "Api",
    });
    let (status, first) = call(&daemon, Method::POST, "/auth/action/init", &action).await;
    assert_eq!(status, 200, "{first}");
    let allowed = json!([{ "type": "public-key", "id": "cr-1" }, { "type": "public-key", "id": "cr-2" }]);
    assert_eq!(first["allowCredentials"], json!({ "key": allowed, "webauthn": [] }));
    let (_, second) = call(&daemon, Method::POST, "/auth/action/init", &action).await;
    for name in ["challenge", "challengeIdentifier"] {
        assert!(first[name].as_str().is_some_and(|text| text.len() == 43), "{first}");
        assert_ne!(first[name], second[name]);
    }
    let assertion = json!({ "credId": "cr-1", "clientData": "e30", "signature": "AA" });
    let signed = json!({
        "challengeIdentifier": first["challengeIdentifier"],
        "firstFactor": { "kind": "Key", "credentialAssertion": assertion },
    });
    let (status, token) = call(&daemon, Method::POST, "/auth/action", &signed).await;
    assert!(status == 200 && token["userAction"].as_str().is_some_and(|text| text.len() == 43), "{token}");
    for (path, body, says) in [
        ("/auth/action/init", json!({}), "userActionPayload is required"),
        ("/auth/action", json!({ "firstFactor": signed["firstFactor"] }), "challengeIdentifier is required"),
        ("/auth/action", json!({ "challengeIdentifier": "x" }), "firstFactor is required"),
        ("/auth/action", json!({ "challengeIdentifier": "x", "firstFactor": 1 }), "firstFactor must be an object"),
        (
            "/auth/action",
            json!({ "challengeIdentifier": "x", "firstFactor": { "kind": "Key" } }),
            "firstFactor.credentialAssertion is required",
        ),
    ] {
        assert_eq!(call(&daemon, Method::POST, path, &body).await, (400, message(says)));
    }
    // Only these two paths are the dialect's.
    let (status, error) = call(&daemon, Method::POST, "/auth/login/init", &json!({})).await;
    assert_eq!((status, &error["code"]), (404, &json!("route_not_found")));
    let (status, error) = call(&daemon, Method::GET, "/auth/action", &Value::Null).await;
    assert!(status == 405 && error["error"]["message"].is_string(), "{error}");
}

#[tokio::test]
async fn native_event_types_that_are_sent_back_stay() {
    let daemon = TestDaemon::start().await;
    for types in [json!(["*"]), json!([]), json!(["*", "a"])] {
        let native = daemon.webhook(URL, json!({ "event_types": types })).await;
        let id = native["id"].as_str().expect("an id");
        let path = format!("/webhooks/{}", postrider::rules::dfns_id::webhook(id.parse().expect("a webhook's id")));
        let shown = daemon.get(&path).await;
        let change = json!({ "events": shown["events"], "description": "changed" });
        let (status, changed) = call(&daemon, Method::PUT, &path, &change).await;
        assert_eq!((status, &changed["events"]), (200, &shown["events"]), "{changed}");
        assert_eq!(daemon.get(&format!("/v1/webhooks/{id}")).await["event_types"], types);
    }
}

#[tokio::test]
async fn a_number_that_a_dfns_body_would_change_ends_the_delivery() {
    let (daemon, receiver) = (TestDaemon::start().await, Receiver::start().await);
    let given = json!({ "url": receiver.url(), "events": ["*"] });
    let (_, made) = call(&daemon, Method::POST, "/webhooks", &given).await;
    let event = daemon.publish("a", json!({ "amount": 9_007_199_254_740_993_i64 })).await;
    let ended = crate::support::eventually("the end of the delivery", async || {
        let delivery = daemon.deliveries(&event).await[0].clone();
        (delivery["status"] == "failed").then_some(delivery)
    })
    .await;
    assert_eq!((&ended["attempts"], &ended["last_outcome"]), (&json!(1), &json!("request_error")), "{ended}");
    assert!(ended["last_error"].as_str().is_some_and(|error| error.contains("64-bit float")), "{ended}");
    let (_, native_path) = paths(&made);
    assert_eq!(daemon.get(&native_path).await["status"], "enabled");
    daemon.publish("a", json!({ "amount": 9_007_199_254_740_992_i64 })).await;
    assert_eq!(receiver.next().await.json()["data"]["amount"], 9_007_199_254_740_992_i64);
}
