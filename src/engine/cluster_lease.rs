//! The lease on the store of a cluster, which an engine keeps beside the log.
//!
//! `rules::tenure` decides when a node takes it, and how long the node serves.

use std::pin::Pin;
use std::time::Duration;

use crate::rules::tenure::ShownLease;
use crate::store::admin::LogUnreachable;

/// A node of the cluster, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node's name, which no other node has.
    pub node: String,
    /// The URL of the node's API for the other nodes.
    pub url: String,
    pub version: String,
    /// Hash of the store's options, which all nodes must share.
    pub options: i64,
}

/// A member as the engine shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberRow {
    pub member: Member,
    /// Number of its last commit, as it said last.
    pub applied: u64,
    /// Seconds since its last heartbeat.
    pub seen_s: f64,
    pub is_owner: bool,
}

/// The cluster as the engine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterRow {
    /// The name of the store, which all nodes have.
    pub store: String,
    /// Whether it has ended, so that no node owns the store any more.
    pub has_ended: bool,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    pub lease: ShownLease,
    /// Number of the log's last record.
    pub last: u64,
    /// The URL of the owner. `None` if there is none.
    pub owner: Option<String>,
}

/// The answer of an engine, which comes in bounded time.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, LogUnreachable>> + Send + 'a>>;

/// The lease, as one node uses it. Each call fails if the engine does not answer.
pub trait Leases: Send + Sync {
    /// Reports that this node lives and has applied the commits up to `applied`. `None` leaves the number of the heartbeat
    /// before: the store is not open yet. Renews the lease of term `held` if it has not run out.
    fn heartbeat(&self, applied: Option<u64>, held: Option<u64>) -> Pending<'_, HeartbeatAnswer>;

    /// Takes the lease if its term is `seen`. Returns the new term, `None` if another node was faster. Without an answer the
    /// lease may be taken all the same.
    fn take(&self, seen: u64) -> Pending<'_, Option<u64>>;

    /// Gives the lease of a term back. Without an answer it runs out by itself.
    fn release(&self, term: u64) -> Pending<'_, ()>;

    /// Takes the lease for ever, so that no node takes it any more: the cluster has ended. Returns the new term, `None` if
    /// the lease of another node runs.
    fn end(&self) -> Pending<'_, Option<u64>>;

    /// The cluster.
    fn cluster(&self) -> Pending<'_, ClusterRow>;

    /// The members, by name.
    fn members(&self) -> Pending<'_, Vec<MemberRow>>;

    /// Number of the last record that may be trimmed: it is older than `keep`, and every member that was seen within
    /// `keep` has applied a later one. 0 if there is none.
    fn trimmable(&self, keep: Duration) -> Pending<'_, u64>;

    /// Whether a transaction pooler stands between this node and the engine: one that gives a session another
    /// connection for each transaction.
    fn is_pooled(&self) -> Pending<'_, bool>;

    /// Whether the engine confirms a commit only once a second machine has it.
    fn is_synchronous(&self) -> Pending<'_, bool>;
}
