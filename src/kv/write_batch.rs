//! The changes that a batch of commands makes to one file, over the snapshot they are judged against.
//!
//! Invariant: nothing is written while commands are applied. A draft is data until `File::commit` writes it in key order,
//! so a refused command leaves no trace and a failed commit leaves nothing half-done in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::snapshot::{Direction, ScanStep, Snapshot};
use crate::kv::tables::{Key, TABLES, Table};

/// New values by key; none: removed.
pub type Changes = BTreeMap<Key, Option<Vec<u8>>>;

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

    /// The row at `key` as this draft has it.
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

    /// The bytes of the row at `key`, as `row::encode_bytes` stored them.
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

    /// A key that says everything by being there.
    pub fn put_key(&mut self, table: Table, key: Key) {
        self.changes[table as usize].insert(key, Some(Vec::new()));
    }

    /// Sets a row to bytes as they are, for tests that spoil a store.
    #[cfg(test)]
    pub fn set(&mut self, table: Table, key: Key, value: Option<Vec<u8>>) {
        self.changes[table as usize].insert(key, value);
    }

    pub fn remove(&mut self, table: Table, key: Key) {
        self.changes[table as usize].insert(key, None);
    }

    /// The first key at or after `from` that begins with `prefix`, as this draft has it.
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

    /// All keys that begin with `prefix`, as this draft has them; at most `limit`.
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

    /// Changes by table, each in key order, without the empty ones.
    pub fn changes(&self) -> Vec<(Table, &Changes)> {
        let all = crate::kv::tables::ALL_TABLES.into_iter().map(|table| (table, &self.changes[table as usize]));
        all.filter(|(_, changes)| !changes.is_empty()).collect()
    }

    /// All of them, given away.
    pub fn into_layer(self) -> crate::kv::memtable::Layer {
        self.changes
    }

    /// Takes in changes to a table.
    pub fn extend(&mut self, table: Table, changes: Changes) {
        self.changes[table as usize].extend(changes);
    }
}
