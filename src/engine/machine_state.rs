//! Reads the daemon's own figures: disk, files, queues, commits, followers and clock.

use crate::engine::{Engine, write_queue};
use crate::model::machine::{MachineState, StoreBytes};

impl Engine {
    /// The daemon's own figures now.
    pub fn machine_state(&self) -> MachineState {
        let sizes = self.store.sizes();
        let (p50, p99) = self.metrics.commit_percentiles();
        let followers = self.replication.stats();
        MachineState {
            started_at: self.started_at,
            disk_free_bytes: self.store.free_bytes(),
            min_free_bytes: self.store.min_free_bytes(),
            store: StoreBytes { state: sizes.state, journal: sizes.wal, active: sizes.active, sealed: sizes.sealed },
            oldest_event: self.store.oldest_event(self.clock.now()).unwrap_or_default(),
            partitions: self.store.partition_count(),
            queue: self.write_queue.waiting_publishes(),
            queue_max: write_queue::WAITING_PUBLISHES_MAX,
            in_flight: self.outstanding(),
            in_flight_max: self.in_flight_max,
            commit_p50_us: p50,
            commit_p99_us: p99,
            followers: followers.followers,
            follower_queue_bytes: followers.queued_bytes,
            clock_trusted: self.clock_trust.is_trusted(),
            clock_off_ms: self.clock_trust.off_ms(),
        }
    }
}
