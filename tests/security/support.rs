//! A whole daemon with a clock that tests move, a client that shows complete answers, and a receiver that echoes.
//!
//! Invariant: a test waits for events and never for time. `PATIENCE` only ends a test that has failed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use postrider::api::auth::key_hash;
use postrider::api::route::{ApiMount, RouteMethod};
use postrider::config::{self, Settings};
use postrider::daemon::{Daemon, Platform, certificate};
use postrider::engine::blocking_pool::BlockingPool;
use postrider::engine::clock::{ManualClock, SystemRandomness};
use postrider::engine::network::{ListenAddr, Network, RealNetwork};
use postrider::model::Time;
use postrider::server::ServerLimits;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use crate::support::children::lock;

/// The start time of every test: 2026-03-05T10:00:00Z.
pub const START: Time = Time(1_772_704_800_000);
/// Maximum wait of a test that will fail.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Interval between two polls.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A daemon in this process, with a port of its own.
pub struct Instance {
    pub clock: Arc<ManualClock>,
    pub settings: Settings,
    pub daemon: Daemon,
    pub address: SocketAddr,
    /// The first key, which has every permission in its organization and may make others.
    pub first: Client,
    /// Removed with the instance.
    _folder: TempDir,
}

impl Instance {
    pub async fn start() -> Instance {
        Instance::with(|_| {}).await
    }

    /// Starts a daemon with settings that differ from those of `start`.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Instance {
        Instance::within(ServerLimits::default(), change).await
    }

    /// Starts a daemon with deadlines that a test can wait for.
    pub async fn within(limits: ServerLimits, change: impl FnOnce(&mut Settings)) -> Instance {
        Instance::over(Arc::new(RealNetwork), limits, change).await
    }

    /// Starts a daemon over a network of the test.
    pub async fn over(network: Arc<dyn Network>, limits: ServerLimits, change: impl FnOnce(&mut Settings)) -> Instance {
        let folder = tempfile::tempdir().expect("a directory");
        let mut settings = Settings {
            data_dir: folder.path().to_owned(),
            listen: config::ListenSetting::Tcp("127.0.0.1:0".parse().expect("an address")),
            min_free_bytes: 0,
            ..Settings::default()
        };
        settings.delivery.allow = vec!["127.0.0.0/8".to_owned()];
        change(&mut settings);
        let clock = Arc::new(ManualClock::at(START));
        let daemon = run(&settings, &clock, network, limits).await;
        let ListenAddr::Tcp(address) = daemon.address else { panic!("not TCP") };
        let key = daemon.first_key.as_ref().expect("the first start makes a key").text.clone();
        Instance { clock, settings, address, first: Client::new(address, &key), daemon, _folder: folder }
    }

    pub fn client(&self, key: &str) -> Client {
        Client::new(self.address, key)
    }
}

async fn run(settings: &Settings, clock: &Arc<ManualClock>, network: Arc<dyn Network>, limits: ServerLimits) -> Daemon {
    let world = Platform {
        clock: clock.clone(),
        random: Arc::new(SystemRandomness::default()),
        network,
        disk: lock(&settings.data_dir),
        work: BlockingPool::Threads,
        limits,
        listeners: Vec::new(),
        replica_log: None,
        tls: certificate(settings).expect("the certificate is read"),
    };
    Daemon::start(settings, world).await.expect("the daemon starts")
}

/// One client with one key, on one connection that is opened again after it ended.
#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub key: String,
    /// The headers with the key.
    shown: Vec<(&'static str, String)>,
    open: Arc<Mutex<Option<http1::SendRequest<Full<bytes::Bytes>>>>>,
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body, if the status is the one expected.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The stable code of a problem document. Empty for any other body.
    pub fn code(&self) -> String {
        serde_json::from_str::<Value>(&self.body)
            .ok()
            .and_then(|problem| problem["code"].as_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

impl Client {
    /// A client with this key. With an empty key it sends no credentials.
    pub fn new(address: SocketAddr, key: &str) -> Client {
        let shown = vec![("authorization", format!("Bearer {key}"))];
        Client { address, key: key.to_owned(), shown, open: Arc::default() }
    }

    /// The same client with its key in the form of this mount. Any form that is not answered with 401 is used.
    pub async fn on(&self, mount: &ApiMount, instance: &Instance) -> Client {
        let registry = instance.daemon.engine.store.registry();
        let id = registry.key_by_hash(&key_hash(&self.key)).expect("a key").id.to_string();
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("user:{}", self.key));
        let ways = [
            vec![("authorization", format!("Bearer {}", self.key))],
            vec![("authorization", format!("Basic {basic}"))],
            vec![("x-api-key", self.key.clone())],
            vec![("x-client-key", id), ("x-client-secret", self.key.clone())],
        ];
        let route = mount.routes().iter().find(|route| route.verb == RouteMethod::Get).expect("a route that reads");
        for shown in ways {
            let client = Client { shown, open: Arc::default(), ..self.clone() };
            if client.get(&route.path.replace(['{', '}'], "")).await.status != 401 {
                return client;
            }
        }
        panic!("no way to show a key to {}", mount.name);
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, &[], &body.to_string()).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, &[], &body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &[], "").await
    }

    /// Sends any request. A body is JSON.
    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let asked = format!("{method} {path}");
        let asking = self.ask(&method, path, headers, body);
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("no answer: {asked}"))
    }

    async fn ask(&self, method: &Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut open = self.open.lock().await;
        if !matches!(&*open, Some(requests) if !requests.is_closed()) {
            *open = None;
        }
        if let Some(requests) = &mut *open
            && requests.ready().await.is_err()
        {
            *open = None;
        }
        if open.is_none() {
            let stream = TcpStream::connect(self.address).await.expect("the daemon accepts");
            let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
            tokio::spawn(connection);
            *open = Some(requests);
        }
        let mut request =
            hyper::Request::builder().method(method.clone()).uri(path).header("host", self.address.to_string());
        if !self.key.is_empty() {
            request = self.shown.iter().fold(request, |request, (name, value)| request.header(*name, value));
        }
        if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(bytes::Bytes::copy_from_slice(body.as_bytes()))).expect("a request");
        let requests = open.as_mut().expect("a connection");
        let (head, body) = requests.send_request(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("the whole answer").to_bytes();
        let body = String::from_utf8(body.to_vec()).expect("text");
        Answer { status: head.status, headers: head.headers, body }
    }
}

/// A member that is text.
pub fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("no text {member} in {value}"))
}

/// The rows of all pages of a list.
pub async fn rows(client: &Client, path: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let mark = if path.contains('?') { '&' } else { '?' };
        let page = client.get(&format!("{path}{mark}limit=250{cursor}")).await.expect(200);
        rows.extend(page["data"].as_array().expect("a list").iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

/// The result of `look`, as soon as it has one. The only place that polls.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A receiver that answers 200 with the body of the request. Returns its address.
pub async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo_on(stream));
        }
    });
    address
}

async fn echo_on(mut stream: TcpStream) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(0, |text| text.trim().parse().unwrap_or(0));
        while read.len() < end + length {
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        }
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.ok()?;
        stream.write_all(&read[end..end + length]).await.ok()?;
        read.drain(..end + length);
    }
}

/// Makes a webhook to `receiver`, and delivers one event of `event_type` with `data`, as this client.
pub async fn delivered(client: &Client, webhook: Value, event: Value) -> (Value, Value) {
    let webhook = client.post("/v1/webhooks", webhook).await.expect(201);
    let event = client.post("/v1/events", event).await.expect(202);
    let path = format!("/v1/events/{}/deliveries", text(&event, "id"));
    let delivery = eventually("a delivery", async || {
        let page = client.get(&path).await.expect(200);
        page["data"].as_array().expect("a list").iter().find(|row| row["status"] == "delivered").cloned()
    })
    .await;
    (json!({ "webhook": webhook, "event": event }), delivery)
}
