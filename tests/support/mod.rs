//! Support of all themes: a daemon on real sockets with a clock that the test moves, and receivers with scripted
//! answers.
//!
//! Invariant: a test waits for events and never for time. `PATIENCE` only ends a test that has failed.

pub mod children;
pub mod client;
pub mod daemon;
pub mod disk;
pub mod installation;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod rng;
pub mod signatures;
pub mod time_limit;

use std::time::Duration;

use postrider::model::Time;

pub use client::Client;
pub use daemon::TestDaemon;
pub use receiver::{Act, Receiver, Request};

/// The start time of every test: 2026-03-05T10:00:00Z.
pub const START: Time = Time(1_772_704_800_000);
/// Maximum wait of a test that will fail.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Interval between two polls.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The result of `look`, as soon as it has one. The only place that polls.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The result of `coming`. Panics and names `what` if it never comes.
pub async fn in_time<T>(what: &str, coming: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, coming).await {
        Ok(come) => come,
        Err(_) => panic!("never came: {what}"),
    }
}
