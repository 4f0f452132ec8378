//! Reads the feed: a webhook's deliveries in commit order, by cursor.
//!
//! Invariant: a page ends before the first id that is not committed yet, so a cursor never passes a later commit's id.
//! Expired deliveries occupy no slot of a page.

use std::ops::Bound;
use std::sync::Arc;

use crate::model::feed_consumer::FeedConsumer;
use crate::model::id::{DeliveryId, WebhookId};
use crate::model::{Delivery, Time};

use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::tables::{self, Table};
use crate::store::partitions::set::Partition;
use crate::store::read::lists::Store;
use crate::store::read::lookup::decoded;

impl Store {
    /// A webhook's deliveries after `after` in commit order. The page ends before an id that may still be committed.
    pub fn feed(
        &self,
        webhook: WebhookId,
        after: Option<DeliveryId>,
        limit: usize,
        now: Time,
    ) -> Result<Vec<Delivery>> {
        let oldest = Time(now.0.saturating_sub(self.partition_set.options.retention_ms));
        let mut after = after.unwrap_or(DeliveryId::MIN).max(DeliveryId::floor(oldest));
        let mut deliveries = Vec::new();
        while deliveries.len() < limit {
            let ids = self.feed_ids(webhook, after, limit - deliveries.len())?;
            let Some((last, _)) = ids.last() else { break };
            after = DeliveryId::from_u128(*last);
            for (id, partition) in ids {
                let snapshot = self.partition_set.snapshot(&partition)?;
                let delivery = decoded::<Delivery>(&snapshot, Table::Deliveries, &id.to_be_bytes())?;
                deliveries.extend(delivery.filter(|d| self.is_retained(d.event_id, now)).map(|d| self.shown(d)));
            }
        }
        Ok(deliveries)
    }

    /// The position of a consumer of a webhook's feed. `None` for one that took nothing yet.
    pub fn feed_consumer(&self, webhook: WebhookId, name: &str) -> Result<Option<FeedConsumer>> {
        decoded(&self.partition_set.state()?.snapshot()?, Table::Consumers, &tables::consumer(webhook, name))
    }

    /// The next ids of a webhook's deliveries, smallest first, each with its partition.
    fn feed_ids(&self, webhook: WebhookId, after: DeliveryId, limit: usize) -> Result<Vec<(u128, Arc<Partition>)>> {
        // Read before the partitions, so that each partition already contains all ids up to it.
        let newest = self.partition_set.newest();
        let mut ids: Vec<(u128, Arc<Partition>)> = Vec::new();
        for partition in self.partition_set.partitions() {
            if partition.row().last.is_some_and(|last| last <= after.as_u128()) {
                continue;
            }
            let snapshot = self.partition_set.snapshot(&partition)?;
            let (from, to) = (tables::pair(webhook, after), tables::pair(webhook, newest));
            let mut taken = 0;
            snapshot.scan(
                Table::DeliveriesByWebhook,
                (Bound::Excluded(&from), Bound::Included(&to)),
                Direction::Up,
                |key, _| {
                    ids.extend(tables::last_id::<Delivery>(key).map(|id| (id.as_u128(), partition.clone())));
                    taken += 1;
                    Ok(if taken < limit { ScanStep::Go } else { ScanStep::Stop })
                },
            )?;
        }
        ids.sort_by_key(|(id, _)| *id);
        ids.truncate(limit);
        Ok(ids)
    }
}
