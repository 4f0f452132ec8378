//! How large the files are and how much of them is dead, for operators. Sizes are asked of the disk each time; dead space
//! is measured once for a sealed partition, because that reads all of it.

use crate::kv::error::Result;
use crate::kv::tables::PARTITION_TABLES;
use crate::store::partitions::set::{Partition, STATE_FILE};
use crate::store::read::lists::Store;

/// What the store takes of the disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreSizes {
    pub state: u64,
    pub wal: u64,
    /// The partition that is written to.
    pub active: u64,
    /// All other partitions.
    pub sealed: u64,
    /// What of `sealed` a copy of the live rows would not need, as far as it has been measured.
    pub sealed_dead: u64,
}

impl StoreSizes {
    pub fn total(&self) -> u64 {
        self.state + self.wal + self.active + self.sealed
    }
}

impl Store {
    /// A file that cannot be asked counts as empty.
    pub fn sizes(&self) -> StoreSizes {
        let taken = |name: &str| self.partition_set.disk.taken_bytes(name).unwrap_or(0);
        let mut sizes =
            StoreSizes { state: taken(STATE_FILE), wal: taken(crate::kv::wal::WAL_FILE), ..StoreSizes::default() };
        for partition in self.partition_set.partitions() {
            let bytes = taken(&partition.file_name());
            if partition.row().sealed {
                sizes.sealed += bytes;
                sizes.sealed_dead += partition.dead_bytes().unwrap_or(0);
            } else {
                sizes.active += bytes;
            }
        }
        sizes
    }

    /// Removes the file of a partition that upkeep has dropped. Who reads it still reads it to the end.
    ///
    /// # Errors
    /// It could not be removed; the next start removes it.
    pub fn unlink(&self, dropped: &Partition) -> Result<()> {
        self.partition_set.discard(dropped)
    }

    /// Measures one quiet partition that was not measured yet; false: there is none. Reads all of its file, and closes it.
    pub fn measure_one(&self) -> Result<bool> {
        let quiet = |p: &std::sync::Arc<Partition>| p.row().archived && p.dead_bytes().is_none();
        let Some(partition) = self.partition_set.partitions().into_iter().find(quiet) else { return Ok(false) };
        let snapshot = self.partition_set.snapshot(&partition)?;
        let live = PARTITION_TABLES.iter().map(|table| snapshot.live_bytes(*table)).sum::<Result<u64>>()?;
        let file = self.partition_set.disk.taken_bytes(&partition.file_name()).unwrap_or(0);
        partition.set_dead_bytes(Some(file.saturating_sub(live)));
        drop(snapshot);
        // What redb has cached of all those pages is of no use to anybody, and one partition comes after the other.
        self.partition_set.close_idle(&partition);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::backup::tests::store_with_quiet_partition;

    #[test]
    fn a_measured_partition_is_not_left_open() {
        let folder = tempfile::tempdir().unwrap();
        let (opened, _) = store_with_quiet_partition(&folder);
        let partitions = opened.store.partition_set.partitions();
        let counted = partitions.iter().find(|partition| partition.row().archived).unwrap();
        assert!(opened.store.measure_one().unwrap());
        assert!(counted.dead_bytes().is_some() && counted.opened().is_none());
        let _reader = opened.store.partition_set.snapshot(counted).unwrap();
        assert!(!opened.store.measure_one().unwrap(), "each is measured once");
        assert!(counted.opened().is_some());
    }
}
