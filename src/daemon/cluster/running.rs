//! The running node of a cluster: its heartbeats, and while it stands by its listener and the thread that applies the log.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::JoinHandle;

use super::engine::{ClusterEngine, KEEP, connect, member};
use super::heartbeat::{self, HeartbeatParts, HeartbeatState};
use super::init::POOLED;
use super::{Node, NodeEnd};
use crate::config::Settings;
use crate::daemon::follow::StopSignal;
use crate::daemon::link::closed_store_name;
use crate::daemon::standby::service::StandbyService;
use crate::daemon::standby::{DRAIN, SharedStatus, term_and_role};
use crate::daemon::{DaemonError, Ownership, Platform, keys, listen, metrics_listener, url};
use crate::engine::blocking_pool::BlockingPool;
use crate::engine::cluster_lease::{Leases, Member, MemberRow};
use crate::engine::log_backoff::LogBackoff;
use crate::rules::tenure::{HEARTBEAT_EVERY, LEASE};
use crate::server::Server;
use crate::store::Disk;
use crate::store::admin::{CommitAppender, LogUnreachable};

/// Time before the end of a stop for the answers of changes that the log has not taken.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A node, from its start to its end. Dropping it ends its heartbeats.
pub struct RunningNode {
    engine: ClusterEngine,
    pub state: Arc<HeartbeatState>,
    heartbeats: JoinHandle<()>,
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        self.heartbeats.abort();
    }
}

/// The result of standing by.
pub enum StoodBy {
    Stopped,
    Owns(Ownership),
    SteppedDown,
}

impl RunningNode {
    /// Starts the heartbeats of the node that the settings describe.
    ///
    /// # Errors
    /// The settings cannot be used, or another machine with the node's name is alive.
    pub async fn start(settings: &Settings, world: &Platform) -> Result<RunningNode, DaemonError> {
        let engine = connect(settings)?;
        let check = JoinCheck::of(settings, &*world.disk)?;
        match check.ask(&*engine.leases).await {
            Ok(admitted) => admitted?,
            // It is asked again before the first heartbeat, so no other node hears of this one before.
            Err(_) => return Ok(RunningNode::with_heartbeats(engine, world, KEEP, Some(check))),
        }
        Ok(RunningNode::with_engine(engine, world, KEEP))
    }

    /// Starts the heartbeats of a node of an engine, whose log retains a record for at least `keep`. Must be called within
    /// the runtime.
    pub fn with_engine(engine: ClusterEngine, world: &Platform, keep: Duration) -> RunningNode {
        RunningNode::with_heartbeats(engine, world, keep, None)
    }

    fn with_heartbeats(
        engine: ClusterEngine,
        world: &Platform,
        keep: Duration,
        check: Option<JoinCheck>,
    ) -> RunningNode {
        let state = Arc::<HeartbeatState>::default();
        let parts = HeartbeatParts { engine: engine.clone(), clock: world.clock.clone(), work: world.work, keep };
        let (leases, shared) = (engine.leases.clone(), state.clone());
        let heartbeats = tokio::spawn(async move {
            match check {
                Some(check) => match check.wait(&*leases).await {
                    Ok(()) => heartbeat::run(parts, shared).await,
                    Err(error) => shared.refuse(error),
                },
                None => heartbeat::run(parts, shared).await,
            }
        });
        RunningNode { engine, state, heartbeats }
    }

    /// Stands by until this node owns the store, or `stop_requested` ends.
    ///
    /// # Errors
    /// An address is in use, the disk fails, or the store does not go on with the log.
    pub async fn stand_by(
        &self,
        settings: &Settings,
        world: Platform,
        stop_requested: impl Future<Output = ()>,
    ) -> Result<StoodBy, DaemonError> {
        self.warn_of_engine().await;
        let (status, stop) = (SharedStatus::default(), Arc::<StopSignal>::default());
        let node = Node {
            settings: settings.clone(),
            disk: world.disk.clone(),
            replica_log: world.replica_log.clone(),
            log: self.engine.log.clone(),
            state: self.state.clone(),
            status: status.clone(),
            stop: stop.clone(),
            runtime: tokio::runtime::Handle::current(),
            clock: world.clock.clone(),
            random: world.random.clone(),
            work: world.work,
            lacks_store: None,
            open: None,
            copy_problem: String::new(),
        };
        let work = world.work;
        let server = self.serve(settings, world, status).await?;
        let mut running = match work {
            BlockingPool::Threads => tokio::task::spawn_blocking(move || node.run()),
            BlockingPool::Inline => tokio::spawn(node.run_in_task()),
        };
        tokio::pin!(stop_requested);
        let (mut is_stopped, mut refusal) = (false, None);
        let ended = tokio::select! {
            () = &mut stop_requested => {
                is_stopped = true;
                stop.set();
                running.await
            }
            error = self.state.refused() => {
                refusal = Some(error);
                stop.set();
                running.await
            }
            ended = &mut running => ended,
        };
        server.drain(tokio::time::Instant::now() + DRAIN).await;
        if let Some(error) = refusal {
            return Err(error);
        }
        let panicked = |_| DaemonError::Engine("the thread that applies the log has panicked".to_owned());
        match ended.map_err(panicked)?? {
            NodeEnd::Stopped => Ok(StoodBy::Stopped),
            // It was told to stop while it took over, and the signal does not come again.
            NodeEnd::Owns(_) if is_stopped => Ok(StoodBy::Stopped),
            NodeEnd::SteppedDown => Ok(StoodBy::SteppedDown),
            NodeEnd::Owns(appender) => Ok(StoodBy::Owns(self.ownership(appender))),
        }
    }

    fn ownership(&self, appender: Box<CommitAppender>) -> Ownership {
        Ownership { appender, term: self.state.term().unwrap_or(0), window: self.state.window.clone() }
    }

    async fn serve(&self, settings: &Settings, world: Platform, status: SharedStatus) -> Result<Server, DaemonError> {
        let Platform { network, limits, listeners, tls, .. } = world;
        let mode = settings.server.socket_mode;
        let listeners =
            if listeners.is_empty() { vec![listen(&*network, &settings.listen, mode).await?] } else { listeners };
        let address = listeners[0].local_addr();
        let state = self.state.clone();
        let owner = move || state.last().and_then(|heartbeat| heartbeat.owner).unwrap_or_default();
        let access = Arc::new(ArcSwap::from_pointee(metrics_listener::access(&settings.metrics)));
        let service = StandbyService { status, owner: Box::new(owner), access };
        tracing::info!(url = url(&address, tls.is_some()), "this node stands by");
        Ok(Server::start_with(Arc::new(service), listeners, limits, tls))
    }

    /// Warns if a commit is in one place only when it is answered, or a pooler of transactions stands before the engine.
    async fn warn_of_engine(&self) {
        if let Ok(true) = self.engine.leases.is_pooled().await {
            tracing::error!("{POOLED}");
        }
        if let Ok(false) = self.engine.leases.is_synchronous().await {
            tracing::warn!(
                "PostgreSQL has no synchronous_standby_names: \
                 commits that a failover forgets are lost unless their owner lives"
            );
        }
    }

    /// Ends the tenure shortly before `by` if the log takes no commits then. Never returns.
    pub async fn give_up_before(&self, by: tokio::time::Instant) {
        self.state.give_up_from(by.checked_sub(LAST_ANSWERS).unwrap_or(by)).await;
    }

    /// Gives the lease back, so that another node takes over at once. The store is closed.
    pub async fn release(self) {
        self.heartbeats.abort();
        let Some(term) = self.state.term() else { return };
        if let Err(error) = self.engine.leases.release(term).await {
            tracing::warn!(%error, "the lease was not given back; it runs out by itself");
        }
    }
}

/// The question whether this machine may be a node of the cluster. It is answered before any other node hears of the machine.
struct JoinCheck {
    me: Member,
    /// The name of the machine's store. `None` if it has none.
    store: Option<String>,
    data_dir: PathBuf,
}

impl JoinCheck {
    /// # Errors
    /// A setting is missing, or the store or its master key cannot be read.
    fn of(settings: &Settings, disk: &dyn Disk) -> Result<JoinCheck, DaemonError> {
        let store = match term_and_role(disk)? {
            Some(_) => Some(closed_store_name(disk, &keys::stored_master_key(settings, disk)?)?),
            None => None,
        };
        Ok(JoinCheck { me: member(settings)?, store, data_dir: settings.data_dir.clone() })
    }

    /// Asks the engine once.
    ///
    /// # Errors
    /// It does not answer.
    async fn ask(&self, leases: &dyn Leases) -> Result<Result<(), DaemonError>, LogUnreachable> {
        let cluster = leases.cluster().await?;
        if self.store.as_ref().is_some_and(|store| *store != cluster.store) {
            return Ok(Err(DaemonError::Settings(format!(
                "{}: this store is not that of the cluster in cluster.log: name the database of this store's cluster, or move \
                 the data directory away, so that the node copies the cluster's store",
                self.data_dir.display()
            ))));
        }
        Ok(refuse_second(&leases.members().await?, &self.me))
    }

    /// Asks the engine until it answers.
    ///
    /// # Errors
    /// This machine may not be a node.
    async fn wait(&self, leases: &dyn Leases) -> Result<(), DaemonError> {
        let mut log_backoff = LogBackoff::default();
        loop {
            match self.ask(leases).await {
                Ok(admitted) => return admitted,
                Err(error) => {
                    if let Some(times) = log_backoff.record() {
                        tracing::warn!(%error, times, "the engine of the cluster is not reached; trying again");
                    }
                }
            }
            tokio::time::sleep(HEARTBEAT_EVERY).await;
        }
    }
}

/// Refuses the second of two machines with one name: both would take the lease as their own. A restarted node has the URL of
/// the process before it.
fn refuse_second(members: &[MemberRow], me: &Member) -> Result<(), DaemonError> {
    let is_first =
        |row: &&MemberRow| row.member.node == me.node && row.member.url != me.url && row.seen_s < LEASE.as_secs_f64();
    match members.iter().find(is_first) {
        None => Ok(()),
        Some(first) => Err(DaemonError::Engine(format!(
            "a node named {} lives at {}: each node needs a cluster.node that no other has; {} s after its stop a node \
             counts as stopped",
            me.node,
            first.member.url,
            LEASE.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::cluster::heartbeat::tests::ScriptedLeases;
    use crate::daemon::cluster::tests::member_store;
    use crate::engine::cluster_lease::ClusterRow;

    fn node(node: &str, url: &str) -> Member {
        Member { node: node.to_owned(), url: url.to_owned(), version: String::new(), options: 0 }
    }

    #[test]
    fn a_second_machine_with_the_name_of_a_node_that_lives_is_refused() {
        let refused = |member: Member, seen_s: f64| {
            let row = MemberRow { member, applied: 1, seen_s, is_owner: true };
            refuse_second(&[row], &node("a", "https://a.example.com")).err().map(|error| error.to_string())
        };
        let words = refused(node("a", "https://b.example.com"), 9.0).unwrap();
        assert!(words.contains("a node named a lives at https://b.example.com"), "{words}");
        assert_eq!(refused(node("a", "https://b.example.com"), 11.0), None, "it has stopped");
        assert_eq!(refused(node("a", "https://a.example.com"), 0.1), None, "this node started again");
        assert_eq!(refused(node("b", "https://b.example.com"), 0.1), None, "another node");
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_with_another_store_is_refused_before_its_first_heartbeat() {
        let folder = tempfile::tempdir().unwrap();
        let (mut settings, disk) = member_store(folder.path());
        settings.cluster.url = Some("https://a.example.com".to_owned());
        let check = JoinCheck::of(&settings, &*disk).unwrap();
        let shown = |store: &str| ClusterRow { store: store.to_owned(), has_ended: false };
        let own = check.store.clone().unwrap();
        let leases = ScriptedLeases::default();
        leases.cluster.lock().unwrap().extend([shown("other"), shown(&own)]);
        let refused = check.wait(&leases).await.unwrap_err();
        assert!(matches!(refused, DaemonError::Settings(_)), "{refused}");
        assert!(refused.to_string().contains("not that of the cluster in cluster.log"), "{refused}");
        check.wait(&leases).await.unwrap();
        assert!(check.ask(&leases).await.is_err(), "the script has ended");
        let empty = JoinCheck { store: None, ..check };
        leases.cluster.lock().unwrap().push_back(shown("other"));
        empty.wait(&leases).await.unwrap();
    }
}
