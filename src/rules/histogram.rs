//! Counts response times in a histogram of 222 one-byte buckets.
//!
//! Buckets are exact up to 31 ms. Every doubling above has 16 buckets.
//!
//! Invariant: a bucket's middle is within 3.2 % of every time that falls into it, and a longer time never falls into a
//! smaller bucket. Counts per bucket add up over partitions, which percentiles themselves would not.

/// Longest distinguished time, in milliseconds: the longest `timeout_ms`. Longer times count as this.
pub const RESPONSE_MS_MAX: u32 = 120_000;

/// Buckets in each doubling. The error is half of one.
const STEPS: u32 = 16;
/// Below this time, each millisecond has its own bucket.
const EXACT_MS: u32 = 2 * STEPS;
/// log2 of `EXACT_MS`.
const EXACT_BITS: u32 = 5;
/// The bucket of `RESPONSE_MS_MAX`.
const LAST: u8 = 221;

/// The bucket that a response time in milliseconds falls into.
pub fn bucket(ms: u32) -> u8 {
    let ms = ms.min(RESPONSE_MS_MAX);
    if ms < EXACT_MS {
        return ms as u8;
    }
    let octave = ms.ilog2() - EXACT_BITS;
    let step = (ms >> (octave + 1)) - STEPS;
    (EXACT_MS + octave * STEPS + step) as u8
}

/// The shortest time of a bucket in milliseconds. A number that is not a bucket counts as the last one.
pub fn lower(bucket: u8) -> u32 {
    edge(u32::from(bucket.min(LAST)))
}

/// The longest time of a bucket in milliseconds: the `le` of a Prometheus histogram.
pub fn upper(bucket: u8) -> u32 {
    if bucket >= LAST { RESPONSE_MS_MAX } else { edge(u32::from(bucket) + 1) - 1 }
}

/// The time that stands for a bucket, in milliseconds: its middle.
pub fn mid(bucket: u8) -> u32 {
    let low = lower(bucket);
    low + (upper(bucket) - low) / 2
}

fn edge(bucket: u32) -> u32 {
    if bucket < EXACT_MS {
        return bucket;
    }
    let (octave, step) = ((bucket - EXACT_MS) / STEPS, (bucket - EXACT_MS) % STEPS);
    (STEPS + step) << (octave + 1)
}

/// The `percent`th percentile by nearest rank, in milliseconds: the middle of the bucket that holds the sample at rank
/// `⌈percent·n/100⌉`, at least the first. `None` without a sample. `counts` is sorted by bucket, as in `Sums`.
pub fn percentile(counts: &[(u8, u64)], percent: u8) -> Option<u32> {
    let total: u128 = counts.iter().map(|&(_, count)| u128::from(count)).sum();
    if total == 0 {
        return None;
    }
    let rank = (total * u128::from(percent.min(100))).div_ceil(100).max(1);
    let mut seen = 0;
    for &(bucket, count) in counts {
        seen += u128::from(count);
        if seen >= rank {
            return Some(mid(bucket));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn off_by(guess: u32, truth: u32) -> f64 {
        (f64::from(guess) - f64::from(truth)).abs() / f64::from(truth.max(1))
    }

    #[test]
    fn every_time_lies_within_its_bucket_and_near_its_middle() {
        let mut last = 0;
        for ms in 0..=RESPONSE_MS_MAX {
            let b = bucket(ms);
            assert!(b == last || b == last + 1, "{ms} ms jumps from bucket {last} to {b}");
            assert!(lower(b) <= ms && ms <= upper(b), "{ms} ms outside of {}..={}", lower(b), upper(b));
            assert!(off_by(mid(b), ms) <= 0.032, "{ms} ms reads as {}", mid(b));
            last = b;
        }
        assert_eq!(last, LAST);
    }

    #[test]
    fn a_longer_time_or_no_bucket_counts_as_the_last() {
        assert_eq!(bucket(u32::MAX), LAST);
        assert_eq!(mid(255), mid(LAST));
        assert_eq!(upper(255), RESPONSE_MS_MAX);
    }

    #[test]
    fn a_percentile_is_the_sample_at_the_nearest_rank() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[(3, 0)], 50), None);
        assert_eq!(percentile(&[(3, 1), (9, 1)], 50), Some(3));
        assert_eq!(percentile(&[(3, 1), (9, 1)], 51), Some(9));
        assert_eq!(percentile(&[(3, 98), (9, 1), (20, 1)], 99), Some(9));
        assert_eq!(percentile(&[(3, 98), (9, 1), (20, 1)], 100), Some(20));
        assert_eq!(percentile(&[(3, 1), (9, 1)], 0), Some(3));
    }

    proptest! {
        #[test]
        fn a_percentile_is_near_that_of_the_samples_themselves(
            mut samples in prop::collection::vec(0..=RESPONSE_MS_MAX, 1..300),
            percent in 0u8..=100,
        ) {
            samples.sort_unstable();
            let rank = (samples.len() * usize::from(percent)).div_ceil(100).max(1);
            let truth = samples[rank - 1];
            let mut sums = crate::model::figures::Sums::default();
            for ms in samples {
                sums.tally(bucket(ms), 1);
            }
            let guess = percentile(&sums.histogram, percent).unwrap();
            prop_assert!(off_by(guess, truth) <= 0.032, "{} for {}", guess, truth);
        }
    }
}
