//! Merges the ids of several partitions into one list, oldest first.
//!
//! Invariant: ids ascend strictly. Partitions, slices and snapshots are handled as by `newest_first`.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::Table;
use crate::store::partitions::set::{Partition, PartitionSet};

/// Number of keys that one slice reads from a partition.
const SLICE_KEYS: usize = 64;

/// The ids of a list, over all partitions, oldest first.
pub struct OldestFirst<'a> {
    partition_set: &'a PartitionSet,
    sources: Vec<RisingCursor>,
}

struct RisingCursor {
    partition: Arc<Partition>,
    table: Table,
    prefix: Vec<u8>,
    snapshot: Option<Snapshot>,
    /// Ids read ahead, in ascending order.
    ready: VecDeque<u128>,
    /// Ids below this one have been read or cannot exist.
    from: u128,
    done: bool,
}

impl<'a> OldestFirst<'a> {
    /// The ids from `from` on. `source` names the table and the prefix for the partition that begins with an id.
    pub fn by<'s>(
        partition_set: &'a PartitionSet,
        source: impl Fn(u128) -> (Table, &'s [u8]),
        from: u128,
    ) -> OldestFirst<'a> {
        let partitions = partition_set.partitions().into_iter();
        let may_have = |partition: &Arc<Partition>| partition.row().last.is_none_or(|last| last >= from);
        let sources = partitions.filter(may_have).map(|partition| {
            let (table, prefix) = source(partition.first);
            RisingCursor {
                from: partition.first.max(from),
                partition,
                table,
                prefix: prefix.to_vec(),
                snapshot: None,
                ready: VecDeque::new(),
                done: false,
            }
        });
        OldestFirst { sources: sources.collect(), partition_set }
    }

    /// The next id and the snapshot of the partition that has it.
    pub fn next_id(&mut self) -> Result<Option<(u128, &Snapshot)>> {
        loop {
            let oldest = self.sources.iter().enumerate().filter(|(_, s)| !(s.done && s.ready.is_empty()));
            let Some((at, _)) =
                oldest.min_by_key(|(_, s)| (s.ready.front().copied().unwrap_or(s.from), s.ready.is_empty()))
            else {
                return Ok(None);
            };
            if self.sources[at].ready.is_empty() {
                self.read_ahead(at)?;
                continue;
            }
            let source = &mut self.sources[at];
            let id = source.ready.pop_front();
            return Ok(id.zip(source.snapshot.as_ref()));
        }
    }

    fn read_ahead(&mut self, at: usize) -> Result<()> {
        let source = &mut self.sources[at];
        // The old snapshot is dropped first: a thread that waits for the file to be released holds its lock.
        source.snapshot = None;
        let snapshot = source.snapshot.insert(self.partition_set.snapshot(&source.partition)?);
        let from = [source.prefix.as_slice(), &source.from.to_be_bytes()].concat();
        let to = [source.prefix.as_slice(), &[0xff; 16]].concat();
        let ready = &mut source.ready;
        snapshot.scan(source.table, (Bound::Included(&from), Bound::Included(&to)), Direction::Up, |key, _| {
            ready.extend(key.last_chunk::<16>().map(|id| u128::from_be_bytes(*id)));
            Ok(if ready.len() < SLICE_KEYS { ScanStep::Go } else { ScanStep::Stop })
        })?;
        source.done = source.ready.len() < SLICE_KEYS;
        source.from = source.ready.back().map_or(u128::MAX, |last| last.saturating_add(1));
        if source.ready.is_empty() {
            source.snapshot = None;
        }
        Ok(())
    }
}
