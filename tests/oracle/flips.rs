//! Flipped bits: after any bit of any file has changed, every read and every delivery has the written data or an error,
//! and nothing panics. A third of the stores are cut off, with records in the write-ahead log, and a third are open
//! when it happens.
//!
//! The log's own records are altered by its unit tests: the last one, torn by a cut or altered after it, looks the
//! same.
//!
//! `POSTRIDER_FLIPS=3000` flips so many bits, `POSTRIDER_SEED=7` grows another store.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use postrider::model::time::DAY_MS;
use postrider::store::open;

use crate::oracle::world::{MASTER_KEY, World};
use crate::oracle::{Check, Rng, check, elapsed_s, setting};
use crate::support::disk::FaultyDisk;

const FLIPS: u64 = 120;
const STEPS: u64 = 300;
/// So that the store is worth reading: its clock jumps by weeks.
const RETENTION_MS: i64 = 5_000 * DAY_MS;

/// Counts of the flips by their result.
type Tally = BTreeMap<String, u64>;

/// A store with much in it: cut off with records in its journal, and closed.
fn grown(seed: u64) -> (World, FaultyDisk, FaultyDisk) {
    let mut world = World::new(seed);
    (world.options.retention_ms, world.oracle.retention_ms) = (RETENTION_MS, RETENTION_MS);
    for step in 0..STEPS {
        world.history.is_calm = step > STEPS / 4;
        world.step().expect("the disk behaves");
    }
    world.quiet().expect("the disk behaves");
    let cut_off = world.disk.copy();
    world.checkpoint().expect("the disk behaves");
    world.close();
    let closed = world.disk.copy();
    (world, cut_off, closed)
}

/// Compares everything on an altered disk, before the store is opened or while it is open. Returns whether it opened,
/// and the number of failed reads.
fn honest(
    world: &mut World,
    disk: FaultyDisk,
    while_open: bool,
    tamper: impl FnOnce(&FaultyDisk),
) -> Check<Option<u64>> {
    let mut random = world.rng.fork();
    let mut tamper = Some(tamper);
    if !while_open && let Some(tamper) = tamper.take() {
        tamper(&disk);
    }
    let beneath = Arc::new(disk.clone());
    let opened = open(beneath, world.options.clone(), &MASTER_KEY, world.now, Box::new(move || random.draw()));
    let Ok(opened) = opened else { return Ok(None) };
    if let Some(tamper) = tamper.take() {
        tamper(&disk);
    }
    let mut rng = world.rng.fork();
    check::honest(&world.oracle, &opened.store, world.now, &mut rng).map(Some)
}

#[test]
fn a_flipped_bit_is_never_shown() {
    let flips = setting("POSTRIDER_FLIPS").unwrap_or(FLIPS);
    let (mut world, cut_off, closed) = grown(setting("POSTRIDER_SEED").unwrap_or(11));
    let (mut rng, started_s) = (Rng::new(4), elapsed_s());
    let (mut tally, mut lies) = (Tally::new(), Vec::new());
    for number in 0..flips {
        let (when, whole, is_open) = match number % 3 {
            0 => ("closed", &closed, false),
            1 => ("cut off", &cut_off, false),
            _ => ("open", &closed, true),
        };
        let mut place = String::new();
        let tamper =
            |disk: &FaultyDisk| place = disk.flip_a_bit(&mut rng, |file| when != "cut off" || file != "journal");
        let seen = catch_unwind(AssertUnwindSafe(|| honest(&mut world, whole.copy(), is_open, tamper)));
        let became = match seen {
            Ok(Ok(None)) => "did not open",
            Ok(Ok(Some(0))) => "not met",
            Ok(Ok(Some(_))) => "reads failed",
            Ok(Err(lie)) => {
                lies.push(format!("{place}, {when}: {lie}"));
                "shown"
            }
            Err(_) => {
                lies.push(format!("{place}, {when}: a panic"));
                "panicked"
            }
        };
        let file = place.split([':', '/']).next().unwrap_or_default();
        *tally.entry(became.to_owned()).or_default() += 1;
        *tally.entry(format!("  {when}, {file}: {became}")).or_default() += 1;
    }
    println!(
        "{flips} flipped bits in {:.1} s, {} events in the store",
        elapsed_s() - started_s,
        world.oracle.events.len()
    );
    tally.iter().for_each(|(what, count)| println!("{count:6} {what}"));
    assert!(lies.is_empty(), "{lies:#?}");
    for met in ["did not open", "reads failed"] {
        assert!(tally.contains_key(met), "{met}: not once in {tally:?}");
    }
}
