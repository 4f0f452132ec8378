//! Event types that were seen within the retention: their names, their counts of a day, their pages and their tenants.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{START, TestDaemon};

const DAY_S: i64 = 86_400;

/// The rows of a page: type and count.
fn counts(page: &Value) -> Vec<(&str, u64)> {
    let rows = page["data"].as_array().unwrap();
    rows.iter().map(|row| (text(row, "type"), row["last_24h_events"].as_u64().unwrap())).collect()
}

async fn types(daemon: &TestDaemon, query: &str) -> Value {
    daemon.get(&format!("/v1/event-types{query}")).await
}

#[tokio::test]
async fn types_are_listed_by_name_with_the_events_of_a_day() {
    let mut daemon = TestDaemon::with(|settings| settings.retention_ms = 3 * DAY_S * 1_000).await;
    assert_eq!(types(&daemon, "").await, json!({ "data": [], "next_cursor": null }));
    let app = daemon.post("/v1/apps", json!({ "name": "other", "uid": "other" })).await;
    for (kind, app) in [("b.x", None), ("a", None), ("b", None), ("a", Some(&app["id"])), ("c", Some(&app["id"]))] {
        daemon.publish_with(json!({ "type": kind, "data": 1, "app_id": app })).await;
    }
    daemon.advance_s(60);
    daemon.publish("a", json!(2)).await;
    let all = types(&daemon, "").await;
    assert_eq!(counts(&all), [("a", 3), ("b", 1), ("b.x", 1), ("c", 1)]);
    assert_eq!(all["data"][0]["last_seen"], START.plus_ms(60_000).to_string());
    assert_eq!(counts(&types(&daemon, "?app_id=other").await), [("a", 1), ("c", 1)]);
    let first = types(&daemon, "?limit=2").await;
    let rest = types(&daemon, &format!("?limit=2&cursor={}", text(&first, "next_cursor"))).await;
    assert_eq!([counts(&first), counts(&rest)].concat(), counts(&all));
    assert_eq!(rest["next_cursor"], Value::Null);
    let key = daemon.post("/v1/keys", json!({ "name": "k", "scopes": ["events:read"], "app_id": app["id"] })).await;
    let own = daemon.with_key(text(&key, "key")).get("/v1/event-types").await;
    assert_eq!(counts(&own), [("a", 1), ("c", 1)]);
    assert_eq!(daemon.try_get("/v1/event-types?app_id=nobody").await.status, 404);
    assert_eq!(daemon.try_get("/v1/event-types?cursor=a%20b").await.status, 400);

    daemon.restart().await;
    assert_eq!(types(&daemon, "").await, all, "also after a restart");
    daemon.advance_s(DAY_S - 60);
    daemon.publish("b", json!(3)).await;
    let later = types(&daemon, "").await;
    assert_eq!(counts(&later), [("a", 1), ("b", 1), ("b.x", 0), ("c", 0)], "to the minute");
    daemon.advance_s(2 * DAY_S + 120);
    assert_eq!(counts(&types(&daemon, "").await), [("b", 0)], "the others are gone with their events");
}
