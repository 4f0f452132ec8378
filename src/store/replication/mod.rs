//! Whoever follows the store is handed what every commit wrote, in the order of the commits and after each is durable.
//!
//! Invariant: a follower gets every commit that began after it was added, without a gap, or is cut off and told why. Nothing
//! of a commit is answered before whoever follows closely has confirmed the one before it, or was cut off because it took too
//! long: so it lacks one commit at most. While nobody follows, a commit costs one look at a flag.

pub mod log;
pub mod replay;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::kv::wal;
use crate::kv::write_batch::WriteBatch;
use crate::model::Time;
use crate::store::read::lists::Store;

/// What may wait for a follower before it is cut off, in bytes.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Who may follow at once.
pub const FOLLOWERS_MAX: usize = 4;
/// How long a commit waits for whoever follows closely, before that one is cut off.
const CONFIRM_WAIT_MAX: Duration = Duration::from_secs(5);
/// Number and time, in front of a record.
const POINT_BYTES: usize = 16;

/// The store as one commit left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitPosition {
    /// Counts commits.
    pub number: u64,
    /// When the batch of the commit was begun, by the writer's clock, which may be set back.
    pub at: Time,
}

/// What one commit wrote to one file.
#[derive(Debug, PartialEq, Eq)]
pub struct CommitRecord {
    pub point: CommitPosition,
    /// Below the data directory.
    pub file: String,
    pub changes: wal::WalRecord,
}

impl CommitRecord {
    fn encode(point: CommitPosition, file: &str, write_batch: &WriteBatch) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&point.number.to_le_bytes());
        bytes.extend_from_slice(&point.at.0.to_le_bytes());
        bytes.extend_from_slice(&(file.len() as u16).to_le_bytes());
        bytes.extend_from_slice(file.as_bytes());
        wal::encode_changes(&write_batch.changes(), &mut bytes);
        bytes
    }

    /// None: these are not the bytes of a record.
    pub fn decode(bytes: &[u8]) -> Option<CommitRecord> {
        let point = point_of(bytes)?;
        let (name_bytes, rest) = bytes[POINT_BYTES..].split_first_chunk::<2>()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*name_bytes)))?;
        let file = std::str::from_utf8(name).ok()?.to_owned();
        Some(CommitRecord { point, file, changes: wal::decode_changes(rest)? })
    }
}

/// The point of a record's bytes; none: they are too few.
pub fn point_of(record: &[u8]) -> Option<CommitPosition> {
    let (number, rest) = record.split_first_chunk::<8>()?;
    let at = rest.first_chunk::<8>()?;
    Some(CommitPosition { number: u64::from_le_bytes(*number), at: Time(i64::from_le_bytes(*at)) })
}

/// Gives a record's bytes another number.
pub fn renumber(record: &mut [u8], number: u64) {
    if let Some(first) = record.first_chunk_mut::<8>() {
        *first = number.to_le_bytes();
    }
}

/// Whether commits wait for a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicationMode {
    /// Never: it may be behind by what waits for it.
    Async,
    /// Each waits until the one before is confirmed.
    Sync,
}

/// Why a follower gets nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisconnectReason {
    /// More waited for it than may, or a commit waited for it for too long.
    Slow,
    /// A commit failed, and may be there all the same.
    Uncertain,
    /// The writer has ended; everything that it committed was handed out before.
    Stopped,
    /// It wants nothing more.
    Cancelled,
}

impl DisconnectReason {
    pub fn as_str(self) -> &'static str {
        match self {
            DisconnectReason::Slow => "more waited for it than may, or it confirmed nothing for too long",
            DisconnectReason::Uncertain => "a commit failed, and nobody knows whether it is there all the same",
            DisconnectReason::Stopped => "the daemon has stopped",
            DisconnectReason::Cancelled => "it has gone",
        }
    }
}

/// How those who follow are doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicationStats {
    pub followers: usize,
    /// What waits for the one that is furthest behind, in bytes.
    pub queued_bytes: usize,
    /// Cut off since the start: too slow, or after a commit that failed.
    pub cut: u64,
}

/// All who follow a store.
#[derive(Debug, Default)]
pub struct Replication {
    is_followed: AtomicBool,
    /// The number of the last commit that was begun while somebody followed.
    begun: AtomicU64,
    cut: AtomicU64,
    queues: Mutex<Vec<Arc<ReplicaQueue>>>,
}

/// A commit that somebody is told of once it is durable.
#[derive(Debug)]
pub(in crate::store) struct PendingCommit {
    number: u64,
    record: Vec<u8>,
}

impl Replication {
    /// To be called before a commit can be seen by anybody. None: nobody follows.
    pub(in crate::store) fn begin(&self, file: &str, at: Time, write_batch: &WriteBatch) -> Option<PendingCommit> {
        if !self.is_followed.load(Ordering::Acquire) {
            return None;
        }
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        Some(PendingCommit { number, record: CommitRecord::encode(CommitPosition { number, at }, file, write_batch) })
    }

    /// Tells of a commit that has become durable; of one that failed nobody knows what it left.
    pub(in crate::store) fn end(&self, begun: Option<PendingCommit>, is_durable: bool) {
        let Some(PendingCommit { number, record }) = begun else { return };
        if !is_durable {
            return self.disconnect_all(DisconnectReason::Uncertain);
        }
        let record: Arc<[u8]> = record.into();
        // Not held while waiting: whoever goes wants it.
        let lines = self.queues().clone();
        for line in lines.iter().filter(|line| line.from < number) {
            self.count_disconnect(line.push(record.clone()));
        }
        for line in lines.iter().filter(|line| line.from < number && line.mode == ReplicationMode::Sync) {
            self.count_disconnect(line.wait_for(number - 1, CONFIRM_WAIT_MAX));
        }
    }

    /// The number of the last commit that was begun: none that can be seen now has a greater one.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    pub fn levels(&self) -> ReplicationStats {
        let lines = self.queues();
        let queued_bytes = lines.iter().map(|line| line.waiting().bytes).max().unwrap_or(0);
        ReplicationStats { followers: lines.len(), queued_bytes, cut: self.cut.load(Ordering::Relaxed) }
    }

    fn disconnect_all(&self, cut: DisconnectReason) {
        for line in self.queues().iter() {
            self.count_disconnect(line.disconnect(cut));
        }
    }

    fn count_disconnect(&self, was_cut: bool) {
        self.cut.fetch_add(u64::from(was_cut), Ordering::Relaxed);
    }

    fn add(self: &Arc<Replication>, at: Time, pace: ReplicationMode) -> Option<Follower> {
        let mut lines = self.queues();
        if lines.len() >= FOLLOWERS_MAX {
            return None;
        }
        let from = self.begun();
        let waiting = Mutex::new(QueuedRecords { confirmed: from, ..QueuedRecords::default() });
        let line =
            Arc::new(ReplicaQueue { from, mode: pace, waiting, arrived: Condvar::new(), confirmed: Condvar::new() });
        lines.push(line.clone());
        self.is_followed.store(true, Ordering::Release);
        Some(Follower { from: CommitPosition { number: line.from, at }, queue: line, replication: self.clone() })
    }

    fn remove(&self, line: &Arc<ReplicaQueue>) {
        let mut lines = self.queues();
        lines.retain(|other| !Arc::ptr_eq(other, line));
        self.is_followed.store(!lines.is_empty(), Ordering::Release);
    }

    fn queues(&self) -> MutexGuard<'_, Vec<Arc<ReplicaQueue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's part: when it goes, those who follow are told after all that it committed.
#[derive(Debug)]
pub(in crate::store) struct CommitPublisher(pub Arc<Replication>);

impl Drop for CommitPublisher {
    fn drop(&mut self) {
        self.0.disconnect_all(DisconnectReason::Stopped);
    }
}

/// What waits for one follower.
#[derive(Debug)]
struct ReplicaQueue {
    /// Commits up to this one are none of its.
    from: u64,
    mode: ReplicationMode,
    waiting: Mutex<QueuedRecords>,
    arrived: Condvar,
    confirmed: Condvar,
}

#[derive(Debug, Default)]
struct QueuedRecords {
    records: VecDeque<Arc<[u8]>>,
    bytes: usize,
    reason: Option<DisconnectReason>,
    /// The last commit that it has safe.
    confirmed: u64,
}

impl ReplicaQueue {
    /// Whether it was cut off by this.
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

    /// Waits until it has confirmed a commit. Whether it was cut off because that took too long.
    fn wait_for(&self, number: u64, wait: Duration) -> bool {
        let lacks = |waiting: &mut QueuedRecords| waiting.confirmed < number && waiting.reason.is_none();
        let waited = self.confirmed.wait_timeout_while(self.waiting(), wait, lacks);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_late = lacks(&mut waiting);
        drop(waiting);
        is_late && self.disconnect(DisconnectReason::Slow)
    }

    /// Whether it counts as one that was cut off.
    fn disconnect(&self, cut: DisconnectReason) -> bool {
        let mut waiting = self.waiting();
        if waiting.reason.is_some() {
            return false;
        }
        waiting.reason = Some(cut);
        if cut == DisconnectReason::Slow {
            // It begins anew anyway, and the memory is wanted.
            (waiting.records, waiting.bytes) = (VecDeque::new(), 0);
        }
        self.arrived.notify_one();
        self.confirmed.notify_all();
        matches!(cut, DisconnectReason::Slow | DisconnectReason::Uncertain)
    }

    fn waiting(&self) -> MutexGuard<'_, QueuedRecords> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who follows, until this is dropped.
#[derive(Debug)]
pub struct Follower {
    queue: Arc<ReplicaQueue>,
    from: CommitPosition,
    replication: Arc<Replication>,
}

/// What there is for a follower.
#[derive(Debug)]
pub enum ReplicaBatch {
    /// The next records, oldest first; none came in the time if there are none.
    Records(Vec<Arc<[u8]>>),
    /// Nothing more comes.
    Over(DisconnectReason),
}

impl Follower {
    /// The last commit that it is not told of: a copy of the store taken from now on has it.
    pub fn from(&self) -> CommitPosition {
        self.from
    }

    /// Whether it gets nothing more, what still waits included: it begins anew.
    pub fn is_given_up(&self) -> bool {
        matches!(
            self.queue.waiting().reason,
            Some(DisconnectReason::Slow | DisconnectReason::Uncertain | DisconnectReason::Cancelled)
        )
    }

    /// Says that a commit and all before it are safe.
    pub fn confirm(&self, number: u64) {
        let mut waiting = self.queue.waiting();
        waiting.confirmed = waiting.confirmed.max(number);
        self.queue.confirmed.notify_all();
    }

    /// Says that it wants nothing more.
    pub fn leave(&self) {
        self.queue.disconnect(DisconnectReason::Cancelled);
    }

    /// Takes what waits, and waits for something for so long.
    pub fn take(&self, wait: Duration) -> ReplicaBatch {
        let waiting = self.queue.waiting();
        let idle = |waiting: &mut QueuedRecords| waiting.records.is_empty() && waiting.reason.is_none();
        let waited = self.queue.arrived.wait_timeout_while(waiting, wait, idle);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match waiting.reason {
            Some(cut) if waiting.records.is_empty() => ReplicaBatch::Over(cut),
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

impl Store {
    /// Follows what is committed from now on; `now` is the time of that. None: as many as may follow already.
    pub fn follow(&self, now: Time, pace: ReplicationMode) -> Option<Follower> {
        self.partition_set.replication.add(now, pace)
    }

    /// How those who follow are doing.
    pub fn followers(&self) -> ReplicationStats {
        self.partition_set.replication.levels()
    }
}
