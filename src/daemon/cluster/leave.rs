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
use crate::store::admin::{self, Replica, Role, TermAndRole};

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
    let (number, term) = end_with(&node, replica)?;
    let own = node.term_and_role;
    admin::set_term_and_role(&*node.disk, TermAndRole { role: Role::Owner, term: own.term.max(term), ..own })?;
    hand_over(&settings.data_dir)?;
    Ok(number)
}

/// Applies the log to its end and ends the cluster. A store that the log does not go on with changes nothing. Returns the number
/// of the last commit, and the term of the end.
fn end_with(node: &StoppedNode<'_>, mut replica: Replica) -> Result<(u64, u64), DaemonError> {
    node.read_on(&mut replica)?;
    let ended = node.ask(node.engine.leases.end())?;
    let term =
        ended.ok_or_else(|| node.refusal("the lease of another node has not run out: try again in ten seconds"))?;
    Ok((node.fence(replica, term)?, term))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::daemon::cluster::engine::ClusterEngine;
    use crate::daemon::cluster::heartbeat::tests::ScriptedLeases;
    use crate::daemon::cluster::log_mark;
    use crate::daemon::cluster::tests::{MEMBER, ReadLog, member_store};
    use crate::store::Disk;
    use crate::store::admin::LogEntry;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_that_the_log_does_not_go_on_with_ends_no_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, disk) = member_store(folder.path());
        let runtime = tokio::runtime::Handle::current();
        let own = log_mark(admin::last_mark(&*disk).unwrap());
        let other =
            LogEntry::new(crate::store::admin::LogMark { writer: own.writer + 1, ..own }, b"".as_slice().into());
        let refused = |read: Option<Vec<LogEntry>>| {
            let leases = Arc::<ScriptedLeases>::default();
            let engine = ClusterEngine { log: Arc::new(ReadLog::of(vec![read])), leases: leases.clone() };
            let (disk, name): (Arc<dyn Disk>, _) = (disk.clone(), "a".to_owned());
            let node =
                StoppedNode { settings: &settings, runtime: &runtime, disk, term_and_role: MEMBER, engine, name };
            let replica = open_replica(&settings, &node.disk).unwrap();
            let error = tokio::task::block_in_place(|| end_with(&node, replica)).unwrap_err().to_string();
            assert!(!leases.has_ended.load(Ordering::Relaxed), "{error}");
            error
        };
        let forgotten = refused(Some(Vec::new()));
        assert!(forgotten.contains("the log ends before it") && forgotten.contains("cluster rebase"), "{forgotten}");
        let diverged = refused(Some(vec![other]));
        assert!(diverged.contains("is not the log's commit"), "{diverged}");
        assert_eq!(refused(None), "it does not answer");
    }
}
