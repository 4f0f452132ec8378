//! The timer of a connection: its phase, and the deadline of that phase.
//!
//! The stream, the current request and the loop around both share it. All three run in one task, so nothing waits here.
//! The atomics satisfy the compiler, which cannot know that.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant};

use super::{ServerLimits, TARGET_BYTES_MAX};

/// The phase of a connection, named after the event that it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ConnectionPhase {
    /// The rest of a head.
    Head = 0,
    /// The rest of a body.
    Body = 1,
    /// A body that is discarded, so that the connection can be used again after a refusal.
    Discard = 2,
    /// The service, which has its own deadlines.
    Call = 3,
    /// The peer's reading of its answer.
    Reply = 4,
    /// The first byte of the next request.
    Idle = 5,
    /// The peer's reading of its refusal.
    Closing = 6,
}

/// Maximum bytes of a head that are stored for the framing check: more than the longest accepted first line.
const HEAD_KEPT_BYTES_MAX: usize = 2 * TARGET_BYTES_MAX;
/// Maximum memory that a connection reserves for its next head.
const HEAD_HELD_BYTES_MAX: usize = 2 * 1024;

const NEVER: u64 = u64::MAX;

pub(super) struct ConnectionTimer {
    limits: ServerLimits,
    born: Instant,
    phase: AtomicU8,
    /// Deadline in milliseconds after `born`.
    deadline_ms: AtomicU64,
    /// The received bytes of the current head. hyper drops the parts that request smuggling relies on.
    head: Mutex<Vec<u8>>,
    lingers: AtomicBool,
}

impl ConnectionTimer {
    /// A connection whose first head has until `head_by`.
    pub fn new(limits: ServerLimits, head_by: Instant) -> Self {
        let born = Instant::now();
        let head_ms = head_by.saturating_duration_since(born).as_millis() as u64;
        Self {
            limits,
            born,
            phase: AtomicU8::new(ConnectionPhase::Head as u8),
            deadline_ms: AtomicU64::new(head_ms),
            head: Mutex::default(),
            lingers: AtomicBool::new(false),
        }
    }

    pub fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    pub fn phase(&self) -> ConnectionPhase {
        match self.phase.load(Ordering::Relaxed) {
            0 => ConnectionPhase::Head,
            1 => ConnectionPhase::Body,
            2 => ConnectionPhase::Discard,
            3 => ConnectionPhase::Call,
            4 => ConnectionPhase::Reply,
            5 => ConnectionPhase::Idle,
            _ => ConnectionPhase::Closing,
        }
    }

    /// Begins a phase. A repeated phase gets a new deadline.
    pub fn enter(&self, phase: ConnectionPhase) {
        let patience = match phase {
            ConnectionPhase::Head => Some(self.limits.head_read),
            ConnectionPhase::Body => Some(self.limits.body_read),
            ConnectionPhase::Call => None,
            ConnectionPhase::Reply => Some(self.limits.reply_stall),
            ConnectionPhase::Idle => Some(self.limits.idle),
            ConnectionPhase::Discard | ConnectionPhase::Closing => Some(self.limits.linger),
        };
        let until = patience.map_or(NEVER, |patience| (self.born.elapsed() + patience).as_millis() as u64);
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.deadline_ms.store(until, Ordering::Relaxed);
    }

    /// The deadline of the phase. `None` while the service works.
    pub fn deadline(&self) -> Option<Instant> {
        match self.deadline_ms.load(Ordering::Relaxed) {
            NEVER => None,
            ms => Some(self.born + Duration::from_millis(ms)),
        }
    }

    pub fn is_overdue(&self) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Records received bytes. Those of a head are stored until it is checked.
    pub fn heard(&self, bytes: &[u8]) {
        match self.phase() {
            ConnectionPhase::Idle => self.enter(ConnectionPhase::Head),
            ConnectionPhase::Head => {}
            _ => return,
        }
        let mut head = self.head();
        let room = HEAD_KEPT_BYTES_MAX.saturating_sub(head.len());
        head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The received bytes of the current head, perhaps with later bytes after it. Empty if they arrived together with
    /// the previous request.
    pub fn head(&self) -> MutexGuard<'_, Vec<u8>> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the bytes of the checked head. The next bytes belong to another.
    pub fn forget_head(&self) {
        let mut head = self.head();
        if head.capacity() > HEAD_HELD_BYTES_MAX { *head = Vec::new() } else { head.clear() }
    }

    /// Whether the peer is given time to read its answer before the connection is closed, because it may still send.
    pub fn set_lingers(&self, lingers: bool) {
        self.lingers.store(lingers, Ordering::Relaxed);
    }

    pub fn lingers(&self) -> bool {
        self.lingers.load(Ordering::Relaxed)
    }
}
