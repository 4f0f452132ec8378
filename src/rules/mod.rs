//! What is decided, and nothing done: pure functions over the nouns. Floor 1; `now`, ids, nonces and jitter are arguments.

pub mod jwe;
pub mod signing;
