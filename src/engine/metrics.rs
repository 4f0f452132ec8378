//! What is counted for operators: a registry of metrics with bounded label sets, in Prometheus' text format.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::model::Outcome;
use crate::store::{Applied, Command, Order, Receipt, Refusal};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

/// Gauges that are read when they are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Levels {
    pub in_flight: i64,
    pub waiting: i64,
    pub oldest_due_age_s: i64,
    pub queue_fill: i64,
    pub idle_connections: i64,
    pub disk_free_bytes: i64,
    pub partitions: i64,
    pub webhooks: i64,
}

/// What a gauge reads of the levels.
type Reading = fn(&Levels) -> i64;
type Level = (Reading, Gauge);

#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: Counter,
    duplicates: Counter,
    deliveries: Counter,
    attempts: Family<ByOutcome, Counter>,
    refused: Counter,
    storage_failures: Counter,
    commits: Histogram,
    commit_orders: Histogram,
    lag: Histogram,
    receiver: Histogram,
    damaged: Counter,
    levels: Vec<Level>,
    written_bytes: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("postrider");
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let events = counter(&mut registry, "events", "Events accepted");
        let duplicates = counter(&mut registry, "events_duplicate", "Events recognised by their event_id");
        let deliveries = counter(&mut registry, "deliveries", "Deliveries made by publishing or replaying");
        let refused = counter(&mut registry, "orders_refused", "Commands that were refused");
        let storage_failures = counter(&mut registry, "storage_failures", "Commands that storage failed");
        let damaged = counter(&mut registry, "rows_damaged", "Rows that did not read back as they were written");
        let attempts = Family::<ByOutcome, Counter>::default();
        registry.register("attempts", "Attempts by outcome", attempts.clone());
        let seconds = |registry: &mut Registry, name: &str, help: &str, first: f64| {
            let histogram = Histogram::new(exponential_buckets(first, 2.0, 16));
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
            histogram
        };
        let commits = seconds(&mut registry, "commit", "Time of a commit", 0.000_25);
        let lag = seconds(&mut registry, "delivery_lag", "From being due to being sent", 0.000_5);
        let receiver = seconds(&mut registry, "receiver_response", "Receivers' response times", 0.001);
        let commit_orders = Histogram::new(exponential_buckets(1.0, 2.0, 13));
        registry.register("commit_orders", "Commands in one commit", commit_orders.clone());
        let written_bytes = Counter::default();
        registry.register_with_unit("disk_written", "Bytes written to storage", Unit::Bytes, written_bytes.clone());
        let levels: Vec<Level> = [
            ("in_flight", "Requests under way", (|l: &Levels| l.in_flight) as Reading),
            ("deliveries_waiting", "Deliveries not final", |l| l.waiting),
            ("oldest_due_age_seconds", "How long the oldest due delivery has waited", |l| l.oldest_due_age_s),
            ("publish_queue", "Publishes that wait for the writer", |l| l.queue_fill),
            ("idle_connections", "Connections that wait for their next request", |l| l.idle_connections),
            ("disk_free_bytes", "Free space for the store", |l| l.disk_free_bytes),
            ("partitions", "Partition files", |l| l.partitions),
            ("webhooks", "Webhooks", |l| l.webhooks),
        ]
        .into_iter()
        .map(|(name, help, read)| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            (read, gauge)
        })
        .collect();
        Metrics {
            registry,
            events,
            duplicates,
            deliveries,
            attempts,
            refused,
            storage_failures,
            commits,
            commit_orders,
            lag,
            receiver,
            damaged,
            levels,
            written_bytes,
        }
    }
}

impl Metrics {
    pub fn committed(&self, orders: usize, took: Duration) {
        self.commits.observe(took.as_secs_f64());
        self.commit_orders.observe(orders as f64);
    }

    pub fn applied(&self, orders: &[Order], results: &[Result<Applied, Refusal>]) {
        for (order, result) in orders.iter().zip(results) {
            match (result, &order.command) {
                (Ok(Applied { receipt: Receipt::Published(published), replayed: false, .. }), _) => {
                    let duplicates = published.iter().filter(|p| p.duplicate).count() as u64;
                    self.events.inc_by(published.len() as u64 - duplicates);
                    self.duplicates.inc_by(duplicates);
                    let fresh = published.iter().filter(|p| !p.duplicate);
                    self.deliveries.inc_by(fresh.map(|p| u64::from(p.event.deliveries)).sum());
                }
                (Ok(_), Command::Record(finished)) => self.attempted(finished.outcome, finished.response_time_ms),
                (Err(Refusal::Failed(_) | Refusal::DiskFull), _) => drop(self.storage_failures.inc()),
                (Err(_), _) => drop(self.refused.inc()),
                _ => {}
            }
        }
    }

    fn attempted(&self, outcome: Outcome, response_ms: Option<u32>) {
        self.attempts.get_or_create(&ByOutcome { outcome: outcome.as_str() }).inc();
        if let Some(ms) = response_ms {
            self.receiver.observe(f64::from(ms) / 1_000.0);
        }
    }

    /// A request went out `late_ms` after it was due.
    pub fn sent(&self, late_ms: i64) {
        self.lag.observe(late_ms.max(0) as f64 / 1_000.0);
    }

    pub fn damaged(&self) {
        self.damaged.inc();
    }

    /// Everything as Prometheus reads it.
    pub fn text(&self, levels: &Levels, written_bytes: u64) -> String {
        for (read, gauge) in &self.levels {
            gauge.set(read(levels));
        }
        self.written_bytes.inner().store(written_bytes, std::sync::atomic::Ordering::Relaxed);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
