//! Reads the body of a response up to `RESPONSE_BODY_BYTES_MAX`. Pure: bytes in, the stored body out.

use crate::engine::sender::http1::chunks::{ChunkDecoder, ChunkPart};
use crate::engine::sender::http1::response_head::{BodyFraming, ResponseFault};
use crate::engine::sender::limits::RESPONSE_BODY_BYTES_MAX;

/// The end of a response.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(in crate::engine) enum ResponseEnd {
    /// The response was read to its last byte. The connection can carry another request.
    Whole,
    /// The response ended at the cap or with the connection, which cannot be reused.
    Cut,
}

/// A body between two bytes.
#[derive(Debug)]
pub(in crate::engine) enum BodyReader {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(ChunkDecoder),
    UntilClose,
}

impl BodyReader {
    pub fn new(framing: BodyFraming) -> BodyReader {
        match framing {
            BodyFraming::Length(bytes) => BodyReader::Length(bytes),
            BodyFraming::Chunked => BodyReader::Chunked(ChunkDecoder::default()),
            BodyFraming::UntilClose => BodyReader::UntilClose,
        }
    }

    /// The length of the rest, as far as it is known and will be stored.
    pub fn expected(&self) -> usize {
        match self {
            BodyReader::Length(left) => (*left).min(RESPONSE_BODY_BYTES_MAX as u64) as usize,
            BodyReader::Chunked(_) | BodyReader::UntilClose => 0,
        }
    }

    /// Takes bytes from the beginning of `bytes` and stores the body. Returns the end of the response, `None` if it goes on.
    ///
    /// Errors: the chunks cannot be read.
    pub fn read(&mut self, bytes: &mut &[u8], stored: &mut Vec<u8>) -> Result<Option<ResponseEnd>, ResponseFault> {
        match self {
            BodyReader::Length(left) => {
                let count = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let (data, rest) = bytes.split_at(count);
                *bytes = rest;
                *left -= count as u64;
                let is_whole = *left == 0;
                Ok(store(data, stored).or(is_whole.then_some(ResponseEnd::Whole)))
            }
            BodyReader::Chunked(chunks) => loop {
                let end = match chunks.next(bytes)? {
                    ChunkPart::Data(data) => store(data, stored),
                    ChunkPart::NeedsMore => return Ok(None),
                    ChunkPart::Over => Some(ResponseEnd::Whole),
                };
                if end.is_some() {
                    return Ok(end);
                }
            },
            BodyReader::UntilClose => Ok(store(std::mem::take(bytes), stored)),
        }
    }

    /// The end of the response when the connection ends. `None` if the body is not whole.
    pub fn at_close(&self) -> Option<ResponseEnd> {
        matches!(self, BodyReader::UntilClose).then_some(ResponseEnd::Cut)
    }
}

/// Stores `data` up to the cap. Returns `Cut` beyond it.
fn store(data: &[u8], stored: &mut Vec<u8>) -> Option<ResponseEnd> {
    let room = RESPONSE_BODY_BYTES_MAX - stored.len();
    stored.extend_from_slice(&data[..data.len().min(room)]);
    (data.len() > room).then_some(ResponseEnd::Cut)
}
