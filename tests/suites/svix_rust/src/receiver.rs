//! A receiver of webhooks over plain HTTP/1.1, which answers with the next status that was set, or 200.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use svix::Webhook;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const ARRIVAL: Duration = Duration::from_secs(30);

pub struct Receiver {
    pub url: String,
    pub statuses: Arc<Mutex<VecDeque<u16>>>,
    requests: mpsc::UnboundedReceiver<(HeaderMap, Vec<u8>)>,
}

impl Receiver {
    pub async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/in", listener.local_addr().expect("an address"));
        let statuses = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, requests) = mpsc::unbounded_channel();
        let shared = statuses.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone(), sender.clone()));
            }
        });
        Receiver { url, statuses, requests }
    }

    /// The next request, whose signature the SDK verifies: its headers and its payload.
    pub async fn verified(&mut self, secret: &str) -> (HeaderMap, Value) {
        let next = tokio::time::timeout(ARRIVAL, self.requests.recv()).await;
        let (headers, body) = next.expect("a request in time").expect("a request");
        let webhook = Webhook::new(secret).expect("a secret");
        webhook.verify(&body, &headers).expect("a valid signature");
        let altered = [body.as_slice(), b" "].concat();
        assert!(webhook.verify(&altered, &headers).is_err(), "an altered body was verified");
        (headers, serde_json::from_slice(&body).expect("JSON"))
    }
}

/// Answers the requests of one connection.
async fn serve(
    stream: TcpStream,
    statuses: Arc<Mutex<VecDeque<u16>>>,
    sender: mpsc::UnboundedSender<(HeaderMap, Vec<u8>)>,
) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let _ = sender.send(request);
        let status = statuses.lock().expect("a lock").pop_front().unwrap_or(200);
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// One request. `None` at the end of the connection.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<(HeaderMap, Vec<u8>)> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut headers = HeaderMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let name: HeaderName = name.parse().ok()?;
        headers.append(name, HeaderValue::from_str(value.trim()).ok()?);
    }
    let length = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((headers, body))
}
