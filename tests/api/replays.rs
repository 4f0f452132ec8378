//! Replay jobs: their selection, their rate, cancellation and restarts, and that no job sends an event twice.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Act, Receiver, START, TestDaemon, eventually};

async fn job_when(daemon: &TestDaemon, job: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
    let path = format!("/v1/replays/{}", text(job, "id"));
    eventually("a replay as wanted", async || Some(daemon.get(&path).await).filter(&wanted)).await
}

async fn start(daemon: &TestDaemon, spec: Value) -> Value {
    daemon.try_post("/v1/replays", spec).await.expect(202)
}

fn counts(job: &Value) -> [u64; 4] {
    ["matched", "created", "delivered", "failed"].map(|name| job[name].as_u64().unwrap())
}

async fn count_of(daemon: &TestDaemon, mut spec: Value) -> u64 {
    spec["dry_run"] = json!(true);
    daemon.try_post("/v1/replays", spec).await.expect(200)["matched"].as_u64().unwrap()
}

#[tokio::test]
async fn a_job_sends_the_selected_deliveries_again_with_the_same_event_id() {
    let mut daemon = TestDaemon::start().await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    receiver.next_statuses([200, 500, 200, 500]);
    let webhook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": "none", "max_in_flight": 1 })).await;
    daemon.webhook(&other.url(), json!({})).await;
    let mut events = Vec::new();
    for (n, kind) in ["a.x", "a.y", "b.x", "b.y"].into_iter().enumerate() {
        events.push(daemon.publish(kind, json!(n)).await);
        receiver.next().await;
        eventually("final", async || {
            daemon.deliveries(&events[n]).await.iter().all(|row| row["completed_at"] != Value::Null).then_some(())
        })
        .await;
        daemon.advance_s(60);
    }
    let id = &webhook["id"];
    let at = |minute: i64| START.plus_ms(minute * 60_000).to_string();
    assert_eq!(count_of(&daemon, json!({ "webhook_id": id })).await, 4);
    assert_eq!(count_of(&daemon, json!({ "webhook_id": id, "status": "failed" })).await, 2);
    assert_eq!(count_of(&daemon, json!({ "webhook_id": id, "status": "delivered", "types": ["a.*"] })).await, 1);
    assert_eq!(count_of(&daemon, json!({ "webhook_id": id, "from": at(1), "to": at(3) })).await, 2);
    assert_eq!(count_of(&daemon, json!({ "webhook_id": id, "missing": true })).await, 2);
    assert_eq!(count_of(&daemon, json!({ "webhook_id": id, "status_code": ["404", "5xx"] })).await, 2);
    assert_eq!(count_of(&daemon, json!({ "webhook_id": id, "outcome": ["timeout"] })).await, 0);
    assert_eq!(count_of(&daemon, json!({ "webhook_id": id, "outcome": ["success", "timeout"] })).await, 2);
    assert_eq!(count_of(&daemon, json!({ "webhook_id": id, "ended_from": at(1), "ended_to": at(3) })).await, 2);
    for wrong in [json!({ "outcome": ["late"] }), json!({ "status_code": [503] }), json!({ "ended_to": "soon" })] {
        let mut spec = json!({ "webhook_id": id });
        spec.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        assert_eq!(daemon.try_post("/v1/replays", spec).await.status, 422, "{wrong}");
    }
    let both = json!({ "webhook_id": id, "missing": true, "outcome": ["timeout"] });
    assert_eq!(daemon.try_post("/v1/replays", both).await.status, 422);
    let app = daemon.read_webhook(&webhook).await["app_id"].clone();
    assert_eq!(count_of(&daemon, json!({ "app_id": app })).await, 8);
    assert_eq!(receiver.count(), 4, "counting sends nothing");

    daemon.restart().await;
    let job = start(&daemon, json!({ "webhook_id": id, "status": "failed" })).await;
    assert_eq!((job["status"].as_str(), &job["webhook_id"], &job["app_id"]), (Some("running"), id, &Value::Null));
    let asked = json!({ "from": null, "to": null, "types": [], "status": "failed", "outcome": [], "status_code": [],
        "ended_from": null, "ended_to": null, "missing": false, "waiting": false, "erasing": false, "rate_per_s": null });
    assert_eq!(job["request"], asked);
    let requests = receiver.take(2).await;
    let ids: Vec<&str> = requests.iter().map(|request| request.header("webhook-id")).collect();
    assert_eq!(ids, [text(&events[1], "id"), text(&events[3], "id")]);
    // The progress is polled, so time has to pass for it.
    eventually("delivered", async || {
        daemon.clock.advance_ms(500);
        let path = format!("/v1/replays/{}", text(&job, "id"));
        (daemon.get(&path).await["status"] == "done").then_some(())
    })
    .await;
    let done = job_when(&daemon, &job, |job| job["status"] == "done").await;
    assert_eq!(counts(&done), [2, 2, 2, 0]);
    assert_ne!(done["finished_at"], Value::Null);
    assert!(done["position_at"].as_str() >= events[3]["received_at"].as_str(), "{done}");
    let rows = daemon.deliveries(&events[1]).await;
    let own: Vec<&Value> = rows.iter().filter(|row| row["webhook_id"] == *id).collect();
    assert_eq!((own.len(), &own[1]["replay_of"]), (2, &own[0]["id"]));
    assert_eq!(text(&daemon.attempts(own[1]).await[0], "trigger"), "replay");
    assert_eq!(count_of(&daemon, json!({ "webhook_id": id, "status": "failed" })).await, 0);
    let listed = daemon.get("/v1/replays").await;
    assert_eq!(listed["data"][0]["id"], job["id"]);
    assert_eq!(other.count(), 4);
}

#[tokio::test]
async fn a_status_that_is_not_final_is_refused() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [3600] })).await;
    let event = daemon.publish("a", json!(1)).await;
    receiver.next().await;
    daemon.delivery_in(&event, "retrying").await;
    for status in ["pending", "retrying"] {
        for dry_run in [false, true] {
            let spec = json!({ "webhook_id": webhook["id"], "status": status, "dry_run": dry_run });
            let refused = daemon.try_post("/v1/replays", spec).await.expect(422);
            assert_eq!(refused["errors"][0]["pointer"], "/status");
            let detail = text(&refused["errors"][0], "detail");
            assert!(detail.contains("delivered, failed or cancelled"), "{detail}");
            assert!(detail.contains("POST /v1/deliveries/{id}/retry"), "the cure: {detail}");
        }
    }
    assert_eq!(daemon.deliveries(&event).await.len(), 1);
    assert_eq!(daemon.get("/v1/replays").await["data"], json!([]));
}

#[tokio::test]
async fn missing_sends_events_without_a_delivery_to_the_webhook() {
    let daemon = TestDaemon::start().await;
    for n in 0..5 {
        daemon.publish(if n == 2 { "b" } else { "a" }, json!(n)).await;
    }
    let receiver = Receiver::start().await;
    let webhook =
        daemon.webhook(&receiver.url(), json!({ "event_types": ["a"], "ordered": true, "field_set": "raw" })).await;
    let spec = json!({ "webhook_id": webhook["id"], "missing": true });
    assert_eq!(count_of(&daemon, spec.clone()).await, 4);
    start(&daemon, spec.clone()).await;
    let got: Vec<Value> = receiver.take(4).await.iter().map(|request| request.json()).collect();
    assert_eq!(got, [0, 1, 3, 4].map(|n| json!(n)));
    eventually("all delivered", async || (count_of(&daemon, spec.clone()).await == 0).then_some(())).await;
    // Those events have no published delivery to the webhook, and are found by their replays.
    daemon.publish("a", json!(5)).await;
    receiver.next().await;
    let spec = json!({ "webhook_id": webhook["id"], "status": "delivered" });
    eventually("five", async || (count_of(&daemon, spec.clone()).await == 5).then_some(())).await;
    let job = start(&daemon, spec).await;
    // The earlier job is not done yet, so time has to pass before the next round.
    eventually("ten requests", async || {
        daemon.clock.advance_ms(500);
        (receiver.count() >= 10).then_some(())
    })
    .await;
    let got: Vec<Value> = receiver.take(5).await.iter().map(|request| request.json()).collect();
    assert_eq!(got, [0, 1, 3, 4, 5].map(|n| json!(n)));
    assert_eq!(counts(&job_when(&daemon, &job, |job| job["matched"] == 5).await)[..2], [5, 5]);
}

#[tokio::test]
async fn a_rate_is_kept_and_a_cancelled_job_makes_no_more() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::timed(&daemon.clock).await;
    // Many events that do not match, between those that do. Examining them costs no time.
    let events: Vec<Value> =
        (0..900).map(|n| json!({ "type": if n % 30 == 0 { "a" } else { "b" }, "data": n })).collect();
    daemon.try_post("/v1/events/batch", json!({ "events": events })).await.expect(202);
    let webhook = daemon.webhook(&receiver.url(), json!({ "event_types": ["a"] })).await;
    let spec = json!({ "webhook_id": webhook["id"], "missing": true, "rate_per_s": 2 });
    let job = start(&daemon, spec).await;
    eventually("nine of thirty", async || {
        daemon.clock.advance_ms(50);
        (receiver.count() >= 9).then_some(())
    })
    .await;
    // At no time more than the rate permits, with a burst of one second.
    for (nth, request) in receiver.seen().iter().enumerate() {
        let after_ms = request.at.unwrap().since(START);
        assert!(after_ms >= (nth as i64 - 2) * 500, "{nth} after {after_ms} ms");
    }
    daemon.restart().await;
    eventually("the job goes on after a restart", async || {
        daemon.clock.advance_ms(50);
        (receiver.count() >= 14).then_some(())
    })
    .await;
    let path = format!("/v1/replays/{}/cancel", text(&job, "id"));
    let cancelled = daemon.post(&path, json!({})).await;
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(daemon.try_post(&path, json!({})).await.expect(409)["code"], "replay_final");
    let made = job_when(&daemon, &job, |job| job["status"] == "cancelled").await["created"].as_u64().unwrap();
    assert!((14..20).contains(&made), "{made}");
    daemon.advance_s(60);
    let other = daemon.publish("a", json!("after")).await;
    eventually("the event after the job", async || {
        receiver.seen().iter().any(|request| request.header("webhook-id") == text(&other, "id")).then_some(())
    })
    .await;
    assert_eq!(receiver.count() as u64, made + 1);
}

#[tokio::test]
async fn a_job_goes_over_all_partitions_and_counts_failures() {
    let daemon = TestDaemon::start().await;
    for day in 0..3 {
        daemon.publish("a", json!(day)).await;
        daemon.advance_s(86_401);
    }
    let receiver = Receiver::start().await;
    receiver.next_statuses([200, 500, 200]);
    let fields = json!({ "field_set": "raw", "max_in_flight": 1, "retry_schedule_s": "none" });
    let webhook = daemon.webhook(&receiver.url(), fields).await;
    let job = start(&daemon, json!({ "webhook_id": webhook["id"], "missing": true })).await;
    receiver.take(3).await;
    eventually("done", async || {
        daemon.clock.advance_ms(500);
        (daemon.get(&format!("/v1/replays/{}", text(&job, "id"))).await["status"] == "done").then_some(())
    })
    .await;
    assert_eq!(counts(&daemon.get(&format!("/v1/replays/{}", text(&job, "id"))).await), [3, 3, 2, 1]);
}

#[tokio::test]
async fn a_cancelled_delivery_of_a_job_is_counted_as_such() {
    let daemon = TestDaemon::start().await;
    for n in 0..3 {
        daemon.publish("a", json!(n)).await;
    }
    let receiver = Receiver::start().await;
    receiver.next_statuses([200, 500]);
    let fields = json!({ "field_set": "raw", "max_in_flight": 1, "retry_schedule_s": "none" });
    let webhook = daemon.webhook(&receiver.url(), fields).await;
    let id = text(&webhook, "id");
    daemon.post(&format!("/v1/webhooks/{id}/pause"), json!({})).await;
    let job = start(&daemon, json!({ "webhook_id": id, "missing": true })).await;
    let advancing = |job: &Value, name: &'static str, wanted: Value| {
        daemon.clock.advance_ms(500);
        job[name] == wanted
    };
    job_when(&daemon, &job, |job| advancing(job, "created", json!(3))).await;
    let made = daemon.get(&format!("/v1/deliveries?webhook_id={id}")).await;
    daemon.post(&format!("/v1/deliveries/{}/cancel", text(&made["data"][0], "id")), json!({})).await;
    daemon.post(&format!("/v1/webhooks/{id}/resume"), json!({})).await;
    receiver.take(2).await;
    let ended = job_when(&daemon, &job, |job| advancing(job, "status", json!("done"))).await;
    assert_eq!(counts(&ended), [3, 3, 1, 1]);
    assert_eq!(ended["cancelled"], 1, "{ended}");
}

#[tokio::test]
async fn erased_events_and_disabled_webhooks_are_left_out_of_a_replay() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(200)).await;
    let webhook = daemon.webhook(&receiver.url(), json!({})).await;
    let erased = daemon.publish("a", json!(1)).await;
    let kept = daemon.publish("a", json!(2)).await;
    daemon.delivery_in(&erased, "delivered").await;
    daemon.delivery_in(&kept, "delivered").await;
    assert_eq!(daemon.delete(&format!("/v1/events/{}/data", text(&erased, "id"))).await.status, 204);
    let spec = json!({ "webhook_id": webhook["id"] });
    assert_eq!(count_of(&daemon, spec).await, 1);
    let job = daemon.post_once("/v1/replays", "before", json!({ "webhook_id": webhook["id"] })).await.expect(202);
    daemon.patch(&format!("/v1/webhooks/{}", text(&webhook, "id")), json!({ "status": "disabled" })).await;
    let again = daemon.post_once("/v1/replays", "before", json!({ "webhook_id": webhook["id"] })).await.expect(202);
    assert_eq!(again["id"], job["id"], "the stored answer");
    for dry_run in [true, false] {
        let body = json!({ "webhook_id": webhook["id"], "dry_run": dry_run });
        assert_eq!(daemon.try_post("/v1/replays", body).await.expect(409)["code"], "webhook_disabled", "{dry_run}");
    }
    let of_app = json!({ "app_id": webhook["app_id"] });
    assert_eq!(count_of(&daemon, of_app).await, 0, "an app may have others");
    let delivery = daemon.deliveries(&kept).await.remove(0);
    let retry = daemon.try_post(&format!("/v1/deliveries/{}/retry", text(&delivery, "id")), json!({})).await;
    assert_eq!(retry.expect(409)["code"], "webhook_disabled");
}

#[tokio::test]
async fn a_job_over_an_app_goes_to_all_its_webhooks_and_to_no_others() {
    let daemon = TestDaemon::start().await;
    daemon.post("/v1/apps", json!({ "name": "second", "uid": "two" })).await;
    let (first, second, other) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    daemon.webhook(&first.url(), json!({ "app_id": "two" })).await;
    daemon.webhook(&second.url(), json!({ "app_id": "two", "event_types": ["b"] })).await;
    daemon.webhook(&other.url(), json!({})).await;
    let a = daemon.publish_with(json!({ "type": "a", "data": 1, "app_id": "two" })).await;
    let b = daemon.publish_with(json!({ "type": "b", "data": 1, "app_id": "two" })).await;
    daemon.publish("b", json!("of the other app")).await;
    first.take(2).await;
    second.next().await;
    eventually("delivered", async || {
        let rows = [daemon.deliveries(&a).await, daemon.deliveries(&b).await].concat();
        rows.iter().all(|row| row["status"] == "delivered").then_some(())
    })
    .await;
    let job = start(&daemon, json!({ "app_id": "two", "status": "delivered" })).await;
    assert_eq!((&job["webhook_id"], job["app_id"].is_string()), (&Value::Null, true));
    let again: Vec<String> = first.take(2).await.iter().map(|r| r.header("webhook-id").to_owned()).collect();
    assert_eq!(again, [text(&a, "id"), text(&b, "id")]);
    assert_eq!(second.next().await.header("webhook-id"), text(&b, "id"));
    assert_eq!(counts(&job_when(&daemon, &job, |job| job["delivered"] == 3).await), [3, 3, 3, 0]);
    assert_eq!(other.count(), 1);
}

#[tokio::test]
async fn a_job_of_one_webhook_ends_as_cancelled_once_the_webhook_is_disabled() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    for n in 0..6 {
        daemon.publish("m", json!(n)).await;
    }
    for is_gone in [false, true] {
        let webhook = daemon.webhook(&receiver.url(), json!({ "event_types": ["m"] })).await;
        let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
        let missing = json!({ "webhook_id": webhook["id"], "missing": true });
        let seen = receiver.count();
        let job = start(&daemon, json!({ "webhook_id": webhook["id"], "missing": true, "rate_per_s": 2 })).await;
        eventually("three of six", async || {
            daemon.clock.advance_ms(50);
            let made = daemon.get(&format!("/v1/replays/{}", text(&job, "id"))).await["delivered"].as_u64();
            (made >= Some(3)).then_some(())
        })
        .await;
        match is_gone {
            false => drop(daemon.patch(&path, json!({ "status": "disabled" })).await),
            true => receiver.always(Act::status(410)),
        }
        let job = eventually("an ended job", async || {
            daemon.clock.advance_ms(50);
            let job = daemon.get(&format!("/v1/replays/{}", text(&job, "id"))).await;
            (job["status"] != "running").then_some(job)
        })
        .await;
        assert_eq!((&job["status"], job["finished_at"].is_string()), (&json!("cancelled"), true), "{job}");
        let [matched, created, ..] = counts(&job);
        assert!((3..6).contains(&matched) && created == matched && job["position_at"].is_string(), "{job}");
        receiver.always(Act::status(200));
        daemon.patch(&path, json!({ "status": "enabled" })).await;
        let left = count_of(&daemon, missing).await;
        assert!((1..=3).contains(&left), "{left} are left");
        assert!(receiver.count() >= seen + 3);
        daemon.delete(&path).await;
    }
}

#[tokio::test]
async fn a_job_over_waiting_deliveries_is_cancelled_with_its_webhook() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [36_000] })).await;
    let mut events = Vec::new();
    for n in 0..4 {
        events.push(daemon.publish("a", json!(n)).await);
        daemon.delivery_in(&events[n], "retrying").await;
    }
    let job = start(&daemon, json!({ "webhook_id": webhook["id"], "waiting": true, "rate_per_s": 1 })).await;
    job_when(&daemon, &job, |job| job["matched"] == 1).await;
    daemon.delete(&format!("/v1/webhooks/{}", text(&webhook, "id"))).await;
    let job = eventually("an ended job", async || {
        daemon.clock.advance_ms(50);
        let job = daemon.get(&format!("/v1/replays/{}", text(&job, "id"))).await;
        (job["status"] != "running").then_some(job)
    })
    .await;
    assert_eq!(job["status"], "cancelled");
}
