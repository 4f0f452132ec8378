//! Writes ids in the form of a KSUID (segmentio/ksuid): 27 digits of base 62, which sort as the ids do.
//!
//! The 20 bytes behind the digits are, in this order: the seconds since 1,400,000,000 (4 bytes), the millisecond of the
//! second divided by 4 (1 byte), and 15 bytes with the rest of the UUIDv7: the two low bits of the millisecond, its 74 bits of
//! counter and chance, and zeros. A KSUID library reads the right time from it.
//!
//! Invariant: `read(&write(id)) == Some(id)` for every UUIDv7 of the years 2014 to 2150.

/// Length of the text.
pub const DIGITS: usize = 27;
/// Unix seconds at which a KSUID's time begins.
const EPOCH_S: u64 = 1_400_000_000;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Bits of the UUID that follow the bytes of the time.
const REST_BITS: u32 = 76;
/// Zeros at the end.
const PADDING_BITS: u32 = 120 - REST_BITS;
/// The version and the variant of a UUIDv7.
const FIXED: u128 = (0x7 << 76) | (0b10 << 62);

/// The text of a UUIDv7. A time before 2014 is shown as its first millisecond.
pub fn write(id: u128) -> String {
    let ms = (id >> 80) as u64;
    let s = (ms / 1_000).saturating_sub(EPOCH_S).min(u64::from(u32::MAX)) as u32;
    let ms = ms % 1_000;
    let random = ((id >> 64) & 0xfff) << 62 | (id & 0x3fff_ffff_ffff_ffff);
    let rest = (u128::from(ms & 0b11) << 74 | random) << PADDING_BITS;
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&s.to_be_bytes());
    bytes[4] = (ms / 4) as u8;
    bytes[5..].copy_from_slice(&rest.to_be_bytes()[1..]);
    digits_of(bytes)
}

/// The UUIDv7 that `write` shows as this text. `None` for any other text.
pub fn read(text: &str) -> Option<u128> {
    let id = floor(text)?;
    (write(id) == text).then_some(id)
}

/// The UUIDv7 at which this KSUID stands among those of `write`, which need not have made it. `None` if the text is no
/// KSUID.
pub fn floor(text: &str) -> Option<u128> {
    let bytes = bytes_of(text)?;
    let s = u64::from(u32::from_be_bytes(*bytes.first_chunk()?)) + EPOCH_S;
    let mut rest = [0; 16];
    rest[1..].copy_from_slice(&bytes[5..]);
    let rest = u128::from_be_bytes(rest) >> PADDING_BITS;
    let ms = (u64::from(bytes[4]) * 4 + (rest >> 74) as u64).min(999);
    let random = rest & ((1 << 74) - 1);
    let time = u128::from(s * 1_000 + ms) << 80;
    Some(time | FIXED | (random >> 62) << 64 | random & 0x3fff_ffff_ffff_ffff)
}

fn digits_of(mut bytes: [u8; 20]) -> String {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0;
        for byte in &mut bytes {
            let value = remainder << 8 | u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = ALPHABET[remainder as usize];
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// The 20 bytes of a KSUID. `None` for another length, another character or a greater number.
fn bytes_of(text: &str) -> Option<[u8; 20]> {
    if text.len() != DIGITS {
        return None;
    }
    let mut bytes = [0_u8; 20];
    for character in text.bytes() {
        let mut carry = match character {
            b'0'..=b'9' => character - b'0',
            b'A'..=b'Z' => character - b'A' + 10,
            b'a'..=b'z' => character - b'a' + 36,
            _ => return None,
        } as u32;
        for byte in bytes.iter_mut().rev() {
            let value = u32::from(*byte) * 62 + carry;
            *byte = value as u8;
            carry = value >> 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;
    use crate::model::id::Stamp;

    /// Ids of moments between 2014 and 2150, in order.
    fn ids() -> Vec<u128> {
        let mut seed = 1_u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 8
        };
        let mut ids = Vec::new();
        for n in 0..2_000_i64 {
            let at = Time(1_400_000_000_000 + n * 2_100_000_007 + (random() % 3) as i64);
            let mut stamp = Stamp::after(0);
            ids.extend((0..5).map(|step| stamp.next::<()>(at.plus_ms(step / 2), random()).as_u128()));
        }
        ids
    }

    #[test]
    fn ids_come_back_and_their_texts_sort_as_they_do() {
        let ids = ids();
        assert!(ids.is_sorted());
        let texts: Vec<String> = ids.iter().map(|id| write(*id)).collect();
        assert!(texts.windows(2).all(|pair| pair[0] < pair[1]));
        for (id, text) in ids.iter().zip(&texts) {
            assert_eq!(read(text), Some(*id), "{text}");
            assert_eq!(text.len(), DIGITS);
        }
    }

    #[test]
    fn a_library_reads_the_time_and_the_known_example() {
        // The example of segmentio/ksuid's README.
        let bytes = bytes_of("0ujtsYcgvSTl8PAuAdqWYSMnLOv").unwrap();
        assert_eq!(bytes[..4], [0x06, 0x69, 0xf7, 0xef]);
        assert_eq!(bytes[4..8], [0xb5, 0xa1, 0xcd, 0x34]);
        assert_eq!(digits_of(bytes), "0ujtsYcgvSTl8PAuAdqWYSMnLOv");
        assert_eq!(digits_of([0xff; 20]), "aWgEPTl1tmebfsQzFP4bxwgy80V");
        let id = Stamp::after(0).next::<()>(Time(1_772_704_800_123), 7).as_u128();
        let bytes = bytes_of(&write(id)).unwrap();
        assert_eq!(u32::from_be_bytes(*bytes.first_chunk().unwrap()), 1_772_704_800 - 1_400_000_000);
        assert_eq!(bytes[4], 30);
    }

    #[test]
    fn other_texts_are_no_ids_and_foreign_ksuids_keep_their_place() {
        for text in
            ["", "0", "aWgEPTl1tmebfsQzFP4bxwgy80W", "zzzzzzzzzzzzzzzzzzzzzzzzzzz", "0ujtsYcgvSTl8PAuAdqWYSMnLO-"]
        {
            assert_eq!((read(text), floor(text)), (None, None), "{text}");
        }
        let foreign = "0ujtsYcgvSTl8PAuAdqWYSMnLOv";
        assert_eq!(read(foreign), None);
        let place = floor(foreign).unwrap();
        assert!(write(place).as_str() <= foreign);
        assert_eq!(place >> 80, 1_507_608_047 * 1_000 + u128::from(0xb5_u8) * 4 + 2);
    }
}
