//! Endpoints and exchanges. TLS runs against a server in this process with a certificate of its own.

use std::convert::Infallible;

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

#[test]
fn places_are_http_https_and_sockets() {
    let host = |written: &str| HttpEndpoint::parse(written).map(|place| (place.host, place.prefix));
    let value = HeaderValue::from_static;
    assert_eq!(host("http://127.0.0.1:8080"), Ok((value("127.0.0.1:8080"), String::new())));
    assert_eq!(host("http://[::1]:8080/"), Ok((value("[::1]:8080"), String::new())));
    assert_eq!(host("https://h.example/hooks/"), Ok((value("h.example"), "/hooks".to_owned())));
    assert_eq!(host("unix:/run/p.sock"), Ok((value("localhost"), String::new())));
    for wrong in ["", "127.0.0.1:8080", "ftp://h", "unix:", "http://"] {
        let error = HttpEndpoint::parse(wrong).map(|_| ()).expect_err(wrong);
        assert!(error.contains("is not a URL such as"), "{error}");
    }
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"hello"))))
}

/// A TLS server for `localhost`. Returns its port and its certificate.
async fn tls_server() -> (u16, rustls_pki_types::CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a server's configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust us leaves in the middle of the handshake.
            if let Ok(stream) = acceptor.accept(stream).await {
                let service = service_fn(hello);
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        }
    });
    (port, certificate)
}

/// An endpoint for `localhost` at `port` that trusts only `roots`.
fn trusting_place(port: u16, roots: rustls::RootCertStore) -> HttpEndpoint {
    let mut place = HttpEndpoint::parse(&format!("https://localhost:{port}")).expect("a place");
    if let Transport::Tls { host, connector, .. } = &mut place.transport {
        "127.0.0.1".clone_into(host);
        *connector = trusting(roots, None).expect("a connector");
    }
    place
}

#[tokio::test]
async fn https_is_spoken_to_servers_that_are_trusted_and_to_no_others() {
    let (port, certificate) = tls_server().await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let request = || Request::get("/").body(Full::default()).expect("a request");
    let answer = trusting_place(port, roots).exchange(request()).await.expect("an answer");
    assert_eq!(&answer.body()[..], b"hello");

    let (_, other) = tls_server().await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(other).expect("a root");
    let error = trusting_place(port, roots).exchange(request()).await.expect_err("not trusted");
    assert!(error.starts_with("TLS: ") && error.ends_with("[certificate_unknown_authority]"), "{error}");
}
