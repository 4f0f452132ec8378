//! Verifies a delivery row by itself: fields that cannot stand beside each other.

use crate::model::{Delivery, DeliveryStatus};

/// The defect of a delivery row. `None` if it is sound.
pub(in crate::store) fn shape(delivery: &Delivery) -> Option<String> {
    let is_final = delivery.status.is_final();
    let tried = delivery.attempts > 0;
    let wrong = [
        (is_final != delivery.completed_at.is_some(), "a delivery is final exactly if it has an end"),
        (is_final == delivery.next_attempt_at.is_some(), "a delivery is open exactly if it has a next attempt"),
        (delivery.status == DeliveryStatus::Pending && tried, "pending, and yet tried"),
        (delivery.status == DeliveryStatus::Retrying && !tried, "retrying, and yet never tried"),
        (delivery.last_attempt_id.is_some() != tried, "the last attempt and their number differ"),
        (delivery.first_attempt_at.is_some() != tried, "the first attempt and their number differ"),
        (delivery.unscheduled > delivery.attempts, "more attempts by hand than attempts"),
    ];
    wrong.into_iter().find(|(wrong, _)| *wrong).map(|(_, detail)| detail.to_owned())
}
