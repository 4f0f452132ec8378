//! The shape of the Svix server over real sockets: its resources, lists in both directions, and tenants.

use http::Method;
use serde_json::{Value, json};

use crate::support::client::{Answer, Client};
use crate::support::daemon::text;
use crate::support::{Receiver, TestDaemon, eventually};

/// A call below the prefix, without a `Content-Type`.
pub async fn call(client: &Client, method: Method, path: &str, body: Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    client.call(method, &format!("/api/v1{path}"), &[], body).await
}

pub async fn get(client: &Client, path: &str) -> Value {
    call(client, Method::GET, path, Value::Null).await.expect(200)
}

pub async fn post(client: &Client, path: &str, body: Value, status: u16) -> Value {
    call(client, Method::POST, path, body).await.expect(status)
}

/// An app with a `uid`.
pub async fn app(client: &Client, uid: &str) -> Value {
    post(client, "/app", json!({ "name": uid, "uid": uid }), 201).await
}

/// An endpoint of the app that delivers to the receiver.
pub async fn endpoint(client: &Client, app: &str, receiver: &Receiver) -> Value {
    post(client, &format!("/app/{app}/endpoint"), json!({ "url": receiver.url() }), 201).await
}

pub async fn message(client: &Client, app: &str, n: usize) -> Value {
    post(client, &format!("/app/{app}/msg"), json!({ "eventType": "a.b", "payload": { "n": n } }), 202).await
}

pub fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|row| text(row, "id").to_owned()).collect()
}

/// Every id of a list, page by page from a start. Iterators of `member` lead on.
async fn walk(client: &Client, path: &str, start: Option<&str>, member: &str) -> Vec<String> {
    let (mut all, mut next) = (Vec::new(), start.map(str::to_owned));
    loop {
        let iterator = next.as_ref().map_or(String::new(), |next| format!("&iterator={next}"));
        let page = get(client, &format!("{path}?limit=3{iterator}")).await;
        let mut rows = ids(&page);
        if member == "prevIterator" {
            rows.reverse();
        }
        all.extend(rows);
        if page["done"] == true {
            return all;
        }
        next = Some(text(&page, member).to_owned());
    }
}

#[tokio::test]
async fn an_app_is_made_read_replaced_changed_and_removed() {
    let daemon = TestDaemon::start().await;
    let made = app(&daemon, "acme").await;
    let id = text(&made, "id");
    assert!(id.starts_with("app_") && id.len() == 31, "{id}");
    for name in [id, "acme"] {
        assert_eq!(get(&daemon, &format!("/app/{name}")).await, made);
    }
    assert_eq!(get(&daemon, "/app/acme/").await, made, "a slash at the end is the same path");
    let again = post(&daemon, "/app?get_if_exists=true", json!({ "name": "other", "uid": "acme" }), 200).await;
    assert_eq!(again, made);
    let taken = call(&daemon, Method::POST, "/app", json!({ "name": "other", "uid": "acme" })).await.expect(409);
    assert_eq!(taken["code"], "conflict");
    let changed = call(&daemon, Method::PATCH, "/app/acme", json!({ "uid": null, "unknown": 1 })).await.expect(200);
    assert_eq!((&changed["uid"], &changed["name"]), (&Value::Null, &json!("acme")));
    let put = call(&daemon, Method::PUT, "/app/new", json!({ "name": "n", "uid": "new" })).await.expect(201);
    assert_eq!(put["uid"], "new");
    let put = call(&daemon, Method::PUT, "/app/new", json!({ "name": "m" })).await.expect(200);
    assert_eq!((&put["uid"], &put["name"]), (&Value::Null, &json!("m")));
    assert_eq!(ids(&get(&daemon, "/app").await).len(), 2, "without the default app");
    assert_eq!(call(&daemon, Method::DELETE, &format!("/app/{id}"), Value::Null).await.status, 204);
    let gone = call(&daemon, Method::GET, &format!("/app/{id}"), Value::Null).await.expect(404);
    assert_eq!(gone, json!({ "code": "not_found", "detail": "Entity not found" }));
}

#[tokio::test]
async fn every_error_has_a_body_in_the_words_of_the_shape() {
    let daemon = TestDaemon::start().await;
    app(&daemon, "acme").await;
    let stranger = daemon.with_key("");
    for (client, method, path, body, status) in [
        (&stranger, Method::GET, "/app", Value::Null, 401),
        (&stranger, Method::GET, "/nowhere/at/all", Value::Null, 401),
        (&daemon.client, Method::GET, "/nowhere/at/all", Value::Null, 404),
        (&daemon.client, Method::GET, "", Value::Null, 404),
        (&daemon.client, Method::GET, "/stream", Value::Null, 404),
        (&daemon.client, Method::DELETE, "/app", Value::Null, 405),
        (&daemon.client, Method::GET, "/app?limit=x", Value::Null, 400),
        (&daemon.client, Method::GET, "/app/acme/endpoint/none", Value::Null, 404),
        (&daemon.client, Method::POST, "/auth/logout", Value::Null, 400),
    ] {
        let body = call(client, method, path, body).await.expect(status);
        assert!(!text(&body, "code").is_empty() && !text(&body, "detail").is_empty(), "{path}: {body}");
    }
    let why = call(&daemon, Method::GET, "/app/a/endpoint/b/transformation", Value::Null).await.expect(404);
    assert!(text(&why, "detail").contains("transformations"), "{why}");
    for (path, body, loc) in [
        ("/app", json!({ "uid": "x" }), json!(["body", "name"])),
        ("/app", json!({ "name": "a", "uid": "app_x" }), json!(["body", "uid"])),
        ("/app", json!({ "name": 5 }), json!(["body", "name"])),
        ("/app?limit=1", Value::Null, json!(["body"])),
        ("/app/acme/endpoint", json!({ "url": "ftp://a" }), json!(["body", "url"])),
        (
            "/app/acme/endpoint",
            json!({ "url": "http://a.example", "channels": ["a", "b c"] }),
            json!(["body", "channels", "[1]"]),
        ),
        ("/app/acme/endpoint", json!({ "url": "http://a.example", "eventTypes": [] }), json!(["body", "eventTypes"])),
        ("/app/acme/endpoint", json!({ "url": "http://a.example", "secret": "whsk_x" }), json!(["body", "secret"])),
        (
            "/app/acme/endpoint",
            json!({ "url": "http://a.example", "headers": { "Svix-A": "x" } }),
            json!(["body", "headers", "Svix-A"]),
        ),
        ("/app/acme/msg", json!({ "eventType": "a", "payload": [] }), json!(["body", "payload"])),
        ("/app/acme/msg", json!({ "eventType": "a b", "payload": {} }), json!(["body", "eventType"])),
    ] {
        let answer = call(&daemon, Method::POST, path, body.clone()).await.expect(422);
        let first = &answer["detail"][0];
        assert_eq!(first["loc"], loc, "{body}: {answer}");
        assert!(text(first, "type").starts_with("value_error") && !text(first, "msg").is_empty());
    }
    for query in ["limit=251", "limit=0", "iterator=msg_x"] {
        let answer = call(&daemon, Method::GET, &format!("/app?{query}"), Value::Null).await.expect(422);
        assert_eq!(answer["detail"][0]["loc"][0], "query");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_in_the_words_of_the_shape() {
    let daemon = TestDaemon::start().await;
    app(&daemon, "acme").await;
    let large = "x".repeat(daemon.settings.max_event_bytes as usize);
    let body = json!({ "eventType": "a", "payload": { "x": large } });
    let answer = call(&daemon, Method::POST, "/app/acme/msg", body).await.expect(413);
    assert_eq!(answer["code"], "payload_too_large");
}

#[tokio::test]
async fn an_endpoint_keeps_its_fields() {
    let daemon = TestDaemon::start().await;
    app(&daemon, "acme").await;
    let body = json!({
        "url": "http://127.0.0.1:8099", "description": "d", "channels": ["eu"], "rateLimit": 7, "version": 3,
        "headers": { "X-Tenant": "41", "X-Api-Key": "k" }, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    });
    let made = post(&daemon, "/app/acme/endpoint", body, 201).await;
    assert_eq!(made["url"], "http://127.0.0.1:8099/");
    assert_eq!((&made["throttleRate"], &made["rateLimit"]), (&json!(7), &json!(7)));
    assert_eq!((&made["eventTypes"], &made["filterTypes"]), (&Value::Null, &Value::Null));
    assert_eq!((&made["channels"], &made["disabled"]), (&json!(["eu"]), &json!(false)));
    let at = format!("/app/acme/endpoint/{}", text(&made, "id"));
    assert_eq!(get(&daemon, &at).await, made);
    let headers = get(&daemon, &format!("{at}/headers")).await;
    assert_eq!(headers, json!({ "headers": { "X-Tenant": "41" }, "sensitive": ["X-Api-Key"] }));
    let patch = json!({ "headers": { "x-tenant": null, "X-One": "1" }, "deleteHeaders": ["x-api-key"] });
    assert_eq!(call(&daemon, Method::PATCH, &format!("{at}/headers"), patch).await.status, 204);
    let headers = get(&daemon, &format!("{at}/headers")).await;
    assert_eq!(headers, json!({ "headers": { "X-One": "1" }, "sensitive": [] }));
    for method in [Method::PUT, Method::PATCH] {
        let nothing = call(&daemon, method, &format!("{at}/headers"), json!({ "headers": null })).await;
        assert_eq!(nothing.status, 422, "null is absent");
    }
    let secret = get(&daemon, &format!("{at}/secret")).await;
    assert_eq!(secret["key"], "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let rotated = post(&daemon, &format!("{at}/secret/rotate"), Value::Null, 200).await;
    assert!(text(&rotated, "key").starts_with("whsec_") && rotated != secret);
    let changed = call(&daemon, Method::PATCH, &at, json!({ "disabled": true, "channels": null })).await.expect(200);
    assert_eq!(
        (&changed["disabled"], &changed["channels"], &changed["description"]),
        (&json!(true), &Value::Null, &json!("d"))
    );
    let put = call(&daemon, Method::PUT, &at, json!({ "url": "http://127.0.0.1:8099/b" })).await.expect(200);
    assert_eq!((&put["disabled"], &put["description"], &put["rateLimit"]), (&json!(false), &json!(""), &Value::Null));
    assert_eq!(get(&daemon, &format!("{at}/secret")).await, rotated, "PUT keeps the secret");
    assert_eq!(get(&daemon, &format!("{at}/headers")).await["headers"], json!({ "X-One": "1" }));
    assert_eq!(call(&daemon, Method::DELETE, &at, Value::Null).await.status, 204);
    assert_eq!(call(&daemon, Method::GET, &at, Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_message_is_sent_shown_and_erased() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    let endpoint = endpoint(&daemon, "acme", &receiver).await;
    let body =
        json!({ "eventType": "a.b", "eventId": "e-1", "payload": { "n": 1.50 }, "channels": ["eu"], "tags": ["x"] });
    let made = post(&daemon, "/app/acme/msg", body.clone(), 202).await;
    assert!(text(&made, "id").starts_with("msg_"));
    assert_eq!((&made["payload"], &made["eventId"]), (&json!({ "n": 1.5 }), &json!("e-1")));
    let sent = receiver.next().await;
    assert_eq!(sent.text(), r#"{"n":1.5}"#);
    for name in [text(&made, "id"), "e-1"] {
        assert_eq!(get(&daemon, &format!("/app/acme/msg/{name}")).await, made);
    }
    let again = call(&daemon, Method::POST, "/app/acme/msg", body).await.expect(409);
    assert_eq!(again["code"], "conflict");
    let without = get(&daemon, "/app/acme/msg/e-1?with_content=false").await;
    assert_eq!(without["payload"], json!({}));
    let attempts = eventually("the attempt", async || {
        let page = get(&daemon, "/app/acme/attempt/msg/e-1").await;
        (!page["data"].as_array().unwrap().is_empty()).then_some(page)
    })
    .await;
    let attempt = &attempts["data"][0];
    assert_eq!((&attempt["status"], &attempt["statusText"]), (&json!(0), &json!("success")));
    assert_eq!((&attempt["endpointId"], &attempt["msgId"]), (&endpoint["id"], &made["id"]));
    let at = format!("/app/acme/msg/e-1/attempt/{}", text(attempt, "id"));
    assert_eq!(&get(&daemon, &at).await, attempt);
    assert_eq!(get(&daemon, &format!("{at}?with_msg=true")).await["msg"], made);
    let by_endpoint = get(&daemon, &format!("/app/acme/attempt/endpoint/{}", text(&endpoint, "id"))).await;
    assert_eq!(by_endpoint["data"], attempts["data"]);
    for (query, found) in [
        ("status=0", 1),
        ("status=2", 0),
        ("status_code_class=200", 1),
        ("channel=eu", 1),
        ("channel=us", 0),
        ("event_types=a.b,c", 1),
        ("event_types[]=c", 0),
    ] {
        let page = get(&daemon, &format!("/app/acme/attempt/msg/e-1?{query}")).await;
        assert_eq!(page["data"].as_array().unwrap().len(), found, "{query}");
    }
    let stats = get(&daemon, &format!("/app/acme/endpoint/{}/stats", text(&endpoint, "id"))).await;
    assert_eq!(stats, json!({ "success": 1, "fail": 0, "pending": 0, "sending": 0, "canceled": 0 }));
    assert_eq!(call(&daemon, Method::DELETE, "/app/acme/msg/e-1/content", Value::Null).await.status, 204);
    assert_eq!(get(&daemon, "/app/acme/msg/e-1").await["payload"], json!({ "expired": true }));
}

#[tokio::test]
async fn a_message_may_bring_its_application_and_raw_text() {
    let daemon = TestDaemon::start().await;
    let raw = json!({ "rawPayload": "{ \"a\" : 1 }" });
    let body = |uid: &str| {
        let application = json!({ "name": "n", "uid": uid });
        json!({ "eventType": "a", "payload": {}, "application": application, "transformationsParams": raw })
    };
    assert_eq!(
        call(&daemon, Method::POST, "/app/one/msg", json!({ "eventType": "a", "payload": {} })).await.status,
        404
    );
    assert_eq!(call(&daemon, Method::POST, "/app/one/msg", body("two")).await.status, 422);
    let first =
        daemon.call(Method::POST, "/api/v1/app/one/msg", &[("idempotency-key", "k")], body("one").to_string()).await;
    let first = first.expect(202);
    let again =
        daemon.call(Method::POST, "/api/v1/app/one/msg", &[("idempotency-key", "k")], body("one").to_string()).await;
    assert_eq!(again.expect(202), first);
    assert_eq!(first["payload"], json!({ "a": 1 }));
    assert_eq!(ids(&get(&daemon, "/app/one/msg").await).len(), 1);
    let scopes = json!({ "name": "sender", "scopes": ["events:write", "keys:write", "webhooks:read"] });
    let sender = daemon.post("/v1/keys", scopes).await;
    let sender = daemon.with_key(text(&sender, "key"));
    for path in ["/app/new/msg", "/auth/app-portal-access/new"] {
        let refused = call(&sender, Method::POST, path, body("new")).await.expect(403);
        assert_eq!(refused["code"], "insufficient access", "{path} would make an application");
    }
}

#[tokio::test]
async fn the_names_of_the_daemons_own_events_are_not_registered() {
    let daemon = TestDaemon::start().await;
    let own = json!({ "name": "postrider.webhook.disabled", "description": "" });
    assert_eq!(call(&daemon, Method::POST, "/event-type", own.clone()).await.status, 422);
    assert_eq!(call(&daemon, Method::PUT, "/event-type/postrider.webhook.disabled", own).await.status, 422);
}

#[tokio::test]
async fn a_list_is_walked_forward_and_back_while_messages_arrive() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    app(&daemon, "other").await;
    let endpoint = text(&endpoint(&daemon, "acme", &receiver).await, "id").to_owned();
    let mut all = Vec::new();
    for n in 0..11 {
        all.push(text(&message(&daemon, "acme", n).await, "id").to_owned());
        message(&daemon, "other", n).await;
        if n % 4 == 3 {
            daemon.advance_s(86_401);
        }
    }
    receiver.take(11).await;
    daemon.restart().await;
    for path in ["/app/acme/msg".to_owned(), format!("/app/acme/endpoint/{endpoint}/msg")] {
        let newest_first: Vec<String> = all.iter().rev().cloned().collect();
        let first = eventually("the newest rows", async || {
            let page = get(&daemon, &format!("{path}?limit=4")).await;
            (ids(&page) == newest_first[..4]).then_some(page)
        })
        .await;
        let iterator = text(&first, "iterator").to_owned();
        assert_eq!(iterator, newest_first[3]);
        assert_eq!(first["prevIterator"], format!("-{}", newest_first[0]));
        let later = text(&message(&daemon, "acme", 99).await, "id").to_owned();
        receiver.next().await;
        assert_eq!(walk(&daemon, &path, Some(&iterator), "iterator").await, newest_first[4..], "{path}");
        let back = walk(&daemon, &path, Some(&format!("-{}", all[0])), "prevIterator").await;
        all.push(later);
        assert_eq!(back[..all.len() - 2], all[1..all.len() - 1], "{path}");
    }
    let last = get(&daemon, &format!("/app/acme/msg?limit=250&iterator={}", all[0])).await;
    assert_eq!(last, json!({ "data": [], "iterator": null, "done": true }));
    let attempts = walk(&daemon, &format!("/app/acme/attempt/endpoint/{endpoint}"), None, "iterator").await;
    let mut rising = attempts.clone();
    rising.sort_unstable();
    rising.dedup();
    assert_eq!(rising.len(), attempts.len());
    rising.reverse();
    assert_eq!(rising, attempts, "newest first without a repetition");
}

#[tokio::test]
async fn times_bound_a_list_and_after_alone_gives_the_oldest() {
    let daemon = TestDaemon::start().await;
    app(&daemon, "acme").await;
    let mut made = Vec::new();
    for n in 0..4 {
        made.push(message(&daemon, "acme", n).await);
        daemon.advance_s(60);
    }
    let id = |n: usize| text(&made[n], "id").to_owned();
    let time = |n: usize| text(&made[n], "timestamp").to_owned();
    let list = async |query: String| ids(&get(&daemon, &format!("/app/acme/msg?{query}")).await);
    assert_eq!(list(format!("before={}", time(2))).await, [id(1), id(0)], "exclusive");
    assert_eq!(list(format!("after={}", time(2))).await, [id(3), id(2)], "inclusive");
    assert_eq!(list(format!("after={}&limit=2", time(0))).await, [id(1), id(0)], "the oldest");
    assert_eq!(list(format!("after={}&before={}&limit=1", time(0), time(3))).await, [id(2)]);
    assert_eq!(list(format!("after={}&iterator={}", time(1), id(3))).await, [id(2), id(1)]);
}

#[tokio::test]
async fn lists_of_apps_and_endpoints_go_both_ways_in_both_orders() {
    let daemon = TestDaemon::start().await;
    let mut apps = Vec::new();
    for n in 0..7 {
        apps.push(text(&app(&daemon, &format!("app-{n}")).await, "id").to_owned());
    }
    assert_eq!(walk(&daemon, "/app", None, "iterator").await, apps);
    let back = walk(&daemon, "/app", Some(&format!("-{}", apps[6])), "prevIterator").await;
    assert_eq!(back, apps[..6].iter().rev().cloned().collect::<Vec<_>>());
    let falling = get(&daemon, "/app?order=descending&limit=2").await;
    assert_eq!(ids(&falling), [apps[6].clone(), apps[5].clone()]);
    let receiver = Receiver::start().await;
    let first = text(&endpoint(&daemon, "app-0", &receiver).await, "id").to_owned();
    let second = text(&endpoint(&daemon, "app-0", &receiver).await, "id").to_owned();
    assert_eq!(ids(&get(&daemon, "/app/app-0/endpoint").await), [second.clone(), first.clone()]);
    assert_eq!(ids(&get(&daemon, "/app/app-0/endpoint?order=ascending").await), [first, second]);
}

#[tokio::test]
async fn a_row_of_a_message_shows_all_its_deliveries() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_statuses([500]);
    app(&daemon, "acme").await;
    let endpoint = text(&endpoint(&daemon, "acme", &receiver).await, "id").to_owned();
    let made = message(&daemon, "acme", 1).await;
    let row = async |path: &str, status: u64| {
        eventually("the row", async || {
            let page = get(&daemon, path).await;
            page["data"].as_array().unwrap().first().filter(|row| row["status"] == status).cloned()
        })
        .await
    };
    receiver.next().await;
    let (of_endpoint, of_message) =
        (format!("/app/acme/endpoint/{endpoint}/msg"), format!("/app/acme/msg/{}/endpoint", text(&made, "id")));
    let sending = row(&of_endpoint, 3).await;
    assert_eq!((&sending["id"], &sending["statusText"]), (&made["id"], &json!("sending")));
    assert!(sending["nextAttempt"].is_string() && sending["payload"] == json!({ "n": 1 }));
    let failed = row(&of_message, 2).await;
    assert_eq!((&failed["id"], &failed["nextAttempt"]), (&json!(endpoint), &sending["nextAttempt"]));
    daemon.advance_s(10);
    receiver.next().await;
    let done = row(&of_endpoint, 0).await;
    assert_eq!(done["nextAttempt"], Value::Null);
    row(&of_message, 0).await;
    assert_eq!(ids(&get(&daemon, &format!("{of_endpoint}?status=0")).await).len(), 1);
    assert_eq!(ids(&get(&daemon, &format!("{of_endpoint}?status=1")).await).len(), 0);
    assert_eq!(call(&daemon, Method::DELETE, &format!("/app/acme/endpoint/{endpoint}"), Value::Null).await.status, 204);
    assert_eq!(ids(&get(&daemon, &of_message).await), [endpoint], "a removed endpoint is listed too");
}

#[tokio::test]
async fn a_portal_token_sees_its_app_and_may_not_send() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    app(&daemon, "other").await;
    let made = endpoint(&daemon, "acme", &receiver).await;
    let own = format!("/app/acme/endpoint/{}", text(&made, "id"));
    let access = post(&daemon, "/auth/app-portal-access/acme", json!({ "expiry": 3600 }), 200).await;
    assert!(!text(&access, "token").contains('.') && !text(&access, "url").is_empty());
    let portal = daemon.with_key(text(&access, "token"));
    for path in ["/app/acme", "/app/acme/endpoint", "/app/acme/msg", &own, &format!("{own}/secret")] {
        get(&portal, path).await;
    }
    for (method, path, body) in [
        (Method::GET, "/app", Value::Null),
        (Method::POST, "/app", json!({ "name": "x" })),
        (Method::PUT, "/app/acme", json!({ "name": "x" })),
        (Method::DELETE, "/app/acme", Value::Null),
        (Method::POST, "/app/acme/msg", json!({ "eventType": "a", "payload": {} })),
        (Method::POST, "/auth/app-portal-access/acme", json!({})),
    ] {
        let refused = call(&portal, method, path, body).await.expect(403);
        assert_eq!(refused["code"], "insufficient access", "{path}");
    }
    for path in ["/app/other", "/app/other/endpoint", "/app/other/msg"] {
        assert_eq!(call(&portal, Method::GET, path, Value::Null).await.status, 404, "{path}");
    }
    let read_only = post(&daemon, "/auth/app-portal-access/acme", json!({ "readOnly": true }), 200).await;
    let reader = daemon.with_key(text(&read_only, "token"));
    assert_eq!(call(&reader, Method::GET, &own, Value::Null).await.status, 200);
    assert_eq!(call(&reader, Method::GET, &format!("{own}/secret"), Value::Null).await.status, 403);
    assert_eq!(call(&reader, Method::DELETE, &own, Value::Null).await.status, 403);
    assert_eq!(call(&portal, Method::POST, "/auth/logout", Value::Null).await.status, 204);
    assert_eq!(call(&portal, Method::GET, "/app/acme", Value::Null).await.status, 401);
}

#[tokio::test]
async fn pages_of_listed_origins_may_call_and_no_others() {
    const ORIGIN: &str = "https://portal.example.com";
    let daemon = TestDaemon::with(|settings| settings.server.allowed_origins = vec![ORIGIN.to_owned()]).await;
    let preflight = async |origin: &str, path: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "authorization"),
        ];
        daemon.with_key("").call(Method::OPTIONS, path, &headers, "").await
    };
    let answer = preflight(ORIGIN, "/api/v1/app").await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
    assert_eq!(answer.header("access-control-allow-headers"), Some("authorization"));
    assert_eq!(answer.header("access-control-max-age"), Some("600"));
    assert_eq!(preflight("https://evil.example", "/api/v1/app").await.status, 403);
    assert_ne!(preflight(ORIGIN, "/v1/apps").await.status, 204, "only this shape is shared");
    let with = async |origin: &str, path: &str| {
        daemon.call(Method::GET, path, &[("origin", origin), ("sec-fetch-site", "cross-site")], "").await
    };
    let shared = with(ORIGIN, "/api/v1/app").await;
    assert_eq!((shared.status.as_u16(), shared.header("access-control-allow-origin")), (200, Some(ORIGIN)));
    let missing = with(ORIGIN, "/api/v1/app/none").await;
    assert_eq!((missing.status.as_u16(), missing.header("access-control-allow-origin")), (404, Some(ORIGIN)));
    assert_eq!(with("https://evil.example", "/api/v1/app").await.status, 403);
    assert_eq!(with(ORIGIN, "/v1/apps").await.status, 403);
}

#[tokio::test]
async fn health_needs_no_token() {
    let daemon = TestDaemon::start().await;
    let stranger = daemon.with_key("");
    for path in ["/health", "/health/ping", "/health/"] {
        assert_eq!(call(&stranger, Method::GET, path, Value::Null).await.status, 204, "{path}");
        assert_eq!(call(&stranger, Method::HEAD, path, Value::Null).await.status, 204, "{path}");
    }
}
