//! The shape of the Svix server where requests meet: races, repeated resends, expired tokens, and large pages.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::svix::{app, call, endpoint, get, ids, message, post};
use crate::support::daemon::text;
use crate::support::{Receiver, TestDaemon, eventually};

/// The attempts of a message, once there are so many.
async fn attempts(daemon: &TestDaemon, message: &Value, count: usize) -> Value {
    eventually("the attempts", async || {
        let page = get(daemon, &format!("/app/acme/attempt/msg/{}", text(message, "id"))).await;
        (page["data"].as_array().unwrap().len() == count).then_some(page)
    })
    .await
}

async fn ended(daemon: &TestDaemon, task: &Value) -> Value {
    let at = format!("/background-task/{}", text(task, "id"));
    eventually("the end of the task", async || {
        daemon.advance_s(1);
        let task = get(daemon, &at).await;
        (task["status"] == "finished").then_some(task)
    })
    .await
}

/// The native id of the only webhook.
async fn native_webhook(daemon: &TestDaemon) -> String {
    text(&daemon.get("/v1/webhooks").await["data"][0], "id").to_owned()
}

#[tokio::test]
async fn a_failed_resend_neither_ends_a_delivered_message_nor_exhausts_it() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    let endpoint = text(&endpoint(&daemon, "acme", &receiver).await, "id").to_owned();
    let made = message(&daemon, "acme", 1).await;
    receiver.next().await;
    attempts(&daemon, &made, 1).await;
    receiver.next_statuses([500]);
    let resend = format!("/app/acme/msg/{}/endpoint/{endpoint}/resend", text(&made, "id"));
    post(&daemon, &resend, Value::Null, 202).await;
    receiver.next().await;
    attempts(&daemon, &made, 2).await;
    let since = json!({ "since": made["timestamp"] });
    let task = post(&daemon, &format!("/app/acme/endpoint/{endpoint}/recover"), since, 202).await;
    assert_eq!(ended(&daemon, &task).await["data"]["matched"], 0);
    let spec = json!({ "webhook_id": native_webhook(&daemon).await, "status": "failed", "dry_run": true });
    assert_eq!(daemon.post("/v1/replays", spec).await["matched"], 0);
    assert_eq!(receiver.count(), 2, "the message was delivered already");
    let told = daemon.get("/v1/events?type=postrider.delivery.exhausted").await;
    assert_eq!(told["data"], json!([]), "a resend has no schedule");
}

#[tokio::test]
async fn events_of_the_daemon_are_no_messages_of_an_application() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    endpoint(&daemon, "acme", &receiver).await;
    let native = native_webhook(&daemon).await;
    daemon.patch(&format!("/v1/webhooks/{native}"), json!({ "retry_schedule_s": [] })).await;
    receiver.next_statuses([500]);
    let made = message(&daemon, "acme", 1).await;
    attempts(&daemon, &made, 1).await;
    let told = "/v1/events?type=postrider.delivery.exhausted";
    let told = async || (daemon.get(told).await["data"] != json!([])).then_some(());
    eventually("the event of the daemon", told).await;
    for query in ["", "?event_types=postrider.delivery.exhausted"] {
        let listed = get(&daemon, &format!("/app/acme/msg{query}")).await;
        let ids: Vec<&str> = listed["data"].as_array().expect("a list").iter().map(|one| text(one, "id")).collect();
        assert_eq!(ids, if query.is_empty() { vec![text(&made, "id")] } else { Vec::new() }, "{listed}");
    }
}

#[tokio::test]
async fn a_job_over_waiting_deliveries_leaves_out_those_that_a_resend_delivered() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    let endpoint = text(&endpoint(&daemon, "acme", &receiver).await, "id").to_owned();
    let native = native_webhook(&daemon).await;
    daemon.patch(&format!("/v1/webhooks/{native}"), json!({ "retry_schedule_s": [86_400] })).await;
    receiver.next_statuses([500]);
    let made = message(&daemon, "acme", 1).await;
    receiver.next().await;
    attempts(&daemon, &made, 1).await;
    let resend = format!("/app/acme/msg/{}/endpoint/{endpoint}/resend", text(&made, "id"));
    post(&daemon, &resend, Value::Null, 202).await;
    receiver.next().await;
    attempts(&daemon, &made, 2).await;
    let waiting = json!({ "webhook_id": native, "waiting": true });
    let counted = json!({ "webhook_id": native, "waiting": true, "types": ["a.*"], "dry_run": true });
    assert_eq!(daemon.post("/v1/replays", counted).await["matched"], 0);
    let job = daemon.post("/v1/replays", waiting).await;
    let at = format!("/v1/replays/{}", text(&job, "id"));
    let done = eventually("the end of the job", async || {
        daemon.advance_s(1);
        let job = daemon.get(&at).await;
        (job["status"] == "done").then_some(job)
    })
    .await;
    assert_eq!(done["matched"], 0);
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn a_message_that_was_not_tried_yet_is_pending() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    endpoint(&daemon, "acme", &receiver).await;
    daemon.post(&format!("/v1/webhooks/{}/pause", native_webhook(&daemon).await), json!({})).await;
    let made = message(&daemon, "acme", 1).await;
    let page = get(&daemon, &format!("/app/acme/msg/{}/endpoint", text(&made, "id"))).await;
    assert_eq!((&page["data"][0]["status"], &page["data"][0]["statusText"]), (&json!(1), &json!("pending")));
}

#[tokio::test]
async fn first_messages_to_a_new_app_that_meet_are_all_taken() {
    let daemon = TestDaemon::start().await;
    let client = Arc::new(daemon.client.clone());
    let mut requests = tokio::task::JoinSet::new();
    for n in 0..12 {
        let client = client.clone();
        requests.spawn(async move {
            let application = json!({ "name": "new", "uid": "new" });
            let body = json!({ "eventType": "a.b", "payload": { "n": n }, "application": application });
            let made = call(&client, Method::POST, "/app/new/msg", body).await.status;
            let body = json!({ "application": { "name": "other", "uid": "other" } });
            (made, call(&client, Method::POST, "/auth/app-portal-access/other", body).await.status)
        });
    }
    for (made, access) in requests.join_all().await {
        assert_eq!((made.as_u16(), access.as_u16()), (202, 200));
    }
    assert_eq!(ids(&get(&daemon, "/app").await).len(), 2);
    assert_eq!(ids(&get(&daemon, "/app/new/msg").await).len(), 12);
}

#[tokio::test]
async fn changes_of_one_endpoint_that_meet_are_all_made() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    let id = text(&endpoint(&daemon, "acme", &receiver).await, "id").to_owned();
    let client = Arc::new(daemon.client.clone());
    let mut requests = tokio::task::JoinSet::new();
    for n in 0..24 {
        let (client, path) = (client.clone(), format!("/app/acme/endpoint/{id}/headers"));
        requests.spawn(async move {
            let body = json!({ "headers": { format!("x-{n}"): "1" } });
            call(&client, Method::PATCH, &path, body).await.status.as_u16()
        });
    }
    assert_eq!(requests.join_all().await, vec![204; 24]);
    let headers = get(&daemon, &format!("/app/acme/endpoint/{id}/headers")).await;
    assert_eq!(headers["headers"].as_object().unwrap().len(), 24);
}

#[tokio::test]
async fn expired_portal_tokens_go_and_expire_all_leaves_other_keys() {
    let daemon = TestDaemon::start().await;
    app(&daemon, "acme").await;
    let token = async |expiry: u64| {
        let access = post(&daemon, "/auth/app-portal-access/acme", json!({ "expiry": expiry }), 200).await;
        daemon.with_key(text(&access, "token"))
    };
    for _ in 0..3 {
        token(3_600).await;
    }
    let own = json!({ "name": "own", "app_id": "acme", "scopes": ["apps:read"] });
    let own = daemon.with_key(text(&daemon.post("/v1/keys", own).await, "key"));
    let names = async || {
        let keys = daemon.get("/v1/keys").await;
        keys["data"].as_array().unwrap().iter().filter(|key| key["name"] == "portal").count()
    };
    assert_eq!(names().await, 3);
    daemon.advance_s(7_200);
    let portal = token(86_400).await;
    assert_eq!(names().await, 1, "a new token removes those that have expired");
    let link = daemon.post("/v1/portal-links", json!({ "app_id": "acme" })).await;
    let path = text(&link, "url").splitn(4, '/').nth(3).map(|rest| format!("/{rest}")).unwrap();
    assert_eq!(daemon.with_key("").try_get(&path).await.status, 200);
    assert_eq!(call(&portal, Method::GET, "/app/acme", Value::Null).await.status, 200);
    assert_eq!(call(&daemon, Method::POST, "/auth/app/acme/expire-all", json!({})).await.status, 204);
    assert_eq!(call(&portal, Method::GET, "/app/acme", Value::Null).await.status, 401);
    assert_ne!(daemon.with_key("").try_get(&path).await.status, 200, "the link has ended too");
    assert_eq!(call(&own, Method::GET, "/app/acme", Value::Null).await.status, 200, "a key of the app's own stays");
}

#[tokio::test]
async fn event_types_heed_their_flags_and_may_begin_with_a_hyphen() {
    let daemon = TestDaemon::start().await;
    app(&daemon, "acme").await;
    for (name, flag) in [("-a", json!(null)), ("--b", json!(null)), ("c", json!("beta"))] {
        post(&daemon, "/event-type", json!({ "name": name, "description": "", "featureFlag": flag }), 201).await;
    }
    let (mut names, mut next) = (Vec::new(), String::new());
    for _ in 0..4 {
        let page = get(&daemon, &format!("/event-type?limit=1{next}")).await;
        names.extend(page["data"].as_array().unwrap().iter().map(|row| text(row, "name").to_owned()));
        if page["done"] == true {
            break;
        }
        next = format!("&iterator={}", text(&page, "iterator"));
    }
    assert_eq!(names, ["--b", "-a", "c"]);
    let back = get(&daemon, "/event-type?iterator=--a").await;
    assert_eq!(back["data"][0]["name"], "--b", "the page before -a");
    let access = post(&daemon, "/auth/app-portal-access/acme", json!({}), 200).await;
    let portal = daemon.with_key(text(&access, "token"));
    let body = json!({ "url": "http://127.0.0.1:8099", "eventTypes": ["c"] });
    let hidden = call(&portal, Method::POST, "/app/acme/endpoint", body.clone()).await.expect(422);
    assert!(text(&hidden["detail"][0], "msg").contains("no such event type: c"), "{hidden}");
    post(&daemon, "/app/acme/endpoint", body.clone(), 201).await;
    let cleared = call(&daemon, Method::PATCH, "/event-type/c", json!({ "featureFlags": [] })).await.expect(200);
    assert_eq!(cleared["featureFlags"], Value::Null);
    post(&portal, "/app/acme/endpoint", body, 201).await;
}

#[tokio::test]
async fn a_recovery_that_is_asked_for_twice_under_one_key_is_one_job() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    let id = text(&endpoint(&daemon, "acme", &receiver).await, "id").to_owned();
    let since = message(&daemon, "acme", 1).await["timestamp"].clone();
    let path = format!("/api/v1/app/acme/endpoint/{id}/recover");
    let body = json!({ "since": since }).to_string();
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let answer = daemon.call(Method::POST, &path, &[("idempotency-key", "auto_1")], body.clone()).await;
        tasks.push(answer.expect(202)["id"].clone());
    }
    assert_eq!(tasks[0], tasks[1]);
    assert_eq!(daemon.get("/v1/replays").await["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_page_ends_early_where_payloads_are_large() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    endpoint(&daemon, "acme", &receiver).await;
    let large = "x".repeat(900_000);
    for n in 0..20 {
        let body = json!({ "eventType": "a.b", "payload": { "n": n, "large": large } });
        post(&daemon, "/app/acme/msg?with_content=false", body, 202).await;
    }
    receiver.take(20).await;
    let list = "/app/acme/msg?limit=250";
    let first = get(&daemon, list).await;
    let count = ids(&first).len();
    assert!((10..20).contains(&count) && first["done"] == false, "{count}");
    let rest = get(&daemon, &format!("{list}&iterator={}", text(&first, "iterator"))).await;
    assert_eq!((ids(&rest).len(), &rest["done"]), (20 - count, &json!(true)));
    let plain = get(&daemon, &format!("{list}&with_content=false")).await;
    assert_eq!((ids(&plain).len(), &plain["done"]), (20, &json!(true)));
}

#[tokio::test]
async fn attempts_of_a_message_are_walked_in_both_directions() {
    let daemon = TestDaemon::start().await;
    let (one, two) = (Receiver::start().await, Receiver::start().await);
    app(&daemon, "acme").await;
    let id = text(&endpoint(&daemon, "acme", &one).await, "id").to_owned();
    endpoint(&daemon, "acme", &two).await;
    let made = message(&daemon, "acme", 1).await;
    for count in 3..9 {
        attempts(&daemon, &made, count - 1).await;
        post(&daemon, &format!("/app/acme/msg/{}/endpoint/{id}/resend", text(&made, "id")), Value::Null, 202).await;
    }
    let all = ids(&attempts(&daemon, &made, 8).await);
    let list = format!("/app/acme/attempt/msg/{}?limit=3", text(&made, "id"));
    let (mut walked, mut next) = (Vec::new(), String::new());
    loop {
        let page = get(&daemon, &format!("{list}{next}")).await;
        walked.extend(ids(&page));
        if page["done"] == true {
            break;
        }
        next = format!("&iterator={}", text(&page, "iterator"));
    }
    assert_eq!(walked, all);
    let back = get(&daemon, &format!("{list}&iterator=-{}", all[7])).await;
    assert_eq!((ids(&back), &back["done"]), (all[4..7].to_vec(), &json!(false)));
    let oldest = get(&daemon, &format!("{list}&after=2020-01-01T00:00:00Z")).await;
    assert_eq!(ids(&oldest), all[5..]);
}

#[tokio::test]
async fn an_alias_names_one_object_and_is_given_once() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let alias = "app_1srOrx2ZWZBpBUvZwXKQmoEYga2";
    let made = post(&daemon, "/app", json!({ "name": "n", "uid": "acme", "alias": alias }), 201).await;
    assert_eq!(get(&daemon, &format!("/app/{alias}")).await, made);
    let taken = call(&daemon, Method::POST, "/app", json!({ "name": "m", "alias": alias })).await.expect(409);
    assert_eq!(taken["code"], "conflict");
    let other = json!({ "alias": "app_2srOrx2ZWZBpBUvZwXKQmoEYga2" });
    assert_eq!(call(&daemon, Method::PATCH, "/app/acme", other).await.status, 409);
    assert_eq!(call(&daemon, Method::PUT, &format!("/app/{alias}"), json!({ "name": "n" })).await.status, 200);
    assert_eq!(get(&daemon, &format!("/app/{alias}")).await["id"], made["id"], "a client of Svix does not know it");
    let id = text(&endpoint(&daemon, alias, &receiver).await, "id").to_owned();
    let at = format!("/app/{alias}/endpoint");
    let named = json!({ "alias": "ep_1srOrx2ZWZBpBUvZwXKQmoEYga2" });
    call(&daemon, Method::PATCH, &format!("{at}/{id}"), named.clone()).await.expect(200);
    assert_eq!(get(&daemon, &format!("{at}/ep_1srOrx2ZWZBpBUvZwXKQmoEYga2")).await["id"], id);
    let other = text(&endpoint(&daemon, alias, &receiver).await, "id").to_owned();
    assert_eq!(call(&daemon, Method::PATCH, &format!("{at}/{other}"), named).await.status, 409);
    let wrong = call(&daemon, Method::PATCH, &format!("{at}/{id}"), json!({ "alias": "x" })).await.expect(422);
    assert_eq!(wrong["detail"][0]["loc"], json!(["body", "alias"]));
    assert_eq!(call(&daemon, Method::DELETE, &format!("/app/{alias}"), Value::Null).await.status, 204);
    assert_eq!(call(&daemon, Method::GET, &format!("/app/{alias}"), Value::Null).await.status, 404);
    post(&daemon, "/app", json!({ "name": "m", "alias": alias }), 201).await;
}

#[tokio::test]
async fn ten_old_secrets_sign_beside_the_current_one_and_an_old_one_may_end_at_once() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    let made = endpoint(&daemon, "acme", &receiver).await;
    let at = format!("/app/acme/endpoint/{}/secret/rotate", text(&made, "id"));
    for _ in 0..10 {
        post(&daemon, &at, json!({ "gracePeriodSeconds": 60 }), 200).await;
    }
    let full = call(&daemon, Method::POST, &at, json!({ "gracePeriodSeconds": 60 })).await.expect(400);
    assert_eq!(full["code"], "limit_reached");
    message(&daemon, "acme", 1).await;
    assert_eq!(receiver.next().await.header("svix-signature").split(' ').count(), 11);
    post(&daemon, &at, json!({ "gracePeriodSeconds": 0 }), 200).await;
    message(&daemon, "acme", 2).await;
    assert_eq!(receiver.next().await.header("svix-signature").split(' ').count(), 1);
    for version in [json!(0), json!("x")] {
        let body = json!({ "url": receiver.url(), "version": version });
        let wrong = call(&daemon, Method::POST, "/app/acme/endpoint", body).await.expect(422);
        assert_eq!(wrong["detail"][0]["loc"], json!(["body", "version"]), "{wrong}");
    }
}

#[tokio::test]
async fn a_repeated_request_for_a_portal_token_gets_the_first_token_and_its_link() {
    let daemon = TestDaemon::start().await;
    app(&daemon, "acme").await;
    let application = json!({ "application": { "name": "new", "uid": "new" } });
    for (uid, body) in [("acme", json!({})), ("new", application)] {
        let path = format!("/api/v1/auth/app-portal-access/{uid}");
        let ask = async || {
            let key = [("idempotency-key", uid)];
            daemon.call(Method::POST, &path, &key, body.to_string()).await.expect(200)
        };
        let first = ask().await;
        assert!(text(&first, "url").contains("/ui/portal/enter?t="), "{first}");
        daemon.advance_s(1);
        assert_eq!(ask().await, first);
    }
}

#[tokio::test]
async fn an_endpoint_that_is_made_disabled_was_disabled_by_hand_and_is_not_in_trouble() {
    let daemon = TestDaemon::start().await;
    app(&daemon, "acme").await;
    let body = json!({ "url": "http://127.0.0.1:8099", "disabled": true });
    post(&daemon, "/app/acme/endpoint", body.clone(), 201).await;
    call(&daemon, Method::PUT, "/app/acme/endpoint/unknown", body.clone()).await.expect(201);
    post(&daemon, "/operational-webhook/endpoint", body, 201).await;
    let made = daemon.get("/v1/webhooks?status=disabled").await;
    let reasons: Vec<&Value> = made["data"].as_array().unwrap().iter().map(|row| &row["disabled_reason"]).collect();
    assert_eq!(reasons, ["manual"; 3]);
    assert_eq!(daemon.get("/v1/webhooks?state=trouble").await["data"], json!([]));
}

#[tokio::test]
async fn a_wrong_channel_and_an_unknown_capability_are_one_mistake_each() {
    let daemon = TestDaemon::start().await;
    app(&daemon, "acme").await;
    let wrong = async |path: &str, body: Value| {
        let refused = call(&daemon, Method::POST, path, body).await.expect(422);
        let mistakes = refused["detail"].as_array().unwrap().iter();
        mistakes.map(|one| (one["loc"].clone(), text(one, "type").to_owned())).collect::<Vec<_>>()
    };
    let message = |channels: Value| json!({ "eventType": "a.b", "payload": {}, "channels": channels });
    let at = |loc: Value, kind: &str| vec![(loc, kind.to_owned())];
    let no_channel = at(json!(["body", "channels", "[0]"]), "value_error");
    assert_eq!(wrong("/app/acme/msg", message(json!(["a b"]))).await, no_channel);
    assert_eq!(wrong("/app/acme/msg", message(json!([]))).await, at(json!(["body", "channels"]), "value_error"));
    let path = "/auth/app-portal-access/acme";
    let unknown = at(json!(["body", "capabilities", "[1]"]), "value_error.jsondecode");
    assert_eq!(wrong(path, json!({ "capabilities": ["ViewBase", "Nope"] })).await, unknown);
    for known in [json!(["ViewBase", "ManageTransformations"]), json!([]), Value::Null] {
        post(&daemon, path, json!({ "capabilities": known }), 200).await;
    }
}
