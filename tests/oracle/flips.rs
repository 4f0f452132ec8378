//! Flipped bits: after a change of any bit of any file, every read and every delivery has the written data or an error.
//! Nothing panics. A third of the stores are cut off, with records in the write-ahead log, and a third are open at that
//! moment.
//!
//! The unit tests of the write-ahead log alter its records, because a last record that was torn by a cut looks like an
//! altered one.
//!
//! `POSTRIDER_FLIPS=3000` sets the number of bits, and `POSTRIDER_SEED=7` grows another store.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use postrider::model::Time;
use postrider::model::time::DAY_MS;
use postrider::store::{StoreOptions, open};

use crate::oracle::oracle::Oracle;
use crate::oracle::world::{MASTER_KEY, World};
use crate::oracle::{Check, Rng, check, elapsed_s, setting};
use crate::support::disk::FaultyDisk;

const FLIPS: u64 = 120;
const STEPS: u64 = 300;
/// The store stays readable, although its clock jumps by weeks.
const RETENTION_MS: i64 = 5_000 * DAY_MS;

/// Counts of the flips by their result.
type Tally = BTreeMap<String, u64>;

/// A large store in its two states, and the exact model of both.
struct Grown {
    oracle: Oracle,
    options: StoreOptions,
    now: Time,
    /// The state with records in the write-ahead log.
    cut_off: FaultyDisk,
    closed: FaultyDisk,
}

fn grown(seed: u64) -> Grown {
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
    Grown { closed: world.disk.copy(), cut_off, oracle: world.oracle, options: world.options, now: world.now }
}

impl Grown {
    /// Compares everything on an altered disk, before the store is opened or while it is open. Returns whether it
    /// opened, and the number of failed reads.
    fn honest(
        &self,
        mut rng: Rng,
        disk: FaultyDisk,
        while_open: bool,
        tamper: impl FnOnce(&FaultyDisk),
    ) -> Check<Option<u64>> {
        let mut random = rng.fork();
        let mut tamper = Some(tamper);
        if !while_open && let Some(tamper) = tamper.take() {
            tamper(&disk);
        }
        let beneath = Arc::new(disk.clone());
        let opened = open(beneath, self.options.clone(), &MASTER_KEY, self.now, Box::new(move || random.draw()));
        let Ok(opened) = opened else { return Ok(None) };
        if let Some(tamper) = tamper.take() {
            tamper(&disk);
        }
        check::honest(&self.oracle, &opened.store, self.now, &mut rng).map(Some)
    }

    /// Flips one bit, which follows from the number, and compares. Returns the names that the flip is counted under,
    /// and every answer that was not honest.
    fn flip(&self, number: u64) -> ([String; 2], Option<String>) {
        let (when, whole, is_open) = match number % 3 {
            0 => ("closed", &self.closed, false),
            1 => ("cut off", &self.cut_off, false),
            _ => ("open", &self.closed, true),
        };
        let mut rng = Rng::new(number);
        let mut where_to = rng.fork();
        let mut place = String::new();
        let tamper = |disk: &FaultyDisk| place = disk.flip_a_bit(&mut where_to, |file| may_flip(when, file));
        let seen = catch_unwind(AssertUnwindSafe(|| self.honest(rng, whole.copy(), is_open, tamper)));
        let (became, lie) = match seen {
            Ok(Ok(None)) => ("did not open", None),
            Ok(Ok(Some(0))) => ("not met", None),
            Ok(Ok(Some(_))) => ("reads failed", None),
            Ok(Err(lie)) => ("shown", Some(format!("{place}, {when}: {lie}"))),
            Err(_) => ("panicked", Some(format!("{place}, {when}: a panic"))),
        };
        let file = place.split([':', '/']).next().unwrap_or_default();
        ([became.to_owned(), format!("  {when}, {file}: {became}")], lie)
    }
}

/// Whether a bit of a file may be flipped. No read uses the files of fingerprints, which have a test of their own.
fn may_flip(when: &str, file: &str) -> bool {
    (when != "cut off" || file != "journal") && !file.ends_with(".fingerprints")
}

#[test]
fn a_flipped_bit_is_never_shown() {
    let flips = setting("POSTRIDER_FLIPS").unwrap_or(FLIPS);
    let grown = grown(setting("POSTRIDER_SEED").unwrap_or(11));
    let started_s = elapsed_s();
    let (tally, lies, next) = (Mutex::new(Tally::new()), Mutex::new(Vec::new()), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= flips {
                        return;
                    }
                    let (names, lie) = grown.flip(number);
                    lies.lock().expect("the lies").extend(lie);
                    let mut tally = tally.lock().expect("the tally");
                    names.into_iter().for_each(|name| *tally.entry(name).or_default() += 1);
                }
            });
        }
    });
    let (tally, lies) = (tally.into_inner().expect("the tally"), lies.into_inner().expect("the lies"));
    println!(
        "{flips} flipped bits in {:.1} s, {} events in the store",
        elapsed_s() - started_s,
        grown.oracle.events.len()
    );
    tally.iter().for_each(|(what, count)| println!("{count:6} {what}"));
    assert!(lies.is_empty(), "{lies:#?}");
    for met in ["did not open", "reads failed"] {
        assert!(tally.contains_key(met), "{met}: not once in {tally:?}");
    }
}
