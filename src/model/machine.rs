//! The state of the machine and the process that a daemon runs in.

use super::time::Time;

/// The daemon's own figures at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MachineState {
    pub started_at: Time,
    pub disk_free_bytes: Option<u64>,
    /// Free space below which publishing is refused.
    pub min_free_bytes: u64,
    pub store: StoreBytes,
    /// When the oldest event that can still be read was received. `None` without an event.
    pub oldest_event: Option<Time>,
    pub partitions: usize,
    /// Publishes that wait for the writer.
    pub queue: usize,
    pub queue_max: usize,
    /// Deliveries that were dispatched and whose outcome is not durable.
    pub in_flight: usize,
    pub in_flight_max: usize,
    /// Microseconds of the latest commits. `None` before the first commit.
    pub commit_p50_us: Option<u32>,
    pub commit_p99_us: Option<u32>,
    pub followers: usize,
    /// Bytes queued for the follower that lags most.
    pub follower_queue_bytes: usize,
    /// Whether the clock is believed. Retention stops while it is not.
    pub clock_trusted: bool,
    /// Milliseconds by which the wall clock is ahead of the believed time. `None` if both agree.
    pub clock_off_ms: Option<i64>,
}

/// Bytes of disk that the parts of the store occupy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreBytes {
    pub state: u64,
    pub journal: u64,
    /// The active partition.
    pub active: u64,
    /// All other partitions.
    pub sealed: u64,
}

impl StoreBytes {
    pub const fn total(&self) -> u64 {
        self.state + self.journal + self.active + self.sealed
    }
}
