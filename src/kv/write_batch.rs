//! A write batch: the changes of many commands to one segment, over the snapshot that they are applied to.
//!
//! Invariant: nothing is written while commands are applied. A batch is data until `Segment::commit` or the write-ahead
//! log takes it, so a rejected command leaves no trace and a failed commit leaves memory unchanged.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::kv::blob_range::{self, BLOBS_END_KEY, BlobRange};
use crate::kv::blobs::BlobFile;
use crate::kv::codec::{self, PayloadRow};
use crate::kv::disk::Disk;
use crate::kv::error::Result;
use crate::kv::memtable::{Changes, Layer};
use crate::kv::payload;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Key, TABLES, Table};
use crate::model::id::EventId;

/// The changes of many commands to one segment, over a snapshot of it.
#[derive(Debug)]
pub struct WriteBatch {
    base: Snapshot,
    changes: [Changes; TABLES],
    /// The buffer in which rows are encoded.
    scratch: Vec<u8>,
    /// Payloads that get a place in the blob file when the batch is committed.
    payloads: BTreeMap<EventId, Bytes>,
    /// Places of erased payloads, to overwrite once the batch is durable.
    erased: Vec<BlobRange>,
}

impl WriteBatch {
    /// An empty batch over `base`.
    pub fn on(base: Snapshot) -> WriteBatch {
        WriteBatch {
            base,
            changes: std::array::from_fn(|_| Changes::new()),
            payloads: BTreeMap::new(),
            erased: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The snapshot under the batch, without its changes.
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

    /// Whether there is a row at `key`, with the changes of this batch applied.
    pub fn has(&self, table: Table, key: &[u8]) -> Result<bool> {
        match self.changes[table as usize].get(key) {
            Some(change) => Ok(change.is_some()),
            None => Ok(self.base.get(table, key, |_| ())?.is_some()),
        }
    }

    /// Encodes `value` and puts the row.
    pub fn put<T: Serialize>(&mut self, table: Table, key: Key, value: &T) {
        let row = codec::encode_with(&mut self.scratch, value);
        self.changes[table as usize].insert(key, Some(row));
    }

    /// Puts a row of plain bytes (`codec::encode_bytes`).
    pub fn put_bytes(&mut self, table: Table, key: Key, value: &[u8]) {
        self.changes[table as usize].insert(key, Some(codec::encode_bytes(value)));
    }

    /// Puts the payload of a new event: into rows up to `row_bytes_max` bytes, else into the blob file.
    pub fn put_payload(&mut self, event: EventId, payload: &Bytes, row_bytes_max: usize) {
        if payload.len() > row_bytes_max {
            self.payloads.insert(event, payload.clone());
        } else {
            payload::put_parts(&mut self.changes[Table::Data as usize], event, payload);
        }
    }

    /// Reads the payload of an event that has `bytes` of it, with the changes of this batch applied.
    pub fn payload(&self, event: EventId, bytes: usize) -> Result<Bytes> {
        if let Some(payload) = self.payloads.get(&event) {
            return Ok(payload.clone());
        }
        payload::read_payload(&self.base, event, bytes, |key, take| match self.changes[Table::Data as usize].get(key) {
            Some(change) => {
                if let Some(part) = change.as_deref() {
                    take(part);
                }
                Ok(())
            }
            None => self.base.get(Table::Data, key, take).map(drop),
        })
    }

    /// Removes the payload of an event that has `bytes` of it. Its place in the blob file is overwritten after the commit.
    pub fn erase_payload(&mut self, event: EventId, bytes: usize) -> Result<()> {
        self.payloads.remove(&event);
        let first = tables::chunk(event, 0);
        let is_changed = self.changes[Table::Data as usize].contains_key(&first);
        if bytes > 0 && !is_changed {
            let place = self.base.get(Table::Data, &first, |row| match codec::decode_payload(row) {
                Some(PayloadRow::Place(place)) => Some(place),
                _ => None,
            })?;
            if let Some(place) = place.flatten() {
                self.put(Table::Meta, place.erased_key(), &(place.offset, place.bytes));
                self.erased.push(place);
            }
        }
        (0..payload::chunks_of(bytes)).for_each(|number| self.remove(Table::Data, tables::chunk(event, number)));
        Ok(())
    }

    /// Whether payloads wait for a place in the blob file.
    pub fn has_payloads(&self) -> bool {
        !self.payloads.is_empty()
    }

    /// Gives the payloads places in `file` and puts their rows. `BlobFile::sync` makes the bytes durable,
    /// which must happen before the rows are. `false` if the batch has no such payload.
    ///
    /// # Errors
    /// There is no space, or the disk fails.
    pub fn place_payloads(&mut self, file: &BlobFile, disk: &dyn Disk, partition_bytes_max: u64) -> Result<bool> {
        for place in file.take_overwritten() {
            self.remove(Table::Meta, place.erased_key());
        }
        if self.payloads.is_empty() {
            return Ok(false);
        }
        let payloads = std::mem::take(&mut self.payloads);
        let bytes: Vec<&[u8]> = payloads.values().map(|payload| &payload[..]).collect();
        let places = file.append(disk, &bytes, partition_bytes_max)?;
        for (event, place) in payloads.keys().zip(places) {
            self.changes[Table::Data as usize].insert(tables::chunk(*event, 0), Some(codec::encode_place(place)));
        }
        self.put(Table::Meta, Key::from_slice(BLOBS_END_KEY), &file.end());
        Ok(true)
    }

    /// Takes the places to overwrite once the batch is durable.
    pub fn take_erased(&mut self) -> Vec<BlobRange> {
        std::mem::take(&mut self.erased)
    }

    /// Passes the changes for a replica to `take`: payloads in rows, and no row about this store's own blob file.
    pub fn for_replicas<T>(&self, take: impl FnOnce(&[(Table, &Changes)]) -> T) -> T {
        let meta = &self.changes[Table::Meta as usize];
        if self.payloads.is_empty() && !meta.keys().any(|key| blob_range::is_of_blobs(key)) {
            return take(&self.changes());
        }
        let mut data = self.changes[Table::Data as usize].clone();
        self.payloads.iter().for_each(|(event, payload)| payload::put_parts(&mut data, *event, payload));
        let shared = meta.iter().filter(|(key, _)| !blob_range::is_of_blobs(key));
        let meta: Changes = shared.map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut changes = self.changes();
        changes.retain(|(table, _)| !matches!(table, Table::Data | Table::Meta));
        changes.extend([(Table::Data, &data), (Table::Meta, &meta)].into_iter().filter(|(_, rows)| !rows.is_empty()));
        take(&changes)
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

    /// Removes the row at `key`, if there is one.
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
        let disk = RealDisk::lock(folder.path()).unwrap();
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
