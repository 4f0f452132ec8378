//! Pages about waiting and failed deliveries: cancelling the chosen ones of a list, a webhook whose queue a failure blocks,
//! failures for good, and a replay to a paused webhook.

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::security::pages::{Browser, token_of};
use crate::security::support::{Instance, eventually, rows, text};

/// A webhook whose attempts fail and are repeated after ten minutes.
async fn failing(instance: &Instance, fields: Value) -> Value {
    // Nothing listens there any more.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut body = json!({ "url": format!("http://{free}/"), "name": "stuck", "retry_schedule_s": [600] });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    instance.first.post("/v1/webhooks", body).await.expect(201)
}

/// Publishes events. Returns the deliveries of the webhook once one of them has failed, oldest first.
async fn publish(instance: &Instance, count: usize) -> Vec<Value> {
    for n in 0..count {
        instance.first.post("/v1/events", json!({ "type": "a", "data": n })).await.expect(202);
    }
    eventually("a failed attempt", async || {
        let mut found = rows(&instance.first, "/v1/deliveries").await;
        found.reverse();
        (found.len() == count && found[0]["status"] == "retrying").then_some(found)
    })
    .await
}

/// The token of the button that posts to another action than its form.
fn token_of_button(page: &str, action: &str) -> String {
    let start = format!("formaction=\"{action}\" name=\"other-token\" value=\"");
    let (_, token) = page.split_once(&start).expect("the button");
    token.split('"').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chosen_deliveries_are_cancelled_after_a_page_that_asks() {
    let instance = Instance::start().await;
    failing(&instance, json!({ "ordered": true })).await;
    let made = publish(&instance, 3).await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let list = browser.get("/ui/deliveries?status=waiting").await;
    let token = token_of_button(&list.body, "deliveries/cancel");
    let retry = list.body.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let chosen = |token: &str| {
        format!("token={retry}&other-token={token}&id[]={}&id[]={}", text(&made[0], "id"), text(&made[2], "id"))
    };
    let refused = browser.post("/ui/deliveries/cancel", &chosen("x")).await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert_ne!(retry, token, "each action has its own token");
    let asked = browser.post("/ui/deliveries/cancel", &chosen(&token)).await;
    assert!(asked.status == 200 && asked.body.contains("Cancel 2 deliveries"), "{}", asked.body);
    let statuses = async || {
        let mut found = rows(&instance.first, "/v1/deliveries").await;
        found.reverse();
        found.iter().map(|row| text(row, "status").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(statuses().await, ["retrying", "pending", "pending"], "nothing before the answer");
    let sure = browser.post("/ui/deliveries/cancel", &format!("{}&sure=yes", chosen(&token))).await;
    assert_eq!(sure.status, 303, "{}", sure.body);
    let after = statuses().await;
    assert_eq!((after[0].as_str(), after[2].as_str()), ("cancelled", "cancelled"));
    let again = browser.post("/ui/deliveries/cancel", &format!("{}&sure=yes", chosen(&token))).await;
    assert_eq!(again.headers["location"], "../deliveries?done=none-open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_whose_queue_waits_behind_a_failed_delivery_is_shown_as_blocked() {
    let instance = Instance::start().await;
    let hook = failing(&instance, json!({ "ordered": true })).await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let pages = ["/ui/webhooks".to_owned(), format!("/ui/webhooks/{}", text(&hook, "id")), "/ui/".to_owned()];
    let made = publish(&instance, 1).await;
    for page in &pages {
        assert!(!browser.get(page).await.body.contains("Blocked"), "{page}: no delivery waits behind this one");
    }
    instance.first.post("/v1/events", json!({ "type": "a", "data": 1 })).await.expect(202);
    for page in &pages {
        assert!(browser.get(page).await.body.contains("Blocked"), "{page}");
    }
    let head = format!("deliveries/{}", text(&made[0], "id"));
    assert!(browser.get(&pages[1]).await.body.contains(&head), "the page links to the delivery before them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_whose_deliveries_failed_for_good_says_so_where_nothing_waits() {
    let instance = Instance::start().await;
    let hook = failing(&instance, json!({ "retry_schedule_s": [] })).await;
    for n in 0..2 {
        instance.first.post("/v1/events", json!({ "type": "a", "data": n })).await.expect(202);
    }
    eventually("both failures", async || {
        (rows(&instance.first, "/v1/deliveries?status=failed").await.len() == 2).then_some(())
    })
    .await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let id = text(&hook, "id");
    for (page, up) in [("/ui/".to_owned(), ""), (format!("/ui/webhooks/{id}"), "../")] {
        let shown = browser.get(&page).await.body;
        let said = format!(
            "Nothing waits. <a href=\"{up}deliveries?status=failed&amp;webhook={id}&amp;last=24h\">2 failed for good</a>"
        );
        assert!(shown.contains(&said), "{page}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_to_a_paused_webhook_says_that_it_is_paused() {
    let instance = Instance::start().await;
    let hook = failing(&instance, json!({ "status": "paused" })).await;
    instance.first.post("/v1/events", json!({ "type": "a", "data": 1 })).await.expect(202);
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let fields = format!("webhook={}&status=waiting", text(&hook, "id"));
    let asked = browser.submit("/ui/replays/new", "replays/count", &fields).await;
    let said = "is paused. What waits for it is sent once it is resumed.";
    assert!(asked.body.contains("1 delivery to stuck") && asked.body.contains(said), "{}", asked.body);
    let made = browser.submit("/ui/replays/new", "replays/count", &fields).await;
    let token = token_of(&made.body, "replays/new");
    let made = browser.post("/ui/replays/new", &format!("token={token}&{fields}&matched=1&once=o-1")).await;
    assert_eq!(made.status, 303, "{}", made.body);
    let page = format!("/ui/replays/{}", made.headers["location"].to_str().unwrap());
    let shown = browser.get(&page).await.body;
    assert!(shown.contains(said), "{shown}");
    let resumed = format!("/v1/webhooks/{}/resume", text(&hook, "id"));
    instance.first.post(&resumed, json!({})).await.expect(200);
    assert!(!browser.get(&page).await.body.contains("is paused"), "it is resumed");
    let fields = encoded_ids(&rows(&instance.first, "/v1/deliveries").await);
    let paused = format!("/v1/webhooks/{}/pause", text(&hook, "id"));
    instance.first.post(&paused, json!({})).await.expect(200);
    let again = browser.submit("/ui/deliveries", "deliveries/retry", &fields).await;
    assert!(again.body.contains("To stuck (paused: sent once it is resumed), at once"), "{}", again.body);
}

/// The fields of a form that chooses these deliveries.
fn encoded_ids(deliveries: &[Value]) -> String {
    deliveries.iter().map(|delivery| format!("id[]={}", text(delivery, "id"))).collect::<Vec<_>>().join("&")
}
