//! Erasing: payload and response bodies are removed everywhere, and the record stays.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Act, Receiver, TestDaemon};

#[tokio::test]
async fn payload_and_response_bodies_go_and_the_record_stays() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let secret = "a-very-secret-payload";
    receiver.next_acts([Act::Answer(500, Vec::new(), secret.as_bytes().to_vec())]);
    receiver.always(Act::Answer(200, Vec::new(), secret.as_bytes().to_vec()));
    let webhook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [5] })).await;
    let body = json!({ "type": "a", "data": { "secret": secret }, "event_id": "e-1" });
    let event = daemon.publish_with(body.clone()).await;
    daemon.delivery_in(&event, "retrying").await;
    daemon.advance_s(10);
    let delivery = daemon.delivery_in(&event, "delivered").await;
    daemon.post(&format!("/v1/deliveries/{}/retry", text(&delivery, "id")), json!({})).await;
    crate::support::eventually("the repeat too", async || {
        daemon.deliveries(&event).await.iter().all(|row| row["status"] == "delivered").then_some(())
    })
    .await;
    let path = format!("/v1/events/{}", text(&event, "id"));
    assert_eq!(daemon.delete(&format!("{path}/data")).await.status, 204);
    assert_eq!(daemon.delete(&format!("{path}/data")).await.status, 204, "again is the same");
    daemon.restart().await;

    let everything = ["", "/deliveries"].map(|rest| format!("{path}{rest}")).into_iter().chain(
        ["attempts", "deliveries", "feed?limit=10"].map(|rest| format!("/v1/webhooks/{}/{rest}", text(&webhook, "id"))),
    );
    for path in everything {
        let answer = daemon.try_get(&path).await.expect(200).to_string();
        assert!(!answer.contains(secret), "{path}: {answer}");
    }
    let read = daemon.get(&path).await;
    assert_eq!((&read["data"], read["erased_at"].is_string(), &read["deliveries"]), (&Value::Null, true, &json!(1)));
    let rows = daemon.deliveries(&event).await;
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!(row["status"], "delivered");
        for attempt in daemon.attempts(row).await {
            assert_eq!(attempt["response_body"], Value::Null);
            assert_eq!(attempt["response_erased_at"], read["erased_at"]);
            assert!(attempt["status_code"].is_number());
        }
    }
    let refused = daemon.try_post(&format!("/v1/deliveries/{}/retry", text(&rows[0], "id")), json!({})).await;
    assert_eq!(refused.expect(409)["code"], "event_erased");
    // A repeated publish restores no data.
    let again = daemon.publish_with(body).await;
    assert_eq!((&again["id"], &again["duplicate"]), (&event["id"], &json!(true)));
    assert_eq!(daemon.get(&path).await["data"], Value::Null);
    assert_eq!(receiver.count(), 3);
}

#[tokio::test]
async fn erasing_cancels_waiting_deliveries_and_stores_no_answer_of_one_in_flight() {
    let daemon = TestDaemon::start().await;
    let (gated, waiting) = (Receiver::that(Act::Gate(200)).await, Receiver::that(Act::status(500)).await);
    daemon.webhook(&gated.url(), json!({})).await;
    daemon.webhook(&waiting.url(), json!({ "retry_schedule_s": [60] })).await;
    let event = daemon.publish("a", json!("secret")).await;
    gated.next().await;
    waiting.next().await;
    crate::support::eventually("one delivery failed", async || {
        daemon.deliveries(&event).await.iter().any(|row| row["status"] == "retrying").then_some(())
    })
    .await;
    assert_eq!(daemon.delete(&format!("/v1/events/{}/data", text(&event, "id"))).await.status, 204);
    assert!(daemon.deliveries(&event).await.iter().all(|row| row["status"] == "cancelled"));
    gated.open(1);
    let tried = crate::support::eventually("the attempt in flight is recorded", async || {
        daemon.deliveries(&event).await.into_iter().find(|row| row["last_status_code"] == 200)
    })
    .await;
    let attempt = daemon.attempts(&tried).await.remove(0);
    assert_eq!((&attempt["success"], &attempt["response_body"]), (&json!(true), &Value::Null));
    daemon.advance_s(3_600);
    let next = daemon.publish("a", json!("next")).await;
    assert_eq!(waiting.next().await.header("webhook-id"), text(&next, "id"));
}
