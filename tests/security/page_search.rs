//! The box that finds: ids in the forms of the daemon, of its headers and of the vendors' shapes.

use postrider::model::{Id, Webhook, ksuid};
use postrider::rules::dfns_id;
use serde_json::json;

use crate::security::pages::Browser;
use crate::security::support::{Instance, delivered, echo, rows, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_found_in_each_form_that_customers_see() {
    let instance = Instance::start().await;
    let hook = json!({ "url": format!("http://{}/", echo().await), "name": "hook", "uid": "own-hook" });
    let (_, delivery) = delivered(&instance.first, hook, json!({ "type": "a", "data": 1 })).await;
    let app = rows(&instance.first, "/v1/apps").await.remove(0);
    let attempt = instance.first.get("/v1/attempts").await.expect(200)["data"][0].clone();
    let number = |row: &serde_json::Value, member: &str| text(row, member).parse::<Id<Webhook>>().unwrap().as_u128();
    let [webhook, event] = ["webhook_id", "event_id"].map(|member| number(&attempt, member));
    let [app, delivery, attempt] = [&app, &delivery, &attempt].map(|row| number(row, "id"));
    let uuid = |number| Id::<Webhook>::from_u128(number).to_string();
    let svix = |prefix: &str, number| format!("{prefix}_{}", ksuid::encode(number));
    let of_attempt = format!("deliveries/{}?attempt=1", uuid(delivery));
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    for (wanted, to) in [
        (uuid(webhook), format!("webhooks/{}", uuid(webhook))),
        (format!("whk_{}", uuid(webhook)), format!("webhooks/{}", uuid(webhook))),
        ("own-hook".to_owned(), format!("webhooks/{}", uuid(webhook))),
        (svix("ep", webhook), format!("webhooks/{}", uuid(webhook))),
        (dfns_id::webhook(Id::from_u128(webhook)), format!("webhooks/{}", uuid(webhook))),
        (format!("wh_{webhook:032x}"), format!("webhooks/{}", uuid(webhook))),
        (uuid(event), format!("events/{}", uuid(event))),
        (svix("msg", event), format!("events/{}", uuid(event))),
        (svix("app", app), format!("apps/{}", uuid(app))),
        (format!("app_{app:032x}"), format!("apps/{}", uuid(app))),
        (format!("evt_{delivery:032x}"), format!("deliveries/{}", uuid(delivery))),
        (svix("atmpt", attempt), of_attempt.clone()),
        (dfns_id::event(Id::from_u128(attempt)), of_attempt.clone()),
        (uuid(attempt), of_attempt),
    ] {
        let found = browser.get(&format!("/ui/find?q={wanted}")).await;
        assert_eq!(found.status, 303, "{wanted}: {}", found.body);
        assert_eq!(found.headers["location"], to, "{wanted}");
    }
    for unknown in [svix("msg", webhook), svix("qtask", webhook), format!("wh_{event:032x}")] {
        assert_eq!(browser.get(&format!("/ui/find?q={unknown}")).await.status, 200, "{unknown}");
    }
    let another = instance.first.post("/v1/apps", json!({ "name": "another" })).await.expect(201);
    let key = json!({ "name": "k", "scopes": ["webhooks:read", "events:read"], "app_id": text(&another, "id") });
    let key = instance.first.post("/v1/keys", key).await.expect(201);
    let other = Browser::with_key(&instance, text(&key, "key")).await;
    for of_others in [svix("ep", webhook), svix("msg", event)] {
        assert_eq!(other.get(&format!("/ui/find?q={of_others}")).await.status, 200, "{of_others} is of another app");
    }
}
