//! The rates of keys: how many requests each has left.
//!
//! Invariant: a key draws from its own rate and from those of the keys that made it, so that making keys gains nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::model::id::KeyId;
use crate::model::{ApiKey, MakerRate, Time};

/// Seconds of a key's rate that one burst may use in advance.
const BURST_S: f64 = 1.0;
/// Maximum number of cached rates.
const RATES_MAX: usize = 10_000;

/// The requests that all keys have left.
#[derive(Default)]
pub(super) struct KeyRates {
    buckets: Mutex<HashMap<KeyId, RateBucket>>,
}

/// The requests that a key has left at its rate.
#[derive(Debug, Clone, Copy)]
struct RateBucket {
    left: f64,
    at: Time,
}

impl KeyRates {
    /// Takes one request from the rates of the key and its makers, if all have one left.
    ///
    /// # Errors
    /// The seconds until all have one. Nothing is taken then.
    pub fn take(&self, key: &ApiKey, now: Time) -> Result<(), u32> {
        let own = key.rate_per_s.map(|per_s| MakerRate { key: key.id, per_s });
        let rates = || own.iter().chain(&key.makers);
        if rates().next().is_none() {
            return Ok(());
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() > RATES_MAX {
            buckets.clear();
        }
        let mut wait_s = 0;
        for MakerRate { key, per_s } in rates() {
            let most = (per_s * BURST_S).max(1.0);
            let bucket = buckets.entry(*key).or_insert(RateBucket { left: most, at: now });
            let since_s = now.since(bucket.at).max(0) as f64 / 1_000.0;
            *bucket = RateBucket { left: (bucket.left + since_s * per_s).min(most), at: now };
            if bucket.left < 1.0 {
                wait_s = wait_s.max(((1.0 - bucket.left) / per_s).ceil().max(1.0) as u32);
            }
        }
        if wait_s > 0 {
            return Err(wait_s);
        }
        for MakerRate { key, .. } in rates() {
            if let Some(bucket) = buckets.get_mut(key) {
                bucket.left -= 1.0;
            }
        }
        Ok(())
    }
}
