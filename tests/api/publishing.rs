//! From a publish to the request that a receiver gets: the sent content, and the answers on the way.

use http::Method;
use serde_json::{Value, json};

use crate::support::daemon::{text, time};
use crate::support::signatures::is_signed_by;
use crate::support::{Receiver, START, TestDaemon};

#[tokio::test]
async fn an_event_is_accepted_delivered_and_signed() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({})).await;
    let event = daemon.publish("invoice.paid", json!({ "id": 42 })).await;
    assert_eq!((event["deliveries"].as_u64(), event["duplicate"].as_bool()), (Some(1), Some(false)));
    assert_eq!(time(&event, "received_at"), START);

    let request = receiver.next().await;
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/hook"));
    assert_eq!(request.header("webhook-id"), text(&event, "id"));
    assert_eq!(request.header("webhook-timestamp"), (START.0 / 1_000).to_string());
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("postrider-attempt"), "1");
    assert!(request.header("user-agent").starts_with("Postrider/"));
    let expected = format!(
        r#"{{"id":"{}","type":"invoice.paid","timestamp":"2026-03-05T10:00:00.000Z","data":{{"id":42}}}}"#,
        text(&event, "id")
    );
    assert_eq!(request.text(), expected);
    assert!(is_signed_by(&request, text(&webhook, "secret")));

    let delivery = daemon.delivery_in(&event, "delivered").await;
    assert_eq!(delivery["id"], request.header("postrider-delivery-id"));
    assert_eq!((delivery["attempts"].as_u64(), delivery["last_status_code"].as_u64()), (Some(1), Some(200)));
    assert_eq!(delivery["last_outcome"], "success");
    assert_eq!(delivery["next_attempt_at"], Value::Null);
    let attempts = daemon.attempts(&delivery).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0]["trigger"].as_str(), attempts[0]["number"].as_u64()), (Some("event"), Some(1)));
    assert_eq!(attempts[0]["remote_addr"], receiver.address.to_string());
    let one = daemon.get(&format!("/v1/attempts/{}", text(&attempts[0], "id"))).await;
    assert_eq!(one, attempts[0]);
}

#[tokio::test]
async fn the_bytes_of_data_are_kept_through_storage_and_sending() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let raw = daemon.webhook(&receiver.url(), json!({ "field_set": "raw" })).await;
    let data = r#"{"n":1e400 , "m":9223372036854775809,"a":[1.0,-0],"t":"\u00e4\/ä"}"#;
    let body = format!(r#"{{"type":"a.b","data":{data}}}"#);
    let headers = [("content-type", "application/json")];
    let event = daemon.call(Method::POST, "/v1/events", &headers, body).await.expect(202);
    assert_eq!(receiver.next().await.text(), data);
    daemon.delivery_in(&event, "delivered").await;
    daemon.restart().await;
    let read = daemon.try_get(&format!("/v1/events/{}", text(&event, "id"))).await;
    let read = String::from_utf8(read.body.to_vec()).unwrap();
    assert!(read.contains(&format!(r#""data":{data}"#)), "{read}");
    let delivery = daemon.deliveries(&event).await.remove(0);
    daemon.post(&format!("/v1/deliveries/{}/retry", text(&delivery, "id")), json!({})).await;
    assert_eq!(receiver.next().await.text(), data, "also from the disk");
    assert_eq!(raw["field_set"], "raw");
}

#[tokio::test]
async fn a_large_payload_arrives_whole() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({ "field_set": "raw" })).await;
    let large: String = (0..900_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    daemon.publish("a.b", json!(large)).await;
    assert_eq!(receiver.next().await.json(), json!(large));
    let over = daemon.try_post("/v1/events", json!({ "type": "a.b", "data": "x".repeat(1 << 20) })).await;
    assert_eq!(over.status, 413);
}

#[tokio::test]
async fn an_event_that_no_webhook_wants_is_kept_too() {
    let daemon = TestDaemon::start().await;
    let event = daemon.publish("nobody.cares", json!(null)).await;
    assert_eq!(event["deliveries"], 0);
    let read = daemon.get(&format!("/v1/events/{}", text(&event, "id"))).await;
    assert_eq!((&read["type"], &read["data"], &read["webhooks"]), (&json!("nobody.cares"), &json!(null), &json!([])));
}

#[tokio::test]
async fn a_batch_is_one_commit_all_or_none() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({ "ordered": true, "field_set": "raw" })).await;
    let items: Vec<Value> = (0..20).map(|n| json!({ "type": "a.b", "data": n })).collect();
    let answer = daemon.try_post("/v1/events/batch", json!({ "events": items })).await.expect(202);
    assert_eq!(answer["data"].as_array().unwrap().len(), 20);
    let got: Vec<Value> = receiver.take(20).await.iter().map(|request| request.json()).collect();
    assert_eq!(got, (0..20).map(|n| json!(n)).collect::<Vec<_>>());

    let far = "2030-01-01T00:00:00Z";
    let bad = json!([{ "type": "a.b", "data": 1 }, { "type": "a.b", "data": 2, "deliver_at": far }]);
    let refused = daemon.try_post("/v1/events/batch", json!({ "events": bad })).await.expect(422);
    assert_eq!(refused["errors"][0]["pointer"], "/events/1/deliver_at");
    assert_eq!(daemon.get("/v1/events?limit=250").await["data"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn an_error_that_only_the_store_finds_points_at_its_field() {
    let daemon = TestDaemon::start().await;
    let single = json!({ "type": "a.b", "data": 1, "deliver_at": "2030-01-01T00:00:00Z" });
    let refused = daemon.try_post("/v1/events", single).await.expect(422);
    assert_eq!(refused["errors"][0]["pointer"], "/deliver_at", "{refused}");
    assert_eq!(refused["code"], "invalid_fields");
    assert!(text(&refused, "detail").starts_with("/deliver_at "), "{refused}");
}

#[tokio::test]
async fn the_same_event_id_is_the_same_event() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let body = json!({ "type": "a.b", "data": { "n": 1 }, "event_id": "e-1" });
    let first = daemon.publish_with(body.clone()).await;
    let again = daemon.publish_with(body.clone()).await;
    assert_eq!((&again["id"], again["duplicate"].as_bool()), (&first["id"], Some(true)));
    let other = daemon.try_post("/v1/events", json!({ "type": "a.b", "data": { "n": 2 }, "event_id": "e-1" })).await;
    let other = other.expect(409);
    assert_eq!((&other["code"], &other["errors"][0]["pointer"]), (&json!("event_id_conflict"), &json!("/event_id")));
    let changed = json!({ "type": "a.c", "data": { "n": 1 }, "event_id": "e-1" });
    assert_eq!(daemon.try_post("/v1/events", changed.clone()).await.expect(409)["code"], "event_id_conflict");
    // A space in the data counts, and members other than the type and the data do not.
    let spaced = r#"{"type":"a.b","data":{"n": 1},"event_id":"e-1"}"#;
    let spaced = daemon.call(Method::POST, "/v1/events", &[("content-type", "application/json")], spaced).await;
    assert_eq!(spaced.expect(409)["code"], "event_id_conflict");
    let beside = json!({
        "type": "a.b", "data": { "n": 1 }, "event_id": "e-1", "subject": "s", "channels": ["c"], "metadata": { "m": "1" },
        "ordering_key": "k", "deliver_at": "2100-01-01T00:00:00Z",
    });
    let again = daemon.publish_with(beside).await;
    assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)));
    assert_eq!(daemon.get(&format!("/v1/events/{}", text(&first, "id"))).await["subject"], Value::Null);
    let fresh = |id: &str, n: i64| json!({ "type": "a.b", "data": n, "event_id": id });
    for (events, pointer) in [
        (json!([fresh("e-2", 1), changed]), "/events/1/event_id"),
        (json!([fresh("e-2", 1), fresh("e-3", 1), fresh("e-2", 2)]), "/events/2/event_id"),
    ] {
        let refused = daemon.try_post("/v1/events/batch", json!({ "events": events })).await.expect(409);
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused}");
    }

    daemon.restart().await;
    let again = daemon.publish_with(body.clone()).await;
    assert_eq!((&again["id"], again["duplicate"].as_bool()), (&first["id"], Some(true)));
    // In another app it is another event.
    let app = daemon.post("/v1/apps", json!({ "name": "second" })).await;
    let mut elsewhere = body.clone();
    elsewhere["app_id"] = app["id"].clone();
    assert_ne!(daemon.publish_with(elsewhere).await["id"], first["id"]);
    // A day later it is a new event.
    daemon.advance_s(86_400);
    let later = daemon.publish_with(body).await;
    assert_eq!((later["id"] == first["id"], later["duplicate"].as_bool()), (false, Some(false)));
    assert_eq!(receiver.take(2).await.len(), 2);
}

#[tokio::test]
async fn trace_context_is_taken_kept_and_sent_on() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("content-type", "application/json"), ("traceparent", trace), ("x-request-id", "r-7")];
    let answer = daemon.call(Method::POST, "/v1/events", &headers, r#"{"type":"a","data":1}"#).await;
    assert_eq!(answer.header("x-request-id"), Some("r-7"));
    let event = answer.expect(202);
    assert_eq!(receiver.next().await.header("traceparent"), trace);
    assert_eq!(daemon.get(&format!("/v1/events/{}", text(&event, "id"))).await["traceparent"], trace);
}

#[tokio::test]
async fn a_test_request_is_signed_sent_now_and_stored_nowhere() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({})).await;
    let path = format!("/v1/webhooks/{}/test", text(&webhook, "id"));
    let attempt = daemon.try_post(&path, json!({})).await.expect(200);
    let request = receiver.next().await;
    assert!(is_signed_by(&request, text(&webhook, "secret")));
    assert_eq!(request.json()["type"], "postrider.test");
    assert_eq!((attempt["success"].as_bool(), attempt["status_code"].as_u64()), (Some(true), Some(200)));
    for member in ["id", "delivery_id", "event_id"] {
        assert_eq!(attempt[member], Value::Null, "{member}");
    }
    assert_eq!(daemon.get("/v1/events").await["data"], json!([]));
    assert_eq!(daemon.get("/v1/deliveries").await["data"], json!([]));
    let stats = daemon.get(&format!("/v1/webhooks/{}/stats", text(&webhook, "id"))).await;
    assert_eq!(stats["total_events"], 0);
}
