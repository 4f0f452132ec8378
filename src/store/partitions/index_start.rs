//! The start of an index that a later version added: rows that an earlier version wrote have no entries in it.
//!
//! Invariant: in partitions after the stored one, every row has its entries. In the stored partition and those before
//! it, every row since the stored time has them. The time of a failed delivery is its end.

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::tables::{Key, Table};
use crate::kv::write_batch::WriteBatch;
use crate::model::Time;

use crate::store::commit::CommitTarget;
use crate::store::partitions::set::PartitionSet;
use crate::store::writer::Writer;

/// An index that a later version added. `key` is the key of its start in `meta` of `state.redb`. A store of an earlier
/// version lacks that row until its first round of maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum LaterIndex {
    FailedDeliveries,
    /// The counts of event types.
    EventTypes,
    EventsByApp,
    /// The webhooks that an app had.
    RemovedWebhooks,
}

impl LaterIndex {
    pub const ALL: [LaterIndex; 4] =
        [LaterIndex::FailedDeliveries, LaterIndex::EventTypes, LaterIndex::EventsByApp, LaterIndex::RemovedWebhooks];

    pub const fn key(self) -> &'static [u8] {
        match self {
            LaterIndex::FailedDeliveries => b"failed_since",
            LaterIndex::EventTypes => b"types_since",
            LaterIndex::EventsByApp => b"apps_since",
            LaterIndex::RemovedWebhooks => b"removed_since",
        }
    }
}

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

    /// Whether a partition may have rows without index entries.
    pub const fn lacks_entries(&self, first: u128) -> bool {
        first <= self.partition
    }
}

/// The stored start of an index. Without a row no partition counts as complete.
pub(in crate::store) fn stored(partition_set: &PartitionSet, index: LaterIndex) -> Result<IndexStart> {
    Ok(row(partition_set, index)?.unwrap_or(IndexStart { at: Time::MAX, partition: u128::MAX }))
}

fn row(partition_set: &PartitionSet, index: LaterIndex) -> Result<Option<IndexStart>> {
    let state = partition_set.state()?.snapshot()?;
    let row = state.get(Table::Meta, index.key(), codec::decode::<(Time, u128)>)?.flatten();
    Ok(row.map(|(at, partition)| IndexStart { at, partition }))
}

impl Writer {
    /// Stores the start for a store of an earlier version. All partitions so far may lack entries.
    pub(in crate::store) fn store_index_start(&mut self, now: Time) -> Result<()> {
        let mut missing = Vec::new();
        for index in LaterIndex::ALL {
            if row(&self.partition_set, index)?.is_none() {
                missing.push(index);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut write_batch = WriteBatch::on(self.partition_set.state()?.snapshot()?);
        for index in missing {
            write_batch.put(Table::Meta, Key::from_slice(index.key()), &(now, self.active));
        }
        self.commit(CommitTarget::State, write_batch)
    }
}
