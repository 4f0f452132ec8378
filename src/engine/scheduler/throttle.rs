//! The rates of apps: an app with `throttle_rate_per_s` rests between two requests, and its webhooks keep their turns.
//!
//! Invariant: an app that rests is not in the ring, and has webhooks that wait for their turn.

use std::collections::{BTreeSet, HashMap};

use crate::model::id::AppId;
use crate::model::{App, Time};
use crate::store::Registry;

use crate::engine::scheduler::in_flight::RATE_CATCH_UP_MS;

/// The rate of one app, and when it allows the next request.
#[derive(Debug, Clone, Copy)]
struct AppPace {
    per_s: f64,
    next_ms: f64,
}

/// The rates of all apps that have one, and the apps that rest.
#[derive(Debug, Default)]
pub struct AppThrottles {
    paces: HashMap<AppId, AppPace>,
    resting: BTreeSet<(Time, AppId)>,
}

impl AppThrottles {
    /// Replaces the rates by those of the registry. Returns the apps that rested, whose rates are computed anew.
    pub fn reload(&mut self, registry: &Registry) -> Vec<AppId> {
        let mut before = std::mem::take(&mut self.paces);
        for app in registry.apps() {
            let next_ms = before.remove(&app.id).map_or(0.0, |pace| pace.next_ms);
            self.put(app, next_ms);
        }
        self.wake_all()
    }

    /// Stores the rate of an app whose first lane begins.
    pub fn add_app(&mut self, app: &App) {
        if !self.paces.contains_key(&app.id) {
            self.put(app, 0.0);
        }
    }

    fn put(&mut self, app: &App, next_ms: f64) {
        if let Some(per_s) = app.throttle_rate_per_s {
            self.paces.insert(app.id, AppPace { per_s, next_ms });
        }
    }

    pub fn has_rate(&self, app: AppId) -> bool {
        self.paces.contains_key(&app)
    }

    /// Whether the app must rest now. If so, this begins its rest.
    pub fn rests(&mut self, app: AppId, now: Time) -> bool {
        let Some(pace) = self.paces.get_mut(&app) else { return false };
        // At most one interval ahead: the rate may have been raised, or the clock set back.
        pace.next_ms = pace.next_ms.min(now.0 as f64 + 1_000.0 / pace.per_s);
        let must_rest = (now.0 as f64) < pace.next_ms;
        if must_rest {
            self.resting.insert((Time(pace.next_ms.ceil() as i64), app));
        }
        must_rest
    }

    /// A request of the app was sent. Returns when its rate allows the next one. `None` if it has no rate.
    pub fn sent(&mut self, app: AppId, now: Time) -> Option<Time> {
        let pace = self.paces.get_mut(&app)?;
        pace.next_ms = pace.next_ms.max(now.0 as f64 - RATE_CATCH_UP_MS) + 1_000.0 / pace.per_s;
        Some(Time(pace.next_ms.ceil() as i64))
    }

    /// Ends the rest of the next app whose time has come.
    pub fn awake(&mut self, now: Time) -> Option<AppId> {
        let &(until, app) = self.resting.first()?;
        if until > now {
            return None;
        }
        self.resting.pop_first();
        Some(app)
    }

    /// Ends the rest of every app.
    pub fn wake_all(&mut self) -> Vec<AppId> {
        std::mem::take(&mut self.resting).into_iter().map(|(_, app)| app).collect()
    }

    /// When the first app stops resting.
    pub fn next_timer(&self) -> Option<Time> {
        self.resting.first().map(|(until, _)| *until)
    }
}
