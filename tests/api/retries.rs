//! Attempts after the first: the schedule with its jitter, its end, and manual retries.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::daemon::{text, time};
use crate::support::{Act, Receiver, START, TestDaemon, eventually};

#[tokio::test]
async fn attempts_follow_the_schedule_and_keep_the_events_id() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::timed(&daemon.clock).await;
    receiver.next_statuses([500, 404, 302, 200]);
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [5, 300, 1800] })).await;
    let event = daemon.publish("a.b", json!(1)).await;
    let mut before = START;
    for (attempts, wait_s) in [(1, 5), (2, 300), (3, 1800)] {
        let request = receiver.next().await;
        assert_eq!(request.header("webhook-id"), text(&event, "id"));
        assert_eq!(request.header("postrider-attempt"), attempts.to_string());
        assert_eq!(request.header("webhook-timestamp"), (before.0 / 1_000).to_string());
        let delivery = daemon.delivery_when(&event, |row| row["attempts"] == attempts).await;
        assert_eq!(delivery["status"], "retrying");
        let next = time(&delivery, "next_attempt_at");
        let wait_ms = next.since(before);
        assert!((wait_s * 1_000..=wait_s * 1_100 + 1_000).contains(&wait_ms), "{wait_ms} for {wait_s}");
        // One millisecond before its time nothing is sent, so the next request has the right time.
        daemon.clock.advance_ms(wait_ms - 1);
        daemon.clock.advance_ms(1);
        before = next;
    }
    let last = receiver.next().await;
    assert_eq!((last.at, last.header("postrider-attempt")), (Some(before), "4"));
    let delivery = daemon.delivery_in(&event, "delivered").await;
    let attempts = daemon.attempts(&delivery).await;
    let codes: Vec<u64> = attempts.iter().map(|a| a["status_code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [500, 404, 302, 200]);
    let triggers: Vec<&str> = attempts.iter().map(|a| text(a, "trigger")).collect();
    assert_eq!(triggers, ["event", "retry", "retry", "retry"]);
    for pair in attempts.windows(2) {
        assert_eq!(pair[1]["retry_of"], pair[0]["id"]);
        assert_eq!(pair[1]["started_at"], pair[0]["next_attempt_at"]);
    }
}

#[tokio::test]
async fn a_used_up_schedule_is_a_failure_and_an_event_of_its_own() {
    let daemon = TestDaemon::start().await;
    let (receiver, watcher) = (Receiver::that(Act::status(500)).await, Receiver::start().await);
    let webhook = daemon
        .webhook(&receiver.url(), json!({ "retry_schedule_s": [10], "event_types": ["a.**", "postrider.delivery.**"] }))
        .await;
    daemon.webhook(&watcher.url(), json!({ "event_types": ["postrider.**"] })).await;
    let event = daemon.publish("a.b", json!(1)).await;
    receiver.next().await;
    daemon.delivery_in(&event, "retrying").await;
    daemon.advance_s(12);
    receiver.next().await;
    let delivery = daemon.delivery_in(&event, "failed").await;
    assert_eq!(delivery["attempts"], 2);
    assert_eq!(time(&delivery, "completed_at"), START.plus_ms(12_000));
    let told = watcher.next().await.json();
    assert_eq!(told["type"], "postrider.delivery.exhausted");
    assert_eq!(told["data"]["delivery_id"], delivery["id"]);
    assert_eq!(told["data"]["webhook_id"], webhook["id"]);
    assert!(!text(&told["data"], "reason").is_empty());
    // A webhook gets no event about itself, although it subscribes.
    daemon.publish("a.c", json!(2)).await;
    assert_eq!(receiver.next().await.json()["type"], "a.c");
}

#[tokio::test]
async fn a_retry_by_hand_pulls_a_waiting_delivery_forward_and_repeats_a_final_one() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_statuses([500, 200, 200]);
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [3600] })).await;
    let event = daemon.publish("a.b", json!(1)).await;
    receiver.next().await;
    let waiting = daemon.delivery_in(&event, "retrying").await;
    let path = format!("/v1/deliveries/{}/retry", text(&waiting, "id"));
    let pulled = daemon.try_post(&path, json!({})).await.expect(202);
    assert_eq!(pulled["id"], waiting["id"]);
    assert_eq!(receiver.next().await.header("postrider-attempt"), "2");
    let done = daemon.delivery_in(&event, "delivered").await;
    assert_eq!(text(&daemon.attempts(&done).await[1], "trigger"), "manual");

    let repeated = daemon.try_post(&path, json!({})).await.expect(202);
    assert_eq!((&repeated["replay_of"], &repeated["event_id"]), (&done["id"], &event["id"]));
    let request = receiver.next().await;
    assert_eq!(request.header("webhook-id"), text(&event, "id"));
    assert_eq!(request.header("postrider-delivery-id"), text(&repeated, "id"));
    let rows = eventually("both delivered", async || {
        let rows = daemon.deliveries(&event).await;
        rows.iter().all(|row| row["status"] == "delivered").then_some(rows)
    })
    .await;
    assert_eq!(rows.len(), 2);
    assert_eq!(text(&daemon.attempts(&rows[1]).await[0], "trigger"), "replay");
}

#[tokio::test]
async fn retries_by_hand_leave_the_schedule_where_it_is() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [100, 1000] })).await;
    let event = daemon.publish("a.b", json!(1)).await;
    receiver.next().await;
    let waiting = daemon.delivery_in(&event, "retrying").await;
    let planned = time(&waiting, "next_attempt_at");
    let retry = format!("/v1/deliveries/{}/retry", text(&waiting, "id"));
    let by_hand = async |attempts: u64| {
        daemon.clock.advance_ms(1_000);
        daemon.try_post(&retry, json!({})).await.expect(202);
        receiver.next().await;
        daemon.delivery_when(&event, |row| row["attempts"] == attempts).await
    };
    for attempts in 2..=4 {
        let row = by_hand(attempts).await;
        assert_eq!((text(&row, "status"), time(&row, "next_attempt_at")), ("retrying", planned), "{attempts}");
    }
    daemon.clock.advance_ms(planned.since(START) - 3_000);
    receiver.next().await;
    let row = daemon.delivery_when(&event, |row| row["attempts"] == 5).await;
    let last = time(&row, "next_attempt_at");
    assert!((1_000_000..=1_101_000).contains(&last.since(planned)), "the second wait: {row}");
    assert_eq!(time(&by_hand(6).await, "next_attempt_at"), last);
    daemon.clock.advance_ms(last.since(planned) - 1_000);
    receiver.next().await;
    let failed = daemon.delivery_in(&event, "failed").await;
    assert_eq!(failed["attempts"], 7);
    let attempts = daemon.attempts(&failed).await;
    let triggers: Vec<&str> = attempts.iter().map(|attempt| text(attempt, "trigger")).collect();
    assert_eq!(triggers, ["event", "manual", "manual", "manual", "retry", "manual", "retry"]);
}

#[tokio::test]
async fn a_first_attempt_by_hand_leaves_the_planned_one_where_it_is() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": "none" })).await;
    let deliver_at = START.plus_ms(3_600_000);
    let event = json!({ "type": "a.b", "data": 1, "deliver_at": deliver_at.to_string() });
    let event = daemon.try_post("/v1/events", event).await.expect(202);
    let waiting = daemon.delivery_in(&event, "pending").await;
    daemon.post(&format!("/v1/deliveries/{}/retry", text(&waiting, "id")), json!({})).await;
    receiver.next().await;
    let row = daemon.delivery_when(&event, |row| row["attempts"] == 1).await;
    assert_eq!((text(&row, "status"), time(&row, "next_attempt_at")), ("retrying", deliver_at));
    daemon.advance_s(3_600);
    receiver.next().await;
    assert_eq!(daemon.delivery_in(&event, "failed").await["attempts"], 2);
}

#[tokio::test]
async fn cancelling_ends_undelivered_deliveries_and_nothing_else() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_statuses([500]);
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [10] })).await;
    let event = daemon.publish("a.b", json!(1)).await;
    receiver.next().await;
    let waiting = daemon.delivery_in(&event, "retrying").await;
    let path = format!("/v1/deliveries/{}/cancel", text(&waiting, "id"));
    let cancelled = daemon.try_post(&path, json!({})).await.expect(200);
    assert_eq!((cancelled["status"].as_str(), &cancelled["next_attempt_at"]), (Some("cancelled"), &Value::Null));
    assert_eq!(daemon.try_post(&path, json!({})).await.expect(409)["code"], "delivery_final");
    daemon.advance_s(3_600);
    let second = daemon.publish("a.b", json!(2)).await;
    assert_eq!(receiver.next().await.header("webhook-id"), text(&second, "id"), "the cancelled one was not sent");
    daemon.delivery_in(&second, "delivered").await;
    let cancel = daemon.post(&format!("/v1/events/{}/cancel", text(&second, "id")), json!({})).await;
    assert_eq!(cancel["cancelled"], 0);
}

#[tokio::test]
async fn cancelling_while_the_request_is_out_keeps_its_attempt() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::Gate(200)).await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let event = daemon.publish("a.b", json!(1)).await;
    receiver.next().await;
    let cancel = daemon.post(&format!("/v1/events/{}/cancel", text(&event, "id")), json!({})).await;
    assert_eq!(cancel["cancelled"], 1);
    receiver.open(1);
    let delivery = daemon.delivery_when(&event, |row| row["attempts"] == 1).await;
    assert_eq!(delivery["status"], "cancelled");
    assert_eq!(daemon.attempts(&delivery).await[0]["success"], true);
}

#[tokio::test]
async fn only_200_counts_where_the_rule_says_so() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_statuses([204, 200]);
    daemon.webhook(&receiver.url(), json!({ "success_rule": "200", "retry_schedule_s": [10] })).await;
    let event = daemon.publish("a.b", json!(1)).await;
    receiver.next().await;
    let delivery = daemon.delivery_in(&event, "retrying").await;
    assert_eq!(
        (delivery["last_outcome"].as_str(), delivery["last_status_code"].as_u64()),
        (Some("http_status"), Some(204))
    );
    daemon.advance_s(12);
    receiver.next().await;
    daemon.delivery_in(&event, "delivered").await;
}

#[tokio::test]
async fn redirects_are_failures_that_are_not_followed() {
    let daemon = TestDaemon::start().await;
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    receiver.always(Act::with_header(307, "location", &elsewhere.url()));
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": "none" })).await;
    let event = daemon.publish("a.b", json!(1)).await;
    let delivery = daemon.delivery_in(&event, "failed").await;
    assert_eq!(delivery["last_status_code"], 307);
    let attempt = daemon.attempts(&delivery).await.remove(0);
    assert_eq!(attempt["response_headers"]["location"], elsewhere.url());
    assert_eq!(elsewhere.count(), 0);
}

#[tokio::test]
async fn every_request_is_one_attempt_and_every_attempt_one_request() {
    const EVENTS: usize = 300;
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    // About four of ten fail, without a pattern, so that retries, new deliveries and those in the index mix.
    let mut number = 1_u64;
    receiver.next_statuses((0..6_000).map(|_| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if number >> 33 & 1_023 < 410 { 500 } else { 200 }
    }));
    for (hook, fields) in [
        json!({ "retry_schedule_s": [1, 1, 2, 3, 5] }),
        json!({ "retry_schedule_s": [1, 1, 2, 3, 5], "max_in_flight": 3 }),
        json!({ "retry_schedule_s": [1, 1, 2, 3, 5], "ordered": "key" }),
    ]
    .into_iter()
    .enumerate()
    {
        daemon.webhook(&format!("{}/{hook}", receiver.url()), fields).await;
    }
    for batch in 0..EVENTS / 50 {
        let key = |n: usize| format!("k{}", n % 7);
        let one = |n: usize| json!({ "type": "a", "data": batch * 50 + n, "ordering_key": key(n) });
        let events: Vec<Value> = (0..50).map(one).collect();
        daemon.post("/v1/events/batch", json!({ "events": events })).await;
        daemon.clock.advance_ms(300);
    }
    eventually("all final", async || {
        daemon.clock.advance_ms(250);
        let stats = daemon.get("/v1/stats").await;
        (stats["pending_deliveries"] == 0).then_some(())
    })
    .await;
    let mut requests: HashMap<(String, String), usize> = HashMap::new();
    for request in receiver.seen() {
        let of = (request.header("postrider-delivery-id").to_owned(), request.header("postrider-attempt").to_owned());
        *requests.entry(of).or_default() += 1;
    }
    let twice: Vec<_> = requests.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let (mut attempts, mut cursor) = (0, String::new());
    loop {
        let page = daemon.get(&format!("/v1/deliveries?limit=250{cursor}")).await;
        for row in page["data"].as_array().unwrap() {
            assert!(row["status"] == "delivered" || row["attempts"] == 6, "{row}");
            attempts += row["attempts"].as_u64().unwrap() as usize;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(attempts, requests.len());
    assert!(attempts > 3 * EVENTS);
}

#[tokio::test]
async fn several_deliveries_are_sent_again_at_once_each_with_its_own_result() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::status(500)).await;
    let hook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [] })).await;
    let mut failed = Vec::new();
    for n in 0..3 {
        let event = daemon.publish("a", json!(n)).await;
        failed.push(text(&daemon.delivery_in(&event, "failed").await, "id").to_owned());
        // Each delivery is in a partition of its own.
        daemon.advance_s(86_401);
    }
    daemon.post(&format!("/v1/webhooks/{}/pause", text(&hook, "id")), json!({})).await;
    let unknown = "019cbd75-3131-721a-89af-de1929ebafc7";
    let ids = json!([failed[2], unknown, failed[0], failed[1]]);
    let answer = daemon.post_once("/v1/deliveries/retry", "once", json!({ "ids": ids })).await.expect(200);
    let rows = answer["data"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), *ids.as_array().unwrap());
    assert_eq!((&rows[1]["delivery"], &rows[1]["error"]["code"]), (&Value::Null, &json!("not_found")));
    for row in [&rows[0], &rows[2], &rows[3]] {
        assert_eq!((&row["delivery"]["replay_of"], &row["error"]), (&row["id"], &Value::Null));
        assert_eq!(row["delivery"]["status"], "pending");
    }
    // The same request again makes nothing, and another one under its key is refused.
    let again = daemon.post_once("/v1/deliveries/retry", "once", json!({ "ids": ids })).await.expect(200);
    assert_eq!(again, answer);
    assert_eq!(daemon.get("/v1/deliveries?status=pending").await["data"].as_array().unwrap().len(), 3);
    let other = daemon.post_once("/v1/deliveries/retry", "once", json!({ "ids": [failed[0]] })).await;
    assert_eq!(other.status, 409);
    let none = daemon.try_post("/v1/deliveries/retry", json!({ "ids": [unknown] })).await.expect(200);
    assert_eq!((&none["data"][0]["id"], &none["data"][0]["error"]["code"]), (&json!(unknown), &json!("not_found")));
    let twice = json!([failed[0], failed[0]]);
    for wrong in [json!({}), json!({ "ids": [] }), json!({ "ids": ["x"] }), json!({ "ids": twice })] {
        assert_eq!(daemon.try_post("/v1/deliveries/retry", wrong.clone()).await.status, 422, "{wrong}");
    }
    daemon.delete(&format!("/v1/webhooks/{}", text(&hook, "id"))).await;
    let refused = daemon.post("/v1/deliveries/retry", json!({ "ids": [failed[0]] })).await;
    assert_eq!(refused["data"][0]["error"]["code"], "webhook_removed");
}
