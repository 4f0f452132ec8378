//! A whole daemon in the test's own process: real sockets, a real store in a temporary directory, and a clock that
//! tests move.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use postrider::config::{self, Settings};
use postrider::daemon::{Daemon, Platform};
use postrider::engine::blocking_pool::BlockingPool;
use postrider::engine::clock::{ManualClock, SystemRandomness};
use postrider::engine::network::{ListenAddr, RealNetwork};
use postrider::server::ServerLimits;
use postrider::store::Disk;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::children::lock;
use super::client::Client;
use super::disk::FaultyDisk;
use super::time_limit::TimeLimit;
use super::{START, eventually};

/// Maximum time that a stop waits for running requests.
const STOP: Duration = Duration::from_secs(10);

/// Replaces parts of the platform.
pub type ChangeWorld = Arc<dyn Fn(&mut Platform) + Send + Sync>;

pub struct TestDaemon {
    pub clock: Arc<ManualClock>,
    pub settings: Settings,
    /// The client of the first key, which has every permission.
    pub client: Client,
    /// The disk that replaces the directory. `None` for the directory.
    pub disk: Option<FaultyDisk>,
    world: Option<ChangeWorld>,
    daemon: Option<Daemon>,
    folder: TempDir,
    _limit: TimeLimit,
}

/// The client of the first key: `daemon.get(…)`.
impl Deref for TestDaemon {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl TestDaemon {
    /// Starts a daemon with default settings, except that loopback receivers are allowed.
    pub async fn start() -> TestDaemon {
        TestDaemon::with(|_| {}).await
    }

    /// Starts a daemon with settings that differ from those of `start`.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> TestDaemon {
        TestDaemon::over(None, None, change).await
    }

    /// Starts a daemon on a faulty disk. Only the keys are in the directory.
    pub async fn on(disk: FaultyDisk, change: impl FnOnce(&mut Settings)) -> TestDaemon {
        TestDaemon::over(Some(disk), None, change).await
    }

    /// Starts a daemon on an existing store with its first key.
    pub async fn on_found(folder: TempDir, key: String) -> TestDaemon {
        let limit = TimeLimit::begin();
        let (settings, clock) = (settings_in(&folder), Arc::new(ManualClock::at(START)));
        let daemon = run(&settings, &clock, None, None).await;
        let client = client_of(&daemon, key);
        TestDaemon { clock, settings, client, disk: None, world: None, daemon: Some(daemon), folder, _limit: limit }
    }

    /// Starts a daemon on a platform that differs from that of `start`.
    pub async fn within(world: impl Fn(&mut Platform) + Send + Sync + 'static) -> TestDaemon {
        TestDaemon::over(None, Some(Arc::new(world)), |_| {}).await
    }

    async fn over(
        disk: Option<FaultyDisk>,
        world: Option<ChangeWorld>,
        change: impl FnOnce(&mut Settings),
    ) -> TestDaemon {
        let limit = TimeLimit::begin();
        let folder = tempfile::tempdir().expect("a directory");
        let mut settings = settings_in(&folder);
        change(&mut settings);
        let clock = Arc::new(ManualClock::at(START));
        let daemon = run(&settings, &clock, disk.as_ref(), world.as_ref()).await;
        let key = daemon.first_key.as_ref().expect("the first start makes a key").text.clone();
        let client = client_of(&daemon, key);
        TestDaemon { clock, settings, client, disk, world, daemon: Some(daemon), folder, _limit: limit }
    }

    /// Stops as SIGTERM does and starts again on the same data, on another port.
    pub async fn restart(&mut self) {
        self.stop(STOP).await;
        self.start_again().await;
    }

    /// Stops as SIGTERM does. Running requests have `timeout`.
    pub async fn stop(&mut self, timeout: Duration) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop(timeout).await;
        }
    }

    pub async fn start_again(&mut self) {
        let daemon = run(&self.settings, &self.clock, self.disk.as_ref(), self.world.as_ref()).await;
        self.client = client_of(&daemon, self.client.key.clone());
        self.daemon = Some(daemon);
    }

    /// Completes once the disk has failed so that only a new start recovers.
    pub async fn is_broken(&self) {
        self.daemon.as_ref().expect("it runs").engine.broken.notified().await;
    }

    /// Completes once a critical task of the daemon has panicked.
    pub async fn has_crashed(&self) {
        self.daemon.as_ref().expect("it runs").engine.crashed.notified().await;
    }

    /// The folder of the store.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Advances both clocks, for due times and for the clock's trust alike.
    pub fn advance_s(&self, seconds: i64) {
        self.clock.advance_ms(seconds * 1_000);
    }

    /// Makes a webhook. `fields` are added to the URL.
    pub async fn webhook(&self, url: &str, fields: Value) -> Value {
        let mut body = json!({ "url": url });
        for (name, value) in fields.as_object().expect("an object") {
            body[name] = value.clone();
        }
        self.try_post("/v1/webhooks", body).await.expect(201)
    }

    /// Publishes one event with this type and data.
    pub async fn publish(&self, event_type: &str, data: Value) -> Value {
        self.publish_with(json!({ "type": event_type, "data": data })).await
    }

    pub async fn publish_with(&self, event: Value) -> Value {
        self.try_post("/v1/events", event).await.expect(202)
    }

    /// The deliveries of an event, oldest first.
    pub async fn deliveries(&self, event: &Value) -> Vec<Value> {
        let page = self.get(&format!("/v1/events/{}/deliveries?limit=250", text(event, "id"))).await;
        let mut rows = page["data"].as_array().expect("a list").clone();
        rows.reverse();
        rows
    }

    /// The only delivery of an event, once `wanted` is true for it.
    pub async fn delivery_when(&self, event: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually("a delivery as wanted", async || {
            let rows = self.deliveries(event).await;
            assert_eq!(rows.len(), 1, "{rows:?}");
            rows.into_iter().next().filter(|row| wanted(row))
        })
        .await
    }

    /// The only delivery of an event, once it has this status.
    pub async fn delivery_in(&self, event: &Value, status: &str) -> Value {
        self.delivery_when(event, |row| row["status"] == status).await
    }

    /// The attempts of a delivery, oldest first.
    pub async fn attempts(&self, delivery: &Value) -> Vec<Value> {
        let page = self.get(&format!("/v1/deliveries/{}/attempts?limit=250", text(delivery, "id"))).await;
        let mut rows = page["data"].as_array().expect("a list").clone();
        rows.reverse();
        rows
    }

    /// The webhook as it is now.
    pub async fn read_webhook(&self, webhook: &Value) -> Value {
        self.get(&format!("/v1/webhooks/{}", text(webhook, "id"))).await
    }

    /// The webhook, once `wanted` is true for it.
    pub async fn webhook_when(&self, webhook: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually("a webhook as wanted", async || Some(self.read_webhook(webhook).await).filter(&wanted)).await
    }
}

/// A member that is text.
pub fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("no text {member} in {value}"))
}

/// A member that is a time.
pub fn time(value: &Value, member: &str) -> postrider::model::Time {
    text(value, member).parse().unwrap_or_else(|_| panic!("no time {member} in {value}"))
}

/// The value of one series in the text of `/metrics`, written as Prometheus writes it.
pub fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {metrics}")).parse().expect("a number")
}

/// Default settings, except that loopback receivers are allowed.
fn settings_in(folder: &TempDir) -> Settings {
    let mut settings = Settings {
        data_dir: folder.path().to_owned(),
        listen: config::ListenSetting::Tcp("127.0.0.1:0".parse().expect("an address")),
        ..Settings::default()
    };
    settings.delivery.allow = vec!["127.0.0.0/8".to_owned()];
    settings.min_free_bytes = 0;
    settings
}

async fn run(
    settings: &Settings,
    clock: &Arc<ManualClock>,
    disk: Option<&FaultyDisk>,
    change: Option<&ChangeWorld>,
) -> Daemon {
    let disk: Arc<dyn Disk> = match disk {
        Some(disk) => Arc::new(disk.clone()),
        None => lock(&settings.data_dir),
    };
    let mut world = Platform {
        clock: clock.clone(),
        random: Arc::new(SystemRandomness::default()),
        network: Arc::new(RealNetwork),
        disk,
        work: BlockingPool::Threads,
        limits: ServerLimits::default(),
        listeners: Vec::new(),
        replica_log: None,
        tls: None,
    };
    if let Some(change) = change {
        change(&mut world);
    }
    Daemon::start(settings, world).await.expect("the daemon starts")
}

fn client_of(daemon: &Daemon, key: String) -> Client {
    let ListenAddr::Tcp(address) = daemon.address else { panic!("not TCP") };
    Client { address, key }
}
