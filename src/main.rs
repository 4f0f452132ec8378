//! The `postrider` binary: runs the verb of the command line.
//!
//! An invalid command line ends in clap with exit code 2. `cli::Exit` has the other exit codes.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use postrider::cli::{Exit, Verb, on_this_thread, parse, unparsed};

/// An event has many small allocations that one thread makes and another frees. The C library's allocator is slow at
/// that (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // An idle daemon uses little of each huge page. A kernel without the switch costs memory only.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return unparsed(&error),
    };
    let done = match cli.verb {
        Verb::Serve(verb) => verb.run(),
        Verb::Demo(verb) => verb.run(),
        Verb::Listen(verb) => on_this_thread(verb.run()),
        Verb::Send(verb) => on_this_thread(verb.run()),
        Verb::Webhook(verb) => on_this_thread(verb.run()),
        Verb::Event(verb) => on_this_thread(verb.run()),
        Verb::EventType(verb) => on_this_thread(verb.run()),
        Verb::Delivery(verb) => on_this_thread(verb.run()),
        Verb::Attempt(verb) => on_this_thread(verb.run()),
        Verb::Replay(verb) => on_this_thread(verb.run()),
        Verb::Tail(verb) => on_this_thread(verb.run()),
        Verb::Stats(verb) => on_this_thread(verb.run()),
        Verb::System(verb) => on_this_thread(verb.run()),
        Verb::Ready(verb) => on_this_thread(verb.run()),
        Verb::Key(verb) => on_this_thread(verb.run()),
        Verb::Org(verb) => on_this_thread(verb.run()),
        Verb::App(verb) => on_this_thread(verb.run()),
        Verb::Import(verb) => on_this_thread(verb.run()),
        Verb::Audit(verb) => on_this_thread(verb.run()),
        Verb::Config(verb) => verb.run(),
        Verb::Verify(verb) => verb.run(),
        Verb::Doctor(verb) => on_this_thread(verb.run()),
        Verb::Backup(verb) => verb.run(),
        Verb::Restore(verb) => verb.run(),
        Verb::Compact(verb) => verb.run(),
        Verb::Promote(verb) => verb.run(),
        Verb::Cluster(verb) => verb.run(),
        Verb::OpenApi(verb) => verb.run(),
        Verb::Completions(verb) => verb.run(),
        Verb::Man(verb) => verb.run(),
    };
    done.map_or_else(Exit::report, |()| ExitCode::SUCCESS)
}
