//! `GET /v1/system`: the daemon and its machine in JSON.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Act, Receiver, START, TestDaemon};

#[tokio::test]
async fn the_system_tells_its_disk_its_files_its_queues_and_its_clock() {
    let mut daemon = TestDaemon::start().await;
    let empty = daemon.get("/v1/system").await;
    assert_eq!(empty["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&empty["started_at"], &empty["oldest_event"]), (&json!(START.to_string()), &Value::Null));
    assert_eq!((&empty["ready"], &empty["reasons"], &empty["warnings"]), (&json!(true), &json!([]), &json!([])));
    assert_eq!(empty["clock"], json!({ "now": START.to_string(), "trusted": true, "off_ms": null }));
    daemon.advance_s(60);
    let receiver = Receiver::that(Act::Gate(200)).await;
    let hook = daemon.webhook(&receiver.url(), json!({})).await;
    for n in 0..2 {
        daemon.publish("a", json!(n)).await;
    }
    receiver.take(2).await;
    let path = format!("/v1/webhooks/{}/pause", text(&hook, "id"));
    daemon.post(&path, json!({})).await;
    let busy = daemon.get("/v1/system").await;
    assert_eq!((&busy["in_flight"], &busy["queue"], &busy["partitions"]), (&json!(2), &json!(0), &json!(1)), "{busy}");
    assert_eq!(busy["oldest_event"], START.plus_ms(60_000).to_string());
    assert_eq!(busy["warnings"][0]["code"], "webhooks_paused");
    let bytes = |part: &str| busy["bytes"][part].as_u64().unwrap();
    assert_eq!(bytes("total"), bytes("state") + bytes("journal") + bytes("active") + bytes("sealed"));
    assert!(bytes("state") > 0 && bytes("journal") > 0, "{busy}");
    assert!(busy["disk_free_bytes"].as_u64() > Some(0));
    let ms = |name: &str| busy[name].as_f64().unwrap();
    assert!(ms("commit_p50_ms") > 0.0 && ms("commit_p99_ms") >= ms("commit_p50_ms"), "{busy}");
    assert_eq!((&busy["followers"], &busy["follower_queue_bytes"]), (&json!(0), &json!(0)));
    receiver.open(2);
    daemon.advance_s(60);
    daemon.restart().await;
    assert_eq!(daemon.get("/v1/system").await["started_at"], START.plus_ms(120_000).to_string());
}

#[tokio::test]
async fn the_system_is_for_keys_with_the_scope_admin() {
    let daemon = TestDaemon::start().await;
    let key = daemon.post("/v1/keys", json!({ "name": "reads", "scopes": ["events:read", "webhooks:read"] })).await;
    let refused = daemon.with_key(text(&key, "key")).try_get("/v1/system").await;
    assert_eq!(refused.status, 403);
}
