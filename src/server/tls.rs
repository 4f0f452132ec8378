//! TLS on the listener: the certificate from two PEM files, read again when asked, and what is spoken behind it.
//!
//! Invariant: a certificate that cannot be read or does not fit its key never replaces one that does.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// What is offered in ALPN (RFC 7301), the preferred first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
pub(super) const HTTP2: &[u8] = b"h2";

/// The certificate that the listeners show.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
}

impl fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("cert", &self.cert).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads a certificate chain and its private key, both PEM (RFC 7468).
    ///
    /// # Errors
    /// In words that name the file: not readable, nothing of the kind in it, or a key that belongs to another
    /// certificate.
    pub fn load(cert: PathBuf, key: PathBuf) -> Result<Tls, String> {
        let config = ArcSwap::from_pointee(read(&cert, &key)?);
        Ok(Tls { cert, key, config })
    }

    /// Reads both files again. Connections that are open keep what they have.
    ///
    /// # Errors
    /// As `load`; the certificate in use stays.
    pub fn reload(&self) -> Result<(), String> {
        self.config.store(Arc::new(read(&self.cert, &self.key)?));
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }
}

fn read(cert: &std::path::Path, key: &std::path::Path) -> Result<ServerConfig, String> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|why| format!("{}: {why}", cert.display()))?;
    if chain.is_empty() {
        return Err(format!("{}: holds no certificate", cert.display()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|why| format!("{}: {why}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|why| format!("{} and {}: {why}", cert.display(), key.display()))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_in_words_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let own = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["b".to_owned()]).unwrap();
        let refused = Tls::load(cert.clone(), key.clone()).unwrap_err();
        assert!(refused.contains("cert.pem"), "{refused}");
        std::fs::write(&cert, "text").unwrap();
        assert!(Tls::load(cert.clone(), key.clone()).unwrap_err().contains("holds no certificate"));
        std::fs::write(&cert, own.cert.pem()).unwrap();
        std::fs::write(&key, other.signing_key.serialize_pem()).unwrap();
        assert!(Tls::load(cert.clone(), key.clone()).unwrap_err().contains("key.pem"));
        std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let tls = Tls::load(cert.clone(), key).unwrap();
        let before = tls.config.load_full();
        std::fs::write(&cert, other.cert.pem()).unwrap();
        assert!(tls.reload().is_err());
        assert!(Arc::ptr_eq(&before, &tls.config.load_full()));
        std::fs::write(&cert, own.cert.pem()).unwrap();
        tls.reload().unwrap();
        assert!(!Arc::ptr_eq(&before, &tls.config.load_full()));
        assert!(!format!("{tls:?}").contains("PRIVATE"));
    }
}
