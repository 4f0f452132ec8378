//! A blocked Bloom filter over the first halves of fingerprints.
//!
//! Each key sets bits in one cache line only, so that a test costs one access to memory. The halves are those of SHA-256
//! hashes, hence uniform. Invariant: a key that was inserted is found.

/// Bits per key. Half a percent of other keys is found too.
const KEY_BITS: usize = 12;
/// Words of a cache line.
const LINE_WORDS: usize = 8;
/// Bits that a key sets. Each is chosen by nine bits of a hash.
const KEY_MARKS: u32 = 6;

/// The filter of one run.
#[derive(Debug, Default)]
pub struct FingerprintFilter {
    words: Vec<u64>,
}

impl FingerprintFilter {
    /// The filter of these keys.
    pub fn of(keys: impl ExactSizeIterator<Item = u32>) -> FingerprintFilter {
        let lines = (keys.len() * KEY_BITS).div_ceil(LINE_WORDS * 64);
        let mut filter = FingerprintFilter { words: vec![0; lines * LINE_WORDS] };
        for key in keys {
            let line = filter.line_of(key);
            marks(key).for_each(|bit| filter.words[line + bit / 64] |= 1 << (bit % 64));
        }
        filter
    }

    /// Whether the filter may contain a key.
    pub fn may_have(&self, key: u32) -> bool {
        if self.words.is_empty() {
            return false;
        }
        let line = self.line_of(key);
        marks(key).all(|bit| (self.words[line + bit / 64] >> (bit % 64)) & 1 == 1)
    }

    /// The index of the first word of a key's line.
    fn line_of(&self, key: u32) -> usize {
        let lines = (self.words.len() / LINE_WORDS) as u64;
        let hash = u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        ((hash * lines) >> 32) as usize * LINE_WORDS
    }

    /// The words, to be stored.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The filter of stored words. `None` if they are no whole lines.
    pub fn from_words(words: Vec<u64>) -> Option<FingerprintFilter> {
        words.len().is_multiple_of(LINE_WORDS).then_some(FingerprintFilter { words })
    }
}

/// The bits of a key within its line.
fn marks(key: u32) -> impl Iterator<Item = usize> {
    let hash = (u64::from(key) ^ 0x5DEE_CE66_D1B5_4A32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (0..KEY_MARKS).map(move |number| ((hash >> (10 + 9 * number)) & 511) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uniform and deterministic keys.
    fn keys(range: std::ops::Range<u32>) -> Vec<u32> {
        range.map(|number| number.wrapping_mul(2_654_435_761)).collect()
    }

    #[test]
    fn every_key_is_found_and_few_others() {
        let filter = FingerprintFilter::of(keys(0..10_000).into_iter());
        assert!(keys(0..10_000).into_iter().all(|key| filter.may_have(key)));
        let strangers = keys(10_000..110_000).into_iter().filter(|key| filter.may_have(*key)).count();
        assert!(strangers < 1_500, "{strangers} of 100000");
        let again = FingerprintFilter::from_words(filter.words().to_vec()).unwrap();
        assert!(keys(0..10_000).into_iter().all(|key| again.may_have(key)));
        assert!(FingerprintFilter::from_words(vec![0; 9]).is_none());
    }

    #[test]
    fn an_empty_filter_finds_nothing() {
        assert!(!FingerprintFilter::of(std::iter::empty()).may_have(7) && !FingerprintFilter::default().may_have(7));
    }
}
