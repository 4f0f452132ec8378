//! Explains a failed attempt: the cause in words, and the cure.
//!
//! The command line, the API and the pages share these words.

mod tenant;

pub use tenant::for_tenant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::id::{AttemptId, IdKind as _};
use crate::model::webhook::{Webhook, WebhookState, WebhookStatus};
use crate::model::{Attempt, AttemptMade, AttemptOutcome, Delivery};
use crate::rules::hold;

/// The cause of a failure and its cure, each as a part of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Diagnosis {
    /// The cause.
    pub words: String,
    /// The cure.
    pub fix: String,
}

/// The part of a failed attempt that its cause is read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub outcome: AttemptOutcome,
    pub status_code: Option<u16>,
    /// As in the attempt's `error`.
    pub error: String,
    /// The URL that the request went to. `None` if it is unknown.
    pub url: Option<String>,
    /// The addresses of the URL's host as text. `None` if they are unknown.
    pub addresses: Option<String>,
}

impl Failure {
    /// `None` if the attempt succeeded.
    pub fn of_attempt(made: &AttemptMade) -> Option<Failure> {
        (!made.success).then(|| Failure {
            outcome: made.outcome,
            status_code: made.status_code,
            error: made.error.clone().unwrap_or_default(),
            url: Some(made.url.clone()),
            addresses: None,
        })
    }

    /// The failure of the last attempt, or the expiry. `None` if the last attempt succeeded, or none was made.
    pub fn of_delivery(delivery: &Delivery) -> Option<Failure> {
        let outcome = delivery.last_outcome.filter(|outcome| *outcome != AttemptOutcome::Success)?;
        Some(Failure {
            outcome,
            status_code: delivery.last_status_code,
            error: delivery.last_error.clone().unwrap_or_default(),
            url: None,
            addresses: None,
        })
    }

    /// The URL's host, or a phrase in its place.
    fn host(&self) -> String {
        let host = self.url.as_deref().and_then(|url| url::Url::parse(url).ok()?.host_str().map(str::to_owned));
        host.unwrap_or_else(|| "the host of the URL".to_owned())
    }

    /// The error, and then `more` as a sentence.
    fn error_and(&self, more: &str) -> String {
        match self.error.is_empty() {
            true => more.to_owned(),
            false => format!("{}. {more}", self.error),
        }
    }
}

/// The command of a cure that leads to the attempt, if the rule knows no id.
const FAILED_ATTEMPTS: &str = "postrider attempt list --failed";

impl Diagnosis {
    /// The same with the command that shows the attempt.
    pub fn of_attempt(mut self, id: AttemptId) -> Diagnosis {
        self.fix = self.fix.replace(FAILED_ATTEMPTS, &format!("postrider attempt get {}{id}", Attempt::PREFIX));
        self
    }
}

/// Explains a failed attempt.
pub fn of_failure(failure: &Failure) -> Diagnosis {
    let host = failure.host();
    let (words, fix) = match failure.outcome {
        AttemptOutcome::TlsError => return of_tls(failure, &host),
        AttemptOutcome::BlockedAddress => return of_blocked(failure, &host),
        AttemptOutcome::DnsError => return of_dns(failure, &host),
        AttemptOutcome::HttpStatus => return of_status(failure),
        AttemptOutcome::ConnectRefused => (
            "Nothing listens there",
            "start the receiver, or mend the port of the URL; the waiting deliveries are sent as soon as it answers",
        ),
        AttemptOutcome::ConnectTimeout => {
            ("No answer to the connection", "look at firewalls between here and there, and whether the receiver runs")
        }
        AttemptOutcome::Timeout => (
            "It was connected, and the answer took too long",
            "have the receiver answer first and work afterwards, or raise timeout_ms of the webhook",
        ),
        AttemptOutcome::ConnectReset => {
            ("The receiver closed the connection", "look at the receiver's log, and whether the URL's scheme is right")
        }
        AttemptOutcome::RequestError => (
            "The request could not be made, or the answer was no HTTP",
            "look at the URL's scheme and port, and at the webhook's headers and tls",
        ),
        AttemptOutcome::ProxyError => (
            "The proxy of the settings failed, not the receiver",
            "look at the proxy (delivery.proxy): what it allows, its log, and the user and the password; what waits is \
             sent by the schedule",
        ),
        AttemptOutcome::Expired => {
            let fix = "mend the receiver, then replay the failed deliveries".to_owned();
            return Diagnosis { words: failure.error.clone(), fix };
        }
        AttemptOutcome::Success => ("The attempt succeeded", "nothing is left to mend"),
    };
    Diagnosis { words: failure.error_and(words), fix: fix.to_owned() }
}

/// Explains why a webhook's deliveries fail or wait. `shown` is its state as `circuit::shown` gives it, and `last` its last
/// attempt, if that failed. `None` if the webhook is well.
pub fn of_webhook(webhook: &Webhook, shown: &WebhookState, last: Option<&Failure>) -> Option<Diagnosis> {
    let id = webhook.id;
    let state = capitalized(&hold::sentence(webhook, shown));
    let hold = hold::of(webhook, shown);
    if webhook.status == WebhookStatus::Paused {
        return Some(Diagnosis { words: state, fix: format!("postrider webhook resume {id}") });
    }
    let cause = last.map(of_failure);
    let words = match (&cause, hold.is_some()) {
        (None, false) => return None,
        (None, true) => state,
        (Some(cause), false) => format!("The last attempt failed: {}", cause.words),
        (Some(cause), true) => format!("{state}. The last attempt failed: {}", cause.words),
    };
    let then = match webhook.status {
        WebhookStatus::Disabled => {
            format!("postrider webhook enable {id}, and postrider replay --webhook {id} --missing")
        }
        _ if hold.is_some() => {
            format!("postrider webhook test {id} tries it; then postrider webhook resume {id} sends at once")
        }
        _ => "the next attempt goes by the schedule".to_owned(),
    };
    let fix = match cause {
        Some(cause) => format!("{}. Then: {then}", cause.fix),
        None => then,
    };
    Some(Diagnosis { words, fix })
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn of_blocked(failure: &Failure, host: &str) -> Diagnosis {
    let is_its_own_name = failure.addresses.as_deref() == Some(host.trim_matches(['[', ']']));
    let words = match failure.addresses.as_deref().filter(|_| !is_its_own_name) {
        None => format!("{host} is private or denied"),
        Some(addresses) => format!("{host} is {addresses}, which is private or denied"),
    };
    let fix =
        format!("if it is meant to be reached, add {host} to delivery.allow of the settings and reload the daemon");
    Diagnosis { words: failure.error_and(&words), fix }
}

fn of_dns(failure: &Failure, host: &str) -> Diagnosis {
    let words = match &failure.addresses {
        Some(addresses) => format!("This machine finds {addresses} for {host}"),
        None => format!("{host} had no address"),
    };
    let fix = "mend the host name of the URL, or the name server (/etc/resolv.conf)".to_owned();
    Diagnosis { words: failure.error_and(&words), fix }
}

/// Explains a TLS error by the stable code in brackets at the error's end (`engine::sender`).
fn of_tls(failure: &Failure, host: &str) -> Diagnosis {
    const KNOWN: [(&str, &str); 6] = [
        ("certificate_expired", "have the receiver renew its certificate"),
        (
            "certificate_not_valid_yet",
            "look at the clocks here and at the receiver; else have it renew its certificate",
        ),
        (
            "certificate_other_name",
            "mend the host of the URL, or have the receiver get a certificate with that name in it",
        ),
        (
            "certificate_not_for_servers",
            "have the receiver use one that an authority signed, or set tls.ca_pem of the webhook to the receiver's own",
        ),
        (
            "certificate_unknown_authority",
            "have the receiver send its whole chain; for an authority of your own set tls.ca_pem of the webhook",
        ),
        ("certificate_revoked", "have the receiver replace its certificate, which its authority revoked"),
    ];
    let code = tls_code(&failure.error);
    if let Some((_, fix)) = KNOWN.iter().find(|(known, _)| code == Some(known)) {
        return Diagnosis { words: format!("{}, at {host}", failure.error), fix: (*fix).to_owned() };
    }
    let fix = "look whether TLS is spoken at that port, and at the receiver's versions and certificate; for an authority \
               of your own set tls.ca_pem of the webhook";
    Diagnosis { words: failure.error_and(&format!("TLS cannot be spoken with {host}")), fix: fix.to_owned() }
}

/// The stable code in brackets at the end of a TLS error.
fn tls_code(error: &str) -> Option<&str> {
    error.rsplit_once('[').and_then(|(_, code)| code.strip_suffix(']'))
}

fn answered(status: u16, error: &str) -> String {
    format!("it answered {status} {error}").trim_end().to_owned()
}

fn of_status(failure: &Failure) -> Diagnosis {
    let status = failure.status_code.unwrap_or(0);
    let fix = match status {
        401 | 403 => "look at the webhook's auth and secret: the receiver refuses them",
        404 | 405 => "mend the URL or the method of the webhook",
        410 => "the receiver says that it is gone for good: remove the webhook, or mend its URL",
        429 => "the receiver wants less: set rate_limit_per_s or lower max_in_flight",
        300..=399 => "redirects are not followed: give the URL that it leads to",
        _ => {
            let fix = format!("look at the receiver's log; the attempt has its answer's body: {FAILED_ATTEMPTS}");
            return Diagnosis { words: answered(status, &failure.error), fix };
        }
    };
    Diagnosis { words: answered(status, &failure.error), fix: fix.to_owned() }
}

#[cfg(test)]
mod tests;
