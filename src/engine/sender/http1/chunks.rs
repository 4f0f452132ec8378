//! Decodes the chunked transfer coding (RFC 9112 section 7.1). Extensions and trailers are skipped up to a limit.
//!
//! Pure: bytes in, pieces of the body out.

use crate::engine::sender::http1::response_head::ResponseFault;
use crate::engine::sender::limits::CHUNK_EXTRAS_BYTES_MAX;

/// A decoder between two bytes of a chunked body.
#[derive(Debug)]
pub(in crate::engine) struct ChunkDecoder {
    state: ChunkState,
    /// Bytes of the current chunk that are still to come.
    left: u64,
    /// Bytes of extensions and trailers so far.
    extras: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    /// Before the first digit of a size.
    SizeStart,
    Size,
    /// After a blank behind the size.
    SizeEnd,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a trailer, or of the empty line that ends the body.
    LineStart,
    Trailer,
    TrailerLf,
    LastLf,
    Over,
}

/// The next part of the body.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) enum ChunkPart<'a> {
    Data(&'a [u8]),
    /// All bytes are used, and the body goes on.
    NeedsMore,
    /// The body is over.
    Over,
}

impl Default for ChunkDecoder {
    fn default() -> Self {
        ChunkDecoder { state: ChunkState::SizeStart, left: 0, extras: 0 }
    }
}

impl ChunkDecoder {
    /// Takes bytes from the beginning of `bytes` up to the next part of the body.
    ///
    /// Errors: `Chunks` with the place that is wrong.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<ChunkPart<'a>, ResponseFault> {
        loop {
            if self.state == ChunkState::Over {
                return Ok(ChunkPart::Over);
            }
            if self.state == ChunkState::Data {
                let count = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                let (data, rest) = bytes.split_at(count);
                *bytes = rest;
                self.left -= count as u64;
                if self.left == 0 {
                    self.state = ChunkState::DataCr;
                }
                if count > 0 {
                    return Ok(ChunkPart::Data(data));
                }
            }
            let Some((byte, rest)) = bytes.split_first() else { return Ok(ChunkPart::NeedsMore) };
            *bytes = rest;
            self.state = self.after(*byte)?;
        }
    }

    fn after(&mut self, byte: u8) -> Result<ChunkState, ResponseFault> {
        use ChunkState as S;
        let wrong = |place| Err(ResponseFault::Chunks(place));
        Ok(match (self.state, byte) {
            (S::SizeStart | S::Size, digit) if digit.is_ascii_hexdigit() => {
                let digit = char::from(digit).to_digit(16).map_or(0, u64::from);
                let left = self.left.checked_mul(16).and_then(|left| left.checked_add(digit));
                self.left = left.ok_or(ResponseFault::Chunks("a size is too large"))?;
                S::Size
            }
            (S::Size | S::SizeEnd, b' ' | b'\t') => S::SizeEnd,
            (S::Size | S::SizeEnd, b';') => S::Extension,
            (S::Size | S::SizeEnd | S::Extension, b'\r') => S::SizeLf,
            (S::SizeStart | S::Size | S::SizeEnd, _) => return wrong("a size is no hexadecimal number"),
            (S::Extension, b'\n') => return wrong("an extension has a line feed"),
            (S::Extension, _) => self.extra(S::Extension)?,
            (S::SizeLf, b'\n') if self.left == 0 => S::LineStart,
            (S::SizeLf, b'\n') => S::Data,
            (S::DataCr, b'\r') => S::DataLf,
            (S::DataLf, b'\n') => S::SizeStart,
            (S::LineStart, b'\r') => S::LastLf,
            (S::LineStart | S::Trailer, _) if byte != b'\r' => self.extra(S::Trailer)?,
            (S::Trailer, _) => S::TrailerLf,
            (S::TrailerLf, b'\n') => self.extra(S::LineStart)?,
            (S::LastLf, b'\n') => S::Over,
            _ => return wrong("a line does not end with CRLF"),
        })
    }

    /// Counts a byte of an extension or of a trailer.
    fn extra(&mut self, then: ChunkState) -> Result<ChunkState, ResponseFault> {
        self.extras += 1;
        if self.extras > CHUNK_EXTRAS_BYTES_MAX {
            return Err(ResponseFault::Chunks("extensions and trailers are too long"));
        }
        Ok(then)
    }
}
