//! The payload of an event: in parts in the table `data`, or whole in the blob file, whose place one row names.
//!
//! Invariant: `read_payload` is the only reader. It returns the bytes that were stored, or an error for the row that
//! does not.

use std::ops::Bound;

use bytes::Bytes;

use crate::kv::blob_range::{BlobRange, ERASED_KEY};
use crate::kv::codec::{self, PayloadRow};
use crate::kv::error::Result;
use crate::kv::memtable::Changes;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Table};
use crate::model::id::EventId;

/// Payload bytes in one row. redb rounds a larger value up to a power of two of pages.
pub const CHUNK_BYTES: usize = 8 * 1024 - 128;
/// Payloads of more bytes go to the blob file.
pub const ROW_PAYLOAD_BYTES_MAX: usize = 8 * 1024;

/// Number of rows that `bytes` payload bytes occupy, unless they are in the blob file.
pub fn chunks_of(bytes: usize) -> u16 {
    bytes.div_ceil(CHUNK_BYTES) as u16
}

/// Adds the rows of a payload in parts.
pub fn put_parts(rows: &mut Changes, event: EventId, payload: &[u8]) {
    for (number, part) in payload.chunks(CHUNK_BYTES).enumerate() {
        rows.insert(tables::chunk(event, number as u16), Some(codec::encode_bytes(part)));
    }
}

/// Reads a payload of either format. `row` passes the row at a key to its argument, if there is one.
pub(in crate::kv) fn read_payload(
    snapshot: &Snapshot,
    event: EventId,
    bytes: usize,
    mut row: impl FnMut(&[u8], &mut dyn FnMut(&[u8])) -> Result<()>,
) -> Result<Bytes> {
    let mut payload = Vec::with_capacity(bytes);
    for number in 0..chunks_of(bytes) {
        let key = tables::chunk(event, number);
        let (mut place, mut is_part) = (None, false);
        row(&key, &mut |row| match codec::decode_payload(row) {
            Some(PayloadRow::Part(part)) => {
                payload.extend_from_slice(part);
                is_part = true;
            }
            Some(PayloadRow::Place(found)) => place = Some(found),
            None => {}
        })?;
        match place {
            Some(place) if number == 0 && place.bytes as usize == bytes => {
                return snapshot.blob(&key, place).map(Bytes::from);
            }
            None if is_part => {}
            _ => return Err(snapshot.damaged(Table::Data, &key)),
        }
    }
    Ok(payload.into())
}

/// Places that the rows of `meta` in a snapshot name as places to overwrite with zeros.
pub fn erased_in(snapshot: &Snapshot) -> Result<Vec<BlobRange>> {
    let mut places = Vec::new();
    let from = Bound::Included(ERASED_KEY);
    snapshot.scan(Table::Meta, (from, Bound::Unbounded), Direction::Up, |key, value| {
        if !key.starts_with(ERASED_KEY) {
            return Ok(ScanStep::Stop);
        }
        let (offset, bytes) = codec::decode::<(u64, u32)>(value).ok_or_else(|| snapshot.damaged(Table::Meta, key))?;
        places.push(BlobRange { offset, bytes, crc: 0 });
        Ok(ScanStep::Go)
    })?;
    Ok(places)
}

/// The places that the rows of a partition name.
pub fn places_in(snapshot: &Snapshot) -> Result<Vec<BlobRange>> {
    let mut places = Vec::new();
    snapshot.scan(Table::Data, (Bound::Unbounded, Bound::Unbounded), Direction::Up, |_, row| {
        if let Some(PayloadRow::Place(place)) = codec::decode_payload(row) {
            places.push(place);
        }
        Ok(ScanStep::Go)
    })?;
    Ok(places)
}

impl Snapshot {
    /// The payload of an event that has `bytes` of it.
    ///
    /// # Errors
    /// A row is missing or damaged, or the disk fails.
    pub fn payload(&self, event: EventId, bytes: usize) -> Result<Bytes> {
        read_payload(self, event, bytes, |key, take| self.get(Table::Data, key, take).map(drop))
    }
}
