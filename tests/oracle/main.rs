//! A store beside an exact model of what it should hold, for the tests in `model`, `power_loss`, `verify` and `beside`.
//!
//! `world` hands the same orders to the store and to the `oracle`, on a `disk` that can lose, tear and reorder what was not
//! synced; `history` makes the orders up, `check` compares. Everything follows from one seed: the orders, the clock, the
//! store's own randomness and the faults of the disk, so a seed is a whole run.
//!
//! The oracle is written from the contract, not from the store: it has no files, no drafts and no indexes, only maps, and
//! knows of partitions only where one begins. Where the store draws something (ids, jitter), the oracle takes it over from
//! what the store answers or shows, after judging that it lies where it may lie.

use std::sync::OnceLock;
use std::time::Instant;

mod beside;
mod check;
mod disk;
mod found;
mod history;
mod jobs;
mod making;
mod model;
mod oracle;
mod power_loss;
mod publishing;
mod recording;
mod settings;
mod verify;
mod world;

/// What was expected and what was found, in words.
pub type Check<T = ()> = Result<T, String>;

/// Ends the check that it stands in unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err(format!($($words)+));
        }
    };
}
pub(crate) use ensure;

/// A number from the environment.
pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Seconds since the first call, for rates that are printed and never asserted.
#[allow(clippy::disallowed_methods)]
pub fn elapsed_s() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// Numbers that look random and follow from a seed (splitmix64, Steele and others 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of `0 .. end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end.max(1)
    }

    /// A number of `from ..= to`.
    pub fn within(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from + 1) as u64) as i64
    }

    /// True so many times of a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { Some(of[self.below(of.len() as u64) as usize].clone()) }
    }

    /// Another source that follows from this one.
    pub fn fork(&mut self) -> Rng {
        Rng::new(self.draw())
    }
}
