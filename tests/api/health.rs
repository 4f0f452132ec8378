//! The state of a webhook, its health over 24 hours, and its holds with their ends.

use serde_json::{Value, json};

use crate::support::daemon::{text, time};
use crate::support::{Act, Receiver, START, TestDaemon};

const DAY_S: i64 = 86_400;

async fn health(daemon: &TestDaemon, webhook: &Value) -> Value {
    daemon.get(&format!("/v1/webhooks/{}/health", text(webhook, "id"))).await
}

async fn publish_and_try(daemon: &TestDaemon, count: u32) -> Value {
    let mut last = Value::Null;
    for n in 0..count {
        let event = daemon.publish("a", json!(n)).await;
        last = daemon.delivery_when(&event, |row| row["attempts"] == 1).await;
    }
    last
}

#[tokio::test]
async fn health_is_judged_over_the_last_24_hours() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [864_000] })).await;
    publish_and_try(&daemon, 30).await;
    let well = health(&daemon, &webhook).await;
    assert_eq!((&well["success_rate"], &well["activity"]), (&json!("excellent"), &json!("active")), "{well}");
    daemon.advance_s(2 * DAY_S);
    receiver.always(Act::status(500));
    publish_and_try(&daemon, 2).await;
    let ill = health(&daemon, &webhook).await;
    assert_eq!((&ill["success_rate"], &ill["activity"]), (&json!("critical"), &json!("failing")), "{ill}");
    assert!(text(&ill["reasons"], "success_rate").starts_with("0.0 % of the attempts in the last 24 hours"), "{ill}");
    let path = format!("/v1/webhooks/{}/stats", text(&webhook, "id"));
    assert_eq!(daemon.get(&path).await["success_rate"], 93.8, "the lifetime figure stays");
    daemon.advance_s(DAY_S + 60);
    let quiet = health(&daemon, &webhook).await;
    assert_eq!((&quiet["success_rate"], &quiet["response_time"]), (&json!("unknown"), &json!("unknown")), "{quiet}");
    assert_eq!((&quiet["activity"], &quiet["state"]["waiting"]), (&json!("idle"), &json!(2)), "{quiet}");
}

#[tokio::test]
async fn the_state_says_since_when_and_why() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({})).await;
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    let state = async || {
        let health = health(&daemon, &webhook).await;
        let row = daemon.read_webhook(&webhook).await;
        assert_eq!(
            (&health["state"]["since"], &health["state"]["waiting_for"]),
            (&row["status_since"], &row["waiting_for"])
        );
        let state = &health["state"];
        assert!(!text(&health["reasons"], "state").is_empty());
        (text(state, "status").to_owned(), time(state, "since").since(START), state["waiting_for"]["reason"].clone())
    };
    assert_eq!(state().await, ("enabled".to_owned(), 0, Value::Null));
    daemon.advance_s(10);
    daemon.post(&format!("{path}/pause"), json!({})).await;
    assert_eq!(state().await, ("paused".to_owned(), 10_000, json!("paused")));
    daemon.advance_s(10);
    daemon.patch(&path, json!({ "name": "another" })).await;
    assert_eq!(state().await, ("paused".to_owned(), 10_000, json!("paused")), "another change is none of the status");
    daemon.patch(&path, json!({ "status": "disabled" })).await;
    assert_eq!(state().await, ("disabled".to_owned(), 20_000, json!("disabled")));
    assert_eq!(health(&daemon, &webhook).await["state"]["disabled_reason"], "manual");
    daemon.advance_s(10);
    receiver.always(Act::status(410));
    daemon.patch(&path, json!({ "status": "enabled" })).await;
    daemon.publish("a", json!(1)).await;
    daemon.webhook_when(&webhook, |row| row["status"] == "disabled").await;
    assert_eq!(state().await, ("disabled".to_owned(), 30_000, json!("disabled")));
    assert_eq!(health(&daemon, &webhook).await["state"]["disabled_reason"], "gone");
}

#[tokio::test]
async fn a_hold_is_shown_and_resuming_ends_it() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::with_header(503, "retry-after", "80000")).await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [60] })).await;
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    publish_and_try(&daemon, 1).await;
    receiver.always(Act::status(200));
    let waiting = daemon.publish("a", json!("behind")).await;
    daemon.advance_s(60);
    let until = START.plus_ms(80_000_000);
    let held = daemon.read_webhook(&webhook).await;
    assert_eq!(time(&held, "held_until"), until);
    assert_eq!(time(&held, "failing_since"), START);
    assert_eq!(time(&held, "disable_at"), START.plus_ms(432_000_000));
    let why = json!({ "reason": "receiver", "until": held["held_until"], "behind": null });
    assert_eq!(held["waiting_for"], why);
    let row = daemon.delivery_in(&waiting, "pending").await;
    assert_eq!(time(&row, "next_attempt_at"), until, "not in the past");
    let retry = format!("/v1/deliveries/{}/retry", text(&row, "id"));
    let retried = daemon.try_post(&retry, json!({})).await.expect(202);
    assert_eq!(retried["waiting_for"], why);
    let resumed = daemon.post(&format!("{path}/resume"), json!({})).await;
    assert_eq!((&resumed["held_until"], &resumed["waiting_for"]), (&Value::Null, &Value::Null));
    daemon.delivery_in(&waiting, "delivered").await;
    assert_eq!(receiver.count(), 2);
    assert_eq!(daemon.read_webhook(&webhook).await["failing_since"], Value::Null);
    let audit = daemon.get("/v1/audit").await;
    assert_eq!(audit["data"][0]["action"], "webhook.resume");
    let row = daemon.delivery_in(&waiting, "delivered").await;
    let again = daemon.try_post(&format!("/v1/deliveries/{}/retry", text(&row, "id")), json!({})).await.expect(202);
    assert_eq!(again["waiting_for"], Value::Null, "no hold is left");
}

#[tokio::test]
async fn an_open_circuit_is_shown_with_its_next_probe() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [864_000] })).await;
    publish_and_try(&daemon, 10).await;
    let open = daemon.webhook_when(&webhook, |row| row["circuit"] == "open").await;
    let probe = time(&open, "held_until");
    assert_eq!(probe, START.plus_ms(5_000));
    let behind = daemon.publish("a", json!("behind")).await;
    let row = daemon.delivery_in(&behind, "pending").await;
    assert_eq!(time(&row, "next_attempt_at"), probe);
    let state = health(&daemon, &webhook).await["state"].clone();
    assert_eq!((&state["circuit"], &state["waiting"]), (&json!("open"), &json!(11)), "{state}");
    assert_eq!(state["waiting_for"], json!({ "reason": "circuit", "until": open["held_until"], "behind": null }));
    let retried = async |row: &Value| {
        let path = format!("/v1/deliveries/{}/retry", text(row, "id"));
        daemon.try_post(&path, json!({})).await.expect(202)["waiting_for"].clone()
    };
    let later = daemon.publish("a", json!("later")).await;
    let row = daemon.delivery_in(&later, "pending").await;
    let behind_it = json!({ "reason": "circuit", "until": open["held_until"], "behind": null });
    assert_eq!(retried(&row).await, behind_it, "another delivery is the probe");
    daemon.delivery_when(&behind, |row| row["attempts"] == 1).await;
    assert_eq!(retried(&row).await, Value::Null, "this delivery is the probe");
    daemon.delivery_when(&later, |row| row["attempts"] == 1).await;
    assert_eq!(daemon.read_webhook(&webhook).await["held_until"], open["held_until"]);
    // Resuming sends the probe now. It fails, and the next one waits longer.
    let last = daemon.publish("a", json!("last")).await;
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    let resumed = daemon.post(&format!("{path}/resume"), json!({})).await;
    assert_eq!((&resumed["circuit"], &resumed["held_until"]), (&json!("half_open"), &Value::Null));
    daemon.delivery_when(&last, |row| row["attempts"] == 1).await;
    let probed = daemon.webhook_when(&webhook, |row| row["failed_probes"] == 1).await;
    assert_eq!(time(&probed, "held_until"), START.plus_ms(10_000));
}
