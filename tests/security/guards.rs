//! Guards of the API: pages of other sites, keys that make keys, and work that a key may ask for.

use http::Method;
use serde_json::json;
use tokio::net::TcpListener;

use crate::security::support::{Instance, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_asks_for_no_page_of_another_site() {
    let instance = Instance::within(Default::default(), |settings| {
        settings.server.allowed_hosts = vec!["https://console.example.com".to_owned()];
    })
    .await;
    let event = json!({ "type": "a.b", "data": 1 }).to_string();
    let ask = async |method: Method, path: &str, headers: &[(&str, &str)]| {
        let body = if method == Method::POST { event.as_str() } else { "" };
        instance.first.call(method, path, headers, body).await.status.as_u16()
    };
    for site in ["cross-site", "same-site"] {
        for (method, path) in [(Method::GET, "/v1/events"), (Method::POST, "/v1/events"), (Method::GET, "/healthz")] {
            assert_eq!(ask(method.clone(), path, &[("sec-fetch-site", site)]).await, 403, "{site} {method} {path}");
        }
        let listed = [("sec-fetch-site", site), ("origin", "https://console.example.com")];
        assert_eq!(ask(Method::GET, "/v1/events", &listed).await, 200, "the origin is permitted");
        let opens = [("sec-fetch-site", site), ("sec-fetch-mode", "navigate")];
        assert_ne!(ask(Method::GET, "/ui/", &opens).await, 403, "a link to the dashboard");
        assert_eq!(ask(Method::GET, "/v1/events", &opens).await, 403, "a link to data");
    }
    for site in ["same-origin", "none"] {
        assert_eq!(ask(Method::GET, "/v1/events", &[("sec-fetch-site", site)]).await, 200, "{site}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_makes_none_that_lives_longer_or_asks_more() {
    let instance = Instance::start().await;
    let (end, later) = ("2100-01-01T00:00:00Z", "2100-01-02T00:00:00Z");
    let body =
        json!({ "name": "maker", "scopes": ["keys:write", "events:read"], "rate_per_s": 10.0, "expires_at": end });
    let maker = instance.client(text(&instance.first.post("/v1/keys", body).await.expect(201), "key"));
    let child = |more: serde_json::Value| {
        let mut body = json!({ "name": "child", "scopes": ["events:read"] });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let refused = maker.post("/v1/keys", child(json!({ "expires_at": later }))).await.expect(422);
    assert_eq!(refused["errors"][0]["pointer"], "/expires_at", "{refused}");
    let refused = maker.post("/v1/keys", child(json!({ "rate_per_s": 11.0 }))).await.expect(422);
    assert_eq!(refused["errors"][0]["pointer"], "/rate_per_s", "{refused}");
    let made = maker.post("/v1/keys", child(json!({}))).await.expect(201);
    assert_eq!((&made["rate_per_s"], text(&made, "expires_at").get(..10)), (&json!(10.0), Some("2100-01-01")));
    let first = instance.client(text(&made, "key"));
    let second = instance.client(text(&maker.post("/v1/keys", child(json!({}))).await.expect(201), "key"));
    // The maker has used four of its ten requests a second, and its keys share the rest.
    for client in [&first, &second, &first, &second, &first, &second] {
        client.get("/v1/events").await.expect(200);
    }
    assert_eq!(first.get("/v1/events").await.status, 429);
    assert_eq!(second.get("/v1/events").await.status, 429);
    assert_eq!(maker.get("/v1/events").await.status, 429);
    instance.clock.advance_ms(100);
    second.get("/v1/events").await.expect(200);
    assert_eq!(first.get("/v1/events").await.status, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_tests_of_a_webhook_run_at_once() {
    let instance = Instance::start().await;
    // A receiver that accepts and never answers.
    let receiver = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", receiver.local_addr().expect("an address"));
    let webhook = instance.first.post("/v1/webhooks", json!({ "url": url, "timeout_ms": 30_000 })).await.expect(201);
    let path = format!("/v1/webhooks/{}/test", text(&webhook, "id"));
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (client, path) = (instance.client(&instance.first.key), path.clone());
        running.spawn(async move { client.call(Method::POST, &path, &[], "").await });
    }
    let refused = running.join_next().await.expect("one test is refused").expect("an answer");
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "too_many_tests"));
    assert!(refused.headers.contains_key("retry-after"));
    drop(receiver);
}
