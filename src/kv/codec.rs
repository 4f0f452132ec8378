//! The row codec: a format byte, MessagePack or the place of a payload, and a CRC-32 of both.
//!
//! Invariant: a row that fails its check is an error for that row and never altered data. Fields are positional, which
//! takes a third of the bytes of named fields. A stored struct only gains fields at its end, with `#[serde(default)]`.
//! Any other change takes a new format byte.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::kv::blob_range::BlobRange;

/// The first format: MessagePack arrays.
const FORMAT: u8 = 1;
/// The format of a payload's place in the blob file: offset, length and CRC-32 in little-endian order.
const FORMAT_PLACE: u8 = 2;
const PLACE_BYTES: usize = 8 + 4 + 4;
const CHECKSUM_BYTES: usize = 4;

/// Encodes `value` as a row.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encode_with(&mut Vec::new(), value)
}

/// Encodes `value` as a row. `scratch` is a buffer that the caller keeps, so that the row is allocated once, in its exact
/// length.
pub fn encode_with<T: Serialize>(scratch: &mut Vec<u8>, value: &T) -> Vec<u8> {
    scratch.clear();
    scratch.push(FORMAT);
    rmp_serde::encode::write(scratch, value).expect("a model value always encodes");
    let mut row = Vec::with_capacity(scratch.len() + CHECKSUM_BYTES);
    row.extend_from_slice(scratch);
    seal(row)
}

/// Encodes plain bytes (payload chunks, sealed rows) with format and checksum.
pub fn encode_bytes(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len() + 1 + CHECKSUM_BYTES);
    bytes.push(FORMAT);
    bytes.extend_from_slice(value);
    seal(bytes)
}

/// Decodes a row. `None` if it is damaged.
pub fn decode<T: DeserializeOwned>(row: &[u8]) -> Option<T> {
    rmp_serde::from_slice(open(row)?).ok()
}

/// Decodes a row whose value borrows from it. `None` if it is damaged.
pub fn decode_borrowed<'r, T: Deserialize<'r>>(row: &'r [u8]) -> Option<T> {
    rmp_serde::from_slice(open(row)?).ok()
}

/// The bytes of a row that `encode_bytes` made. `None` if it is damaged.
pub fn decode_bytes(row: &[u8]) -> Option<&[u8]> {
    open(row)
}

/// A row of `data`.
#[derive(Debug, PartialEq, Eq)]
pub enum PayloadRow<'a> {
    /// A part of the payload, at most `payload::CHUNK_BYTES` long.
    Part(&'a [u8]),
    /// The place of the whole payload in the blob file.
    Place(BlobRange),
}

/// Encodes the place of a payload.
pub fn encode_place(place: BlobRange) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + PLACE_BYTES + CHECKSUM_BYTES);
    bytes.push(FORMAT_PLACE);
    bytes.extend_from_slice(&place.offset.to_le_bytes());
    bytes.extend_from_slice(&place.bytes.to_le_bytes());
    bytes.extend_from_slice(&place.crc.to_le_bytes());
    seal(bytes)
}

/// Decodes a row of `data` of either format. `None` if it is damaged.
pub fn decode_payload(row: &[u8]) -> Option<PayloadRow<'_>> {
    let (format, value) = split(row)?;
    match format {
        FORMAT => Some(PayloadRow::Part(value)),
        FORMAT_PLACE => {
            let (offset, rest) = value.split_first_chunk::<8>()?;
            let (bytes, crc) = rest.split_first_chunk::<4>()?;
            let (offset, bytes) = (u64::from_le_bytes(*offset), u32::from_le_bytes(*bytes));
            let crc = u32::from_le_bytes(crc.try_into().ok()?);
            offset.checked_add(u64::from(bytes)).map(|_| PayloadRow::Place(BlobRange { offset, bytes, crc }))
        }
        _ => None,
    }
}

fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn open(row: &[u8]) -> Option<&[u8]> {
    split(row).filter(|(format, _)| *format == FORMAT).map(|(_, value)| value)
}

/// The format and the value of a row whose checksum holds.
fn split(row: &[u8]) -> Option<(u8, &[u8])> {
    let (body, sum) = row.split_last_chunk::<CHECKSUM_BYTES>()?;
    let is_whole = crc32fast::hash(body) == u32::from_le_bytes(*sum);
    body.split_first().filter(|_| is_whole).map(|(format, value)| (*format, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_single_bit_flip_is_noticed() {
        let row = encode(&("invoice.paid", 42u32, vec![1u8, 2, 3]));
        for bit in 0..row.len() * 8 {
            let mut bad = row.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode::<(String, u32, Vec<u8>)>(&bad), None, "bit {bit}");
        }
        assert!(decode::<(String, u32, Vec<u8>)>(&row).is_some());
    }

    #[test]
    fn the_place_of_a_payload_reads_back_and_no_other_format_passes_for_it() {
        let place = BlobRange { offset: 1 << 40, bytes: 70_000, crc: 0x1234_5678 };
        let row = encode_place(place);
        assert_eq!(decode_payload(&row), Some(PayloadRow::Place(place)));
        assert_eq!(decode_bytes(&row), None, "a program that knows no places calls the row damaged");
        assert_eq!(decode_payload(&encode_bytes(b"{}")), Some(PayloadRow::Part(b"{}")));
        for bit in 0..row.len() * 8 {
            let mut bad = row.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_payload(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn a_struct_may_gain_a_field_at_its_end() {
        #[derive(serde::Serialize)]
        struct Old {
            a: u32,
        }
        #[derive(serde::Deserialize, PartialEq, Debug)]
        struct New {
            a: u32,
            #[serde(default)]
            b: Option<String>,
        }
        assert_eq!(decode::<New>(&encode(&Old { a: 7 })), Some(New { a: 7, b: None }));
    }
}
