//! Randomness that follows from a seed, for all parts of a simulation outside the product's own code.

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

/// Seeds the standard library's randomness on this thread. The order of hash maps and the branches of `select!` follow
/// from it. Must be called before the thread makes its first hash map.
pub fn seed_thread(seed: u64) {
    SYSTEM.with(|system| *system.borrow_mut() = Rng::new(seed));
}

/// Replaces the C library's function. Every reader of the system's randomness in this test gets bytes that follow from
/// the seed, so that a run can be repeated. In the product only the order of checks depends on it.
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller provides a buffer of this length, by the contract of getrandom(2).
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
