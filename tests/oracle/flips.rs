//! Flipped bits: whatever bit of whatever file has changed, nobody is shown or sent anything but what was written. A read
//! may fail and say so; it may not lie, and nothing may panic. A third of the stores are cut off, with
//! records in the journal, and a third are open when it happens.
//!
//! The journal's own records are altered by its unit tests: the last one, torn by a cut or altered after it, looks the same.
//!
//! `POSTRIDER_FLIPS=3000` flips so many bits, `POSTRIDER_SEED=7` grows another store.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::disk::FaultyDisk;
use crate::world::World;
use crate::{Rng, elapsed_s, setting};

const FLIPS: u64 = 60;
const STEPS: u64 = 120;

#[test]
fn a_flipped_bit_is_never_shown() {
    let flips = setting("POSTRIDER_FLIPS").unwrap_or(FLIPS);
    let mut world = World::new(setting("POSTRIDER_SEED").unwrap_or(11));
    for _ in 0..STEPS {
        world.step().expect("the disk behaves");
    }
    world.quiet().expect("the disk behaves");
    let cut_off = world.disk.copy();
    world.checkpoint().expect("the disk behaves");
    world.close();
    let closed = world.disk.copy();
    let (mut rng, started_s) = (Rng::new(4), elapsed_s());
    let (mut unopened, mut failing, mut unseen, mut lies) = (0, 0, 0, Vec::new());
    for number in 0..flips {
        // Closed and opened again; cut off and opened again; open all the while.
        let (is_cut_off, is_open) = (number % 3 == 1, number % 3 == 2);
        let disk = if is_cut_off { cut_off.copy() } else { closed.copy() };
        let mut place = String::new();
        let tamper = |disk: &FaultyDisk| place = disk.flip_a_bit(&mut rng, |file| !is_cut_off || file != "journal");
        let seen = catch_unwind(AssertUnwindSafe(|| world.honest(disk, is_open, tamper)));
        match seen {
            Ok(Ok(None)) => unopened += 1,
            Ok(Ok(Some(0))) => unseen += 1,
            Ok(Ok(Some(_))) => failing += 1,
            Ok(Err(lie)) => lies.push(format!("{place}: {lie}")),
            Err(_) => lies.push(format!("{place}: a panic")),
        }
    }
    let seconds = elapsed_s() - started_s;
    println!(
        "{flips} flipped bits in {seconds:.1} s: {unopened} stores did not open, in {failing} reads failed, \
         {unseen} were not met, {} were shown",
        lies.len()
    );
    assert!(lies.is_empty(), "{lies:#?}");
}
