//! Idempotency: the index of fingerprints, their runs in files, and the rows that decide.
pub mod answers;
mod filter;
pub mod index;
pub mod rows;
pub mod run;
pub mod run_file;
