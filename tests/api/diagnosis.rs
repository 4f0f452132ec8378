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
    assert_eq!(paused["reason"]["fix"], format!("postrider webhook resume {}", text(&hook, "id")));
    let resumed = daemon.post(&format!("{path}/resume"), json!({})).await;
    assert_eq!(resumed["reason"], failing["reason"]);
    receiver.always(Act::status(200));
    daemon.advance_s(700);
    let done = daemon.delivery_in(&event, "delivered").await;
    assert_eq!(done["reason"], Value::Null);
    assert_eq!(daemon.read_webhook(&hook).await["reason"], Value::Null);
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
