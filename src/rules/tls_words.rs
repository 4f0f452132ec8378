//! Words for TLS errors, with a stable code in brackets at the end, for the webhook's owner, the doctor and the command
//! line.

use rustls::{AlertDescription, CertificateError, Error};
use rustls_pki_types::UnixTime;

use crate::model::Time;

/// Length of the date in a shown time.
const DATE_CHARS: usize = 10;
/// Names of a certificate that an error lists.
const NAMES_MAX: usize = 5;

/// Code of an error of a peer that refuses this side without a client certificate, or with another one.
pub const CLIENT_CERTIFICATE: &str = "client_certificate";

/// The error in a sentence. Errors without a code of their own have rustls' words and the code `tls`.
pub fn words(error: &Error) -> String {
    let (sentence, code) = match error {
        Error::InvalidCertificate(why) => certificate(why),
        Error::AlertReceived(alert) if is_of_client_certificate(*alert) => (
            format!("the peer refused the handshake for want of a client certificate that it accepts: {alert:?}"),
            CLIENT_CERTIFICATE,
        ),
        Error::AlertReceived(alert) => (format!("the peer refused the handshake: {alert:?}"), "refused"),
        Error::InvalidMessage(_) => ("TLS is not spoken at this port".to_owned(), "no_tls"),
        Error::PeerIncompatible(_) => {
            ("the peer has no TLS version or cipher in common with this program".to_owned(), "incompatible")
        }
        other => (other.to_string(), "tls"),
    };
    format!("{sentence} [{code}]")
}

/// Whether a peer tells by this alert that it wants a client certificate, or another one (RFC 8446 section 6.2; before
/// TLS 1.3 a missing certificate is `bad_certificate` for most servers).
fn is_of_client_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::CertificateRequired
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
    )
}

fn certificate(why: &CertificateError) -> (String, &'static str) {
    match why {
        CertificateError::ExpiredContext { not_after, .. } => {
            (format!("the certificate expired on {}", date(*not_after)), "certificate_expired")
        }
        CertificateError::Expired => ("the certificate has expired".to_owned(), "certificate_expired"),
        CertificateError::NotValidYetContext { not_before, .. } => {
            (format!("the certificate is valid from {} on", date(*not_before)), "certificate_not_valid_yet")
        }
        CertificateError::NotValidYet => ("the certificate is not valid yet".to_owned(), "certificate_not_valid_yet"),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().take(NAMES_MAX).map(|name| bare(name)).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            (format!("the certificate is for {names}, not for {}", expected.to_str()), "certificate_other_name")
        }
        CertificateError::NotValidForName => {
            ("the certificate is for another name".to_owned(), "certificate_other_name")
        }
        CertificateError::UnknownIssuer => {
            ("the certificate was issued by an unknown authority".to_owned(), "certificate_unknown_authority")
        }
        CertificateError::BadSignature => {
            ("the certificate's signature is not its authority's".to_owned(), "certificate_unknown_authority")
        }
        CertificateError::Revoked => ("the certificate was revoked".to_owned(), "certificate_revoked"),
        // webpki's `CaUsedAsEndEntity` is the usual one of these.
        CertificateError::Other(_) => (
            "the certificate is an authority's own, or breaks another rule of RFC 5280".to_owned(),
            "certificate_not_for_servers",
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            ("the certificate is not for servers".to_owned(), "certificate_not_for_servers")
        }
        other => (format!("the certificate cannot be used: {other}"), "certificate"),
    }
}

/// A name without rustls' `DnsName("…")` or `IpAddress(…)` around it.
fn bare(name: &str) -> &str {
    let inside = name.split_once('(').map_or(name, |(_, rest)| rest.trim_end_matches(')'));
    inside.trim_matches('"')
}

fn date(time: UnixTime) -> String {
    let shown = Time(i64::try_from(time.as_secs()).unwrap_or(0).saturating_mul(1_000)).to_string();
    shown.chars().take(DATE_CHARS).collect()
}
