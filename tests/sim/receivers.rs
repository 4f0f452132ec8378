//! The receivers: real hyper servers that answer well or badly by their mood, and record their requests.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ring::hmac;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::Instant;
use turmoil::net::{TcpListener, TcpStream};

use super::expectations::{Expectations, Outcome, Seen};
use super::plan::{Mood, RECEIVER_PORT, next_mood};
use super::producers::fill_of;
use super::rng::Rng;
use super::world::{elapsed_ms, sleep_ms};

/// The secret of all webhooks.
pub const SECRET: &str = "whsec_c2ltdWxhdGlvbnNpbXVsYXRpb25zaW11bGF0aW9u";
/// Maximum time that a request without an answer is kept open.
const HANG_MS: u64 = 60_000;

type Answered = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// One receiver.
pub struct Receiver {
    pub number: usize,
    pub expectations: Rc<RefCell<Expectations>>,
    pub rng: RefCell<Rng>,
    mood: RefCell<Mood>,
    /// Whether every receiver has become healthy for good.
    pub is_healed: Rc<RefCell<bool>>,
}

impl Receiver {
    pub fn new(
        number: usize,
        expectations: Rc<RefCell<Expectations>>,
        rng: Rng,
        is_healed: Rc<RefCell<bool>>,
    ) -> Rc<Receiver> {
        Rc::new(Receiver { number, expectations, rng: RefCell::new(rng), mood: RefCell::new(Mood::Healthy), is_healed })
    }

    /// Serves for ever, in one mood after the other.
    pub async fn run(self: Rc<Receiver>) {
        let temper = self.expectations.borrow().hooks[self.number].temper;
        loop {
            let (mood, lasts_s) = match *self.is_healed.borrow() {
                true => (Mood::Healthy, 86_400),
                false => next_mood(temper, *self.mood.borrow(), &mut self.rng.borrow_mut()),
            };
            *self.mood.borrow_mut() = mood;
            let now = elapsed_ms();
            {
                let mut expectations = self.expectations.borrow_mut();
                expectations.trace(now, &format!("receiver {} is {mood:?} for {lasts_s} s", self.number));
                expectations.healthy_since[self.number] = (mood == Mood::Healthy).then_some(now);
            }
            let until = Instant::now() + std::time::Duration::from_secs(lasts_s);
            self.serve_until(until, mood).await;
        }
    }

    async fn serve_until(self: &Rc<Self>, until: Instant, mood: Mood) {
        let was_healed = *self.is_healed.borrow();
        let mut connections = JoinSet::new();
        let listener = match mood {
            Mood::Absent => None,
            _ => TcpListener::bind((Ipv4Addr::UNSPECIFIED, RECEIVER_PORT + self.number as u16)).await.ok(),
        };
        loop {
            let look_again = Instant::now() + std::time::Duration::from_secs(30);
            let accepted = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            match tokio::time::timeout_at(until.min(look_again), accepted).await {
                Ok(Ok((stream, peer))) => drop(connections.spawn_local(self.clone().converse(stream, peer.ip()))),
                Ok(Err(_)) => sleep_ms(100).await,
                Err(_) if Instant::now() >= until || *self.is_healed.borrow() != was_healed => break,
                Err(_) => {}
            }
            while connections.try_join_next().is_some() {}
        }
        // A running request continues in the next mood. A receiver that becomes absent ends its requests.
        if *self.mood.borrow() != Mood::Absent {
            connections.detach_all();
        }
    }

    async fn converse(self: Rc<Self>, stream: TcpStream, sender: IpAddr) {
        if *self.mood.borrow() == Mood::Lying {
            return self.lie(stream, sender).await;
        }
        let service = service_fn(|request| self.clone().answer(request, sender));
        // A connection that is broken on purpose is an error here.
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    /// Reads a request and answers with bytes that are not HTTP.
    async fn lie(self: Rc<Self>, mut stream: TcpStream, sender: IpAddr) {
        let mut read = Vec::new();
        let mut buffer = [0; 4_096];
        let (head, length) = loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => read.extend_from_slice(&buffer[..count]),
            }
            let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = headers_of(&read[..end]);
            let length = head.get("content-length").and_then(|text| text.to_str().ok()?.parse::<usize>().ok());
            if read.len() >= end + 4 + length.unwrap_or(0) {
                break (head, end + 4);
            }
        };
        let seen = self.take(&head, &read[length..], sender);
        let lies: [&[u8]; 4] = [
            b"HTTP/1.1 2000 Fine\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 7\r\n\r\nhello",
            &[0xff; 70],
        ];
        let lie = self.rng.borrow_mut().choose(&lies);
        let _ = stream.write_all(lie).await;
        let _ = stream.shutdown().await;
        self.expectations.borrow_mut().answered(seen, Outcome::Nothing, elapsed_ms());
    }

    async fn answer(self: Rc<Self>, request: Request<Incoming>, sender: IpAddr) -> Result<Answered, io::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let seen = self.take(&head.headers, &body, sender);
        let mood = match *self.mood.borrow() {
            Mood::Mixed => self.rng.borrow_mut().choose(&[
                Mood::Healthy,
                Mood::Healthy,
                Mood::Failing,
                Mood::Cutting,
                Mood::Resetting,
            ]),
            mood => mood,
        };
        let (outcome, answer) = match mood {
            Mood::Slow(ms) => {
                sleep_ms(ms).await;
                (Outcome::Success, Ok(plain(200)))
            }
            Mood::Hanging => {
                sleep_ms(HANG_MS).await;
                (Outcome::Nothing, Err(io::ErrorKind::ConnectionReset.into()))
            }
            Mood::Failing => {
                let status = self.rng.borrow_mut().choose(&[500, 502, 404, 302, 429, 400]);
                (Outcome::Failure, Ok(plain(status)))
            }
            Mood::Busy => {
                let mut answer = plain(503);
                let wait_s = self.rng.borrow_mut().between(1, 45);
                answer.headers_mut().insert("retry-after", wait_s.into());
                (Outcome::Failure, Ok(answer))
            }
            Mood::Resetting | Mood::Lying | Mood::Absent => {
                (Outcome::Nothing, Err(io::ErrorKind::ConnectionReset.into()))
            }
            Mood::Cutting => (Outcome::Nothing, Ok(cut())),
            Mood::Healthy | Mood::Mixed => (Outcome::Success, Ok(plain(200))),
        };
        self.expectations.borrow_mut().answered(seen, outcome, elapsed_ms());
        answer
    }

    /// Judges a request by itself and records it.
    fn take(&self, head: &HeaderMap, body: &[u8], sender: IpAddr) -> usize {
        let now = elapsed_ms();
        let text = |name: &str| head.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let id = |name: &str| uuid::Uuid::parse_str(&text(name)).map_or(0, |id| id.as_u128());
        let parsed: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let data = &parsed["data"];
        let key = data["key"].as_str().unwrap_or_default().to_owned();
        let queue = data["queue"].as_u64().unwrap_or(0);
        let mut expectations = self.expectations.borrow_mut();
        if key.is_empty() || data["fill"] != fill_of(&key) {
            let beginning = String::from_utf8_lossy(&body[..body.len().min(1_000)]).into_owned();
            expectations.fault(now, format!("{} got altered bytes, {} of them: {beginning}", self.number, body.len()));
        }
        if !is_signed(&text("webhook-id"), &text("webhook-timestamp"), &text("webhook-signature"), body) {
            expectations.fault(now, format!("{} got {key} with a wrong signature", self.number));
        }
        let seen = Seen {
            at_ms: now,
            hook: self.number,
            sender,
            event: id("webhook-id"),
            delivery: id("postrider-delivery-id"),
            number: text("postrider-attempt").parse().unwrap_or(0),
            outcome: Outcome::Nothing,
            until_ms: now + HANG_MS as i64,
        };
        expectations.see(seen, &key, queue)
    }
}

fn is_signed(id: &str, timestamp: &str, signature: &str, body: &[u8]) -> bool {
    let secret = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap_or_default();
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), &signed);
    signature == format!("v1,{}", STANDARD.encode(tag.as_ref()))
}

fn headers_of(head: &[u8]) -> HeaderMap {
    let text = String::from_utf8_lossy(head);
    let lines = text.lines().skip(1).filter_map(|line| line.split_once(": "));
    let parsed = lines.filter_map(|(name, value)| {
        Some((http::HeaderName::try_from(name).ok()?, http::HeaderValue::try_from(value).ok()?))
    });
    parsed.collect()
}

fn plain(status: u16) -> Answered {
    let body = if status == 302 { Bytes::new() } else { Bytes::from_static(b"so be it") };
    let body = Full::new(body).map_err(|never: Infallible| match never {});
    let mut answer = Response::new(UnsyncBoxBody::new(body));
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    if status == 302 {
        answer.headers_mut().insert("location", http::HeaderValue::from_static("http://192.168.0.1:9999/"));
        *answer.body_mut() = UnsyncBoxBody::new(Empty::new().map_err(|never: Infallible| match never {}));
    }
    answer
}

/// A 200 with a body that ends before its announced length.
fn cut() -> Answered {
    let mut answer = Response::new(UnsyncBoxBody::new(Cut { has_begun: false }));
    answer.headers_mut().insert("content-length", http::HeaderValue::from_static("1000"));
    answer
}

struct Cut {
    has_begun: bool,
}

impl Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let has_begun = std::mem::replace(&mut self.has_begun, true);
        Poll::Ready(Some(match has_begun {
            false => Ok(Frame::data(Bytes::from_static(b"the beginning"))),
            true => Err(io::ErrorKind::ConnectionAborted.into()),
        }))
    }
}
