//! Devdraft's webhooks, written in its shape at a daemon over sockets, and read in the other shapes.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Receiver, TestDaemon};

const HOOKS: &str = "/api/v0/webhooks";
const URL: &str = "https://hooks.example.com/in";

/// Status, whether the answer is a repeated one, and the answer.
async fn ask(daemon: &TestDaemon, method: Method, path: &str, body: &Value, key: Option<&str>) -> (u16, bool, Value) {
    let mut headers = vec![("x-client-secret", daemon.key.as_str()), ("content-type", "application/json")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = daemon.with_key("").call(method, path, &headers, body).await;
    (answer.status.as_u16(), answer.header("idempotent-replayed").is_some(), answer.json())
}

#[tokio::test]
async fn a_devdraft_write_with_an_idempotency_key_happens_once() {
    let daemon = TestDaemon::start().await;
    let once = async |method, path: &str, body: &Value| ask(&daemon, method, path, body, Some("k")).await;
    let good = json!({ "name": "Payments", "url": URL });
    let (status, replayed, made) = once(Method::POST, HOOKS, &good).await;
    assert_eq!((status, replayed), (201, false));
    assert_eq!(once(Method::POST, HOOKS, &good).await, (201, true, made.clone()));
    let path = format!("{HOOKS}/{}", made["id"].as_str().expect("an id"));
    // Two writes: the change and the rotation.
    let change = json!({ "name": "Refunds", "signing_secret": "a-shared_secret-of-32-characters" });
    let (status, replayed, changed) = once(Method::PATCH, &path, &change).await;
    assert_eq!((status, replayed, &changed["name"]), (200, false, &json!("Refunds")));
    ask(&daemon, Method::PATCH, &path, &json!({ "name": "Payouts" }), None).await;
    let (status, replayed, again) = once(Method::PATCH, &path, &change).await;
    assert_eq!((status, replayed, &again["name"]), (200, true, &json!("Refunds")));
    let (_, _, now) = ask(&daemon, Method::GET, &path, &Value::Null, None).await;
    assert_eq!((&now["name"], &now["signing_secret"]), (&json!("Payouts"), &change["signing_secret"]));
    let (status, _, removed) = once(Method::DELETE, &path, &Value::Null).await;
    assert_eq!((status, &removed["webhook_id"]), (200, &made["id"]));
    assert_eq!(once(Method::DELETE, &path, &Value::Null).await, (200, true, removed));
    assert_eq!(ask(&daemon, Method::DELETE, &path, &Value::Null, None).await.0, 404);
}

#[tokio::test]
async fn a_wrong_devdraft_url_has_the_vendors_words_or_the_reason() {
    let daemon = TestDaemon::start().await;
    for (body, message, details) in [
        (json!({ "name": "Payments", "url": "x" }), "Invalid webhook URL format", "URL must be a valid HTTPS endpoint"),
        (json!({ "name": "Payments" }), "Invalid webhook URL format", "url is required"),
        (
            json!({ "name": "Payments", "url": "https://a.example/#x" }),
            "Invalid webhook URL format",
            "url must not have a fragment",
        ),
        (
            json!({ "name": "Payments", "url": "https://u:p@a.example/" }),
            "Invalid webhook URL format",
            "url must not have user information: credentials belong in auth",
        ),
        (json!({ "name": "x", "url": URL }), "Validation failed", "name must have 3 to 100 characters"),
        (json!({ "name": "Payments", "url": URL, "events": [] }), "Validation failed", "events is not a known field"),
    ] {
        let (status, _, answer) = ask(&daemon, Method::POST, HOOKS, &body, None).await;
        assert_eq!((status, &answer["message"]), (400, &json!(message)), "{answer}");
        assert_eq!(answer["details"], details, "{answer}");
    }
}

#[tokio::test]
async fn a_masked_devdraft_secret_that_is_sent_back_changes_nothing() {
    let daemon = TestDaemon::start().await;
    let (_, _, made) = ask(&daemon, Method::POST, HOOKS, &json!({ "name": "Payments", "url": URL }), None).await;
    let path = format!("{HOOKS}/{}", made["id"].as_str().expect("an id"));
    let (_, _, listed) = ask(&daemon, Method::GET, HOOKS, &Value::Null, None).await;
    let masked = &listed[0]["signing_secret"];
    let change = json!({ "name": "Refunds", "signing_secret": masked });
    let (status, _, changed) = ask(&daemon, Method::PATCH, &path, &change, None).await;
    assert_eq!((status, &changed["name"]), (200, &json!("Refunds")), "{changed}");
    let (_, _, now) = ask(&daemon, Method::GET, &path, &Value::Null, None).await;
    assert_eq!(now["signing_secret"], made["signing_secret"]);
    let new = json!({ "name": "Payments", "url": URL, "signing_secret": masked });
    assert_eq!(ask(&daemon, Method::POST, HOOKS, &new, None).await.0, 400, "a mask is no secret");
}

/// A webhook that one shape made is the same one in the others, after every change.
#[tokio::test]
async fn a_short_native_name_is_sent_back_unchanged() {
    let daemon = TestDaemon::start().await;
    let native = daemon.webhook(URL, json!({ "name": "ab" })).await;
    let path = format!("{HOOKS}/{}", native["id"].as_str().expect("an id"));
    let change = json!({ "name": "ab", "isActive": false });
    let (status, _, changed) = ask(&daemon, Method::PATCH, &path, &change, None).await;
    assert_eq!((status, &changed["name"], &changed["isActive"]), (200, &json!("ab"), &json!(false)), "{changed}");
    let (status, _, refused) = ask(&daemon, Method::PATCH, &path, &json!({ "name": "cd" }), None).await;
    assert_eq!((status, &refused["details"]), (400, &json!("name must have 3 to 100 characters")), "{refused}");
}

#[tokio::test]
async fn a_webhook_reads_the_same_in_every_shape_after_any_change() {
    let (daemon, receiver) = (TestDaemon::start().await, Receiver::start().await);
    let body = json!({ "url": receiver.url(), "events": ["a.b"], "description": "d" });
    let made = daemon.post("/webhooks", body).await;
    let id = postrider::rules::dfns_id::parse_webhook(made["id"].as_str().expect("an id")).expect("a webhook's");
    let dfns = format!("/webhooks/{}", made["id"].as_str().expect("an id"));
    let (everlytic, sentdm) = (format!("/transactional/email/v1/webhooks/{id}"), format!("/v3/webhooks/{id}"));
    let devdraft = format!("{HOOKS}/{id}");
    let basic = {
        use base64::Engine as _;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("any:{}", daemon.key)))
    };
    let by_basic = [("authorization", basic.as_str()), ("content-type", "application/json")];
    let nameless = daemon.with_key("");
    let agree = async |url: &str, types: &[&str], is_on: bool, name: &str| {
        let native = daemon.get(&format!("/v1/webhooks/{id}")).await;
        assert_eq!(
            (&native["url"], &native["event_types"], &native["name"]),
            (&json!(url), &json!(types), &json!(name))
        );
        assert_eq!(native["status"] != "disabled", is_on);
        let shown = daemon.get(&dfns).await;
        let all = if types.is_empty() { json!(["*"]) } else { json!(types) };
        assert_eq!((&shown["url"], &shown["events"], &shown["status"] == "Enabled"), (&json!(url), &all, is_on));
        let shown = nameless.call(Method::GET, &everlytic, &by_basic, "").await.expect(200);
        let shown = &shown["webhook"];
        assert_eq!((&shown["url"], &shown["event_types"], shown["status"] == "enabled"), (&json!(url), &all, is_on));
        let shown = nameless.call(Method::GET, &sentdm, &[("x-api-key", &daemon.key)], "").await.expect(200);
        assert_eq!(
            (&shown["data"]["endpoint_url"], &shown["data"]["display_name"], &shown["data"]["is_active"]),
            (&json!(url), &json!(name), &json!(is_on))
        );
        let (_, _, shown) = ask(&daemon, Method::GET, &devdraft, &Value::Null, None).await;
        assert_eq!((&shown["url"], &shown["name"], &shown["isActive"]), (&json!(url), &json!(name), &json!(is_on)));
    };
    agree(&receiver.url(), &["a.b"], true, "127.0.0.1").await;
    let off = json!({ "status": "Disabled" }).to_string();
    daemon.call(Method::PUT, &dfns, &[("content-type", "application/json")], off).await.expect(200);
    agree(&receiver.url(), &["a.b"], false, "127.0.0.1").await;
    ask(&daemon, Method::PATCH, &devdraft, &json!({ "name": "Payments", "isActive": true }), None).await;
    agree(&receiver.url(), &["a.b"], true, "Payments").await;
    let change = json!({ "url": URL, "event_types": ["*"], "verb": "post" }).to_string();
    nameless.call(Method::PUT, &everlytic, &by_basic, change).await.expect(200);
    agree(URL, &[], true, "Payments").await;
    daemon
        .patch(&format!("/v1/webhooks/{id}"), json!({ "event_types": ["c"], "name": "N", "status": "disabled" }))
        .await;
    agree(URL, &["c"], false, "N").await;
    assert_eq!(daemon.delete(&dfns).await.json(), json!({ "deleted": true }));
    assert_eq!(ask(&daemon, Method::GET, &devdraft, &Value::Null, None).await.0, 404);
}

#[tokio::test]
async fn an_empty_client_key_is_a_missing_one() {
    let daemon = TestDaemon::start().await;
    for (id, expected) in [("", 200), ("x", 401)] {
        let headers = [("x-client-secret", daemon.key.as_str()), ("x-client-key", id)];
        let answer = daemon.with_key("").call(Method::GET, HOOKS, &headers, String::new()).await;
        assert_eq!(answer.status.as_u16(), expected, "{id:?}");
    }
}
