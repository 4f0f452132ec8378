//! Draws ids of attempts before their requests, and remembers them until their outcome is durable.
//!
//! Invariant: an attempt that is recorded later never has an id that a reader of attempts has passed. A reader stops before
//! the lowest open id, and an id is drawn above all that readers have passed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::clock::{Clock, Random, passing_id};
use crate::engine::feeds::Feeds;
use crate::model::{AttemptId, DeliveryId};

/// The open ids, by delivery. Only bodies that contain the attempt's id need one, so there are rarely any.
#[derive(Debug)]
pub struct DrawnIds {
    open: Mutex<OpenIds>,
    /// Readers that wait before an open id.
    feeds: Arc<Feeds>,
}

#[derive(Debug)]
struct OpenIds {
    by_delivery: BTreeMap<DeliveryId, AttemptId>,
    /// The greatest id that a reader has passed.
    passed: AttemptId,
}

impl DrawnIds {
    /// A table without open ids. Readers of an earlier process have passed no id above `newest`.
    pub fn above(newest: AttemptId, feeds: Arc<Feeds>) -> DrawnIds {
        DrawnIds { open: Mutex::new(OpenIds { by_delivery: BTreeMap::new(), passed: newest }), feeds }
    }

    /// Draws the id of an attempt that begins: of now, or of the millisecond behind all ids that readers have passed.
    pub fn begin(&self, delivery: DeliveryId, clock: &dyn Clock, random: &dyn Random) -> AttemptId {
        let mut open = self.lock();
        let at = clock.now().max(open.passed.time().plus_ms(1));
        let id = AttemptId::from_u128(passing_id(at, random));
        open.by_delivery.insert(delivery, id);
        id
    }

    /// Forgets the ids of deliveries whose attempts were recorded, or not made, and wakes the readers that stopped before.
    pub fn end(&self, deliveries: impl IntoIterator<Item = DeliveryId>) {
        let mut open = self.lock();
        if open.by_delivery.is_empty() {
            return;
        }
        let ended = deliveries.into_iter().filter(|delivery| open.by_delivery.remove(delivery).is_some()).count();
        drop(open);
        self.feeds.wake(&[], ended > 0);
    }

    /// Forgets the id of a delivery that is never recorded when the result is dropped, however its attempt ends.
    pub fn end_on_drop(&self, delivery: DeliveryId) -> PassingAttempt<'_> {
        PassingAttempt { drawn_ids: self, delivery }
    }

    /// Returns the last id that a reader may pass, and records it as passed. It is `newest`, which the caller read
    /// before, or the id before the lowest open one. Without `has_drawn_ids` the reader does not stop before open ids.
    pub fn pass(&self, newest: AttemptId, has_drawn_ids: bool) -> AttemptId {
        let mut open = self.lock();
        let lowest = open.by_delivery.values().min().filter(|_| has_drawn_ids);
        let last = lowest.map_or(newest, |lowest| newest.min(AttemptId::from_u128(lowest.as_u128().saturating_sub(1))));
        open.passed = last.max(open.passed);
        last
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OpenIds> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
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
    use std::pin::pin;

    use super::*;
    use crate::engine::clock::ManualClock;
    use crate::model::feed_topic::FeedTopic;
    use crate::model::{Id, Time};

    const NOW: Time = Time(1_772_704_800_000);

    #[derive(Debug)]
    struct NoRandom;

    impl Random for NoRandom {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    #[test]
    fn readers_stop_before_the_lowest_open_id() {
        let (feeds, clock) = (Arc::new(Feeds::default()), ManualClock::at(NOW));
        let drawn = DrawnIds::above(AttemptId::MIN, feeds.clone());
        let newest = AttemptId::floor(NOW.plus_ms(1_000));
        let ids = [0, 1].map(|n| {
            clock.jump_to(NOW.plus_ms(n));
            drawn.begin(Id::from_u128(n as u128), &clock, &NoRandom)
        });
        let before = |id: AttemptId| AttemptId::from_u128(id.as_u128() - 1);
        assert_eq!(drawn.pass(newest, true), before(ids[0]));
        let waiting = feeds.of(FeedTopic::Attempts);
        let mut woken = pin!(waiting.notified());
        assert!(!woken.as_mut().enable());
        drawn.end([Id::from_u128(0), Id::from_u128(9)]);
        assert!(woken.as_mut().enable(), "the reader that stopped before the id goes on");
        assert_eq!(drawn.pass(newest, true), before(ids[1]));
        assert_eq!(drawn.pass(newest, false), newest);
        drawn.end([Id::from_u128(1)]);
        assert_eq!(drawn.pass(newest, true), newest);
    }

    #[test]
    fn an_id_is_drawn_above_all_that_readers_have_passed() {
        let (clock, earlier) = (ManualClock::at(NOW), AttemptId::floor(NOW.plus_ms(5_000)));
        let drawn = DrawnIds::above(earlier, Arc::default());
        assert!(drawn.begin(Id::from_u128(1), &clock, &NoRandom) > earlier, "of an earlier process");
        let newest = AttemptId::floor(NOW.plus_ms(9_000));
        assert_eq!(drawn.pass(newest, false), newest);
        assert!(drawn.begin(Id::from_u128(2), &clock, &NoRandom) > newest, "although the clock was set back");
    }
}
