//! The shape of the Svix server where a request cannot be done as it was meant: it is refused, in the names of this API.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::svix::{app, call, endpoint, get, ids, message, post};
use crate::support::daemon::text;
use crate::support::{Receiver, TestDaemon, eventually};

/// The places of the mistakes of a 422, each as its last part.
async fn mistakes(daemon: &TestDaemon, method: Method, path: &str, body: Value) -> Vec<(String, String)> {
    let refused = call(daemon, method, path, body).await.expect(422);
    let one = |mistake: &Value| {
        let loc = mistake["loc"].as_array().unwrap();
        assert_eq!(loc[0], "body", "{mistake}");
        let names: Vec<&str> = loc[1..].iter().map(|part| part.as_str().unwrap()).collect();
        (names.join("."), text(mistake, "msg").to_owned())
    };
    refused["detail"].as_array().unwrap().iter().map(one).collect()
}

fn places(mistakes: &[(String, String)]) -> Vec<&str> {
    mistakes.iter().map(|(place, _)| place.as_str()).collect()
}

#[tokio::test]
async fn a_replay_is_refused_with_conditions_that_it_cannot_heed_and_with_an_empty_span() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    let made = endpoint(&daemon, "acme", &receiver).await;
    let path = format!("/app/acme/endpoint/{}", text(&made, "id"));
    let since = message(&daemon, "acme", 1).await["timestamp"].clone();
    receiver.next().await;
    let bulk = format!("{path}/bulk-replay");
    for name in ["tag", "channel"] {
        let found = mistakes(&daemon, Method::POST, &bulk, json!({ "since": since, name: "x" })).await;
        assert_eq!(places(&found), [name]);
    }
    for class in [150, 404, 600, 0] {
        let body = json!({ "since": since, "statusCodeClass": class });
        let found = mistakes(&daemon, Method::POST, &bulk, body).await;
        assert_eq!(found, [("statusCodeClass".to_owned(), "must be 100, 200, 300, 400 or 500".to_owned())]);
    }
    let found = mistakes(&daemon, Method::POST, &bulk, json!({ "since": since, "status": 7 })).await;
    assert_eq!(found[0].1, "must be 0, 2 or 4: only what has ended is sent again");
    for route in ["recover", "replay-missing", "bulk-replay"] {
        let at = format!("{path}/{route}");
        for body in
            [json!({ "since": "2100-01-01T00:00:00Z" }), json!({ "since": since, "until": "2020-01-01T00:00:00Z" })]
        {
            assert_eq!(places(&mistakes(&daemon, Method::POST, &at, body).await), ["since"], "{route}");
        }
    }
    assert_eq!(ids(&get(&daemon, "/background-task").await), Vec::<String>::new());
    let example = format!("{path}/send-example");
    let found = mistakes(&daemon, Method::POST, &example, json!({ "eventType": "svix.ping", "payload": {} })).await;
    assert_eq!(places(&found), ["payload"]);
    let expire = "/auth/app/acme/expire-all";
    assert_eq!(places(&mistakes(&daemon, Method::POST, expire, json!({ "sessionIds": ["s"] })).await), ["sessionIds"]);
    for body in [Value::Null, json!({}), json!({ "sessionIds": [] })] {
        assert_eq!(call(&daemon, Method::POST, expire, body).await.status, 204);
    }
}

#[tokio::test]
async fn nothing_is_sent_again_to_a_disabled_endpoint() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    let made = endpoint(&daemon, "acme", &receiver).await;
    let path = format!("/app/acme/endpoint/{}", text(&made, "id"));
    let sent = message(&daemon, "acme", 1).await;
    receiver.next().await;
    let since = json!({ "since": sent["timestamp"] });
    let once = async || {
        let at = format!("/api/v1{path}/recover");
        daemon.call(Method::POST, &at, &[("idempotency-key", "k")], since.to_string()).await
    };
    let first = once().await.expect(202);
    call(&daemon, Method::PATCH, &path, json!({ "disabled": true })).await.expect(200);
    let resend = format!("/app/acme/msg/{}/endpoint/{}/resend", text(&sent, "id"), text(&made, "id"));
    for (at, body) in [
        (format!("{path}/recover"), since.clone()),
        (format!("{path}/replay-missing"), since.clone()),
        (format!("{path}/bulk-replay"), since.clone()),
        (format!("{path}/send-example"), json!({ "eventType": "svix.ping" })),
        (resend, Value::Null),
    ] {
        let refused = call(&daemon, Method::POST, &at, body).await.expect(409);
        let detail = "the endpoint is disabled: enable it first";
        assert_eq!(refused, json!({ "code": "endpoint_disabled", "detail": detail }), "{at}");
    }
    assert_eq!(once().await.expect(202)["id"], first["id"], "the first answer again");
    assert_eq!(ids(&get(&daemon, "/background-task").await).len(), 1);
}

#[tokio::test]
async fn a_patch_with_a_secret_is_refused_and_a_rotation_is_told_as_the_sdk_reads_it() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    let path = format!("/app/acme/endpoint/{}", text(&endpoint(&daemon, "acme", &receiver).await, "id"));
    let secret = get(&daemon, &format!("{path}/secret")).await;
    let body = json!({ "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "disabled": true });
    let found = mistakes(&daemon, Method::PATCH, &path, body).await;
    assert_eq!((places(&found), found[0].1.contains("secret/rotate")), (vec!["secret"], true));
    assert_eq!(get(&daemon, &path).await["disabled"], false);
    call(&daemon, Method::PATCH, &path, json!({ "secret": null })).await.expect(200);
    assert_eq!(get(&daemon, &format!("{path}/secret")).await, secret);
    for (agent, status) in [("svix-libs/1.56.0/python", 204), ("svix-libs/1.57.0/python", 200), ("curl/8.5.0", 200)] {
        let at = format!("/api/v1{path}/secret/rotate");
        let answer = daemon.call(Method::POST, &at, &[("user-agent", agent)], "{}").await;
        assert_eq!(answer.status, status, "{agent}");
        let key = get(&daemon, &format!("{path}/secret")).await["key"].clone();
        assert!(answer.body.is_empty() || answer.json()["key"] == key, "{agent}");
    }
    for n in 0..10 {
        let answer = call(&daemon, Method::POST, &format!("{path}/secret/rotate"), Value::Null).await;
        if answer.status != 200 {
            let refused = answer.expect(400);
            assert_eq!(refused["code"], "limit_reached");
            assert!(text(&refused, "detail").contains("gracePeriodSeconds"), "{refused}");
            return;
        }
        assert!(n < 9, "more than ten old secrets sign");
    }
}

#[tokio::test]
async fn an_endpoint_that_was_made_natively_is_sent_back_as_it_is_shown() {
    let daemon = TestDaemon::start().await;
    app(&daemon, "acme").await;
    post(&daemon, "/event-type", json!({ "name": "known", "description": "" }), 201).await;
    let app = daemon.get("/v1/apps").await["data"].as_array().unwrap().iter().find(|app| app["uid"] == "acme").cloned();
    let app = app.unwrap()["id"].clone();
    let channels: Vec<String> = (0..12).map(|n| format!("channel-{n:02}")).collect();
    let native = json!({
        "app_id": app, "uid": "one", "event_types": ["*", "a.*", "b.**", "c"], "channels": channels,
        "rate_limit_per_s": 0.5,
    });
    let native = daemon.webhook("http://127.0.0.1:8099/", native).await;
    let stored = format!("/v1/webhooks/{}", text(&native, "id"));
    let before = daemon.get(&stored).await;
    let path = "/app/acme/endpoint/one";
    let shown = get(&daemon, path).await;
    for method in [Method::PUT, Method::PATCH] {
        let mut body = shown.clone();
        body["filterTypes"] = Value::Null;
        let mut after = call(&daemon, method, path, body).await.expect(200);
        after["updatedAt"] = shown["updatedAt"].clone();
        assert_eq!(after, shown);
        assert_eq!(daemon.get(&stored).await["rate_limit_per_s"], before["rate_limit_per_s"]);
    }
    let more = json!({ "eventTypes": ["a.*", "known"], "channels": ["channel-03"], "throttleRate": 2 });
    let after = call(&daemon, Method::PATCH, path, more).await.expect(200);
    assert_eq!((&after["eventTypes"], &after["throttleRate"]), (&json!(["a.*", "known"]), &json!(2)));
    let found = mistakes(&daemon, Method::PATCH, path, json!({ "eventTypes": ["a.*", "d.*"] })).await;
    assert_eq!(places(&found), ["eventTypes.[1]"]);
}

#[tokio::test]
async fn mistakes_that_the_store_finds_are_in_the_names_of_this_api() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    endpoint(&daemon, "acme", &receiver).await;
    let late = |uid: &str| {
        let application = json!({ "name": uid, "uid": uid });
        json!({ "eventType": "a.b", "payload": {}, "deliverAt": "2100-01-01T00:00:00Z", "application": application })
    };
    for uid in ["acme", "new"] {
        let found = mistakes(&daemon, Method::POST, &format!("/app/{uid}/msg"), late(uid)).await;
        assert_eq!(places(&found), ["deliverAt"], "{uid}");
    }
    let named = |n: usize| json!({ "eventType": "a.b", "payload": { "n": n }, "eventId": "id1" });
    post(&daemon, "/app/acme/msg", named(1), 202).await;
    for n in [1, 2] {
        let refused = call(&daemon, Method::POST, "/app/acme/msg", named(n)).await.expect(409);
        assert_eq!(refused, json!({ "code": "conflict", "detail": "a message with this eventId exists already" }));
    }
    let url = json!({ "url": "http://me:secret@127.0.0.1:8099/" });
    let found = mistakes(&daemon, Method::POST, "/app/acme/endpoint", url).await;
    assert_eq!(found, [("url".to_owned(), "must not have user information: credentials belong in headers".to_owned())]);
    for limit in ["-1", "x", "1.5"] {
        let refused = call(&daemon, Method::GET, &format!("/app?limit={limit}"), Value::Null).await.expect(400);
        assert_eq!(refused["detail"], "limit must be a whole number from 1 to 250");
    }
}

#[tokio::test]
async fn of_requests_that_make_one_app_together_one_gets_201() {
    let daemon = TestDaemon::start().await;
    let client = Arc::new(daemon.client.clone());
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let client = client.clone();
        requests.spawn(async move {
            let body = json!({ "name": "new", "uid": "new" });
            let answer = call(&client, Method::POST, "/app?get_if_exists=true", body).await;
            (answer.status.as_u16(), answer.json()["id"].clone())
        });
    }
    let answers = requests.join_all().await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|(status, id)| matches!(status, 200 | 201) && *id == answers[0].1));
}

#[tokio::test]
async fn a_task_counts_the_deliveries_that_it_made() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    let made = endpoint(&daemon, "acme", &receiver).await;
    let path = format!("/app/acme/endpoint/{}", text(&made, "id"));
    receiver.next_statuses([500]);
    let since = json!({ "since": message(&daemon, "acme", 1).await["timestamp"] });
    receiver.next().await;
    eventually("the failed attempt", async || {
        let page = get(&daemon, &format!("/app/acme/attempt/endpoint/{}?status=2", text(&made, "id"))).await;
        (ids(&page).len() == 1).then_some(())
    })
    .await;
    let task = post(&daemon, &format!("{path}/recover"), since, 202).await;
    let ended = eventually("the end of the task", async || {
        daemon.advance_s(1);
        let task = get(&daemon, &format!("/background-task/{}", text(&task, "id"))).await;
        (task["status"] == "finished").then_some(task)
    })
    .await;
    receiver.next().await;
    assert_eq!(ended["data"], json!({ "matched": 1, "sent": 0, "delivered": 0, "failed": 0 }), "it waited for a retry");
}
