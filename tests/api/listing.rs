//! Lists: newest first, in pages that stay stable while rows arrive, filtered, searched, with the figures beside them.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Act, Receiver, START, TestDaemon};

fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|row| text(row, "id").to_owned()).collect()
}

/// All pages after a first page.
async fn rest_of(daemon: &TestDaemon, path: &str, first: &Value) -> Vec<String> {
    let (mut all, mut page) = (Vec::new(), first.clone());
    while let Some(next) = page["next_cursor"].as_str() {
        page = daemon.get(&format!("{path}&cursor={next}")).await;
        all.extend(ids(&page));
    }
    all
}

#[tokio::test]
async fn pages_are_stable_while_rows_arrive_and_go_over_partitions() {
    let mut daemon = TestDaemon::start().await;
    let mut expected = Vec::new();
    for n in 0..12 {
        expected.push(text(&daemon.publish("a", json!(n)).await, "id").to_owned());
        if n % 4 == 3 {
            daemon.advance_s(86_401);
        }
    }
    expected.reverse();
    let first = daemon.get("/v1/events?limit=5").await;
    assert_eq!(ids(&first), expected[..5]);
    daemon.publish("a", json!("new")).await;
    daemon.restart().await;
    assert_eq!(rest_of(&daemon, "/v1/events?limit=5", &first).await, expected[5..]);
    for bad in ["limit=0", "limit=251", "cursor=nonsense", "unknown=1", "from=yesterday", "type="] {
        assert_eq!(daemon.try_get(&format!("/v1/events?{bad}")).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn events_are_found_by_their_fields() {
    let daemon = TestDaemon::start().await;
    let app = daemon.post("/v1/apps", json!({ "name": "second", "uid": "two" })).await;
    let a = daemon
        .publish_with(json!({ "type": "order.paid", "data": 1, "subject": "Ann@example.com", "event_id": "e-1" }))
        .await;
    daemon.advance_s(60);
    let b = daemon.publish_with(json!({ "type": "order.sent", "data": 1, "app_id": "two" })).await;
    daemon.advance_s(60);
    let c = daemon.publish_with(json!({ "type": "order.paid", "data": 1, "subject": "bob@example.com" })).await;
    let minute = |n: i64| START.plus_ms(n * 60_000).to_string();
    for (query, found) in [
        ("type=order.paid".to_owned(), vec![&c, &a]),
        ("app_id=two".to_owned(), vec![&b]),
        (format!("app_id={}", text(&app, "id")), vec![&b]),
        ("subject=bob@example.com".to_owned(), vec![&c]),
        ("event_id=e-1".to_owned(), vec![&a]),
        ("event_id=e-1&subject=Ann@example.com&type=order.paid".to_owned(), vec![&a]),
        ("event_id=e-1&type=order.sent".to_owned(), vec![]),
        ("event_id=E-1".to_owned(), vec![]),
        ("event_id=e-1&app_id=two".to_owned(), vec![]),
        ("search=ANN@".to_owned(), vec![&a]),
        ("search=e-1".to_owned(), vec![&a]),
        ("search=.SENT".to_owned(), vec![&b]),
        (format!("search={}", text(&b, "id")), vec![&b]),
        (format!("from={}&to={}", minute(1), minute(2)), vec![&b]),
        (format!("from={}", minute(2)), vec![&c]),
        (format!("to={}", minute(1)), vec![&a]),
        ("type=order.paid&search=bob".to_owned(), vec![&c]),
    ] {
        let expected: Vec<&str> = found.into_iter().map(|event| text(event, "id")).collect();
        assert_eq!(ids(&daemon.get(&format!("/v1/events?{query}")).await), expected, "{query}");
    }
    let row = &daemon.get("/v1/events?limit=1").await["data"][0];
    assert_eq!((row.get("data"), row["deliveries"].as_u64()), (None, Some(0)), "lists leave data out");
}

#[tokio::test]
async fn deliveries_and_attempts_are_found_by_their_outcome() {
    let daemon = TestDaemon::start().await;
    let (good, bad) = (Receiver::start().await, Receiver::that(Act::status(503)).await);
    let good_hook = daemon.webhook(&good.url(), json!({ "event_types": ["order.*"] })).await;
    let bad_hook = daemon.webhook(&bad.url(), json!({ "retry_schedule_s": [60] })).await;
    let paid = daemon.publish("order.paid", json!(1)).await;
    let other = daemon.publish("invoice", json!(1)).await;
    let named = json!({ "type": "named", "data": 1, "subject": "ann@example.com", "event_id": "e-1" });
    let named = daemon.publish_with(named).await;
    crate::support::eventually("all tried", async || {
        let rows = daemon.get("/v1/deliveries").await;
        rows["data"].as_array().unwrap().iter().all(|row| row["attempts"] == 1).then_some(())
    })
    .await;
    let of = |event: &Value, hook: &Value| (text(event, "id").to_owned(), text(hook, "id").to_owned());
    let pairs = async |query: &str| -> Vec<(String, String)> {
        let page = daemon.get(query).await;
        let rows = page["data"].as_array().unwrap();
        rows.iter().map(|row| (text(row, "event_id").to_owned(), text(row, "webhook_id").to_owned())).collect()
    };
    for (query, expected) in [
        ("status=delivered".to_owned(), vec![of(&paid, &good_hook)]),
        ("status=retrying".to_owned(), vec![of(&named, &bad_hook), of(&other, &bad_hook), of(&paid, &bad_hook)]),
        ("status_code=503&type=invoice".to_owned(), vec![of(&other, &bad_hook)]),
        (format!("webhook_id={}", text(&good_hook, "id")), vec![of(&paid, &good_hook)]),
        (format!("event_id={}", text(&other, "id")), vec![of(&other, &bad_hook)]),
        ("search=unavailable&type=invoice".to_owned(), vec![of(&other, &bad_hook)]),
        ("search=200&status=delivered".to_owned(), vec![of(&paid, &good_hook)]),
        ("status=failed".to_owned(), vec![]),
        ("status=delivered,failed".to_owned(), vec![of(&paid, &good_hook)]),
        ("status=retrying,pending&status_code=404,5xx&type=invoice".to_owned(), vec![of(&other, &bad_hook)]),
        ("status_code=2xx".to_owned(), vec![of(&paid, &good_hook)]),
        ("outcome=timeout,success".to_owned(), vec![of(&paid, &good_hook)]),
        ("outcome=timeout".to_owned(), vec![]),
        ("search=ANN@".to_owned(), vec![of(&named, &bad_hook)]),
        ("search=e-1&status=retrying".to_owned(), vec![of(&named, &bad_hook)]),
        (format!("search=e-1&event_id={}", text(&named, "id")), vec![of(&named, &bad_hook)]),
        (format!("search={}", good.address.port()), vec![of(&paid, &good_hook)]),
    ] {
        assert_eq!(pairs(&format!("/v1/deliveries?{query}")).await, expected, "{query}");
    }
    let of_bad = format!("/v1/webhooks/{}", text(&bad_hook, "id"));
    assert_eq!(pairs(&format!("{of_bad}/deliveries?type=invoice")).await, [of(&other, &bad_hook)]);
    assert_eq!(pairs(&format!("{of_bad}/attempts?status_code=503&type=order.paid")).await, [of(&paid, &bad_hook)]);
    assert_eq!(pairs(&format!("{of_bad}/attempts?search={}", bad.address.port())).await.len(), 3, "by URL");
    assert_eq!(pairs(&format!("{of_bad}/attempts?status=delivered")).await, []);
    assert_eq!(pairs(&format!("{of_bad}/attempts?outcome=http_status&status_code=5xx")).await.len(), 3);
    assert_eq!(pairs(&format!("{of_bad}/attempts?outcome=success,timeout")).await, []);
    let unknown = "/v1/deliveries?webhook_id=019cbd75-3131-721a-89af-de1929ebafc7";
    assert_eq!(daemon.try_get(unknown).await.expect(404)["detail"], "webhook not found");
    daemon.delete(&of_bad).await;
    let of_removed = pairs(&format!("/v1/deliveries?webhook_id={}", text(&bad_hook, "id"))).await;
    assert_eq!(of_removed.len(), 3, "those of a removed webhook are kept");
    for wrong in ["status=sleeping", "status=failed,", "status_code=6xx", "status_code=50", "outcome=http"] {
        assert_eq!(daemon.try_get(&format!("/v1/deliveries?{wrong}")).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn failed_deliveries_are_listed_by_the_time_at_which_they_ended() {
    let mut daemon = TestDaemon::start().await;
    let (at_once, later) = (Receiver::that(Act::status(500)).await, Receiver::that(Act::status(503)).await);
    let slow = daemon.webhook(&later.url(), json!({ "event_types": ["slow"], "retry_schedule_s": [90_000] })).await;
    daemon.webhook(&at_once.url(), json!({ "event_types": ["fast"], "retry_schedule_s": [] })).await;
    // Accepted first, and failed a day later than the others.
    let first = daemon.publish("slow", json!(1)).await;
    daemon.delivery_in(&first, "retrying").await;
    let mut others = Vec::new();
    for _ in 0..3 {
        daemon.advance_s(60);
        let event = daemon.publish("fast", json!(1)).await;
        others.push(text(&daemon.delivery_in(&event, "failed").await, "id").to_owned());
    }
    daemon.advance_s(99_000);
    let first = daemon.delivery_in(&first, "failed").await;
    others.reverse();
    let expected: Vec<String> = [text(&first, "id").to_owned()].into_iter().chain(others.clone()).collect();
    let path = "/v1/deliveries?status=failed&limit=2";
    let page = daemon.get(path).await;
    assert_eq!((ids(&page), page.get("indexed_from")), (expected[..2].to_vec(), None));
    daemon.restart().await;
    assert_eq!(rest_of(&daemon, path, &page).await, expected[2..]);
    let day_ago = crate::support::daemon::time(&first, "completed_at").plus_ms(-3_600_000);
    let lately = daemon.get(&format!("/v1/deliveries?status=failed&ended_from={day_ago}")).await;
    assert_eq!(ids(&lately), [text(&first, "id")]);
    let before = daemon.get(&format!("/v1/deliveries?status=failed&ended_to={day_ago}&type=fast")).await;
    assert_eq!(ids(&before), others);
    assert_eq!(ids(&daemon.get(&format!("/v1/deliveries?ended_to={day_ago}")).await), others, "whatever the status");
    let own = daemon.get(&format!("/v1/webhooks/{}/deliveries?status=failed", text(&slow, "id"))).await;
    assert_eq!(ids(&own), [text(&first, "id")]);
    let cursor = text(&page, "next_cursor");
    let of_all = daemon.get("/v1/deliveries?limit=2").await;
    let of_all = format!("status=failed&cursor={}", text(&of_all, "next_cursor"));
    for query in
        [of_all, format!("cursor={cursor}"), format!("status=delivered&cursor={cursor}"), "ended_from=soon".into()]
    {
        assert_eq!(daemon.try_get(&format!("/v1/deliveries?{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn deliveries_and_attempts_of_one_app_are_listed() {
    let daemon = TestDaemon::start().await;
    daemon.post("/v1/apps", json!({ "name": "second", "uid": "two" })).await;
    let receiver = Receiver::that(Act::status(500)).await;
    let mut failed = Vec::new();
    for app in [json!(null), json!("two")] {
        daemon.webhook(&receiver.url(), json!({ "app_id": app, "retry_schedule_s": [] })).await;
        let event = daemon.publish_with(json!({ "type": "a", "data": 1, "app_id": app })).await;
        failed.push(daemon.delivery_in(&event, "failed").await);
    }
    for list in ["deliveries?app_id=two", "deliveries?app_id=two&status=failed"] {
        assert_eq!(ids(&daemon.get(&format!("/v1/{list}")).await), [text(&failed[1], "id")], "{list}");
    }
    let attempts = daemon.get("/v1/attempts?app_id=two").await;
    assert_eq!(attempts["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(attempts["data"][0]["delivery_id"], failed[1]["id"]);
    assert_eq!(daemon.try_get("/v1/deliveries?app_id=three").await.status, 404);
}

#[tokio::test]
async fn webhooks_are_found_by_app_status_and_text() {
    let daemon = TestDaemon::start().await;
    daemon.post("/v1/apps", json!({ "name": "second", "uid": "two" })).await;
    let one = daemon.webhook("http://127.0.0.1:4000/alpha", json!({ "name": "First" })).await;
    let two = daemon.webhook("http://127.0.0.1:4000/beta", json!({ "app_id": "two", "status": "paused" })).await;
    for (query, found) in [
        ("app_id=two", vec![&two]),
        ("status=enabled", vec![&one]),
        ("search=BETA", vec![&two]),
        ("search=first", vec![&one]),
    ] {
        let expected: Vec<&str> = found.into_iter().map(|hook| text(hook, "id")).collect();
        assert_eq!(ids(&daemon.get(&format!("/v1/webhooks?{query}")).await), expected, "{query}");
    }
}

#[tokio::test]
async fn an_event_says_of_every_webhook_why() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let mut expected = Vec::new();
    for (fields, decision, reason) in [
        (json!({ "event_types": ["order.*"] }), "delivered_to", "delivered"),
        (json!({ "event_types": ["order.*.late"] }), "", ""),
        (json!({ "event_types": ["invoice.**", "order"] }), "filtered", "type"),
        (json!({ "channels": ["us"] }), "filtered", "channel"),
        (json!({ "channels": ["us", "eu"] }), "delivered_to", "delivered"),
        (json!({ "filter": { "any": [{ "path": "/n", "lt": 5 }] } }), "filtered", "filter"),
        (
            json!({ "filter": { "all": [{ "path": "/n", "gte": 10 }, { "path": "/to", "prefix": "a" }] } }),
            "delivered_to",
            "delivered",
        ),
        (json!({ "status": "paused" }), "held", "paused"),
        (json!({ "status": "disabled" }), "filtered", "disabled"),
    ] {
        let mut body = fields;
        body["url"] = json!(receiver.url());
        let made = daemon.try_post("/v1/webhooks", body).await;
        if decision.is_empty() {
            assert_eq!(made.expect(422)["errors"][0]["pointer"], "/event_types/0");
            continue;
        }
        expected.push(json!({ "webhook_id": made.expect(201)["id"], "decision": decision, "reason": reason }));
    }
    let event = daemon
        .publish_with(json!({ "type": "order.paid", "data": { "n": 10.0, "to": "ann" }, "channels": ["eu"] }))
        .await;
    assert_eq!(event["deliveries"], 4);
    receiver.take(3).await;
    crate::support::eventually("as expected", async || {
        let read = daemon.get(&format!("/v1/events/{}", text(&event, "id"))).await;
        (read["webhooks"] == json!(expected)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn figures_count_outcomes_and_health_describes_them() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_statuses([200, 200, 500, 200]);
    let webhook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [60] })).await;
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    let health = daemon.get(&format!("{path}/health")).await;
    assert_eq!((&health["success_rate"], &health["activity"]), (&json!("unknown"), &json!("idle")));
    for n in 0..3 {
        let event = daemon.publish("a", json!(n)).await;
        daemon.delivery_when(&event, |row| row["attempts"] == 1).await;
    }
    let stats = daemon.get(&format!("{path}/stats")).await;
    let numbers = |stats: &Value| {
        [
            "total_events",
            "successful_deliveries",
            "failed_deliveries",
            "pending_deliveries",
            "last_24h_events",
            "last_24h_failures",
        ]
        .map(|name| stats[name].as_u64().unwrap())
    };
    assert_eq!(numbers(&stats), [3, 2, 1, 1, 3, 1]);
    assert_eq!(stats["success_rate"], 66.7);
    assert_eq!(stats["hours"].as_array().unwrap().len(), 24);
    daemon.advance_s(70);
    receiver.take(4).await;
    crate::support::eventually("delivered", async || {
        (numbers(&daemon.get(&format!("{path}/stats")).await)[1] == 3).then_some(())
    })
    .await;
    let health = daemon.get(&format!("{path}/health")).await;
    assert_eq!((&health["success_rate"], &health["activity"]), (&json!("critical"), &json!("active")));
    daemon.restart().await;
    // A day later the daily figures are empty and the lifetime figures are not.
    daemon.advance_s(86_400);
    let later = daemon.get(&format!("{path}/stats")).await;
    assert_eq!(numbers(&later), [3, 3, 1, 0, 0, 0]);
    let all = daemon.get("/v1/stats").await;
    assert_eq!((numbers(&all), &all["backlog"], &all["oldest_due"]), ([3, 3, 1, 0, 0, 0], &json!(0), &Value::Null));
    let later = crate::support::START.plus_ms(864_000_000);
    daemon.publish_with(json!({ "type": "later", "data": 1, "deliver_at": later.to_string() })).await;
    let planned = daemon.get("/v1/stats").await;
    assert_eq!((&planned["backlog"], &planned["oldest_due"]), (&json!(1), &Value::Null), "none is due");
}
