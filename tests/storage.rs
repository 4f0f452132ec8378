//! The store without a daemon around it: on a real disk, and against an exact model on a disk that fails.

/// The parts of the support folder that need no daemon.
mod support {
    pub mod disk;
    pub mod memory_log;
    pub mod rng;
}

/// The allocator of the program. A walk after each cut allocates much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod oracle;
mod store;
