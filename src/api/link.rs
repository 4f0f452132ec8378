//! The request of a standby for a stream of its owner, as `GET /v1/replication` reads it.

use crate::model::id::KeyId;

/// The value of `Upgrade` (RFC 9110 section 7.8).
pub const PROTOCOL: &str = "postrider-replication/1";
/// Response header with the name of the store.
pub const STORE_HEADER: &str = "postrider-store";
/// Response header with the term of the store.
pub const TERM_HEADER: &str = "postrider-term";

/// Header with a random number of the running owner, in its requests and in its answers. A standby, a restored copy and a node
/// of a cluster have none. Versions without the header ignore it.
pub const OWNER_RUN_HEADER: &str = "postrider-owner-run";

/// The stream that the connection becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkStream {
    /// No stream: the answer names the owner.
    Status,
    /// A copy of the store.
    Base,
    /// Every commit after the one of this number and run. `None` if there is no copy yet.
    Commits(Option<(u64, i64)>),
}

/// The request of a standby, or of an owner to the other machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRequest {
    pub stream: LinkStream,
    /// The name of the store that the standby has. `None` if it has none.
    pub store: Option<String>,
    /// The term of that store. 0 if there is none.
    pub term: u64,
    /// The random number of the running owner that asks. `None` if no owner asks.
    pub owner_run: Option<u64>,
    /// The key by which the owner has admitted the request. `None` on the side that asks.
    pub key: Option<KeyId>,
}
