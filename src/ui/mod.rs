//! The pages for browsers below `/ui`: a mount of its own with sessions in place of keys, and HTML in place of JSON.
//!
//! A handler reads the store into a view, and a page is a pure function from a view to markup. A form is relayed to the
//! handler of the API that does the same, so that there is one set of rules.

mod assets;
mod bodies;
mod chart;
mod chips;
mod counts;
mod curl;
mod filter;
mod form;
mod format;
mod frame;
mod login;
mod mood;
mod page_query;
mod pages;
mod portal;
mod portal_access;
mod portal_words;
mod referer;
mod relay;
mod resend;
mod respond;
mod routes;
mod series;
mod session;

pub use routes::{SESSION_KEY_PURPOSE, mount};
