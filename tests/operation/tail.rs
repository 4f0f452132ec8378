//! `postrider tail` beside a running daemon: every attempt to every webhook, once, as it is made.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;

use serde_json::Value;

use crate::support::children;
use crate::support::installation::{Installation, eventually};
use crate::support::ports::ReservedPort;

#[tokio::test]
async fn attempts_to_all_webhooks_are_followed_once_each() {
    let installation = Installation::start();
    // No process listens there, so every attempt fails at once.
    let dead = [ReservedPort::new(), ReservedPort::new()];
    for (port, kind) in dead.iter().zip(["a.*", "b.*"]) {
        let url = format!("http://{}/", port.address());
        installation.says(&["webhook", "create", &url, "--event-type", kind, "--retry-schedule", "none"]);
    }
    installation.says(&["send", "--type", "a.before", "--data", "{}"]);
    eventually("the attempt", || (installation.json(&["stats"])["failed_deliveries"] == 1).then_some(())).await;
    let mut tail = installation.command();
    tail.args(["tail", "-o", "json", "-n", "1"]).stdout(Stdio::piped());
    let mut tail = children::spawn(&mut tail);
    let (said, hearing) = mpsc::channel();
    let lines = BufReader::new(tail.stdout.take().expect("its stdout")).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(said.send(line))));
    let next = async || {
        let line = eventually("a line", || hearing.try_recv().ok()).await;
        let row: Value = serde_json::from_str(&line).expect("JSON");
        (row["url"].clone(), row["outcome"].clone(), row["event_id"].clone())
    };
    let before = next().await;
    assert_eq!(before.1, "connect_refused");
    installation.says(&["send", "--type", "b.after", "--data", "{}"]);
    installation.says(&["send", "--type", "a.after", "--data", "{}"]);
    let after = [next().await, next().await];
    assert_eq!(after.iter().filter(|row| row.0 == before.0).count(), 1, "one attempt to each webhook: {after:?}");
    assert!(after.iter().all(|row| row.2 != before.2), "nothing twice: {after:?}");
    assert!(hearing.try_recv().is_err());
    tail.kill().expect("tail is killed");
    tail.wait().expect("an end");
    // The table for people has columns that fit the width.
    let shown = children::output(installation.command().env("COLUMNS", "100").args(["tail", "--once"]));
    let shown = String::from_utf8(shown.stdout).expect("text");
    assert_eq!(shown.lines().count(), 4, "{shown}");
    assert!(shown.starts_with("STARTED (UTC)   OUTCOME"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colour where there is no terminal: {shown}");
}
