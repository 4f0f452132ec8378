//! The greatest id that retention has dropped. Ids of later rows are above it, also when the clock was set back meanwhile.
//!
//! Reason: a partition that is no longer written to may contain the newest ids, because late attempts are recorded beside
//! their event. A reader of attempts may have been given a cursor behind them.

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{Key, Table};
use crate::kv::write_batch::WriteBatch;

/// Key in `meta` of `state.redb`. Older stores lack the row.
const LAST_DROPPED_KEY: &[u8] = b"last_dropped";

/// Stores `last` of a partition that is dropped by this batch, unless a greater id was dropped before.
pub(in crate::store) fn store_greatest(write_batch: &mut WriteBatch, last: u128) -> Result<()> {
    let known = write_batch.get::<u128>(Table::Meta, LAST_DROPPED_KEY)?;
    if known.is_none_or(|known| known < last) {
        write_batch.put(Table::Meta, Key::from_slice(LAST_DROPPED_KEY), &last);
    }
    Ok(())
}

/// The greatest id that was dropped, 0 if none was.
pub(in crate::store) fn stored(state: &Snapshot) -> Result<u128> {
    Ok(state.get(Table::Meta, LAST_DROPPED_KEY, codec::decode::<u128>)?.flatten().unwrap_or(0))
}
