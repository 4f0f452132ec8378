//! The public benchmark: Postrider runs as a process of its own, durable and signing. It is compared with a bare server
//! (the ceiling of accepting) and a bare relay (the ceiling of delivering), one after another on one machine.
//! `docs/performance.md` explains the figures and how to run it.
//!
//! Invariant: the same generator and the same sink measure all servers. Ratios are of one run.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures with the clock of the machine it measures")]

#[path = "end_to_end/board.rs"]
mod board;
#[path = "end_to_end/cell.rs"]
mod cell;
#[path = "end_to_end/histogram.rs"]
mod histogram;
#[path = "end_to_end/load.rs"]
mod load;
#[path = "end_to_end/options.rs"]
mod options;
#[path = "end_to_end/process.rs"]
mod process;
#[path = "end_to_end/report.rs"]
mod report;
#[path = "end_to_end/rivals.rs"]
mod rivals;
#[path = "end_to_end/scenarios/mod.rs"]
mod scenarios;
#[path = "end_to_end/server.rs"]
mod server;
#[path = "end_to_end/sink.rs"]
mod sink;
#[path = "end_to_end/wire.rs"]
mod wire;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use options::{Options, Scenario};
use report::Report;
use scenarios::Bench;

fn main() -> ExitCode {
    let options = Options::parse();
    let chosen = match options.chosen() {
        Ok(chosen) => chosen,
        Err(words) => Options::command().error(clap::error::ErrorKind::ArgumentConflict, words).exit(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(run(options, chosen)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("the benchmark ended: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(options: Options, chosen: Vec<Scenario>) -> io::Result<ExitCode> {
    if options.be_bare {
        return rivals::bare().await.map(|()| ExitCode::SUCCESS);
    }
    if let Some(sink) = options.be_relay {
        let (fanout, connections) = (options.relay_fanout, options.connections);
        return rivals::relay(sink, fanout, connections, options.relay_signs).await.map(|()| ExitCode::SUCCESS);
    }
    let machine = process::machine(&server::data_dir(&options));
    machine.iter().for_each(|line| println!("{line}"));
    let mut bench = Bench { options, report: Report::default() };
    for scenario in chosen {
        println!("\n{}", format!("{scenario:?}").to_lowercase());
        bench.run(scenario).await?;
        bench.report.show_rows();
    }
    bench.report.show_targets();
    if let Some(file) = &bench.options.json {
        bench.report.write(file, &machine)?;
    }
    let fine = bench.report.is_sound() && (!bench.options.strict || bench.report.holds_floors());
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
