//! The effects of a wall clock that steps: while the daemon runs, and while it is stopped.

use serde_json::json;

use crate::support::daemon::{text, time, value};
use crate::support::{Receiver, START, TestDaemon, eventually};

const SECOND_MS: i64 = 1_000;
const HOUR_MS: i64 = 3_600 * SECOND_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Time that the clock is wrong in these tests.
const WRONG_MS: i64 = 70 * SECOND_MS;
/// Steps that are undone: as of a resumed machine, a clock in local time, a clock that lost its battery.
const STEPS_MS: [i64; 5] = [40 * DAY_MS, 25 * HOUR_MS, 8 * HOUR_MS, -HOUR_MS, 60 * SECOND_MS - START.0];

/// Sets the clock wrong by `step_ms` for `WRONG_MS`, runs `meanwhile` with it, and sets it right again.
async fn wrong_for_a_while(daemon: &TestDaemon, step_ms: i64, meanwhile: impl AsyncFnOnce()) {
    use postrider::engine::clock::Clock;
    daemon.clock.jump_to(daemon.clock.now().plus_ms(step_ms));
    daemon.clock.advance_ms(WRONG_MS / 2);
    meanwhile().await;
    daemon.clock.advance_ms(WRONG_MS / 2);
    daemon.clock.jump_to(daemon.clock.now().minus_ms(step_ms));
}

#[tokio::test]
async fn a_step_that_is_undone_ends_disables_doubles_and_delays_nothing() {
    for step_ms in STEPS_MS {
        let daemon = TestDaemon::start().await;
        let receiver = Receiver::timed(&daemon.clock).await;
        receiver.next_statuses([500]);
        let fields = json!({ "retry_schedule_s": [3600], "disable_after_s": 432_000 });
        let webhook = daemon.webhook(&receiver.url(), fields).await;
        let retried = daemon.publish_with(json!({ "type": "a", "data": 1, "event_id": "known" })).await;
        daemon.delivery_in(&retried, "retrying").await;
        let at = START.plus_ms(20 * DAY_MS).to_string();
        let end = START.plus_ms(30 * DAY_MS).to_string();
        let later = daemon.publish_with(json!({ "type": "a", "data": 2, "deliver_at": at, "expires_at": end })).await;
        let mut received_at = START;
        wrong_for_a_while(&daemon, step_ms, async || {
            receiver.next_statuses([500]);
            let again = daemon.publish_with(json!({ "type": "a", "data": 1, "event_id": "known" })).await;
            assert_eq!((&again["duplicate"], &again["id"]), (&json!(true), &retried["id"]), "{step_ms}");
            let meanwhile = daemon.publish("a", json!("meanwhile")).await;
            received_at = time(&meanwhile, "received_at");
            daemon.delivery_in(&meanwhile, "retrying").await;
        })
        .await;
        assert_eq!(received_at, START.plus_ms(WRONG_MS / 2), "{step_ms}");
        assert_eq!(daemon.read_webhook(&webhook).await["status"], "enabled", "{step_ms}");
        daemon.delivery_in(&later, "pending").await;
        // The retries are due one hour after their attempts, with at most a tenth on top.
        daemon.clock.advance_ms(HOUR_MS + HOUR_MS / 10 + SECOND_MS);
        daemon.delivery_in(&retried, "delivered").await;
        let after = daemon.publish("a", json!("after")).await;
        daemon.delivery_in(&after, "delivered").await;
        assert_eq!(daemon.deliveries(&retried).await.len(), 1, "{step_ms}");
    }
}

#[tokio::test]
async fn a_step_is_told_at_once_and_taken_when_it_has_lasted_or_is_accepted() {
    for is_accepted in [false, true] {
        let daemon = TestDaemon::start().await;
        daemon.clock.jump_to(START.plus_ms(8 * HOUR_MS));
        let ready = daemon.get("/readyz").await;
        assert_eq!(ready["warnings"][0]["code"], "clock_distrusted", "{ready}");
        assert!(text(&ready["warnings"][0], "detail").contains("the clock is 8h ahead"), "{ready}");
        let before = daemon.publish("a", json!(1)).await;
        assert_eq!(time(&before, "received_at"), START);
        if is_accepted {
            daemon.post("/v1/clock/accept", json!({})).await;
        } else {
            daemon.advance_s(301);
        }
        let after = daemon.publish("a", json!(2)).await;
        assert!(time(&after, "received_at") >= START.plus_ms(8 * HOUR_MS), "{after}");
    }
}

#[tokio::test]
async fn a_clock_set_back_for_good_delays_no_retry_by_the_step() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_statuses([500, 500]);
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [30, 600] })).await;
    let event = daemon.publish("a", json!(1)).await;
    daemon.delivery_in(&event, "retrying").await;
    daemon.clock.jump_to(START.minus_ms(HOUR_MS));
    let ready = daemon.get("/readyz").await;
    assert_eq!(ready["warnings"][0]["code"], "clock_distrusted", "{ready}");
    daemon.advance_s(34);
    daemon.delivery_when(&event, |delivery| delivery["attempts"] == 2).await;
    // The step has lasted, so time runs at half speed until the clock has caught up.
    daemon.advance_s(300);
    daemon.get("/readyz").await;
    daemon.advance_s(2 * (600 + 61));
    daemon.delivery_in(&event, "delivered").await;
}

#[tokio::test]
async fn an_accepted_step_back_delays_no_retry_and_is_not_doubted_by_the_next_start() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [3600, 3600] })).await;
    daemon.clock.jump_to(START.plus_ms(20 * DAY_MS));
    daemon.post("/v1/clock/accept", json!({})).await;
    receiver.next_statuses([500]);
    let event = daemon.publish("a", json!(1)).await;
    daemon.delivery_in(&event, "retrying").await;
    daemon.clock.jump_to(START.plus_ms(HOUR_MS));
    daemon.post("/v1/clock/accept", json!({})).await;
    let shortened = async || {
        let delivery = daemon.deliveries(&event).await.remove(0);
        Some(()).filter(|()| time(&delivery, "next_attempt_at") < START.plus_ms(3 * HOUR_MS))
    };
    eventually("the retry waits as its schedule says", shortened).await;
    daemon.stop(std::time::Duration::from_secs(10)).await;
    daemon.start_again().await;
    let ready = daemon.get("/readyz").await;
    assert_eq!(ready["warnings"], json!([]), "the start believes the accepted clock");
    daemon.advance_s(3_600 + 360 + 2);
    daemon.delivery_in(&event, "delivered").await;
}

#[tokio::test]
async fn a_start_with_a_clock_far_ahead_ends_and_disables_nothing() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_statuses([500, 500]);
    let fields = json!({ "retry_schedule_s": [3600, 3600], "disable_after_s": 432_000 });
    let webhook = daemon.webhook(&receiver.url(), fields).await;
    let event = daemon.publish_with(json!({ "type": "a", "data": 1, "event_id": "known" })).await;
    daemon.delivery_in(&event, "retrying").await;
    let (at, end) = (START.plus_ms(20 * DAY_MS).to_string(), START.plus_ms(21 * DAY_MS).to_string());
    let later = daemon.publish_with(json!({ "type": "a", "data": 2, "deliver_at": at, "expires_at": end })).await;
    daemon.stop(std::time::Duration::from_secs(10)).await;
    daemon.clock.jump_to(START.plus_ms(40 * DAY_MS));
    daemon.start_again().await;
    let again = daemon.publish_with(json!({ "type": "a", "data": 1, "event_id": "known" })).await;
    assert_eq!(again["duplicate"], true);
    assert!(time(&daemon.publish("a", json!(3)).await, "received_at") < START.plus_ms(HOUR_MS));
    daemon.advance_s(70);
    daemon.clock.jump_to(START.plus_ms(70 * SECOND_MS));
    daemon.delivery_in(&later, "pending").await;
    daemon.delivery_in(&event, "retrying").await;
    let webhook = daemon.read_webhook(&webhook).await;
    assert_eq!(webhook["status"], "enabled");
    eventually("the clock is believed", async || {
        let ready = daemon.get("/readyz").await;
        // Retention waits for an hour of agreement.
        Some(()).filter(|()| ready["warnings"][0]["detail"].as_str().is_some_and(|text| text.contains("retention")))
    })
    .await;
}

#[tokio::test]
async fn a_start_after_five_quiet_weeks_believes_the_clock() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let first = daemon.publish("a", json!(1)).await;
    daemon.delivery_in(&first, "delivered").await;
    daemon.advance_s(2 * 86_400);
    daemon.publish("unwanted", json!("a partition of its own")).await;
    let files = |daemon: &TestDaemon| std::fs::read_dir(daemon.folder().join("partitions")).unwrap().count();
    let before = files(&daemon);
    for _ in 0..35 {
        daemon.clock.advance_ms(DAY_MS);
        // The believed clock is read between the steps of this test's clock.
        daemon.get("/readyz").await;
    }
    eventually("the retention of the event ends", async || {
        daemon.advance_s(3_600);
        Some(()).filter(|()| files(&daemon) < before)
    })
    .await;
    // The clock of this test runs ahead of the maintenance, which stores the time that it has seen once in an hour.
    for _ in 0..3 {
        let written = async || value(&daemon.metrics().await, "postrider_disk_written_bytes_total");
        let before = written().await;
        daemon.advance_s(3_700);
        eventually("the time is stored", async || (written().await > before).then_some(())).await;
    }
    daemon.stop(std::time::Duration::from_secs(10)).await;
    daemon.start_again().await;
    let ready = daemon.get("/readyz").await;
    assert_eq!(ready["warnings"], json!([]), "{ready}");
    let published = daemon.publish("a", json!(2)).await;
    assert!(time(&published, "received_at") > START.plus_ms(35 * DAY_MS), "{published}");
}
