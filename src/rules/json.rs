//! Validates JSON text (RFC 8259) strictly, without building values.
//!
//! Invariant: an accepted text means the same to every reader and may be stored and sent byte for byte. It is valid UTF-8,
//! has no duplicate member names at any depth (compared unescaped), no lone surrogates and bounded depth. Numbers are
//! checked for form only, never for size. Every publish runs this scan, so it allocates only one list of member names and
//! one of the outermost members.

pub mod walk;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;

/// Maximum nesting of arrays and objects. `[]` alone has depth 1.
pub const DEPTH_MAX: usize = 128;

/// Maximum length of a scanned text: member names are stored as 32-bit offsets.
pub const TEXT_BYTES_MAX: usize = u32::MAX as usize;

/// Up to this number, members are compared pair by pair. More are sorted first.
const PAIRWISE_MEMBERS_MAX: usize = 16;

/// Limits that the caller may narrow.
#[derive(Debug, Clone, Copy)]
pub struct JsonLimits {
    /// Maximum nesting. A larger value counts as [`DEPTH_MAX`].
    pub depth: usize,
}

impl Default for JsonLimits {
    fn default() -> Self {
        JsonLimits { depth: DEPTH_MAX }
    }
}

/// The first error in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// Byte offset into the text.
    pub offset: usize,
    /// JSON Pointer (RFC 6901) to the innermost value or member with the error. Empty for the whole text.
    pub pointer: String,
    pub kind: JsonErrorKind,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.kind, self.offset)?;
        match self.pointer.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", self.pointer),
        }
    }
}

impl std::error::Error for JsonError {}

/// Kind of a JSON error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonErrorKind {
    InvalidUtf8,
    /// The text ends inside a value.
    Unfinished,
    /// A byte that is not allowed at this position.
    Unexpected,
    /// Something follows the value.
    Trailing,
    BadNumber,
    BadLiteral,
    BadEscape,
    /// An unescaped control character in a string.
    ControlCharacter,
    /// Half of a UTF-16 pair, which UTF-8 text cannot contain.
    LoneSurrogate,
    DuplicateMember,
    TooDeep,
    TooLong,
}

impl fmt::Display for JsonErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JsonErrorKind::InvalidUtf8 => "not valid UTF-8",
            JsonErrorKind::Unfinished => "the JSON text ends too early",
            JsonErrorKind::Unexpected => "unexpected character",
            JsonErrorKind::Trailing => "more text after the JSON value",
            JsonErrorKind::BadNumber => "malformed number",
            JsonErrorKind::BadLiteral => "not a JSON value",
            JsonErrorKind::BadEscape => "malformed escape in a string",
            JsonErrorKind::ControlCharacter => "unescaped control character in a string",
            JsonErrorKind::LoneSurrogate => "lone surrogate in a string",
            JsonErrorKind::DuplicateMember => "duplicate member name",
            JsonErrorKind::TooDeep => "nested too deep",
            JsonErrorKind::TooLong => "too long",
        })
    }
}

/// A member of an object, as its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonMember<'a> {
    /// The text between the quotes of the name, with its escapes.
    pub name: &'a str,
    pub value: &'a str,
}

/// Scans one JSON text and the white space around it. Returns the first error.
pub fn check(bytes: &[u8], limits: JsonLimits) -> Result<(), JsonError> {
    checked_text(bytes, limits, &mut Vec::new()).map(drop)
}

/// Scans like [`check`], and returns the text.
pub fn checked(bytes: &[u8], limits: JsonLimits) -> Result<&str, JsonError> {
    checked_text(bytes, limits, &mut Vec::new())
}

/// Scans like [`check`], and returns the members of the object in their order. `None` if the text is not an object.
pub fn members(bytes: &[u8], limits: JsonLimits) -> Result<Option<Vec<JsonMember<'_>>>, JsonError> {
    let mut spans = Vec::new();
    let text = checked_text(bytes, limits, &mut spans)?;
    let is_object = bytes.get(walk::start(bytes, 0)) == Some(&b'{');
    let member = |span: MemberSpan| JsonMember {
        name: &text[span.name.start as usize..span.name.end as usize],
        value: &text[span.value.0 as usize..span.value.1 as usize],
    };
    Ok(is_object.then(|| spans.into_iter().map(member).collect()))
}

/// Scans a text, and adds the members of its outermost object to `members`.
fn checked_text<'a>(bytes: &'a [u8], limits: JsonLimits, members: &mut Vec<MemberSpan>) -> Result<&'a str, JsonError> {
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(JsonError { offset: TEXT_BYTES_MAX, pointer: String::new(), kind: JsonErrorKind::TooLong });
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => scan(bytes, limits, members).map(|()| text),
        Err(error) => {
            let offset = error.valid_up_to();
            // A scan of the bytes before it locates the bad byte in the value, or finds an earlier error.
            match scan(&bytes[..offset], limits, members) {
                Err(error) if error.kind != JsonErrorKind::Unfinished => Err(error),
                Err(error) => Err(JsonError { offset, kind: JsonErrorKind::InvalidUtf8, ..error }),
                Ok(()) => Err(JsonError { offset, pointer: String::new(), kind: JsonErrorKind::InvalidUtf8 }),
            }
        }
    }
}

fn scan(bytes: &[u8], limits: JsonLimits, members: &mut Vec<MemberSpan>) -> Result<(), JsonError> {
    let mut scanner = Scanner { bytes, at: 0, names: Vec::new(), members };
    scanner.text(limits.depth.min(DEPTH_MAX)).map_err(|bad| JsonError {
        offset: bad.offset,
        pointer: scanner.pointer(&bad.path),
        kind: bad.kind,
    })
}

/// A member name: the bytes between its quotes.
#[derive(Debug, Clone, Copy)]
struct JsonName {
    start: u32,
    end: u32,
    escaped: bool,
}

/// A member of the outermost object: its name, and the offsets of its value.
#[derive(Debug, Clone, Copy)]
struct MemberSpan {
    name: JsonName,
    value: (u32, u32),
}

/// An error that is being returned. Each enclosing value adds its step, so the innermost comes first.
struct JsonFailure {
    offset: usize,
    kind: JsonErrorKind,
    path: Vec<PointerStep>,
}

#[derive(Clone, Copy)]
enum PointerStep {
    Member(JsonName),
    Index(usize),
}

/// Boxed, because every value returns one and nearly all are empty.
type Scanned<T> = Result<T, Box<JsonFailure>>;

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The names of all objects that are open, innermost last.
    names: Vec<JsonName>,
    /// The members of the outermost object.
    members: &'a mut Vec<MemberSpan>,
}

impl Scanner<'_> {
    fn text(&mut self, depth: usize) -> Scanned<()> {
        self.space();
        match self.peek() {
            Some(b'{') if depth > 0 => self.object(depth - 1, true)?,
            _ => self.value(depth)?,
        }
        self.space();
        match self.peek() {
            None => Ok(()),
            Some(_) => self.bad(JsonErrorKind::Trailing),
        }
    }

    fn value(&mut self, depth: usize) -> Scanned<()> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{' | b'[') if depth == 0 => self.bad(JsonErrorKind::TooDeep),
            Some(b'{') => self.object(depth - 1, false),
            Some(b'[') => self.array(depth - 1),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            _ => self.bad(JsonErrorKind::Unexpected),
        }
    }

    fn object(&mut self, depth: usize, is_outermost: bool) -> Scanned<()> {
        let first = self.names.len();
        self.at += 1;
        self.space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.bad(JsonErrorKind::Unexpected);
            }
            let name = self.string()?;
            self.names.push(name);
            self.space();
            if !self.take(b':') {
                return self.bad(JsonErrorKind::Unexpected);
            }
            self.space();
            let start = self.at as u32;
            self.value(depth).map_err(|bad| bad.inside(PointerStep::Member(name)))?;
            if is_outermost {
                self.members.push(MemberSpan { name, value: (start, self.at as u32) });
            }
            self.space();
            if self.take(b',') {
                self.space();
            } else if self.take(b'}') {
                break;
            } else {
                return self.bad(JsonErrorKind::Unexpected);
            }
        }
        if let Some(name) = duplicate(self.bytes, &mut self.names[first..]) {
            let bad =
                JsonFailure { offset: name.start as usize - 1, kind: JsonErrorKind::DuplicateMember, path: Vec::new() };
            return Err(Box::new(bad).inside(PointerStep::Member(name)));
        }
        self.names.truncate(first);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Scanned<()> {
        self.at += 1;
        self.space();
        if self.take(b']') {
            return Ok(());
        }
        for index in 0.. {
            self.value(depth).map_err(|bad| bad.inside(PointerStep::Index(index)))?;
            self.space();
            if self.take(b',') {
                self.space();
            } else if self.take(b']') {
                break;
            } else {
                return self.bad(JsonErrorKind::Unexpected);
            }
        }
        Ok(())
    }

    /// Reads from the opening quote to the closing one.
    fn string(&mut self) -> Scanned<JsonName> {
        let start = self.at + 1;
        let mut escaped = false;
        self.at = start;
        loop {
            self.at += walk::plain_len(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.bad(JsonErrorKind::ControlCharacter),
                None => return self.bad(JsonErrorKind::Unfinished),
            }
        }
        self.at += 1;
        Ok(JsonName { start: start as u32, end: self.at as u32 - 1, escaped })
    }

    /// One escape, both halves of a surrogate pair included.
    fn escape(&mut self) -> Scanned<()> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                return Ok(());
            }
            Some(b'u') => {}
            _ => return self.bad(JsonErrorKind::BadEscape),
        }
        match self.hex()? {
            0xd800..=0xdbff => {
                if !self.bytes[self.at..].starts_with(b"\\u") {
                    let kind = match self.bytes.len() - self.at {
                        0 | 1 => JsonErrorKind::Unfinished,
                        _ => JsonErrorKind::LoneSurrogate,
                    };
                    self.at = start;
                    return Err(self.failure(kind));
                }
                self.at += 1;
                match self.hex()? {
                    0xdc00..=0xdfff => Ok(()),
                    _ => {
                        self.at = start;
                        self.bad(JsonErrorKind::LoneSurrogate)
                    }
                }
            }
            0xdc00..=0xdfff => {
                self.at = start;
                self.bad(JsonErrorKind::LoneSurrogate)
            }
            _ => Ok(()),
        }
    }

    /// The four digits after the `u` under the cursor.
    fn hex(&mut self) -> Scanned<u16> {
        let mut value = 0;
        for _ in 0..4 {
            self.at += 1;
            match self.peek().and_then(|b| char::from(b).to_digit(16)) {
                Some(digit) => value = value << 4 | digit as u16,
                None => return self.bad(JsonErrorKind::BadEscape),
            }
        }
        self.at += 1;
        Ok(value)
    }

    fn number(&mut self) -> Scanned<()> {
        self.take(b'-');
        match self.take(b'0') {
            true => {}
            false => self.digits()?,
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        match self.peek() {
            // For `01`, `1.2.3` and `1x` this error is clearer than that of an unexpected byte.
            Some(b'0'..=b'9' | b'.' | b'+' | b'-' | b'a'..=b'z' | b'A'..=b'Z') => self.bad(JsonErrorKind::BadNumber),
            _ => Ok(()),
        }
    }

    /// One digit or more.
    fn digits(&mut self) -> Scanned<()> {
        let run = self.bytes[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += run;
        match run {
            0 => self.bad(JsonErrorKind::BadNumber),
            _ => Ok(()),
        }
    }

    fn literal(&mut self, word: &'static [u8]) -> Scanned<()> {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(word) {
            self.at += word.len();
            Ok(())
        } else if word.starts_with(rest) {
            self.at = self.bytes.len();
            self.bad(JsonErrorKind::Unfinished)
        } else {
            self.bad(JsonErrorKind::BadLiteral)
        }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn bad<T>(&self, kind: JsonErrorKind) -> Scanned<T> {
        Err(self.failure(if self.at < self.bytes.len() { kind } else { JsonErrorKind::Unfinished }))
    }

    #[cold]
    fn failure(&self, kind: JsonErrorKind) -> Box<JsonFailure> {
        Box::new(JsonFailure { offset: self.at, kind, path: Vec::new() })
    }

    fn pointer(&self, path: &[PointerStep]) -> String {
        let mut pointer = String::new();
        for step in path.iter().rev() {
            pointer.push('/');
            match *step {
                PointerStep::Index(index) => pointer.push_str(&index.to_string()),
                PointerStep::Member(name) => pointer.push_str(&escape_token(&walk::unescaped(name.raw(self.bytes)))),
            }
        }
        pointer
    }
}

impl JsonFailure {
    #[cold]
    fn inside(mut self: Box<Self>, step: PointerStep) -> Box<Self> {
        self.path.push(step);
        self
    }
}

impl JsonName {
    fn raw(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    fn same(self, other: Self, bytes: &[u8]) -> bool {
        match self.escaped || other.escaped {
            false => self.raw(bytes) == other.raw(bytes),
            true => self.order(other, bytes).is_eq(),
        }
    }

    fn order(self, other: Self, bytes: &[u8]) -> Ordering {
        match self.escaped || other.escaped {
            false => self.raw(bytes).cmp(other.raw(bytes)),
            true => walk::Unescaped::new(self.raw(bytes)).cmp(walk::Unescaped::new(other.raw(bytes))),
        }
    }
}

/// The first name that occurred earlier in the list. The list may be reordered. It is sorted and not hashed, so no
/// input makes it slow.
fn duplicate(bytes: &[u8], names: &mut [JsonName]) -> Option<JsonName> {
    if names.len() <= PAIRWISE_MEMBERS_MAX {
        return (1..names.len()).find(|&i| names[..i].iter().any(|name| name.same(names[i], bytes))).map(|i| names[i]);
    }
    names.sort_unstable_by(|a, b| a.order(*b, bytes).then(a.start.cmp(&b.start)));
    names.windows(2).filter(|pair| pair[0].same(pair[1], bytes)).map(|pair| pair[1]).min_by_key(|name| name.start)
}

/// A member name as a token of a JSON Pointer (RFC 6901 section 3).
pub fn escape_token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
