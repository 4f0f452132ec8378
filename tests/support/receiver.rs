//! A receiver on a real socket with scripted reactions: it answers, hangs, drips, floods, resets, or sends invalid
//! bytes.
//!
//! It writes its HTTP byte by byte, because a library would send only a part of these reactions.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider::engine::clock::{Clock as _, ManualClock};
use postrider::model::Time;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A request as received.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The time by the test's clock, if the receiver has one.
    pub at: Option<Time>,
    /// The number of its connection, from 0.
    pub connection: usize,
}

impl Request {
    /// The value of a header that occurs once.
    pub fn header(&self, name: &str) -> &str {
        let mut values = self.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (Some((_, value)), None) => value,
            found => panic!("header {name}: {found:?} in {:?}", self.headers),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }
}

/// A receiver's reaction to a request.
#[derive(Debug, Clone)]
pub enum Act {
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Never answers.
    Hang,
    /// Sends a head and then a byte of the body now and then, for ever.
    Drip,
    /// Sends a body without an end, as fast as it is read.
    Flood,
    /// Sends headers without an end.
    Headers,
    /// Closes with a reset.
    Reset,
    /// Sends these bytes and closes.
    Raw(Vec<u8>),
    /// Waits for `Receiver::open`, then answers with this status.
    Gate(u16),
}

impl Act {
    pub fn status(status: u16) -> Act {
        Act::Answer(status, Vec::new(), Vec::new())
    }

    pub fn with_header(status: u16, name: &'static str, value: &str) -> Act {
        Act::Answer(status, vec![(name, value.to_owned())], Vec::new())
    }
}

struct Plan {
    /// The reactions to the next requests, one each, and then `always`.
    script: Mutex<VecDeque<Act>>,
    always: Mutex<Act>,
    seen: Mutex<Vec<Request>>,
    news: UnboundedSender<Request>,
    gate: Semaphore,
    connections: AtomicUsize,
    clock: Option<Arc<ManualClock>>,
}

pub struct Receiver {
    pub address: SocketAddr,
    plan: Arc<Plan>,
    coming: tokio::sync::Mutex<UnboundedReceiver<Request>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Receiver {
    /// Starts a receiver that answers 200 until `always` changes that.
    pub async fn start() -> Receiver {
        Receiver::with_clock(None).await
    }

    /// Starts a receiver that records the times of requests by the test's clock.
    pub async fn timed(clock: &Arc<ManualClock>) -> Receiver {
        Receiver::with_clock(Some(clock.clone())).await
    }

    async fn with_clock(clock: Option<Arc<ManualClock>>) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (news, coming) = unbounded_channel();
        let plan = Arc::new(Plan {
            script: Mutex::default(),
            always: Mutex::new(Act::status(200)),
            seen: Mutex::default(),
            news,
            gate: Semaphore::new(0),
            connections: AtomicUsize::new(0),
            clock,
        });
        let accepting = tokio::spawn(accept(listener, plan.clone()));
        Receiver { address, plan, coming: tokio::sync::Mutex::new(coming), accepting }
    }

    /// Starts a receiver with this reaction to every request.
    pub async fn that(act: Act) -> Receiver {
        let receiver = Receiver::start().await;
        receiver.always(act);
        receiver
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Sets the reactions to the next requests, one each.
    pub fn next_acts(&self, acts: impl IntoIterator<Item = Act>) {
        self.plan.script.lock().expect("a lock").extend(acts);
    }

    pub fn next_statuses(&self, statuses: impl IntoIterator<Item = u16>) {
        self.next_acts(statuses.into_iter().map(Act::status));
    }

    /// Sets the reaction to every request beyond the script.
    pub fn always(&self, act: Act) {
        *self.plan.always.lock().expect("a lock") = act;
    }

    /// Lets this many gated requests be answered.
    pub fn open(&self, requests: usize) {
        self.plan.gate.add_permits(requests);
    }

    /// The next request, in the order of arrival.
    pub async fn next(&self) -> Request {
        let mut coming = self.coming.lock().await;
        super::in_time("a request", coming.recv()).await.expect("the receiver lives")
    }

    /// The next `count` requests.
    pub async fn take(&self, count: usize) -> Vec<Request> {
        let mut requests = Vec::with_capacity(count);
        for _ in 0..count {
            requests.push(self.next().await);
        }
        requests
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Request> {
        self.plan.seen.lock().expect("a lock").clone()
    }

    pub fn count(&self) -> usize {
        self.plan.seen.lock().expect("a lock").len()
    }
}

async fn accept(listener: TcpListener, plan: Arc<Plan>) {
    // Dropped with this task: a stopped receiver answers no request.
    let mut conversations = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let connection = plan.connections.fetch_add(1, Ordering::Relaxed);
        conversations.spawn(converse(stream, plan.clone(), connection));
    }
}

async fn converse(mut stream: TcpStream, plan: Arc<Plan>, connection: usize) {
    let mut buffer = Vec::new();
    while let Some(mut request) = read_request(&mut stream, &mut buffer).await {
        request.connection = connection;
        request.at = plan.clock.as_ref().map(|clock| clock.now());
        let act = plan.script.lock().expect("a lock").pop_front();
        let act = act.unwrap_or_else(|| plan.always.lock().expect("a lock").clone());
        plan.seen.lock().expect("a lock").push(request.clone());
        let _ = plan.news.send(request);
        if !perform(&mut stream, act, &plan).await {
            return;
        }
    }
}

/// Performs a reaction. `false` if the connection ends.
async fn perform(stream: &mut TcpStream, act: Act, plan: &Plan) -> bool {
    match act {
        Act::Answer(status, headers, body) => answer(stream, status, &headers, &body).await,
        Act::Gate(status) => {
            if let Ok(permit) = plan.gate.acquire().await {
                permit.forget();
            }
            answer(stream, status, &[], b"").await
        }
        Act::Hang => std::future::pending().await,
        Act::Drip => {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await;
            while sent.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                sent = stream.write_all(b"x").await;
            }
            false
        }
        Act::Flood => {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            let chunk = [b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"].concat();
            while sent.is_ok() {
                sent = stream.write_all(&chunk).await;
            }
            false
        }
        Act::Headers => {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
            for number in 0..1_000_000 {
                if sent.is_err() {
                    break;
                }
                sent = stream.write_all(format!("x-{number}: y\r\n").as_bytes()).await;
            }
            false
        }
        Act::Reset => {
            let _ = stream.set_zero_linger();
            false
        }
        Act::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            false
        }
    }
}

async fn answer(stream: &mut TcpStream, status: u16, headers: &[(&'static str, String)], body: &[u8]) -> bool {
    let mut head = format!("HTTP/1.1 {status} Whatever\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if status != 204 && status != 304 {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let whole = [head.as_bytes(), body].concat();
    stream.write_all(&whole).await.is_ok()
}

/// The next request on a connection. `None` at its end.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        read_more(stream, buffer).await?;
    };
    let head = String::from_utf8(buffer[..head_end].to_vec()).ok()?;
    buffer.drain(..head_end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(0, |(_, value)| value.parse().expect("a length"));
    while buffer.len() < length {
        read_more(stream, buffer).await?;
    }
    let body = buffer.drain(..length).collect();
    Some(Request { method, target, headers, body, at: None, connection: 0 })
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    match stream.read_buf(buffer).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(()),
    }
}
