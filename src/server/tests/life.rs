//! Tests of a connection's life: reuse, deadlines, counting and the drain.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::{EchoService, Server, ServerLimits, TestClient, limits, request, run};
use crate::engine::network::{BoxFuture, Conn, ListenAddr, Listener, Network, Peer, RealNetwork};

/// The deadline in tests of a deadline.
const BRIEF: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_request_reaches_the_service_and_its_answer_the_client() {
    let running = run(limits()).await;
    let mut client = running.connect().await;
    for nth in 0..3 {
        client.say(request("POST /v1/events?a=%20b", "Content-Length: 2\r\n", "hi")).await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (202, "POST /v1/events Some(\"a=%20b\") hi"));
        assert_eq!(answer.header("x-request-id"), Some(format!("made-{nth}").as_str()));
        assert!(answer.header("date").is_some());
    }
    client.say(request("POST /v1/events", "Transfer-Encoding: chunked\r\n", "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")).await;
    assert!(client.answer().await.unwrap().body.ends_with(" abc"));
    client.say(request("GET /v1/webhooks", "X-Request-Id: mine\r\n", "")).await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("x-request-id")), (200, Some("mine")));
    client.say(request("GET /v1/webhooks", "X-Request-Id: not mine\r\n", "")).await;
    assert!(client.answer().await.unwrap().header("x-request-id").unwrap().starts_with("made-"));
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let running = run(limits()).await;
    let mut client = running.connect().await;
    client.say(request("HEAD /v1/webhooks", "", "")).await;
    let answer = client.answer_to(&Method::HEAD).await.unwrap();
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("22")));
    client.say(request("GET /v1/webhooks", "", "")).await;
    assert_eq!(client.answer().await.unwrap().body.len(), 22);
}

#[tokio::test]
async fn requests_that_do_not_wait_are_answered_in_order() {
    let running = run(limits()).await;
    let mut client = running.connect().await;
    let sized = request("POST /v1/events", "Content-Length: 1\r\n", "1");
    let chunked = request("POST /v1/events", "Transfer-Encoding: chunked\r\n", "1\r\n2\r\n0\r\n\r\n");
    client.say(sized + &chunked + &request("GET /v1/webhooks", "", "")).await;
    for end in [" 1", " 2", " "] {
        let answer = client.answer().await.unwrap();
        assert!(answer.body.ends_with(end), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_refused_request_leaves_the_connection_usable_where_its_body_came_along() {
    let running = run(limits()).await;
    let mut client = running.connect().await;
    for _ in 0..2 {
        client.say("POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi").await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (401, "refused"));
    }
    client.say(request("GET /v1/webhooks", "", "")).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_client_that_expects_a_continue_gets_it() {
    let running = run(limits()).await;
    let mut client = running.connect().await;
    let asking = request("POST /v1/events", "Expect: 100-continue\r\nContent-Length: 2\r\n", "");
    client.say(&asking).await;
    assert_eq!(client.answer().await.unwrap().status, 100);
    client.say("hi").await;
    assert!(client.answer().await.unwrap().body.ends_with(" hi"));

    let answer = running.request(asking.replace("Bearer k", "Bearer no")).await.unwrap();
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn a_half_closed_client_still_gets_its_answer() {
    let running = run(limits()).await;
    let mut client = running.connect().await;
    client.say(request("POST /v1/events", "Content-Length: 2\r\n", "hi")).await;
    client.tcp.shutdown().await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 202);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_head_or_body_that_takes_too_long_is_refused_and_closed() {
    let running = run(ServerLimits { head_read: BRIEF, body_read: BRIEF, ..limits() }).await;
    let slow_body = request("POST /v1/events", "Content-Length: 10\r\n", "half");
    for bytes in ["G", "GET /healthz HTTP/1.1\r\nHost: localho", &slow_body] {
        let mut client = running.connect().await;
        client.say(bytes).await;
        let answer = client.answer().await.unwrap_or_else(|| panic!("{bytes}: no answer"));
        assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"), "{bytes}");
        assert!(client.is_closed().await, "{bytes}");
    }
    // A silent connection is closed without an answer.
    assert!(running.connect().await.is_closed().await);
}

#[tokio::test]
async fn a_second_head_has_its_own_deadline_and_idling_another() {
    let running = run(ServerLimits { idle: BRIEF, ..limits() }).await;
    let mut client = running.connect().await;
    client.say(request("GET /v1/webhooks", "", "")).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    assert!(client.is_closed().await);

    let running = run(ServerLimits { head_read: BRIEF, ..limits() }).await;
    let mut client = running.connect().await;
    client.say(request("GET /v1/webhooks", "", "") + "GET /slow").await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    client.say("er HTTP/1.1\r\n").await;
    assert_eq!(client.answer().await.unwrap().status, 408);
}

#[tokio::test]
async fn a_service_that_takes_long_is_waited_for() {
    let running =
        run(ServerLimits { head_read: BRIEF, body_read: BRIEF, idle: BRIEF, reply_stall: BRIEF, ..limits() }).await;
    let mut client = running.connect().await;
    client.say(request("GET /wait", "", "")).await;
    running.service.waiting.notified().await;
    // The wait exceeds every deadline. None runs while the service works.
    assert!(tokio::time::timeout(BRIEF * 3, client.tcp.readable()).await.is_err());
    running.service.go.notify_one();
    assert_eq!(client.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_given_up() {
    let running = run(ServerLimits { reply_stall: BRIEF, ..limits() }).await;
    let mut client = running.connect().await;
    client.say(request("GET /large", "", "")).await;
    running.service.gone.notified().await;
    let mut taken = Vec::new();
    let _ = client.tcp.read_to_end(&mut taken).await;
    assert!(taken.len() < 64 << 20);
}

#[tokio::test]
async fn an_answer_that_is_read_slowly_is_not() {
    let running = run(ServerLimits { reply_stall: BRIEF * 4, ..limits() }).await;
    let mut client = running.connect().await;
    client.say(request("GET /large", "Connection: close\r\n", "")).await;
    let (mut taken, mut piece) = (0, vec![0; 4 << 20]);
    loop {
        let read = client.tcp.read(&mut piece).await.unwrap();
        taken += read;
        if read == 0 {
            break;
        }
        // The whole read takes longer than a peer may stall, and no pause does.
        if taken % (4 << 20) < read {
            tokio::time::sleep(BRIEF / 2).await;
        }
    }
    assert!(taken > 64 << 20);
}

#[tokio::test]
async fn a_refused_client_that_is_still_sending_sees_an_end_and_no_reset() {
    let running = run(limits()).await;
    let mut client = running.connect().await;
    let body = "x".repeat(200_000);
    client.say(request("POST /v1/events", &format!("Content-Length: {}\r\n", body.len()), &body)).await;
    assert_eq!(client.answer().await.unwrap().status, 413);
    assert_eq!(client.tcp.read(&mut [0]).await.unwrap(), 0);
    // The server has closed its side. A reset connection would accept nothing more.
    client.tcp.write_all(b"the rest").await.unwrap();
}

#[tokio::test]
async fn a_drain_finishes_running_requests_and_refuses_new_ones() {
    let running = run(limits()).await;
    let (mut busy, mut idle) = (running.connect().await, running.connect().await);
    idle.say(request("GET /v1/webhooks", "", "")).await;
    idle.answer().await.unwrap();
    let mut silent = running.connect().await;
    busy.say(request("GET /wait", "", "")).await;
    running.service.waiting.notified().await;

    let draining = tokio::spawn(running.server.drain(Instant::now() + Duration::from_secs(60)));
    assert!(idle.is_closed().await);
    assert!(silent.is_closed().await);
    assert!(TcpStream::connect(running.addr).await.is_err());
    running.service.go.notify_one();
    let answer = busy.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(busy.is_closed().await);
    assert_eq!(draining.await.unwrap(), 0);
}

#[tokio::test]
async fn a_drain_cuts_requests_that_are_not_done_in_time() {
    let running = run(limits()).await;
    let mut busy = running.connect().await;
    busy.say(request("GET /wait", "", "")).await;
    running.service.waiting.notified().await;
    assert_eq!(running.server.drain(Instant::now() + BRIEF).await, 1);
    assert!(busy.is_closed().await);
}

#[tokio::test]
async fn a_drain_does_not_wait_for_the_rest_of_a_head() {
    let running = run(limits()).await;
    let mut late = running.connect().await;
    late.say(b"GET /v1/webhooks HTTP/1.1\r\nHost: ".as_slice()).await;
    // The server has read the bytes once it has answered another client.
    let mut other = running.connect().await;
    other.say(request("GET /v1/webhooks", "", "")).await;
    other.answer().await.unwrap();
    // The limit of a head is longer than this deadline.
    assert_eq!(running.server.drain(Instant::now() + Duration::from_secs(15)).await, 0);
}

/// Fails as a machine without descriptors does, then accepts.
struct Exhausted {
    failures: u32,
    inner: Box<dyn Listener>,
}

impl Listener for Exhausted {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Conn>, Peer)>> {
        if self.failures == 0 {
            return self.inner.accept();
        }
        self.failures -= 1;
        let error = if self.failures.is_multiple_of(2) { Errno::MFILE } else { Errno::CONNABORTED };
        Box::pin(std::future::ready(Err(error.into())))
    }

    fn local_addr(&self) -> ListenAddr {
        self.inner.local_addr()
    }
}

#[tokio::test]
async fn accepting_survives_shortages_of_the_machine() {
    let inner = RealNetwork.listen(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    let ListenAddr::Tcp(addr) = inner.local_addr() else { panic!("not TCP") };
    let listener = Exhausted { failures: 4, inner };
    let server = Server::start(Arc::new(EchoService::default()), vec![Box::new(listener)], limits());
    let mut client = TestClient { tcp: TcpStream::connect(addr).await.unwrap(), read: Vec::new() };
    client.say(request("GET /v1/webhooks", "", "")).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    drop(server);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_unix_socket_skips_host_and_origin_and_a_loopback_listener_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = RealNetwork.listen(&ListenAddr::Unix(path.clone())).await.unwrap();
    let _server = Server::start(Arc::new(EchoService::default()), vec![listener], limits());
    let foreign = request("GET /v1/webhooks", "Origin: https://evil.example\r\nConnection: close\r\n", "");
    let foreign = foreign.replace("localhost", "evil.example");
    let mut unix = UnixStream::connect(&path).await.unwrap();
    unix.write_all(foreign.as_bytes()).await.unwrap();
    let mut answer = String::new();
    unix.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    let running = run(limits()).await;
    assert_eq!(running.request(&foreign).await.unwrap().status, 421);
    assert_eq!(running.request(foreign.replace("Host: evil.example", "Host: localhost")).await.unwrap().status, 403);
}
