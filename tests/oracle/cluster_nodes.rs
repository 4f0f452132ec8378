//! The nodes of a cluster beside the world's store: a log that misbehaves, and the disks of the other nodes.

use std::sync::Arc;
use std::time::Duration;

use postrider::model::Time;
use postrider::store::admin::{
    CommitAppender, CommitLog, FenceError, LogEntry, LogMark, LogTail, Replica, fence, fold_wal, has_store, read_next,
    remove_log,
};
use postrider::store::{Disk, Opened, StoreOptions, open, open_in_cluster};

use super::world::MASTER_KEY;
use super::{Check, Rng};
use crate::support::disk::FaultyDisk;
use crate::support::memory_log::{LogFaults, MemoryLog};

/// Faults of the log while an owner appends.
const FAULTS: LogFaults = LogFaults { refused: 4, unanswered: 4, late: 4, forgets: 4, appends_anywhere: false };
const TAKEOVER_PERCENT: u64 = 40;
const SPARE_NODES: usize = 2;
/// Attempts of a node whose disk fails, or whose log does not answer.
const ATTEMPTS: usize = 200;

/// The log, and the disks of the nodes that are not the owner.
pub struct Nodes {
    pub log: MemoryLog,
    pub spare: Vec<FaultyDisk>,
    term: u64,
    rng: Rng,
    pub takeovers: u64,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Random numbers for a store.
fn random(rng: &mut Rng) -> Box<dyn FnMut() -> u64 + Send> {
    let mut rng = rng.fork();
    Box::new(move || rng.draw())
}

impl Nodes {
    pub fn new(rng: &mut Rng) -> Nodes {
        Nodes { log: MemoryLog::new(rng.fork()), spare: Vec::new(), term: 0, rng: rng.fork(), takeovers: 0 }
    }

    /// Lets another node take over from time to time. The process of the owner has ended.
    pub fn choose_owner(&mut self, disk: &mut FaultyDisk, rng: &mut Rng) {
        if self.spare.is_empty() || !rng.chance(TAKEOVER_PERCENT) {
            return;
        }
        let other = rng.below(self.spare.len() as u64) as usize;
        disk.set_full(false);
        disk.set_fuse(None);
        disk.fail_a_read(None);
        let former = if disk.is_dead() { disk.cut() } else { disk.kill() };
        *disk = std::mem::replace(&mut self.spare[other], former);
        self.takeovers += 1;
    }

    /// Opens the store on `disk` as the owner, as a node does at its start.
    pub fn open(&mut self, disk: &FaultyDisk, options: &StoreOptions, now: Time, mut rng: Rng) -> Check<Opened> {
        self.log.set_faults(LogFaults::default());
        if !self.log.is_begun() {
            self.begin(disk, options, now, &mut rng)?;
        }
        self.term += 1;
        let log = self.log.clone();
        let opened = open_as_owner(&log, disk, options, now, (self.term, rng))?;
        log.keep_up_to(log.last().map_err(text)?.number);
        log.set_faults(FAULTS);
        Ok(opened)
    }

    /// Makes the store, and begins the log and the other nodes with it.
    fn begin(&mut self, disk: &FaultyDisk, options: &StoreOptions, now: Time, rng: &mut Rng) -> Check {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        drop(open(shared.clone(), options.clone(), &MASTER_KEY, now, random(rng)).map_err(text)?);
        let mark = fold_wal(shared, options.clone(), &MASTER_KEY, now, random(rng)).map_err(text)?;
        self.log.begin(LogMark { number: mark.number, term: 0, writer: mark.run as u64 });
        self.spare = (0..SPARE_NODES).map(|_| disk.copy()).collect();
        Ok(())
    }

    /// Lets a node that is not the owner apply the log, on a disk without faults.
    pub fn follow(&mut self, node: usize, options: &StoreOptions, now: Time) -> Check {
        let rng = self.rng.fork();
        let replica = replica_of(&self.spare[node], options, now, rng);
        let (mut replica, mut last) = replica?;
        loop {
            let entries = read_next::<String>(&self.log, last).map_err(text)?;
            let Some(newest) = entries.last().map(|entry| entry.mark) else { break };
            apply(&mut replica, &entries)?;
            last = newest;
        }
        replica.close().map_err(text)
    }

    /// A copy of a node as it would be if it took over now, with a log of its own.
    pub fn promoted(&mut self, node: usize, options: &StoreOptions, now: Time) -> Check<Opened> {
        let (disk, log, rng) = (self.spare[node].copy(), self.log.copy(), self.rng.fork());
        open_as_owner(&log, &disk, options, now, (self.term + 1, rng))
    }
}

fn apply(replica: &mut Replica, entries: &[LogEntry]) -> Check {
    let bodies: Vec<&[u8]> = entries.iter().map(|entry| &*entry.body).collect();
    replica.append(&bodies).map_err(text)
}

fn apply_and_keep(replica: &mut Replica, tail: &mut LogTail, entries: &[LogEntry]) -> Check {
    entries.iter().for_each(|entry| tail.push(entry.clone()));
    apply(replica, entries)
}

/// The replica of a node whose process has ended, and its last commit.
fn replica_of(disk: &FaultyDisk, options: &StoreOptions, now: Time, mut rng: Rng) -> Check<(Replica, LogMark)> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    assert!(has_store(&*shared).map_err(text)?, "a node has a store");
    let mark = fold_wal(shared.clone(), options.clone(), &MASTER_KEY, now, random(&mut rng)).map_err(text)?;
    let log_disk = FaultyDisk::new(rng.draw());
    remove_log(&log_disk).map_err(text)?;
    let replica = Replica::open(shared, Arc::new(log_disk), random(&mut rng)).map_err(text)?;
    Ok((replica, LogMark { number: mark.number, term: 0, writer: mark.run as u64 }))
}

fn open_as_owner(
    log: &MemoryLog,
    disk: &FaultyDisk,
    options: &StoreOptions,
    now: Time,
    (term, mut rng): (u64, Rng),
) -> Check<Opened> {
    let (mut replica, mut last) = replica_of(disk, options, now, rng.fork())?;
    let (writer, mut tail) = (rng.draw(), LogTail::after_mark(last));
    let mut attempts = 0;
    let fenced = loop {
        match fence(log, &mut last, (term, writer), now, |entries| apply_and_keep(&mut replica, &mut tail, entries)) {
            Err(FenceError::Unreachable(_)) if attempts < ATTEMPTS => attempts += 1,
            fenced => break fenced.map_err(text)?,
        }
    };
    assert_eq!(tail.last(), fenced);
    replica.close().map_err(text)?;
    let appender = CommitAppender::new(Arc::new(log.clone()), tail, Arc::default()).trying_again(Duration::ZERO);
    let disk = Arc::new(disk.clone());
    open_in_cluster(disk, options.clone(), &MASTER_KEY, now, random(&mut rng), appender).map_err(text)
}
