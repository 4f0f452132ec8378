//! Chance that follows from a seed, for everything in a simulation that is not the product's own code.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use postrider::engine::clock::Random;

pub use crate::support::rng::Rng;

/// The daemon's randomness, handed in.
pub struct SimRandom(pub Mutex<Rng>);

impl Random for SimRandom {
    fn fill(&self, bytes: &mut [u8]) {
        let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&rng.draw().to_be_bytes()[..piece.len()]);
        }
    }
}

thread_local! {
    static SYSTEM: RefCell<Rng> = const { RefCell::new(Rng::new(0)) };
}

/// Seeds the standard library's randomness on this thread: the order of hash maps and the turns of `select!` follow
/// from it. To be called before the thread makes its first hash map.
pub fn seed_thread(seed: u64) {
    SYSTEM.with(|system| *system.borrow_mut() = Rng::new(seed));
}

/// In place of the C library's: whatever asks the system for randomness in this test gets what follows from the seed, so
/// that a run can be repeated. Nothing of the product's depends on it but the order in which it looks at things.
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller gives a buffer of this length, by the contract of getrandom(2).
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    let filled = SYSTEM.try_with(|system| {
        let mut rng = system.borrow_mut();
        bytes.iter_mut().for_each(|byte| *byte = rng.draw() as u8);
    });
    if filled.is_err() {
        bytes.fill(7);
    }
    length as isize
}
