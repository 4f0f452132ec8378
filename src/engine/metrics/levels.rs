//! The gauges of `/metrics`, read at each scrape.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::engine::client_connections::ClientConnectionStats;
use crate::engine::proxy_health::ProxyFailures;
use crate::store::StoreSizes;
use crate::store::admin::ReplicationStats as Followers;

/// The values of the gauges at one scrape.
#[derive(Debug, Clone, Copy, Default)]
pub struct GaugeInputs {
    pub in_flight: i64,
    pub in_flight_max: i64,
    pub in_flight_body_bytes: i64,
    pub in_flight_body_bytes_max: i64,
    pub waiting: i64,
    pub oldest_due_age_s: i64,
    pub queue_fill: i64,
    pub queue_max: i64,
    pub idle_connections: i64,
    pub disk_free_bytes: i64,
    pub partitions: i64,
    pub sizes: StoreSizes,
    pub webhooks: WebhookCounts,
    /// 0 if `/readyz` reports an error, 1 otherwise.
    pub ready: i64,
    pub clock_trusted: i64,
    pub followers: Followers,
    /// 0 if the proxy of deliveries failed the last time, 1 otherwise.
    pub proxy_up: i64,
    pub proxy_failures: ProxyFailures,
    pub clients: ClientConnectionStats,
    /// 0 if the log of a cluster gave no answer to the last append, 1 otherwise.
    pub cluster_log_up: i64,
    pub cluster_healed: i64,
}

/// Number of webhooks by status.
#[derive(Debug, Clone, Copy, Default)]
pub struct WebhookCounts {
    pub enabled: i64,
    pub paused: i64,
    pub disabled: i64,
    /// Enabled webhooks with an open circuit, which are only probed.
    pub circuit_open: i64,
}

/// Reads one gauge's value.
type Reading = fn(&GaugeInputs) -> i64;

const PLAIN: [(&str, &str, Reading); 24] = [
    ("in_flight", "Requests under way", |l| l.in_flight),
    ("in_flight_max", "Requests that may be under way at once", |l| l.in_flight_max),
    ("in_flight_body_bytes", "What payloads and bodies of requests under way may take, without the small ones", |l| {
        l.in_flight_body_bytes
    }),
    ("in_flight_body_bytes_max", "What they may take before further ones wait", |l| l.in_flight_body_bytes_max),
    ("deliveries_waiting", "Deliveries not final: the backlog", |l| l.waiting),
    ("oldest_due_age_seconds", "How long the oldest due delivery has waited", |l| l.oldest_due_age_s),
    ("publish_queue", "Publishes that wait for the writer", |l| l.queue_fill),
    ("publish_queue_max", "Publishes that may wait before further ones are refused", |l| l.queue_max),
    ("idle_connections", "Connections that wait for their next request", |l| l.idle_connections),
    ("disk_free_bytes", "Free space for the store", |l| l.disk_free_bytes),
    ("partitions", "Partition files", |l| l.partitions),
    ("webhooks_circuit_open", "Enabled webhooks that are only probed because their last attempts failed", |l| {
        l.webhooks.circuit_open
    }),
    ("backup_followers", "Backups that follow every commit and have a whole copy", |l| {
        clamp(l.followers.followers as u64)
    }),
    ("backup_follower_queue_bytes", "What waits for the follower that is furthest behind", |l| {
        clamp(l.followers.queued_bytes as u64)
    }),
    ("standbys", "Standbys that are connected and have a whole copy", |l| clamp(l.followers.standbys as u64)),
    ("standby_lag_commits", "Commits that the standby that lags least has not confirmed", |l| {
        clamp(l.followers.standby_lag)
    }),
    ("standby_required", "Whether changes wait for a standby", |l| i64::from(l.followers.is_standby_required)),
    ("cluster_log_up", "Whether the log of the cluster answered the last append; 1 without a cluster", |l| {
        l.cluster_log_up
    }),
    ("cluster_healed_commits", "Commits that the log of the cluster had forgotten and got again", |l| l.cluster_healed),
    ("proxy_up", "Whether deliveries pass their proxy; 1 where there is none", |l| l.proxy_up),
    ("ready", "Whether /readyz says ready", |l| l.ready),
    ("client_connections", "Connections of clients that are open", |l| clamp(l.clients.open as u64)),
    ("client_connections_max", "Connections of clients that may be open at once", |l| clamp(l.clients.max as u64)),
    ("clock_trusted", "Whether the clock is believed; retention stops while it is not", |l| l.clock_trusted),
];

const STORE: [(&str, Reading); 4] = [
    ("state", |l| clamp(l.sizes.state)),
    ("journal", |l| clamp(l.sizes.wal)),
    ("active", |l| clamp(l.sizes.active)),
    ("sealed", |l| clamp(l.sizes.sealed)),
];

const WEBHOOKS: [(&str, Reading); 3] =
    [("enabled", |l| l.webhooks.enabled), ("paused", |l| l.webhooks.paused), ("disabled", |l| l.webhooks.disabled)];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StorePartLabel {
    part: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookStatusLabel {
    status: &'static str,
}

/// The registered gauges, each with its reader.
#[derive(Debug)]
pub(in crate::engine) struct Gauges(Vec<(Reading, Gauge)>);

impl Gauges {
    pub fn register(registry: &mut Registry) -> Gauges {
        let mut gauges = Vec::new();
        for (name, help, read) in PLAIN {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauges.push((read, gauge));
        }
        let store = Family::<StorePartLabel, Gauge>::default();
        registry.register("store_bytes", "Size of the store's files", store.clone());
        gauges.extend(STORE.map(|(part, read)| (read, store.get_or_create(&StorePartLabel { part }).clone())));
        let webhooks = Family::<WebhookStatusLabel, Gauge>::default();
        registry.register("webhooks", "Webhooks by status", webhooks.clone());
        gauges.extend(
            WEBHOOKS.map(|(status, read)| (read, webhooks.get_or_create(&WebhookStatusLabel { status }).clone())),
        );
        Gauges(gauges)
    }

    pub fn set(&self, levels: &GaugeInputs) {
        for (read, gauge) in &self.0 {
            gauge.set(read(levels));
        }
    }
}

fn clamp(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
