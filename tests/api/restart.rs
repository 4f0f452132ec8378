//! Stopping and starting: nothing is lost, final deliveries are not sent again, and those in flight are.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::daemon::{text, time};
use crate::support::{Act, Receiver, START, TestDaemon, in_time};

#[tokio::test]
async fn everything_is_where_it_was() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_statuses([200, 500]);
    let fields = json!({ "retry_schedule_s": [600], "auth": { "type": "bearer", "token": "t" }, "headers": { "x-a": "b" },
        "event_types": ["a.**"], "filter": { "all": [{ "path": "/n", "gte": 0 }] } });
    let webhook = daemon.webhook(&receiver.url(), fields).await;
    let delivered = daemon.publish("a.b", json!({ "n": 1 })).await;
    daemon.delivery_in(&delivered, "delivered").await;
    let waiting = daemon.publish("a.b", json!({ "n": 2 })).await;
    daemon.delivery_in(&waiting, "retrying").await;
    let paths = |event: &Value| {
        let (event, webhook) = (text(event, "id").to_owned(), text(&webhook, "id").to_owned());
        ["", "/deliveries"].map(|rest| format!("/v1/events/{event}{rest}")).into_iter().chain(
            ["", "/stats", "/health", "/secret", "/attempts", "/deliveries"]
                .map(|rest| format!("/v1/webhooks/{webhook}{rest}")),
        )
    };
    let mut before = Vec::new();
    for path in paths(&delivered).chain(paths(&waiting)) {
        before.push((path.clone(), daemon.get(&path).await));
    }
    daemon.restart().await;
    for (path, was) in before {
        assert_eq!(daemon.get(&path).await, was, "{path}");
    }
    daemon.advance_s(700);
    let last = receiver.take(3).await.remove(2);
    assert_eq!(
        (last.json()["data"]["n"].as_u64(), last.header("authorization"), last.header("x-a")),
        (Some(2), "Bearer t", "b")
    );
    daemon.delivery_in(&waiting, "delivered").await;
}

#[tokio::test]
async fn deliveries_that_became_due_during_a_stop_are_sent_at_once() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let at = START.plus_ms(60_000).to_string();
    let event = daemon.publish_with(json!({ "type": "a", "data": 1, "deliver_at": at })).await;
    daemon.stop(Duration::ZERO).await;
    daemon.advance_s(3_600);
    daemon.start_again().await;
    assert_eq!(receiver.next().await.header("webhook-id"), text(&event, "id"));
    daemon.delivery_in(&event, "delivered").await;
}

#[tokio::test]
async fn a_stop_waits_for_requests_in_flight() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::Gate(200)).await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let event = daemon.publish("a", json!(1)).await;
    receiver.next().await;
    receiver.open(1);
    daemon.stop(Duration::from_secs(10)).await;
    daemon.start_again().await;
    let delivery = daemon.delivery_in(&event, "delivered").await;
    assert_eq!((delivery["attempts"].as_u64(), receiver.count()), (Some(1), 1), "recorded by the stop, not sent again");
}

#[tokio::test]
async fn a_stop_gives_up_a_hanging_request_and_it_is_sent_again() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_acts([Act::Hang]);
    daemon.webhook(&receiver.url(), json!({ "timeout_ms": 120_000 })).await;
    let event = daemon.publish("a", json!(1)).await;
    let first = receiver.next().await;
    in_time("the stop", daemon.stop(Duration::from_millis(50))).await;
    daemon.start_again().await;
    let again = receiver.next().await;
    assert_eq!(again.header("webhook-id"), first.header("webhook-id"));
    assert_eq!(again.header("postrider-attempt"), "1", "the given up request was no attempt");
    let delivery = daemon.delivery_in(&event, "delivered").await;
    assert_eq!(delivery["attempts"], 1);
    assert_eq!(time(&delivery, "created_at"), START);
}

#[tokio::test]
async fn a_waiting_reader_of_a_feed_does_not_hold_up_a_stop() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({})).await;
    let mut reader = TcpStream::connect(daemon.address).await.unwrap();
    let (id, key) = (text(&webhook, "id"), &daemon.key);
    let head = format!(
        "GET /v1/webhooks/{id}/feed?wait_s=30 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n"
    );
    reader.write_all(head.as_bytes()).await.unwrap();
    // Accepted after the reader's connection, so the reader is connected once this is answered.
    daemon.get("/healthz").await;
    // Longer than a failing test waits. Only an answered reader lets it end in time.
    in_time("the stop", daemon.stop(Duration::from_secs(120))).await;
    let mut answer = String::new();
    in_time("the answer", reader.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""data":[]"#), "{answer}");
}
