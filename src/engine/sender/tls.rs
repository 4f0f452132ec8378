//! TLS to receivers: trusted roots, pinned authorities and client certificates.
//!
//! Invariant: every configuration has a `WebPkiServerVerifier`, which a `PinnedVerifier` may wrap. No setting disables verification.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ring::digest::{Context, SHA256};
use rustls::client::WebPkiServerVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

use crate::engine::sender::pinned::PinnedVerifier;
use crate::rules::tls_parts;

/// The only protocol that the sender offers, because it speaks no other.
const ALPN: &[u8] = b"http/1.1";

/// The TLS identity of a webhook: a pinned CA instead of the machine's roots, a client certificate, or both.
pub struct TlsIdentity {
    config: Arc<ClientConfig>,
    digest: [u8; 32],
}

impl TlsIdentity {
    /// Reads the PEM texts of a webhook's `tls`. A pinned CA replaces all other roots.
    ///
    /// Errors, worded for the webhook's owner: those of `tls_parts::read`.
    pub fn parse(ca_pem: Option<&str>, cert_pem: Option<&str>, key_pem: Option<&str>) -> Result<Self, String> {
        let parts = tls_parts::read(ca_pem, cert_pem, key_pem)
            .map_err(|refused| format!("{} {}", refused.field, refused.detail))?;
        let builder = match parts.pinned {
            Some((roots, pinned)) => verifying(Arc::new(roots), Some(pinned))?,
            None => verifying(public_roots(), None)?,
        };
        let mut config = match parts.client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|why| format!("client certificate and key do not fit: {why}"))?,
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config: Arc::new(config), digest: digest([ca_pem, cert_pem, key_pem]) })
    }

    /// The identity's part of the pool's key. Identities never share connections.
    pub(in crate::engine) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    pub(in crate::engine) fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }
}

impl fmt::Debug for TlsIdentity {
    /// Omits the private key, because the output may reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity(…)")
    }
}

/// The configuration of webhooks without `tls`: the machine's roots and no client certificate.
pub(in crate::engine) fn public_config() -> Result<Arc<ClientConfig>, String> {
    let mut config = verifying(public_roots(), None)?.with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

type WantsClientCert = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

/// A builder that trusts `roots`, and each certificate of `pinned` for itself.
fn verifying(
    roots: Arc<RootCertStore>,
    pinned: Option<Vec<CertificateDer<'static>>>,
) -> Result<WantsClientCert, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|why| format!("no usable certificate authority: {why}"))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?;
    Ok(match pinned {
        Some(pinned) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(PinnedVerifier { inner: verifier, pinned }))
        }
        None => builder.with_webpki_verifier(verifier),
    })
}

/// Reads the machine's trust store, some hundred files, on a thread of its own, so that the start does not wait for it.
/// A later use waits until it is read.
pub fn read_roots_ahead() {
    // If no thread starts, the first use reads the store.
    let _ = std::thread::Builder::new().name("roots".into()).spawn(public_roots);
}

/// The machine's trust store, read once. If it is empty (a bare container), the roots compiled in.
fn public_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let load = || {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(native.certs);
        if roots.is_empty() {
            tracing::warn!("no trust store on this machine: using the roots compiled in");
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Arc::new(roots)
    };
    ROOTS.get_or_init(load).clone()
}

fn digest(parts: [Option<&str>; 3]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        // The length prefix distinguishes two splits of the same text.
        context.update(&(part.map_or(u64::MAX, |text| text.len() as u64)).to_be_bytes());
        context.update(part.unwrap_or_default().as_bytes());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_differ_when_any_part_does() {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let pinned = TlsIdentity::parse(Some(&cert), None, None).unwrap();
        let both = TlsIdentity::parse(Some(&cert), Some(&cert), Some(&key)).unwrap();
        assert_ne!(pinned.digest(), both.digest());
        assert_eq!(pinned.digest(), TlsIdentity::parse(Some(&cert), None, None).unwrap().digest());
        assert_ne!(digest([Some("ab"), None, None]), digest([Some("a"), Some("b"), None]));
        assert_ne!(digest([Some(""), None, None]), digest([None, Some(""), None]));
    }
}
