//! Operational webhooks: natively by `postrider.webhook.*`, and in the shape of the Svix server for all apps at once.

use http::Method;
use serde_json::{Value, json};

use super::svix::{app, call, endpoint, get, ids, message, post};
use crate::support::daemon::text;
use crate::support::{Receiver, Request, TestDaemon};

const ENDPOINTS: &str = "/operational-webhook/endpoint";

/// An operational webhook of these types, or of all.
async fn operational(daemon: &TestDaemon, receiver: &Receiver, types: Value) -> Value {
    post(daemon, ENDPOINTS, json!({ "url": receiver.url(), "eventTypes": types }), 201).await
}

/// The type of a notice, which the event's type repeats, and its data.
fn told(request: &Request) -> (String, Value) {
    let body = request.json();
    assert!(request.header("svix-id").starts_with("msg_") && request.has("svix-signature"));
    (text(&body, "type").to_owned(), body["data"].clone())
}

#[tokio::test]
async fn a_webhook_that_asks_is_told_of_every_change_of_the_others() {
    let daemon = TestDaemon::start().await;
    let (receiver, watcher) = (Receiver::start().await, Receiver::start().await);
    daemon.webhook(&receiver.url(), json!({ "event_types": ["a"] })).await;
    let none = daemon.get("/v1/events").await;
    assert_eq!(none["data"], json!([]), "no event is made that no webhook wants");
    daemon.webhook(&watcher.url(), json!({ "event_types": ["postrider.webhook.*"] })).await;
    let own = daemon.webhook(&receiver.url(), json!({ "event_types": ["b"], "name": "own" })).await;
    let path = format!("/v1/webhooks/{}", text(&own, "id"));
    daemon.patch(&path, json!({ "event_types": ["c"], "name": "its own" })).await;
    daemon.post(&format!("{path}/pause"), json!({})).await;
    daemon.post(&format!("{path}/pause"), json!({})).await;
    daemon.post(&format!("{path}/rotate-secret"), json!({})).await;
    daemon.call(Method::DELETE, &path, &[], "").await.expect(204);
    let mut seen = Vec::new();
    for request in watcher.take(5).await {
        let body = request.json();
        assert_eq!(body["data"]["webhook_id"], own["id"]);
        seen.push((text(&body, "type").to_owned(), text(&body["data"], "reason").to_owned()));
    }
    seen.sort();
    let expected = [
        ("created", "created"),
        ("deleted", "deleted"),
        ("updated", "changed: event_types, name"),
        ("updated", "changed: secrets"),
        ("updated", "changed: status"),
    ];
    let mut expected = expected.map(|(kind, reason)| (format!("postrider.webhook.{kind}"), reason.to_owned())).to_vec();
    expected.sort();
    let order = |list: &[(String, String)]| list.iter().map(|(kind, _)| kind.clone()).collect::<Vec<_>>();
    assert_eq!(order(&seen), order(&expected));
    assert!(seen[2].1.contains("event_types") && seen[2].1.contains("name"), "{seen:?}");
    assert_eq!(watcher.count(), 5, "a pause of a paused webhook changes nothing");
}

#[tokio::test]
async fn operational_webhooks_are_told_of_the_endpoints_of_all_apps() {
    let daemon = TestDaemon::start().await;
    let (receiver, operator) = (Receiver::start().await, Receiver::start().await);
    assert_eq!(get(&daemon, ENDPOINTS).await, json!({ "data": [], "iterator": null, "done": true }));
    let own = operational(&daemon, &operator, Value::Null).await;
    let acme = app(&daemon, "acme").await;
    let body = json!({ "url": receiver.url(), "uid": "one" });
    let made = post(&daemon, "/app/acme/endpoint", body, 201).await;
    let at = "/app/acme/endpoint/one";
    call(&daemon, Method::PATCH, at, json!({ "disabled": true })).await.expect(200);
    call(&daemon, Method::DELETE, at, Value::Null).await.expect(204);
    let mut seen: Vec<(String, Value)> = operator.take(4).await.iter().map(told).collect();
    seen.sort_by(|one, other| one.0.cmp(&other.0));
    let data = json!({ "appId": acme["id"], "appUid": "acme", "endpointId": made["id"], "endpointUid": "one" });
    let mut disabled = data.clone();
    disabled["failSince"] = Value::Null;
    disabled["trigger"] = json!("manual");
    let kinds = [("created", &data), ("deleted", &data), ("disabled", &disabled), ("updated", &data)];
    assert_eq!(seen, kinds.map(|(kind, data)| (format!("endpoint.{kind}"), data.clone())).to_vec());
    assert_eq!(ids(&get(&daemon, ENDPOINTS).await), [text(&own, "id")]);
    assert_eq!(ids(&get(&daemon, "/app").await), [text(&acme, "id")], "the app of operational webhooks is not listed");
}

#[tokio::test]
async fn operational_webhooks_are_told_of_messages_that_fail_and_recover() {
    let daemon = TestDaemon::start().await;
    let (receiver, operator) = (Receiver::start().await, Receiver::start().await);
    let types = ["exhausted", "failing", "recovered"].map(|kind| format!("message.attempt.{kind}"));
    operational(&daemon, &operator, json!(types)).await;
    let acme = app(&daemon, "acme").await;
    let made = endpoint(&daemon, "acme", &receiver).await;
    receiver.next_statuses([500, 500, 500, 500]);
    let body = json!({ "eventType": "a.b", "payload": {}, "eventId": "m-1" });
    let sent = post(&daemon, "/app/acme/msg", body, 202).await;
    for _ in 0..5 {
        receiver.next().await;
        daemon.advance_s(20_000);
    }
    let (failing, recovered) = (told(&operator.next().await), told(&operator.next().await));
    assert_eq!([failing.0.as_str(), recovered.0.as_str()], ["message.attempt.failing", "message.attempt.recovered"]);
    let page = get(&daemon, "/app/acme/attempt/msg/m-1").await;
    for ((_, data), attempt) in [(failing, &page["data"][1]), (recovered, &page["data"][0])] {
        let last = json!({
            "id": attempt["id"],
            "responseStatusCode": attempt["responseStatusCode"],
            "timestamp": attempt["timestamp"],
        });
        let expected = json!({
            "appId": acme["id"], "appUid": "acme", "endpointId": made["id"], "msgId": sent["id"], "msgEventId": "m-1",
            "lastAttempt": last,
        });
        assert_eq!(data, expected);
    }
    receiver.always(crate::support::Act::status(500));
    message(&daemon, "acme", 2).await;
    for _ in 0..8 {
        receiver.next().await;
        daemon.advance_s(40_000);
    }
    let kinds: Vec<String> = operator.take(2).await.iter().map(|request| told(request).0).collect();
    assert_eq!(kinds, ["message.attempt.failing", "message.attempt.exhausted"]);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_told_as_disabled_with_the_time_of_its_first_failure() {
    let daemon = TestDaemon::start().await;
    let (receiver, operator) = (Receiver::start().await, Receiver::start().await);
    operational(&daemon, &operator, json!(["endpoint.disabled"])).await;
    app(&daemon, "acme").await;
    endpoint(&daemon, "acme", &receiver).await;
    receiver.next_statuses([410]);
    message(&daemon, "acme", 1).await;
    let (kind, data) = told(&operator.next().await);
    assert_eq!((kind.as_str(), &data["trigger"]), ("endpoint.disabled", &json!("automatic")));
    let attempts = get(&daemon, &format!("/app/acme/attempt/endpoint/{}", text(&data, "endpointId"))).await;
    assert_eq!(data["failSince"], attempts["data"][0]["timestamp"]);
}

#[tokio::test]
async fn an_operational_webhook_is_changed_like_an_endpoint() {
    let daemon = TestDaemon::start().await;
    let operator = Receiver::start().await;
    let body = json!({
        "url": operator.url(), "filterTypes": ["endpoint.created"], "uid": "ops", "channels": 7,
        "headers": { "X-One": "1" }, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    });
    let made = post(&daemon, ENDPOINTS, body, 201).await;
    assert_eq!((&made["eventTypes"], &made["channels"]), (&json!(["endpoint.created"]), &Value::Null));
    let at = format!("{ENDPOINTS}/ops");
    assert_eq!(get(&daemon, &at).await, made);
    let wrong = json!({ "url": operator.url(), "eventTypes": ["a.b"] });
    let refused = call(&daemon, Method::PUT, &at, wrong).await.expect(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["body", "eventTypes"]));
    let put = json!({ "url": operator.url(), "description": "d", "eventTypes": ["endpoint.deleted"] });
    let put = call(&daemon, Method::PUT, &at, put).await.expect(200);
    assert_eq!((&put["id"], &put["uid"], &put["description"]), (&made["id"], &Value::Null, &json!("d")));
    let at = format!("{ENDPOINTS}/{}", text(&made, "id"));
    assert_eq!(get(&daemon, &format!("{at}/headers")).await["headers"], json!({ "X-One": "1" }));
    call(&daemon, Method::PUT, &format!("{at}/headers"), json!({ "headers": {} })).await.expect(204);
    let secret = get(&daemon, &format!("{at}/secret")).await;
    assert_eq!(secret["key"], "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let rotated = post(&daemon, &format!("{at}/secret/rotate"), json!({}), 200).await;
    assert_ne!(rotated["key"], secret["key"]);
    let second = call(&daemon, Method::PUT, &format!("{ENDPOINTS}/new"), json!({ "url": operator.url() })).await;
    assert_eq!(ids(&get(&daemon, ENDPOINTS).await)[0], text(&second.expect(201), "id"));
    call(&daemon, Method::DELETE, &at, Value::Null).await.expect(204);
    call(&daemon, Method::GET, &at, Value::Null).await.expect(404);
    assert_eq!(operator.count(), 0, "operational webhooks are not told of themselves");
}

#[tokio::test]
async fn no_token_of_an_app_reads_operational_webhooks_or_their_messages() {
    let daemon = TestDaemon::start().await;
    let (receiver, operator) = (Receiver::start().await, Receiver::start().await);
    let own = operational(&daemon, &operator, Value::Null).await;
    let acme = app(&daemon, "acme").await;
    endpoint(&daemon, "acme", &receiver).await;
    operator.next().await;
    let default = daemon.get("/v1/organizations").await["data"][0]["default_app_id"].clone();
    let native = daemon.get("/v1/webhooks").await["data"].as_array().unwrap().clone();
    let native = native.iter().find(|webhook| webhook["url"] == own["url"]).unwrap().clone();
    let hidden = native["app_id"].clone();
    assert_ne!(hidden, default);
    for app_id in [&default, &daemon.get("/v1/apps/acme").await["id"]] {
        let body = json!({ "name": "one app", "app_id": app_id, "scopes": ["admin"] });
        let token = daemon.with_key(text(&daemon.post("/v1/keys", body).await, "key"));
        for path in [ENDPOINTS.to_owned(), format!("{ENDPOINTS}/{}", text(&own, "id"))] {
            let refused = call(&token, Method::GET, &path, Value::Null).await.expect(403);
            assert_eq!(refused["code"], "insufficient access");
        }
        let body = json!({ "url": operator.url() });
        call(&token, Method::POST, ENDPOINTS, body).await.expect(403);
        let path = format!("/v1/webhooks/{}", text(&native, "id"));
        assert_eq!(token.try_get(&path).await.status, 404);
        assert_eq!(token.try_get(&format!("/v1/apps/{}", hidden.as_str().unwrap())).await.status, 404);
        let told = token.get("/v1/events?type=endpoint.created").await;
        assert_eq!(told["data"], json!([]));
    }
    let access = post(&daemon, "/auth/app-portal-access/acme", json!({}), 200).await;
    let portal = daemon.with_key(text(&access, "token"));
    call(&portal, Method::GET, ENDPOINTS, Value::Null).await.expect(403);
    assert_eq!(call(&daemon.with_key("x"), Method::GET, ENDPOINTS, Value::Null).await.status, 401);
    // Another organization has operational webhooks of its own, which are told nothing of this one.
    let other = daemon.post("/v1/organizations", json!({ "name": "other" })).await;
    let other = daemon.with_key(text(&other, "key"));
    let stranger = Receiver::start().await;
    post(&other, ENDPOINTS, json!({ "url": stranger.url() }), 201).await;
    call(&other, Method::GET, &format!("{ENDPOINTS}/{}", text(&own, "id")), Value::Null).await.expect(404);
    endpoint(&daemon, text(&acme, "id"), &receiver).await;
    operator.next().await;
    assert_eq!(stranger.count(), 0);
}

#[tokio::test]
async fn the_endpoints_of_a_removed_app_are_told_of_and_an_operational_webhook_has_no_channels_and_no_version() {
    let daemon = TestDaemon::start().await;
    let (receiver, operator) = (Receiver::start().await, Receiver::start().await);
    let body = json!({ "url": operator.url(), "eventTypes": ["endpoint.deleted"], "channels": ["x"], "version": 1 });
    let own = post(&daemon, ENDPOINTS, body, 201).await;
    let list = get(&daemon, ENDPOINTS).await;
    let one = get(&daemon, &format!("{ENDPOINTS}/{}", text(&own, "id"))).await;
    for shown in [&own, &list["data"][0], &one] {
        assert!(shown.get("channels").is_none() && shown.get("version").is_none(), "{shown}");
        assert_eq!(shown["filterTypes"], json!(["endpoint.deleted"]));
    }
    app(&daemon, "acme").await;
    let made = [endpoint(&daemon, "acme", &receiver).await, endpoint(&daemon, "acme", &receiver).await];
    call(&daemon, Method::DELETE, "/app/acme", Value::Null).await.expect(204);
    let mut told: Vec<(String, Value)> = operator.take(2).await.iter().map(told).collect();
    told.sort_by_key(|(_, data)| data["endpointId"].to_string());
    for ((kind, data), made) in told.iter().zip(&made) {
        assert_eq!((kind.as_str(), &data["appUid"]), ("endpoint.deleted", &json!("acme")));
        assert_eq!(data["endpointId"], made["id"]);
    }
}
