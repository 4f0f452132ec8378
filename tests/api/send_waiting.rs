//! Replays with `waiting`: the same deliveries become due, once each, and a count first.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Act, Receiver, TestDaemon, eventually};

async fn finished(daemon: &TestDaemon, job: &Value) -> Value {
    eventually("a finished job", async || {
        daemon.clock.advance_ms(500);
        let path = format!("/v1/replays/{}", text(job, "id"));
        Some(daemon.get(&path).await).filter(|job| job["status"] == "done")
    })
    .await
}

async fn count(daemon: &TestDaemon, mut spec: Value) -> Value {
    spec["dry_run"] = json!(true);
    daemon.try_post("/v1/replays", spec).await.expect(200)
}

#[tokio::test]
async fn waiting_deliveries_are_sent_now_as_themselves() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let hook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [36_000] })).await;
    let mut events = Vec::new();
    for kind in ["a", "a", "b"] {
        events.push(daemon.publish(kind, json!(1)).await);
        daemon.delivery_in(events.last().unwrap(), "retrying").await;
    }
    let spec = json!({ "webhook_id": hook["id"], "waiting": true });
    assert_eq!(count(&daemon, spec.clone()).await, json!({ "matched": 3, "at_least": false }));
    let with = |name: &str, value: Value| {
        let mut spec = spec.clone();
        spec[name] = value;
        spec
    };
    assert_eq!(count(&daemon, with("types", json!(["b"]))).await["matched"], 1);
    assert_eq!(count(&daemon, with("outcome", json!(["timeout"]))).await["matched"], 0);
    assert_eq!(count(&daemon, with("status_code", json!(["5xx"]))).await["matched"], 3);
    for (name, value) in
        [("status", json!("failed")), ("missing", json!(true)), ("ended_from", hook["created_at"].clone())]
    {
        let refused = daemon.try_post("/v1/replays", with(name, value)).await.expect(422);
        assert_eq!(refused["errors"][0]["pointer"], "/waiting", "{name}");
    }
    receiver.always(Act::status(200));
    let job = daemon.try_post("/v1/replays", with("types", json!(["a"]))).await.expect(202);
    assert_eq!(job["request"]["waiting"], true);
    for event in &events[..2] {
        let done = daemon.delivery_in(event, "delivered").await;
        assert_eq!((&done["attempts"], &done["replay_of"]), (&json!(2), &Value::Null));
        assert_eq!(daemon.deliveries(event).await.len(), 1, "the same delivery");
    }
    let job = finished(&daemon, &job).await;
    assert_eq!((&job["matched"], &job["created"]), (&json!(2), &json!(0)));
    assert_eq!(daemon.deliveries(&events[2]).await[0]["status"], "retrying", "of another type");
    assert_eq!(receiver.count(), 5);
}

#[tokio::test]
async fn a_job_over_waiting_deliveries_ends_although_the_receiver_goes_on_failing() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let hook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [36_000, 360_000] })).await;
    let mut events = Vec::new();
    for n in 0..4 {
        events.push(daemon.publish("a", json!(n)).await);
        daemon.delivery_in(&events[n], "retrying").await;
    }
    let spec = json!({ "app_id": hook["app_id"], "waiting": true, "rate_per_s": 2 });
    let job = daemon.try_post("/v1/replays", spec).await.expect(202);
    let job = finished(&daemon, &job).await;
    assert_eq!(job["matched"], 4);
    for event in &events {
        assert_eq!(daemon.delivery_when(event, |row| row["attempts"] == 2).await["status"], "retrying");
    }
    assert_eq!(receiver.count(), 8);
}

#[tokio::test]
async fn an_ordered_queue_goes_on_from_its_head() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let hook = daemon.webhook(&receiver.url(), json!({ "ordered": true, "retry_schedule_s": [36_000] })).await;
    let mut events = vec![daemon.publish("a", json!(0)).await];
    daemon.delivery_in(&events[0], "retrying").await;
    for n in 1..3 {
        events.push(daemon.publish("a", json!(n)).await);
    }
    let spec = json!({ "webhook_id": hook["id"], "waiting": true });
    assert_eq!(count(&daemon, spec.clone()).await["matched"], 3);
    receiver.always(Act::status(200));
    let job = daemon.try_post("/v1/replays", spec).await.expect(202);
    for event in &events {
        daemon.delivery_in(event, "delivered").await;
    }
    let job = finished(&daemon, &job).await;
    // A queued delivery that its head let go before the job came to it is not counted.
    assert!((1..=3).contains(&job["matched"].as_u64().unwrap()), "{job}");
    let bodies: Vec<Value> = receiver.seen().iter().skip(1).map(|request| request.json()["data"].clone()).collect();
    assert_eq!(bodies, [json!(0), json!(1), json!(2)]);
}

#[tokio::test]
async fn a_count_leaves_out_resent_deliveries_as_the_job_does() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let hook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [36_000] })).await;
    let mut events = Vec::new();
    for n in 0..3 {
        events.push(daemon.publish("a", json!(n)).await);
        daemon.delivery_in(&events[n], "retrying").await;
    }
    receiver.always(Act::status(200));
    let resend = format!("/v1/events/{}/resend", text(&events[0], "id"));
    daemon.try_post(&resend, json!({ "webhook_id": hook["id"] })).await.expect(202);
    eventually("a delivered resend", async || {
        daemon.deliveries(&events[0]).await.iter().any(|row| row["status"] == "delivered").then_some(())
    })
    .await;
    let spec = json!({ "webhook_id": hook["id"], "waiting": true });
    assert_eq!(count(&daemon, spec.clone()).await, json!({ "matched": 2, "at_least": false }));
    let job = daemon.try_post("/v1/replays", spec).await.expect(202);
    assert_eq!(finished(&daemon, &job).await["matched"], 2);
}
