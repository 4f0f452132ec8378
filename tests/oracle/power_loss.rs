//! Power loss: random write requests until the power fails at a random operation. Then the store is opened on the
//! remaining disk, and every acknowledged change is compared with an exact oracle. Meanwhile a sync or a read fails, or
//! the disk is full for a while, and the store must recover without a restart.
//!
//! `POSTRIDER_CRASHES=20000` sets the number of cuts, and `POSTRIDER_FIRST_SEED` the first seed. `POSTRIDER_SEED=7`
//! runs one life of a store, and a failure names its seed. `POSTRIDER_TRACE=1` prints each request with its answer. Rates
//! are printed and never asserted.

use crate::oracle::erased;
use crate::oracle::world::{Step, World};
use crate::oracle::{elapsed_s, setting};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Cuts in a short run, and in the life of one store.
const CRASHES: u64 = 300;
const CRASHES_PER_LIFE: u64 = 20;
/// Maximum steps before the power is cut.
const STEPS_BETWEEN_MAX: u64 = 25;
/// Cuts between two comparisons of everything. After each cut, changed objects are compared.
const COMPARE_CUTS: u64 = 5;

#[derive(Debug, Default)]
struct Tally {
    cuts: AtomicU64,
    requests: AtomicU64,
    rows: AtomicU64,
    /// Bytes of payloads in blob files.
    blob_bytes: AtomicU64,
}

/// One store from its first file to its last cut.
fn live(seed: u64, tally: &Tally) -> crate::oracle::Check {
    let mut world = World::new(seed);
    world.cuts_openings = true;
    world.history.is_calm = true;
    let mut round = 0;
    while world.cuts < CRASHES_PER_LIFE {
        round += 1;
        misbehave(&mut world);
        let mut step = Step::Done;
        for _ in 0..STEPS_BETWEEN_MAX {
            step = world.step()?;
            if step == Step::Cut {
                break;
            }
        }
        recover(&mut world, step)?;
        if round % COMPARE_CUTS == 0 {
            world.compare()?;
            tally.rows.fetch_add(world.verify()?, Ordering::Relaxed);
            tally.blob_bytes.fetch_add(erased::is_gone(&world.disk, world.oracle.active())?, Ordering::Relaxed);
        }
    }
    tally.cuts.fetch_add(world.cuts, Ordering::Relaxed);
    tally.requests.fetch_add(world.requests, Ordering::Relaxed);
    Ok(())
}

/// Draws the next fault.
pub fn misbehave(world: &mut World) {
    let rng = &mut world.rng;
    match rng.below(10) {
        // A new store cannot be made on a full disk, so that fault comes later.
        0..=2 if world.requests == 0 => {}
        0 => {
            let syncs = rng.below(20);
            world.disk.fail_a_sync(syncs);
            world.expect_failures(true);
        }
        1 => world.disk.set_full(true),
        2 => world.fails_reads = true,
        _ => {
            let operations = if rng.chance(30) { rng.below(40) } else { rng.below(1_500) };
            world.disk.set_fuse(Some(operations));
        }
    }
}

/// Ends a fault. After a power cut the store is opened again, and after any other fault it recovers without a restart.
pub fn recover(world: &mut World, step: Step) -> crate::oracle::Check {
    world.disk.set_fuse(None);
    world.disk.set_full(false);
    world.fails_reads = false;
    if step == Step::Done {
        // A failed operation is tried again from here on.
        if !world.disk.has_failing_sync() {
            world.step()?;
            world.expect_failures(false);
        }
        world.quiet()?;
        if world.rng.chance(50) {
            return Ok(());
        }
        world.cut_now()?;
    }
    world.expect_failures(false);
    world.quiet().map(drop)
}

#[test]
fn acknowledged_requests_survive_every_cut() {
    let crashes = setting("POSTRIDER_CRASHES").unwrap_or(CRASHES);
    let only = setting("POSTRIDER_SEED");
    let first_seed = only.or(setting("POSTRIDER_FIRST_SEED")).unwrap_or(1);
    let lives = if only.is_some() { 1 } else { crashes.div_ceil(CRASHES_PER_LIFE) };
    println!("{lives} lives of a store, from seed {first_seed} on");
    let (tally, next, started_s) = (Tally::default(), AtomicU64::new(0), elapsed_s());
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64).min(lives);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= lives {
                        return;
                    }
                    let seed = first_seed.wrapping_add(number);
                    let lived = catch_unwind(AssertUnwindSafe(|| live(seed, &tally)));
                    if let Err(problem) = lived.unwrap_or_else(|_| Err("it panicked, see above".into())) {
                        next.store(lives, Ordering::Relaxed);
                        panic!("POSTRIDER_SEED={seed}: {problem}");
                    }
                }
            });
        }
    });
    let seconds = elapsed_s() - started_s;
    let [cuts, requests, rows] =
        [&tally.cuts, &tally.requests, &tally.rows].map(|number| number.load(Ordering::Relaxed));
    println!(
        "{cuts} cuts, {requests} requests, {rows} rows walked in {seconds:.1} s: {:.0} cuts/s",
        cuts as f64 / seconds
    );
    println!("{} bytes of payloads in blob files", tally.blob_bytes.load(Ordering::Relaxed));
    assert!(cuts >= lives * CRASHES_PER_LIFE, "only {cuts} cuts");
}
