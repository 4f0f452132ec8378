//! The stream of attempts across webhooks: its order, its cursor, its filters, and the wait for new ones.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Act, Receiver, TestDaemon};

fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|row| text(row, "id").to_owned()).collect()
}

async fn stream(daemon: &TestDaemon, query: &str) -> Value {
    daemon.get(&format!("/v1/attempts?{query}")).await
}

#[tokio::test]
async fn attempts_of_all_webhooks_come_in_the_order_of_their_recording() {
    let mut daemon = TestDaemon::start().await;
    let (well, ill) = (Receiver::start().await, Receiver::that(Act::status(503)).await);
    let a = daemon.webhook(&well.url(), json!({ "event_types": ["a"] })).await;
    let b = daemon.webhook(&ill.url(), json!({ "event_types": ["b"], "retry_schedule_s": [36_000] })).await;
    let mut all = Vec::new();
    for n in 0..3 {
        let event = daemon.publish("a", json!(n)).await;
        daemon.delivery_in(&event, "delivered").await;
        let event = daemon.publish("b", json!(n)).await;
        daemon.delivery_in(&event, "retrying").await;
    }
    for row in stream(&daemon, "").await["data"].as_array().unwrap() {
        all.push(text(row, "id").to_owned());
    }
    assert_eq!(all.len(), 6);
    assert!(all.is_sorted(), "ids rise with the commits");
    let newest = stream(&daemon, "limit=2").await;
    assert_eq!(ids(&newest), all[4..], "without a position the newest ones");
    // From the beginning, page by page, also after a restart.
    daemon.restart().await;
    let (mut paged, mut page) = (Vec::new(), stream(&daemon, "limit=4&from=2020-01-01T00:00:00Z").await);
    while page["data"] != json!([]) {
        paged.extend(ids(&page));
        page = stream(&daemon, &format!("limit=4&after={}", text(&page, "next_cursor"))).await;
    }
    assert_eq!(paged, all);
    let of =
        |rows: &Value| rows["data"].as_array().unwrap().iter().map(|row| row["webhook_id"].clone()).collect::<Vec<_>>();
    let (a, b) = (text(&a, "id"), text(&b, "id"));
    for (query, webhook) in [
        (format!("webhook_id={a}"), a),
        ("success=false".to_owned(), b),
        ("success=true".to_owned(), a),
        ("type=a".to_owned(), a),
        ("outcome=http_status,timeout".to_owned(), b),
        ("status_code=5xx".to_owned(), b),
        ("search=Service%20Unavailable".to_owned(), b),
    ] {
        assert_eq!(of(&stream(&daemon, &query).await), vec![json!(webhook); 3], "{query}");
    }
    let none = stream(&daemon, "type=other").await;
    assert_eq!((ids(&none), none["next_cursor"].is_string()), (vec![], true));
    for (query, status) in
        [("after=feedAAAA", 400), ("cursor=x", 400), ("webhook_id=019c0000-0000-7000-8000-000000000000", 404)]
    {
        assert_eq!(daemon.try_get(&format!("/v1/attempts?{query}")).await.status, status, "{query}");
    }
}

#[tokio::test]
async fn a_test_of_a_webhook_holds_no_attempt_back() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let tested = daemon.webhook(&receiver.url(), json!({ "event_types": ["none"], "field_set": "dfns" })).await;
    let tried = daemon.post(&format!("/v1/webhooks/{}/test", text(&tested, "id")), json!({})).await;
    assert_eq!(tried["success"], true, "{tried}");
    daemon.webhook(&receiver.url(), json!({ "event_types": ["a"] })).await;
    let event = daemon.publish("a", json!(1)).await;
    daemon.delivery_in(&event, "delivered").await;
    // The body of the test had an attempt's id, which is older.
    assert_eq!(ids(&stream(&daemon, "").await).len(), 1);
}

#[tokio::test]
async fn a_reader_waits_for_the_next_attempt_it_asked_for() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [36_000] })).await;
    let cursor = text(&stream(&daemon, "").await, "next_cursor").to_owned();
    let query = format!("after={cursor}&wait_s=30&success=false");
    let waiting = stream(&daemon, &query);
    let publishing = async {
        let event = daemon.publish("a", json!(1)).await;
        daemon.delivery_in(&event, "delivered").await;
        receiver.always(Act::status(500));
        let event = daemon.publish("a", json!(2)).await;
        text(&daemon.delivery_in(&event, "retrying").await, "id").to_owned()
    };
    let (page, failed) = tokio::join!(waiting, publishing);
    let rows = page["data"].as_array().unwrap();
    assert_eq!((rows.len(), text(&rows[0], "delivery_id")), (1, failed.as_str()));
    let rest = stream(&daemon, &format!("after={}", text(&page, "next_cursor"))).await;
    assert_eq!(ids(&rest), Vec::<String>::new());
    // A wait that ends without an attempt answers with a cursor that goes on.
    let (client, cursor) = (daemon.client.clone(), text(&rest, "next_cursor").to_owned());
    let reader = tokio::spawn(async move { client.get(&format!("/v1/attempts?after={cursor}&wait_s=20")).await });
    crate::support::eventually("the time is over", async || {
        daemon.advance_s(20);
        reader.is_finished().then_some(())
    })
    .await;
    assert_eq!(ids(&reader.await.unwrap()), Vec::<String>::new());
}

#[tokio::test]
async fn a_body_with_the_id_of_its_attempt_is_not_skipped_when_it_is_recorded_late() {
    let daemon = TestDaemon::start().await;
    let (slow, quick) = (Receiver::that(Act::Gate(200)).await, Receiver::start().await);
    daemon.webhook(&slow.url(), json!({ "field_set": "dfns", "event_types": ["slow"] })).await;
    daemon.webhook(&quick.url(), json!({ "event_types": ["quick"] })).await;
    let first = daemon.publish("slow", json!(1)).await;
    slow.next().await;
    daemon.clock.advance_ms(5);
    let second = daemon.publish("quick", json!(2)).await;
    daemon.delivery_in(&second, "delivered").await;
    let early = stream(&daemon, "from=2020-01-01T00:00:00Z").await;
    slow.open(1);
    daemon.delivery_in(&first, "delivered").await;
    let late = stream(&daemon, &format!("after={}", text(&early, "next_cursor"))).await;
    let seen = [ids(&early), ids(&late)].concat();
    assert_eq!(seen.len(), 2, "{early} {late}");
}

#[tokio::test]
async fn a_key_of_an_app_sees_the_attempts_of_its_app() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let event = daemon.publish("a", json!(1)).await;
    daemon.delivery_in(&event, "delivered").await;
    let app = daemon.post("/v1/apps", json!({ "name": "other" })).await;
    let scopes = json!({ "name": "k", "scopes": ["events:read"], "app_id": app["id"] });
    let key = daemon.post("/v1/keys", scopes).await;
    let foreign = daemon.with_key(text(&key, "key")).get("/v1/attempts").await;
    assert_eq!(foreign["data"], json!([]));
    assert_eq!(ids(&stream(&daemon, "").await).len(), 1);
}
