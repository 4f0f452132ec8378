//! A caller of the daemon's API in the simulation: one connection, opened again when it breaks.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use turmoil::net::TcpStream;

use super::world::{API_PORT, DAEMON, NODES, ask_next, asked, nodes, sleep_ms};

/// The key with every permission.
pub const KEY: &str = "the-key-of-the-simulation";
/// Maximum wait for an answer.
const PATIENCE: Duration = Duration::from_secs(40);
/// Delays between two tries of a request that must succeed in the end: the first one, and the maximum. Turmoil never
/// frees the port of a refused connection, so tries must be few.
const AGAIN_MS: u64 = 1_500;
const AGAIN_MS_MAX: u64 = 40_000;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Whether a node answers that is not the owner.
    fn is_of_standby(&self) -> bool {
        self.status == 503 && self.json()["code"] == "standby"
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

#[derive(Default)]
pub struct Api {
    /// The node of the connection.
    node: usize,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Api {
    /// Sends a request once, to a node that is no standby. `None` if no complete answer came.
    pub async fn ask(&mut self, method: &str, path: &str, once: Option<&str>, body: Bytes) -> Option<Answer> {
        for _ in 1..nodes() {
            let answer = self.ask_node(method, path, once, body.clone()).await;
            if answer.as_ref().is_none_or(|answer| !answer.is_of_standby()) {
                return answer;
            }
        }
        self.ask_node(method, path, once, body).await
    }

    async fn ask_node(&mut self, method: &str, path: &str, once: Option<&str>, body: Bytes) -> Option<Answer> {
        if self.node != asked() {
            (self.node, self.connection) = (asked(), None);
        }
        let answer = tokio::time::timeout(PATIENCE, self.exchange(method, path, once, body)).await.ok().flatten();
        if answer.is_none() {
            self.connection = None;
        }
        if answer.as_ref().is_none_or(Answer::is_of_standby) {
            ask_next(self.node);
        }
        answer
    }

    async fn exchange(&mut self, method: &str, path: &str, once: Option<&str>, body: Bytes) -> Option<Answer> {
        if self.connection.as_ref().is_none_or(SendRequest::is_closed) {
            let stream = TcpStream::connect((NODES[self.node], API_PORT)).await.ok()?;
            let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
            tokio::task::spawn_local(connection);
            self.connection = Some(requests);
        }
        let requests = self.connection.as_mut()?;
        requests.ready().await.ok()?;
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", DAEMON)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {KEY}"));
        if let Some(once) = once {
            request = request.header("idempotency-key", once);
        }
        let response = requests.send_request(request.body(Full::new(body)).ok()?).await.ok()?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { status: head.status.as_u16(), body })
    }

    pub async fn get(&mut self, path: &str) -> Option<Value> {
        let answer = self.ask("GET", path, None, Bytes::new()).await?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Repeats a request until the daemon performs it. It waits out back-pressure and broken connections. The error is
    /// the text of a refusal.
    pub async fn insist(&mut self, path: &str, once: Option<&str>, body: &Value) -> Result<Answer, String> {
        let body = Bytes::from(body.to_string());
        let mut wait_ms = AGAIN_MS;
        loop {
            match self.ask("POST", path, once, body.clone()).await {
                Some(answer) if answer.status < 300 => return Ok(answer),
                Some(answer) if answer.status < 500 && answer.status != 429 => {
                    return Err(format!("POST {path}: {} {}", answer.status, answer.text()));
                }
                _ => {
                    sleep_ms(wait_ms).await;
                    wait_ms = (wait_ms * 2).min(AGAIN_MS_MAX);
                }
            }
        }
    }
}
