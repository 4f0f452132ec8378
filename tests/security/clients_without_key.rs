//! Clients without a key: their connections and requests end soon, and others are served meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use postrider::server::ServerLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::security::hostile_clients::{HEADERS, PREFACE, SETTINGS, WINDOW, frame, head_of};
use crate::security::support::{Instance, PATIENCE, eventually};
use crate::security::tls::{connect, connect_over, hurried, renew};

/// Requests of one connection that run at once without a key.
const STRANGER_STREAMS_MAX: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_answer_ends_over_http2_as_over_http1() {
    let folder = tempfile::tempdir().expect("a directory");
    let trusted = renew(folder.path());
    let limits = ServerLimits { reply_stall: Duration::from_secs(2), ..ServerLimits::default() };
    let instance = hurried(folder.path(), limits).await;
    let stream = connect(instance.address, &trusted, &[b"h2"]).await.expect("a handshake");
    let mut builder = http2::Builder::new(TokioExecutor::new());
    // The peer takes no byte of any answer.
    builder.initial_stream_window_size(0);
    let (mut requests, connection) = builder.handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let uri = format!("https://localhost:{}/openapi.json", instance.address.port());
    let request = || Request::builder().uri(&uri).body(Empty::new()).expect("a request");
    let mut running = Vec::new();
    for _ in 0..=STRANGER_STREAMS_MAX {
        running.push(requests.send_request(request()));
    }
    let mut statuses = Vec::new();
    let mut bodies = Vec::new();
    for answer in running {
        let answer = answer.await.expect("an answer");
        statuses.push(answer.status().as_u16());
        bodies.push(answer.into_body());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![200; STRANGER_STREAMS_MAX], vec![429]].concat());
    let mut ended = 0;
    for body in bodies {
        let whole = tokio::time::timeout(PATIENCE, body.collect()).await.expect("it ends");
        ended += usize::from(whole.is_err());
    }
    assert_eq!(ended, STRANGER_STREAMS_MAX, "the refusal has no body that could stall");
    let next = requests.send_request(request()).await.expect("the connection goes on");
    assert_eq!(next.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_nothing_over_http2_is_cut() {
    let folder = tempfile::tempdir().expect("a directory");
    let trusted = renew(folder.path());
    let limits = ServerLimits { reply_stall: Duration::from_secs(1), ..ServerLimits::default() };
    let instance = hurried(folder.path(), limits).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("set");
    let tcp = socket.connect(instance.address).await.expect("a connection");
    let mut stream = connect_over(tcp, &trusted, &[b"h2"]).await.expect("a handshake");
    let huge = 0x7fff_0000_u32.to_be_bytes();
    let settings = frame(SETTINGS, 0, 0, &[&[0, 4], huge.as_slice()].concat());
    let hello = [PREFACE, &settings, &frame(WINDOW, 0, 0, &0x7000_0000_u32.to_be_bytes())].concat();
    stream.write_all(&hello).await.expect("said");
    let counts = instance.daemon.engine.client_connections.clone();
    let mut next = 1;
    eventually("the connection is cut", async || {
        // The kernel takes some megabytes of answers before it blocks.
        let _ = stream.write_all(&frame(HEADERS, 5, next, &head_of("/openapi.json"))).await;
        let _ = stream.flush().await;
        next += 2;
        (counts.stats().open == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_one_address_leaves_others_served() {
    let limits = ServerLimits::default().with_connections(64, 16);
    let instance = Instance::within(limits, |_| {}).await;
    let mut crowd = Vec::new();
    for nth in 0..200 {
        let mut stream = TcpStream::connect(instance.address).await.expect("a connection");
        // Some are silent, some have half a head, and some were answered and are idle.
        match nth % 3 {
            0 => {}
            1 => stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: local").await.expect("said"),
            _ => assert_eq!(asked(&mut stream).await, "HTTP/1.1 200"),
        }
        crowd.push(stream);
    }
    let counts = instance.daemon.engine.client_connections.clone();
    eventually("all but the share are closed", async || {
        let stats = counts.stats();
        (stats.open == 16 && stats.closed[1] == 184 && stats.refused == [0; 4]).then_some(())
    })
    .await;
    let other = TcpSocket::new_v4().expect("a socket");
    other.bind(SocketAddr::from(([127, 0, 0, 3], 0))).expect("bound");
    let mut other = other.connect(instance.address).await.expect("a connection");
    assert_eq!(asked(&mut other).await, "HTTP/1.1 200");
    let mut same = TcpStream::connect(instance.address).await.expect("a connection");
    assert_eq!(asked(&mut same).await, "HTTP/1.1 200", "a new connection of the crowd's address is served too");
}

/// The status of `/healthz` on this connection.
async fn asked(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("said");
    let mut heard = vec![0; 4_096];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut heard)).await.expect("in time").expect("an answer");
    String::from_utf8_lossy(&heard[..read.min(12)]).into_owned()
}
