//! Times in microseconds, counted in buckets that are less than one percent wide. Adding one costs an index, and shards
//! keep threads from waiting for each other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Buckets per power of two.
const SUB_BITS: u32 = 7;
const SUB: usize = 1 << SUB_BITS;
const BUCKETS: usize = (64 - SUB_BITS as usize + 1) * SUB;
const SHARDS: usize = 16;

#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u32>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    pub fn add(&mut self, us: u64) {
        self.counts[bucket(us)] += 1;
        self.total += 1;
    }

    pub fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, more)| *own += more);
        self.total += other.total;
    }

    /// The time in milliseconds below which the share `q` (0.99 …) of the times lies. `None` without a time.
    pub fn ms(&self, q: f64) -> Option<f64> {
        let rank = ((self.total as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        })?;
        Some(upper(at) as f64 / 1e3)
    }
}

/// Histograms that many tasks add to at once.
#[derive(Default)]
pub struct Shards {
    shards: [Mutex<Histogram>; SHARDS],
    next: AtomicUsize,
}

impl Shards {
    /// The number of a shard, spread over all of them.
    pub fn shard(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % SHARDS
    }

    pub fn add(&self, shard: usize, us: u64) {
        self.shards[shard].lock().expect("a histogram").add(us);
    }

    /// All times that were added since the last call.
    pub fn take(&self) -> Histogram {
        let mut all = Histogram::default();
        for shard in &self.shards {
            all.merge(&std::mem::take(&mut *shard.lock().expect("a histogram")));
        }
        all
    }
}

fn bucket(us: u64) -> usize {
    let us = us.max(1);
    let power = us.ilog2();
    if power < SUB_BITS {
        return us as usize;
    }
    let shift = power - SUB_BITS;
    (shift as usize + 1) * SUB + (us >> shift) as usize - SUB
}

/// The largest time of a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    let shift = bucket / SUB - 1;
    (((bucket % SUB + SUB + 1) as u64) << shift) - 1
}
