//! States as pages show them: icon, colour class and word of webhooks, deliveries and attempts.

use maud::Markup;

use crate::api::ApiContext;
use crate::model::webhook::{DisabledReason, Webhook, WebhookState, WebhookStatus};
use crate::model::{AttemptMade, AttemptOutcome, DeliveryStatus, Time};
use crate::rules::hold::{self, HoldReason};
use crate::rules::circuit;

use super::{frame, write};

/// Failed attempts in a row from which a webhook counts as failing.
const FAILURES_IN_A_ROW_MIN: u32 = 2;

/// How a webhook does. The order is that of trouble: the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WebhookMood {
    Enabled,
    Disabled,
    /// Disabled because of its attempts.
    SwitchedOff,
    Paused,
    HeldBack,
    Failing,
}

impl WebhookMood {
    /// The mood of a webhook whose state is `shown`, as `circuit::shown` gives it.
    pub fn of(webhook: &Webhook, shown: &WebhookState) -> WebhookMood {
        match webhook.status {
            WebhookStatus::Disabled if webhook.disabled_reason == Some(DisabledReason::Manual) => WebhookMood::Disabled,
            WebhookStatus::Disabled => WebhookMood::SwitchedOff,
            WebhookStatus::Paused => WebhookMood::Paused,
            WebhookStatus::Enabled => match hold::of(webhook, shown).map(|hold| hold.reason) {
                Some(HoldReason::Receiver) => WebhookMood::HeldBack,
                Some(_) => WebhookMood::Failing,
                None if shown.consecutive_failures >= FAILURES_IN_A_ROW_MIN => WebhookMood::Failing,
                None => WebhookMood::Enabled,
            },
        }
    }

    /// The mood of a webhook now.
    pub fn now(context: &ApiContext<'_>, webhook: &Webhook) -> WebhookMood {
        WebhookMood::of(webhook, &circuit::shown(context.store.state(webhook.id), context.now))
    }

    pub fn is_failing(self) -> bool {
        matches!(self, WebhookMood::Failing | WebhookMood::SwitchedOff)
    }

    /// Whether a person should look at it.
    pub fn is_trouble(self) -> bool {
        !matches!(self, WebhookMood::Enabled | WebhookMood::Disabled)
    }

    const fn parts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            WebhookMood::Enabled => ("ok", "ok", "Enabled"),
            WebhookMood::Disabled => ("off", "off", "Disabled"),
            WebhookMood::SwitchedOff => ("bad", "off", "Disabled"),
            WebhookMood::Paused => ("held", "held", "Paused"),
            WebhookMood::HeldBack => ("retry", "retry", "Held back"),
            WebhookMood::Failing => ("bad", "bad", "Failing"),
        }
    }

    /// The state of a row, of which a narrow screen shows the icon only.
    pub fn folded(self) -> Markup {
        let (class, icon, word) = self.parts();
        frame::state(&format!("{class} fold"), icon, word)
    }

    pub fn tag(self) -> Markup {
        let (class, icon, word) = self.parts();
        frame::tag(class, icon, word)
    }
}

/// Why a webhook is in trouble, in a few words. Empty if it is not. `last` is its newest attempt.
pub fn reason(webhook: &Webhook, shown: &WebhookState, last: Option<&AttemptMade>) -> String {
    let last_words = last.filter(|made| !made.success).map(answer).unwrap_or_default();
    match WebhookMood::of(webhook, shown) {
        WebhookMood::Enabled => String::new(),
        WebhookMood::Disabled => "switched off by hand: what is published makes no delivery".to_owned(),
        WebhookMood::SwitchedOff => match webhook.disabled_reason {
            Some(DisabledReason::Gone) => "the receiver answered 410: it wants no deliveries any more".to_owned(),
            _ => "no attempt succeeded for as long as disable_after_s allows".to_owned(),
        },
        WebhookMood::Paused => "paused by hand: what is published waits".to_owned(),
        WebhookMood::HeldBack => format!("the receiver asked to be left alone: {last_words}"),
        WebhookMood::Failing if last_words.is_empty() => {
            format!("{} failed attempts in a row", write::count(u64::from(shown.consecutive_failures)))
        }
        WebhookMood::Failing => last_words,
    }
}

/// The answer of an attempt in a few words: `500 Internal Server Error`, `connection refused`.
pub fn answer(made: &AttemptMade) -> String {
    let error = made.error.as_deref().unwrap_or_default();
    answer_of(made.status_code, Some(made.outcome), error)
}

/// The same of a status code, an outcome and an error.
pub fn answer_of(status_code: Option<u16>, outcome: Option<AttemptOutcome>, error: &str) -> String {
    match (status_code, outcome) {
        (Some(code), _) => {
            let phrase = http::StatusCode::from_u16(code).ok().and_then(|status| status.canonical_reason());
            format!("{code} {}", phrase.unwrap_or_default()).trim_end().to_owned()
        }
        (None, Some(outcome)) if error.is_empty() => outcome.phrase().to_owned(),
        (None, _) => error.to_owned(),
    }
}

/// What an outcome means, and what to do about it.
pub fn meaning(made: &AttemptMade) -> &'static str {
    match (made.outcome, made.status_code) {
        (AttemptOutcome::Success, _) => "Delivered: the receiver has taken it.",
        (AttemptOutcome::HttpStatus, Some(401 | 403)) => {
            "The receiver refuses the credentials. Check auth, headers and the signing secret of this webhook."
        }
        (AttemptOutcome::HttpStatus, Some(404 | 405)) => {
            "The receiver has nothing at this address or method. Check url and method of this webhook."
        }
        (AttemptOutcome::HttpStatus, Some(410)) => {
            "The receiver wants no deliveries any more: the webhook is disabled. Enable it once it does again."
        }
        (AttemptOutcome::HttpStatus, Some(429)) => {
            "The receiver wants less. Set a rate limit, or lower the number of requests at once."
        }
        (AttemptOutcome::HttpStatus, Some(300..=399)) => {
            "Redirects are not followed. Give the webhook the address that the receiver points to."
        }
        (AttemptOutcome::HttpStatus, Some(400..=499)) => {
            "The receiver does not accept the content. Compare the request with what it expects."
        }
        (AttemptOutcome::HttpStatus, _) => "The receiver has a fault of its own: look at its log, at this time.",
        (AttemptOutcome::Timeout, _) => {
            "The receiver did not answer in time. Let it answer first and work later, or raise the time limit."
        }
        (AttemptOutcome::ConnectTimeout, _) => "No connection in time: a firewall, or a machine that is down.",
        (AttemptOutcome::ConnectRefused, _) => "Nothing listens at this address. Start the receiver, or check the port.",
        (AttemptOutcome::ConnectReset, _) => "The connection was cut before an answer came.",
        (AttemptOutcome::DnsError, _) => "The name of the host is not known. Check the address of the webhook.",
        (AttemptOutcome::TlsError, _) => "The certificate or the TLS handshake is wrong. Have the receiver mend it.",
        (AttemptOutcome::BlockedAddress, _) => "This address is not allowed here (delivery.allow, delivery.deny).",
        (AttemptOutcome::RequestError, _) => "The answer is no HTTP that can be read.",
        (AttemptOutcome::ProxyError, _) => "The proxy of this installation failed, not the receiver.",
        (AttemptOutcome::Expired, _) => "Its expires_at passed before it could be delivered.",
    }
}

/// The status of a delivery, of which a narrow screen shows the icon only.
pub fn delivery(status: DeliveryStatus) -> Markup {
    let (class, icon, word) = delivery_parts(status);
    frame::state(&format!("{class} fold"), icon, word)
}

pub fn delivery_tag(status: DeliveryStatus) -> Markup {
    let (class, icon, word) = delivery_parts(status);
    frame::tag(class, icon, word)
}

const fn delivery_parts(status: DeliveryStatus) -> (&'static str, &'static str, &'static str) {
    match status {
        DeliveryStatus::Pending => ("wait", "wait", "Pending"),
        DeliveryStatus::Retrying => ("retry", "retry", "Retrying"),
        DeliveryStatus::Delivered => ("ok", "ok", "Delivered"),
        DeliveryStatus::Failed => ("bad", "bad", "Failed"),
        DeliveryStatus::Cancelled => ("off", "off", "Cancelled"),
    }
}

/// The colour class and the icon of an attempt. 429 is the receiver's wish and no fault.
pub fn attempt_parts(made: &AttemptMade) -> (&'static str, &'static str) {
    match (made.success, made.status_code) {
        (true, _) => ("ok", "ok"),
        (false, Some(429)) => ("retry", "bad"),
        (false, _) => ("bad", "bad"),
    }
}

/// The distance to a time in words: `in 29 m`, `now`.
pub fn until(at: Time, now: Time) -> String {
    match at.since(now) {
        ..1_000 => "now".to_owned(),
        left => format!("in {}", write::age(left)),
    }
}
