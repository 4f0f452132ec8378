//! Requests on the wire: methods, forms, field sets, credentials, headers, and their stored form.

use serde_json::{Value, json};
use url::form_urlencoded;

use crate::support::daemon::text;
use crate::support::{Act, Receiver, Request, TestDaemon};

fn pairs(encoded: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(encoded.as_bytes()).into_owned().collect()
}

/// The request that a webhook with these fields gets for one event with `{"n":1.50,"to":"a&b","list":[1, 2]}`.
async fn sent_to(fields: Value) -> (Request, Value) {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&format!("{}?own=1", receiver.url()), fields).await;
    let body = r#"{"type":"order.paid","data":{"n":1.50,"to":"a&b","list":[1, 2]}}"#;
    let headers = [("content-type", "application/json")];
    let event = daemon.call(http::Method::POST, "/v1/events", &headers, body).await.expect(202);
    let request = receiver.next().await;
    daemon.delivery_in(&event, "delivered").await;
    (request, event)
}

#[tokio::test]
async fn every_method_is_sent_as_it_is_set() {
    for method in ["put", "post", "patch"] {
        let (request, event) = sent_to(json!({ "method": method })).await;
        assert_eq!((request.method.as_str(), request.target.as_str()), (method.to_uppercase().as_str(), "/hook?own=1"));
        assert_eq!(request.json()["id"], event["id"]);
    }
    for method in ["get", "delete"] {
        let (request, event) = sent_to(json!({ "method": method })).await;
        assert_eq!(request.method, method.to_uppercase());
        assert!(request.body.is_empty() && !request.has("content-type"));
        let query = request.target.strip_prefix("/hook?own=1&").unwrap();
        let pairs = pairs(query);
        assert_eq!(pairs[0], ("id".to_owned(), text(&event, "id").to_owned()));
        assert_eq!(pairs[3], ("data".to_owned(), r#"{"n":1.50,"to":"a&b","list":[1, 2]}"#.to_owned()));
    }
}

#[tokio::test]
async fn a_form_has_the_top_level_members_as_fields() {
    let form = "application/x-www-form-urlencoded";
    let (request, event) = sent_to(json!({ "content_type": form })).await;
    assert_eq!(request.header("content-type"), form);
    let names: Vec<String> = pairs(request.text()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["id", "type", "timestamp", "data"]);
    let (request, _) = sent_to(json!({ "content_type": form, "field_set": "raw" })).await;
    let expected = [("n", "1.50"), ("to", "a&b"), ("list", "[1, 2]")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(pairs(request.text()), expected);
    let (request, _) = sent_to(json!({ "content_type": form, "field_set": "legacy" })).await;
    let fields = pairs(request.text());
    assert_eq!((fields.len(), fields[0].0.as_str()), (1, "event"));
    let inner: Value = serde_json::from_str(&fields[0].1).unwrap();
    assert_eq!((&inner["event_type"], &inner["to"]), (&json!("order.paid"), &json!("a&b")));
    assert_ne!(inner["event_id"], event["id"], "another daemon's event");
}

#[tokio::test]
async fn field_sets_shape_the_body() {
    let (request, event) = sent_to(json!({ "field_set": "legacy" })).await;
    let body = request.json();
    assert_eq!((&body["event"]["event_id"], &body["event"]["event_type"]), (&event["id"], &json!("order.paid")));
    let (request, _) = sent_to(json!({ "field_set": "raw" })).await;
    assert_eq!(request.text(), r#"{"n":1.50,"to":"a&b","list":[1, 2]}"#);
    let (request, _) = sent_to(json!({ "field_set": "flat" })).await;
    assert_eq!((&request.json()["event_type"], &request.json()["to"]), (&json!("order.paid"), &json!("a&b")));
    let (request, _) = sent_to(json!({ "field_set": "sent" })).await;
    assert_eq!(request.json()["payload"]["to"], "a&b");
    let (request, _) = sent_to(json!({ "field_set": "dfns" })).await;
    assert_eq!((&request.json()["kind"], &request.json()["data"]["to"]), (&json!("order.paid"), &json!("a&b")));
}

#[tokio::test]
async fn credentials_are_sent_and_never_shown() {
    for (auth, name, value) in [
        (json!({ "type": "basic", "username": "u", "password": "pa:ss" }), "authorization", "Basic dTpwYTpzcw=="),
        (json!({ "type": "bearer", "token": "secret-token" }), "authorization", "Bearer secret-token"),
        (json!({ "type": "header", "name": "X-Api-Key", "value": "secret-token" }), "x-api-key", "secret-token"),
    ] {
        let daemon = TestDaemon::start().await;
        let receiver = Receiver::start().await;
        let webhook = daemon.webhook(&receiver.url(), json!({ "auth": auth, "headers": { "X-Own": "own" } })).await;
        let event = daemon.publish("a", json!(1)).await;
        let request = receiver.next().await;
        assert_eq!((request.header(name), request.header("x-own")), (value, "own"));
        let delivery = daemon.delivery_in(&event, "delivered").await;
        let attempt = daemon.attempts(&delivery).await.remove(0);
        assert_eq!(
            (&attempt["request_headers"][name], &attempt["request_headers"]["x-own"]),
            (&json!("********"), &json!("own"))
        );
        let shown = daemon.read_webhook(&webhook).await.to_string();
        assert!(!shown.contains("secret-token") && !shown.contains("pa:ss"), "{shown}");
        let answered = webhook.to_string();
        assert!(!answered.contains("secret-token") && !answered.contains("pa:ss"), "{answered}");
    }
}

#[tokio::test]
async fn of_the_answer_the_first_16_kib_are_kept_and_all_its_headers() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let headers = vec![("x-one", "1".to_owned()), ("x-two", "a".to_owned()), ("x-two", "b".to_owned())];
    receiver.always(Act::Answer(201, headers, vec![b'y'; 40_000]));
    daemon.webhook(&receiver.url(), json!({})).await;
    let event = daemon.publish("a", json!(1)).await;
    let delivery = daemon.delivery_in(&event, "delivered").await;
    let attempt = daemon.attempts(&delivery).await.remove(0);
    assert_eq!(attempt["response_body"].as_str().unwrap().len(), 16 * 1024);
    assert_eq!(
        (&attempt["response_headers"]["x-one"], &attempt["response_headers"]["x-two"]),
        (&json!("1"), &json!("a, b"))
    );
    assert_eq!(attempt["status_code"], 201);
    for name in ["connect", "first_byte", "total"] {
        assert!(attempt["timings_ms"][name].is_number(), "{name}: {attempt}");
    }
    assert_eq!(attempt["timings_ms"]["tls"], Value::Null);
    assert_eq!(attempt["url"], receiver.url());
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    for n in 0..3 {
        let event = daemon.publish("a", json!(n)).await;
        daemon.delivery_in(&event, "delivered").await;
    }
    let connections: Vec<usize> = receiver.seen().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 0, 0]);
}
