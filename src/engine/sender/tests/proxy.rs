//! Requests through a proxy on a real socket that tunnels, forwards, refuses or misbehaves.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::engine::network::{BoxFuture, Conn, ListenAddr, Listener, Network, RealNetwork};
use crate::engine::sender::connectivity::Connectivity;
use crate::engine::sender::limits::{INTERIM_ANSWERS_MAX, PROXY_SILENCE_MIN};
use crate::engine::sender::pool::Pool;
use crate::engine::sender::tests::receiver::{Stream, TestReceiver};
use crate::engine::sender::tests::tls::{Authority, secure_receiver};
use crate::engine::sender::tests::{AllowAll, BRIEF, Named, PATIENT, post, sender};
use crate::engine::sender::{
    AddressGuard, DeliveryProxy, ExchangeResult, OutboundRequest, ProxyContact, SendTarget, Sender, Shortage,
    TlsIdentity,
};
use crate::model::AttemptOutcome;
use crate::rules::forward_proxy::ForwardProxy;
use crate::rules::no_proxy::NoProxy;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// `user:hunter2hunter2` in base64.
const PAIR: &str = "dXNlcjpodW50ZXIyaHVudGVyMg==";

/// Allows every address, and nothing that a proxy would resolve.
struct AllowResolved;

impl AddressGuard for AllowResolved {
    fn allows(&self, _: &str, _: &[IpAddr], _: u16) -> bool {
        true
    }

    fn allows_unresolved(&self, _: &str, _: u16) -> bool {
        false
    }
}

/// A process in which no file descriptor is free.
struct WithoutDescriptors;

impl WithoutDescriptors {
    fn refuse<'a, T: Send + 'a>() -> BoxFuture<'a, io::Result<T>> {
        Box::pin(std::future::ready(Err(rustix::io::Errno::MFILE.into())))
    }
}

impl Network for WithoutDescriptors {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Conn>>> {
        Self::refuse()
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Self::refuse()
    }

    fn listen<'a>(&'a self, _: &'a ListenAddr) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Self::refuse()
    }
}

fn delivery_proxy(url: &str, no_proxy: &[&str]) -> DeliveryProxy {
    let no_proxy: Vec<String> = no_proxy.iter().map(|entry| (*entry).to_owned()).collect();
    DeliveryProxy::new(ForwardProxy::parse(url).unwrap(), NoProxy::parse(&no_proxy).unwrap()).unwrap()
}

/// A sender whose proxy is `proxy`, with a password.
fn sender_through(proxy: &TestReceiver) -> Arc<Sender> {
    let sender = sender();
    sender.set_proxy(Some(delivery_proxy(&format!("http://user:hunter2hunter2@{}", proxy.addr), &[])));
    sender
}

/// Opens a tunnel to the port that CONNECT names, on this machine.
async fn tunneling(mut stream: Stream) {
    let Some(head) = stream.request().await else { return };
    let port = head.split(' ').nth(1).and_then(|target| target.rsplit(':').next()).unwrap();
    let mut far = TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())).await.unwrap();
    stream.say("HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n").await;
    let _ = tokio::io::copy_bidirectional(&mut stream.tcp, &mut far).await;
}

fn secure_post(authority: &Authority, port: u16) -> OutboundRequest {
    let url = format!("https://receiver.example:{port}/hook");
    let identity = TlsIdentity::parse(Some(&authority.pem()), None, None).unwrap();
    OutboundRequest { target: SendTarget::parse(&url, Some(Arc::new(identity))).unwrap(), ..post(&url, PATIENT) }
}

fn named(got: &ExchangeResult) -> (AttemptOutcome, ProxyContact, &str) {
    (got.outcome, got.proxy, got.detail.as_deref().unwrap_or_default())
}

#[tokio::test]
async fn https_receivers_get_a_tunnel_that_is_reused() {
    let authority = Authority::new();
    let receiver = secure_receiver(&authority, None).await;
    let proxy = TestReceiver::start(tunneling).await;
    let sender = sender_through(&proxy);
    let request = secure_post(&authority, receiver.addr.port());
    for reused in [false, true] {
        let got = sender.send(&request).await;
        assert_eq!((got.status_code, got.response_body.as_slice()), (Some(200), &b"ok"[..]), "{:?}", got.detail);
        assert_eq!((got.timings.tls.is_none(), got.remote_addr, got.proxy), (reused, None, ProxyContact::Reached));
    }
    let port = receiver.addr.port();
    let host = format!("receiver.example:{port}");
    let asked = format!("CONNECT {host} HTTP/1.1\r\nhost: {host}\r\nproxy-authorization: Basic {PAIR}\r\n\r\n");
    assert_eq!(proxy.requests(), [asked]);
    assert_eq!((receiver.connections(), sender.idle_connections()), (1, 1));
    sender.set_proxy(None);
    assert_eq!(sender.idle_connections(), 0, "a tunnel of another proxy is not reused");
}

#[tokio::test]
async fn http_receivers_get_the_absolute_form_and_a_connection_of_their_own() {
    let proxy = TestReceiver::responding(OK).await;
    let sender = sender_through(&proxy);
    for reused in [false, true] {
        for host in ["a.example", "b.example:8080"] {
            let mut request = post(&format!("http://{host}/hook?x=1"), PATIENT);
            request.headers.push("authorization", format!("Bearer {host}").as_bytes());
            let got = sender.send(&request).await;
            assert_eq!((got.status_code, got.remote_addr, got.proxy), (Some(200), None, ProxyContact::Reached));
            assert_eq!(got.timings.connect.is_none(), reused, "{host}");
        }
    }
    let requests = proxy.requests();
    assert_eq!((requests.len(), proxy.connections(), sender.idle_connections()), (4, 2, 2));
    for (nth, host) in ["a.example", "b.example:8080"].into_iter().cycle().take(4).enumerate() {
        let head = &requests[nth];
        assert!(head.starts_with(&format!("POST http://{host}/hook?x=1 HTTP/1.1\r\nhost: {host}\r\n")), "{head}");
        assert!(head.contains(&format!("\r\nproxy-authorization: Basic {PAIR}\r\n")), "{head}");
        assert_eq!(head.matches("authorization: Bearer ").count(), 1, "{head}");
        assert!(head.contains(&format!("\r\nauthorization: Bearer {host}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn hosts_of_no_proxy_and_targets_that_bypass_it_are_reached_directly() {
    let (proxy, receiver) = (TestReceiver::responding(OK).await, TestReceiver::responding(OK).await);
    let sender = sender();
    sender.set_proxy(Some(delivery_proxy(&format!("http://{}", proxy.addr), &["127.0.0.0/8"])));
    let got = sender.send(&post(&receiver.url(), PATIENT)).await;
    assert_eq!((got.remote_addr, got.proxy), (Some(receiver.addr), ProxyContact::None));
    sender.set_proxy(Some(delivery_proxy(&format!("http://{}", proxy.addr), &[])));
    let through = post(&receiver.url(), PATIENT);
    let mut direct = through.clone();
    direct.target.bypasses_proxy = true;
    for _ in 0..2 {
        assert_eq!(sender.send(&through).await.proxy, ProxyContact::Reached);
        assert_eq!(sender.send(&direct).await.remote_addr, Some(receiver.addr));
    }
    // The same origin has a connection for each way.
    assert_eq!((proxy.connections(), receiver.connections(), sender.idle_connections()), (1, 2, 2));
    assert_eq!((proxy.requests().len(), receiver.requests().len()), (2, 3));
    assert!(receiver.requests().iter().all(|head| head.starts_with("POST /hook HTTP/1.1\r\n")));
}

#[tokio::test]
async fn a_target_that_the_guard_refuses_by_its_text_never_reaches_the_proxy() {
    let proxy = TestReceiver::responding(OK).await;
    let sender = Sender::new(Arc::new(RealNetwork), Arc::new(AllowResolved)).unwrap();
    sender.set_proxy(Some(delivery_proxy(&format!("http://{}", proxy.addr), &[])));
    for url in ["http://printer/", "https://10.0.0.1/"] {
        let got = sender.send(&post(url, PATIENT)).await;
        assert_eq!(named(&got), (AttemptOutcome::BlockedAddress, ProxyContact::None, ""), "{url}");
    }
    assert_eq!(proxy.connections(), 0);
}

#[tokio::test]
async fn an_answer_to_connect_other_than_a_tunnel_is_named_and_bounded() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(17 * 1024));
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(INTERIM_ANSWERS_MAX + 1) + "HTTP/1.1 403 Nope\r\n\r\n";
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(3_000));
    for (answer, contact, words) in [
        ("HTTP/1.1 403 Nope\r\n\r\n", ProxyContact::TunnelRefused, "it answered CONNECT with 403 Forbidden"),
        (
            "HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"p\"\r\n\r\n",
            ProxyContact::CredentialsRefused,
            "it answered CONNECT with 407 Proxy Authentication Required; check delivery.proxy's user and password",
        ),
        ("HTTP/1.0 401 x\r\n\r\n", ProxyContact::CredentialsRefused, "401 Unauthorized; check delivery.proxy's user"),
        ("HTTP/1.0 503 x\r\nContent-Length: 2\r\n\r\nno", ProxyContact::TunnelRefused, "CONNECT with 503"),
        ("HTTP/1.1 302 x\r\nLocation: /\r\n\r\n", ProxyContact::TunnelRefused, "CONNECT with 302"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", ProxyContact::Unanswered, "cannot be read"),
        ("", ProxyContact::Unanswered, "it closed the connection without an answer to CONNECT"),
        ("HTTP/1.1 200 OK\r\nX: cut", ProxyContact::Unanswered, "it closed the connection without an answer"),
        (&long, ProxyContact::Unanswered, "cannot be read"),
        (&many, ProxyContact::Unanswered, "cannot be read"),
        (&hints, ProxyContact::Unanswered, "it answered CONNECT with more than 20 interim answers (1xx)"),
        ("HTTP/1.1 200 OK\r\n\r\n\x16\x03", ProxyContact::TunnelRefused, "bytes behind it"),
    ] {
        let bytes = answer.to_owned();
        let proxy = TestReceiver::start(move |mut stream| {
            let bytes = bytes.clone();
            async move {
                stream.request().await;
                stream.say(&bytes).await;
            }
        })
        .await;
        let got = sender_through(&proxy).send(&post("https://a.example/", PATIENT)).await;
        let (outcome, found, detail) = named(&got);
        assert_eq!((outcome, found), (AttemptOutcome::ProxyError, contact), "{answer:.40} {detail}");
        assert!(detail.contains(words), "{answer:.40}: {detail}");
        assert_eq!((got.status_code, got.remote_addr, got.response_body.len()), (None, None, 0));
    }
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached_is_distinguished_from_one_that_does_not_answer() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (network, url, words) in [
        (Named::default(), format!("http://{closed}"), "it cannot be reached: Connection refused"),
        (Named::default(), "http://proxy.example:3128".to_owned(), "its host name could not be resolved"),
    ] {
        let sender = Sender::new(Arc::new(network), Arc::new(AllowAll)).unwrap();
        sender.set_proxy(Some(delivery_proxy(&url, &[])));
        for target in ["http://a.example/", "https://a.example/"] {
            let got = sender.send(&OutboundRequest { connect_timeout: BRIEF, ..post(target, PATIENT) }).await;
            let (outcome, contact, detail) = named(&got);
            assert_eq!((outcome, contact), (AttemptOutcome::ProxyError, ProxyContact::Unreachable), "{url} {detail}");
            assert!(detail.contains(words), "{detail}");
        }
    }
    let mute = TestReceiver::start(Stream::stay_silent).await;
    let request = OutboundRequest { connect_timeout: BRIEF, ..post("https://a.example/", PATIENT) };
    let got = sender_through(&mute).send(&request).await;
    let words = "it did not answer CONNECT in time";
    assert_eq!(named(&got), (AttemptOutcome::ProxyError, ProxyContact::TunnelTimedOut, words));
    // For an http receiver the outcome is that the receiver did not answer.
    let got = sender_through(&mute).send(&post("http://a.example/", BRIEF)).await;
    assert_eq!((got.outcome, got.proxy), (AttemptOutcome::Timeout, ProxyContact::Reached));
}

#[tokio::test(start_paused = true)]
async fn a_webhooks_short_timeout_says_nothing_about_the_proxy() {
    let short = PROXY_SILENCE_MIN - Duration::from_millis(1);
    let words = "it cannot be reached: no answer in time";
    for addresses in [&["10.9.9.9"][..], &["10.9.9.9", "10.9.9.8"]] {
        let silent = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let network = Named { silent, ..Named::with(addresses) };
        let sender = Sender::new(Arc::new(network), Arc::new(AllowAll)).unwrap();
        sender.set_proxy(Some(delivery_proxy("http://proxy.example:3128", &[])));
        for (timeout, contact) in [(short, ProxyContact::None), (PROXY_SILENCE_MIN, ProxyContact::Unreachable)] {
            for target in ["http://a.example/", "https://a.example/"] {
                let got = sender.send(&OutboundRequest { connect_timeout: timeout, ..post(target, timeout) }).await;
                assert_eq!(named(&got), (AttemptOutcome::ProxyError, contact, words), "{target} {timeout:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_shortage_on_the_way_to_the_proxy_is_no_failure_of_the_proxy() {
    for url in ["http://192.0.2.1:3128", "http://proxy.example:3128"] {
        let sender = Sender::new(Arc::new(WithoutDescriptors), Arc::new(AllowAll)).unwrap();
        sender.set_proxy(Some(delivery_proxy(url, &[])));
        for target in ["http://a.example/", "https://a.example/"] {
            let got = sender.send(&post(target, PATIENT)).await;
            assert_eq!(got.shortage, Some(Shortage::FileDescriptors), "{url} {target}");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_fails_an_http_receivers_request_is_named() {
    let page = "HTTP/1.1 407 x\r\nContent-Length: 18\r\n\r\nproxy7.corp.example";
    let proxy = TestReceiver::responding(page).await;
    let got = sender_through(&proxy).send(&post("http://a.example/", PATIENT)).await;
    let (outcome, contact, detail) = named(&got);
    assert_eq!((outcome, contact), (AttemptOutcome::ProxyError, ProxyContact::CredentialsAsked));
    assert!(detail.contains("check delivery.proxy's user and password"), "{detail}");
    assert_eq!((got.status_code, got.response_body.len()), (None, 0), "the page is the proxy's");

    let closing = TestReceiver::start(|mut stream| async move { drop(stream.request().await) }).await;
    let got = sender_through(&closing).send(&post("http://a.example/", PATIENT)).await;
    assert_eq!((got.outcome, got.proxy), (AttemptOutcome::ProxyError, ProxyContact::Reached));
}

#[tokio::test]
async fn the_proxys_credentials_are_not_stored_where_they_are_repeated() {
    let echo = format!("HTTP/1.1 400 x\r\nX-Saw: Basic {PAIR}\r\nContent-Length: 34\r\n\r\n{PAIR}hunter2\u{fc}");
    let proxy = TestReceiver::responding(echo.replace("34", &(PAIR.len() + 9).to_string())).await;
    let got = sender_through(&proxy).send(&post("http://a.example/", PATIENT)).await;
    assert_eq!(got.status_code, Some(400));
    let kept = format!("{:?} {}", got.response_headers, String::from_utf8_lossy(&got.response_body));
    assert!(!kept.contains(PAIR) && kept.contains("********hunter2\u{fc}"), "{kept}");
}

#[tokio::test]
async fn a_proxy_may_speak_tls_itself() {
    let (proxies, receivers) = (Authority::new(), Authority::new());
    let (cert, key) = proxies.issue("proxy.example");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let proxy = TestReceiver::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut near) = acceptor.accept(stream.tcp).await else { return };
            let mut head = [0; 4096];
            let read = tokio::io::AsyncReadExt::read(&mut near, &mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let port = head.split(' ').nth(1).and_then(|target| target.rsplit(':').next()).unwrap();
            let mut far = TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut near, b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    })
    .await;
    let receiver = secure_receiver(&receivers, None).await;
    let url = format!("https://proxy.example:{}", proxy.addr.port());
    let request = secure_post(&receivers, receiver.addr.port());
    for (trusted, expected) in [(&proxies, Some(200)), (&receivers, None)] {
        let identity = TlsIdentity::parse(Some(&trusted.pem()), None, None).unwrap();
        let sender = Sender {
            network: Arc::new(Named::with(&["127.0.0.1"])),
            guard: Arc::new(AllowAll),
            public_tls: identity.config().clone(),
            pool: Pool::default(),
            proxied: Pool::default(),
            own: std::sync::Weak::new(),
            proxy: ArcSwapOption::empty(),
            connectivity: Connectivity::default(),
        };
        sender.set_proxy(Some(delivery_proxy(&url, &[])));
        let got = sender.send(&request).await;
        assert_eq!(got.status_code, expected, "{:?}", got.detail);
        if expected.is_none() {
            assert_eq!((got.outcome, got.proxy), (AttemptOutcome::ProxyError, ProxyContact::Unreachable));
            let detail = got.detail.unwrap();
            let is_named = detail.ends_with("[certificate_unknown_authority]");
            assert!(detail.starts_with("TLS with it failed: the certificate") && is_named, "{detail}");
        }
    }
}
