//! A node of the simulated cluster: its disks, its processes one after the other, and their ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider::api::auth::key_hash;
use postrider::config::Settings;
use postrider::daemon::cluster::engine::ClusterEngine;
use postrider::daemon::cluster::running::{RunningNode, StoodBy};
use postrider::daemon::{Daemon, Ownership, Platform, options};
use postrider::engine::blocking_pool::BlockingPool;
use postrider::engine::clock::numbers;
use postrider::server::ServerLimits;
use postrider::store::admin::{self, LogMark, Role, TermAndRole};
use tokio::sync::Notify;

use super::engine::{NodeLease, NodeLog, SimEngine};
use crate::sim::expectations::Expectations;
use crate::sim::machine::{MASTER_KEY, STOP, settings};
use crate::sim::rng::{Rng, SimRandom};
use crate::sim::world::{SimClock, SimNetwork, elapsed_ms, sleep_ms};
use crate::support::disk::FaultyDisk;

/// Time for which the log keeps a record at the least.
const KEEP: Duration = Duration::from_secs(3_600);
/// Interval at which a node looks whether the cluster has begun.
const BEGUN_AGAIN_MS: u64 = 1_000;
/// Size at which a partition begins.
const PARTITION_BYTES: u64 = 3 << 20;

/// The end of a node's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeEnded {
    /// It could not go on.
    Failed(String),
    /// A disk failed.
    Broken,
    /// Its tenure ended.
    SteppedDown,
    /// It was told to stop.
    Stopped,
}

/// The disks of a node: of its store, and of its replication log.
#[derive(Clone)]
pub struct NodeDisks {
    pub store: FaultyDisk,
    pub log: FaultyDisk,
}

impl NodeDisks {
    /// The disks after the end of the process, by a power cut or a kill.
    pub fn after_end(&self, is_cut: bool) -> NodeDisks {
        let after = |disk: &FaultyDisk| if is_cut { disk.cut() } else { disk.kill() };
        NodeDisks { store: after(&self.store), log: after(&self.log) }
    }
}

pub struct SimNode {
    pub number: usize,
    pub engine: SimEngine,
    pub disks: RefCell<NodeDisks>,
    pub ended: RefCell<Option<NodeEnded>>,
    /// The term in which this process serves.
    pub term: Cell<Option<u64>>,
    /// Time since which the process runs. `None` if it does not.
    pub up_since: Cell<Option<i64>>,
    pub stop: Notify,
    /// The nodes that get a copy of the first store.
    others: RefCell<Vec<Rc<SimNode>>>,
    expectations: Rc<RefCell<Expectations>>,
    address: Cell<Option<std::net::IpAddr>>,
    rng: RefCell<Rng>,
}

impl SimNode {
    pub fn new(number: usize, engine: SimEngine, expectations: Rc<RefCell<Expectations>>, mut rng: Rng) -> Rc<SimNode> {
        let disks = NodeDisks { store: FaultyDisk::new(rng.draw()), log: FaultyDisk::new(rng.draw()) };
        Rc::new(SimNode {
            number,
            engine,
            disks: RefCell::new(disks),
            ended: RefCell::new(None),
            term: Cell::new(None),
            up_since: Cell::new(None),
            stop: Notify::new(),
            others: RefCell::default(),
            expectations,
            address: Cell::new(None),
            rng: RefCell::new(rng),
        })
    }

    /// Makes this node the first one: its store is the cluster's.
    pub fn begins_for(&self, others: &[Rc<SimNode>]) {
        *self.others.borrow_mut() = others.to_vec();
    }

    pub fn set_address(&self, address: std::net::IpAddr) {
        self.address.set(Some(address));
    }

    pub fn address(&self) -> Option<std::net::IpAddr> {
        self.address.get()
    }

    /// Runs a process until it ends or its host crashes.
    pub async fn run(self: Rc<Self>) {
        let ended = self.clone().live().await;
        self.term.set(None);
        self.up_since.set(None);
        *self.ended.borrow_mut() = Some(ended);
        // The rest of the process ends with its host.
        std::future::pending::<()>().await;
    }

    fn world(&self) -> Platform {
        let disks = self.disks.borrow();
        Platform {
            clock: Arc::new(SimClock::default()),
            random: Arc::new(SimRandom(Mutex::new(self.rng.borrow_mut().fork()))),
            network: Arc::new(SimNetwork::default()),
            disk: Arc::new(disks.store.clone()),
            replica_log: Some(Arc::new(disks.log.clone())),
            work: BlockingPool::Inline,
            limits: ServerLimits::default(),
            listeners: Vec::new(),
            tls: None,
        }
    }

    /// Makes the store of the cluster, as `postrider serve` and `postrider cluster init` do, and copies it to the others.
    async fn begin(&self, settings: &Settings) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let daemon = Daemon::start(settings, self.world()).await.map_err(|error| text(&error))?;
        daemon.stop(STOP).await;
        let disk = Arc::new(self.disks.borrow().store.clone());
        let world = self.world();
        let random = Box::new(numbers(world.random.clone()));
        let rested = admin::fold_wal(disk.clone(), options(settings), &key_hash(MASTER_KEY), world.clock.now(), random);
        let last = rested.map_err(|error| text(&error))?;
        let member = TermAndRole { term: 1, role: Role::Member, overtaken_by: 0 };
        admin::set_term_and_role(&*disk, member).map_err(|error| text(&error))?;
        for other in self.others.borrow().iter() {
            other.disks.borrow_mut().store = disk.copy();
        }
        self.engine.begin(LogMark { number: last.number, term: 0, writer: last.run as u64 });
        Ok(())
    }

    async fn live(self: Rc<Self>) -> NodeEnded {
        let settings = settings(PARTITION_BYTES);
        if self.number == 0
            && !self.engine.is_begun()
            && let Err(words) = self.begin(&settings).await
        {
            return NodeEnded::Failed(words);
        }
        while !self.engine.is_begun() {
            sleep_ms(BEGUN_AGAIN_MS).await;
        }
        self.up_since.set(Some(elapsed_ms()));
        let log = Arc::new(NodeLog { engine: self.engine.clone(), node: self.number, tenure: Mutex::default() });
        let leases = Arc::new(NodeLease { engine: self.engine.clone(), node: self.number });
        let world = self.world();
        let node = RunningNode::with_engine(ClusterEngine { log: log.clone(), leases }, &world, KEEP);
        let ownership = match node.stand_by(&settings, world, self.stop.notified()).await {
            Ok(StoodBy::Owns(ownership)) => ownership,
            Ok(StoodBy::Stopped) => {
                node.release().await;
                return NodeEnded::Stopped;
            }
            Ok(StoodBy::SteppedDown) => return NodeEnded::SteppedDown,
            Err(error) => return NodeEnded::Failed(error.to_string()),
        };
        *log.tenure.lock().expect("a tenure") = Some(node.state.tenure.clone());
        self.serve(&settings, node, ownership).await
    }

    async fn serve(&self, settings: &Settings, node: RunningNode, ownership: Ownership) -> NodeEnded {
        let term = ownership.term;
        let is_over = |node: &RunningNode| node.state.tenure.is_over();
        self.engine.serves(term);
        if let Some(address) = self.address.get() {
            self.expectations.borrow_mut().serves(address, term, elapsed_ms());
        }
        let daemon = match Daemon::start_as(settings, self.world(), Some(ownership)).await {
            Ok(daemon) => daemon,
            Err(_) if is_over(&node) => return NodeEnded::SteppedDown,
            Err(error) => return NodeEnded::Failed(error.to_string()),
        };
        self.term.set(Some(term));
        let broken = daemon.engine.broken.clone();
        tokio::select! {
            biased;
            () = broken.notified() => {
                let ended = if is_over(&node) { NodeEnded::SteppedDown } else { NodeEnded::Broken };
                // The process ends here, and its host ends the rest.
                std::mem::forget((daemon, node));
                ended
            }
            () = node.state.stepped_down() => {
                daemon.stop(Duration::ZERO).await;
                NodeEnded::SteppedDown
            }
            () = self.stop.notified() => {
                daemon.stop(STOP).await;
                node.release().await;
                NodeEnded::Stopped
            }
        }
    }
}
