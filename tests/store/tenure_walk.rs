//! Random walks over the protocol of a cluster. Three nodes crash, stand still and are cut off, and their log answers
//! late and forgets its end. No acknowledged commit is lost, no two nodes send at once, and no owner acknowledges after
//! another one has taken over. A trim removes no commit that a living node lacks. Each promise that is broken on
//! purpose is found.
//!
//! `POSTRIDER_SEED=7` walks one seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postrider::engine::serve_window::ServeWindow;
use postrider::model::Time;
use postrider::rules::tenure::{HEARTBEAT_EVERY, LEASE, LeaseHolder, ShownLease, TenureStep, TenureWatch, trim_upto};
use postrider::store::admin::{
    Appended, CommitAppender, CommitLog, FenceError, LogEntry, LogMark, LogTail, LogUnreachable, TenureEnd, fence,
    read_next,
};

use crate::support::memory_log::{LogFaults, MemoryLog};
use crate::support::rng::Rng;

const NODES: usize = 3;
const TICK: Duration = Duration::from_millis(250);
const TICKS: u64 = 1_600;
/// Ticks without faults at the end of a walk.
const CALM_TICKS: u64 = 240;
const SEEDS: u64 = 100;
/// Time after which the log no longer waits for a node.
const KEEP: Duration = Duration::from_secs(40);

/// A promise of the engine that is broken. Those of this program are `postrider::mutants::FOUND_BY_WALK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    AppendAnywhere,
    RenewAfterExpiry,
}

/// The lease as the engine keeps it.
struct Lease {
    term: u64,
    holder: Option<usize>,
    until: Duration,
}

/// The log as one node reaches it.
#[derive(Debug)]
struct Reached {
    log: MemoryLog,
    is_cut: AtomicBool,
    tenure: Arc<TenureEnd>,
}

impl Reached {
    fn check(&self) -> Result<(), LogUnreachable> {
        if !self.is_cut.load(Ordering::Relaxed) {
            return Ok(());
        }
        // The cut outlasts the tenure of an owner that waits for an answer.
        self.tenure.end();
        Err(LogUnreachable("cut off".to_owned()))
    }
}

impl CommitLog for Reached {
    fn append(&self, before: LogMark, entries: &[LogEntry]) -> Result<Appended, LogUnreachable> {
        self.check().and_then(|()| self.log.append(before, entries))
    }

    fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<LogEntry>, LogUnreachable> {
        self.check().and_then(|()| self.log.read(from, bytes_max))
    }

    fn last(&self) -> Result<LogMark, LogUnreachable> {
        self.check().and_then(|()| self.log.last())
    }

    fn trim(&self, upto: u64) -> Result<(), LogUnreachable> {
        self.check().and_then(|()| self.log.trim(upto))
    }
}

/// A node. Its files outlast its process.
struct Node {
    files: Vec<u64>,
    /// The newest records that this process has read.
    tail: LogTail,
    watch: TenureWatch,
    reached: Arc<Reached>,
    owner: Option<(u64, CommitAppender)>,
    window: ServeWindow,
    /// When the engine had the last heartbeat, and the last commit of that.
    seen: (Duration, u64),
    /// Whether its commits go on with the log, as it read it last.
    may_take: bool,
    /// Whether the log was trimmed while this node was away for too long.
    is_left_behind: bool,
    dead_until: Duration,
    still_until: Duration,
    cut_until: Duration,
    next_heartbeat: Duration,
    /// A heartbeat whose answer has not arrived: when it was sent, the answer, when it arrives.
    heartbeat: Option<(Duration, Option<ShownLease>, Duration)>,
}

struct Walk {
    rng: Rng,
    now: Duration,
    broken: Broken,
    log: MemoryLog,
    lease: Lease,
    nodes: Vec<Node>,
    acknowledged: Vec<u64>,
    highest_owner: u64,
    takeovers: u64,
    copies: u64,
    next_value: u64,
}

type Check = Result<(), String>;

/// The values of entries. A fence has none.
fn values(entries: &[LogEntry]) -> impl Iterator<Item = u64> {
    entries.iter().filter_map(|entry| (*entry.body).try_into().ok().map(u64::from_le_bytes))
}

impl Walk {
    fn new(seed: u64, broken: Broken) -> Walk {
        let mut rng = Rng::new(seed);
        let log = MemoryLog::new(rng.fork());
        log.begin(LogMark::default());
        let appends_anywhere = broken == Broken::AppendAnywhere;
        log.set_faults(LogFaults { refused: 5, unanswered: 5, late: 5, forgets: 2, appends_anywhere });
        let node = || Node {
            files: Vec::new(),
            tail: LogTail::after_mark(LogMark::default()),
            watch: TenureWatch::default(),
            reached: reached(&log),
            owner: None,
            window: ServeWindow::default(),
            seen: (Duration::ZERO, 0),
            may_take: false,
            is_left_behind: false,
            dead_until: Duration::ZERO,
            still_until: Duration::ZERO,
            cut_until: Duration::ZERO,
            next_heartbeat: Duration::ZERO,
            heartbeat: None,
        };
        let nodes = (0..NODES).map(|_| node()).collect();
        let lease = Lease { term: 0, holder: None, until: Duration::ZERO };
        Walk {
            rng,
            now: Duration::from_secs(1),
            broken,
            log,
            lease,
            nodes,
            acknowledged: Vec::new(),
            highest_owner: 0,
            takeovers: 0,
            copies: 0,
            next_value: 0,
        }
    }

    /// The heartbeat of a node, as the engine answers it: it renews the node's own lease that runs, and shows it.
    fn heartbeat(&mut self, me: usize) -> ShownLease {
        let is_renewable = self.lease.until > self.now || self.broken == Broken::RenewAfterExpiry;
        self.nodes[me].seen = (self.now, self.nodes[me].tail.last().number);
        let is_owner = self.nodes[me].watch.held().is_some_and(|held| held.term == self.lease.term);
        if self.lease.holder == Some(me) && is_owner && is_renewable {
            self.lease.until = self.now + LEASE;
        }
        let holder = match self.lease.holder {
            None => LeaseHolder::Free,
            Some(holder) if holder == me => LeaseHolder::Me,
            Some(_) => LeaseHolder::Other,
        };
        ShownLease { term: self.lease.term, holder, is_running: self.lease.until > self.now, is_outrun: false }
    }

    /// Ends the process of a node. Another starts a while later.
    fn end(&mut self, me: usize, rest: Duration) {
        let node = &mut self.nodes[me];
        node.owner = None;
        node.window.close();
        node.watch = TenureWatch::default();
        node.heartbeat = None;
        node.tail = LogTail::after_mark(node.tail.last());
        node.dead_until = self.now + rest;
        node.reached = reached(&self.log);
        node.reached.is_cut.store(node.cut_until > self.now, Ordering::Relaxed);
    }

    fn take(&mut self, me: usize, seen: u64) -> Check {
        if self.lease.term != seen || self.nodes[me].cut_until > self.now || !self.nodes[me].may_take {
            return Ok(());
        }
        let term = seen + 1;
        self.lease = Lease { term, holder: Some(me), until: self.now + LEASE };
        let (writer, now) = (self.rng.draw(), self.now);
        let node = &mut self.nodes[me];
        node.watch.taken(term, now);
        node.watch.held().into_iter().for_each(|held| node.window.set(held.until));
        let (files, tail, reached) = (&mut node.files, &mut node.tail, node.reached.clone());
        let mut last = tail.last();
        let apply = |entries: &[LogEntry]| {
            files.extend(values(entries));
            entries.iter().for_each(|entry| tail.push(entry.clone()));
            Ok::<(), String>(())
        };
        match fence(&*reached, &mut last, (term, writer), Time(0), apply) {
            Ok(_) => {
                // A log that forgets a fence lets a late append of the owner before it in, and no node can heal that.
                self.log.keep_up_to(node.tail.last().number);
                let tenure = reached.tenure.clone();
                let appender = CommitAppender::new(reached, node.tail.clone(), tenure).trying_again(Duration::ZERO);
                node.owner = Some((term, appender));
                self.highest_owner = self.highest_owner.max(term);
                self.takeovers += 1;
                self.has_all(me)
            }
            Err(FenceError::Unreachable(_)) => {
                self.end(me, TICK);
                Ok(())
            }
            Err(error) => Err(format!("node {me}: {error}")),
        }
    }

    fn has_all(&self, me: usize) -> Check {
        let files = &self.nodes[me].files;
        let mut sorted = files.clone();
        sorted.sort_unstable();
        let count = sorted.len();
        sorted.dedup();
        if sorted.len() < count {
            return Err(format!("node {me} has a commit twice"));
        }
        match self.acknowledged.iter().find(|value| sorted.binary_search(value).is_err()) {
            Some(lost) => Err(format!("node {me} lacks {lost}, which was acknowledged")),
            None => Ok(()),
        }
    }

    /// Whether an owner commits now. From time to time it does so after its tenure, like a node that stood still in the
    /// middle of a commit. Only the log keeps that safe.
    fn publishes(&mut self, me: usize, is_cut: bool) -> bool {
        let is_serving = self.nodes[me].window.is_open_at(self.now);
        // A quiet owner learns late that another one has taken over.
        (is_serving || self.rng.chance(20)) && self.rng.chance(30) && !(is_cut && self.rng.chance(70))
    }

    fn publish(&mut self, me: usize) -> Check {
        self.next_value += 1;
        let value = self.next_value;
        let highest_owner = self.highest_owner;
        let node = &mut self.nodes[me];
        let Some((term, appender)) = &mut node.owner else { return Ok(()) };
        let term = *term;
        let appended = appender.append(appender.last().number + 1, value.to_le_bytes().as_slice().into());
        if appended.is_err() {
            self.end(me, TICK);
            return Ok(());
        }
        node.tail = LogTail::after_mark(appender.last());
        node.files.push(value);
        self.acknowledged.push(value);
        if term < highest_owner {
            return Err(format!("the owner of term {term} acknowledges after term {highest_owner} took over"));
        }
        Ok(())
    }

    /// Lets a node that is no owner apply the log.
    fn follow(&mut self, me: usize) -> Check {
        let node = &mut self.nodes[me];
        let read = read_next::<String>(&*node.reached, node.tail.last());
        node.may_take = read.is_ok();
        let entries = match read {
            Ok(entries) => entries,
            // The log may have forgotten this node's last commit for a moment.
            Err(FenceError::Unreachable(_) | FenceError::Ahead(_)) => return Ok(()),
            Err(FenceError::Gap(_)) if node.is_left_behind => return self.copy_base(me),
            Err(error) => return Err(format!("node {me}: {error}")),
        };
        node.files.extend(values(&entries));
        entries.into_iter().for_each(|entry| node.tail.push(entry));
        Ok(())
    }

    /// Copies the owner's files to a node.
    fn copy_base(&mut self, me: usize) -> Check {
        let Some(owner) = self.lease.holder.filter(|holder| self.nodes[*holder].owner.is_some()) else { return Ok(()) };
        self.copies += 1;
        self.nodes[me].files = self.nodes[owner].files.clone();
        self.nodes[me].tail = LogTail::after_mark(self.nodes[owner].tail.last());
        self.nodes[me].is_left_behind = false;
        Ok(())
    }

    /// Removes the records that no recently seen node needs.
    fn trim(&mut self) -> Check {
        let mut applied_by_all = u64::MAX;
        for node in &mut self.nodes {
            if node.seen.0 + KEEP > self.now {
                applied_by_all = applied_by_all.min(node.seen.1);
            } else {
                node.is_left_behind = true;
            }
        }
        let text = |error: LogUnreachable| error.to_string();
        match trim_upto(applied_by_all, self.log.last().map_err(text)?.number) {
            0 => Ok(()),
            upto => self.log.trim(upto).map_err(text),
        }
    }

    fn misfortune(&mut self, me: usize) {
        let (now, length) = (self.now, TICK * self.rng.between(1, 100) as u32);
        match self.rng.below(300) {
            0 => self.end(me, length),
            1 => self.nodes[me].still_until = now + length,
            2 => self.nodes[me].cut_until = now + length,
            _ => {}
        }
    }

    fn act(&mut self, me: usize) -> Check {
        let (now, is_cut) = (self.now, self.nodes[me].cut_until > self.now);
        self.nodes[me].reached.is_cut.store(is_cut, Ordering::Relaxed);
        if self.nodes[me].heartbeat.is_none() && self.nodes[me].next_heartbeat <= now {
            let shown = if is_cut { None } else { Some(self.heartbeat(me)) };
            let arrives = now + TICK * if self.rng.chance(60) { 0 } else { self.rng.below(20) as u32 };
            self.nodes[me].heartbeat = Some((now, shown, arrives));
            self.nodes[me].next_heartbeat = now + HEARTBEAT_EVERY;
        }
        if self.nodes[me].owner.is_none() {
            self.follow(me)?;
        } else if self.publishes(me, is_cut) {
            self.publish(me)?;
            if !is_cut && self.rng.chance(5) {
                self.trim()?;
            }
        }
        let Some((sent_at, shown, _)) = self.nodes[me].heartbeat.filter(|(_, _, arrives)| *arrives <= now) else {
            return Ok(());
        };
        self.nodes[me].heartbeat = None;
        match self.nodes[me].watch.after_heartbeat(shown, sent_at, now) {
            TenureStep::Wait | TenureStep::Outrun => {}
            TenureStep::Take { seen } => return self.take(me, seen),
            TenureStep::Serve { until } => self.nodes[me].window.set(until),
            TenureStep::StepDown => self.end(me, TICK),
        }
        Ok(())
    }

    /// Checks that at most one node sends now.
    fn senders(&self) -> Check {
        let now = self.now;
        let is_sending = |node: &Node| {
            let is_awake = node.dead_until <= now && node.still_until <= now;
            is_awake && node.owner.is_some() && node.window.is_open_at(now)
        };
        let senders: Vec<usize> = (0..NODES).filter(|me| is_sending(&self.nodes[*me])).collect();
        if senders.len() > 1 { Err(format!("nodes {senders:?} send at once")) } else { Ok(()) }
    }

    fn tick(&mut self, is_calm: bool) -> Check {
        self.now += TICK;
        let first = self.rng.below(NODES as u64) as usize;
        for me in (0..NODES).map(|n| (first + n) % NODES) {
            if !is_calm {
                self.misfortune(me);
            }
            if self.nodes[me].dead_until <= self.now && self.nodes[me].still_until <= self.now {
                self.act(me)?;
            }
        }
        self.senders()
    }

    fn run(&mut self) -> Check {
        for _ in 0..TICKS {
            self.tick(false)?;
        }
        self.log.set_faults(LogFaults::default());
        for _ in 0..CALM_TICKS {
            self.tick(true)?;
        }
        let owner = (0..NODES).find(|me| self.nodes[*me].owner.is_some()).ok_or("there is no owner in the end")?;
        self.has_all(owner)
    }
}

fn reached(log: &MemoryLog) -> Arc<Reached> {
    Arc::new(Reached { log: log.clone(), is_cut: AtomicBool::new(false), tenure: Arc::default() })
}

fn seeds() -> Vec<u64> {
    let only = std::env::var("POSTRIDER_SEED").ok().map(|text| text.parse().expect("a number"));
    only.map_or((1..=SEEDS).collect(), |seed| vec![seed])
}

#[test]
fn nothing_acknowledged_is_lost_and_one_node_sends_at_a_time() {
    let (mut acknowledged, mut takeovers, mut forgotten, mut copies) = (0, 0, 0, 0);
    for seed in seeds() {
        let mut walk = Walk::new(seed, Broken::Nothing);
        walk.run().unwrap_or_else(|problem| panic!("POSTRIDER_SEED={seed}: {problem}"));
        acknowledged += walk.acknowledged.len();
        takeovers += walk.takeovers;
        forgotten += walk.log.forgotten();
        copies += walk.copies;
    }
    println!(
        "{acknowledged} commits acknowledged, {takeovers} takeovers, {forgotten} records forgotten and healed, {copies} copies"
    );
    assert!(takeovers > 5 * seeds().len() as u64 && forgotten > 0 && (copies > 0 || seeds().len() == 1));
}

/// The seeds that find a broken promise.
fn found(broken: Broken) -> usize {
    (1..=SEEDS).filter(|seed| Walk::new(*seed, broken).run().is_err()).count()
}

#[test]
fn every_broken_promise_of_the_engine_is_found() {
    for broken in [Broken::AppendAnywhere, Broken::RenewAfterExpiry] {
        let found = found(broken);
        println!("{broken:?}: found by {found} of {SEEDS} seeds");
        assert!(found > 0, "{broken:?} is found by no seed");
    }
}
