//! Explains a failed attempt to a tenant, who can mend a receiver and a webhook only.
//!
//! Invariant: no text names a setting, a file, a command, a proxy or an address of the operator.

use crate::model::AttemptOutcome;
use crate::model::webhook::{Webhook, WebhookStatus};
use crate::rules::tls_words;

use super::{Diagnosis, Failure, HANDSHAKE_REFUSED, NUMBER_CHANGED, TARGET_TOO_LONG, attempt_words, error_code};

/// Explains a failed attempt to a tenant.
pub fn for_tenant(failure: &Failure) -> Diagnosis {
    let (host, code) = (failure.host(), error_code(&failure.error));
    let (words, fix) = match failure.outcome {
        AttemptOutcome::BlockedAddress => {
            ("The address is not allowed".to_owned(), "give a URL that the internet reaches")
        }
        AttemptOutcome::DnsError if code == Some(attempt_words::DNS_TIMEOUT_CODE) => {
            (format!("{host} could not be looked up in time"), "wait: it is sent again by the schedule")
        }
        AttemptOutcome::DnsError => (format!("{host} had no address"), "mend the host name of the URL"),
        AttemptOutcome::ProxyError => {
            ("The request was not sent, which is not your fault".to_owned(), "wait: it is sent again by the schedule")
        }
        AttemptOutcome::TlsError => {
            (failure.error_and(&format!("TLS cannot be spoken with {host}")), of_tls(error_code(&failure.error)))
        }
        AttemptOutcome::HttpStatus => {
            let words = format!("it answered {} {}", failure.status_code.unwrap_or(0), failure.error);
            (words.trim_end().to_owned(), of_status(failure.status_code.unwrap_or(0)))
        }
        AttemptOutcome::Expired => (failure.error.clone(), "mend the receiver, then replay the failed deliveries"),
        AttemptOutcome::Success => ("The attempt succeeded".to_owned(), "nothing is left to mend"),
        AttemptOutcome::ConnectRefused if code == Some(attempt_words::NO_ROUTE_CODE) => {
            ("There is no route to the receiver".to_owned(), "give a host name with an IPv4 address")
        }
        AttemptOutcome::ConnectRefused if code == Some(attempt_words::HOST_UNREACHABLE_CODE) => {
            ("The host of the receiver cannot be reached".to_owned(), "look whether it runs, and at its network")
        }
        AttemptOutcome::ConnectRefused => {
            (failure.error_and("Nothing listens there"), "start the receiver, or mend the port of the URL")
        }
        AttemptOutcome::ConnectTimeout if code == Some(attempt_words::TLS_TIMEOUT_CODE) => (
            "It was connected, and the TLS handshake took too long".to_owned(),
            "look whether TLS is spoken at that port, and at the load of the receiver",
        ),
        AttemptOutcome::ConnectTimeout => (
            failure.error_and("No answer to the connection"),
            "look at the firewall before the receiver, and whether the receiver runs",
        ),
        AttemptOutcome::Timeout => (
            failure.error_and("It was connected, and the answer took too long"),
            "have the receiver answer first and work afterwards, or raise the time limit of the webhook",
        ),
        AttemptOutcome::ConnectReset => (
            failure.error_and("The receiver closed the connection"),
            "look at the receiver's log, and whether the URL's scheme is right",
        ),
        AttemptOutcome::RequestError => {
            let (words, fix) = of_request(error_code(&failure.error));
            (failure.error_and(words), fix)
        }
    };
    Diagnosis { words, fix: fix.to_owned() }
}

/// The steps that let a webhook send again. `None` if nothing holds it.
pub(super) fn then_for_tenant(webhook: &Webhook, is_held: bool) -> Option<&'static str> {
    match webhook.status {
        WebhookStatus::Paused => Some("resume the webhook"),
        WebhookStatus::Disabled => Some("enable the webhook, and replay the deliveries that it missed"),
        WebhookStatus::Enabled if is_held => Some("test the webhook, and resume it"),
        WebhookStatus::Enabled => None,
    }
}

fn of_request(code: Option<&str>) -> (&'static str, &'static str) {
    match code {
        Some(HANDSHAKE_REFUSED) => (
            "Webhooks need the consent of the receiver",
            "have the receiver answer OPTIONS with 200 and WebHook-Allowed-Origin, or turn the handshake of the webhook off",
        ),
        Some(TARGET_TOO_LONG) => {
            ("No request was made", "set another method of the webhook, so that the data is in the body")
        }
        Some(NUMBER_CHANGED) => ("No request was made", "set another shape of bodies of the webhook"),
        _ => ("The answer was no HTTP", "look at the URL's scheme and port"),
    }
}

fn of_tls(code: Option<&str>) -> &'static str {
    match code {
        Some("certificate_expired" | "certificate_not_valid_yet") => "renew the certificate of the receiver",
        Some("certificate_other_name") => "mend the host of the URL, or get a certificate with that name in it",
        Some("certificate_not_for_servers" | "certificate_revoked") => "replace the certificate of the receiver",
        Some(tls_words::CLIENT_CERTIFICATE) => {
            "set the client certificate and its key in the webhook's TLS fields, or have the receiver ask for none"
        }
        Some("certificate_unknown_authority") => {
            "have the receiver send its whole chain, with a certificate of an authority that is generally trusted"
        }
        _ => "look whether TLS is spoken at that port, and at the receiver's versions and certificate",
    }
}

fn of_status(status: u16) -> &'static str {
    match status {
        401 | 403 => "mend the webhook's credentials or secret, which the receiver refuses",
        404 | 405 => "mend the URL or the method of the webhook",
        410 => "delete the webhook, or mend its URL: the receiver says that it is gone for good",
        413 => "have the receiver take larger bodies",
        414 => "have the receiver take longer URLs, or set another method of the webhook, or shorten its URL",
        429 => "lower the requests a second of the webhook: the receiver wants less",
        431 => "have the receiver take larger heads, or send fewer headers of the webhook and a shorter URL",
        200..=299 => "have the receiver answer as the success rule of the webhook asks, or change that rule",
        300..=399 => "give the URL that the redirect leads to: redirects are not followed",
        _ => "look at the receiver's log, and at its answer",
    }
}
