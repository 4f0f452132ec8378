//! The engine: the tasks that write, schedule, send and maintain.
//!
//! The write queue applies requests, the scheduler and the deliverer send, the janitor maintains. The engine never sees
//! its neighbour `api`. Clock, randomness, network and disk are handed in.

mod admission;
pub mod believed_clock;
pub mod blocking_pool;
pub mod client_connections;
pub mod clock;
pub mod cluster_lease;
mod compiled_webhook;
pub mod critical_task;
pub mod deliverer;
pub mod drawn_ids;
mod expiry;
pub mod feeds;
pub mod handshake;
pub mod janitor;
pub mod log_backoff;
mod machine_state;
pub mod metrics;
pub mod network;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod proxy_health;
mod queue_item;
pub mod readiness;
mod redact;
mod replays;
mod resolver;
mod retry_buffer;
pub mod scheduler;
pub mod sender;
pub mod serve_window;
mod shortages;
mod state_log;
mod storage_log;
pub mod write_queue;
mod writer_loop;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;

use crate::model::{AttemptId, Time, Webhook, WebhookId};
use crate::rules::exposition::ExpositionFormat;
use crate::rules::waiting::SendingPace;
use crate::store::admin::{AppendStats, BackupSnapshot, Replication};
use crate::store::{Applied, Effects, Opened, Rejection, Store, WriteRequest};

use self::believed_clock::BelievedClock;
use self::blocking_pool::BlockingPool;
use self::clock::{Clock, Random};
use self::critical_task::CriticalTask;
use self::deliverer::{Deliverer, TestBodies};
use self::drawn_ids::DrawnIds;
use self::feeds::Feeds;
use self::handshake::Handshakes;
use self::metrics::{GaugeInputs, Metrics};
use self::network::Network;
use self::proxy_health::{ProxyHealth, ProxyState};
use self::scheduler::{Scheduler, SchedulerHandle};
use self::sender::{AddressGuard, DeliveryProxy, Sender};
use self::serve_window::ServeWindow;
use self::write_queue::{Busy, WriteQueue};

/// The inputs of an engine.
pub struct EngineParts {
    pub opened: Opened,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub network: Arc<dyn Network>,
    pub guard: Arc<dyn AddressGuard>,
    /// The proxy of deliveries. `None` if they go directly.
    pub proxy: Option<DeliveryProxy>,
    pub work: BlockingPool,
    /// Maximum requests in flight over all webhooks.
    pub in_flight_max: usize,
    /// This sender's name in handshakes.
    pub origin: String,
    pub attempt_observer: Option<Arc<dyn deliverer::AttemptObserver>>,
    /// Whether Svix's scheme signs in the headers of Standard Webhooks.
    pub svix_whitelabel: bool,
    /// The time in which an owner in a cluster may begin deliveries. `None` if the store is by itself.
    pub window: Option<Arc<ServeWindow>>,
}

/// A running engine.
pub struct Engine {
    pub store: Store,
    pub replication: Arc<Replication>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub deliverer: Arc<Deliverer>,
    pub feeds: Arc<Feeds>,
    pub metrics: Arc<Metrics>,
    pub client_connections: Arc<client_connections::ClientConnections>,
    pub clock_trust: Arc<janitor::ClockTrustFlag>,
    pub work: BlockingPool,
    /// Notified when a sync failed: the process must end and recover from the durable state.
    pub broken: Arc<Notify>,
    /// Notified when a critical task panicked: the process must end.
    pub crashed: Arc<Notify>,
    /// Counts of the appends to the log of a cluster. `None` if the store is by itself.
    append_stats: Option<Arc<AppendStats>>,
    in_flight_max: usize,
    /// When the engine started, by the machine's clock: the believed time is first read by the tasks.
    started_at: Time,
    scheduler: SchedulerHandle,
    write_queue: WriteQueue,
}

/// The tasks of an engine, to be ended at a stop.
pub struct RunningTasks {
    writer: write_queue::Driver,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// The consumers of a committed batch's effects.
#[derive(Clone)]
struct EffectConsumers {
    metrics: Arc<Metrics>,
    feeds: Arc<Feeds>,
    drawn_ids: Arc<DrawnIds>,
    /// Wakes the replay jobs.
    jobs: Arc<Notify>,
    clock_trust: Arc<janitor::ClockTrustFlag>,
    expiry: Arc<expiry::ExpiryTimer>,
    scheduler: SchedulerHandle,
}

impl EffectConsumers {
    fn new(believed: Arc<BelievedClock>, newest: AttemptId, scheduler: SchedulerHandle) -> EffectConsumers {
        let feeds: Arc<Feeds> = Arc::default();
        EffectConsumers {
            metrics: Arc::default(),
            drawn_ids: Arc::new(DrawnIds::above(newest, feeds.clone())),
            feeds,
            jobs: Arc::new(Notify::new()),
            clock_trust: Arc::new(janitor::ClockTrustFlag::new(believed)),
            expiry: Arc::default(),
            scheduler,
        }
    }

    /// Passes each effect to its consumer.
    fn consume(&self, effects: Effects) {
        state_log::log(&effects);
        self.metrics.finished(effects.finals);
        self.drawn_ids.end(effects.recorded.iter().chain(&effects.unrecorded).copied());
        self.feeds.wake(&effects.feeds, !effects.recorded.is_empty());
        if effects.jobs {
            self.jobs.notify_one();
        }
        if effects.clock_accepted {
            self.clock_trust.accept_clock();
        }
        if let Some(end) = effects.next_expiry {
            self.expiry.set(end);
        }
        self.scheduler.batch(effects);
    }
}

impl Engine {
    /// Starts the engine. Must be called within the runtime.
    ///
    /// # Errors
    /// No certificate authority can be loaded, or a thread cannot be made.
    pub fn start(parts: EngineParts) -> Result<(Engine, RunningTasks), String> {
        let started_at = parts.clock.now();
        let EngineParts { opened, clock, random, network, guard, proxy, work, in_flight_max, origin, .. } = parts;
        let (attempt_observer, svix_whitelabel, window) = (parts.attempt_observer, parts.svix_whitelabel, parts.window);
        let (store, last_seen) = (opened.store.clone(), opened.store.last_seen());
        let believed = Arc::new(BelievedClock::new(clock, last_seen, store.retention_ms()));
        let clock: Arc<dyn Clock> = believed.clone();
        let (replication, append_stats) = (opened.writer.replication(), opened.writer.append_stats());
        let (broken, crashed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (scheduler_handle, mailbox) = scheduler::channel();
        let consumers = EffectConsumers::new(believed, store.newest_attempt(), scheduler_handle.clone());
        let EffectConsumers { metrics, feeds, drawn_ids, jobs, clock_trust, expiry, .. } = consumers.clone();
        let parts = writer_loop::WriterParts {
            writer: opened.writer,
            first: opened.first,
            clock: clock.clone(),
            metrics: metrics.clone(),
            effects: Box::new(move |effects| consumers.consume(effects)),
            broken: broken.clone(),
            critical_task: CriticalTask::new("the writer", &crashed),
        };
        let (write_queue, writer) = WriteQueue::start(parts, work)
            .map_err(|error| format!("the writer thread could not be started: {error}"))?;
        let sender = Sender::new(network, guard)?;
        sender.set_proxy(proxy);
        let deliverer = Arc::new(Deliverer {
            sender,
            clock: clock.clone(),
            random: random.clone(),
            handshakes: Handshakes::new(&origin),
            proxy_health: ProxyHealth::default(),
            attempt_observer,
            shortages: Arc::default(),
            drawn_ids,
            svix_whitelabel,
            window,
            test_bodies: TestBodies::default(),
        });
        let engine = Engine {
            store,
            replication,
            clock,
            random,
            deliverer,
            feeds,
            metrics,
            client_connections: Arc::default(),
            clock_trust,
            work,
            broken,
            crashed,
            append_stats,
            in_flight_max,
            started_at,
            scheduler: scheduler_handle,
            write_queue,
        };
        let tasks = engine.spawn_tasks(last_seen, mailbox, jobs, expiry);
        Ok((engine, RunningTasks { writer, tasks }))
    }

    /// Spawns the critical tasks beside the writer.
    fn spawn_tasks(
        &self,
        last_seen: Option<Time>,
        mailbox: scheduler::Mailbox,
        jobs: Arc<Notify>,
        timer: Arc<expiry::ExpiryTimer>,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        jobs.notify_one();
        let critical = |part| CriticalTask::new(part, &self.crashed);
        let (store, queue, clock, work) = (&self.store, &self.write_queue, &self.clock, self.work);
        let scheduler = Scheduler::new(
            store.clone(),
            queue.clone(),
            self.deliverer.clone(),
            self.metrics.clone(),
            work,
            self.scheduler.clone(),
            self.in_flight_max,
        );
        let trust = self.clock_trust.clone();
        let maintain = janitor::run(queue.clone(), store.clone(), work, last_seen, trust);
        let replays = replays::run(store.clone(), queue.clone(), clock.clone(), work, jobs);
        let expiry = expiry::run(store.clone(), self.scheduler.clone(), clock.clone(), work, timer);
        vec![
            critical("the scheduler").spawn(scheduler.run(mailbox)),
            critical("the janitor").spawn(maintain),
            critical("replays").spawn(replays),
            critical("expiry").spawn(expiry),
        ]
    }

    /// Applies a request and waits for its commit.
    pub async fn apply(&self, write_request: Box<WriteRequest>) -> Result<Result<Applied, Rejection>, Busy> {
        self.write_queue.apply(write_request).await
    }

    /// A snapshot of the store for a backup.
    ///
    /// # Errors
    /// A description: another backup is running, the disk fails, or the daemon is stopping.
    pub async fn backup_snapshot(&self) -> Result<BackupSnapshot, String> {
        self.write_queue.backup_snapshot().await
    }

    /// Dispatched deliveries whose outcome is not durable yet.
    pub fn outstanding(&self) -> usize {
        self.scheduler.outstanding()
    }

    /// Deliveries of a webhook that were dispatched and whose outcome is not durable yet.
    pub fn in_flight(&self, webhook: WebhookId) -> u32 {
        self.scheduler.in_flight(webhook)
    }

    /// The requests of a webhook, and the time from which its rate and its app's allow the next one.
    pub fn pace(&self, webhook: &Webhook) -> SendingPace {
        self.scheduler.pace(webhook.id, webhook.app_id)
    }

    /// All metrics in one of Prometheus' exposition formats.
    pub fn metrics_text(&self, format: ExpositionFormat) -> String {
        let now = self.clock.now();
        let registry = self.store.registry();
        let ids: Vec<_> = registry.webhooks().map(|object| object.id).collect();
        let backlog = self.store.backlog(&ids, now).unwrap_or_default();
        let appends = self.append_stats.as_deref();
        let (body_bytes, body_bytes_max) = self.scheduler.body_bytes();
        let levels = GaugeInputs {
            in_flight: self.outstanding() as i64,
            in_flight_max: self.in_flight_max as i64,
            in_flight_body_bytes: body_bytes as i64,
            in_flight_body_bytes_max: body_bytes_max as i64,
            waiting: backlog.waiting as i64,
            oldest_due_age_s: backlog.oldest_due.map_or(0, |due: Time| now.since(due).max(0) / 1_000),
            queue_fill: self.write_queue.waiting_publishes() as i64,
            queue_max: write_queue::WAITING_PUBLISHES_MAX as i64,
            idle_connections: self.deliverer.sender.idle_connections() as i64,
            disk_free_bytes: self.store.free_bytes().unwrap_or(0) as i64,
            partitions: self.store.partition_count() as i64,
            sizes: self.store.sizes(),
            webhooks: self.webhooks(),
            ready: i64::from(self.unready().is_empty()),
            clock_trusted: i64::from(self.clock_trust.is_trusted()),
            followers: self.replication.stats(),
            proxy_up: i64::from(self.deliverer.proxy_health.state(now) == ProxyState::Well),
            proxy_failures: self.deliverer.proxy_health.failures(),
            clients: self.client_connections.stats(),
            cluster_log_up: i64::from(appends.is_none_or(|appends| !appends.is_unanswered())),
            cluster_healed: appends.map_or(0, |appends| appends.healed.load(Ordering::Relaxed) as i64),
        };
        self.metrics.text(format, &levels, self.store.written_bytes())
    }

    /// Sets the proxy of deliveries, if it is another one than before.
    pub fn set_proxy(&self, proxy: Option<DeliveryProxy>) {
        if self.deliverer.sender.proxy().as_deref() != proxy.as_ref() {
            self.deliverer.sender.set_proxy(proxy);
            self.deliverer.proxy_health.reset();
            self.scheduler.release();
        }
    }

    /// Rejects further publishes, stops sending, and wakes the readers of feeds.
    pub fn quiesce(&self) {
        self.write_queue.stop_publishing();
        self.feeds.close();
        self.scheduler.stop();
    }
}

impl RunningTasks {
    /// Ends the tasks, aborts requests in flight, and ends the writer after its queue is committed.
    pub async fn end(self, engine: Arc<Engine>) {
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks {
            let _ = task.await;
        }
        engine.write_queue.end();
        drop(engine);
        self.writer.ended().await;
    }
}
