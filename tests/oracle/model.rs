//! The store against the oracle, on a disk without faults: random write requests, and repeated comparisons of
//! everything.
//!
//! `POSTRIDER_STEPS=100000` runs longer, `POSTRIDER_SEED=7` runs one seed. A failure prints the seed and the step.
//! Rates are printed and never asserted.

use crate::oracle::world::World;
use crate::oracle::{elapsed_s, setting};

const SEEDS: u64 = 6;
const STEPS: u64 = 400;
/// Steps between two comparisons of changed objects, and between two comparisons of everything with a verification.
const COMPARE_STEPS: u64 = 6;
const VERIFY_STEPS: u64 = 100;

/// Runs one store from its first write request to its last. Returns the number of requests, or the step that failed.
fn run(seed: u64, steps: u64) -> Result<u64, String> {
    let mut world = World::new(seed);
    for step in 1..=steps {
        let mut checked = world.step().map(drop);
        if checked.is_ok() && step % COMPARE_STEPS == 0 {
            checked = world.quiet().map(drop);
        }
        if checked.is_ok() && step % VERIFY_STEPS == 0 {
            checked = world.quiet().and_then(|_| world.compare()).and_then(|()| world.verify()).map(drop);
        }
        checked.map_err(|problem| format!("step {step} of POSTRIDER_SEED={seed}: {problem}"))?;
    }
    Ok(world.requests)
}

#[test]
fn the_store_agrees_with_the_oracle() {
    let steps = setting("POSTRIDER_STEPS").unwrap_or(STEPS);
    let only = setting("POSTRIDER_SEED");
    let seeds: Vec<u64> = only.map_or((1..=SEEDS).collect(), |seed| vec![seed]);
    let started_s = elapsed_s();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut requests = 0;
    for some in seeds.chunks(threads) {
        let runs: Vec<Result<u64, String>> = std::thread::scope(|scope| {
            let running: Vec<_> = some.iter().map(|seed| scope.spawn(|| run(*seed, steps))).collect();
            running.into_iter().map(|thread| thread.join().expect("a run panicked")).collect()
        });
        for run in runs {
            requests += run.unwrap_or_else(|problem| panic!("{problem}"));
        }
    }
    let seconds = elapsed_s() - started_s;
    println!("{requests} requests in {seconds:.1} s: {:.0} requests/s", requests as f64 / seconds);
}
