//! The handshake: asks a receiver for its consent before the first delivery.
//!
//! It is the validation of CloudEvents' "HTTP 1.1 Web Hooks for Event Delivery" 1.0, section 4 (`OPTIONS`,
//! `WebHook-Request-Origin`, `WebHook-Allowed-Origin`, `WebHook-Allowed-Rate`).
//!
//! Invariant: a delivery goes to a webhook with `handshake` only under a grant for its exact URL that is no older than
//! `GRANT_MS`. Only grants are cached: after a refusal the next attempt asks again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderName, HeaderValue};

use crate::model::id::WebhookId;
use crate::model::time::DAY_MS;
use crate::model::{AttemptOutcome, Time, Webhook};
use crate::rules::diagnosis::HANDSHAKE_REFUSED;

use crate::engine::clock::Clock;
use crate::engine::compiled_webhook::CompiledWebhook;
use crate::engine::sender::{ExchangeResult, ProxyContact, Sender, Shortage, reason};

/// Validity of a grant. Afterwards the receiver is asked again.
const GRANT_MS: i64 = DAY_MS;
/// Number of cached grants above which those of removed webhooks are dropped.
const GRANTS_MAX: usize = 10_000;
/// The unit of the handshake's rates.
const SECONDS_PER_MINUTE: f64 = 60.0;

const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const REQUEST_RATE: HeaderName = HeaderName::from_static("webhook-request-rate");
const ALLOWED_ORIGIN: &str = "webhook-allowed-origin";
const ALLOWED_RATE: &str = "webhook-allowed-rate";

/// A receiver's consent.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    pub url: String,
    /// Requests per second. `None` if only the webhook's own limits apply.
    pub per_s: Option<f64>,
    until: Time,
}

/// Why nothing may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeRefused {
    /// `RequestError` if the receiver does not consent. Otherwise the failure of asking it.
    pub outcome: AttemptOutcome,
    pub error: String,
    pub proxy: ProxyContact,
    /// The shortage of this machine that prevented the question.
    pub shortage: Option<Shortage>,
}

/// The grants of receivers, and the questions to them.
pub struct Handshakes {
    origin: HeaderValue,
    grants: Mutex<HashMap<WebhookId, Grant>>,
    /// Locks that allow one question at a time for each webhook.
    admission: Mutex<HashMap<WebhookId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Handshakes {
    /// `origin` is the sender's name in the handshake. Deliveries then carry it as `Origin`.
    pub fn new(origin: &str) -> Handshakes {
        let origin = HeaderValue::from_str(origin).unwrap_or(HeaderValue::from_static("localhost"));
        Handshakes { origin, grants: Mutex::default(), admission: Mutex::default() }
    }

    pub fn origin(&self) -> &HeaderValue {
        &self.origin
    }

    /// The current grant of a webhook.
    pub fn grant(&self, webhook: &Webhook, now: Time) -> Option<Grant> {
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        grants.get(&webhook.id).filter(|grant| grant.url == webhook.url && now < grant.until).cloned()
    }

    /// Asks the receiver, unless there is a grant.
    pub async fn ask(
        &self,
        sender: &Sender,
        clock: &dyn Clock,
        compiled: &CompiledWebhook,
    ) -> Result<(), HandshakeRefused> {
        let webhook = &*compiled.webhook;
        if self.grant(webhook, clock.now()).is_some() {
            return Ok(());
        }
        let turn = self.admission.lock().unwrap_or_else(PoisonError::into_inner).entry(webhook.id).or_default().clone();
        let _turn = turn.lock().await;
        // The previous holder of the lock may have received a grant.
        if self.grant(webhook, clock.now()).is_some() {
            return Ok(());
        }
        let mut consent_request = vec![(REQUEST_ORIGIN, self.origin.clone())];
        if let Some(rate) = webhook.rate_limit_per_s {
            consent_request.push((REQUEST_RATE, HeaderValue::from((rate * SECONDS_PER_MINUTE).ceil().max(1.0) as u64)));
        }
        let exchange = sender.send(&compiled.consent_request(consent_request)).await;
        let answer = read_answer(&exchange, self.origin.to_str().unwrap_or_default());
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        grants.remove(&webhook.id);
        let per_s = answer?;
        if grants.len() >= GRANTS_MAX {
            grants.clear();
        }
        grants.insert(webhook.id, Grant { url: webhook.url.clone(), per_s, until: clock.now().plus_ms(GRANT_MS) });
        Ok(())
    }

    /// Drops the grants of removed webhooks.
    pub fn retain(&self, is_there: impl Fn(WebhookId) -> bool) {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| is_there(*id));
        self.admission.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| is_there(*id));
    }
}

/// The rate that a response allows, in requests per second. Consent is the header and not the status alone.
fn read_answer(exchange: &ExchangeResult, origin: &str) -> Result<Option<f64>, HandshakeRefused> {
    let (proxy, shortage) = (exchange.proxy, exchange.shortage);
    let refused = |outcome, error| Err(HandshakeRefused { outcome, error, proxy, shortage });
    let refused_by_answer =
        |error: String| refused(AttemptOutcome::RequestError, format!("{error} [{HANDSHAKE_REFUSED}]"));
    if exchange.outcome != AttemptOutcome::HttpStatus {
        let error = exchange.error.as_deref().unwrap_or("no answer");
        return refused(exchange.outcome, format!("the handshake failed: {error}"));
    }
    let status = exchange.status_code.unwrap_or_default();
    if !(200..300).contains(&status) {
        return refused_by_answer(format!("the handshake was answered with {status} {}", reason(status)));
    }
    let header = |name: &str| {
        let found = exchange.response_headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    };
    match header(ALLOWED_ORIGIN) {
        None => {
            return refused_by_answer(
                "the receiver did not consent: its answer has no WebHook-Allowed-Origin".to_owned(),
            );
        }
        Some(allowed) if allowed != "*" && !allowed.eq_ignore_ascii_case(origin) => {
            return refused_by_answer(format!("the receiver consents to {allowed:?} only, this is {origin:?}"));
        }
        Some(_) => {}
    }
    match header(ALLOWED_RATE) {
        None | Some("*") => Ok(None),
        Some(text) => match text.parse::<u32>() {
            Ok(per_minute) if per_minute > 0 => Ok(Some(f64::from(per_minute) / SECONDS_PER_MINUTE)),
            _ => refused_by_answer(format!(
                "the receiver allows a rate of {text:?}, which is no number of requests per minute"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timings;

    fn answer(status: u16, headers: &[(&str, &str)]) -> ExchangeResult {
        ExchangeResult {
            outcome: AttemptOutcome::HttpStatus,
            status_code: Some(status),
            error: None,
            detail: None,
            response_time_ms: Some(1),
            remote_addr: None,
            response_headers: headers.iter().copied().collect(),
            response_body: Vec::new(),
            retry_after: None,
            timings: Timings::default(),
            proxy: ProxyContact::None,
            shortage: None,
        }
    }

    #[test]
    fn consent_is_the_origin_or_the_asterisk() {
        for (headers, expected) in [
            (&[("WebHook-Allowed-Origin", "*")][..], Some(None)),
            (&[("webhook-allowed-origin", "A.example"), ("webhook-allowed-rate", "120")], Some(Some(2.0))),
            (&[("webhook-allowed-origin", "a.example"), ("webhook-allowed-rate", "*")], Some(None)),
            (&[("webhook-allowed-origin", "b.example")], None),
            (&[("webhook-allowed-origin", "*"), ("webhook-allowed-rate", "0")], None),
            (&[("webhook-allowed-origin", "*"), ("webhook-allowed-rate", "many")], None),
            (&[("webhook-allowed-rate", "*")], None),
        ] {
            assert_eq!(read_answer(&answer(200, headers), "a.example").ok(), expected, "{headers:?}");
        }
        let refused = read_answer(&answer(405, &[("webhook-allowed-origin", "*")]), "a.example").unwrap_err();
        assert_eq!(
            (refused.outcome, refused.error.as_str()),
            (
                AttemptOutcome::RequestError,
                "the handshake was answered with 405 Method Not Allowed [handshake_refused]"
            )
        );
    }

    #[test]
    fn a_receiver_that_could_not_be_asked_is_distinguished_from_one_that_refuses() {
        let failed = ExchangeResult {
            outcome: AttemptOutcome::ConnectRefused,
            error: Some("Connection refused".to_owned()),
            ..answer(0, &[])
        };
        assert_eq!(read_answer(&failed, "a").unwrap_err().outcome, AttemptOutcome::ConnectRefused);
    }
}
