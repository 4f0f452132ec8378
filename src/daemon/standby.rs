//! A standby: copies the owner's store once, and applies every commit as it comes.
//!
//! Invariant: a commit is confirmed once it is durable here and the copy is whole. The replica in the data directory stays
//! whole while a new copy is made beside it.

pub(super) mod base;
#[cfg(test)]
mod killed_tests;
pub mod running;
pub(super) mod service;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use self::base::BaseCopy;
use super::DaemonError;
use super::follow::StopSignal;
use super::follow::stream::{FrameReader, StreamFrame};
use super::keys;
use super::link::{LinkAnswer, OtherMachine};
use super::standby_log::{LOG_FOLDER, give_up_damaged};
use crate::api::link::{LinkRequest, LinkStream};
use crate::config::Settings;
use crate::engine::clock::{SystemRandomness, numbers};
use crate::store::admin::{self, CommitMark, Replica, Role, TermAndRole};
use crate::store::{self, Disk, RealDisk};

/// File in that folder with the name of the store.
const NAME_FILE: &str = "store";
/// Delay between two attempts to reach the owner, or the engine of a cluster.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Time without a frame after which the connection is given up. The owner sends one each second.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Interval at which the gathered commits are written to the files.
pub(super) const WRITE_EVERY: Duration = Duration::from_secs(2);
/// Time for the last answers at a stop.
pub(super) const DRAIN: Duration = Duration::from_secs(1);

/// The state of a node whose cluster has ended, and the cure.
pub const ENDED: &str = "the cluster has ended, and its store goes on alone on the machine where postrider cluster leave was \
    run: send producers there, stop this node, and move its data directory away";

/// The state of a standby, for its metrics and its readiness.
#[derive(Debug, Clone, Copy)]
pub struct StandbyStatus {
    pub is_connected: bool,
    /// Whether there is a whole copy, which can be promoted.
    pub is_whole: bool,
    /// Number of the last commit that is durable here.
    pub applied: u64,
    /// Number of the owner's last commit, as it said last.
    pub owner: u64,
    /// When the last commit that the owner had named was durable here.
    caught_up_at: Instant,
    pub term: u64,
    /// Copies of the whole store since the start.
    pub copies: u64,
    /// Whether the cluster of the node has ended.
    pub has_ended: bool,
}

impl StandbyStatus {
    /// Commits that the owner had and this standby lacks.
    pub fn lag_commits(&self) -> u64 {
        self.owner.saturating_sub(self.applied)
    }

    /// Time since the standby had everything that the owner had said.
    pub fn lag(&self) -> Duration {
        match self.is_connected && self.is_whole && self.lag_commits() == 0 {
            true => Duration::ZERO,
            false => self.caught_up_at.elapsed(),
        }
    }
}

/// The status, which the loop sets and the service reads.
#[derive(Debug, Clone)]
pub struct SharedStatus(Arc<Mutex<StandbyStatus>>);

impl Default for SharedStatus {
    fn default() -> Self {
        SharedStatus(Arc::new(Mutex::new(StandbyStatus {
            is_connected: false,
            is_whole: false,
            applied: 0,
            owner: 0,
            caught_up_at: Instant::now(),
            term: 0,
            copies: 0,
            has_ended: false,
        })))
    }
}

impl SharedStatus {
    pub fn get(&self) -> StandbyStatus {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut StandbyStatus)) {
        let mut status = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut status);
        if status.is_connected && status.is_whole && status.applied >= status.owner {
            status.caught_up_at = Instant::now();
        }
    }
}

/// The term and the role of the store of a data directory. `None` if there is no store.
///
/// # Errors
/// `state.redb` cannot be read.
pub fn term_and_role(disk: &dyn Disk) -> Result<Option<TermAndRole>, DaemonError> {
    let has_store = admin::has_store(disk).map_err(|source| DaemonError::Io { context: disk.describe(), source })?;
    Ok(if has_store { Some(admin::term_and_role(disk)?) } else { None })
}

/// The other machine, if the settings name one and this machine is its standby: it has no store, or a standby's. `None` for an
/// owner.
///
/// # Errors
/// The settings cannot be used, or the store cannot be read.
pub fn owner_of(settings: &Settings, disk: &dyn Disk) -> Result<Option<OtherMachine>, DaemonError> {
    if settings.standby.of.is_none() {
        return Ok(None);
    }
    let is_standby = term_and_role(disk)?.is_none_or(|term_and_role| term_and_role.role == Role::Standby);
    if is_standby { OtherMachine::of(&settings.standby) } else { Ok(None) }
}

/// A standby of the store in the data directory, which this process has locked.
pub struct Standby {
    settings: Settings,
    owner: OtherMachine,
    disk: Arc<dyn Disk>,
    runtime: Handle,
    pub status: SharedStatus,
    pub stop: Arc<StopSignal>,
    replica: Option<Replica>,
    /// The name of the store. `None` before the first copy.
    name: Option<String>,
    term: u64,
}

/// Why a session with the owner ended.
enum SessionEnd {
    /// The standby was told to stop.
    Stopped,
    /// The connection ended, or could not be made.
    Cut(String),
}

impl Standby {
    /// A standby of the settings. Must be called within the runtime.
    ///
    /// # Errors
    /// The master key is missing or does not open the copy, a disk is full, or the log or a file of the copy is damaged.
    pub fn open(settings: &Settings, owner: OtherMachine, disk: Arc<dyn Disk>) -> Result<Standby, DaemonError> {
        match term_and_role(&*disk)? {
            Some(_) => keys::check_master_key(settings, &*disk)?,
            None => drop(keys::stored_master_key(settings, &*disk)?),
        }
        let mut standby = Standby {
            settings: settings.clone(),
            owner,
            disk,
            runtime: Handle::current(),
            status: SharedStatus::default(),
            stop: Arc::default(),
            replica: None,
            name: None,
            term: 0,
        };
        base::remove_unfinished(&settings.data_dir)?;
        standby.open_replica().map_err(|error| naming_full_disk(&settings.data_dir, error))?;
        Ok(standby)
    }

    /// Opens the copy in the data directory, if there is one.
    fn open_replica(&mut self) -> Result<(), DaemonError> {
        let Some(term_and_role) = term_and_role(&*self.disk)? else { return Ok(()) };
        self.term = term_and_role.term;
        let folder = self.settings.data_dir.join(LOG_FOLDER);
        let name = fs::read_to_string(folder.join(NAME_FILE)).map_err(|source| failed(&folder, source))?;
        self.name = Some(name.trim().to_owned());
        let replica = open_replica(&self.settings.data_dir, self.disk.clone())?;
        self.status.set(|status| {
            (status.is_whole, status.applied, status.term) = (true, replica.last().number, term_and_role.term);
        });
        self.replica = Some(replica);
        Ok(())
    }

    /// Follows the owner until it is told to stop. Then the copy is closed.
    ///
    /// # Errors
    /// A disk fails, or the owner has another master key.
    pub fn run(&mut self) -> Result<(), DaemonError> {
        self.follow().map_err(|error| naming_full_disk(&self.settings.data_dir, error))
    }

    fn follow(&mut self) -> Result<(), DaemonError> {
        let mut last = String::new();
        while !self.stop.is_set() {
            let ended = self.session();
            self.status.set(|status| status.is_connected = false);
            match ended? {
                SessionEnd::Stopped => break,
                SessionEnd::Cut(words) => {
                    // A reason that lasts is logged once.
                    if words != last {
                        tracing::warn!(
                            owner = self.owner.url(),
                            why = words,
                            "the owner is not followed; trying again"
                        );
                        last = words;
                    }
                }
            }
            self.stop.wait(TRY_AGAIN);
        }
        self.replica.take().map_or(Ok(()), |replica| replica.close().map_err(DaemonError::from))
    }

    fn ask(&self, stream: LinkStream) -> Result<LinkAnswer, String> {
        let link_request =
            LinkRequest { stream, store: self.name.clone(), term: self.term, owner_run: None, key: None };
        self.runtime.block_on(self.owner.ask(&link_request))
    }

    /// One connection to the owner, from its start to its end.
    fn session(&mut self) -> Result<SessionEnd, DaemonError> {
        let after = self.replica.as_ref().map(|replica| (replica.last().number, replica.last().run));
        let answer = match self.ask(LinkStream::Commits(after)).and_then(LinkAnswer::of_known_key) {
            Ok(answer) => answer,
            Err(words) => return Ok(SessionEnd::Cut(words)),
        };
        let Some(stream) = answer.stream else { return Ok(SessionEnd::Cut(answer.detail)) };
        let mut reader = FrameReader::of(stream).map_err(|source| failed(&self.settings.data_dir, source))?;
        self.status.set(|status| status.is_connected = true);
        tracing::info!(owner = self.owner.url(), term = answer.term, "the owner is followed");
        let (mut base, mut heard_at, mut written_at) = (None, Instant::now(), Instant::now());
        loop {
            if self.stop.is_set() {
                return Ok(SessionEnd::Stopped);
            }
            let frames = match reader.frames() {
                Ok(frames) => frames,
                Err(error) => return Ok(SessionEnd::Cut(error.to_string())),
            };
            if frames.is_empty() && heard_at.elapsed() > SILENCE_MAX {
                return Ok(SessionEnd::Cut("the owner is silent".to_owned()));
            } else if !frames.is_empty() {
                heard_at = Instant::now();
            }
            if let Some(words) = self.apply_frames(frames, &mut base, &answer.store, answer.term)? {
                return Ok(SessionEnd::Cut(words));
            }
            if let Some(words) = self.check_base(&mut base)? {
                return Ok(SessionEnd::Cut(words));
            }
            if let (Some(replica), None) = (&mut self.replica, &base) {
                reader.confirm(replica.last().number);
                if written_at.elapsed() >= WRITE_EVERY {
                    replica.write()?;
                    written_at = Instant::now();
                }
            }
        }
    }

    /// Applies frames. Returns the reason if the stream has ended.
    fn apply_frames(
        &mut self,
        frames: Vec<StreamFrame>,
        base: &mut Option<BaseCopy>,
        store: &str,
        term: u64,
    ) -> Result<Option<String>, DaemonError> {
        let (mut records, mut over) = (Vec::new(), None);
        for frame in frames {
            match frame {
                StreamFrame::Resumed(_) => self.follow_term(term)?,
                StreamFrame::From(from) => {
                    tracing::info!(owner = self.owner.url(), "copying the owner's store");
                    let of = (store, Role::Standby, term);
                    *base = match BaseCopy::begin(&self.settings, &self.runtime, &self.owner, from, of) {
                        Ok(begun) => Some(begun),
                        Err(DaemonError::Unreachable(words)) => return Ok(Some(words)),
                        Err(error) => return Err(error),
                    };
                }
                StreamFrame::Commit(record) => records.push(record),
                StreamFrame::Alive(number) => self.status.set(|status| status.owner = number),
                StreamFrame::Over(words) => over = Some(words),
            }
        }
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        match (base, &mut self.replica) {
            (Some(base), _) => base.append(&records)?,
            (None, Some(replica)) => {
                replica.append(&records)?;
                let applied = replica.last().number;
                self.status.set(|status| {
                    (status.applied, status.owner) = (applied, status.owner.max(applied));
                });
            }
            (None, None) => over = over.or(Some("the owner's stream has no beginning".to_owned())),
        }
        Ok(over)
    }

    /// Stores the term of an owner whose commits continue those of the copy.
    fn follow_term(&mut self, term: u64) -> Result<(), DaemonError> {
        if term > self.term {
            self.replica.take().map_or(Ok(()), Replica::close)?;
            admin::set_term_and_role(&*self.disk, TermAndRole { term, role: Role::Standby, overtaken_by: 0 })?;
            self.open_replica()?;
        }
        Ok(())
    }

    /// Puts a whole base in place of the copy so far. Returns the reason if the base has failed.
    fn check_base(&mut self, base: &mut Option<BaseCopy>) -> Result<Option<String>, DaemonError> {
        if !base.as_mut().is_some_and(BaseCopy::has_ended) {
            return Ok(None);
        }
        let Some(whole) = base.take() else { return Ok(None) };
        let made = match whole.finish()? {
            Ok(made) => made,
            Err(words) => return Ok(Some(words)),
        };
        // The files of the copy so far are closed before they are replaced.
        self.replica = None;
        made.put_in_place(&*self.disk, &self.settings.data_dir)?;
        self.open_replica()?;
        self.status.set(|status| status.copies += 1);
        tracing::info!(term = self.term, "the copy of the owner's store is whole");
        Ok(None)
    }
}

/// Opens the copy in a data directory with its log.
fn open_replica(data_dir: &Path, disk: Arc<dyn Disk>) -> Result<Replica, DaemonError> {
    let folder = data_dir.join(LOG_FOLDER);
    let log = RealDisk::folder(&folder).map_err(|source| failed(&folder, source))?;
    Ok(Replica::open(disk, Arc::new(log), random())?)
}

/// Random numbers of the machine.
pub(super) fn random() -> Box<dyn FnMut() -> u64 + Send> {
    Box::new(numbers(Arc::new(SystemRandomness::default())))
}

/// The error of a standby, with the whole path of the file if its disk is full.
pub(super) fn naming_full_disk(data_dir: &Path, error: DaemonError) -> DaemonError {
    let file = match &error {
        DaemonError::Store(error) => error.file_without_space(),
        DaemonError::Io { context, source } if store::lacks_space(source) => Some(context.as_str()),
        _ => None,
    };
    // A whole path takes the place of the directory.
    match file.map(|file| data_dir.join(file)) {
        Some(path) => DaemonError::StandbyDiskFull(path),
        None => error,
    }
}

/// Makes the closed standby or restored copy in the data directory the owner, under a higher term. An owner that has
/// met another owner of its term gets a higher term too.
///
/// # Errors
/// The store is an owner's, the master key does not open it, or a file is damaged. So is the standby's log, unless
/// `accepts_loss`.
pub fn promote(settings: &Settings, disk: Arc<dyn Disk>, accepts_loss: bool) -> Result<PromotedStore, DaemonError> {
    let data_dir = &settings.data_dir;
    let Some(own) = term_and_role(&*disk)? else { return Err(DaemonError::NoStore(data_dir.display().to_string())) };
    let promoted = own.promoted();
    if own.role != Role::Member {
        keys::check_master_key(settings, &*disk)?;
    }
    let (last, kept) = match own.role {
        Role::Owner if own.overtaken_by == own.term => (None, None),
        Role::Owner => {
            let words = format!("{}: this store is an owner's already, of term {}", data_dir.display(), own.term);
            return Err(DaemonError::Engine(words));
        }
        Role::Copy => (None, None),
        Role::Member => {
            let words = format!("{}: the nodes of a cluster take over by themselves", data_dir.display());
            return Err(DaemonError::Engine(words));
        }
        Role::Standby => {
            let kept = if accepts_loss { give_up_damaged(data_dir, &*disk)? } else { None };
            let replica = open_replica(data_dir, disk.clone()).map_err(|error| naming_full_disk(data_dir, error))?;
            let last = replica.last();
            replica.close()?;
            (Some(last), kept)
        }
    };
    admin::set_term_and_role(&*disk, promoted)?;
    let folder: PathBuf = data_dir.join(LOG_FOLDER);
    if last.is_some() {
        fs::remove_dir_all(&folder).map_err(|source| failed(&folder, source))?;
        // A newer copy may have been under way when the standby ended.
        base::remove_unfinished(data_dir)?;
    }
    Ok(PromotedStore { term: promoted.term, last, kept })
}

/// A store that was made the owner.
pub struct PromotedStore {
    pub term: u64,
    /// A standby's last commit.
    pub last: Option<CommitMark>,
    /// The folder of a damaged log that was given up.
    pub kept: Option<PathBuf>,
}

pub(super) fn failed(path: &Path, source: io::Error) -> DaemonError {
    DaemonError::Io { context: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_by_the_whole_path_of_the_file() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let dir = Path::new("/var/lib/postrider");
        let told = |error: DaemonError| naming_full_disk(dir, error).to_string();
        let of = |file: &str, source| store::Error::Io { file: file.to_owned(), source }.into();
        let log = "/var/lib/postrider/standby/000001.log";
        assert!(told(of(log, full())).starts_with(&format!("{log}: no space is left on the disk")));
        assert!(told(of("state.redb", full())).starts_with("/var/lib/postrider/state.redb: no space"));
        assert!(told(failed(&dir.join("backup"), full())).starts_with("/var/lib/postrider/backup: no space"));
        let other = of("state.redb", io::ErrorKind::PermissionDenied.into());
        assert!(matches!(naming_full_disk(dir, other), DaemonError::Store(_)), "another failure stays as it is");
    }
}
