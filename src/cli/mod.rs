//! The command line: its verbs, with one file for each family. Client verbs use the HTTP API only, so that they work
//! against any daemon. Verbs that run in this process, such as `serve`, use the daemon's own code.

mod app;
mod backup;
mod client;
mod compact;
mod config;
mod delivery;
mod demo;
mod doctor;
mod event;
mod exit;
mod follow;
mod in_force;
mod input;
mod key;
mod list;
mod listen;
mod log;
mod moment;
mod openapi;
mod org;
mod paint;
mod problem;
mod ready;
mod replay;
mod screen;
mod send;
mod serve;
mod shell;
mod stats;
mod table;
mod tail;
mod verify;
mod webhook;
mod webhook_fields;

use std::future::Future;

use clap::{Parser, Subcommand};

pub use config::SettingsFlags;
pub use exit::Exit;
pub use screen::unparsed;

const AFTER_HELP: &str = "\
Examples:
  postrider demo
  postrider webhook create https://hooks.example.com/in --event-type 'invoice.*'
  postrider send --type invoice.paid --data '{\"id\": 42}'
  postrider tail
  postrider listen --create

Client commands reach the daemon at POSTRIDER_URL (http://127.0.0.1:8080) with the key in POSTRIDER_TOKEN.
Exit codes: 0 done, 1 failed, 2 usage, 69 daemon unreachable, 70 fault of the program,\n71 address in use, 74 storage failed, 78 bad configuration.";

/// Webhook delivery in one binary: publish events; they are signed, delivered, retried and kept
#[derive(Debug, Parser)]
#[command(name = "postrider", version, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

/// Every verb of `postrider`. `main.rs` runs it.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Serve(serve::Serve),
    Demo(demo::Demo),
    Listen(listen::Listen),
    Send(send::Send),
    Webhook(webhook::Webhook),
    Event(event::Event),
    Delivery(delivery::Delivery),
    Attempt(delivery::Attempt),
    Replay(replay::Replay),
    Tail(tail::Tail),
    Stats(stats::Stats),
    Ready(ready::Ready),
    Key(key::Key),
    Org(org::Org),
    App(app::App),
    Config(config::Config),
    Verify(verify::Verify),
    Doctor(doctor::Doctor),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Compact(compact::Compact),
    #[command(name = "openapi")]
    OpenApi(openapi::OpenApi),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// Runs a client verb on one thread, which suffices for one user's requests.
pub fn on_this_thread(verb: impl Future<Output = Result<(), Exit>>) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::failed(format!("cannot start: {error}")))?;
    runtime.block_on(verb)
}

#[cfg(test)]
mod tests;
