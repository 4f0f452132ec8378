//! From when on the index of failed deliveries is complete: a store of an earlier version has failed deliveries without
//! index entries.
//!
//! Invariant: every delivery that failed in a partition after the noted one has its entries, and in the noted one and those
//! before it every delivery that ended since the noted time.

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::tables::{Key, Table};
use crate::kv::write_batch::WriteBatch;
use crate::model::Time;

use crate::store::commit::CommitTarget;
use crate::store::partitions::set::PartitionSet;
use crate::store::writer::Writer;

/// Key in `meta` of `state.redb`. A store of an earlier version lacks the row until its first round of maintenance.
pub(in crate::store) const INDEX_START_KEY: &[u8] = b"failed_since";

/// The same for the counts of event types, which a later version added.
pub(in crate::store) const TYPES_START_KEY: &[u8] = b"types_since";

/// The same for the index of events by app, which a later version added.
pub(in crate::store) const APPS_START_KEY: &[u8] = b"apps_since";

/// The time since which the index is complete, and the first id of the newest partition that has older rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct IndexStart {
    pub at: Time,
    pub partition: u128,
}

impl IndexStart {
    /// The row of a new store: complete from its beginning.
    pub fn new_store_row() -> Vec<u8> {
        codec::encode(&(Time::ZERO, 0_u128))
    }

    /// Whether a partition may have failed deliveries without index entries.
    pub const fn lacks_entries(&self, first: u128) -> bool {
        first <= self.partition
    }
}

/// The stored start. Without a row no partition counts as complete.
pub(in crate::store) fn stored(partition_set: &PartitionSet) -> Result<IndexStart> {
    Ok(row(partition_set, INDEX_START_KEY)?.unwrap_or(IndexStart { at: Time::MAX, partition: u128::MAX }))
}

/// The same for the counts of event types.
pub(in crate::store) fn stored_of_types(partition_set: &PartitionSet) -> Result<IndexStart> {
    Ok(row(partition_set, TYPES_START_KEY)?.unwrap_or(IndexStart { at: Time::MAX, partition: u128::MAX }))
}

/// The same for the index of events by app.
pub(in crate::store) fn stored_of_apps(partition_set: &PartitionSet) -> Result<IndexStart> {
    Ok(row(partition_set, APPS_START_KEY)?.unwrap_or(IndexStart { at: Time::MAX, partition: u128::MAX }))
}

fn row(partition_set: &PartitionSet, key: &[u8]) -> Result<Option<IndexStart>> {
    let state = partition_set.state()?.snapshot()?;
    let row = state.get(Table::Meta, key, codec::decode::<(Time, u128)>)?.flatten();
    Ok(row.map(|(at, partition)| IndexStart { at, partition }))
}

impl Writer {
    /// Stores the start for a store of an earlier version. All partitions so far may lack entries.
    pub(in crate::store) fn store_index_start(&mut self, now: Time) -> Result<()> {
        let mut missing = Vec::new();
        for key in [INDEX_START_KEY, TYPES_START_KEY, APPS_START_KEY] {
            if row(&self.partition_set, key)?.is_none() {
                missing.push(key);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut write_batch = WriteBatch::on(self.partition_set.state()?.snapshot()?);
        for key in missing {
            write_batch.put(Table::Meta, Key::from_slice(key), &(now, self.active));
        }
        self.commit(CommitTarget::State, write_batch)
    }
}
