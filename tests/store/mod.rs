//! The store by itself, without a daemon around it.

mod bench;
mod journal;
mod life;
mod partitions;
mod readers;
