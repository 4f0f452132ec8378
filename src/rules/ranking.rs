//! Ranks webhooks for lists: worst first, by trouble and then by failed attempts, or busiest first.
//!
//! Invariant: a webhook in trouble ranks before every webhook that is not.

use crate::model::webhook::{CircuitState, DisabledReason, Webhook, WebhookState, WebhookStatus};

use super::hold::{self, HoldReason};

/// How bad the state of a webhook is, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Fine,
    /// Disabled by a call.
    Disabled,
    Paused,
    /// The last attempt failed, and nothing holds the deliveries.
    Failing,
    /// The receiver asked for a pause by `Retry-After`.
    Held,
    /// The circuit is open or half open, or failures or a 410 have disabled the webhook.
    Broken,
}

/// The severity of a webhook whose state is `shown`, as `circuit::shown` gives it.
pub fn severity(webhook: &Webhook, shown: &WebhookState) -> Severity {
    match hold::of(webhook, shown).map(|hold| hold.reason) {
        // A webhook without a reason was disabled by a call to an earlier version.
        Some(HoldReason::Disabled) => match webhook.disabled_reason {
            Some(DisabledReason::Failures | DisabledReason::Gone) => Severity::Broken,
            Some(DisabledReason::Manual) | None => Severity::Disabled,
        },
        Some(HoldReason::Paused) => Severity::Paused,
        Some(HoldReason::Circuit) => Severity::Broken,
        Some(HoldReason::Receiver) if shown.circuit != CircuitState::Closed => Severity::Broken,
        Some(HoldReason::Receiver) => Severity::Held,
        None if webhook.status == WebhookStatus::Enabled && shown.failing_since.is_some() => Severity::Failing,
        None => Severity::Fine,
    }
}

/// Whether a webhook is in trouble: it fails now, is held by its receiver, or was disabled by failures or a 410. A paused
/// one is not, because a call paused it.
pub const fn is_in_trouble(severity: Severity) -> bool {
    matches!(severity, Severity::Failing | Severity::Held | Severity::Broken)
}

/// The rank of a webhook by its severity, then by the share of its attempts that failed, then by their number. The worst
/// rank is the greatest.
pub fn badness(severity: Severity, attempts: u64, failures: u64) -> u64 {
    const MILLION: u64 = 1_000_000;
    let share = failures.min(attempts).saturating_mul(MILLION).checked_div(attempts).unwrap_or(0);
    (severity as u64) << 56 | share.min(MILLION) << 32 | failures.min(u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Id, Time};

    #[test]
    fn the_state_decides_then_the_share_then_the_number() {
        let ranks = [
            badness(Severity::Broken, 0, 0),
            badness(Severity::Held, 10, 10),
            badness(Severity::Failing, 10, 1),
            badness(Severity::Paused, 10, 10),
            badness(Severity::Fine, 4, 2),
            badness(Severity::Fine, 1_000, 499),
            badness(Severity::Fine, u64::MAX, 30),
            badness(Severity::Fine, u64::MAX, 29),
            badness(Severity::Fine, 5, 0),
        ];
        assert!(ranks.windows(2).all(|pair| pair[0] > pair[1] || pair == [0, 0]), "{ranks:?}");
    }

    #[test]
    fn a_webhook_that_fails_is_in_trouble_and_a_stopped_one_is_not() {
        let webhook = |status, disabled_reason| Webhook { status, disabled_reason, ..Webhook::new(Id::MIN, Id::MIN) };
        let enabled = webhook(WebhookStatus::Enabled, None);
        let fine = WebhookState::default();
        let failing = WebhookState { failing_since: Some(Time(5)), ..fine };
        let open = WebhookState { circuit: CircuitState::Open, hold_until: Some(Time(9)), ..failing };
        let asked = WebhookState { retry_after: Some(Time(99)), ..failing };
        let checked = |webhook: &Webhook, state| {
            let severity = severity(webhook, &state);
            (severity, is_in_trouble(severity))
        };
        assert_eq!(checked(&enabled, fine), (Severity::Fine, false));
        assert_eq!(checked(&enabled, failing), (Severity::Failing, true));
        assert_eq!(checked(&enabled, open), (Severity::Broken, true));
        assert_eq!(checked(&enabled, asked), (Severity::Held, true));
        assert_eq!(checked(&webhook(WebhookStatus::Paused, None), open), (Severity::Paused, false));
        let disabled = |reason| webhook(WebhookStatus::Disabled, reason);
        assert_eq!(checked(&disabled(None), failing), (Severity::Disabled, false));
        assert_eq!(checked(&disabled(Some(DisabledReason::Manual)), failing), (Severity::Disabled, false));
        assert_eq!(checked(&disabled(Some(DisabledReason::Gone)), failing), (Severity::Broken, true));
        assert_eq!(checked(&disabled(Some(DisabledReason::Failures)), failing), (Severity::Broken, true));
    }
}
