//! The rules: pure decisions. No IO, no clock, no randomness; `now`, ids and jitter are arguments.

pub mod circuit;
pub mod retry;
pub mod transition;
