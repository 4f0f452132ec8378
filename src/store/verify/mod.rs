//! Verifies every row of every table of every file of a store.
//!
//! Invariant: verification changes no file. Its memory is bounded by the number of webhooks and jobs, not by the number of
//! rows. An unreadable row is reported once, by the walk of its own table. Rows that refer to it are not reported.

mod delivery_shape;
mod files;
mod partition;
mod recount;
mod state;
#[cfg(test)]
pub(in crate::store) mod tests;

use std::fmt;
use std::sync::Arc;

use crate::kv::disk::Disk;
use crate::kv::error::{Error, Result};
use crate::kv::payload::ROW_PAYLOAD_BYTES_MAX;
pub(in crate::store) use crate::kv::read_only::ReadOnlyDisk;
use crate::kv::segment::{OTHER_CACHE_BYTES, OpenMode, Segment, catch_panic};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::Table;
use crate::kv::wal::{WAL_FILE, Wal};
use crate::store::idempotency::index::NEWEST_MAX as FINGERPRINTS_MAX;
use crate::store::partitions::set::{PARTITIONS, Partition, PartitionSet, STATE_FILE, StoreOptions};
use crate::store::partitions::state_age::{older_than_unlisted, unlisted};
use crate::store::read::lists::Store;
use crate::store::replication::unapplied::UnappliedLog;
use crate::store::secrets::master_key::data_key;
use crate::store::secrets::vault::{KEY_BYTES, Vault};

pub use files::{FileCheck, check_files};

/// Maximum number of defects that a report lists. Further ones are only counted.
pub const PROBLEMS_MAX: usize = 1_000;

/// Rows between two calls of the progress callback.
const PROGRESS_ROWS: u64 = 8_192;

/// A defect of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defect {
    /// The file, below the data directory.
    pub file: String,
    /// Table of the defect. `None` if it concerns the whole file.
    pub table: Option<&'static str>,
    /// Key in hexadecimal. `None` if the defect concerns the whole table.
    pub key: Option<String>,
    /// Description of the defect.
    pub detail: String,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for part in self.table.iter().copied().chain(self.key.as_deref()) {
            write!(f, ": {part}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

impl Defect {
    /// The defect of a file that could not be walked to its end.
    fn of_error(file: &str, error: &Error) -> Defect {
        match error {
            Error::Damaged { file, table, key } => Defect {
                file: file.clone(),
                table: Some(table),
                key: Some(key.clone()),
                detail: "does not read back as it was written".into(),
            },
            Error::WalDamaged { file, damage } | Error::BlobsDamaged { file, damage, .. } => {
                Defect::of_file(file, damage)
            }
            Error::Storage { source, .. } => Defect::of_file(file, source),
            Error::Io { source, .. } => Defect::of_file(file, source),
            other => Defect::of_file(file, other),
        }
    }

    fn of_file(file: &str, detail: &dyn fmt::Display) -> Defect {
        Defect { file: file.to_owned(), table: None, key: None, detail: detail.to_string() }
    }
}

/// Result of a verification.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files walked, `state.redb` included.
    pub files: usize,
    pub rows: u64,
    /// At most `PROBLEMS_MAX`.
    pub problems: Vec<Defect>,
    /// Number of defects beyond `PROBLEMS_MAX`.
    pub problems_left_out: u64,
    /// Heads of ordered queues that are not due, because a crash came between the commits of two files. The next start
    /// promotes them.
    pub to_release: u64,
    /// Files that the list of partitions does not name, left by a crash. The next start removes them, unless
    /// `is_state_older`.
    pub unlisted: Vec<String>,
    /// Whether `state.redb` is older than partitions that it does not list. No start opens the store then.
    pub is_state_older: bool,
    /// The commits that only the log of a standby or a node has. `None` for another store, or without a log.
    pub unapplied: Option<UnappliedLog>,
}

impl VerifyReport {
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn note(&mut self, problem: Defect) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.problems_left_out += 1;
        }
    }
}

/// Progress of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyProgress<'a> {
    pub file: &'a str,
    /// Number of the current file, from 1.
    pub file_number: usize,
    pub files: usize,
    /// Rows walked so far, over all files.
    pub rows: u64,
}

/// Callback that receives the progress at every file and every few thousand rows.
pub type OnVerifyProgress<'a> = &'a mut dyn FnMut(VerifyProgress<'_>);

/// Verifies the store on `disk`, which no daemon may have open: every page's checksum first, then every row. Nothing is
/// written. A file that was not closed cleanly is verified as the next start would repair it.
///
/// # Errors
/// A wrong master key, or a `state.redb` that does not open. Defects inside the files are in the report.
pub fn verify(
    disk: Arc<dyn Disk>,
    master_key: &[u8; KEY_BYTES],
    progress: OnVerifyProgress<'_>,
) -> Result<VerifyReport> {
    let disk = Arc::new(ReadOnlyDisk(disk));
    let options = StoreOptions {
        retention_ms: 0,
        idempotency_window_ms: 0,
        partition_max_bytes: u64::MAX,
        min_free_bytes: 0,
        row_payload_bytes_max: ROW_PAYLOAD_BYTES_MAX,
        fingerprints_max: FINGERPRINTS_MAX,
    };
    let walked = catch_panic(STATE_FILE, || {
        let state = Arc::new(Segment::open(&*disk, STATE_FILE, OpenMode::Check, OTHER_CACHE_BYTES)?);
        let vault = Vault::new(&data_key(&state.snapshot()?, &Vault::new(master_key))?);
        let wal = Wal::open(&*disk)?;
        walk(&PartitionSet::new(disk, options, vault, state), Some(OfflineStore { wal }), progress)
    });
    walked.flatten()
}

impl Store {
    /// Verifies the open store. Each file is read through one snapshot, which pins the pages that were written since.
    /// If the store is written to meanwhile, the report may contain differences between files.
    pub fn verify(&self, progress: OnVerifyProgress<'_>) -> Result<VerifyReport> {
        walk(&self.partition_set, None, progress)
    }
}

/// A closed store. Its pages are verified, and the records of its write-ahead log are replayed into memory.
struct OfflineStore {
    wal: Wal,
}

impl OfflineStore {
    fn open(&self, partition_set: &PartitionSet, partition: &Partition) -> Result<()> {
        let file = partition_set.check(partition)?;
        let replayed = || file.replay_wal(partition.first, &self.wal).and_then(|_| file.resume_blobs());
        if !partition.row().sealed
            && let Err(error) = replayed()
        {
            drop(file);
            // The file is closed, because it lacks the changes of the WAL and a later walk must not read it so.
            let _ = partition_set.close(partition);
            return Err(error);
        }
        Ok(())
    }
}

fn walk(
    partition_set: &PartitionSet,
    offline: Option<OfflineStore>,
    progress: OnVerifyProgress<'_>,
) -> Result<VerifyReport> {
    let snapshot = partition_set.state()?.snapshot()?;
    let mut walk = VerifyWalk { report: VerifyReport::default(), file: STATE_FILE.to_owned(), files: 1, progress };
    walk.report.files = 1;
    let mut view = state::walk(&mut walk, &snapshot, &partition_set.vault)?;
    drop(snapshot);
    walk.files += view.partitions.len();
    if let (Some(offline), Some(newest)) = (&offline, view.partitions.keys().next_back()) {
        // The active partition comes first, because the queues of the others are compared with its own.
        let listed = partition_of(partition_set, &view, *newest);
        let _ = catch_panic(&listed.file_name(), || offline.open(partition_set, &listed));
    }
    let queued = queued(partition_set, &view);
    let firsts: Vec<u128> = view.partitions.keys().copied().collect();
    for (number, &first) in firsts.iter().enumerate() {
        let listed = partition_of(partition_set, &view, first);
        walk.file = listed.file_name();
        walk.report.files += 1;
        walk.report_progress();
        let end = firsts.get(number + 1).copied();
        let walked = catch_panic(&listed.file_name(), || {
            // The active partition is open already. If opening it failed, the reason is reported here.
            if let Some(offline) = &offline
                && (listed.row().sealed || partition_set.read(&listed).is_err())
            {
                offline.open(partition_set, &listed)?;
            }
            let snapshot = partition_set.snapshot(&listed)?;
            partition::walk(&mut walk, partition_set, &snapshot, &mut view, (first, end), &queued)
        });
        if offline.is_some() && listed.row().sealed {
            // Closing writes to the overlay in memory only, which is dropped with it.
            let _ = partition_set.close(&listed);
        }
        if let Err(error) = walked.flatten() {
            walk.report.note(Defect::of_error(&walk.file, &error));
        }
    }
    state::compare_totals(&mut walk, &view);
    let unlisted = unlisted(&*partition_set.disk, |first| view.partitions.contains_key(&first))?;
    if let (Some(offline), Some(oldest)) = (&offline, view.partitions.keys().next()) {
        match older_than_unlisted(&partition_set.disk, &unlisted, *oldest, &offline.wal) {
            Ok(None) => {}
            Ok(Some(detail)) => {
                walk.report.is_state_older = true;
                // The log is that of a partition which `state.redb` does not list, and is not judged by another one.
                walk.report.problems.retain(|problem| problem.file != WAL_FILE);
                walk.report.note(Defect { file: STATE_FILE.to_owned(), table: None, key: None, detail });
            }
            Err(error) => walk.report.note(Defect::of_error(PARTITIONS, &error)),
        }
    }
    walk.report.unlisted = unlisted.into_iter().map(|name| format!("{PARTITIONS}/{name}")).collect();
    Ok(walk.report)
}

/// State of the verification.
struct VerifyWalk<'a> {
    report: VerifyReport,
    file: String,
    files: usize,
    progress: OnVerifyProgress<'a>,
}

impl VerifyWalk<'_> {
    fn row(&mut self) {
        self.report.rows += 1;
        if self.report.rows.is_multiple_of(PROGRESS_ROWS) {
            self.report_progress();
        }
    }

    fn report_progress(&mut self) {
        let (file_number, rows) = (self.report.files, self.report.rows);
        (self.progress)(VerifyProgress { file: &self.file, file_number, files: self.files, rows });
    }

    fn problem(&mut self, table: Table, key: &[u8], detail: &str) {
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = (!key.is_empty()).then_some(key);
        self.report.note(Defect { file: self.file.clone(), table: Some(table.name()), key, detail: detail.to_owned() });
    }
}

/// The partition from the set. If the store was never opened, a partition made from its row of the list.
fn partition_of(partition_set: &PartitionSet, view: &state::StateWalk, first: u128) -> Arc<Partition> {
    if partition_set.partition(first).is_none() {
        partition_set.add_partition(Partition::new(first, view.partitions[&first]));
    }
    partition_set.partition(first).expect("it was just added")
}

/// Partitions that contain ordered queues. Only these are searched for the head of a queue.
fn queued(partition_set: &PartitionSet, view: &state::StateWalk) -> Vec<u128> {
    let has_queue = |snapshot: Result<Snapshot>| snapshot.and_then(|s| s.rows(Table::Queue)).is_ok_and(|rows| rows > 0);
    let firsts = view.partitions.keys().copied();
    firsts.filter(|first| has_queue(partition_set.snapshot(&partition_of(partition_set, view, *first)))).collect()
}
