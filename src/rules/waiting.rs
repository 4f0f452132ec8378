//! Tells why an open delivery is not sent now, and until when.

use crate::model::webhook::{CircuitState, Webhook, WebhookState, WebhookStatus};
use crate::model::{Delivery, DeliveryId, Time};
use crate::rules::circuit;

/// The reason why a delivery waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// The webhook is paused.
    Paused,
    /// The webhook is disabled.
    Disabled,
    /// The webhook's circuit is open.
    Circuit,
    /// The receiver asked for a pause by `Retry-After`.
    Receiver,
    /// It is due, and the webhook's `rate_limit_per_s` lets others go before it.
    Rate,
    /// It is being sent, or others of the webhook are.
    InFlight,
    /// Another delivery of its ordered queue stands before it.
    Order,
    /// Its retry schedule or `deliver_at` says so.
    Schedule,
}

impl WaitReason {
    pub const ALL: [WaitReason; 8] = [
        WaitReason::Paused,
        WaitReason::Disabled,
        WaitReason::Circuit,
        WaitReason::Receiver,
        WaitReason::Rate,
        WaitReason::InFlight,
        WaitReason::Order,
        WaitReason::Schedule,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            WaitReason::Paused => "paused",
            WaitReason::Disabled => "disabled",
            WaitReason::Circuit => "circuit",
            WaitReason::Receiver => "receiver",
            WaitReason::Rate => "rate",
            WaitReason::InFlight => "in_flight",
            WaitReason::Order => "order",
            WaitReason::Schedule => "schedule",
        }
    }
}

/// Why a delivery waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryWait {
    pub reason: WaitReason,
    /// When the reason ends. `None` if no time is known: a call, an answer or another delivery ends it.
    pub until: Option<Time>,
    /// The delivery that stands before it in an ordered queue.
    pub behind: Option<DeliveryId>,
}

/// Why `delivery` waits: the reason that ends last, or the one that has no known end. `behind` stands before it in an ordered
/// queue. `None` if the delivery is final.
pub fn of_delivery(
    delivery: &Delivery,
    webhook: &Webhook,
    state: WebhookState,
    behind: Option<DeliveryId>,
    now: Time,
) -> Option<DeliveryWait> {
    if delivery.status.is_final() {
        return None;
    }
    let wait = |reason, until| Some(DeliveryWait { reason, until, behind });
    match webhook.status {
        WebhookStatus::Disabled => return wait(WaitReason::Disabled, None),
        WebhookStatus::Paused => return wait(WaitReason::Paused, None),
        WebhookStatus::Enabled => {}
    }
    if behind.is_some() {
        return wait(WaitReason::Order, None);
    }
    // Readers see the end of a hold as the next attempt of a delivery that is due.
    let planned = delivery.next_attempt_at.filter(|at| *at > now);
    let held = circuit::held_until(state, now);
    if let Some(until) = planned.filter(|at| held.is_none_or(|held| held < *at)) {
        return wait(WaitReason::Schedule, Some(until));
    }
    if let Some(until) = held {
        let asked = state.retry_after == Some(until);
        return wait(if asked { WaitReason::Receiver } else { WaitReason::Circuit }, Some(until));
    }
    if state.circuit != CircuitState::Closed {
        return wait(WaitReason::Circuit, None);
    }
    wait(if webhook.rate_limit_per_s.is_some() { WaitReason::Rate } else { WaitReason::InFlight }, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeliveryStatus, Id};

    const NOW: Time = Time(1_000_000_000);

    fn delivery(due_in_ms: i64) -> Delivery {
        Delivery {
            id: Id::from_u128(7),
            event_id: Id::MIN,
            webhook_id: Id::MIN,
            org_id: Id::MIN,
            app_id: Id::MIN,
            event_type: "a".into(),
            status: DeliveryStatus::Pending,
            attempts: 0,
            next_attempt_at: Some(NOW.plus_ms(due_in_ms)),
            created_at: NOW,
            first_attempt_at: None,
            completed_at: None,
            replay_of: None,
            job_id: None,
            expires_at: None,
            ordering_key: None,
            last_attempt_id: None,
            last_status_code: None,
            last_outcome: None,
            last_error: None,
            last_response_time_ms: None,
            manual: false,
            unscheduled: 0,
            planned_at: None,
        }
    }

    fn reason(due_in_ms: i64, webhook: &Webhook, state: WebhookState, behind: bool) -> (&'static str, Option<i64>) {
        let behind = behind.then(|| Id::from_u128(3));
        let wait = of_delivery(&delivery(due_in_ms), webhook, state, behind, NOW).unwrap();
        assert_eq!(wait.behind, behind);
        (wait.reason.as_str(), wait.until.map(|until| until.since(NOW)))
    }

    #[test]
    fn the_reason_that_ends_last_is_told() {
        let at = |ms| Some(NOW.plus_ms(ms));
        let hook = Webhook::new(Id::MIN, Id::MIN);
        let status = |status| Webhook { status, ..hook.clone() };
        let closed = WebhookState::default();
        let open = WebhookState { circuit: CircuitState::Open, hold_until: at(4_000), ..closed };
        let asked = WebhookState { retry_after: at(9_000), ..closed };
        assert_eq!(reason(5, &status(WebhookStatus::Paused), open, true), ("paused", None));
        assert_eq!(reason(5, &status(WebhookStatus::Disabled), open, false), ("disabled", None));
        assert_eq!(reason(5, &hook, open, true), ("order", None));
        assert_eq!(reason(5, &hook, closed, false), ("schedule", Some(5)));
        assert_eq!(reason(5, &hook, open, false), ("circuit", Some(4_000)));
        assert_eq!(reason(60_000, &hook, open, false), ("schedule", Some(60_000)));
        assert_eq!(reason(0, &hook, asked, false), ("receiver", Some(9_000)));
        assert_eq!(reason(0, &hook, WebhookState { retry_after: at(9_000), ..open }, false), ("receiver", Some(9_000)));
        let probing = WebhookState { hold_until: at(-1), ..open };
        assert_eq!(reason(0, &hook, probing, false), ("circuit", None));
        assert_eq!(reason(0, &hook, closed, false), ("in_flight", None));
        let rated = Webhook { rate_limit_per_s: Some(1.0), ..hook.clone() };
        assert_eq!(reason(0, &rated, closed, false), ("rate", None));
        let done = Delivery { status: DeliveryStatus::Delivered, next_attempt_at: None, ..delivery(0) };
        assert_eq!(of_delivery(&done, &hook, closed, None, NOW), None);
    }
}
