//! Receivers that hang, drip, flood, reset or send invalid responses cost one attempt each, in bounded time and memory.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::ports::ReservedPort;
use crate::support::{Act, Receiver, TestDaemon};

/// The only attempt of an event at a receiver with this behaviour.
async fn attempt_at(act: Act) -> Value {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(act).await;
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": "none", "timeout_ms": 1_000 })).await;
    let event = daemon.publish("a", json!(1)).await;
    let delivery = daemon.delivery_when(&event, |row| row["attempts"] == 1).await;
    assert_eq!(receiver.count(), 1);
    daemon.attempts(&delivery).await.remove(0)
}

#[tokio::test]
async fn the_timeout_covers_head_and_body() {
    for (act, status) in [(Act::Hang, Value::Null), (Act::Drip, json!(200))] {
        let attempt = attempt_at(act).await;
        assert_eq!((text(&attempt, "outcome"), &attempt["success"]), ("timeout", &json!(false)));
        assert_eq!(attempt["status_code"], status);
        let total = attempt["timings_ms"]["total"].as_u64().unwrap();
        assert!((1_000..10_000).contains(&total), "{total}");
    }
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_and_the_status_counts() {
    let attempt = attempt_at(Act::Flood).await;
    assert_eq!((text(&attempt, "outcome"), &attempt["success"]), ("success", &json!(true)));
    assert_eq!(text(&attempt, "response_body").len(), 16 * 1024);
}

#[tokio::test]
async fn a_million_headers_are_a_failed_attempt() {
    let attempt = attempt_at(Act::Headers).await;
    assert_eq!(attempt["success"], false);
    assert_eq!(attempt["status_code"], Value::Null);
    assert!(!text(&attempt, "error").is_empty());
}

#[tokio::test]
async fn a_reset_an_early_end_and_garbage_are_failed_attempts() {
    for (bytes, outcome) in [
        (None, "connect_reset"),
        (Some(&b""[..]), "connect_reset"),
        (Some(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort"), "connect_reset"),
        (Some(b"\x16\x03\x01 this is no HTTP\r\n\r\n"), "request_error"),
        (Some(b"HTTP/1.1 abc\r\n\r\n"), "request_error"),
    ] {
        let attempt = attempt_at(bytes.map_or(Act::Reset, |bytes| Act::Raw(bytes.to_vec()))).await;
        assert_eq!(text(&attempt, "outcome"), outcome, "{bytes:?}: {attempt}");
        assert_eq!(attempt["success"], false);
    }
}

#[tokio::test]
async fn an_absent_receiver_and_a_forbidden_one_are_told_apart() {
    let daemon = TestDaemon::start().await;
    let dead = ReservedPort::new();
    let none = json!({ "retry_schedule_s": "none", "event_types": ["refused"] });
    daemon.webhook(&format!("http://{}/", dead.address()), none).await;
    let event = daemon.publish("refused", json!(1)).await;
    assert_eq!(daemon.delivery_in(&event, "failed").await["last_outcome"], "connect_refused");
    // The daemon's own address is never a receiver, even if its network is allowed.
    let own = daemon.try_post("/v1/webhooks", json!({ "url": format!("http://{}/", daemon.address) })).await;
    assert_eq!(own.expect(422)["errors"][0]["pointer"], "/url");
    for url in [
        "http://169.254.169.254/",
        "http://10.0.0.1/",
        "http://localhost:6379/",
        "ftp://127.0.0.1/",
        "http://u@127.0.0.1/",
    ] {
        let refused = daemon.try_post("/v1/webhooks", json!({ "url": url })).await;
        assert_eq!(refused.expect(422)["errors"][0]["pointer"], "/url", "{url}");
    }
}

#[tokio::test]
async fn a_network_that_is_no_longer_allowed_is_not_reached() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": "none" })).await;
    daemon.settings.delivery.allow = Vec::new();
    daemon.restart().await;
    let event = daemon.publish("a", json!(1)).await;
    let delivery = daemon.delivery_in(&event, "failed").await;
    assert_eq!(delivery["last_outcome"], "blocked_address");
    assert_eq!(receiver.count(), 0);
}
