//! Appends the owner's commits to the log, one after the other, and heals a log that has forgotten its end.
//!
//! Invariant: an append is tried again with the same bytes until the log answers or the tenure ends. So no commit is
//! uncertain while the process lives.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::kv::error::{Error, Result, io};
use crate::mutants::mutant;
use crate::store::commit_log::{Appended, CommitLog, LogEntry, LogMark, LogTail, LogUnreachable};

/// Bytes that one healing append has at most, unless a single commit is larger.
const HEALED_TOGETHER_BYTES: usize = 1 << 20;
/// Delay between two attempts to append, by default.
const APPEND_AGAIN: Duration = Duration::from_millis(100);
/// Healings for one append. A log that needs more does not retain its records.
const HEALINGS_MAX: u32 = 100;
/// Consecutive attempts without an answer after which new changes are refused. If the log refuses each attempt at once,
/// as with a full disk of its own, that takes two seconds. If it gives no answer at all, the tenure ends before.
const STUCK_ATTEMPTS: u32 = 20;
/// Name of the log in errors.
const LOG_NAME: &str = "the log of the cluster";

/// The end of an owner's tenure, which the writer waits for while the log does not answer.
#[derive(Debug, Default)]
pub struct TenureEnd {
    is_over: Mutex<bool>,
    changed: Condvar,
}

impl TenureEnd {
    /// Ends the tenure. Appends that wait fail.
    pub fn end(&self) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    pub fn is_over(&self) -> bool {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a time, or until the end.
    pub fn wait(&self, time: Duration) {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(is_over, time, |is_over| !*is_over));
    }
}

/// Counts of an owner's appends, for metrics.
#[derive(Debug, Default)]
pub struct AppendStats {
    /// Number of the last durable commit.
    pub appended: AtomicU64,
    /// Commits that were appended again because the log had forgotten them.
    pub healed: AtomicU64,
    /// Consecutive attempts to append without an answer.
    failed_attempts: AtomicU32,
    /// Whether the log was seen to end before a durable commit, and was not healed since.
    has_forgotten: AtomicBool,
}

impl AppendStats {
    /// Whether the last attempt had no answer.
    pub fn is_unanswered(&self) -> bool {
        self.failed_attempts.load(Ordering::Relaxed) > 0
    }

    /// Whether the log takes no commit for so long that a new change would wait without end.
    pub fn is_stuck(&self) -> bool {
        self.failed_attempts.load(Ordering::Relaxed) >= STUCK_ATTEMPTS
    }

    /// Compares the end of the log with `appended`, as it was before the log was asked.
    pub fn compare(&self, appended: u64, last: u64) {
        if last < appended {
            self.has_forgotten.store(true, Ordering::Release);
        }
    }

    /// Whether the log is to be healed.
    pub fn has_forgotten(&self) -> bool {
        self.has_forgotten.load(Ordering::Acquire)
    }

    fn record(&self, is_answered: bool) {
        if is_answered {
            self.failed_attempts.store(0, Ordering::Relaxed);
        } else {
            self.failed_attempts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Appends the owner's commits to the commit log.
#[derive(Debug)]
pub struct CommitAppender {
    log: Arc<dyn CommitLog>,
    tenure: Arc<TenureEnd>,
    stats: Arc<AppendStats>,
    /// The newest records. The last one has this owner's term and writer: at first it is its fence.
    tail: LogTail,
    try_again: Duration,
}

impl CommitAppender {
    /// The appender of an owner until `tenure` ends. `tail` has the newest records of the log that this process knows, and ends
    /// with the owner's fence.
    pub fn new(log: Arc<dyn CommitLog>, tail: LogTail, tenure: Arc<TenureEnd>) -> CommitAppender {
        let stats = AppendStats { appended: tail.last().number.into(), ..AppendStats::default() };
        CommitAppender { log, tenure, stats: Arc::new(stats), tail, try_again: APPEND_AGAIN }
    }

    /// Sets the delay between two attempts to append.
    pub fn trying_again(self, try_again: Duration) -> CommitAppender {
        CommitAppender { try_again, ..self }
    }

    /// Whether the tenure has ended. Then nothing more may be committed.
    pub fn is_over(&self) -> bool {
        self.tenure.is_over()
    }

    /// Whether an append would return now.
    pub(in crate::store) fn is_answering(&self) -> bool {
        self.is_over() || self.log.is_answering()
    }

    /// The last durable record.
    pub fn last(&self) -> LogMark {
        self.tail.last()
    }

    pub fn stats(&self) -> Arc<AppendStats> {
        self.stats.clone()
    }

    /// Ends the tenure, because this store lacks a commit that the log has.
    pub(in crate::store) fn end(&mut self) {
        self.tenure.end();
    }

    /// Appends the encoded commit of a number. After `Ok` it is durable in the log.
    ///
    /// # Errors
    /// Another node owns the log, the log has forgotten more than memory holds, or the tenure has ended. Any of them ends
    /// the tenure.
    pub fn append(&mut self, number: u64, body: Arc<[u8]>) -> Result<()> {
        let entry = LogEntry::new(LogMark { number, ..self.tail.last() }, body);
        let appended = if mutant!("answer_before_append") { Ok(()) } else { self.append_entry(&entry) };
        if appended.is_err() {
            self.end();
        }
        appended?;
        self.stats.appended.store(number, Ordering::Relaxed);
        self.tail.push(entry);
        Ok(())
    }

    /// Appends again the records that a log has forgotten, if `AppendStats::compare` has seen that. So an owner without new
    /// commits heals the log too. Without an answer the next look sees it again.
    ///
    /// # Errors
    /// Those of `append`. The tenure has ended then.
    pub(in crate::store) fn heal_if_forgotten(&mut self) -> Result<()> {
        if self.is_over() || !self.stats.has_forgotten.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let Ok(last) = self.log.last() else { return Ok(()) };
        let healed = if last.number < self.tail.last().number { self.heal(last) } else { Ok(()) };
        if healed.is_err() {
            self.end();
        }
        healed
    }

    fn append_entry(&mut self, entry: &LogEntry) -> Result<()> {
        let mut healings = 0;
        loop {
            if self.is_over() {
                return Err(lost("this node owns it no more"));
            }
            match self.try_append(self.tail.last(), std::slice::from_ref(entry)) {
                Ok(Appended::Durable) => return Ok(()),
                Ok(Appended::Taken(by)) => {
                    return Err(lost(&format!("commit {} is that of the owner of term {}", by.number, by.term)));
                }
                // The log may forget again at any time.
                Ok(Appended::Behind(at)) if healings < HEALINGS_MAX => {
                    healings += 1;
                    self.heal(at)?;
                }
                Ok(Appended::Behind(at)) => {
                    return Err(lost(&format!("it ends at commit {} again and again", at.number)));
                }
                Err(_) => {}
            }
        }
    }

    /// Appends records once, and counts the attempt. After an error it waits for the next attempt, or until the tenure ends.
    fn try_append(&self, before: LogMark, entries: &[LogEntry]) -> std::result::Result<Appended, LogUnreachable> {
        let answer = self.log.append(before, entries);
        self.stats.record(answer.is_ok());
        if answer.is_err() {
            self.tenure.wait(self.try_again);
        }
        answer
    }

    /// Appends again the records after `at`, because the log has forgotten them.
    ///
    /// # Errors
    /// Memory does not hold all of them, or `at` is of another history.
    fn heal(&mut self, at: LogMark) -> Result<()> {
        let mut before = at;
        while before != self.tail.last() && !self.is_over() {
            let Some(entries) = self.tail.after(before, HEALED_TOGETHER_BYTES) else {
                let first = self.tail.before().number;
                let words = format!("it ends at commit {}, and memory has the commits after {first} only", at.number);
                return Err(lost(&words));
            };
            match self.try_append(before, &entries) {
                Ok(Appended::Durable) => {
                    self.stats.healed.fetch_add(entries.len() as u64, Ordering::Relaxed);
                    before = entries.last().map_or(before, |entry| entry.mark);
                }
                Ok(Appended::Taken(by)) => {
                    return Err(lost(&format!("commit {} is that of the owner of term {}", by.number, by.term)));
                }
                // The log has forgotten more meanwhile. The caller's next append says where it ends.
                Ok(Appended::Behind(_)) => return Ok(()),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

fn lost(words: &str) -> Error {
    io(LOG_NAME, std::io::Error::other(words.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::OnceLock;

    use super::*;

    /// A log that answers appends by a script, and takes all after its end. Before each it looks at the counts.
    #[derive(Debug, Default)]
    struct ScriptedLog {
        script: Mutex<VecDeque<Option<Appended>>>,
        seen: Mutex<Vec<(bool, bool)>>,
        stats: OnceLock<Arc<AppendStats>>,
        end: LogMark,
        appended: Mutex<Vec<u64>>,
    }

    impl CommitLog for ScriptedLog {
        fn append(&self, _: LogMark, entries: &[LogEntry]) -> std::result::Result<Appended, LogUnreachable> {
            self.appended.lock().unwrap().extend(entries.iter().map(|entry| entry.mark.number));
            let stats = self.stats.get().unwrap();
            self.seen.lock().unwrap().push((stats.is_unanswered(), stats.is_stuck()));
            let answer = self.script.lock().unwrap().pop_front().unwrap_or(Some(Appended::Durable));
            answer.ok_or_else(|| LogUnreachable("its disk is full".to_owned()))
        }

        fn read(&self, _: u64, _: usize) -> std::result::Result<Vec<LogEntry>, LogUnreachable> {
            Ok(Vec::new())
        }

        fn last(&self) -> std::result::Result<LogMark, LogUnreachable> {
            Ok(self.end)
        }

        fn trim(&self, _: u64) -> std::result::Result<(), LogUnreachable> {
            Ok(())
        }
    }

    const BEFORE: LogMark = LogMark { number: 7, term: 1, writer: 3 };

    /// The appender of an owner behind a tail with commit 8.
    fn appender_on(log: &Arc<ScriptedLog>) -> CommitAppender {
        let mut tail = LogTail::after_mark(BEFORE);
        tail.push(LogEntry::new(LogMark { number: 8, ..BEFORE }, b"a".as_slice().into()));
        let appender = CommitAppender::new(log.clone(), tail, Arc::default()).trying_again(Duration::ZERO);
        log.stats.set(appender.stats()).unwrap();
        appender
    }

    #[test]
    fn a_log_that_has_forgotten_its_end_is_healed_without_a_new_commit() {
        let log = Arc::new(ScriptedLog { end: BEFORE, ..ScriptedLog::default() });
        let mut appender = appender_on(&log);
        let mut healed_after = |appended, last| {
            appender.stats().compare(appended, last);
            appender.heal_if_forgotten().unwrap();
            log.appended.lock().unwrap().clone()
        };
        assert_eq!(healed_after(8, 8), [0; 0], "it has the last commit");
        assert_eq!(healed_after(8, 9), [0; 0], "it has more: the next append is refused");
        assert_eq!(healed_after(8, 7), [8]);
        assert_eq!(healed_after(8, 8), [8], "it is healed");
        assert_eq!((appender.stats().healed.load(Ordering::Relaxed), appender.is_over()), (1, false));
    }

    #[test]
    fn a_log_that_has_forgotten_more_than_memory_holds_ends_the_tenure() {
        let log = Arc::new(ScriptedLog { end: LogMark { number: 5, ..BEFORE }, ..ScriptedLog::default() });
        let mut appender = appender_on(&log);
        appender.stats().compare(8, 5);
        assert!(appender.heal_if_forgotten().unwrap_err().to_string().contains("memory has the commits after 7 only"));
        assert!(appender.is_over() && log.appended.lock().unwrap().is_empty());
    }

    /// The counts before each append of commit 9, behind a tail with commit 8.
    fn seen_with(script: impl Iterator<Item = Option<Appended>>) -> Vec<(bool, bool)> {
        let log = Arc::new(ScriptedLog { script: Mutex::new(script.collect()), ..ScriptedLog::default() });
        let mut appender = appender_on(&log);
        appender.append(9, b"b".as_slice().into()).unwrap();
        assert_eq!(
            (appender.stats().is_unanswered(), appender.stats().is_stuck(), appender.is_over()),
            (false, false, false)
        );
        log.seen.lock().unwrap().clone()
    }

    #[test]
    fn a_log_that_refuses_for_long_is_stuck_until_it_takes_a_record() {
        let stuck = STUCK_ATTEMPTS as usize;
        let seen = seen_with(std::iter::repeat_n(None, stuck + 1));
        assert_eq!((seen[0], seen[1], seen[stuck - 1]), ((false, false), (true, false), (true, false)));
        assert_eq!(seen[stuck..], [(true, true), (true, true)]);
        // A log that has forgotten its end refuses to be healed.
        let forgotten = std::iter::once(Some(Appended::Behind(BEFORE)));
        let seen = seen_with(forgotten.chain(std::iter::repeat_n(None, stuck + 1)));
        assert_eq!(seen[stuck + 1..], [(true, true), (true, true), (false, false)]);
    }
}
