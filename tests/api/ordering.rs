//! Ordered webhooks: strictly one after another, across failures, cancellations and restarts, for the webhook or within
//! a key.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Act, Receiver, START, TestDaemon, eventually};

async fn lag(daemon: &TestDaemon, webhook: &Value) -> (i64, Value) {
    let stats = daemon.get(&format!("/v1/webhooks/{}/stats", text(webhook, "id"))).await;
    (stats["lag_ms"].as_i64().unwrap(), stats["oldest_waiting"].clone())
}

#[tokio::test]
async fn the_next_goes_only_when_the_one_before_it_is_done() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_acts([Act::status(200), Act::Gate(500), Act::status(500), Act::status(200)]);
    let fields = json!({ "ordered": true, "field_set": "raw", "retry_schedule_s": [60, 60] });
    let webhook = daemon.webhook(&receiver.url(), fields).await;
    let mut events = Vec::new();
    for n in 0..4 {
        events.push(daemon.publish("a", json!(n)).await);
    }
    assert_eq!(receiver.take(2).await[1].json(), json!(1));
    assert_eq!(daemon.deliveries(&events[2]).await[0]["attempts"], 0);
    let read = daemon.get(&format!("/v1/events/{}", text(&events[2], "id"))).await;
    assert_eq!(read["webhooks"][0]["reason"], "ordered");
    receiver.open(1);
    daemon.delivery_in(&events[1], "retrying").await;
    assert_eq!(lag(&daemon, &webhook).await, (0, json!(START.to_string())));
    daemon.advance_s(70);
    // The retry of the second, before the third.
    assert_eq!(receiver.next().await.json(), json!(1));
    daemon.delivery_when(&events[1], |row| row["attempts"] == 2).await;
    daemon.advance_s(20);
    assert_eq!(lag(&daemon, &webhook).await, (90_000, json!(START.to_string())), "counted from the head that blocks");
    daemon.restart().await;
    daemon.advance_s(50);
    let rest: Vec<Value> = receiver.take(3).await.iter().map(|request| request.json()).collect();
    assert_eq!(rest, [json!(1), json!(2), json!(3)]);
    for event in &events {
        daemon.delivery_in(event, "delivered").await;
    }
    assert_eq!(lag(&daemon, &webhook).await, (0, Value::Null));
}

#[tokio::test]
async fn a_final_failure_or_a_cancelled_head_lets_the_next_one_go() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_acts([Act::status(500), Act::status(500), Act::status(200)]);
    let fields = json!({ "ordered": true, "field_set": "raw", "retry_schedule_s": [60] });
    daemon.webhook(&receiver.url(), fields).await;
    let first = daemon.publish("a", json!(1)).await;
    let second = daemon.publish("a", json!(2)).await;
    let third = daemon.publish("a", json!(3)).await;
    daemon.delivery_in(&first, "retrying").await;
    daemon.advance_s(70);
    receiver.take(2).await;
    daemon.delivery_in(&first, "failed").await;
    assert_eq!(receiver.next().await.json(), json!(2), "the next delivery follows the final failure");
    daemon.delivery_in(&second, "delivered").await;
    assert_eq!(receiver.next().await.json(), json!(3));
    daemon.delivery_in(&third, "delivered").await;

    receiver.always(Act::status(500));
    let head = daemon.publish("a", json!(4)).await;
    let behind = daemon.publish("a", json!(5)).await;
    daemon.delivery_in(&head, "retrying").await;
    receiver.always(Act::status(200));
    daemon.post(&format!("/v1/events/{}/cancel", text(&head, "id")), json!({})).await;
    daemon.delivery_in(&behind, "delivered").await;
    // A waiting delivery is cancelled, and the others keep their order.
    receiver.always(Act::Gate(200));
    let (a, b, c) =
        (daemon.publish("a", json!(6)).await, daemon.publish("a", json!(7)).await, daemon.publish("a", json!(8)).await);
    daemon.post(&format!("/v1/events/{}/cancel", text(&b, "id")), json!({})).await;
    receiver.open(2);
    daemon.delivery_in(&a, "delivered").await;
    daemon.delivery_in(&c, "delivered").await;
    let sent: Vec<Value> = receiver.seen().iter().map(|request| request.json()).collect();
    assert_eq!(sent, [1, 1, 2, 3, 4, 5, 6, 8].map(|n| json!(n)));
}

#[tokio::test]
async fn by_key_one_keys_failure_holds_only_that_key() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_acts([Act::Gate(500)]);
    let fields = json!({ "ordered": "key", "field_set": "raw", "retry_schedule_s": [60] });
    let webhook = daemon.webhook(&receiver.url(), fields).await;
    let keyed = |key: &str, n: i64| json!({ "type": "a", "data": format!("{key}{n}"), "ordering_key": key });
    let stuck = daemon.publish_with(keyed("x", 1)).await;
    assert_eq!(receiver.next().await.json(), "x1");
    let behind = daemon.publish_with(keyed("x", 2)).await;
    for n in 1..=3 {
        daemon.publish_with(keyed("y", n)).await;
        daemon.publish("a", json!(n)).await;
    }
    let got: Vec<Value> = receiver.take(6).await.iter().map(|request| request.json()).collect();
    let of_y: Vec<&Value> = got.iter().filter(|data| data.is_string()).collect();
    assert_eq!(of_y, [&json!("y1"), &json!("y2"), &json!("y3")]);
    assert_eq!(got.iter().filter(|data| data.is_number()).count(), 3, "deliveries without a key have no order");
    receiver.open(1);
    daemon.delivery_in(&stuck, "retrying").await;
    daemon.restart().await;
    daemon.advance_s(30);
    assert_eq!(lag(&daemon, &webhook).await.0, 30_000);
    assert_eq!(daemon.deliveries(&behind).await[0]["attempts"], 0);
    daemon.advance_s(40);
    let rest: Vec<Value> = receiver.take(2).await.iter().map(|request| request.json()).collect();
    assert_eq!(rest, ["x1", "x2"]);
}

#[tokio::test]
async fn the_order_holds_over_partitions() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let fields = json!({ "ordered": true, "field_set": "raw", "retry_schedule_s": [86_400, 86_400, 86_400, 86_400] });
    daemon.webhook(&receiver.url(), fields).await;
    let mut events = Vec::new();
    // One partition for each day.
    for day in 0..3 {
        events.push(daemon.publish("a", json!(day)).await);
        daemon.delivery_when(&events[0], |row| row["attempts"] == day + 1).await;
        if day == 2 {
            receiver.always(Act::status(200));
        }
        daemon.advance_s(86_400 + 8_641 + 1);
    }
    let got: Vec<Value> = receiver.take(6).await.iter().map(|request| request.json()).collect();
    assert_eq!(got, [0, 0, 0, 0, 1, 2].map(|n| json!(n)));
    for event in &events {
        daemon.delivery_in(event, "delivered").await;
    }
}

#[tokio::test]
async fn a_webhook_that_is_no_longer_ordered_sends_its_queue() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::Gate(200)).await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "ordered": true, "field_set": "raw" })).await;
    let mut events = Vec::new();
    for n in 0..3 {
        events.push(daemon.publish("a", json!(n)).await);
    }
    receiver.next().await;
    daemon.patch(&format!("/v1/webhooks/{}", text(&webhook, "id")), json!({ "ordered": false })).await;
    receiver.open(10);
    for event in &events {
        daemon.delivery_in(event, "delivered").await;
    }
    let free = daemon.publish("a", json!(3)).await;
    daemon.delivery_in(&free, "delivered").await;
    eventually("nothing waits", async || (lag(&daemon, &webhook).await.0 == 0).then_some(())).await;
}

#[tokio::test]
async fn a_webhook_that_is_no_longer_ordered_sends_the_deliveries_behind_a_failed_head() {
    for ordered in [json!(true), json!("key")] {
        let daemon = TestDaemon::start().await;
        let receiver = Receiver::start().await;
        receiver.next_acts([Act::status(500)]);
        let fields = json!({ "ordered": ordered, "field_set": "raw", "retry_schedule_s": [3_600] });
        let webhook = daemon.webhook(&receiver.url(), fields).await;
        let keyed = |n: i64| json!({ "type": "a", "data": n, "ordering_key": "k" });
        let mut events = Vec::new();
        for n in 0..3 {
            events.push(daemon.publish_with(keyed(n)).await);
            daemon.delivery_in(&events[0], "retrying").await;
        }
        let behind = format!("/v1/deliveries/{}", text(&daemon.deliveries(&events[2]).await[0], "id"));
        assert_eq!(daemon.get(&behind).await["waiting_for"]["reason"], "order");
        receiver.always(Act::status(200));
        daemon.patch(&format!("/v1/webhooks/{}", text(&webhook, "id")), json!({ "ordered": false })).await;
        for event in &events[1..] {
            daemon.delivery_in(event, "delivered").await;
        }
        assert_eq!(daemon.deliveries(&events[0]).await[0]["status"], "retrying", "its own time has not come");
        daemon.advance_s(4_000);
        daemon.delivery_in(&events[0], "delivered").await;
    }
}

#[tokio::test]
async fn after_a_change_of_the_kind_of_order_the_old_queue_keeps_its_order_and_later_events_do_not_wait() {
    for (before, after) in [(json!(true), json!("key")), (json!("key"), json!(true))] {
        let daemon = TestDaemon::start().await;
        let receiver = Receiver::start().await;
        receiver.next_acts([Act::status(500)]);
        let fields = json!({ "ordered": before, "field_set": "raw", "retry_schedule_s": [60] });
        let webhook = daemon.webhook(&receiver.url(), fields).await;
        let keyed = |n: i64| json!({ "type": "a", "data": n, "ordering_key": "k" });
        let mut events = Vec::new();
        for n in 0..3 {
            events.push(daemon.publish_with(keyed(n)).await);
            daemon.delivery_in(&events[0], "retrying").await;
        }
        daemon.patch(&format!("/v1/webhooks/{}", text(&webhook, "id")), json!({ "ordered": after })).await;
        let later = daemon.publish_with(keyed(3)).await;
        daemon.delivery_in(&later, "delivered").await;
        // The retry is up to a tenth later.
        daemon.advance_s(67);
        for event in &events {
            daemon.delivery_in(event, "delivered").await;
        }
        let got: Vec<Value> = receiver.take(5).await.iter().map(|request| request.json()).collect();
        assert_eq!(got, [0, 3, 0, 1, 2].map(|n| json!(n)), "{before} to {after}");
        eventually("nothing waits", async || (lag(&daemon, &webhook).await.0 == 0).then_some(())).await;
    }
}
