//! Answers of a receiver: any bytes, then the end. The sender makes one exchange with them, within its limits.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider::engine::network::{BoxFuture, Conn, ListenAddr, Listener, Network};
use postrider::engine::sender::{
    AddressGuard, HeaderLines, OutboundRequest, RESPONSE_BODY_BYTES_MAX, RESPONSE_HEADERS_STORED_BYTES_MAX,
    RESPONSE_HEADERS_STORED_MAX, SendTarget, Sender,
};
use postrider::model::AttemptOutcome;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Never reached, because the receiver closes after its last byte.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A network whose connections all lead to a receiver that sends these bytes.
struct Scripted(Mutex<Arc<[u8]>>);

impl Network for Scripted {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Conn>>> {
        let words = self.0.lock().expect("the lock is not poisoned").clone();
        Box::pin(async move {
            let (ours, mut theirs) = tokio::io::duplex(64 << 10);
            tokio::spawn(async move {
                let mut head = [0; 16 << 10];
                // The sender may have closed the connection already.
                let _ = theirs.read(&mut head).await;
                let _ = theirs.write_all(&words).await;
                let _ = theirs.shutdown().await;
            });
            Ok(Box::new(ours) as Box<dyn Conn>)
        })
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::ready(Ok(vec![IpAddr::from([127, 0, 0, 1])])))
    }

    fn listen<'a>(&'a self, _: &'a ListenAddr) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }
}

struct AllowAll;

impl AddressGuard for AllowAll {
    fn allows(&self, _: &str, _: &[IpAddr], _: u16) -> bool {
        true
    }

    fn allows_unresolved(&self, _: &str, _: u16) -> bool {
        true
    }
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
}

/// One exchange with a receiver that sends these bytes.
pub fn answers(bytes: &[u8]) {
    let network = Arc::new(Scripted(Mutex::new(bytes.into())));
    let exchange = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let sender = Sender::new(network, Arc::new(AllowAll)).expect("a sender");
            let request = OutboundRequest {
                method: http::Method::POST,
                target: SendTarget::parse("http://receiver.example/", None).expect("a target"),
                headers: HeaderLines::default(),
                body: bytes::Bytes::from_static(b"{}"),
                timeout: TIMEOUT,
                connect_timeout: TIMEOUT,
            };
            sender.send(&request).await
        })
    });
    assert!(exchange.response_body.len() <= RESPONSE_BODY_BYTES_MAX);
    assert!(exchange.response_headers.len() <= RESPONSE_HEADERS_STORED_MAX);
    let kept: usize = exchange.response_headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    // A byte of invalid text takes up to three bytes.
    assert!(kept <= 3 * RESPONSE_HEADERS_STORED_BYTES_MAX, "{kept}");
    assert_ne!(exchange.outcome, AttemptOutcome::Timeout);
    assert_eq!(
        exchange.outcome == AttemptOutcome::HttpStatus,
        exchange.error.is_none() || exchange.detail.is_none() && exchange.status_code.is_some()
    );
    if exchange.outcome == AttemptOutcome::HttpStatus {
        assert!(exchange.status_code.is_some_and(|status| (100..1_000).contains(&status)));
    }
}
