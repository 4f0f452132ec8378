//! The janitor: rounds of maintenance, without retention while the clock is not trusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::Time;
use crate::model::time::MINUTE_MS;
use crate::rules::retention::ClockTrust;
use crate::store::{DroppedPartition, Retention, Store};

use crate::engine::believed_clock::BelievedClock;
use crate::engine::blocking_pool::BlockingPool;
use crate::engine::clock::Clock;
use crate::engine::write_queue::WriteQueue;

/// Time between two rounds.
const ROUND_MS: i64 = MINUTE_MS;
/// Time between two rounds while there is work left.
const BUSY_ROUND_MS: i64 = 1_000;

/// The trust in the clock, shared with readiness and the API.
pub struct ClockTrustFlag {
    clock: Arc<BelievedClock>,
    /// Whether retention is stopped because the clock stepped.
    retention_stopped: AtomicBool,
    accept_clock: AtomicBool,
}

impl ClockTrustFlag {
    pub fn new(clock: Arc<BelievedClock>) -> ClockTrustFlag {
        ClockTrustFlag { clock, retention_stopped: AtomicBool::new(false), accept_clock: AtomicBool::new(false) }
    }

    /// Accepts the clock: its time is taken, and retention goes on.
    pub fn accept_clock(&self) {
        self.retention_stopped.store(false, Ordering::Relaxed);
        self.accept_clock.store(true, Ordering::Relaxed);
        self.clock.accept();
    }

    /// Whether the clock is believed, and has been for long enough that retention goes by it.
    pub fn is_trusted(&self) -> bool {
        self.clock.off_ms().is_none() && !self.retention_stopped.load(Ordering::Relaxed)
    }

    /// Milliseconds by which the wall clock is ahead of the believed time. `None` if both agree.
    pub fn off_ms(&self) -> Option<i64> {
        self.clock.off_ms()
    }
}

/// Runs until the write queue ends. `last_seen` is the last time that the store knew of at the start.
pub async fn run(
    write_queue: WriteQueue,
    store: Store,
    work: BlockingPool,
    last_seen: Option<Time>,
    notice: Arc<ClockTrustFlag>,
) {
    let clock = &notice.clock;
    let mut trust = ClockTrust::at_start(clock.wall(), clock.monotonic_ms(), last_seen);
    // Distrust at the start is logged too.
    let mut was = true;
    loop {
        // The wait counts from before the round, so that it includes the time of the round.
        let began = clock.now();
        trust = trust.observe(clock.wall(), clock.monotonic_ms());
        if notice.accept_clock.swap(false, Ordering::Relaxed) {
            trust = trust.accepted();
            tracing::warn!("an operator confirmed the clock: retention goes on");
        }
        notice.retention_stopped.store(!trust.is_trusted(), Ordering::Relaxed);
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
                tracing::error!(error, "maintenance failed; trying again");
                ROUND_MS
            }
        };
        tokio::select! {
            () = clock.sleep_until(began.plus_ms(wait_ms)) => {}
            () = clock.changed.notified() => {}
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
