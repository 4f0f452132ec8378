//! The request of an attempt, rendered again: the same bytes as the receiver saw, with credentials masked.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Act, Receiver, Request, TestDaemon};

/// Publishes an event and waits for its attempt. Returns the request as the receiver saw it, and as the API tells it.
async fn sent(daemon: &TestDaemon, receiver: &Receiver) -> (Request, Value, String) {
    let event = daemon.publish("order.paid", json!({ "text": "ä \"b\"", "n": 1.50 })).await;
    let request = receiver.next().await;
    let delivery = daemon.delivery_when(&event, |row| row["attempts"] == 1).await;
    let path = format!("/v1/attempts/{}/request", text(&daemon.attempts(&delivery).await[0], "id"));
    (request, daemon.get(&path).await, path)
}

#[tokio::test]
async fn every_form_of_body_is_told_as_it_was_sent() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    for fields in [
        json!({}),
        json!({ "field_set": "raw" }),
        json!({ "field_set": "legacy", "content_type": "application/x-www-form-urlencoded" }),
        json!({ "field_set": "dfns" }),
        json!({ "field_set": "flat", "method": "put" }),
    ] {
        let hook = daemon.webhook(&receiver.url(), fields.clone()).await;
        let (request, told, _) = sent(&daemon, &receiver).await;
        assert_eq!((told["body"].as_str(), &told["exact"]), (Some(request.text()), &json!(true)), "{fields}");
        assert_eq!(told["body_bytes"], request.body.len());
        assert_eq!(told["method"], request.method.to_ascii_lowercase());
        for name in ["webhook-id", "webhook-signature", "content-type", "postrider-attempt", "host", "content-length"] {
            assert_eq!(told["headers"][name].as_str(), Some(request.header(name)), "{fields}: {name}");
        }
        daemon.delete(&format!("/v1/webhooks/{}", text(&hook, "id"))).await;
    }
    daemon.webhook(&format!("{}?a=1", receiver.url()), json!({ "method": "get" })).await;
    let (request, told, _) = sent(&daemon, &receiver).await;
    assert!(text(&told, "url").ends_with(&request.target), "{told} {}", request.target);
    assert_eq!((&told["body"], &told["exact"]), (&Value::Null, &json!(true)));
    assert_eq!(told["headers"].get("content-length"), None, "a GET without a body has no length");
}

#[tokio::test]
async fn credentials_are_masked_and_a_change_since_is_told() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let auth = json!({ "type": "bearer", "token": "a-secret-token" });
    let headers = json!({ "X-Api-Key": "another-secret", "X-Plain": "shown" });
    let hook = daemon.webhook(&receiver.url(), json!({ "auth": auth, "headers": headers })).await;
    let (request, told, path) = sent(&daemon, &receiver).await;
    assert_eq!(request.header("authorization"), "Bearer a-secret-token");
    assert!(!told.to_string().contains("secret"), "{told}");
    assert_eq!((&told["headers"]["x-plain"], &told["exact"]), (&json!("shown"), &json!(true)));
    daemon.advance_s(1);
    daemon.patch(&format!("/v1/webhooks/{}", text(&hook, "id")), json!({ "field_set": "raw" })).await;
    let later = daemon.get(&path).await;
    assert_eq!((&later["exact"], &later["body"]), (&json!(false), &told["body"]), "the body is of the attempt's form");
    let event = format!("/v1/events/{}/data", request.header("webhook-id"));
    assert_eq!(daemon.delete(&event).await.status, 204);
    let erased = daemon.get(&path).await;
    assert_eq!((&erased["exact"], &erased["body"]), (&json!(false), &Value::Null));
}

#[tokio::test]
async fn an_encrypted_body_is_told_in_clear_and_a_request_that_was_not_made_has_none() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(200)).await;
    let hook = daemon.webhook(&receiver.url(), json!({ "encrypted": true, "field_set": "raw" })).await;
    let (request, told, _) = sent(&daemon, &receiver).await;
    assert_eq!(request.header("content-type"), "application/jose");
    let clear: Value = serde_json::from_str(text(&told, "body")).unwrap();
    assert_eq!((&clear["n"], &told["exact"]), (&json!(1.5), &json!(false)), "{told}");
    daemon.delete(&format!("/v1/webhooks/{}", text(&hook, "id"))).await;
    daemon.webhook("http://203.0.113.7.invalid/", json!({ "retry_schedule_s": "none" })).await;
    let event = daemon.publish("a", json!(1)).await;
    let delivery = daemon.delivery_in(&event, "failed").await;
    let path = format!("/v1/attempts/{}/request", text(&daemon.attempts(&delivery).await[0], "id"));
    let unmade = daemon.get(&path).await;
    assert!(unmade["headers"] != json!({}) || unmade["body"] == Value::Null, "{unmade}");
    let unknown = daemon.try_get("/v1/attempts/019c0000-0000-7000-8000-000000000000/request").await;
    assert_eq!(unknown.status, 404);
}
