//! Ids in the form of a KSUID: 27 base-62 digits, as Svix's ids have it.
//!
//! 20 bytes: seconds since 1,400,000,000 (4), the milliseconds of the second divided by 4 (1, Svix's `KsuidMs`), and 15
//! bytes. The 15 bytes hold the two low bits of the millisecond, the other 80 bits of the UUID, and 38 zero bits. So
//! any KSUID library reads the right time, the texts sort like the ids, and the id reads back.
//!
//! Invariant: `encode` is strictly monotonic for ids from 2014-05-13 to 2150-06-19, and `decode` is its inverse.

/// Digits of a KSUID.
pub const KSUID_DIGITS: usize = 27;
/// The base-62 digits in ASCII order, so that texts sort like numbers.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The Unix time at which KSUIDs begin, in seconds.
const EPOCH_S: u64 = 1_400_000_000;
/// Bits of the id below its milliseconds.
const LOW_BITS: u32 = 80;
/// Zero bits at the end.
const FILL_BITS: u32 = 38;

/// The KSUID of an id. An id of another time than the format can state gets the nearest time.
pub fn encode(id: u128) -> String {
    let ms = (id >> LOW_BITS) as u64;
    let seconds = (ms / 1_000).saturating_sub(EPOCH_S).min(u64::from(u32::MAX)) as u32;
    let ms = ms % 1_000;
    let rest = (u128::from(ms % 4) << LOW_BITS | id & low_mask()) << FILL_BITS;
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    bytes[4] = (ms / 4) as u8;
    bytes[5..].copy_from_slice(&rest.to_be_bytes()[1..]);
    text_of(bytes)
}

/// The id of a KSUID that `encode` made. `None` for any other text.
pub fn decode(text: &str) -> Option<u128> {
    floor(text).filter(|id| encode(*id) == text)
}

/// The greatest id whose KSUID is not above `text`: the place in a list of a KSUID that another system made. `None` if the
/// text is no KSUID.
pub fn floor(text: &str) -> Option<u128> {
    let bytes = bytes_of(text)?;
    let seconds = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let mut rest = [0; 16];
    rest[1..].copy_from_slice(&bytes[5..]);
    let rest = u128::from_be_bytes(rest) >> FILL_BITS;
    let quarter = u64::from(bytes[4]);
    // Bytes above 249 are later than the last millisecond of the second.
    let (ms, low) =
        if quarter > 249 { (999, low_mask()) } else { (quarter * 4 + (rest >> LOW_BITS) as u64, rest & low_mask()) };
    Some(u128::from((u64::from(seconds) + EPOCH_S) * 1_000 + ms) << LOW_BITS | low)
}

const fn low_mask() -> u128 {
    (1 << LOW_BITS) - 1
}

/// The digits of a number, by long division.
fn text_of(mut bytes: [u8; 20]) -> String {
    let mut digits = [b'0'; KSUID_DIGITS];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0_u32;
        for byte in &mut bytes {
            let part = rest << 8 | u32::from(*byte);
            *byte = (part / 62) as u8;
            rest = part % 62;
        }
        *digit = DIGITS[rest as usize];
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// The number of 27 digits. `None` if a character is no digit, or if the number has more than 20 bytes.
fn bytes_of(text: &str) -> Option<[u8; 20]> {
    let mut bytes = [0_u8; 20];
    if text.len() != KSUID_DIGITS {
        return None;
    }
    for character in text.bytes() {
        let mut carry = DIGITS.binary_search(&character).ok()? as u32;
        for byte in bytes.iter_mut().rev() {
            let part = u32::from(*byte) * 62 + carry;
            *byte = part as u8;
            carry = part >> 8;
        }
        if carry > 0 {
            return None;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;
    use crate::model::id::{EventId, Stamp};

    /// A pseudorandom sequence (SplitMix64), the same in every run.
    fn numbers(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }
    }

    /// Ids of every kind: stamped ones in one millisecond and over 130 years, and any 80 low bits.
    fn ids() -> Vec<u128> {
        let mut next = numbers(7);
        let mut ids = Vec::new();
        let mut stamp = Stamp::after(0);
        for _ in 0..2_000 {
            let id: EventId = stamp.next(Time(1_772_704_800_120), next());
            ids.push(id.as_u128());
        }
        for _ in 0..8_000 {
            let ms = u128::from(1_400_000_000_000 + next() % 4_294_967_296_000);
            let low = u128::from(next()) << 16 | u128::from(next() & 0xffff);
            ids.push(ms << LOW_BITS | low);
            ids.extend((0..3).map(|more| (ms << LOW_BITS | low).saturating_add(more)));
        }
        ids
    }

    #[test]
    fn every_id_reads_back() {
        for id in ids() {
            let text = encode(id);
            assert_eq!((text.len(), decode(&text)), (KSUID_DIGITS, Some(id)), "{text}");
        }
    }

    #[test]
    fn texts_sort_like_their_ids() {
        let mut ids = ids();
        ids.sort_unstable();
        ids.dedup();
        for pair in ids.windows(2) {
            assert!(encode(pair[0]) < encode(pair[1]), "{:x} {:x}", pair[0], pair[1]);
        }
    }

    #[test]
    fn a_ksuid_library_reads_the_time() {
        let id = u128::from(1_772_704_800_123_u64) << LOW_BITS;
        let bytes = bytes_of(&encode(id)).unwrap();
        assert_eq!(bytes[..5], [&(1_772_704_800_u32 - 1_400_000_000).to_be_bytes()[..], &[30]].concat());
        assert_eq!(encode(u128::from(1_400_000_000_000_u64) << LOW_BITS), "0".repeat(27));
    }

    #[test]
    fn a_foreign_ksuid_has_a_place_and_is_no_id() {
        // The published example of the KSUID's own documentation, from 2017.
        let text = "0ujtsYcgvSTl8PAuAdqWYSMnLOv";
        assert_eq!(decode(text), None);
        let place = floor(text).unwrap();
        assert_eq!((place >> LOW_BITS) as u64 / 1_000, 1_507_608_047);
        assert!(encode(place).as_str() <= text && text < encode(place + 1).as_str());
        for wrong in
            ["", "0", &"z".repeat(27), &"0".repeat(28), &"-".repeat(27), &"é".repeat(27), "aWgEPTl1tmebfsQzFP4bxwgy80W"]
        {
            assert_eq!(floor(wrong), None, "{wrong}");
        }
        assert!(floor("aWgEPTl1tmebfsQzFP4bxwgy80V").is_some(), "the greatest KSUID");
    }
}
