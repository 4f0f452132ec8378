//! Begins the log anew with the last commit of one stopped node, if the log ends before the commits of all nodes.
//!
//! Invariant: no former owner can append afterwards, whatever it keeps in memory. A call that broke off can be repeated.

use super::engine::{begin_again, make_tables};
use super::stopped::StoppedNode;
use super::{log_mark, open_replica};
use crate::config::Settings;
use crate::daemon::link::store_name;
use crate::daemon::offline::hand_over;
use crate::daemon::standby::random;
use crate::daemon::{DaemonError, keys, options};
use crate::engine::clock::{Clock as _, SystemClock};
use crate::store::admin::{self, FenceError};
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
    let node = StoppedNode::lock(settings, runtime)?;
    let replica = open_replica(settings, &node.disk)?;
    let last = log_mark(replica.last());
    replica.close()?;
    runtime.block_on(make_tables(settings))?;
    match admin::read_next::<DaemonError>(&*node.engine.log, last) {
        Err(FenceError::Ahead(_)) => {}
        Err(FenceError::Unreachable(error)) => return Err(error.into()),
        _ if accepts_loss => {}
        Ok(_) => return Err(node.refusal("the log goes on behind this store's last commit: start the node")),
        Err(error) => return Err(node.refusal(&format!("{error}: the log has commits that this store lacks"))),
    }
    let ahead = node.others()?.find(|row| row.applied > last.number);
    if let Some(other) = ahead.filter(|_| !accepts_loss) {
        let (name, theirs, ours) = (&other.member.node, other.applied, last.number);
        let words =
            format!("the node {name} has the commits up to {theirs}, and this store up to {ours}: rebase there");
        return Err(node.refusal(&words));
    }
    let (key, now) = (keys::stored_master_key(settings, &*node.disk)?, SystemClock.now());
    let opened = open(node.disk.clone(), options(settings), &key, now, random())?;
    let store = store_name(&opened.store);
    drop(opened);
    let begun = runtime.block_on(begin_again(settings, &store, &node.name, last))?;
    let term = begun.ok_or_else(|| {
        let words =
            "the lease of another node has not run out, the cluster has ended, or the database has another store's";
        node.refusal(words)
    })?;
    let number = node.fence(open_replica(settings, &node.disk)?, term)?;
    node.ask(node.engine.leases.release(term))?;
    hand_over(&settings.data_dir)?;
    Ok(number)
}
