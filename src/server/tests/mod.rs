//! The server on real sockets, with a toy service behind it and raw bytes before it.

mod bounds;
mod corpus;
mod framing;
mod life;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::{Admitted, Server, ServerLimits, Service};
use crate::api::origin::{ListenerKind, OriginRules};
use crate::api::request::HttpRequest;
use crate::api::response::HttpResponse;
use crate::engine::network::{ListenAddr, Network, RealNetwork};

const BODY_BYTES_MAX: usize = 100_000;

/// Echoes requests. `GET /wait` waits for `go`. `GET /large` answers with 64 MiB, and `gone` reports when they are
/// dropped. Every path but `/healthz` requires the key `k`.
#[derive(Default)]
struct EchoService {
    rules: OriginRules,
    made: AtomicUsize,
    waiting: Arc<Notify>,
    go: Arc<Notify>,
    gone: Arc<Notify>,
}

impl Service for EchoService {
    type Pass = ();

    fn request_id(&self) -> String {
        format!("made-{}", self.made.fetch_add(1, Ordering::Relaxed))
    }

    fn admit(&self, http_request: &HttpRequest, listener: ListenerKind) -> Result<Admitted<()>, Box<HttpResponse>> {
        let refuse =
            |status: StatusCode| Err(Box::new(HttpResponse::problem(status, "refused", "", &http_request.request_id)));
        if http_request.path != "/healthz" && http_request.header("authorization") != Some("Bearer k") {
            return refuse(StatusCode::UNAUTHORIZED);
        }
        let host = http_request.header("host").unwrap_or_default();
        if self.rules.check_host(listener, host).is_err() {
            return refuse(StatusCode::MISDIRECTED_REQUEST);
        }
        if self.rules.check_origin(listener, host, http_request.header("origin")).is_err() {
            return refuse(StatusCode::FORBIDDEN);
        }
        match http_request.path.as_str() {
            "/healthz" | "/wait" | "/large" | "/v1/events" | "/v1/webhooks" => {
                Ok(Admitted { pass: (), body_bytes_max: BODY_BYTES_MAX, is_known: http_request.path != "/healthz" })
            }
            _ => refuse(StatusCode::NOT_FOUND),
        }
    }

    async fn call(&self, http_request: HttpRequest, _: ()) -> HttpResponse {
        match http_request.path.as_str() {
            "/wait" => {
                self.waiting.notify_one();
                self.go.notified().await;
            }
            "/large" => {
                let large = Large { bytes: vec![b'x'; 64 << 20], gone: self.gone.clone() };
                return HttpResponse::new(StatusCode::OK, "text/plain", Bytes::from_owner(large));
            }
            _ => {}
        }
        let status = if http_request.method == Method::POST { StatusCode::ACCEPTED } else { StatusCode::OK };
        let body = format!(
            "{} {} {:?} {}",
            if http_request.is_get() { Method::GET } else { http_request.method.clone() },
            http_request.path,
            http_request.query,
            String::from_utf8_lossy(&http_request.body)
        );
        HttpResponse::new(status, "text/plain", body)
    }
}

struct Large {
    bytes: Vec<u8>,
    gone: Arc<Notify>,
}

impl AsRef<[u8]> for Large {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        self.gone.notify_one();
    }
}

/// Short deadlines in tests of a deadline, and long ones otherwise.
fn limits() -> ServerLimits {
    ServerLimits {
        head_read: Duration::from_secs(20),
        linger: Duration::from_millis(200),
        head_at_stop: Duration::from_millis(200),
        ..ServerLimits::default()
    }
}

struct TestServer {
    server: Server,
    service: Arc<EchoService>,
    addr: SocketAddr,
}

async fn run(limits: ServerLimits) -> TestServer {
    let listener = RealNetwork.listen(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    let ListenAddr::Tcp(addr) = listener.local_addr() else { panic!("not TCP") };
    let service = Arc::new(EchoService::default());
    TestServer { server: Server::start(service.clone(), vec![listener], limits), service, addr }
}

impl TestServer {
    async fn connect(&self) -> TestClient {
        TestClient { tcp: TcpStream::connect(self.addr).await.unwrap(), read: Vec::new() }
    }

    /// Sends `bytes` on a new connection and reads the first answer. `None` if the server closes without one.
    async fn request(&self, bytes: impl AsRef<[u8]>) -> Option<TestResponse> {
        let mut client = self.connect().await;
        client.say(bytes).await;
        client.answer().await
    }

    async fn is_well(&self) -> bool {
        let healthy = self.request("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        healthy.is_some_and(|answer| answer.status == 200)
    }
}

struct TestClient {
    tcp: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug, Clone)]
struct TestResponse {
    status: u16,
    head: String,
    body: String,
}

impl TestClient {
    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        // The server may have closed already. Its answer is still readable.
        let _ = self.tcp.write_all(bytes.as_ref()).await;
    }

    /// The next answer, by its Content-Length. `None` if the connection ends first.
    async fn answer(&mut self) -> Option<TestResponse> {
        self.answer_to(&Method::GET).await
    }

    async fn answer_to(&mut self, method: &Method) -> Option<TestResponse> {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8(self.read[..end + 4].to_vec()).unwrap();
                let status = head[9..12].parse().unwrap();
                let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
                let length = if *method == Method::HEAD { 0 } else { length };
                if self.read.len() >= end + 4 + length {
                    let body = String::from_utf8(self.read[end + 4..end + 4 + length].to_vec()).unwrap();
                    self.read.drain(..end + 4 + length);
                    return Some(TestResponse { status, head, body });
                }
            }
            if self.tcp.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Whether the server closes without a further byte.
    async fn is_closed(&mut self) -> bool {
        self.read.is_empty() && self.tcp.read_buf(&mut self.read).await.unwrap_or(0) == 0
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name).map(|(_, value)| value)
}

impl TestResponse {
    fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// Checks that this is an error in the native form with the id of its header, and returns its code.
    fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.head);
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        for member in ["type", "title", "detail"] {
            assert!(problem[member].is_string(), "{member}: {problem}");
        }
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"), "{problem}");
        problem["code"].as_str().unwrap().to_owned()
    }
}

/// A request with the key, to the daemon's own host.
fn request(line: &str, headers: &str, body: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k\r\n{headers}\r\n{body}")
}
