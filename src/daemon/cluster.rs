//! A node of a cluster. It applies the log while another node is the owner, and becomes the owner with a fence.
//!
//! Invariant: a node that has become the owner has every commit of the log up to its fence, in files that need no replica's
//! log.

pub mod engine;
pub mod heartbeat;
pub mod init;
pub mod leave;
mod orphan;
pub mod rebase;
pub mod running;
mod stopped;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use self::heartbeat::HeartbeatState;
use super::standby::base::BaseCopy;
use super::standby::{ENDED, SharedStatus, TRY_AGAIN, WRITE_EVERY, failed, naming_full_disk, random, term_and_role};
use super::standby_log::LOG_FOLDER;
use super::{DaemonError, keys, options};
use crate::api::link::{LinkRequest, LinkStream};
use crate::config::{Settings, StandbySettings};
use crate::daemon::follow::StopSignal;
use crate::daemon::link::OtherMachine;
use crate::engine::blocking_pool::BlockingPool;
use crate::engine::clock::{Clock, Random, SystemClock, numbers};
use crate::model::Time;
use crate::rules::tenure::LeaseHolder;
use crate::store::admin::{
    self, CommitAppender, CommitLog, CommitMark, CommitPosition, FenceError, LogEntry, LogMark, LogTail, Replica, Role,
};
use crate::store::{Disk, RealDisk};

/// Interval at which a standby reads the log.
const READ_EVERY: Duration = Duration::from_millis(200);

/// The end of a node that stood by.
pub enum NodeEnd {
    /// The node was told to stop.
    Stopped,
    /// The node owns the store, whose files are closed.
    Owns(Box<CommitAppender>),
    /// The tenure of the node ended before the node served.
    SteppedDown,
}

/// Whether the store of a data directory is that of a node, or is to be: there is none, and the settings name an engine.
///
/// # Errors
/// The settings do not fit the store, or the store cannot be read.
pub fn is_node(settings: &Settings, disk: &dyn Disk) -> Result<bool, DaemonError> {
    let role = term_and_role(disk)?.map(|term_and_role| term_and_role.role);
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

/// The next step of a node that stands by.
enum NodeStep {
    /// Nothing is to be done for this time.
    Rest(Duration),
    Ended(NodeEnd),
}

/// The open store of a node that stands by.
struct OpenReplica {
    replica: Replica,
    tail: LogTail,
    written_at: Instant,
    /// Whether it was logged that the log has forgotten commits of this node.
    is_logged: bool,
}

/// A node that stands by in the data directory, which this process has locked.
pub struct Node {
    settings: Settings,
    disk: Arc<dyn Disk>,
    /// The disk of the replication log. `None` for a folder of the data directory.
    replica_log: Option<Arc<dyn Disk>>,
    log: Arc<dyn CommitLog>,
    state: Arc<HeartbeatState>,
    status: SharedStatus,
    stop: Arc<StopSignal>,
    runtime: tokio::runtime::Handle,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    work: BlockingPool,
    /// Whether the owner's store must be copied first. `None` before the first look.
    lacks_store: Option<bool>,
    open: Option<OpenReplica>,
    /// The last reason for which the owner's store was not copied.
    copy_problem: String,
}

/// The mark of a commit in the log.
fn log_mark(mark: CommitMark) -> LogMark {
    LogMark { number: mark.number, term: 0, writer: mark.run as u64 }
}

impl Node {
    /// Stands by until this node owns the store, or is told to stop. A store that does not go on with the log is put aside for
    /// a new copy of the owner's.
    ///
    /// # Errors
    /// The disk fails.
    fn run(mut self) -> Result<NodeEnd, DaemonError> {
        loop {
            match self.step()? {
                NodeStep::Rest(time) => self.stop.wait(time),
                NodeStep::Ended(end) => return Ok(end),
            }
        }
    }

    /// Like `run`, in a task of a single-threaded simulation. It cannot copy a store.
    async fn run_in_task(mut self) -> Result<NodeEnd, DaemonError> {
        loop {
            match self.step()? {
                NodeStep::Rest(time) => tokio::time::sleep(time).await,
                NodeStep::Ended(end) => return Ok(end),
            }
        }
    }

    /// Does the next step. The error of a full disk names the whole path of the file.
    fn step(&mut self) -> Result<NodeStep, DaemonError> {
        self.next_step().map_err(|error| naming_full_disk(&self.settings.data_dir, error))
    }

    /// Does the next step of standing by, copying or taking over.
    fn next_step(&mut self) -> Result<NodeStep, DaemonError> {
        if self.stop.is_set() {
            self.open.take().map_or(Ok(()), |open| open.replica.close())?;
            return Ok(NodeStep::Ended(NodeEnd::Stopped));
        }
        let has_ended = self.state.last().is_some_and(|heartbeat| heartbeat.lease.holder == LeaseHolder::Ended);
        self.status.set(|status| status.has_ended = has_ended);
        let lacks_store = match self.lacks_store {
            Some(lacks_store) => lacks_store,
            None => term_and_role(&*self.disk)?.is_none(),
        };
        self.lacks_store = Some(lacks_store);
        if lacks_store {
            self.state.set_applied(0);
            return self.copy_base();
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => self.open_replica()?,
        };
        match self.state.term() {
            Some(term) => self.take_over(open, term),
            None => self.stand_by(open),
        }
    }

    /// Opens the store of the data directory as a replica.
    fn open_replica(&self) -> Result<OpenReplica, DaemonError> {
        let log_disk = match &self.replica_log {
            Some(disk) => disk.clone(),
            None => log_folder(&self.settings)?,
        };
        let randoms = || -> Box<dyn FnMut() -> u64 + Send> { Box::new(numbers(self.random.clone())) };
        let replica = replica_on(&self.settings, (&self.disk, log_disk), self.clock.now(), randoms)?;
        let tail = LogTail::after_mark(log_mark(replica.last()));
        self.has_applied(tail.last().number);
        self.status.set(|status| status.is_whole = true);
        Ok(OpenReplica { replica, tail, written_at: Instant::now(), is_logged: false })
    }

    /// Applies the next commits of the log. A store that cannot continue with the log is closed for a new copy.
    fn stand_by(&mut self, mut open: OpenReplica) -> Result<NodeStep, DaemonError> {
        let rest = match admin::read_next(&*self.log, open.tail.last()) {
            Ok(entries) => {
                if !entries.is_empty() {
                    open.apply(&entries)?;
                }
                self.state.may_take.store(true, Ordering::Release);
                if entries.is_empty() { READ_EVERY } else { Duration::ZERO }
            }
            // `may_take` stays as it is: a log that does not answer may still lack commits of this node.
            Err(FenceError::Unreachable(_)) => TRY_AGAIN,
            Err(FenceError::Ahead(number)) => {
                open.log_forgotten(number);
                self.state.may_take.store(false, Ordering::Release);
                self.open = Some(open);
                return Ok(NodeStep::Rest(TRY_AGAIN));
            }
            Err(error) => {
                self.has_left_the_log(&error);
                open.replica.close()?;
                self.lacks_store = Some(true);
                return Ok(NodeStep::Rest(Duration::ZERO));
            }
        };
        self.has_applied(open.tail.last().number);
        if open.written_at.elapsed() >= WRITE_EVERY {
            open.replica.write()?;
            open.written_at = Instant::now();
        }
        self.open = Some(open);
        Ok(NodeStep::Rest(rest))
    }

    fn has_applied(&self, number: u64) {
        self.state.set_applied(number);
        let heartbeat = self.state.last();
        self.status.set(|status| {
            status.applied = number;
            status.is_connected = heartbeat.is_some();
            if let Some(heartbeat) = heartbeat {
                (status.owner, status.term) = (heartbeat.last.max(number), heartbeat.lease.term);
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
    fn take_over(&mut self, mut open: OpenReplica, term: u64) -> Result<NodeStep, DaemonError> {
        if self.state.tenure.is_over() {
            open.replica.close()?;
            return Ok(NodeStep::Ended(NodeEnd::SteppedDown));
        }
        let (writer, now) = (numbers(self.random.clone())(), self.clock.now());
        let mut last = open.tail.last();
        match admin::fence(&*self.log, &mut last, (term, writer), now, |entries| open.apply(entries)) {
            Ok(fence) => {
                open.replica.close()?;
                tracing::info!(epoch = term, commit = fence.number, "this node owns the store");
                let appender = CommitAppender::new(self.log.clone(), open.tail, self.state.tenure.clone());
                self.state.count_by(appender.stats());
                let appender = match self.work {
                    BlockingPool::Threads => appender,
                    // A task must not wait.
                    BlockingPool::Inline => appender.trying_again(Duration::ZERO),
                };
                Ok(NodeStep::Ended(NodeEnd::Owns(Box::new(appender))))
            }
            Err(FenceError::Unreachable(_)) => {
                self.open = Some(open);
                Ok(NodeStep::Rest(TRY_AGAIN))
            }
            Err(FenceError::Apply(error)) => Err(error),
            // The next start stands by, and compares the store with the log.
            Err(error) => {
                tracing::error!(%error, "this node has the lease, and its store does not go on with the log");
                open.replica.close()?;
                Ok(NodeStep::Ended(NodeEnd::SteppedDown))
            }
        }
    }

    /// Tries to copy the store of the owner.
    fn copy_base(&mut self) -> Result<NodeStep, DaemonError> {
        match self.copy_once() {
            Ok(()) => {
                self.lacks_store = Some(false);
                return Ok(NodeStep::Rest(Duration::ZERO));
            }
            Err(DaemonError::Unreachable(words)) if words != self.copy_problem => {
                tracing::warn!(why = words, "the owner's store is not copied; trying again");
                self.copy_problem = words;
            }
            Err(DaemonError::Unreachable(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(NodeStep::Rest(TRY_AGAIN))
    }

    /// Copies the owner's store as of the log's last record, with the records after it.
    fn copy_once(&self) -> Result<(), DaemonError> {
        let unreachable = |words: &str| DaemonError::Unreachable(words.to_owned());
        let Some(heartbeat) = self.state.last() else { return Err(unreachable("the engine is not reached")) };
        let term = heartbeat.lease.term;
        let Some(url) = heartbeat.owner else {
            let has_ended = heartbeat.lease.holder == LeaseHolder::Ended;
            return Err(unreachable(if has_ended { ENDED } else { "the cluster has no owner" }));
        };
        let other = self.other(url)?;
        // The snapshot for the copy is taken between two commits, so it has every record that the log has now.
        let from = self.log.last()?;
        let status = LinkRequest { stream: LinkStream::Status, store: None, term: 0, owner_run: None, key: None };
        let answer = self.runtime.block_on(other.ask(&status)).map_err(DaemonError::Unreachable)?;
        if answer.term != term || from.term > term {
            return Err(unreachable(&format!("the owner of term {term} does not answer: {}", answer.detail)));
        }
        tracing::info!(owner = other.url(), "copying the owner's store");
        let position = CommitPosition { number: from.number, at: self.clock.now() };
        let of = (answer.store.as_str(), Role::Member, 1);
        let mut base = BaseCopy::begin(&self.settings, &self.runtime, &other, position, of)?;
        let mut tail = LogTail::after_mark(from);
        while !base.has_ended() {
            if self.stop.is_set() {
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
        if self.state.last().is_none_or(|heartbeat| heartbeat.lease.term != term) {
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
        if term_and_role(&*self.disk)?.is_none() {
            return Ok(());
        }
        let (commit, now) = (admin::last_mark(&*self.disk)?.number, self.clock.now());
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

impl OpenReplica {
    /// Logs once that the log ends before the last commit of this node.
    fn log_forgotten(&mut self, number: u64) {
        if !std::mem::replace(&mut self.is_logged, true) {
            tracing::error!(
                number,
                cure = "postrider cluster status has the commits of each node; if no owner comes back, stop the node with \
                        the most commits and run postrider cluster rebase there",
                "the log has forgotten commits that this node has: it takes nothing over"
            );
        }
    }

    fn apply(&mut self, entries: &[LogEntry]) -> Result<(), DaemonError> {
        apply(&mut self.replica, &mut self.tail, entries)
    }
}

/// Opens the store of a data directory as a replica.
fn open_replica(settings: &Settings, disk: &Arc<dyn Disk>) -> Result<Replica, DaemonError> {
    replica_on(settings, (disk, log_folder(settings)?), SystemClock.now(), random)
}

/// The replication log of a data directory.
fn log_folder(settings: &Settings) -> Result<Arc<dyn Disk>, DaemonError> {
    let folder = settings.data_dir.join(LOG_FOLDER);
    Ok(Arc::new(RealDisk::folder(&folder).map_err(|source| failed(&folder, source))?))
}

/// Opens the store on a disk as a replica with its log on another. The files of an owner that was killed need their write-ahead
/// log first.
fn replica_on(
    settings: &Settings,
    (disk, log_disk): (&Arc<dyn Disk>, Arc<dyn Disk>),
    now: Time,
    random: impl Fn() -> Box<dyn FnMut() -> u64 + Send>,
) -> Result<Replica, DaemonError> {
    if admin::log_outline(&*log_disk)?.is_none() {
        let key = keys::stored_master_key(settings, &**disk)?;
        admin::fold_wal(disk.clone(), options(settings), &key, now, random())?;
    }
    Ok(Replica::open(disk.clone(), log_disk, random())?)
}

fn apply(replica: &mut Replica, tail: &mut LogTail, entries: &[LogEntry]) -> Result<(), DaemonError> {
    replica.append(&bodies(entries))?;
    entries.iter().for_each(|entry| tail.push(entry.clone()));
    Ok(())
}

fn bodies(entries: &[LogEntry]) -> Vec<&[u8]> {
    entries.iter().map(|entry| &*entry.body).collect()
}

#[cfg(test)]
pub mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;
    use crate::config::SecretSetting;
    use crate::engine::clock::SystemRandomness;
    use crate::kv::disk::StorageBackend;
    use crate::store::admin::{Appended, LogUnreachable, TermAndRole};
    use crate::store::open;

    pub const MEMBER: TermAndRole = TermAndRole { term: 1, role: Role::Member, overtaken_by: 0 };

    /// A log that is read only, by a script. `None` gives no answer.
    #[derive(Debug)]
    pub struct ReadLog(Mutex<VecDeque<Option<Vec<LogEntry>>>>);

    impl ReadLog {
        pub fn of(script: Vec<Option<Vec<LogEntry>>>) -> ReadLog {
            ReadLog(Mutex::new(script.into()))
        }
    }

    impl CommitLog for ReadLog {
        fn append(&self, _: LogMark, _: &[LogEntry]) -> Result<Appended, LogUnreachable> {
            panic!("a node that stands by appends nothing")
        }

        fn read(&self, _: u64, _: usize) -> Result<Vec<LogEntry>, LogUnreachable> {
            let answer = self.0.lock().unwrap().pop_front().flatten();
            answer.ok_or_else(|| LogUnreachable("it does not answer".to_owned()))
        }

        fn last(&self) -> Result<LogMark, LogUnreachable> {
            Ok(LogMark::default())
        }

        fn trim(&self, _: u64) -> Result<(), LogUnreachable> {
            Ok(())
        }
    }

    /// A new store of a member in a folder, and its settings.
    pub fn member_store(folder: &Path) -> (Settings, Arc<dyn Disk>) {
        let data_dir = folder.join("data");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::lock(&data_dir).unwrap());
        let settings = Settings { data_dir, ..Settings::default() };
        let key = keys::master_key(&settings, &*disk, &SystemRandomness::default()).unwrap();
        drop(open(disk.clone(), options(&settings), &key, Time(1), random()).unwrap());
        admin::set_term_and_role(&*disk, MEMBER).unwrap();
        (settings, disk)
    }

    /// A node with the store of a data directory.
    fn node(data_dir: &Path, disk: &Arc<dyn Disk>, log: Vec<Option<Vec<LogEntry>>>) -> Node {
        Node {
            settings: Settings { data_dir: data_dir.to_owned(), ..Settings::default() },
            disk: disk.clone(),
            replica_log: None,
            log: Arc::new(ReadLog::of(log)),
            state: Arc::default(),
            status: SharedStatus::default(),
            stop: Arc::default(),
            runtime: tokio::runtime::Handle::current(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandomness::default()),
            work: BlockingPool::Threads,
            lacks_store: None,
            open: None,
            copy_problem: String::new(),
        }
    }

    #[tokio::test]
    async fn a_node_that_the_log_lacks_commits_of_takes_nothing_until_the_log_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let (Settings { data_dir, .. }, disk) = member_store(folder.path());
        let mark = log_mark(admin::last_mark(&*disk).unwrap());
        let own = LogEntry::new(mark, b"".as_slice().into());
        // A log that ends before the node's last commit has none of the records that the node asks for.
        let mut node = node(&data_dir, &disk, vec![None, Some(vec![]), None, Some(vec![own]), None]);
        let mut may_take = || {
            assert!(matches!(node.step().unwrap(), NodeStep::Rest(_)));
            node.state.may_take.load(Ordering::Acquire)
        };
        assert!(!may_take(), "the log was not read yet");
        assert!(!may_take(), "the log lacks a commit");
        assert!(!may_take(), "the log may still lack it");
        assert!(may_take(), "the log has it");
        assert!(may_take(), "the log has had it");
    }

    /// The disk of a replication log without any space.
    #[derive(Debug)]
    struct FullDisk(String);

    impl Disk for FullDisk {
        fn open(&self, _: &str, _: bool) -> io::Result<Box<dyn StorageBackend>> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn exists(&self, _: &str) -> io::Result<bool> {
            Ok(false)
        }

        fn list(&self, _: &str) -> io::Result<Vec<String>> {
            Ok(Vec::new())
        }

        fn remove(&self, _: &str) -> io::Result<()> {
            Ok(())
        }

        fn rename(&self, _: &str, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn len(&self, _: &str) -> io::Result<u64> {
            Ok(0)
        }

        fn free_bytes(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn describe(&self) -> String {
            self.0.clone()
        }
    }

    #[tokio::test]
    async fn a_node_whose_disk_is_full_names_the_whole_path_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (Settings { data_dir, .. }, disk) = member_store(folder.path());
        let log = data_dir.join(LOG_FOLDER);
        let mut node = node(&data_dir, &disk, vec![None]);
        node.replica_log = Some(Arc::new(FullDisk(log.display().to_string())));
        match node.step() {
            Err(DaemonError::StandbyDiskFull(path)) => assert_eq!(path, log.join("000001.log")),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("a full disk takes no log"),
        }
    }

    #[test]
    fn a_node_is_a_member_or_a_machine_without_a_store() {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::lock(folder.path()).unwrap());
        let alone = Settings::default();
        let mut node = alone.clone();
        node.cluster.log = Some(SecretSetting::new("postgres://localhost/postrider"));
        assert!(is_node(&node, &*disk).unwrap() && !is_node(&alone, &*disk).unwrap());

        drop(open(disk.clone(), options(&alone), &[7; 32], Time(1), random()).unwrap());
        assert!(!is_node(&alone, &*disk).unwrap());
        let refused = is_node(&node, &*disk).unwrap_err().to_string();
        assert!(refused.contains("postrider cluster init"), "{refused}");

        admin::set_term_and_role(&*disk, MEMBER).unwrap();
        assert!(is_node(&node, &*disk).unwrap());
        assert!(is_node(&alone, &*disk).is_err(), "a member does not serve by itself");
    }
}
