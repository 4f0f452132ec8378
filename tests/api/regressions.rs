//! Bugs of the daemon itself, and a resolver that never answers. A panic of an attempt costs one attempt. A panic of a
//! critical task ends the process, and the next start recovers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postrider::engine::clock::Clock;
use postrider::engine::network::{BoxFuture, Conn, ListenAddr, Listener, Network, Peer, RealNetwork};
use postrider::model::Time;
use serde_json::json;

use crate::support::daemon::{text, value};
use crate::support::{Receiver, TestDaemon, eventually, in_time};

/// `EMFILE`: the process has no free file descriptor.
const ERROR_OF_DESCRIPTORS: i32 = 24;
/// Connecting to this port panics.
const BAD_PORT: u16 = 18_009;
/// A resolver asked for this name never answers.
const HANGING_NAME: &str = "hangs.example";

/// A listener that panics at the next connection once `is_bad` is set.
struct BadListener {
    inner: Box<dyn Listener>,
    is_bad: Arc<AtomicBool>,
}

impl Listener for BadListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Conn>, Peer)>> {
        Box::pin(async move {
            let accepted = self.inner.accept().await;
            assert!(!self.is_bad.load(Ordering::Relaxed), "the panic of this test");
            accepted
        })
    }

    fn local_addr(&self) -> ListenAddr {
        self.inner.local_addr()
    }
}

#[derive(Default)]
struct BadNetwork {
    listener_is_bad: Arc<AtomicBool>,
    lacks_descriptors: Arc<AtomicBool>,
}

impl Network for BadNetwork {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Conn>>> {
        assert_ne!(addr.port(), BAD_PORT, "the panic of this test");
        if self.lacks_descriptors.load(Ordering::Relaxed) {
            return Box::pin(std::future::ready(Err(io::Error::from_raw_os_error(ERROR_OF_DESCRIPTORS))));
        }
        Box::pin(async move { RealNetwork.connect(addr).await })
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        match host {
            HANGING_NAME => Box::pin(std::future::pending()),
            _ => Box::pin(async move { RealNetwork.resolve(host, port).await }),
        }
    }

    fn listen<'a>(&'a self, at: &'a ListenAddr) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let inner = RealNetwork.listen(at).await?;
            Ok(Box::new(BadListener { inner, is_bad: self.listener_is_bad.clone() }) as Box<dyn Listener>)
        })
    }
}

/// A clock that panics when the chosen thread reads it.
struct BadClock {
    inner: Arc<dyn Clock>,
    is_bad: Arc<AtomicBool>,
    of_writer: bool,
}

impl BadClock {
    fn look(&self) {
        let is_writer = std::thread::current().name() == Some("writer");
        let panics = is_writer == self.of_writer && self.is_bad.swap(false, Ordering::Relaxed);
        assert!(!panics, "the panic of this test");
    }
}

impl Clock for BadClock {
    fn now(&self) -> Time {
        if self.of_writer && std::thread::current().name() == Some("writer") {
            self.look();
        }
        self.inner.now()
    }

    fn monotonic_ms(&self) -> i64 {
        self.inner.monotonic_ms()
    }

    fn pause(&self, ms: i64) -> BoxFuture<'_, ()> {
        if !self.of_writer {
            self.look();
        }
        self.inner.pause(ms)
    }
}

#[tokio::test]
async fn a_panicking_attempt_fails_and_affects_no_other() {
    let daemon = TestDaemon::within(|world| world.network = Arc::new(BadNetwork::default())).await;
    let receiver = Receiver::start().await;
    let bad = daemon
        .webhook(&format!("http://127.0.0.1:{BAD_PORT}/"), json!({ "retry_schedule_s": [], "event_types": ["bad"] }))
        .await;
    daemon.webhook(&receiver.url(), json!({ "event_types": ["good"] })).await;
    for _ in 0..3 {
        let event = daemon.publish("bad", json!({})).await;
        let delivery = daemon.delivery_in(&event, "failed").await;
        assert_eq!(delivery["last_outcome"], "request_error", "{delivery}");
        assert_eq!(delivery["attempts"], 1, "{delivery}");
        let event = daemon.publish("good", json!({})).await;
        daemon.delivery_in(&event, "delivered").await;
    }
    assert_eq!(daemon.read_webhook(&bad).await["consecutive_failures"], 0, "the receiver is not judged by a bug");
}

#[tokio::test]
async fn a_shortage_of_descriptors_is_no_attempt_and_the_delivery_goes_once_it_is_over() {
    let lacks = Arc::new(AtomicBool::new(true));
    let shared = lacks.clone();
    let daemon = TestDaemon::within(move |world| {
        world.network = Arc::new(BadNetwork { lacks_descriptors: shared.clone(), ..BadNetwork::default() });
    })
    .await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "retry_schedule_s": [] })).await;
    let event = daemon.publish("a", json!({})).await;
    let series = r#"postrider_requests_held_back_total{reason="file_descriptors"}"#;
    eventually("the shortage is counted", async || {
        (value(&daemon.client.metrics().await, series) >= 1.0).then_some(())
    })
    .await;
    let ready = daemon.client.get("/readyz").await;
    assert!(ready.to_string().contains("sending_held_back"), "{ready}");
    let delivery = &daemon.deliveries(&event).await[0];
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("pending"), &json!(0)), "{delivery}");
    assert_eq!(daemon.read_webhook(&webhook).await["consecutive_failures"], 0);
    lacks.store(false, Ordering::Relaxed);
    daemon.advance_s(2);
    let delivery = daemon.delivery_in(&event, "delivered").await;
    assert_eq!(delivery["attempts"], 1, "{delivery}");
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn data_that_fits_into_no_url_ends_the_delivery_and_judges_no_webhook() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "method": "get" })).await;
    let event = daemon.publish("a", json!({ "text": "x".repeat(70_000) })).await;
    let delivery = daemon.delivery_in(&event, "failed").await;
    assert_eq!(delivery["attempts"], 1, "{delivery}");
    assert!(delivery["last_error"].as_str().is_some_and(|error| error.contains("65534 bytes")), "{delivery}");
    let fix = &delivery["reason"]["fix"];
    assert!(fix.as_str().is_some_and(|fix| fix.contains("another method")), "{delivery}");
    assert_eq!(daemon.read_webhook(&webhook).await["consecutive_failures"], 0);
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn a_header_of_the_webhook_takes_the_place_of_the_default() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let own = json!({ "User-Agent": "Own/1", "Accept": "text/plain" });
    let ours = concat!("Postrider/", env!("CARGO_PKG_VERSION"));
    for (headers, agent, accept) in [(json!({}), ours, "*/*"), (own, "Own/1", "text/plain")] {
        let webhook = daemon.webhook(&receiver.url(), json!({ "headers": headers })).await;
        daemon.publish("a", json!({})).await;
        let request = receiver.next().await;
        for (name, expected) in [("user-agent", agent), ("accept", accept)] {
            let is_it = |(sent, _): &&(String, String)| sent.eq_ignore_ascii_case(name);
            let sent: Vec<&str> = request.headers.iter().filter(is_it).map(|(_, value)| value.as_str()).collect();
            assert_eq!(sent, [expected], "{name}");
        }
        daemon.client.delete(&format!("/v1/webhooks/{}", text(&webhook, "id"))).await;
    }
}

#[tokio::test]
async fn a_resolver_that_never_answers_costs_its_own_webhook_a_timeout() {
    let daemon = TestDaemon::within(|world| world.network = Arc::new(BadNetwork::default())).await;
    let receiver = Receiver::start().await;
    let fields = json!({ "retry_schedule_s": [], "timeout_ms": 1_000, "event_types": ["hangs"] });
    daemon.webhook(&format!("https://{HANGING_NAME}/"), fields).await;
    daemon.webhook(&receiver.url(), json!({ "event_types": ["good"] })).await;
    let mut hanging = Vec::new();
    for _ in 0..30 {
        hanging.push(daemon.publish("hangs", json!({})).await);
    }
    // Other deliveries do not wait for them.
    let event = daemon.publish("good", json!({})).await;
    daemon.delivery_in(&event, "delivered").await;
    let delivery = daemon.delivery_in(&hanging[0], "failed").await;
    assert_eq!(delivery["last_outcome"], "dns_error", "{delivery}");
    assert!(text(&delivery, "last_error").ends_with("[dns_timeout]"), "{delivery}");
}

/// Publishes, makes the chosen part panic, and expects the end of the daemon. Accepted events exist after the next
/// start.
async fn crash(of_writer: bool) {
    let is_bad = Arc::new(AtomicBool::new(false));
    let told = is_bad.clone();
    let mut daemon = TestDaemon::within(move |world| {
        world.clock = Arc::new(BadClock { inner: world.clock.clone(), is_bad: told.clone(), of_writer });
    })
    .await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let mut accepted = vec![daemon.publish("a", json!({})).await];
    daemon.delivery_in(&accepted[0], "delivered").await;
    is_bad.store(true, Ordering::Relaxed);
    // The scheduler sets its alarm again after a step of the clock.
    daemon.advance_s(2);
    let answer = daemon.try_post("/v1/events", json!({ "type": "a", "data": {} })).await;
    match answer.status.as_u16() {
        202 => accepted.push(answer.json()),
        status => assert!(status >= 500, "{status}"),
    }
    in_time("the daemon says that it must end", daemon.has_crashed()).await;
    daemon.stop(Duration::ZERO).await;
    daemon.start_again().await;
    for event in &accepted {
        daemon.delivery_in(event, "delivered").await;
    }
}

#[tokio::test]
async fn a_writer_that_panics_ends_the_daemon_with_everything_kept() {
    crash(true).await;
}

#[tokio::test]
async fn a_scheduler_that_panics_ends_the_daemon_with_everything_kept() {
    crash(false).await;
}

#[tokio::test]
async fn a_daemon_that_takes_no_more_connections_ends() {
    let is_bad = Arc::new(AtomicBool::new(false));
    let told = is_bad.clone();
    let mut daemon = TestDaemon::within(move |world| {
        world.network = Arc::new(BadNetwork { listener_is_bad: told.clone(), ..BadNetwork::default() });
    })
    .await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    let event = daemon.publish("a", json!({})).await;
    is_bad.store(true, Ordering::Relaxed);
    drop(tokio::net::TcpStream::connect(daemon.address).await);
    in_time("it says so", daemon.has_crashed()).await;
    daemon.stop(Duration::ZERO).await;
    is_bad.store(false, Ordering::Relaxed);
    daemon.start_again().await;
    daemon.delivery_in(&event, "delivered").await;
}

#[tokio::test]
async fn a_filter_of_the_audit_that_is_too_long_is_refused() {
    let daemon = TestDaemon::start().await;
    for name in ["action", "target"] {
        let ask = |length| format!("/v1/audit?{name}={}", "0".repeat(length));
        assert_eq!(daemon.try_get(&ask(128)).await.status, 200, "{name}");
        assert_eq!(daemon.try_get(&ask(129)).await.status, 400, "{name}");
    }
}
