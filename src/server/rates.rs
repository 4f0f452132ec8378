//! The rates of keys and of portals: how many requests each has left.
//!
//! Invariant: a key draws from its own rate and from those of the keys that made it, so that making keys gains nothing.
//! The visitors of an app's portal draw from a rate of the app, so that they take nothing from the key of their link.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::api::auth::{Principal, RequestOwner};
use crate::model::{MakerRate, Time};

/// Seconds of a rate that one burst may use in advance.
const BURST_S: f64 = 1.0;
/// Requests a second of all visitors of one app's portal.
pub(super) const PORTAL_REQUESTS_PER_S: f64 = 50.0;
/// Maximum number of cached rates.
const RATES_MAX: usize = 10_000;

/// The requests that all keys and portals have left.
#[derive(Default)]
pub(super) struct RequestRates {
    buckets: Mutex<HashMap<RequestOwner, RateBucket>>,
}

/// The requests that are left at one rate.
#[derive(Debug, Clone, Copy)]
struct RateBucket {
    left: f64,
    at: Time,
}

impl RequestRates {
    /// Takes one request from every rate of the caller, if all have one left.
    ///
    /// # Errors
    /// The seconds until all have one. Nothing is taken then.
    pub fn take(&self, principal: &Principal, now: Time) -> Result<(), u32> {
        let rates = rates_of(principal);
        if rates.is_empty() {
            return Ok(());
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() > RATES_MAX {
            buckets.clear();
        }
        let mut wait_s = 0;
        for (owner, per_s) in &rates {
            let most = (per_s * BURST_S).max(1.0);
            let bucket = buckets.entry(*owner).or_insert(RateBucket { left: most, at: now });
            let since_s = now.since(bucket.at).max(0) as f64 / 1_000.0;
            *bucket = RateBucket { left: (bucket.left + since_s * per_s).min(most), at: now };
            if bucket.left < 1.0 {
                wait_s = wait_s.max(((1.0 - bucket.left) / per_s).ceil().max(1.0) as u32);
            }
        }
        if wait_s > 0 {
            return Err(wait_s);
        }
        for (owner, _) in &rates {
            if let Some(bucket) = buckets.get_mut(owner) {
                bucket.left -= 1.0;
            }
        }
        Ok(())
    }
}

/// The rates that a caller's request is taken from.
fn rates_of(principal: &Principal) -> Vec<(RequestOwner, f64)> {
    let owner = principal.owner();
    if let RequestOwner::Portal(_) = owner {
        return vec![(owner, PORTAL_REQUESTS_PER_S)];
    }
    let own = principal.key.rate_per_s.map(|per_s| (owner, per_s));
    let makers = principal.key.makers.iter().map(|MakerRate { key, per_s }| (RequestOwner::Key(*key), *per_s));
    own.into_iter().chain(makers).collect()
}
