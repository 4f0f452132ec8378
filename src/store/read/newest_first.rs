//! Merges the ids of several partitions into one list, newest first.
//!
//! Invariant: ids descend strictly. A partition is opened only when its newest possible id is reached. Its keys are read a
//! slice at a time, so the cost of a page follows the rows it shows. A snapshot lives for one slice: a longer one would block
//! the reopening of the file and the reuse of freed pages.

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

/// The ids under one prefix of one table, over all partitions, newest first.
pub struct NewestFirst<'a> {
    partition_set: &'a PartitionSet,
    table: Table,
    prefix: Vec<u8>,
    sources: Vec<PartitionCursor>,
}

struct PartitionCursor {
    partition: Arc<Partition>,
    snapshot: Option<Snapshot>,
    /// Ids read ahead, in descending order.
    ready: VecDeque<u128>,
    /// Ids at and above this one have been read or cannot exist.
    below: u128,
    done: bool,
}

impl<'a> NewestFirst<'a> {
    /// Ids below `before`. In `Table::Events` a partition ends where the next one begins. Other tables may contain
    /// later ids.
    pub fn below(partition_set: &'a PartitionSet, table: Table, prefix: &[u8], before: u128) -> NewestFirst<'a> {
        let partitions = partition_set.partitions();
        let ends = partitions.iter().skip(1).map(|next| next.first).chain([u128::MAX]);
        let sources =
            partitions.iter().zip(ends).filter(|(partition, _)| partition.first < before).map(|(partition, end)| {
                let top = if table == Table::Events {
                    end
                } else {
                    partition.row().last.map_or(u128::MAX, |last| last.saturating_add(1))
                };
                PartitionCursor {
                    partition: partition.clone(),
                    snapshot: None,
                    ready: VecDeque::new(),
                    below: top.min(before),
                    done: false,
                }
            });
        NewestFirst { partition_set, table, prefix: prefix.to_vec(), sources: sources.collect() }
    }

    /// The same list without the partitions whose first id `wanted` refuses.
    #[must_use]
    pub fn only(mut self, wanted: impl Fn(u128) -> bool) -> NewestFirst<'a> {
        self.sources.retain(|source| wanted(source.partition.first));
        self
    }

    /// The next id and the snapshot of the partition that has it.
    pub fn next_id(&mut self) -> Result<Option<(u128, &Snapshot)>> {
        loop {
            let newest = self.sources.iter().enumerate().filter(|(_, s)| !(s.done && s.ready.is_empty()));
            let Some((at, _)) =
                newest.max_by_key(|(_, s)| (s.ready.front().copied().unwrap_or(s.below), !s.ready.is_empty()))
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
        let from = [self.prefix.as_slice(), &[0; 16]].concat();
        let to = [self.prefix.as_slice(), &source.below.to_be_bytes()].concat();
        let ready = &mut source.ready;
        snapshot.scan(self.table, (Bound::Included(&from), Bound::Excluded(&to)), Direction::Down, |key, _| {
            ready.extend(key.last_chunk::<16>().map(|id| u128::from_be_bytes(*id)));
            Ok(if ready.len() < SLICE_KEYS { ScanStep::Go } else { ScanStep::Stop })
        })?;
        source.done = source.ready.len() < SLICE_KEYS;
        source.below = source.ready.back().copied().unwrap_or(0);
        if source.ready.is_empty() {
            source.snapshot = None;
        }
        Ok(())
    }
}
