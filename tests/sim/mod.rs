//! The whole daemon in a simulated world (turmoil): server, API, write queue, scheduler, deliverer, sender and store
//! are real, and so is hyper at the clients and the receivers. The network and the clock are simulated, and the disk
//! loses unsynced writes.
//!
//! A seed is a whole run, in a process of its own. `POSTRIDER_SIM_SEED` runs one seed, `POSTRIDER_SIM_HOURS` as many as
//! fill that much simulated time, and `POSTRIDER_SIM_TRACE` prints a trace. A run that fails prints its seed.

mod api;
mod auditor;
mod expectations;
mod faults;
mod isolated;
mod machine;
mod nodes;
mod plan;
mod producers;
mod receivers;
mod rng;
mod run;
mod senders;
mod users;
mod verdict;
mod world;

use std::cell::RefCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use run::Report;

/// Simulated hours of one run with accidents.
const RUN_HOURS: u64 = 10;
/// The same in `cargo test`.
const SHORT_RUN_HOURS: u64 = 2;
/// Simulated hours of one run of a cluster.
const CLUSTER_RUN_HOURS: u64 = 4;
/// The same in `cargo test`.
const SHORT_CLUSTER_RUN_HOURS: u64 = 2;
/// The first seed of a cluster in `cargo test`. It found that a power cut could bring back the log of a former replica.
const SHORT_CLUSTER_FIRST: u64 = 4;

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Panics on this thread since the last call. A panicking task does not end the others.
fn panics() -> Vec<String> {
    PANICS.with(|panics| std::mem::take(&mut *panics.borrow_mut()))
}

/// Shows the daemon's log if `POSTRIDER_SIM_LOG` is set.
fn show_log() {
    if let Ok(filter) = std::env::var("POSTRIDER_SIM_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        let _ = tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false).try_init();
    }
}

fn watch_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.with(|panics| panics.borrow_mut().push(format!("panicked: {panic}")));
        before(panic);
    }));
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn show(report: &Report) {
    println!(
        "seed {}: {:.1} h, {} events, {} requests ({} repeated after a success), {} crashes of {} accidents, {} partitions left, \
         trace {:016x}",
        report.seed,
        report.simulated_ms as f64 / 3_600_000.0,
        report.events,
        report.requests,
        report.repeated,
        report.crashes,
        report.accidents,
        report.partitions,
        report.trace,
    );
    if report.nodes > 0 {
        println!(
            "  {} nodes: {} takeovers, {} records forgotten, {} requests of nodes that were outrun",
            report.nodes, report.takeovers, report.forgotten, report.outrun
        );
    }
    report.faults.iter().for_each(|fault| println!("  {fault}"));
}

fn judge(reports: &[Report]) {
    let failed: Vec<&Report> = reports.iter().filter(|report| !report.faults.is_empty()).collect();
    if let Some(first) = failed.first() {
        let (seed, faults) = (first.seed, first.faults.join("\n  "));
        let nodes = if first.nodes > 0 { format!(" POSTRIDER_SIM_NODES={}", first.nodes) } else { String::new() };
        panic!(
            "{} of {} runs failed; the first is POSTRIDER_SIM_SEED={seed}{nodes}:\n  {faults}",
            failed.len(),
            reports.len()
        );
    }
}

#[test]
fn nothing_accepted_is_lost_and_no_webhook_is_starved() {
    watch_panics();
    show_log();
    if let Some(seed) = setting("POSTRIDER_SIM_SEED") {
        let report =
            isolated::run_here(seed, setting("POSTRIDER_SIM_RUN_HOURS").unwrap_or(RUN_HOURS), nodes_of_setting());
        show(&report);
        judge(&[report]);
        return;
    }
    let hours = setting("POSTRIDER_SIM_HOURS");
    let run_hours =
        setting("POSTRIDER_SIM_RUN_HOURS").unwrap_or(if hours.is_some() { RUN_HOURS } else { SHORT_RUN_HOURS });
    let reports = run_many(setting("POSTRIDER_SIM_FIRST").unwrap_or(1), run_hours, hours.unwrap_or(4), |_| 0);
    judge(&reports);
}

/// The nodes of one run. 0 for a daemon by itself.
fn nodes_of_setting() -> usize {
    setting("POSTRIDER_SIM_NODES").unwrap_or(0) as usize
}

#[test]
fn a_cluster_loses_nothing_and_one_node_sends_at_a_time() {
    watch_panics();
    let hours = setting("POSTRIDER_SIM_CLUSTER_HOURS");
    let run_hours = if hours.is_some() { CLUSTER_RUN_HOURS } else { SHORT_CLUSTER_RUN_HOURS };
    let nodes = |seed: u64| 2 + (seed % 2) as usize;
    let default = if hours.is_some() { 1 } else { SHORT_CLUSTER_FIRST };
    let first = setting("POSTRIDER_SIM_FIRST").unwrap_or(default);
    let reports = run_many(first, run_hours, hours.unwrap_or(SHORT_CLUSTER_RUN_HOURS), nodes);
    judge(&reports);
    assert!(reports.iter().map(|report| report.takeovers).sum::<u64>() > 2 * reports.len() as u64, "{reports:?}");
}

/// Runs seeds on all processors until `hours` were simulated, or until one has failed.
fn run_many(first: u64, run_hours: u64, hours: u64, nodes: impl Fn(u64) -> usize + Sync) -> Vec<Report> {
    let began = elapsed_s();
    let (next, simulated_ms) = (AtomicU64::new(first), AtomicU64::new(0));
    let reports = Mutex::new(Vec::<Report>::new());
    let has_failed = || reports.lock().expect("reports").iter().any(|report| !report.faults.is_empty());
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while simulated_ms.load(Ordering::Relaxed) < hours * 3_600_000 && !has_failed() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let report = isolated::begin(seed, run_hours, nodes(seed)).report();
                    show(&report);
                    simulated_ms.fetch_add(report.simulated_ms as u64, Ordering::Relaxed);
                    reports.lock().expect("reports").push(report);
                }
            });
        }
    });
    let reports = reports.into_inner().expect("reports");
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let (took_s, all_h) = (elapsed_s() - began, sum(|report| report.simulated_ms as u64) as f64 / 3_600_000.0);
    println!(
        "simulated {all_h:.0} h in {took_s:.0} s ({:.0} times as fast as life): {} events, {} requests, {} crashes of {} \
         accidents",
        all_h * 3_600.0 / took_s,
        sum(|report| report.events),
        sum(|report| report.requests),
        sum(|report| report.crashes),
        sum(|report| report.accidents),
    );
    reports
}

/// Seconds since the first call, for rates that are printed and never asserted.
#[allow(clippy::disallowed_methods)]
fn elapsed_s() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64()
}

#[test]
fn the_same_seed_is_the_same_run() {
    // At the same time, as in a run of many seeds.
    for nodes in [0, 3] {
        let runs = [7, 7, 8].map(|seed| isolated::begin(seed, 1, nodes));
        let [first, second, other] = runs.map(isolated::Apart::report);
        assert!(first.trace_lines > 50, "{first:?}");
        assert_eq!((first.trace, first.trace_lines), (second.trace, second.trace_lines));
        assert_ne!(first.trace, other.trace);
    }
}
