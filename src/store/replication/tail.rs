//! The newest commits in memory, from which a replica resumes after a break.
//!
//! Invariant: the tail holds every commit after `after`, without a gap, as long as it is kept. A failed commit empties it,
//! because its changes may be on disk.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::store::replication::CommitMark;

/// Maximum bytes of the tail once a replica was connected.
pub const TAIL_BYTES_MAX: usize = 64 << 20;
/// Maximum bytes of the tail of a store without a replica. A replica that was connected before a restart comes back
/// before they are used up.
pub const UNFOLLOWED_TAIL_BYTES_MAX: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct CommitTail {
    records: VecDeque<Arc<[u8]>>,
    bytes: usize,
    bytes_max: usize,
    /// Number of the commit before the first one in the tail.
    after: u64,
    is_retained: bool,
}

impl CommitTail {
    /// An empty tail after commit `after`.
    pub fn new(after: u64) -> CommitTail {
        let bytes_max = UNFOLLOWED_TAIL_BYTES_MAX;
        CommitTail { records: VecDeque::new(), bytes: 0, bytes_max, after, is_retained: true }
    }

    pub fn is_retained(&self) -> bool {
        self.is_retained
    }

    /// Number of the last commit in the tail.
    pub fn last(&self) -> u64 {
        self.after + self.records.len() as u64
    }

    /// Keeps the tail for a replica that connects after commit `begun`.
    pub fn retain_after(&mut self, begun: u64) {
        self.bytes_max = TAIL_BYTES_MAX;
        if !self.is_retained {
            self.restart(begun);
            self.is_retained = true;
        }
    }

    /// Empties the tail: it begins after commit `after`.
    pub fn restart(&mut self, after: u64) {
        self.records = VecDeque::new();
        (self.bytes, self.after) = (0, after);
    }

    /// Adds the commit `number`. Without a replica, a tail that exceeds its maximum ends.
    pub fn push(&mut self, number: u64, record: Arc<[u8]>, is_followed: bool) {
        if !self.is_retained {
            return;
        }
        if number != self.last() + 1 {
            self.restart(number - 1);
        }
        self.bytes += record.len();
        self.records.push_back(record);
        if self.bytes > self.bytes_max && !is_followed {
            self.restart(number);
            self.is_retained = false;
        }
        while self.bytes > self.bytes_max {
            let Some(first) = self.records.pop_front() else { break };
            (self.bytes, self.after) = (self.bytes - first.len(), self.after + 1);
        }
    }

    /// The commits after `mark`. `None` if the tail does not hold all of them, or `mark` is of another history. `before`
    /// is the last commit before this run.
    pub fn since(&self, mark: CommitMark, before: CommitMark, run: i64) -> Option<Vec<Arc<[u8]>>> {
        let is_ours = match mark.number == before.number {
            true => mark.run == before.run,
            false => mark.number > before.number && mark.run == run,
        };
        // A replica may ask for commits behind the end.
        if !is_ours || mark.number < self.after || mark.number > self.last() {
            return None;
        }
        let from = (mark.number - self.after) as usize;
        Some(self.records.range(from..).cloned().collect())
    }
}
