//! Figures of webhooks, apps and the organization: sums, spans, series, and webhooks in the order of their figures.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Receiver, TestDaemon, eventually};

const SUMS: [&str; 10] = [
    "total_events",
    "successful_deliveries",
    "failed_deliveries",
    "made",
    "ended",
    "delivered",
    "failed",
    "cancelled",
    "attempts",
    "failures",
];

fn sums(stats: &Value) -> [u64; 10] {
    SUMS.map(|name| stats[name].as_u64().unwrap_or_else(|| panic!("{name} of {stats}")))
}

fn id(object: &Value) -> &str {
    text(object, "id")
}

/// Three webhooks in two apps: one that succeeds, one that fails for good, one that succeeds at the second attempt.
async fn three(daemon: &TestDaemon, receiver: &Receiver) -> [Value; 3] {
    let app = daemon.post("/v1/apps", json!({ "name": "Other", "uid": "other" })).await;
    let hook = async |name: &str, fields: Value| {
        let mut all = json!({ "name": name, "event_types": [name] });
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        daemon.webhook(&receiver.url(), all).await
    };
    let well = hook("well", json!({})).await;
    let ill = hook("ill", json!({ "retry_schedule_s": [] })).await;
    let again = hook("again", json!({ "app_id": app["id"], "retry_schedule_s": [600] })).await;
    receiver.next_statuses([200, 500, 500]);
    for (event, ends) in [
        (json!({ "type": "well", "data": 1 }), "delivered"),
        (json!({ "type": "ill", "data": 1 }), "failed"),
        (json!({ "type": "again", "data": 1, "app_id": "other" }), "retrying"),
    ] {
        let event = daemon.publish_with(event).await;
        daemon.delivery_in(&event, ends).await;
    }
    [well, ill, again]
}

#[tokio::test]
async fn figures_of_an_organization_and_its_apps_are_those_of_their_webhooks() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let hooks = three(&daemon, &receiver).await;
    let own = async |daemon: &TestDaemon, query: &str| {
        let mut all = Vec::new();
        for hook in &hooks {
            all.push(sums(&daemon.get(&format!("/v1/webhooks/{}/stats{query}", id(hook))).await));
        }
        all
    };
    let added = |all: &[[u64; 10]]| std::array::from_fn::<u64, 10, _>(|n| all.iter().map(|one| one[n]).sum());
    for query in ["", "?last=1h", "?last=31d"] {
        let each = own(&daemon, query).await;
        let all = daemon.get(&format!("/v1/stats{query}")).await;
        assert_eq!(sums(&all), added(&each), "{query}");
        assert_eq!(sums(&all), [3, 1, 2, 3, 2, 1, 1, 0, 3, 2], "{query}");
        let by_app = if query.is_empty() { "?app_id=other".to_owned() } else { format!("{query}&app_id=other") };
        assert_eq!(sums(&daemon.get(&format!("/v1/stats{by_app}")).await), each[2], "{by_app}");
    }
    let day = daemon.get("/v1/stats?last=24h").await;
    assert_eq!(day["by_outcome"], json!({ "success": 1, "http_status": 2 }));
    assert_eq!((&day["success_rate"], &day["complete_from"]), (&json!(33.3), &Value::Null));
    assert!(day["p95_response_time_ms"].is_u64(), "{day}");
    assert_eq!((&day["pending_deliveries"], &day["backlog"]), (&json!(1), &json!(1)));
    // A removed webhook leaves its figures behind, and its waiting deliveries are cancelled.
    daemon.delete(&format!("/v1/webhooks/{}", id(&hooks[2]))).await;
    for _ in 0..2 {
        let all = daemon.get("/v1/stats?last=24h").await;
        assert_eq!(sums(&all), [3, 1, 2, 3, 3, 1, 1, 1, 3, 2]);
        assert_eq!((&all["pending_deliveries"], &all["backlog"]), (&json!(0), &json!(0)));
        daemon.restart().await;
    }
    // Two hours later nothing of it is of the last hour.
    daemon.advance_s(7_200);
    let hour = daemon.get("/v1/stats?last=1h").await;
    assert_eq!((sums(&hour), &hour["by_outcome"]), ([0; 10], &json!({})));
    assert_eq!(hour["success_rate"], Value::Null);
    assert_eq!(sums(&daemon.get("/v1/stats?last=24h").await), [3, 1, 2, 3, 3, 1, 1, 1, 3, 2]);
}

#[tokio::test]
async fn a_series_has_a_row_for_each_step_with_the_backlog_at_its_end() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let hooks = three(&daemon, &receiver).await;
    daemon.post(&format!("/v1/webhooks/{}/pause", id(&hooks[0])), json!({})).await;
    daemon.advance_s(3_600);
    receiver.take(4).await;
    let held = daemon.publish("well", json!(2)).await;
    let again = format!("/v1/stats/series?last=7d&step=1h&webhook_id={}", id(&hooks[2]));
    eventually("the retry is counted", async || {
        let rows = daemon.get(&again).await["data"].as_array().unwrap().clone();
        (rows.iter().map(|row| row["delivered"].as_u64().unwrap()).sum::<u64>() == 1).then_some(())
    })
    .await;
    let series = daemon.get("/v1/stats/series?last=24h&step=1h").await;
    let rows = series["data"].as_array().unwrap();
    assert_eq!((rows.len(), &series["step_s"], &series["complete_from"]), (25, &json!(3_600), &Value::Null));
    let last: Vec<[&Value; 5]> = rows[23..]
        .iter()
        .map(|row| ["made", "ended", "attempts", "failures", "waiting"].map(|name| &row[name]))
        .collect();
    assert_eq!(json!(last), json!([[3, 2, 3, 2, 1], [1, 1, 1, 0, 1]]));
    assert_eq!(rows[22]["waiting"], 0);
    assert_eq!(rows[23]["by_outcome"], json!({ "success": 1, "http_status": 2 }));
    assert_eq!(rows[22]["by_outcome"], json!({}));
    // The same by the minute: outcomes are counted by the hour.
    let minutes = daemon.get("/v1/stats/series?last=1h&step=1m&app_id=other").await;
    let rows = minutes["data"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[60]["by_outcome"]), (61, &Value::Null));
    assert_eq!(rows.iter().map(|row| row["attempts"].as_u64().unwrap()).sum::<u64>(), 2, "both attempts of the app");
    assert_eq!((&rows[0]["waiting"], &rows[60]["waiting"]), (&json!(1), &json!(0)));
    daemon.delivery_in(&held, "pending").await;
    for (query, status) in [
        ("step=5s", 400),
        ("last=31d&step=1m", 400),
        ("app_id=nobody", 404),
        ("webhook_id=019ca8a0-3e80-726f-8f06-5e86b5932aa2", 404),
        (&format!("app_id=other&webhook_id={}", id(&hooks[0])), 404),
    ] {
        daemon.try_get(&format!("/v1/stats/series?{query}")).await.expect(status);
    }
}

#[tokio::test]
async fn webhooks_are_listed_worst_first_with_the_figures_of_a_day() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let hooks = three(&daemon, &receiver).await;
    for _ in 0..2 {
        daemon.publish("well", json!(2)).await;
    }
    receiver.take(5).await;
    let paused = daemon.webhook(&receiver.url(), json!({ "name": "B paused", "event_types": ["none"] })).await;
    daemon.post(&format!("/v1/webhooks/{}/pause", id(&paused)), json!({})).await;
    let [well, ill, again] = hooks.each_ref().map(id);
    let list = async |daemon: &TestDaemon, query: &str| {
        let (mut ids, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = daemon.get(&format!("/v1/webhooks?limit=1&{query}{cursor}")).await;
            ids.extend(page["data"].as_array().unwrap().iter().map(|row| id(row).to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return ids,
            }
        }
    };
    for _ in 0..2 {
        eventually("counted", async || {
            let rows = daemon.get("/v1/webhooks?include=figures&order=worst").await;
            (rows["data"][3]["figures"]["attempts"] == 3).then_some(())
        })
        .await;
        assert_eq!(list(&daemon, "order=worst").await, [again, ill, id(&paused), well]);
        assert_eq!(list(&daemon, "order=busiest").await, [well, again, ill, id(&paused)]);
        assert_eq!(list(&daemon, "order=name").await, [again, id(&paused), ill, well]);
        assert_eq!(list(&daemon, "").await, list(&daemon, "order=newest").await);
        assert_eq!(list(&daemon, "state=trouble").await, [again, ill]);
        assert_eq!(list(&daemon, "order=worst&status=paused&include=figures").await, [id(&paused)]);
        // The second time the order comes from the rows.
        daemon.restart().await;
    }
    let rows = daemon.get("/v1/webhooks?include=figures&order=worst").await;
    let figures = &rows["data"][0]["figures"];
    assert_eq!((&figures["attempts"], &figures["failures"], &figures["waiting"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!((&figures["success_rate"], &figures["by_outcome"]), (&json!(0.0), &json!({ "http_status": 1 })));
    assert_eq!(figures["hours"].as_array().unwrap().len(), 24);
    let plain = daemon.get("/v1/webhooks").await;
    assert_eq!(plain["data"][0].get("figures"), None);
    let page = daemon.get("/v1/webhooks?order=worst&limit=1").await;
    let cursor = text(&page, "next_cursor");
    for query in [format!("order=name&cursor={cursor}"), "order=best".into(), "state=fine".into(), "include=all".into()]
    {
        daemon.try_get(&format!("/v1/webhooks?{query}")).await.expect(400);
    }
}
