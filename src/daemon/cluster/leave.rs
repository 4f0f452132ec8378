//! Takes a stopped store out of its cluster: it is by itself again, and the cluster has ended.
//!
//! Invariant: the store has every commit of the log, and no node can append to the log or take its lease any more. A call that
//! broke off can be repeated.

use super::open_replica;
use super::stopped::StoppedNode;
use crate::config::Settings;
use crate::daemon::DaemonError;
use crate::daemon::offline::hand_over;
use crate::rules::tenure::LEASE;
use crate::store::admin::{self, Role, TermAndRole};

/// Makes the stopped store of the data directory one by itself, and ends its cluster. Returns the number of its last commit.
/// Must be called on a thread that runs no task.
///
/// # Errors
/// The store is in use or no node's, another node lives, the store does not go on with the log, or the engine does not answer.
pub fn leave(settings: &Settings, runtime: &tokio::runtime::Handle) -> Result<u64, DaemonError> {
    let node = StoppedNode::lock(settings, runtime)?;
    if let Some(other) = node.others()?.find(|row| row.seen_s < LEASE.as_secs_f64()) {
        let (name, lease_s) = (&other.member.node, LEASE.as_secs());
        return Err(node.refusal(&format!(
            "the node {name} lives: stop all other nodes first; {lease_s} s after its stop a node counts as stopped"
        )));
    }
    let replica = open_replica(settings, &node.disk)?;
    let ended = node.ask(node.engine.leases.end())?;
    let term =
        ended.ok_or_else(|| node.refusal("the lease of another node has not run out: try again in ten seconds"))?;
    let number = node.fence(replica, term)?;
    let own = node.term_and_role;
    admin::set_term_and_role(&*node.disk, TermAndRole { role: Role::Owner, term: own.term.max(term), ..own })?;
    hand_over(&settings.data_dir)?;
    Ok(number)
}
