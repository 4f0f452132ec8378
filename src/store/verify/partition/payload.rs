//! Verifies the payloads of a partition, in rows and in the blob file.

use crate::kv::blob_range::{BLOBS_END_KEY, BlobRange};
use crate::kv::codec::{self, PayloadRow};
use crate::kv::error::{Error, Result};
use crate::kv::payload::{CHUNK_BYTES, chunks_of};
use crate::kv::tables::{self, Table};
use crate::model::Event;
use crate::store::verify::partition::{Finding, PartitionWalk};

impl PartitionWalk<'_, '_> {
    /// A part of an event's payload that has no row.
    pub(super) fn missing_part(&self, event: &Event) -> Result<Finding> {
        let first = tables::chunk(event.id, 0);
        let is_place = |row: &[u8]| matches!(codec::decode_payload(row), Some(PayloadRow::Place(_)));
        let parts = match self.snapshot.get(Table::Data, &first, is_place)? {
            Some(true) => 1,
            _ => chunks_of(event.data_bytes as usize),
        };
        for number in 0..parts {
            if !self.has(Table::Data, &tables::chunk(event.id, number))? {
                return Ok(Some(format!("part {number} of its data is missing")));
            }
        }
        Ok(None)
    }

    pub(super) fn data(&mut self, key: &[u8], value: &[u8]) -> Result<Finding> {
        let Some(row) = codec::decode_payload(value) else { return Ok(Some("does not read back".into())) };
        let place = key.split_last_chunk::<2>().and_then(|(id, number)| Some((id.first_chunk::<16>()?, number)));
        let Some((id, number)) = place.filter(|_| key.len() == 18) else {
            return Ok(Some("the key is no part".into()));
        };
        let event = match self.find::<Event>(Table::Events, id)? {
            None => return Ok(Some("its event is not there".into())),
            Some(None) => return Ok(None),
            Some(Some(event)) => event,
        };
        let from = usize::from(u16::from_be_bytes(*number)) * CHUNK_BYTES;
        let left = (event.data_bytes as usize).saturating_sub(from);
        let (found, expected) = match row {
            PayloadRow::Part(part) => (part.len(), left.min(CHUNK_BYTES)),
            PayloadRow::Place(_) if from > 0 => return Ok(Some("a place that is not the first part".into())),
            PayloadRow::Place(place) => match self.blob(key, place)? {
                None => (place.bytes as usize, left),
                found => return Ok(found),
            },
        };
        Ok((found != expected).then(|| format!("{found} bytes where {expected} should be")))
    }

    /// Reads a payload in the blob file.
    fn blob(&self, key: &[u8], place: BlobRange) -> Result<Finding> {
        let end = self.snapshot.get(Table::Meta, BLOBS_END_KEY, codec::decode::<u64>)?.flatten().unwrap_or(0);
        if place.end() > end {
            return Ok(Some(format!("its place ends at {}, and that of all payloads at {end}", place.end())));
        }
        Ok(match self.snapshot.blob(key, place) {
            Ok(_) => None,
            Err(Error::Damaged { .. }) => Some("the bytes at its place do not have their checksum".into()),
            // Erased by a later commit than the walk sees.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::Interrupted => None,
            Err(error) => Some(format!("the bytes at its place cannot be read: {error}")),
        })
    }
}
