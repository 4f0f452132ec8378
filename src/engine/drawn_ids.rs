//! Remembers ids of attempts that were drawn before their request, until their outcome is durable.
//!
//! Invariant: an attempt that is recorded later never has an id below `lowest`, unless it is the writer that draws it. So a
//! reader of attempts in commit order stops before `lowest` and skips none.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::model::{AttemptId, DeliveryId};

/// The open ids, by delivery. Only bodies that contain the attempt's id need one, so it is mostly empty.
#[derive(Debug, Default)]
pub struct DrawnIds(Mutex<BTreeMap<DeliveryId, AttemptId>>);

impl DrawnIds {
    /// Remembers the id of an attempt that begins.
    pub fn begin(&self, delivery: DeliveryId, attempt: AttemptId) {
        self.lock().insert(delivery, attempt);
    }

    /// Forgets the ids of deliveries whose attempts were recorded, or not made.
    pub fn end(&self, deliveries: impl IntoIterator<Item = DeliveryId>) {
        let mut open = self.lock();
        if !open.is_empty() {
            for delivery in deliveries {
                open.remove(&delivery);
            }
        }
    }

    /// Forgets the id of a delivery that is never recorded when the result is dropped, however its attempt ends.
    pub fn end_on_drop(&self, delivery: DeliveryId) -> PassingAttempt<'_> {
        PassingAttempt { drawn_ids: self, delivery }
    }

    /// The lowest open id. `None` if no id is open.
    pub fn lowest(&self) -> Option<AttemptId> {
        self.lock().values().min().copied()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<DeliveryId, AttemptId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt that is not recorded, such as a test of a webhook.
pub struct PassingAttempt<'a> {
    drawn_ids: &'a DrawnIds,
    delivery: DeliveryId,
}

impl Drop for PassingAttempt<'_> {
    fn drop(&mut self) {
        self.drawn_ids.end([self.delivery]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Id;

    #[test]
    fn the_lowest_open_id_is_told() {
        let drawn = DrawnIds::default();
        assert_eq!(drawn.lowest(), None);
        for n in [3, 1, 2] {
            drawn.begin(Id::from_u128(n), Id::from_u128(10 * n));
        }
        assert_eq!(drawn.lowest(), Some(Id::from_u128(10)));
        drawn.end([Id::from_u128(1), Id::from_u128(9)]);
        assert_eq!(drawn.lowest(), Some(Id::from_u128(20)));
        drawn.end([Id::from_u128(2), Id::from_u128(3)]);
        assert_eq!(drawn.lowest(), None);
    }
}
