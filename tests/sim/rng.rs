//! Chance that follows from a seed, for everything in a simulation that is not the product's own code.

use std::cell::RefCell;

use postrider::engine::clock::Random;
use std::sync::{Mutex, PoisonError};

/// Numbers that look random and follow from a seed (splitmix64, Steele and others 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of `0 .. end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// A number of `from ..= to`.
    pub fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True so many times of a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// Another source that follows from this one.
    pub fn fork(&mut self) -> Rng {
        Rng::new(self.next())
    }
}

/// The daemon's randomness, handed in.
pub struct SimRandom(pub Mutex<Rng>);

impl Random for SimRandom {
    fn fill(&self, bytes: &mut [u8]) {
        let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&rng.next().to_be_bytes()[..piece.len()]);
        }
    }
}

thread_local! {
    static SYSTEM: RefCell<Rng> = const { RefCell::new(Rng(0)) };
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
        bytes.iter_mut().for_each(|byte| *byte = rng.next() as u8);
    });
    if filled.is_err() {
        bytes.fill(7);
    }
    length as isize
}
