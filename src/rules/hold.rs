//! Explains why a webhook's deliveries wait, until when, and when failures disable the webhook.

use crate::model::Time;
use crate::model::time::SECOND_MS;
use crate::model::webhook::{CircuitState, DisabledReason, Webhook, WebhookState, WebhookStatus};

/// The cause that keeps every delivery of a webhook from being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldReason {
    Paused,
    Disabled,
    /// The circuit is open or half open.
    Circuit,
    /// The receiver asked for it by `Retry-After`.
    Receiver,
}

impl HoldReason {
    pub const ALL: [HoldReason; 4] =
        [HoldReason::Paused, HoldReason::Disabled, HoldReason::Circuit, HoldReason::Receiver];

    pub const fn as_str(self) -> &'static str {
        match self {
            HoldReason::Paused => "paused",
            HoldReason::Disabled => "disabled",
            HoldReason::Circuit => "circuit",
            HoldReason::Receiver => "receiver",
        }
    }
}

/// Why the deliveries of a webhook wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    pub reason: HoldReason,
    /// When the next request may go. `None` if no time is known: a call has to end the hold, or a probe is under way.
    pub until: Option<Time>,
}

/// The hold of a webhook whose state is `shown`, as `circuit::shown` gives it. `None` if nothing holds.
pub fn of(webhook: &Webhook, shown: &WebhookState) -> Option<Hold> {
    let hold = |reason, until| Some(Hold { reason, until });
    match webhook.status {
        WebhookStatus::Paused => hold(HoldReason::Paused, None),
        WebhookStatus::Disabled => hold(HoldReason::Disabled, None),
        WebhookStatus::Enabled if shown.retry_after > shown.hold_until => {
            hold(HoldReason::Receiver, shown.held_until())
        }
        WebhookStatus::Enabled if shown.circuit != CircuitState::Closed => {
            hold(HoldReason::Circuit, shown.held_until())
        }
        WebhookStatus::Enabled => None,
    }
}

/// The state of a webhook in a sentence. `shown` is its state as `circuit::shown` gives it.
pub fn sentence(webhook: &Webhook, shown: &WebhookState) -> String {
    let since = webhook.status_since.map(|since| format!(" since {since}")).unwrap_or_default();
    match (webhook.status, of(webhook, shown)) {
        (WebhookStatus::Paused, _) => format!("paused{since}: what is published waits until the webhook is resumed"),
        (WebhookStatus::Disabled, _) => {
            let why = match webhook.disabled_reason {
                Some(DisabledReason::Gone) => "the receiver answered 410",
                Some(DisabledReason::Failures) => "no attempt succeeded for as long as disable_after_s allows",
                Some(DisabledReason::Manual) | None => "by hand",
            };
            format!("disabled{since} ({why}): what is published makes no delivery")
        }
        (WebhookStatus::Enabled, Some(Hold { reason: HoldReason::Receiver, until })) => {
            let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
            format!("enabled, and held{until}, because the receiver asked for it by Retry-After")
        }
        (WebhookStatus::Enabled, Some(Hold { until, .. })) => {
            let failures = shown.consecutive_failures;
            let failed = match shown.failing_since {
                Some(since) => format!("{failures} attempts in a row failed since {since}"),
                None => "the last attempts failed".to_owned(),
            };
            let probe = match until {
                Some(until) => format!("the next probe goes at {until}"),
                None => "the next delivery is its probe".to_owned(),
            };
            let circuit = if shown.circuit == CircuitState::HalfOpen { "half open" } else { "open" };
            format!("enabled, and its circuit is {circuit}: {failed}; {probe}")
        }
        (WebhookStatus::Enabled, None) => "enabled, and nothing holds its deliveries".to_owned(),
    }
}

/// When a failed attempt will disable the webhook if none succeeds before. `None` if none failed since the last success, or
/// the webhook is disabled already, or `disable_after_s` is 0.
pub fn disable_at(webhook: &Webhook, state: &WebhookState) -> Option<Time> {
    let limit_ms = i64::try_from(webhook.disable_after_s).unwrap_or(i64::MAX).saturating_mul(SECOND_MS);
    let may = limit_ms > 0 && webhook.status != WebhookStatus::Disabled;
    state.failing_since.filter(|_| may).map(|since| since.plus_ms(limit_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Id;
    use crate::rules::circuit;

    const NOW: Time = Time(1_000_000);

    #[test]
    fn the_words_tell_a_half_open_circuit_from_an_open_one() {
        let webhook = Webhook::new(Id::MIN, Id::MIN);
        let words = |circuit, hold_until| {
            let state = WebhookState { circuit, hold_until, ..WebhookState::default() };
            sentence(&webhook, &state)
        };
        let half_open = words(CircuitState::HalfOpen, None);
        assert!(half_open.contains("its circuit is half open: "), "{half_open}");
        let open = words(CircuitState::Open, Some(NOW));
        assert!(open.contains("its circuit is open: "), "{open}");
    }

    fn held(status: WebhookStatus, state: WebhookState) -> Option<(&'static str, Option<i64>)> {
        let webhook = Webhook { status, ..Webhook::new(Id::MIN, Id::MIN) };
        let hold = of(&webhook, &circuit::shown(state, NOW))?;
        Some((hold.reason.as_str(), hold.until.map(|until| until.since(NOW))))
    }

    #[test]
    fn the_cause_that_ends_last_is_named() {
        let at = |ms| Some(NOW.plus_ms(ms));
        let closed = WebhookState::default();
        let open = WebhookState { circuit: CircuitState::Open, hold_until: at(5_000), ..closed };
        assert_eq!(held(WebhookStatus::Enabled, closed), None);
        assert_eq!(held(WebhookStatus::Paused, open), Some(("paused", None)));
        assert_eq!(held(WebhookStatus::Disabled, open), Some(("disabled", None)));
        assert_eq!(held(WebhookStatus::Enabled, open), Some(("circuit", Some(5_000))));
        let probing = WebhookState { hold_until: at(0), ..open };
        assert_eq!(held(WebhookStatus::Enabled, probing), Some(("circuit", None)), "a probe goes");
        let asked = WebhookState { retry_after: at(9_000), ..open };
        assert_eq!(held(WebhookStatus::Enabled, asked), Some(("receiver", Some(9_000))));
        let briefly = WebhookState { retry_after: at(1), ..open };
        assert_eq!(held(WebhookStatus::Enabled, briefly), Some(("circuit", Some(5_000))));
        let past = WebhookState { retry_after: at(-1), ..closed };
        assert_eq!(held(WebhookStatus::Enabled, past), None);
        assert_eq!(held(WebhookStatus::Enabled, circuit::released(asked)), Some(("circuit", None)));
    }

    #[test]
    fn a_webhook_that_fails_is_disabled_at_a_known_time() {
        let failing = WebhookState { failing_since: Some(NOW), ..WebhookState::default() };
        let webhook = Webhook { disable_after_s: 60, ..Webhook::new(Id::MIN, Id::MIN) };
        assert_eq!(disable_at(&webhook, &failing), Some(NOW.plus_ms(60_000)));
        assert_eq!(disable_at(&webhook, &WebhookState::default()), None);
        assert_eq!(disable_at(&Webhook { disable_after_s: 0, ..webhook.clone() }, &failing), None);
        assert_eq!(disable_at(&Webhook { status: WebhookStatus::Disabled, ..webhook }, &failing), None);
    }
}
