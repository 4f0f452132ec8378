//! The beats of a node: they say that it lives, renew its lease, take a free one, and end its tenure.
//!
//! Invariant: the tenure ends at its end by the node's clock, whether the engine answers or not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::engine::lease::{Beat, Leases};
use crate::engine::serve_window::{ServeWindow, monotonic};
use crate::rules::tenure::{TenureStep, TenureWatch};
use crate::store::admin::{CommitLog, OrderStats, TenureEnd};

/// Beats of an owner between two trims of the log.
const TRIM_BEATS: u32 = 30;

/// The state that the beats share with the rest of the node.
#[derive(Debug, Default)]
pub struct BeatState {
    /// Number of the last commit that this node has.
    pub applied: AtomicU64,
    /// Whether this node may take the lease: it has a whole store, which goes on with the log.
    pub may_take: AtomicBool,
    pub window: Arc<ServeWindow>,
    pub tenure: Arc<TenureEnd>,
    stepped_down: Notify,
    /// The epoch of the lease that this node has taken. 0 if it has none.
    epoch: AtomicU64,
    owner_stats: OnceLock<Arc<OrderStats>>,
    last: Mutex<Option<Beat>>,
}

impl BeatState {
    /// The epoch of the lease that this node has taken. `None` if it has none.
    pub fn epoch(&self) -> Option<u64> {
        Some(self.epoch.load(Ordering::Acquire)).filter(|epoch| *epoch > 0)
    }

    /// The last answer of the engine. `None` before the first one, and after a beat without an answer.
    pub fn last(&self) -> Option<Beat> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts the owner's appends from now on.
    pub fn count_by(&self, stats: Arc<OrderStats>) {
        let _ = self.owner_stats.set(stats);
    }

    /// Waits until the tenure has ended.
    pub async fn stepped_down(&self) {
        while !self.tenure.is_over() {
            self.stepped_down.notified().await;
        }
    }

    fn set_last(&self, beat: Option<Beat>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = beat;
    }

    fn applied(&self) -> u64 {
        let appended = self.owner_stats.get().map(|stats| stats.appended.load(Ordering::Relaxed));
        appended.unwrap_or_else(|| self.applied.load(Ordering::Relaxed))
    }

    fn end(&self) {
        self.window.close();
        self.tenure.end();
        self.stepped_down.notify_waiters();
        self.stepped_down.notify_one();
    }
}

/// Beats until the tenure of this node has ended.
pub async fn run(leases: Arc<dyn Leases>, log: Arc<dyn CommitLog>, state: Arc<BeatState>, keep: Duration) {
    let (mut watch, mut beats, mut is_reached) = (TenureWatch::default(), 0, true);
    loop {
        let sent_at = monotonic();
        let held = watch.held();
        let beating = leases.beat(state.applied(), held.map(|held| held.epoch));
        let answer = match held {
            // A late answer must not delay the end.
            Some(held) => tokio::time::timeout(held.until.saturating_sub(sent_at), beating).await.ok(),
            None => Some(beating.await),
        };
        let shown = match answer {
            Some(Ok(beat)) => Some(beat),
            // A failure that lasts is logged once.
            Some(Err(error)) if is_reached => {
                tracing::warn!(%error, "the engine of the cluster is not reached; trying again");
                None
            }
            _ => None,
        };
        is_reached = shown.is_some();
        state.set_last(shown.clone());
        match watch.after_beat(shown.map(|beat| beat.lease), sent_at, monotonic()) {
            TenureStep::Wait => {}
            TenureStep::Take { seen } if state.may_take.load(Ordering::Acquire) => {
                let sent_at = monotonic();
                if let Ok(Some(epoch)) = leases.take(seen).await {
                    watch.taken(epoch, sent_at);
                    watch.held().into_iter().for_each(|held| state.window.set(held.until));
                    state.epoch.store(epoch, Ordering::Release);
                    tracing::info!(epoch, "this node has taken the lease");
                }
            }
            TenureStep::Take { .. } => {}
            TenureStep::Serve { until } => {
                state.window.set(until);
                beats += 1;
                if beats % TRIM_BEATS == 0 {
                    tokio::spawn(trim(leases.clone(), log.clone(), keep));
                }
            }
            TenureStep::StepDown => return state.end(),
        }
        sleep(watch.rest(monotonic())).await;
    }
}

/// Removes the records that no node needs any more.
async fn trim(leases: Arc<dyn Leases>, log: Arc<dyn CommitLog>, keep: Duration) {
    let trimmed = match leases.trimmable(keep).await {
        Ok(0) => return,
        // The log's calls block.
        Ok(upto) => tokio::task::spawn_blocking(move || log.trim(upto)).await.unwrap_or(Ok(())),
        Err(error) => Err(error),
    };
    if let Err(error) = trimmed {
        tracing::warn!(%error, "the log of the cluster was not trimmed; trying again");
    }
}
