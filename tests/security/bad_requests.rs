//! Bad requests against the whole daemon, over raw sockets. Each gets the documented answer (docs/api.md), and
//! afterwards the daemon answers and has no row of it.

use std::net::SocketAddr;
use std::time::Duration;

use postrider::server::ServerLimits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::security::bad_rows::{Body, Row, rows};
use crate::security::support::{Instance, PATIENCE, eventually, text};

const CORPUS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/bad_requests.json"));
/// Rows of the corpus that a producer may send, or that no single request can show.
const WELL_FORMED: u64 = 17;
/// The engine's own tests cover full queues, because they need a writer that stands still.
const QUEUE_FULL: u64 = 69;
const IDLE_CONNECTIONS: u64 = 41;
const CONNECTIONS_MAX: usize = 40;

struct Place {
    instance: Instance,
    producer: String,
    webhook: String,
}

async fn place() -> Place {
    // Short deadlines, because some rows wait for them.
    let limits = ServerLimits {
        head_read: Duration::from_millis(700),
        body_read: Duration::from_millis(700),
        linger: Duration::from_millis(200),
        connections_max: CONNECTIONS_MAX,
        ..ServerLimits::default()
    };
    let instance = Instance::within(limits, |settings| settings.delivery.allow = Vec::new()).await;
    let producer = json!({ "name": "producer", "scopes": ["events:write"] });
    let producer = text(&instance.first.post("/v1/keys", producer).await.expect(201), "key").to_owned();
    let webhook = instance.first.post("/v1/webhooks", json!({ "url": "https://example.com/" })).await.expect(201);
    let webhook = text(&webhook, "id").to_owned();
    // The webhook is paused, so that nothing is sent.
    instance.first.post(&format!("/v1/webhooks/{webhook}/pause"), json!({})).await.expect(200);
    Place { instance, producer, webhook }
}

impl Place {
    fn filled(&self, template: &str) -> String {
        let places = [
            ("{EVENTS}", "/v1/events"),
            ("{WEBHOOKS}", "/v1/webhooks"),
            ("{KEY}", &self.instance.first.key),
            ("{PRODUCER_KEY}", &self.producer),
            ("{ID}", &self.webhook),
            ("<a*129>", &"a".repeat(129)),
            ("<a*256>", &"a".repeat(256)),
        ];
        places.iter().fold(template.to_owned(), |text, (place, value)| text.replace(place, value))
    }

    /// Number of rows of every kind.
    async fn counts(&self) -> Vec<usize> {
        let mut counts = Vec::new();
        for list in ["events", "webhooks", "deliveries", "keys", "apps", "replays", "organizations", "audit"] {
            counts.push(crate::security::support::rows(&self.instance.first, &format!("/v1/{list}")).await.len());
        }
        counts
    }

    async fn is_well(&self, after: &str) {
        let answer = say(self.instance.address, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(answer.expect("an answer").status, 200, "after {after}");
    }
}

struct Heard {
    status: u16,
    head: String,
    body: String,
}

/// Sends these bytes on a new connection and reads the first answer. `None` if the connection is closed without one.
async fn say(address: SocketAddr, bytes: &[u8]) -> Option<Heard> {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // The daemon may close before it has read everything. Its answer is still readable.
    let _ = stream.write_all(bytes).await;
    hear(&mut stream).await
}

async fn hear(stream: &mut TcpStream) -> Option<Heard> {
    let mut read = Vec::new();
    let hearing = async {
        loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let whole = end + 4 + length.map_or(0, |text| text.parse::<usize>().unwrap_or(0));
                if read.len() >= whole {
                    let status = head.get(9..12)?.parse().ok()?;
                    let body = String::from_utf8_lossy(&read[end + 4..whole]).into_owned();
                    return Some(Heard { status, head, body });
                }
            }
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    };
    tokio::time::timeout(PATIENCE, hearing).await.expect("an answer or the end")
}

/// Checks that a refusal is a problem document with the status of its head.
fn is_problem(heard: &Heard, what: &str) -> String {
    assert!(heard.head.contains("content-type: application/problem+json"), "{what}: {}", heard.head);
    let problem: Value = serde_json::from_str(&heard.body).unwrap_or_else(|error| panic!("{what}: {error}"));
    for member in ["type", "title", "detail", "code", "request_id"] {
        assert!(problem[member].is_string(), "{what}: {member} in {problem}");
    }
    assert_eq!(problem["status"], heard.status, "{what}");
    let needs = match heard.status {
        401 => "www-authenticate: ",
        405 => "allow: ",
        429 | 503 | 507 => "retry-after: ",
        _ => "x-request-id: ",
    };
    assert!(heard.head.contains(needs), "{what}: {}", heard.head);
    text(&problem, "code").to_owned()
}

fn corpus_bytes(place: &Place, row: &Value) -> Vec<u8> {
    if row["id"] == 43 {
        return b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    }
    if row["id"] == 39 {
        return b"GET".to_vec();
    }
    if let Some(raw) = row["raw"].as_str() {
        return place.filled(raw).into_bytes();
    }
    let (method, path) = (text(row, "method"), place.filled(text(row, "path")));
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in row["headers"].as_object().into_iter().flatten() {
        let value = place.filled(value.as_str().expect("text"));
        match name.as_str() {
            "x-1..x-1000" => (1..=1000).for_each(|nth| head += &format!("x-{nth}: {value}\r\n")),
            _ => head += &format!("{name}: {value}\r\n"),
        }
    }
    let body = match row["body"].as_str() {
        Some("<endless chunks>") => {
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            return [head + "\r\n", chunk.repeat(40)].concat().into_bytes();
        }
        Some(hex) if hex.ends_with(" hex>") => unhex(hex.trim_start_matches('<').trim_end_matches(" hex>")),
        Some(body) => place.filled(body).into_bytes(),
        None => Vec::new(),
    };
    if !body.is_empty() || method == "POST" {
        head += &format!("content-length: {}\r\n", body.len());
    }
    [head.as_bytes(), b"\r\n", &body].concat()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_of_the_corpus_gets_its_answer_and_leaves_nothing() {
    let place = place().await;
    let corpus: Vec<Value> = serde_json::from_str(CORPUS).expect("a corpus");
    let mut run = 0;
    for row in &corpus {
        let id = row["id"].as_u64().expect("an id");
        let name = text(row, "name");
        if [WELL_FORMED, QUEUE_FULL, IDLE_CONNECTIONS].contains(&id) {
            continue;
        }
        if name == "delete twice" {
            assert_eq!(place.instance.first.delete(&place.filled("{WEBHOOKS}/{ID}")).await.status, 204);
        }
        let before = place.counts().await;
        let heard = say(place.instance.address, &corpus_bytes(&place, row)).await;
        let accepted = row["also_accept"].as_array().into_iter().flatten();
        let accepted: Vec<&Value> = std::iter::once(&row["expect"]).chain(accepted).collect();
        let got = heard.as_ref().map_or(json!("close"), |heard| json!(heard.status));
        assert!(accepted.contains(&&got), "{name}: {got} and not {accepted:?}");
        if let Some(heard) = heard {
            is_problem(&heard, name);
        }
        place.is_well(name).await;
        assert_eq!(place.counts().await, before, "{name} left a row");
        run += 1;
    }
    assert_eq!(run + 3, corpus.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_no_number_type_holds_are_kept_byte_for_byte() {
    let place = place().await;
    let corpus: Vec<Value> = serde_json::from_str(CORPUS).expect("a corpus");
    let row = corpus.iter().find(|row| row["id"] == WELL_FORMED).expect("the row");
    let heard = say(place.instance.address, &corpus_bytes(&place, row)).await.expect("an answer");
    assert_eq!(u64::from(heard.status), row["expect"].as_u64().expect("a status"));
    let made: Value = serde_json::from_str(&heard.body).expect("JSON");
    let read = place.instance.first.get(&format!("/v1/events/{}", text(&made, "id"))).await;
    assert!(read.body.contains(r#""data":{"n":1e400,"m":9223372036854775809}"#), "{}", read.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_over_the_cap_are_closed_and_the_others_go_on() {
    let place = place().await;
    let address = place.instance.address;
    let mut held = Vec::new();
    for _ in 0..3 * CONNECTIONS_MAX {
        held.push(TcpStream::connect(address).await.expect("a connection"));
    }
    // The head's deadline frees the connections. Then every client is served again.
    eventually("an answer", async || say(address, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await).await;
    for mut idle in held {
        let mut heard = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, idle.read_to_end(&mut heard)).await;
        assert!(closed.is_ok(), "an idle connection is closed");
    }
}

/// The whole request of a row.
fn row_bytes(place: &Place, row: &Row) -> Vec<u8> {
    let body = match &row.body {
        Body::None => Vec::new(),
        Body::Text(body) => place.filled(body).into_bytes(),
        Body::Bytes(bytes) => bytes.clone(),
        Body::Announced(_) => Vec::new(),
    };
    let mut head = format!("{} {} HTTP/1.1\r\n", row.method, place.filled(&row.target));
    let given = |name: &str| row.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    let is_post = ["POST", "PATCH", "PUT"].contains(&row.method.as_str());
    let (length, key) = (body.len().to_string(), format!("Bearer {}", place.instance.first.key));
    let announced = if let Body::Announced(bytes) = row.body { bytes.to_string() } else { length };
    for (name, value, wanted) in [
        ("host", "localhost", true),
        ("authorization", key.as_str(), true),
        ("content-type", "application/json", is_post),
        ("content-length", announced.as_str(), is_post && !given("transfer-encoding")),
    ] {
        if wanted && !given(name) {
            head += &format!("{name}: {value}\r\n");
        }
    }
    for (name, value) in &row.headers {
        // An empty name: the row omits the default of this header.
        if !value.starts_with("<none>") {
            head += &format!("{name}: {}\r\n", place.filled(value));
        }
    }
    [head.as_bytes(), b"\r\n", &body].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_further_row_gets_its_answer_and_leaves_nothing() {
    let place = place().await;
    let rows = rows();
    let mut wrong = Vec::new();
    for row in &rows {
        let before = place.counts().await;
        let heard = say(place.instance.address, &row_bytes(&place, row)).await;
        match heard {
            None => wrong.push(format!("{}: closed without a word", row.name)),
            Some(heard) if heard.status < 400 => wrong.push(format!("{}: {}", row.name, heard.status)),
            Some(heard) => {
                let code = is_problem(&heard, &row.name);
                let fits = heard.status == row.status && (row.code.is_empty() || row.code == code);
                if !fits {
                    let (status, want) = (heard.status, (row.status, row.code));
                    wrong.push(format!("{}: {status} {code}, wanted {want:?}: {:.300}", row.name, heard.body));
                }
                if !row.pointer.is_empty() {
                    let problem: Value = serde_json::from_str(&heard.body).expect("JSON");
                    let named = problem["errors"].as_array().into_iter().flatten();
                    let pointers: Vec<&str> = named.filter_map(|error| error["pointer"].as_str()).collect();
                    if !pointers.contains(&row.pointer) {
                        wrong.push(format!("{}: {} is not among {pointers:?}", row.name, row.pointer));
                    }
                }
            }
        }
        place.is_well(&row.name).await;
        if place.counts().await != before {
            wrong.push(format!("{} left a row", row.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert!(rows.len() >= 100, "{}", rows.len());
}
