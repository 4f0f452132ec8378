//! TLS on the API's listener: certificates, both protocols, deadlines, renewal.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use postrider::server::ServerLimits;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::security::support::{Instance, PATIENCE, text};

const NAME: &str = "localhost";

/// Writes a new certificate for `NAME` and its key. Returns the certificate.
pub(super) fn renew(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    fs::write(folder.join("cert.pem"), made.cert.pem()).expect("written");
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    made.cert.pem()
}

async fn secured(folder: &Path) -> Instance {
    hurried(folder, ServerLimits::default()).await
}

pub(super) async fn hurried(folder: &Path, limits: ServerLimits) -> Instance {
    Instance::within(limits, |settings| {
        settings.server.tls_cert = Some(folder.join("cert.pem"));
        settings.server.tls_key = Some(folder.join("key.pem"));
    })
    .await
}

/// A connection that trusts this certificate only and offers these protocols.
pub(super) async fn connect(
    address: SocketAddr,
    trusted: &str,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    connect_over(TcpStream::connect(address).await?, trusted, protocols).await
}

/// The same over an open connection.
pub(super) async fn connect_over(
    tcp: TcpStream,
    trusted: &str,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).expect("a certificate")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).expect("a name"), tcp).await
}

type Http2 = http2::SendRequest<Full<Bytes>>;

async fn http2(instance: &Instance, trusted: &str) -> Http2 {
    let stream = connect(instance.address, trusted, &[b"h2", b"http/1.1"]).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    requests
}

fn request(instance: &Instance, method: Method, path: &str, body: &str) -> Request<Full<Bytes>> {
    let key = format!("Bearer {}", instance.first.key);
    Request::builder()
        .method(method)
        .uri(format!("https://{NAME}:{}{path}", instance.address.port()))
        .header("authorization", key)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .expect("a request")
}

async fn answer(response: Response<Incoming>) -> (StatusCode, Value) {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.expect("the whole answer").to_bytes();
    (head.status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_protocols_are_spoken_behind_tls_and_nothing_in_clear() {
    let folder = tempfile::tempdir().expect("a directory");
    let trusted = renew(folder.path());
    let instance = secured(folder.path()).await;
    assert_eq!(instance.daemon.url(), format!("https://{}", instance.address));

    let mut requests = http2(&instance, &trusted).await;
    let event = json!({ "type": "a.b", "data": { "n": 1 } }).to_string();
    let sent = requests.send_request(request(&instance, Method::POST, "/v1/events", &event)).await.expect("an answer");
    let (status, made) = answer(sent).await;
    assert_eq!(status, 202, "{made}");

    for protocols in [&[b"http/1.1".as_slice()][..], &[]] {
        let stream = connect(instance.address, &trusted, protocols).await.expect("a handshake");
        let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let path = format!("/v1/events/{}", text(&made, "id"));
        let mut asked = request(&instance, Method::GET, &path, "");
        *asked.uri_mut() = path.parse().expect("a target");
        asked.headers_mut().insert("host", NAME.parse().expect("a host"));
        let (status, read) = answer(requests.send_request(asked).await.expect("an answer")).await;
        assert_eq!((status.as_u16(), &read["id"]), (200, &made["id"]));
    }

    let mut plain = TcpStream::connect(instance.address).await.expect("a connection");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("said");
    let mut heard = Vec::new();
    let _ = plain.read_to_end(&mut heard).await;
    assert!(!heard.starts_with(b"HTTP"), "{heard:?}");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let stranger = renew(elsewhere.path());
    assert!(connect(instance.address, &stranger, &[]).await.is_err(), "not the certificate that is shown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_judgement_is_the_same_over_http2() {
    let folder = tempfile::tempdir().expect("a directory");
    let trusted = renew(folder.path());
    let instance = secured(folder.path()).await;
    let mut requests = http2(&instance, &trusted).await;
    let send = async |requests: &mut Http2, change: &dyn Fn(&mut Request<Full<Bytes>>)| {
        let mut asked = request(&instance, Method::GET, "/v1/events", "");
        change(&mut asked);
        let response = tokio::time::timeout(PATIENCE, requests.send_request(asked)).await.expect("in time");
        let (status, body) = answer(response.expect("an answer")).await;
        (status.as_u16(), body["code"].as_str().unwrap_or_default().to_owned())
    };
    let head = |name: &'static str, value: String| {
        move |asked: &mut Request<Full<Bytes>>| {
            asked.headers_mut().insert(name, value.parse().expect("a value"));
        }
    };
    assert_eq!(send(&mut requests, &|_| ()).await.0, 200);
    assert_eq!(send(&mut requests, &head("authorization", "Bearer x".into())).await.0, 401);
    assert_eq!(send(&mut requests, &head("origin", "https://evil.example".into())).await.0, 403);
    assert_eq!(send(&mut requests, &head("host", "other.example".into())).await.0, 400);
    let elsewhere = |asked: &mut Request<Full<Bytes>>| {
        *asked.uri_mut() = "https://evil.example/v1/events".parse().expect("a target");
    };
    assert_eq!(send(&mut requests, &elsewhere).await, (421, "host_not_allowed".to_owned()));
    let long = |asked: &mut Request<Full<Bytes>>| {
        *asked.uri_mut() = format!("https://{NAME}/v1/events?search={}", "a".repeat(9_000)).parse().expect("a target");
    };
    assert_eq!(send(&mut requests, &long).await.0, 414);
    let twice = |asked: &mut Request<Full<Bytes>>| {
        asked.headers_mut().append("authorization", "Bearer other".parse().expect("a value"));
    };
    assert_eq!(send(&mut requests, &twice).await.0, 400);
    let many = |asked: &mut Request<Full<Bytes>>| {
        for nth in 0..200 {
            let name: http::HeaderName = format!("x-{nth}").parse().expect("a name");
            asked.headers_mut().insert(name, "a".parse().expect("a value"));
        }
    };
    assert_eq!(send(&mut requests, &many).await.0, 431);
    let large = |asked: &mut Request<Full<Bytes>>| {
        *asked.method_mut() = Method::POST;
        *asked.body_mut() = Full::new(Bytes::from(vec![b' '; 2 << 20]));
    };
    assert_eq!(send(&mut requests, &large).await.0, 413);
    assert_eq!(send(&mut requests, &|_| ()).await.0, 200, "one bad request does not end the connection");

    // HEAD is GET without the body, and has the length of that body.
    let asked = request(&instance, Method::HEAD, "/v1/events", "");
    let response = requests.send_request(asked).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert!(response.headers()["content-length"].to_str().expect("text").parse::<u32>().expect("bytes") > 10);
    assert_eq!(response.into_body().collect().await.expect("an end").to_bytes(), "");
    // Many requests at once on one connection.
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let mut requests = requests.clone();
        let asked = request(&instance, Method::GET, "/v1/webhooks", "");
        asking.spawn(async move { requests.send_request(asked).await.expect("an answer").status() });
    }
    while let Some(status) = asking.join_next().await {
        assert_eq!(status.expect("a task"), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_shown_to_the_next_client() {
    let folder = tempfile::tempdir().expect("a directory");
    let old = renew(folder.path());
    let instance = secured(folder.path()).await;
    let mut before = http2(&instance, &old).await;
    let new = renew(folder.path());
    assert!(connect(instance.address, &new, &[]).await.is_err(), "the old certificate is used until the reload");
    let tls = instance.daemon.tls().expect("TLS");
    tls.reload().expect("read again");
    connect(instance.address, &new, &[]).await.expect("the new certificate");
    assert!(connect(instance.address, &old, &[]).await.is_err());
    // A broken renewal changes nothing.
    fs::write(folder.path().join("key.pem"), "nonsense").expect("written");
    let refused = tls.reload().expect_err("nonsense is no key");
    assert!(refused.contains("key.pem"), "{refused}");
    connect(instance.address, &new, &[]).await.expect("still the new certificate");
    let sent = before.send_request(request(&instance, Method::GET, "/v1/events", "")).await.expect("an answer");
    assert_eq!(sent.status(), 200, "open connections go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_hand_are_answered_when_it_stops() {
    let folder = tempfile::tempdir().expect("a directory");
    let trusted = renew(folder.path());
    let instance = secured(folder.path()).await;
    let webhook = json!({ "url": "https://example.com/" }).to_string();
    let mut requests = http2(&instance, &trusted).await;
    let sent =
        requests.send_request(request(&instance, Method::POST, "/v1/webhooks", &webhook)).await.expect("an answer");
    let (_, webhook) = answer(sent).await;
    // A long poll is running. The stop ends it by its deadline, and does not cut the other connections.
    let feed = format!("/v1/webhooks/{}/feed?wait_s=30", text(&webhook, "id"));
    let waiting = requests.send_request(request(&instance, Method::GET, &feed, ""));
    let (stopped, _) = tokio::join!(
        tokio::time::timeout(PATIENCE, instance.daemon.stop(Duration::from_millis(200))),
        tokio::time::timeout(PATIENCE, waiting),
    );
    assert!(stopped.is_ok());
    assert!(TcpStream::connect(instance.address).await.is_err(), "no process listens any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_completes_a_request_is_disconnected() {
    let folder = tempfile::tempdir().expect("a directory");
    let trusted = renew(folder.path());
    let short = Duration::from_millis(300);
    let instance = hurried(
        folder.path(),
        ServerLimits { head_read: short, idle: short, linger: short, ..ServerLimits::default() },
    )
    .await;
    let closed = async |stream: &mut (dyn tokio::io::AsyncRead + Unpin + Send)| {
        let mut heard = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("it is closed").is_ok()
    };
    // No handshake at all, half of one, and one without a request after it.
    let mut silent = TcpStream::connect(instance.address).await.expect("a connection");
    closed(&mut silent).await;
    let mut half = TcpStream::connect(instance.address).await.expect("a connection");
    half.write_all(b"\x16\x03\x01\x02\x00\x01").await.expect("said");
    closed(&mut half).await;
    for protocol in [b"h2".as_slice(), b"http/1.1"] {
        let mut idle = connect(instance.address, &trusted, &[protocol]).await.expect("a handshake");
        closed(&mut idle).await;
    }
    let mut requests = http2(&instance, &trusted).await;
    let sent = requests.send_request(request(&instance, Method::GET, "/v1/events", "")).await.expect("an answer");
    assert_eq!(sent.status(), 200);
    let gone = async {
        while requests.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("an idle connection is closed");
    // A body that never ends is answered, on its stream alone.
    let instance = hurried(folder.path(), ServerLimits { body_read: short, ..ServerLimits::default() }).await;
    let stream = connect(instance.address, &trusted, &[b"h2"]).await.expect("a handshake");
    let (mut requests, connection) =
        http2::handshake::<_, _, Endless>(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let asked = request(&instance, Method::POST, "/v1/events", "").map(|_| Endless);
    let late = tokio::time::timeout(PATIENCE, requests.send_request(asked)).await.expect("in time").expect("an answer");
    assert_eq!(late.status(), 408);
}

/// A body of which no byte comes.
struct Endless;

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_a_bad_configuration() {
    let folder = tempfile::tempdir().expect("a directory");
    renew(folder.path());
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("none.pem"));
    let variables = [
        ("POSTRIDER_SERVER__TLS_CERT", cert.to_str().expect("text")),
        ("POSTRIDER_SERVER__TLS_KEY", key.to_str().expect("text")),
    ];
    let (code, words) =
        crate::support::process::refused(&folder.path().join("data"), &folder.path().join("log"), &variables);
    assert_eq!(code, 78, "{words}");
    assert!(words.contains("none.pem"), "{words}");
}
