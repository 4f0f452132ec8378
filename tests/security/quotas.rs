//! The quotas of tenants: a refusal names the quota and the time of its end, and metrics count refusals without names.

use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::security::support::{Answer, Instance, text};

fn exceeded(answer: Answer, quota: &str) -> String {
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "quota_exceeded"), "{}", answer.body);
    assert!(answer.headers.contains_key("retry-after"));
    let detail = text(&answer.json(), "detail").to_owned();
    assert!(detail.contains(&format!("quota {quota} of ")), "{detail}");
    detail
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_publishes_so_many_events_a_second_and_bytes_a_day() {
    let instance = Instance::within(Default::default(), |settings| {
        settings.quotas.events_per_second = 3;
        settings.quotas.bytes_per_day = 100;
    })
    .await;
    let event = |size: usize| json!({ "type": "a.b", "data": "x".repeat(size - 2) }).to_string();
    let publish = async |size: usize| instance.first.call(Method::POST, "/v1/events", &[], &event(size)).await;
    for _ in 0..3 {
        publish(10).await.expect(202);
    }
    let detail = exceeded(publish(10).await, "events_per_second");
    assert!(detail.contains("until 2"), "{detail}");
    let stats = instance.first.get("/v1/stats").await.expect(200);
    let quota = |name: &str| -> Value {
        let quotas = stats["quotas"].as_array().expect("a list");
        quotas.iter().find(|quota| quota["quota"] == name).cloned().unwrap_or_else(|| panic!("no {name}: {stats}"))
    };
    assert_eq!(quota("events_per_second"), json!({ "quota": "events_per_second", "limit": 3, "used": 3 }));
    assert_eq!(quota("bytes_per_day"), json!({ "quota": "bytes_per_day", "limit": 100, "used": 30 }));
    assert_eq!(quota("webhooks_per_organization")["limit"], 10_000);
    // Another app has its own.
    let app = instance.first.post("/v1/apps", json!({ "name": "other" })).await.expect(201);
    let other = json!({ "type": "a.b", "data": 1, "app_id": text(&app, "id") });
    instance.first.post("/v1/events", other).await.expect(202);
    instance.clock.advance_ms(1_000);
    publish(70).await.expect(202);
    exceeded(publish(10).await, "bytes_per_day");
    instance.clock.advance_ms(86_400_000);
    publish(10).await.expect(202);
    let metrics = instance.client("").get("/metrics").await.body;
    for line in ["{quota=\"events_per_second\"} 1", "{quota=\"bytes_per_day\"} 1", "{quota=\"webhooks_per_app\"} 0"] {
        assert!(metrics.contains(&format!("postrider_quota_refusals_total{line}")), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_has_so_many_webhooks_and_waiting_deliveries() {
    let instance = Instance::within(Default::default(), |settings| {
        settings.quotas.webhooks_per_app = 2;
        settings.quotas.webhooks_per_organization = 3;
        settings.quotas.waiting_deliveries = 2;
    })
    .await;
    // A receiver that accepts and never answers, so that deliveries wait.
    let receiver = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", receiver.local_addr().expect("an address"));
    let webhook = json!({ "url": url });
    let mut made = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (client, webhook) = (instance.client(&instance.first.key), webhook.clone());
        made.spawn(async move { client.post("/v1/webhooks", webhook).await });
    }
    let answers = made.join_all().await;
    let (right, wrong): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!((right.len(), wrong.len()), (2, 3), "also at the same time");
    for answer in wrong {
        exceeded(answer, "webhooks_per_app");
    }
    let app = instance.first.post("/v1/apps", json!({ "name": "other" })).await.expect(201);
    let made_once = async |key: &str| {
        let body = json!({ "url": url, "name": "once" }).to_string();
        instance.first.call(Method::POST, "/v1/webhooks", &[("idempotency-key", key)], &body).await
    };
    let id = text(&right[1].json(), "id").to_owned();
    instance.first.delete(&format!("/v1/webhooks/{id}")).await.expect(204);
    let first = made_once("once").await.expect(201);
    assert_eq!(made_once("once").await.expect(201), first, "an answer is repeated although the quota is used up");
    exceeded(made_once("twice").await, "webhooks_per_app");
    let of_app = json!({ "url": url, "app_id": text(&app, "id") });
    instance.first.post("/v1/webhooks", of_app.clone()).await.expect(201);
    exceeded(instance.first.post("/v1/webhooks", of_app).await, "webhooks_per_organization");
    let event = json!({ "type": "a.b", "data": 1 });
    instance.first.post("/v1/events", event.clone()).await.expect(202);
    // The clock stands still: deliveries count from the answer on, and not from the next second on.
    exceeded(instance.first.post("/v1/events", event).await, "waiting_deliveries");
}
