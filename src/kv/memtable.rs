//! What the latest batches changed in the active partition and redb does not have yet: durable in the journal, read from
//! memory, and given to redb many batches at once.
//!
//! Most of what a batch writes is changed or removed again within moments: a delivery becomes delivered, its due entry goes.
//! Gathered, that costs redb one row where it would be three changes, and its pages are touched once for many batches.
//!
//! Invariant: a view never changes. A layer is changed only while no view holds it; else the next batch becomes a layer of
//! its own. A newer layer goes before an older one, all of them before those that are leaving, and those before the file.

use std::collections::btree_map::Range;
use std::ops::Bound;
use std::sync::Arc;

use crate::kv::snapshot::Direction;
use crate::kv::tables::{Key, TABLES, Table};
use crate::kv::write_batch::Changes;

/// Each layer is one more place to look for a row.
const LAYERS_MAX: usize = 8;
/// A layer is merged into one that is at most this many times larger, so that a row is moved only a few times.
const MERGED_INTO_TIMES: usize = 4;

/// Changes by table.
pub type Layer = [Changes; TABLES];

#[derive(Debug, Default)]
pub struct MemTable {
    /// What is being given to redb, oldest first.
    frozen: Vec<Arc<Layer>>,
    /// What came after, oldest first.
    layers: Vec<Arc<Layer>>,
    /// Rises whenever layers were given to redb: what was read of redb before belongs to the layers before.
    pub generation: u64,
}

impl MemTable {
    /// Takes in a batch.
    pub fn insert(&mut self, changes: Layer) {
        match self.layers.last_mut().and_then(Arc::get_mut) {
            Some(newest) => extend(newest, changes),
            None => self.layers.push(Arc::new(changes)),
        }
        self.merge();
    }

    /// Merges the newest layers that nobody looks at any more.
    fn merge(&mut self) {
        while let [.., older, newer] = self.layers.as_mut_slice()
            && (rows(newer) * MERGED_INTO_TIMES >= rows(older))
            && let (Some(older), Some(newer)) = (Arc::get_mut(older), Arc::get_mut(newer))
        {
            extend(older, std::mem::take(newer));
            self.layers.pop();
        }
    }

    /// Whether there are so many layers that reading suffers.
    pub fn has_many_layers(&self) -> bool {
        self.layers.len() > LAYERS_MAX
    }

    pub fn is_frozen(&self) -> bool {
        !self.frozen.is_empty()
    }

    /// Sets apart what is here, to be given to redb while more comes. What was set apart before must have been given.
    pub fn freeze(&mut self) {
        debug_assert!(self.frozen.is_empty(), "two portions at once could be given in the wrong order");
        self.frozen = std::mem::take(&mut self.layers);
    }

    /// What is to be given to redb.
    pub fn frozen(&self) -> MemTableView {
        MemTableView { layers: self.frozen.clone() }
    }

    /// Forgets what was set apart: redb has it.
    pub fn flushed(&mut self) {
        self.frozen.clear();
        self.generation += 1;
    }

    pub fn view(&self) -> MemTableView {
        MemTableView { layers: self.frozen.iter().chain(&self.layers).cloned().collect() }
    }

    /// Forgets everything: redb has it.
    pub fn clear(&mut self) {
        self.layers.clear();
        self.flushed();
    }
}

fn extend(layer: &mut Layer, newer: Layer) {
    layer.iter_mut().zip(newer).for_each(|(of_table, more)| of_table.extend(more));
}

fn rows(layer: &Layer) -> usize {
    layer.iter().map(Changes::len).sum()
}

/// The layers as they were at one moment.
#[derive(Debug, Default)]
pub struct MemTableView {
    layers: Vec<Arc<Layer>>,
}

impl MemTableView {
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// What became of the row at `key`; none: redb knows.
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.layers.iter().rev().find_map(|layer| layer[table as usize].get(key)).map(Option::as_deref)
    }

    /// All changes to a table between two keys, one way or the other, each key once: its newest change.
    pub fn range(&self, table: Table, bounds: (Bound<&[u8]>, Bound<&[u8]>), way: Direction) -> MergedChanges<'_> {
        let of_layers =
            self.layers.iter().rev().map(|layer| LayerCursor::new(layer[table as usize].range::<[u8], _>(bounds), way));
        MergedChanges { way, newest_first: of_layers.filter(|source| source.head.is_some()).collect() }
    }
}

type Entry<'a> = (&'a Key, &'a Option<Vec<u8>>);

/// One layer's changes, the next one at hand.
struct LayerCursor<'a> {
    head: Option<Entry<'a>>,
    rest: Range<'a, Key, Option<Vec<u8>>>,
}

impl<'a> LayerCursor<'a> {
    fn new(rest: Range<'a, Key, Option<Vec<u8>>>, way: Direction) -> LayerCursor<'a> {
        let mut source = LayerCursor { head: None, rest };
        source.step(way);
        source
    }

    fn step(&mut self, way: Direction) -> Option<Entry<'a>> {
        let next = match way {
            Direction::Up => self.rest.next(),
            Direction::Down => self.rest.next_back(),
        };
        std::mem::replace(&mut self.head, next)
    }
}

/// Changes of several layers in the order of their keys.
pub struct MergedChanges<'a> {
    way: Direction,
    newest_first: Vec<LayerCursor<'a>>,
}

impl<'a> Iterator for MergedChanges<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let keys = self.newest_first.iter().filter_map(|source| source.head.map(|(key, _)| key));
        let first = match self.way {
            Direction::Up => keys.min(),
            Direction::Down => keys.max(),
        }?;
        let mut found = None;
        for source in &mut self.newest_first {
            if source.head.is_some_and(|(key, _)| key == first) {
                let newest = source.step(self.way);
                found = found.or(newest);
            }
        }
        found.map(|(key, value)| (key.as_slice(), value.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(changes: &[(u8, Option<u8>)]) -> Layer {
        let mut layer: Layer = std::array::from_fn(|_| Changes::new());
        layer[Table::Due as usize] =
            changes.iter().map(|(key, value)| (Key::from_slice(&[*key]), value.map(|v| vec![v]))).collect();
        layer
    }

    fn shown(view: &MemTableView, way: Direction) -> Vec<(u8, Option<u8>)> {
        let all = view.range(Table::Due, (Bound::Unbounded, Bound::Unbounded), way);
        all.map(|(key, value)| (key[0], value.map(|v| v[0]))).collect()
    }

    #[test]
    fn the_newest_change_to_a_row_is_the_one_that_counts_both_ways() {
        let mut memtable = MemTable::default();
        let mut held = Vec::new();
        for changes in
            [&[(1, Some(1)), (3, Some(1)), (5, Some(1))][..], &[(2, Some(2)), (3, None)], &[(3, Some(3)), (5, None)]]
        {
            memtable.insert(layer(changes));
            held.push(memtable.view());
        }
        let expected = [(1, Some(1)), (2, Some(2)), (3, Some(3)), (5, None)];
        let view = memtable.view();
        assert_eq!(shown(&view, Direction::Up), expected);
        assert_eq!(shown(&view, Direction::Down), expected.into_iter().rev().collect::<Vec<_>>());
        assert_eq!((view.get(Table::Due, &[3]), view.get(Table::Due, &[5])), (Some(Some(&[3][..])), Some(None)));
        assert_eq!((view.get(Table::Due, &[4]), view.get(Table::Queue, &[3])), (None, None));
        // What was looked at before has not moved.
        assert_eq!(shown(&held[0], Direction::Up), [(1, Some(1)), (3, Some(1)), (5, Some(1))]);
        assert_eq!(shown(&held[1], Direction::Up), [(1, Some(1)), (2, Some(2)), (3, None), (5, Some(1))]);
    }

    #[test]
    fn batches_share_a_layer_unless_somebody_looks() {
        let mut memtable = MemTable::default();
        (0..50).for_each(|n| memtable.insert(layer(&[(n, Some(0))])));
        assert_eq!(memtable.layers.len(), 1);
        let views: Vec<MemTableView> = (0..=LAYERS_MAX as u8)
            .map(|n| {
                memtable.insert(layer(&[(n, None)]));
                memtable.view()
            })
            .collect();
        assert!(memtable.has_many_layers());
        assert_eq!(shown(&views[0], Direction::Up)[0], (0, None));
        // Once nobody looks they become few again, and say the same.
        let before = shown(&memtable.view(), Direction::Up);
        drop(views);
        memtable.insert(layer(&[]));
        assert!(!memtable.has_many_layers());
        assert_eq!(shown(&memtable.view(), Direction::Up), before);
    }

    #[test]
    fn what_comes_while_rows_are_leaving_goes_before_them_and_stays() {
        let mut memtable = MemTable::default();
        memtable.insert(layer(&[(1, Some(1)), (2, Some(1))]));
        memtable.freeze();
        memtable.insert(layer(&[(2, None), (3, Some(2))]));
        assert_eq!(shown(&memtable.view(), Direction::Up), [(1, Some(1)), (2, None), (3, Some(2))]);
        assert_eq!(shown(&memtable.frozen(), Direction::Up), [(1, Some(1)), (2, Some(1))]);
        let (held, generation) = (memtable.view(), memtable.generation);
        memtable.flushed();
        assert!(memtable.generation > generation && !memtable.is_frozen());
        assert_eq!(shown(&memtable.view(), Direction::Up), [(2, None), (3, Some(2))]);
        assert_eq!(shown(&held, Direction::Up)[0], (1, Some(1)));
        memtable.clear();
        assert!(memtable.view().is_empty());
    }

    #[test]
    fn a_range_ends_where_it_should() {
        let mut memtable = MemTable::default();
        memtable.insert(layer(&[(1, Some(0)), (2, None), (4, Some(0))]));
        let view = memtable.view();
        let keys = |bounds, way| view.range(Table::Due, bounds, way).map(|(key, _)| key[0]).collect::<Vec<_>>();
        assert_eq!(keys((Bound::Excluded(&[1][..]), Bound::Included(&[4][..])), Direction::Down), [4, 2]);
        assert_eq!(keys((Bound::Included(&[1][..]), Bound::Excluded(&[4][..])), Direction::Up), [1, 2]);
    }
}
