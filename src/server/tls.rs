//! TLS of the listeners: certificates and client authorities from PEM files, reloadable, with ALPN.
//!
//! Invariant: an unreadable certificate, or one that does not match its key, never replaces a valid one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Protocols offered in ALPN (RFC 7301), the preferred first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
pub(super) const HTTP2: &[u8] = b"h2";

/// The PEM files (RFC 7468) of a TLS listener.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate chain, the server's own first.
    pub cert: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// Authorities of clients. With them, only clients with a certificate of one of them are accepted.
    pub client_ca: Option<PathBuf>,
}

/// The certificate of the listeners, and the authorities of their clients.
pub struct ServerTls {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
}

impl fmt::Debug for ServerTls {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// A text that names the file: it is not readable, has no such PEM block, or has a key of another certificate.
    pub fn load(files: TlsFiles) -> Result<ServerTls, String> {
        let config = ArcSwap::from_pointee(read(&files)?);
        Ok(ServerTls { files, config })
    }

    /// Reads all files again. Open connections keep their certificate.
    ///
    /// # Errors
    /// Those of `load`. The certificate in use stays.
    pub fn reload(&self) -> Result<(), String> {
        self.config.store(Arc::new(read(&self.files)?));
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig, String> {
    let (cert, key) = (files.cert.display(), files.key.display());
    let chain = certificates(&files.cert)?;
    let private = PrivateKeyDer::from_pem_file(&files.key).map_err(|why| format!("{key}: {why}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => builder.with_client_cert_verifier(of_clients(file, provider)?),
    };
    let mut config = builder.with_single_cert(chain, private).map_err(|why| format!("{cert} and {key}: {why}"))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|why| format!("{}: {why}", file.display()))?;
    if found.is_empty() { Err(format!("{}: holds no certificate", file.display())) } else { Ok(found) }
}

/// Accepts only clients with a certificate of one of the authorities in `file`.
fn of_clients(file: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(file)? {
        roots.add(authority).map_err(|why| format!("{}: {why}", file.display()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|why| format!("{}: {why}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_does_not_fit_is_refused_in_words_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let own = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["b".to_owned()]).unwrap();
        let client_ca = dir.path().join("ca.pem");
        let files = TlsFiles { cert: cert.clone(), key: key.clone(), client_ca: None };
        let refused = ServerTls::load(files.clone()).unwrap_err();
        assert!(refused.contains("cert.pem"), "{refused}");
        std::fs::write(&cert, "text").unwrap();
        assert!(ServerTls::load(files.clone()).unwrap_err().contains("holds no certificate"));
        std::fs::write(&cert, own.cert.pem()).unwrap();
        std::fs::write(&key, other.signing_key.serialize_pem()).unwrap();
        assert!(ServerTls::load(files.clone()).unwrap_err().contains("key.pem"));
        std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let tls = ServerTls::load(files.clone()).unwrap();
        let before = tls.config.load_full();
        std::fs::write(&cert, other.cert.pem()).unwrap();
        assert!(tls.reload().is_err());
        assert!(Arc::ptr_eq(&before, &tls.config.load_full()));
        std::fs::write(&cert, own.cert.pem()).unwrap();
        tls.reload().unwrap();
        assert!(!Arc::ptr_eq(&before, &tls.config.load_full()));
        assert!(!format!("{tls:?}").contains("PRIVATE"));
        let closed = TlsFiles { client_ca: Some(client_ca.clone()), ..files };
        assert!(ServerTls::load(closed.clone()).unwrap_err().contains("ca.pem"));
        std::fs::write(&client_ca, "text").unwrap();
        assert!(ServerTls::load(closed.clone()).unwrap_err().contains("holds no certificate"));
        std::fs::write(&client_ca, other.cert.pem()).unwrap();
        ServerTls::load(closed).unwrap();
    }
}
