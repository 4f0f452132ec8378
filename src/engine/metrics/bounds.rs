//! The counters of bounds: connections of clients that are refused or closed, and quotas that are used up.

use std::sync::atomic::Ordering;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::ReasonLabel;
use crate::engine::client_connections::{ClientConnectionStats, ConnectionBound};
use crate::rules::quotas::Quota;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuotaLabel {
    quota: &'static str,
}

/// The registered counters. All series exist from the start.
#[derive(Debug)]
pub(super) struct BoundCounters {
    quota_refusals: Family<QuotaLabel, Counter>,
    clients_refused: Family<ReasonLabel, Counter>,
    clients_closed: Family<ReasonLabel, Counter>,
}

impl BoundCounters {
    pub fn register(registry: &mut Registry) -> BoundCounters {
        let counters = BoundCounters {
            quota_refusals: Family::default(),
            clients_refused: Family::default(),
            clients_closed: Family::default(),
        };
        let help = "Requests refused because a quota of a tenant is used up";
        registry.register("quota_refusals", help, counters.quota_refusals.clone());
        let help = "New connections of clients that a bound refused";
        registry.register("client_connections_refused", help, counters.clients_refused.clone());
        let help = "Waiting connections of clients that a bound closed for others";
        registry.register("client_connections_closed", help, counters.clients_closed.clone());
        for quota in Quota::ALL {
            drop(counters.quota_refusals.get_or_create(&QuotaLabel { quota: quota.as_str() }));
        }
        counters.set(&ClientConnectionStats::default());
        counters
    }

    /// Counts a request that a quota refused.
    pub fn quota_refused(&self, quota: Quota) {
        self.quota_refusals.get_or_create(&QuotaLabel { quota: quota.as_str() }).inc();
    }

    /// Sets the counts that the server keeps.
    pub fn set(&self, clients: &ClientConnectionStats) {
        for (family, values) in [(&self.clients_refused, clients.refused), (&self.clients_closed, clients.closed)] {
            for (bound, value) in ConnectionBound::ALL.iter().zip(values) {
                let counter = family.get_or_create(&ReasonLabel { reason: bound.as_str() });
                counter.inner().store(value, Ordering::Relaxed);
            }
        }
    }
}
