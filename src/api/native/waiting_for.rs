//! The member `waiting_for`: why a webhook sends nothing now, and until when.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::Time;
use crate::model::webhook::{Webhook, WebhookState};
use crate::rules::hold::{self, HoldReason};

/// Why no delivery of the webhook is sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct WaitingForView {
    #[schemars(extend("enum" = HoldReason::ALL.map(HoldReason::as_str)))]
    reason: &'static str,
    /// When the next request may go. Null if a call has to end it, or a probe is under way.
    until: Option<Time>,
}

impl WaitingForView {
    /// As `of`, for a delivery that a caller asked to send now. `is_first` says whether the webhook has none that is due
    /// before it: then it is the one request that an open circuit lets through at once.
    pub fn of_retried(webhook: &Webhook, shown: &WebhookState, is_first: bool) -> Option<WaitingForView> {
        WaitingForView::of(webhook, shown).filter(|view| !is_first || view.reason != HoldReason::Circuit.as_str())
    }

    /// `None` if nothing holds. `shown` is the state as `circuit::shown` gives it.
    pub fn of(webhook: &Webhook, shown: &WebhookState) -> Option<WaitingForView> {
        hold::of(webhook, shown).map(|hold| WaitingForView { reason: hold.reason.as_str(), until: hold.until })
    }
}
