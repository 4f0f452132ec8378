//! The timer of a connection: its phase, and the deadline of that phase.
//!
//! The stream, the current request and the loop around both share it. All three run in one task, so nothing waits here.
//! The atomics satisfy the compiler, which cannot know that.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant};

use super::ServerLimits;
use super::framing::FramingTracker;
use super::table::ConnectionSlot;

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

const NEVER: u64 = u64::MAX;

pub(super) struct ConnectionTimer {
    limits: ServerLimits,
    born: Instant,
    phase: AtomicU8,
    /// Deadline in milliseconds after `born`.
    deadline_ms: AtomicU64,
    /// The framing of the requests as received. hyper drops the parts that request smuggling relies on.
    framing: Mutex<FramingTracker>,
    lingers: AtomicBool,
    slot: Arc<ConnectionSlot>,
    /// Charge of the answer that is being written.
    answer_bytes: AtomicUsize,
}

impl ConnectionTimer {
    /// A connection whose first head has until `head_by`.
    pub fn new(limits: ServerLimits, head_by: Instant, slot: Arc<ConnectionSlot>) -> Self {
        let born = Instant::now();
        let head_ms = head_by.saturating_duration_since(born).as_millis() as u64;
        Self {
            limits,
            born,
            phase: AtomicU8::new(ConnectionPhase::Head as u8),
            deadline_ms: AtomicU64::new(head_ms),
            framing: Mutex::default(),
            lingers: AtomicBool::new(false),
            slot,
            answer_bytes: AtomicUsize::new(0),
        }
    }

    pub fn slot(&self) -> &Arc<ConnectionSlot> {
        &self.slot
    }

    /// Charges an answer of this length until the connection is idle again.
    pub fn charge_answer(&self, bytes: usize) {
        self.answer_bytes.fetch_add(self.slot.charge_answer(bytes), Ordering::Relaxed);
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
        if phase == ConnectionPhase::Idle {
            self.slot.discharge(self.answer_bytes.swap(0, Ordering::Relaxed));
        }
        self.slot.wait();
        self.deadline_ms.store(until, Ordering::Relaxed);
    }

    /// Leaves little time for the rest of a head, because the server stops. A request that is complete keeps its time.
    pub fn shorten_head(&self) {
        if self.phase() == ConnectionPhase::Head {
            let until = (self.born.elapsed() + self.limits.head_at_stop).as_millis() as u64;
            self.deadline_ms.fetch_min(until, Ordering::Relaxed);
        }
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

    /// Records received bytes.
    pub fn received_bytes(&self, bytes: &[u8]) {
        if self.phase() == ConnectionPhase::Idle {
            self.enter(ConnectionPhase::Head);
        }
        self.framing().received_bytes(bytes);
    }

    /// The framing of the received requests. Over HTTP/2 it has none.
    pub fn framing(&self) -> MutexGuard<'_, FramingTracker> {
        self.framing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the peer is given time to read its answer before the connection is closed, because it may still send.
    pub fn set_lingers(&self, lingers: bool) {
        self.lingers.store(lingers, Ordering::Relaxed);
    }

    pub fn lingers(&self) -> bool {
        self.lingers.load(Ordering::Relaxed)
    }
}
