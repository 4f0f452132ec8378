//! Begins the log anew with the last commit of one stopped node, if the log ends before the commits of all nodes.
//!
//! Invariant: no former owner can append afterwards, whatever it keeps in memory. A call that broke off can be repeated.

use super::engine::{begin_again, connect, member};
use super::{apply, log_mark, open_replica};
use crate::config::Settings;
use crate::daemon::link::store_name;
use crate::daemon::offline::{hand_over, has_store};
use crate::daemon::standby::random;
use crate::daemon::{DaemonError, keys, lock_folder, options};
use crate::engine::clock::{Clock as _, SystemClock};
use crate::store::admin::{self, FenceError, LogTail, Role};
use crate::store::open;

/// Makes the last commit of the stopped store of the data directory the log's first record, and appends a fence. Returns the
/// number of the fence. Nodes with other commits copy this store anew.
///
/// With `accepts_loss` the commits that this store lacks and the log or another node has are lost. Must be called on a
/// thread that runs no task.
///
/// # Errors
/// The store is in use or no node's, the log goes on behind it, another node has more commits or the lease, or the engine does
/// not answer.
pub fn rebase(settings: &Settings, runtime: &tokio::runtime::Handle, accepts_loss: bool) -> Result<u64, DaemonError> {
    let _guard = runtime.enter();
    let data_dir = &settings.data_dir;
    let refusal = |words: &str| DaemonError::Engine(format!("{}: {words}", data_dir.display()));
    let unreachable = |error: admin::LogUnreachable| DaemonError::Unreachable(error.to_string());
    let disk = lock_folder(data_dir)?;
    has_store(data_dir)?;
    if admin::term_and_role(&*disk)?.role != Role::Member {
        return Err(refusal("this store is in no cluster: postrider cluster init begins one"));
    }
    let engine = connect(settings)?.ok_or_else(|| DaemonError::Settings("cluster.log is not set".to_owned()))?;
    let replica = open_replica(settings, &disk)?;
    let last = log_mark(replica.last());
    replica.close()?;
    runtime.block_on(super::engine::make_tables(settings))?;
    match admin::read_next::<DaemonError>(&*engine.log, last) {
        Err(FenceError::Ahead(_)) => {}
        Err(FenceError::Unreachable(error)) => return Err(unreachable(error)),
        _ if accepts_loss => {}
        Ok(_) => return Err(refusal("the log goes on behind this store's last commit: start the node")),
        Err(error) => return Err(refusal(&format!("{error}: the log has commits that this store lacks"))),
    }
    let me = member(settings)?.node;
    let members = runtime.block_on(engine.leases.members()).map_err(unreachable)?;
    let ahead = members.iter().find(|row| row.member.node != me && row.applied > last.number);
    if let Some(other) = ahead.filter(|_| !accepts_loss) {
        let (node, theirs, ours) = (&other.member.node, other.applied, last.number);
        let words =
            format!("the node {node} has the commits up to {theirs}, and this store up to {ours}: rebase there");
        return Err(refusal(&words));
    }
    let (key, now) = (keys::stored_master_key(settings, &*disk)?, SystemClock.now());
    let opened = open(disk.clone(), options(settings), &key, now, random())?;
    let name = store_name(&opened.store);
    drop(opened);
    let begun = runtime.block_on(begin_again(settings, &name, &me, last))?;
    let term = begun.ok_or_else(|| {
        refusal("the lease of another node has not run out, the cluster has ended, or the database has another store's")
    })?;
    let mut replica = open_replica(settings, &disk)?;
    let (mut last, mut tail) = (last, LogTail::after_mark(last));
    let fence = admin::fence(&*engine.log, &mut last, (term, random()()), now, |entries| {
        apply(&mut replica, &mut tail, entries)
    });
    let fence = fence.map_err(|error| refusal(&error.to_string()))?;
    replica.close()?;
    runtime.block_on(engine.leases.release(term)).map_err(unreachable)?;
    hand_over(data_dir)?;
    Ok(fence.number)
}
