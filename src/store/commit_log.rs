//! The commit log of a cluster: a log outside this machine in which a commit takes its number before it is committed here.
//!
//! `CommitLog` is the log, which an engine keeps where the death of this machine does not reach. `CommitAppender` appends
//! the owner's commits. `fence` makes a node the owner: no earlier owner can append after it.
//!
//! Invariant: a number is assigned once, for ever. An owner appends behind its own record only, so its next append
//! fails once another node has appended a fence.

mod appender;
mod fence;
mod fold_wal;
mod tail;

use std::fmt::Debug;
use std::sync::Arc;

use crate::mutants::mutant;

pub use appender::{AppendStats, CommitAppender, TenureEnd};
pub use fence::{FenceError, fence, read_next};
pub use fold_wal::fold_wal;
pub use tail::LogTail;

/// A record's place in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogMark {
    /// Number of the commit, ascending by one.
    pub number: u64,
    /// Number of the owner among all owners, from 1.
    pub term: u64,
    /// Drawn at random when the owner took over, so that two owners of one term differ. `CommitMark::run` has the same bits.
    pub writer: u64,
}

/// A record of the log: an encoded commit and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    pub mark: LogMark,
    /// CRC-32 of the commit, as IEEE 802.3 defines it.
    pub sum: u32,
    /// The commit as `CommitRecord` encodes it. The first record of a log is empty: it stands for the store as it was.
    pub body: Arc<[u8]>,
}

impl LogEntry {
    pub fn new(mark: LogMark, body: Arc<[u8]>) -> LogEntry {
        LogEntry { mark, sum: LogEntry::sum_of(&body), body }
    }

    /// The checksum of a commit.
    pub fn sum_of(body: &[u8]) -> u32 {
        crc32fast::hash(body)
    }

    /// Whether the commit has its checksum.
    pub fn is_sound(&self) -> bool {
        LogEntry::sum_of(&self.body) == self.sum
    }
}

/// The answer of a log to an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// All records are durable.
    Durable,
    /// Another owner has the number of a record, or of the record before. Its mark.
    Taken(LogMark),
    /// The log ends before the records: it has forgotten the records after this one.
    Behind(LogMark),
}

/// The log does not answer. An append may be durable all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LogUnreachable(pub String);

/// A log that puts commits in order before a caller gets an answer.
///
/// Calls block. A call that was tried again with the same bytes changes nothing.
pub trait CommitLog: Debug + Send + Sync {
    /// Whether an append would be answered now. A writer in a task asks before it appends, because a call that waits would
    /// stop the whole simulation.
    fn is_answering(&self) -> bool {
        true
    }

    /// Appends records behind `before`, all or none.
    ///
    /// # Errors
    /// The log does not answer.
    fn append(&self, before: LogMark, entries: &[LogEntry]) -> Result<Appended, LogUnreachable>;

    /// The records from a number on, in their order, and up to about `bytes_max` bytes of them. The first two are returned
    /// whatever their length.
    ///
    /// # Errors
    /// The log does not answer.
    fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<LogEntry>, LogUnreachable>;

    /// The mark of the last record.
    ///
    /// # Errors
    /// The log does not answer, or it is empty.
    fn last(&self) -> Result<LogMark, LogUnreachable>;

    /// Removes the records up to a number. The last record stays.
    ///
    /// # Errors
    /// The log does not answer.
    fn trim(&self, upto: u64) -> Result<(), LogUnreachable>;
}

/// The answer to an append that did not add all its records. `found` has the records of the log from `before` to the last of
/// `entries`, by mark and checksum, and `last` is the log's last record.
pub fn append_outcome(before: LogMark, entries: &[LogEntry], found: &[(LogMark, u32)], last: LogMark) -> Appended {
    let found = |number: u64| found.iter().find(|(mark, _)| mark.number == number);
    let is_ours = |entry: &LogEntry| {
        found(entry.mark.number).is_some_and(|(mark, sum)| {
            mark.writer == entry.mark.writer && *sum == entry.sum || mutant!("taken_counts_as_ours")
        })
    };
    if entries.iter().all(is_ours) {
        return Appended::Durable;
    }
    let others = entries.iter().filter(|entry| !is_ours(entry)).find_map(|entry| found(entry.mark.number));
    let other_before = found(before.number).filter(|(mark, _)| mark.writer != before.writer);
    match others.or(other_before) {
        Some((mark, _)) => Appended::Taken(*mark),
        None => Appended::Behind(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u64, writer: u64) -> LogMark {
        LogMark { number, term: 1, writer }
    }

    fn entry(number: u64, writer: u64, body: &[u8]) -> LogEntry {
        LogEntry::new(mark(number, writer), body.into())
    }

    #[test]
    fn a_taken_number_is_ours_if_writer_and_bytes_are() {
        let own = [entry(5, 7, b"a"), entry(6, 7, b"b")];
        let row = |entry: &LogEntry| (entry.mark, entry.sum);
        let durable = [(mark(4, 7), 0), row(&own[0]), row(&own[1])];
        assert_eq!(append_outcome(mark(4, 7), &own, &durable, mark(6, 7)), Appended::Durable);
        // A trim may have removed the record before.
        assert_eq!(append_outcome(mark(4, 7), &own, &durable[1..], mark(6, 7)), Appended::Durable);
        for other in [entry(5, 8, b"a"), entry(5, 7, b"c")] {
            let found = [(mark(4, 7), 0), row(&other)];
            assert_eq!(append_outcome(mark(4, 7), &own, &found, other.mark), Appended::Taken(other.mark));
        }
    }

    #[test]
    fn a_missing_record_before_is_forgotten_and_another_one_there_is_anothers() {
        let own = [entry(5, 7, b"a")];
        assert_eq!(append_outcome(mark(4, 7), &own, &[], mark(2, 7)), Appended::Behind(mark(2, 7)));
        let other = mark(4, 8);
        assert_eq!(append_outcome(mark(4, 7), &own, &[(other, 0)], other), Appended::Taken(other));
    }

    #[test]
    fn a_damaged_record_has_another_sum() {
        let mut own = entry(5, 7, b"a");
        assert!(own.is_sound());
        own.body = b"b".as_slice().into();
        assert!(!own.is_sound());
    }
}
