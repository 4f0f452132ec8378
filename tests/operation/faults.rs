//! Causes of failing deliveries, one at a time: the doctor names the cause and the cure, and `/readyz` and the log name
//! their parts.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;

use crate::support::children;
use crate::support::installation::{Installation, eventually};
use crate::support::ports::ReservedPort;

/// The findings of the doctor, with its exit code.
fn doctor(installation: &Installation, words: &[&str]) -> (i32, Vec<Value>) {
    let output = installation.output(&[&["doctor", "-o", "json"], words].concat());
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("a code"), said["checks"].as_array().expect("checks").clone())
}

/// The only finding of this kind that is not OK.
fn found(installation: &Installation, check: &str, status: &str) -> Value {
    let (_, checks) = doctor(installation, &[]);
    let mut rows = checks.iter().filter(|row| row["check"] == check && row["status"] == status);
    let row = rows.next().unwrap_or_else(|| panic!("no {status} {check} in {checks:#?}"));
    assert!(rows.next().is_none(), "{checks:#?}");
    row.clone()
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_else(|| panic!("no {name} in {row}"))
}

fn ready(installation: &Installation) -> (u16, Value) {
    let address = installation.url.strip_prefix("http://").expect("TCP");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).expect("JSON"))
}

fn codes(ready: &Value, of: &str) -> Vec<String> {
    let rows = ready[of].as_array().expect("a list");
    rows.iter().map(|row| text(row, "code").to_owned()).collect()
}

/// Makes a webhook, and sends events to it until two attempts have failed.
async fn failing(installation: &Installation, url: &str) -> String {
    let webhook = installation.json(&["webhook", "create", url, "--name", "invoices", "--retry-schedule", "none"]);
    let id = text(&webhook, "id").to_owned();
    installation.says(&["send", "--type", "a.b", "--data", "{}", "--count", "2"]);
    eventually("two failed attempts", || {
        let webhook = installation.json(&["webhook", "get", &id]);
        (webhook["consecutive_failures"] == 2).then_some(())
    })
    .await;
    id
}

/// The log names each delivery that is given up.
fn is_given_up(installation: &Installation, reason: &str) {
    let rows = installation.logged("delivery.exhausted");
    assert_eq!(rows.len(), 2, "{}", installation.log());
    for row in rows {
        let fields = &row["fields"];
        assert!(text(fields, "reason").starts_with(reason), "{row}");
        for name in ["event_id", "delivery_id", "webhook_id"] {
            assert_eq!(text(fields, name).len(), 36, "{row}");
        }
    }
    assert!(installation.logged("attempt").is_empty(), "attempts are no news at info");
}

#[tokio::test]
async fn nothing_is_wrong() {
    let installation = Installation::start();
    let (code, checks) = doctor(&installation, &[]);
    let wrong: Vec<_> = checks.iter().filter(|row| row["status"] == "FAIL").collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(code, 0);
    for check in ["settings", "data_dir", "disk_space", "disk_sync", "clock", "dns", "trust_store", "daemon", "backlog"]
    {
        assert!(checks.iter().any(|row| row["check"] == check), "{check} was not looked at: {checks:#?}");
    }
    let people = installation.says(&["doctor"]);
    assert!(people.contains("OK    daemon          it is ready\n"), "{people}");
}

#[tokio::test]
async fn a_wrong_certificate() {
    let installation = Installation::start();
    let url = strange_receiver();
    failing(&installation, &url).await;
    let row = found(&installation, "webhook", "FAIL");
    assert!(text(&row, "detail").contains("by an unknown authority [certificate_unknown_authority]"), "{row}");
    assert!(text(&row, "fix").contains("tls.ca_pem"), "{row}");
    is_given_up(&installation, "TLS handshake failed: the certificate was issued by an unknown authority");
}

/// A receiver with TLS and a certificate of an unknown authority.
fn strange_receiver() -> String {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a configuration");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut session = rustls::ServerConnection::new(config.clone()).expect("a session");
            // It ends with the client's alert, which the test expects.
            let _ = session.complete_io(&mut stream);
        }
    });
    format!("https://{address}/")
}

#[tokio::test]
async fn a_refused_address() {
    let mut installation = Installation::with("min_free_bytes = 0\n[delivery]\nallow = [\"127.0.0.0/8\"]\n");
    installation.serve();
    // The addresses of a name are checked at the connection. This one is of this machine, and no longer allowed.
    let webhook = installation.json(&[
        "webhook",
        "create",
        "http://127.0.0.1:9000/",
        "--name",
        "erp",
        "--retry-schedule",
        "none",
    ]);
    std::fs::write(installation.settings_file(), "min_free_bytes = 0\n").expect("written");
    installation.signal("HUP");
    eventually("the reload", || installation.logged("a setting was taken over").pop()).await;
    installation.says(&["send", "--type", "a.b", "--data", "{}", "--count", "2"]);
    let id = text(&webhook, "id");
    eventually("failures", || (installation.json(&["webhook", "get", id])["consecutive_failures"] == 2).then_some(()))
        .await;
    let row = found(&installation, "webhook", "FAIL");
    assert!(text(&row, "detail").contains("Address not allowed. 127.0.0.1 is private or denied"), "{row}");
    assert!(text(&row, "fix").contains("add 127.0.0.1 to delivery.allow"), "{row}");
    is_given_up(&installation, "Address not allowed");
}

#[tokio::test]
async fn a_receiver_that_is_down() {
    let installation = Installation::start();
    let dead = ReservedPort::new();
    let id = failing(&installation, &format!("http://{}/", dead.address())).await;
    let row = found(&installation, "webhook", "FAIL");
    assert!(text(&row, "detail").contains("invoices") && text(&row, "detail").contains("Connection refused"), "{row}");
    assert!(text(&row, "fix").starts_with("start the receiver"), "{row}");
    assert_eq!(doctor(&installation, &[]).0, 1);
    is_given_up(&installation, "Connection refused");
    // Ten consecutive failures open the circuit. Then the log and /readyz report it too.
    installation.says(&["send", "--type", "a.b", "--data", "{}", "--count", "8"]);
    eventually("the circuit", || (installation.json(&["webhook", "get", &id])["circuit"] == "open").then_some(()))
        .await;
    let (status, ready) =
        eventually("the warning", || Some(ready(&installation)).filter(|(_, r)| r["warnings"] != Value::Array(vec![])))
            .await;
    assert_eq!((status, codes(&ready, "warnings")), (200, vec!["webhooks_failing".to_owned()]));
    let line = eventually("the line", || installation.logged("webhook.failing").pop()).await;
    assert!(text(&line["fields"], "reason").contains("Connection refused"), "{line}");
    let row = found(&installation, "webhook", "FAIL");
    assert!(text(&row, "fix").contains(&format!("postrider webhook test whk_{id}")), "{row}");
}

#[tokio::test]
async fn a_full_disk() {
    // No disk has so much space, so the daemon treats the disk as full.
    let mut installation = Installation::with("min_free_bytes = \"8589934591GiB\"\n");
    installation.serve();
    let (code, said) = installation.fails(&["send", "--type", "a.b", "--data", "{}"]);
    assert_eq!(code, 1);
    assert!(said.contains("disk"), "{said}");
    let told = "the disk is full: publishing is refused until more than min_free_bytes are free; deliveries go on";
    installation.fails(&["send", "--type", "a.b", "--data", "{}"]);
    assert_eq!(installation.logged(told).len(), 1, "once, however many are refused: {}", installation.log());
    let (status, ready) = ready(&installation);
    assert_eq!((status, codes(&ready, "reasons")), (503, vec!["disk_full".to_owned()]));
    let row = found(&installation, "daemon", "FAIL");
    assert!(text(&row, "detail").contains("publishing is refused until space is freed"), "{row}");
    assert!(text(&row, "fix").contains("free space on the disk of data_dir"), "{row}");
    // The fault is found without the daemon too.
    installation.stop();
    let (code, checks) = doctor(&installation, &["--offline"]);
    let space = checks.iter().find(|row| row["check"] == "disk_space").expect("a finding");
    assert_eq!((code, text(space, "status")), (1, "FAIL"));
    assert!(!checks.iter().any(|row| row["check"] == "daemon"), "{checks:#?}");
}

#[tokio::test]
async fn a_paused_webhook() {
    let installation = Installation::start();
    let webhook = installation.json(&["webhook", "create", "http://127.0.0.1:9000/", "--name", "invoices"]);
    let id = text(&webhook, "id");
    installation.says(&["webhook", "pause", id]);
    installation.says(&["send", "--type", "a.b", "--data", "{}", "--count", "3"]);
    let row = found(&installation, "webhook", "WARN");
    assert!(
        text(&row, "detail").contains("is paused since ") && text(&row, "detail").contains("Deliveries that wait: 3"),
        "{row}"
    );
    assert_eq!(text(&row, "fix"), format!("postrider webhook resume whk_{id}"));
    assert_eq!(codes(&ready(&installation).1, "warnings"), ["webhooks_paused"]);
    let line = installation.logged("webhook.pause").pop().expect("a line");
    let fields = &line["fields"];
    assert_eq!((text(fields, "target_id"), text(fields, "request_id").len()), (id, 36));
}

#[tokio::test]
async fn a_wrong_clock() {
    let mut installation = Installation::start();
    installation.says(&["send", "--type", "a.b", "--data", "{}"]);
    installation.stop();
    // The stored rows are in the future, because the clock was set back.
    let file = std::fs::File::options().write(true).open(installation.data_dir().join("journal")).expect("the journal");
    let future = file.metadata().and_then(|m| m.modified()).expect("a time") + std::time::Duration::from_secs(86_400);
    file.set_modified(future).expect("set");
    let (code, checks) = doctor(&installation, &["--offline"]);
    let row = checks.iter().find(|row| row["check"] == "clock").expect("a finding");
    assert_eq!((code, text(row, "status")), (1, "FAIL"), "{row}");
    assert!(text(row, "fix").starts_with("set the clock"), "{row}");
}

#[tokio::test]
async fn the_clock_is_accepted_by_the_operator() {
    let mut installation = Installation::start();
    installation.stop();
    assert_eq!(installation.fails(&["doctor", "--accept-clock"]).0, 69, "no daemon runs");
    installation.serve();
    let said = installation.json(&["doctor", "--accept-clock"]);
    assert_eq!(said["clock_trusted"], true);
    let line =
        eventually("the line", || installation.logged("an operator confirmed the clock: retention goes on").pop());
    line.await;
}

#[tokio::test]
async fn no_daemon_wrong_key_wrong_settings() {
    let mut installation = Installation::start();
    let output = children::output(installation.command().args(["doctor", "-o", "json", "--token", "nobody"]));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let key = said["checks"].as_array().expect("checks").iter().find(|row| row["check"] == "key").expect("a finding");
    assert!(text(key, "fix").contains("POSTRIDER_TOKEN"), "{key}");
    installation.stop();
    let row = found(&installation, "daemon", "FAIL");
    assert!(text(&row, "fix").contains("postrider serve"), "{row}");
    std::fs::write(installation.settings_file(), "retenton = \"7d\"\n").expect("written");
    let row = found(&installation, "settings", "FAIL");
    assert!(
        text(&row, "detail").contains("postrider.toml:1: retenton: no such setting; did you mean retention?"),
        "{row}"
    );
}
