//! The whole daemon in simulated time, on a simulated network and disk. It is a binary of its own, because it replaces
//! `getrandom`.

/// The parts of the support folder that open no socket.
mod support {
    pub mod disk;
    pub mod memory_log;
    pub mod rng;
}

/// The allocator of the program. A walk after each cut allocates much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod sim;
