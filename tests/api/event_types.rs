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

#[tokio::test]
async fn each_event_of_a_batch_is_counted_under_its_app_and_its_organization() {
    let daemon = TestDaemon::start().await;
    let app = daemon.post("/v1/apps", json!({ "name": "other", "uid": "other" })).await;
    let (own, other) = (Value::Null, &app["id"]);
    let kinds = [("a", &own), ("a", &own), ("a", &own), ("a", other), ("b", other), ("b", other), ("a", &own)];
    let events: Vec<_> = kinds.map(|(kind, app)| json!({ "type": kind, "data": 1, "app_id": app })).into();
    for _ in 0..2 {
        daemon.post("/v1/events/batch", json!({ "events": events })).await;
    }
    assert_eq!(counts(&types(&daemon, "").await), [("a", 10), ("b", 4)]);
    assert_eq!(counts(&types(&daemon, "?app_id=other").await), [("a", 2), ("b", 4)]);
}

/// Types with their definitions' words.
async fn read_type(daemon: &TestDaemon, name: &str) -> Value {
    daemon.try_get(&format!("/v1/event-types/{name}")).await.expect(200)
}

#[tokio::test]
async fn a_registered_type_is_described_archived_revived_and_removed() {
    let mut daemon = TestDaemon::start().await;
    let schemas = json!({ "1": { "type": "object" } });
    let body = json!({ "type": "invoice.paid", "description": "Paid", "schemas": schemas, "group_name": "Money" });
    let made = daemon.try_post("/v1/event-types", body.clone()).await.expect(201);
    assert_eq!((&made["schemas"], &made["archived"], &made["deprecated"]), (&schemas, &json!(false), &json!(false)));
    assert_eq!(daemon.try_post("/v1/event-types", body).await.expect(409)["code"], "event_type_exists");
    let path = "/v1/event-types/invoice.paid";
    daemon.advance_s(5);
    let changed = daemon.patch(path, json!({ "deprecated": true, "group_name": null })).await;
    assert_eq!((&changed["deprecated"], &changed["group_name"]), (&json!(true), &Value::Null));
    assert_eq!((&changed["description"], &changed["schemas"]), (&json!("Paid"), &schemas), "the rest stays");
    assert_eq!(changed["created_at"], made["created_at"]);
    assert_eq!(daemon.delete(path).await.status, 204);
    daemon.restart().await;
    assert_eq!(read_type(&daemon, "invoice.paid").await["archived"], true);
    let revived = daemon.try_post("/v1/event-types", json!({ "type": "invoice.paid" })).await.expect(201);
    assert_eq!(revived["created_at"], revived["updated_at"], "it is registered at another time");
    assert_eq!((&revived["archived"], &revived["schemas"]), (&json!(false), &Value::Null), "a new one in its place");
    let put = |body: &'static str| daemon.call(http::Method::PUT, "/v1/event-types/other", JSON, body);
    assert_eq!(put(r#"{"description":"One"}"#).await.expect(201)["description"], "One");
    assert_eq!(put("{}").await.expect(200)["description"], "");
    assert_eq!(daemon.delete("/v1/event-types/other?expunge=true").await.status, 204);
    assert_eq!(daemon.try_get("/v1/event-types/other").await.status, 404);
    assert_eq!(daemon.delete("/v1/event-types/other").await.status, 404);
    for wrong in [
        json!({}),
        json!({ "type": "a b" }),
        json!({ "type": "postrider.own" }),
        json!({ "type": "a", "schemas": [] }),
        json!({ "type": "a", "schemas": { "1": 1 } }),
        json!({ "type": "a", "schemas": { "1": { "d": "x".repeat(64 * 1024) } } }),
        json!({ "type": "a", "feature_flags": ["a b"] }),
        json!({ "type": "a", "unknown": 1 }),
    ] {
        assert_eq!(daemon.try_post("/v1/event-types", wrong.clone()).await.status, 422, "{wrong}");
    }
    let audit = daemon.get("/v1/audit?target=invoice.paid").await;
    let actions: Vec<&str> = audit["data"].as_array().unwrap().iter().map(|row| text(row, "action")).collect();
    assert_eq!(actions, ["event_type.create", "event_type.archive", "event_type.update", "event_type.create"]);
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

#[tokio::test]
async fn registered_and_seen_types_are_one_list() {
    let daemon = TestDaemon::start().await;
    for name in ["a", "c", "e", "g"] {
        daemon.try_post("/v1/event-types", json!({ "type": name })).await.expect(201);
    }
    for name in ["b", "c", "d", "g"] {
        daemon.publish(name, json!(1)).await;
    }
    let mut names = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = types(&daemon, &query).await;
        for row in page["data"].as_array().unwrap() {
            let is_seen = row["last_seen"].is_string();
            names.push((text(row, "type").to_owned(), row["definition"].is_object(), is_seen));
        }
        let Some(next) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={next}");
    }
    let expected = [
        ("a", true, false),
        ("b", false, true),
        ("c", true, true),
        ("d", false, true),
        ("e", true, false),
        ("g", true, true),
    ];
    assert_eq!(names, expected.map(|(name, is_registered, is_seen)| (name.to_owned(), is_registered, is_seen)));
    assert_eq!(counts(&types(&daemon, "?registered=true").await), [("a", 0), ("c", 1), ("e", 0), ("g", 1)]);
    let first = types(&daemon, "?registered=true&limit=3").await;
    assert_eq!((counts(&first).len(), &first["next_cursor"]), (3, &json!("e")));
    assert_eq!(counts(&types(&daemon, "?registered=false").await), [("b", 1), ("d", 1)]);
}

#[tokio::test]
async fn a_key_of_one_app_is_shown_the_types_of_its_flags_and_changes_none() {
    let daemon = TestDaemon::start().await;
    for (name, flags) in [("open", json!([])), ("beta", json!(["beta", "x"])), ("alpha", json!(["alpha"]))] {
        daemon.try_post("/v1/event-types", json!({ "type": name, "feature_flags": flags })).await.expect(201);
    }
    let app = daemon.post("/v1/apps", json!({ "name": "other" })).await;
    let scopes = json!(["events:read", "webhooks:read", "webhooks:write", "keys:write"]);
    let key = json!({ "name": "k", "scopes": scopes, "app_id": app["id"], "feature_flags": ["beta"] });
    let key = daemon.post("/v1/keys", key).await;
    assert_eq!(key["feature_flags"], json!(["beta"]));
    let own = daemon.with_key(text(&key, "key"));
    assert_eq!(counts(&own.get("/v1/event-types").await), [("beta", 0), ("open", 0)]);
    assert_eq!(own.try_get("/v1/event-types/alpha").await.status, 404);
    assert_eq!(own.try_get("/v1/event-types/beta").await.status, 200);
    let refused = own.try_post("/v1/event-types", json!({ "type": "mine" })).await.expect(403);
    assert_eq!(refused["code"], "confined_to_app");
    assert_eq!(own.delete("/v1/event-types/open").await.status, 403);
    let wider = json!({ "name": "w", "scopes": ["events:read"], "feature_flags": ["alpha"] });
    assert_eq!(own.try_post("/v1/keys", wider).await.expect(403)["code"], "feature_flag_missing");
}
