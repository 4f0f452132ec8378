//! The daemon and its program, tested from outside: API, security, operation, command line, dialects and documentation.

mod support;

mod api;
mod cli_failures;
mod dialects;
mod doc_commands;
mod fuzz;
mod operation;
mod security;
