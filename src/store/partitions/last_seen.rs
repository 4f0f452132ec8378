//! The last time that the store knows of. With it, a start after an idle time does not take a right clock for a wrong
//! one.
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
/// Key in `meta` of `state.redb`: time of the greatest id when an operator accepted the clock last. Ids up to it say nothing
/// about the clock.
const IDS_AHEAD_KEY: &[u8] = b"ids_ahead";
/// Time between two writes.
const WRITE_EVERY_MS: i64 = HOUR_MS;

/// The stored time. `None` if none was stored.
pub(in crate::store) fn stored(partition_set: &PartitionSet) -> Result<Option<Time>> {
    meta(partition_set, LAST_SEEN_KEY)
}

/// Time of the greatest id when the clock was accepted last. `None` if it never was.
pub(in crate::store) fn ids_ahead(partition_set: &PartitionSet) -> Result<Option<Time>> {
    meta(partition_set, IDS_AHEAD_KEY)
}

fn meta(partition_set: &PartitionSet, key: &[u8]) -> Result<Option<Time>> {
    let state = partition_set.state()?.snapshot()?;
    Ok(state.get(Table::Meta, key, codec::decode::<Time>)?.flatten())
}

/// Forgets the stored time, and records that ids up to `newest` say nothing about the clock: an operator accepted it.
pub(in crate::store) fn forget(write_batch: &mut WriteBatch, newest: Time) {
    write_batch.remove(Table::Meta, Key::from_slice(LAST_SEEN_KEY));
    write_batch.put(Table::Meta, Key::from_slice(IDS_AHEAD_KEY), &newest);
}

/// The later of the stored time and the time of the newest id. `None` if the store has no partition yet.
///
/// The stored time alone may be an hour old. A start that believed it would delay every due delivery by that hour. An
/// id that was ahead of the clock when an operator accepted the clock does not count.
pub(in crate::store) fn last_seen(partition_set: &PartitionSet) -> Option<Time> {
    let newest = partition_set.partitions().pop()?;
    let id = EventId::from_u128(partition_set.newest().as_u128().max(newest.first)).time();
    let ahead = ids_ahead(partition_set).ok().flatten();
    Some(id).filter(|id| ahead.is_none_or(|ahead| *id > ahead)).max(stored(partition_set).ok().flatten())
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
