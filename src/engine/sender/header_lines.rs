//! The header lines of a request: the bytes to send, and the text that an attempt stores.
//!
//! Both forms are written in one pass, so that no header of a delivery is a value of its own.
//!
//! Invariant: the two forms have the same fields in the same order. They differ in the spelling of names and in masked
//! credentials.

use std::fmt;

use crate::model::Headers;

/// Header lines in the order to send them. Names may repeat. `host` and the framing headers are not among them.
#[derive(Clone, Default)]
pub struct HeaderLines {
    sent: Vec<u8>,
    stored: Headers,
}

impl HeaderLines {
    /// Reserves bytes for the lines.
    pub fn with_capacity(bytes: usize) -> HeaderLines {
        HeaderLines { sent: Vec::with_capacity(bytes), stored: Headers::with_capacity(bytes) }
    }

    /// Appends a field that is stored as it is sent. A line break, which would begin another field, becomes a space.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.push_spelled(name, name, value, value);
    }

    /// Appends a field that is sent as `spelling`, and stored under `name` with the value `stored`. Names have no case (RFC
    /// 9110 section 5.1), and some receivers compare it all the same.
    pub fn push_spelled(&mut self, name: &str, spelling: &str, value: &[u8], stored: &[u8]) {
        let start = self.sent.len();
        self.sent.extend_from_slice(spelling.as_bytes());
        self.sent.extend_from_slice(b": ");
        self.sent.extend_from_slice(value);
        if memchr::memchr2(b'\r', b'\n', &self.sent[start..]).is_some() {
            let breaks = self.sent[start..].iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n'));
            breaks.for_each(|byte| *byte = b' ');
        }
        self.sent.extend_from_slice(b"\r\n");
        self.stored.push_bytes(name, stored);
    }

    /// Appends all lines of `other`.
    pub fn append(&mut self, other: &HeaderLines) {
        self.sent.extend_from_slice(&other.sent);
        self.stored.append(&other.stored);
    }

    /// The lines as they are sent, each with its line break.
    pub fn sent(&self) -> &[u8] {
        &self.sent
    }

    /// The fields as they are stored.
    pub fn into_stored(self) -> Headers {
        self.stored
    }
}

impl fmt::Debug for HeaderLines {
    /// Omits the lines as they are sent, because they contain credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stored.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_have_the_same_fields() {
        let mut own = HeaderLines::default();
        own.push_spelled("x-key", "X-Key", b"sesame", b"***");
        let mut lines = HeaderLines::with_capacity(64);
        lines.push("accept", b"*/*");
        lines.push("x-bytes", b"\xff");
        lines.append(&own);
        assert_eq!(lines.sent(), b"accept: */*\r\nx-bytes: \xff\r\nX-Key: sesame\r\n");
        assert!(!format!("{lines:?}").contains("sesame"));
        let stored = lines.into_stored();
        let expected = [("accept", "*/*"), ("x-bytes", "\u{fffd}"), ("x-key", "***")];
        assert_eq!(stored.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_line_break_cannot_begin_another_field() {
        let mut lines = HeaderLines::default();
        lines.push("x-a", b"1\r\nx-b: 2");
        assert_eq!(lines.sent(), b"x-a: 1  x-b: 2\r\n");
        assert_eq!(lines.into_stored().len(), 1);
    }
}
