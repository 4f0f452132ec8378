//! The real binary, stopped and killed. Every event that was answered with 202 is delivered.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::children::{output, signal, spawn};
use crate::support::daemon::text;
use crate::support::{Act, Client, Receiver, eventually};

/// A `postrider serve` process.
struct Process {
    child: Child,
    client: Client,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(data_dir: &Path) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--listen", "127.0.0.1:0"])
            .env_clear()
            .env("POSTRIDER_DELIVERY__ALLOW", "127.0.0.0/8")
            .env("POSTRIDER_MIN_FREE_BYTES", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = spawn(&mut command);
        let mut lines = BufReader::new(child.stdout.take().expect("a piped stdout")).lines();
        let listening = lines.find_map(|line| {
            let line = line.expect("text");
            line.strip_prefix("postrider: listening on http://").map(str::to_owned)
        });
        let address = listening.expect("the line with the address").parse().expect("an address");
        let key = std::fs::read_to_string(data_dir.join("first-key")).expect("the first key").trim().to_owned();
        Process { child, client: Client { address, key } }
    }

    /// Ends it as `kill -9` does.
    fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Ends it as a supervisor does, and returns its exit code.
    fn terminate(mut self) -> Option<i32> {
        signal(&self.child, "TERM");
        self.child.wait().expect("ended").code()
    }
}

#[tokio::test]
async fn accepted_events_survive_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut process = Process::start(folder.path());
    process.client.post("/v1/webhooks", json!({ "url": receiver.url(), "retry_schedule_s": [1, 1, 1] })).await;
    let mut accepted: HashSet<String> = HashSet::new();
    for round in 0..3 {
        // At that moment some requests are in flight, some wait, and some were just written.
        receiver.next_acts((0..5).map(|_| Act::Hang));
        let mut publishing = tokio::task::JoinSet::new();
        for n in 0..40 {
            let client = process.client.clone();
            publishing
                .spawn(async move { client.post("/v1/events", json!({ "type": "a", "data": [round, n] })).await });
        }
        while let Some(published) = publishing.join_next().await {
            accepted.insert(text(&published.unwrap(), "id").to_owned());
        }
        process.kill();
        process = Process::start(folder.path());
    }
    eventually("every accepted event has come", async || {
        let seen: HashSet<String> =
            receiver.seen().iter().map(|request| request.header("webhook-id").to_owned()).collect();
        accepted.is_subset(&seen).then_some(())
    })
    .await;
    eventually("every delivery is delivered", async || {
        let page = process.client.get("/v1/deliveries?limit=250").await;
        let rows = page["data"].as_array().unwrap();
        assert_eq!(rows.len(), accepted.len());
        rows.iter().all(|row| row["status"] == "delivered").then_some(())
    })
    .await;
    let stats = process.client.get("/v1/stats").await;
    assert_eq!(stats["successful_deliveries"], json!(accepted.len()));
}

#[tokio::test]
async fn the_order_of_an_ordered_webhook_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::that(Act::Gate(200)).await;
    let mut process = Process::start(folder.path());
    let fields = json!({ "url": receiver.url(), "ordered": true, "field_set": "raw" });
    process.client.post("/v1/webhooks", fields).await;
    let events: Vec<Value> = (0..30).map(|n| json!({ "type": "a", "data": n })).collect();
    process.client.post("/v1/events/batch", json!({ "events": events })).await;
    for round in 1..=3 {
        receiver.open(7);
        eventually("some have come", async || (receiver.count() >= 7 * round).then_some(())).await;
        process.kill();
        process = Process::start(folder.path());
    }
    receiver.open(60);
    eventually("all are delivered", async || {
        let page = process.client.get("/v1/deliveries?limit=250&status=delivered").await;
        (page["data"].as_array().unwrap().len() == 30).then_some(())
    })
    .await;
    // Requests in flight at a kill are repeated, and order holds.
    let came: Vec<i64> = receiver.seen().iter().map(|request| request.json().as_i64().unwrap()).collect();
    let mut next = 0;
    for number in &came {
        assert!(*number <= next, "{number} before {next}: {came:?}");
        next = next.max(number + 1);
    }
    assert_eq!(next, 30);
    assert!(came.len() <= 33, "one request is in flight at a time, so a kill repeats one: {came:?}");
}

#[tokio::test]
async fn sigterm_ends_the_daemon_with_0_and_nothing_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let process = Process::start(folder.path());
    process.client.post("/v1/webhooks", json!({ "url": receiver.url() })).await;
    let event = process.client.post("/v1/events", json!({ "type": "a", "data": 1 })).await;
    receiver.next().await;
    assert_eq!(process.terminate(), Some(0));
    let process = Process::start(folder.path());
    let rows = process.client.get(&format!("/v1/events/{}/deliveries", text(&event, "id"))).await;
    assert_eq!(rows["data"][0]["status"], "delivered");
    let next = process.client.post("/v1/events", json!({ "type": "a", "data": 2 })).await;
    assert_eq!(receiver.next().await.header("webhook-id"), text(&next, "id"));
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn a_second_daemon_on_the_same_data_says_so_and_exits() {
    let folder = tempfile::tempdir().unwrap();
    let first = Process::start(folder.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command.arg("serve").arg("--data-dir").arg(folder.path()).args(["--listen", "127.0.0.1:0"]).env_clear();
    let second = output(&mut command);
    assert_eq!(second.status.code(), Some(1));
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(words.contains(&folder.path().display().to_string()), "{words}");
    let health: Value = first.client.get("/healthz").await;
    assert!(health.is_object());
}
