//! Expiry: fails deliveries whose `expires_at` passes while they wait for a retry, a paused webhook or a circuit.
//!
//! Invariant: the task sleeps until the earliest expiry, and a new earlier expiry wakes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;

use crate::model::Time;
use crate::mutants::mutant;
use crate::store::Store;

use crate::engine::blocking_pool::BlockingPool;
use crate::engine::clock::Clock;
use crate::engine::scheduler::SchedulerHandle;

/// Maximum number of deliveries of one partition that expire in one step.
const SLICE_DELIVERIES: usize = 1_000;
/// Delay before expired deliveries that are in flight or unreadable are read again.
const AGAIN_MS: i64 = 1_000;

/// The timer of the earliest expiry.
#[derive(Debug)]
pub struct ExpiryTimer {
    until_ms: AtomicI64,
    earlier: Notify,
}

impl Default for ExpiryTimer {
    fn default() -> Self {
        ExpiryTimer { until_ms: AtomicI64::new(i64::MAX), earlier: Notify::new() }
    }
}

impl ExpiryTimer {
    /// Registers an expiry at `end`.
    pub fn set(&self, end: Time) {
        if end.0 < self.until_ms.load(Ordering::SeqCst) {
            self.earlier.notify_one();
        }
    }
}

/// Runs until the process ends.
pub async fn run(
    store: Store,
    scheduler_handle: SchedulerHandle,
    clock: Arc<dyn Clock>,
    work: BlockingPool,
    alarm: Arc<ExpiryTimer>,
) {
    loop {
        // An expiry registered from here on wakes the wait below, so none is missed between reading and waiting.
        alarm.until_ms.store(i64::MAX, Ordering::SeqCst);
        let (reading, now) = (store.clone(), clock.now());
        let until = match work.run(move || reading.expired(now, SLICE_DELIVERIES)).await {
            Some(Ok((ended, next))) if ended.is_empty() => next.unwrap_or(Time(i64::MAX)),
            Some(Ok((ended, _))) if !mutant!("expiry_ignored") => {
                scheduler_handle.ended(ended);
                now.plus_ms(AGAIN_MS)
            }
            Some(Ok(_)) => now.plus_ms(AGAIN_MS),
            Some(Err(error)) => {
                tracing::error!(%error, "expired deliveries could not be read; trying again");
                now.plus_ms(AGAIN_MS)
            }
            None => now.plus_ms(AGAIN_MS),
        };
        alarm.until_ms.store(until.0, Ordering::SeqCst);
        tokio::select! {
            () = alarm.earlier.notified() => {}
            () = clock.sleep_until(until) => {}
        }
    }
}
