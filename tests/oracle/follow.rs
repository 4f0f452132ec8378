//! A follower beside the store and its oracle. A copy with the log applied up to any commit equals the oracle at that
//! commit. Meanwhile partitions are rolled, archived and dropped, and commits fail.
//!
//! `POSTRIDER_STEPS=10000` runs longer, `POSTRIDER_SEED=7` runs one seed.

use std::sync::Arc;
use std::time::Duration;

use postrider::kv::tables::Table;
use postrider::model::{EventId, Time};
use postrider::store::admin::LogReplay;
use postrider::store::admin::receive;
use postrider::store::admin::{CommitRecord, Follower, ReplicaBatch, ReplicaKind, point_of};

use crate::oracle::companion::{self, Companion, SEEDS, over_seeds};
use crate::oracle::oracle::Oracle;
use crate::oracle::world::World;
use crate::oracle::{Check, Rng, ensure};
use crate::support::disk::FaultyDisk;

const ROUNDS: u64 = 12;
/// Maximum commits of one follower that are restored.
const REMEMBERED_MAX: usize = 8;
/// Steps between the start of following and the request for the copy.
const BASE_STEPS: u64 = 5;

/// A copy, and the commits received since.
struct Copy {
    disk: FaultyDisk,
    /// The last commit that may be in it.
    begun: u64,
}

/// One follower, from its first commit until it is disconnected.
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
        let follower = world.store().and_then(|opened| opened.writer.replication().follow(now, ReplicaKind::Backup));
        let follower = follower.ok_or("the follower is refused")?;
        Ok(Shadow { follower, age: 0, copy: None, records: Vec::new(), remembered: Vec::new() })
    }

    fn take_copy(&mut self, world: &mut World) -> Check {
        let seed = world.rng.draw();
        let Some(opened) = world.store() else { return Ok(()) };
        let mut stream = Vec::new();
        let moment = opened.writer.backup_snapshot().map_err(|error| error.to_string())?;
        moment.send(&mut stream).map_err(|error| error.to_string())?;
        let disk = FaultyDisk::new(seed);
        let received = receive(&mut stream.as_slice(), &disk, &mut |_| {}).map_err(|error| error.to_string())?;
        self.copy = Some(Copy { disk, begun: received.begun });
        Ok(())
    }

    /// Receives commits. `false` if the follower was disconnected.
    fn listen(&mut self) -> Check<bool> {
        loop {
            match self.follower.take(Duration::ZERO) {
                ReplicaBatch::Over(_) => return Ok(false),
                ReplicaBatch::Records(records) if records.is_empty() => return Ok(true),
                ReplicaBatch::Records(records) => {
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

    /// Checks that the reopened store has every received event, because a commit is published only after it is durable.
    fn is_there(&self, world: &World) -> Check {
        let oldest = world.oracle.partitions.first().copied().unwrap_or(0);
        for record in self.records.iter().filter_map(|record| CommitRecord::decode(record)) {
            let events = record.changes.iter().filter(|(table, _)| *table == Table::Events);
            for (key, _) in events.flat_map(|(_, changes)| changes).filter(|(_, row)| row.is_some()) {
                let id = key.as_slice().try_into().map(u128::from_be_bytes).map_err(|_| "no event's key")?;
                let is_known = id < oldest || world.oracle.events.contains_key(&EventId::from_u128(id));
                ensure!(is_known, "event {id:x} was published to the follower and is not in the store");
            }
        }
        Ok(())
    }

    /// Restores every stored commit, and returns their number.
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
        let mut replay = LogReplay::of(&disk);
        let records = self.records.iter().filter_map(|record| CommitRecord::decode(record));
        for record in records.take_while(|record| record.point.number <= number) {
            replay.take(record).map_err(|error| error.to_string())?;
        }
        replay.finish().map_err(|error| error.to_string())?;
        companion::compare(disk, world, (oracle, now), rng)
    }
}

/// The current follower, if there is one, and the number of restored commits.
#[derive(Default)]
struct Watch {
    shadow: Option<Shadow>,
    gone_back: u64,
}

impl Companion for Watch {
    fn before_step(&mut self, world: &mut World) -> Check {
        if self.shadow.is_none() && world.store().is_some() {
            self.shadow = Some(Shadow::begin(world)?);
        }
        Ok(())
    }

    /// Reads the published commits.
    fn after_step(&mut self, world: &mut World, openings: u64, is_quiet: bool) -> Check {
        let Some(mut shadow) = self.shadow.take() else { return Ok(()) };
        let goes_on = shadow.listen()?;
        if !goes_on || world.openings() != openings {
            shadow.is_there(world)?;
            self.gone_back += shadow.settle(world)?;
            return Ok(());
        }
        shadow.age += 1;
        if shadow.copy.is_none() && shadow.age > BASE_STEPS && is_quiet {
            shadow.take_copy(world)?;
        }
        if is_quiet {
            shadow.remember(world);
        }
        self.shadow = Some(shadow);
        Ok(())
    }

    fn after_recovery(&mut self, world: &mut World, openings: u64) -> Check {
        self.after_step(world, openings, true)
    }
}

/// Runs one store from its first write request to its last. Returns the number of restored commits.
fn run(seed: u64, rounds: u64) -> Check<[u64; 1]> {
    let mut world = World::new(seed);
    world.cuts_openings = true;
    let mut watch = Watch::default();
    companion::run(&mut world, rounds, &mut watch)?;
    if let Some(last) = watch.shadow {
        watch.gone_back += last.settle(&mut world)?;
    }
    Ok([watch.gone_back])
}

#[test]
fn a_copy_brought_forward_equals_the_oracle_at_that_commit() {
    let ([gone_back], is_whole) = over_seeds(ROUNDS, run);
    println!("{gone_back} commits were gone back to");
    assert!(gone_back >= SEEDS || !is_whole, "only {gone_back}");
}
