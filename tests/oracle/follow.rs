//! A follower beside the store and its oracle: the copy of some moment, brought forward to any commit after it, is what the
//! oracle was then; whatever was rolled, counted, dropped, refused and cut meanwhile.
//!
//! `POSTRIDER_STEPS=10000` runs longer, `POSTRIDER_SEED=7` runs one seed.

use std::sync::Arc;
use std::time::Duration;

use postrider::model::Time;
use postrider::store::backup::receive;
use postrider::store::follow::replay::Replay;
use postrider::store::follow::{Follower, Record, Taken, point_of};
use postrider::store::open;

use crate::disk::FaultyDisk;
use crate::oracle::Oracle;
use crate::world::{MASTER_KEY, Step, World};
use crate::{Check, Rng, check, ensure, setting};

const SEEDS: u64 = 4;
const STEPS: u64 = 240;
/// Steps after which the store is compared with the oracle, and remembered.
const REMEMBER_STEPS: u64 = 6;
/// Commits of one follower that are gone back to.
const REMEMBERED_MAX: usize = 8;
/// Steps between following and asking for the copy.
const BASE_STEPS: u64 = 5;

/// A copy, and what was told since.
struct Copy {
    disk: FaultyDisk,
    /// The last commit that may be in it.
    begun: u64,
}

/// One follower, from its first commit until it is cut off.
struct Shadow {
    follower: Follower,
    age: u64,
    copy: Option<Copy>,
    records: Vec<Arc<[u8]>>,
    remembered: Vec<(u64, Time, Oracle)>,
}

impl Shadow {
    fn begin(world: &mut World) -> Check<Shadow> {
        let now = world.now;
        let follower = world.store().and_then(|opened| opened.store.follow(now));
        let follower = follower.ok_or("nobody may follow")?;
        Ok(Shadow { follower, age: 0, copy: None, records: Vec::new(), remembered: Vec::new() })
    }

    fn take_copy(&mut self, world: &mut World) -> Check {
        let seed = world.rng.draw();
        let Some(opened) = world.store() else { return Ok(()) };
        let mut stream = Vec::new();
        let moment = opened.writer.moment().map_err(|error| error.to_string())?;
        moment.send(&mut stream).map_err(|error| error.to_string())?;
        let disk = FaultyDisk::new(seed);
        let received = receive(&mut stream.as_slice(), &disk, &mut |_| {}).map_err(|error| error.to_string())?;
        self.copy = Some(Copy { disk, begun: received.begun });
        Ok(())
    }

    /// Takes what was told; false: it was cut off.
    fn listen(&mut self) -> Check<bool> {
        loop {
            match self.follower.take(Duration::ZERO) {
                Taken::Over(_) => return Ok(false),
                Taken::Records(records) if records.is_empty() => return Ok(true),
                Taken::Records(records) => {
                    for record in records {
                        let number = point_of(&record).map(|point| point.number);
                        ensure!(number == Some(self.last() + 1), "{number:?} follows {}", self.last());
                        self.records.push(record);
                    }
                }
            }
        }
    }

    fn last(&self) -> u64 {
        self.follower.from().number + self.records.len() as u64
    }

    fn remember(&mut self, world: &mut World) {
        if self.copy.as_ref().is_some_and(|copy| self.last() >= copy.begun) {
            self.remembered.push((self.last(), world.now, world.oracle.clone()));
            if self.remembered.len() > REMEMBERED_MAX {
                let one = world.rng.below(self.remembered.len() as u64) as usize;
                self.remembered.remove(one);
            }
        }
    }

    /// Goes back to every commit that is remembered. How many there were.
    fn settle(&self, world: &mut World) -> Check<u64> {
        let Some(copy) = &self.copy else { return Ok(0) };
        for (number, now, oracle) in &self.remembered {
            let mut rng = world.rng.fork();
            self.go_back(copy, *number, (*now, oracle), world, &mut rng)
                .map_err(|problem| format!("commit {number} of {}: {problem}", self.last()))?;
        }
        Ok(self.remembered.len() as u64)
    }

    fn go_back(&self, copy: &Copy, number: u64, then: (Time, &Oracle), world: &World, rng: &mut Rng) -> Check {
        let (now, oracle) = then;
        let disk = copy.disk.copy();
        let mut replay = Replay::of(&disk);
        let records = self.records.iter().filter_map(|record| Record::decode(record));
        for record in records.take_while(|record| record.point.number <= number) {
            replay.take(record).map_err(|error| error.to_string())?;
        }
        replay.finish().map_err(|error| error.to_string())?;
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
}

/// One store from its first order to its last. How many commits were gone back to.
fn run(seed: u64, steps: u64) -> Check<u64> {
    let mut world = World::new(seed);
    world.cuts_openings = true;
    let mut shadow: Option<Shadow> = None;
    let mut gone_back = 0;
    for step in 1..=steps {
        if shadow.is_none() && world.store().is_some() {
            shadow = Some(Shadow::begin(&mut world)?);
        }
        if world.rng.chance(3) {
            let operations = world.rng.below(400);
            world.disk.set_fuse(Some(operations));
        }
        let reopens = world.openings();
        let mut stepped = world.step()?;
        if stepped == Step::Done && step % REMEMBER_STEPS == 0 {
            stepped = world.quiet()?;
        }
        let Some(mut present) = shadow.take() else { continue };
        // Whoever follows is told at least what was remembered before the power failed.
        let is_told = present.listen()? && stepped == Step::Done && world.openings() == reopens;
        if !is_told {
            gone_back += present.settle(&mut world)?;
            continue;
        }
        present.age += 1;
        if present.copy.is_none() && present.age > BASE_STEPS {
            present.take_copy(&mut world)?;
        } else if step % REMEMBER_STEPS == 0 {
            present.remember(&mut world);
        }
        shadow = Some(present);
    }
    if let Some(last) = shadow {
        gone_back += last.settle(&mut world)?;
    }
    Ok(gone_back)
}

#[test]
fn a_copy_brought_forward_is_what_the_oracle_was_at_that_commit() {
    let steps = setting("POSTRIDER_STEPS").unwrap_or(STEPS);
    let only = setting("POSTRIDER_SEED");
    let mut gone_back = 0;
    for seed in only.map_or((1..=SEEDS).collect(), |seed| vec![seed]) {
        gone_back += run(seed, steps).unwrap_or_else(|problem| panic!("POSTRIDER_SEED={seed}: {problem}"));
    }
    println!("{gone_back} commits were gone back to");
    assert!(gone_back >= SEEDS || only.is_some(), "only {gone_back}");
}
