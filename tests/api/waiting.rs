//! The list of waiting deliveries: its order and the reasons. A delivery that is read alone gives the same reason.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Act, Receiver, TestDaemon};

/// The rows of a page: id, reason, and whether another delivery stands before it.
fn reasons(page: &Value) -> Vec<(&str, &str, bool)> {
    let rows = page["data"].as_array().unwrap();
    let of = |row: &Value| row["waiting_for"]["behind"].is_string();
    rows.iter().map(|row| (text(row, "id"), text(&row["waiting_for"], "reason"), of(row))).collect()
}

async fn waiting(daemon: &TestDaemon, webhook: &Value) -> Value {
    daemon.get(&format!("/v1/webhooks/{}/waiting", text(webhook, "id"))).await
}

async fn only_delivery(daemon: &TestDaemon, event: &Value) -> String {
    text(&daemon.deliveries(event).await[0], "id").to_owned()
}

#[tokio::test]
async fn waiting_deliveries_are_listed_by_due_time_with_their_reason() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let hook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [600] })).await;
    let failed = daemon.publish("a", json!(1)).await;
    let failed = daemon.delivery_in(&failed, "retrying").await;
    let mut later = Vec::new();
    for hours in [2, 1] {
        let at = crate::support::START.plus_ms(hours * 3_600_000);
        let event = daemon.publish_with(json!({ "type": "a", "data": 1, "deliver_at": at.to_string() })).await;
        later.push(only_delivery(&daemon, &event).await);
    }
    let page = waiting(&daemon, &hook).await;
    let expected = [text(&failed, "id"), &later[1], &later[0]].map(|id| (id, "schedule", false));
    assert_eq!(reasons(&page), expected);
    assert_eq!(page["data"][0]["waiting_for"]["until"], failed["next_attempt_at"]);
    let first = daemon.get(&format!("/v1/webhooks/{}/waiting?limit=2", text(&hook, "id"))).await;
    let path = format!("/v1/webhooks/{}/waiting?cursor={}", text(&hook, "id"), text(&first, "next_cursor"));
    assert_eq!(reasons(&daemon.get(&path).await), expected[2..]);
    daemon.post(&format!("/v1/webhooks/{}/pause", text(&hook, "id")), json!({})).await;
    let one = daemon.get(&format!("/v1/deliveries/{}", later[0])).await;
    assert_eq!(one["waiting_for"], json!({ "reason": "paused", "until": null, "behind": null }));
    assert_eq!(daemon.try_get(&format!("/v1/webhooks/{}/waiting?cursor=wait", text(&hook, "id"))).await.status, 400);
}

#[tokio::test]
async fn an_ordered_delivery_names_the_one_before_it_and_the_circuit_its_probe() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(503)).await;
    let hook = daemon.webhook(&receiver.url(), json!({ "ordered": true, "retry_schedule_s": [600, 600] })).await;
    let first = daemon.publish("a", json!(1)).await;
    let first = text(&daemon.delivery_in(&first, "retrying").await, "id").to_owned();
    let mut queued = Vec::new();
    for n in 0..3 {
        let event = daemon.publish("a", json!(n)).await;
        queued.push(only_delivery(&daemon, &event).await);
    }
    let page = waiting(&daemon, &hook).await;
    let behind = queued.iter().map(|id| (id.as_str(), "order", true));
    let expected: Vec<_> = std::iter::once((first.as_str(), "schedule", false)).chain(behind).collect();
    assert_eq!(reasons(&page), expected);
    assert_eq!(page["data"][3]["waiting_for"]["behind"], json!(first));
    let one = daemon.get(&format!("/v1/deliveries/{}", queued[1])).await;
    assert_eq!(one["waiting_for"], json!({ "reason": "order", "until": null, "behind": first }));
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = daemon.get(&format!("/v1/webhooks/{}/waiting?limit=1{cursor}", text(&hook, "id"))).await;
        paged.extend(reasons(&page).into_iter().map(|(id, ..)| id.to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, expected.iter().map(|(id, ..)| (*id).to_owned()).collect::<Vec<_>>());
    // The webhook names the head, in every place where it says why nothing is sent.
    let head = json!({ "reason": "order", "until": page["data"][0]["next_attempt_at"], "behind": first });
    let path = format!("/v1/webhooks/{}", text(&hook, "id"));
    assert_eq!(daemon.get(&path).await["waiting_for"], head);
    assert_eq!(daemon.get("/v1/webhooks").await["data"][0]["waiting_for"], head);
    assert_eq!(daemon.get(&format!("{path}/health")).await["state"]["waiting_for"], head);
    let retry = format!("/v1/deliveries/{}/retry", queued[1]);
    let retried = daemon.try_post(&retry, json!({})).await.expect(202);
    assert_eq!(retried["waiting_for"], json!({ "reason": "order", "until": null, "behind": first }));
    let paused = daemon.post(&format!("{path}/pause"), json!({})).await;
    assert_eq!(paused["status"], "paused");
    let paused = json!({ "reason": "paused", "until": null, "behind": first });
    assert_eq!(daemon.get(&path).await["waiting_for"], paused);
    daemon.post(&format!("{path}/resume"), json!({})).await;
    let done = daemon.post(&format!("/v1/deliveries/{first}/cancel"), json!({})).await;
    let done = daemon.get(&format!("/v1/deliveries/{}", text(&done, "id"))).await;
    assert_eq!(done["waiting_for"], Value::Null);
}

#[tokio::test]
async fn a_due_delivery_behind_an_open_circuit_names_the_circuit_everywhere() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let hook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [864_000] })).await;
    for n in 0..10 {
        let event = daemon.publish("a", json!(n)).await;
        daemon.delivery_in(&event, "retrying").await;
    }
    let open = daemon.webhook_when(&hook, |row| row["circuit"] == "open").await;
    let behind = daemon.publish("a", json!("behind")).await;
    let id = only_delivery(&daemon, &behind).await;
    let one = daemon.get(&format!("/v1/deliveries/{id}")).await;
    assert_eq!(one["waiting_for"], json!({ "reason": "circuit", "until": open["held_until"], "behind": null }));
    let page = waiting(&daemon, &hook).await;
    assert_eq!(page["data"][0]["waiting_for"], one["waiting_for"]);
    assert_eq!(page["data"][0]["next_attempt_at"], open["held_until"], "not the due time, which the hold outlasts");
}

#[tokio::test]
async fn a_due_delivery_that_is_not_held_waits_for_the_rate_or_for_those_in_flight() {
    let daemon = TestDaemon::start().await;
    let (receiver, hanging) = (Receiver::start().await, Receiver::that(Act::Hang).await);
    let rated = json!({ "event_types": ["rated"], "rate_limit_per_s": 1 });
    let rated = daemon.webhook(&receiver.url(), rated).await;
    let busy = json!({ "event_types": ["busy"], "max_in_flight": 1, "timeout_ms": 120_000 });
    let busy = daemon.webhook(&hanging.url(), busy).await;
    for n in 0..20 {
        daemon.publish("rated", json!(n)).await;
    }
    for n in 0..3 {
        daemon.publish("busy", json!(n)).await;
    }
    receiver.take(1).await;
    hanging.take(1).await;
    // The clock stands still, so the rate lets nothing more go once its burst is used.
    let waiting_for = json!({ "reason": "rate", "until": null, "behind": null });
    let page = waiting(&daemon, &rated).await;
    let rows = page["data"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["waiting_for"] == waiting_for), "{page}");
    let last = daemon.get(&format!("/v1/deliveries/{}", text(rows.last().unwrap(), "id"))).await;
    assert_eq!(last["waiting_for"], waiting_for);
    // One is being sent, and the others wait for its end.
    let page = waiting(&daemon, &busy).await;
    let told: Vec<&str> = reasons(&page).into_iter().map(|(_, reason, _)| reason).collect();
    assert_eq!(told, ["in_flight"; 3]);
    let hook = daemon.get(&format!("/v1/webhooks/{}", text(&busy, "id"))).await;
    assert_eq!((&hook["in_flight"], &hook["waiting_for"]), (&json!(1), &Value::Null), "nothing holds the webhook");
}

#[tokio::test]
async fn a_due_delivery_names_the_wait_of_the_scheduler() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::Gate(200)).await;
    let told = async |hook: &Value| -> Vec<String> {
        let page = waiting(&daemon, hook).await;
        reasons(&page).into_iter().map(|(_, reason, _)| reason.to_owned()).collect()
    };
    // A rate that allows more than the receiver takes.
    let full = json!({ "event_types": ["full"], "max_in_flight": 1, "rate_limit_per_s": 1_000 });
    let full = daemon.webhook(&receiver.url(), full).await;
    for n in 0..3 {
        daemon.publish("full", json!(n)).await;
    }
    receiver.next().await;
    assert_eq!(told(&full).await, ["in_flight"; 3]);
    // The rate of the app, which no setting of the webhook tells.
    daemon.post("/v1/apps", json!({ "name": "slow", "uid": "slow", "throttle_rate_per_s": 1 })).await;
    let throttled = daemon.webhook(&receiver.url(), json!({ "app_id": "slow" })).await;
    for n in 0..2 {
        daemon.publish_with(json!({ "type": "a", "data": n, "app_id": "slow" })).await;
    }
    receiver.next().await;
    receiver.open(2);
    daemon.webhook_when(&throttled, |row| row["in_flight"] == 0).await;
    crate::support::eventually("the next delivery waits for the rate", async || {
        (told(&throttled).await == ["rate"]).then_some(())
    })
    .await;
    daemon.advance_s(2);
    receiver.next().await;
    assert_eq!(told(&throttled).await.len(), 1);
}

#[tokio::test]
async fn a_circuit_without_due_deliveries_names_the_first_planned_one_as_its_probe() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let hook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [120] })).await;
    let mut planned = Vec::new();
    for n in 0..10 {
        let event = daemon.publish("a", json!(n)).await;
        planned.push(text(&daemon.delivery_in(&event, "retrying").await, "next_attempt_at").to_owned());
    }
    let planned = json!(planned.iter().min());
    daemon.webhook_when(&hook, |row| row["circuit"] == "open").await;
    daemon.advance_s(6);
    let row = daemon.read_webhook(&hook).await;
    assert_eq!((&row["circuit"], &row["held_until"]), (&json!("open"), &planned), "{row}");
    assert_eq!(row["waiting_for"], json!({ "reason": "circuit", "until": planned, "behind": null }));
    assert!(text(&row["reason"], "words").contains(&format!("the next probe goes at {}", planned.as_str().unwrap())));
    let health = daemon.get(&format!("/v1/webhooks/{}/health", text(&hook, "id"))).await;
    assert_eq!(health["state"]["waiting_for"], row["waiting_for"]);
}
