//! Secrets are sealed at rest: none of a thousand is found in the files, the log or the metrics.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use redb::ReadableTable as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::security::support::{Client, delivered, echo, eventually, rows, text};
use crate::support::process::start;

const ADMIN_KEY: &str = "admin-key-that-nobody-must-find-in-any-file";
const METRICS_KEY: &str = "metrics-key-that-nobody-must-find-in-any-file";
const MASTER_KEY: &str = "master-key-that-nobody-must-find-in-any-file";

/// A text that occurs nowhere by chance.
fn odd(kind: &str, number: usize) -> String {
    format!("SECRET-{kind}-{number:05}-{}", "x".repeat(12))
}

fn signing_secret(number: usize) -> String {
    format!("whsec_{}", STANDARD.encode(odd("sign", number)))
}

/// All planted secrets, in every form in which they might be written.
#[derive(Default)]
struct Planted(BTreeSet<Vec<u8>>);

impl Planted {
    fn add(&mut self, secret: &str) {
        self.0.insert(secret.as_bytes().to_vec());
    }

    /// Adds the text, its decoded form, and its encoded forms.
    fn add_all_forms(&mut self, secret: &str) {
        self.add(secret);
        let bare = secret.strip_prefix("whsec_").unwrap_or(secret);
        self.add(bare);
        if let Ok(bytes) = STANDARD.decode(bare) {
            self.0.insert(bytes);
        }
        // As JSON within JSON, or as an array of numbers, the text would still contain its first line.
        if secret.contains('\n') {
            secret.lines().filter(|line| line.len() > 40).for_each(|line| self.add(line));
        }
    }

    fn find_in(&self, bytes: &[u8]) -> Option<String> {
        // One pass: each secret is searched for at its first eight bytes.
        let mut by_start: std::collections::HashMap<&[u8], Vec<&[u8]>> = std::collections::HashMap::new();
        for secret in &self.0 {
            by_start.entry(&secret[..8]).or_default().push(secret);
        }
        bytes.windows(8).enumerate().find_map(|(at, start)| {
            let found = by_start.get(start)?.iter().find(|secret| bytes[at..].starts_with(secret))?;
            Some(String::from_utf8_lossy(found).into_owned())
        })
    }
}

fn every_file(folder: &Path, each: &mut impl FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(folder).expect("a directory") {
        let path = entry.expect("an entry").path();
        // A socket has no content.
        if path.is_dir() {
            every_file(&path, each);
        } else if path.is_file() {
            each(&path, &fs::read(&path).expect("bytes"));
        }
    }
}

/// The secrets found, each with its file.
fn found_in(folder: &Path, planted: &Planted) -> Vec<(String, String)> {
    let (mut found, mut searched) = (Vec::new(), 0);
    every_file(folder, &mut |path, bytes| {
        searched += bytes.len();
        found.extend(planted.find_in(bytes).map(|secret| (path.display().to_string(), secret)));
    });
    assert!(searched > 1_000_000, "{searched} bytes is no store");
    found
}

#[test]
fn planted_secrets_would_be_found() {
    let mut planted = Planted::default();
    planted.add_all_forms(&signing_secret(7));
    for form in [signing_secret(7).into_bytes(), odd("sign", 7).into_bytes()] {
        let hay = [b"before ".as_slice(), &form, b" after"].concat();
        assert!(planted.find_in(&hay).is_some());
    }
    assert_eq!(planted.find_in(b"SECRET-sign-00008-xxxxxxxxxxxx"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_of_a_thousand_is_found_in_files_log_or_metrics() {
    let folder = tempfile::tempdir().expect("a directory");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let receiver = parrot().await;
    let variables = [
        ("POSTRIDER_ADMIN_KEY", ADMIN_KEY),
        ("POSTRIDER_MASTER_KEY", MASTER_KEY),
        ("POSTRIDER_METRICS__KEY", METRICS_KEY),
        ("POSTRIDER_DELIVERY__ALLOW", "127.0.0.0/8"),
        ("POSTRIDER_LOG__LEVEL", "trace"),
        ("POSTRIDER_LOG__FORMAT", "json"),
    ];
    let program = start(&data, &log, &variables);
    let client = Client::new(program.address, ADMIN_KEY);
    let mut planted = Planted::default();
    planted.add(ADMIN_KEY);
    planted.add(MASTER_KEY);
    planted.add(METRICS_KEY);
    for number in 0..100 {
        plant(&client, number, receiver, &mut planted).await;
    }
    misuse(&client, &mut planted).await;
    assert!(planted.0.len() >= 1_000, "only {} were planted", planted.0.len());

    let metrics = Client::new(program.address, METRICS_KEY).get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert_eq!(planted.find_in(metrics.body.as_bytes()), None, "in /metrics");
    for list in ["webhooks", "keys", "audit", "deliveries", "events", "replays", "apps", "organizations"] {
        let listed = Value::Array(rows(&client, &format!("/v1/{list}")).await).to_string();
        assert_eq!(planted.find_in(listed.as_bytes()), None, "in {list}");
    }
    // The files of the running daemon, and those of a stopped one.
    assert_eq!(found_in(folder.path(), &planted), []);
    program.stop();
    assert_eq!(found_in(folder.path(), &planted), []);
    let said = fs::read_to_string(&log).expect("a log");
    assert!(said.contains("stopped"), "the log has content: {said}");
}

/// A webhook with every kind of secret, its rotation, a key, an organization, stored answers, a delivery.
async fn plant(client: &Client, number: usize, receiver: std::net::SocketAddr, planted: &mut Planted) {
    let mut body = json!({ "url": format!("http://{receiver}/hook"), "secret": signing_secret(number) });
    planted.add_all_forms(&signing_secret(number));
    let (password, token, value) = (odd("pass", number), odd("token", number), odd("value", number));
    for secret in [&password, &token, &value] {
        planted.add(secret);
    }
    let basic = STANDARD.encode(format!("user:{password}"));
    planted.add(&basic);
    let auths = [
        json!({ "type": "basic", "username": "user", "password": password }),
        json!({ "type": "bearer", "token": token }),
        json!({ "type": "header", "name": "x-credential", "value": value }),
    ];
    body["auth"] = auths[number % 3].clone();
    // Headers with credentials: marked by the webhook, or by their name.
    let (said, named) = (odd("said", number), odd("named", number));
    body["headers"] = json!({ "X-Door": said, "X-Api-Key": named, "Cookie": format!("session={named}") });
    body["secret_headers"] = json!(["x-door"]);
    planted.add(&said);
    planted.add(&named);
    let once = format!("once-{number}");
    let made = client.call(Method::POST, "/v1/webhooks", &[("idempotency-key", &once)], &body.to_string()).await;
    let webhook = made.expect(201);
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    let again = client.call(Method::POST, "/v1/webhooks", &[("idempotency-key", &once)], &body.to_string()).await;
    assert_eq!(again.expect(201), webhook, "the stored answer contains the secret");
    // A change sets the other kinds of auth.
    for auth in auths {
        client.patch(&path, json!({ "auth": auth })).await.expect(200);
    }
    let rotated = client.call(Method::POST, &format!("{path}/rotate-secret"), &[("idempotency-key", &once)], "").await;
    planted.add_all_forms(text(&rotated.expect(200), "secret"));
    client.get(&format!("{path}/secret")).await.expect(200);
    let key = json!({ "name": "k", "scopes": ["events:read"] }).to_string();
    let key = client.call(Method::POST, "/v1/keys", &[("idempotency-key", &once)], &key).await;
    planted.add(text(&key.expect(201), "key"));
    let organization = client.post("/v1/organizations", json!({ "name": "o" })).await.expect(201);
    planted.add(text(&organization, "key"));
    let made = rcgen::generate_simple_self_signed(["client".to_owned()]).expect("a certificate");
    let private = made.signing_key.serialize_pem();
    let tls = json!({ "client_cert_pem": made.cert.pem(), "client_key_pem": private });
    client.patch(&path, json!({ "tls": tls })).await.expect(200);
    planted.add_all_forms(private.trim());
    client.patch(&path, json!({ "tls": null })).await.expect(200);
    if number.is_multiple_of(10) {
        send(client, &path).await;
    }
    client.post(&format!("{path}/pause"), json!({})).await.expect(200);
}

/// Sends a request with the credential. The receiver repeats it into the stored attempt.
async fn send(client: &Client, path: &str) {
    let event = client.post("/v1/events", json!({ "type": "a.b", "data": { "n": 1 } })).await.expect(202);
    let deliveries = format!("/v1/events/{}/deliveries", text(&event, "id"));
    let delivery = eventually("a delivery", async || {
        let page = client.get(&deliveries).await.expect(200);
        page["data"].as_array().expect("a list").iter().find(|row| row["status"] == "delivered").cloned()
    })
    .await;
    let attempts = rows(client, &format!("/v1/deliveries/{}/attempts", text(&delivery, "id"))).await;
    let tried = client.post(&format!("{path}/test"), json!({})).await.expect(200);
    for attempt in [&attempts[0], &tried] {
        for name in ["x-credential", "x-door", "x-api-key", "cookie"] {
            assert_eq!(attempt["request_headers"][name], "********", "{name}");
        }
        // The receiver has repeated all of them, in its head and in its body.
        assert!(text(attempt, "response_body").contains("X-Door: ********"), "{attempt}");
        assert!(text(&attempt["response_headers"], "x-heard").contains("********"), "{attempt}");
    }
    // A value sent as its mask stays, and is not revealed by removing the mark.
    let shown = client.get(path).await.expect(200);
    assert_eq!(shown["headers"]["X-Door"], "********");
    client.patch(path, json!({ "headers": shown["headers"], "secret_headers": ["x-door"] })).await.expect(200);
    assert_eq!(client.patch(path, json!({ "secret_headers": [] })).await.status, 422);
}

/// A receiver that repeats the whole head of every request, in a header and in the body.
async fn parrot() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = Vec::new();
                while !read.windows(4).any(|four| four == b"\r\n\r\n") {
                    if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let said = String::from_utf8_lossy(&read).into_owned();
                let flat = said.replace("\r\n", " | ");
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nx-heard: {flat}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{said}",
                    said.len()
                );
                // The peer may have closed the connection.
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

/// Secrets in wrong places: in requests that are refused, and in wrong credentials.
async fn misuse(client: &Client, planted: &mut Planted) {
    for number in 0..100 {
        let wrong = odd("wrong", number);
        planted.add(&wrong);
        let bodies = [
            json!({ "url": "https://example.com/", "secret": wrong }),
            json!({ "url": "https://example.com/", "auth": { "type": "bearer", "token": wrong, "extra": 1 } }),
            json!({ "url": "https://example.com/", "tls": { "client_key_pem": wrong } }),
            json!({ "url": format!("https://user:{wrong}@example.com/") }),
            json!({ "url": "https://example.com/", "headers": { "x-api-key": format!("{wrong}\n") } }),
            json!({ "url": "https://example.com/", "headers": { "Cookie": wrong, "cookie": wrong } }),
        ];
        for body in bodies {
            let answer = client.post("/v1/webhooks", body).await;
            assert_eq!(answer.status, 422, "{}", answer.body);
            assert_eq!(planted.find_in(answer.body.as_bytes()), None, "an error repeats a secret");
        }
        let stranger = Client::new(client.address, &wrong);
        let answer = stranger.get("/v1/events").await;
        assert_eq!(answer.status, 401);
        assert_eq!(planted.find_in(answer.body.as_bytes()), None);
    }
}

/// The row of one webhook that is copied over another's does not open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_row_opens_only_as_the_row_it_was_sealed_for() {
    let folder = tempfile::tempdir().expect("a directory");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let program = start(&data, &log, &[("POSTRIDER_ADMIN_KEY", ADMIN_KEY)]);
    let client = Client::new(program.address, ADMIN_KEY);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let made = client.post("/v1/webhooks", json!({ "url": "https://example.com/" })).await.expect(201);
        ids.push(text(&made, "id").parse::<uuid::Uuid>().expect("an id").into_bytes().to_vec());
    }
    program.stop();

    swap(&data, "webhooks", &ids);
    let (code, words) = crate::support::process::refused(&data, &log, &[("POSTRIDER_ADMIN_KEY", ADMIN_KEY)]);
    assert_ne!(code, 0);
    let id = uuid::Uuid::from_slice(&ids[0]).expect("an id").to_string();
    assert!(words.contains("webhooks") && words.contains(&id), "the row is named: {words}");
    assert!(words.contains("sealed for another row"), "{words}");
    // After the rows are swapped back, both open.
    swap(&data, "webhooks", &ids);
    start(&data, &log, &[("POSTRIDER_ADMIN_KEY", ADMIN_KEY)]).stop();
}

/// The same for answers that are stored for an `Idempotency-Key`: a request never gets another's answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_answer_opens_only_for_its_own_request() {
    let folder = tempfile::tempdir().expect("a directory");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let program = start(&data, &log, &[("POSTRIDER_ADMIN_KEY", ADMIN_KEY)]);
    let client = Client::new(program.address, ADMIN_KEY);
    let body = json!({ "url": "https://example.com/" }).to_string();
    let ask = async |client: &Client, once: &str| {
        client.call(Method::POST, "/v1/webhooks", &[("idempotency-key", once)], &body).await
    };
    let mut told = Vec::new();
    for once in ["first", "second"] {
        told.push(text(&ask(&client, once).await.expect(201), "secret").to_owned());
    }
    program.stop();
    let rows = keys_of(&data, "state_answers");
    assert_eq!(rows.len(), 2);
    swap(&data, "state_answers", &rows);
    let program = start(&data, &log, &[("POSTRIDER_ADMIN_KEY", ADMIN_KEY)]);
    let client = Client::new(program.address, ADMIN_KEY);
    for once in ["first", "second"] {
        let answer = ask(&client, once).await;
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert!(!told.iter().any(|secret| answer.body.contains(secret)), "{}", answer.body);
    }
    program.stop();
    swap(&data, "state_answers", &rows);
    let program = start(&data, &log, &[("POSTRIDER_ADMIN_KEY", ADMIN_KEY)]);
    let client = Client::new(program.address, ADMIN_KEY);
    assert_eq!(text(&ask(&client, "first").await.expect(201), "secret"), told[0]);
    program.stop();
}

type Rows = redb::TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The state file as redb sees it, without the checksums of its pages.
fn opened(data: &Path) -> redb::Database {
    let disk = postrider::store::RealDisk::lock(data).expect("the directory");
    let file = postrider::store::Disk::open(&disk, "state.redb", false).expect("the state file");
    let pages = postrider::kv::checksums::ChecksummedFile::open(file).expect("its pages");
    redb::Database::builder().create_with_backend(pages).expect("a database")
}

fn keys_of(data: &Path, table: &'static str) -> Vec<Vec<u8>> {
    let database = opened(data);
    let rows = redb::ReadableDatabase::begin_read(&database).expect("a read").open_table(Rows::new(table));
    let rows = rows.expect("the table");
    rows.iter().expect("rows").map(|row| row.expect("a row").0.value().to_vec()).collect()
}

/// Swaps the values of two rows, checksums included.
fn swap(data: &Path, table: &'static str, keys: &[Vec<u8>]) {
    let database = opened(data);
    let change = database.begin_write().expect("a transaction");
    {
        let mut rows = change.open_table(Rows::new(table)).expect("the table");
        let read = |key: &[u8]| rows.get(key).expect("a read").expect("the row").value().to_vec();
        let (first, second) = (read(&keys[0]), read(&keys[1]));
        rows.insert(keys[0].as_slice(), second.as_slice()).expect("written");
        rows.insert(keys[1].as_slice(), first.as_slice()).expect("written");
    }
    change.commit().expect("committed");
}

/// Only the request to the receiver contains a credential in clear.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_shows_that_there_is_a_credential_and_not_which() {
    let instance = crate::security::support::Instance::start().await;
    let receiver = echo().await;
    let body = json!({
        "url": format!("http://{receiver}/"), "secret": signing_secret(1),
        "auth": { "type": "basic", "username": "user", "password": odd("pass", 1) },
    });
    let (made, delivery) = delivered(&instance.first, body, json!({ "type": "a.b", "data": 1 })).await;
    let mut planted = Planted::default();
    planted.add_all_forms(&signing_secret(1));
    planted.add(&odd("pass", 1));
    let id = text(&made["webhook"], "id");
    let attempts = format!("/v1/deliveries/{}/attempts", text(&delivery, "id"));
    let lists = ["/v1/audit".to_owned(), "/v1/webhooks".to_owned(), format!("/v1/webhooks/{id}"), attempts];
    for path in &lists {
        let answer = instance.first.get(path).await;
        assert_eq!(planted.find_in(answer.body.as_bytes()), None, "{path}");
    }
    let shown = instance.first.get(&format!("/v1/webhooks/{id}")).await.expect(200);
    assert_eq!(shown["auth"]["type"], "basic");
    // Sending the mask back changes nothing.
    let changed = instance.first.patch(&format!("/v1/webhooks/{id}"), json!({ "auth": shown["auth"] })).await;
    assert!(changed.status == 200 || changed.status == 422, "{}", changed.body);
    let registry = instance.daemon.engine.store.registry();
    let kept: Vec<_> = registry.webhooks().map(Arc::clone).collect();
    let Some(postrider::model::webhook::WebhookAuth::Basic { password, .. }) = &kept[0].auth else { panic!("basic") };
    assert_eq!(*password, odd("pass", 1));
}
