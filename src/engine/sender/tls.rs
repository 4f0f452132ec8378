//! TLS to receivers: trusted roots, pinned authorities and client certificates.
//!
//! Invariant: every configuration has a `WebPkiServerVerifier`, which a `PinnedVerifier` may wrap. No setting disables verification.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ring::digest::{Context, SHA256};
use rustls::client::WebPkiServerVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::engine::sender::pinned::PinnedVerifier;

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
    /// Errors, worded for the webhook's owner: an unreadable PEM text or one without a certificate. Also a certificate
    /// without its key, a key without its certificate, and a key of another certificate.
    pub fn parse(ca_pem: Option<&str>, cert_pem: Option<&str>, key_pem: Option<&str>) -> Result<Self, String> {
        let builder = match ca_pem {
            Some(pem) => {
                let pinned = certificates("ca_pem", pem)?;
                verifying(Arc::new(roots_of(&pinned)?), Some(pinned))?
            }
            None => verifying(public_roots(), None)?,
        };
        let mut config = match (cert_pem, key_pem) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let chain = certificates("client_cert_pem", cert)?;
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|_| "client_key_pem holds no readable private key".to_owned())?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|why| format!("client certificate and key do not fit: {why}"))?
            }
            _ => return Err("client_cert_pem and client_key_pem go together".to_owned()),
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

fn roots_of(pinned: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for cert in pinned {
        roots.add(cert.clone()).map_err(|why| format!("ca_pem holds an unusable certificate: {why}"))?;
    }
    Ok(roots)
}

fn certificates(field: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|why| format!("{field} is not readable PEM: {why}"))?;
    if found.is_empty() { Err(format!("{field} holds no certificate")) } else { Ok(found) }
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
    fn an_invalid_identity_is_rejected_with_its_reason() {
        let other = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let own = rcgen::generate_simple_self_signed(["b".to_owned()]).unwrap();
        let (cert, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        let foreign_key = other.signing_key.serialize_pem();
        for (ca, cert, key, why) in [
            (Some("text"), None, None, "ca_pem holds no certificate"),
            (None, Some(cert.as_str()), None, "go together"),
            (None, None, Some(key.as_str()), "go together"),
            (None, Some("text"), Some(key.as_str()), "client_cert_pem holds no certificate"),
            (None, Some(cert.as_str()), Some("text"), "no readable private key"),
            (None, Some(cert.as_str()), Some(foreign_key.as_str()), "do not fit"),
        ] {
            let refused = TlsIdentity::parse(ca, cert, key).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }

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
