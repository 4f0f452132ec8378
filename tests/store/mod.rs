//! The store by itself, without a daemon around it.

mod bench;
mod blobs;
mod hooked_disk;
mod life;
mod ordered;
mod partitions;
mod readers;
mod tenure_walk;
mod wal;
