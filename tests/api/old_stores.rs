//! Stores of earlier versions can be read, to the last attempt, and used: `tests/data/stores/*.tar.gz`, each with the
//! answers of its API at that time. A changed format needs a reader for these. None of them is ever rebuilt.
//!
//! `POSTRIDER_KEEP_STORE=name cargo test --test daemon old_stores` adds one, at a release that changes a format. A name
//! that ends with `-killed` keeps the files as a killed daemon leaves them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::children::output;
use crate::support::daemon::text;
use crate::support::{Receiver, TestDaemon};

/// The indexes and counts that a store of today has from its beginning. Older stores name none, or fewer.
const COMPLETE: [&str; 4] = ["failed", "types", "event_ids", "figures"];
/// Seconds until a failed delivery is tried again.
const RETRY_S: i64 = 3_600;

fn stores() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stores")
}

fn tar(arguments: &[&str]) {
    let done = output(Command::new("tar").args(arguments));
    assert!(done.status.success(), "tar {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The answers of the API about all objects of the store.
async fn said(daemon: &TestDaemon, paths: &[String]) -> Value {
    let mut said = serde_json::Map::new();
    for path in paths {
        said.insert(path.clone(), daemon.get(path).await);
    }
    Value::Object(said)
}

/// A store with some of everything: delivered at once, after a failure, failed for good, one that waits, and one that
/// waits for its retry. Its folder goes into `name`.tar.gz, and the answers of the API into `name`.json.
async fn keep(name: &str) {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let well = daemon.webhook(&receiver.url(), json!({ "event_types": ["well"], "name": "well" })).await;
    let ill =
        daemon.webhook(&receiver.url(), json!({ "event_types": ["ill"], "name": "ill", "retry_schedule_s": [] })).await;
    let paused = daemon.webhook(&receiver.url(), json!({ "event_types": ["later"], "name": "paused" })).await;
    daemon.post(&format!("/v1/webhooks/{}/pause", text(&paused, "id")), json!({})).await;
    let retrying = json!({ "event_types": ["again"], "name": "retrying", "retry_schedule_s": [RETRY_S] });
    let retrying = daemon.webhook(&receiver.url(), retrying).await;
    let mut paths = Vec::new();
    receiver.next_statuses([500, 200, 500]);
    // One of them is kept in pieces.
    let event = |kind: &str, data: Value| json!({ "type": kind, "event_id": format!("of {kind}"), "data": data });
    for (kind, ends) in [("ill", "failed"), ("well", "delivered"), ("again", "retrying"), ("later", "pending")] {
        let made = daemon
            .publish_with(event(kind, json!({ "fill": kind.repeat(if kind == "later" { 15_000 } else { 10 }) })))
            .await;
        let delivery = daemon.delivery_in(&made, ends).await;
        paths.push(format!("/v1/events/{}", text(&made, "id")));
        paths.push(format!("/v1/deliveries/{}", text(&delivery, "id")));
        paths.push(format!("/v1/deliveries/{}/attempts", text(&delivery, "id")));
    }
    for webhook in [&well, &ill, &paused, &retrying] {
        paths.push(format!("/v1/webhooks/{}", text(webhook, "id")));
        paths.push(format!("/v1/webhooks/{}/stats", text(webhook, "id")));
        paths.push(format!("/v1/webhooks/{}/secret", text(webhook, "id")));
    }
    let said = said(&daemon, &paths).await;
    if !name.ends_with("-killed") {
        daemon.stop(Duration::from_secs(10)).await;
    }
    let (waits, fails) = (text(&paused, "id"), text(&retrying, "id"));
    let kept = json!({ "key": daemon.key, "complete": COMPLETE, "paused": waits, "retrying": fails, "said": said });
    fs::create_dir_all(stores()).expect("a folder");
    let words = serde_json::to_string_pretty(&kept).expect("JSON") + "\n";
    fs::write(stores().join(format!("{name}.json")), words).expect("written");
    let archive = stores().join(format!("{name}.tar.gz"));
    tar(&["--create", "--gzip", "--exclude=lock", "--file", utf8(&archive), "--directory", utf8(daemon.folder()), "."]);
}

async fn read(name: &str) {
    let kept = fs::read_to_string(stores().join(format!("{name}.json"))).expect("the stored answers");
    let kept: Value = serde_json::from_str(&kept).expect("JSON");
    let folder = tempfile::tempdir().expect("a directory");
    let archive = stores().join(format!("{name}.tar.gz"));
    tar(&["--extract", "--gzip", "--file", utf8(&archive), "--directory", utf8(folder.path())]);
    let daemon = TestDaemon::on_found(folder, text(&kept, "key").to_owned()).await;
    for (path, then) in kept["said"].as_object().expect("the stored answers") {
        let now = daemon.get(path).await;
        for (member, value) in then.as_object().expect("an object") {
            assert!(is_within(value, &now[member]), "{name}: {member} of {path}: {value} became {}", now[member]);
        }
    }
    let failed = daemon.get("/v1/deliveries?status=failed").await;
    let ill = &failed["data"][0];
    assert_eq!((&ill["event_type"], &ill["status"]), (&json!("ill"), &json!("failed")), "{failed}");
    let partial = |name: &str| kept["complete"].as_array().is_none_or(|complete| !complete.contains(&json!(name)));
    assert_eq!(failed["indexed_from"].is_string(), partial("failed"), "{name}: {failed}");
    let types = daemon.get("/v1/event-types").await;
    assert_eq!(types["indexed_from"].is_string(), partial("types"), "{name}: {types}");
    let found = daemon.get("/v1/events?event_id=of%20ill").await;
    assert_eq!(found["data"][0]["type"], json!("ill"), "{found}");
    assert_eq!(found["indexed_from"].is_string(), partial("event_ids"), "{name}: {found}");
    same_figures(&daemon, partial("figures")).await;
    // The store is used further: the delivery that waited then is sent now.
    let receiver = Receiver::start().await;
    let paused = text(&kept, "paused");
    daemon.patch(&format!("/v1/webhooks/{paused}"), json!({ "url": receiver.url() })).await;
    daemon.post(&format!("/v1/webhooks/{paused}/resume"), json!({})).await;
    receiver.take(1).await;
    // So is the one that waited for its retry. Older stores have none.
    if let Some(retrying) = kept["retrying"].as_str() {
        daemon.patch(&format!("/v1/webhooks/{retrying}"), json!({ "url": receiver.url() })).await;
        // Twice the wait, because a random part is added to it.
        daemon.advance_s(2 * RETRY_S);
        receiver.take(1).await;
    }
    let again = daemon.publish_with(json!({ "type": "later", "event_id": "of another", "data": {} })).await;
    daemon.delivery_in(&again, "delivered").await;
    same_figures(&daemon, partial("figures")).await;
}

/// The figures of the organization are the sums of its webhooks', although the version knew no figures of
/// organizations. Its answers about spans say from when on they are complete only if they are `partial`.
async fn same_figures(daemon: &TestDaemon, partial: bool) {
    const NAMES: [&str; 4] = ["total_events", "successful_deliveries", "failed_deliveries", "pending_deliveries"];
    let webhooks = daemon.get("/v1/webhooks").await;
    let mut added = [0; 4];
    for webhook in webhooks["data"].as_array().expect("a list") {
        let own = daemon.get(&format!("/v1/webhooks/{}/stats", text(webhook, "id"))).await;
        NAMES.iter().zip(&mut added).for_each(|(name, sum)| *sum += own[name].as_u64().expect("a number"));
    }
    let all = daemon.get("/v1/stats").await;
    assert_eq!(NAMES.map(|name| all[name].as_u64().expect("a number")), added, "{all}");
    assert!(added[0] > 0, "{all}");
    for query in ["stats?last=31d", "stats/series?last=31d"] {
        let told = daemon.get(&format!("/v1/{query}")).await;
        assert_eq!(told["complete_from"].is_string(), partial, "{told}");
    }
}

#[tokio::test]
async fn stores_of_earlier_versions_are_read_and_used() {
    if let Ok(name) = std::env::var("POSTRIDER_KEEP_STORE") {
        keep(&name).await;
    }
    let mut names: Vec<String> = fs::read_dir(stores())
        .expect("the stores")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(".tar.gz").map(str::to_owned))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    for name in names {
        read(&name).await;
    }
}

/// Whether `now` has everything that `before` has. A later version may have added members.
fn is_within(before: &Value, now: &Value) -> bool {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            // The words of a cure are for people, and get better.
            before.iter().all(|(name, value)| now.get(name).is_some_and(|now| name == "fix" || is_within(value, now)))
        }
        (Value::Array(before), Value::Array(now)) => {
            before.len() == now.len() && before.iter().zip(now).all(|(before, now)| is_within(before, now))
        }
        _ => before == now,
    }
}
