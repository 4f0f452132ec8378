//! The options of the benchmark.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures Postrider against a bare server and a bare relay, on this machine, in one run
#[derive(Parser, Debug)]
#[command(
    name = "end_to_end",
    after_help = "\
Examples:
  cargo bench --bench end_to_end                           the short set, about three minutes
  cargo bench --bench end_to_end -- deliver --seconds 20
  cargo bench --bench end_to_end -- --full                 everything; hours
  cargo bench --bench end_to_end -- accept --url http://127.0.0.1:9000 --token KEY"
)]
pub struct Options {
    /// The scenarios to measure; without names the short set
    #[arg(value_enum)]
    pub scenarios: Vec<Scenario>,
    /// All scenarios in full length and size
    #[arg(long)]
    pub full: bool,
    /// Seconds per cell, after a second of warming up [default: 4, with --full 20]
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// Turns that the servers take in `accept`, `deliver`, `fanout10`, `large` and `batch`; the median ratio counts
    /// [default: 1, with --full 3]
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,
    /// Producer connections of `accept`, `deliver` and `fanout10`
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub connections: usize,
    /// Deliveries that wait in `backlog` [default: 100,000; with --full also 1,000,000]
    #[arg(long, value_name = "N")]
    pub waiting: Option<u64>,
    /// Deliveries stored for `listing` and `night` [default: 100,000; with --full 5,000,000]
    #[arg(long, value_name = "N")]
    pub stored: Option<u64>,
    /// Seconds of `soak` [default: 60; with --full 600]
    #[arg(long, value_name = "N")]
    pub soak_seconds: Option<u64>,
    /// Measure this server instead of starting one; it speaks plain HTTP
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Bearer token for --url
    #[arg(long, value_name = "KEY", requires = "url")]
    pub token: Option<String>,
    /// Process of --url, for its processor time, memory and disk
    #[arg(long, value_name = "PID", requires = "url")]
    pub pid: Option<u32>,
    /// --url has its webhooks already, pointing at --sink: make none
    #[arg(long, requires = "url")]
    pub webhooks_exist: bool,
    /// Where the sink listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub sink: SocketAddr,
    /// Where stores are made and removed again [default: below target/tmp]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Also write every figure to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// End with 1 also where a floor is missed, not only for lost or repeated deliveries
    #[arg(long)]
    pub strict: bool,

    /// The flag that `cargo bench` passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    /// Runs as the bare server.
    #[arg(long, hide = true)]
    pub be_bare: bool,
    /// Runs as the relay to this sink.
    #[arg(long, hide = true, value_name = "ADDR")]
    pub be_relay: Option<SocketAddr>,
    /// Deliveries per event of the relay.
    #[arg(long, hide = true, default_value_t = 1)]
    pub relay_fanout: usize,
    /// The relay signs.
    #[arg(long, hide = true)]
    pub relay_signs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Durable acknowledgements against the bare server, no webhook matches
    Accept,
    /// Deliveries to one webhook per event, against the relay
    Deliver,
    /// Deliveries to ten webhooks per event, against the relay
    Fanout10,
    /// Deliveries of 64 KiB to one webhook, against the relay and a relay that signs
    Large,
    /// Batches of 100 against single publishes
    Batch,
    /// Publish to arrival at 500 events/s
    Latency,
    /// Memory and processor time of a daemon with nothing to do; size of the binary
    Idle,
    /// Start after kill -9, memory and draining with many deliveries waiting
    Backlog,
    /// 10,000 webhooks with one event every 10 s each
    Webhooks10k,
    /// Lists, reads, start and delivery with a large store of many partitions
    Listing,
    /// The reads of an operator at night, with a large store and 1,000 webhooks
    Night,
    /// Half the top rate for long: growth of memory and lag
    Soak,
    /// Half the top rate while partitions are sealed, counted and dropped
    Partitions,
    /// All combinations of fan-out, payload, connections and batch
    Matrix,
}

/// The scenarios that run without names, in this order.
const SHORT: [Scenario; 8] = [
    Scenario::Accept,
    Scenario::Deliver,
    Scenario::Fanout10,
    Scenario::Large,
    Scenario::Batch,
    Scenario::Latency,
    Scenario::Idle,
    Scenario::Backlog,
];

/// Scenarios for a server that was not started here.
const FOREIGN: [Scenario; 6] =
    [Scenario::Accept, Scenario::Deliver, Scenario::Fanout10, Scenario::Large, Scenario::Batch, Scenario::Latency];

impl Options {
    /// The scenarios to run, in the order given.
    pub fn chosen(&self) -> Result<Vec<Scenario>, String> {
        let all = Scenario::value_variants();
        let chosen = match (self.scenarios.as_slice(), &self.url) {
            ([], Some(_)) => FOREIGN.to_vec(),
            ([], None) if self.full => all.to_vec(),
            ([], None) => SHORT.to_vec(),
            (given, _) => given.to_vec(),
        };
        let beyond = |scenario: &&Scenario| self.url.is_some() && !FOREIGN.contains(scenario);
        match chosen.iter().find(beyond) {
            Some(scenario) => Err(format!("{scenario:?} needs a server that is started here: leave --url out")),
            None => Ok(chosen),
        }
    }

    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.full { 3 } else { 1 }).max(1)
    }

    pub fn seconds(&self) -> u64 {
        self.seconds.unwrap_or(if self.full { 20 } else { 4 })
    }
}
