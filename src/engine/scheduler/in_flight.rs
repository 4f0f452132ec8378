//! Publishes the requests in flight and the rates of webhooks for readers outside the scheduler.
//!
//! The scheduler writes a counter of its own for each lane. A reader makes it wait for one lookup in the map at most.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::id::{AppId, IdMap, WebhookId};
use crate::model::{App, Time, Webhook};
use crate::rules::waiting::SendingPace;

/// Maximum time that a webhook may catch up with its rate, so that a late timer does not lower it.
pub const RATE_CATCH_UP_MS: f64 = 20.0;

/// The counters of all webhooks that have a lane, and the times until which apps rest because of their rates.
#[derive(Debug, Default)]
pub struct InFlightCounts {
    lanes: RwLock<IdMap<Webhook, InFlightCount>>,
    /// When the rate of an app allows its next request.
    apps: RwLock<IdMap<App, Time>>,
    /// Counted bytes of all requests in flight.
    body_bytes: AtomicUsize,
}

/// The counters of one webhook.
#[derive(Debug, Clone, Default)]
pub struct InFlightCount(Arc<LaneCounters>);

#[derive(Debug, Default)]
struct LaneCounters {
    requests: AtomicU32,
    /// When the webhook's rate allows its next request, in Unix milliseconds. 0 if it has none.
    rate_until: AtomicI64,
}

impl InFlightCounts {
    /// Counted bytes of all requests in flight (`body_budget`).
    pub fn body_bytes(&self) -> usize {
        self.body_bytes.load(Ordering::Relaxed)
    }

    /// Publishes the counted bytes.
    pub fn set_body_bytes(&self, bytes: usize) {
        self.body_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The number for a webhook. 0 if it has no lane.
    pub fn of(&self, webhook: WebhookId) -> u32 {
        let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        lanes.get(&webhook).map_or(0, |count| count.0.requests.load(Ordering::Relaxed))
    }

    /// The pace of a webhook of an app.
    pub fn pace(&self, webhook: WebhookId, app: AppId) -> SendingPace {
        let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        let own = lanes.get(&webhook).map(|count| Time(count.0.rate_until.load(Ordering::Relaxed)));
        let in_flight = lanes.get(&webhook).map_or(0, |count| count.0.requests.load(Ordering::Relaxed));
        let of_app = self.apps.read().unwrap_or_else(PoisonError::into_inner).get(&app).copied();
        // A webhook at its rate may be late by the time that it may catch up.
        let until = own.max(of_app).unwrap_or(Time::ZERO);
        SendingPace { in_flight, rate_until: until.plus_ms(RATE_CATCH_UP_MS as i64) }
    }

    /// A new counter for the lane of a webhook.
    pub fn begin(&self, webhook: WebhookId) -> InFlightCount {
        let count = InFlightCount::default();
        self.lanes.write().unwrap_or_else(PoisonError::into_inner).insert(webhook, count.clone());
        count
    }

    /// Publishes when the rate of an app allows its next request.
    pub fn app_rests(&self, app: AppId, until: Time) {
        self.apps.write().unwrap_or_else(PoisonError::into_inner).insert(app, until);
    }

    /// Forgets webhooks whose lanes were dropped, and rests that were over at `now`.
    pub fn retain(&self, is_kept: impl Fn(WebhookId) -> bool, now: Time) {
        self.lanes.write().unwrap_or_else(PoisonError::into_inner).retain(|webhook, _| is_kept(*webhook));
        self.apps.write().unwrap_or_else(PoisonError::into_inner).retain(|_, until| *until > now);
    }
}

impl InFlightCount {
    /// Publishes the lane's number.
    pub fn set(&self, count: usize) {
        self.0.requests.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Publishes when the lane's rate allows its next request.
    pub fn set_rate_until(&self, until: Time) {
        self.0.rate_until.store(until.0, Ordering::Relaxed);
    }
}
