//! A store, its oracle and the faulty disk under it, driven by one seed.
//!
//! Invariant: acknowledged changes survive every fault of the disk. All other requests of a batch for the same file are
//! either all applied or not at all.

mod batch;
mod checkpoints;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postrider::model::Time;
use postrider::model::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use postrider::store::{
    AppliedBatch, Command, Disk, FINGERPRINTS_MAX, Opened, PartitionCommand, ROW_PAYLOAD_BYTES_MAX, Rejection,
    StoreOptions, WriteRequest, open,
};
use postrider::store::{Maintained, ROUND_DROPPED_MAX, Retention};

use self::batch::{Answered, Batch};
use super::check;
use super::cluster_nodes::Nodes;
use super::drawn_values::Found;
use super::history::History;
use super::oracle::{Oracle, Place, label};
use super::{Check, Rng, ensure, setting};
use crate::support::disk::FaultyDisk;

const START: Time = Time(1_772_704_800_000);
pub const MASTER_KEY: [u8; 32] = [7; 32];

pub struct World {
    pub disk: FaultyDisk,
    /// The log and the other nodes of a cluster. `None` if the store is by itself.
    pub nodes: Option<Nodes>,
    pub options: StoreOptions,
    pub oracle: Oracle,
    pub now: Time,
    pub rng: Rng,
    pub history: History,
    opened: Option<Opened>,
    /// Requests of the daemon itself that come next: follow-ups, and requests that the disk rejected.
    next: Vec<WriteRequest>,
    pub batches: u64,
    pub requests: u64,
    pub cuts: u64,
    openings: u64,
    has_failed: bool,
    /// Whether a read may fail while requests are applied.
    pub fails_reads: bool,
    /// Whether the power may fail again while the store is opened.
    pub cuts_openings: bool,
}

/// The operation that the power cut interrupted.
enum Pending {
    Nothing,
    /// The requests, their answers, and whether the writer refused publishes for lack of space.
    Batch(Vec<WriteRequest>, Vec<Answered>, bool),
    /// Partitions may have been dropped.
    Maintenance,
}

impl Pending {
    /// The requests without an answer.
    fn unanswered(&self) -> Vec<&WriteRequest> {
        let Pending::Batch(requests, results, _) = self else { return Vec::new() };
        let pairs = requests.iter().zip(results).filter(|(_, result)| batch::is_unknown(result));
        pairs.map(|(request, _)| request).collect()
    }
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Done,
    /// The power failed during it, and the store was opened again.
    Cut,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let options = StoreOptions {
            retention_ms: [2 * DAY_MS, 6 * DAY_MS][rng.below(2) as usize],
            idempotency_window_ms: [HOUR_MS, DAY_MS][rng.below(2) as usize],
            partition_max_bytes: [1 << 30, 3 << 20][rng.below(2) as usize],
            min_free_bytes: rng.below(2),
            row_payload_bytes_max: [ROW_PAYLOAD_BYTES_MAX, 200, 20][rng.below(3) as usize],
            fingerprints_max: [3, 64, FINGERPRINTS_MAX][rng.below(3) as usize],
        };
        let oracle = Oracle {
            retention_ms: options.retention_ms,
            window_ms: options.idempotency_window_ms,
            ..Oracle::default()
        };
        World {
            disk: FaultyDisk::new(rng.draw()),
            nodes: None,
            options,
            oracle,
            now: START,
            history: History::new(rng.fork()),
            rng,
            opened: None,
            next: Vec::new(),
            batches: 0,
            requests: 0,
            cuts: 0,
            openings: 0,
            has_failed: false,
            fails_reads: false,
            cuts_openings: false,
        }
    }

    /// Closes the store. The next step opens it again.
    pub fn close(&mut self) {
        self.opened = None;
    }

    /// Continues on another disk, while no operation is running.
    pub fn start_on(&mut self, disk: FaultyDisk) -> Check {
        self.opened = None;
        self.disk = disk;
        self.open(Pending::Nothing)
    }

    /// The store, if it is open.
    pub fn store(&mut self) -> Option<&mut Opened> {
        self.opened.as_mut()
    }

    /// Number of times that it was opened.
    pub fn openings(&self) -> u64 {
        self.openings
    }

    fn opened(&mut self) -> &mut Opened {
        self.opened.as_mut().expect("the store is open")
    }

    /// Opens the store, repeatedly while the power fails meanwhile, and decides about the interrupted operation.
    fn open(&mut self, pending: Pending) -> Check {
        if let Some(nodes) = &mut self.nodes {
            nodes.choose_owner(&mut self.disk, &mut self.rng);
        }
        loop {
            if self.disk.has_lost_writes() {
                // The process has ended, and the machine has not.
                self.disk = self.disk.kill();
            }
            if self.cuts_openings && self.rng.chance(30) {
                self.disk.set_fuse(Some(self.rng.below(80)));
            }
            match self.open_store() {
                // A sync failed meanwhile, where a daemon would end and be started again. Or the power failed at a write
                // that the store can do without.
                Ok(opened) if self.disk.has_lost_writes() || self.disk.is_dead() => self.disk = self.disk_after(opened),
                Ok(opened) => {
                    self.disk.set_fuse(None);
                    self.opened = Some(opened);
                    self.openings += 1;
                    break;
                }
                Err(_) if self.disk.is_dead() => {
                    self.disk = self.disk.cut();
                    self.cuts += 1;
                }
                // Replaying the write-ahead log needs space, which is available then.
                Err(_) if self.disk.is_full() => self.disk.set_full(false),
                // The daemon is started again.
                Err(_) if self.has_failed && !self.disk.has_failing_sync() => self.has_failed = false,
                Err(error) => return Err(format!("the store does not open: {error}")),
            }
        }
        self.forget_names();
        let may_drop = matches!(pending, Pending::Maintenance);
        self.adopt_partitions(may_drop)?;
        if let Pending::Batch(requests, results, refuses) = &pending {
            self.settle(requests, results, *refuses)?;
        } else {
            self.found()?.is_explained()?;
        }
        self.adopt_partitions(false)?;
        self.settle_pending_audit(false)?;
        self.oracle.pending_audit.clear();
        let first = std::mem::take(&mut self.opened().first);
        let released: BTreeSet<String> = first.iter().map(label).collect();
        pending.unanswered().into_iter().for_each(|request| self.oracle.settle_release(request, &released));
        self.clear_told();
        let held = self.oracle.held_releases().into_iter().collect();
        ensure!(released == held, "at start {released:?} are let go, {held:?} should be");
        self.next = first;
        Ok(())
    }

    /// Opens the store by itself, or as the owner of its cluster.
    fn open_store(&mut self) -> Check<Opened> {
        let mut random = self.rng.fork();
        match &mut self.nodes {
            Some(nodes) => nodes.open(&self.disk, &self.options, self.now, random),
            None => {
                let (disk, random) = (Arc::new(self.disk.clone()), Box::new(move || random.draw()));
                open(disk, self.options.clone(), &MASTER_KEY, self.now, random).map_err(|error| error.to_string())
            }
        }
    }

    fn clear_told(&mut self) {
        self.oracle.follow.clear();
        self.oracle.newly_due.clear();
        self.oracle.withdrawn.clear();
    }

    fn forget_names(&mut self) {
        let horizon = self.now.minus_ms(self.options.idempotency_window_ms);
        self.oracle.forgotten_before = self.oracle.forgotten_before.max(horizon);
    }

    fn found(&mut self) -> Check<Found> {
        let store = self.opened().store.clone();
        let found = Found::since(&self.oracle, &store);
        if found.is_ok() || !self.disk.is_full() {
            return found;
        }
        // Without space the write-ahead log cannot be replayed. With space it can, without a restart.
        self.disk.set_full(false);
        let now = self.now;
        let recovered = self.opened().writer.apply(&[], now);
        self.next.extend(recovered.follow);
        Found::since(&self.oracle, &store)
    }

    /// Reads from the store where partitions begin, and which ones were dropped.
    fn adopt_partitions(&mut self, may_drop: bool) -> Check {
        let listed: Vec<u128> = self.opened().store.partitions().into_iter().map(|(first, _)| first).collect();
        let kept: BTreeSet<u128> = listed.iter().copied().collect();
        let gone = self.oracle.partitions.iter().take_while(|first| !kept.contains(first)).count();
        let droppable = if may_drop { self.oracle.droppable(self.now) } else { 0 };
        ensure!(gone <= droppable, "{gone} partitions are gone, {droppable} may be");
        (0..gone).for_each(|_| self.oracle.drop_oldest());
        let known = self.oracle.partitions.len();
        ensure!(
            listed.starts_with(&self.oracle.partitions),
            "partitions {listed:x?}, known {:x?}",
            self.oracle.partitions
        );
        listed[known..].iter().try_for_each(|first| self.oracle.begin(*first))
    }

    /// Cuts the power and opens the store again.
    fn cut(&mut self, pending: Pending) -> Check {
        if let Some(opened) = self.opened.take() {
            self.disk = self.disk_after(opened);
        }
        self.open(pending)
    }

    /// The disk after a power cut, or after the end of the process if the power is on and a sync has failed.
    fn disk_after(&mut self, opened: Opened) -> FaultyDisk {
        self.cuts += 1;
        let only_ends = !self.disk.is_dead() && self.disk.has_lost_writes() && self.rng.chance(50);
        let disk = if only_ends { self.disk.kill() } else { self.disk.cut() };
        // Dropped only now, because a dying process writes no more.
        drop(opened);
        disk
    }

    /// Whether the process has ended or must end.
    fn has_ended(&self) -> bool {
        let has_tenure_ended = self.opened.as_ref().is_some_and(|opened| opened.writer.health().has_tenure_ended);
        self.disk.is_dead() || self.disk.has_lost_writes() || has_tenure_ended
    }

    /// Cuts the power while no operation is running.
    pub fn cut_now(&mut self) -> Check {
        self.cut(Pending::Nothing)
    }

    /// Takes one step, and checks its result.
    pub fn step(&mut self) -> Check<Step> {
        if self.opened.is_none() {
            self.open(Pending::Nothing)?;
        }
        self.move_clock();
        match self.rng.below(100) {
            0..5 => self.maintain(),
            5..8 => self.roll(),
            8..11 => self.reopen(),
            11..14 => self.checkpoint(),
            14..22 => self.call_checkpoint(),
            22..28 => self.run_checkpoint(),
            28..36 => self.store_fingerprints(),
            _ => self.batch(),
        }
    }

    fn move_clock(&mut self) {
        let rng = &mut self.rng;
        let ms = match rng.below(1_000) {
            0..600 => rng.within(0, 2_000),
            600..850 => rng.within(1, 30) * MINUTE_MS,
            850..950 => rng.within(-5_000, 0),
            950..985 => rng.within(1, 12) * HOUR_MS,
            985..997 => DAY_MS,
            _ => rng.within(2, 40) * DAY_MS,
        };
        self.now = self.now.plus_ms(ms);
    }

    /// Closes the store as a stopping daemon does, and opens it again.
    pub fn reopen(&mut self) -> Check<Step> {
        if self.rng.chance(50) && self.checkpoint()? == Step::Cut {
            return Ok(Step::Cut);
        }
        self.opened = None;
        if self.disk.is_dead() {
            self.disk = self.disk.cut();
            self.cuts += 1;
            self.open(Pending::Nothing)?;
            return Ok(Step::Cut);
        }
        self.open(Pending::Nothing)?;
        Ok(Step::Done)
    }

    fn roll(&mut self) -> Check<Step> {
        let now = self.now;
        let rolled = self.opened().writer.roll(now);
        if self.has_ended() {
            self.cut(Pending::Nothing)?;
            return Ok(Step::Cut);
        }
        ensure!(rolled.is_ok() || self.is_faulty(), "rolling failed: {rolled:?}");
        if rolled.is_ok() {
            self.adopt_partitions(false)?;
        }
        Ok(Step::Done)
    }

    /// Whether failures are expected.
    fn is_faulty(&self) -> bool {
        self.disk.is_full() || self.has_failed || self.fails_reads
    }

    fn batch(&mut self) -> Check<Step> {
        let mut requests = std::mem::take(&mut self.next);
        let made = self.history.batch(&self.oracle, self.now);
        made.iter().for_each(|request| self.history.remember(request));
        requests.extend(made);
        self.apply(requests)
    }

    /// Applies requests, and their follow-ups.
    pub fn apply(&mut self, requests: Vec<WriteRequest>) -> Check<Step> {
        let (now, is_faulty) = (self.now, self.is_faulty());
        self.batches += 1;
        self.requests += requests.len() as u64;
        if self.fails_reads && self.rng.chance(50) {
            self.disk.fail_a_read(Some(self.rng.below(25)));
        }
        let held = self.oracle.held_releases();
        let AppliedBatch { results, effects, follow, .. } = self.opened().writer.apply(&requests, now);
        self.disk.fail_a_read(None);
        if setting("POSTRIDER_TRACE").is_some() {
            for (request, result) in requests.iter().zip(&results) {
                eprintln!("batch {} at {}: {request:?} -> {result:?}", self.batches, now.0);
            }
        }
        let refuses = self.opened().writer.health().is_disk_full;
        if self.has_ended() {
            self.cut(Pending::Batch(requests, results, refuses))?;
            return Ok(Step::Cut);
        }
        self.adopt_partitions(false)?;
        let whole = self.settle(&requests, &results, refuses)?;
        self.adopt_partitions(false)?;
        self.settle_pending_audit(effects.failures.is_empty())?;
        let own_again = requests
            .into_iter()
            .zip(&results)
            .filter(|(request, result)| request.caller.is_none() && batch::is_unknown(result));
        self.next.extend(own_again.map(|(request, _)| request));
        check::told(&self.oracle, &effects)?;
        if whole && effects.failures.is_empty() {
            self.oracle.follow.sort();
            let followed = labels(&follow, &held, &self.oracle.follow);
            ensure!(followed == self.oracle.follow, "{followed:?} follow, {:?} should", self.oracle.follow);
            check::effects(&self.oracle, &effects, now)?;
        } else {
            ensure!(is_faulty, "the store failed: {:?}", effects.failures);
        }
        self.next.extend(follow);
        self.clear_told();
        Ok(Step::Done)
    }

    /// Applies the answered requests to the oracle, and decides about the others. Returns whether all were answered.
    fn settle(&mut self, requests: &[WriteRequest], results: &[Answered], refuses: bool) -> Check<bool> {
        // Before any read, which may begin another partition.
        let places: Vec<Place> = requests.iter().map(|request| self.oracle.place_of(request)).collect();
        let active = Place::Partition(self.oracle.active());
        let mut found = self.found()?;
        let mut groups: BTreeMap<Place, Vec<usize>> = BTreeMap::new();
        for (slot, request) in requests.iter().enumerate() {
            // The writer refused it before it was tried.
            if refuses
                && request.caller.is_some()
                && matches!(request.command, Command::Partition(PartitionCommand::Publish(_)))
            {
                ensure!(results[slot] == Err(Rejection::DiskFull), "{:?} on a full disk", results[slot]);
                continue;
            }
            groups.entry(places[slot]).or_default().push(slot);
        }
        let mut parts: Vec<(Place, Vec<usize>)> = groups.into_iter().collect();
        parts.sort_by_key(|(place, _)| (*place != Place::State, *place != active, *place));
        let failed = |slot: &usize| batch::is_unknown(&results[*slot]);
        // A request that failed by itself is not stored, and the applied ones are.
        let whole = !parts.iter().flat_map(|(_, slots)| slots).any(failed);
        let unknown: Vec<Place> =
            parts.iter().filter(|(_, slots)| slots.iter().all(failed)).map(|(place, _)| *place).collect();
        let batch = Batch { parts, requests, results, now: self.now };
        if unknown.is_empty() {
            batch.play(&mut self.oracle, &mut found, &[])?;
        } else {
            let store = self.opened().store.clone();
            (self.oracle, found) = batch.decide(&self.oracle, &found, &unknown, &store)?;
        }
        found.is_explained()?;
        Ok(whole)
    }

    /// Actions in partitions are in the audit before they are acknowledged. If the state file failed, a later batch
    /// writes them.
    fn settle_pending_audit(&mut self, is_healthy: bool) -> Check {
        if self.oracle.pending_audit.is_empty() {
            return Ok(());
        }
        let store = self.opened().store.clone();
        let mut noted = self.oracle.clone();
        noted.write_pending_audit();
        let there = check::settings(&noted, &store, true);
        if there.is_ok() {
            self.oracle = noted;
            return Ok(());
        }
        let absent = check::settings(&self.oracle, &store, true);
        ensure!(!is_healthy && absent.is_ok(), "audit lines are half written:\n  {there:?}\n  {absent:?}");
        Ok(())
    }

    fn maintain(&mut self) -> Check<Step> {
        let (now, keep) = (self.now, self.rng.chance(20));
        let done = self.opened().writer.maintain(now, if keep { Retention::Paused } else { Retention::Running });
        // Otherwise a cut comes before the files are unlinked.
        let is_unlinked = self.has_ended() || done.dropped.is_empty() || self.rng.chance(80);
        for partition in done.dropped.iter().filter(|_| is_unlinked) {
            let unlinked = self.opened().store.unlink(partition);
            ensure!(unlinked.is_ok() || self.is_faulty() || self.has_ended(), "a dropped file stays: {unlinked:?}");
        }
        if self.has_ended() {
            self.cut(if keep { Pending::Nothing } else { Pending::Maintenance })?;
            return Ok(Step::Cut);
        }
        self.forget_names();
        if done.failures.is_empty() {
            self.follow_maintenance(keep, &done)?;
        } else {
            ensure!(self.is_faulty(), "maintenance failed: {:?}", done.failures);
            self.adopt_partitions(!keep)?;
        }
        self.next.extend(done.follow);
        if !is_unlinked {
            self.cut(Pending::Nothing)?;
            return Ok(Step::Cut);
        }
        Ok(Step::Done)
    }

    fn follow_maintenance(&mut self, keep: bool, done: &Maintained) -> Check {
        let droppable = if keep { 0 } else { self.oracle.droppable(self.now) };
        ensure!(done.is_more || droppable <= ROUND_DROPPED_MAX, "the rest to drop is not reported");
        let droppable = droppable.min(ROUND_DROPPED_MAX);
        ensure!(done.dropped.len() == droppable, "{:?} are dropped, {droppable} should be", done.dropped);
        let mut expected: Vec<String> = Vec::new();
        // A partition that is opened again may release its heads just before it is dropped.
        let mut held = self.oracle.held_releases();
        for _ in 0..droppable {
            let first = self.oracle.partitions[0];
            let open = self.oracle.open_in(first);
            let told = open.keys().filter(|owner| self.oracle.webhooks.contains_key(owner));
            let partition = uuid(first);
            expected.extend(told.map(|webhook| format!("publish delivery.expired:{webhook}:{partition}")));
            self.oracle.drop_oldest();
        }
        if droppable > 0 {
            expected.extend(self.oracle.held_releases());
        }
        expected.extend(self.sweeps());
        expected.sort();
        held.extend(self.oracle.held_releases());
        let followed = labels(&done.follow, &held, &expected);
        ensure!(followed == expected, "after maintenance {followed:?} follow, {expected:?} should");
        self.adopt_partitions(false)
    }

    /// Open deliveries of removed webhooks, by partition.
    fn sweeps(&mut self) -> BTreeSet<String> {
        let mut sweeps = BTreeSet::new();
        let mut unfinished = BTreeSet::new();
        for made in self.oracle.deliveries.values().filter(|made| !made.row.status.is_final()) {
            let (webhook, home) = (made.row.webhook_id, self.oracle.home_of(made.row.event_id));
            if self.oracle.removed.contains_key(&webhook) {
                sweeps.insert(format!("sweep {webhook} {home:x}"));
                unfinished.insert(webhook);
            }
        }
        self.oracle.removed.retain(|webhook, _| unfinished.contains(webhook));
        sweeps
    }

    /// Applies follow-ups until there are none, and compares everything.
    pub fn quiet(&mut self) -> Check<Step> {
        for _ in 0..50 {
            if self.next.is_empty() {
                break;
            }
            let requests = std::mem::take(&mut self.next);
            if self.apply(requests)? == Step::Cut {
                return Ok(Step::Cut);
            }
        }
        ensure!(self.next.is_empty(), "requests follow without end: {:?}", self.next);
        let held = self.oracle.held_releases();
        ensure!(held.is_empty(), "no request makes {held:?} happen");
        let (store, now) = (self.opened().store.clone(), self.now);
        let mut rng = self.rng.fork();
        check::touched(&self.oracle, &store, now, &mut rng)?;
        self.oracle.touched.clear();
        Ok(Step::Done)
    }

    /// Compares all readable rows with the expected ones.
    pub fn compare(&mut self) -> Check {
        let (store, now) = (self.opened().store.clone(), self.now);
        let mut rng = self.rng.fork();
        check::all(&self.oracle, &store, now, &mut rng)?;
        check::hidden(&self.oracle, &store)
    }

    /// Verifies every table of every file.
    pub fn verify(&mut self) -> Check<u64> {
        let report = self.opened().store.verify(&mut |_| {}).map_err(|error| error.to_string())?;
        ensure!(report.is_sound(), "{:#?}", report.problems);
        ensure!(report.unlisted.is_empty(), "{:?} were left", report.unlisted);
        // After a cut the next requests promote them.
        ensure!(report.to_release <= self.next.len() as u64, "{} heads are held", report.to_release);
        Ok(report.rows)
    }

    /// Sets whether failures are expected, because a sync may fail or has failed.
    pub fn expect_failures(&mut self, expected: bool) {
        self.has_failed = expected;
    }
}

/// The labels of follow-ups in their order. A file that is opened again releases the `held` heads once more, because
/// their releases may be lost. Such a label counts only as often as it is expected.
fn labels(follow: &[WriteRequest], held: &[String], expected: &[String]) -> Vec<String> {
    let mut missing = expected.to_vec();
    let mut labels: Vec<String> = follow.iter().map(label).collect();
    labels.retain(|label| match missing.iter().position(|missing| missing == label) {
        Some(at) => {
            missing.swap_remove(at);
            true
        }
        None => !held.contains(label),
    });
    labels.sort();
    labels
}

fn uuid(number: u128) -> String {
    postrider::model::EventId::from_u128(number).to_string()
}
