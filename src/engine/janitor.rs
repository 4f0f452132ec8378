//! The janitor: rounds of maintenance, without retention while the clock is not trusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::model::Time;
use crate::model::time::MINUTE_MS;
use crate::rules::retention::ClockTrust;
use crate::store::{DroppedPartition, Retention, Store};

use crate::engine::blocking_pool::BlockingPool;
use crate::engine::clock::Clock;
use crate::engine::write_queue::WriteQueue;

/// Time between two rounds.
const ROUND_MS: i64 = MINUTE_MS;
/// Time between two rounds while there is work left.
const BUSY_ROUND_MS: i64 = 1_000;

/// The trust in the clock, shared with readiness and the API.
#[derive(Debug, Default)]
pub struct ClockTrustFlag {
    /// Whether retention is stopped because the clock jumped.
    pub clock_distrusted: AtomicBool,
    accept_clock: AtomicBool,
    accepted: Notify,
}

impl ClockTrustFlag {
    /// Confirms the clock: it is trusted from now on.
    pub fn accept_clock(&self) {
        self.clock_distrusted.store(false, Ordering::Relaxed);
        self.accept_clock.store(true, Ordering::Relaxed);
        self.accepted.notify_one();
    }
}

/// Runs until the write queue ends. `newest` is the time of the newest row at the start.
pub async fn run(
    write_queue: WriteQueue,
    store: Store,
    clock: Arc<dyn Clock>,
    work: BlockingPool,
    newest: Option<Time>,
    notice: Arc<ClockTrustFlag>,
) {
    let mut trust = ClockTrust::at_start(clock.now(), clock.monotonic_ms(), newest);
    // Distrust at the start is logged too.
    let mut was = true;
    loop {
        // Measured from before the round, so that the time of the round counts as waiting.
        let began = clock.now();
        trust = trust.look(began, clock.monotonic_ms());
        if notice.accept_clock.swap(false, Ordering::Relaxed) {
            trust = trust.accepted();
            tracing::warn!("an operator confirmed the clock: retention goes on");
        }
        notice.clock_distrusted.store(!trust.is_trusted(), Ordering::Relaxed);
        if was && !trust.is_trusted() {
            tracing::warn!(
                "the clock jumped, or is not where the last row was written; retention is stopped until the clocks agree for an hour, or until `postrider doctor --accept-clock`"
            );
        }
        was = trust.is_trusted();
        let retention = if was { Retention::Running } else { Retention::Paused };
        let wait_ms = match write_queue.maintain(retention).await {
            Ok(done) => {
                unlink(&store, work, done.dropped).await;
                if done.is_more {
                    continue;
                }
                if done.follow.is_empty() { ROUND_MS } else { BUSY_ROUND_MS }
            }
            Err(error) if error == "stopping" => return,
            Err(error) => {
                tracing::error!(error, "upkeep failed; trying again");
                ROUND_MS
            }
        };
        tokio::select! {
            () = clock.sleep_until(began.plus_ms(wait_ms)) => {}
            () = notice.accepted.notified() => {}
        }
    }
}

/// Removes the files of dropped partitions, off the writer thread.
async fn unlink(store: &Store, work: BlockingPool, dropped: Vec<DroppedPartition>) {
    for partition in dropped {
        let (store, file) = (store.clone(), partition.file_name());
        match work.run(move || store.unlink(&partition)).await {
            Some(Ok(())) => tracing::info!(file, "retention ended: file removed"),
            Some(Err(error)) => {
                tracing::warn!(file, %error, "retention ended, and the file cannot be removed; the next start tries again");
            }
            None => {}
        }
    }
}
