//! Floor 1: the rules, as pure functions. No IO, no clock, no randomness: what varies is an argument.

pub mod filter;
pub mod json;
pub mod patterns;
pub mod target;
