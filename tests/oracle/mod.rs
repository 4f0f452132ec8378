//! A store beside an exact model of its content, for the tests in `model`, `power_loss`, `follow`, `verify` and
//! `continuous_check`.
//!
//! `world` gives the same write requests to the store and to the `oracle`, on a `disk` that can lose, tear and reorder
//! unsynced writes. `history` makes the requests up, and `check` compares. All of it follows from one seed: the
//! requests, the clock, the store's own randomness and the faults of the disk. So a seed is a whole run.
//!
//! The oracle is written from the contract and not from the store. It has maps only, without files, write batches and
//! indexes, and knows only where a partition begins. If the store draws a value (ids, jitter), the oracle reads it from
//! the store's answers and checks that it is permitted.

use std::sync::OnceLock;
use std::time::Instant;

mod check;
mod cluster;
mod cluster_nodes;
mod compact;
mod companion;
mod continuous_check;
mod delivery_life;
mod drawn_values;
mod erased;
mod flips;
mod follow;
mod history;
mod jobs;
mod model;
#[allow(clippy::module_inception, reason = "the oracle itself, among its tests")]
mod oracle;
mod outcomes;
mod power_loss;
mod publishing;
mod settings;
mod standby;
mod verify;
mod waiting_jobs;
mod world;

pub use crate::support::rng::Rng;

/// The expected and the found value, as text.
pub type Check<T = ()> = Result<T, String>;

/// Ends the surrounding check unless the condition holds.
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
