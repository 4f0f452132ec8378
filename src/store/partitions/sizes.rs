//! Sizes of the store's files, read from the disk at each call.

use crate::kv::error::Result;
use crate::store::partitions::maintenance::DroppedPartition;
use crate::store::partitions::set::STATE_FILE;
use crate::store::read::lists::Store;

/// Bytes of disk that the store's files occupy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreSizes {
    pub state: u64,
    pub wal: u64,
    /// The active partition.
    pub active: u64,
    /// All other partitions.
    pub sealed: u64,
}

impl StoreSizes {
    pub fn total(&self) -> u64 {
        self.state + self.wal + self.active + self.sealed
    }
}

impl Store {
    /// The sizes of the store's files. A file whose size cannot be read counts as empty.
    pub fn sizes(&self) -> StoreSizes {
        let taken = |name: &str| self.partition_set.disk.occupied_bytes(name).unwrap_or(0);
        let mut sizes =
            StoreSizes { state: taken(STATE_FILE), wal: taken(crate::kv::wal::WAL_FILE), ..StoreSizes::default() };
        for partition in self.partition_set.partitions() {
            let bytes = taken(&partition.file_name()) + taken(&partition.blobs_name());
            if partition.row().sealed {
                sizes.sealed += bytes;
            } else {
                sizes.active += bytes;
            }
        }
        sizes
    }

    /// Removes the files of a dropped partition. Readers that have it open read it to the end.
    ///
    /// # Errors
    /// The file could not be removed. The next start removes it.
    pub fn unlink(&self, dropped: &DroppedPartition) -> Result<()> {
        self.partition_set.discard(&dropped.0)
    }
}
