//! Random numbers that follow from a seed.

#![allow(dead_code)] // Three test binaries compile this file. Each uses its own part of it.

/// Pseudorandom numbers of a seed (splitmix64, Steele and others 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    pub const fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of `0 .. end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end.max(1)
    }

    /// A number of `from ..= to`.
    pub fn within(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from + 1) as u64) as i64
    }

    /// A number of `from ..= to`, without a sign.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True in `percent` of a hundred calls.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// An element. `None` if there is none.
    pub fn pick<T: Clone>(&mut self, elements: &[T]) -> Option<T> {
        if elements.is_empty() { None } else { Some(elements[self.below(elements.len() as u64) as usize].clone()) }
    }

    /// An element of a slice that has one. Panics on an empty slice.
    pub fn choose<T: Copy>(&mut self, elements: &[T]) -> T {
        elements[self.below(elements.len() as u64) as usize]
    }

    /// Another source that follows from this one.
    pub fn fork(&mut self) -> Rng {
        Rng::new(self.draw())
    }
}
