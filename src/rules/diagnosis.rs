//! Explains a failed attempt: the cause in words, and the cure.
//!
//! The command line, the API and the pages share these words.

pub mod attempt_words;
mod tenant;

pub use tenant::for_tenant;
use tenant::then_for_tenant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::id::{AttemptId, IdKind as _};
use crate::model::webhook::{Webhook, WebhookState, WebhookStatus};
use crate::model::{Attempt, AttemptMade, AttemptOutcome, Delivery};
use crate::rules::{hold, tls_words};

/// The cause of a failure and its cure, each as a part of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Diagnosis {
    /// The cause.
    pub words: String,
    /// The cure.
    pub fix: String,
}

/// The reader of a cause and its cure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiagnosisReader {
    #[default]
    Operator,
    /// A customer with one app, who can mend a receiver and a webhook only.
    Tenant,
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

/// Code of an error of the handshake: the receiver answered without its consent.
pub const HANDSHAKE_REFUSED: &str = "handshake_refused";
/// Code of an error of a `GET` whose data does not fit into the URL.
pub const TARGET_TOO_LONG: &str = "target_too_long";
/// Code of an error of a body that would change a number of the data.
pub const NUMBER_CHANGED: &str = "number_changed";

/// The command of a cure that leads to the attempt, if the rule knows no id.
const FAILED_ATTEMPTS: &str = "postrider attempt list --failed --from 24h";

impl Diagnosis {
    /// The same without a command, for a reader who sees the attempt.
    pub fn beside_answer(mut self) -> Diagnosis {
        self.fix = self.fix.replace(&format!(": {FAILED_ATTEMPTS}"), "");
        self
    }

    /// The same with the command that shows the attempt.
    pub fn of_attempt(mut self, id: AttemptId) -> Diagnosis {
        self.fix = self.fix.replace(FAILED_ATTEMPTS, &format!("postrider attempt get {}{id}", Attempt::PREFIX));
        self
    }
}

/// Explains a failed attempt to its reader.
pub fn for_reader(reader: DiagnosisReader, failure: &Failure) -> Diagnosis {
    match reader {
        DiagnosisReader::Operator => of_failure(failure),
        DiagnosisReader::Tenant => for_tenant(failure),
    }
}

/// Explains a failed attempt to an operator.
pub fn of_failure(failure: &Failure) -> Diagnosis {
    let host = failure.host();
    let (words, fix) = match failure.outcome {
        AttemptOutcome::TlsError => return of_tls(failure, &host),
        AttemptOutcome::BlockedAddress => return of_blocked(failure, &host),
        AttemptOutcome::DnsError => return of_dns(failure, &host),
        AttemptOutcome::HttpStatus => return of_status(failure),
        AttemptOutcome::ConnectRefused => of_refusal(failure),
        AttemptOutcome::ConnectTimeout if error_code(&failure.error) == Some(attempt_words::TLS_TIMEOUT_CODE) => (
            "It was connected, and the TLS handshake took too long",
            "look whether TLS is spoken at that port, and at the load of the receiver",
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
        AttemptOutcome::RequestError => return of_request(failure),
        AttemptOutcome::ProxyError => (
            "The proxy of the settings failed, not the receiver",
            "look at the log of the proxy (delivery.proxy), and at its rules, user and password",
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
pub fn of_webhook(
    reader: DiagnosisReader,
    webhook: &Webhook,
    shown: &WebhookState,
    last: Option<&Failure>,
) -> Option<Diagnosis> {
    let state = capitalized(&hold::sentence(webhook, shown));
    let is_held = hold::of(webhook, shown).is_some();
    let then = match reader {
        DiagnosisReader::Operator => then_for_operator(webhook, is_held),
        DiagnosisReader::Tenant => then_for_tenant(webhook, is_held).map(str::to_owned),
    };
    // Nothing is sent while it is paused, so the last attempt is no cause.
    let cause = last.filter(|_| webhook.status != WebhookStatus::Paused).map(|last| for_reader(reader, last));
    let Some(cause) = cause else { return then.map(|fix| Diagnosis { words: state, fix }) };
    let failed = format!("The last attempt failed: {}", cause.words);
    Some(match then {
        None => Diagnosis { words: failed, fix: cause.fix },
        Some(then) => Diagnosis { words: format!("{state}. {failed}"), fix: format!("{}. Then: {then}", cause.fix) },
    })
}

/// The commands that let a webhook send again. `None` if nothing holds it.
fn then_for_operator(webhook: &Webhook, is_held: bool) -> Option<String> {
    let id = format!("{}{}", Webhook::PREFIX, webhook.id);
    match webhook.status {
        WebhookStatus::Paused => Some(format!("postrider webhook resume {id}")),
        WebhookStatus::Disabled => {
            Some(format!("postrider webhook enable {id}, and postrider replay --webhook {id} --missing"))
        }
        WebhookStatus::Enabled if is_held => {
            Some(format!("postrider webhook test {id}, which tries it, and postrider webhook resume {id}"))
        }
        WebhookStatus::Enabled => None,
    }
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

/// Explains a connection that was not accepted, by the stable code at the error's end.
fn of_refusal(failure: &Failure) -> (&'static str, &'static str) {
    match error_code(&failure.error) {
        Some(attempt_words::NO_ROUTE_CODE) => (
            "Other receivers may be reached",
            "look at the routes of this machine (ip route, ip -6 route), and at the addresses of the host name",
        ),
        Some(attempt_words::HOST_UNREACHABLE_CODE) => (
            "A router on the way, or this machine, reports it",
            "look whether the receiver's machine runs, and at the routes between here and there",
        ),
        _ => ("Nothing listens there", "start the receiver, or mend the port of the URL"),
    }
}

fn of_dns(failure: &Failure, host: &str) -> Diagnosis {
    if error_code(&failure.error) == Some(attempt_words::DNS_TIMEOUT_CODE) {
        let fix = "look at the name server (/etc/resolv.conf), and at the network to it".to_owned();
        return Diagnosis { words: failure.error_and(&format!("Nothing is known of {host}")), fix };
    }
    let words = match &failure.addresses {
        Some(addresses) => format!("This machine finds {addresses} for {host}"),
        None => format!("{host} had no address"),
    };
    let fix = "mend the host name of the URL, or the name server (/etc/resolv.conf)".to_owned();
    Diagnosis { words: failure.error_and(&words), fix }
}

/// Explains a TLS error by the stable code in brackets at the error's end (`engine::sender`).
fn of_tls(failure: &Failure, host: &str) -> Diagnosis {
    const KNOWN: [(&str, &str); 7] = [
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
        (
            tls_words::CLIENT_CERTIFICATE,
            "set tls.client_cert_pem and tls.client_key_pem of the webhook to a certificate that the receiver accepts",
        ),
    ];
    let code = error_code(&failure.error);
    if let Some((_, fix)) = KNOWN.iter().find(|(known, _)| code == Some(known)) {
        return Diagnosis { words: format!("{}, at {host}", failure.error), fix: (*fix).to_owned() };
    }
    let fix = "look whether TLS is spoken at that port, and at the receiver's versions and certificate; for an authority \
               of your own set tls.ca_pem of the webhook";
    Diagnosis { words: failure.error_and(&format!("TLS cannot be spoken with {host}")), fix: fix.to_owned() }
}

/// Explains a request that could not be made, or had no HTTP answer, by the stable code at the error's end.
fn of_request(failure: &Failure) -> Diagnosis {
    let (words, fix) = match error_code(&failure.error) {
        Some(HANDSHAKE_REFUSED) => (
            "Deliveries need the consent of the receiver",
            "have the receiver answer OPTIONS with 200 and WebHook-Allowed-Origin, or set handshake of the webhook to false",
        ),
        Some(TARGET_TOO_LONG) => (
            "No request was made",
            "set another method of the webhook, so that the data is in the body, or publish less data",
        ),
        Some(NUMBER_CHANGED) => {
            ("No request was made", "publish such numbers as strings, or set another field_set of the webhook")
        }
        _ => (
            "The request could not be made, or the answer was no HTTP",
            "look at the URL's scheme and port, and at the webhook's headers and tls",
        ),
    };
    Diagnosis { words: failure.error_and(words), fix: fix.to_owned() }
}

/// The stable code in brackets at the end of an error.
fn error_code(error: &str) -> Option<&str> {
    error.rsplit_once('[').and_then(|(_, code)| code.strip_suffix(']'))
}

fn answered(status: u16, error: &str) -> String {
    format!("it answered {status} {error}").trim_end().to_owned()
}

fn of_status(failure: &Failure) -> Diagnosis {
    let status = failure.status_code.unwrap_or(0);
    let fix = match status {
        401 | 403 => "mend the webhook's auth or secret, which the receiver refuses",
        404 | 405 => "mend the URL or the method of the webhook",
        410 => "remove the webhook, or mend its URL: the receiver says that it is gone for good",
        413 => "have the receiver take larger bodies, or publish less data",
        414 => "have the receiver take longer URLs, or set another method of the webhook, or shorten its URL",
        429 => "set rate_limit_per_s of the webhook, or lower its max_in_flight: the receiver wants less",
        431 => "have the receiver take larger heads, or send fewer headers of the webhook and a shorter URL",
        200..=299 => "have the receiver answer as success_rule of the webhook asks, or change that rule",
        300..=399 => "give the URL that the redirect leads to: redirects are not followed",
        _ => {
            let fix = format!("look at the receiver's log, and at the body of its answer: {FAILED_ATTEMPTS}");
            return Diagnosis { words: answered(status, &failure.error), fix };
        }
    };
    Diagnosis { words: answered(status, &failure.error), fix: fix.to_owned() }
}

#[cfg(test)]
mod tests;
