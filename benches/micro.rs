//! Times the parts of the hot path, each by itself. They are rendering and signing a body, selecting webhooks, applying
//! a durable batch, and the due index with a million entries.
//!
//!     cargo bench --bench micro                    everything
//!     cargo bench --bench micro -- sign fanout     two of the groups body, sign, fanout, apply, due
//!     cargo bench --bench micro -- due --entries 100000
//!
//! Invariant: every figure is the median of several rounds of one run. Compare figures of one machine only.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures with the clock of the machine it measures")]

#[path = "micro/rounds.rs"]
mod rounds;
#[path = "micro/rules.rs"]
mod rules;
#[path = "micro/store.rs"]
mod store;

use clap::Parser;
use rounds::Rounds;

#[derive(Parser)]
struct Options {
    /// The groups to run, of body, sign, fanout, apply, due; without names everything
    #[arg(value_parser = ["body", "sign", "fanout", "apply", "due"])]
    groups: Vec<String>,
    /// Entries of the index in `due`
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// The flag that `cargo bench` passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    let mut rounds = Rounds::new(options.groups);
    rules::run(&mut rounds);
    store::apply(&mut rounds);
    store::due(&mut rounds, options.entries);
}
