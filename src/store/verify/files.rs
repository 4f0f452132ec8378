//! Checks that every file of a store opens. It reads no rows, so it is quick. `verify` reads every row.
//!
//! Invariant: no file is changed.

use std::sync::Arc;

use crate::kv::disk::Disk;
use crate::kv::error::{Error, Result, io};
use crate::kv::read_only::ReadOnlyDisk;
use crate::kv::segment::catch_panic;
use crate::store::idempotency::run_file::{self, IdSpan};
use crate::store::partitions::blob_loss::opens;
use crate::store::partitions::set::{PARTITIONS, STATE_FILE, first_of};
use crate::store::partitions::state_age::{listed, older, older_state};
use crate::store::verify::Defect;

/// The files of a store that do not open.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FileCheck {
    /// Number of files that were opened, blob files aside.
    pub files: usize,
    pub damaged: Vec<Defect>,
    /// Damaged files of fingerprints. The next start makes them again.
    pub remade: Vec<String>,
}

/// Opens every file of the store on `disk`, which no daemon may have open. Damage of the write-ahead log is left to
/// `wal_damage`.
///
/// # Errors
/// The folder of partitions cannot be listed.
pub fn check_files(disk: Arc<dyn Disk>) -> Result<FileCheck> {
    let disk: Arc<dyn Disk> = Arc::new(ReadOnlyDisk(disk));
    let mut check = FileCheck { files: 1, ..FileCheck::default() };
    let mut names = disk.list(PARTITIONS).map_err(|error| io(PARTITIONS, error))?;
    names.sort();
    for span in names.iter().filter_map(|name| IdSpan::of_file_name(name)) {
        let head = run_file::read_head(&*disk, span).ok().flatten();
        if head.is_none_or(|head| run_file::read_summary(&*disk, &head).is_err()) {
            check.remade.push(span.file_name());
        }
    }
    let mut firsts: Vec<u128> = names.iter().filter_map(|name| first_of(name)).collect();
    match catch_panic(STATE_FILE, || listed(&*disk)).flatten() {
        Ok(listed) => {
            // The files that it does not list are opened for this, and one that fails is reported by name.
            let aged = catch_panic(PARTITIONS, || older_state(&disk, &listed)).flatten();
            match aged.map(|words| words.map(older)) {
                Ok(Some(error)) => check.damaged.push(Defect::of_error(STATE_FILE, &error)),
                Ok(None) | Err(Error::WalDamaged { .. }) => {}
                Err(error) => check.damaged.push(Defect::of_error(PARTITIONS, &error)),
            }
            firsts = listed;
        }
        Err(error) => check.damaged.push(Defect::of_error(STATE_FILE, &error)),
    }
    for first in firsts {
        check.files += 1;
        let name = format!("{PARTITIONS}/{}.redb", uuid::Uuid::from_u128(first).hyphenated());
        if let Err(error) = catch_panic(&name, || opens(&*disk, &name, first)).flatten() {
            check.damaged.push(match &error {
                Error::BlobsDamaged { file, .. } => Defect::of_error(file, &error),
                _ => Defect::of_error(&name, &error),
            });
        }
    }
    Ok(check)
}
