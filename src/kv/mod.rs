//! Key-value storage over redb: the only floor that knows redb.
pub mod checksums;
pub mod codec;
pub mod disk;
pub mod error;
pub mod memtable;
pub mod read_only;
pub mod segment;
pub mod snapshot;
pub mod tables;
pub mod wal;
pub mod write_batch;
