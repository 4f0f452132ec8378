//! Explains why an open delivery is not sent now, and until when.

use crate::model::webhook::{Webhook, WebhookState, WebhookStatus};
use crate::model::{Delivery, DeliveryId, Time};
use crate::rules::circuit;
use crate::rules::hold::{self, Hold, HoldReason};

/// The reason why a delivery waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// Something holds every delivery of the webhook.
    Held(HoldReason),
    /// It is due, and the rate of the webhook or of its app allows no request now.
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
        WaitReason::Held(HoldReason::Paused),
        WaitReason::Held(HoldReason::Disabled),
        WaitReason::Held(HoldReason::Circuit),
        WaitReason::Held(HoldReason::Receiver),
        WaitReason::Rate,
        WaitReason::InFlight,
        WaitReason::Order,
        WaitReason::Schedule,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            WaitReason::Held(reason) => reason.as_str(),
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

/// How a webhook's requests go now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendingPace {
    /// Requests that have no answer yet.
    pub in_flight: u32,
    /// The end of the wait for the rate of the webhook or of its app. It lies in the past if none waits.
    pub rate_until: Time,
}

impl SendingPace {
    /// Why a delivery that is due and that nothing holds is not sent, or that it is on its way.
    fn reason(self, webhook: &Webhook, now: Time) -> WaitReason {
        let is_full = self.in_flight >= webhook.max_in_flight;
        if !is_full && self.rate_until > now { WaitReason::Rate } else { WaitReason::InFlight }
    }
}

/// Why `delivery` waits: the reason that ends last, or the one that has no known end. `behind` stands before it in an ordered
/// queue. `None` if the delivery is final.
pub fn of_delivery(
    delivery: &Delivery,
    webhook: &Webhook,
    (state, pace): (WebhookState, SendingPace),
    behind: Option<DeliveryId>,
    now: Time,
) -> Option<DeliveryWait> {
    if delivery.status.is_final() {
        return None;
    }
    let wait = |reason, until| Some(DeliveryWait { reason, until, behind });
    let hold = hold::of(webhook, &circuit::shown(state, now));
    let held = |hold: Hold| wait(WaitReason::Held(hold.reason), hold.until);
    if let Some(hold) = hold.filter(|_| webhook.status != WebhookStatus::Enabled) {
        return held(hold);
    }
    if behind.is_some() {
        return wait(WaitReason::Order, None);
    }
    // Readers see the end of a hold as the next attempt of a delivery that is due.
    let is_later = |at: &Time| *at > now && hold.and_then(|hold| hold.until).is_none_or(|until| until < *at);
    match (delivery.next_attempt_at.filter(is_later), hold) {
        (Some(planned), _) => wait(WaitReason::Schedule, Some(planned)),
        (None, Some(hold)) => held(hold),
        (None, None) => wait(pace.reason(webhook, now), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::webhook::CircuitState;
    use crate::model::{DeliveryStatus, Id};

    const NOW: Time = Time(1_000_000_000);

    fn delivery(due_in_ms: i64) -> Delivery {
        Delivery { next_attempt_at: Some(NOW.plus_ms(due_in_ms)), ..Delivery::default() }
    }

    fn reason(due_in_ms: i64, webhook: &Webhook, state: WebhookState, behind: bool) -> (&'static str, Option<i64>) {
        let behind = behind.then(|| Id::from_u128(3));
        let wait = of_delivery(&delivery(due_in_ms), webhook, (state, SendingPace::default()), behind, NOW).unwrap();
        assert_eq!(wait.behind, behind);
        (wait.reason.as_str(), wait.until.map(|until| until.since(NOW)))
    }

    #[test]
    fn the_reason_that_ends_last_is_named() {
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
        let done = Delivery { status: DeliveryStatus::Delivered, next_attempt_at: None, ..delivery(0) };
        assert_eq!(of_delivery(&done, &hook, (closed, SendingPace::default()), None, NOW), None);
    }

    #[test]
    fn a_due_delivery_waits_for_the_rate_only_while_a_request_may_be_added() {
        let hook = Webhook { max_in_flight: 2, rate_limit_per_s: Some(1.0), ..Webhook::new(Id::MIN, Id::MIN) };
        let reason = |in_flight, rate_in_ms| {
            let pace = SendingPace { in_flight, rate_until: NOW.plus_ms(rate_in_ms) };
            let wait = of_delivery(&delivery(0), &hook, (WebhookState::default(), pace), None, NOW).unwrap();
            (wait.reason.as_str(), wait.until)
        };
        assert_eq!(reason(0, 1), ("rate", None));
        assert_eq!(reason(1, 1), ("rate", None));
        assert_eq!(reason(2, 1), ("in_flight", None), "the rate would allow it no sooner than an answer");
        assert_eq!(reason(0, 0), ("in_flight", None), "it goes");
    }
}
