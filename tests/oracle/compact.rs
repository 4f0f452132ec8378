//! `compact` under power cuts and on a full disk: every row remains, in files that open.

use crate::oracle::world::World;
use crate::support::disk::FaultyDisk;
use postrider::store::admin::{Compacted, compact};

const STEPS: u64 = 120;
/// Number of power cuts in one store, evenly spread over the operations of compaction.
const CUTS: u64 = 24;

fn grown(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step().expect("the disk behaves");
    }
    world.quiet().expect("the disk behaves");
    world
}

fn compacted(disk: &FaultyDisk) -> postrider::store::Result<Compacted> {
    compact(disk, &mut |_| {})
}

/// Opens the store and compares all of it.
fn is_whole(world: &mut World, disk: FaultyDisk, when: &str) {
    let started = world.start_on(disk);
    let compared = started.and_then(|()| world.compare()).and_then(|()| world.verify());
    assert!(compared.is_ok(), "{when}: {compared:?}");
    world.close();
}

#[test]
fn a_store_whose_compacting_is_cut_off_anywhere_has_every_row() {
    for seed in [1, 2] {
        let mut world = grown(seed);
        // A stopped store, and a killed one with a full write-ahead log.
        let killed = world.disk.cut();
        world.close();
        for (way, whole) in [("closed", world.disk.copy()), ("killed", killed)] {
            let done = whole.copy();
            let before = done.operations();
            let all = compacted(&done).unwrap();
            let operations = done.operations() - before;
            assert!(all.files > 1 && operations > CUTS, "{all:?}, {operations} operations");
            is_whole(&mut world, done, &format!("seed {seed}, {way}, not cut"));
            for n in 0..CUTS {
                let disk = whole.copy();
                let fuse = n * operations / CUTS;
                disk.set_fuse(Some(fuse));
                assert!(compacted(&disk).is_err(), "the power failed");
                let left = disk.cut();
                let when = format!("seed {seed}, {way}, cut at {fuse} of {operations}");
                // Compaction can be repeated, and a start finds all rows before and after it.
                is_whole(&mut world, left.copy(), &when);
                compacted(&left).unwrap_or_else(|error| panic!("{when}, said again: {error}"));
                is_whole(&mut world, left, &format!("{when}, said again"));
            }
        }
    }
}

#[test]
fn a_disk_that_is_full_costs_compacting_nothing_but_its_success() {
    let mut world = grown(3);
    world.close();
    let disk = world.disk.copy();
    disk.set_full(true);
    let done = compacted(&disk);
    disk.set_full(false);
    is_whole(&mut world, disk, &format!("a full disk: {done:?}"));
}
