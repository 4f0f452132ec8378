//! The library of Postrider: its floors, lowest first. Only `main.rs` and the tests use it.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where `cli::screen` gives an exit code.

pub mod mutants;

pub mod http_client;

pub mod model;

pub mod rules;

pub mod kv;

pub mod store;

pub mod api;
pub mod engine;

pub mod ui;

pub mod server;

pub mod cli;
pub mod config;
pub mod daemon;
