//! The receiver of all deliveries. It answers 200 at once, or refuses some if a scenario asks for that, and records
//! every arrival on the board. It checks the signature of one request in `CHECK_EVERY` as a receiver would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use postrider::rules::signing::{SecretKey, parse_secret, verify};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::board::Board;
use super::wire::{head_end, header, number};

/// The secret of the benchmark's webhooks.
pub const SECRET: &str = "whsec_cG9zdHJpZGVyIGJlbmNobWFyayBzZWNyZXQu";

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
const READ_BYTES: usize = 16 * 1024;
const CHECK_EVERY: u64 = 64;

pub struct Sink {
    pub addr: SocketAddr,
    pub board: Arc<Board>,
    task: JoinHandle<()>,
}

impl Sink {
    /// Listens on `at`. With `signed`, arrivals carry a signature.
    pub async fn start(at: SocketAddr, board: Arc<Board>, signed: bool) -> std::io::Result<Sink> {
        let listener = TcpListener::bind(at).await?;
        let addr = listener.local_addr()?;
        let key = signed.then(|| Arc::new(parse_secret(SECRET).expect("a secret")));
        let task = tokio::spawn(accept(listener, board.clone(), key));
        Ok(Sink { addr, board, task })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, board: Arc<Board>, key: Option<Arc<SecretKey>>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(receive(stream, board.clone(), key.clone()));
    }
}

async fn receive(mut stream: TcpStream, board: Arc<Board>, key: Option<Arc<SecretKey>>) {
    let shard = board.arrival_times.shard();
    let mut read: Vec<u8> = Vec::with_capacity(READ_BYTES);
    let mut seen = 0;
    // A failing nodelay or a closing peer ends this connection only.
    let _ = stream.set_nodelay(true);
    loop {
        let mut used = 0;
        while let Some(request) = Request::of(&read[used..]) {
            board.arrive(request.webhook(), request.body, shard);
            if let Some(key) = &key
                && seen % CHECK_EVERY == 0
            {
                check(&board, key, &request);
            }
            seen += 1;
            used += request.bytes;
            let answer = if board.refuses() { REFUSAL } else { ANSWER };
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
        read.drain(..used);
        read.reserve(READ_BYTES);
        if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
            return;
        }
    }
}

struct Request<'r> {
    head: &'r [u8],
    body: &'r [u8],
    bytes: usize,
}

impl Request<'_> {
    /// The first request of `bytes`. `None` unless it is complete.
    fn of(bytes: &[u8]) -> Option<Request<'_>> {
        let end = head_end(bytes)?;
        let length = header(&bytes[..end], "content-length").and_then(number).unwrap_or(0) as usize;
        let body = bytes.get(end..end + length)?;
        Some(Request { head: &bytes[..end], body, bytes: end + length })
    }

    /// The number in `POST /w/00003 HTTP/1.1`.
    fn webhook(&self) -> u64 {
        let path = self.head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        path.rsplit(|byte| *byte == b'/').next().and_then(number).unwrap_or(0)
    }
}

fn check(board: &Board, key: &SecretKey, request: &Request) {
    let text = |name: &str| std::str::from_utf8(header(request.head, name)?).ok();
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    board.checked_signatures.fetch_add(1, Ordering::Relaxed);
    if verify(key, text, request.body, now_s).is_err() {
        board.bad_signatures.fetch_add(1, Ordering::Relaxed);
    }
}
