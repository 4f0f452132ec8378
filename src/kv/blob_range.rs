//! The place of a payload in a blob file, and the rows of `meta` about the file.

use crate::kv::tables::Key;

/// Key in `meta` of the offset behind the last payload that a row has named. Files without large payloads lack the row.
pub const BLOBS_END_KEY: &[u8] = b"blobs_end";
/// Start of the keys in `meta` of places to overwrite with zeros, followed by the offset.
pub(in crate::kv) const ERASED_KEY: &[u8] = b"blobs_erased";

/// The place of a payload in a blob file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRange {
    pub offset: u64,
    pub bytes: u32,
    pub crc: u32,
}

impl BlobRange {
    /// Offset behind the place.
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.bytes)
    }

    /// The key in `meta` that says that the place is to be overwritten with zeros.
    pub(in crate::kv) fn erased_key(&self) -> Key {
        Key::from_slice(&[ERASED_KEY, &self.offset.to_be_bytes()].concat())
    }
}

/// Whether a row of `meta` is about the blob file beside it, so that no copy of the store has it.
pub fn is_of_blobs(key: &[u8]) -> bool {
    key == BLOBS_END_KEY || key.starts_with(ERASED_KEY)
}
