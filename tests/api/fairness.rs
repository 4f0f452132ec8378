//! Bulkheads: a hung, dead, throttled or busy webhook costs the others nothing. Caps and rates are kept.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::daemon::{text, value};
use crate::support::{Act, Client, Receiver, START, TestDaemon, eventually};

/// Entries that wait for a dead webhook. `POSTRIDER_TEST_BACKLOG=1000000` sets the promised million. Fewer have the
/// same structure, and an unoptimised test takes long for each.
fn backlog() -> usize {
    std::env::var("POSTRIDER_TEST_BACKLOG").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

async fn publish_many(client: &Client, event_type: &str, count: usize) {
    for _ in 0..count.div_ceil(1_000) {
        let events: Vec<Value> = (0..count.min(1_000)).map(|n| json!({ "type": event_type, "data": n })).collect();
        client.post("/v1/events/batch", json!({ "events": events })).await;
    }
}

#[tokio::test]
async fn a_backlog_for_a_dead_webhook_delays_no_other_webhook() {
    let mut daemon = TestDaemon::start().await;
    let (dead, alive) = (Receiver::that(Act::status(500)).await, Receiver::start().await);
    let dead_hook = daemon.webhook(&dead.url(), json!({ "event_types": ["dead"] })).await;
    daemon.webhook(&alive.url(), json!({ "event_types": ["alive"] })).await;
    let count = backlog();
    publish_many(&daemon, "dead", count).await;
    daemon.webhook_when(&dead_hook, |hook| hook["circuit"] == "open").await;
    let waiting = |stats: &Value| stats["pending_deliveries"].as_u64().unwrap() as usize;
    let stats = format!("/v1/webhooks/{}/stats", text(&dead_hook, "id"));
    for round in 0..3 {
        let tried = dead.count();
        let event = daemon.publish("alive", json!(round)).await;
        assert_eq!(alive.next().await.header("webhook-id"), text(&event, "id"));
        daemon.delivery_in(&event, "delivered").await;
        assert_eq!(waiting(&daemon.get(&stats).await), count, "the backlog is still there");
        assert!(dead.count() <= tried + 1, "only probes go to the dead webhook");
        if round == 1 {
            daemon.restart().await;
        }
        daemon.advance_s(1);
    }
    // After its recovery all deliveries drain.
    dead.always(Act::status(200));
    daemon.patch(&format!("/v1/webhooks/{}", text(&dead_hook, "id")), json!({ "max_in_flight": 1000 })).await;
    daemon.advance_s(600);
    let some = count.min(3_000);
    eventually("it drains", async || (dead.count() > some).then_some(())).await;
}

async fn in_line(daemon: &TestDaemon) -> f64 {
    value(&daemon.metrics().await, "postrider_publishes_in_line_total")
}

#[tokio::test]
async fn publishes_queue_when_deliveries_wait_for_the_processor_and_none_is_lost() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({ "max_in_flight": 16 })).await;
    let mut published = 0;
    eventually("publishes queue", async || {
        publish_many(&daemon, "a", 1_000).await;
        published += 1_000;
        daemon.clock.advance_ms(10);
        (in_line(&daemon).await > 0.0).then_some(())
    })
    .await;
    receiver.take(published).await;
    // The first of these shows the scheduler that the backlog is gone, if no other event has.
    for _ in 0..2 {
        daemon.clock.advance_ms(10);
        daemon.publish("a", json!("more")).await;
        receiver.next().await;
    }
    let before = in_line(&daemon).await;
    daemon.publish("a", json!("more")).await;
    assert_eq!(in_line(&daemon).await, before, "no publish queues any more");
}

#[tokio::test]
async fn a_slow_receiver_does_not_begin_admission_control() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::Gate(200)).await;
    daemon.webhook(&receiver.url(), json!({ "max_in_flight": 16 })).await;
    publish_many(&daemon, "a", 4_000).await;
    for round in 0..20 {
        receiver.open(1);
        daemon.clock.advance_ms(300);
        daemon.publish("a", json!(round)).await;
        receiver.take(1).await;
    }
    assert_eq!(in_line(&daemon).await, 0.0);
}

#[tokio::test]
async fn hanging_webhooks_leave_slots_for_the_others() {
    let daemon = TestDaemon::with(|settings| settings.delivery.max_in_flight = 100).await;
    let (hanging, alive) = (Receiver::that(Act::Hang).await, Receiver::start().await);
    for n in 0..20 {
        let fields = json!({ "event_types": [format!("hang.{n}")], "timeout_ms": 120_000 });
        daemon.webhook(&hanging.url(), fields).await;
        publish_many(&daemon, &format!("hang.{n}"), 20).await;
    }
    daemon.webhook(&alive.url(), json!({ "event_types": ["alive"] })).await;
    eventually("they hang", async || (hanging.count() >= 40).then_some(())).await;
    for n in 0..20 {
        let event = daemon.publish("alive", json!(n)).await;
        assert_eq!(alive.next().await.header("webhook-id"), text(&event, "id"));
    }
    // One host that hangs gets two fifths of the slots, and a first request of each webhook.
    assert!(hanging.count() < 40 + 20, "{}", hanging.count());
}

#[tokio::test]
async fn no_more_than_max_in_flight_are_out_at_once() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::Gate(200)).await;
    daemon.webhook(&receiver.url(), json!({ "max_in_flight": 3, "field_set": "raw" })).await;
    let other = Receiver::start().await;
    daemon.webhook(&other.url(), json!({})).await;
    publish_many(&daemon, "a", 12).await;
    other.take(12).await;
    for open in 1..=9 {
        receiver.take(if open == 1 { 3 } else { 1 }).await;
        assert_eq!(receiver.count(), 2 + open);
        receiver.open(1);
    }
    receiver.open(12);
    receiver.take(1).await;
}

#[tokio::test]
async fn a_rate_is_smooth_and_kept_within_two_percent() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::timed(&daemon.clock).await;
    daemon.webhook(&receiver.url(), json!({ "rate_limit_per_s": 40, "max_in_flight": 100 })).await;
    publish_many(&daemon, "a", 500).await;
    let wanted = 201;
    eventually("five seconds' worth", async || {
        // A step is shorter than the interval, so that the clock and not this loop determines how many may go.
        daemon.clock.advance_ms(5);
        (receiver.count() >= wanted).then_some(())
    })
    .await;
    let times: Vec<i64> = receiver.seen()[..wanted].iter().map(|request| request.at.unwrap().since(START)).collect();
    let took_ms = (times[wanted - 1] - times[0]) as f64;
    let rate = (wanted - 1) as f64 / took_ms * 1_000.0;
    assert!(rate <= 40.0 * 1.02, "{rate} a second");
    let most = times.iter().map(|from| times.iter().filter(|at| (*from..from + 1_000).contains(*at)).count()).max();
    assert!(most <= Some(41), "{most:?} within one second");
}

#[tokio::test]
async fn apps_take_turns_however_much_one_of_them_has() {
    let daemon = TestDaemon::with(|settings| settings.delivery.max_in_flight = 1).await;
    let receiver = Receiver::that(Act::Gate(200)).await;
    daemon.post("/v1/apps", json!({ "name": "busy", "uid": "busy" })).await;
    daemon.post("/v1/apps", json!({ "name": "quiet", "uid": "quiet" })).await;
    for hook in 0..3 {
        daemon.webhook(&format!("{}/busy{hook}", receiver.url()), json!({ "app_id": "busy" })).await;
    }
    daemon.webhook(&format!("{}/quiet", receiver.url()), json!({ "app_id": "quiet" })).await;
    let of = |app: &str| -> Vec<Value> { (0..20).map(|n| json!({ "type": "a", "data": n, "app_id": app })).collect() };
    let events = [of("busy"), of("quiet")].concat();
    daemon.post("/v1/events/batch", json!({ "events": events })).await;
    receiver.open(24);
    let mut turns: HashMap<String, usize> = HashMap::new();
    for request in receiver.take(24).await {
        let app = if request.target.contains("busy") { "busy" } else { "quiet" };
        *turns.entry(app.to_owned()).or_default() += 1;
    }
    assert!((11..=13).contains(&turns["quiet"]), "{turns:?}");
}

/// A receiver that accepts connections and never reads.
async fn deaf() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    url
}

#[tokio::test]
async fn bodies_that_no_receiver_reads_take_a_bounded_part_of_the_memory_and_others_are_sent_meanwhile() {
    let mut daemon = TestDaemon::start().await;
    for uid in ["greedy", "modest"] {
        daemon.post("/v1/apps", json!({ "name": uid, "uid": uid })).await;
    }
    let (url, well) = (deaf().await, Receiver::start().await);
    for _ in 0..40 {
        let fields = json!({ "app_id": "greedy", "content_type": "application/x-www-form-urlencoded", "retry_schedule_s": "none" });
        daemon.webhook(&url, fields).await;
    }
    daemon.webhook(&well.url(), json!({ "app_id": "modest" })).await;
    let large = json!("{".repeat(1_000_000));
    let publish = async |daemon: &TestDaemon, app: &str, data: &Value| {
        daemon.publish_with(json!({ "type": "a", "app_id": app, "data": data })).await
    };
    publish(&daemon, "greedy", &large).await;
    // 96 MiB are two fifths of the budget, and each of these bodies may take 4 MB.
    let in_flight = async |daemon: &TestDaemon| {
        let text = daemon.metrics().await;
        (value(&text, "postrider_in_flight_body_bytes"), value(&text, "postrider_in_flight"))
    };
    let is_full = |(bytes, count): (f64, f64)| bytes > 90e6 && bytes < 110e6 && count == bytes.div_euclid(4e6);
    eventually("the app has its share", async || is_full(in_flight(&daemon).await).then_some(())).await;
    for data in [json!(1), large.clone()] {
        let event = publish(&daemon, "modest", &data).await;
        assert_eq!(well.next().await.json()["data"], data);
        daemon.delivery_in(&event, "delivered").await;
    }
    assert!(is_full(in_flight(&daemon).await));
    // After a restart they are read from the index, and none of them is lost.
    daemon.restart().await;
    eventually("the app has its share", async || is_full(in_flight(&daemon).await).then_some(())).await;
    publish(&daemon, "modest", &json!(2)).await;
    assert_eq!(well.next().await.json()["data"], 2);
}

#[tokio::test]
async fn large_payloads_that_waited_in_the_index_are_sent_whole() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({})).await;
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    daemon.post(&format!("{path}/pause"), json!({})).await;
    let sent: Vec<String> = (0..6).map(|n| format!("{n}").repeat(900_000)).collect();
    for data in &sent {
        daemon.publish("a", json!(data)).await;
    }
    daemon.post(&format!("{path}/resume"), json!({})).await;
    let mut came: Vec<String> =
        receiver.take(6).await.iter().map(|request| text(&request.json(), "data").to_owned()).collect();
    came.sort();
    assert!(came == sent, "each as it was published");
}
