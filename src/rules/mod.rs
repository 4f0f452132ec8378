//! What is decided, and nothing done: pure functions over the nouns. Floor 1; `now`, ids, nonces and jitter are arguments.

pub mod body;
pub mod dfns_id;
pub mod filter;
pub mod health;
pub mod histogram;
pub mod js_json;
pub mod json;
pub mod jwe;
pub mod patterns;
pub mod signing;
pub mod target;
