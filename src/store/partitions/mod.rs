//! The partitions of the store: the set of files, opening, maintenance and recovery.
pub mod blob_loss;
pub mod compact;
pub mod index_start;
pub mod last_dropped;
pub mod last_seen;
pub mod maintenance;
pub mod open;
pub mod recovery;
pub mod set;
pub mod sizes;
pub mod space;
pub mod state_age;
pub mod tenant_figures;
pub mod wal_loss;
