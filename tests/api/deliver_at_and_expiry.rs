//! The time before which a delivery is not sent, its expiry, and the effects of a clock that is set.

use serde_json::{Value, json};

use crate::support::daemon::{text, time};
use crate::support::{Act, Receiver, START, TestDaemon};

#[tokio::test]
async fn nothing_goes_before_deliver_at_and_then_it_goes() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::timed(&daemon.clock).await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let at = START.plus_ms(3_600_000);
    let later = daemon.publish_with(json!({ "type": "a", "data": "later", "deliver_at": at.to_string() })).await;
    let waiting = daemon.delivery_in(&later, "pending").await;
    assert_eq!(time(&waiting, "next_attempt_at"), at);
    let read = daemon.get(&format!("/v1/events/{}", text(&later, "id"))).await;
    assert_eq!(read["webhooks"][0]["reason"], "deliver_at");
    daemon.clock.advance_ms(3_599_999);
    daemon.restart().await;
    let now = daemon.publish_with(json!({ "type": "a", "data": "now", "deliver_at": START.to_string() })).await;
    assert_eq!(receiver.next().await.header("webhook-id"), text(&now, "id"), "a past time means at once");
    daemon.clock.advance_ms(1);
    let request = receiver.next().await;
    assert_eq!((request.header("webhook-id"), request.at), (text(&later, "id"), Some(at)));
    daemon.delivery_in(&later, "delivered").await;
}

#[tokio::test]
async fn cancelling_an_event_ends_its_scheduled_deliveries() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let at = START.plus_ms(60_000).to_string();
    let later = daemon.publish_with(json!({ "type": "a", "data": 1, "deliver_at": at })).await;
    let path = format!("/v1/events/{}/cancel", text(&later, "id"));
    assert_eq!(daemon.post(&path, json!({})).await["cancelled"], 1);
    assert_eq!(daemon.deliveries(&later).await[0]["status"], "cancelled");
    daemon.advance_s(3_600);
    let next = daemon.publish("a", json!(2)).await;
    assert_eq!(receiver.next().await.header("webhook-id"), text(&next, "id"));
    assert_eq!(receiver.count(), 1);
}

fn assert_expired(delivery: &Value, attempts: u64, ended: postrider::model::Time) {
    assert_eq!((delivery["status"].as_str(), delivery["last_outcome"].as_str()), (Some("failed"), Some("expired")));
    assert_eq!((delivery["attempts"].as_u64(), &delivery["next_attempt_at"]), (Some(attempts), &Value::Null));
    assert_eq!(time(delivery, "completed_at"), ended);
}

#[tokio::test]
async fn a_delivery_that_waits_for_a_retry_expires() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [10, 3600] })).await;
    let end = START.plus_ms(60_000);
    let event = daemon.publish_with(json!({ "type": "a", "data": 1, "expires_at": end.to_string() })).await;
    daemon.delivery_when(&event, |row| row["attempts"] == 1).await;
    daemon.advance_s(12);
    let waiting = daemon.delivery_when(&event, |row| row["attempts"] == 2).await;
    assert_eq!(time(&waiting, "next_attempt_at"), end, "no attempt is planned for later");
    daemon.advance_s(48);
    assert_expired(&daemon.delivery_in(&event, "failed").await, 2, end);
    assert_eq!(receiver.count(), 2, "the end is no attempt");
}

#[tokio::test]
async fn a_held_delivery_expires() {
    let mut daemon = TestDaemon::start().await;
    let (paused, later, ordered) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let webhook = daemon.webhook(&paused.url(), json!({ "event_types": ["a"], "status": "paused" })).await;
    daemon.webhook(&later.url(), json!({ "event_types": ["b"] })).await;
    daemon.webhook(&ordered.url(), json!({ "event_types": ["c"], "ordered": true, "status": "paused" })).await;
    let end = START.plus_ms(60_000);
    let expiring = |kind: &str| json!({ "type": kind, "data": 1, "expires_at": end.to_string() });
    let held = daemon.publish_with(expiring("a")).await;
    let mut never = expiring("b");
    never["deliver_at"] = json!(START.plus_ms(59_999).to_string());
    never["expires_at"] = json!(START.plus_ms(60_000).to_string());
    daemon.publish_with(never).await;
    let first = daemon.publish_with(expiring("c")).await;
    let second = daemon.publish("c", json!(2)).await;
    daemon.restart().await;
    daemon.advance_s(60);
    assert_expired(&daemon.delivery_in(&held, "failed").await, 0, end);
    assert_expired(&daemon.delivery_in(&first, "failed").await, 0, end);
    let stats = daemon.get(&format!("/v1/webhooks/{}/stats", text(&webhook, "id"))).await;
    assert_eq!(stats["pending_deliveries"], 0);
    // The next ordered delivery no longer waits behind it.
    let ordered_id = text(&daemon.deliveries(&second).await[0], "webhook_id").to_owned();
    daemon.post(&format!("/v1/webhooks/{ordered_id}/resume"), json!({})).await;
    assert_eq!(ordered.next().await.header("webhook-id"), text(&second, "id"));
    daemon.post(&format!("/v1/webhooks/{}/resume", text(&webhook, "id")), json!({})).await;
    let fresh = daemon.publish("a", json!(2)).await;
    assert_eq!(paused.next().await.header("webhook-id"), text(&fresh, "id"), "an expired delivery is not sent");
}

#[tokio::test]
async fn a_delivery_in_flight_at_its_expiry_ends_by_its_outcome() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::Gate(200)).await;
    receiver.next_acts([Act::Gate(200), Act::Gate(500)]);
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [5] })).await;
    let expiring = json!({ "type": "a", "data": 1, "expires_at": START.plus_ms(10_000).to_string() });
    let good = daemon.publish_with(expiring.clone()).await;
    receiver.next().await;
    let bad = daemon.publish_with(expiring).await;
    receiver.next().await;
    daemon.advance_s(30);
    receiver.open(2);
    assert_eq!(daemon.delivery_in(&good, "delivered").await["attempts"], 1);
    assert_expired(&daemon.delivery_in(&bad, "failed").await, 1, START.plus_ms(30_000));
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn an_expiry_in_the_past_is_stored_as_expired() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let past = START.minus_ms(1_000).to_string();
    let event = daemon.publish_with(json!({ "type": "a", "data": 1, "expires_at": past })).await;
    assert_expired(&daemon.delivery_in(&event, "failed").await, 0, START);
    assert_eq!(receiver.count(), 0);
    // A manual retry is sent even after the expiry.
    let delivery = daemon.deliveries(&event).await.remove(0);
    daemon.post(&format!("/v1/deliveries/{}/retry", text(&delivery, "id")), json!({})).await;
    assert_eq!(receiver.next().await.header("webhook-id"), text(&event, "id"));
}

#[tokio::test]
async fn a_clock_set_back_delays_nothing_fresh_and_sends_nothing_twice() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let before = daemon.publish("a", json!("before")).await;
    receiver.next().await;
    daemon.delivery_in(&before, "delivered").await;
    daemon.clock.jump_to(START.minus_ms(3_600_000));
    let after = daemon.publish("a", json!("after")).await;
    assert_eq!(receiver.next().await.header("webhook-id"), text(&after, "id"));
    daemon.delivery_in(&after, "delivered").await;
    assert!(text(&after, "id") > text(&before, "id"), "ids go on rising");
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn a_lasting_step_forward_sends_due_deliveries_and_does_not_move_retention() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_statuses([500]);
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [3600] })).await;
    let event = daemon.publish("a", json!(1)).await;
    daemon.delivery_in(&event, "retrying").await;
    assert_eq!(daemon.try_get("/readyz").await.status, 200);
    daemon.clock.jump_to(START.plus_ms(2 * 86_400_000));
    assert_eq!(daemon.get("/readyz").await["warnings"][0]["code"], "clock_distrusted");
    daemon.advance_s(301);
    assert_eq!(receiver.take(2).await[1].header("postrider-attempt"), "2");
    daemon.delivery_in(&event, "delivered").await;
    let ready = crate::support::eventually("retention stops", async || {
        let answer = daemon.try_get("/readyz").await;
        // Events flow, so it is a warning and no reason for unreadiness.
        assert_eq!(answer.status, 200);
        Some(answer.json()).filter(|ready| ready["warnings"] != json!([]))
    })
    .await;
    assert_eq!(ready["warnings"][0]["code"], "clock_distrusted", "{ready}");
    assert_eq!((&ready["status"], &ready["reasons"]), (&json!("ready"), &json!([])), "{ready}");
    // The operator confirms the clock, retention goes on, and the audit has a line.
    let accepted = daemon.post("/v1/clock/accept", json!({})).await;
    assert_eq!(accepted["clock_trusted"], true);
    assert_eq!(daemon.get("/readyz").await["warnings"], json!([]));
    let audit = daemon.get("/v1/audit").await;
    assert_eq!((&audit["data"][0]["action"], &audit["data"][0]["target"]), (&json!("clock.accept"), &json!("clock")));
    assert!(audit["data"][0]["key_id"].is_string() && audit["data"][0]["request_id"].is_string(), "{audit}");
}

#[tokio::test]
async fn a_start_with_a_clock_behind_the_store_warns_and_delivers() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    daemon.publish("a", json!("before")).await;
    receiver.next().await;
    daemon.stop(std::time::Duration::from_secs(10)).await;
    daemon.clock.jump_to(START.minus_ms(3 * 86_400_000));
    daemon.start_again().await;
    let ready = crate::support::eventually("a warning", async || {
        let answer = daemon.try_get("/readyz").await;
        assert_eq!(answer.status, 200);
        Some(answer.json()).filter(|ready| ready["warnings"] != json!([]))
    })
    .await;
    assert_eq!(ready["warnings"][0]["code"], "clock_distrusted", "{ready}");
    let after = daemon.publish("a", json!("after")).await;
    assert_eq!(receiver.next().await.header("webhook-id"), text(&after, "id"));
}

#[tokio::test]
async fn the_last_moments_of_the_year_9999_are_read_wherever_a_time_is() {
    let daemon = TestDaemon::with(|settings| settings.dialects.extend(["instantly".to_owned()])).await;
    let receiver = Receiver::that(Act::with_header(503, "retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")).await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [5] })).await;
    let end = "9999-12-31T23:59:59Z";
    let shown = "9999-12-31T23:59:59.000Z";
    let event = json!({ "type": "a", "data": 1, "expires_at": end, "occurred_at": end });
    let event = daemon.publish_with(event).await;
    let read = daemon.get(&format!("/v1/events/{}", text(&event, "id"))).await;
    assert_eq!((&read["expires_at"], &read["occurred_at"]), (&json!(shown), &json!(shown)));
    let tried = daemon.delivery_when(&event, |row| row["attempts"] == 1).await;
    assert_eq!(time(&tried, "next_attempt_at"), START.plus_ms(86_400_000), "Retry-After counts up to a day");
    let cloud = format!(r#"{{"specversion":"1.0","id":"1","source":"/a","type":"b","time":"{end}","data":1}}"#);
    let headers = [("content-type", "application/cloudevents+json")];
    let cloud = daemon.call(http::Method::POST, "/v1/events", &headers, cloud).await.expect(202);
    assert_eq!(cloud["occurred_at"], shown);
    let key = json!({ "name": "k", "scopes": ["events:read"], "expires_at": end });
    assert_eq!(daemon.post("/v1/keys", key).await["expires_at"], shown);
    let id = text(&webhook, "id");
    for list in ["events", "deliveries", &format!("webhooks/{id}/deliveries"), &format!("webhooks/{id}/attempts")] {
        let path = format!("/v1/{list}?from=0000-01-01T00:00:00%2B01:00&to={end}");
        let rows = daemon.get(&path).await["data"].as_array().expect(list).len();
        assert!(rows > 0, "{list}");
        let none = daemon.get(&format!("/v1/{list}?from={end}")).await;
        assert_eq!(none["data"], json!([]), "{list}");
    }
    let replay = json!({ "from": START.to_string(), "to": end, "webhook_id": id, "dry_run": true });
    assert_eq!(daemon.try_post("/v1/replays", replay).await.expect(200)["matched"], 0, "both wait");
    for path in ["webhook-events/summary", "webhook-events?limit=1"] {
        let glue = if path.contains('?') { '&' } else { '?' };
        daemon.get(&format!("/api/v2/{path}{glue}from=1970-01-01&to=9999-12-31")).await;
    }
}
