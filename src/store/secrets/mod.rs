//! Secrets at rest: the vault that seals rows, and the master key that wraps its data key.
pub mod master_key;
pub mod vault;
