//! Idempotency: the index of fingerprints in memory and the rows that decide.
pub mod answers;
pub mod index;
pub mod rows;
