//! `/metrics`: complete, of bounded size, and with every series that the packaged alerts and dashboard use.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::Method;
use postrider::config::{ListenSetting, SecretSetting};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::daemon::value;
use crate::support::{Receiver, TestDaemon, eventually};

const RULES: &str = include_str!("../../packaging/prometheus/postrider.rules.yml");
const DASHBOARD: &str = include_str!("../../packaging/grafana/postrider.json");

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names of series, without labels.
fn names(text: &str) -> BTreeSet<&str> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

/// Words that are names of metrics of Postrider or of the process.
fn asked_for(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("postrider_") || word.starts_with("process_")).map(str::to_owned).collect()
}

fn expressions(dashboard: &Value, found: &mut Vec<String>) {
    match dashboard {
        Value::Object(members) => members.iter().for_each(|(name, member)| match member {
            Value::String(text) if name == "expr" || name == "query" => found.push(text.clone()),
            member => expressions(member, found),
        }),
        Value::Array(entries) => entries.iter().for_each(|entry| expressions(entry, found)),
        _ => {}
    }
}

#[tokio::test]
async fn counters_rise_with_events_and_attempts() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_statuses([500]);
    daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [60] })).await;
    let event = daemon.publish("a", json!(1)).await;
    daemon.delivery_in(&event, "retrying").await;
    let before = daemon.metrics().await;
    assert_eq!(value(&before, "postrider_events_total"), 1.0);
    assert_eq!(value(&before, "postrider_deliveries_total"), 1.0);
    assert_eq!(value(&before, "postrider_deliveries_waiting"), 1.0);
    assert_eq!(value(&before, "postrider_attempts_total{outcome=\"http_status\"}"), 1.0);
    assert_eq!(value(&before, "postrider_deliveries_finished_total{status=\"delivered\"}"), 0.0);
    daemon.advance_s(70);
    daemon.delivery_in(&event, "delivered").await;
    let after = eventually("the effects of the commit", async || {
        let text = daemon.metrics().await;
        (value(&text, "postrider_deliveries_finished_total{status=\"delivered\"}") == 1.0).then_some(text)
    })
    .await;
    assert_eq!(value(&after, "postrider_attempts_total{outcome=\"success\"}"), 1.0);
    assert_eq!(value(&after, "postrider_deliveries_waiting"), 0.0);
    assert_eq!(value(&after, "postrider_receiver_response_seconds_count"), 2.0);
    assert_eq!(value(&after, "postrider_delivery_lag_seconds_count"), 2.0);
    assert_eq!(value(&after, "postrider_webhooks{status=\"enabled\"}"), 1.0);
    assert!(value(&after, "postrider_commit_size_bytes_sum") > 0.0);
    assert!(value(&after, "postrider_store_bytes{part=\"active\"}") > 0.0);
    assert!(value(&after, "process_open_fds") > 0.0);
    assert_eq!(value(&after, "postrider_ready"), 1.0);
}

/// Series of a standby that the packaged alerts ask for.
const OF_STANDBY: [&str; 4] = [
    "postrider_standby",
    "postrider_standby_behind_commits",
    "postrider_standby_behind_seconds",
    "postrider_standby_connected",
];

#[tokio::test]
async fn the_packaged_alerts_and_dashboard_use_the_served_series() {
    let daemon = TestDaemon::start().await;
    let text = daemon.metrics().await;
    let there = names(&text);
    let rules: Vec<&str> = RULES.lines().filter(|line| !line.contains("alert:")).collect();
    let mut asked = asked_for(&rules.join("\n"));
    assert!(asked.len() > 10, "{asked:?}");
    let mut found = Vec::new();
    expressions(&serde_json::from_str(DASHBOARD).expect("JSON"), &mut found);
    assert!(found.len() > 20, "{found:?}");
    found.iter().for_each(|expression| asked.extend(asked_for(expression)));
    // A standby serves these, and `tests/operation/standby.rs` reads them there.
    asked.retain(|name| !OF_STANDBY.contains(&name.as_str()));
    let missing: Vec<_> = asked.iter().filter(|name| !there.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "asked for, and not in /metrics: {missing:?}");
    // Conversely, the alerts or the dashboard use every served series.
    let unseen =
        there.iter().filter(|name| !asked.contains(**name) && !name.ends_with("_count") && !name.ends_with("_sum"));
    let unseen: Vec<_> = unseen.collect();
    assert_eq!(unseen, [&"postrider_build_info", &"postrider_commit_orders_bucket", &"process_threads"]);
}

#[tokio::test]
async fn the_number_of_series_does_not_grow_with_the_store() {
    let daemon = TestDaemon::start().await;
    let series = async || daemon.metrics().await.lines().filter(|line| !line.starts_with('#')).count();
    let before = series().await;
    let receiver = Receiver::start().await;
    for n in 0..5 {
        daemon.webhook(&receiver.url(), json!({ "name": format!("w{n}") })).await;
    }
    let event = daemon.publish("some.type", json!(1)).await;
    receiver.take(5).await;
    assert_eq!(daemon.deliveries(&event).await.len(), 5);
    assert_eq!(series().await, before);
}

/// Whether the lines of a page are those of the format that its media type names.
fn agrees(content_type: &str, page: &str) -> bool {
    let is_open = page.ends_with("\n# EOF\n");
    let counter =
        if is_open { "\n# TYPE postrider_events counter\n" } else { "\n# TYPE postrider_events_total counter\n" };
    let expected = if is_open { OPEN_METRICS } else { TEXT };
    content_type == expected && page.contains(counter) && page.contains("\npostrider_events_total 0\n")
}

#[tokio::test]
async fn a_scraper_gets_the_format_that_it_accepts_under_its_own_name() {
    let daemon = TestDaemon::start().await;
    for (accept, expected) in
        [("", TEXT), ("*/*", TEXT), ("application/openmetrics-text", OPEN_METRICS), ("text/html", TEXT)]
    {
        let headers: &[_] = if accept.is_empty() { &[] } else { &[("accept", accept)] };
        let answer = daemon.call(Method::GET, "/metrics", headers, Bytes::new()).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some(expected)), "{accept}");
        assert_eq!(answer.header("vary"), Some("accept"));
        let page = String::from_utf8_lossy(&answer.body);
        assert!(agrees(expected, &page), "{accept}: {page}");
    }
}

#[tokio::test]
async fn the_listener_for_metrics_asks_for_the_key_too() {
    let folder = tempfile::tempdir().expect("a directory");
    let socket = folder.path().join("metrics");
    let _daemon = TestDaemon::with(|settings| {
        settings.metrics.listen = Some(ListenSetting::Unix(socket.clone()));
        settings.metrics.key = Some(SecretSetting::new("hunter2".to_owned()));
    })
    .await;
    for (key, status) in
        [("", "401"), ("Authorization: Bearer hunter3\r\n", "401"), ("Authorization: Bearer hunter2\r\n", "200")]
    {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.expect("the listener for metrics");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{key}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{key}: {answer}");
        assert_eq!(answer.contains("postrider_"), status == "200", "{answer}");
    }
}

#[tokio::test]
async fn the_listener_for_metrics_serves_the_same_formats() {
    let folder = tempfile::tempdir().expect("a directory");
    let socket = folder.path().join("metrics");
    let _daemon =
        TestDaemon::with(|settings| settings.metrics.listen = Some(ListenSetting::Unix(socket.clone()))).await;
    for (accept, expected) in [("", TEXT), ("Accept: application/openmetrics-text\r\n", OPEN_METRICS)] {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.expect("the listener for metrics");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{accept}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let (head, page) = answer.split_once("\r\n\r\n").expect("a head");
        let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: "));
        assert_eq!(content_type, Some(expected), "{head}");
        assert!(agrees(expected, page), "{page}");
    }
}
