//! `verify` finds nothing in a sound store, and every damage in a damaged one.

use std::sync::Arc;

use crate::oracle::Rng;
use crate::oracle::world::{MASTER_KEY, World};
use crate::support::disk::FaultyDisk;
use postrider::store::admin::{VerifyReport, verify};

const STEPS: u64 = 120;
const FLIPS: u64 = 60;

fn grown(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step().expect("the disk behaves");
    }
    world.quiet().expect("the disk behaves");
    world.close();
    world
}

fn walked(disk: &FaultyDisk) -> Result<VerifyReport, String> {
    verify(Arc::new(disk.clone()), &MASTER_KEY, &mut |_| {}).map_err(|error| error.to_string())
}

#[test]
fn a_sound_store_is_walked_without_a_word_and_without_a_change() {
    let world = grown(1);
    let before = world.disk.operations();
    let mut seen = 0;
    let report = verify(Arc::new(world.disk.clone()), &MASTER_KEY, &mut |progress| seen = progress.rows).unwrap();
    assert_eq!((&report.problems[..], &report.unlisted[..], report.to_release), (&[][..], &[][..], 0));
    assert!(report.files > 2 && report.rows > 100, "{report:?}");
    assert!(seen <= report.rows);
    assert_eq!(world.disk.operations(), before, "a closed store is only read");
}

#[test]
fn a_store_that_was_cut_off_is_walked_with_its_log_and_left_as_it_is() {
    for seed in 5..15 {
        let mut world = World::new(seed);
        for _ in 0..40 {
            world.step().expect("the disk behaves");
        }
        let left = world.disk.cut();
        let before = left.operations();
        let report = walked(&left).unwrap();
        assert_eq!(report.problems, [], "seed {seed}");
        assert_eq!(left.operations(), before, "nothing is written");
        // The same number of rows as after a start.
        world.start_on(left).unwrap();
        assert_eq!(world.verify().map(|rows| rows - report.rows), Ok(0), "seed {seed}");
    }
}

#[test]
fn a_wrong_master_key_is_an_error() {
    let world = grown(2);
    assert!(verify(Arc::new(world.disk.clone()), &[8; 32], &mut |_| {}).is_err());
}

#[test]
fn a_store_that_verify_passes_reads_as_written_whichever_bit_was_flipped() {
    let mut world = grown(3);
    let whole = world.disk.copy();
    let mut rng = Rng::new(4);
    let (mut found, mut harmless) = (0, 0);
    for _ in 0..FLIPS {
        world.disk = whole.copy();
        // An altered last record of the log counts as torn by a power cut. `tests/store/wal.rs` alters the others.
        let place = world.disk.flip_a_bit(&mut rng, |file| file != "journal");
        if walked(&world.disk).is_ok_and(|report| report.is_sound()) {
            harmless += 1;
            let compared = world.reopen().and_then(|_| world.compare());
            assert_eq!(compared, Ok(()), "{place} was flipped, and verify did not see it");
            world.close();
        } else {
            found += 1;
        }
    }
    println!("{found} of {FLIPS} flipped bits were found, {harmless} lay where nothing is");
    assert!(found > FLIPS / 10, "only {found} flips were found");
}
