//! The expectations: the events of the outside world as they happen, and the faults among them. Faults that show only
//! at the end are in `verdict`.
//!
//! Invariant: this module takes from the product only its answers and requests.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::plan::{Hook, Order, hooks};
use super::senders::Senders;
use super::world::START;

/// An outcome is durable, or lost and sent again, within this time after the answer.
pub const RECORDED_WITHIN_MS: i64 = 8_000;
/// Two requests of a delivery have the distance of their schedule, within this margin for the network.
const WAY_MS: i64 = 1_500;
/// A request that left before a webhook was paused has arrived by then.
const PAUSED_AFTER_MS: i64 = 3_000;
/// Requests over which a rate is judged, and the time that delays of messages and catching up may take from them.
const RATE_REQUESTS: usize = 20;
const RATE_MARGIN_MS: i64 = 2_500;
/// Part of a request's timeout in which it is certainly in flight, if it is not answered.
const IN_FLIGHT_MARGIN_MS: i64 = 2_000;
/// Time by which an id may be ahead of its answer.
const ID_AHEAD_MS_MAX: i64 = 1_000;
/// Maximum recorded faults. The first ones show the cause.
const FAULTS_MAX: usize = 20;

/// The outcome of a request by its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A whole 2xx within the timeout.
    Success,
    Failure,
    /// No answer, or an invalid one.
    Nothing,
}

/// One request as a receiver saw it.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub at_ms: i64,
    pub hook: usize,
    pub sender: IpAddr,
    pub event: u128,
    pub delivery: u128,
    pub number: u32,
    pub outcome: Outcome,
    /// The time at which the answer was sent. For `Nothing`, the time at which the connection was given up.
    pub until_ms: i64,
}

/// An accepted event.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub event: u128,
    pub event_type: &'static str,
    pub at_ms: i64,
    /// The time of its first delivery.
    pub due_ms: i64,
    /// The time at which it expires.
    pub ends_ms: Option<i64>,
}

/// The kind of a disturbance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The daemon was down: killed, cut off, or ended by itself.
    Crash,
    /// The daemon was told to stop, and started again.
    Stop,
    /// The disk rejected an operation.
    Disk,
    /// Messages were lost or late.
    Network,
    /// The daemon was started while its clock was wrong, and does not know the time yet.
    Clock,
}

/// The time of a disturbance.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    pub kind: Kind,
    pub from_ms: i64,
    /// The end. Open ones come last.
    pub to_ms: i64,
}

/// A delivery as of its last read.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub hook: usize,
    pub event: u128,
    pub status: String,
    pub attempts: u32,
    pub created_ms: i64,
    pub is_replay: bool,
}

impl Row {
    pub fn is_final(&self) -> bool {
        matches!(self.status.as_str(), "delivered" | "failed" | "cancelled")
    }
}

/// The events of the outside world, and the faults of the daemon.
pub struct Expectations {
    pub hooks: Vec<Hook>,
    /// Ids of the webhooks, in the order of `hooks`.
    pub hook_ids: Vec<String>,
    pub accepted: Vec<Accepted>,
    known: HashSet<u128>,
    /// When events expire.
    pub ends: HashMap<u128, i64>,
    /// Deliveries that were shown before the producer had the answer to its event, which says when the event expires.
    early_failures: HashMap<u128, Vec<(u128, Row, i64)>>,
    /// The requests of each hook, by their numbers.
    of_hook: Vec<Vec<usize>>,
    /// The event of each producer's key.
    pub of_key: HashMap<String, u128>,
    pub seen: Vec<Seen>,
    pub of_delivery: HashMap<u128, Vec<usize>>,
    pub rows: HashMap<u128, Row>,
    /// The time of an event's first arrival at a webhook.
    pub first_seen: HashMap<(usize, u128), i64>,
    /// Accepted events whose promptness is not judged yet.
    pub unjudged: Vec<usize>,
    pub troubles: Vec<Trouble>,
    /// The time since which each receiver is healthy. `None` if it is not.
    pub healthy_since: Vec<Option<i64>>,
    /// For a paused webhook, the time since which it is certainly paused.
    pub paused_since: Vec<Option<i64>>,
    /// For a running webhook, the time since which it certainly runs.
    pub resumed_since: Vec<Option<i64>>,
    /// Events that arrived by the feed of the first webhook.
    pub fed: HashSet<u128>,
    /// Deliveries that replays made, by hook.
    pub replayed: Vec<u64>,
    pub crashes: u64,
    /// The newest event seen in each queue of an ordered webhook.
    heads: HashMap<(usize, u64), u128>,
    /// Requests of nodes that no longer own the store.
    pub outrun: u64,
    pub(super) senders: Senders,
    pub faults: Vec<String>,
    pub first_fault_ms: Option<i64>,
    trace: u64,
    pub trace_lines: u64,
}

impl Expectations {
    /// Requests of a delivery that its receiver saw.
    pub fn requests_of(&self, delivery: u128) -> usize {
        self.of_delivery.get(&delivery).map_or(0, Vec::len)
    }

    pub fn new() -> Expectations {
        let hooks = hooks();
        let count = hooks.len();
        Expectations {
            hooks,
            hook_ids: Vec::new(),
            accepted: Vec::new(),
            known: HashSet::new(),
            ends: HashMap::new(),
            early_failures: HashMap::new(),
            of_hook: vec![Vec::new(); count],
            of_key: HashMap::new(),
            seen: Vec::new(),
            of_delivery: HashMap::new(),
            rows: HashMap::new(),
            first_seen: HashMap::new(),
            unjudged: Vec::new(),
            troubles: Vec::new(),
            healthy_since: vec![Some(0); count],
            paused_since: vec![None; count],
            resumed_since: vec![Some(0); count],
            fed: HashSet::new(),
            replayed: vec![0; count],
            crashes: 0,
            heads: HashMap::new(),
            outrun: 0,
            senders: Senders::default(),
            faults: Vec::new(),
            first_fault_ms: None,
            trace: 0xcbf2_9ce4_8422_2325,
            trace_lines: 0,
        }
    }

    /// Adds a line to the trace that two runs of one seed must share.
    pub fn trace(&mut self, at_ms: i64, line: &str) {
        if std::env::var_os("POSTRIDER_SIM_TRACE").is_some() {
            eprintln!("{at_ms:>10} {line}");
        }
        self.trace_lines += 1;
        for byte in at_ms.to_be_bytes().iter().chain(line.as_bytes()) {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub fn trace_hash(&self) -> u64 {
        self.trace
    }

    /// Records a fault.
    pub fn fault(&mut self, at_ms: i64, words: String) {
        self.trace(at_ms, &words);
        self.first_fault_ms.get_or_insert(at_ms);
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(format!("at {:.1} s: {words}", at_ms as f64 / 1_000.0));
        }
    }

    pub fn begin(&mut self, kind: Kind, at_ms: i64) {
        self.trace(at_ms, &format!("{kind:?} begins"));
        self.crashes += u64::from(kind == Kind::Crash);
        self.troubles.push(Trouble { kind, from_ms: at_ms, to_ms: i64::MAX });
    }

    /// Ends the open disturbances of a kind.
    pub fn end(&mut self, kind: Kind, at_ms: i64) {
        self.trace(at_ms, &format!("{kind:?} ends"));
        for trouble in self.troubles.iter_mut().rev().filter(|t| t.kind == kind && t.to_ms == i64::MAX) {
            trouble.to_ms = at_ms;
        }
    }

    /// Whether a disturbance of one of these kinds falls into the time.
    pub fn has_trouble(&self, kinds: &[Kind], from_ms: i64, to_ms: i64) -> bool {
        let latest = self.troubles.iter().rev();
        latest.filter(|t| kinds.contains(&t.kind)).any(|t| t.from_ms <= to_ms && t.to_ms >= from_ms)
    }

    /// Records that a producer's event was accepted.
    pub fn accept(&mut self, key: &str, accepted: Accepted, is_duplicate: bool) {
        let at = accepted.at_ms;
        self.trace(at, &format!("accepted {key} {:x} {is_duplicate}", accepted.event));
        self.meet(key, accepted.event, at);
        let ahead_ms = (accepted.event >> 80) as i64 - START.plus_ms(at).0;
        if ahead_ms > ID_AHEAD_MS_MAX {
            self.fault(at, format!("{key} got an id that is {ahead_ms} ms ahead"));
        }
        if self.known.insert(accepted.event) {
            self.ends.extend(accepted.ends_ms.map(|ends| (accepted.event, ends)));
            self.unjudged.push(self.accepted.len());
            let early = self.early_failures.remove(&accepted.event).unwrap_or_default();
            self.accepted.push(accepted);
            early.into_iter().for_each(|(delivery, row, shown_at)| self.judge_failure(delivery, &row, shown_at));
        }
    }

    /// Checks that a key belongs to one event.
    fn meet(&mut self, key: &str, event: u128, at_ms: i64) {
        match self.of_key.get(key) {
            Some(known) if *known != event => {
                let words = format!("{key} is two events: {known:032x} and {event:032x}");
                self.fault(at_ms, words);
            }
            Some(_) => {}
            None => drop(self.of_key.insert(key.to_owned(), event)),
        }
    }

    /// Records a request, and returns its number for the answer.
    pub fn see(&mut self, seen: Seen, key: &str, queue: u64) -> usize {
        let at = seen.at_ms;
        self.trace(at, &format!("{} got {key} {:x} #{}", self.hooks[seen.hook].name, seen.delivery, seen.number));
        self.meet(key, seen.event, at);
        if !self.is_of_owner(&seen, key) {
            self.seen.push(seen);
            return self.seen.len() - 1;
        }
        self.judge_repetition(&seen, key);
        self.judge_order(&seen, key, queue);
        self.judge_bounds(&seen, key);
        if let Some(since) = self.paused_since[seen.hook]
            && at > since + PAUSED_AFTER_MS
            && !self.has_trouble(&[Kind::Network], since - 1_000, at)
        {
            self.fault(at, format!("{} got {key} while it was paused", self.hooks[seen.hook].name));
        }
        self.first_seen.entry((seen.hook, seen.event)).or_insert(at);
        self.seen.push(seen);
        self.of_delivery.entry(seen.delivery).or_default().push(self.seen.len() - 1);
        self.of_hook[seen.hook].push(self.seen.len() - 1);
        self.seen.len() - 1
    }

    pub fn answered(&mut self, number: usize, outcome: Outcome, at_ms: i64) {
        let seen = &mut self.seen[number];
        (seen.outcome, seen.until_ms) = (outcome, at_ms);
    }

    /// Checks the webhook's bounds on requests in flight and on their rate, and the end of the event.
    fn judge_bounds(&mut self, seen: &Seen, key: &str) {
        let (hook, at) = (&self.hooks[seen.hook], seen.at_ms);
        let has_trouble = |from| self.has_trouble(&[Kind::Crash, Kind::Stop, Kind::Network, Kind::Clock], from, at);
        let latest = self.of_hook[seen.hook].iter().rev().map(|number| self.seen[*number]);
        let surely_ms = hook.timeout_ms as i64 - IN_FLIGHT_MARGIN_MS;
        let recent = latest.clone().take_while(|other| other.at_ms + surely_ms > at);
        let open = 1 + recent.filter(|other| other.outcome == Outcome::Nothing && other.until_ms > at).count();
        let mut faults = Vec::new();
        if open > hook.max_in_flight as usize && !has_trouble(at - hook.timeout_ms as i64) {
            faults.push(format!("{} got {key} as one of {open} requests in flight", hook.name));
        }
        if let Some(rate) = hook.rate_per_s
            && let Some(before) = latest.clone().nth(RATE_REQUESTS - 1)
            && at - before.at_ms < RATE_REQUESTS as i64 * 1_000 / i64::from(rate) - RATE_MARGIN_MS
            && !has_trouble(before.at_ms - RATE_MARGIN_MS)
        {
            faults.push(format!("{} got {RATE_REQUESTS} requests in {} ms", hook.name, at - before.at_ms));
        }
        if let Some(ends) = self.ends.get(&seen.event)
            && at > ends + PAUSED_AFTER_MS
            && !self.has_trouble(&[Kind::Network, Kind::Clock], ends - 1_000, at)
        {
            faults.push(format!("{} got {key}, which had ended at {ends} ms", hook.name));
        }
        faults.into_iter().for_each(|words| self.fault(at, words));
    }

    fn judge_repetition(&mut self, seen: &Seen, key: &str) {
        let Some(last) = self.of_delivery.get(&seen.delivery).and_then(|all| all.last()).map(|at| self.seen[*at])
        else {
            return;
        };
        let name = self.hooks[seen.hook].name;
        let (from, to) = (last.at_ms - WAY_MS, last.until_ms.min(seen.at_ms) + RECORDED_WITHIN_MS);
        let to = to.min(seen.at_ms);
        let words = |what: &str| {
            format!(
                "{name} got {key} {what}: #{} at {} ms ({:?}), #{}",
                last.number, last.at_ms, last.outcome, seen.number
            )
        };
        if last.outcome == Outcome::Success && !self.has_trouble(&[Kind::Crash, Kind::Disk, Kind::Network], from, to) {
            self.fault(seen.at_ms, words("again after a success"));
        }
        if seen.number < last.number {
            self.fault(seen.at_ms, words("with an earlier number"));
        }
        if seen.number == last.number && !self.has_trouble(&[Kind::Crash, Kind::Stop, Kind::Disk], from, to) {
            self.fault(seen.at_ms, words("twice for one attempt"));
        }
        let waits = &self.hooks[seen.hook].schedule_s;
        if seen.number == last.number + 1 && !self.has_trouble(&[Kind::Network, Kind::Clock], from, seen.at_ms) {
            let wait_ms = waits.get(last.number as usize - 1).map_or(i64::MAX, |s| i64::from(*s) * 1_000);
            if seen.at_ms - last.at_ms < wait_ms.saturating_sub(WAY_MS) {
                self.fault(seen.at_ms, words("before its schedule, or after it"));
            }
        }
    }

    /// Checks that after an event no earlier event of its queue comes again.
    fn judge_order(&mut self, seen: &Seen, key: &str, queue: u64) {
        let queue = match self.hooks[seen.hook].order {
            Order::No => return,
            Order::Webhook => 0,
            Order::Key => queue,
        };
        let head = self.heads.entry((seen.hook, queue)).or_insert(seen.event);
        if seen.event < *head {
            let name = self.hooks[seen.hook].name;
            let words = format!("{name} got {key} {:032x} after {:032x}, which stands behind it", seen.event, head);
            self.fault(seen.at_ms, words);
        } else {
            *head = seen.event;
        }
    }

    /// Records a delivery as the API shows it now. Final values must not change.
    pub fn show(&mut self, delivery: u128, row: Row, at_ms: i64) {
        let name = self.hooks[row.hook].name;
        if let Some(known) = self.rows.get(&delivery)
            && (row.attempts < known.attempts || known.is_final() && *known != row)
        {
            let words = format!("{name}: a delivery was {known:?} and is {row:?}");
            self.fault(at_ms, words);
        }
        let requests: Vec<Seen> =
            self.of_delivery.get(&delivery).into_iter().flatten().map(|number| self.seen[*number]).collect();
        let had = |number: u32| requests.iter().any(|seen| seen.number == number && seen.outcome == Outcome::Success);
        if row.status == "delivered" && !had(row.attempts) {
            let words = format!("{name}: {delivery:032x} is delivered by #{}: {requests:?}", row.attempts);
            self.fault(at_ms, words);
        }
        if self.known.contains(&row.event) {
            self.judge_failure(delivery, &row, at_ms);
        } else {
            self.early_failures.entry(row.event).or_default().push((delivery, row.clone(), at_ms));
        }
        let most = requests.iter().map(|seen| seen.number).max().unwrap_or(0);
        // A crash may lose the outcome of a request, and the event may have expired before the next start.
        let may_have_ended = !self.known.contains(&row.event) || self.has_ended(row.event, at_ms);
        let may_be_lost = row.status == "failed" && may_have_ended;
        if row.is_final() && most > row.attempts && !may_be_lost {
            self.fault(at_ms, format!("{name}: {delivery:032x} has {} attempts, and #{most} came", row.attempts));
        }
        self.rows.insert(delivery, row);
    }

    /// Whether an event that is known has expired.
    fn has_ended(&self, event: u128, at_ms: i64) -> bool {
        self.ends.get(&event).is_some_and(|ends| *ends <= at_ms)
    }

    /// Checks that a delivery failed after its last attempt, or because its event expired.
    fn judge_failure(&mut self, delivery: u128, row: &Row, at_ms: i64) {
        let hook = &self.hooks[row.hook];
        let is_early = row.status == "failed" && row.attempts as usize != hook.schedule_s.len() + 1;
        if is_early && !self.has_ended(row.event, at_ms) {
            let words = format!("{}: {delivery:032x} has failed after {} attempts", hook.name, row.attempts);
            self.fault(at_ms, words);
        }
    }
}
