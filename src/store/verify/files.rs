//! Checks that every file of a store opens. It reads no rows, so it is quick. `verify` reads every row.
//!
//! Invariant: no file is changed.

use std::ops::Bound;
use std::sync::Arc;

use crate::kv::codec;
use crate::kv::disk::Disk;
use crate::kv::error::{Error, Result, io};
use crate::kv::read_only::ReadOnlyDisk;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::segment::{Segment, catch_panic};
use crate::kv::tables::Table;
use crate::store::idempotency::run_file::{self, IdSpan};
use crate::store::partitions::blob_loss::opens;
use crate::store::partitions::set::{PARTITIONS, PartitionRow, STATE_FILE, first_of};
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
    let disk = ReadOnlyDisk(disk);
    let mut check = FileCheck { files: 1, ..FileCheck::default() };
    let mut names = disk.list(PARTITIONS).map_err(|error| io(PARTITIONS, error))?;
    names.sort();
    for span in names.iter().filter_map(|name| IdSpan::of_file_name(name)) {
        let head = run_file::read_head(&disk, span).ok().flatten();
        if head.is_none_or(|head| run_file::read_summary(&disk, &head).is_err()) {
            check.remade.push(span.file_name());
        }
    }
    let mut firsts: Vec<u128> = names.iter().filter_map(|name| first_of(name)).collect();
    match catch_panic(STATE_FILE, || listed(&disk)).flatten() {
        Ok(listed) => firsts = listed,
        Err(error) => check.damaged.push(Defect::of_error(STATE_FILE, &error)),
    }
    for first in firsts {
        check.files += 1;
        let name = format!("{PARTITIONS}/{}.redb", uuid::Uuid::from_u128(first).hyphenated());
        if let Err(error) = catch_panic(&name, || opens(&disk, &name, first)).flatten() {
            check.damaged.push(match &error {
                Error::BlobsDamaged { file, .. } => Defect::of_error(file, &error),
                _ => Defect::of_error(&name, &error),
            });
        }
    }
    Ok(check)
}

/// The first ids of the partitions that `state.redb` lists.
fn listed(disk: &dyn Disk) -> Result<Vec<u128>> {
    let state = Arc::new(Segment::open_for_reading(disk, STATE_FILE)?);
    let snapshot = state.snapshot()?;
    let mut firsts = Vec::new();
    snapshot.scan(Table::Partitions, (Bound::Unbounded, Bound::Unbounded), Direction::Up, |key, value| {
        codec::decode::<PartitionRow>(value).ok_or_else(|| snapshot.damaged(Table::Partitions, key))?;
        let first = key.try_into().map(u128::from_be_bytes).map_err(|_| snapshot.damaged(Table::Partitions, key))?;
        firsts.push(first);
        Ok(ScanStep::Go)
    })?;
    Ok(firsts)
}
