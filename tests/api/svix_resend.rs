//! The shape of the Svix server: event types, names of one's own, and sending again by hand.

use http::Method;
use serde_json::{Value, json};

use super::svix::{app, call, endpoint, get, ids, message, post};
use crate::support::daemon::text;
use crate::support::{Receiver, TestDaemon, eventually};

/// A registered event type.
async fn event_type(daemon: &TestDaemon, name: &str) -> Value {
    post(daemon, "/event-type", json!({ "name": name, "description": "" }), 201).await
}

fn names(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|row| text(row, "name")).collect()
}

#[tokio::test]
async fn event_types_are_registered_archived_revived_and_removed() {
    let daemon = TestDaemon::start().await;
    let schemas = json!({ "1": { "type": "object", "examples": [{ "id": 7 }] } });
    let body =
        json!({ "name": "b.paid", "description": "d", "schemas": schemas, "featureFlag": "beta", "groupName": "g" });
    let made = post(&daemon, "/event-type", body.clone(), 201).await;
    assert_eq!((&made["schemas"], &made["featureFlag"]), (&schemas, &json!("beta")));
    assert_eq!((&made["featureFlags"], &made["archived"]), (&json!(["beta"]), &json!(false)));
    assert_eq!(call(&daemon, Method::POST, "/event-type", body.clone()).await.expect(409)["code"], "event_type_exists");
    event_type(&daemon, "a.sent").await;
    event_type(&daemon, "c.late").await;
    let page = get(&daemon, "/event-type?limit=2").await;
    assert_eq!(names(&page), ["a.sent", "b.paid"]);
    assert_eq!(
        (&page["iterator"], &page["prevIterator"], &page["done"]),
        (&json!("b.paid"), &json!("-a.sent"), &json!(false))
    );
    assert_eq!(page["data"][1]["schemas"], Value::Null);
    assert_eq!(get(&daemon, "/event-type?with_content=true").await["data"][1]["schemas"], schemas);
    assert_eq!(names(&get(&daemon, "/event-type?iterator=b.paid").await), ["c.late"]);
    assert_eq!(names(&get(&daemon, "/event-type?iterator=-c.late&limit=1").await), ["b.paid"]);
    let changed =
        call(&daemon, Method::PATCH, "/event-type/b.paid", json!({ "deprecated": true, "schemas": null })).await;
    let changed = changed.expect(200);
    assert_eq!(
        (&changed["deprecated"], &changed["schemas"], &changed["description"]),
        (&json!(true), &Value::Null, &json!("d"))
    );
    assert_eq!(call(&daemon, Method::DELETE, "/event-type/b.paid", Value::Null).await.status, 204);
    assert_eq!(names(&get(&daemon, "/event-type").await), ["a.sent", "c.late"]);
    assert_eq!(names(&get(&daemon, "/event-type?include_archived=true").await).len(), 3);
    assert_eq!(get(&daemon, "/event-type/b.paid").await["archived"], true);
    post(&daemon, "/event-type", body, 201).await;
    assert_eq!(call(&daemon, Method::DELETE, "/event-type/b.paid?expunge=true", Value::Null).await.status, 204);
    assert_eq!(call(&daemon, Method::GET, "/event-type/b.paid", Value::Null).await.status, 404);
    assert_eq!(call(&daemon, Method::PUT, "/event-type/d", json!({ "description": "x" })).await.status, 201);
    assert_eq!(call(&daemon, Method::PUT, "/event-type/d", json!({ "description": "y" })).await.status, 200);
    assert_eq!(call(&daemon, Method::PATCH, "/event-type/none", json!({})).await.status, 404);
    let wrong =
        call(&daemon, Method::POST, "/event-type", json!({ "name": "e", "description": "", "schemas": { "1": [] } }))
            .await;
    assert_eq!(wrong.expect(422)["detail"][0]["loc"], json!(["body", "schemas"]));
}

#[tokio::test]
async fn an_endpoint_names_live_event_types_only_and_a_portal_sees_its_flags() {
    let daemon = TestDaemon::start().await;
    app(&daemon, "acme").await;
    event_type(&daemon, "a").await;
    post(&daemon, "/event-type", json!({ "name": "b", "description": "", "featureFlag": "beta" }), 201).await;
    let at = "/app/acme/endpoint";
    let wrong =
        call(&daemon, Method::POST, at, json!({ "url": "http://127.0.0.1:8099", "eventTypes": ["a", "none"] })).await;
    assert!(text(&wrong.expect(422)["detail"][0], "msg").contains("none"));
    let made = post(&daemon, at, json!({ "url": "http://127.0.0.1:8099", "filterTypes": ["a"] }), 201).await;
    assert_eq!((&made["eventTypes"], &made["filterTypes"]), (&json!(["a"]), &json!(["a"])));
    call(&daemon, Method::DELETE, "/event-type/a", Value::Null).await;
    let path = format!("{at}/{}", text(&made, "id"));
    call(&daemon, Method::PATCH, &path, json!({ "filterTypes": ["a", "b"] })).await.expect(200);
    assert_eq!(
        call(&daemon, Method::PATCH, &path, json!({ "eventTypes": ["b"], "filterTypes": ["b"] })).await.status,
        422
    );
    for (flags, shown) in [(json!([]), 0), (json!(["beta"]), 1)] {
        let access = post(&daemon, "/auth/app-portal-access/acme", json!({ "featureFlags": flags }), 200).await;
        let portal = daemon.with_key(text(&access, "token"));
        assert_eq!(names(&get(&portal, "/event-type").await).len(), shown, "{flags}");
        assert_eq!(
            call(&portal, Method::POST, "/event-type", json!({ "name": "x", "description": "" })).await.status,
            403
        );
    }
}

#[tokio::test]
async fn a_uid_stands_for_an_id_and_metadata_is_kept() {
    let daemon = TestDaemon::start().await;
    let body = json!({ "name": "n", "uid": "acme", "metadata": { "plan": "pro" }, "rateLimit": 9 });
    let made = post(&daemon, "/app", body, 201).await;
    assert_eq!(
        (&made["metadata"], &made["throttleRate"], &made["rateLimit"]),
        (&json!({ "plan": "pro" }), &json!(9), &json!(9))
    );
    let changed =
        call(&daemon, Method::PATCH, "/app/acme", json!({ "metadata": null, "throttleRate": null })).await.expect(200);
    assert_eq!((&changed["metadata"], &changed["throttleRate"]), (&json!({}), &Value::Null));
    let body = json!({ "url": "http://127.0.0.1:8099", "uid": "one", "metadata": { "a": "b" } });
    let made = post(&daemon, "/app/acme/endpoint", body.clone(), 201).await;
    assert_eq!((&made["uid"], &made["metadata"], &made["version"]), (&json!("one"), &json!({ "a": "b" }), &json!(1)));
    assert_eq!(get(&daemon, "/app/acme/endpoint/one").await, made);
    assert_eq!(call(&daemon, Method::POST, "/app/acme/endpoint", body.clone()).await.expect(409)["code"], "conflict");
    app(&daemon, "other").await;
    post(&daemon, "/app/other/endpoint", body.clone(), 201).await;
    let put =
        call(&daemon, Method::PUT, "/app/acme/endpoint/two", json!({ "url": "http://127.0.0.1:8099", "uid": "two" }))
            .await;
    assert_eq!(put.expect(201)["uid"], "two");
    let put = call(&daemon, Method::PUT, "/app/acme/endpoint/one", json!({ "url": "http://127.0.0.1:8099" }))
        .await
        .expect(200);
    assert_eq!((&put["uid"], &put["metadata"]), (&Value::Null, &json!({})));
    post(&daemon, "/app/acme/endpoint", body, 201).await;
    for wrong in
        [json!({ "metadata": { "a": 1 } }), json!({ "uid": "ep_x" }), json!({ "metadata": { "a": "x".repeat(5_000) } })]
    {
        assert_eq!(call(&daemon, Method::PATCH, "/app/acme/endpoint/one", wrong).await.status, 422);
    }
}

#[tokio::test]
async fn a_message_is_sent_again_by_hand_and_its_answer_erased() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_statuses([500, 500]);
    app(&daemon, "acme").await;
    let endpoint = text(&endpoint(&daemon, "acme", &receiver).await, "id").to_owned();
    let made = message(&daemon, "acme", 1).await;
    let sent = receiver.next().await;
    assert_eq!(sent.header("svix-id"), text(&made, "id"));
    assert!(sent.header("svix-signature").starts_with("v1,") && !sent.has("webhook-id"));
    let at = format!("/app/acme/msg/{}", text(&made, "id"));
    let attempts = async |count: usize| {
        eventually("the attempts", async || {
            let page = get(&daemon, &format!("/app/acme/attempt/msg/{}", text(&made, "id"))).await;
            (page["data"].as_array().unwrap().len() == count).then_some(page)
        })
        .await
    };
    attempts(1).await;
    let resend = format!("{at}/endpoint/{endpoint}/resend");
    assert_eq!(post(&daemon, &resend, Value::Null, 202).await, json!({}));
    let again = receiver.next().await;
    assert_eq!((again.header("svix-id"), again.text()), (text(&made, "id"), sent.text()));
    let page = attempts(2).await;
    assert_eq!((&page["data"][0]["triggerType"], &page["data"][1]["triggerType"]), (&json!(1), &json!(0)));
    assert_eq!(page["data"][0]["status"], 2);
    let access = post(&daemon, "/auth/app-portal-access/acme", json!({}), 200).await;
    let portal = daemon.with_key(text(&access, "token"));
    post(&portal, &resend, Value::Null, 202).await;
    receiver.next().await;
    let page = attempts(3).await;
    assert_eq!(page["data"][0]["status"], 0);
    let row = get(&daemon, &format!("/app/acme/endpoint/{endpoint}/msg")).await;
    assert_eq!((row["data"].as_array().unwrap().len(), &row["data"][0]["status"]), (1, &json!(0)));
    let attempt = text(&page["data"][1], "id");
    assert_eq!(
        call(&daemon, Method::DELETE, &format!("{at}/attempt/{attempt}/content"), Value::Null).await.status,
        204
    );
    assert_eq!(get(&daemon, &format!("{at}/attempt/{attempt}")).await["response"], "EXPUNGED");
    assert_eq!(call(&daemon, Method::POST, &format!("{at}/endpoint/none/resend"), Value::Null).await.status, 404);
    call(&daemon, Method::PATCH, &format!("/app/acme/endpoint/{endpoint}"), json!({ "disabled": true }))
        .await
        .expect(200);
    let disabled = call(&daemon, Method::POST, &resend, Value::Null).await.expect(409);
    assert_eq!(disabled["code"], "endpoint_disabled");
    call(&daemon, Method::DELETE, &format!("{at}/content"), Value::Null).await;
    assert_eq!(call(&daemon, Method::POST, &resend, Value::Null).await.expect(400)["code"], "missing_payload");
}

#[tokio::test]
async fn an_example_goes_to_one_endpoint_only() {
    let daemon = TestDaemon::start().await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    app(&daemon, "acme").await;
    event_type(&daemon, "other.type").await;
    let schemas = json!({ "1": { "examples": [{ "id": 7 }, { "id": 8 }] } });
    post(&daemon, "/event-type", json!({ "name": "a.b", "description": "", "schemas": schemas }), 201).await;
    let body = json!({ "url": receiver.url(), "eventTypes": ["other.type"] });
    let made = post(&daemon, "/app/acme/endpoint", body, 201).await;
    endpoint(&daemon, "acme", &other).await;
    let path = format!("/app/acme/endpoint/{}/send-example", text(&made, "id"));
    let example = post(&daemon, &path, json!({ "eventType": "a.b" }), 200).await;
    assert_eq!(example["payload"], json!({}));
    assert_eq!(receiver.next().await.json(), json!({ "id": 7 }));
    post(&daemon, &path, json!({ "eventType": "svix.ping" }), 200).await;
    assert_eq!(receiver.next().await.json(), json!({ "success": true }));
    message(&daemon, "acme", 1).await;
    assert_eq!(other.next().await.json(), json!({ "n": 1 }), "the first message that the other endpoint gets");
    assert_eq!(call(&daemon, Method::POST, &path, json!({ "eventType": "none" })).await.status, 404);
    let none = call(&daemon, Method::POST, &path, json!({ "eventType": "other.type" })).await.expect(400);
    assert_eq!(none["code"], "invalid_scheme");
}

#[tokio::test]
async fn recovering_sends_failed_deliveries_and_those_that_wait_for_a_retry() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    let endpoint = text(&endpoint(&daemon, "acme", &receiver).await, "id").to_owned();
    receiver.next_statuses([410, 500]);
    let since = message(&daemon, "acme", 1).await["timestamp"].clone();
    receiver.next().await;
    let path = format!("/app/acme/endpoint/{endpoint}");
    eventually("the endpoint is disabled", async || (get(&daemon, &path).await["disabled"] == true).then_some(()))
        .await;
    call(&daemon, Method::PATCH, &path, json!({ "disabled": false })).await.expect(200);
    // A retry of its own would come too late for this test.
    let native = text(&daemon.get("/v1/webhooks").await["data"][0], "id").to_owned();
    daemon.patch(&format!("/v1/webhooks/{native}"), json!({ "retry_schedule_s": [3_600] })).await;
    message(&daemon, "acme", 2).await;
    receiver.next().await;
    eventually("the failed attempt", async || {
        let page = get(&daemon, &format!("/app/acme/attempt/endpoint/{endpoint}?status=2")).await;
        (page["data"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    let task = post(&daemon, &format!("{path}/recover"), json!({ "since": since }), 202).await;
    assert_eq!((&task["status"], &task["task"]), (&json!("running"), &json!("endpoint.recover")));
    assert!(text(&task, "id").starts_with("qtask_"));
    eventually("both are sent again", async || {
        daemon.advance_s(1);
        (receiver.count() == 4).then_some(())
    })
    .await;
    let mut sent: Vec<Value> = receiver.take(2).await.iter().map(|request| request.json()).collect();
    sent.sort_by_key(|payload| payload["n"].as_u64());
    assert_eq!(sent, [json!({ "n": 1 }), json!({ "n": 2 })]);
    eventually("both are delivered", async || {
        let page = get(&daemon, &format!("{path}/msg?status=0")).await;
        (ids(&page).len() == 2).then_some(())
    })
    .await;
    let early =
        call(&daemon, Method::POST, &format!("{path}/recover"), json!({ "since": "2020-01-01T00:00:00Z" })).await;
    assert_eq!(early.expect(422)["detail"][0]["loc"], json!(["body", "since"]));
}

#[tokio::test]
async fn tasks_are_begun_and_listed_and_tokens_end_together() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    let since = message(&daemon, "acme", 1).await["timestamp"].clone();
    let precheck = async |event_type: &str| {
        post(&daemon, "/app/acme/msg/precheck/active", json!({ "eventType": event_type }), 200).await["active"].clone()
    };
    assert_eq!(precheck("a.b").await, false);
    let endpoint = text(&endpoint(&daemon, "acme", &receiver).await, "id").to_owned();
    assert_eq!(precheck("a.b").await, true);
    let path = format!("/app/acme/endpoint/{endpoint}");
    let begun = post(&daemon, &format!("{path}/replay-missing"), json!({ "since": since }), 202).await;
    assert_eq!(begun["task"], "endpoint.replay");
    let at = format!("/background-task/{}", text(&begun, "id"));
    let ended = eventually("the end of the task", async || {
        daemon.advance_s(1);
        let task = get(&daemon, &at).await;
        (task["status"] == "finished").then_some(task)
    })
    .await;
    assert_eq!(receiver.next().await.json(), json!({ "n": 1 }));
    assert_eq!(ended["data"], json!({ "matched": 1, "sent": 1, "delivered": 1, "failed": 0 }));
    let again = json!({ "since": since, "status": 0, "eventTypes": ["a.b"] });
    post(&daemon, &format!("{path}/bulk-replay"), again, 202).await;
    assert_eq!(ids(&get(&daemon, "/background-task?task=endpoint.bulk-replay").await).len(), 1);
    let all = ids(&get(&daemon, "/background-task").await);
    assert_eq!(ids(&get(&daemon, &format!("/background-task?iterator={}", all[0])).await), all[1..]);
    let refused = json!({ "since": since, "status": 3 });
    assert_eq!(call(&daemon, Method::POST, &format!("{path}/bulk-replay"), refused).await.status, 422);
    let stats = get(&daemon, &format!("{path}/attempt-stats")).await;
    assert_eq!((&stats["fail"], &stats["canceled"]), (&json!(0), &json!(0)));
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let access = post(&daemon, "/auth/app-portal-access/acme", json!({}), 200).await;
        tokens.push(daemon.with_key(text(&access, "token")));
    }
    assert_eq!(call(&daemon, Method::POST, "/auth/app/acme/expire-all", json!({})).await.status, 204);
    for portal in &tokens {
        assert_eq!(call(portal, Method::GET, "/app/acme", Value::Null).await.status, 401);
    }
}
