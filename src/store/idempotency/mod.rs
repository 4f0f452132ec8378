//! Idempotency: the index of fingerprints in memory and the rows that decide.
pub mod index;
pub mod rows;
