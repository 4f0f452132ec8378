//! Metrics: counters with bounded label sets, in Prometheus' exposition formats.

mod bounds;
mod levels;
mod process;
mod recent_commits;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::engine::proxy_health::ProxyFailures;
use crate::model::{AttemptOutcome, DeliveryStatus};
use crate::rules::exposition::{ExpositionFormat, classic};
use crate::rules::quotas::Quota;
use crate::store::{Applied, Command, FinalCounts, PartitionCommand, Receipt, Rejection, WriteRequest};

use crate::engine::sender::Shortage;

use self::bounds::BoundCounters;
use self::levels::Gauges;
pub use self::levels::{GaugeInputs, WebhookCounts};
use self::recent_commits::RecentCommits;

/// Final statuses of a delivery.
const FINAL: [DeliveryStatus; 3] = [DeliveryStatus::Delivered, DeliveryStatus::Failed, DeliveryStatus::Cancelled];
const QUEUE_FULL: &str = "queue_full";
const DISK_FULL: &str = "disk_full";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

/// The registered metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: Counter,
    duplicates: Counter,
    deliveries: Counter,
    made: Family<StatusLabel, Counter>,
    publishes_refused: Family<ReasonLabel, Counter>,
    publishes_in_line: Counter,
    attempts: Family<OutcomeLabel, Counter>,
    shortages: Family<ReasonLabel, Counter>,
    refused: Counter,
    storage_failures: Counter,
    commits: Histogram,
    recent_commits: RecentCommits,
    commit_orders: Histogram,
    commit_bytes: Histogram,
    lag: Histogram,
    receiver: Histogram,
    damaged: Counter,
    levels: Gauges,
    written_bytes: Counter<u64, AtomicU64>,
    followers_cut: Counter<u64, AtomicU64>,
    proxy_failures: Family<ReasonLabel, Counter>,
    bounds: BoundCounters,
}

type CountOfFailures = fn(&ProxyFailures) -> u64;

/// The reasons for which a proxy fails, each with its count.
const PROXY_FAILURES: [(&str, CountOfFailures); 3] = [
    ("unreachable", |failures| failures.unreachable),
    ("credentials", |failures| failures.credentials),
    ("refused", |failures| failures.refused),
];

/// Registers a counter.
fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

/// Registers the histogram of the bytes of commits.
fn commit_sizes(registry: &mut Registry) -> Histogram {
    let commit_bytes = Histogram::new(exponential_buckets(4_096.0, 4.0, 10));
    let help = "Bytes that a commit wrote to storage";
    registry.register_with_unit("commit_size", help, Unit::Bytes, commit_bytes.clone());
    commit_bytes
}

/// Registers a histogram of seconds with 16 buckets. The first ends at `first` seconds.
fn seconds(registry: &mut Registry, name: &str, help: &str, first: f64) -> Histogram {
    let histogram = Histogram::new(exponential_buckets(first, 2.0, 16));
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
}

/// Registers the counter of requests that a shortage prevented, with all its series.
fn shortage_counter(registry: &mut Registry) -> Family<ReasonLabel, Counter> {
    let shortages = Family::<ReasonLabel, Counter>::default();
    let help = "Requests that a shortage of this machine prevented";
    registry.register("requests_held_back", help, shortages.clone());
    for shortage in Shortage::ALL {
        drop(shortages.get_or_create(&ReasonLabel { reason: shortage.as_str() }));
    }
    shortages
}

/// Creates every labelled series at the start: a rate misses the first increase of a series that appears with it.
fn create_series(
    attempts: &Family<OutcomeLabel, Counter>,
    finished: &Family<StatusLabel, Counter>,
    refused: &Family<ReasonLabel, Counter>,
) {
    for outcome in AttemptOutcome::ALL {
        drop(attempts.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }));
    }
    for status in FINAL {
        drop(finished.get_or_create(&StatusLabel { status: status.as_str() }));
    }
    for reason in [QUEUE_FULL, DISK_FULL] {
        drop(refused.get_or_create(&ReasonLabel { reason }));
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("postrider");
        let events = counter(&mut registry, "events", "Events accepted");
        let duplicates = counter(&mut registry, "events_duplicate", "Events recognised by their event_id");
        let deliveries = counter(&mut registry, "deliveries", "Deliveries made by publishing or replaying");
        let refused = counter(&mut registry, "orders_refused", "Commands that were refused");
        let storage_failures = counter(&mut registry, "storage_failures", "Commands that storage failed");
        let damaged = counter(&mut registry, "rows_damaged", "Rows that did not read back as they were written");
        let attempts = Family::<OutcomeLabel, Counter>::default();
        registry.register("attempts", "Attempts by outcome", attempts.clone());
        let made = Family::<StatusLabel, Counter>::default();
        registry.register("deliveries_finished", "Deliveries that became final, by status", made.clone());
        let publishes_refused = Family::<ReasonLabel, Counter>::default();
        let help = "Publishes refused for want of something that the daemon has not";
        registry.register("publishes_refused", help, publishes_refused.clone());
        let help = "Publishes that took turns because deliveries fell behind for want of processor time";
        let publishes_in_line = counter(&mut registry, "publishes_in_line", help);
        create_series(&attempts, &made, &publishes_refused);
        let commits = seconds(&mut registry, "commit", "Time of a commit", 0.000_25);
        let lag = seconds(&mut registry, "delivery_lag", "From being due to being sent", 0.000_5);
        let receiver = seconds(&mut registry, "receiver_response", "Receivers' response times", 0.001);
        let commit_orders = Histogram::new(exponential_buckets(1.0, 2.0, 13));
        registry.register("commit_orders", "Commands in one commit", commit_orders.clone());
        let commit_bytes = commit_sizes(&mut registry);
        let (written_bytes, followers_cut) = (Counter::default(), Counter::default());
        registry.register_with_unit("disk_written", "Bytes written to storage", Unit::Bytes, written_bytes.clone());
        let help = "Followers cut off: too slow, or after a commit that failed";
        registry.register("backup_followers_cut", help, followers_cut.clone());
        let proxy_failures = Family::<ReasonLabel, Counter>::default();
        let help = "Requests that the proxy of deliveries failed, by reason";
        registry.register("proxy_failures", help, proxy_failures.clone());
        let levels = Gauges::register(&mut registry);
        registry.register("build", "The program", Info::new(VersionLabel { version: env!("CARGO_PKG_VERSION") }));
        Metrics {
            shortages: shortage_counter(&mut registry),
            bounds: BoundCounters::register(&mut registry),
            registry,
            events,
            duplicates,
            deliveries,
            made,
            publishes_refused,
            publishes_in_line,
            attempts,
            refused,
            storage_failures,
            commits,
            recent_commits: RecentCommits::default(),
            commit_orders,
            commit_bytes,
            lag,
            receiver,
            damaged,
            levels,
            written_bytes,
            followers_cut,
            proxy_failures,
        }
    }
}

impl Metrics {
    /// Observes a commit: its requests, the time since its batch began, and the bytes that were written for it.
    pub fn committed(&self, write_requests: usize, took: Duration, bytes: u64) {
        self.commits.observe(took.as_secs_f64());
        self.recent_commits.record(took);
        self.commit_orders.observe(write_requests as f64);
        self.commit_bytes.observe(bytes as f64);
    }

    /// The 50th and 99th percentile of the latest commits, in microseconds.
    pub fn commit_percentiles(&self) -> (Option<u32>, Option<u32>) {
        self.recent_commits.percentiles()
    }

    /// Counts deliveries that became final.
    pub fn finished(&self, finals: FinalCounts) {
        let counts = [finals.delivered, finals.failed, finals.cancelled];
        for (status, count) in FINAL.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
            self.made.get_or_create(&StatusLabel { status: status.as_str() }).inc_by(count);
        }
    }

    /// Counts a publish that was rejected because the write queue was full.
    pub fn queue_full(&self) {
        self.publishes_refused.get_or_create(&ReasonLabel { reason: QUEUE_FULL }).inc();
    }

    /// Counts a publish that queued for admission.
    pub fn publish_queued(&self) {
        self.publishes_in_line.inc();
    }

    /// Counts the results of the requests of a batch.
    pub fn applied(&self, write_requests: &[WriteRequest], results: &[Result<Applied, Rejection>]) {
        for (write_request, result) in write_requests.iter().zip(results) {
            match (result, &write_request.command) {
                (Ok(Applied { receipt: Receipt::Published(published), replayed: false, .. }), _) => {
                    let duplicates = published.iter().filter(|p| p.duplicate).count() as u64;
                    self.events.inc_by(published.len() as u64 - duplicates);
                    self.duplicates.inc_by(duplicates);
                    let fresh = published.iter().filter(|p| !p.duplicate);
                    self.deliveries.inc_by(fresh.map(|p| u64::from(p.event.deliveries)).sum());
                }
                (Ok(_), Command::Partition(PartitionCommand::Record(report))) => {
                    self.attempted(report.made.outcome, report.made.response_time_ms)
                }
                (Err(Rejection::DiskFull), Command::Partition(PartitionCommand::Publish(_))) => {
                    self.publishes_refused.get_or_create(&ReasonLabel { reason: DISK_FULL }).inc();
                }
                (Err(Rejection::Failed(_) | Rejection::DiskFull), _) => drop(self.storage_failures.inc()),
                (Err(_), _) => drop(self.refused.inc()),
                _ => {}
            }
        }
    }

    fn attempted(&self, outcome: AttemptOutcome, response_ms: Option<u32>) {
        self.attempts.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
        if let Some(ms) = response_ms {
            self.receiver.observe(f64::from(ms) / 1_000.0);
        }
    }

    /// Observes a request that was sent `late_ms` after it was due.
    pub fn sent(&self, late_ms: i64) {
        self.lag.observe(late_ms.max(0) as f64 / 1_000.0);
    }

    /// Counts a request that a shortage of this machine prevented.
    pub fn record_shortage(&self, shortage: Shortage) {
        self.shortages.get_or_create(&ReasonLabel { reason: shortage.as_str() }).inc();
    }

    /// Counts a request that a quota refused.
    pub fn quota_refused(&self, quota: Quota) {
        self.bounds.quota_refused(quota);
    }

    /// Counts an entry of the due index that could not be read.
    pub fn damaged(&self) {
        self.damaged.inc();
    }

    /// All metrics in one of Prometheus' exposition formats.
    pub fn text(&self, format: ExpositionFormat, levels: &GaugeInputs, written_bytes: u64) -> String {
        self.levels.set(levels);
        self.followers_cut.inner().store(levels.followers.cut, std::sync::atomic::Ordering::Relaxed);
        self.written_bytes.inner().store(written_bytes, std::sync::atomic::Ordering::Relaxed);
        for (reason, count) in PROXY_FAILURES {
            let counter = self.proxy_failures.get_or_create(&ReasonLabel { reason });
            counter.inner().store(count(&levels.proxy_failures), std::sync::atomic::Ordering::Relaxed);
        }
        self.bounds.set(&levels.clients);
        let mut text = process::text();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        match format {
            ExpositionFormat::OpenMetrics => text,
            ExpositionFormat::Text => classic(&text),
        }
    }
}

#[cfg(test)]
mod tests;
