//! TLS to PostgreSQL by rustls. The certificate must come from an authority of this machine (`SSL_CERT_FILE` included).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

/// Connects to the hosts of an engine.
#[derive(Clone)]
pub struct Connector(TlsConnector);

impl Connector {
    /// # Errors
    /// A description: no protocol version can be used.
    pub fn new() -> Result<Connector, String> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
        Ok(Connector(TlsConnector::from(Arc::new(config))))
    }
}

/// Whether TLS failed because the certificate's authority is not known.
pub fn is_of_unknown_authority(error: &(dyn std::error::Error + 'static)) -> bool {
    use rustls::{CertificateError, Error};
    let cause = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    matches!(
        cause.and_then(|cause| cause.downcast_ref::<Error>()),
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    )
}

/// The connector of one host.
pub struct HostConnector {
    connector: TlsConnector,
    host: String,
}

/// A connection with TLS.
pub struct SecuredSocket(tokio_rustls::client::TlsStream<Socket>);

impl MakeTlsConnect<Socket> for Connector {
    type Stream = SecuredSocket;
    type TlsConnect = HostConnector;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<HostConnector> {
        Ok(HostConnector { connector: self.0.clone(), host: host.to_owned() })
    }
}

impl TlsConnect<Socket> for HostConnector {
    type Stream = SecuredSocket;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<SecuredSocket>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let wrong = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
            let name = ServerName::try_from(self.host).map_err(wrong)?;
            self.connector.connect(name, socket).await.map(SecuredSocket)
        })
    }
}

impl TlsStream for SecuredSocket {
    /// No channel binding. SCRAM runs without it, inside a connection whose certificate was checked.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for SecuredSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for SecuredSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
