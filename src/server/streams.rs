//! The streams of an HTTP/2 connection: their tasks, deadlines and answers.
//!
//! Invariants: every task ends with its connection. A stream ends `STREAM_MAX` after its head, and sooner if its peer
//! accepts nothing of the answer for `reply_stall`.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::table::ConnectionSlot;

/// Maximum time from the head of a request to the first byte of its answer. It exceeds the longest call, a test of a
/// webhook.
const STREAM_MAX: Duration = Duration::from_secs(300);
/// Bytes of an answer that are handed over at once, so that the progress of the peer is seen.
const PIECE_BYTES: usize = 16 * 1024;
/// Maximum concurrent requests of one connection without a valid key.
pub(super) const STRANGER_STREAMS_MAX: usize = 8;
/// Memory of a stream, besides its answer.
const STREAM_BYTES: usize = 24 * 1024;

tokio::task_local! {
    /// The deadline of the stream that the current task serves.
    static DEADLINE: Arc<StreamDeadline>;
}

/// The streams of one connection. Their tasks end when the last clone is dropped with the connection.
#[derive(Clone, Default)]
pub(super) struct Http2Streams {
    running: Arc<Mutex<JoinSet<()>>>,
    /// Number of requests so far.
    begun: Arc<AtomicU64>,
    /// Open streams of requests without a valid key.
    strangers: Arc<AtomicUsize>,
}

impl Http2Streams {
    /// Number of open streams.
    pub fn open(&self) -> usize {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.len()
    }

    /// Number of requests so far.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Counts a request that has begun.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one of the places of streams without a valid key. `None` if none is free.
    pub fn take_place(&self, slot: &Arc<ConnectionSlot>) -> Option<StrangerPlace> {
        if self.strangers.fetch_add(1, Ordering::Relaxed) >= STRANGER_STREAMS_MAX {
            self.strangers.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        slot.charge(STREAM_BYTES);
        Some(StrangerPlace { strangers: self.strangers.clone(), slot: slot.clone() })
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Http2Streams {
    fn execute(&self, stream: F) {
        let deadline = Arc::new(StreamDeadline(Mutex::new(Instant::now() + STREAM_MAX)));
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(DEADLINE.scope(deadline.clone(), until(deadline, stream)));
    }
}

/// Runs a stream until its deadline, which moves. Dropping the stream resets it.
async fn until(deadline: Arc<StreamDeadline>, stream: impl Future<Output = ()>) {
    let (mut stream, mut alarm) = (pin!(stream), pin!(sleep_until(deadline.get())));
    std::future::poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let by = deadline.get();
            if by != alarm.deadline() {
                alarm.as_mut().reset(by);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if by <= Instant::now() {
                return Poll::Ready(());
            }
        }
    })
    .await;
}

/// The time at which a stream is given up.
struct StreamDeadline(Mutex<Instant>);

impl StreamDeadline {
    fn get(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, by: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = by;
    }
}

/// A request without a valid key. Dropping it frees its place.
pub(super) struct StrangerPlace {
    strangers: Arc<AtomicUsize>,
    slot: Arc<ConnectionSlot>,
}

impl Drop for StrangerPlace {
    fn drop(&mut self) {
        self.strangers.fetch_sub(1, Ordering::Relaxed);
        self.slot.discharge(STREAM_BYTES);
    }
}

/// The body of an answer, handed over in pieces. Each piece that the peer has room for moves the stream's deadline.
pub(super) struct AnswerBody {
    rest: Bytes,
    charged: usize,
    reply_stall: Duration,
    slot: Arc<ConnectionSlot>,
    deadline: Option<Arc<StreamDeadline>>,
    /// The place that the answer takes until it is handed over. `None` if a valid key was shown.
    _place: Option<StrangerPlace>,
}

impl AnswerBody {
    /// An answer of the current task's stream.
    pub fn new(body: Bytes, reply_stall: Duration, slot: Arc<ConnectionSlot>, place: Option<StrangerPlace>) -> Self {
        let deadline = DEADLINE.try_with(Clone::clone).ok();
        let charged = slot.charge_answer(body.len());
        let answer = AnswerBody { rest: body, charged, reply_stall, slot, deadline, _place: place };
        answer.progressed();
        answer
    }

    fn progressed(&self) {
        if let Some(deadline) = &self.deadline {
            deadline.set(Instant::now() + self.reply_stall);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        self.progressed();
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        self.slot.queue(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.slot.discharge(self.charged);
    }
}
