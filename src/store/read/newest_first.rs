//! Merges the ids of several partitions into one list, newest first.
//!
//! Invariant: ids descend strictly. A partition is opened only when its newest possible id is reached. Its keys are read a
//! slice at a time, so the cost of a page follows the rows it shows. A snapshot lives for one slice: a longer one would block
//! the reopening of the file and the reuse of freed pages.

use std::collections::{BinaryHeap, VecDeque};
use std::ops::{Bound, Range};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::model::{Attempt, AttemptFront};

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::Table;
use crate::store::partitions::set::{Partition, PartitionSet};
use crate::store::read::lookup::{attempt_in, decoded};

/// Number of keys that one slice reads from a partition, over all prefixes.
const SLICE_KEYS: usize = 64;
/// Number of keys that one slice reads of one prefix, at least.
const PREFIX_KEYS_MIN: usize = 4;

/// The ids of a list, over all partitions, newest first.
pub struct NewestFirst<'a> {
    partition_set: &'a PartitionSet,
    sources: Vec<PartitionCursor>,
    /// The sources that are not at their end, by their next id, or the id below which they are to be read.
    next: BinaryHeap<(u128, bool, usize)>,
}

/// An id of the list, and the partition that has it.
pub struct ListedId<'a> {
    pub id: u128,
    pub snapshot: &'a Snapshot,
    /// The table that was read, if the list is one of rows, and the row.
    read: Option<(Table, &'a [u8])>,
}

impl ListedId<'_> {
    /// The row of the id in `table`. `None` if there is none. It is looked up, unless the list has read it.
    pub fn row<T: DeserializeOwned>(&self, table: Table) -> Result<Option<T>> {
        let key = self.id.to_be_bytes();
        match self.read {
            Some((read, bytes)) if read == table => {
                codec::decode(bytes).map(Some).ok_or_else(|| self.snapshot.damaged(table, &key))
            }
            _ => decoded(self.snapshot, table, &key),
        }
    }

    /// Shows the bytes of the attempt of the id to `read`, which gives `None` if they are damaged. `None` if there is none.
    pub fn read_attempt<T>(&self, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<Option<T>> {
        let key = self.id.to_be_bytes();
        let made = match self.read {
            Some((Table::Attempts, bytes)) => Some(read(bytes)),
            _ => self.snapshot.get(Table::Attempts, &key, read)?,
        };
        made.map(|made| made.ok_or_else(|| self.snapshot.damaged(Table::Attempts, &key))).transpose()
    }

    /// The attempt of the id if `wanted` accepts its front.
    pub fn attempt(&self, wanted: impl FnOnce(&AttemptFront<'_>) -> bool) -> Result<Option<Attempt>> {
        Ok(self.read_attempt(|row| attempt_in(row, wanted))?.flatten())
    }
}

struct PartitionCursor {
    partition: Arc<Partition>,
    table: Table,
    prefix: Vec<u8>,
    /// Number of keys that one slice reads.
    slice_keys: usize,
    snapshot: Option<Snapshot>,
    /// Ids read ahead, in descending order, each with the place of its row in `bytes`.
    ready: VecDeque<(u128, Range<usize>)>,
    /// The rows that were read ahead, one after another. Empty for an index.
    bytes: Vec<u8>,
    /// Ids at and above this one have been read or cannot exist.
    below: u128,
    done: bool,
}

impl PartitionCursor {
    /// The next id of this source, which stands at `at`, and whether it was read ahead. `None` at its end.
    fn next(&self, at: usize) -> Option<(u128, bool, usize)> {
        match self.ready.front() {
            Some((id, _)) => Some((*id, true, at)),
            None => (!self.done).then_some((self.below, false, at)),
        }
    }
}

impl<'a> NewestFirst<'a> {
    /// Ids below `before` under one prefix of one table.
    pub fn below(partition_set: &'a PartitionSet, table: Table, prefix: &[u8], before: u128) -> NewestFirst<'a> {
        NewestFirst::by(partition_set, |_| (table, prefix), before)
    }

    /// Ids below `before`. `source` names the table and the prefix for the partition that begins with an id. In tables of
    /// events a partition ends where the next one begins. Other tables may contain later ids.
    pub fn by<'s>(
        partition_set: &'a PartitionSet,
        source: impl Fn(u128) -> (Table, &'s [u8]),
        before: u128,
    ) -> NewestFirst<'a> {
        NewestFirst::by_all(partition_set, |first| vec![source(first)], before)
    }

    /// Like `by`, with several tables and prefixes for each partition. No two of them may have an id in common.
    pub fn by_all<'s>(
        partition_set: &'a PartitionSet,
        sources: impl Fn(u128) -> Vec<(Table, &'s [u8])>,
        before: u128,
    ) -> NewestFirst<'a> {
        let partitions = partition_set.partitions();
        let ends = partitions.iter().skip(1).map(|next| next.first).chain([u128::MAX]);
        let mut cursors = Vec::new();
        for (partition, end) in partitions.iter().zip(ends).filter(|(partition, _)| partition.first < before) {
            let sources = sources(partition.first);
            let slice_keys = (SLICE_KEYS / sources.len().max(1)).max(PREFIX_KEYS_MIN);
            for (table, prefix) in sources {
                let top = if matches!(table, Table::Events | Table::EventsByApp) {
                    end
                } else {
                    partition.row().last.map_or(u128::MAX, |last| last.saturating_add(1))
                };
                cursors.push(PartitionCursor {
                    partition: partition.clone(),
                    table,
                    prefix: prefix.to_vec(),
                    slice_keys,
                    snapshot: None,
                    ready: VecDeque::new(),
                    bytes: Vec::new(),
                    below: top.min(before),
                    done: false,
                });
            }
        }
        NewestFirst::over(partition_set, cursors)
    }

    fn over(partition_set: &'a PartitionSet, sources: Vec<PartitionCursor>) -> NewestFirst<'a> {
        let next = sources.iter().enumerate().filter_map(|(at, source)| source.next(at)).collect();
        NewestFirst { partition_set, sources, next }
    }

    /// Leaves out the partitions whose first id `wanted` refuses.
    #[must_use]
    pub fn only(self, wanted: impl Fn(u128) -> bool) -> NewestFirst<'a> {
        let sources = self.sources.into_iter().filter(|source| wanted(source.partition.first));
        NewestFirst::over(self.partition_set, sources.collect())
    }

    /// The next id and the snapshot of the partition that has it.
    pub fn next_id(&mut self) -> Result<Option<(u128, &Snapshot)>> {
        Ok(self.next_listed()?.map(|listed| (listed.id, listed.snapshot)))
    }

    /// The next id, with its row if the list is one of rows.
    pub fn next_listed(&mut self) -> Result<Option<ListedId<'_>>> {
        loop {
            let Some((_, is_ready, at)) = self.next.pop() else { return Ok(None) };
            if !is_ready {
                self.read_ahead(at)?;
                self.next.extend(self.sources[at].next(at));
                continue;
            }
            let source = &mut self.sources[at];
            let table = source.table;
            let ready = source.ready.pop_front();
            self.next.extend(source.next(at));
            let ready = ready.zip(source.snapshot.as_ref());
            return Ok(ready.map(|((id, place), snapshot)| {
                let read = is_of_rows(table).then(|| (table, &source.bytes[place]));
                ListedId { id, snapshot, read }
            }));
        }
    }

    fn read_ahead(&mut self, at: usize) -> Result<()> {
        let source = &mut self.sources[at];
        // The old snapshot is dropped first: a thread that waits for the file to be released holds its lock.
        source.snapshot = None;
        let snapshot = source.snapshot.insert(self.partition_set.snapshot(&source.partition)?);
        let from = [source.prefix.as_slice(), &[0; 16]].concat();
        let to = [source.prefix.as_slice(), &source.below.to_be_bytes()].concat();
        let slice_keys = source.slice_keys;
        let (table, ready, bytes) = (source.table, &mut source.ready, &mut source.bytes);
        let is_of_rows = is_of_rows(table);
        bytes.clear();
        snapshot.scan(table, (Bound::Included(&from), Bound::Excluded(&to)), Direction::Down, |key, value| {
            let begin = bytes.len();
            if is_of_rows {
                bytes.extend_from_slice(value);
            }
            ready.extend(key.last_chunk::<16>().map(|id| (u128::from_be_bytes(*id), begin..bytes.len())));
            Ok(if ready.len() < slice_keys { ScanStep::Go } else { ScanStep::Stop })
        })?;
        source.done = source.ready.len() < slice_keys;
        source.below = source.ready.back().map_or(0, |(id, _)| *id);
        if source.ready.is_empty() {
            source.snapshot = None;
        }
        Ok(())
    }
}

/// Whether the table has rows by their id. Others are indexes, whose keys end with one.
const fn is_of_rows(table: Table) -> bool {
    matches!(table, Table::Events | Table::Deliveries | Table::Attempts)
}
