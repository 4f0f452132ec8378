//! The counts of clients' connections, for `/metrics` and the log. The server keeps them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::engine::log_backoff::LogBackoff;

/// The bound that ended a connection or refused a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionBound {
    /// The maximum of connections over all listeners.
    Total,
    /// The maximum of connections of one peer address.
    Address,
    /// The memory of connections without a key.
    Memory,
    /// More than half of all connections are open, and this one was idle.
    Crowded,
}

impl ConnectionBound {
    pub const ALL: [ConnectionBound; 4] =
        [ConnectionBound::Total, ConnectionBound::Address, ConnectionBound::Memory, ConnectionBound::Crowded];

    /// Stable, for machines.
    pub const fn as_str(self) -> &'static str {
        match self {
            ConnectionBound::Total => "total",
            ConnectionBound::Address => "address",
            ConnectionBound::Memory => "memory",
            ConnectionBound::Crowded => "crowded",
        }
    }

    /// The bound and its cure, for the operator.
    const fn words(self) -> &'static str {
        match self {
            ConnectionBound::Total => "as many are open as the limit of open files allows (LimitNOFILE, ulimit -n)",
            ConnectionBound::Address => "one address has as many as server.connections_per_address allows",
            ConnectionBound::Memory => "those without a key take as much memory as they may",
            ConnectionBound::Crowded => "more than half of all are open",
        }
    }
}

/// The counts over all listeners.
#[derive(Debug, Default)]
pub struct ClientConnections {
    open: AtomicUsize,
    max: AtomicUsize,
    refused: [AtomicU64; ConnectionBound::ALL.len()],
    closed: [AtomicU64; ConnectionBound::ALL.len()],
    backoffs: Mutex<[LogBackoff; ConnectionBound::ALL.len()]>,
}

/// The counts at one moment. The arrays are in the order of `ConnectionBound::ALL`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientConnectionStats {
    pub open: usize,
    /// Maximum open connections.
    pub max: usize,
    /// New connections that were refused.
    pub refused: [u64; ConnectionBound::ALL.len()],
    /// Waiting connections that were closed for others.
    pub closed: [u64; ConnectionBound::ALL.len()],
}

impl ClientConnections {
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    pub fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub fn ended(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a new connection that was refused, and logs it with back-off.
    pub fn record_refused(&self, bound: ConnectionBound) {
        self.refused[bound as usize].fetch_add(1, Ordering::Relaxed);
        self.log_closed(bound);
    }

    /// Counts a waiting connection that was closed for others, and logs it with back-off.
    pub fn record_closed(&self, bound: ConnectionBound) {
        self.closed[bound as usize].fetch_add(1, Ordering::Relaxed);
        self.log_closed(bound);
    }

    /// The counts now.
    pub fn stats(&self) -> ClientConnectionStats {
        let of = |counts: &[AtomicU64; ConnectionBound::ALL.len()]| {
            ConnectionBound::ALL.map(|bound| counts[bound as usize].load(Ordering::Relaxed))
        };
        ClientConnectionStats {
            open: self.open.load(Ordering::Relaxed),
            max: self.max.load(Ordering::Relaxed),
            refused: of(&self.refused),
            closed: of(&self.closed),
        }
    }

    fn log_closed(&self, bound: ConnectionBound) {
        let mut backoffs = self.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = backoffs[bound as usize].record() {
            let (reason, why) = (bound.as_str(), bound.words());
            tracing::warn!(count, reason, "clients' connections are closed or refused, because {why}");
        }
    }
}
