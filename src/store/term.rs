//! The term of a store, and whether it is an owner's or a standby's.
//!
//! Invariant: of two stores of one name only the one of the higher term may take events in. A store that has met a higher
//! term remembers it, and does not open as an owner any more.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::kv::codec;
use crate::kv::disk::Disk;
use crate::kv::error::Result;
use crate::kv::segment::{OTHER_CACHE_BYTES, OpenMode, Segment};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{Key, Table};
use crate::kv::write_batch::WriteBatch;
use crate::store::partitions::set::STATE_FILE;

/// Key in `meta` of `state.redb`. A store that was never a standby and met no higher term lacks the row.
const TERM_AND_ROLE_KEY: &[u8] = b"tenure";

/// The role of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The store takes events in and delivers them.
    #[default]
    Owner,
    /// The store applies the commits of its owner, and takes nothing else in.
    Standby,
    /// The store was restored from a backup and not promoted yet. It serves like an owner. The store that was backed up
    /// may serve too.
    Copy,
    /// The store is that of a cluster's node. The log of the cluster says which node is the owner. `term` is the term
    /// from before the cluster.
    Member,
}

/// The term and the role of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermAndRole {
    /// Number of the owner among all owners of the store, from 1.
    pub term: u64,
    pub role: Role,
    /// The higher term that this store has met. 0 if it has met none.
    pub overtaken_by: u64,
}

impl Default for TermAndRole {
    fn default() -> Self {
        TermAndRole { term: 1, role: Role::Owner, overtaken_by: 0 }
    }
}

impl TermAndRole {
    /// The term and the role of a standby or a copy that was made the owner.
    pub fn promoted(self) -> TermAndRole {
        TermAndRole { term: self.term.max(self.overtaken_by) + 1, role: Role::Owner, overtaken_by: 0 }
    }
}

/// The term and the role of a store that no writer has open.
///
/// # Errors
/// `state.redb` cannot be read.
pub fn term_and_role(disk: &dyn Disk) -> Result<TermAndRole> {
    let state = match Segment::open(disk, STATE_FILE, OpenMode::Read, OTHER_CACHE_BYTES) {
        Err(error) if error.needs_repair() => Segment::open(disk, STATE_FILE, OpenMode::Write, OTHER_CACHE_BYTES)?,
        opened => opened?,
    };
    let state = Arc::new(state);
    let found = stored(&state.snapshot()?);
    Arc::into_inner(state).map_or(Ok(()), Segment::close)?;
    found
}

/// The term and the role in `state.redb`.
pub(in crate::store) fn stored(state: &Snapshot) -> Result<TermAndRole> {
    Ok(state.get(Table::Meta, TERM_AND_ROLE_KEY, codec::decode::<TermAndRole>)?.flatten().unwrap_or_default())
}

/// Stores the term and the role of a store that no writer has open. After `Ok` it is durable.
///
/// # Errors
/// `state.redb` cannot be written.
pub fn set_term_and_role(disk: &dyn Disk, term_and_role: TermAndRole) -> Result<()> {
    let state = Arc::new(Segment::open(disk, STATE_FILE, OpenMode::Write, OTHER_CACHE_BYTES)?);
    let mut write_batch = WriteBatch::on(state.snapshot()?);
    write_batch.put(Table::Meta, Key::from_slice(TERM_AND_ROLE_KEY), &term_and_role);
    state.commit(write_batch)?;
    Arc::into_inner(state).map_or(Ok(()), Segment::close)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RealDisk;
    use crate::store::verify::tests::store;

    #[test]
    fn a_store_begins_as_an_owner_and_stores_the_tenure_that_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        drop(store(&folder));
        let disk = RealDisk::folder(folder.path()).unwrap();
        assert_eq!(term_and_role(&disk).unwrap(), TermAndRole { term: 1, role: Role::Owner, overtaken_by: 0 });
        let standby = TermAndRole { term: 4, role: Role::Standby, overtaken_by: 0 };
        set_term_and_role(&disk, standby).unwrap();
        assert_eq!(term_and_role(&disk).unwrap(), standby);
        assert_eq!(standby.promoted(), TermAndRole { term: 5, role: Role::Owner, overtaken_by: 0 });
        let overtaken = TermAndRole { term: 2, role: Role::Owner, overtaken_by: 7 };
        assert_eq!(overtaken.promoted().term, 8, "above every term that it knows of");
    }
}
