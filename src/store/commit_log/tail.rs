//! The newest records of the log in memory, from which a log that has forgotten its end is healed.
//!
//! Invariant: the tail holds every record after `before`, without a gap.

use std::collections::VecDeque;

use crate::store::commit_log::{LogEntry, LogMark};

/// Maximum bytes of the tail.
const TAIL_BYTES_MAX: usize = 64 << 20;

/// The newest records of the log that this process knows.
#[derive(Debug, Clone)]
pub struct LogTail {
    /// The mark of the record before the first one.
    before: LogMark,
    entries: VecDeque<LogEntry>,
    bytes: usize,
}

impl LogTail {
    /// An empty tail after a record.
    pub fn after_mark(mark: LogMark) -> LogTail {
        LogTail { before: mark, entries: VecDeque::new(), bytes: 0 }
    }

    /// The mark of the record before the first one.
    pub fn before(&self) -> LogMark {
        self.before
    }

    /// The mark of the last record, which is `before` of an empty tail.
    pub fn last(&self) -> LogMark {
        self.entries.back().map_or(self.before, |entry| entry.mark)
    }

    /// Adds the next record. The oldest ones go if the tail becomes too large.
    pub fn push(&mut self, entry: LogEntry) {
        debug_assert_eq!(entry.mark.number, self.last().number + 1, "no record is left out");
        self.bytes += entry.body.len();
        self.entries.push_back(entry);
        while self.bytes > TAIL_BYTES_MAX {
            let Some(first) = self.entries.pop_front() else { break };
            self.bytes -= first.body.len();
            self.before = first.mark;
        }
    }

    /// The records after `mark`, up to about `bytes_max` bytes of them and one at the least. `None` if the tail does not have
    /// the first of them, or `mark` is of another history.
    pub fn after(&self, mark: LogMark, bytes_max: usize) -> Option<Vec<LogEntry>> {
        let behind = usize::try_from(mark.number.checked_sub(self.before.number)?).ok()?;
        let known = match behind.checked_sub(1) {
            None => self.before,
            Some(place) => self.entries.get(place)?.mark,
        };
        if known.writer != mark.writer {
            return None;
        }
        let (mut bytes, mut entries) = (0, Vec::new());
        for entry in self.entries.range(behind..) {
            if !entries.is_empty() && bytes + entry.body.len() > bytes_max {
                break;
            }
            bytes += entry.body.len();
            entries.push(entry.clone());
        }
        Some(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u64, writer: u64) -> LogMark {
        LogMark { number, term: 1, writer }
    }

    fn entry(number: u64, bytes: usize) -> LogEntry {
        LogEntry::new(mark(number, 7), vec![0; bytes].into())
    }

    fn numbers(tail: &LogTail, after: LogMark, bytes: usize) -> Option<Vec<u64>> {
        tail.after(after, bytes).map(|entries| entries.iter().map(|entry| entry.mark.number).collect())
    }

    #[test]
    fn it_gives_the_records_after_one_of_its_own_history() {
        let mut tail = LogTail::after_mark(mark(4, 6));
        (5..=8).for_each(|number| tail.push(entry(number, 10)));
        assert_eq!(numbers(&tail, mark(4, 6), 1_000), Some(vec![5, 6, 7, 8]));
        assert_eq!(numbers(&tail, mark(6, 7), 15), Some(vec![7]));
        assert_eq!(numbers(&tail, mark(6, 7), 0), Some(vec![7]), "one at the least");
        assert_eq!(numbers(&tail, mark(8, 7), 1_000), Some(vec![]));
        for unknown in [mark(3, 7), mark(9, 7), mark(4, 7), mark(6, 6)] {
            assert_eq!(numbers(&tail, unknown, 1_000), None, "{unknown:?}");
        }
    }

    #[test]
    fn it_forgets_its_oldest_records_when_it_is_full() {
        let mut tail = LogTail::after_mark(mark(4, 6));
        (5..=9).for_each(|number| tail.push(entry(number, 16 << 20)));
        assert_eq!((tail.before(), tail.last()), (mark(5, 7), mark(9, 7)));
        assert_eq!(numbers(&tail, mark(4, 6), 1_000), None);
    }
}
