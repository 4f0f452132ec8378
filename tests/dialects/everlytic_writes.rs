//! Everlytic's webhooks, written in its shape at a daemon over sockets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::signatures::is_signed_by;
use crate::support::{Client, Receiver, TestDaemon};

const LIST: &str = "/transactional/email/v1/webhooks";
const URL: &str = "https://hooks.example.com/in";

async fn ask(client: &Client, method: Method, path: &str, body: &Value, key: Option<&str>) -> Answer {
    let credentials = format!("Basic {}", STANDARD.encode(format!("any:{}", client.key)));
    let mut headers = vec![("authorization", credentials.as_str()), ("content-type", "application/json")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    client.with_key("").call(method, path, &headers, body).await
}

async fn call(client: &Client, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let answer = ask(client, method, path, body, None).await;
    (answer.status.as_u16(), answer.json())
}

fn path_of(shown: &Value) -> String {
    format!("{LIST}/{}", shown["webhook"]["id"].as_str().expect("an id"))
}

async fn native(daemon: &TestDaemon, shown: &Value) -> Value {
    daemon.get(&format!("/v1/webhooks/{}", shown["webhook"]["id"].as_str().expect("an id"))).await
}

#[tokio::test]
async fn an_everlytic_webhook_lives_from_create_to_delete() {
    let (daemon, receiver) = (TestDaemon::start().await, Receiver::start().await);
    let given = json!({
        "event_types": ["opened", "clicked"], "url": receiver.url(), "verb": "put", "auth_type": "basic",
        "auth_details": { "username": "me", "password": "secret" }, "content_type": "application/json",
        "field_set": "legacy", "settings": { "include_html": true },
    });
    let (status, made) = call(&daemon, Method::POST, LIST, &given).await;
    assert_eq!(status, 200, "{made}");
    let webhook = &made["webhook"];
    for (name, value) in [
        ("event_types", json!(["opened", "clicked"])),
        ("verb", json!("put")),
        ("auth_details", json!({ "username": "me", "password": "********" })),
        ("settings", json!("{\"include_html\":true}")),
        ("field_set", json!("legacy")),
        ("status", json!("enabled")),
    ] {
        assert_eq!(webhook[name], value, "{name}");
    }
    let stored = native(&daemon, &made).await;
    assert_eq!((&stored["signature"], &stored["name"]), (&json!(["standard"]), &json!("127.0.0.1")));
    let same = daemon.webhook(URL, json!({ "event_types": ["x"], "retry_schedule_s": "everlytic" })).await;
    assert_eq!(stored["retry_schedule_s"], same["retry_schedule_s"]);
    daemon.publish("opened", json!({ "n": 1 })).await;
    let request = receiver.next().await;
    let basic = format!("Basic {}", STANDARD.encode("me:secret"));
    assert_eq!((request.method.as_str(), request.header("authorization")), ("PUT", basic.as_str()));
    let secrets = daemon.get(&format!("/v1/webhooks/{}/secret", webhook["id"].as_str().expect("an id"))).await;
    assert!(is_signed_by(&request, secrets["secret"].as_str().expect("a secret")));

    // The mask keeps the password. The rest gets its defaults.
    let path = path_of(&made);
    let mut change = json!({ "event_types": ["*"], "url": URL, "verb": "post", "auth_type": "basic" });
    change["auth_details"] = webhook["auth_details"].clone();
    let (status, changed) = call(&daemon, Method::PUT, &path, &change).await;
    assert_eq!(status, 200, "{changed}");
    assert_eq!(
        (&changed["webhook"]["event_types"], &changed["webhook"]["field_set"]),
        (&json!(["*"]), &json!("standard"))
    );
    assert_eq!(changed["webhook"]["settings"], "{\"include_html\":false}");
    assert_eq!(call(&daemon, Method::GET, &path, &Value::Null).await, (200, changed.clone()));
    let stored = native(&daemon, &made).await;
    assert_eq!((&stored["event_types"], &stored["name"]), (&json!([]), &json!("hooks.example.com")));
    let to_receiver = json!({
        "event_types": ["kept"], "url": receiver.url(), "verb": "post", "auth_type": "basic",
        "auth_details": webhook["auth_details"],
    });
    call(&daemon, Method::PUT, &path, &to_receiver).await;
    daemon.publish("kept", json!(1)).await;
    assert_eq!(receiver.next().await.header("authorization"), basic);
    let plain = json!({ "event_types": ["kept"], "url": URL, "verb": "get" });
    let (_, cleared) = call(&daemon, Method::PUT, &path, &plain).await;
    assert_eq!((&cleared["webhook"]["auth_details"], &cleared["webhook"]["verb"]), (&Value::Null, &json!("get")));

    assert_eq!(call(&daemon, Method::DELETE, &path, &Value::Null).await, (200, json!({ "status": true })));
    for path in [path.as_str(), &format!("{LIST}/x")] {
        assert_eq!(call(&daemon, Method::DELETE, path, &Value::Null).await, (200, json!({ "status": false })));
        let (status, gone) = call(&daemon, Method::PUT, path, &plain).await;
        assert_eq!((status, &gone["code"]), (400, &json!(412)), "{gone}");
    }
    let audit = daemon.get("/v1/audit?limit=100").await.to_string();
    for action in ["webhook.create", "webhook.update", "webhook.delete"] {
        assert!(audit.contains(action), "{action}: {audit}");
    }
}

#[tokio::test]
async fn every_flaw_in_an_everlytic_webhook_is_a_412() {
    let daemon = TestDaemon::start().await;
    let good = json!({ "event_types": ["opened"], "url": URL, "verb": "post" });
    let (_, made) = call(&daemon, Method::POST, LIST, &good).await;
    let path = path_of(&made);
    let details = json!({ "username": "me", "password": "x" });
    for (field, value, reason, says) in [
        ("url", Value::Null, "required", "url is required"),
        ("verb", Value::Null, "required", "verb is required"),
        ("event_types", Value::Null, "required", "event_types is required"),
        ("url", json!("http://10.0.0.1/"), "invalid", "url "),
        ("verb", json!("head"), "invalid", "verb must be get, put, post, patch or delete"),
        ("event_types", json!([]), "invalid", "event_types must have at least one item"),
        ("event_types", json!(["a b"]), "invalid", "event_types.0 "),
        ("auth_details", details, "required", "auth_type is required"),
        ("auth_details", json!("x"), "invalid", "auth_details must be an object"),
        ("auth_type", json!("digest"), "invalid", "auth_type must be basic"),
        ("content_type", json!("text/plain"), "invalid", "content_type must be "),
        ("field_set", json!("raw"), "invalid", "field_set must be standard or legacy"),
        ("settings", json!({ "x": 1 }), "invalid", "settings.x is not a known field"),
        ("settings", json!({ "include_html": 1 }), "invalid", "settings.include_html must be true or false"),
        ("status", json!("disabled"), "invalid", "status is not a known field"),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        for (method, path) in [(Method::POST, LIST), (Method::PUT, path.as_str())] {
            let (status, answer) = call(&daemon, method.clone(), path, &body).await;
            let what = format!("{method} {field} {value}: {answer}");
            assert_eq!((status, &answer["code"]), (412, &json!(412)), "{what}");
            assert_eq!(answer["message"], "One or more of the required fields were invalid", "{what}");
            let failure = &answer["error"]["errors"][0];
            assert_eq!(
                (&failure["reason"], &failure["location"]),
                (&json!(reason), &json!("webhookValidation")),
                "{what}"
            );
            assert!(failure["message"].as_str().is_some_and(|text| text.starts_with(says)), "{what}");
        }
    }
    let (_, all) = call(&daemon, Method::POST, LIST, &json!({})).await;
    assert_eq!(all["error"]["errors"].as_array().map(Vec::len), Some(3), "{all}");
    let broken = ask(&daemon, Method::POST, LIST, &good, Some("a b")).await;
    assert_eq!(broken.status, 400);
    let credentials = format!("Basic {}", STANDARD.encode(format!("any:{}", daemon.key)));
    let headers = [("authorization", credentials.as_str()), ("content-type", "application/json")];
    let answer = daemon.with_key("").call(Method::POST, LIST, &headers, "{").await.expect(400);
    assert_eq!(answer["error"]["errors"][0]["reason"], "invalid", "{answer}");
    let key = daemon.post("/v1/keys", json!({ "name": "reader", "scopes": ["webhooks:read"] })).await;
    let reader = daemon.with_key(key["key"].as_str().expect("a key"));
    for (method, path) in [(Method::POST, LIST), (Method::PUT, path.as_str()), (Method::DELETE, path.as_str())] {
        assert_eq!(call(&reader, method, path, &good).await.0, 403);
    }
}

#[tokio::test]
async fn an_everlytic_write_with_an_idempotency_key_happens_once() {
    let daemon = TestDaemon::start().await;
    let good = json!({ "event_types": ["opened"], "url": URL, "verb": "post" });
    let once = async |method: Method, path: &str, body: &Value| {
        let answer = ask(&daemon, method, path, body, Some("k")).await;
        (answer.status.as_u16(), answer.header("idempotent-replayed").is_some(), answer.json())
    };
    let (status, replayed, made) = once(Method::POST, LIST, &good).await;
    assert_eq!((status, replayed), (200, false));
    assert_eq!(once(Method::POST, LIST, &good).await, (200, true, made.clone()));
    let path = path_of(&made);
    let change = json!({ "event_types": ["clicked"], "url": URL, "verb": "post" });
    let (_, replayed, changed) = once(Method::PUT, &path, &change).await;
    assert!(!replayed);
    call(&daemon, Method::PUT, &path, &good).await;
    assert_eq!(once(Method::PUT, &path, &change).await, (200, true, changed));
    assert_eq!(once(Method::DELETE, &path, &Value::Null).await, (200, false, json!({ "status": true })));
    assert_eq!(once(Method::DELETE, &path, &Value::Null).await, (200, true, json!({ "status": true })));
}

/// A value that this shape shows as another one stays when it is sent back as it is shown.
#[tokio::test]
async fn an_everlytic_change_keeps_the_fields_that_the_shape_does_not_show() {
    let daemon = TestDaemon::start().await;
    let fields = json!({ "field_set": "raw", "auth": { "type": "bearer", "token": "t" }, "event_types": [] });
    let made = daemon.webhook(URL, fields).await;
    let id = made["id"].as_str().expect("an id");
    let before = daemon.get(&format!("/v1/webhooks/{id}")).await;
    let path = format!("{LIST}/{id}");
    let (_, shown) = call(&daemon, Method::GET, &path, &Value::Null).await;
    let shown = &shown["webhook"];
    let mut change = json!({ "settings": { "include_html": false } });
    for name in ["event_types", "url", "verb", "auth_details", "auth_type", "content_type", "field_set"] {
        change[name] = shown[name].clone();
    }
    let (status, changed) = call(&daemon, Method::PUT, &path, &change).await;
    assert_eq!((status, &changed["webhook"]), (200, shown));
    assert_eq!(daemon.get(&format!("/v1/webhooks/{id}")).await, before);
}
