//! Explains a failed attempt to a tenant, who can mend a receiver and a webhook only.
//!
//! Invariant: no text names a setting, a file, a command, a proxy or an address of the operator.

use crate::model::AttemptOutcome;
use crate::model::webhook::{Webhook, WebhookStatus};

use super::{Diagnosis, Failure, tls_code};

/// Explains a failed attempt to a tenant.
pub fn for_tenant(failure: &Failure) -> Diagnosis {
    let host = failure.host();
    let (words, fix) = match failure.outcome {
        AttemptOutcome::BlockedAddress => {
            ("The address is not allowed".to_owned(), "give a URL that the internet reaches")
        }
        AttemptOutcome::DnsError => (format!("{host} had no address"), "mend the host name of the URL"),
        AttemptOutcome::ProxyError => {
            ("The request was not sent, which is not your fault".to_owned(), "wait: it is sent again by the schedule")
        }
        AttemptOutcome::TlsError => {
            (failure.error_and(&format!("TLS cannot be spoken with {host}")), of_tls(tls_code(&failure.error)))
        }
        AttemptOutcome::HttpStatus => {
            let words = format!("it answered {} {}", failure.status_code.unwrap_or(0), failure.error);
            (words.trim_end().to_owned(), of_status(failure.status_code.unwrap_or(0)))
        }
        AttemptOutcome::Expired => (failure.error.clone(), "mend the receiver, then replay the failed deliveries"),
        AttemptOutcome::Success => ("The attempt succeeded".to_owned(), "nothing is left to mend"),
        AttemptOutcome::ConnectRefused => {
            (failure.error_and("Nothing listens there"), "start the receiver, or mend the port of the URL")
        }
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
            (failure.error_and("The answer was no HTTP"), "look at the URL's scheme and port")
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

fn of_tls(code: Option<&str>) -> &'static str {
    match code {
        Some("certificate_expired" | "certificate_not_valid_yet") => "renew the certificate of the receiver",
        Some("certificate_other_name") => "mend the host of the URL, or get a certificate with that name in it",
        Some("certificate_not_for_servers" | "certificate_revoked") => "replace the certificate of the receiver",
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
        429 => "lower the requests a second of the webhook: the receiver wants less",
        200..=299 => "have the receiver answer as the success rule of the webhook asks, or change that rule",
        300..=399 => "give the URL that the redirect leads to: redirects are not followed",
        _ => "look at the receiver's log, and at its answer",
    }
}
