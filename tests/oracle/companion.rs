//! Runs a store and its oracle in rounds, with a machine beside it that hears of every commit.

use std::sync::Arc;

use postrider::model::Time;
use postrider::store::open;

use crate::oracle::oracle::Oracle;
use crate::oracle::power_loss::{misbehave, recover};
use crate::oracle::world::{MASTER_KEY, Step, World};
use crate::oracle::{Check, Rng, check, ensure, setting};
use crate::support::disk::FaultyDisk;

pub const SEEDS: u64 = 4;
/// Maximum steps of a round. A power cut ends it earlier.
const STEPS_OF_ROUND: u64 = 25;
/// Steps after which the store is compared with the oracle.
const COMPARED_STEPS: u64 = 6;

/// A machine that follows a store.
pub trait Companion {
    /// Called before every step of the store.
    fn before_step(&mut self, world: &mut World) -> Check;

    /// Called after every step. With `is_quiet` the oracle can be compared with every published commit. `openings` is the
    /// number of openings of the store before the step.
    fn after_step(&mut self, world: &mut World, openings: u64, is_quiet: bool) -> Check;

    /// Called after a round, when the store has recovered.
    fn after_recovery(&mut self, world: &mut World, openings: u64) -> Check;
}

/// Runs a store with its companion.
pub fn run(world: &mut World, rounds: u64, companion: &mut impl Companion) -> Check {
    for _ in 0..rounds {
        let is_calm = world.rng.chance(60);
        // As in `power_loss`, changes of the configuration are not tried while they may fail and be on disk.
        world.history.is_calm = !is_calm;
        if !is_calm {
            misbehave(world);
        }
        let mut stepped = Step::Done;
        for step in 1..=STEPS_OF_ROUND {
            companion.before_step(world)?;
            let openings = world.openings();
            stepped = world.step()?;
            let is_quiet = is_calm && stepped == Step::Done && step % COMPARED_STEPS == 0;
            if is_quiet {
                stepped = world.quiet()?;
            }
            companion.after_step(world, openings, is_quiet && stepped == Step::Done)?;
            if stepped == Step::Cut {
                break;
            }
        }
        let openings = world.openings();
        recover(world, stepped)?;
        companion.after_recovery(world, openings)?;
    }
    Ok(())
}

/// Opens a copy of the store, and compares it with the oracle of that time.
pub fn compare(disk: FaultyDisk, world: &World, (oracle, now): (&Oracle, Time), rng: &mut Rng) -> Check {
    let mut random = rng.fork();
    let random = Box::new(move || random.draw());
    let opened = open(Arc::new(disk), world.options.clone(), &MASTER_KEY, now, random);
    let store = opened.map_err(|error| format!("it does not open: {error}"))?.store;
    check::all(oracle, &store, now, rng)?;
    check::hidden(oracle, &store)?;
    let report = store.verify(&mut |_| {}).map_err(|error| error.to_string())?;
    ensure!(report.is_sound() && report.unlisted.is_empty(), "{report:#?}");
    Ok(())
}

/// Runs every seed, or the one of `POSTRIDER_SEED`, each for `rounds` or for the steps of `POSTRIDER_STEPS`. Returns the sum
/// of the counts, and whether every seed ran.
pub fn over_seeds<const N: usize>(rounds: u64, run: impl Fn(u64, u64) -> Check<[u64; N]>) -> ([u64; N], bool) {
    let rounds = setting("POSTRIDER_STEPS").map_or(rounds, |steps| steps.div_ceil(STEPS_OF_ROUND));
    let only = setting("POSTRIDER_SEED");
    let mut sums = [0; N];
    for seed in only.map_or((1..=SEEDS).collect(), |seed| vec![seed]) {
        let counts = run(seed, rounds).unwrap_or_else(|problem| panic!("POSTRIDER_SEED={seed}: {problem}"));
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    (sums, only.is_none())
}
