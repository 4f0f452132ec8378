//! The bytes of a response that were received and not yet used.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Length of a buffer at rest. A head that needs more is rare.
const RESTING_BYTES: usize = 4 * 1024;

/// A buffer that grows for a long head, and is given back after it.
#[derive(Default)]
pub(in crate::engine) struct ReceiveBuffer {
    bytes: Vec<u8>,
    /// The unused bytes are `bytes[start..end]`.
    start: usize,
    end: usize,
}

impl ReceiveBuffer {
    /// The received bytes that are not used yet.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Marks the first `count` unread bytes as used.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads once from `stream`. Returns the number of bytes, 0 at the end of the stream.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: Pin<&mut (impl AsyncRead + ?Sized)>,
    ) -> Poll<io::Result<usize>> {
        if self.end == self.bytes.len() {
            self.make_room();
        }
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(stream.poll_read(cx, &mut room))?;
        let count = room.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }

    /// Gives the memory of a long head back.
    pub fn shrink(&mut self) {
        if self.bytes.len() > RESTING_BYTES && self.unread().is_empty() {
            *self = Self::default();
        }
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else {
            self.bytes.resize((2 * self.bytes.len()).max(RESTING_BYTES), 0);
        }
    }
}
