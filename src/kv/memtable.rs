//! The memtable of a segment: changes that are durable in the write-ahead log and not in redb yet.
//!
//! Most changes of a batch are changed or removed again within moments: a delivery becomes delivered, its due entry
//! disappears. Gathered in memory they cost redb one row instead of three changes, and one visit of a page for many
//! batches.
//!
//! Invariant: a view never changes. A batch goes into the newest layer only while no view holds that layer. Otherwise
//! it becomes a layer of its own. Lookup order: newest layer first, then frozen layers, then redb.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;
use std::sync::Arc;

use crate::kv::scan::Direction;
use crate::kv::tables::{Key, TABLES, Table};

/// Layers above which a flush is due: each layer is one more lookup.
const LAYERS_MAX: usize = 8;
/// A layer is merged into one that is at most this many times larger, so that a row moves only a few times.
const MERGED_INTO_TIMES: usize = 4;

/// New values by key. `None` removes the row.
pub type Changes = BTreeMap<Key, Option<Vec<u8>>>;

/// Changes by table.
pub type Layer = [Changes; TABLES];

/// The changes of a segment that redb does not have yet, in layers.
#[derive(Debug, Default)]
pub struct MemTable {
    /// Layers that a flush is writing, oldest first.
    frozen: Vec<Arc<Layer>>,
    /// Layers after the frozen ones, oldest first.
    layers: Vec<Arc<Layer>>,
    /// Rises with every flush. A redb read transaction from before a flush belongs to the layers from before it.
    pub generation: u64,
}

impl MemTable {
    /// Adds a batch.
    pub fn insert(&mut self, changes: Layer) {
        match self.layers.last_mut().and_then(Arc::get_mut) {
            Some(newest) => extend(newest, changes),
            None => self.layers.push(Arc::new(changes)),
        }
        self.merge();
    }

    /// Merges the newest layers that no view holds.
    fn merge(&mut self) {
        while let [.., older, newer] = self.layers.as_mut_slice()
            && (rows(newer) * MERGED_INTO_TIMES >= rows(older))
            && let (Some(older), Some(newer)) = (Arc::get_mut(older), Arc::get_mut(newer))
        {
            extend(older, std::mem::take(newer));
            self.layers.pop();
        }
    }

    /// Whether there are so many layers that reads slow down.
    pub fn has_many_layers(&self) -> bool {
        self.layers.len() > LAYERS_MAX
    }

    pub fn is_frozen(&self) -> bool {
        !self.frozen.is_empty()
    }

    /// Freezes the current layers for the next flush. The layers frozen before must have been flushed.
    pub fn freeze(&mut self) {
        debug_assert!(self.frozen.is_empty(), "two portions at once could be given in the wrong order");
        self.frozen = std::mem::take(&mut self.layers);
    }

    /// The frozen layers.
    pub fn frozen(&self) -> MemTableView {
        MemTableView { layers: self.frozen.clone() }
    }

    /// Drops the frozen layers, which redb has now.
    pub fn flushed(&mut self) {
        self.frozen.clear();
        self.generation += 1;
    }

    /// A view of all layers as they are now.
    pub fn view(&self) -> MemTableView {
        MemTableView { layers: self.frozen.iter().chain(&self.layers).cloned().collect() }
    }

    /// Drops all layers, which redb has now.
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

/// An unchanging view of the layers.
#[derive(Debug, Default)]
pub struct MemTableView {
    layers: Vec<Arc<Layer>>,
}

impl MemTableView {
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The newest change of the row at `key`: its value, or `Some(None)` if it was removed. `None` if redb has the
    /// answer.
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.layers.iter().rev().find_map(|layer| layer[table as usize].get(key)).map(Option::as_deref)
    }

    /// The newest change of every key in a range of a table, in either direction.
    pub fn range(&self, table: Table, bounds: (Bound<&[u8]>, Bound<&[u8]>), direction: Direction) -> MergedChanges<'_> {
        let of_layers = self
            .layers
            .iter()
            .rev()
            .map(|layer| LayerCursor::new(layer[table as usize].range::<[u8], _>(bounds), direction));
        MergedChanges { direction, newest_first: of_layers.filter(|source| source.head.is_some()).collect() }
    }
}

type Entry<'a> = (&'a Key, &'a Option<Vec<u8>>);

/// A cursor over the changes of one layer.
struct LayerCursor<'a> {
    head: Option<Entry<'a>>,
    rest: Range<'a, Key, Option<Vec<u8>>>,
}

impl<'a> LayerCursor<'a> {
    fn new(rest: Range<'a, Key, Option<Vec<u8>>>, direction: Direction) -> LayerCursor<'a> {
        let mut source = LayerCursor { head: None, rest };
        source.step(direction);
        source
    }

    fn step(&mut self, direction: Direction) -> Option<Entry<'a>> {
        let next = match direction {
            Direction::Up => self.rest.next(),
            Direction::Down => self.rest.next_back(),
        };
        std::mem::replace(&mut self.head, next)
    }
}

/// Changes of several layers, merged in the order of their keys.
pub struct MergedChanges<'a> {
    direction: Direction,
    newest_first: Vec<LayerCursor<'a>>,
}

impl<'a> Iterator for MergedChanges<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let keys = self.newest_first.iter().filter_map(|source| source.head.map(|(key, _)| key));
        let first = match self.direction {
            Direction::Up => keys.min(),
            Direction::Down => keys.max(),
        }?;
        let mut found = None;
        for source in &mut self.newest_first {
            if source.head.is_some_and(|(key, _)| key == first) {
                let newest = source.step(self.direction);
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

    fn shown(view: &MemTableView, direction: Direction) -> Vec<(u8, Option<u8>)> {
        let all = view.range(Table::Due, (Bound::Unbounded, Bound::Unbounded), direction);
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
        // The earlier views have not changed.
        assert_eq!(shown(&held[0], Direction::Up), [(1, Some(1)), (3, Some(1)), (5, Some(1))]);
        assert_eq!(shown(&held[1], Direction::Up), [(1, Some(1)), (2, Some(2)), (3, None), (5, Some(1))]);
    }

    #[test]
    fn batches_share_a_layer_unless_a_view_holds_it() {
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
        // Once no view holds them, the layers merge and read the same.
        let before = shown(&memtable.view(), Direction::Up);
        drop(views);
        memtable.insert(layer(&[]));
        assert!(!memtable.has_many_layers());
        assert_eq!(shown(&memtable.view(), Direction::Up), before);
    }

    #[test]
    fn changes_during_a_flush_come_before_the_frozen_ones_and_stay() {
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
        let keys =
            |bounds, direction| view.range(Table::Due, bounds, direction).map(|(key, _)| key[0]).collect::<Vec<_>>();
        assert_eq!(keys((Bound::Excluded(&[1][..]), Bound::Included(&[4][..])), Direction::Down), [4, 2]);
        assert_eq!(keys((Bound::Included(&[1][..]), Bound::Excluded(&[4][..])), Direction::Up), [1, 2]);
    }
}
