//! The permissions of keys: scopes, apps and organizations. Objects of other tenants are 404.

use http::Method;
use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Client, Receiver, START, TestDaemon};

async fn key(daemon: &TestDaemon, body: Value) -> Client {
    let mut whole = json!({ "name": "k" });
    for (name, value) in body.as_object().unwrap() {
        whole[name] = value.clone();
    }
    let made = daemon.try_post("/v1/keys", whole).await.expect(201);
    daemon.with_key(text(&made, "key"))
}

#[tokio::test]
async fn a_key_opens_the_routes_of_its_scopes_and_no_key_opens_none() {
    let daemon = TestDaemon::start().await;
    for path in ["/v1/events", "/v1/webhooks", "/v1/audit"] {
        assert_eq!(daemon.with_key("").try_get(path).await.expect(401)["code"], "credentials_missing", "{path}");
        assert_eq!(daemon.with_key("wrong").try_get(path).await.status, 401, "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(daemon.with_key("").try_get(path).await.status, 200, "{path}");
    }
    let reader = key(&daemon, json!({ "scopes": ["events:read"] })).await;
    reader.get("/v1/events").await;
    reader.get("/v1/deliveries").await;
    for path in ["/v1/webhooks", "/v1/stats", "/v1/keys", "/v1/audit", "/v1/apps", "/v1/organizations"] {
        assert_eq!(reader.try_get(path).await.expect(403)["code"], "scope_missing", "{path}");
    }
    assert_eq!(reader.try_post("/v1/events", json!({ "type": "a", "data": 1 })).await.status, 403);
    let writer = key(&daemon, json!({ "scopes": ["webhooks:read", "webhooks:write"] })).await;
    let hook = writer.try_post("/v1/webhooks", json!({ "url": "http://127.0.0.1:4000/" })).await.expect(201);
    assert_eq!(writer.try_get(&format!("/v1/webhooks/{}/secret", text(&hook, "id"))).await.status, 403);
}

#[tokio::test]
async fn the_description_and_its_page_need_no_key() {
    let daemon = TestDaemon::start().await;
    let stranger = daemon.with_key("");
    let document = stranger.try_get("/openapi.json").await;
    let page = stranger.try_get("/docs").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'unsafe-inline'"), "{policy}");
    let shown = String::from_utf8(page.body.to_vec()).expect("text");
    assert_eq!(shown, postrider::api::openapi::html::page(&document.json()), "both describe the same API");
    assert_eq!(stranger.call(Method::POST, "/docs", &[], "").await.status, 405);
}

#[tokio::test]
async fn a_key_can_be_bounded_in_time_in_rate_and_be_revoked() {
    let daemon = TestDaemon::start().await;
    let until = START.plus_ms(60_000).to_string();
    let brief = key(&daemon, json!({ "scopes": ["events:read"], "expires_at": until })).await;
    brief.get("/v1/events").await;
    daemon.advance_s(60);
    assert_eq!(brief.try_get("/v1/events").await.status, 401);
    let over = json!({ "name": "over", "scopes": ["events:read"], "expires_at": until });
    assert_eq!(daemon.try_post("/v1/keys", over).await.expect(422)["errors"][0]["pointer"], "/expires_at");

    let slow = key(&daemon, json!({ "scopes": ["events:read"], "rate_per_s": 2 })).await;
    slow.get("/v1/events").await;
    slow.get("/v1/events").await;
    let limited = slow.try_get("/v1/events").await;
    assert_eq!((limited.status.as_u16(), limited.header("retry-after")), (429, Some("1")));
    daemon.advance_s(1);
    slow.get("/v1/events").await;

    let made = daemon.post("/v1/keys", json!({ "name": "gone", "scopes": ["events:read"] })).await;
    let gone = daemon.with_key(text(&made, "key"));
    gone.get("/v1/events").await;
    assert_eq!(daemon.delete(&format!("/v1/keys/{}", text(&made, "id"))).await.status, 204);
    assert_eq!(gone.try_get("/v1/events").await.status, 401);
}

#[tokio::test]
async fn objects_of_another_app_or_organization_are_not_found() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let app = daemon.post("/v1/apps", json!({ "name": "second", "uid": "two" })).await;
    let within = key(&daemon, json!({ "app_id": app["id"], "scopes": ["admin"] })).await;
    let other = daemon.post("/v1/organizations", json!({ "name": "other" })).await;
    let outside = daemon.with_key(text(&other, "key"));
    let hook = daemon.webhook(&receiver.url(), json!({})).await;
    let event = daemon.publish("a", json!(1)).await;
    let delivery = daemon.delivery_in(&event, "delivered").await;
    let attempt = daemon.attempts(&delivery).await.remove(0);
    for client in [&within, &outside] {
        for path in [
            format!("/v1/webhooks/{}", text(&hook, "id")),
            format!("/v1/webhooks/{}/feed", text(&hook, "id")),
            format!("/v1/webhooks/{}/stats", text(&hook, "id")),
            format!("/v1/events/{}", text(&event, "id")),
            format!("/v1/deliveries/{}", text(&delivery, "id")),
            format!("/v1/attempts/{}", text(&attempt, "id")),
        ] {
            assert_eq!(client.try_get(&path).await.status, 404, "{path}");
        }
        for path in ["/v1/events", "/v1/deliveries", "/v1/webhooks"] {
            assert_eq!(client.get(path).await["data"], json!([]), "{path}");
        }
        for path in [
            format!("/v1/events/{}/cancel", text(&event, "id")),
            format!("/v1/deliveries/{}/retry", text(&delivery, "id")),
            format!("/v1/webhooks/{}/pause", text(&hook, "id")),
        ] {
            assert_eq!(client.try_post(&path, json!({})).await.status, 404, "{path}");
        }
        let replay = client.try_post("/v1/replays", json!({ "webhook_id": hook["id"] })).await;
        assert_eq!(replay.status, 404);
    }
    // A key of an app publishes to its own app.
    let own = within.try_post("/v1/events", json!({ "type": "a", "data": 1 })).await.expect(202);
    assert_eq!((&own["app_id"], &own["deliveries"]), (&app["id"], &json!(0)));
    assert_eq!(within.try_post("/v1/organizations", json!({ "name": "x" })).await.status, 403);
    assert_eq!(outside.try_post("/v1/organizations", json!({ "name": "x" })).await.status, 403);
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn changes_are_audited_with_caller_and_address() {
    let daemon = TestDaemon::start().await;
    let hook = daemon.webhook("http://127.0.0.1:4000/", json!({})).await;
    let path = format!("/v1/webhooks/{}", text(&hook, "id"));
    daemon.patch(&path, json!({ "name": "renamed", "auth": { "type": "bearer", "token": "hidden" } })).await;
    daemon.call(Method::POST, &format!("{path}/pause"), &[("x-request-id", "r-9")], "").await.expect(200);
    let rows = daemon.get("/v1/audit").await["data"].as_array().unwrap().clone();
    let actions: Vec<&str> = rows.iter().map(|row| text(row, "action")).collect();
    assert_eq!(actions[..3], ["webhook.pause", "webhook.update", "webhook.create"]);
    assert_eq!((&rows[0]["request_id"], &rows[0]["target"]), (&json!("r-9"), &hook["id"]));
    assert!(rows[0]["key_id"].is_string() && text(&rows[0], "remote_addr").starts_with("127.0.0.1"));
    assert!(!rows[1].to_string().contains("hidden"), "{}", rows[1]);
}
