//! A commit log in memory that refuses, loses its answers, acts late, and forgets its end. One seed decides.

#![allow(dead_code)] // Two test binaries compile this file. Each uses its own part of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use postrider::store::admin::{Appended, CommitLog, LogEntry, LogMark, LogUnreachable, append_outcome};

use super::rng::Rng;

/// Percentages of the faults of an append.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogFaults {
    /// Nothing is stored, and there is no answer.
    pub refused: u64,
    /// The records are stored, and there is no answer.
    pub unanswered: u64,
    /// There is no answer, and the records are stored at a later call.
    pub late: u64,
    /// The log forgets its newest records first.
    pub forgets: u64,
    /// A promise that the log breaks: it appends behind another owner's record.
    pub appends_anywhere: bool,
}

#[derive(Debug)]
struct Stored {
    entries: BTreeMap<u64, LogEntry>,
    late: Vec<(LogMark, Vec<LogEntry>)>,
    faults: LogFaults,
    rng: Rng,
    forgotten: u64,
    /// The oldest record that may be forgotten.
    forgets_after: u64,
}

/// The log. Its clones are one log.
#[derive(Debug, Clone)]
pub struct MemoryLog(Arc<Mutex<Stored>>);

impl Stored {
    fn last(&self) -> Option<LogMark> {
        self.entries.last_key_value().map(|(_, entry)| entry.mark)
    }

    fn append(&mut self, before: LogMark, entries: &[LogEntry]) -> Option<Appended> {
        let last = self.last()?;
        let is_before = self.entries.get(&before.number).is_some_and(|entry| entry.mark.writer == before.writer);
        let is_free = entries.iter().all(|entry| !self.entries.contains_key(&entry.mark.number));
        if is_free && (is_before || self.faults.appends_anywhere) {
            self.entries.extend(entries.iter().map(|entry| (entry.mark.number, entry.clone())));
            return Some(Appended::Durable);
        }
        let to = entries.last().map_or(before.number, |entry| entry.mark.number);
        let found: Vec<_> = self.entries.range(before.number..=to).map(|(_, entry)| (entry.mark, entry.sum)).collect();
        Some(append_outcome(before, entries, &found, last))
    }

    fn forget(&mut self) {
        let count = 1 + self.rng.below(4);
        for _ in 0..count {
            let Some(last) = self.last().filter(|last| last.number > self.forgets_after) else { return };
            self.entries.remove(&last.number);
            self.forgotten += 1;
        }
    }
}

impl MemoryLog {
    /// An empty log.
    pub fn new(rng: Rng) -> MemoryLog {
        let stored = Stored {
            entries: BTreeMap::new(),
            late: Vec::new(),
            faults: LogFaults::default(),
            rng,
            forgotten: 0,
            forgets_after: 0,
        };
        MemoryLog(Arc::new(Mutex::new(stored)))
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.0.lock().expect("a log")
    }

    /// Begins the log with a store's last commit.
    pub fn begin(&self, mark: LogMark) {
        self.stored().entries.insert(mark.number, LogEntry::new(mark, [].into()));
    }

    /// Whether it has a record.
    pub fn is_begun(&self) -> bool {
        self.stored().last().is_some()
    }

    pub fn set_faults(&self, faults: LogFaults) {
        self.stored().faults = faults;
    }

    /// Lets the log forget records after this number only.
    pub fn keep_up_to(&self, number: u64) {
        self.stored().forgets_after = number;
    }

    /// Lets the log forget its newest records now.
    pub fn forget_end(&self) {
        self.stored().forget();
    }

    /// Records forgotten so far.
    pub fn forgotten(&self) -> u64 {
        self.stored().forgotten
    }

    /// Another log with the same records and no faults.
    pub fn copy(&self) -> MemoryLog {
        let stored = self.stored();
        let copy = MemoryLog::new(Rng::new(0));
        copy.stored().entries = stored.entries.clone();
        copy
    }
}

fn unreachable(words: &str) -> LogUnreachable {
    LogUnreachable(words.to_owned())
}

impl CommitLog for MemoryLog {
    fn append(&self, before: LogMark, entries: &[LogEntry]) -> Result<Appended, LogUnreachable> {
        let mut stored = self.stored();
        let faults = stored.faults;
        if stored.rng.chance(50) {
            for (before, entries) in std::mem::take(&mut stored.late) {
                stored.append(before, &entries);
            }
        }
        // Only its owner can heal it.
        let is_owner = entries.first().map(|entry| entry.mark.writer) == stored.last().map(|last| last.writer);
        if is_owner && stored.rng.chance(faults.forgets) {
            stored.forget();
        }
        if stored.rng.chance(faults.refused) {
            return Err(unreachable("refused"));
        }
        if stored.rng.chance(faults.late) {
            stored.late.push((before, entries.to_vec()));
            return Err(unreachable("late"));
        }
        let appended = stored.append(before, entries).ok_or_else(|| unreachable("empty"))?;
        if stored.rng.chance(faults.unanswered) {
            return Err(unreachable("unanswered"));
        }
        Ok(appended)
    }

    fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<LogEntry>, LogUnreachable> {
        let stored = self.stored();
        let (mut bytes, mut count) = (0, 0);
        let entries = stored.entries.range(from..).map(|(_, entry)| entry.clone());
        let fitting = entries.take_while(|entry| {
            (bytes, count) = (bytes + entry.body.len(), count + 1);
            count <= 2 || bytes <= bytes_max
        });
        Ok(fitting.collect())
    }

    fn last(&self) -> Result<LogMark, LogUnreachable> {
        self.stored().last().ok_or_else(|| unreachable("empty"))
    }

    fn trim(&self, upto: u64) -> Result<(), LogUnreachable> {
        let mut stored = self.stored();
        let last = stored.last().map_or(0, |last| last.number);
        // A log that forgets records before a trim forgets the trim too.
        stored.forgets_after = stored.forgets_after.max((upto + 1).min(last));
        stored.entries.retain(|number, _| *number > upto || *number == last);
        Ok(())
    }
}
