//! Reads a request's body piece by piece. It counts the bytes and waits no longer than the timer allows.

use std::pin::Pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming};

use super::DISCARDED_BYTES_MAX;
use super::refusal::RequestRefusal;
use super::table::BodyMemory;
use super::timer::{ConnectionPhase, ConnectionTimer};

pub(super) struct BodyPieces<'a> {
    body: Incoming,
    watch: &'a ConnectionTimer,
    is_over: bool,
    /// The memory of the read bytes, until the request is answered.
    memory: BodyMemory,
}

impl<'a> BodyPieces<'a> {
    pub fn new(body: Incoming, watch: &'a ConnectionTimer) -> Self {
        Self { is_over: body.is_end_stream(), body, watch, memory: watch.slot().count_body() }
    }

    /// Whether the last byte was read, so that the connection can carry another request.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The whole body, of at most `bytes_max`. A body in one piece is not copied.
    pub async fn read(&mut self, bytes_max: usize) -> Result<Bytes, RequestRefusal> {
        if self.is_over {
            return Ok(Bytes::new());
        }
        let announced = self.body.size_hint().exact();
        if announced.is_some_and(|length| length > bytes_max as u64) {
            return Err(RequestRefusal::BodyTooLarge(bytes_max));
        }
        let Some(first) = self.next_within(0, bytes_max).await? else { return self.ended(Bytes::new()) };
        let Some(second) = self.next_within(first.len(), bytes_max).await? else { return self.ended(first) };
        let mut whole = BytesMut::with_capacity(announced.map_or(2 * first.len(), |length| length as usize));
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        while let Some(piece) = self.next_within(whole.len(), bytes_max).await? {
            whole.extend_from_slice(&piece);
        }
        self.ended(whole.freeze())
    }

    /// Discards the body if that is quick, so that the connection can be used again after a refusal. The error is a
    /// body that breaks its own framing, which takes precedence over the refusal.
    pub async fn discard(&mut self) -> Result<(), RequestRefusal> {
        if self.is_over {
            return Ok(());
        }
        self.watch.enter(ConnectionPhase::Discard);
        let mut discarded = 0;
        while discarded < DISCARDED_BYTES_MAX {
            match self.next().await {
                Ok(Some(piece)) => discarded += piece.len(),
                Err(malformed @ RequestRefusal::Malformed(_)) => return Err(malformed),
                Ok(None) | Err(_) => break,
            }
        }
        Ok(())
    }

    fn ended(&self, whole: Bytes) -> Result<Bytes, RequestRefusal> {
        self.watch.enter(ConnectionPhase::Call);
        Ok(whole)
    }

    async fn next_within(&mut self, read: usize, bytes_max: usize) -> Result<Option<Bytes>, RequestRefusal> {
        match self.next().await? {
            Some(piece) if read + piece.len() > bytes_max => Err(RequestRefusal::BodyTooLarge(bytes_max)),
            piece => {
                self.memory.grow(piece.as_ref().map_or(0, Bytes::len)).map_err(|()| RequestRefusal::Overloaded)?;
                Ok(piece)
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, RequestRefusal> {
        while !self.body.is_end_stream() {
            // The loop around the connection polls again when the deadline has passed.
            let frame = std::future::poll_fn(|cx| match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending if self.watch.is_overdue() => Poll::Ready(Err(RequestRefusal::BodyLate)),
                frame => frame.map(Ok),
            });
            match frame.await? {
                None => break,
                Some(Err(_)) => return Err(RequestRefusal::Malformed("the body does not end as announced")),
                Some(Ok(frame)) => {
                    // Other frames are trailers, which are ignored.
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
            }
        }
        self.is_over = true;
        Ok(None)
    }
}
