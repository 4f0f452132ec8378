//! Floor 1: the rules, as pure functions.
//!
//! No rule does IO, reads a clock or draws randomness: such values are arguments.

pub mod believed_time;
pub mod body;
pub mod circuit;
pub mod descriptors;
pub mod dfns_id;
pub mod diagnosis;
pub mod durations;
pub mod exposition;
pub mod fanout;
pub mod filter;
pub mod forward_proxy;
pub mod health;
pub mod histogram;
pub mod hold;
pub mod js_json;
pub mod json;
pub mod jwe;
pub mod keep_alive;
pub mod no_proxy;
pub mod patterns;
pub mod postgres_url;
pub mod quotas;
pub mod ranking;
pub mod request_bytes;
pub mod retention;
pub mod retry;
pub mod secrecy;
pub mod secret_spellings;
pub mod shares;
pub mod signing;
pub mod target;
pub mod tenure;
pub mod tls_parts;
pub mod tls_words;
pub mod transition;
pub mod waiting;
