//! Finds out whether `state.redb` is of an earlier moment than the partitions beside it.
//!
//! Invariant: no file is changed.

use std::ops::Bound;
use std::sync::Arc;

use crate::kv::codec;
use crate::kv::disk::Disk;
use crate::kv::error::{Error, Result, io};
use crate::kv::read_only::ReadOnlyDisk;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::segment::{OTHER_CACHE_BYTES, OpenMode, Segment};
use crate::kv::tables::Table;
use crate::kv::wal::Wal;
use crate::store::idempotency::run_file::is_run_file;
use crate::store::partitions::set::{PARTITIONS, Partition, PartitionRow, STATE_FILE, first_of, owner_of};

/// Refuses a store whose `state.redb` is of an earlier moment than its partitions, as a start does. A daemon must not have
/// the store.
///
/// # Errors
/// It is, or a file does not open.
pub fn refuse_older_state(disk: Arc<dyn Disk>) -> Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(ReadOnlyDisk(disk));
    if !disk.exists(STATE_FILE).map_err(|error| io(STATE_FILE, error))? {
        return Ok(());
    }
    older_state(&disk, &listed(&*disk)?)?.map_or(Ok(()), |words| Err(older(words)))
}

/// The error of a `state.redb` that is older than the partitions beside it.
pub(in crate::store) fn older(words: String) -> Error {
    io(STATE_FILE, std::io::Error::new(std::io::ErrorKind::InvalidData, words))
}

/// The first ids of the partitions that `state.redb` lists.
pub(in crate::store) fn listed(disk: &dyn Disk) -> Result<Vec<u128>> {
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

/// The files of partitions that are not listed.
pub(in crate::store) fn unlisted(disk: &dyn Disk, is_listed: impl Fn(u128) -> bool) -> Result<Vec<String>> {
    let mut names = disk.list(PARTITIONS).map_err(|error| io(PARTITIONS, error))?;
    names.retain(|name| !is_run_file(name) && !owner_of(name).is_some_and(&is_listed));
    Ok(names)
}

/// Why `state.redb` with this list of partitions, in the order of their ids, is of an earlier moment than a file beside it.
/// `None` if it is not.
pub(in crate::store) fn older_state(disk: &Arc<dyn Disk>, listed: &[u128]) -> Result<Option<String>> {
    let unlisted = unlisted(&**disk, |first| listed.contains(&first))?;
    older_than_unlisted(disk, &unlisted, listed.first().copied().unwrap_or(0), &Wal::open(&**disk)?)
}

/// Why `state.redb` is of an earlier moment than the unlisted files. `None` if none of them has events and is newer than the
/// oldest listed partition.
pub(in crate::store) fn older_than_unlisted(
    disk: &Arc<dyn Disk>,
    unlisted: &[String],
    oldest: u128,
    wal: &Wal,
) -> Result<Option<String>> {
    // Partitions are delisted in their order, so one that lies behind the oldest never was.
    for first in unlisted.iter().filter_map(|name| first_of(name)).filter(|first| *first > oldest) {
        let name = Partition::new(first, PartitionRow::default()).file_name();
        if has_events(disk, &name, first, wal)? {
            return Ok(Some(format!(
                "it is older than {name}, which it does not list; put the files of one moment back, or restore a backup"
            )));
        }
    }
    Ok(None)
}

/// Whether a partition's file has events, or the write-ahead log has records for it. A repair of the file stays in
/// memory, because a full disk may have no space for it.
fn has_events(disk: &Arc<dyn Disk>, name: &str, first: u128, wal: &Wal) -> Result<bool> {
    let file = Arc::new(Segment::open(&ReadOnlyDisk(disk.clone()), name, OpenMode::Write, OTHER_CACHE_BYTES)?);
    // The log of a partition that was just made may still be that of the one before.
    let has_records = matches!(file.replay_wal(first, wal), Ok(Some(_)));
    Ok(has_records || file.snapshot()?.rows(Table::Events)? > 0)
}
