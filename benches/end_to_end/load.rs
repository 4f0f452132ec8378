//! The producers: connections that publish, as fast as they are answered or at a given rate, and record every answer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::board::{Board, MARK, MARK_BYTES};
use super::wire::{Connection, request};

/// The type in the template. Its digits are overwritten.
const TYPE: &str = "bench.00000";
const TYPE_DIGITS: usize = 5;
/// Longest wait after a refusal, even if `Retry-After` is longer, because a benchmark has little time.
const REFUSED_WAIT_MAX: Duration = Duration::from_secs(1);
/// Consecutive failures after which a connection gives up.
const FAILURES_MAX: u32 = 50;

/// Connections that are opened at once.
const OPENING_MAX: usize = 64;

/// The load of the producers.
#[derive(Debug, Clone)]
pub struct Load {
    pub connections: usize,
    /// Events per request: 1 goes to `/v1/events`, more to `/v1/events/batch`.
    pub batch: usize,
    /// Length of `data`.
    pub payload_bytes: usize,
    /// Number of event types `bench.00000` …, which take turns.
    pub types: usize,
    /// Events per second over all connections. `None` for as many as are answered.
    pub rate_per_s: Option<f64>,
    /// Number of events after which the load ends. `None` if the board ends it.
    pub events_max: Option<u64>,
}

impl Load {
    pub fn new(connections: usize) -> Load {
        Load { connections, batch: 1, payload_bytes: 1024, types: 1, rate_per_s: None, events_max: None }
    }
}

/// The target of publishes.
#[derive(Debug, Clone)]
pub struct Aim {
    pub addr: SocketAddr,
    pub token: Option<String>,
}

/// Open connections that have sent nothing yet.
pub struct Crew {
    load: Load,
    aim: Aim,
    connections: Vec<Connection>,
}

/// Opens all connections, some at a time, so that none waits long for its first request.
pub async fn connect(load: Load, aim: Aim) -> io::Result<Crew> {
    let mut connections = Vec::with_capacity(load.connections);
    while connections.len() < load.connections {
        let mut opening = JoinSet::new();
        for _ in connections.len()..load.connections.min(connections.len() + OPENING_MAX) {
            opening.spawn(Connection::open(aim.addr));
        }
        while let Some(opened) = opening.join_next().await {
            connections.push(opened.map_err(io::Error::other)??);
        }
    }
    Ok(Crew { load, aim, connections })
}

impl Crew {
    /// Publishes. Ends with the last of the connections.
    pub async fn run(self, board: Arc<Board>) {
        let Crew { load, aim, connections } = self;
        let began = Instant::now();
        let mut producers = JoinSet::new();
        for (place, connection) in connections.into_iter().enumerate() {
            let pace = load.rate_per_s.map(|rate| Pace::new(rate / load.batch as f64, place, load.connections, began));
            let producer = Producer {
                connection,
                template: Template::new(&load, &aim),
                load: load.clone(),
                aim: aim.clone(),
                board: board.clone(),
                shard: board.ack_times.shard(),
            };
            producers.spawn(producer.run(pace));
        }
        while producers.join_next().await.is_some() {}
    }
}

struct Producer {
    connection: Connection,
    template: Template,
    load: Load,
    aim: Aim,
    board: Arc<Board>,
    shard: usize,
}

impl Producer {
    async fn run(mut self, mut pace: Option<Pace>) {
        let mut failures = 0;
        while !self.board.stop.load(Ordering::Relaxed) && failures < FAILURES_MAX {
            let late_us = match &mut pace {
                Some(pace) => pace.wait().await.as_micros() as u64,
                None => 0,
            };
            let first = self.board.draw(self.load.batch);
            if self.load.events_max.is_some_and(|max| first >= max) {
                return;
            }
            // A request that waited for its connection counts from the time at which it was due.
            let moment_us = self.board.now_us().saturating_sub(late_us);
            self.template.fill(&self.board, first, moment_us, self.load.types);
            failures = if self.publish(first, moment_us).await { 0 } else { failures + 1 };
        }
    }

    /// Makes one request. Returns whether it was answered with 202.
    async fn publish(&mut self, first: u64, moment_us: u64) -> bool {
        let count = self.load.batch;
        match self.connection.exchange(&self.template.bytes).await {
            Ok(answer) if answer.status == 202 => {
                self.board.acknowledge(first, count, moment_us, self.shard);
                return true;
            }
            Ok(answer) if matches!(answer.status, 429 | 503 | 507) => {
                self.board.refused.fetch_add(count as u64, Ordering::Relaxed);
                let wait = Duration::from_secs(answer.retry_after_s.unwrap_or(1)).min(REFUSED_WAIT_MAX);
                sleep(wait).await;
                return true;
            }
            Ok(answer) => {
                if self.board.errors.fetch_add(1, Ordering::Relaxed) == 0 {
                    let body = String::from_utf8_lossy(self.connection.body()).into_owned();
                    eprintln!("publishing was answered with {}: {body}", answer.status);
                }
            }
            Err(error) => {
                if self.board.errors.fetch_add(1, Ordering::Relaxed) == 0 {
                    eprintln!("publishing broke: {error}");
                }
                if let Ok(connection) = Connection::open(self.aim.addr).await {
                    self.connection = connection;
                }
            }
        }
        sleep(Duration::from_millis(20)).await;
        false
    }
}

/// A connection's own schedule: evenly spaced, and shifted against the others.
struct Pace {
    next: Instant,
    period: Duration,
}

impl Pace {
    fn new(requests_per_s: f64, place: usize, connections: usize, began: Instant) -> Pace {
        let period = Duration::from_secs_f64(connections as f64 / requests_per_s.max(1e-3));
        Pace { next: began + period.mul_f64(place as f64 / connections as f64), period }
    }

    /// Waits for the next turn. Returns its delay because the connection was busy. The delay of a late timer is the
    /// generator's own and is not counted.
    async fn wait(&mut self) -> Duration {
        let due = self.next;
        self.next += self.period;
        let late = Instant::now().saturating_duration_since(due);
        if late.is_zero() {
            sleep_until(due).await;
        }
        late
    }
}

/// A complete request, built once. Only digits are written into it afterwards.
struct Template {
    bytes: Vec<u8>,
    types_at: Vec<usize>,
    marks_at: Vec<usize>,
}

impl Template {
    fn new(load: &Load, aim: &Aim) -> Template {
        let event = event(load.payload_bytes);
        let (path, body) = match load.batch {
            1 => ("/v1/events", event),
            many => ("/v1/events/batch", format!("{{\"events\":[{}]}}", vec![event; many].join(","))),
        };
        let bytes = request("POST", path, aim.addr, aim.token.as_deref(), body.as_bytes());
        let after = |what: &[u8], skip: usize| {
            let found = bytes.windows(what.len()).enumerate().filter(|(_, window)| *window == what);
            found.map(|(at, _)| at + skip).collect::<Vec<_>>()
        };
        let types_at = after(TYPE.as_bytes(), TYPE.len() - TYPE_DIGITS);
        let marks_at = after(MARK, MARK.len());
        Template { bytes, types_at, marks_at }
    }

    fn fill(&mut self, board: &Board, first: u64, moment_us: u64, types: usize) {
        for (number, (type_at, mark_at)) in (first..).zip(self.types_at.iter().zip(&self.marks_at)) {
            board.write_mark(&mut self.bytes[*mark_at..mark_at + MARK_BYTES], number, moment_us);
            if types > 1 {
                let digits = format!("{:0TYPE_DIGITS$}", number % types as u64);
                self.bytes[*type_at..type_at + TYPE_DIGITS].copy_from_slice(digits.as_bytes());
            }
        }
    }
}

/// An event whose `data` has `payload_bytes` bytes.
fn event(payload_bytes: usize) -> String {
    let mark = String::from_utf8_lossy(MARK);
    let head = format!("{{{mark}{}\",\"pad\":\"", "0".repeat(MARK_BYTES));
    let tail = "\"}";
    let pad: String = ('a'..='z').cycle().take(payload_bytes.saturating_sub(head.len() + tail.len())).collect();
    format!("{{\"type\":\"{TYPE}\",\"data\":{head}{pad}{tail}}}")
}

/// The type that webhook `number` of many subscribes to.
pub fn type_of(number: usize) -> String {
    format!("bench.{number:0TYPE_DIGITS$}")
}
