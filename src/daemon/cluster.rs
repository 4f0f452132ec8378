//! A node of a cluster. It applies the log while another node is the owner, and becomes the owner with a fence.
//!
//! Invariant: a node that has become the owner has every commit of the log up to its fence, in files that need no replica's
//! log.

pub mod beats;
pub mod engine;
pub mod init;
pub mod leave;
mod orphan;
pub mod rebase;
pub mod running;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use self::beats::BeatState;
use super::standby::base::BaseCopy;
use super::standby::{LOG_FOLDER, SharedStatus, failed, random, tenure};
use super::{DaemonError, keys, options};
use crate::api::link::{LinkRequest, LinkStream};
use crate::config::{Settings, StandbySettings};
use crate::daemon::follow::StopSignal;
use crate::daemon::link::OtherMachine;
use crate::engine::clock::{Clock as _, SystemClock};
use crate::store::admin::{
    self, CommitLog, CommitMark, CommitOrder, CommitPosition, FenceError, LogEntry, LogMark, LogTail, Replica, Role,
};
use crate::store::{Disk, RealDisk};

/// Interval at which a standby reads the log.
const READ_EVERY: Duration = Duration::from_millis(200);
/// Delay between two attempts to reach the engine or the owner.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Interval at which the gathered commits are written to the files.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// The end of a node that stood by.
pub enum NodeEnd {
    /// It was told to stop.
    Stopped,
    /// It owns the store, whose files are closed.
    Owns(Box<CommitOrder>),
    /// Its tenure ended before it served.
    SteppedDown,
}

/// Whether the store of a data directory is that of a node, or is to be: there is none, and the settings name an engine.
///
/// # Errors
/// The settings do not fit the store, or the store cannot be read.
pub fn is_node(settings: &Settings, disk: &dyn Disk) -> Result<bool, DaemonError> {
    if settings.cluster.log.is_some() && settings.standby.of.is_some() {
        let words = "cluster.log and standby.of are both set: a node of a cluster has no standby of its own";
        return Err(DaemonError::Settings(words.to_owned()));
    }
    let role = tenure(disk)?.map(|tenure| tenure.role);
    let dir = settings.data_dir.display();
    match (settings.cluster.log.is_some(), role) {
        (true, None | Some(Role::Member)) => Ok(true),
        (false, Some(Role::Member)) => {
            let words = format!("{dir}: this store is a node's of a cluster: set cluster.log");
            Err(DaemonError::Settings(words))
        }
        (true, Some(_)) => {
            let words = format!(
                "{dir}: cluster.log is set, and this store is in no cluster: run postrider cluster init, or move the data \
                 directory away to copy the cluster's store"
            );
            Err(DaemonError::Settings(words))
        }
        (false, _) => Ok(false),
    }
}

/// A node that stands by in the data directory, which this process has locked.
pub struct Node {
    settings: Settings,
    disk: Arc<dyn Disk>,
    log: Arc<dyn CommitLog>,
    state: Arc<BeatState>,
    status: SharedStatus,
    stop: Arc<StopSignal>,
    runtime: tokio::runtime::Handle,
}

/// The mark of a commit in the log.
fn log_mark(mark: CommitMark) -> LogMark {
    LogMark { number: mark.number, epoch: 0, writer: mark.run as u64 }
}

impl Node {
    /// Stands by until this node owns the store, or is told to stop. A store that does not go on with the log is put aside for
    /// a new copy of the owner's.
    ///
    /// # Errors
    /// The disk fails.
    fn run(&mut self) -> Result<NodeEnd, DaemonError> {
        let mut is_needed = tenure(&*self.disk)?.is_none();
        loop {
            if is_needed && !self.copy_base()? {
                return Ok(NodeEnd::Stopped);
            }
            if let Some(end) = self.stand_by()? {
                return Ok(end);
            }
            is_needed = true;
        }
    }

    /// Stands by with the store of the data directory. `None` if that does not go on with the log: its files are closed.
    fn stand_by(&mut self) -> Result<Option<NodeEnd>, DaemonError> {
        let mut replica = open_replica(&self.settings, &self.disk)?;
        let mut tail = LogTail::after_mark(log_mark(replica.last()));
        self.has_applied(tail.last().number);
        self.status.set(|status| status.is_whole = true);
        let (mut written_at, mut is_told) = (Instant::now(), false);
        loop {
            if self.stop.is_told() {
                replica.close()?;
                return Ok(Some(NodeEnd::Stopped));
            }
            if let Some(epoch) = self.state.epoch() {
                return self.take_over(replica, tail, epoch).map(Some);
            }
            let wait = match admin::read_next(&*self.log, tail.last()) {
                Ok(entries) if entries.is_empty() => READ_EVERY,
                Ok(entries) => {
                    apply(&mut replica, &mut tail, &entries)?;
                    Duration::ZERO
                }
                Err(FenceError::Unreachable(_)) => TRY_AGAIN,
                Err(FenceError::Ahead(number)) => {
                    if !is_told {
                        tracing::error!(
                            number,
                            "the log has forgotten commits that this node has: it takes nothing over"
                        );
                    }
                    is_told = true;
                    self.state.may_take.store(false, Ordering::Release);
                    self.stop.wait(TRY_AGAIN);
                    continue;
                }
                Err(error) => {
                    self.has_left_the_log(&error);
                    replica.close()?;
                    return Ok(None);
                }
            };
            self.has_applied(tail.last().number);
            self.state.may_take.store(true, Ordering::Release);
            if written_at.elapsed() >= WRITE_EVERY {
                replica.write()?;
                written_at = Instant::now();
            }
            if !wait.is_zero() {
                self.stop.wait(wait);
            }
        }
    }

    fn has_applied(&self, number: u64) {
        self.state.applied.store(number, Ordering::Relaxed);
        let beat = self.state.last();
        self.status.set(|status| {
            status.applied = number;
            status.is_connected = beat.is_some();
            if let Some(beat) = beat {
                (status.owner, status.term) = (beat.last.max(number), beat.lease.epoch);
            }
        });
    }

    fn has_left_the_log(&self, error: &FenceError<DaemonError>) {
        self.state.may_take.store(false, Ordering::Release);
        self.status.set(|status| status.is_whole = false);
        tracing::error!(
            %error,
            "this node's store does not go on with the log: it is put aside, in the folder orphans, for a new copy of the owner's"
        );
    }

    /// Reads the log to its end and appends the fence.
    fn take_over(&self, mut replica: Replica, mut tail: LogTail, epoch: u64) -> Result<NodeEnd, DaemonError> {
        let writer = random()();
        loop {
            if self.state.tenure.is_over() {
                replica.close()?;
                return Ok(NodeEnd::SteppedDown);
            }
            let (mut last, now) = (tail.last(), SystemClock.now());
            let fenced = admin::fence(&*self.log, &mut last, (epoch, writer), now, |entries| {
                apply(&mut replica, &mut tail, entries)
            });
            match fenced {
                Ok(fence) => {
                    replica.close()?;
                    tracing::info!(epoch, commit = fence.number, "this node owns the store");
                    let order = CommitOrder::new(self.log.clone(), tail, self.state.tenure.clone());
                    self.state.count_by(order.stats());
                    return Ok(NodeEnd::Owns(Box::new(order)));
                }
                Err(FenceError::Unreachable(_)) => self.state.tenure.wait(TRY_AGAIN),
                Err(FenceError::Apply(error)) => return Err(error),
                // The next start stands by, and judges the store by the log.
                Err(error) => {
                    tracing::error!(%error, "this node has the lease, and its store does not go on with the log");
                    replica.close()?;
                    return Ok(NodeEnd::SteppedDown);
                }
            }
        }
    }

    /// Copies the store of the owner. Returns whether there is a copy: `false` if the node was told to stop.
    fn copy_base(&self) -> Result<bool, DaemonError> {
        let mut last = String::new();
        while !self.stop.is_told() {
            match self.copy_once() {
                Ok(()) => return Ok(true),
                Err(DaemonError::Unreachable(words)) if words != last => {
                    tracing::warn!(why = words, "the owner's store is not copied; trying again");
                    last = words;
                }
                Err(DaemonError::Unreachable(_)) => {}
                Err(error) => return Err(error),
            }
            self.stop.wait(TRY_AGAIN);
        }
        Ok(false)
    }

    /// Copies the owner's store as of the log's last record, with the records after it.
    fn copy_once(&self) -> Result<(), DaemonError> {
        let unreachable = |words: &str| DaemonError::Unreachable(words.to_owned());
        let Some(beat) = self.state.last() else { return Err(unreachable("the engine is not reached")) };
        let epoch = beat.lease.epoch;
        let Some(url) = beat.owner else { return Err(unreachable("the cluster has no owner")) };
        let other = self.other(url)?;
        // The snapshot for the copy is taken between two commits, so it has every record that the log has now.
        let from = self.log.last().map_err(|error| DaemonError::Unreachable(error.to_string()))?;
        let status = LinkRequest { stream: LinkStream::Status, store: None, term: 0 };
        let answer = self.runtime.block_on(other.ask(&status)).map_err(DaemonError::Unreachable)?;
        if answer.term != epoch || from.epoch > epoch {
            return Err(unreachable(&format!("the owner of epoch {epoch} does not answer: {}", answer.detail)));
        }
        tracing::info!(owner = other.url(), "copying the owner's store");
        let position = CommitPosition { number: from.number, at: SystemClock.now() };
        let of = (answer.store.as_str(), Role::Member, 1);
        let mut base = BaseCopy::begin(&self.settings, &self.runtime, &other, position, of)?;
        let mut tail = LogTail::after_mark(from);
        while !base.has_ended() {
            if self.stop.is_told() {
                return Err(unreachable("the node was told to stop"));
            }
            let entries = admin::read_next::<DaemonError>(&*self.log, tail.last());
            let entries = entries.map_err(|error| DaemonError::Unreachable(error.to_string()))?;
            base.append(&bodies(&entries))?;
            if entries.is_empty() {
                self.stop.wait(READ_EVERY);
            }
            entries.into_iter().for_each(|entry| tail.push(entry));
        }
        let made = base.finish()?.map_err(DaemonError::Unreachable)?;
        if self.state.last().is_none_or(|beat| beat.lease.epoch != epoch) {
            return Err(unreachable("the owner has changed while its store was copied"));
        }
        self.put_aside()?;
        made.put_in_place(&*self.disk, &self.settings.data_dir)?;
        self.status.set(|status| status.copies += 1);
        tracing::info!("the copy of the owner's store is whole");
        Ok(())
    }

    /// Puts the store of the data directory aside, if there is one.
    fn put_aside(&self) -> Result<(), DaemonError> {
        if tenure(&*self.disk)?.is_none() {
            return Ok(());
        }
        let (commit, now) = (admin::last_mark(&*self.disk)?.number, SystemClock.now());
        let folder = orphan::put_aside(&self.settings.data_dir, &*self.disk, commit, now)?;
        tracing::error!(
            folder = %folder.display(),
            commit,
            "the former store of this node is put aside: commits in it may be lost; remove it once nothing of it is missing"
        );
        Ok(())
    }

    fn other(&self, url: String) -> Result<OtherMachine, DaemonError> {
        let cluster = &self.settings.cluster;
        let link = StandbySettings {
            of: Some(url),
            key_file: cluster.key_file.clone(),
            ca_file: cluster.ca_file.clone(),
            required: false,
        };
        if link.key_file.is_none() {
            let words = "a node without a store needs cluster.key_file: the file of a key with the scope replicate";
            return Err(DaemonError::Settings(words.to_owned()));
        }
        let other = OtherMachine::of(&link)?;
        other.ok_or_else(|| DaemonError::Unreachable("the owner has no URL".to_owned()))
    }
}

/// Opens the store as a replica. The files of an owner that was killed need their write-ahead log first.
fn open_replica(settings: &Settings, disk: &Arc<dyn Disk>) -> Result<Replica, DaemonError> {
    let folder = settings.data_dir.join(LOG_FOLDER);
    let log_disk = RealDisk::folder(&folder).map_err(|source| failed(&folder, source))?;
    if admin::log_outline(&log_disk)?.is_none() {
        let key = keys::kept_master_key(settings, &**disk)?;
        admin::rest(disk.clone(), options(settings), &key, SystemClock.now(), random())?;
    }
    Ok(Replica::open(disk.clone(), Arc::new(log_disk), random())?)
}

fn bodies(entries: &[LogEntry]) -> Vec<&[u8]> {
    entries.iter().map(|entry| &*entry.body).collect()
}

fn apply(replica: &mut Replica, tail: &mut LogTail, entries: &[LogEntry]) -> Result<(), DaemonError> {
    replica.append(&bodies(entries))?;
    entries.iter().for_each(|entry| tail.push(entry.clone()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretSetting;
    use crate::model::Time;
    use crate::store::admin::Tenure;
    use crate::store::open;

    #[test]
    fn a_node_is_a_member_or_a_machine_without_a_store() {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::take(folder.path()).unwrap());
        let alone = Settings::default();
        let mut node = alone.clone();
        node.cluster.log = Some(SecretSetting::new("postgres://localhost/postrider"));
        let mut both = node.clone();
        both.standby.of = Some("https://a.example.com".to_owned());
        assert!(is_node(&both, &*disk).is_err(), "a node has no standby of its own");
        assert!(is_node(&node, &*disk).unwrap() && !is_node(&alone, &*disk).unwrap());

        drop(open(disk.clone(), options(&alone), &[7; 32], Time(1), random()).unwrap());
        assert!(!is_node(&alone, &*disk).unwrap());
        let refused = is_node(&node, &*disk).unwrap_err().to_string();
        assert!(refused.contains("postrider cluster init"), "{refused}");

        admin::set_tenure(&*disk, Tenure { term: 1, role: Role::Member, overtaken_by: 0 }).unwrap();
        assert!(is_node(&node, &*disk).unwrap());
        assert!(is_node(&alone, &*disk).is_err(), "a member does not serve by itself");
    }
}
