//! Pages under a key that has a part of the scopes, and the page of an event that a webhook did not get.

use serde_json::json;

use crate::security::pages::Browser;
use crate::security::support::{Instance, delivered, echo, eventually, rows, text};

/// A browser whose key has these scopes alone.
async fn browser_with(instance: &Instance, scopes: &[&str]) -> Browser {
    let body = json!({ "name": "part", "scopes": scopes });
    let made = instance.first.post("/v1/keys", body).await.expect(201);
    Browser::with_key(instance, text(&made, "key")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_webhooks_and_links_to_them_need_the_scope_of_webhooks() {
    let instance = Instance::start().await;
    let webhook = json!({ "url": format!("http://{}/", echo().await), "name": "unnamed-to-some" });
    let (made, delivery) = delivered(&instance.first, webhook, json!({ "type": "a", "data": 1 })).await;
    let (hook, event, delivery) = (text(&made["webhook"], "id"), text(&made["event"], "id"), text(&delivery, "id"));
    let pages = [
        "/ui/deliveries".to_owned(),
        format!("/ui/deliveries?webhook={hook}"),
        "/ui/live".to_owned(),
        format!("/ui/events/{event}"),
        format!("/ui/deliveries/{delivery}"),
    ];
    let events = browser_with(&instance, &["events:read"]).await;
    let both = browser_with(&instance, &["events:read", "webhooks:read"]).await;
    let link = format!("webhooks/{hook}\"");
    for page in &pages {
        let shown = both.get(page).await;
        assert_eq!(shown.status, 200);
        assert!(shown.body.contains("unnamed-to-some") && shown.body.contains(&link), "{page}: {}", shown.body);
        let shown = events.get(page).await;
        assert_eq!(shown.status, 200);
        assert!(!shown.body.contains("unnamed-to-some") && !shown.body.contains(&link), "{page}: {}", shown.body);
    }
    let webhooks = browser_with(&instance, &["webhooks:read"]).await;
    for page in ["/ui/".to_owned(), format!("/ui/webhooks/{hook}")] {
        let shown = webhooks.get(&page).await;
        assert_eq!(shown.status, 200);
        assert!(!shown.body.contains("deliveries?status="), "{page} leads to a 403: {}", shown.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_says_why_a_webhook_did_not_get_it_and_sends_it_there() {
    let instance = Instance::start().await;
    let url = format!("http://{}/", echo().await);
    let make = async |name: &str, fields: serde_json::Value| {
        let mut body = json!({ "url": url, "name": name });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        text(&instance.first.post("/v1/webhooks", body).await.expect(201), "id").to_owned()
    };
    make("other-types", json!({ "event_types": ["b.*"] })).await;
    let filtered =
        make("large-ones", json!({ "event_types": ["a"], "filter": { "all": [{ "path": "/n", "gte": 5 }] } })).await;
    let event = instance.first.post("/v1/events", json!({ "type": "a", "data": { "n": 1 } })).await.expect(202);
    let page = format!("/ui/events/{}", text(&event, "id"));
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let shown = browser.get(&page).await.body;
    let [by_filter, by_type] = ["large-ones", "other-types"].map(|name| shown.find(name).expect("its row"));
    assert!(by_filter < by_type, "those that want the type come first");
    assert!(shown.contains("Its filter does not match the data.") && shown.contains("It does not want this type."));
    let action = page.trim_start_matches("/ui/").to_owned() + "/resend";
    let sent = browser.submit(&page, &action, &format!("webhook_id={filtered}")).await;
    assert_eq!(sent.status, 303, "{}", sent.body);
    let to = sent.headers["location"].to_str().unwrap().to_owned();
    assert!(to.starts_with("../../deliveries/") && to.ends_with("?done=retried"), "{to}");
    eventually("its delivery", async || {
        let found = rows(&instance.first, "/v1/deliveries").await;
        found.iter().any(|row| row["webhook_id"] == json!(filtered) && row["status"] == "delivered").then_some(())
    })
    .await;
    assert!(!browser.get(&page).await.body.contains("Its filter does not match"), "it got the event now");
}
