//! Each run has a process of its own, so that statics and memory of one run change nothing in the next. A seed that
//! failed among many then fails in the same way alone.

use std::process::{Child, Command, Stdio};

use super::nodes::run as cluster;
use super::rng::seed_thread;
use super::run::{Report, simulate};

/// The test that runs the seed in its environment.
const RUNS_A_SEED: &str = "sim::nothing_accepted_is_lost_and_no_webhook_is_starved";
/// The file into which the process writes the report of the simulation.
const REPORT: &str = "POSTRIDER_SIM_REPORT";

/// A running simulation.
pub struct Apart {
    seed: u64,
    process: Child,
    report: tempfile::TempPath,
}

/// Starts the run of a seed. `nodes` is 0 for a daemon by itself.
#[allow(clippy::disallowed_methods, reason = "no test of this program locks a file")]
pub fn begin(seed: u64, hours: u64, nodes: usize) -> Apart {
    let report = tempfile::NamedTempFile::new().expect("a file for the report").into_temp_path();
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args([RUNS_A_SEED, "--exact", "--nocapture"]).stdin(Stdio::null()).stdout(Stdio::null());
    command.env("POSTRIDER_SIM_SEED", seed.to_string()).env("POSTRIDER_SIM_RUN_HOURS", hours.to_string());
    command.env("POSTRIDER_SIM_NODES", nodes.to_string());
    let process = command.env(REPORT, &report).spawn().expect("a process");
    Apart { seed, process, report }
}

impl Apart {
    /// Waits for the end of the run.
    pub fn report(mut self) -> Report {
        let status = self.process.wait().expect("its end");
        let written = std::fs::read(&self.report).expect("the file of the report");
        serde_json::from_slice(&written).unwrap_or_else(|_| {
            let faults = vec![format!("the process of the simulation ended, {status}, and reported nothing")];
            Report { seed: self.seed, faults, ..Report::default() }
        })
    }
}

/// Runs a seed in this process, on a thread whose randomness follows from the seed, and reports it to the parent.
pub fn run_here(seed: u64, hours: u64, nodes: usize) -> Report {
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(move || {
        seed_thread(seed);
        match nodes {
            0 => simulate(seed, hours),
            _ => cluster::simulate(seed, hours, nodes),
        }
    });
    let report = thread.expect("a thread").join();
    let report = report.unwrap_or_else(|_| Report {
        seed,
        faults: vec!["the simulation panicked".to_owned()],
        ..Report::default()
    });
    if let Some(path) = std::env::var_os(REPORT) {
        std::fs::write(path, serde_json::to_vec(&report).expect("JSON")).expect("the report is written");
    }
    report
}
