//! Retention: rows are readable to the second and then removed everywhere, even after late changes. The disk gets its
//! space back, and lifetime figures stay.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Act, Receiver, START, TestDaemon, eventually};

const DAY_S: i64 = 86_400;
const RETENTION_S: i64 = 31 * DAY_S;

fn partitions(daemon: &TestDaemon) -> usize {
    std::fs::read_dir(daemon.folder().join("partitions")).unwrap().count()
}

#[tokio::test]
async fn expired_rows_are_hidden_to_the_second_and_their_file_is_removed() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "event_types": ["a"] })).await;
    let event = daemon.publish_with(json!({ "type": "a", "data": 1, "event_id": "e-1" })).await;
    let delivery = daemon.delivery_in(&event, "delivered").await;
    let attempt = daemon.attempts(&delivery).await.remove(0);
    daemon.advance_s(2 * DAY_S);
    daemon.publish("nobody.cares", json!("a partition of its own")).await;
    daemon.advance_s(28 * DAY_S);
    // A late attempt of an old event ends with the event.
    let again = daemon.post(&format!("/v1/deliveries/{}/retry", text(&delivery, "id")), json!({})).await;
    receiver.take(2).await;
    eventually("the late one", async || {
        let row = daemon.get(&format!("/v1/deliveries/{}", text(&again, "id"))).await;
        (row["status"] == "delivered").then_some(())
    })
    .await;
    let fresh = daemon.publish("a", json!(2)).await;
    receiver.next().await;
    let paths = [
        format!("/v1/events/{}", text(&event, "id")),
        format!("/v1/events/{}/deliveries", text(&event, "id")),
        format!("/v1/deliveries/{}", text(&delivery, "id")),
        format!("/v1/deliveries/{}", text(&again, "id")),
        format!("/v1/deliveries/{}/attempts", text(&again, "id")),
        format!("/v1/attempts/{}", text(&attempt, "id")),
    ];
    daemon.clock.advance_ms(DAY_S * 1_000 - 1);
    for path in &paths {
        daemon.get(path).await;
    }
    let before = partitions(&daemon);
    daemon.clock.advance_ms(1);
    for path in &paths {
        assert_eq!(daemon.try_get(path).await.status, 404, "{path}");
    }
    assert_eq!(daemon.get("/v1/events").await["data"].as_array().unwrap().len(), 2);
    assert_eq!(daemon.get("/v1/deliveries").await["data"].as_array().unwrap().len(), 1);
    let feed = daemon.get(&format!("/v1/webhooks/{}/feed", text(&webhook, "id"))).await;
    let numbers: Vec<&Value> = feed["data"].as_array().unwrap().iter().map(|row| &row["event"]["data"]).collect();
    assert_eq!(numbers, [&json!(2)]);
    eventually("the file of the partition is removed", async || {
        daemon.advance_s(3_600);
        (partitions(&daemon) < before).then_some(())
    })
    .await;
    daemon.restart().await;
    let stats = daemon.get(&format!("/v1/webhooks/{}/stats", text(&webhook, "id"))).await;
    assert_eq!(
        (&stats["total_events"], &stats["successful_deliveries"]),
        (&json!(3), &json!(3)),
        "lifetime figures stay"
    );
    assert_eq!(daemon.get(&format!("/v1/events/{}", text(&fresh, "id"))).await["data"], 2);
}

#[tokio::test]
async fn deliveries_that_expire_with_the_retention_are_reported_once_for_each_webhook() {
    let daemon = TestDaemon::start().await;
    let (dead, watcher) = (Receiver::that(Act::status(500)).await, Receiver::start().await);
    let webhook = daemon.webhook(&dead.url(), json!({ "event_types": ["a"], "status": "paused" })).await;
    daemon.webhook(&watcher.url(), json!({ "event_types": ["postrider.delivery.expired"] })).await;
    for n in 0..3 {
        daemon.publish("a", json!(n)).await;
    }
    daemon.advance_s(2 * DAY_S);
    daemon.publish("b", json!("another partition")).await;
    daemon.advance_s(RETENTION_S);
    let told = watcher.next().await.json();
    assert_eq!(told["data"]["webhook_id"], webhook["id"]);
    assert_eq!(told["data"]["count"], 3);
    let stats = daemon.get(&format!("/v1/webhooks/{}/stats", text(&webhook, "id"))).await;
    assert_eq!((&stats["pending_deliveries"], &stats["successful_deliveries"]), (&json!(0), &json!(0)));
    assert_eq!(dead.count(), 0);
}

#[tokio::test]
async fn a_delivery_whose_events_retention_has_ended_is_not_sent() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "status": "paused" })).await;
    daemon.publish("a", json!("old")).await;
    daemon.advance_s(RETENTION_S - 60);
    daemon.publish("a", json!("new")).await;
    daemon.advance_s(60);
    daemon.post(&format!("/v1/webhooks/{}/resume", text(&webhook, "id")), json!({})).await;
    assert_eq!(receiver.next().await.json()["data"], "new");
    daemon.advance_s(60);
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn deliver_at_and_its_schedule_must_end_within_it() {
    let daemon = TestDaemon::start().await;
    daemon.webhook("http://127.0.0.1:4000/", json!({ "retry_schedule_s": [86_400] })).await;
    let at = |s: i64| json!({ "type": "a", "data": 1, "deliver_at": START.plus_ms(s * 1_000).to_string() });
    let late = daemon.try_post("/v1/events", at(RETENTION_S - DAY_S)).await;
    assert_eq!(late.expect(422)["errors"][0]["pointer"], "/deliver_at");
    assert_eq!(daemon.try_post("/v1/events", at(RETENTION_S - 2 * DAY_S)).await.status, 202);
}

#[tokio::test]
async fn figures_leave_out_expired_rows_to_the_second() {
    let daemon = TestDaemon::start().await;
    let fields = json!({ "status": "paused", "event_types": ["a"] });
    let webhook = daemon.webhook("http://127.0.0.1:4000/", fields.clone()).await;
    let mut ordered = fields;
    ordered["ordered"] = json!(true);
    daemon.webhook("http://127.0.0.1:4000/", ordered).await;
    for n in 0..3 {
        daemon.publish("a", json!(n)).await;
    }
    // This event is in the same partition.
    daemon.advance_s(DAY_S / 2);
    daemon.publish("a", json!("later")).await;
    let path = format!("/v1/webhooks/{}/stats", text(&webhook, "id"));
    let figures = async || {
        let (own, all) = (daemon.get(&path).await, daemon.get("/v1/stats").await);
        let listed = daemon.get("/v1/deliveries?status=pending").await["data"].as_array().expect("a list").len();
        let waiting = crate::support::daemon::value(&daemon.metrics().await, "postrider_deliveries_waiting");
        assert_eq!(
            (all["backlog"].as_u64(), all["pending_deliveries"].as_u64()),
            (Some(waiting as u64), Some(listed as u64))
        );
        let health = daemon.get(&path.replace("/stats", "/health")).await["state"].clone();
        assert_eq!(health["waiting"], own["pending_deliveries"]);
        let since =
            |time: &Value| time.as_str().map(|_| crate::support::daemon::time(&json!({ "t": time }), "t").since(START));
        (
            own["pending_deliveries"].clone(),
            all["backlog"].clone(),
            since(&own["oldest_waiting"]),
            since(&all["oldest_due"]),
        )
    };
    daemon.clock.advance_ms((RETENTION_S - DAY_S / 2) * 1_000 - 1);
    assert_eq!(figures().await, (json!(4), json!(8), Some(0), Some(0)));
    daemon.clock.advance_ms(1);
    let half_a_day = Some(DAY_S * 500);
    assert_eq!(figures().await, (json!(1), json!(2), half_a_day, half_a_day));
    daemon.advance_s(DAY_S / 2);
    assert_eq!(figures().await, (json!(0), json!(0), None, None));
}
