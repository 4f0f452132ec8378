//! `postrider import svix`: from another Postrider by its Svix shape, and from a server that answers as Svix does.

use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::svix::{app, call, get, ids, post};
use crate::support::daemon::text;
use crate::support::{Receiver, TestDaemon, children};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const APP: &str = "app_1srOrx2ZWZBpBUvZwXKQmoEYga2";
const ENDPOINT: &str = "ep_1srOrx2ZWZBpBUvZwXKQmoEYga2";

/// A finished import: whether it succeeded, and its report.
struct Imported {
    is_success: bool,
    report: Value,
    words: String,
}

impl Imported {
    /// The outcomes of a kind of object, by the id at the source.
    fn of(&self, kind: &str) -> Vec<(&str, &str)> {
        let objects = self.report["objects"].as_array().unwrap_or_else(|| panic!("{}", self.words));
        let of_kind = objects.iter().filter(|object| object["kind"] == kind);
        of_kind.map(|object| (text(object, "id"), text(object, "outcome"))).collect()
    }
}

/// Runs the program against a daemon.
async fn import(here: &TestDaemon, from: &str, token: &str, words: &[&str]) -> Imported {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command.env_clear().args(["import", "svix", "-o", "json", "--from", from, "--from-token", token]).args(words);
    command.env("POSTRIDER_URL", format!("http://{}", here.address)).env("POSTRIDER_TOKEN", &here.key);
    let output = tokio::task::spawn_blocking(move || children::output(&mut command)).await.expect("an end");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Imported { is_success: output.status.success(), report, words }
}

/// A daemon to import from: an app with an endpoint that uses every member, and one more app.
async fn source(receiver: &Receiver) -> (TestDaemon, String, String) {
    let source = TestDaemon::start().await;
    for name in ["a.b", "old"] {
        let schemas = json!({ "1": { "type": "object" } });
        post(&source, "/event-type", json!({ "name": name, "description": "d", "schemas": schemas }), 201).await;
    }
    let made = post(&source, "/app", json!({ "name": "Acme", "uid": "acme", "metadata": { "a": "b" } }), 201).await;
    post(&source, "/app", json!({ "name": "Without a uid", "throttleRate": 7 }), 201).await;
    let headers = json!({ "X-One": "1", "Authorization": "Bearer x" });
    let body = json!({ "url": receiver.url(), "uid": "one", "description": "d", "filterTypes": ["a.b", "old"],
        "channels": ["c"], "metadata": { "x": "y" }, "rateLimit": 9, "secret": SECRET, "headers": headers });
    let endpoint = post(&source, "/app/acme/endpoint", body, 201).await;
    call(&source, Method::DELETE, "/event-type/old", Value::Null).await;
    (source, text(&made, "id").to_owned(), text(&endpoint, "id").to_owned())
}

#[tokio::test]
async fn everything_comes_along_once_and_old_ids_go_on() {
    let receiver = Receiver::start().await;
    let (source, app_id, endpoint_id) = source(&receiver).await;
    let here = TestDaemon::start().await;
    let from = format!("http://{}", source.address);
    let dry = import(&here, &from, &source.key, &["--dry-run"]).await;
    assert!(dry.is_success, "{}", dry.words);
    assert_eq!(dry.of("endpoint"), [(endpoint_id.as_str(), "made")]);
    assert_eq!(ids(&get(&here, "/app").await), Vec::<String>::new(), "a dry run changes nothing");
    let done = import(&here, &format!("{from}/api/v1/"), &source.key, &[]).await;
    assert!(done.is_success, "{}", done.words);
    assert_eq!(done.of("app").len(), 2);
    assert_eq!(done.of("event type"), [("a.b", "made"), ("old", "made")]);
    assert_eq!(done.of("header"), [(endpoint_id.as_str(), "skipped")]);
    let at = format!("/app/{app_id}/endpoint/{endpoint_id}");
    let (was, is) = (get(&source, &at).await, get(&here, &at).await);
    for member in ["url", "uid", "description", "filterTypes", "channels", "metadata", "rateLimit", "disabled"] {
        assert_eq!(is[member], was[member], "{member}");
    }
    assert_ne!(is["id"], was["id"]);
    assert_eq!(get(&here, &format!("{at}/secret")).await["key"], SECRET);
    assert_eq!(get(&here, &format!("{at}/headers")).await["headers"], json!({ "X-One": "1" }));
    let old = get(&here, "/event-type/old").await;
    assert_eq!((&old["archived"], &old["schemas"]["1"]["type"]), (&json!(true), &json!("object")));
    assert_eq!(get(&here, &format!("/app/{app_id}")).await["metadata"], json!({ "a": "b" }));
    // A receiver that holds the secret verifies the deliveries of both.
    for daemon in [&source, &here] {
        let body = json!({ "eventType": "a.b", "payload": { "n": 1 }, "channels": ["c"] });
        post(daemon, &format!("/app/{app_id}/msg"), body, 202).await;
        let sent = receiver.next().await;
        let signed = format!("{}.{}.{}", sent.header("svix-id"), sent.header("svix-timestamp"), sent.text());
        assert_eq!(sent.header("svix-signature"), format!("v1,{}", signature(&signed)));
    }
    let again = import(&here, &from, &source.key, &[]).await;
    let kept = |kind: &str| again.of(kind).iter().all(|(_, outcome)| *outcome == "kept");
    assert!(again.is_success && kept("app") && kept("endpoint") && kept("event type"), "{}", again.report);
    assert_eq!(ids(&get(&here, "/app").await).len(), 2);
    assert_eq!(ids(&get(&here, &format!("/app/{app_id}/endpoint")).await).len(), 1);
}

/// The Base64 HMAC-SHA256 under the secret.
fn signature(signed: &str) -> String {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let key = base64.decode(SECRET.trim_start_matches("whsec_")).expect("Base64");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
    base64.encode(ring::hmac::sign(&key, signed.as_bytes()))
}

/// A server that answers as the Svix server does: `answers` by path and query, each with its status and headers.
async fn svix_server(answers: Vec<(&str, u16, &str, Value)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut by_path: HashMap<String, Vec<(u16, String, Value)>> = HashMap::new();
    for (path, status, head, body) in answers {
        by_path.entry(format!("/api/v1{path}")).or_default().push((status, head.to_owned(), body));
    }
    let by_path = Arc::new(Mutex::new(by_path));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read_exact(&mut byte).await.is_err() {
                    break;
                }
                request.push(byte[0]);
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let not_found = || (404, String::new(), json!({ "code": "not_found", "detail": "Entity not found" }));
            let (status, head, body) = match by_path.lock().unwrap().get_mut(&path) {
                _ if !request.to_lowercase().contains("authorization: bearer testsk_1") => {
                    (401, String::new(), json!({ "code": "authentication_failed", "detail": "Invalid token" }))
                }
                // The last answer to a path is repeated.
                Some(answers) if answers.len() > 1 => answers.remove(0),
                Some(answers) => answers[0].clone(),
                None => not_found(),
            };
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{head}content-length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    format!("http://{address}")
}

fn page(data: Value, iterator: Value, is_done: bool) -> Value {
    json!({ "data": data, "iterator": iterator, "prevIterator": null, "done": is_done })
}

/// The answers of a Svix server in the form of its models, with two pages of applications.
fn answers() -> Vec<(&'static str, u16, &'static str, Value)> {
    let times = json!({ "createdAt": "2021-02-16T21:38:21.977Z", "updatedAt": "2021-02-16T21:38:21.977Z" });
    let with = |mut one: Value| {
        one.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        one
    };
    let first = with(json!({ "id": APP, "name": "Acme", "uid": "acme", "metadata": {}, "rateLimit": 1000 }));
    let second = with(json!({ "id": "app_2srOrx2ZWZBpBUvZwXKQmoEYga2", "name": "Other", "metadata": {} }));
    let endpoint = with(json!({ "id": ENDPOINT, "url": "http://127.0.0.1:8099/in", "version": 1, "description": "",
        "filterTypes": ["a.b", "gone"], "disabled": false, "metadata": {} }));
    let private =
        with(json!({ "id": "ep_2srOrx2ZWZBpBUvZwXKQmoEYga2", "url": "http://127.0.0.1:8099/two", "version": 1,
        "description": "", "metadata": {} }));
    let refused = with(json!({ "id": "ep_3srOrx2ZWZBpBUvZwXKQmoEYga2", "url": "http://10.0.0.1/", "version": 1,
        "description": "", "metadata": {} }));
    let kind = with(json!({ "name": "a.b", "description": "d", "deprecated": false, "schemas": null }));
    let types = "/event-type?limit=100&include_archived=true&with_content=true";
    let no_headers = || json!({ "headers": {}, "sensitive": [] });
    vec![
        (types, 429, "retry-after: 0\r\n", json!({ "code": "rate_limited", "detail": "too many" })),
        (types, 200, "", page(json!([kind]), json!("a.b"), true)),
        ("/app?limit=100", 200, "", page(json!([first.clone()]), json!(APP), false)),
        (
            "/app?limit=100&iterator=app_1srOrx2ZWZBpBUvZwXKQmoEYga2",
            200,
            "",
            page(json!([second]), json!("app_2srOrx2ZWZBpBUvZwXKQmoEYga2"), true),
        ),
        (
            "/app/app_1srOrx2ZWZBpBUvZwXKQmoEYga2/endpoint?limit=100",
            200,
            "",
            page(json!([endpoint, private, refused]), json!("ep_3srOrx2ZWZBpBUvZwXKQmoEYga2"), true),
        ),
        ("/app/app_1srOrx2ZWZBpBUvZwXKQmoEYga2", 200, "", first.clone()),
        ("/app/app_2srOrx2ZWZBpBUvZwXKQmoEYga2/endpoint?limit=100", 200, "", page(json!([]), Value::Null, true)),
        (
            "/app/app_1srOrx2ZWZBpBUvZwXKQmoEYga2/endpoint/ep_1srOrx2ZWZBpBUvZwXKQmoEYga2/secret",
            200,
            "",
            json!({ "key": SECRET }),
        ),
        (
            "/app/app_1srOrx2ZWZBpBUvZwXKQmoEYga2/endpoint/ep_1srOrx2ZWZBpBUvZwXKQmoEYga2/headers",
            200,
            "",
            json!({ "headers": { "X-One": "1" }, "sensitive": ["Authorization"] }),
        ),
        (
            "/app/app_1srOrx2ZWZBpBUvZwXKQmoEYga2/endpoint/ep_2srOrx2ZWZBpBUvZwXKQmoEYga2/secret",
            200,
            "",
            json!({ "key": "whpk_TMmcsxmYxaLMwnuP7k+ye+Zn0mrX1nb9Zr6SFyBmOEM=" }),
        ),
        (
            "/app/app_1srOrx2ZWZBpBUvZwXKQmoEYga2/endpoint/ep_3srOrx2ZWZBpBUvZwXKQmoEYga2/secret",
            200,
            "",
            json!({ "key": SECRET }),
        ),
        ("/app/app_1srOrx2ZWZBpBUvZwXKQmoEYga2/endpoint/ep_3srOrx2ZWZBpBUvZwXKQmoEYga2/headers", 200, "", no_headers()),
    ]
}

#[tokio::test]
async fn a_svix_server_is_read_page_by_page_and_every_object_is_reported() {
    let here = TestDaemon::start().await;
    // An app of the same uid was made by hand before.
    let own = app(&here, "acme").await;
    let from = svix_server(answers()).await;
    let done = import(&here, &from, "testsk_1", &[]).await;
    assert!(!done.is_success, "one endpoint is refused: {}", done.report);
    assert_eq!(done.of("event type"), [("a.b", "made"), ("gone", "made")], "{}", done.report);
    assert_eq!(done.of("app"), [(APP, "kept"), ("app_2srOrx2ZWZBpBUvZwXKQmoEYga2", "made")]);
    let endpoints = done.of("endpoint");
    assert_eq!(endpoints.iter().map(|(_, outcome)| *outcome).collect::<Vec<_>>(), ["made", "skipped", "failed"]);
    let why = done.report["objects"].to_string();
    assert!(why.contains("delivery.allow") && why.contains("does not give away"), "{why}");
    assert_eq!(get(&here, &format!("/app/{APP}")).await["id"], own["id"]);
    assert_eq!(get(&here, &format!("/app/acme/endpoint/{ENDPOINT}/secret")).await["key"], SECRET);
    assert_eq!(get(&here, "/event-type/gone").await["archived"], true);
    assert!(done.words.contains("Svix: 429 Too Many Requests: too many; trying again in"), "{}", done.words);
    let again = import(&here, &from, "testsk_1", &["--app", APP]).await;
    assert_eq!(again.of("endpoint")[0], (ENDPOINT, "kept"), "{}", again.words);
}

#[tokio::test]
async fn an_import_that_cannot_read_says_why() {
    let here = TestDaemon::start().await;
    let from = svix_server(answers()).await;
    let wrong = import(&here, &from, "testsk_9", &[]).await;
    assert!(!wrong.is_success && wrong.words.contains("Svix: the token may not GET"), "{}", wrong.words);
    let none = import(&here, &from, "testsk_1", &["--app", "none"]).await;
    assert!(!none.is_success && none.words.contains("Svix has no application none"), "{}", none.words);
    // A status that names a lack of the server is told at once, with the cure.
    let types = "/event-type?limit=100&include_archived=true&with_content=true";
    let other = svix_server(vec![(types, 501, "", json!({ "detail": "not here" }))]).await;
    let refused = import(&here, &other, "testsk_1", &[]).await;
    let words = &refused.words;
    assert!(words.contains("answered 501 Not Implemented: not here") && words.contains("hint: is the URL of --from"));
    assert!(!refused.is_success && !words.contains("trying again"), "{words}");
}
