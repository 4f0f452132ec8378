//! The machine of the daemon: its disk, its end and its restart.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider::config::{ListenSetting, SecretSetting, Settings};
use postrider::daemon::{Daemon, Platform};
use postrider::engine::blocking_pool::BlockingPool;
use postrider::server::ServerLimits;
use tokio::sync::Notify;

use super::api::KEY;
use super::plan::{IDEMPOTENCY_MS, RETENTION_MS};
use super::rng::{Rng, SimRandom};
use super::world::{API_PORT, SimClock, SimNetwork, elapsed_ms};
use crate::support::disk::FaultyDisk;

/// The master key of every store.
pub const MASTER_KEY: &str = "a master key that is long enough for everybody";
/// Maximum time that a stop waits for running requests.
pub const STOP: Duration = Duration::from_secs(10);
/// Partitions begin at one of these sizes, which are small, so that there are many.
const PARTITION_BYTES: [u64; 4] = [1_400_000, 2 << 20, 3 << 20, 8 << 20];

/// How a daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It did not start.
    Unstarted(String),
    /// A sync failed.
    Broken,
    /// It was told to stop.
    Stopped,
}

pub struct Machine {
    pub disk: RefCell<FaultyDisk>,
    pub network: SimNetwork,
    pub clock: SimClock,
    pub ended: RefCell<Option<Ended>>,
    /// When the daemon began to accept requests. `None` if it does not.
    pub up_since: Cell<Option<i64>>,
    pub stop: Notify,
    partition_bytes: u64,
    rng: RefCell<Rng>,
}

impl Machine {
    pub fn new(mut rng: Rng) -> Rc<Machine> {
        Rc::new(Machine {
            disk: RefCell::new(FaultyDisk::new(rng.draw())),
            network: SimNetwork::default(),
            clock: SimClock::default(),
            ended: RefCell::new(None),
            up_since: Cell::new(None),
            stop: Notify::new(),
            partition_bytes: rng.choose(&PARTITION_BYTES),
            rng: RefCell::new(rng),
        })
    }

    /// Runs a daemon until it ends or its host crashes.
    pub async fn run(self: Rc<Machine>) {
        let ended = self.clone().serve().await;
        self.up_since.set(None);
        *self.ended.borrow_mut() = Some(ended);
        // The rest of the process ends with its host.
        std::future::pending::<()>().await;
    }

    async fn serve(self: Rc<Machine>) -> Ended {
        let world = Platform {
            clock: Arc::new(self.clock.clone()),
            random: Arc::new(SimRandom(Mutex::new(self.rng.borrow_mut().fork()))),
            network: Arc::new(self.network.clone()),
            disk: Arc::new(self.disk.borrow().clone()),
            work: BlockingPool::Inline,
            limits: ServerLimits::default(),
            listeners: Vec::new(),
            replica_log: None,
            tls: None,
        };
        let daemon = match Daemon::start(&settings(self.partition_bytes), world).await {
            Ok(daemon) => daemon,
            Err(error) => return Ended::Unstarted(error.to_string()),
        };
        self.up_since.set(Some(elapsed_ms()));
        let broken = daemon.engine.broken.clone();
        tokio::select! {
            biased;
            () = broken.notified() => {
                // The process ends here, and its host ends the rest.
                std::mem::forget(daemon);
                Ended::Broken
            }
            () = self.stop.notified() => {
                daemon.stop(STOP).await;
                Ended::Stopped
            }
        }
    }
}

/// The settings of a daemon.
pub fn settings(partition_bytes: u64) -> Settings {
    let mut settings = Settings {
        listen: ListenSetting::Tcp(([0, 0, 0, 0], API_PORT).into()),
        admin_key: Some(SecretSetting::new(KEY)),
        master_key: Some(SecretSetting::new(MASTER_KEY)),
        retention_ms: RETENTION_MS,
        idempotency_window_ms: IDEMPOTENCY_MS,
        partition_max_bytes: partition_bytes,
        min_free_bytes: 1,
        ..Settings::default()
    };
    settings.delivery.allow = vec!["192.168.0.0/16".to_owned()];
    settings.delivery.max_in_flight = 400;
    settings
}
