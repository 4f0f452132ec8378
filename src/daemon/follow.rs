//! The follower: a base copy of the store, and every commit after it, in a directory that `postrider restore` reads.
//!
//! Invariant: the log of a generation begins before its base is requested, so no commit falls between them. The log is
//! synced after each round, so a crash loses only commits in transit. A generation continues after a break of the
//! connection if the daemon still has the commits since.

pub mod stream;

use std::fs;
use std::io::{self, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use self::stream::{FrameReader, StreamFrame};
use super::DaemonError;
use super::backup::{PARTIAL, complete, lock_empty, sync};
use super::backup_repo::{self, BASE, BackupRepo};
use super::offline::has_store;
use super::protocol::{CONTROL_FILE, FOLLOW_GREETING, GREETING, RESUME_GREETING, greet, mark_bytes, without_answer};
use crate::config::Settings;
use crate::engine::clock::{Random as _, SystemRandomness};
use crate::store::admin::{self, BackupProgress, CommitMark, CommitPosition, LogWriter, ReceivedBackup};
use crate::store::{self, RealDisk};

/// Delay between two attempts to reach the daemon or to get a base.
const TRY_AGAIN: Duration = Duration::from_secs(1);
const BASE_AGAIN: Duration = Duration::from_secs(5);
/// Delay between two attempts to write another base beside a generation that continues.
const BASE_FAILED_AGAIN: Duration = Duration::from_secs(600);
/// Delay between two checks of a full destination.
const ROOM_AGAIN: Duration = Duration::from_secs(10);
/// A log this many times as large as its base leads to a new base.
const LOG_TIMES_BASE_MAX: u64 = 4;
const LOG_BYTES_MIN: u64 = 1 << 30;
/// Bytes of the base that are read at once.
const PIECE_BYTES: usize = 4 << 20;

/// Options of a follower.
#[derive(Debug, Clone)]
pub struct FollowOptions {
    pub to: PathBuf,
    pub without_key: bool,
    /// Age at which a generation is followed by another.
    pub new_base_every: Duration,
    /// Whole generations to retain.
    pub keep: usize,
}

/// Progress of a follower.
#[derive(Debug, PartialEq, Eq)]
pub enum FollowProgress {
    /// A generation was begun.
    Begun(u32),
    /// The base of a generation is whole: every commit from this one on can be restored.
    Whole(u32, CommitPosition, BackupProgress),
    Removed(u32),
    /// The reason of an interruption. The daemon is asked for the commits since as soon as it answers.
    Interrupted(String),
    /// The generation goes on after this commit.
    Resumed(CommitPosition),
    /// The destination is full. Another generation is begun once it has this much free space.
    NoRoom {
        bytes: u64,
    },
    /// The reason why there is no base. The base is requested again.
    NoBase(String),
}

/// Receives the progress.
pub type OnFollowProgress<'a> = &'a mut dyn FnMut(FollowProgress);

/// Tells a follower to end.
#[derive(Debug, Default)]
pub struct StopSignal {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl StopSignal {
    pub fn set(&self) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    pub(super) fn is_set(&self) -> bool {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a time, or until the signal.
    pub(super) fn wait(&self, time: Duration) {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(is_set, time, |is_set| !*is_set));
    }
}

/// Why a connection ended.
enum StreamEnd {
    /// The follower was told to stop.
    Stopped,
    /// The stream ended or has a gap.
    Cut(String),
}

/// Follows the daemon of the data directory until the stop signal. If the connection ends, it connects again and goes on after
/// its last commit. If the daemon no longer has the commits since, another generation is begun. If the
/// destination is full, it removes the incomplete generation and waits until the destination has room for a copy.
///
/// # Errors
/// No daemon answers the first time, its version differs, the destination is locked, or its disk fails.
pub fn follow(
    settings: &Settings,
    wish: &FollowOptions,
    stop: &StopSignal,
    tell: OnFollowProgress<'_>,
) -> Result<(), DaemonError> {
    has_store(&settings.data_dir)?;
    // Checks that a daemon answers. The connection is closed, so that no daemon waits while the destination is
    // searched.
    drop(connect(settings)?);
    let place = BackupRepo::lock(&wish.to)?;
    let last = backup_repo::generations(&place.root)?.last().map(|generation| generation.outline.last.number);
    let mut session = ReplicaSession::new(settings, wish, &place, last, tell);
    while !stop.is_set() {
        let connected = match reconnect(settings, session.mark) {
            Ok(inlet) => inlet,
            Err(DaemonError::Unreachable(_)) => {
                stop.wait(TRY_AGAIN);
                continue;
            }
            Err(error) => return Err(error),
        };
        let ended = session.run(connected, stop);
        session.give_up_making()?;
        session.check_pruning(true)?;
        match ended {
            Ok(StreamEnd::Stopped) => return Ok(()),
            Ok(StreamEnd::Cut(words)) => (session.tell)(FollowProgress::Interrupted(words)),
            Err(error) if is_full(&error) => {
                // A block of the log may be cut short, so nothing is appended to it.
                session.begin_anew();
                wait_for_room(settings, &place, stop, session.tell)?;
            }
            Err(error) => return Err(error),
        }
        stop.wait(TRY_AGAIN);
    }
    Ok(())
}

/// Waits until the destination has room for a copy of the store as it is now, or until the stop signal.
fn wait_for_room(
    settings: &Settings,
    place: &BackupRepo,
    stop: &StopSignal,
    tell: OnFollowProgress<'_>,
) -> Result<(), DaemonError> {
    let disk = RealDisk::unlocked(&place.root);
    tell(FollowProgress::NoRoom { bytes: store_bytes(&settings.data_dir)? });
    loop {
        stop.wait(ROOM_AGAIN);
        let free = store::Disk::free_bytes(&disk).map_err(|source| failed(&place.root, source))?;
        if stop.is_set() || free > store_bytes(&settings.data_dir)? {
            return Ok(());
        }
    }
}

/// Bytes of the files of a store. A file that the daemon removes meanwhile has none.
fn store_bytes(dir: &Path) -> Result<u64, DaemonError> {
    let names = admin::files(&RealDisk::unlocked(dir))?;
    Ok(names.iter().filter_map(|name| fs::metadata(dir.join(name)).ok()).map(|file| file.len()).sum())
}

/// Whether a write failed because the disk, or the quota, is full.
fn is_full(error: &DaemonError) -> bool {
    match error {
        DaemonError::Io { source, .. } => store::lacks_space(source),
        DaemonError::Store(error) => error.is_disk_full(),
        _ => false,
    }
}

fn connect(settings: &Settings) -> Result<FrameReader, DaemonError> {
    let greeted = greet(&settings.data_dir, FOLLOW_GREETING);
    let stream = greeted.map_err(|error| without_answer(settings, error))?;
    FrameReader::of(stream).map_err(|source| failed(&settings.data_dir.join(CONTROL_FILE), source))
}

/// Connects to the daemon, and asks for the commits after `mark`.
fn reconnect(settings: &Settings, mark: Option<CommitMark>) -> Result<FrameReader, DaemonError> {
    let Some(mark) = mark else { return connect(settings) };
    let socket = settings.data_dir.join(CONTROL_FILE);
    let mut stream = greet(&settings.data_dir, RESUME_GREETING)?;
    stream.write_all(&mark_bytes(mark)).map_err(|error| DaemonError::Unreachable(error.to_string()))?;
    FrameReader::of(stream).map_err(|source| failed(&socket, source))
}

/// The connections to the daemon, and the generations that they write.
struct ReplicaSession<'a> {
    settings: &'a Settings,
    wish: &'a FollowOptions,
    place: &'a BackupRepo,
    tell: OnFollowProgress<'a>,
    /// The last commit in the destination before the first generation that goes on.
    before: Option<u64>,
    /// The daemon's mark of the last commit that was received.
    mark: Option<CommitMark>,
    /// Offset between the daemon's commit numbers and the log's.
    offset: u64,
    last: Option<CommitPosition>,
    current: Option<OpenGeneration>,
    making: Option<PendingGeneration>,
    base_after: Option<Instant>,
    pruning: Option<JoinHandle<Result<Vec<u32>, DaemonError>>>,
}

/// A generation that is written to.
struct OpenGeneration {
    number: u32,
    disk: RealDisk,
    log: LogWriter,
    base_bytes: u64,
    begun: Instant,
}

/// A generation whose base is incomplete.
struct PendingGeneration {
    written: OpenGeneration,
    partial: PathBuf,
    stream: UnixStream,
    /// `None` if the thread has ended.
    base: Option<JoinHandle<store::Result<ReceivedBackup>>>,
    received: Option<ReceivedBackup>,
}

impl<'a> ReplicaSession<'a> {
    fn new(
        settings: &'a Settings,
        wish: &'a FollowOptions,
        place: &'a BackupRepo,
        before: Option<u64>,
        tell: OnFollowProgress<'a>,
    ) -> ReplicaSession<'a> {
        ReplicaSession {
            settings,
            wish,
            place,
            tell,
            before,
            mark: None,
            offset: 0,
            last: None,
            current: None,
            making: None,
            base_after: None,
            pruning: None,
        }
    }

    fn run(&mut self, mut inlet: FrameReader, stop: &StopSignal) -> Result<StreamEnd, DaemonError> {
        loop {
            if stop.is_set() {
                return Ok(StreamEnd::Stopped);
            }
            let frames = match inlet.frames() {
                Ok(frames) => frames,
                Err(error) => return Ok(StreamEnd::Cut(error.to_string())),
            };
            if let Some(words) = self.write_frames(frames)? {
                return Ok(StreamEnd::Cut(words));
            }
            // Nothing can be restored before a generation is whole.
            if let Some(last) = self.last.filter(|_| self.current.is_some()) {
                inlet.confirm(last.number.wrapping_sub(self.offset));
            }
            self.check_base()?;
            self.check_pruning(false)?;
            if self.wants_base() {
                self.begin_base()?;
            }
        }
    }

    /// Writes the frames that arrived. Returns the reason if the stream has ended.
    fn write_frames(&mut self, frames: Vec<StreamFrame>) -> Result<Option<String>, DaemonError> {
        let mut records = Vec::new();
        let mut over = None;
        for frame in frames {
            if matches!(frame, StreamFrame::From(_)) {
                self.begin_anew();
            }
            match (frame, self.last) {
                (StreamFrame::Resumed(_), Some(last)) => (self.tell)(FollowProgress::Resumed(last)),
                (StreamFrame::From(from), None) => {
                    // The daemon's first state includes all earlier commits and may include more, so it is a commit of
                    // its own.
                    let number = self.before.map_or(0, |before| before + 1);
                    self.offset = number.wrapping_sub(from.number);
                    self.last = Some(CommitPosition { number, at: from.at });
                }
                (StreamFrame::Commit(mut record), Some(last)) => {
                    let point = admin::renumber(&mut record, self.offset);
                    if point.map(|point| point.number) != Some(last.number + 1) {
                        over = Some("a commit is missing".to_owned());
                        break;
                    }
                    self.last = point;
                    records.push(record);
                }
                (StreamFrame::Alive(_), Some(_)) => {}
                (StreamFrame::Over(words), None) => return Err(DaemonError::Engine(format!("the daemon: {words}"))),
                (StreamFrame::Over(words), Some(_)) => over = Some(words),
                _ => over = Some("the daemon's stream is invalid".to_owned()),
            }
        }
        let mark = records.last().and_then(|record| CommitMark::of_encoded(record));
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let making = self.making.as_mut().map(|making| &mut making.written);
        for written in self.current.as_mut().into_iter().chain(making) {
            written.log.append(&written.disk, &records)?;
        }
        self.mark = mark.or(self.mark);
        Ok(over)
    }

    /// Ends the generations so far: the daemon's next commits do not follow them.
    fn begin_anew(&mut self) {
        self.before = self.last.map(|last| last.number).or(self.before);
        (self.last, self.mark, self.current) = (None, None, None);
    }

    fn wants_base(&self) -> bool {
        let is_late = |current: &OpenGeneration| {
            let log_bytes = current.log.bytes();
            current.begun.elapsed() >= self.wish.new_base_every
                || log_bytes >= LOG_BYTES_MIN && log_bytes / LOG_TIMES_BASE_MAX > current.base_bytes
        };
        self.last.is_some()
            && self.making.is_none()
            && self.pruning.is_none()
            && self.base_after.is_none_or(|after| Instant::now() >= after)
            && self.current.as_ref().is_none_or(is_late)
    }

    /// Begins a generation: first its log, from here on, then its base.
    fn begin_base(&mut self) -> Result<(), DaemonError> {
        let Some(from) = self.last else { return Ok(()) };
        let stream = match greet(&self.settings.data_dir, GREETING) {
            Ok(stream) => stream,
            Err(DaemonError::Unreachable(words)) => {
                self.no_base(words, BASE_AGAIN);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let (number, disk) = self.place.begin()?;
        let mut salt = [0; 8];
        SystemRandomness::default().fill(&mut salt);
        let log = LogWriter::create(&disk, u64::from_le_bytes(salt), from)?;
        let partial = self.place.path(number).join(format!("{BASE}.{}", PARTIAL));
        let base_disk = lock_empty(&partial)?;
        let reading = stream.try_clone().map_err(|source| failed(&partial, source))?;
        let base = std::thread::spawn(move || {
            admin::receive(&mut BufReader::with_capacity(PIECE_BYTES, reading), &*base_disk, &mut |_| ())
        });
        let written = OpenGeneration { number, disk, log, base_bytes: 0, begun: Instant::now() };
        self.making = Some(PendingGeneration { written, partial, stream, base: Some(base), received: None });
        (self.tell)(FollowProgress::Begun(number));
        Ok(())
    }

    /// Handles the end of the base. It counts once the log has every commit that may be in it.
    fn check_base(&mut self) -> Result<(), DaemonError> {
        let Some(making) = &mut self.making else { return Ok(()) };
        if making.base.as_ref().is_some_and(JoinHandle::is_finished) {
            let ended = making.base.take().map(JoinHandle::join);
            match ended {
                Some(Ok(Ok(received))) => {
                    complete(&making.partial, self.settings, self.wish.without_key)?;
                    let base = making.partial.with_extension("");
                    fs::rename(&making.partial, &base).map_err(|source| failed(&base, source))?;
                    sync(&self.place.path(making.written.number))?;
                    making.received = Some(received);
                }
                Some(Ok(Err(store::Error::Io { file, source }))) if admin::is_stream(&file) => {
                    self.give_up_making()?;
                    self.no_base(source.to_string(), BASE_AGAIN);
                    return Ok(());
                }
                Some(Ok(Err(error))) if self.current.is_some() => {
                    self.give_up_making()?;
                    self.no_base(error.to_string(), BASE_FAILED_AGAIN);
                    return Ok(());
                }
                Some(Ok(Err(error))) => return Err(error.into()),
                _ => return Err(DaemonError::Engine("the thread that writes the base has panicked".to_owned())),
            }
        }
        let Some(making) = self.making.take_if(|making| {
            let begun = making.received.map(|received| received.begun.wrapping_add(self.offset));
            begun.is_some_and(|begun| making.written.log.last().number >= begun)
        }) else {
            return Ok(());
        };
        let PendingGeneration { mut written, received, .. } = making;
        written.log.set_whole(&written.disk)?;
        let progress =
            received.map_or(BackupProgress { file_number: 0, files: 0, bytes: 0 }, |received| received.progress);
        written.base_bytes = progress.bytes;
        (self.tell)(FollowProgress::Whole(written.number, written.log.last(), progress));
        self.current = Some(written);
        self.base_after = None;
        self.pruning = Some(self.place.prune(self.wish.keep));
        Ok(())
    }

    /// Handles the removal of old generations. With `waits` it waits for the removal.
    fn check_pruning(&mut self, waits: bool) -> Result<(), DaemonError> {
        let Some(pruning) = self.pruning.take_if(|pruning| waits || pruning.is_finished()) else { return Ok(()) };
        let removed =
            pruning.join().map_err(|_| DaemonError::Engine("the thread that removes has panicked".to_owned()))?;
        removed?.into_iter().for_each(|number| (self.tell)(FollowProgress::Removed(number)));
        Ok(())
    }

    fn no_base(&mut self, words: String, again: Duration) {
        self.base_after = Some(Instant::now() + again);
        (self.tell)(FollowProgress::NoBase(words));
    }

    /// Removes an incomplete generation.
    fn give_up_making(&mut self) -> Result<(), DaemonError> {
        let Some(making) = self.making.take() else { return Ok(()) };
        // This ends the reading thread.
        let _ = making.stream.shutdown(std::net::Shutdown::Both);
        if let Some(base) = making.base {
            let _ = base.join();
        }
        self.place.remove(making.written.number)
    }
}

fn failed(path: &Path, source: io::Error) -> DaemonError {
    DaemonError::Io { context: path.display().to_string(), source }
}
