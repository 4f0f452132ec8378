//! Verifies a receiver against pinned certificates: authorities, or the receiver's own certificate.
//!
//! Invariant: a certificate that is not pinned byte for byte passes only if `WebPkiServerVerifier` accepts it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Tags of ASN.1 (X.690).
const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Fields of `TBSCertificate` between the version and the validity: serial number, signature algorithm, issuer.
const FIELDS_BEFORE_VALIDITY: usize = 3;

/// `inner` accepts certificates that the pinned authorities signed. A pinned certificate is accepted for its names and dates in
/// addition, even with `CA:TRUE`, which `openssl req -x509` sets.
#[derive(Debug)]
pub(in crate::engine) struct PinnedVerifier {
    pub inner: Arc<WebPkiServerVerifier>,
    pub pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.pinned.iter().any(|pinned| pinned.as_ref() == end_entity.as_ref()) {
            return self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let (not_before, not_after) = validity(end_entity).ok_or(CertificateError::BadEncoding)?;
        if now < not_before {
            return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
        }
        if now > not_after {
            return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
        }
        verify_server_name(&certificate, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// First and last moment of a certificate (RFC 5280 section 4.1.2.5). `None` if it cannot be read.
fn validity(certificate: &[u8]) -> Option<(UnixTime, UnixTime)> {
    let (_, certificate, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut rest, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    if rest.first() == Some(&EXPLICIT_VERSION) {
        rest = element(rest)?.2;
    }
    for _ in 0..FIELDS_BEFORE_VALIDITY {
        rest = element(rest)?.2;
    }
    let (_, dates, _) = element(rest).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (tag, not_before, dates) = element(dates)?;
    let not_before = date(tag, not_before)?;
    let (tag, not_after, _) = element(dates)?;
    Some((not_before, date(tag, not_after)?))
}

/// The first element of DER: its tag, its content, and the bytes after it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// A moment in the forms that RFC 5280 allows: `YYMMDDHHMMSSZ` and `YYYYMMDDHHMMSSZ`. One before 1970 is 1970.
fn date(tag: u8, text: &[u8]) -> Option<UnixTime> {
    let text = std::str::from_utf8(text).ok()?;
    let full = match (tag, text.len()) {
        // Years from 50 on are of the last century.
        (UTC_TIME, 13) if text >= "50" => format!("19{text}"),
        (UTC_TIME, 13) => format!("20{text}"),
        (GENERALIZED_TIME, 15) => text.to_owned(),
        _ => return None,
    };
    let date = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", &full).ok()?;
    // The year 9999 means "no end", and its last hours are beyond the range of a timestamp.
    let seconds = jiff::tz::TimeZone::UTC.to_timestamp(date).unwrap_or(jiff::Timestamp::MAX).as_second();
    Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds.max(0) as u64)))
}
