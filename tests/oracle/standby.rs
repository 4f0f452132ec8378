//! A standby beside the store and its oracle. Either machine may lose its power. The promoted replica has every commit
//! that it confirmed, and equals the oracle at the last one. After a break it resumes by number.
//!
//! `POSTRIDER_STEPS=10000` runs longer, `POSTRIDER_SEED=7` runs one seed.

use std::sync::Arc;
use std::time::Duration;

use postrider::store::admin::{Follower, LogWriter, Replica, ReplicaBatch, ReplicaKind, receive};

use crate::oracle::companion::{self, Companion, SEEDS, over_seeds};
use crate::oracle::world::World;
use crate::oracle::{Check, Rng, ensure};
use crate::support::disk::FaultyDisk;

const ROUNDS: u64 = 6;
const WRITE_PERCENT: u64 = 20;
const CUT_PERCENT: u64 = 4;
const BREAK_PERCENT: u64 = 8;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The disks of a standby, and its replica while it runs.
struct Standby {
    disk: FaultyDisk,
    log_disk: FaultyDisk,
    replica: Option<Replica>,
    follower: Option<Follower>,
    /// The last commit that it confirmed.
    confirmed: u64,
    rng: Rng,
    resumed: u64,
    copied: u64,
    compared: u64,
}

impl Standby {
    fn new(rng: &mut Rng) -> Standby {
        Standby {
            disk: FaultyDisk::new(rng.draw()),
            log_disk: FaultyDisk::new(rng.draw()),
            replica: None,
            follower: None,
            confirmed: 0,
            rng: rng.fork(),
            resumed: 0,
            copied: 0,
            compared: 0,
        }
    }

    fn opened(&mut self, disk: &FaultyDisk, log_disk: &FaultyDisk) -> Check<Replica> {
        let mut random = self.rng.fork();
        Replica::open(Arc::new(disk.clone()), Arc::new(log_disk.clone()), Box::new(move || random.draw())).map_err(text)
    }

    /// Connects to the owner: resumes, or copies a new base.
    fn connect(&mut self, world: &mut World) -> Check {
        let now = world.now;
        let Some(opened) = world.store() else { return Ok(()) };
        let replication = opened.writer.replication();
        if let Some(replica) = &self.replica {
            self.follower = replication.follow_after(replica.last(), now, ReplicaKind::Backup);
            if self.follower.is_some() {
                self.resumed += 1;
                return Ok(());
            }
        }
        self.follower = replication.follow(now, ReplicaKind::Backup);
        ensure!(self.follower.is_some(), "the standby may not follow");
        let mut stream = Vec::new();
        let sent = opened.writer.backup_snapshot().and_then(|snapshot| snapshot.for_standby().send(&mut stream));
        if sent.is_err() {
            // The owner's disk fails reads.
            self.follower = None;
            return Ok(());
        }
        (self.disk, self.log_disk) = (FaultyDisk::new(self.rng.draw()), FaultyDisk::new(self.rng.draw()));
        receive(&mut stream.as_slice(), &self.disk, &mut |_| {}).map_err(text)?;
        let from = self.follower.as_ref().map(Follower::from).ok_or("no standby follows")?;
        LogWriter::create(&self.log_disk, self.rng.draw(), from).map_err(text)?;
        let (disk, log_disk) = (self.disk.clone(), self.log_disk.clone());
        let replica = self.opened(&disk, &log_disk)?;
        self.confirmed = replica.last().number;
        self.replica = Some(replica);
        self.copied += 1;
        Ok(())
    }

    /// Applies and confirms the published commits.
    fn hear(&mut self) -> Check {
        let (Some(follower), Some(replica)) = (&self.follower, &mut self.replica) else { return Ok(()) };
        loop {
            match follower.take(Duration::ZERO) {
                ReplicaBatch::Over(_) => break,
                ReplicaBatch::Records(records) if records.is_empty() => return Ok(()),
                ReplicaBatch::Records(records) => {
                    // The base may contain the first commits already.
                    let number = |record: &Arc<[u8]>| postrider::store::admin::point_of(record).map(|p| p.number);
                    let last = replica.last().number;
                    let new: Vec<&[u8]> =
                        records.iter().filter(|record| number(record) > Some(last)).map(|record| &**record).collect();
                    replica.append(&new).map_err(text)?;
                    self.confirmed = replica.last().number;
                }
            }
        }
        self.follower = None;
        Ok(())
    }

    /// Faults of the standby's own machine, and its timed work.
    fn suffer(&mut self) -> Check {
        let percent = self.rng.below(100);
        let Some(replica) = &mut self.replica else { return Ok(()) };
        if percent < WRITE_PERCENT {
            replica.write().map_err(text)?;
        } else if percent < WRITE_PERCENT + CUT_PERCENT {
            (self.replica, self.follower) = (None, None);
            (self.disk, self.log_disk) = (self.disk.cut(), self.log_disk.cut());
            let (disk, log_disk) = (self.disk.clone(), self.log_disk.clone());
            let replica = self.opened(&disk, &log_disk)?;
            ensure!(replica.last().number >= self.confirmed, "{:?} < {}", replica.last(), self.confirmed);
            self.replica = Some(replica);
        } else if percent < WRITE_PERCENT + CUT_PERCENT + BREAK_PERCENT {
            self.follower = None;
        }
        Ok(())
    }

    /// Promotes a copy of the replica as a kill would leave it, and compares it with the oracle.
    fn compare(&mut self, world: &World) -> Check {
        if self.follower.is_none() || self.replica.is_none() {
            return Ok(());
        }
        let (disk, log_disk) = (self.disk.copy(), self.log_disk.copy());
        let replica = self.opened(&disk, &log_disk)?;
        ensure!(replica.last().number == self.confirmed, "{:?} is not {}", replica.last(), self.confirmed);
        replica.close().map_err(text)?;
        companion::compare(disk, world, (&world.oracle, world.now), &mut self.rng)?;
        self.compared += 1;
        Ok(())
    }
}

impl Companion for Standby {
    fn before_step(&mut self, world: &mut World) -> Check {
        if self.follower.is_none() { self.connect(world) } else { Ok(()) }
    }

    fn after_step(&mut self, world: &mut World, _: u64, is_quiet: bool) -> Check {
        self.hear()?;
        if is_quiet {
            self.compare(world).map_err(|problem| format!("commit {}: {problem}", self.confirmed))?;
        }
        self.suffer()
    }

    fn after_recovery(&mut self, _: &mut World, _: u64) -> Check {
        self.hear()
    }
}

/// Runs one store with its standby. Returns the numbers of resumed connections and of comparisons.
fn run(seed: u64, rounds: u64) -> Check<[u64; 2]> {
    let mut world = World::new(seed);
    let mut standby = Standby::new(&mut world.rng);
    companion::run(&mut world, rounds, &mut standby)?;
    Ok([standby.resumed, standby.compared])
}

#[test]
fn a_promoted_replica_equals_the_oracle_at_the_last_confirmed_commit() {
    let ([resumed, compared], is_whole) = over_seeds(ROUNDS, run);
    println!("{resumed} connections resumed, {compared} replicas were promoted");
    assert!(resumed >= SEEDS && compared >= SEEDS || !is_whole, "only {resumed} and {compared}");
}
