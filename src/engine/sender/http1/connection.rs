//! One connection to a receiver: sends a request, and reads the response to it.
//!
//! The current request drives its connection. There is no task per connection, so a response costs one wake-up, and an
//! abandoned request closes its connection. An idle connection is checked when it is reused and at each pool sweep.
//!
//! Invariant: the connection is idle only if the request was written and the response was read to their last bytes, and
//! no byte follows.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use memchr::memmem;

use crate::engine::network::Conn;
use crate::engine::sender::http1::buffer::ReceiveBuffer;
use crate::engine::sender::http1::response_body::{BodyReader, ResponseEnd};
use crate::engine::sender::http1::response_head::{BodyFraming, FramedHead, HeadProgress, ResponseFault, read_head};
use crate::engine::sender::http1::wire::Wire;
use crate::engine::sender::limits::INTERIM_ANSWERS_MAX;

/// Length up to which a head is read after each piece. A longer head is read when it is whole.
const HEAD_PIECE_BYTES_MAX: usize = 4 * 1024;

/// The failure of an exchange on an open connection.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine) enum ExchangeError {
    #[error("the connection was closed before the response was whole")]
    Ended,
    #[error("{0}")]
    Io(#[source] io::Error),
    #[error(transparent)]
    Fault(#[from] ResponseFault),
}

/// A connection on which one request at a time can be sent.
pub(in crate::engine) struct HttpConnection {
    wire: Wire,
    /// The head of the current request.
    head: Vec<u8>,
    /// The body of the current request.
    body: Bytes,
    /// Number of bytes of head and body that are written.
    written: usize,
    is_flushed: bool,
    /// The error that ended the writing. The receiver may have answered before.
    write_error: Option<io::Error>,
    received: ReceiveBuffer,
    is_idle: bool,
    /// The checked address that it is connected to.
    pub remote: SocketAddr,
}

impl HttpConnection {
    /// A connection over an open stream.
    pub fn over(wire: Wire, remote: SocketAddr) -> Self {
        Self {
            wire,
            head: Vec::new(),
            body: Bytes::new(),
            written: 0,
            is_flushed: true,
            write_error: None,
            received: ReceiveBuffer::default(),
            is_idle: true,
            remote,
        }
    }

    /// Sends a request, and reads the head of the final response. `write_head` appends the request's head.
    ///
    /// Errors: the receiver answered nothing that can be read. `wrote` says whether it can have seen the request.
    pub async fn ask(
        &mut self,
        body: Bytes,
        head_bytes_max: usize,
        write_head: impl FnOnce(&mut Vec<u8>),
    ) -> Result<FramedHead, ExchangeError> {
        self.head.clear();
        write_head(&mut self.head);
        (self.body, self.written, self.is_flushed) = (body, 0, false);
        self.wire.forget_writes();
        self.is_idle = false;
        let mut interim = 0;
        // The receiver may have closed the connection, or have sent bytes that answer no request.
        let mut is_quiet = false;
        poll_fn(|cx| {
            if !is_quiet {
                match self.received.poll_fill(cx, self.wire.stream()) {
                    Poll::Pending => is_quiet = true,
                    Poll::Ready(Err(why)) => return Poll::Ready(Err(ExchangeError::Io(why))),
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(ExchangeError::Ended)),
                    Poll::Ready(Ok(_)) => return Poll::Ready(Err(ResponseFault::Unasked.into())),
                }
            }
            self.poll_write(cx);
            self.poll_head(cx, head_bytes_max, &mut interim)
        })
        .await
    }

    /// Reads the body of the response into `stored`. The connection is idle then if it can carry another request, which
    /// `keeps_open` says of the receiver.
    pub async fn read_body(
        &mut self,
        framing: BodyFraming,
        keeps_open: bool,
        stored: &mut Vec<u8>,
    ) -> Result<ResponseEnd, ExchangeError> {
        let mut reader = BodyReader::new(framing);
        stored.reserve_exact(reader.expected());
        let end = poll_fn(|cx| {
            self.poll_write(cx);
            self.poll_body(cx, &mut reader, stored)
        })
        .await?;
        let is_sent = self.is_flushed && self.write_error.is_none();
        self.is_idle = end == ResponseEnd::Whole && keeps_open && is_sent && self.received.unread().is_empty();
        self.body = Bytes::new();
        self.received.shrink();
        Ok(end)
    }

    /// Whether any byte of the last request reached the socket. If not, the receiver cannot have seen it.
    pub fn wrote(&self) -> bool {
        self.wire.wrote()
    }

    /// Whether the connection can carry another request, as of the end of the last one.
    pub fn is_idle(&self) -> bool {
        self.is_idle
    }

    /// Whether an idle connection is still open and silent. No task waits for it, so `cx` may be any.
    pub fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        self.received.poll_fill(cx, self.wire.stream()).is_pending()
    }

    /// The stream, for another protocol. `None` if bytes were received that the response did not use.
    pub fn into_conn(self) -> Option<Box<dyn Conn>> {
        self.received.unread().is_empty().then(|| self.wire.into_conn())
    }

    /// Writes the rest of the request until the socket would block. An error is stored: the receiver may have answered
    /// before it closed its end.
    fn poll_write(&mut self, cx: &mut Context<'_>) {
        while !self.is_flushed && self.write_error.is_none() {
            let in_head = self.written.min(self.head.len());
            let slices =
                [io::IoSlice::new(&self.head[in_head..]), io::IoSlice::new(&self.body[self.written - in_head..])];
            let written = if slices.iter().all(|slice| slice.is_empty()) {
                self.wire.stream().poll_flush(cx).map_ok(|()| {
                    self.is_flushed = true;
                    0
                })
            } else {
                let written = self.wire.stream().poll_write_vectored(cx, &slices);
                written.map(|written| {
                    written.and_then(|count| if count > 0 { Ok(count) } else { Err(io::ErrorKind::WriteZero.into()) })
                })
            };
            match written {
                Poll::Pending => return,
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(why)) => self.write_error = Some(why),
            }
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head_bytes_max: usize,
        interim: &mut usize,
    ) -> Poll<Result<FramedHead, ExchangeError>> {
        if !self.wire.wrote()
            && let Some(why) = self.write_error.take()
        {
            return Poll::Ready(Err(ExchangeError::Io(why)));
        }
        loop {
            let before = self.received.unread().len();
            match self.received.poll_fill(cx, self.wire.stream()) {
                Poll::Pending => {
                    return self
                        .write_error
                        .take()
                        .map_or(Poll::Pending, |why| Poll::Ready(Err(ExchangeError::Io(why))));
                }
                Poll::Ready(Err(why)) => return Poll::Ready(Err(ExchangeError::Io(why))),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ExchangeError::Ended)),
                Poll::Ready(Ok(_)) => {}
            }
            if let Some(head) = self.read_head_so_far(before, head_bytes_max, interim)? {
                return Poll::Ready(Ok(head));
            }
        }
    }

    /// The final head among the received bytes. Interim ones are skipped. `before` is the number of bytes that were
    /// read before.
    fn read_head_so_far(
        &mut self,
        mut before: usize,
        head_bytes_max: usize,
        interim: &mut usize,
    ) -> Result<Option<FramedHead>, ResponseFault> {
        loop {
            let bytes = self.received.unread();
            // A head ends with an empty line, of which three bytes may have come before.
            let fresh = &bytes[before.saturating_sub(3)..];
            let is_read = bytes.len() <= HEAD_PIECE_BYTES_MAX
                || memmem::find(fresh, b"\n\r\n").is_some()
                || memmem::find(fresh, b"\n\n").is_some();
            let progress = if is_read { read_head(bytes)? } else { HeadProgress::Partial };
            let length = match &progress {
                HeadProgress::Partial => bytes.len(),
                HeadProgress::Interim(length) | HeadProgress::Final(length, _) => *length,
            };
            if length > head_bytes_max {
                return Err(ResponseFault::HeadTooLong(head_bytes_max));
            }
            match progress {
                HeadProgress::Partial => return Ok(None),
                HeadProgress::Interim(_) => {
                    *interim += 1;
                    if *interim > INTERIM_ANSWERS_MAX {
                        return Err(ResponseFault::TooManyInterimAnswers);
                    }
                    before = 0;
                    self.received.consume(length);
                    if self.received.unread().is_empty() {
                        return Ok(None);
                    }
                }
                HeadProgress::Final(_, head) => {
                    self.received.consume(length);
                    return Ok(Some(*head));
                }
            }
        }
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut BodyReader,
        stored: &mut Vec<u8>,
    ) -> Poll<Result<ResponseEnd, ExchangeError>> {
        loop {
            let mut bytes = self.received.unread();
            let before = bytes.len();
            let end = reader.read(&mut bytes, stored)?;
            let used = before - bytes.len();
            self.received.consume(used);
            if let Some(end) = end {
                return Poll::Ready(Ok(end));
            }
            match ready!(self.received.poll_fill(cx, self.wire.stream())) {
                Ok(0) => return Poll::Ready(reader.at_close().ok_or(ExchangeError::Ended)),
                Ok(_) => {}
                // TLS that ends without close_notify.
                Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(reader.at_close().ok_or(ExchangeError::Io(why)));
                }
                Err(why) => return Poll::Ready(Err(ExchangeError::Io(why))),
            }
        }
    }
}
