//! Open deliveries whose retention has ended, and that no partition's figures have settled yet.
//!
//! Invariant: the figures of waiting deliveries leave out the deliveries that lists hide, with one exception. In the
//! partition that straddles the retention cut-off at most `COUNTED_ROWS_MAX` open deliveries are examined at once.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;

use crate::model::id::{DeliveryId, WebhookId};
use crate::model::{Delivery, Time};

use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Table};
use crate::store::partitions::set::Partition;
use crate::store::read::counts::ExpiringPartitions;
use crate::store::read::lists::Store;
use crate::store::read::lookup::{DueKey, decoded, entries_of, first_due, sums_in};
use crate::store::read::query::COUNTED_ROWS_MAX;

/// Due entries that are read at once.
const ENTRIES: usize = 64;

impl Store {
    /// Number of a webhook's deliveries that are not final, while their retention has ended.
    pub(in crate::store) fn expired_open(&self, webhook: WebhookId, now: Time) -> Result<u64> {
        let expiring = self.expiring(now);
        let mut count = 0;
        for partition in self.partition_set.open_partitions().iter().filter(|partition| expiring.concerns(partition)) {
            let snapshot = self.partition_set.snapshot(partition)?;
            let open = sums_in(&snapshot, webhook)?.map_or(0, |row| row.sums.open());
            count += self.expired_open_in(&expiring, partition, &snapshot, (webhook, open), now)?;
        }
        Ok(count)
    }

    /// How many of the `open` deliveries of a webhook in one partition have expired.
    pub(in crate::store) fn expired_open_in(
        &self,
        expiring: &ExpiringPartitions,
        partition: &Arc<Partition>,
        snapshot: &Snapshot,
        (webhook, open): (WebhookId, u64),
        now: Time,
    ) -> Result<u64> {
        if expiring.is_expired(partition) {
            return Ok(open);
        }
        if !expiring.straddles(partition) || open == 0 || open > COUNTED_ROWS_MAX as u64 {
            return Ok(0);
        }
        let mut ids = HashSet::new();
        // An open delivery is due, or behind another one in a queue.
        for table in [Table::Due, Table::Queue] {
            let from = Bound::Included(webhook.as_bytes().as_slice());
            snapshot.scan(table, (from, Bound::Unbounded), Direction::Up, |key, _| {
                if tables::first_id(key) != Some(webhook) {
                    return Ok(ScanStep::Stop);
                }
                ids.extend(tables::last_id::<Delivery>(key));
                Ok(ScanStep::Go)
            })?;
        }
        let mut expired = 0;
        for id in ids {
            expired += u64::from(!self.is_unexpired_open(snapshot, id, now)?);
        }
        Ok(expired.min(open))
    }

    /// The first due entry of a webhook in one partition whose delivery has not expired.
    pub(in crate::store) fn first_unexpired_due(
        &self,
        expiring: &ExpiringPartitions,
        partition: &Arc<Partition>,
        snapshot: &Snapshot,
        webhook: WebhookId,
        now: Time,
    ) -> Result<Option<DueKey>> {
        if expiring.is_expired(partition) {
            return Ok(None);
        }
        if !expiring.straddles(partition) {
            return first_due(snapshot, webhook);
        }
        let (mut after, mut examined) = (None, 0);
        while examined < COUNTED_ROWS_MAX {
            let entries = entries_of(snapshot, webhook, after, ENTRIES)?;
            for entry in &entries {
                if self.is_unexpired_open(snapshot, entry.1, now)? {
                    return Ok(Some(*entry));
                }
            }
            examined += entries.len();
            after = entries.last().copied();
            if entries.len() < ENTRIES {
                return Ok(None);
            }
        }
        Ok(after)
    }

    fn is_unexpired_open(&self, snapshot: &Snapshot, id: DeliveryId, now: Time) -> Result<bool> {
        let delivery = decoded::<Delivery>(snapshot, Table::Deliveries, id.as_bytes())?;
        Ok(delivery.is_none_or(|delivery| self.is_retained(delivery.event_id, now)))
    }
}
