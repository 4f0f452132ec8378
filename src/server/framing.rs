//! The framing of a connection's requests as it was received (RFC 9112 sections 6 and 7.1).
//!
//! hyper uses `Transfer-Encoding` alone and drops a `Content-Length` beside it. Both together are the sign of a
//! smuggled request. So this tracker follows all received bytes from message to message, and records for each head
//! whether it has both.
//!
//! Invariant: once the end of a message is in doubt, every later head counts as having both.

use std::collections::VecDeque;

use memchr::memchr;

/// Maximum bytes of a line that are stored: enough for the fields that frame a message.
const LINE_STORED_BYTES_MAX: usize = 64;

/// Follows the messages of one connection.
#[derive(Default)]
pub(super) struct FramingTracker {
    at: FramingPosition,
    /// The beginning of the current line.
    line: Vec<u8>,
    line_bytes: usize,
    /// Length of the last head's first line, or of its received part.
    first_line_bytes: usize,
    head: HeadFraming,
    /// Whether each head that is whole and not checked yet has both fields.
    heads: VecDeque<bool>,
}

/// The fields of a head that frame its body.
#[derive(Default)]
struct HeadFraming {
    has_length: bool,
    /// `None` if a length cannot be read, or if two differ.
    length: Option<u64>,
    has_encoding: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum FramingPosition {
    #[default]
    FirstLine,
    Fields,
    /// Bytes that are left of a body.
    Body(u64),
    ChunkSize,
    /// Bytes that are left of a chunk, with its line end.
    Chunk(u64),
    Trailers,
    /// The end of the message is in doubt.
    Lost,
}

impl FramingTracker {
    /// Follows received bytes.
    pub fn received_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.at {
                FramingPosition::Body(left) => {
                    self.skip(bytes, left, FramingPosition::FirstLine, FramingPosition::Body)
                }
                FramingPosition::Chunk(left) => {
                    self.skip(bytes, left, FramingPosition::ChunkSize, FramingPosition::Chunk)
                }
                FramingPosition::Lost => return,
                _ => self.read_line(bytes),
            };
        }
    }

    /// Whether the oldest head that was not checked yet has both fields. Each call consumes one head.
    pub fn next_has_both(&mut self) -> bool {
        self.heads.pop_front().unwrap_or(true)
    }

    /// Length of the last head's first line, or of its received part.
    pub fn first_line_bytes(&self) -> usize {
        self.first_line_bytes
    }

    fn skip<'a>(
        &mut self,
        bytes: &'a [u8],
        left: u64,
        then: FramingPosition,
        rest: fn(u64) -> FramingPosition,
    ) -> &'a [u8] {
        let skipped = left.min(bytes.len() as u64);
        self.at = if skipped == left { then } else { rest(left - skipped) };
        &bytes[skipped as usize..]
    }

    fn read_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = memchr(b'\n', bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let room = LINE_STORED_BYTES_MAX.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        self.line_bytes += part.len();
        if self.at == FramingPosition::FirstLine && self.line_bytes > 0 {
            self.first_line_bytes = self.line_bytes;
        }
        let Some(end) = end else { return &[] };
        let line = std::mem::take(&mut self.line);
        self.at = self.after(line.trim_ascii_end());
        self.line_bytes = 0;
        self.line = line;
        self.line.clear();
        &bytes[end + 1..]
    }

    /// The position after a line.
    fn after(&mut self, line: &[u8]) -> FramingPosition {
        let is_empty = line.is_empty() && self.line_bytes <= 1;
        match self.at {
            // Empty lines before a request are ignored (RFC 9112 section 2.2).
            FramingPosition::FirstLine if is_empty => FramingPosition::FirstLine,
            FramingPosition::FirstLine => {
                self.head = HeadFraming::default();
                FramingPosition::Fields
            }
            FramingPosition::Fields if is_empty => self.after_head(),
            FramingPosition::Fields => {
                self.head.read(line, self.line_bytes > LINE_STORED_BYTES_MAX);
                FramingPosition::Fields
            }
            FramingPosition::ChunkSize => match chunk_size(line) {
                Some(0) => FramingPosition::Trailers,
                Some(size) => FramingPosition::Chunk(size + 2),
                None => FramingPosition::Lost,
            },
            FramingPosition::Trailers if is_empty => FramingPosition::FirstLine,
            at => at,
        }
    }

    fn after_head(&mut self) -> FramingPosition {
        let HeadFraming { has_length, length, has_encoding } = self.head;
        self.heads.push_back(has_length && has_encoding);
        match (has_encoding, has_length, length) {
            (true, ..) => FramingPosition::ChunkSize,
            (false, false, _) | (false, true, Some(0)) => FramingPosition::FirstLine,
            (false, true, Some(length)) => FramingPosition::Body(length),
            (false, true, None) => FramingPosition::Lost,
        }
    }
}

impl HeadFraming {
    /// Reads a field line. A line that `is_cut` is not whole.
    fn read(&mut self, line: &[u8], is_cut: bool) {
        let Some(colon) = memchr(b':', line) else { return };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.has_encoding = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let read = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).filter(|_| !is_cut);
            self.length = if self.has_length && self.length != read { None } else { read };
            self.has_length = true;
        }
    }
}

/// The size before a chunk's extensions. `None` if there is none, or if it is too large to be one.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let text = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(text, 16).ok().filter(|size| *size < u64::MAX - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each head in `bytes`, which arrive in pieces of each size, has both fields.
    fn checked(bytes: &[u8]) -> Vec<bool> {
        let in_pieces = |size: usize| {
            let mut tracker = FramingTracker::default();
            bytes.chunks(size).for_each(|piece| tracker.received_bytes(piece));
            tracker.heads.into_iter().collect::<Vec<bool>>()
        };
        let whole = in_pieces(bytes.len());
        for size in [1, 2, 7, 100] {
            assert_eq!(in_pieces(size), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn both_fields_are_found_wherever_they_stand() {
        let (length, encoding) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
        let padding = "X: ".to_owned() + &"y".repeat(20_000) + "\r\n";
        for fields in [
            format!("{length}{encoding}"),
            format!("{encoding}{length}"),
            format!("{encoding}{padding}{padding}{length}"),
            format!("{length}{padding}{padding}{encoding}"),
            "tRANSFER-encoding:chunked\nCONTENT-length:0\n".to_owned(),
        ] {
            let chunks = "2;a=b\r\nxy\r\n0\r\nT: t\r\n\r\n";
            let both = format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n{chunks}");
            assert_eq!(checked(both.as_bytes()), [true], "{fields:.60}");
            let first = format!("POST / HTTP/1.1\r\n{length}\r\n12345\r\nPOST / HTTP/1.1\r\n{encoding}\r\n{chunks}");
            assert_eq!(checked((first + &both).as_bytes()), [false, false, true], "behind others");
        }
    }

    #[test]
    fn bodies_are_no_heads() {
        let smuggled = "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (length, hex) = (smuggled.len(), format!("{:x}", smuggled.len()));
        let sized = format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{smuggled}");
        let chunked = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{hex}\r\n{smuggled}\r\n0\r\n\r\n");
        assert_eq!(checked(format!("{sized}{chunked}{sized}").as_bytes()), [false, false, false]);
        assert_eq!(
            checked(b"GET /content-length HTTP/1.1\r\nX: content-length: 1\r\nY: transfer-encoding: a\r\n\r\n"),
            [false]
        );
    }

    #[test]
    fn behind_a_message_whose_end_is_in_doubt_every_head_is_refused() {
        for doubtful in ["Content-Length: x\r\n", "Content-Length: 1\r\nContent-Length: 2\r\n"] {
            let mut tracker = FramingTracker::default();
            tracker.received_bytes(format!("POST / HTTP/1.1\r\n{doubtful}\r\nGET / HTTP/1.1\r\n\r\n").as_bytes());
            assert_eq!((tracker.next_has_both(), tracker.next_has_both()), (false, true));
        }
    }

    #[test]
    fn the_first_line_is_measured_while_it_arrives() {
        let mut tracker = FramingTracker::default();
        tracker.received_bytes(b"\r\nGET /");
        assert_eq!(tracker.first_line_bytes(), 5);
        tracker.received_bytes(&[b'a'; 100]);
        assert_eq!(tracker.first_line_bytes(), 105);
    }
}
