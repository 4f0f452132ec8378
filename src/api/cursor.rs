//! Cursors: opaque to clients, bound to the kind of list they came from.
//!
//! A cursor is base64url of one byte of kind, the 16 bytes of an id, and a CRC-32 of both. The check finds accidents
//! (a cut, a mix-up), not forgery: a position gives access to nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Which list a cursor belongs to; the numbers are part of the cursors that are out there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Events = 1,
    Deliveries = 2,
    Attempts = 3,
    Webhooks = 4,
    Apps = 5,
    Keys = 6,
    Organizations = 7,
    Replays = 8,
    Audit = 9,
    Feed = 10,
}

const BYTES: usize = 1 + 16 + 4;

/// The cursor of a position.
pub fn write(kind: Kind, position: u128) -> String {
    let mut bytes = [0; BYTES];
    bytes[0] = kind as u8;
    bytes[1..17].copy_from_slice(&position.to_be_bytes());
    let check = crc32fast::hash(&bytes[..17]);
    bytes[17..].copy_from_slice(&check.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position of a cursor of this kind; none for any other text.
pub fn read(kind: Kind, text: &str) -> Option<u128> {
    let bytes: [u8; BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    let (body, check) = bytes.split_at(17);
    if body[0] != kind as u8 || crc32fast::hash(body).to_be_bytes() != check {
        return None;
    }
    body[1..].try_into().ok().map(u128::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_on_its_own_list_only() {
        for position in [0, 1, u128::MAX, 0x019c_bd70_9d78_7320_aa3a_de34_9796_4cb8] {
            let text = write(Kind::Events, position);
            assert_eq!(read(Kind::Events, &text), Some(position));
            assert_eq!(read(Kind::Deliveries, &text), None);
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let good = write(Kind::Events, 77);
        let mut other = good.clone().into_bytes();
        other[9] = if other[9] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(other).unwrap();
        for bad in ["", "x", "%%%", &good[1..], &format!("{good}A"), &format!("{good}="), &altered] {
            assert_eq!(read(Kind::Events, bad), None, "{bad}");
        }
    }
}
