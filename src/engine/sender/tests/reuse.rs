//! Connections are used again, and what was sent on them is never sent twice.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::engine::network::{BoxFuture, Conn, ListenAddr, Listener, Network, RealNetwork};
use crate::engine::sender::limits::IDLE_LIFE;
use crate::engine::sender::tests::receiver::TestReceiver;
use crate::engine::sender::tests::{AllowAll, BRIEF, PATIENT, post, sender};
use crate::engine::sender::{RESPONSE_BODY_BYTES_MAX, Sender};
use crate::model::AttemptOutcome;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn requests_one_after_another_share_a_connection() {
    let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n{}", "x".repeat(RESPONSE_BODY_BYTES_MAX));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: t\r\n\r\n";
    for answer in [OK, "HTTP/1.1 204 No Content\r\n\r\n", chunked, &whole] {
        let receiver = TestReceiver::answering(answer).await;
        let sender = sender();
        for nth in 1..=3 {
            let got = sender.send(&post(&receiver.url(), PATIENT)).await;
            assert_eq!(got.outcome, AttemptOutcome::HttpStatus);
            assert_eq!(got.timings.connect.is_none(), nth > 1, "request {nth}");
            assert_eq!(got.remote_addr, Some(receiver.addr));
        }
        assert_eq!((receiver.connections(), receiver.requests().len()), (1, 3));
        assert_eq!(sender.idle_connections(), 1);
    }
}

#[tokio::test]
async fn requests_at_once_have_a_connection_each_and_all_are_kept() {
    let receiver = TestReceiver::answering(OK).await;
    let sender = sender();
    let request = post(&receiver.url(), PATIENT);
    let (a, b, c) = tokio::join!(sender.send(&request), sender.send(&request), sender.send(&request));
    assert!([a, b, c].iter().all(|got| got.status_code == Some(200)));
    assert_eq!((receiver.connections(), sender.idle_connections()), (3, 3));
}

#[tokio::test]
async fn an_answer_that_closes_is_not_kept() {
    let close = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    for answer in [close, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"] {
        let receiver = TestReceiver::answering(answer).await;
        let sender = sender();
        for _ in 0..2 {
            assert_eq!(sender.send(&post(&receiver.url(), PATIENT)).await.status_code, Some(200));
        }
        assert_eq!((receiver.connections(), sender.idle_connections()), (2, 0));
    }
}

#[tokio::test]
async fn bytes_after_the_answer_spoil_the_connection() {
    let receiver = TestReceiver::answering(format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")).await;
    let sender = sender();
    for _ in 0..2 {
        let got = sender.send(&post(&receiver.url(), PATIENT)).await;
        assert_eq!(got.response_body, b"ok");
    }
    assert_eq!(receiver.connections(), 2);
}

/// Answers one request per connection, closes it when `close` says so, and says `closed`.
async fn closing_after_one(close: Arc<Notify>, closed: Arc<Notify>) -> TestReceiver {
    TestReceiver::start(move |mut stream| {
        let (close, closed) = (close.clone(), closed.clone());
        async move {
            stream.request().await;
            stream.say(OK).await;
            close.notified().await;
            drop(stream);
            closed.notify_one();
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_no_attempt() {
    let (close, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let receiver = closing_after_one(close.clone(), closed.clone()).await;
    let other = TestReceiver::answering(OK).await;
    let sender = sender();
    for nth in 1..=3 {
        let got = sender.send(&post(&receiver.url(), PATIENT)).await;
        assert_eq!((got.outcome, got.status_code), (AttemptOutcome::HttpStatus, Some(200)), "request {nth}");
        assert!(got.timings.connect.is_some());
        assert_eq!(receiver.requests().len(), nth);
        close.notify_one();
        closed.notified().await;
        // Its end of the connection is closed; a round trip elsewhere makes the runtime look at its sockets.
        sender.send(&post(&other.url(), PATIENT)).await;
        assert_eq!(sender.idle_connections(), 2);
    }
    assert_eq!(receiver.connections(), 3);
}

#[tokio::test]
async fn a_request_that_may_have_been_read_is_not_sent_again() {
    let receiver = TestReceiver::start(|mut stream| async move {
        stream.request().await;
        stream.say(OK).await;
        // The second one is read, and the connection closed without an answer.
        stream.request().await;
    })
    .await;
    let sender = sender();
    assert_eq!(sender.send(&post(&receiver.url(), PATIENT)).await.status_code, Some(200));
    let got = sender.send(&post(&receiver.url(), PATIENT)).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::ConnectReset, None));
    assert_eq!((receiver.connections(), receiver.requests().len()), (1, 2));
}

/// The real network, but the first connection takes nothing after its first write.
#[derive(Default)]
struct Breaking {
    connections: AtomicUsize,
}

struct BreakingConn {
    inner: Box<dyn Conn>,
    writes_left: usize,
}

impl Network for Breaking {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Conn>>> {
        let is_first = self.connections.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move {
            let inner = RealNetwork.connect(addr).await?;
            Ok(Box::new(BreakingConn { inner, writes_left: if is_first { 1 } else { usize::MAX } }) as Box<dyn Conn>)
        })
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::NotFound.into())))
    }

    fn listen<'a>(&'a self, _: &'a ListenAddr) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }
}

impl AsyncRead for BreakingConn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl AsyncWrite for BreakingConn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.writes_left == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.writes_left -= 1;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_request_of_which_the_socket_took_nothing_goes_on_a_new_connection() {
    let receiver = TestReceiver::answering(OK).await;
    let sender = Sender::new(Arc::new(Breaking::default()), Arc::new(AllowAll)).unwrap();
    for nth in 1..=3 {
        let got = sender.send(&post(&receiver.url(), PATIENT)).await;
        assert_eq!((got.outcome, got.status_code), (AttemptOutcome::HttpStatus, Some(200)), "request {nth}");
        assert_eq!(got.timings.connect.is_some(), nth < 3);
    }
    assert_eq!((receiver.connections(), receiver.requests().len()), (2, 3));
}

#[tokio::test]
async fn a_connection_given_up_is_closed_and_not_kept() {
    let gone = Arc::new(Notify::new());
    let told = gone.clone();
    let receiver = TestReceiver::start(move |mut stream| {
        let told = told.clone();
        async move {
            stream.request().await;
            stream.hold().await;
            told.notify_one();
        }
    })
    .await;
    let sender = sender();
    assert_eq!(sender.send(&post(&receiver.url(), BRIEF)).await.outcome, AttemptOutcome::Timeout);
    gone.notified().await;
    assert_eq!(sender.idle_connections(), 0);
}

#[tokio::test]
async fn the_sweep_closes_what_is_old_or_closed() {
    let (close, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let alive = TestReceiver::answering(OK).await;
    let dead = closing_after_one(close.clone(), closed.clone()).await;
    let sender = sender();
    sender.send(&post(&dead.url(), PATIENT)).await;
    close.notify_one();
    closed.notified().await;
    sender.send(&post(&alive.url(), PATIENT)).await;
    assert_eq!(sender.idle_connections(), 2);
    sender.pool.sweep(Instant::now());
    assert_eq!(sender.idle_connections(), 1);
    sender.pool.sweep(Instant::now() + IDLE_LIFE - Duration::from_secs(1));
    assert_eq!(sender.idle_connections(), 1);
    sender.pool.sweep(Instant::now() + IDLE_LIFE);
    assert_eq!(sender.idle_connections(), 0);
}
