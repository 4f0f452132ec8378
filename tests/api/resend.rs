//! Acting by hand: sending one event to one webhook, erasing one answer, and the names of an object besides its id.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Act, Receiver, TestDaemon, eventually};

/// The deliveries of an event to one webhook.
async fn deliveries_to(daemon: &TestDaemon, event: &Value, webhook: &Value) -> Vec<Value> {
    let rows = daemon.deliveries(event).await.into_iter();
    rows.filter(|row| row["webhook_id"] == webhook["id"]).collect()
}

/// The delivery once it is wanted.
async fn delivery_when(daemon: &TestDaemon, delivery: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
    let path = format!("/v1/deliveries/{}", text(delivery, "id"));
    eventually("the delivery", async || Some(daemon.get(&path).await).filter(&wanted)).await
}

#[tokio::test]
async fn an_event_is_sent_once_to_a_webhook_that_never_wanted_it() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let fields = json!({ "event_types": ["never"], "channels": ["none"], "retry_schedule_s": [5, 5] });
    let webhook = daemon.webhook(&receiver.url(), fields).await;
    let event = daemon.publish("a.b", json!({ "n": 1 })).await;
    assert_eq!(deliveries_to(&daemon, &event, &webhook).await, Vec::<Value>::new());
    let path = format!("/v1/events/{}/resend", text(&event, "id"));
    let sent = daemon.try_post(&path, json!({ "webhook_id": webhook["id"] })).await.expect(202);
    assert_eq!((&sent["resend"], &sent["replay_of"]), (&json!(true), &Value::Null));
    assert_eq!(receiver.next().await.json()["data"], json!({ "n": 1 }));
    let failed = daemon.delivery_in(&event, "failed").await;
    assert_eq!(failed["id"], sent["id"]);
    assert_eq!(daemon.attempts(&failed).await[0]["trigger"], "manual");
    daemon.advance_s(3_600);
    receiver.always(Act::status(200));
    let again = daemon.try_post(&path, json!({ "webhook_id": webhook["id"] })).await.expect(202);
    assert_eq!(again["replay_of"], failed["id"]);
    receiver.next().await;
    delivery_when(&daemon, &again, |row| row["status"] == "delivered").await;
    assert_eq!(receiver.count(), 2, "a failed one is not sent again by itself");
    let audit = daemon.get("/v1/audit?action=event.resend").await;
    assert_eq!(audit["data"].as_array().map(Vec::len), Some(2));
    let target = text(&audit["data"][0], "target");
    let of_target = daemon.get(&format!("/v1/audit?target={target}")).await;
    assert_eq!(of_target["data"][0], audit["data"][0]);
    assert_eq!(daemon.get(&format!("/v1/audit?target=evt_{target}")).await, of_target, "with its prefix");
}

#[tokio::test]
async fn a_resend_leaves_the_running_schedule_alone_and_survives_a_restart() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [60] })).await;
    let event = daemon.publish("a", json!(1)).await;
    let planned = daemon.delivery_in(&event, "retrying").await;
    let paused = format!("/v1/webhooks/{}/pause", text(&webhook, "id"));
    daemon.post(&paused, json!({})).await;
    let path = format!("/v1/events/{}/resend", text(&event, "id"));
    let sent = daemon.try_post(&path, json!({ "webhook_id": webhook["id"] })).await.expect(202);
    assert_eq!(sent["waiting_for"]["reason"], "paused", "{sent}");
    daemon.restart().await;
    daemon.post(&format!("/v1/webhooks/{}/resume", text(&webhook, "id")), json!({})).await;
    delivery_when(&daemon, &sent, |row| row["status"] == "failed").await;
    let own = delivery_when(&daemon, &planned, |_| true).await;
    assert_eq!((&own["status"], &own["next_attempt_at"]), (&json!("retrying"), &planned["next_attempt_at"]));
    daemon.advance_s(70);
    delivery_when(&daemon, &planned, |row| row["status"] == "failed").await;
    assert_eq!(receiver.count(), 3);
}

#[tokio::test]
async fn an_event_that_cannot_be_sent_again_is_refused() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "event_types": ["none"] })).await;
    let app = daemon.post("/v1/apps", json!({ "name": "other" })).await;
    let foreign = daemon.webhook(&receiver.url(), json!({ "app_id": app["id"] })).await;
    let event = daemon.publish("a", json!(1)).await;
    let path = format!("/v1/events/{}/resend", text(&event, "id"));
    let refused = daemon.try_post(&path, json!({ "webhook_id": foreign["id"] })).await.expect(422);
    assert_eq!(refused["errors"][0]["pointer"], "/webhook_id", "{refused}");
    daemon.try_post(&path, json!({})).await.expect(422);
    let own = format!("/v1/webhooks/{}", text(&webhook, "id"));
    daemon.patch(&own, json!({ "status": "disabled" })).await;
    let refused = daemon.try_post(&path, json!({ "webhook_id": webhook["id"] })).await.expect(409);
    assert_eq!(refused["code"], "webhook_disabled");
    daemon.patch(&own, json!({ "status": "enabled" })).await;
    assert_eq!(daemon.delete(&format!("/v1/events/{}/data", text(&event, "id"))).await.status, 204);
    let refused = daemon.try_post(&path, json!({ "webhook_id": webhook["id"] })).await.expect(409);
    assert_eq!(refused["code"], "event_erased");
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn a_key_may_send_again_without_being_able_to_publish() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({})).await;
    let event = daemon.publish("a", json!(1)).await;
    let delivery = daemon.delivery_in(&event, "delivered").await;
    let scopes = json!(["events:read", "deliveries:retry"]);
    let made = daemon.post("/v1/keys", json!({ "name": "portal", "scopes": scopes })).await;
    let portal = daemon.with_key(text(&made, "key"));
    let again = format!("/v1/deliveries/{}/retry", text(&delivery, "id"));
    portal.try_post(&again, json!({})).await.expect(202);
    let resend = format!("/v1/events/{}/resend", text(&event, "id"));
    portal.try_post(&resend, json!({ "webhook_id": webhook["id"] })).await.expect(202);
    let replay = portal.try_post("/v1/replays", json!({ "webhook_id": webhook["id"], "dry_run": true })).await;
    assert_eq!(replay.status, 200);
    let refused = portal.try_post("/v1/events", json!({ "type": "a", "data": 1 })).await.expect(403);
    assert_eq!(refused["code"], "scope_missing");
    assert_eq!(portal.delete(&format!("/v1/events/{}/data", text(&event, "id"))).await.status, 403);
    // `events:write` contains the scope, so its holder may also give it.
    let writer = daemon.post("/v1/keys", json!({ "name": "w", "scopes": ["events:write", "keys:write"] })).await;
    let writer = daemon.with_key(text(&writer, "key"));
    writer.try_post(&again, json!({})).await.expect(202);
    let given = json!({ "name": "p", "scopes": ["deliveries:retry"] });
    writer.try_post("/v1/keys", given).await.expect(201);
}

#[tokio::test]
async fn one_answer_is_erased_and_the_others_stay() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let secret = b"a-very-secret-answer";
    receiver.next_acts([Act::Answer(500, vec![("x-secret", "in-a-header".into())], secret.to_vec())]);
    receiver.always(Act::Answer(200, Vec::new(), b"fine".to_vec()));
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [5] })).await;
    let event = daemon.publish("a", json!(1)).await;
    daemon.delivery_in(&event, "retrying").await;
    daemon.advance_s(10);
    let delivery = daemon.delivery_in(&event, "delivered").await;
    let attempts = daemon.attempts(&delivery).await;
    let path = format!("/v1/attempts/{}", text(&attempts[0], "id"));
    assert_eq!(daemon.delete(&format!("{path}/response")).await.status, 204);
    assert_eq!(daemon.delete(&format!("{path}/response")).await.status, 204, "again is the same");
    daemon.restart().await;
    let erased = daemon.get(&path).await;
    assert!(!erased.to_string().contains("secret-answer") && !erased.to_string().contains("in-a-header"), "{erased}");
    assert_eq!((&erased["response_body"], &erased["response_headers"]), (&Value::Null, &json!({})));
    assert!(erased["response_erased_at"].is_string() && erased["status_code"] == 500);
    let other = daemon.get(&format!("/v1/attempts/{}", text(&attempts[1], "id"))).await;
    assert_eq!((&other["response_body"], &other["response_erased_at"]), (&json!("fine"), &Value::Null));
    let unknown = "/v1/attempts/019cbd70-9d78-7320-aa3a-de3497964cb8/response";
    assert_eq!(daemon.delete(unknown).await.status, 404);
    assert_eq!(daemon.get("/v1/audit?action=attempt.erase").await["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_webhook_answers_to_its_uid_which_is_free_after_its_end() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let fields = json!({ "uid": "main.1", "metadata": { "plan": "gold" } });
    let webhook = daemon.webhook(&receiver.url(), fields.clone()).await;
    assert_eq!((&webhook["uid"], &webhook["metadata"]), (&fields["uid"], &fields["metadata"]));
    let app = daemon.post("/v1/apps", json!({ "name": "other", "uid": "other" })).await;
    let elsewhere = json!({ "url": receiver.url(), "uid": "main.1", "app_id": "other" });
    let foreign = daemon.try_post("/v1/webhooks", elsewhere).await.expect(201);
    let taken = json!({ "url": receiver.url(), "uid": "main.1" });
    assert_eq!(daemon.try_post("/v1/webhooks", taken.clone()).await.expect(409)["code"], "uid_taken");
    daemon.restart().await;
    assert_eq!(daemon.get("/v1/webhooks/main.1").await["id"], webhook["id"]);
    let key = json!({ "name": "k", "scopes": ["webhooks:read"], "app_id": app["id"] });
    let key = daemon.post("/v1/keys", key).await;
    let own = daemon.with_key(text(&key, "key"));
    assert_eq!(own.get("/v1/webhooks/main.1").await["id"], foreign["id"], "each app has its own");
    let patched = daemon.patch("/v1/webhooks/main.1", json!({ "metadata": { "plan": null, "a": "b" } })).await;
    assert_eq!(patched["metadata"], json!({ "a": "b" }));
    let other = daemon.webhook(&receiver.url(), json!({})).await;
    let other = format!("/v1/webhooks/{}", text(&other, "id"));
    let merge = [("content-type", "application/merge-patch+json")];
    let refused = daemon.call(http::Method::PATCH, &other, &merge, r#"{"uid":"main.1"}"#).await;
    assert_eq!(refused.expect(409)["code"], "uid_taken");
    daemon.patch("/v1/webhooks/main.1", json!({ "uid": "renamed" })).await;
    assert_eq!(daemon.try_get("/v1/webhooks/main.1").await.status, 404);
    assert_eq!(daemon.patch(&other, json!({ "uid": "main.1" })).await["uid"], "main.1");
    assert_eq!(daemon.delete("/v1/webhooks/main.1").await.status, 204);
    daemon.try_post("/v1/webhooks", taken).await.expect(201);
}

#[tokio::test]
async fn an_event_answers_to_its_event_id_for_as_long_as_it_is_kept() {
    let daemon = TestDaemon::with(|settings| {
        settings.retention_ms = 10 * 86_400_000;
        settings.idempotency_window_ms = 3_600_000;
    })
    .await;
    let event = daemon.publish_with(json!({ "type": "a", "data": 1, "event_id": "order/1 ä" })).await;
    daemon.post("/v1/apps", json!({ "name": "other", "uid": "other" })).await;
    daemon.publish_with(json!({ "type": "a", "data": 2, "event_id": "order/1 ä", "app_id": "other" })).await;
    daemon.advance_s(5 * 86_400);
    let path = "/v1/events/order%2F1%20%C3%A4";
    assert_eq!(daemon.get(path).await["id"], event["id"], "long after the window, and of the key's app");
    let longest = "e".repeat(256);
    let long = daemon.publish_with(json!({ "type": "a".repeat(256), "data": 1, "event_id": longest })).await;
    assert_eq!(daemon.get(&format!("/v1/events/{longest}")).await["id"], long["id"]);
    assert_eq!(daemon.try_get("/v1/events/unknown").await.status, 404);
    daemon.advance_s(5 * 86_400 + 60);
    assert_eq!(daemon.try_get(path).await.status, 404);
}

#[tokio::test]
async fn an_apps_rate_holds_over_all_its_webhooks() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::timed(&daemon.clock).await;
    let app = daemon.post("/v1/apps", json!({ "name": "slow", "uid": "slow", "throttle_rate_per_s": 2 })).await;
    assert_eq!(app["throttle_rate_per_s"], 2.0);
    let free = Receiver::start().await;
    daemon.webhook(&free.url(), json!({})).await;
    for _ in 0..3 {
        daemon.webhook(&receiver.url(), json!({ "app_id": "slow" })).await;
    }
    for n in 0..2 {
        daemon.publish_with(json!({ "type": "a", "data": n, "app_id": "slow" })).await;
        daemon.publish("a", json!(n)).await;
    }
    free.take(2).await;
    let mut times = vec![receiver.next().await.at.unwrap()];
    for _ in 0..5 {
        // One millisecond before its time nothing is sent, so the next request has the right time.
        daemon.clock.advance_ms(499);
        daemon.clock.advance_ms(1);
        times.push(receiver.next().await.at.unwrap());
    }
    let waits: Vec<i64> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert_eq!(waits, [500; 5]);
    // A higher rate holds at once.
    for n in 0..2 {
        daemon.publish_with(json!({ "type": "a", "data": n, "app_id": "slow" })).await;
    }
    daemon.patch("/v1/apps/slow", json!({ "throttle_rate_per_s": null })).await;
    receiver.take(6).await;
    assert_eq!(daemon.get("/v1/apps/slow").await["throttle_rate_per_s"], Value::Null);
}

#[tokio::test]
async fn svixs_scheme_signs_the_id_that_svixs_shape_shows() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_statuses([500, 200]);
    let fields = json!({ "signature": ["svix"], "retry_schedule_s": "svix", "headers": { "X-One": "1" } });
    let webhook = daemon.webhook(&receiver.url(), fields).await;
    assert_eq!(webhook["retry_schedule_s"], json!([5, 300, 1_800, 7_200, 18_000, 36_000, 36_000]));
    let event = daemon.publish("a", json!(1)).await;
    let first = receiver.next().await;
    let id = first.header("svix-id").to_owned();
    let uuid: postrider::model::EventId = text(&event, "id").parse().unwrap();
    assert_eq!(postrider::model::ksuid::decode(id.strip_prefix("msg_").unwrap()), Some(uuid.as_u128()));
    assert!(first.headers.contains(&("X-One".to_owned(), "1".to_owned())), "in the case given: {first:?}");
    assert!(!first.has("webhook-id") && !first.has("webhook-signature"), "{first:?}");
    assert!(is_signed(&first, "svix", text(&webhook, "secret")));
    daemon.delivery_in(&event, "retrying").await;
    daemon.advance_s(10);
    let second = receiver.next().await;
    assert_eq!(second.header("svix-id"), id, "the same with every attempt");
    daemon.delivery_in(&event, "delivered").await;
    daemon.post(&format!("/v1/events/{}/resend", text(&event, "id")), json!({ "webhook_id": webhook["id"] })).await;
    let third = receiver.next().await;
    assert_eq!(third.header("svix-id"), id, "and with a resend");
    let rotated = daemon.post(&format!("/v1/webhooks/{}/rotate-secret", text(&webhook, "id")), json!({})).await;
    daemon.publish("a", json!(2)).await;
    let both = receiver.next().await;
    assert_eq!(both.header("svix-signature").split(' ').count(), 2);
    for secret in [text(&webhook, "secret"), text(&rotated, "secret")] {
        assert!(is_signed(&both, "svix", secret));
    }
    let both = json!({ "url": receiver.url(), "signature": ["svix", "standard"] });
    daemon.try_post("/v1/webhooks", both).await.expect(422);
}

#[tokio::test]
async fn with_whitelabel_svixs_scheme_has_the_names_of_standard_webhooks() {
    let daemon = TestDaemon::with(|settings| settings.svix_whitelabel = true).await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "signature": ["svix"] })).await;
    daemon.publish("a", json!(1)).await;
    let request = receiver.next().await;
    assert!(request.header("webhook-id").starts_with("msg_") && !request.has("svix-id"), "{request:?}");
    assert!(is_signed(&request, "webhook", text(&webhook, "secret")));
}

/// Whether one of the `v1` signatures under headers of this prefix is of the secret.
fn is_signed(request: &crate::support::Request, prefix: &str, secret: &str) -> bool {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ring::hmac;
    let header = |name: &str| request.header(&format!("{prefix}-{name}"));
    let text = [format!("{}.{}.", header("id"), header("timestamp")).as_bytes(), &request.body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap());
    let right = format!("v1,{}", STANDARD.encode(hmac::sign(&key, &text)));
    header("signature").split(' ').any(|given| given == right)
}
