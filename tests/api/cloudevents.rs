//! CloudEvents 1.0 over HTTP: structured, binary and batched, on the same route.

use http::Method;
use serde_json::json;

use crate::support::daemon::text;
use crate::support::{Receiver, TestDaemon};

#[tokio::test]
async fn structured_binary_and_batched_events_are_taken() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({ "field_set": "raw", "ordered": true })).await;
    let structured = [("content-type", "application/cloudevents+json")];
    let body = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"order.paid","subject":"s","time":"2026-03-05T09:00:00Z","data":{"n":1.0}}"#;
    let first = daemon.call(Method::POST, "/v1/events", &structured, body).await.expect(202);
    assert_eq!(
        (text(&first, "type"), text(&first, "event_id"), text(&first, "subject")),
        ("order.paid", "/shop 1", "s")
    );
    assert_eq!(first["occurred_at"], "2026-03-05T09:00:00.000Z");
    assert_eq!(receiver.next().await.text(), r#"{"n":1.0}"#);
    let again = daemon.call(Method::POST, "/v1/events", &structured, body).await.expect(202);
    assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)));

    let binary = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "/shop"),
        ("ce-type", "order.sent"),
        ("ce-comexample", "own"),
    ];
    let second = daemon.call(Method::POST, "/v1/events", &binary, r#"{"n": 2}"#).await.expect(202);
    assert_eq!(receiver.next().await.text(), r#"{"n": 2}"#);
    let read = daemon.get(&format!("/v1/events/{}", text(&second, "id"))).await;
    assert_eq!((&read["metadata"]["comexample"], &read["metadata"]["source"]), (&json!("own"), &json!("/shop")));

    let batched = [("content-type", "application/cloudevents-batch+json")];
    let body = r#"[{"specversion":"1.0","id":"3","source":"/shop","type":"a","data":3},
                   {"specversion":"1.0","id":"4","source":"/shop","type":"a","data":4}]"#;
    let many = daemon.call(Method::POST, "/v1/events", &batched, body).await.expect(202);
    assert_eq!(many["data"].as_array().unwrap().len(), 2);
    let got: Vec<String> = receiver.take(2).await.iter().map(|request| request.text().to_owned()).collect();
    assert_eq!(got, ["3", "4"]);
    let bad = r#"[{"specversion":"1.0","id":"5","source":"/shop","type":"a"},{"specversion":"1.0","id":"","source":"/shop","type":"a"}]"#;
    let refused = daemon.call(Method::POST, "/v1/events", &batched, bad).await.expect(422);
    assert_eq!(refused["errors"][0]["pointer"], "/1/id");
    let same = r#"[{"specversion":"1.0","id":"3","source":"/shop","type":"a","data":"other"}]"#;
    let refused = daemon.call(Method::POST, "/v1/events", &batched, same).await.expect(409);
    assert_eq!((&refused["code"], &refused["errors"][0]["pointer"]), (&json!("event_id_conflict"), &json!("/0/id")));
}
