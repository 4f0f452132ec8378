//! The member `waiting_for`: why a webhook sends nothing now, until when, and which delivery stands before the others.

use schemars::JsonSchema;
use serde::Serialize;

use crate::api::native::webhook_live::QueueHead;
use crate::model::webhook::{Webhook, WebhookState, WebhookStatus};
use crate::model::{DeliveryId, Time};
use crate::rules::hold::{self, HoldReason};
use crate::rules::waiting::WaitReason;

/// Why no delivery of the webhook is sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct WaitingForView {
    #[schemars(extend("enum" = reasons()))]
    reason: &'static str,
    /// When the next request may go. Null if a call has to end it, a probe is under way, or another delivery ends it.
    until: Option<Time>,
    /// The delivery that stands before all others, or before the one that was asked for, in an ordered queue.
    behind: Option<DeliveryId>,
}

/// The reasons of a webhook: its holds, and the head of its queue.
pub fn reasons() -> Vec<&'static str> {
    HoldReason::ALL.map(HoldReason::as_str).into_iter().chain([WaitReason::Order.as_str()]).collect()
}

impl WaitingForView {
    /// As `of`, for a delivery that a caller asked to send now and that stands behind `behind`. `is_first` says whether the
    /// webhook has none that is due before it: then it is the one request that an open circuit lets through at once.
    pub fn of_retried(
        webhook: &Webhook,
        shown: &WebhookState,
        is_first: bool,
        behind: Option<DeliveryId>,
    ) -> Option<WaitingForView> {
        if webhook.status == WebhookStatus::Enabled && behind.is_some() {
            return Some(WaitingForView { reason: WaitReason::Order.as_str(), until: None, behind });
        }
        let held = WaitingForView::of(webhook, shown, None).map(|view| WaitingForView { behind, ..view });
        held.filter(|view| !is_first || view.reason != HoldReason::Circuit.as_str())
    }

    /// `None` if nothing holds, and no head of a queue waits for its time. `shown` is the state as `circuit::shown` gives it.
    pub fn of(webhook: &Webhook, shown: &WebhookState, head: Option<QueueHead>) -> Option<WaitingForView> {
        let behind = head.map(|head| head.id);
        match (hold::of(webhook, shown), head.and_then(|head| head.until)) {
            (Some(hold), _) => Some(WaitingForView { reason: hold.reason.as_str(), until: hold.until, behind }),
            (None, until @ Some(_)) => Some(WaitingForView { reason: WaitReason::Order.as_str(), until, behind }),
            (None, None) => None,
        }
    }
}
