//! The master key wraps the data key, which seals all other secrets.
//!
//! Invariant: at any moment exactly one master key opens a store. Changing it is one durable commit of one row.

use std::sync::Arc;

use ring::aead::NONCE_LEN;

use crate::kv::codec;
use crate::kv::disk::Disk;
use crate::kv::error::{Error, Result};
use crate::kv::segment::{OTHER_CACHE_BYTES, OpenMode, Segment};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{Key, STATE_TABLES, Table};
use crate::kv::write_batch::WriteBatch;
use crate::store::partitions::index_start::{IndexStart, LaterIndex};
use crate::store::partitions::set::STATE_FILE;
use crate::store::partitions::tenant_figures::{FIGURES_START_KEY, FiguresStart};
use crate::store::secrets::vault::{KEY_BYTES, Vault};

const DATA_KEY: &[u8] = b"data_key";

/// The result of a change of the master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrapped {
    /// The new key opens the store, and the old one no longer does.
    Now,
    /// The new key opened the store before the call: an earlier change was committed.
    Before,
}

/// Makes `state.redb` with a fresh data key, wrapped by `master`.
pub(in crate::store) fn create_state(disk: &dyn Disk, master: &Vault, random: &mut dyn FnMut() -> u64) -> Result<()> {
    let words: [[u8; 8]; 6] = std::array::from_fn(|_| random().to_be_bytes());
    let bytes = words.concat();
    let (key, rest) = bytes.split_at(KEY_BYTES);
    let nonce = std::array::from_fn(|i| rest[i]);
    let wrapped = codec::encode_bytes(&master.seal(DATA_KEY, key, nonce));
    let complete = IndexStart::new_store_row;
    let rows = [
        (Table::Meta, DATA_KEY, wrapped),
        (Table::Meta, LaterIndex::EventsByApp.key(), complete()),
        (Table::Meta, LaterIndex::FailedDeliveries.key(), complete()),
        (Table::Meta, LaterIndex::EventTypes.key(), complete()),
        (Table::Meta, LaterIndex::RemovedWebhooks.key(), complete()),
        (Table::Meta, FIGURES_START_KEY, FiguresStart::new_store_row()),
    ];
    Segment::create(disk, STATE_FILE, &STATE_TABLES, &rows)
}

/// Refuses a wrong key before a file is opened for writing, because that would change the file.
pub(in crate::store) fn check(disk: &dyn Disk, master: &Vault) -> Result<()> {
    match Segment::open(disk, STATE_FILE, OpenMode::Read, OTHER_CACHE_BYTES) {
        Ok(state) => data_key(&Arc::new(state).snapshot()?, master).map(drop),
        // The file was not closed cleanly. The key is checked after the repair.
        Err(error) if error.needs_repair() => Ok(()),
        Err(error) => Err(error),
    }
}

/// The data key, if `master` is the key that wraps it.
pub(in crate::store) fn data_key(state: &Snapshot, master: &Vault) -> Result<[u8; KEY_BYTES]> {
    let wrapped = state.get(Table::Meta, DATA_KEY, |value| codec::decode_bytes(value).map(<[u8]>::to_vec))?.flatten();
    let wrapped = wrapped.ok_or_else(|| state.damaged(Table::Meta, DATA_KEY))?;
    let key = master.open(DATA_KEY, &wrapped).and_then(|key| key.try_into().ok());
    key.ok_or_else(|| {
        Error::MasterKey("the master key does not open this store; give the one that it was made with".into())
    })
}

/// The data key of a closed store. A file that was not closed cleanly is repaired first.
fn closed_data_key(disk: &dyn Disk, master_key: &[u8; KEY_BYTES]) -> Result<[u8; KEY_BYTES]> {
    let state = match Segment::open(disk, STATE_FILE, OpenMode::Read, OTHER_CACHE_BYTES) {
        Err(error) if error.needs_repair() => Segment::open(disk, STATE_FILE, OpenMode::Write, OTHER_CACHE_BYTES)?,
        opened => opened?,
    };
    let state = Arc::new(state);
    let opened = data_key(&state.snapshot()?, &Vault::new(master_key));
    Arc::into_inner(state).expect("the only handle").close()?;
    opened
}

/// The key that a closed store derives for a purpose, as `Store::derived_key` does for an open one.
///
/// # Errors
/// The file cannot be read, or the master key does not open it.
pub fn closed_derived_key(disk: &dyn Disk, master_key: &[u8; KEY_BYTES], purpose: &str) -> Result<[u8; KEY_BYTES]> {
    Ok(Vault::new(&closed_data_key(disk, master_key)?).derive(purpose))
}

/// Whether `master_key` opens the store. A file that was not closed cleanly is repaired first.
///
/// # Errors
/// The file cannot be read. A wrong key is not an error.
pub fn opens(disk: &dyn Disk, master_key: &[u8; KEY_BYTES]) -> Result<bool> {
    match closed_data_key(disk, master_key) {
        Ok(_) => Ok(true),
        Err(Error::MasterKey(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Wraps the data key of a closed store with `new` instead of `old`. `nonce` must be fresh. After a crash exactly one
/// of the two keys opens the store, and a repeated call completes the change.
///
/// # Errors
/// Neither key opens the store (nothing was changed), or the disk fails.
pub fn rewrap(
    disk: &dyn Disk,
    old: &[u8; KEY_BYTES],
    new: &[u8; KEY_BYTES],
    nonce: [u8; NONCE_LEN],
) -> Result<Rewrapped> {
    if opens(disk, new)? {
        return Ok(Rewrapped::Before);
    }
    check(disk, &Vault::new(old))?;
    let state = Arc::new(Segment::open(disk, STATE_FILE, OpenMode::Write, OTHER_CACHE_BYTES)?);
    let key = data_key(&state.snapshot()?, &Vault::new(old))?;
    let mut write_batch = WriteBatch::on(state.snapshot()?);
    write_batch.put_bytes(Table::Meta, Key::from_slice(DATA_KEY), &Vault::new(new).seal(DATA_KEY, &key, nonce));
    state.commit(write_batch)?;
    Arc::into_inner(state).expect("the only handle").close()?;
    Ok(Rewrapped::Now)
}

#[cfg(test)]
mod tests;
