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

use super::draft::Draft;
use super::journal;
use super::reads::Store;
use crate::model::Time;

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
pub struct Point {
    /// Counts commits.
    pub number: u64,
    /// When the batch of the commit was begun, by the writer's clock, which may be set back.
    pub at: Time,
}

/// What one commit wrote to one file.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    pub point: Point,
    /// Below the data directory.
    pub file: String,
    pub changes: journal::Record,
}

impl Record {
    fn encode(point: Point, file: &str, draft: &Draft) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&point.number.to_le_bytes());
        bytes.extend_from_slice(&point.at.0.to_le_bytes());
        bytes.extend_from_slice(&(file.len() as u16).to_le_bytes());
        bytes.extend_from_slice(file.as_bytes());
        journal::encode_changes(&draft.changes(), &mut bytes);
        bytes
    }

    /// None: these are not the bytes of a record.
    pub fn decode(bytes: &[u8]) -> Option<Record> {
        let point = point_of(bytes)?;
        let (name_bytes, rest) = bytes[POINT_BYTES..].split_first_chunk::<2>()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*name_bytes)))?;
        let file = std::str::from_utf8(name).ok()?.to_owned();
        Some(Record { point, file, changes: journal::decode_changes(rest)? })
    }
}

/// The point of a record's bytes; none: they are too few.
pub fn point_of(record: &[u8]) -> Option<Point> {
    let (number, rest) = record.split_first_chunk::<8>()?;
    let at = rest.first_chunk::<8>()?;
    Some(Point { number: u64::from_le_bytes(*number), at: Time(i64::from_le_bytes(*at)) })
}

/// Gives a record's bytes another number.
pub fn renumber(record: &mut [u8], number: u64) {
    if let Some(first) = record.first_chunk_mut::<8>() {
        *first = number.to_le_bytes();
    }
}

/// Whether commits wait for a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Never: it may be behind by what waits for it.
    Free,
    /// Each waits until the one before is confirmed.
    Close,
}

/// Why a follower gets nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// More waited for it than may, or a commit waited for it for too long.
    Slow,
    /// A commit failed, and may be there all the same.
    Uncertain,
    /// The writer has ended; everything that it committed was handed out before.
    Stopped,
    /// It wants nothing more.
    Left,
}

impl Cut {
    pub fn words(self) -> &'static str {
        match self {
            Cut::Slow => "more waited for it than may, or it confirmed nothing for too long",
            Cut::Uncertain => "a commit failed, and nobody knows whether it is there all the same",
            Cut::Stopped => "the daemon has stopped",
            Cut::Left => "it has gone",
        }
    }
}

/// How those who follow are doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Levels {
    pub followers: usize,
    /// What waits for the one that is furthest behind, in bytes.
    pub queued_bytes: usize,
    /// Cut off since the start: too slow, or after a commit that failed.
    pub cut: u64,
}

/// All who follow a store.
#[derive(Debug, Default)]
pub struct Following {
    is_followed: AtomicBool,
    /// The number of the last commit that was begun while somebody followed.
    begun: AtomicU64,
    cut: AtomicU64,
    lines: Mutex<Vec<Arc<Line>>>,
}

/// A commit that somebody is told of once it is durable.
#[derive(Debug)]
pub(super) struct Begun {
    number: u64,
    record: Vec<u8>,
}

impl Following {
    /// To be called before a commit can be seen by anybody. None: nobody follows.
    pub(super) fn begin(&self, file: &str, at: Time, draft: &Draft) -> Option<Begun> {
        if !self.is_followed.load(Ordering::Acquire) {
            return None;
        }
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        Some(Begun { number, record: Record::encode(Point { number, at }, file, draft) })
    }

    /// Tells of a commit that has become durable; of one that failed nobody knows what it left.
    pub(super) fn end(&self, begun: Option<Begun>, is_durable: bool) {
        let Some(Begun { number, record }) = begun else { return };
        if !is_durable {
            return self.cut_all(Cut::Uncertain);
        }
        let record: Arc<[u8]> = record.into();
        // Not held while waiting: whoever goes wants it.
        let lines = self.lines().clone();
        for line in lines.iter().filter(|line| line.from < number) {
            self.count_cut(line.push(record.clone()));
        }
        for line in lines.iter().filter(|line| line.from < number && line.pace == Pace::Close) {
            self.count_cut(line.wait_for(number - 1, CONFIRM_WAIT_MAX));
        }
    }

    /// The number of the last commit that was begun: none that can be seen now has a greater one.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    pub fn levels(&self) -> Levels {
        let lines = self.lines();
        let queued_bytes = lines.iter().map(|line| line.waiting().bytes).max().unwrap_or(0);
        Levels { followers: lines.len(), queued_bytes, cut: self.cut.load(Ordering::Relaxed) }
    }

    fn cut_all(&self, cut: Cut) {
        for line in self.lines().iter() {
            self.count_cut(line.cut(cut));
        }
    }

    fn count_cut(&self, was_cut: bool) {
        self.cut.fetch_add(u64::from(was_cut), Ordering::Relaxed);
    }

    fn add(self: &Arc<Following>, at: Time, pace: Pace) -> Option<Follower> {
        let mut lines = self.lines();
        if lines.len() >= FOLLOWERS_MAX {
            return None;
        }
        let from = self.begun();
        let waiting = Mutex::new(Waiting { confirmed: from, ..Waiting::default() });
        let line = Arc::new(Line { from, pace, waiting, arrived: Condvar::new(), confirmed: Condvar::new() });
        lines.push(line.clone());
        self.is_followed.store(true, Ordering::Release);
        Some(Follower { from: Point { number: line.from, at }, line, following: self.clone() })
    }

    fn remove(&self, line: &Arc<Line>) {
        let mut lines = self.lines();
        lines.retain(|other| !Arc::ptr_eq(other, line));
        self.is_followed.store(!lines.is_empty(), Ordering::Release);
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Arc<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's part: when it goes, those who follow are told after all that it committed.
#[derive(Debug)]
pub(super) struct Telling(pub Arc<Following>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.cut_all(Cut::Stopped);
    }
}

/// What waits for one follower.
#[derive(Debug)]
struct Line {
    /// Commits up to this one are none of its.
    from: u64,
    pace: Pace,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    confirmed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Arc<[u8]>>,
    bytes: usize,
    cut: Option<Cut>,
    /// The last commit that it has safe.
    confirmed: u64,
}

impl Line {
    /// Whether it was cut off by this.
    fn push(&self, record: Arc<[u8]>) -> bool {
        let mut waiting = self.waiting();
        if waiting.cut.is_some() {
            return false;
        }
        if waiting.bytes > 0 && waiting.bytes + record.len() > QUEUE_BYTES_MAX {
            drop(waiting);
            return self.cut(Cut::Slow);
        }
        waiting.bytes += record.len();
        waiting.records.push_back(record);
        self.arrived.notify_one();
        false
    }

    /// Waits until it has confirmed a commit. Whether it was cut off because that took too long.
    fn wait_for(&self, number: u64, wait: Duration) -> bool {
        let lacks = |waiting: &mut Waiting| waiting.confirmed < number && waiting.cut.is_none();
        let waited = self.confirmed.wait_timeout_while(self.waiting(), wait, lacks);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_late = lacks(&mut waiting);
        drop(waiting);
        is_late && self.cut(Cut::Slow)
    }

    /// Whether it counts as one that was cut off.
    fn cut(&self, cut: Cut) -> bool {
        let mut waiting = self.waiting();
        if waiting.cut.is_some() {
            return false;
        }
        waiting.cut = Some(cut);
        if cut == Cut::Slow {
            // It begins anew anyway, and the memory is wanted.
            (waiting.records, waiting.bytes) = (VecDeque::new(), 0);
        }
        self.arrived.notify_one();
        self.confirmed.notify_all();
        matches!(cut, Cut::Slow | Cut::Uncertain)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who follows, until this is dropped.
#[derive(Debug)]
pub struct Follower {
    line: Arc<Line>,
    from: Point,
    following: Arc<Following>,
}

/// What there is for a follower.
#[derive(Debug)]
pub enum Taken {
    /// The next records, oldest first; none came in the time if there are none.
    Records(Vec<Arc<[u8]>>),
    /// Nothing more comes.
    Over(Cut),
}

impl Follower {
    /// The last commit that it is not told of: a copy of the store taken from now on has it.
    pub fn from(&self) -> Point {
        self.from
    }

    /// Whether it gets nothing more, what still waits included: it begins anew.
    pub fn is_given_up(&self) -> bool {
        matches!(self.line.waiting().cut, Some(Cut::Slow | Cut::Uncertain | Cut::Left))
    }

    /// Says that a commit and all before it are safe.
    pub fn confirm(&self, number: u64) {
        let mut waiting = self.line.waiting();
        waiting.confirmed = waiting.confirmed.max(number);
        self.line.confirmed.notify_all();
    }

    /// Says that it wants nothing more.
    pub fn leave(&self) {
        self.line.cut(Cut::Left);
    }

    /// Takes what waits, and waits for something for so long.
    pub fn take(&self, wait: Duration) -> Taken {
        let waiting = self.line.waiting();
        let idle = |waiting: &mut Waiting| waiting.records.is_empty() && waiting.cut.is_none();
        let waited = self.line.arrived.wait_timeout_while(waiting, wait, idle);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match waiting.cut {
            Some(cut) if waiting.records.is_empty() => Taken::Over(cut),
            _ => {
                waiting.bytes = 0;
                Taken::Records(std::mem::take(&mut waiting.records).into())
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.leave();
        self.following.remove(&self.line);
    }
}

impl Store {
    /// Follows what is committed from now on; `now` is the time of that. None: as many as may follow already.
    pub fn follow(&self, now: Time, pace: Pace) -> Option<Follower> {
        self.shelf.following.add(now, pace)
    }

    /// How those who follow are doing.
    pub fn followers(&self) -> Levels {
        self.shelf.following.levels()
    }
}
