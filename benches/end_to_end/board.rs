//! The board of a cell: published, acknowledged and arrived events.
//!
//! Invariant: every event carries its own number, so that lost and repeated deliveries are counted one by one and not
//! estimated from sums.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::histogram::Shards;

/// The mark in every payload, followed by the board's tag, the event's number, and the time of publishing in
/// microseconds.
pub const MARK: &[u8] = b"\"bench\":\"";
/// Bytes of `tag-number-moment` after the mark.
pub const MARK_BYTES: usize = 4 + 1 + 10 + 1 + 16;
const NUMBER_AT: usize = 5;
const MOMENT_AT: usize = 16;

/// Numbers in a block of bits, which is allocated at its first use.
const BLOCK_BITS: usize = 1 << 20;
/// Maximum blocks of a board.
const BLOCKS_MAX: usize = 4096;

pub struct Board {
    began: Instant,
    tag: [u8; 4],
    /// Deliveries per event.
    pub fanout: u64,
    next: AtomicU64,
    accepted: Bits,
    arrived: Bits,
    /// Events that were acknowledged with 202.
    pub acks: AtomicU64,
    /// First arrivals. Repeated ones are counted apart.
    pub arrivals: AtomicU64,
    pub duplicates: AtomicU64,
    /// Requests without the mark of this board.
    pub strangers: AtomicU64,
    pub checked_signatures: AtomicU64,
    pub bad_signatures: AtomicU64,
    /// Events answered with 429, 503 or 507.
    pub refused: AtomicU64,
    /// Requests that broke, or had any other status.
    pub errors: AtomicU64,
    /// Times of events that were published before this are not counted.
    from_us: AtomicU64,
    pub last_arrival_us: AtomicU64,
    pub ack_times: Shards,
    pub arrival_times: Shards,
    /// One request in this many is refused with 400. With 0 none is.
    pub refused_every: AtomicU64,
    /// Whether producers stop after their current requests.
    pub stop: AtomicBool,
}

impl Board {
    /// Whether the receiver refuses the delivery that has just arrived.
    pub fn refuses(&self) -> bool {
        let every = self.refused_every.load(Ordering::Relaxed);
        every > 0 && self.arrivals.load(Ordering::Relaxed).is_multiple_of(every)
    }

    pub fn new(fanout: usize) -> Board {
        let seed =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        let mut tag = [0; 4];
        tag.copy_from_slice(format!("{:04x}", (seed >> 4) & 0xffff).as_bytes());
        Board {
            began: Instant::now(),
            tag,
            fanout: fanout as u64,
            next: AtomicU64::new(0),
            accepted: Bits::default(),
            arrived: Bits::default(),
            acks: AtomicU64::new(0),
            arrivals: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            strangers: AtomicU64::new(0),
            checked_signatures: AtomicU64::new(0),
            bad_signatures: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            from_us: AtomicU64::new(0),
            last_arrival_us: AtomicU64::new(0),
            ack_times: Shards::default(),
            arrival_times: Shards::default(),
            refused_every: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    pub fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// The numbers of the next `count` events.
    pub fn draw(&self, count: usize) -> u64 {
        self.next.fetch_add(count as u64, Ordering::Relaxed)
    }

    /// Numbers drawn so far.
    pub fn drawn(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Drops the times so far, and counts those of events that are published from now on.
    pub fn begin_window(&self) {
        self.from_us.store(self.now_us(), Ordering::Relaxed);
        self.ack_times.take();
        self.arrival_times.take();
    }

    /// Writes an event's mark after `MARK`.
    pub fn write_mark(&self, to: &mut [u8], number: u64, moment_us: u64) {
        to[..4].copy_from_slice(&self.tag);
        write_digits(&mut to[NUMBER_AT..NUMBER_AT + 10], number);
        write_digits(&mut to[MOMENT_AT..MOMENT_AT + 16], moment_us);
    }

    /// Records a 202 for the events from `first` on, sent at `moment_us`.
    pub fn acknowledge(&self, first: u64, count: usize, moment_us: u64, shard: usize) {
        (first..first + count as u64).for_each(|number| {
            self.accepted.set(number);
        });
        self.acks.fetch_add(count as u64, Ordering::Relaxed);
        if moment_us >= self.from_us.load(Ordering::Relaxed) {
            self.ack_times.add(shard, self.now_us().saturating_sub(moment_us));
        }
    }

    /// Records a delivery to webhook `webhook` with `body`.
    pub fn arrive(&self, webhook: u64, body: &[u8], shard: usize) {
        let now_us = self.now_us();
        let Some((number, moment_us)) = self.read_mark(body) else {
            self.strangers.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let slot = if self.fanout > 1 { webhook % self.fanout } else { 0 };
        if self.arrived.set(number * self.fanout + slot) {
            self.duplicates.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.arrivals.fetch_add(1, Ordering::Relaxed);
        self.last_arrival_us.fetch_max(now_us, Ordering::Relaxed);
        if moment_us >= self.from_us.load(Ordering::Relaxed) {
            self.arrival_times.add(shard, now_us.saturating_sub(moment_us));
        }
    }

    fn read_mark(&self, body: &[u8]) -> Option<(u64, u64)> {
        let at = body.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
        let mark = body.get(at..at + MARK_BYTES)?;
        if mark[..4] != self.tag {
            return None;
        }
        let number = read_digits(&mark[NUMBER_AT..NUMBER_AT + 10])?;
        Some((number, read_digits(&mark[MOMENT_AT..])?))
    }

    /// Deliveries of acknowledged events that did not arrive.
    pub fn lost(&self) -> u64 {
        let numbers = 0..self.drawn();
        let lost = |number: &u64| {
            let arrived = |slot: &u64| self.arrived.has(number * self.fanout + slot);
            self.fanout - (0..self.fanout).filter(arrived).count() as u64
        };
        numbers.filter(|number| self.accepted.has(*number)).map(|number| lost(&number)).sum()
    }

    /// Deliveries that have not arrived yet, by the sums.
    pub fn outstanding(&self) -> u64 {
        let expected = self.acks.load(Ordering::Relaxed) * self.fanout;
        expected.saturating_sub(self.arrivals.load(Ordering::Relaxed))
    }
}

fn write_digits(to: &mut [u8], mut number: u64) {
    for digit in to.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn read_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
}

/// A set of numbers that many threads write.
struct Bits {
    blocks: Vec<OnceLock<Vec<AtomicU64>>>,
}

impl Default for Bits {
    fn default() -> Bits {
        Bits { blocks: (0..BLOCKS_MAX).map(|_| OnceLock::new()).collect() }
    }
}

impl Bits {
    /// Adds a number. Returns whether it was there already.
    fn set(&self, number: u64) -> bool {
        let (block, word, bit) = place(number);
        let words = self.blocks[block].get_or_init(|| (0..BLOCK_BITS / 64).map(|_| AtomicU64::new(0)).collect());
        words[word].fetch_or(bit, Ordering::Relaxed) & bit != 0
    }

    fn has(&self, number: u64) -> bool {
        let (block, word, bit) = place(number);
        self.blocks[block].get().is_some_and(|words| words[word].load(Ordering::Relaxed) & bit != 0)
    }
}

/// The block, the word in it, and the bit in that. Numbers beyond the last block share it, at four billion deliveries.
fn place(number: u64) -> (usize, usize, u64) {
    let block = (number as usize / BLOCK_BITS).min(BLOCKS_MAX - 1);
    (block, number as usize % BLOCK_BITS / 64, 1 << (number % 64))
}
