//! The engine of a simulated cluster, as one host: the log and the lease. Links to it break, its calls take time, it
//! restarts, its clock jumps, it forgets the end of the log, and appends arrive late.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider::engine::cluster_lease::{ClusterRow, HeartbeatAnswer, Leases, Member, MemberRow, Pending};
use postrider::rules::tenure::{LEASE, LeaseHolder, ShownLease, trim_upto};
use postrider::store::admin::{Appended, CommitLog, LogEntry, LogMark, LogUnreachable, TenureEnd};

use crate::sim::rng::Rng;
use crate::sim::world::{elapsed_ms, sleep_ms};
use crate::support::memory_log::{LogFaults, MemoryLog};

/// Time after which a call without an answer ends.
const ANSWER_MS_MAX: u64 = 5_000;
/// A member counts as alive for so long after its last heartbeat.
const ALIVE_MS: i64 = LEASE.as_millis() as i64;
/// Percentages of appends that are refused, and that have no answer.
const REFUSED: u64 = 2;
const UNANSWERED: u64 = 2;
/// Maximum time for which an append is under way.
const LATE_MS_MAX: u64 = 40_000;

/// A member as its last heartbeat showed it.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    at_ms: i64,
    applied: u64,
}

#[derive(Debug)]
struct EngineState {
    term: u64,
    holder: Option<usize>,
    until_ms: i64,
    /// Milliseconds by which the engine's clock is ahead.
    ahead_ms: i64,
    members: Vec<Heard>,
    /// Appends under way, and the time at which they arrive.
    late: Vec<(i64, LogMark, Vec<LogEntry>)>,
    /// Highest term of a node that has begun to serve.
    served: u64,
    /// Highest term of a record.
    fenced: u64,
    rng: Rng,
    problems: Vec<String>,
}

/// The link of one node to the engine.
#[derive(Debug, Default)]
pub struct EngineLink {
    pub is_cut: AtomicBool,
    /// The next append is under way when the link breaks.
    pub is_late: AtomicBool,
}

/// The engine. Clones are one engine.
#[derive(Debug, Clone)]
pub struct SimEngine {
    log: MemoryLog,
    state: Arc<Mutex<EngineState>>,
    pub links: Arc<Vec<EngineLink>>,
}

impl SimEngine {
    pub fn new(mut rng: Rng, nodes: usize) -> SimEngine {
        let log = MemoryLog::new(rng.fork());
        log.set_faults(LogFaults { refused: REFUSED, unanswered: UNANSWERED, ..LogFaults::default() });
        let state = EngineState {
            term: 0,
            holder: None,
            until_ms: 0,
            ahead_ms: 0,
            members: vec![Heard { at_ms: i64::MIN / 2, applied: 0 }; nodes],
            late: Vec::new(),
            served: 0,
            fenced: 0,
            rng,
            problems: Vec::new(),
        };
        let links = (0..nodes).map(|_| EngineLink::default()).collect();
        SimEngine { log, state: Arc::new(Mutex::new(state)), links: Arc::new(links) }
    }

    fn state(&self) -> MutexGuard<'_, EngineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begin(&self, mark: LogMark) {
        self.log.begin(mark);
    }

    pub fn is_begun(&self) -> bool {
        self.log.is_begun()
    }

    /// Number of the last record. 0 if there is none.
    pub fn last(&self) -> u64 {
        self.log.last().map_or(0, |mark| mark.number)
    }

    /// Forgets the newest records. Returns the number of the last record before.
    pub fn forget(&self) -> u64 {
        let last = self.last();
        self.log.forget_end();
        last
    }

    /// Records forgotten so far.
    pub fn forgotten(&self) -> u64 {
        self.log.forgotten()
    }

    /// Lets the engine's clock jump ahead, so that the lease runs out.
    pub fn jump(&self) {
        self.state().ahead_ms += 2 * ALIVE_MS;
    }

    /// Notes that the node of a term serves.
    pub fn serves(&self, term: u64) {
        let mut state = self.state();
        state.served = state.served.max(term);
    }

    /// Ends every refusal.
    pub fn calm(&self) {
        self.log.set_faults(LogFaults::default());
    }

    /// The promises that were broken since the last call.
    pub fn problems(&self) -> Vec<String> {
        std::mem::take(&mut self.state().problems)
    }

    fn now_ms(&self) -> i64 {
        elapsed_ms() + self.state().ahead_ms
    }

    /// Stores the appends that arrive now.
    fn take_late(&self) {
        let due = {
            let mut state = self.state();
            let (due, under_way) = std::mem::take(&mut state.late).into_iter().partition(|late| late.0 <= elapsed_ms());
            state.late = under_way;
            let due: Vec<(i64, LogMark, Vec<LogEntry>)> = due;
            due
        };
        for (_, before, entries) in due {
            let _ = self.log.append(before, &entries);
        }
    }
}

fn unreachable(words: &str) -> LogUnreachable {
    LogUnreachable(words.to_owned())
}

/// The log, as one node reaches it.
#[derive(Debug)]
pub struct NodeLog {
    pub engine: SimEngine,
    pub node: usize,
    /// The tenure of the node while it serves.
    pub tenure: Mutex<Option<Arc<TenureEnd>>>,
}

impl NodeLog {
    fn link(&self) -> &EngineLink {
        &self.engine.links[self.node]
    }

    /// A call within one instant cannot wait, so an owner that gets no answer has no tenure left.
    fn no_answer(&self) -> LogUnreachable {
        if let Some(tenure) = &*self.tenure.lock().unwrap_or_else(PoisonError::into_inner) {
            tenure.end();
        }
        unreachable("no answer")
    }

    fn reach(&self) -> Result<(), LogUnreachable> {
        self.engine.take_late();
        if self.link().is_cut.load(Ordering::Relaxed) { Err(self.no_answer()) } else { Ok(()) }
    }
}

impl CommitLog for NodeLog {
    fn is_answering(&self) -> bool {
        !self.link().is_cut.load(Ordering::Relaxed) || self.link().is_late.load(Ordering::Relaxed)
    }

    fn append(&self, before: LogMark, entries: &[LogEntry]) -> Result<Appended, LogUnreachable> {
        if self.link().is_late.swap(false, Ordering::Relaxed) {
            let mut state = self.engine.state();
            let arrives_ms = elapsed_ms() + state.rng.below(LATE_MS_MAX) as i64;
            state.late.push((arrives_ms, before, entries.to_vec()));
            drop(state);
            return Err(self.no_answer());
        }
        self.reach()?;
        let appended = self.engine.log.append(before, entries)?;
        let Some(mark) = entries.last().map(|entry| entry.mark) else { return Ok(appended) };
        let mut state = self.engine.state();
        if appended == Appended::Durable && mark.term < state.served {
            let words = format!("commit {} of term {} counts, and {} serves", mark.number, mark.term, state.served);
            state.problems.push(words);
        }
        if appended == Appended::Durable && mark.term > state.fenced {
            state.fenced = mark.term;
            // A log that forgets a fence lets a late append of the owner before it in, and no node can heal that.
            self.engine.log.keep_up_to(mark.number);
        }
        Ok(appended)
    }

    fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<LogEntry>, LogUnreachable> {
        self.reach()?;
        self.engine.log.read(from, bytes_max)
    }

    fn last(&self) -> Result<LogMark, LogUnreachable> {
        self.reach()?;
        self.engine.log.last()
    }

    fn trim(&self, upto: u64) -> Result<(), LogUnreachable> {
        self.reach()?;
        self.engine.log.trim(upto)
    }
}

/// The lease, as one node reaches it.
#[derive(Debug)]
pub struct NodeLease {
    pub engine: SimEngine,
    pub node: usize,
}

impl NodeLease {
    /// The way of a call to the engine, or of its answer.
    async fn way(&self) -> Result<(), LogUnreachable> {
        let ms = {
            let mut state = self.engine.state();
            if state.rng.chance(5) { state.rng.between(300, 2_500) } else { state.rng.between(1, 20) }
        };
        sleep_ms(ms).await;
        if self.engine.links[self.node].is_cut.load(Ordering::Relaxed) {
            sleep_ms(ANSWER_MS_MAX).await;
            return Err(unreachable("no answer"));
        }
        Ok(())
    }

    /// A call that is done at one moment, on its way to the engine and back.
    fn call<T: Send + 'static>(&self, does: impl FnOnce(&NodeLease) -> T + Send + 'static) -> Pending<'_, T> {
        Box::pin(async move {
            self.way().await?;
            let answer = does(self);
            self.way().await?;
            Ok(answer)
        })
    }

    fn shown(&self, applied: Option<u64>, held: Option<u64>) -> HeartbeatAnswer {
        let (me, now, last) = (self.node, self.engine.now_ms(), self.engine.last());
        let mut state = self.engine.state();
        let applied = applied.unwrap_or(state.members[me].applied);
        state.members[me] = Heard { at_ms: now, applied };
        let is_renewed = state.holder == Some(me) && held == Some(state.term) && state.until_ms > now;
        if is_renewed {
            state.until_ms = now + ALIVE_MS;
        }
        let others =
            state.members.iter().enumerate().filter(|(node, heard)| *node != me && heard.at_ms + ALIVE_MS > now);
        let ahead = others.map(|(_, heard)| heard.applied).max().unwrap_or(0);
        let holder = match state.holder {
            None => LeaseHolder::Free,
            Some(holder) if holder == me => LeaseHolder::Me,
            Some(_) => LeaseHolder::Other,
        };
        let is_running = is_renewed || state.until_ms > now && held != Some(state.term);
        let is_outrun = ahead > last && ahead > applied;
        let lease = ShownLease { term: state.term, holder, is_running, is_outrun };
        HeartbeatAnswer { lease, last, owner: state.holder.map(|node| format!("http://{node}.example")) }
    }

    fn taken(&self, seen: u64) -> Option<u64> {
        let now = self.engine.now_ms();
        let mut state = self.engine.state();
        if state.term != seen {
            return None;
        }
        (state.term, state.holder, state.until_ms) = (seen + 1, Some(self.node), now + ALIVE_MS);
        Some(state.term)
    }

    fn released(&self, term: u64) {
        let now = self.engine.now_ms();
        let mut state = self.engine.state();
        if state.term == term {
            (state.holder, state.until_ms) = (None, now);
        }
    }

    fn trimmed(&self, keep: Duration) -> u64 {
        let (now, last) = (self.engine.now_ms(), self.engine.last());
        let state = self.engine.state();
        let kept = state.members.iter().filter(|heard| heard.at_ms + keep.as_millis() as i64 > now);
        trim_upto(kept.map(|heard| heard.applied).min().unwrap_or(0), last)
    }
}

impl Leases for NodeLease {
    fn heartbeat(&self, applied: Option<u64>, held: Option<u64>) -> Pending<'_, HeartbeatAnswer> {
        self.call(move |lease| lease.shown(applied, held))
    }

    fn take(&self, seen: u64) -> Pending<'_, Option<u64>> {
        self.call(move |lease| lease.taken(seen))
    }

    fn release(&self, term: u64) -> Pending<'_, ()> {
        self.call(move |lease| lease.released(term))
    }

    fn end(&self) -> Pending<'_, Option<u64>> {
        self.call(|_| None)
    }

    fn cluster(&self) -> Pending<'_, ClusterRow> {
        self.call(|_| ClusterRow { store: String::new(), has_ended: false })
    }

    fn members(&self) -> Pending<'_, Vec<MemberRow>> {
        self.call(|lease| {
            let (state, now) = (lease.engine.state(), elapsed_ms());
            let row = |(node, heard): (usize, &Heard)| {
                let (name, url) = (node.to_string(), format!("http://{node}.example"));
                let member = Member { node: name, url, version: String::new(), options: 0 };
                let seen_s = (now - heard.at_ms) as f64 / 1_000.0;
                MemberRow { member, applied: heard.applied, seen_s, is_owner: state.holder == Some(node) }
            };
            state.members.iter().enumerate().map(row).collect()
        })
    }

    fn trimmable(&self, keep: Duration) -> Pending<'_, u64> {
        self.call(move |lease| lease.trimmed(keep))
    }

    fn is_pooled(&self) -> Pending<'_, bool> {
        self.call(|_| false)
    }

    fn is_synchronous(&self) -> Pending<'_, bool> {
        self.call(|_| true)
    }
}
