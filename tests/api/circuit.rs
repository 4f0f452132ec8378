//! Failing webhooks: circuit, `Retry-After`, 410 and disabling. Callers also pause, disable and enable them.

use http::Method;
use serde_json::{Value, json};

use crate::support::daemon::{text, time};
use crate::support::{Act, Receiver, Request, START, TestDaemon, eventually};

/// A webhook that receives the system events about how the others do.
async fn watcher(daemon: &TestDaemon) -> Receiver {
    let watcher = Receiver::start().await;
    let types = ["failing", "recovered", "disabled"].map(|kind| format!("postrider.webhook.{kind}"));
    daemon.webhook(&watcher.url(), json!({ "event_types": types })).await;
    watcher
}

fn told(request: &Request) -> (String, String) {
    let body = request.json();
    (text(&body, "type").to_owned(), text(&body["data"], "reason").to_owned())
}

/// Lets a webhook fail until its circuit is open.
async fn open_circuit(daemon: &TestDaemon, receiver: &Receiver, webhook: &Value) {
    for n in 0..10 {
        daemon.publish("a.fail", json!(n)).await;
    }
    receiver.take(10).await;
    daemon.webhook_when(webhook, |w| w["circuit"] == "open").await;
}

#[tokio::test]
async fn an_open_circuit_burns_no_attempts_and_one_success_closes_it() {
    let mut daemon = TestDaemon::start().await;
    let (receiver, watcher) = (Receiver::that(Act::status(500)).await, watcher(&daemon).await);
    let webhook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [3600], "event_types": ["a.**"] })).await;
    open_circuit(&daemon, &receiver, &webhook).await;
    let (kind, reason) = told(&watcher.next().await);
    assert_eq!(kind, "postrider.webhook.failing");
    assert!(reason.contains("10 consecutive failed attempts"), "{reason}");

    let waiting = daemon.publish("a.later", json!("first")).await;
    daemon.publish("a.later", json!("second")).await;
    let held = daemon.get(&format!("/v1/events/{}", text(&waiting, "id"))).await;
    let own = held["webhooks"].as_array().unwrap().iter().find(|row| row["webhook_id"] == webhook["id"]).unwrap();
    assert_eq!((own["decision"].as_str(), own["reason"].as_str()), (Some("held"), Some("circuit_open")));
    daemon.restart().await;
    assert_eq!(daemon.read_webhook(&webhook).await["circuit"], "open", "it survives a restart");

    // The probe is one request, of the oldest delivery, although two wait.
    receiver.always(Act::Gate(500));
    daemon.clock.advance_ms(5_001);
    assert_eq!(receiver.next().await.json()["data"], "first");
    assert_eq!(daemon.read_webhook(&webhook).await["circuit"], "half_open");
    receiver.open(1);
    daemon.webhook_when(&webhook, |w| w["consecutive_failures"] == 11).await;
    assert_eq!(daemon.read_webhook(&webhook).await["circuit"], "open");
    assert_eq!(receiver.count(), 11);

    // The next one waits twice as long, and closes it.
    receiver.always(Act::status(200));
    daemon.clock.advance_ms(9_000);
    assert_eq!(daemon.read_webhook(&webhook).await["circuit"], "open");
    daemon.clock.advance_ms(1_001);
    assert_eq!(receiver.next().await.json()["data"], "second");
    daemon.webhook_when(&webhook, |w| w["circuit"] == "closed" && w["consecutive_failures"] == 0).await;
    assert_eq!(told(&watcher.next().await).0, "postrider.webhook.recovered");
    // Failed deliveries go on by their own schedule.
    daemon.advance_s(4_000);
    receiver.take(11).await;
    eventually("all delivered", async || {
        let page = daemon.get(&format!("/v1/deliveries?status=delivered&webhook_id={}", text(&webhook, "id"))).await;
        (page["data"].as_array().unwrap().len() == 12).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_retry_by_hand_does_not_wait_for_the_circuit() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [3600, 3600] })).await;
    open_circuit(&daemon, &receiver, &webhook).await;
    let page = daemon.get("/v1/deliveries?limit=1").await;
    let retry = format!("/v1/deliveries/{}/retry", text(&page["data"][0], "id"));
    daemon.try_post(&retry, json!({})).await.expect(202);
    receiver.next().await;
    daemon.webhook_when(&webhook, |w| w["consecutive_failures"] == 11).await;
    assert_eq!(daemon.read_webhook(&webhook).await["circuit"], "open");
    receiver.always(Act::status(200));
    daemon.try_post(&retry, json!({})).await.expect(202);
    receiver.next().await;
    daemon.webhook_when(&webhook, |w| w["circuit"] == "closed").await;
    assert_eq!(receiver.count(), 12, "the others wait for their own time");
}

#[tokio::test]
async fn retry_after_holds_the_whole_webhook_and_no_other() {
    for status in [429, 503] {
        let mut daemon = TestDaemon::start().await;
        let (receiver, other) = (Receiver::timed(&daemon.clock).await, Receiver::start().await);
        receiver.next_acts([Act::Gate(200), Act::with_header(status, "retry-after", "120")]);
        let webhook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [5, 5] })).await;
        daemon.webhook(&other.url(), json!({})).await;
        let slow = daemon.publish("a", json!("slow")).await;
        receiver.next().await;
        let told = daemon.publish("a", json!("told to wait")).await;
        receiver.next().await;
        let state = eventually("the hold by Retry-After", async || {
            let rows = daemon.deliveries(&told).await;
            rows.into_iter().find(|row| row["webhook_id"] == webhook["id"] && row["attempts"] == 1)
        })
        .await;
        // The state shows the later time, because nothing is sent before the receiver allows it.
        assert_eq!(time(&state, "next_attempt_at"), START.plus_ms(120_000));
        // A success of a request that was in flight already does not end the wait.
        receiver.open(1);
        eventually("the slow request is delivered", async || {
            daemon.deliveries(&slow).await.iter().all(|row| row["status"] == "delivered").then_some(())
        })
        .await;
        let fresh = daemon.publish("a", json!("fresh")).await;
        daemon.restart().await;
        other.take(3).await;
        daemon.advance_s(119);
        let read = daemon.get(&format!("/v1/events/{}", text(&fresh, "id"))).await;
        assert_eq!(read["webhooks"][0]["reason"], "retry_after", "{read}");
        assert_eq!(receiver.count(), 2);
        daemon.advance_s(1);
        let times: Vec<_> = receiver.take(2).await.iter().map(|request| request.at.unwrap()).collect();
        assert_eq!(times, [START.plus_ms(120_000); 2]);
    }
}

#[tokio::test]
async fn retry_after_on_another_status_means_nothing_and_a_long_one_is_capped() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver
        .next_acts([Act::with_header(500, "retry-after", "600"), Act::with_header(503, "retry-after", "999999999999")]);
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [5, 5] })).await;
    let event = daemon.publish("a", json!(1)).await;
    let delivery = daemon.delivery_when(&event, |row| row["attempts"] == 1).await;
    let next = time(&delivery, "next_attempt_at");
    assert!(next <= START.plus_ms(7_000), "{delivery}");
    daemon.clock.advance_ms(next.since(START));
    let delivery = daemon.delivery_when(&event, |row| row["attempts"] == 2).await;
    assert_eq!(time(&delivery, "next_attempt_at"), next.plus_ms(86_400_000));
}

#[tokio::test]
async fn gone_disables_and_enabling_goes_on() {
    let mut daemon = TestDaemon::start().await;
    let (receiver, watcher) = (Receiver::start().await, watcher(&daemon).await);
    receiver.next_acts([Act::Gate(200), Act::status(410)]);
    let webhook = daemon.webhook(&receiver.url(), json!({ "event_types": ["a.**"], "max_in_flight": 2 })).await;
    let first = daemon.publish("a.1", json!(1)).await;
    receiver.next().await;
    let gone = daemon.publish("a.2", json!(2)).await;
    receiver.next().await;
    let disabled = daemon.webhook_when(&webhook, |w| w["status"] == "disabled").await;
    assert_eq!(disabled["disabled_reason"], "gone");
    let (kind, reason) = told(&watcher.next().await);
    assert_eq!(kind, "postrider.webhook.disabled");
    assert!(reason.contains("410"), "{reason}");
    assert_eq!(daemon.delivery_in(&gone, "failed").await["last_status_code"], 410);
    // Requests in flight go on. Events published now are not for this webhook.
    receiver.open(1);
    daemon.delivery_in(&first, "delivered").await;
    let none = daemon.publish("a.3", json!(3)).await;
    assert_eq!(none["deliveries"], 0);
    let read = daemon.get(&format!("/v1/events/{}", text(&none, "id"))).await;
    let own = read["webhooks"].as_array().unwrap().iter().find(|row| row["webhook_id"] == webhook["id"]).unwrap();
    assert_eq!((own["decision"].as_str(), own["reason"].as_str()), (Some("filtered"), Some("disabled")));
    daemon.restart().await;
    daemon.patch(&format!("/v1/webhooks/{}", text(&webhook, "id")), json!({ "status": "enabled" })).await;
    let again = daemon.publish("a.4", json!(4)).await;
    assert_eq!(receiver.next().await.header("webhook-id"), text(&again, "id"));
}

#[tokio::test]
async fn too_long_without_a_success_warns_at_half_and_disables_at_the_end() {
    let daemon = TestDaemon::start().await;
    let (receiver, watcher) = (Receiver::timed(&daemon.clock).await, watcher(&daemon).await);
    receiver.always(Act::status(500));
    let fields = json!({ "event_types": ["a.**"], "retry_schedule_s": vec![60; 40], "disable_after_s": 1_000 });
    let webhook = daemon.webhook(&receiver.url(), fields).await;
    let event = daemon.publish("a.b", json!(1)).await;
    let mut attempts = 0;
    let mut news = Vec::new();
    loop {
        let request = receiver.next().await;
        attempts += 1;
        daemon.delivery_when(&event, |row| row["attempts"] == attempts).await;
        if request.at.unwrap().since(START) >= 1_000_000 {
            break;
        }
        // Once the circuit is open a probe may have to wait for five minutes.
        daemon.advance_s(if attempts < 10 { 70 } else { 310 });
    }
    daemon.webhook_when(&webhook, |w| w["status"] == "disabled").await;
    for _ in 0..3 {
        news.push(told(&watcher.next().await));
    }
    news.retain(|(_, reason)| !reason.contains("consecutive"));
    let (warning, disabled) = (&news[0], &news[1]);
    assert_eq!((warning.0.as_str(), disabled.0.as_str()), ("postrider.webhook.failing", "postrider.webhook.disabled"));
    assert!(warning.1.contains("half"), "{warning:?}");
    assert!(disabled.1.contains("no success for"), "{disabled:?}");
    let read = daemon.read_webhook(&webhook).await;
    assert_eq!(read["disabled_reason"], "failures");

    // Waiting deliveries stay and go on once the webhook is enabled again.
    daemon.advance_s(86_400);
    assert_eq!(daemon.delivery_in(&event, "retrying").await["attempts"], attempts);
    receiver.always(Act::status(200));
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    let enabled = daemon.patch(&path, json!({ "status": "enabled" })).await;
    assert_eq!((enabled["circuit"].as_str(), enabled["consecutive_failures"].as_u64()), (Some("closed"), Some(0)));
    receiver.next().await;
    daemon.delivery_in(&event, "delivered").await;
}

#[tokio::test]
async fn a_paused_webhook_holds_and_resuming_drains_oldest_first() {
    let mut daemon = TestDaemon::start().await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    receiver.next_acts([Act::Gate(500)]);
    let webhook = daemon.webhook(&receiver.url(), json!({ "field_set": "raw", "retry_schedule_s": [60] })).await;
    daemon.webhook(&other.url(), json!({})).await;
    let out = daemon.publish("a", json!("out")).await;
    receiver.next().await;
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    let paused = daemon.post(&format!("{path}/pause"), json!({})).await;
    assert_eq!(paused["status"], "paused");
    // A request in flight at a pause ends as usual, and its retry waits.
    receiver.open(1);
    eventually("the request in flight at the pause ends", async || {
        let rows = daemon.deliveries(&out).await;
        rows.iter().any(|row| row["webhook_id"] == webhook["id"] && row["status"] == "retrying").then_some(())
    })
    .await;
    daemon.advance_s(120);
    receiver.always(Act::status(200));
    let events: Vec<Value> = (0..300).map(|n| json!({ "type": "a", "data": n })).collect();
    daemon.try_post("/v1/events/batch", json!({ "events": events })).await.expect(202);
    other.take(301).await;
    assert_eq!(receiver.count(), 1);
    daemon.restart().await;
    let page = daemon.get(&format!("{path}/deliveries?status=pending&limit=1")).await;
    let read = daemon.get(&format!("/v1/events/{}", text(&page["data"][0], "event_id"))).await;
    assert_eq!(read["webhooks"][0], json!({ "webhook_id": webhook["id"], "decision": "held", "reason": "paused" }));
    // One at a time shows the order of sending.
    daemon.patch(&path, json!({ "max_in_flight": 1 })).await;
    let resumed = daemon.post(&format!("{path}/resume"), json!({})).await;
    assert_eq!(resumed["status"], "enabled");
    let got: Vec<Value> = receiver.take(301).await.iter().map(|request| request.json()).collect();
    let mut expected = vec![json!("out")];
    expected.extend((0..300).map(|n| json!(n)));
    assert_eq!(got, expected);
}

#[tokio::test]
async fn a_disabled_webhook_keeps_its_waiting_deliveries_and_gets_no_new_ones() {
    let daemon = TestDaemon::start().await;
    let (receiver, watcher) = (Receiver::that(Act::status(500)).await, watcher(&daemon).await);
    let webhook = daemon.webhook(&receiver.url(), json!({ "event_types": ["a"], "retry_schedule_s": [60] })).await;
    let waiting = daemon.publish("a", json!(1)).await;
    receiver.next().await;
    daemon.delivery_in(&waiting, "retrying").await;
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    let disabled = daemon.patch(&path, json!({ "status": "disabled" })).await;
    assert_eq!((&disabled["status"], &disabled["disabled_reason"]), (&json!("disabled"), &json!("manual")));
    let (kind, reason) = told(&watcher.next().await);
    assert_eq!((kind.as_str(), reason.as_str()), ("postrider.webhook.disabled", "disabled by hand"));
    for verb in ["pause", "resume"] {
        let refused = daemon.try_post(&format!("{path}/{verb}"), json!({})).await;
        assert_eq!(refused.expect(409)["code"], "webhook_disabled");
    }
    assert_eq!(daemon.publish("a", json!(2)).await["deliveries"], 0);
    daemon.advance_s(600);
    let read = daemon.get(&format!("/v1/events/{}", text(&waiting, "id"))).await;
    let own = read["webhooks"].as_array().unwrap().iter().find(|row| row["webhook_id"] == webhook["id"]).unwrap();
    assert_eq!((own["decision"].as_str(), own["reason"].as_str()), (Some("held"), Some("disabled")));
    receiver.always(Act::status(200));
    daemon.patch(&path, json!({ "status": "enabled" })).await;
    assert_eq!(receiver.next().await.header("postrider-attempt"), "2");
    daemon.delivery_in(&waiting, "delivered").await;
    // Each time that a webhook is disabled again by a call, an event reports it.
    daemon.patch(&path, json!({ "status": "disabled" })).await;
    assert_eq!(told(&watcher.next().await).0, "postrider.webhook.disabled");
}

#[tokio::test]
async fn removing_a_webhook_cancels_its_waiting_deliveries_at_once() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let webhook = daemon.webhook(&receiver.url(), json!({})).await;
    let event = daemon.publish("a", json!(1)).await;
    receiver.next().await;
    daemon.delivery_in(&event, "retrying").await;
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    assert_eq!(daemon.delete(&path).await.status, 204);
    assert_eq!(daemon.try_get(&path).await.status, 404);
    let delivery = daemon.deliveries(&event).await.remove(0);
    assert_eq!((&delivery["status"], &delivery["next_attempt_at"]), (&json!("cancelled"), &Value::Null));
    let retry = daemon.call(Method::POST, &format!("/v1/deliveries/{}/retry", text(&delivery, "id")), &[], "").await;
    assert_eq!(retry.expect(409)["code"], "webhook_removed");
    daemon.advance_s(3_600);
    daemon.advance_s(3_600);
    assert_eq!(daemon.deliveries(&event).await[0]["status"], "cancelled", "the status stays after maintenance");
    assert_eq!(receiver.count(), 1);
}
