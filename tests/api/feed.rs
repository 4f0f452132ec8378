//! The feed: pulled instead of pushed, in commit order. It waits for new deliveries and never skips a late commit.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Act, Receiver, TestDaemon, in_time};

fn path(webhook: &Value, rest: &str) -> String {
    format!("/v1/webhooks/{}/feed?{rest}", text(webhook, "id"))
}

fn numbers(page: &Value) -> Vec<i64> {
    page["data"].as_array().unwrap().iter().map(|row| row["event"]["data"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_feed_is_read_page_by_page_and_consumes_nothing() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "status": "paused", "event_types": ["a"] })).await;
    assert_eq!(daemon.get(&path(&webhook, "")).await, json!({ "data": [], "next_cursor": null }));
    for n in 0..7 {
        daemon.publish("a", json!(n)).await;
        daemon.publish("other", json!(100)).await;
    }
    let first = daemon.get(&path(&webhook, "limit=3")).await;
    assert_eq!(numbers(&first), [0, 1, 2]);
    let row = &first["data"][0];
    assert_eq!((row["event"]["type"].as_str(), row["delivery_id"].is_string()), (Some("a"), true));
    let cursor = text(&first, "next_cursor").to_owned();
    daemon.restart().await;
    let second = daemon.get(&path(&webhook, &format!("limit=3&cursor={cursor}"))).await;
    assert_eq!(numbers(&second), [3, 4, 5]);
    let third = daemon.get(&path(&webhook, &format!("limit=3&cursor={}", text(&second, "next_cursor")))).await;
    assert_eq!(numbers(&third), [6]);
    let end = text(&third, "next_cursor").to_owned();
    let empty = daemon.get(&path(&webhook, &format!("cursor={end}"))).await;
    assert_eq!((numbers(&empty).len(), text(&empty, "next_cursor")), (0, end.as_str()));
    assert_eq!(numbers(&daemon.get(&path(&webhook, &format!("limit=3&cursor={cursor}"))).await), [3, 4, 5]);
}

#[tokio::test]
async fn a_reader_that_waits_is_answered_by_the_next_commit_or_when_its_time_is_over() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "event_types": ["a"] })).await;
    let (client, waiting) = (daemon.client.clone(), path(&webhook, "wait_s=30"));
    let reader = tokio::spawn(async move { client.get(&waiting).await });
    // The answer is the same whichever of the two comes first.
    daemon.publish("a", json!(1)).await;
    assert_eq!(numbers(&in_time("the reader", reader).await.unwrap()), [1]);

    let (client, waiting) = (daemon.client.clone(), path(&webhook, "wait_s=20"));
    let cursor = text(&daemon.get(&path(&webhook, "")).await, "next_cursor").to_owned();
    let waiting = format!("{waiting}&cursor={cursor}");
    let reader = tokio::spawn(async move { client.get(&waiting).await });
    daemon.publish("other", json!(1)).await;
    crate::support::eventually("the time is over", async || {
        daemon.advance_s(20);
        reader.is_finished().then_some(())
    })
    .await;
    assert_eq!(reader.await.unwrap(), json!({ "data": [], "next_cursor": cursor }));
    assert_eq!(daemon.try_get(&path(&webhook, "wait_s=31")).await.status, 400);
}

#[tokio::test]
async fn nothing_is_stepped_over_however_many_write() {
    const WRITERS: usize = 4;
    const EACH: usize = 40;
    // Small partitions, and repeats of old deliveries, so that commits go to several files.
    let daemon = TestDaemon::with(|settings| settings.partition_max_bytes = 1 << 20).await;
    let receiver = Receiver::that(Act::status(200)).await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "event_types": ["a"] })).await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let client = daemon.client.clone();
        writers.spawn(async move {
            let mut old: Option<Value> = None;
            for n in 0..EACH {
                let body = json!({ "type": "a", "data": n, "metadata": { "filling": "x".repeat(1_000) } });
                let event = client.post("/v1/events", body).await;
                if n % 4 == 3 {
                    let old = old.get_or_insert(event);
                    let rows = client.get(&format!("/v1/events/{}/deliveries?limit=250", text(old, "id"))).await;
                    if let Some(done) = rows["data"].as_array().unwrap().iter().find(|row| row["status"] == "delivered")
                    {
                        client.post(&format!("/v1/deliveries/{}/retry", text(done, "id")), json!({})).await;
                    }
                }
            }
        });
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let writing = !writers.is_empty();
        let page = daemon.get(&path(&webhook, &format!("limit=20{cursor}"))).await;
        let rows = page["data"].as_array().unwrap();
        seen.extend(rows.iter().map(|row| text(row, "delivery_id").to_owned()));
        if let Some(next) = page["next_cursor"].as_str() {
            cursor = format!("&cursor={next}");
        }
        if rows.is_empty() && !writing {
            break;
        }
        while let Some(done) = writers.try_join_next() {
            done.unwrap();
        }
    }
    let mut all = Vec::new();
    let mut next = String::new();
    loop {
        let page = daemon.get(&format!("/v1/webhooks/{}/deliveries?limit=250{next}", text(&webhook, "id"))).await;
        all.extend(page["data"].as_array().unwrap().iter().map(|row| text(row, "id").to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => break,
        }
    }
    all.reverse();
    assert!(all.len() >= WRITERS * EACH);
    assert_eq!(seen, all);
}

#[tokio::test]
async fn a_page_of_the_feed_ends_after_16_mib_of_payloads() {
    let daemon = TestDaemon::start().await;
    let webhook = daemon.webhook("https://a.example/", json!({ "status": "paused", "event_types": ["a"] })).await;
    let large = "x".repeat(900_000);
    for _ in 0..20 {
        daemon.publish("a", json!(large)).await;
    }
    let first = daemon.get(&path(&webhook, "limit=100")).await;
    let count = first["data"].as_array().unwrap().len();
    assert_eq!(count, (16 << 20) / 900_000 + 1);
    let rest = daemon.get(&path(&webhook, &format!("limit=100&cursor={}", text(&first, "next_cursor")))).await;
    assert_eq!(rest["data"].as_array().unwrap().len(), 20 - count);
}
