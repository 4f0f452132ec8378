//! The member `reason`: why an attempt, a delivery and a webhook fail, in words with a cure. The number in flight.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Act, Receiver, TestDaemon};

#[tokio::test]
async fn a_failure_has_its_reason_and_cure_wherever_it_is_read() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(503)).await;
    let hook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [600, 600] })).await;
    assert_eq!(hook["reason"], Value::Null);
    let event = daemon.publish("a", json!(1)).await;
    let listed = daemon.delivery_in(&event, "retrying").await;
    let words = "it answered 503 Service Unavailable";
    let one = daemon.get(&format!("/v1/deliveries/{}", text(&listed, "id"))).await;
    let attempt = daemon.attempts(&listed).await.remove(0);
    for row in [&listed, &one, &attempt] {
        assert_eq!(row["reason"]["words"], words, "{row}");
        let named = format!("postrider attempt get att_{}", text(&attempt, "id"));
        let fix = text(&row["reason"], "fix");
        assert!(fix.contains("receiver's log") && fix.ends_with(&named), "{row}");
    }
    let failing = daemon.read_webhook(&hook).await;
    assert_eq!(failing["reason"]["words"], format!("The last attempt failed: {words}"));
    let path = format!("/v1/webhooks/{}", text(&hook, "id"));
    let paused = daemon.post(&format!("{path}/pause"), json!({})).await;
    assert_eq!(paused["reason"]["fix"], format!("postrider webhook resume whk_{}", text(&hook, "id")));
    let resumed = daemon.post(&format!("{path}/resume"), json!({})).await;
    assert_eq!(resumed["reason"], failing["reason"]);
    receiver.always(Act::status(200));
    daemon.advance_s(700);
    let done = daemon.delivery_in(&event, "delivered").await;
    assert_eq!(done["reason"], Value::Null);
    assert_eq!(daemon.read_webhook(&hook).await["reason"], Value::Null);
}

/// The customer behind a key of one app can repair a receiver and a webhook only.
#[tokio::test]
async fn a_key_of_one_app_reads_cures_without_settings_and_commands() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(503)).await;
    let hook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [600, 600] })).await;
    let path = format!("/v1/webhooks/{}", text(&hook, "id"));
    let event = daemon.publish("a", json!(1)).await;
    let delivery = format!("/v1/deliveries/{}", text(&daemon.delivery_in(&event, "retrying").await, "id"));
    let scopes = ["webhooks:read", "webhooks:write", "deliveries:retry", "events:read"];
    let key = json!({ "name": "tenant", "scopes": scopes, "app_id": hook["app_id"] });
    let tenant = daemon.with_key(text(&daemon.post("/v1/keys", key).await, "key"));
    let listed = |path: &str| format!("{path}?limit=1");
    let event_path = format!("/v1/events/{}/deliveries", text(&event, "id"));
    let mut said = Vec::new();
    for path in ["/v1/deliveries", "/v1/attempts", "/v1/webhooks", &event_path, &format!("{path}/waiting")] {
        let row = tenant.get(&listed(path)).await["data"][0].clone();
        said.push((path.to_owned(), row["reason"].clone()));
    }
    for path in [path.clone(), delivery.clone()] {
        said.push((path.clone(), tenant.get(&path).await["reason"].clone()));
    }
    let tested = tenant.post(&format!("{path}/test"), json!({})).await;
    said.push(("test".to_owned(), tested["reason"].clone()));
    let paused = tenant.post(&format!("{path}/pause"), json!({})).await;
    assert_eq!(paused["reason"]["fix"], "resume the webhook");
    tenant.post(&format!("{path}/resume"), json!({})).await;
    let retried = tenant.try_post(&format!("{delivery}/retry"), json!({})).await.expect(202);
    said.push(("retry".to_owned(), retried["reason"].clone()));
    for (path, reason) in said {
        assert_eq!(text(&reason, "fix"), "look at the receiver's log, and at its answer", "{path}: {reason}");
    }
    assert!(text(&daemon.get(&delivery).await["reason"], "fix").contains("postrider attempt get"), "the operator's");
}

#[tokio::test]
async fn a_webhook_shows_its_requests_in_flight() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::Gate(200)).await;
    let hook = daemon.webhook(&receiver.url(), json!({})).await;
    assert_eq!(hook["in_flight"], 0);
    for n in 0..3 {
        daemon.publish("a", json!(n)).await;
    }
    receiver.take(3).await;
    assert_eq!(daemon.read_webhook(&hook).await["in_flight"], 3);
    receiver.open(3);
    daemon.webhook_when(&hook, |row| row["in_flight"] == 0).await;
}
