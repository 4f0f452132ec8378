//! A write batch: the changes of many commands to one segment, over the snapshot that they are applied to.
//!
//! Invariant: nothing is written while commands are applied. A batch is data until `Segment::commit` or the write-ahead
//! log takes it, so a rejected command leaves no trace and a failed commit leaves memory unchanged.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::memtable::{Changes, Layer};
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{Key, TABLES, Table};

#[derive(Debug)]
pub struct WriteBatch {
    base: Snapshot,
    changes: [Changes; TABLES],
}

impl WriteBatch {
    pub fn on(base: Snapshot) -> WriteBatch {
        WriteBatch { base, changes: std::array::from_fn(|_| Changes::new()) }
    }

    pub fn base(&self) -> &Snapshot {
        &self.base
    }

    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(BTreeMap::is_empty)
    }

    /// Reads a row, with the changes of this batch applied.
    pub fn get<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>> {
        let decoded = match self.changes[table as usize].get(key) {
            Some(None) => return Ok(None),
            Some(Some(value)) => Some(codec::decode(value)),
            None => self.base.get(table, key, |value| codec::decode(value))?,
        };
        match decoded {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(self.base.damaged(table, key)),
        }
    }

    /// Reads the bytes of a row that `codec::encode_bytes` stored, with the changes of this batch applied.
    pub fn get_bytes(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let decoded = match self.changes[table as usize].get(key) {
            Some(None) => return Ok(None),
            Some(Some(value)) => Some(codec::decode_bytes(value).map(<[u8]>::to_vec)),
            None => self.base.get(table, key, |value| codec::decode_bytes(value).map(<[u8]>::to_vec))?,
        };
        match decoded {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(self.base.damaged(table, key)),
        }
    }

    pub fn has(&self, table: Table, key: &[u8]) -> Result<bool> {
        match self.changes[table as usize].get(key) {
            Some(change) => Ok(change.is_some()),
            None => Ok(self.base.get(table, key, |_| ())?.is_some()),
        }
    }

    pub fn put<T: Serialize>(&mut self, table: Table, key: Key, value: &T) {
        self.changes[table as usize].insert(key, Some(codec::encode(value)));
    }

    pub fn put_bytes(&mut self, table: Table, key: Key, value: &[u8]) {
        self.changes[table as usize].insert(key, Some(codec::encode_bytes(value)));
    }

    /// Puts a key without a value, as in an index.
    pub fn put_key(&mut self, table: Table, key: Key) {
        self.changes[table as usize].insert(key, Some(Vec::new()));
    }

    /// Sets a row to raw bytes, for tests that damage a store.
    #[cfg(test)]
    pub fn set(&mut self, table: Table, key: Key, value: Option<Vec<u8>>) {
        self.changes[table as usize].insert(key, value);
    }

    pub fn remove(&mut self, table: Table, key: Key) {
        self.changes[table as usize].insert(key, None);
    }

    /// The first key at or after `from` that begins with `prefix`, with the changes of this batch applied.
    pub fn first(&self, table: Table, prefix: &[u8], from: &[u8]) -> Result<Option<Key>> {
        let changes = &self.changes[table as usize];
        let mut found: Option<Key> = None;
        self.base.scan(table, (Bound::Included(from), Bound::Unbounded), Direction::Up, |key, _| {
            if !key.starts_with(prefix) {
                return Ok(ScanStep::Stop);
            }
            if matches!(changes.get(key), Some(None)) {
                return Ok(ScanStep::Go);
            }
            found = Some(key.into());
            Ok(ScanStep::Stop)
        })?;
        let added = changes
            .range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .find(|(_, value)| value.is_some())
            .map(|(key, _)| key.clone());
        Ok([found, added].into_iter().flatten().min())
    }

    /// At most `limit` keys that begin with `prefix`, with the changes of this batch applied.
    pub fn keys(&self, table: Table, prefix: &[u8], limit: usize) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        let mut from = Key::from_slice(prefix);
        while keys.len() < limit {
            let Some(key) = self.first(table, prefix, &from)? else { break };
            from.clone_from(&key);
            from.push(0);
            keys.push(key);
        }
        Ok(keys)
    }

    /// The first keys after `after` and up to `end`, of `limit` at most, with the changes of this batch applied.
    pub fn keys_between(&self, table: Table, after: &[u8], end: &[u8], limit: usize) -> Result<Vec<Key>> {
        let (changes, range) = (&self.changes[table as usize], (Bound::Excluded(after), Bound::Included(end)));
        if limit == 0 || after >= end {
            return Ok(Vec::new());
        }
        let added = changes.range::<[u8], _>(range).filter(|(_, value)| value.is_some()).take(limit);
        let mut keys: Vec<Key> = added.map(|(key, _)| key.clone()).collect();
        let mut stored = 0;
        self.base.scan(table, range, Direction::Up, |key, _| {
            if !changes.contains_key(key) {
                keys.push(Key::from_slice(key));
                stored += 1;
            }
            Ok(if stored < limit { ScanStep::Go } else { ScanStep::Stop })
        })?;
        keys.sort_unstable();
        keys.truncate(limit);
        Ok(keys)
    }

    /// At most `limit` keys that begin with `prefix` and follow `after`, with the changes of this batch applied.
    pub fn keys_after(&self, table: Table, prefix: &[u8], after: &[u8], limit: usize) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        let mut from = Key::from_slice(after);
        while keys.len() < limit {
            from.push(0);
            let Some(key) = self.first(table, prefix, &from)? else { break };
            from.clone_from(&key);
            keys.push(key);
        }
        Ok(keys)
    }

    /// The changes by table, each in the order of its keys, without empty tables.
    pub fn changes(&self) -> Vec<(Table, &Changes)> {
        let all = crate::kv::tables::ALL_TABLES.into_iter().map(|table| (table, &self.changes[table as usize]));
        all.filter(|(_, changes)| !changes.is_empty()).collect()
    }

    /// The changes as a layer of the memtable.
    pub fn into_layer(self) -> Layer {
        self.changes
    }

    /// Adds changes to a table.
    pub fn extend(&mut self, table: Table, changes: Changes) {
        self.changes[table as usize].extend(changes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::disk::RealDisk;
    use crate::kv::segment::{OTHER_CACHE_BYTES, OpenMode, Segment};
    use std::sync::Arc;

    #[test]
    fn a_span_of_keys_contains_the_changes_of_the_batch() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::take(folder.path()).unwrap();
        Segment::create(&disk, "state.redb", &[Table::Due], &[]).unwrap();
        let file = Arc::new(Segment::open(&disk, "state.redb", OpenMode::Write, OTHER_CACHE_BYTES).unwrap());
        let mut stored = WriteBatch::on(file.snapshot().unwrap());
        (1..=4).for_each(|n| stored.put_key(Table::Due, Key::from_slice(&[2 * n])));
        file.commit(stored).unwrap();
        let mut batch = WriteBatch::on(file.snapshot().unwrap());
        batch.put_key(Table::Due, Key::from_slice(&[3]));
        batch.put_key(Table::Due, Key::from_slice(&[4]));
        batch.remove(Table::Due, Key::from_slice(&[6]));
        let between = |after: u8, end: u8, limit| -> Vec<u8> {
            batch.keys_between(Table::Due, &[after], &[end], limit).unwrap().iter().map(|key| key[0]).collect()
        };
        assert_eq!(between(0, 9, 9), [2, 3, 4, 8]);
        assert_eq!(between(2, 4, 9), [3, 4], "behind the first, up to the last");
        assert_eq!(between(0, 9, 2), [2, 3]);
        assert_eq!(between(4, 9, 1), [8], "a removed key does not count");
        assert!(between(9, 9, 9).is_empty());
    }
}
