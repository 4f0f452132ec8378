//! TLS towards receivers, from the webhook's creation over the API to the stored attempt: a pinned authority, a client
//! certificate, and every untrusted certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::security::certificates::{Authority, Signed, server};
use crate::security::support::{Client, Instance, eventually, rows, text};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A receiver on `localhost` with this TLS configuration.
async fn receiver(config: Arc<ServerConfig>) -> SocketAddr {
    let acceptor = TlsAcceptor::from(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate closes during the handshake.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut read = [0; 8192];
                while let Ok(1..) = stream.read(&mut read).await {
                    if stream.write_all(OK).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A receiver that answers the first bytes of a handshake with these bytes.
async fn blurting(words: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut read = [0; 4096];
            let _ = stream.read(&mut read).await;
            let _ = stream.write_all(words).await;
            let _ = stream.read(&mut read).await;
        }
    });
    address
}

/// The one attempt that a webhook with this `tls` makes.
async fn attempt(client: &Client, address: SocketAddr, tls: Value) -> Value {
    let url = format!("https://localhost:{}/", address.port());
    let webhook =
        json!({ "url": url, "tls": tls, "retry_schedule_s": "none", "event_types": ["tls"], "timeout_ms": 5_000 });
    let webhook = client.post("/v1/webhooks", webhook).await.expect(201);
    client.post("/v1/events", json!({ "type": "tls", "data": 1 })).await.expect(202);
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    let attempts = format!("{path}/attempts");
    let made = eventually("an attempt", async || rows(client, &attempts).await.into_iter().next()).await;
    assert_eq!(rows(client, &attempts).await.len(), 1, "one attempt");
    client.delete(&path).await.expect(204);
    made
}

fn outcome(attempt: &Value) -> (&str, &str) {
    (text(attempt, "outcome"), attempt["error"].as_str().unwrap_or_default())
}

fn identity(signed: &Signed, ca: &Authority) -> Value {
    json!({ "ca_pem": ca.pem(), "client_cert_pem": signed.cert, "client_key_pem": signed.key })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_authority_and_a_client_certificate_open_their_receiver_alone() {
    let instance = Instance::start().await;
    let client = &instance.first;
    let (servers, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let good = servers.signs("localhost");
    let pinned = json!({ "ca_pem": servers.pem() });

    let open = receiver(server(&good, None)).await;
    let made = attempt(client, open, pinned.clone()).await;
    assert_eq!((outcome(&made), &made["status_code"]), (("success", ""), &json!(200)));
    assert!(made["timings_ms"]["tls"].is_number());

    let closed = receiver(server(&good, Some(&clients))).await;
    let made = attempt(client, closed, identity(&clients.signs("postrider"), &servers)).await;
    assert_eq!(outcome(&made), ("success", ""));

    for (what, address, tls, words) in [
        ("an unknown authority", open, Value::Null, "an unknown authority"),
        ("another authority pinned", open, json!({ "ca_pem": strangers.pem() }), "[certificate_"),
        ("no certificate where one is asked for", closed, pinned.clone(), "CertificateRequired"),
        (
            "a stranger's certificate",
            closed,
            identity(&strangers.signs("postrider"), &servers),
            "refused the handshake",
        ),
        (
            "an expired client",
            closed,
            identity(&clients.signs_until("postrider", 2020), &servers),
            "refused the handshake",
        ),
        (
            "an expired receiver",
            receiver(server(&servers.signs_until("localhost", 2020), None)).await,
            pinned.clone(),
            "expired",
        ),
        (
            "another name",
            receiver(server(&servers.signs("other.example"), None)).await,
            pinned.clone(),
            "not for localhost",
        ),
        // A ServerHello of TLS 1.0, and the alert of a server that has nothing newer.
        ("TLS 1.0", blurting(OLD_SERVER_HELLO).await, pinned.clone(), ""),
        (
            "a server that is too old",
            blurting(b"\x15\x03\x01\x00\x02\x02\x46").await,
            pinned.clone(),
            "ProtocolVersion",
        ),
        ("plain HTTP", blurting(OK).await, pinned.clone(), ""),
        ("a record that is too long", blurting(b"\x16\x03\x03\xff\xff").await, pinned, ""),
    ] {
        let made = attempt(client, address, tls).await;
        let (outcome, error) = outcome(&made);
        assert_eq!(outcome, "tls_error", "{what}: {made}");
        assert!(error.starts_with("TLS handshake failed: ") && error.contains(words), "{what}: {error}");
        assert_eq!((&made["success"], &made["status_code"]), (&json!(false), &Value::Null), "{what}");
    }
}

/// Record, handshake, version 3.1, 32 bytes of chance, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
const OLD_SERVER_HELLO: &[u8] = &[
    0x16, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0, 0, 0x2f, 0,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_that_is_no_certificate_or_a_key_of_another_one_is_refused() {
    let instance = Instance::start().await;
    let (own, other) = (Authority::new(), Authority::new());
    let (first, second) = (own.signs("a"), own.signs("b"));
    let address = receiver(server(&own.signs("localhost"), None)).await;
    let url = format!("https://localhost:{}/", address.port());
    for tls in [
        json!({ "ca_pem": "text" }),
        json!({ "ca_pem": first.key }),
        json!({ "client_cert_pem": first.cert }),
        json!({ "client_key_pem": first.key }),
        json!({ "client_cert_pem": first.key, "client_key_pem": first.cert }),
        // A key of another certificate.
        json!({ "ca_pem": other.pem(), "client_cert_pem": first.cert, "client_key_pem": second.key }),
        json!({ "ca_pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" }),
        json!({ "insecure": true }),
    ] {
        let answer = instance.first.post("/v1/webhooks", json!({ "url": url, "tls": tls })).await;
        assert_eq!(answer.status, 422, "{tls}: {}", answer.body);
        assert!(!answer.body.contains("BEGIN"), "{}", answer.body);
    }
}
