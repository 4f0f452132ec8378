//! Counts the deliveries in flight of each webhook for readers outside the scheduler.
//!
//! The scheduler writes a counter of its own for each lane. A reader never makes it wait for longer than a look into the map.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::Webhook;
use crate::model::id::{IdMap, WebhookId};

/// The counters of all webhooks that have a lane.
#[derive(Debug, Default)]
pub struct InFlightCounts(RwLock<IdMap<Webhook, InFlightCount>>);

/// The counter of one webhook.
#[derive(Debug, Clone, Default)]
pub struct InFlightCount(Arc<AtomicU32>);

impl InFlightCounts {
    /// The number for a webhook. 0 if it has no lane.
    pub fn of(&self, webhook: WebhookId) -> u32 {
        let counts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        counts.get(&webhook).map_or(0, |count| count.0.load(Ordering::Relaxed))
    }

    /// A new counter for the lane of a webhook.
    pub fn begin(&self, webhook: WebhookId) -> InFlightCount {
        let count = InFlightCount::default();
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(webhook, count.clone());
        count
    }

    /// Forgets webhooks whose lanes were dropped.
    pub fn retain(&self, is_kept: impl Fn(WebhookId) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|webhook, _| is_kept(*webhook));
    }
}

impl InFlightCount {
    /// Publishes the lane's number.
    pub fn set(&self, count: usize) {
        self.0.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}
