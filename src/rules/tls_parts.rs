//! The PEM texts of a webhook's `tls`: pinned authorities, and a client certificate with its key.

use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates and the key of a webhook's `tls`.
pub struct TlsParts {
    /// The authorities that replace the machine's, with their certificates. `None` without `ca_pem`.
    pub pinned: Option<(RootCertStore, Vec<CertificateDer<'static>>)>,
    /// The client certificate with its chain, and its key.
    pub client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// A PEM text that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsPartError {
    /// The field of `tls`.
    pub field: &'static str,
    /// The reason, worded for the webhook's owner.
    pub detail: &'static str,
}

/// Reads the PEM texts of a webhook's `tls`.
///
/// # Errors
/// A text is no readable PEM (RFC 7468), holds no certificate (RFC 5280) or no private key, a client certificate or its key
/// is missing, or the key is of another certificate.
pub fn read(ca: Option<&str>, cert: Option<&str>, key: Option<&str>) -> Result<TlsParts, TlsPartError> {
    let pinned = ca.map(|pem| certificates("ca_pem", pem)).transpose()?;
    let pinned = pinned.map(|certificates| Ok((roots_of(&certificates)?, certificates))).transpose()?;
    let client = match (cert, key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(client_of(cert, key)?),
        (Some(_), None) => return Err(error("client_key_pem", "must be given with client_cert_pem")),
        (None, Some(_)) => return Err(error("client_cert_pem", "must be given with client_key_pem")),
    };
    Ok(TlsParts { pinned, client })
}

fn error(field: &'static str, detail: &'static str) -> TlsPartError {
    TlsPartError { field, detail }
}

fn client_of(cert: &str, key: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsPartError> {
    let chain = certificates("client_cert_pem", cert)?;
    let unreadable = |_| error("client_key_pem", "holds no readable private key");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(unreadable)?;
    CertifiedKey::from_der(chain.clone(), key.clone_key(), &default_provider()).map_err(|why| match why {
        rustls::Error::InconsistentKeys(_) => error("client_key_pem", "is the key of another certificate"),
        rustls::Error::InvalidCertificate(_) => error("client_cert_pem", "holds a text that is no certificate"),
        _ => error("client_key_pem", "holds a key of a kind that TLS does not take"),
    })?;
    Ok((chain, key))
}

fn roots_of(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsPartError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(|_| error("ca_pem", "holds a text that is no certificate"))?;
    }
    Ok(roots)
}

fn certificates(field: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsPartError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found.map_err(|_| error(field, "is not readable PEM"))? {
        found if found.is_empty() => Err(error(field, "holds no certificate")),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_cannot_be_used_is_refused_at_its_field() {
        let other = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let own = rcgen::generate_simple_self_signed(["b".to_owned()]).unwrap();
        let (cert, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        let (cert, key, foreign_key) = (cert.as_str(), key.as_str(), other.signing_key.serialize_pem());
        let framed = |text: &str| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        let (no_base64, no_certificate) = (framed("!!!!"), framed("AAAA"));
        for (ca, cert, key, field, detail) in [
            (Some("text"), None, None, "ca_pem", "holds no certificate"),
            (Some(no_base64.as_str()), None, None, "ca_pem", "is not readable PEM"),
            (Some(no_certificate.as_str()), None, None, "ca_pem", "holds a text that is no certificate"),
            (None, Some(cert), None, "client_key_pem", "must be given with client_cert_pem"),
            (None, None, Some(key), "client_cert_pem", "must be given with client_key_pem"),
            (None, Some("text"), Some(key), "client_cert_pem", "holds no certificate"),
            (None, Some(no_certificate.as_str()), Some(key), "client_cert_pem", "holds a text that is no certificate"),
            (None, Some(cert), Some("text"), "client_key_pem", "holds no readable private key"),
            (None, Some(cert), Some(foreign_key.as_str()), "client_key_pem", "is the key of another certificate"),
        ] {
            assert_eq!(read(ca, cert, key).err(), Some(TlsPartError { field, detail }));
        }
        let Ok(parts) = read(Some(cert), Some(cert), Some(key)) else { panic!("usable parts") };
        assert!(parts.pinned.is_some() && parts.client.is_some());
    }
}
