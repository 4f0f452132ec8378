//! The stopped store of a node, for the commands that change its cluster.

use std::sync::Arc;

use super::engine::{ClusterEngine, connect, member};
use super::{apply, log_mark};
use crate::config::Settings;
use crate::daemon::offline::has_store;
use crate::daemon::standby::random;
use crate::daemon::{DaemonError, lock_folder};
use crate::engine::clock::{Clock as _, SystemClock};
use crate::engine::cluster_lease::MemberRow;
use crate::store::Disk;
use crate::store::admin::{self, FenceError, LogTail, LogUnreachable, Replica, Role, TermAndRole};

/// The store, whose data directory this process has locked, and the engine of its cluster.
pub(super) struct StoppedNode<'a> {
    pub settings: &'a Settings,
    pub runtime: &'a tokio::runtime::Handle,
    pub disk: Arc<dyn Disk>,
    pub term_and_role: TermAndRole,
    pub engine: ClusterEngine,
    /// The node's name.
    pub name: String,
}

impl<'a> StoppedNode<'a> {
    /// Locks the data directory of the settings. Must be called on a thread that runs no task, as all calls here.
    ///
    /// # Errors
    /// The store is in use or in no cluster, or a setting is missing.
    pub fn lock(settings: &'a Settings, runtime: &'a tokio::runtime::Handle) -> Result<StoppedNode<'a>, DaemonError> {
        let _guard = runtime.enter();
        has_store(&settings.data_dir)?;
        let disk = lock_folder(&settings.data_dir)?;
        let term_and_role = admin::term_and_role(&*disk)?;
        if term_and_role.role != Role::Member {
            return Err(refusal(settings, "this store is in no cluster: postrider cluster init begins one"));
        }
        let (engine, name) = (connect(settings)?, member(settings)?.node);
        Ok(StoppedNode { settings, runtime, disk, term_and_role, engine, name })
    }

    /// The error of a command that this store refuses.
    pub fn refusal(&self, words: &str) -> DaemonError {
        refusal(self.settings, words)
    }

    /// The other members of the cluster.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn others(&self) -> Result<impl Iterator<Item = MemberRow>, DaemonError> {
        let members = self.ask(self.engine.leases.members())?;
        Ok(members.into_iter().filter(|row| row.member.node != self.name))
    }

    /// Waits for an answer of the engine.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn ask<T>(&self, asking: impl Future<Output = Result<T, LogUnreachable>>) -> Result<T, DaemonError> {
        Ok(self.runtime.block_on(asking)?)
    }

    /// Applies the log to its end.
    ///
    /// # Errors
    /// The log does not answer or lacks a commit, or the disk fails.
    pub fn read_on(&self, replica: &mut Replica) -> Result<(), DaemonError> {
        let mut tail = LogTail::after_mark(log_mark(replica.last()));
        loop {
            let entries = admin::read_next(&*self.engine.log, tail.last()).map_err(|error| self.log_error(error))?;
            if entries.is_empty() {
                return Ok(());
            }
            apply(replica, &mut tail, &entries)?;
        }
    }

    /// The error of a log that this store was read with, and its cure.
    fn log_error(&self, error: FenceError<DaemonError>) -> DaemonError {
        match error {
            FenceError::Unreachable(error) => error.into(),
            FenceError::Apply(error) => error,
            FenceError::Ahead(_) => self.refusal(&format!(
                "{error}: run postrider cluster rebase on the node with the most commits, which lets the log go on from \
                 there, and then this again"
            )),
            error => self.refusal(&format!("{error}: run this on a node whose store goes on with the log")),
        }
    }

    /// Applies the log to its end and appends the fence of a term, so that no former owner that wakes up can append. Closes the
    /// store. Returns the number of the fence.
    ///
    /// # Errors
    /// The log does not answer or lacks a commit, or the disk fails.
    pub fn fence(&self, mut replica: Replica, term: u64) -> Result<u64, DaemonError> {
        let mut last = log_mark(replica.last());
        let mut tail = LogTail::after_mark(last);
        let fence = admin::fence(&*self.engine.log, &mut last, (term, random()()), SystemClock.now(), |entries| {
            apply(&mut replica, &mut tail, entries)
        });
        let fence = fence.map_err(|error| self.log_error(error))?;
        replica.close()?;
        Ok(fence.number)
    }
}

fn refusal(settings: &Settings, words: &str) -> DaemonError {
    DaemonError::Engine(format!("{}: {words}", settings.data_dir.display()))
}
