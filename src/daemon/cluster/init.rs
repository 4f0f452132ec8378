//! Begins a cluster with a stopped store, and shows its members.

use super::engine::{begin, connect, member};
use super::log_mark;
use crate::config::Settings;
use crate::daemon::link::store_name;
use crate::daemon::offline::{hand_over, has_store};
use crate::daemon::standby::random;
use crate::daemon::{DaemonError, keys, lock_folder, options};
use crate::engine::clock::{Clock as _, SystemClock};
use crate::engine::cluster_lease::{ClusterRow, MemberRow};
use crate::store::admin::{self, Role, TermAndRole};
use crate::store::open;

/// Why a database cannot be used for a cluster.
pub(super) const POOLED: &str = "a pooler of transactions stands before PostgreSQL, which breaks prepared statements: connect \
    directly, or through a pooler of sessions";

/// Makes the stopped store of the data directory the first node of a cluster: its next commit is the log's first. Returns the
/// number of its last commit. Must be called on a thread that runs no task.
///
/// # Errors
/// The store is in use, no owner's, or in a cluster already, or the engine does not answer.
pub fn init(settings: &Settings, runtime: &tokio::runtime::Handle) -> Result<u64, DaemonError> {
    let data_dir = &settings.data_dir;
    // A directory without a store is not made one by its lock.
    has_store(data_dir)?;
    let disk = lock_folder(data_dir)?;
    member(settings)?;
    let term_and_role = admin::term_and_role(&*disk)?;
    if term_and_role.role != Role::Owner || term_and_role.overtaken_by > 0 {
        let words = format!("{}: only an owner's store begins a cluster", data_dir.display());
        return Err(DaemonError::Engine(words));
    }
    let (key, now) = (keys::stored_master_key(settings, &*disk)?, SystemClock.now());
    let opened = open(disk.clone(), options(settings), &key, now, random())?;
    let name = store_name(&opened.store);
    drop(opened);
    let last = admin::fold_wal(disk.clone(), options(settings), &key, now, random())?;
    runtime.block_on(begin(settings, &name, log_mark(last)))?;
    admin::set_term_and_role(&*disk, TermAndRole { role: Role::Member, ..term_and_role })?;
    hand_over(data_dir)?;
    Ok(last.number)
}

/// The cluster of the settings, its members, and whether PostgreSQL has a synchronous standby.
///
/// # Errors
/// The settings name no engine, it does not answer, or a pooler of transactions stands before it.
pub async fn status(settings: &Settings) -> Result<(ClusterRow, Vec<MemberRow>, bool), DaemonError> {
    let engine = connect(settings)?;
    if engine.leases.is_pooled().await? {
        return Err(DaemonError::Engine(POOLED.to_owned()));
    }
    let cluster = engine.leases.cluster().await?;
    Ok((cluster, engine.leases.members().await?, engine.leases.is_synchronous().await?))
}
