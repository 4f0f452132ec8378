//! Clients that send too much, too slowly or out of turn, over raw sockets and over HTTP/2. The cost of each is
//! bounded, and the next client is served.

use std::net::SocketAddr;
use std::time::Duration;

use postrider::server::ServerLimits;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::security::certificates::{Authority, client};
use crate::security::support::{Instance, PATIENCE, rows};

/// A deadline that is short enough to wait for.
const SHORT: Duration = Duration::from_millis(500);

async fn instance() -> Instance {
    let linger = Duration::from_millis(200);
    let limits = ServerLimits { head_read: SHORT, body_read: SHORT, idle: SHORT, linger, ..ServerLimits::default() };
    Instance::within(limits, |_| {}).await
}

/// Reads until the other side closes.
async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut heard = Vec::new();
    // A reset after the answer counts as an end.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("it is closed");
    String::from_utf8_lossy(&heard).into_owned()
}

/// The status lines of the answers to these bytes.
async fn say(address: SocketAddr, said: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // The daemon may refuse before all bytes are sent.
    let _ = stream.write_all(said).await;
    statuses(&hear(&mut stream).await)
}

fn statuses(heard: &str) -> Vec<u16> {
    let after = heard.split("HTTP/1.1 ").skip(1);
    after.map(|rest| rest.get(..3).and_then(|status| status.parse().ok()).expect("a status")).collect()
}

fn post(instance: &Instance, rest: &str) -> Vec<u8> {
    let key = &instance.first.key;
    format!(
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n{rest}"
    )
    .into_bytes()
}

async fn is_well(instance: &Instance) {
    assert_eq!(
        say(instance.address, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await,
        [200]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_in_the_framing_are_refused() {
    let instance = instance().await;
    let chunked = |body: &[u8]| [post(&instance, "Transfer-Encoding: chunked\r\n\r\n"), body.to_vec()].concat();
    let mib = 1 << 20;
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("one long chunk extension", chunked(&[b"1;".as_slice(), &vec![b'a'; 2 * mib]].concat()), &[400]),
        ("many short chunk extensions", chunked(&b"1;a=b\r\n \r\n".repeat(mib / 4)), &[400, 408, 413]),
        ("chunks of a byte", chunked(&b"1\r\n \r\n".repeat(mib + 2)), &[408, 413]),
        (
            "a chunk size of a thousand zeros",
            chunked(&[&[b'0'; 1000], b"1\r\n \r\n0\r\n\r\n".as_slice()].concat()),
            &[400, 422],
        ),
        (
            "trailers without end",
            chunked(&[b"2\r\n{}\r\n0\r\n".as_slice(), &b"x-a: b\r\n".repeat(mib / 8)].concat()),
            &[400, 431],
        ),
        ("a bare line feed in a chunk", chunked(b"2\n{}\r\n0\r\n\r\n"), &[400, 422]),
        (
            "a length and chunks",
            post(&instance, "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /"),
            &[400],
        ),
        (
            "chunks and a length",
            post(&instance, "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /"),
            &[400],
        ),
        ("chunks by another name", post(&instance, "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), &[400]),
        ("chunks after a tab", post(&instance, "Transfer-Encoding:\tchunked, identity\r\n\r\n0\r\n\r\n"), &[400]),
        ("lengths in a list", post(&instance, "Content-Length: 2, 2\r\n\r\n{}"), &[400, 422]),
        ("a length behind a carriage return", post(&instance, "X: y\rContent-Length: 5\r\n\r\n"), &[400]),
        ("a header that is folded", post(&instance, "Content-Length: 2\r\nX-A: b\r\n\tc\r\n\r\n{}"), &[400]),
        ("a space before the colon", post(&instance, "Content-Length : 2\r\n\r\n{}"), &[400]),
        ("a header without a name", post(&instance, ": x\r\n\r\n"), &[400]),
        ("a head of empty lines", b"\r\n".repeat(mib), &[400, 431]),
        ("one endless line", vec![b'A'; 4 * mib], &[400, 414, 431]),
        ("a method of a megabyte", [vec![b'A'; mib], b" / HTTP/1.1\r\n\r\n".to_vec()].concat(), &[400, 414, 431]),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), &[505]),
        (
            "an upgrade to HTTP/2",
            post(
                &instance,
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nContent-Length: 0\r\n\r\n",
            ),
            &[400],
        ),
        (
            "HTTP/1.0 with chunks",
            b"POST /v1/events HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            &[400, 401],
        ),
    ];
    let mut wrong = Vec::new();
    for (what, said, expected) in cases {
        let heard = say(instance.address, &said).await;
        // No answer is expected, because the connection is closed without one.
        if heard.len() > 1
            || !heard.iter().all(|status| expected.contains(status))
            || heard.is_empty() != expected.is_empty()
        {
            wrong.push(format!("{what}: {heard:?}, wanted one of {expected:?}"));
        }
        is_well(&instance).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows(&instance.first, "/v1/events").await.is_empty(), "no request was taken for an event");
}

/// A byte now and then keeps a connection from being idle, and not from being late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_drips_is_late() {
    let instance = instance().await;
    for (what, head) in [
        ("a head", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ".to_vec()),
        ("a body", post(&instance, "Content-Length: 100000\r\n\r\n")),
        ("chunks", post(&instance, "Transfer-Encoding: chunked\r\n\r\n")),
    ] {
        let stream = TcpStream::connect(instance.address).await.expect("a connection");
        let (mut read, mut write) = stream.into_split();
        let dripping = tokio::spawn(async move {
            let mut said = write.write_all(&head).await;
            let drop: &[u8] = if what == "chunks" { b"1\r\n \r\n" } else { b" " };
            while said.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                said = write.write_all(drop).await;
            }
        });
        assert_eq!(statuses(&hear(&mut read).await), [408], "{what}");
        tokio::time::timeout(PATIENCE, dripping).await.expect("it is closed").expect("a task");
    }
    is_well(&instance).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_one_piece_are_answered_in_their_order() {
    let instance = instance().await;
    let key = &instance.first.key;
    let get = |path: &str, rest: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{rest}\r\n").into_bytes()
    };
    let event = json!({ "type": "a.b", "data": 1 }).to_string();
    let said = [
        get("/v1/events", ""),
        get("/v1/nothing", ""),
        [post(&instance, &format!("Content-Length: {}\r\n\r\n", event.len())), event.into_bytes()].concat(),
        get("/v1/events?limit=0", ""),
        get("/healthz", "Connection: close\r\n"),
    ]
    .concat();
    assert_eq!(say(instance.address, &said).await, [200, 404, 202, 400, 200]);
    // A hundred requests. Bytes after a refusal that ends the connection are never taken for a request.
    let said = [get("/healthz", "").repeat(100), get("/healthz", "Connection: close\r\n")].concat();
    assert_eq!(say(instance.address, &said).await, [200; 101]);
    let inner = get("/v1/events", "");
    let refused = post(&instance, &format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n", inner.len()));
    assert_eq!(say(instance.address, &[refused, b"0\r\n\r\n".to_vec(), inner].concat()).await, [400]);
}

/// One frame of HTTP/2 (RFC 9113 section 4.1).
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(super) const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;

/// `:method GET`, `:scheme https`, this short `:path`, `:authority localhost`, in HPACK.
pub(super) fn head_of(path: &str) -> Vec<u8> {
    [&[0x82, 0x87, 0x04, path.len() as u8], path.as_bytes(), &[0x41, 9], b"localhost"].concat()
}

/// `:method GET`, `:scheme https`, `:path /`, `:authority localhost`, in HPACK (RFC 7541).
fn head() -> Vec<u8> {
    [[0x82, 0x87, 0x84, 0x41, 9].as_slice(), b"localhost"].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_over_http2_end_their_connection_and_no_other() {
    let folder = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let signed = authority.signs("localhost");
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, &signed.cert).expect("written");
    std::fs::write(&key, &signed.key).expect("written");
    let limits =
        ServerLimits { head_read: SHORT, body_read: SHORT, idle: SHORT, linger: SHORT, ..ServerLimits::default() };
    let instance = Instance::within(limits, |settings| {
        settings.server.tls_cert = Some(cert.clone());
        settings.server.tls_key = Some(key.clone());
    })
    .await;
    let connect = async |protocol: &[u8]| {
        let tcp = TcpStream::connect(instance.address).await.expect("a connection");
        let name = rustls_pki_types::ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(client(&authority, None, &[protocol])).connect(name, tcp).await.expect("a handshake")
    };
    let odd = |nth: u32| 2 * nth + 1;
    let reset =
        |nth: u32| [frame(HEADERS, 5, odd(nth), &head()), frame(RESET, 0, odd(nth), &8_u32.to_be_bytes())].concat();
    let resets: Vec<u8> = (0..20_000).flat_map(reset).collect();
    let begun: Vec<u8> = (0..5_000).flat_map(|nth| frame(HEADERS, 4, odd(nth), &head())).collect();
    let continued: Vec<u8> =
        [frame(HEADERS, 0, 1, &head()), frame(CONTINUATION, 0, 1, &[0; 16_000]).repeat(500)].concat();
    // A literal that is put into the table once, and then named ten thousand times.
    let bomb = [head(), vec![0x40, 1, b'a', 0x7f, 0x81, 0x1e], vec![b'x'; 4_000], vec![0xbe; 12_000]].concat();
    let floods: Vec<(&str, Vec<u8>)> = vec![
        ("resets", resets),
        ("streams beyond the number", begun),
        ("continuations without end", continued),
        ("a header list that grows", frame(HEADERS, 5, 1, &bomb)),
        ("pings", frame(PING, 0, 0, &[0; 8]).repeat(100_000)),
        ("settings", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).repeat(100_000)),
        ("empty data", [frame(HEADERS, 4, 1, &head()), frame(DATA, 0, 1, b"").repeat(100_000)].concat()),
        ("windows beyond their size", frame(WINDOW, 0, 0, &0x7fff_ffff_u32.to_be_bytes()).repeat(3)),
        ("a frame beyond its size", [vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1], vec![0; 1 << 20]].concat()),
        ("an even stream", frame(HEADERS, 5, 2, &head())),
        ("nonsense", vec![0x5a; 1 << 20]),
        ("nothing more", Vec::new()),
    ];
    for (what, flood) in floods {
        let mut stream = connect(b"h2").await;
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        let said = async {
            stream.write_all(&hello).await?;
            for piece in flood.chunks(64 << 10) {
                stream.write_all(piece).await?;
            }
            stream.flush().await
        };
        // The daemon may close early, or read all of it and then close. Either ends within the patience.
        let _ = tokio::time::timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("{what}: the daemon still reads"));
        let (mut read, mut write) = tokio::io::split(stream);
        let closed = async {
            let mut ignored = vec![0; 64 << 10];
            while matches!(read.read(&mut ignored).await, Ok(1..)) {}
        };
        tokio::time::timeout(PATIENCE, closed).await.unwrap_or_else(|_| panic!("{what}: never closed"));
        end(&mut write).await;
        let mut next = connect(b"http/1.1").await;
        next.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.expect("said");
        assert_eq!(statuses(&hear(&mut next).await), [200], "after {what}");
    }
}

async fn end(stream: &mut (impl AsyncWrite + Unpin)) {
    // The connection is closed already if the flood was refused.
    let _ = stream.shutdown().await;
}
