//! The heartbeats of a node: they report that it lives, renew its lease, take a free one, and end its tenure.
//!
//! Invariant: the tenure ends at its end by the node's clock, whether the engine answers or not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::engine::ClusterEngine;
use crate::daemon::DaemonError;
use crate::daemon::standby::ENDED;
use crate::engine::blocking_pool::BlockingPool;
use crate::engine::clock::Clock;
use crate::engine::cluster_lease::{HeartbeatAnswer, Leases, MemberRow};
use crate::engine::log_backoff::LogBackoff;
use crate::engine::serve_window::{ServeWindow, monotonic};
use crate::rules::tenure::{LEASE, LeaseHolder, TenureStep, TenureWatch};
use crate::store::admin::{AppendStats, LogUnreachable, TenureEnd};

/// Number of heartbeats of an owner between two trims of the log.
const TRIM_HEARTBEATS: u32 = 30;
/// Interval at which a node that stops looks whether an append has an answer.
const GIVE_UP_AGAIN: Duration = Duration::from_millis(100);

/// The state that the heartbeats share with the rest of the node.
#[derive(Debug, Default)]
pub struct HeartbeatState {
    /// Number of the last commit that this node has. `None` until the store was opened.
    applied: Mutex<Option<u64>>,
    /// Whether this node may take the lease: it has a whole store, which can continue with the log.
    pub may_take: AtomicBool,
    pub window: Arc<ServeWindow>,
    pub tenure: Arc<TenureEnd>,
    stepped_down: Notify,
    /// The term of the lease that this node has taken. 0 if it has none.
    term: AtomicU64,
    owner_stats: OnceLock<Arc<AppendStats>>,
    last: Mutex<Option<HeartbeatAnswer>>,
    refusal: Mutex<Option<DaemonError>>,
    refused: Notify,
}

impl HeartbeatState {
    /// The term of the lease that this node has taken. `None` if it has none.
    pub fn term(&self) -> Option<u64> {
        Some(self.term.load(Ordering::Acquire)).filter(|term| *term > 0)
    }

    /// The last answer of the engine. `None` before the first one, and after a heartbeat without an answer.
    pub fn last(&self) -> Option<HeartbeatAnswer> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts the owner's appends from now on.
    pub fn count_by(&self, stats: Arc<AppendStats>) {
        let _ = self.owner_stats.set(stats);
    }

    /// Waits until the tenure has ended.
    pub async fn stepped_down(&self) {
        while !self.tenure.is_over() {
            self.stepped_down.notified().await;
        }
    }

    fn set_last(&self, heartbeat: Option<HeartbeatAnswer>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = heartbeat;
    }

    pub(super) fn set_applied(&self, number: u64) {
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
    }

    /// Compares the end of the log, as a heartbeat has shown it, with the last durable commit from before the heartbeat.
    fn compare(&self, appended: Option<u64>, last: Option<u64>) {
        if let (Some(stats), Some(appended), Some(last)) = (self.owner_stats.get(), appended, last) {
            stats.compare(appended, last);
        }
    }

    /// Ends the tenure from `by` on, once an append has no answer. So a node that is told to stop does not wait for the log
    /// without end, and the changes under way are answered. Never returns.
    pub async fn give_up_from(&self, by: tokio::time::Instant) {
        tokio::time::sleep_until(by).await;
        loop {
            if self.owner_stats.get().is_some_and(|stats| stats.is_unanswered()) && !self.tenure.is_over() {
                tracing::warn!("the log of the cluster takes no commits, so this node stops without it");
                self.tenure.end();
            }
            sleep(GIVE_UP_AGAIN).await;
        }
    }

    /// Refuses to stand by.
    pub(super) fn refuse(&self, error: DaemonError) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.refused.notify_one();
    }

    /// Waits until this node was refused, and returns the reason.
    pub(super) async fn refused(&self) -> DaemonError {
        loop {
            if let Some(error) = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return error;
            }
            self.refused.notified().await;
        }
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

/// The parts of a node that its heartbeats use.
pub struct HeartbeatParts {
    pub engine: ClusterEngine,
    pub clock: Arc<dyn Clock>,
    pub work: BlockingPool,
    /// Minimum time for which the log retains a record.
    pub keep: Duration,
}

/// Sends heartbeats until the tenure of this node has ended.
pub async fn run(parts: HeartbeatParts, state: Arc<HeartbeatState>) {
    let monotonic = || monotonic(&*parts.clock);
    let (mut watch, mut heartbeats, mut said) = (TenureWatch::default(), 0, LogOnce::default());
    loop {
        let sent_at = monotonic();
        let (held, applied) = (watch.held(), state.applied());
        let asked = parts.engine.leases.heartbeat(applied, held.map(|held| held.term));
        let answer = match held {
            // A late answer must not delay the end.
            Some(held) => tokio::time::timeout(held.until.saturating_sub(sent_at), asked).await.ok(),
            None => Some(asked.await),
        };
        let shown = said.answered(answer);
        state.set_last(shown.clone());
        let last = shown.as_ref().map(|heartbeat| heartbeat.last);
        let step = watch.after_heartbeat(shown.map(|heartbeat| heartbeat.lease), sent_at, monotonic());
        if step != TenureStep::Outrun {
            said.outrun.reset();
        }
        match step {
            TenureStep::Take { seen } if state.may_take.load(Ordering::Acquire) => {
                let sent_at = monotonic();
                if let Ok(Some(term)) = parts.engine.leases.take(seen).await {
                    watch.taken(term, sent_at);
                    watch.held().into_iter().for_each(|held| state.window.set(held.until));
                    state.term.store(term, Ordering::Release);
                    tracing::info!(epoch = term, "this node has taken the lease");
                }
            }
            TenureStep::Wait | TenureStep::Take { .. } => {}
            TenureStep::Outrun => said.outrun(&*parts.engine.leases, applied).await,
            TenureStep::Serve { until } => {
                state.window.set(until);
                state.compare(applied, last);
                heartbeats += u32::from(last.is_some());
                if last.is_some() && heartbeats % TRIM_HEARTBEATS == 0 {
                    tokio::spawn(trim(parts.engine.clone(), parts.work, parts.keep));
                }
            }
            TenureStep::StepDown => return state.end(),
        }
        sleep(watch.rest(monotonic())).await;
    }
}

/// The states that were logged, so that one that lasts is not logged at each heartbeat.
#[derive(Debug, Default)]
struct LogOnce {
    is_unreached: bool,
    has_ended: bool,
    outrun: LogBackoff,
}

impl LogOnce {
    /// Logs that the engine is not reached, is reached again, or shows that the cluster has ended. `None` stands for an answer
    /// that came too late.
    fn answered(&mut self, answer: Option<Result<HeartbeatAnswer, LogUnreachable>>) -> Option<HeartbeatAnswer> {
        let (was_unreached, had_ended) = (self.is_unreached, self.has_ended);
        let shown = match answer {
            Some(Ok(heartbeat)) => Some(heartbeat),
            Some(Err(error)) => {
                if !was_unreached {
                    tracing::warn!(%error, "the engine of the cluster is not reached; trying again");
                }
                None
            }
            None => None,
        };
        self.is_unreached = shown.is_none();
        if let Some(heartbeat) = &shown {
            self.has_ended = heartbeat.lease.holder == LeaseHolder::Ended;
            if was_unreached {
                tracing::info!("the engine of the cluster is reached again");
            }
        }
        if self.has_ended && !had_ended {
            tracing::error!("{ENDED}");
        }
        shown
    }

    /// Logs the living node that has more commits than the log and this node, which may take the lease.
    async fn outrun(&mut self, leases: &dyn Leases, applied: Option<u64>) {
        let Some(times) = self.outrun.record() else { return };
        let Ok(members) = leases.members().await else { return };
        let is_ahead = |row: &MemberRow| row.seen_s < LEASE.as_secs_f64() && Some(row.applied) > applied;
        if let Some(ahead) = members.into_iter().filter(is_ahead).max_by_key(|row| row.applied) {
            tracing::warn!(
                node = ahead.member.node,
                url = ahead.member.url,
                commit = ahead.applied,
                own = applied,
                times,
                cure = "if that node does not take over, its log says why; once it has stopped, this node goes on",
                "no node owns the store, and this one takes nothing over, because another has more commits"
            );
        }
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
pub(super) mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::engine::clock::SystemClock;
    use crate::engine::cluster_lease::{ClusterRow, Pending};
    use crate::rules::tenure::ShownLease;
    use crate::store::admin::{Appended, CommitAppender, CommitLog, LogEntry, LogMark, LogTail};

    /// A lease that answers heartbeats by a script. An owner's lease runs on at its end.
    #[derive(Default)]
    pub struct ScriptedLeases {
        shown: Mutex<VecDeque<ShownLease>>,
        heartbeats: Mutex<Vec<(Option<u64>, Option<u64>)>>,
        taken: AtomicU64,
        pub has_ended: AtomicBool,
        asked_members: AtomicU64,
        pub cluster: Mutex<VecDeque<ClusterRow>>,
    }

    fn answer<T: Send + 'static>(answer: T) -> Pending<'static, T> {
        Box::pin(async { Ok(answer) })
    }

    impl Leases for ScriptedLeases {
        fn heartbeat(&self, applied: Option<u64>, held: Option<u64>) -> Pending<'_, HeartbeatAnswer> {
            self.heartbeats.lock().unwrap().push((applied, held));
            let shown = self.shown.lock().unwrap().pop_front();
            Box::pin(async move {
                let lease = shown.ok_or_else(|| LogUnreachable("the script has ended".to_owned()))?;
                Ok(HeartbeatAnswer { lease, last: 9, owner: None })
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
            self.has_ended.store(true, Ordering::Relaxed);
            answer(None)
        }

        fn cluster(&self) -> Pending<'_, ClusterRow> {
            let row = self.cluster.lock().unwrap().pop_front();
            Box::pin(async move { row.ok_or_else(|| LogUnreachable("the script has ended".to_owned())) })
        }

        fn members(&self) -> Pending<'_, Vec<MemberRow>> {
            self.asked_members.fetch_add(1, Ordering::Relaxed);
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

    /// A log that takes each record or none, and is trimmed.
    #[derive(Debug, Default)]
    struct TrimmedLog {
        trimmed: AtomicU64,
        refuses: bool,
    }

    impl CommitLog for TrimmedLog {
        fn append(&self, _: LogMark, _: &[LogEntry]) -> Result<Appended, LogUnreachable> {
            if self.refuses { Err(LogUnreachable("its disk is full".to_owned())) } else { Ok(Appended::Durable) }
        }

        fn read(&self, _: u64, _: usize) -> Result<Vec<LogEntry>, LogUnreachable> {
            Ok(Vec::new())
        }

        fn last(&self) -> Result<LogMark, LogUnreachable> {
            Ok(LogMark::default())
        }

        fn trim(&self, upto: u64) -> Result<(), LogUnreachable> {
            self.trimmed.store(upto, Ordering::Release);
            Ok(())
        }
    }

    fn shown(term: u64, holder: LeaseHolder) -> ShownLease {
        ShownLease { term, holder, is_running: holder != LeaseHolder::Free, is_outrun: false }
    }

    fn parts(leases: &Arc<ScriptedLeases>, log: &Arc<TrimmedLog>) -> HeartbeatParts {
        let engine = ClusterEngine { log: log.clone(), leases: leases.clone() };
        HeartbeatParts { engine, clock: Arc::new(SystemClock), work: BlockingPool::Threads, keep: Duration::ZERO }
    }

    fn scripted(shown: Vec<ShownLease>, may_take: bool) -> (Arc<ScriptedLeases>, Arc<TrimmedLog>, Arc<HeartbeatState>) {
        let leases = ScriptedLeases { shown: Mutex::new(shown.into()), ..ScriptedLeases::default() };
        let state = HeartbeatState { may_take: may_take.into(), ..HeartbeatState::default() };
        (Arc::new(leases), Arc::default(), Arc::new(state))
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_lease_is_taken_held_and_lost_to_another() {
        let script = vec![shown(3, LeaseHolder::Free), shown(4, LeaseHolder::Me), shown(5, LeaseHolder::Other)];
        let (leases, log, state) = scripted(script, true);
        state.set_applied(5);
        run(parts(&leases, &log), state.clone()).await;
        assert_eq!(*leases.heartbeats.lock().unwrap(), [(Some(5), None), (Some(5), Some(4)), (Some(5), Some(4))]);
        assert_eq!(state.term(), Some(4));
        assert!(state.tenure.is_over() && !state.window.is_open_at(Duration::ZERO));
        state.stepped_down().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_without_a_whole_store_takes_nothing() {
        let (leases, log, state) = scripted(vec![shown(3, LeaseHolder::Free); 3], false);
        let running = run(parts(&leases, &log), state.clone());
        assert!(tokio::time::timeout(Duration::from_secs(60), running).await.is_err(), "it goes on asking");
        assert_eq!((leases.taken.load(Ordering::Relaxed), state.term()), (0, None));
        // Its last commit is not known before the store is open, so no heartbeat reports one.
        assert_eq!(leases.heartbeats.lock().unwrap()[0], (None, None));
        assert_eq!(state.last(), None, "the engine answers no more");
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_trims_the_log_once_a_minute() {
        let mut script = vec![shown(4, LeaseHolder::Me); TRIM_HEARTBEATS as usize];
        script.insert(0, shown(3, LeaseHolder::Free));
        script.push(shown(5, LeaseHolder::Other));
        let (leases, log, state) = scripted(script, true);
        run(parts(&leases, &log), state).await;
        // The trim runs in a task, which calls the log on a thread.
        while log.trimmed.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(log.trimmed.load(Ordering::Acquire), 7);
    }

    /// The appender of an owner with commit 9 as its last one, on a log that takes each record or none.
    fn appender(state: &HeartbeatState, refuses: bool) -> CommitAppender {
        let log = TrimmedLog { refuses, ..TrimmedLog::default() };
        let tail = LogTail::after_mark(LogMark { number: 9, term: 4, writer: 3 });
        let appender = CommitAppender::new(Arc::new(log), tail, state.tenure.clone());
        state.count_by(appender.stats());
        appender
    }

    #[tokio::test]
    async fn a_node_that_stops_gives_up_a_log_that_takes_no_commit() {
        for refuses in [false, true] {
            let state = Arc::<HeartbeatState>::default();
            let mut appender = appender(&state, refuses);
            let appending = std::thread::spawn(move || appender.append(10, b"a".as_slice().into()));
            while !refuses && !appending.is_finished() {
                tokio::task::yield_now().await;
            }
            let giving_up = state.give_up_from(tokio::time::Instant::now());
            // An append that has no answer yet is given up at the next look.
            let wait = if refuses { Duration::from_secs(60) } else { 3 * GIVE_UP_AGAIN };
            let ended = async {
                while !state.tenure.is_over() {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                () = giving_up => {}
                ended = tokio::time::timeout(wait, ended) => assert_eq!(ended.is_ok(), refuses),
            }
            assert_eq!(appending.join().unwrap().is_err(), refuses);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_sees_that_the_log_has_forgotten_its_end() {
        // Each heartbeat shows 9 as the last record.
        for (last, has_forgotten) in [(9, false), (10, true)] {
            let script = vec![shown(3, LeaseHolder::Free), shown(4, LeaseHolder::Me), shown(5, LeaseHolder::Other)];
            let (leases, log, state) = scripted(script, true);
            let appender = appender(&state, false);
            appender.stats().appended.store(last, Ordering::Relaxed);
            run(parts(&leases, &log), state).await;
            assert_eq!(appender.stats().has_forgotten(), has_forgotten, "{last}");
        }
    }

    #[tokio::test]
    async fn a_cluster_that_has_ended_is_said_once_and_a_node_that_is_ahead_with_back_off() {
        let mut said = LogOnce::default();
        let heartbeat = |holder| Ok(HeartbeatAnswer { lease: shown(4, holder), last: 9, owner: None });
        assert!(said.answered(Some(heartbeat(LeaseHolder::Ended))).is_some() && said.has_ended && !said.is_unreached);
        assert!(said.answered(None).is_none() && said.is_unreached);
        assert!(said.answered(Some(heartbeat(LeaseHolder::Free))).is_some() && !said.has_ended && !said.is_unreached);
        let leases = ScriptedLeases::default();
        for _ in 0..4 {
            said.outrun(&leases, Some(5)).await;
        }
        assert_eq!(
            leases.asked_members.load(Ordering::Relaxed),
            3,
            "at the first, the second and the fourth heartbeat"
        );
    }
}
