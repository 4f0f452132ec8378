//! The whole daemon on a disk that fails while it runs. Accepted events stay, and events that cannot be stored are
//! refused. The daemon recovers by itself if it may.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::disk::FaultyDisk;
use crate::support::{Act, Receiver, START, TestDaemon, eventually, in_time};

/// A payload that does not fit into existing pages.
fn large() -> Value {
    json!({ "type": "a", "data": "x".repeat(200_000) })
}

/// Publishes small events until one is not accepted, or `most` are.
async fn published_until_refused(daemon: &TestDaemon, most: usize) -> (Vec<Value>, Option<u16>) {
    let mut accepted = Vec::new();
    for number in 0..most {
        let answer = daemon.try_post("/v1/events", json!({ "type": "a", "data": number })).await;
        match answer.status.as_u16() {
            202 => accepted.push(answer.json()),
            refused => return (accepted, Some(refused)),
        }
    }
    (accepted, None)
}

async fn all_delivered(daemon: &TestDaemon, events: &[Value]) {
    for event in events {
        daemon.delivery_in(event, "delivered").await;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_events_and_the_service_goes_on_by_itself_when_there_is_space() {
    // The lack of space is seen before the commit, or only by the commit.
    for min_free_bytes in [1, 0] {
        let disk = FaultyDisk::new(1);
        let daemon = TestDaemon::on(disk.clone(), |settings| settings.min_free_bytes = min_free_bytes).await;
        let receiver = Receiver::start().await;
        daemon.webhook(&receiver.url(), json!({})).await;
        let (mut accepted, refused) = published_until_refused(&daemon, 5).await;
        assert_eq!(refused, None);
        disk.set_full(true);
        daemon.advance_s(2);
        for _ in 0..3 {
            let answer = daemon.try_post("/v1/events", large()).await;
            assert_eq!(answer.status, 507, "{}", String::from_utf8_lossy(&answer.body));
            assert_eq!(answer.json()["code"], "disk_full");
            assert!(answer.header("retry-after").is_some());
        }
        // An event that would still fit into the write-ahead log is refused too, because redb could not store it.
        let (more, refused) = published_until_refused(&daemon, 3).await;
        assert_eq!((more.len(), refused), (0, Some(507)));
        let ready = daemon.try_get("/readyz").await;
        assert_eq!((ready.status.as_u16(), &ready.json()["reasons"][0]["code"]), (503, &json!("disk_full")));
        // The reason does not alternate while nothing is written.
        for _ in 0..4 {
            daemon.advance_s(2);
            assert_eq!(daemon.try_post("/v1/events", large()).await.status, 507);
            let reasons = daemon.try_get("/readyz").await.json()["reasons"].clone();
            let codes: Vec<&Value> = reasons.as_array().expect("reasons").iter().map(|row| &row["code"]).collect();
            assert_eq!(codes, ["disk_full"], "{reasons}");
        }
        disk.set_full(false);
        daemon.advance_s(2);
        let after = eventually("events are taken again", async || {
            let answer = daemon.try_post("/v1/events", large()).await;
            (answer.status == 202).then(|| answer.json())
        })
        .await;
        assert_eq!(daemon.try_get("/readyz").await.status, 200);
        accepted.push(after);
        all_delivered(&daemon, &accepted).await;
    }
}

#[tokio::test]
async fn outcomes_during_a_full_disk_are_written_when_there_is_space_and_not_sent_again() {
    const EVENTS: usize = 40;
    let disk = FaultyDisk::new(4);
    let daemon = TestDaemon::on(disk.clone(), |settings| settings.min_free_bytes = 0).await;
    let receiver = Receiver::that(Act::Gate(200)).await;
    daemon.webhook(&receiver.url(), json!({ "max_in_flight": EVENTS })).await;
    let (accepted, _) = published_until_refused(&daemon, EVENTS).await;
    receiver.take(EVENTS).await;
    disk.set_full(true);
    receiver.open(EVENTS);
    eventually("an outcome finds no space", async || (daemon.try_get("/readyz").await.status == 503).then_some(()))
        .await;
    // Longer than the wait before a delivery whose outcome was given up is sent again.
    for _ in 0..4 {
        daemon.advance_s(10);
        assert_eq!(daemon.try_post("/v1/events", large()).await.status, 507);
    }
    disk.set_full(false);
    daemon.advance_s(2);
    for event in &accepted {
        let delivery = daemon.delivery_in(event, "delivered").await;
        assert_eq!(delivery["attempts"], 1, "{delivery}");
    }
    assert_eq!(receiver.count(), EVENTS);
}

#[tokio::test]
async fn a_file_system_that_turns_read_only_refuses_changes_and_the_service_goes_on_when_it_is_writable_again() {
    let disk = FaultyDisk::new(2);
    let mut daemon = TestDaemon::on(disk.clone(), |_| {}).await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let (mut accepted, _) = published_until_refused(&daemon, 5).await;
    disk.set_read_only(true);
    for _ in 0..3 {
        let answer = daemon.try_post("/v1/events", large()).await;
        assert!(answer.status.is_server_error(), "{}", answer.status);
    }
    disk.set_read_only(false);
    let after = eventually("events are taken again", async || {
        let answer = daemon.try_post("/v1/events", large()).await;
        (answer.status == 202).then(|| answer.json())
    })
    .await;
    accepted.push(after);
    // A delivery whose outcome could not be written is sent again after five seconds.
    eventually("everything is delivered", async || {
        daemon.advance_s(1);
        for event in &accepted {
            daemon.deliveries(event).await.iter().all(|row| row["status"] == "delivered").then_some(())?;
        }
        Some(())
    })
    .await;
    daemon.restart().await;
    all_delivered(&daemon, &accepted).await;
}

#[tokio::test]
async fn a_failing_sync_acknowledges_nothing_and_ends_the_daemon_with_everything_kept() {
    let disk = FaultyDisk::new(3);
    let mut daemon = TestDaemon::on(disk.clone(), |_| {}).await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let (accepted, refused) = published_until_refused(&daemon, 20).await;
    assert_eq!(refused, None);
    disk.fail_a_sync(0);
    let (_, refused) = published_until_refused(&daemon, 1).await;
    assert!(refused.is_some_and(|status| status >= 500), "{refused:?}");
    in_time("the daemon says that it is over", daemon.is_broken()).await;
    // No more events are accepted, because rows in memory may be on no disk.
    let (more, refused) = published_until_refused(&daemon, 1).await;
    assert!(more.is_empty() && refused.is_some_and(|status| status >= 500), "{refused:?}");
    daemon.stop(Duration::ZERO).await;
    // The process has ended, and the machine has not.
    daemon.disk = Some(disk.kill());
    daemon.start_again().await;
    all_delivered(&daemon, &accepted).await;
}

#[tokio::test]
async fn wherever_the_clock_jumps_nothing_is_dropped_before_it_is_believed() {
    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;
    const MINUTE_MS: i64 = 60_000;
    for jump_ms in [-HOUR_MS, DAY_MS, 40 * DAY_MS, MINUTE_MS - START.0] {
        let mut daemon = TestDaemon::start().await;
        let receiver = Receiver::start().await;
        daemon.webhook(&receiver.url(), json!({})).await;
        let before = daemon.publish("a", json!("before")).await;
        daemon.delivery_in(&before, "delivered").await;
        let partitions = std::fs::read_dir(daemon.folder().join("partitions")).unwrap().count();
        // While the daemon runs, and while it is stopped.
        for is_running in [true, false] {
            if !is_running {
                daemon.stop(Duration::from_secs(10)).await;
            }
            daemon.clock.jump_to(START.plus_ms(jump_ms));
            if !is_running {
                daemon.start_again().await;
            }
            let after = daemon.publish("a", json!("after")).await;
            daemon.delivery_in(&after, "delivered").await;
            assert!(text(&after, "id") > text(&before, "id"), "ids go on rising");
            // Rounds of maintenance pass.
            for _ in 0..3 {
                daemon.advance_s(70);
                daemon.publish("a", json!("later")).await;
            }
            let left = std::fs::read_dir(daemon.folder().join("partitions")).unwrap().count();
            assert!(left >= partitions, "a jump of {jump_ms} ms dropped a partition");
            daemon.clock.jump_to(START.plus_ms(1_000_000));
            assert_eq!(daemon.deliveries(&before).await[0]["status"], "delivered", "after a jump of {jump_ms} ms");
        }
    }
}
