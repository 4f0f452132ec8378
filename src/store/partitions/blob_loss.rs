//! Gives up the payloads that a missing or short blob file lacks, while no daemon has the store.
//!
//! Invariant: no byte of a blob file is removed. The file gets its length back, in zeros, which have the checksum of no
//! payload. So a lost payload is a damaged row, and a new one takes no place that a row names.

use std::sync::Arc;

use crate::kv::disk::Disk;
use crate::kv::error::{Error, Result, io};
use crate::kv::segment::{ACTIVE_CACHE_BYTES, OpenMode, Segment};
use crate::kv::wal::Wal;
use crate::store::partitions::set::{PARTITIONS, first_of};

/// A damaged blob file whose lost payloads were given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPayloads {
    pub file: String,
    /// The damage in words.
    pub damage: String,
}

/// Gives up the payloads that blob files lack, so that their partitions open without them. If none lacks any, nothing is
/// changed. A damaged write-ahead log is left to `accept_loss`, after which this is to be called again.
///
/// # Errors
/// A file does not open, or the disk fails. The next call goes on.
pub fn accept_lost_payloads(disk: &dyn Disk) -> Result<Vec<LostPayloads>> {
    let mut lost = Vec::new();
    for name in disk.list(PARTITIONS).map_err(|error| io(PARTITIONS, error))? {
        let Some(first) = first_of(&name) else { continue };
        while let Err(error) = opens(disk, &format!("{PARTITIONS}/{name}"), first) {
            let Error::BlobsDamaged { file, damage, end } = error else { return Err(error) };
            lengthen(disk, &file, end).map_err(|error| io(&file, error))?;
            lost.push(LostPayloads { file, damage });
        }
    }
    Ok(lost)
}

/// Opens a partition with the records of the write-ahead log, and closes it again. Damage of the log is no error.
pub(in crate::store) fn opens(disk: &dyn Disk, name: &str, first: u128) -> Result<()> {
    let file = Arc::new(Segment::open(disk, name, OpenMode::Write, ACTIVE_CACHE_BYTES)?);
    match file.replay_wal(first, &Wal::open(disk)?) {
        Err(Error::WalDamaged { .. }) => {}
        replayed => replayed.and_then(|_| file.resume_blobs())?,
    }
    Arc::into_inner(file).map_or(Ok(()), Segment::close)
}

/// Makes a file `end` bytes long. A missing one is made under a temporary name.
fn lengthen(disk: &dyn Disk, name: &str, end: u64) -> std::io::Result<()> {
    let is_missing = !disk.exists(name)?;
    let made = if is_missing { format!("{name}.new") } else { name.to_owned() };
    let file = disk.open(&made, is_missing)?;
    file.set_len(end)?;
    file.sync_data()?;
    file.close()?;
    if is_missing { disk.rename(&made, name) } else { Ok(()) }
}
