//! The gate: the stream between the peer and hyper.
//!
//! It reports traffic to the timer, replaces hyper's bare errors by problem documents, and lingers on close so that the
//! client can read them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::LINGER_BYTES_MAX;
use super::refusal::RequestRefusal;
use super::timer::{ConnectionPhase, ConnectionTimer};
use crate::engine::network::Conn;

pub(super) struct RefusalGate<'a> {
    conn: Box<dyn Conn>,
    watch: &'a ConnectionTimer,
    /// Makes request ids for answers to unparsable requests.
    ids: &'a (dyn Fn() -> String + Send + Sync),
    /// A byte that was read before hyper started.
    first: Option<u8>,
    refused: Option<LingeringClose>,
    /// Whether the last write was not accepted at once.
    is_blocked: bool,
    is_shut: bool,
    lingered: usize,
}

/// The final response of the gate, and how much of it is written.
struct LingeringClose {
    words: Vec<u8>,
    written: usize,
}

impl<'a> RefusalGate<'a> {
    pub fn new(
        conn: Box<dyn Conn>,
        first: u8,
        watch: &'a ConnectionTimer,
        ids: &'a (dyn Fn() -> String + Send + Sync),
    ) -> Self {
        Self { conn, watch, ids, first: Some(first), refused: None, is_blocked: false, is_shut: false, lingered: 0 }
    }

    /// The connection, after hyper has ended.
    pub fn into_conn(self) -> Box<dyn Conn> {
        self.conn
    }

    /// Ends the connection after this response is flushed.
    pub fn refuse(&mut self, refusal: RequestRefusal, in_place_of: &[u8]) {
        let words = refusal.on_the_wire(&(self.ids)(), in_place_of);
        self.refused = Some(LingeringClose { words, written: 0 });
        self.watch.set_lingers(true);
        self.watch.enter(ConnectionPhase::Reply);
    }

    /// Before the service has answered, hyper writes only if it refuses the request.
    fn intercept(&mut self, bytes: &[u8]) -> bool {
        if self.refused.is_none() && matches!(self.watch.phase(), ConnectionPhase::Head | ConnectionPhase::Idle) {
            let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            let refusal = RequestRefusal::of_hyper(status.unwrap_or(400), self.watch.framing().first_line_bytes());
            self.refuse(refusal, bytes);
        }
        self.refused.is_some()
    }

    /// Records that the peer accepts its response. A slow peer has not stalled.
    fn record_written(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() && self.is_blocked && self.watch.phase() == ConnectionPhase::Reply {
            self.watch.enter(ConnectionPhase::Reply);
        }
        self.is_blocked = written.is_pending();
        written
    }

    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(refused) = &mut self.refused {
            let rest = &refused.words[refused.written..];
            if rest.is_empty() {
                break;
            }
            match ready!(Pin::new(&mut self.conn).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => refused.written += written,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Discards further input until the peer closes or the limit is reached. Closing with unread bytes would reset the
    /// connection, and the client might never see the answer (RFC 9112 section 9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 16 * 1024];
        while self.lingered < LINGER_BYTES_MAX {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.conn).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.lingered += buffer.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for RefusalGate<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(first) = self.first.take() {
            into.put_slice(&[first]);
            self.watch.received_bytes(&[first]);
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut self.conn).poll_read(cx, into))?;
        self.watch.received_bytes(&into.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for RefusalGate<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.intercept(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.conn).poll_write(cx, bytes);
        self.record_written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.intercept(slices.first().map_or(&[], |slice| slice)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let written = Pin::new(&mut self.conn).poll_write_vectored(cx, slices);
        self.record_written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.conn.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_last_words(cx))?;
        ready!(Pin::new(&mut self.conn).poll_flush(cx))?;
        if self.refused.is_none() && self.watch.phase() == ConnectionPhase::Reply {
            self.watch.enter(ConnectionPhase::Idle);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(self.poll_last_words(cx))?;
            ready!(Pin::new(&mut self.conn).poll_shutdown(cx))?;
            self.is_shut = true;
            self.watch.enter(ConnectionPhase::Closing);
        }
        if self.watch.lingers() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
