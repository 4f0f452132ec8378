//! Takes a stopped store out of its cluster: it is by itself again, and the cluster has ended.
//!
//! Invariant: the store has every commit of the log, and no node can append to the log or take its lease any more. A call that
//! broke off can be repeated.

use super::engine::{connect, member};
use super::{apply, log_mark, open_replica};
use crate::config::Settings;
use crate::daemon::offline::{hand_over, has_store};
use crate::daemon::standby::random;
use crate::daemon::{DaemonError, lock_folder};
use crate::engine::clock::{Clock as _, SystemClock};
use crate::rules::tenure::LEASE;
use crate::store::admin::{self, LogTail, Role, TermAndRole};

/// Makes the stopped store of the data directory one by itself, and ends its cluster. Returns the number of its last commit.
/// Must be called on a thread that runs no task.
///
/// # Errors
/// The store is in use or no node's, another node lives, the store does not go on with the log, or the engine does not answer.
pub fn leave(settings: &Settings, runtime: &tokio::runtime::Handle) -> Result<u64, DaemonError> {
    let _guard = runtime.enter();
    let data_dir = &settings.data_dir;
    let refusal = |words: &str| DaemonError::Engine(format!("{}: {words}", data_dir.display()));
    let unreachable = |error: admin::LogUnreachable| DaemonError::Unreachable(error.to_string());
    let disk = lock_folder(data_dir)?;
    has_store(data_dir)?;
    let term_and_role = admin::term_and_role(&*disk)?;
    if term_and_role.role != Role::Member {
        return Err(refusal("this store is in no cluster"));
    }
    let engine = connect(settings)?.ok_or_else(|| DaemonError::Settings("cluster.log is not set".to_owned()))?;
    let me = member(settings)?.node;
    let members = runtime.block_on(engine.leases.members()).map_err(unreachable)?;
    let other = members.iter().find(|row| row.member.node != me && row.seen_s < LEASE.as_secs_f64());
    if let Some(other) = other {
        let (node, lease_s) = (&other.member.node, LEASE.as_secs());
        return Err(refusal(&format!(
            "the node {node} lives: stop all other nodes first; {lease_s} s after its stop a node counts as stopped"
        )));
    }
    let mut replica = open_replica(settings, &disk)?;
    let mut last = log_mark(replica.last());
    let mut tail = LogTail::after_mark(last);
    let ended = runtime.block_on(engine.leases.end()).map_err(unreachable)?;
    let term = ended.ok_or_else(|| refusal("the lease of another node has not run out: try again in ten seconds"))?;
    // After the fence no former owner that wakes up can append.
    let writer = random()();
    let fence = admin::fence(&*engine.log, &mut last, (term, writer), SystemClock.now(), |entries| {
        apply(&mut replica, &mut tail, entries)
    });
    let fence = fence.map_err(|error| refusal(&error.to_string()))?;
    replica.close()?;
    admin::set_term_and_role(
        &*disk,
        TermAndRole { role: Role::Owner, term: term_and_role.term.max(term), ..term_and_role },
    )?;
    hand_over(data_dir)?;
    Ok(fence.number)
}
