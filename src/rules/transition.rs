//! Defines the state machine of a delivery.
//!
//! ```text
//!  PENDING --attempt--> DELIVERED            succeeded
//!     |  failed             ^
//!     v                     | succeeded
//!  RETRYING ---attempt------+-------> FAILED   no retry left, gone, expired
//!     |                                 
//!     +------ cancelled ------------> CANCELLED
//! ```

use crate::model::DeliveryStatus;

/// Inputs of the delivery state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransitionInput {
    Succeeded,
    /// An attempt failed and another one is planned.
    FailedWithRetry,
    /// An attempt failed and no retry is left, or the receiver is gone.
    FailedForGood,
    /// The delivery expired before it was delivered.
    Expired,
    /// The delivery or its webhook was cancelled.
    Cancelled,
}

/// The status after an input. `None` if the input is impossible in this status, as every input is in a final one.
pub const fn next(status: DeliveryStatus, happening: TransitionInput) -> Option<DeliveryStatus> {
    match (status, happening) {
        (DeliveryStatus::Delivered | DeliveryStatus::Failed | DeliveryStatus::Cancelled, _) => None,
        (DeliveryStatus::Pending | DeliveryStatus::Retrying, happening) => Some(match happening {
            TransitionInput::Succeeded => DeliveryStatus::Delivered,
            TransitionInput::FailedWithRetry => DeliveryStatus::Retrying,
            TransitionInput::FailedForGood | TransitionInput::Expired => DeliveryStatus::Failed,
            TransitionInput::Cancelled => DeliveryStatus::Cancelled,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_delivery_never_moves() {
        let all = [
            TransitionInput::Succeeded,
            TransitionInput::FailedWithRetry,
            TransitionInput::FailedForGood,
            TransitionInput::Expired,
            TransitionInput::Cancelled,
        ];
        for status in DeliveryStatus::ALL {
            for happening in all {
                assert_eq!(next(status, happening).is_none(), status.is_final(), "{status:?} {happening:?}");
            }
        }
    }

    #[test]
    fn a_failure_with_a_retry_left_is_retrying_and_one_without_is_failed() {
        assert_eq!(next(DeliveryStatus::Pending, TransitionInput::FailedWithRetry), Some(DeliveryStatus::Retrying));
        assert_eq!(next(DeliveryStatus::Retrying, TransitionInput::FailedForGood), Some(DeliveryStatus::Failed));
        assert_eq!(next(DeliveryStatus::Retrying, TransitionInput::Succeeded), Some(DeliveryStatus::Delivered));
    }
}
