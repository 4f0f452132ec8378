//! Publishes every durable commit to the replicas, in commit order.
//!
//! Invariant: a replica receives every commit that began after it was added, without a gap, or is disconnected with a reason.
//! A commit is acknowledged only after each replica with a whole copy confirmed the previous one or was disconnected. So such
//! a replica lacks one commit at most.
//!
//! Without a replica and outside a cluster, once the tail has ended, a commit is not encoded and only takes its number.

pub mod log;
mod mark;
pub mod replay;
pub mod replica;
#[cfg(test)]
mod resume_tests;
mod tail;
#[cfg(test)]
mod tests;
pub mod unapplied;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::kv::wal;
use crate::kv::write_batch::WriteBatch;
use crate::model::Time;

use tail::CommitTail;

pub(in crate::store) use mark::COMMIT_KEY;
pub use mark::CommitMark;

/// Maximum bytes queued for one replica before it is disconnected.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Maximum number of replicas.
pub const FOLLOWERS_MAX: usize = 4;
/// Time that a commit waits for a replica before that replica is disconnected.
const CONFIRM_WAIT_MAX: Duration = Duration::from_secs(5);
/// Bytes of number and time at the start of a record.
const POINT_BYTES: usize = 16;

/// Position of a commit among all commits of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitPosition {
    /// Number of the commit, ascending by one.
    pub number: u64,
    /// Start of the commit's batch by the writer's clock, which may be set back.
    pub at: Time,
}

/// Changes that one commit wrote to one file.
#[derive(Debug, PartialEq, Eq)]
pub struct CommitRecord {
    pub point: CommitPosition,
    /// Path below the data directory.
    pub file: String,
    pub changes: wal::WalRecord,
}

impl CommitRecord {
    fn encode(point: CommitPosition, file: &str, write_batch: &WriteBatch) -> Vec<u8> {
        let mut bytes = encode_commit(point, file);
        write_batch.for_replicas(|changes| wal::encode_changes(changes, &mut bytes));
        bytes
    }

    /// Decodes a record. `None` if the bytes are not a record.
    pub fn decode(bytes: &[u8]) -> Option<CommitRecord> {
        let point = point_of(bytes)?;
        let (name_bytes, rest) = bytes[POINT_BYTES..].split_first_chunk::<2>()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*name_bytes)))?;
        let file = std::str::from_utf8(name).ok()?.to_owned();
        Some(CommitRecord { point, file, changes: wal::decode_changes(rest)? })
    }
}

/// The first bytes of an encoded record. The changes of the commit follow.
pub(in crate::store) fn encode_commit(point: CommitPosition, file: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&point.number.to_le_bytes());
    bytes.extend_from_slice(&point.at.0.to_le_bytes());
    bytes.extend_from_slice(&(file.len() as u16).to_le_bytes());
    bytes.extend_from_slice(file.as_bytes());
    bytes
}

/// Commit position of an encoded record. `None` if the bytes are too few.
pub fn point_of(record: &[u8]) -> Option<CommitPosition> {
    let (number, rest) = record.split_first_chunk::<8>()?;
    let at = rest.first_chunk::<8>()?;
    Some(CommitPosition { number: u64::from_le_bytes(*number), at: Time(i64::from_le_bytes(*at)) })
}

/// Adds an offset, modulo 2⁶⁴, to the commit number of an encoded record. Returns the new position. `None` if the bytes
/// are too few.
pub fn renumber(record: &mut [u8], offset: u64) -> Option<CommitPosition> {
    let number = point_of(record)?.number.wrapping_add(offset);
    *record.first_chunk_mut::<8>()? = number.to_le_bytes();
    point_of(record)
}

/// The purpose of a replica. Until a replica has a whole copy it confirms nothing, and no commit waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaKind {
    Backup,
    /// A confirmed commit counts for answers that require a standby.
    Standby,
}

/// Reason why a replica was disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The replica's queue exceeded `QUEUE_BYTES_MAX`, or a commit waited longer than `CONFIRM_WAIT_MAX` for it.
    Slow,
    /// A commit failed, and its changes may be on disk nevertheless.
    Uncertain,
    /// The writer has ended. All of its commits were queued before.
    Stopped,
    /// The replica disconnected itself.
    Cancelled,
}

impl DisconnectReason {
    pub fn as_str(self) -> &'static str {
        match self {
            DisconnectReason::Slow => "its queue was full, or it confirmed nothing for too long",
            DisconnectReason::Uncertain => "a commit failed, and it may be on the disk all the same",
            DisconnectReason::Stopped => "the daemon has stopped",
            DisconnectReason::Cancelled => "it has gone",
        }
    }
}

/// State of the replicas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicationStats {
    /// Backups that follow and have a whole copy.
    pub followers: usize,
    /// Bytes queued for the replica that lags most.
    pub queued_bytes: usize,
    /// Number of replicas disconnected since start as `Slow` or `Uncertain`.
    pub cut: u64,
    /// Standbys among the replicas whose copy is whole.
    pub standbys: usize,
    /// Commits that the standby that lags least has not confirmed. 0 without a standby.
    pub standby_lag: u64,
    pub is_standby_required: bool,
}

/// The replicas of a store.
#[derive(Debug)]
pub struct Replication {
    /// Whether commits are encoded, for a replica or for the tail.
    is_recorded: AtomicBool,
    /// Number of the last commit that began.
    begun: AtomicU64,
    cut: AtomicU64,
    is_standby_required: AtomicBool,
    /// The greatest number that a standby confirmed.
    confirmed: Mutex<u64>,
    standby_confirmed: Condvar,
    shared: Mutex<SharedReplication>,
}

/// The state that a commit and a connecting replica change.
#[derive(Debug)]
struct SharedReplication {
    queues: Vec<Arc<ReplicaQueue>>,
    tail: CommitTail,
    /// The last commit before this run.
    before: CommitMark,
    run: i64,
}

impl Default for Replication {
    fn default() -> Self {
        let shared =
            SharedReplication { queues: Vec::new(), tail: CommitTail::new(0), before: CommitMark::default(), run: 0 };
        Replication {
            is_recorded: AtomicBool::new(true),
            begun: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            is_standby_required: AtomicBool::new(false),
            confirmed: Mutex::new(0),
            standby_confirmed: Condvar::new(),
            shared: Mutex::new(shared),
        }
    }
}

/// A commit to publish once it is durable.
#[derive(Debug)]
pub(in crate::store) struct PendingCommit {
    pub(in crate::store) number: u64,
    /// The encoded commit. `None` if nothing records it.
    pub(in crate::store) record: Option<Arc<[u8]>>,
}

impl Replication {
    /// Continues the numbers of a store after its last commit. `run` tells this run's commits apart from those of others.
    pub(in crate::store) fn resume(&self, before: CommitMark, run: i64) {
        let mut shared = self.shared();
        (shared.before, shared.run) = (before, run);
        shared.tail.restart(before.number);
        self.begun.store(before.number, Ordering::Release);
    }

    /// Begins a commit, before any reader can see it: gives it its number, and marks the file with it. It is encoded
    /// for a replica, for the tail, or for the commit log if `is_in_cluster`.
    pub(in crate::store) fn begin(
        &self,
        file: &str,
        at: Time,
        write_batch: &mut WriteBatch,
        is_in_cluster: bool,
    ) -> PendingCommit {
        // Only the writer assigns numbers. A replica that connects meanwhile reads them.
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        CommitMark { number, run: self.shared().run }.put(write_batch);
        let is_recorded = is_in_cluster || self.is_recorded.load(Ordering::Acquire);
        let record = is_recorded.then(|| CommitRecord::encode(CommitPosition { number, at }, file, write_batch).into());
        PendingCommit { number, record }
    }

    /// Publishes a commit that has become durable. After a failed commit all replicas are disconnected, because its changes may
    /// be on disk.
    pub(in crate::store) fn end(&self, begun: PendingCommit, is_durable: bool) {
        let PendingCommit { number, record } = begun;
        if !is_durable {
            self.shared().tail.restart(number);
            return self.disconnect_all(DisconnectReason::Uncertain);
        }
        let Some(record) = record else { return };
        // The lock is released before waiting: a disconnecting replica needs it.
        let queues = {
            let mut shared = self.shared();
            let is_followed = !shared.queues.is_empty();
            shared.tail.push(number, record.clone(), is_followed);
            self.is_recorded.store(is_followed || shared.tail.is_retained(), Ordering::Release);
            shared.queues.clone()
        };
        for queue in queues.iter().filter(|queue| queue.from < number) {
            self.count_disconnect(queue.push(record.clone()));
        }
        for queue in queues.iter().filter(|queue| queue.from < number && queue.is_whole()) {
            self.count_disconnect(queue.wait_for(number - 1, CONFIRM_WAIT_MAX));
        }
    }

    /// Number of the last commit that began. No visible commit has a greater one.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// State of the replicas.
    pub fn stats(&self) -> ReplicationStats {
        let shared = self.shared();
        let queued_bytes = shared.queues.iter().map(|queue| queue.waiting().bytes).max().unwrap_or(0);
        let confirmed = || shared.queues.iter().filter(|queue| queue.is_standby()).map(|q| q.waiting().confirmed);
        ReplicationStats {
            followers: shared
                .queues
                .iter()
                .filter(|queue| queue.kind == ReplicaKind::Backup && queue.is_whole())
                .count(),
            queued_bytes,
            cut: self.cut.load(Ordering::Relaxed),
            standbys: confirmed().count(),
            is_standby_required: self.is_standby_required(),
            standby_lag: confirmed().max().map_or(0, |confirmed| self.begun().saturating_sub(confirmed)),
        }
    }

    /// Sets whether answers wait for a standby.
    pub fn require_standby(&self, is_required: bool) {
        self.is_standby_required.store(is_required, Ordering::Release);
    }

    pub fn is_standby_required(&self) -> bool {
        self.is_standby_required.load(Ordering::Acquire)
    }

    /// Whether a standby with a whole copy is connected.
    pub fn has_standby(&self) -> bool {
        self.shared().queues.iter().any(|queue| queue.is_standby())
    }

    /// Waits until every connected standby confirmed the last commit that began, at most `CONFIRM_WAIT_MAX` for each. One that
    /// does not is disconnected. Returns whether any did.
    pub fn wait_for_standbys(&self) -> bool {
        let (number, before) = (self.begun(), self.standbys());
        let is_confirmed = self.is_confirmed_by_one(number);
        self.disconnect_late(number, before, is_confirmed);
        is_confirmed
    }

    /// Disconnects the standbys that have not confirmed a commit in their time. `before` are those that were connected when the
    /// wait for one confirmation began, and `is_confirmed` is its outcome.
    fn disconnect_late(&self, number: u64, before: Vec<Arc<ReplicaQueue>>, is_confirmed: bool) {
        let (standbys, wait) = match is_confirmed {
            true => (self.standbys(), CONFIRM_WAIT_MAX),
            // Each of these has had its time, and the next commit must not wait for it again. One that came since has not.
            false => (before, Duration::ZERO),
        };
        for queue in standbys {
            self.count_disconnect(queue.wait_for(number, wait));
        }
    }

    /// The connected standbys with a whole copy. The lock is released, because a disconnecting replica needs it.
    fn standbys(&self) -> Vec<Arc<ReplicaQueue>> {
        self.shared().queues.iter().filter(|queue| queue.is_standby()).cloned().collect()
    }

    /// Waits until a standby confirmed a commit, at most `CONFIRM_WAIT_MAX`. Returns whether it did.
    fn is_confirmed_by_one(&self, number: u64) -> bool {
        let confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        let lacks = |confirmed: &mut u64| *confirmed < number;
        let waited = self.standby_confirmed.wait_timeout_while(confirmed, CONFIRM_WAIT_MAX, lacks);
        let (confirmed, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *confirmed >= number
    }

    fn confirm(&self, number: u64) {
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        *confirmed = (*confirmed).max(number);
        self.standby_confirmed.notify_all();
    }

    fn disconnect_all(&self, reason: DisconnectReason) {
        for queue in &self.shared().queues {
            self.count_disconnect(queue.disconnect(reason));
        }
    }

    fn count_disconnect(&self, was_cut: bool) {
        self.cut.fetch_add(u64::from(was_cut), Ordering::Relaxed);
    }

    /// Subscribes to the commits from `at` on. `None` if there are `FOLLOWERS_MAX` replicas already.
    pub fn follow(self: &Arc<Replication>, at: Time, kind: ReplicaKind) -> Option<Follower> {
        self.subscribe(at, kind, |shared, begun| {
            shared.tail.retain_after(begun);
            Some((begun, Vec::new()))
        })
    }

    /// Subscribes to the commits after `mark`, the last one of a replica. `None` if the tail does not hold all of them, or
    /// there are `FOLLOWERS_MAX` replicas already.
    pub fn follow_after(self: &Arc<Replication>, mark: CommitMark, at: Time, kind: ReplicaKind) -> Option<Follower> {
        self.subscribe(at, kind, |shared, begun| {
            shared.tail.retain_after(begun);
            Some((mark.number, shared.tail.since(mark, shared.before, shared.run)?))
        })
    }

    fn subscribe(
        self: &Arc<Replication>,
        at: Time,
        kind: ReplicaKind,
        start: impl FnOnce(&mut SharedReplication, u64) -> Option<(u64, Vec<Arc<[u8]>>)>,
    ) -> Option<Follower> {
        let mut shared = self.shared();
        if shared.queues.len() >= FOLLOWERS_MAX {
            return None;
        }
        let (number, records) = start(&mut shared, self.begun())?;
        let bytes = records.iter().map(|record| record.len()).sum();
        // The commits of the tail are in the queue already, so only later ones are added to it.
        let from = number + records.len() as u64;
        let waiting =
            QueuedRecords { records: records.into(), bytes, reason: None, confirmed: number, is_whole: false };
        let waiting = Mutex::new(waiting);
        let queue = Arc::new(ReplicaQueue { from, kind, waiting, arrived: Condvar::new(), confirmed: Condvar::new() });
        shared.queues.push(queue.clone());
        self.is_recorded.store(true, Ordering::Release);
        Some(Follower { from: CommitPosition { number, at }, queue, replication: self.clone() })
    }

    fn remove(&self, queue: &Arc<ReplicaQueue>) {
        let mut shared = self.shared();
        shared.queues.retain(|other| !Arc::ptr_eq(other, queue));
        self.is_recorded.store(!shared.queues.is_empty() || shared.tail.is_retained(), Ordering::Release);
    }

    fn shared(&self) -> MutexGuard<'_, SharedReplication> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's handle: dropping it disconnects the replicas after all commits were queued.
#[derive(Debug, Default)]
pub(in crate::store) struct CommitPublisher(pub Arc<Replication>);

impl Drop for CommitPublisher {
    fn drop(&mut self) {
        self.0.disconnect_all(DisconnectReason::Stopped);
    }
}

/// The queue of records for one replica.
#[derive(Debug)]
struct ReplicaQueue {
    /// Number of the last commit that the replica does not receive.
    from: u64,
    kind: ReplicaKind,
    waiting: Mutex<QueuedRecords>,
    arrived: Condvar,
    confirmed: Condvar,
}

#[derive(Debug, Default)]
struct QueuedRecords {
    records: VecDeque<Arc<[u8]>>,
    bytes: usize,
    reason: Option<DisconnectReason>,
    /// Number of the last commit that the replica confirmed.
    confirmed: u64,
    /// Whether the replica has confirmed a commit, which it does once its copy is whole.
    is_whole: bool,
}

impl ReplicaQueue {
    /// Whether the replica is connected and has a whole copy. Then commits wait for it.
    fn is_whole(&self) -> bool {
        let waiting = self.waiting();
        waiting.is_whole && waiting.reason.is_none()
    }

    fn is_standby(&self) -> bool {
        self.kind == ReplicaKind::Standby && self.is_whole()
    }

    /// Queues a record. Returns whether this disconnected the replica.
    fn push(&self, record: Arc<[u8]>) -> bool {
        let mut waiting = self.waiting();
        if waiting.reason.is_some() {
            return false;
        }
        if waiting.bytes > 0 && waiting.bytes + record.len() > QUEUE_BYTES_MAX {
            drop(waiting);
            return self.disconnect(DisconnectReason::Slow);
        }
        waiting.bytes += record.len();
        waiting.records.push_back(record);
        self.arrived.notify_one();
        false
    }

    /// Waits until the replica confirmed a commit. Returns whether the wait timed out and disconnected it.
    fn wait_for(&self, number: u64, wait: Duration) -> bool {
        let lacks = |waiting: &mut QueuedRecords| waiting.confirmed < number && waiting.reason.is_none();
        let waited = self.confirmed.wait_timeout_while(self.waiting(), wait, lacks);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_late = lacks(&mut waiting);
        drop(waiting);
        is_late && self.disconnect(DisconnectReason::Slow)
    }

    /// Disconnects the replica. Returns whether that counts in `ReplicationStats::cut`.
    fn disconnect(&self, reason: DisconnectReason) -> bool {
        let mut waiting = self.waiting();
        if waiting.reason.is_some() {
            return false;
        }
        waiting.reason = Some(reason);
        if reason == DisconnectReason::Slow {
            // A slow replica starts over with a new copy, so its queue is freed.
            (waiting.records, waiting.bytes) = (VecDeque::new(), 0);
        }
        self.arrived.notify_one();
        self.confirmed.notify_all();
        matches!(reason, DisconnectReason::Slow | DisconnectReason::Uncertain)
    }

    fn waiting(&self) -> MutexGuard<'_, QueuedRecords> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A replica's subscription, which ends when this is dropped.
#[derive(Debug)]
pub struct Follower {
    queue: Arc<ReplicaQueue>,
    from: CommitPosition,
    replication: Arc<Replication>,
}

/// Result of one `take`.
#[derive(Debug)]
pub enum ReplicaBatch {
    /// The next records, oldest first. Empty if none arrived in time.
    Records(Vec<Arc<[u8]>>),
    /// The replica is disconnected.
    Over(DisconnectReason),
}

impl Follower {
    /// Position of the last commit that the replica does not receive. A copy of the store made from now on contains it.
    pub fn from(&self) -> CommitPosition {
        self.from
    }

    /// Whether the replica was disconnected and must start over, dropping its queue.
    pub fn is_given_up(&self) -> bool {
        matches!(
            self.queue.waiting().reason,
            Some(DisconnectReason::Slow | DisconnectReason::Uncertain | DisconnectReason::Cancelled)
        )
    }

    /// Confirms that a commit and all earlier ones are durable at the replica.
    pub fn confirm(&self, number: u64) {
        // A number that was not assigned yet confirms nothing.
        let number = number.min(self.replication.begun());
        let mut waiting = self.queue.waiting();
        waiting.confirmed = waiting.confirmed.max(number);
        waiting.is_whole = true;
        self.queue.confirmed.notify_all();
        drop(waiting);
        if self.queue.kind == ReplicaKind::Standby {
            self.replication.confirm(number);
        }
    }

    /// Number of the last commit of the store that began.
    pub fn begun(&self) -> u64 {
        self.replication.begun()
    }

    /// Disconnects this replica.
    pub fn leave(&self) {
        self.queue.disconnect(DisconnectReason::Cancelled);
    }

    /// Removes all queued records. Waits up to `wait` if the queue is empty.
    pub fn take(&self, wait: Duration) -> ReplicaBatch {
        let waiting = self.queue.waiting();
        let idle = |waiting: &mut QueuedRecords| waiting.records.is_empty() && waiting.reason.is_none();
        let waited = self.queue.arrived.wait_timeout_while(waiting, wait, idle);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match waiting.reason {
            Some(reason) if waiting.records.is_empty() => ReplicaBatch::Over(reason),
            _ => {
                waiting.bytes = 0;
                ReplicaBatch::Records(std::mem::take(&mut waiting.records).into())
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.leave();
        self.replication.remove(&self.queue);
    }
}
