//! The command line: its verbs, with one file for each family. Client verbs use the HTTP API only, so that they work
//! against any daemon. Verbs that run in this process, such as `serve`, use the daemon's own code.

mod app;
mod audit;
mod backup;
mod client;
mod cluster;
mod compact;
mod config;
mod delivery;
mod demo;
mod dev;
mod doctor;
mod duration;
mod event;
mod event_type;
mod exit;
mod follow;
mod help;
mod import;
mod in_force;
mod input;
mod key;
mod leading_flags;
mod list;
mod listen;
mod log;
mod moment;
mod noun;
mod openapi;
mod org;
mod paint;
mod problem;
mod program;
mod promote;
mod ready;
mod reconnect;
mod replay;
mod resolve;
mod row_names;
mod running;
mod screen;
mod send;
mod serve;
mod shell;
mod stats;
mod suggested_values;
mod system;
mod table;
mod tail;
mod target;
mod trusted_file;
mod verify;
mod webhook;
mod webhook_fields;
mod wrap;

use std::future::Future;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use config::SettingsFlags;
pub use exit::Exit;
pub use screen::unparsed;

const AFTER_HELP: &str = "\
Examples:
  postrider serve --dev
  postrider listen --create
  postrider send a.b '{}'
  postrider tail

Client commands find a daemon of this machine and its key by themselves. POSTRIDER_URL and POSTRIDER_TOKEN name another.
Exit codes: 0 done, 1 failed, 2 usage, 69 daemon unreachable, 70 fault of the program,\n71 address in use, 74 storage failed, 75 owns its cluster no more, 76 overtaken by another owner, 78 bad configuration.";

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
    EventType(event_type::EventType),
    Delivery(delivery::Delivery),
    Attempt(delivery::Attempt),
    Replay(replay::Replay),
    Tail(tail::Tail),
    Stats(stats::Stats),
    System(system::System),
    Ready(ready::Ready),
    Key(key::Key),
    Org(org::Org),
    App(app::App),
    Import(import::Import),
    Audit(audit::Audit),
    Config(config::Config),
    Verify(verify::Verify),
    Doctor(doctor::Doctor),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Compact(compact::Compact),
    Promote(promote::Promote),
    Cluster(cluster::Cluster),
    #[command(name = "openapi")]
    OpenApi(openapi::OpenApi),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// Reads the command line of this process.
///
/// # Errors
/// It is no verb, or asks for help: for [`unparsed`].
pub fn parse() -> Result<Cli, clap::Error> {
    let words = leading_flags::behind_verb(&Cli::command(), std::env::args_os().collect());
    let matches = help::grouped().try_get_matches_from(words.clone()).map_err(|error| {
        // The usage of the error would name the flags that variables gave, as if they were needed.
        let bare = || help::without_variables(help::grouped()).try_get_matches_from(words).err();
        if error.use_stderr() { bare().unwrap_or(error) } else { error }
    })?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))
}

/// Drives a client verb: one thread is enough for one person's requests.
pub fn on_this_thread(verb: impl Future<Output = Result<(), Exit>>) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::failed(format!("cannot start: {error}")))?;
    runtime.block_on(verb)
}

#[cfg(test)]
mod tests;
