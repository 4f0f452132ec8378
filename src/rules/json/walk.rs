//! Walking JSON text that [`super::check`] has passed, without building values.
//!
//! Invariant: text that was never checked gives `None` or a wrong position, never a panic or an endless loop. A
//! position is the byte offset of the first byte of a value. An end is the offset after its last byte.

use std::borrow::Cow;

/// Number of bytes at the start of `bytes` that are ordinary string content: no quote, no backslash, no control
/// character. It reads eight bytes at a time. A borrow of the subtractions affects only bytes above the first hit.
pub fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * u64::from(b'"'));
        let slash = word ^ (ONES * u64::from(b'\\'));
        let hits = (word.wrapping_sub(ONES * 0x20) & !word)
            | (quote.wrapping_sub(ONES) & !quote)
            | (slash.wrapping_sub(ONES) & !slash);
        if hits & HIGHS != 0 {
            return index * 8 + (hits & HIGHS).trailing_zeros() as usize / 8;
        }
    }
    let tail = rest.iter().take_while(|&&b| b >= 0x20 && b != b'"' && b != b'\\').count();
    words.len() * 8 + tail
}

/// Position of the next byte at or after `at` that is not white space.
pub fn start(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|b| matches!(b, b' ' | b'\n' | b'\r' | b'\t')).count()
}

/// The end of the value at `at`.
pub fn skip(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => string_end(bytes, at),
        b'{' | b'[' => container_end(bytes, at),
        _ => {
            let scalar = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
            match bytes[at..].iter().take_while(scalar).count() {
                0 => None,
                run => Some(at + run),
            }
        }
    }
}

/// The bytes of the value at `at`.
pub fn raw(bytes: &[u8], at: usize) -> Option<&[u8]> {
    bytes.get(at..skip(bytes, at)?)
}

/// The text between the quotes of the string at `at`, with its escapes. `None` if there is no string.
pub fn string(bytes: &[u8], at: usize) -> Option<&[u8]> {
    match bytes.get(at)? {
        b'"' => bytes.get(at + 1..string_end(bytes, at)? - 1),
        _ => None,
    }
}

fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += plain_len(bytes.get(at..)?);
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => return None,
        }
    }
}

fn container_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut open = 0usize;
    let mut at = at;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = string_end(bytes, at)?;
                continue;
            }
            b'{' | b'[' => open += 1,
            b'}' | b']' => open -= 1,
            _ => {}
        }
        at += 1;
        if open == 0 {
            return Some(at);
        }
    }
}

/// Calls `visit` with the raw name of every member of the object at `at` and the position of its value. `visit` returns
/// the end of that value, or `None` to stop. Returns the end of the object. `None` if stopped, or if there is no
/// object.
pub fn each_member<'a>(
    bytes: &'a [u8],
    at: usize,
    mut visit: impl FnMut(&'a [u8], usize) -> Option<usize>,
) -> Option<usize> {
    each(bytes, at, b"{}", |bytes, at| {
        let name = string(bytes, at)?;
        let colon = start(bytes, at + name.len() + 2);
        if bytes.get(colon) != Some(&b':') {
            return None;
        }
        visit(name, start(bytes, colon + 1))
    })
}

/// The same for the elements of the array at `at`, with their index.
pub fn each_element(bytes: &[u8], at: usize, mut visit: impl FnMut(usize, usize) -> Option<usize>) -> Option<usize> {
    let mut index = 0;
    each(bytes, at, b"[]", |_, at| {
        let end = visit(index, at);
        index += 1;
        end
    })
}

/// Walks the comma-separated items of an array or object.
fn each<'a>(
    bytes: &'a [u8],
    at: usize,
    brackets: &[u8; 2],
    mut item: impl FnMut(&'a [u8], usize) -> Option<usize>,
) -> Option<usize> {
    if *bytes.get(at)? != brackets[0] {
        return None;
    }
    let mut at = start(bytes, at + 1);
    if *bytes.get(at)? == brackets[1] {
        return Some(at + 1);
    }
    loop {
        at = start(bytes, item(bytes, at)?);
        match *bytes.get(at)? {
            b',' => at = start(bytes, at + 1),
            close if close == brackets[1] => return Some(at + 1),
            _ => return None,
        }
    }
}

/// The text without white space between its tokens. Strings and numbers stay as they are.
pub fn compact(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = start(bytes, 0);
    while at < bytes.len() {
        let end = match bytes[at] {
            b'"' => string_end(bytes, at).unwrap_or(bytes.len()).min(bytes.len()),
            _ => at + 1,
        };
        out.extend_from_slice(&bytes[at..end]);
        at = start(bytes, end);
    }
    out
}

/// The text of a string from the bytes between its quotes. Borrowed if it has no escape.
pub fn unescaped(raw: &[u8]) -> Cow<'_, str> {
    match raw.contains(&b'\\') {
        false => String::from_utf8_lossy(raw),
        true => {
            let bytes: Vec<u8> = Unescaped::new(raw).collect();
            Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
        }
    }
}

/// Whether the bytes between a string's quotes stand for this text.
pub fn is_text(raw: &[u8], text: &str) -> bool {
    match raw.contains(&b'\\') {
        false => raw == text.as_bytes(),
        true => Unescaped::new(raw).eq(text.bytes()),
    }
}

/// The bytes of a string's text in UTF-8, with escapes resolved on the way. Their order is that of the text.
pub struct Unescaped<'a> {
    rest: &'a [u8],
    /// Remaining bytes of an unescaped character.
    pending: [u8; 4],
    next: usize,
    end: usize,
}

impl<'a> Unescaped<'a> {
    /// Begins with the bytes between the quotes.
    pub fn new(raw: &'a [u8]) -> Self {
        Unescaped { rest: raw, pending: [0; 4], next: 0, end: 0 }
    }

    fn hex(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    /// The character of the escape whose backslash has been read.
    fn escape(&mut self) -> Option<char> {
        let (&kind, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(match kind {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex()?;
                if !(0xd800..0xdc00).contains(&unit) {
                    return char::from_u32(unit);
                }
                self.rest = self.rest.strip_prefix(b"\\u")?;
                let low = self.hex()?.checked_sub(0xdc00)?;
                return char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + low);
            }
            other => char::from(other),
        })
    }
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.next < self.end {
            self.next += 1;
            return Some(self.pending[self.next - 1]);
        }
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        if byte != b'\\' {
            return Some(byte);
        }
        let character = self.escape()?;
        self.end = character.encode_utf8(&mut self.pending).len();
        self.next = 1;
        Some(self.pending[0])
    }
}
