//! The entry points of the fuzz targets, which `tests/fuzz` also runs on a stable toolchain, and their seeds.
#![forbid(unsafe_code)]

#[path = "../../tests/fuzz/answers.rs"]
mod answers;
#[path = "../../tests/fuzz/entries.rs"]
mod entries;
#[path = "../../tests/fuzz/requests.rs"]
mod requests;
#[path = "../../tests/fuzz/seeds.rs"]
pub mod seeds;

pub use entries::ENTRIES;

/// Runs the entry called `name` over `bytes`.
pub fn run(name: &str, bytes: &[u8]) {
    let entry = ENTRIES.iter().find(|(known, _)| *known == name);
    entry.unwrap_or_else(|| panic!("{name} is no entry")).1(bytes);
}
