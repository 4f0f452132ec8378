//! Reuse of connections, which never sends a request twice.

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
use crate::engine::sender::pool::PoolLookup;
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
        let receiver = TestReceiver::responding(answer).await;
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
async fn concurrent_requests_have_a_connection_each_and_all_return_to_the_pool() {
    let receiver = TestReceiver::responding(OK).await;
    let sender = sender();
    let request = post(&receiver.url(), PATIENT);
    let (a, b, c) = tokio::join!(sender.send(&request), sender.send(&request), sender.send(&request));
    assert!([a, b, c].iter().all(|got| got.status_code == Some(200)));
    assert_eq!((receiver.connections(), sender.idle_connections()), (3, 3));
}

#[tokio::test]
async fn a_connection_that_its_response_closes_is_not_reused() {
    let close = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    for answer in [close, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"] {
        let receiver = TestReceiver::responding(answer).await;
        let sender = sender();
        for _ in 0..2 {
            assert_eq!(sender.send(&post(&receiver.url(), PATIENT)).await.status_code, Some(200));
        }
        assert_eq!((receiver.connections(), sender.idle_connections()), (2, 0));
    }
}

#[tokio::test]
async fn a_connection_with_bytes_after_the_response_is_not_reused() {
    let receiver = TestReceiver::responding(format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")).await;
    let sender = sender();
    for _ in 0..2 {
        let got = sender.send(&post(&receiver.url(), PATIENT)).await;
        assert_eq!(got.response_body, b"ok");
    }
    assert_eq!(receiver.connections(), 2);
}

/// Responds to one request per connection, closes it after `close`, and notifies `closed`.
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
    let other = TestReceiver::responding(OK).await;
    let sender = sender();
    for nth in 1..=3 {
        let got = sender.send(&post(&receiver.url(), PATIENT)).await;
        assert_eq!((got.outcome, got.status_code), (AttemptOutcome::HttpStatus, Some(200)), "request {nth}");
        assert!(got.timings.connect.is_some());
        assert_eq!(receiver.requests().len(), nth);
        close.notify_one();
        closed.notified().await;
        // The receiver has closed its end. A round trip elsewhere makes the runtime poll its sockets.
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
        // The second request is read, and the connection is closed without a response.
        stream.request().await;
    })
    .await;
    let sender = sender();
    assert_eq!(sender.send(&post(&receiver.url(), PATIENT)).await.status_code, Some(200));
    let got = sender.send(&post(&receiver.url(), PATIENT)).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::ConnectReset, None));
    assert_eq!((receiver.connections(), receiver.requests().len()), (1, 2));
}

#[tokio::test]
async fn a_connection_is_not_reused_in_the_last_second_that_its_receiver_allows() {
    for (header, life_s) in [
        ("Keep-Alive: timeout=5", 4),
        ("Keep-Alive: max=100, timeout=20", 19),
        ("Keep-Alive: timeout=3600", IDLE_LIFE.as_secs()),
        ("Keep-Alive: max=100", IDLE_LIFE.as_secs()),
    ] {
        let receiver =
            TestReceiver::responding(format!("HTTP/1.1 200 OK\r\n{header}\r\nContent-Length: 2\r\n\r\nok")).await;
        let sender = sender();
        let request = post(&receiver.url(), PATIENT);
        for _ in 0..2 {
            let before = Instant::now();
            assert_eq!(sender.send(&request).await.status_code, Some(200));
            sender.pool.sweep(before + Duration::from_secs(life_s) - Duration::from_millis(1));
            assert_eq!((receiver.connections(), sender.idle_connections()), (1, 1), "{header}");
        }
        let late = Instant::now() + Duration::from_secs(life_s);
        let found = sender.pool.find(&request.target.origin, late);
        assert!(matches!(found, PoolLookup::Routes(None, _)), "{header}");
        sender.pool.sweep(late);
        assert_eq!(sender.idle_connections(), 0, "{header}");
    }
}

#[tokio::test]
async fn a_connection_with_a_keep_alive_of_one_second_is_not_reused() {
    for header in ["Keep-Alive: timeout=1", "Keep-Alive: timeout=0, max=5"] {
        let receiver =
            TestReceiver::responding(format!("HTTP/1.1 200 OK\r\n{header}\r\nContent-Length: 2\r\n\r\nok")).await;
        let sender = sender();
        for _ in 0..2 {
            assert_eq!(sender.send(&post(&receiver.url(), PATIENT)).await.status_code, Some(200));
        }
        assert_eq!((receiver.connections(), sender.idle_connections()), (2, 0), "{header}");
    }
}

/// Responds with `OK` to the first request of the first connection, and with `late` to the second. Every other connection
/// gets `then`.
async fn timing_out(late: &'static str, then: &'static str) -> TestReceiver {
    let connections = Arc::new(AtomicUsize::new(0));
    TestReceiver::start(move |mut stream| {
        let is_first = connections.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            stream.request().await;
            stream.say(if is_first { OK } else { then }).await;
            if stream.request().await.is_some() {
                stream.say(late).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_408_of_a_reused_connection_is_a_close_and_the_request_goes_again() {
    for late in [
        "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 408 Request Time-out\r\nCache-Control: no-cache\r\n\r\n<html><body>408</body></html>",
        "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 408 Request Timeout\r\nContent-Length: 9\r\n\r\ncut",
    ] {
        let receiver = timing_out(late, OK).await;
        let sender = sender();
        assert_eq!(sender.send(&post(&receiver.url(), PATIENT)).await.status_code, Some(200));
        let got = sender.send(&post(&receiver.url(), PATIENT)).await;
        assert_eq!((got.outcome, got.status_code), (AttemptOutcome::HttpStatus, Some(200)), "{late:?}");
        assert_eq!((&got.response_body[..], got.retry_after), (&b"ok"[..], None), "{late:?}");
        assert!(got.timings.connect.is_some(), "{late:?}");
        let requests = receiver.requests();
        assert_eq!((receiver.connections(), requests.len()), (2, 3), "{late:?}");
        assert_eq!(requests[1], requests[2], "{late:?}");
    }
}

#[tokio::test]
async fn a_408_of_a_new_connection_is_the_answer() {
    const LATE: &str = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    let receiver = TestReceiver::responding(LATE).await;
    let sender = sender();
    assert_eq!(sender.send(&post(&receiver.url(), PATIENT)).await.status_code, Some(408));
    assert_eq!((receiver.connections(), receiver.requests().len()), (1, 1));
    let receiver = timing_out(LATE, LATE).await;
    let got = [
        sender.send(&post(&receiver.url(), PATIENT)).await.status_code,
        sender.send(&post(&receiver.url(), PATIENT)).await.status_code,
    ];
    assert_eq!(got, [Some(200), Some(408)]);
    assert_eq!((receiver.connections(), receiver.requests().len()), (2, 3), "it is sent again once");
}

/// The real network, except that the first connection accepts no byte after its first write.
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.writes_left == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.writes_left -= 1;
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_request_of_which_no_byte_was_written_is_sent_on_a_new_connection() {
    let receiver = TestReceiver::responding(OK).await;
    let sender = Sender::new(Arc::new(Breaking::default()), Arc::new(AllowAll)).unwrap();
    for nth in 1..=3 {
        let got = sender.send(&post(&receiver.url(), PATIENT)).await;
        assert_eq!((got.outcome, got.status_code), (AttemptOutcome::HttpStatus, Some(200)), "request {nth}");
        assert_eq!(got.timings.connect.is_some(), nth < 3);
    }
    assert_eq!((receiver.connections(), receiver.requests().len()), (2, 3));
}

#[tokio::test]
async fn an_abandoned_connection_is_closed() {
    let gone = Arc::new(Notify::new());
    let on_close = gone.clone();
    let receiver = TestReceiver::start(move |mut stream| {
        let on_close = on_close.clone();
        async move {
            stream.request().await;
            stream.stay_silent().await;
            on_close.notify_one();
        }
    })
    .await;
    let sender = sender();
    assert_eq!(sender.send(&post(&receiver.url(), BRIEF)).await.outcome, AttemptOutcome::Timeout);
    gone.notified().await;
    assert_eq!(sender.idle_connections(), 0);
}

#[tokio::test]
async fn the_sweep_closes_expired_and_closed_connections() {
    let (close, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let alive = TestReceiver::responding(OK).await;
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
