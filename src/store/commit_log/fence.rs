//! The fence: the record with which a node that has read the whole log becomes its owner.
//!
//! Invariant: once the fence is durable, no earlier owner can append. The fence has the number of that owner's next
//! record. A record behind the fence would need a record of the same owner before it, and the fence is another owner's.

use crate::kv::tables::{Key, Table};
use crate::kv::wal;
use crate::model::Time;
use crate::mutants::mutant;
use crate::store::commit_log::{Appended, CommitLog, LogEntry, LogMark, LogUnreachable};
use crate::store::partitions::set::STATE_FILE;
use crate::store::replication::{COMMIT_KEY, CommitMark, CommitPosition, encode_commit};

/// Bytes of the log that are read at once.
const READ_BYTES: usize = 4 << 20;
/// Attempts against a log to which other nodes append too.
const ATTEMPTS_MAX: usize = 1_000;

/// Why a node did not become the owner.
#[derive(Debug, thiserror::Error)]
pub enum FenceError<E> {
    #[error(transparent)]
    Unreachable(#[from] LogUnreachable),
    /// The log ends before the node's last commit.
    #[error("this node's last commit is {0}, and the log ends before it")]
    Ahead(u64),
    /// The log has another commit of the number of the node's last one.
    #[error("this node's commit {0} is not the log's commit {0}")]
    Diverged(u64),
    /// The log does not have the commits after the node's last one any more, or they are damaged.
    #[error("the log's commits after {0} are trimmed or damaged")]
    Gap(u64),
    /// Other nodes append faster than this one reads.
    #[error("other nodes append to the log all the time")]
    Outrun,
    /// The node could not apply a commit.
    #[error("{0}")]
    Apply(E),
}

/// Reads the log to its end and appends a fence. Passes all records to `apply`, the fence included. `last` is the
/// node's last commit. `term`, `writer` and `at` are those of the fence. Returns its mark.
///
/// # Errors
/// The log does not answer or lacks a commit, or `apply` fails.
pub fn fence<E>(
    log: &dyn CommitLog,
    last: &mut LogMark,
    (term, writer): (u64, u64),
    at: Time,
    mut apply: impl FnMut(&[LogEntry]) -> Result<(), E>,
) -> Result<LogMark, FenceError<E>> {
    for _ in 0..ATTEMPTS_MAX {
        read_to_end(log, last, &mut apply)?;
        if mutant!("take_without_fence") {
            return Ok(*last);
        }
        let mark = LogMark { number: last.number + 1, term, writer };
        let entry = LogEntry::new(mark, fence_record(mark, at).into());
        match log.append(*last, std::slice::from_ref(&entry))? {
            Appended::Durable => {
                apply(std::slice::from_ref(&entry)).map_err(FenceError::Apply)?;
                *last = mark;
                return Ok(mark);
            }
            Appended::Taken(_) => {}
            Appended::Behind(_) => return Err(FenceError::Ahead(last.number)),
        }
    }
    Err(FenceError::Outrun)
}

/// Reads the log from the node's last commit to its end.
fn read_to_end<E>(
    log: &dyn CommitLog,
    last: &mut LogMark,
    apply: &mut impl FnMut(&[LogEntry]) -> Result<(), E>,
) -> Result<(), FenceError<E>> {
    loop {
        let entries = read_next(log, *last)?;
        let Some(newest) = entries.last().map(|entry| entry.mark) else { return Ok(()) };
        apply(&entries).map_err(FenceError::Apply)?;
        *last = newest;
    }
}

/// The next records after a node's last commit. Empty at the end of the log.
///
/// # Errors
/// The log does not answer, does not have the node's last commit, or lacks the next one.
pub fn read_next<E>(log: &dyn CommitLog, last: LogMark) -> Result<Vec<LogEntry>, FenceError<E>> {
    let mut entries = log.read(last.number, READ_BYTES)?;
    let Some(own) = entries.first().map(|entry| entry.mark) else { return Err(FenceError::Ahead(last.number)) };
    if own.number == last.number && own.writer != last.writer {
        return Err(FenceError::Diverged(last.number));
    }
    let is_next = |(n, entry): (usize, &LogEntry)| entry.mark.number == last.number + n as u64;
    // The first record of a log has no body.
    let is_whole = entries.iter().enumerate().all(is_next) && entries.iter().skip(1).all(LogEntry::is_sound);
    if !is_whole {
        return Err(FenceError::Gap(last.number));
    }
    entries.remove(0);
    Ok(entries)
}

/// A commit that changes nothing but the mark of `state.redb`.
fn fence_record(mark: LogMark, at: Time) -> Vec<u8> {
    let mark = CommitMark { number: mark.number, run: mark.writer as i64 };
    let row = (Key::from_slice(COMMIT_KEY), Some(crate::kv::codec::encode(&mark)));
    let changes = [row].into();
    let mut bytes = encode_commit(CommitPosition { number: mark.number, at }, STATE_FILE);
    wal::encode_changes(&[(Table::Meta, &changes)], &mut bytes);
    bytes
}
