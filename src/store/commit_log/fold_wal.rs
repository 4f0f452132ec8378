//! Folds the write-ahead log of a closed owner's store into its files, which a replica can open then.

use std::sync::Arc;

use crate::kv::disk::Disk;
use crate::kv::error::{Result, io};
use crate::kv::wal::WAL_FILE;
use crate::model::Time;
use crate::store::partitions::open::open;
use crate::store::partitions::set::{STATE_FILE, StoreOptions};
use crate::store::replication::CommitMark;
use crate::store::replication::replica::last_mark;
use crate::store::secrets::vault::KEY_BYTES;

/// Writes the records of the write-ahead log to the files of a store, and removes the log. Makes no commit. Returns the
/// store's last commit.
///
/// # Errors
/// The store cannot be opened, or the disk fails.
pub fn fold_wal(
    disk: Arc<dyn Disk>,
    options: StoreOptions,
    master_key: &[u8; KEY_BYTES],
    now: Time,
    random: Box<dyn FnMut() -> u64 + Send>,
) -> Result<CommitMark> {
    let mut opened = open(disk.clone(), options, master_key, now, random)?;
    opened.writer.close()?;
    if opened.writer.must_end() {
        return Err(io(STATE_FILE, std::io::Error::other("a sync to disk has failed")));
    }
    drop(opened);
    if disk.exists(WAL_FILE).map_err(|error| io(WAL_FILE, error))? {
        disk.remove(WAL_FILE).map_err(|error| io(WAL_FILE, error))?;
    }
    last_mark(&*disk)
}
