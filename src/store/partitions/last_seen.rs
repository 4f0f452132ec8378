//! The last time that the store knows of. It keeps a start after a quiet time from being taken for a wrong clock.
//!
//! Invariant: the row is written from a trusted clock only, at most once in `WRITE_EVERY_MS`.

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::tables::{Key, Table};
use crate::kv::write_batch::WriteBatch;
use crate::model::Time;
use crate::model::id::EventId;
use crate::model::time::HOUR_MS;

use crate::store::commit::CommitTarget;
use crate::store::partitions::set::PartitionSet;
use crate::store::writer::Writer;

/// Key in `meta` of `state.redb`. Older stores lack the row.
const LAST_SEEN_KEY: &[u8] = b"last_seen";
/// Time between two writes.
const WRITE_EVERY_MS: i64 = HOUR_MS;

/// The stored time. `None` if none was stored.
pub(in crate::store) fn stored(partition_set: &PartitionSet) -> Result<Option<Time>> {
    let state = partition_set.state()?.snapshot()?;
    Ok(state.get(Table::Meta, LAST_SEEN_KEY, codec::decode::<Time>)?.flatten())
}

/// The later of the stored time and that of the newest id. `None` if the store has no partition yet. The stored time alone
/// may be an hour old, and a start that believes it would delay everything by that.
pub(in crate::store) fn last_seen(partition_set: &PartitionSet) -> Option<Time> {
    let newest = partition_set.partitions().pop()?;
    let id = partition_set.newest().as_u128().max(newest.first);
    Some(EventId::from_u128(id).time()).max(stored(partition_set).ok().flatten())
}

impl Writer {
    /// Stores `now`, unless it was stored lately.
    pub(in crate::store) fn store_last_seen(&mut self, now: Time) -> Result<()> {
        if (0..WRITE_EVERY_MS).contains(&now.since(self.last_seen)) {
            return Ok(());
        }
        let mut write_batch = WriteBatch::on(self.partition_set.state()?.snapshot()?);
        write_batch.put(Table::Meta, Key::from_slice(LAST_SEEN_KEY), &now);
        self.commit(CommitTarget::State, write_batch)?;
        self.last_seen = now;
        Ok(())
    }
}
