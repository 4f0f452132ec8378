//! The heartbeats of a node: they report that it lives, renew its lease, take a free one, and end its tenure.
//!
//! Invariant: the tenure ends at its end by the node's clock, whether the engine answers or not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::engine::ClusterEngine;
use crate::engine::blocking_pool::BlockingPool;
use crate::engine::clock::Clock;
use crate::engine::lease::Beat;
use crate::engine::serve_window::{ServeWindow, monotonic};
use crate::rules::tenure::{TenureStep, TenureWatch};
use crate::store::admin::{OrderStats, TenureEnd};

/// Number of beats of an owner between two trims of the log.
const TRIM_BEATS: u32 = 30;

/// The state that the beats share with the rest of the node.
#[derive(Debug, Default)]
pub struct BeatState {
    /// Number of the last commit that this node has. `None` until the store was opened.
    applied: Mutex<Option<u64>>,
    /// Whether this node may take the lease: it has a whole store, which can continue with the log.
    pub may_take: AtomicBool,
    pub window: Arc<ServeWindow>,
    pub tenure: Arc<TenureEnd>,
    stepped_down: Notify,
    /// The term of the lease that this node has taken. 0 if it has none.
    term: AtomicU64,
    owner_stats: OnceLock<Arc<OrderStats>>,
    last: Mutex<Option<Beat>>,
}

impl BeatState {
    /// The term of the lease that this node has taken. `None` if it has none.
    pub fn term(&self) -> Option<u64> {
        Some(self.term.load(Ordering::Acquire)).filter(|term| *term > 0)
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

    pub(super) fn set_applied(&self, number: u64) {
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
    }

    fn applied(&self) -> Option<u64> {
        let appended = self.owner_stats.get().map(|stats| stats.appended.load(Ordering::Relaxed));
        appended.or_else(|| *self.applied.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&self) {
        self.window.close();
        self.tenure.end();
        self.stepped_down.notify_waiters();
        self.stepped_down.notify_one();
    }
}

/// The parts of a node that its beats use.
pub struct BeatParts {
    pub engine: ClusterEngine,
    pub clock: Arc<dyn Clock>,
    pub work: BlockingPool,
    /// Minimum time for which the log retains a record.
    pub keep: Duration,
}

/// Beats until the tenure of this node has ended.
pub async fn run(parts: BeatParts, state: Arc<BeatState>) {
    let BeatParts { engine, clock, work, keep } = parts;
    let leases = engine.leases.clone();
    let monotonic = || monotonic(&*clock);
    let (mut watch, mut beats, mut is_reached) = (TenureWatch::default(), 0, true);
    loop {
        let sent_at = monotonic();
        let held = watch.held();
        let beating = leases.beat(state.applied(), held.map(|held| held.term));
        let answer = match held {
            // A late answer must not delay the end.
            Some(held) => tokio::time::timeout(held.until.saturating_sub(sent_at), beating).await.ok(),
            None => Some(beating.await),
        };
        let shown = match answer {
            Some(Ok(beat)) => {
                if !is_reached {
                    tracing::info!("the engine of the cluster is reached again");
                }
                Some(beat)
            }
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
                if let Ok(Some(term)) = leases.take(seen).await {
                    watch.taken(term, sent_at);
                    watch.held().into_iter().for_each(|held| state.window.set(held.until));
                    state.term.store(term, Ordering::Release);
                    tracing::info!(epoch = term, "this node has taken the lease");
                }
            }
            TenureStep::Take { .. } => {}
            TenureStep::Serve { until } => {
                state.window.set(until);
                beats += 1;
                if beats % TRIM_BEATS == 0 {
                    tokio::spawn(trim(engine.clone(), work, keep));
                }
            }
            TenureStep::StepDown => return state.end(),
        }
        sleep(watch.rest(monotonic())).await;
    }
}

/// Removes the records that no node needs any more.
async fn trim(engine: ClusterEngine, work: BlockingPool, keep: Duration) {
    let ClusterEngine { log, leases } = engine;
    let trimmed = match leases.trimmable(keep).await {
        Ok(0) => return,
        // The log's calls block.
        Ok(upto) => work.run(move || log.trim(upto)).await.unwrap_or(Ok(())),
        Err(error) => Err(error),
    };
    if let Err(error) = trimmed {
        tracing::warn!(%error, "the log of the cluster was not trimmed; trying again");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::engine::clock::SystemClock;
    use crate::engine::lease::{Leases, MemberRow, Pending};
    use crate::rules::tenure::{LeaseHolder, ShownLease};
    use crate::store::admin::{Appended, CommitLog, LogEntry, LogMark, LogUnreachable};

    /// A lease that answers beats by a script. An owner's lease runs on at its end.
    #[derive(Default)]
    struct ScriptedLeases {
        shown: Mutex<VecDeque<ShownLease>>,
        beats: Mutex<Vec<(Option<u64>, Option<u64>)>>,
        taken: AtomicU64,
    }

    fn answer<T: Send + 'static>(answer: T) -> Pending<'static, T> {
        Box::pin(async { Ok(answer) })
    }

    impl Leases for ScriptedLeases {
        fn beat(&self, applied: Option<u64>, held: Option<u64>) -> Pending<'_, Beat> {
            self.beats.lock().unwrap().push((applied, held));
            let shown = self.shown.lock().unwrap().pop_front();
            Box::pin(async move {
                let lease = shown.ok_or_else(|| LogUnreachable("the script has ended".to_owned()))?;
                Ok(Beat { lease, last: 9, owner: None })
            })
        }

        fn take(&self, seen: u64) -> Pending<'_, Option<u64>> {
            self.taken.fetch_add(1, Ordering::Relaxed);
            answer(Some(seen + 1))
        }

        fn release(&self, _: u64) -> Pending<'_, ()> {
            answer(())
        }

        fn end(&self) -> Pending<'_, Option<u64>> {
            answer(None)
        }

        fn members(&self) -> Pending<'_, Vec<MemberRow>> {
            answer(Vec::new())
        }

        fn trimmable(&self, _: Duration) -> Pending<'_, u64> {
            answer(7)
        }

        fn is_pooled(&self) -> Pending<'_, bool> {
            answer(false)
        }

        fn is_synchronous(&self) -> Pending<'_, bool> {
            answer(true)
        }
    }

    /// A log that is trimmed only.
    #[derive(Debug, Default)]
    struct TrimmedLog(AtomicU64);

    impl CommitLog for TrimmedLog {
        fn append(&self, _: LogMark, _: &[LogEntry]) -> Result<Appended, LogUnreachable> {
            Ok(Appended::Durable)
        }

        fn read(&self, _: u64, _: usize) -> Result<Vec<LogEntry>, LogUnreachable> {
            Ok(Vec::new())
        }

        fn last(&self) -> Result<LogMark, LogUnreachable> {
            Ok(LogMark::default())
        }

        fn trim(&self, upto: u64) -> Result<(), LogUnreachable> {
            self.0.store(upto, Ordering::Release);
            Ok(())
        }
    }

    fn shown(term: u64, holder: LeaseHolder) -> ShownLease {
        ShownLease { term, holder, is_running: holder != LeaseHolder::Free, is_outrun: false }
    }

    fn parts(leases: &Arc<ScriptedLeases>, log: &Arc<TrimmedLog>) -> BeatParts {
        let engine = ClusterEngine { log: log.clone(), leases: leases.clone() };
        BeatParts { engine, clock: Arc::new(SystemClock), work: BlockingPool::Threads, keep: Duration::ZERO }
    }

    fn scripted(shown: Vec<ShownLease>, may_take: bool) -> (Arc<ScriptedLeases>, Arc<TrimmedLog>, Arc<BeatState>) {
        let leases = ScriptedLeases { shown: Mutex::new(shown.into()), ..ScriptedLeases::default() };
        let state = BeatState { may_take: may_take.into(), ..BeatState::default() };
        (Arc::new(leases), Arc::default(), Arc::new(state))
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_lease_is_taken_held_and_lost_to_another() {
        let script = vec![shown(3, LeaseHolder::Free), shown(4, LeaseHolder::Me), shown(5, LeaseHolder::Other)];
        let (leases, log, state) = scripted(script, true);
        state.set_applied(5);
        run(parts(&leases, &log), state.clone()).await;
        assert_eq!(*leases.beats.lock().unwrap(), [(Some(5), None), (Some(5), Some(4)), (Some(5), Some(4))]);
        assert_eq!(state.term(), Some(4));
        assert!(state.tenure.is_over() && !state.window.is_open_at(Duration::ZERO));
        state.stepped_down().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_without_a_whole_store_takes_nothing() {
        let (leases, log, state) = scripted(vec![shown(3, LeaseHolder::Free); 3], false);
        let beating = run(parts(&leases, &log), state.clone());
        assert!(tokio::time::timeout(Duration::from_secs(60), beating).await.is_err(), "it goes on beating");
        assert_eq!((leases.taken.load(Ordering::Relaxed), state.term()), (0, None));
        // Its last commit is not known before the store is open, so no beat reports one.
        assert_eq!(leases.beats.lock().unwrap()[0], (None, None));
        assert_eq!(state.last(), None, "the engine answers no more");
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_trims_the_log_once_a_minute() {
        let mut script = vec![shown(4, LeaseHolder::Me); TRIM_BEATS as usize];
        script.insert(0, shown(3, LeaseHolder::Free));
        script.push(shown(5, LeaseHolder::Other));
        let (leases, log, state) = scripted(script, true);
        run(parts(&leases, &log), state).await;
        // The trim runs in a task, which calls the log on a thread.
        while log.0.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(log.0.load(Ordering::Acquire), 7);
    }
}
