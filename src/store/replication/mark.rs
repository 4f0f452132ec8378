//! The number of the last commit in a file. Numbers ascend by one over all files, and go on over restarts.
//!
//! Invariant: a commit writes its mark to the file that it changes. So the greatest mark of the files that may change is
//! the store's last durable commit.

use serde::{Deserialize, Serialize};

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{Key, Table};
use crate::kv::write_batch::WriteBatch;
use crate::store::replication::CommitRecord;

/// Key in `meta` of each file. Files of earlier versions lack the row.
pub(in crate::store) const COMMIT_KEY: &[u8] = b"commit";

/// A commit, told apart from one of the same number in another history of the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CommitMark {
    pub number: u64,
    /// The start of the owner that made the commit, in milliseconds since 1970. A store that was set back to an earlier
    /// moment numbers its next commits like those that it has lost, and its run differs.
    pub run: i64,
}

impl CommitMark {
    /// The mark of a file. `None` if no commit has marked it.
    pub(in crate::store) fn stored(file: &Snapshot) -> Result<Option<CommitMark>> {
        Ok(file.get(Table::Meta, COMMIT_KEY, codec::decode::<CommitMark>)?.flatten())
    }

    pub(in crate::store) fn put(self, write_batch: &mut WriteBatch) {
        write_batch.put(Table::Meta, Key::from_slice(COMMIT_KEY), &self);
    }

    /// The mark of an encoded commit. `None` if the bytes are not a record.
    pub fn of_encoded(record: &[u8]) -> Option<CommitMark> {
        CommitRecord::decode(record).map(|record| CommitMark::of(&record))
    }

    /// The mark of a commit. A record of an earlier version has none, and then its run is 0.
    pub fn of(record: &CommitRecord) -> CommitMark {
        let meta = record.changes.iter().find(|(table, _)| *table == Table::Meta);
        let row = meta.and_then(|(_, changes)| changes.get(COMMIT_KEY)?.as_deref());
        row.and_then(codec::decode::<CommitMark>).unwrap_or(CommitMark { number: record.point.number, run: 0 })
    }
}
