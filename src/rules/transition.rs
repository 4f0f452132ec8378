//! The state machine of a delivery: every move there is.
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

/// What can happen to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    Succeeded,
    /// An attempt failed and another one is planned.
    FailedWithRetry,
    /// An attempt failed and none is left, or the receiver is gone.
    FailedForGood,
    /// Its time was over before it was delivered.
    Expired,
    /// Cancelled, by itself or with its webhook.
    Cancelled,
}

/// The status after `happening`; none where it cannot happen: a final delivery stays as it is.
pub const fn next(status: DeliveryStatus, happening: Happening) -> Option<DeliveryStatus> {
    match (status, happening) {
        (DeliveryStatus::Delivered | DeliveryStatus::Failed | DeliveryStatus::Cancelled, _) => None,
        (DeliveryStatus::Pending | DeliveryStatus::Retrying, happening) => Some(match happening {
            Happening::Succeeded => DeliveryStatus::Delivered,
            Happening::FailedWithRetry => DeliveryStatus::Retrying,
            Happening::FailedForGood | Happening::Expired => DeliveryStatus::Failed,
            Happening::Cancelled => DeliveryStatus::Cancelled,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_delivery_never_moves() {
        let all = [
            Happening::Succeeded,
            Happening::FailedWithRetry,
            Happening::FailedForGood,
            Happening::Expired,
            Happening::Cancelled,
        ];
        for status in DeliveryStatus::ALL {
            for happening in all {
                assert_eq!(next(status, happening).is_none(), status.is_final(), "{status:?} {happening:?}");
            }
        }
    }

    #[test]
    fn a_failure_with_a_retry_left_is_retrying_and_one_without_is_failed() {
        assert_eq!(next(DeliveryStatus::Pending, Happening::FailedWithRetry), Some(DeliveryStatus::Retrying));
        assert_eq!(next(DeliveryStatus::Retrying, Happening::FailedForGood), Some(DeliveryStatus::Failed));
        assert_eq!(next(DeliveryStatus::Retrying, Happening::Succeeded), Some(DeliveryStatus::Delivered));
    }
}
