//! The row codec: a format byte, MessagePack, and a CRC-32 of both.
//!
//! Invariant: a row that fails its check is an error for that row and never altered data. Fields are positional, which
//! takes a third of the bytes of named fields. A stored struct only gains fields at its end, with `#[serde(default)]`.
//! Any other change takes a new format byte.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The first format: MessagePack arrays.
const FORMAT: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// Encodes `value` as a row.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192);
    bytes.push(FORMAT);
    rmp_serde::encode::write(&mut bytes, value).expect("a model value always encodes");
    seal(bytes)
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

/// The bytes of a row that `encode_bytes` made. `None` if it is damaged.
pub fn decode_bytes(row: &[u8]) -> Option<&[u8]> {
    open(row)
}

fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn open(row: &[u8]) -> Option<&[u8]> {
    let (body, sum) = row.split_last_chunk::<CHECKSUM_BYTES>()?;
    let whole = crc32fast::hash(body) == u32::from_le_bytes(*sum);
    match body.split_first() {
        Some((&FORMAT, value)) if whole => Some(value),
        _ => None,
    }
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
