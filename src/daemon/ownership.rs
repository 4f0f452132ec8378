//! Opens the store of an owner: by itself, or as the node of a cluster that owns the store.

use std::sync::Arc;

use super::{DaemonError, keys, options, refuse_broken_restore};
use crate::config::Settings;
use crate::engine::clock::{Clock, Random, numbers};
use crate::engine::serve_window::ServeWindow;
use crate::store::admin::{CommitAppender, Role, TermAndRole};
use crate::store::{self, Disk, Store};

/// The ownership of a cluster's store, which a node has gained.
pub struct Ownership {
    /// Appends the owner's commits to the commit log.
    pub appender: Box<CommitAppender>,
    /// Number of the owner among all owners.
    pub term: u64,
    /// The time in which deliveries may begin.
    pub window: Arc<ServeWindow>,
}

/// Opens the store of an owner.
///
/// # Errors
/// The store cannot be opened, is a standby's, or has met a higher term.
pub(super) fn open_as_owner(
    settings: &Settings,
    disk: Arc<dyn Disk>,
    (clock, random): (&dyn Clock, &Arc<dyn Random>),
    ownership: Option<Ownership>,
) -> Result<(store::Opened, TermAndRole), DaemonError> {
    refuse_broken_restore(&settings.data_dir, &*disk)?;
    let master_key = keys::master_key(settings, &*disk, &**random)?;
    let ids = Box::new(numbers(random.clone()));
    if let Some(Ownership { appender, term, .. }) = ownership {
        let opened = store::open_in_cluster(disk, options(settings), &master_key, clock.now(), ids, *appender)?;
        return Ok((opened, TermAndRole { term, role: Role::Member, overtaken_by: 0 }));
    }
    let opened = store::open(disk, options(settings), &master_key, clock.now(), ids)?;
    let term_and_role = owner_term_and_role(settings, &opened.store)?;
    Ok((opened, term_and_role))
}

/// The term and the role of an opened store.
///
/// # Errors
/// The store is a standby's, or has met a higher term.
fn owner_term_and_role(settings: &Settings, store: &Store) -> Result<TermAndRole, DaemonError> {
    let (term_and_role, dir) = (store.term_and_role()?, settings.data_dir.display());
    match term_and_role {
        TermAndRole { overtaken_by: 0, role: Role::Owner, .. } => Ok(term_and_role),
        TermAndRole { overtaken_by: 0, role: Role::Copy, .. } => {
            tracing::warn!(
                cure = "stop the other store for good, then stop this one, run postrider promote, and start it again",
                "this store is a restored copy: if the store that it was copied from runs too, both send every delivery"
            );
            Ok(term_and_role)
        }
        TermAndRole { overtaken_by: 0, role: Role::Member, .. } => {
            Err(DaemonError::Settings(format!("{dir}: this store is a node's of a cluster: set cluster.log")))
        }
        TermAndRole { overtaken_by: 0, role: Role::Standby, .. } => {
            let words =
                format!("{dir}: this store is a standby's: set standby.of, or make it the owner: postrider promote");
            Err(DaemonError::Settings(words))
        }
        overtaken => Err(overtaken_error(settings, overtaken)),
    }
}

/// The error of a store that another owner has overtaken, or that has met another owner of its term.
pub(super) fn overtaken_error(settings: &Settings, term_and_role: TermAndRole) -> DaemonError {
    let (dir, TermAndRole { term: own, overtaken_by: term, .. }) =
        (settings.data_dir.display().to_string(), term_and_role);
    match term == own {
        true => DaemonError::TwoOwners { dir, term },
        false => DaemonError::Overtaken { dir, own, term },
    }
}
