//! The connection table: which connections are open, and which one ends for a new one.
//!
//! Invariants: no more connections are open than the limits allow, over all and by address. At a limit the connection
//! that has waited longest ends, and a new one is refused only if none waits. Connections without a key ("strangers")
//! hold at most `strangers_bytes_max` together. Connections over loopback and unix sockets have a reserve.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{HEAD_BYTES_MAX, ServerLimits};
use crate::engine::client_connections::{ClientConnections, ConnectionBound};
use crate::engine::network::Peer;

/// Connections that one scan selects for ending, so that a flood costs a scan only now and then.
const SELECTED_MAX: usize = 64;
/// Interval at which idle connections are ended while more than half of all are open, in microseconds.
const CROWDED_EVERY_US: u64 = 1_000_000;
/// Maximum received bytes that are charged to a connection: the longest head, and a second copy of its first bytes.
const RECEIVED_CHARGED_MAX: usize = HEAD_BYTES_MAX + 16 * 1024;
/// Maximum bytes of an answer that are charged to a connection. Longer public answers are shared by all.
const ANSWER_CHARGED_MAX: usize = 64 * 1024;
/// The time of a connection that does not wait for its peer.
const BUSY: u64 = u64::MAX;
/// Least value of `ConnectionState::turn` while requests are being answered. A smaller value is the start of a wait.
const ANSWERING: u64 = 1 << 63;

/// The peers that share one limit: an IPv4 address, a /64 network of IPv6, or all peers of unix sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum PeerGroup {
    V4(Ipv4Addr),
    V6([u16; 4]),
    Unix,
}

impl PeerGroup {
    /// The group of a peer's address. A peer of a unix socket has none.
    pub fn of(addr: Option<SocketAddr>) -> PeerGroup {
        match addr.map(|addr| addr.ip().to_canonical()) {
            None => PeerGroup::Unix,
            Some(IpAddr::V4(ip)) => PeerGroup::V4(ip),
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, ..] = ip.segments();
                PeerGroup::V6([a, b, c, d])
            }
        }
    }
}

/// The open connections of all listeners.
pub(super) struct ConnectionTable {
    limits: ServerLimits,
    born: Instant,
    counts: Arc<ClientConnections>,
    /// Bytes that strangers hold together.
    strangers_bytes: AtomicUsize,
    /// Bytes of bodies that are being read or answered.
    bodies_bytes: AtomicUsize,
    open: Mutex<OpenConnections>,
}

#[derive(Default)]
struct OpenConnections {
    next_id: u64,
    all: LimitGroup,
    groups: HashMap<PeerGroup, LimitGroup>,
    /// Candidates for ending when strangers hold too much.
    strangers: VecDeque<Candidate>,
    crowded_at_us: u64,
}

/// Connections that share a limit.
#[derive(Default)]
struct LimitGroup {
    members: HashMap<u64, Arc<ConnectionState>>,
    /// Members that have waited longest, as of the last scan.
    longest: VecDeque<Candidate>,
}

/// A connection that waited since a time.
type Candidate = (u64, u64);

/// The part of a connection that its task and the table share.
struct ConnectionState {
    id: u64,
    group: PeerGroup,
    /// Start of the current wait for the peer, in microseconds after `born`, or `ANSWERING` plus the number of requests that
    /// are being answered. One number, so that the end of a request on one thread and the begin of another agree.
    turn: AtomicU64,
    /// Bytes that are counted in `strangers_bytes`.
    charged: AtomicUsize,
    /// Received bytes since the last whole request, as far as they are charged.
    received: AtomicUsize,
    /// Bytes of answers that wait to be written, as far as they are charged.
    queued: AtomicUsize,
    /// Time since which the peer accepts nothing, in microseconds after `born`. `BUSY` if it accepts.
    blocked_us: AtomicU64,
    /// Whether a valid key was shown on this connection.
    is_known: AtomicBool,
    task: Mutex<Option<AbortHandle>>,
}

/// A connection's place in the table. Dropping it frees the place.
pub(super) struct ConnectionSlot {
    table: Arc<ConnectionTable>,
    state: Arc<ConnectionState>,
}

impl ConnectionTable {
    pub fn new(limits: ServerLimits, counts: Arc<ClientConnections>) -> Arc<ConnectionTable> {
        counts.set_max(limits.connections_max);
        let (strangers_bytes, bodies_bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let open = Mutex::default();
        Arc::new(ConnectionTable { limits, born: Instant::now(), counts, strangers_bytes, bodies_bytes, open })
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.lock().all.members.len()
    }

    /// Takes a place for a new connection. Ends another that waits, if there is no free one.
    ///
    /// # Errors
    /// The bound that leaves no place, and no connection under it waits.
    pub fn take(self: &Arc<Self>, peer: Peer) -> Result<Arc<ConnectionSlot>, ConnectionBound> {
        let group = PeerGroup::of(peer.addr());
        let is_local = peer.addr().is_none_or(|addr| addr.ip().to_canonical().is_loopback());
        let reserved = if is_local { 0 } else { self.limits.reserved_for_local };
        let now = self.now_us();
        let mut open = self.lock();
        self.end_long_idle(&mut open, now);
        let of_group = open.groups.get(&group).map_or(0, |limited| limited.members.len());
        let of_address_max = if group == PeerGroup::Unix { usize::MAX } else { self.limits.per_address_max };
        if of_group >= of_address_max {
            let ended = open.groups.get_mut(&group).and_then(LimitGroup::longest_waiting);
            self.end_for_new(&mut open, ended, ConnectionBound::Address)?;
        }
        if open.all.members.len() + reserved >= self.limits.connections_max {
            let ended = open.all.longest_waiting();
            self.end_for_new(&mut open, ended, ConnectionBound::Total)?;
        }
        open.next_id += 1;
        let state = Arc::new(ConnectionState {
            id: open.next_id,
            group,
            turn: AtomicU64::new(now),
            charged: AtomicUsize::new(0),
            received: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            blocked_us: AtomicU64::new(BUSY),
            is_known: AtomicBool::new(false),
            task: Mutex::default(),
        });
        open.all.members.insert(state.id, state.clone());
        open.groups.entry(group).or_default().members.insert(state.id, state.clone());
        drop(open);
        self.counts.opened();
        Ok(Arc::new(ConnectionSlot { table: self.clone(), state }))
    }

    fn end_for_new(
        &self,
        open: &mut OpenConnections,
        ended: Option<Arc<ConnectionState>>,
        bound: ConnectionBound,
    ) -> Result<(), ConnectionBound> {
        match ended {
            Some(state) => {
                self.end(open, &state, bound);
                Ok(())
            }
            None => {
                self.counts.record_refused(bound);
                Err(bound)
            }
        }
    }

    /// While more than half of the connections are open, ends those that have been idle for `idle_crowded`.
    fn end_long_idle(&self, open: &mut OpenConnections, now: u64) {
        let is_crowded = open.all.members.len() * 2 > self.limits.connections_max;
        if !is_crowded || now < open.crowded_at_us + CROWDED_EVERY_US {
            return;
        }
        open.crowded_at_us = now;
        let before = now.saturating_sub(self.limits.idle_crowded.as_micros() as u64);
        let idle: Vec<_> = open.all.members.values().filter(|state| state.since() < before).cloned().collect();
        for state in idle {
            self.end(open, &state, ConnectionBound::Crowded);
        }
    }

    fn end(&self, open: &mut OpenConnections, state: &Arc<ConnectionState>, bound: ConnectionBound) {
        if self.remove(open, state) {
            self.counts.record_closed(bound);
            if let Some(task) = state.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
                task.abort();
            }
        }
    }

    /// Takes a connection off the table. Returns whether it was on it.
    fn remove(&self, open: &mut OpenConnections, state: &ConnectionState) -> bool {
        if open.all.members.remove(&state.id).is_none() {
            return false;
        }
        if let Some(group) = open.groups.get_mut(&state.group) {
            group.members.remove(&state.id);
            if group.members.is_empty() {
                open.groups.remove(&state.group);
            }
        }
        self.counts.ended();
        self.strangers_bytes.fetch_sub(state.charged.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        true
    }

    /// Ends strangers, those that have waited longest first, until they hold no more than they may.
    fn relieve(&self) {
        let mut open = self.lock();
        while self.strangers_bytes.load(Ordering::Relaxed) > self.limits.strangers_bytes_max {
            let OpenConnections { all, strangers, .. } = &mut *open;
            let Some(state) = longest_waiting(&all.members, strangers, |state| !state.is_known()) else { return };
            self.end(&mut open, &state, ConnectionBound::Memory);
        }
    }

    fn now_us(&self) -> u64 {
        self.born.elapsed().as_micros() as u64
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LimitGroup {
    fn longest_waiting(&mut self) -> Option<Arc<ConnectionState>> {
        longest_waiting(&self.members, &mut self.longest, |_| true)
    }
}

/// The member that has waited longest and that `may_end` admits. `None` if no such member waits.
fn longest_waiting(
    members: &HashMap<u64, Arc<ConnectionState>>,
    selected: &mut VecDeque<Candidate>,
    may_end: impl Fn(&ConnectionState) -> bool,
) -> Option<Arc<ConnectionState>> {
    for is_last in [false, true] {
        while let Some((since, id)) = selected.pop_front() {
            // A connection that was served since then has not waited longest.
            if let Some(state) = members.get(&id)
                && state.since() == since
                && may_end(state)
            {
                return Some(state.clone());
            }
        }
        if is_last {
            break;
        }
        let waiting = members.values().filter(|state| state.since() != BUSY && may_end(state));
        let mut waiting: Vec<Candidate> = waiting.map(|state| (state.since(), state.id)).collect();
        if waiting.len() > SELECTED_MAX {
            waiting.select_nth_unstable(SELECTED_MAX);
            waiting.truncate(SELECTED_MAX);
        }
        waiting.sort_unstable();
        selected.extend(waiting);
    }
    None
}

impl ConnectionState {
    /// Start of the current wait. `BUSY` if a request is being answered.
    fn since(&self) -> u64 {
        match self.turn.load(Ordering::Relaxed) {
            ANSWERING.. => BUSY,
            since => since,
        }
    }

    fn change_turn(&self, change: impl Fn(u64) -> u64) {
        let _ = self.turn.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |turn| Some(change(turn)));
    }

    fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }
}

impl ConnectionSlot {
    /// Sets the task that serves the connection. The table ends the connection by aborting it.
    pub fn attach(&self, task: AbortHandle) {
        *self.state.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        // The connection may have been ended before it had a task.
        let is_open = self.table.lock().all.members.contains_key(&self.state.id);
        if !is_open && let Some(task) = self.state.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }

    /// Begins a wait for the peer, unless a request is being answered.
    pub fn wait(&self) {
        let now = self.table.now_us();
        self.state.change_turn(|turn| if turn >= ANSWERING { turn } else { now });
    }

    /// Begins the answer to a request, during which the connection is not ended for others.
    pub fn begin_request(&self) {
        self.state.change_turn(|turn| turn.max(ANSWERING) + 1);
    }

    pub fn end_request(&self) {
        let now = self.table.now_us();
        self.state.change_turn(|turn| if turn > ANSWERING + 1 { turn - 1 } else { now });
    }

    /// Records that a valid key was shown: the connection is no stranger's any more.
    pub fn know(&self) {
        if !self.state.is_known.swap(true, Ordering::Relaxed) {
            let charged = self.state.charged.swap(0, Ordering::Relaxed);
            self.table.strangers_bytes.fetch_sub(charged, Ordering::Relaxed);
        }
    }

    pub fn is_known(&self) -> bool {
        self.state.is_known()
    }

    /// Whether the table has not ended the connection.
    #[cfg(test)]
    pub fn is_listed(&self) -> bool {
        self.table.lock().all.members.contains_key(&self.state.id)
    }

    /// Charges memory to a stranger, and ends strangers if all of them hold too much.
    pub fn charge(&self, bytes: usize) {
        if self.is_known() || bytes == 0 {
            return;
        }
        // In this order, so that the sum is never less than its parts: another thread may return the part at once.
        let before = self.table.strangers_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.state.charged.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.table.limits.strangers_bytes_max {
            self.table.relieve();
        }
    }

    /// Returns memory that was charged before. It never returns more than is charged.
    pub fn discharge(&self, bytes: usize) {
        let subtract = |charged: usize| Some(charged.saturating_sub(bytes));
        let charged = self.state.charged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract);
        let returned = charged.unwrap_or(0).min(bytes);
        self.table.strangers_bytes.fetch_sub(returned, Ordering::Relaxed);
    }
}

/// Received bytes, and bytes that wait to be written.
impl ConnectionSlot {
    /// Records received bytes. Those of a stranger are charged until the request is whole. hyper and the framing check
    /// each keep a copy of the first bytes.
    pub fn received(&self, count: usize) {
        if !self.is_known() {
            let before = self.state.received.fetch_add(count, Ordering::Relaxed);
            let (from, to) = (before.min(RECEIVED_CHARGED_MAX), (before + count).min(RECEIVED_CHARGED_MAX));
            self.charge(to - from);
        }
    }

    /// Records that the received bytes were a whole request, or a whole handshake.
    pub fn consumed(&self) {
        let received = self.state.received.swap(0, Ordering::Relaxed);
        self.discharge(received.min(RECEIVED_CHARGED_MAX));
    }

    /// Charges an answer to a stranger. Returns the charge, to be discharged when the answer is written.
    pub fn charge_answer(&self, bytes: usize) -> usize {
        if self.is_known() {
            return 0;
        }
        let bytes = bytes.min(ANSWER_CHARGED_MAX);
        self.charge(bytes);
        bytes
    }

    /// Records bytes of an answer that HTTP/2 has taken and that are not written yet.
    pub fn queue(&self, bytes: usize) {
        if !self.is_known() {
            self.state.queued.fetch_add(bytes, Ordering::Relaxed);
            self.charge(bytes);
        }
    }

    /// Records written bytes: the peer accepts some.
    pub fn written(&self, bytes: usize) {
        if self.state.blocked_us.load(Ordering::Relaxed) != BUSY {
            self.state.blocked_us.store(BUSY, Ordering::Relaxed);
        }
        if self.state.queued.load(Ordering::Relaxed) > 0 {
            let subtract = |queued: usize| Some(queued.saturating_sub(bytes));
            let queued = self.state.queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract);
            self.discharge(queued.unwrap_or(0).min(bytes));
            // A peer that takes its answer slowly is not idle.
            self.wait();
        }
    }

    /// Records that the peer accepts nothing now.
    pub fn block(&self) {
        if self.state.blocked_us.load(Ordering::Relaxed) == BUSY {
            self.state.blocked_us.store(self.table.now_us(), Ordering::Relaxed);
        }
    }

    /// Time for which the peer has accepted nothing.
    pub fn blocked_for(&self) -> Duration {
        match self.state.blocked_us.load(Ordering::Relaxed) {
            BUSY => Duration::ZERO,
            since => Duration::from_micros(self.table.now_us().saturating_sub(since)),
        }
    }
}

/// The memory of a body. Dropping it frees the memory.
pub(super) struct BodyMemory {
    table: Arc<ConnectionTable>,
    bytes: usize,
}

impl ConnectionSlot {
    /// Begins to count the memory of a body.
    pub fn count_body(&self) -> BodyMemory {
        BodyMemory { table: self.table.clone(), bytes: 0 }
    }
}

impl BodyMemory {
    /// Counts further bytes.
    ///
    /// # Errors
    /// All bodies together would take more than they may.
    pub fn grow(&mut self, bytes: usize) -> Result<(), ()> {
        self.bytes += bytes;
        let before = self.table.bodies_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.table.limits.bodies_bytes_max { Err(()) } else { Ok(()) }
    }
}

impl Drop for BodyMemory {
    fn drop(&mut self) {
        self.table.bodies_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut open = self.table.lock();
        self.table.remove(&mut open, &self.state);
        // The task may have charged something after the table ended the connection.
        self.table.strangers_bytes.fetch_sub(self.state.charged.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}
