//! TLS: trusted authorities and client certificates.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::engine::sender::tests::receiver::TestReceiver;
use crate::engine::sender::tests::{AllowAll, Named, PATIENT, post};
use crate::engine::sender::{ExchangeResult, SendTarget, Sender, TlsIdentity};
use crate::model::AttemptOutcome;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (cert, key)
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(roots)
    }
}

/// A receiver for `receiver.example` that sends `OK` to every request. With `clients` it requires their certificate.
pub async fn secure_receiver(authority: &Authority, clients: Option<&Authority>) -> TestReceiver {
    let (cert, key) = authority.issue("receiver.example");
    receiver_with(&cert, &key, clients).await
}

async fn receiver_with(cert: &rcgen::Certificate, key: &KeyPair, clients: Option<&Authority>) -> TestReceiver {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(clients) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(clients.roots(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![cert.der().clone()], key).unwrap()));
    TestReceiver::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut tls) = acceptor.accept(stream.tcp).await else { return };
            let mut buffer = [0; 4096];
            while let Ok(1..) = tls.read(&mut buffer).await {
                if tls.write_all(OK).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

fn secure_sender() -> Arc<Sender> {
    Sender::new(Arc::new(Named::with(&["127.0.0.1"])), Arc::new(AllowAll)).unwrap()
}

async fn send_as(
    sender: &Sender,
    receiver: &TestReceiver,
    host: &str,
    tls: Option<Arc<TlsIdentity>>,
) -> ExchangeResult {
    let url = format!("https://{host}:{}/", receiver.addr.port());
    let mut request = post(&url, PATIENT);
    request.target = SendTarget::parse(&url, tls).unwrap();
    sender.send(&request).await
}

#[tokio::test]
async fn an_unknown_authority_is_a_tls_error() {
    let receiver = secure_receiver(&Authority::new(), None).await;
    let got = send_as(&secure_sender(), &receiver, "receiver.example", None).await;
    assert_eq!((got.outcome, got.error.as_deref()), (AttemptOutcome::TlsError, Some("TLS handshake failed")));
    assert!(got.detail.unwrap().contains("unknown authority [certificate_unknown_authority]"));
}

#[tokio::test]
async fn a_pinned_authority_is_trusted_for_its_names_only() {
    let authority = Authority::new();
    let receiver = secure_receiver(&authority, None).await;
    let pinned = Arc::new(TlsIdentity::parse(Some(&authority.pem()), None, None).unwrap());
    let sender = secure_sender();
    for reused in [false, true] {
        let got = send_as(&sender, &receiver, "receiver.example", Some(pinned.clone())).await;
        assert_eq!((got.status_code, got.response_body), (Some(200), b"ok".to_vec()), "{:?}", got.detail);
        assert_eq!(got.timings.tls.is_none(), reused);
    }
    let got = send_as(&sender, &receiver, "other.example", Some(pinned)).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::TlsError, None));
    // A request without a pinned authority does not reuse the connection of one with it.
    let got = send_as(&sender, &receiver, "receiver.example", None).await;
    assert_eq!(got.outcome, AttemptOutcome::TlsError);
    let other = Arc::new(TlsIdentity::parse(Some(&Authority::new().pem()), None, None).unwrap());
    let got = send_as(&sender, &receiver, "receiver.example", Some(other)).await;
    assert_eq!(got.outcome, AttemptOutcome::TlsError);
}

/// A certificate as `openssl req -x509` makes it: signed by itself, and an authority.
fn own_certificate(name: &str, last_year: i32) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(last_year, 1, 2);
    (params.self_signed(&key).unwrap(), key)
}

#[tokio::test]
async fn a_pinned_certificate_of_the_receiver_is_trusted_for_its_names_and_dates() {
    let sender = secure_sender();
    let pin = |cert: &rcgen::Certificate| Some(Arc::new(TlsIdentity::parse(Some(&cert.pem()), None, None).unwrap()));
    let (cert, key) = own_certificate("receiver.example", 4_000);
    let receiver = receiver_with(&cert, &key, None).await;
    let got = send_as(&sender, &receiver, "receiver.example", pin(&cert)).await;
    assert_eq!(got.status_code, Some(200), "{:?}", got.detail);
    let (twin, _) = own_certificate("receiver.example", 4_000);
    let (old, old_key) = own_certificate("receiver.example", 2_020);
    let expired = receiver_with(&old, &old_key, None).await;
    for (detail, receiver, host, pinned) in [
        ("for receiver.example, not for other.example [", &receiver, "other.example", pin(&cert)),
        ("[certificate_", &receiver, "receiver.example", pin(&twin)),
        ("[certificate_", &receiver, "receiver.example", None),
        ("expired on 2020-01-02 [", &expired, "receiver.example", pin(&old)),
    ] {
        let got = send_as(&sender, receiver, host, pinned).await;
        assert_eq!((got.outcome, got.status_code), (AttemptOutcome::TlsError, None), "{detail}");
        assert!(got.detail.as_ref().is_some_and(|detail| detail.contains(detail)), "{detail}: {:?}", got.detail);
    }
}

#[tokio::test]
async fn a_pinned_certificate_of_an_unknown_authority_is_trusted() {
    let (cert, key) = Authority::new().issue("receiver.example");
    let receiver = receiver_with(&cert, &key, None).await;
    let pinned = TlsIdentity::parse(Some(&cert.pem()), None, None).unwrap();
    let got = send_as(&secure_sender(), &receiver, "receiver.example", Some(Arc::new(pinned))).await;
    assert_eq!(got.status_code, Some(200), "{:?}", got.detail);
}

#[tokio::test]
async fn a_client_certificate_is_sent_on_request() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let receiver = secure_receiver(&servers, Some(&clients)).await;
    let sender = secure_sender();
    let (cert, key) = clients.issue("postrider");
    let known = TlsIdentity::parse(Some(&servers.pem()), Some(&cert.pem()), Some(&key.serialize_pem())).unwrap();
    let got = send_as(&sender, &receiver, "receiver.example", Some(Arc::new(known))).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::HttpStatus, Some(200)), "{:?}", got.detail);

    let anonymous = TlsIdentity::parse(Some(&servers.pem()), None, None).unwrap();
    let got = send_as(&sender, &receiver, "receiver.example", Some(Arc::new(anonymous))).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::TlsError, None), "{:?}", got.detail);
}

#[tokio::test]
async fn a_receiver_without_tls_is_a_tls_error() {
    let garbage = TestReceiver::start(|mut stream| async move {
        stream.say("220 mail.example ESMTP\r\n").await;
        stream.stay_silent().await;
    })
    .await;
    let got = send_as(&secure_sender(), &garbage, "receiver.example", None).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::TlsError, None));
}
