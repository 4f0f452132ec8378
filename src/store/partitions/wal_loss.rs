//! Finds damage of the write-ahead log while no daemon has the store, and gives up the commits that it cost.
//!
//! Invariant: no byte of a damaged log is removed. The log gets another name after redb contains its readable records.

use std::ops::Bound;
use std::sync::Arc;

use crate::kv::blob_range::BLOBS_END_KEY;
use crate::kv::codec;
use crate::kv::disk::Disk;
use crate::kv::error::{Error, Result, io};
use crate::kv::read_only::ReadOnlyDisk;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::segment::{ACTIVE_CACHE_BYTES, OTHER_CACHE_BYTES, OpenMode, Segment};
use crate::kv::tables::{Key, Table};
use crate::kv::wal::{EPOCH_KEY, LostRecords, NEEDED_KEY, WAL_FILE, Wal};
use crate::kv::write_batch::WriteBatch;
use crate::model::Time;
use crate::model::id::EventId;
use crate::store::partitions::set::{Partition, PartitionRow, STATE_FILE};
use crate::store::partitions::state_age::refuse_older_state;
use crate::store::read::lookup::last_id;

/// A damaged write-ahead log that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedLoss {
    /// The damage in words.
    pub damage: String,
    /// New name of the damaged file, below the data directory. `None` if the file is missing.
    pub kept_as: Option<String>,
    /// Lost records, as far as the file shows them: at least so many.
    pub lost: LostRecords,
    /// Time of the newest row in the store. Later acknowledged commits are lost.
    pub kept_until: Time,
}

/// The damage of the write-ahead log in words, `None` if the log is whole or not needed. Nothing is changed. A daemon
/// must not have the store.
///
/// # Errors
/// `state.redb` or the active partition does not open, or `state.redb` is older than its partitions: then the log need not
/// be that of the partition that it lists.
pub fn wal_damage(disk: Arc<dyn Disk>) -> Result<Option<String>> {
    refuse_older_state(disk.clone())?;
    let disk = ReadOnlyDisk(disk);
    match active_partition(&disk)? {
        Some(active) => {
            damage_of(&Segment::open(&disk, &active.file_name(), OpenMode::Write, OTHER_CACHE_BYTES)?, &active, &disk)
        }
        None => Ok(None),
    }
}

/// Gives up the records that a damaged write-ahead log lacks, so that the store opens without them. The records before
/// the damage are kept. `None` if the log is whole or not needed. Nothing is changed then.
///
/// # Errors
/// A file does not open, or the disk fails. The next call goes on.
pub fn accept_loss(disk: &dyn Disk) -> Result<Option<AcceptedLoss>> {
    let Some(active) = active_partition(disk)? else { return Ok(None) };
    let name = active.file_name();
    let file = Segment::open(disk, &name, OpenMode::Write, ACTIVE_CACHE_BYTES)?;
    let Some(damage) = damage_of(&file, &active, disk)? else {
        return file.close().map(|()| None);
    };
    // The failed replay left records in the memtable.
    file.close()?;
    let file = Arc::new(Segment::open(disk, &name, OpenMode::Write, ACTIVE_CACHE_BYTES)?);
    let epoch = file.epoch()?;
    let lost = file.salvage_wal(active.first, &Wal::open(disk)?)?;
    file.commit(WriteBatch::on(file.snapshot()?))?;
    let kept_as = set_aside(disk)?;
    let mut write_batch = WriteBatch::on(file.snapshot()?);
    write_batch.put(Table::Meta, Key::from_slice(NEEDED_KEY), &false);
    // The lost records may name later payloads, whose bytes stay with the old log.
    let named = file.snapshot()?.get(Table::Meta, BLOBS_END_KEY, codec::decode::<u64>)?.flatten();
    let behind = disk.len(&active.blobs_name()).unwrap_or(0).max(named.unwrap_or(0));
    if behind > 0 {
        write_batch.put(Table::Meta, Key::from_slice(BLOBS_END_KEY), &behind);
    }
    // Behind both epochs that the old log may contain.
    write_batch.put(Table::Meta, Key::from_slice(EPOCH_KEY), &(epoch + 2));
    file.commit(write_batch)?;
    let newest = last_id(&file.snapshot()?)?.max(active.first);
    Arc::into_inner(file).map_or(Ok(()), Segment::close)?;
    Ok(Some(AcceptedLoss { damage, kept_as, lost, kept_until: EventId::from_u128(newest).time() }))
}

fn damage_of(file: &Segment, active: &Partition, disk: &dyn Disk) -> Result<Option<String>> {
    match file.replay_wal(active.first, &Wal::open(disk)?) {
        Ok(_) => Ok(None),
        Err(Error::WalDamaged { damage, .. }) => Ok(Some(damage)),
        Err(error) => Err(error),
    }
}

/// The partition whose records are in the write-ahead log. `None` if there is no store or no partition.
fn active_partition(disk: &dyn Disk) -> Result<Option<Partition>> {
    if !disk.exists(STATE_FILE).map_err(|error| io(STATE_FILE, error))? {
        return Ok(None);
    }
    let state = Arc::new(Segment::open_for_reading(disk, STATE_FILE)?);
    let snapshot = state.snapshot()?;
    let mut active = None;
    snapshot.scan(Table::Partitions, (Bound::Unbounded, Bound::Unbounded), Direction::Up, |key, value| {
        let row = codec::decode::<PartitionRow>(value).ok_or_else(|| snapshot.damaged(Table::Partitions, key))?;
        let first = key.try_into().map(u128::from_be_bytes).map_err(|_| snapshot.damaged(Table::Partitions, key))?;
        if !row.sealed {
            active = Some(Partition::new(first, row));
        }
        Ok(ScanStep::Go)
    })?;
    Ok(active)
}

/// Renames the log to the first name that is free.
fn set_aside(disk: &dyn Disk) -> Result<Option<String>> {
    let failed = |error| io(WAL_FILE, error);
    if !disk.exists(WAL_FILE).map_err(failed)? {
        return Ok(None);
    }
    let mut number = 1;
    loop {
        let name = format!("{WAL_FILE}.damaged-{number}");
        if !disk.exists(&name).map_err(failed)? {
            disk.rename(WAL_FILE, &name).map_err(failed)?;
            return Ok(Some(name));
        }
        number += 1;
    }
}
