//! The store by itself, without a daemon around it.

mod bench;
mod blobs;
mod commit_log;
mod hooked_disk;
mod life;
mod partitions;
mod readers;
mod tenure_walk;
mod wal;
