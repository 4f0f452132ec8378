//! Reads the head of a response: its status, the headers to store, and the framing of its body.
//!
//! Pure: bytes in, a head out. httparse reads the lines.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Response, Status};
use memchr::{memchr, memchr_iter};

use crate::engine::sender::limits::{
    INTERIM_ANSWERS_MAX, RESPONSE_HEADERS_STORED_BYTES_MAX, RESPONSE_HEADERS_STORED_MAX,
};
use crate::model::Headers;
use crate::rules::keep_alive;

/// Number of headers that are read without an allocation.
const FEW_HEADERS: usize = 100;

/// The head of a final response, as far as an attempt needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct ResponseHead {
    /// From 100 to 999. An interim status is 101 only.
    pub status: u16,
    /// The headers to store: in the order received, names in lower case, up to the caps.
    pub headers: Headers,
    /// The first `Retry-After`, as received.
    pub retry_after: Option<String>,
    /// The least `timeout` of `Keep-Alive`, in seconds.
    pub keep_alive_s: Option<u32>,
}

/// A head with the fields that frame its body (RFC 9112 section 6).
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) struct FramedHead {
    pub head: ResponseHead,
    is_http11: bool,
    /// Whether `Connection` has the token `close`.
    closes: bool,
    length: AnnouncedLength,
    coding: TransferCoding,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum AnnouncedLength {
    None,
    Bytes(u64),
    InDoubt,
}

/// The last coding of `Transfer-Encoding`.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum TransferCoding {
    None,
    Chunked,
    Other,
}

/// The end of a response's body.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(in crate::engine) enum BodyFraming {
    Length(u64),
    Chunked,
    /// The body ends with the connection.
    UntilClose,
}

/// The bytes of a response as far as they are a head.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) enum HeadProgress {
    /// The head is not whole.
    Partial,
    /// An interim response (1xx) of so many bytes.
    Interim(usize),
    /// A final head of so many bytes.
    Final(usize, Box<FramedHead>),
}

/// A response that is not HTTP/1.1, or is beyond a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::engine) enum ResponseFault {
    #[error("the head of the response is no HTTP/1.1: {0}")]
    Head(httparse::Error),
    #[error("the head of the response is longer than {0} bytes")]
    HeadTooLong(usize),
    #[error("the response has a status code below 100")]
    Status,
    #[error("the response has no valid Content-Length")]
    ContentLength,
    #[error("the response is HTTP/1.0 and has a Transfer-Encoding")]
    TransferEncoding,
    #[error("the chunks of the response's body cannot be read: {0}")]
    Chunks(&'static str),
    #[error("the receiver sent bytes before it got a request")]
    Unasked,
    #[error("the receiver sent more than {INTERIM_ANSWERS_MAX} interim answers (1xx)")]
    TooManyInterimAnswers,
}

/// Reads the head at the beginning of `bytes`.
pub(in crate::engine) fn read_head(bytes: &[u8]) -> Result<HeadProgress, ResponseFault> {
    let mut config = ParserConfig::default();
    config
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    match read_lines(&config, bytes, &mut [const { MaybeUninit::uninit() }; FEW_HEADERS]) {
        // The bytes bound the number of lines, and the caller bounds the bytes.
        Err(ResponseFault::Head(httparse::Error::TooManyHeaders)) => {
            let lines = memchr_iter(b'\n', bytes).count();
            read_lines(&config, bytes, &mut vec![MaybeUninit::uninit(); lines])
        }
        read => read,
    }
}

/// Reads the head at the beginning of `bytes`, with room for as many headers as `lines` has.
fn read_lines<'b>(
    config: &ParserConfig,
    bytes: &'b [u8],
    lines: &mut [MaybeUninit<Header<'b>>],
) -> Result<HeadProgress, ResponseFault> {
    let mut response = Response::new(&mut []);
    let length = match config.parse_response_with_uninit_headers(&mut response, bytes, lines) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(HeadProgress::Partial),
        Err(why) => return Err(ResponseFault::Head(why)),
    };
    match response.code.unwrap_or_default() {
        ..100 => Err(ResponseFault::Status),
        100 | 102..200 => Ok(HeadProgress::Interim(length)),
        status => {
            let is_http11 = response.version == Some(1);
            Ok(HeadProgress::Final(length, Box::new(FramedHead::of(status, is_http11, response.headers))))
        }
    }
}

impl FramedHead {
    fn of(status: u16, is_http11: bool, lines: &[Header<'_>]) -> FramedHead {
        let stored_bytes = lines.iter().map(|line| line.name.len() + line.value.len() + 2).sum::<usize>();
        let headers = Headers::with_capacity(stored_bytes.min(RESPONSE_HEADERS_STORED_BYTES_MAX));
        let head = ResponseHead { status, headers, retry_after: None, keep_alive_s: None };
        let mut framed =
            FramedHead { head, is_http11, closes: false, length: AnnouncedLength::None, coding: TransferCoding::None };
        let mut saw_retry_after = false;
        for line in lines {
            let is = |name: &str| line.name.eq_ignore_ascii_case(name);
            let value = &*unfolded(line.value);
            match line.name.len() {
                10 if is("connection") => {
                    framed.closes |= tokens(value).any(|token| token.eq_ignore_ascii_case("close"))
                }
                10 if is("keep-alive") => {
                    let timeout_s = keep_alive::timeout_s(text(value));
                    framed.head.keep_alive_s = least(framed.head.keep_alive_s, timeout_s);
                }
                11 if is("retry-after") && !saw_retry_after => {
                    saw_retry_after = true;
                    framed.head.retry_after = text(value).map(str::to_owned);
                }
                14 if is("content-length") => framed.length = framed.length.and(value),
                17 if is("transfer-encoding") => {
                    let is_chunked =
                        tokens(value).next_back().is_some_and(|token| token.eq_ignore_ascii_case("chunked"));
                    framed.coding = if is_chunked { TransferCoding::Chunked } else { TransferCoding::Other };
                }
                _ => {}
            }
        }
        framed.head.store_lines(lines);
        framed
    }

    /// The framing of the body (RFC 9112 section 6.3).
    ///
    /// Errors: the framing is in doubt.
    pub fn framing(&self) -> Result<BodyFraming, ResponseFault> {
        match (self.head.status, self.coding, self.length) {
            (101 | 204 | 304, _, _) => Ok(BodyFraming::Length(0)),
            (_, TransferCoding::None, AnnouncedLength::Bytes(bytes)) => Ok(BodyFraming::Length(bytes)),
            (_, TransferCoding::None, AnnouncedLength::InDoubt) => Err(ResponseFault::ContentLength),
            (_, TransferCoding::None, AnnouncedLength::None) => Ok(BodyFraming::UntilClose),
            _ if !self.is_http11 => Err(ResponseFault::TransferEncoding),
            (_, TransferCoding::Chunked, _) => Ok(BodyFraming::Chunked),
            (_, TransferCoding::Other, _) => Ok(BodyFraming::UntilClose),
        }
    }

    /// Whether the receiver keeps the connection open after the response. A length beside a transfer coding may be an
    /// attempt at response splitting, so it ends the connection (RFC 9112 section 6.1).
    pub fn keeps_open(&self) -> bool {
        let is_plain = self.coding == TransferCoding::None || self.length == AnnouncedLength::None;
        self.is_http11 && !self.closes && is_plain && self.head.status != 101
    }
}

impl ResponseHead {
    /// Stores the lines up to the caps.
    fn store_lines(&mut self, lines: &[Header<'_>]) {
        let mut room = RESPONSE_HEADERS_STORED_BYTES_MAX;
        for line in lines.iter().take(RESPONSE_HEADERS_STORED_MAX) {
            let Some(left) = room.checked_sub(line.name.len() + line.value.len()) else { break };
            room = left;
            self.headers.push_received(line.name, &unfolded(line.value));
        }
    }
}

impl AnnouncedLength {
    /// This and a further `Content-Length`. Equal lengths are one length, in one line or in several.
    fn and(self, value: &[u8]) -> AnnouncedLength {
        value.split(|byte| *byte == b',').fold(self, |known, part| match (known, digits(part.trim_ascii())) {
            (AnnouncedLength::None, Some(bytes)) => AnnouncedLength::Bytes(bytes),
            (AnnouncedLength::Bytes(known), Some(bytes)) if known == bytes => AnnouncedLength::Bytes(known),
            _ => AnnouncedLength::InDoubt,
        })
    }
}

/// The value on one line: each fold becomes a space (RFC 9112 section 5.2).
fn unfolded(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    let lines: Vec<_> = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
    Cow::Owned(lines.join(&b' '))
}

/// The tokens of a list (RFC 9110 section 5.6.1). A value that is not text has none.
fn tokens(value: &[u8]) -> impl DoubleEndedIterator<Item = &str> {
    text(value).into_iter().flat_map(|value| value.split(',').map(str::trim))
}

/// The value as text. `None` unless it is visible ASCII.
fn text(value: &[u8]) -> Option<&str> {
    let is_visible = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    std::str::from_utf8(value).ok().filter(|_| is_visible)
}

/// A number of decimal digits. `None` for everything else, and for numbers of 2^64 or more.
fn digits(bytes: &[u8]) -> Option<u64> {
    let is_number = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(bytes).ok().filter(|_| is_number)?.parse().ok()
}

fn least(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    a.into_iter().chain(b).min()
}
