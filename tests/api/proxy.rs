//! Deliveries through `delivery.proxy`: the requests that go through it, and that its failures do not count against
//! receivers.

use http::Method;
use serde_json::{Value, json};

use crate::support::daemon::{text, value};
use crate::support::proxy::{Proxy, ProxyAct};
use crate::support::{Client, Receiver, TestDaemon, eventually};

async fn daemon_behind(proxy: &Proxy, no_proxy: &[&str]) -> TestDaemon {
    TestDaemon::with(|settings| {
        settings.delivery.proxy = Some(postrider::config::SecretSetting::new(proxy.url()));
        settings.delivery.no_proxy = no_proxy.iter().map(|entry| (*entry).to_owned()).collect();
    })
    .await
}

/// The receiver's URL under a name that only the proxy resolves.
fn named(receiver: &Receiver) -> String {
    format!("http://shop.example:{}/hook", receiver.address.port())
}

async fn warnings(daemon: &TestDaemon) -> Vec<String> {
    let ready = daemon.get("/readyz").await;
    assert_eq!(ready["status"], "ready", "{ready}");
    let rows = ready["warnings"].as_array().expect("a list");
    rows.iter().map(|row| text(row, "code").to_owned()).collect()
}

#[tokio::test]
async fn a_delivery_reaches_a_name_that_only_the_proxy_resolves() {
    let (proxy, receiver) = (Proxy::start(ProxyAct::Forward).await, Receiver::start().await);
    let daemon = daemon_behind(&proxy, &["127.0.0.1"]).await;
    daemon.webhook(&named(&receiver), json!({ "auth": { "type": "bearer", "token": "of-the-receiver" } })).await;
    let event = daemon.publish("a.b", json!(1)).await;
    let request = receiver.next().await;
    assert_eq!((request.target.as_str(), request.header("authorization")), ("/hook", "Bearer of-the-receiver"));
    let delivery = daemon.delivery_in(&event, "delivered").await;
    let attempts = daemon.attempts(&delivery).await;
    assert_eq!((&attempts[0]["outcome"], &attempts[0]["remote_addr"]), (&json!("success"), &Value::Null));
    assert!(!attempts[0].to_string().contains("proxy-authorization"), "{attempts:?}");
    let heads = proxy.heads();
    assert!(heads[0].starts_with(&format!("POST {} HTTP/1.1\r\n", named(&receiver))), "{heads:?}");

    // Closed addresses are closed before the proxy is asked, and no_proxy leads past it.
    for closed in ["http://10.0.0.1/", "http://169.254.169.254/", "http://printer/"] {
        let refused = daemon.try_post("/v1/webhooks", json!({ "url": closed })).await;
        assert_eq!(refused.status, 422, "{closed}");
    }
    let direct = Receiver::start().await;
    daemon.webhook(&direct.url(), json!({ "event_types": ["direct"] })).await;
    let event = daemon.publish("direct", json!(1)).await;
    direct.next().await;
    daemon.get(&format!("/v1/events/{}", text(&event, "id"))).await;
    assert!(proxy.heads().iter().all(|head| head.contains("shop.example")), "{:?}", proxy.heads());
    let metrics = daemon.metrics().await;
    assert_eq!(value(&metrics, "postrider_proxy_up"), 1.0);
}

#[tokio::test]
async fn while_the_proxy_is_down_deliveries_wait_and_no_receiver_is_blamed() {
    let (proxy, receiver) = (Proxy::start(ProxyAct::Forward).await, Receiver::start().await);
    let (address, daemon) = (proxy.address, daemon_behind(&proxy, &[]).await);
    drop(proxy);
    let webhook = daemon.webhook(&named(&receiver), json!({ "retry_schedule_s": "none", "disable_after_s": 1 })).await;
    let events: Vec<Value> = [daemon.publish("a.b", json!(1)).await, daemon.publish("a.b", json!(2)).await].into();
    eventually("a warning", async || warnings(&daemon).await.contains(&"proxy_unreachable".to_owned()).then_some(()))
        .await;
    // Longer than a receiver may fail before it is disabled.
    for step in 0..5 {
        let before = value(&daemon.metrics().await, "postrider_proxy_failures_total{reason=\"unreachable\"}");
        daemon.advance_s(30);
        eventually("another try", async || {
            let now = value(&daemon.metrics().await, "postrider_proxy_failures_total{reason=\"unreachable\"}");
            (now > before).then_some(())
        })
        .await;
        assert_eq!(value(&daemon.metrics().await, "postrider_proxy_up"), 0.0, "step {step}");
    }
    let seen = daemon.read_webhook(&webhook).await;
    assert_eq!(
        (&seen["consecutive_failures"], &seen["circuit"], &seen["status"]),
        (&json!(0), &json!("closed"), &json!("enabled"))
    );
    for event in &events {
        let delivery = daemon.delivery_in(event, "pending").await;
        assert_eq!(daemon.attempts(&delivery).await, Vec::<Value>::new());
    }
    let tested = daemon.post(&format!("/v1/webhooks/{}/test", text(&webhook, "id")), json!({})).await;
    assert!(tested.to_string().contains("The proxy failed: it cannot be reached: Connection refused"), "{tested}");

    let proxy = Proxy::at(address, ProxyAct::Forward).await;
    daemon.advance_s(30);
    receiver.take(2).await;
    for event in &events {
        let delivery = daemon.delivery_in(event, "delivered").await;
        assert_eq!(daemon.attempts(&delivery).await.len(), 1);
    }
    assert_eq!(warnings(&daemon).await, Vec::<String>::new());
    assert_eq!((value(&daemon.metrics().await, "postrider_proxy_up"), proxy.heads().len()), (1.0, 2));
}

#[tokio::test]
async fn a_refused_tunnel_is_an_attempt_that_opens_no_circuit() {
    let proxy = Proxy::start(ProxyAct::Status(503)).await;
    let daemon = daemon_behind(&proxy, &[]).await;
    let webhook = daemon
        .webhook(
            "https://shop.example/",
            json!({ "retry_schedule_s": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], "disable_after_s": 5 }),
        )
        .await;
    let event = daemon.publish("a.b", json!(1)).await;
    for made in 1..=11 {
        daemon.delivery_when(&event, |row| row["attempts"] == made).await;
        daemon.advance_s(2);
    }
    let delivery = daemon.delivery_in(&event, "failed").await;
    let attempts = daemon.attempts(&delivery).await;
    assert_eq!(attempts.len(), 12);
    let named = "The proxy failed: it answered CONNECT with 503 Service Unavailable";
    assert!(attempts.iter().all(|a| a["outcome"] == "proxy_error" && a["error"] == named), "{attempts:?}");
    let seen = daemon.read_webhook(&webhook).await;
    assert_eq!(
        (&seen["consecutive_failures"], &seen["circuit"], &seen["status"]),
        (&json!(0), &json!("closed"), &json!("enabled"))
    );
    assert_eq!(warnings(&daemon).await, Vec::<String>::new());
    assert_eq!(value(&daemon.metrics().await, "postrider_proxy_failures_total{reason=\"refused\"}"), 12.0);
    assert!(proxy.heads()[0].starts_with("CONNECT shop.example:443 HTTP/1.1\r\n"), "{:?}", proxy.heads());
}

#[tokio::test]
async fn a_proxy_that_closes_every_connection_is_unreachable_and_no_receiver_is_blamed() {
    let proxy = Proxy::start(ProxyAct::Close).await;
    let daemon = daemon_behind(&proxy, &[]).await;
    let webhook = daemon.webhook("https://shop.example/", json!({ "retry_schedule_s": "none" })).await;
    let event = daemon.publish("a.b", json!(1)).await;
    eventually("a warning", async || warnings(&daemon).await.contains(&"proxy_unreachable".to_owned()).then_some(()))
        .await;
    let delivery = daemon.delivery_in(&event, "pending").await;
    assert_eq!(daemon.attempts(&delivery).await, Vec::<Value>::new());
    assert_eq!(daemon.read_webhook(&webhook).await["consecutive_failures"], 0);
    // A proxy that answers others and closes this connection refuses this receiver.
    proxy.does(ProxyAct::Status(503));
    daemon.advance_s(2);
    let delivery = daemon.delivery_in(&event, "failed").await;
    assert_eq!(daemon.attempts(&delivery).await.len(), 1);
    assert_eq!(warnings(&daemon).await, Vec::<String>::new());
    proxy.does(ProxyAct::Close);
    let event = daemon.publish("a.b", json!(2)).await;
    let delivery = daemon.delivery_in(&event, "failed").await;
    let attempts = daemon.attempts(&delivery).await;
    let named = "The proxy failed: it closed the connection without an answer to CONNECT";
    assert!(attempts.len() == 1 && attempts[0]["error"] == named, "{attempts:?}");
    assert_eq!(warnings(&daemon).await, Vec::<String>::new());
}

#[tokio::test]
async fn refused_credentials_are_no_attempt_and_hold_back_no_other_receiver() {
    let (proxy, receiver) = (Proxy::start(ProxyAct::Status(407)).await, Receiver::start().await);
    let daemon = daemon_behind(&proxy, &[]).await;
    daemon.webhook("https://shop.example/", json!({ "event_types": ["tunnel"], "retry_schedule_s": "none" })).await;
    let event = daemon.publish("tunnel", json!(1)).await;
    eventually("a warning", async || warnings(&daemon).await.contains(&"proxy_credentials".to_owned()).then_some(()))
        .await;
    let delivery = daemon.delivery_in(&event, "pending").await;
    assert_eq!(daemon.attempts(&delivery).await, Vec::<Value>::new());
    // An http receiver may have written such an answer itself, so it counts as an attempt.
    let plain = daemon.webhook(&named(&receiver), json!({ "event_types": ["plain"], "retry_schedule_s": [5] })).await;
    let event = daemon.publish("plain", json!(1)).await;
    let delivery = daemon.delivery_in(&event, "retrying").await;
    let attempt = &daemon.attempts(&delivery).await[0];
    assert_eq!(attempt["outcome"], "proxy_error");
    assert!(text(attempt, "error").ends_with("check delivery.proxy's user and password"), "{attempt}");
    assert_eq!(daemon.read_webhook(&plain).await["consecutive_failures"], 0);
    proxy.does(ProxyAct::Forward);
    daemon.advance_s(10);
    daemon.delivery_in(&event, "delivered").await;
}

/// A client whose key has the scope `admin`: of a new organization, or of the installation's own.
async fn admin_of(daemon: &TestDaemon, path: &str) -> Client {
    let made = daemon
        .post(
            path,
            if path == "/v1/keys" { json!({ "name": "a", "scopes": ["admin"] }) } else { json!({ "name": "o" }) },
        )
        .await;
    daemon.client.with_key(text(&made, "key"))
}

#[tokio::test]
async fn only_the_installations_admin_makes_a_webhook_bypass_the_proxy_or_points_such_a_one_elsewhere() {
    let (proxy, receiver) = (Proxy::start(ProxyAct::Status(503)).await, Receiver::start().await);
    let daemon = daemon_behind(&proxy, &[]).await;
    let key = daemon.post("/v1/keys", json!({ "name": "w", "scopes": ["webhooks:write", "webhooks:read"] })).await;
    let writer = daemon.client.with_key(text(&key, "key"));
    let bypassing = json!({ "url": receiver.url(), "proxy": "none" });
    let refused = writer.try_post("/v1/webhooks", bypassing.clone()).await.expect(403);
    assert_eq!(refused["code"], "scope_missing");
    for admin in [admin_of(&daemon, "/v1/organizations").await, admin_of(&daemon, "/v1/keys").await] {
        let refused = admin.try_post("/v1/webhooks", bypassing.clone()).await.expect(403);
        assert_eq!(refused["code"], "installation_only", "{refused}");
    }
    let webhook = daemon.try_post("/v1/webhooks", bypassing).await.expect(201);
    assert_eq!(webhook["proxy"], "none");
    daemon.publish("a.b", json!(1)).await;
    receiver.next().await;
    assert_eq!(proxy.heads(), Vec::<String>::new());

    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    let patch = async |client: &Client, patch: Value| {
        let headers = [("content-type", "application/merge-patch+json")];
        client.call(Method::PATCH, &path, &headers, patch.to_string()).await
    };
    let admin = admin_of(&daemon, "/v1/keys").await;
    for key in [&writer, &admin] {
        patch(key, json!({ "url": "http://other.example/" })).await.expect(403);
    }
    assert_eq!(patch(&writer, json!({ "name": "n", "proxy": "none" })).await.expect(200)["proxy"], "none");
    assert_eq!(patch(&writer, json!({ "proxy": null })).await.expect(200)["proxy"], "default");
    for key in [&writer, &admin] {
        patch(key, json!({ "proxy": "none" })).await.expect(403);
    }
    patch(&writer, json!({ "proxy": "direct" })).await.expect(422);
    assert_eq!(patch(&daemon.client, json!({ "proxy": "none" })).await.expect(200)["proxy"], "none");
}
