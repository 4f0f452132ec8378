//! Ordered queues: deliveries strictly one after another, for the webhook or per `ordering_key`.
//!
//! Invariant: exactly the delivery with the smallest id of every queue has a due entry. A queue may span several
//! partitions. When its head leaves, `PromoteQueueHead` makes the next one due in its partition. When a webhook is not ordered
//! any more, `DissolveQueues` empties its queues, partition by partition.

use std::ops::Bound;

use crate::model::id::{DeliveryId, WebhookId};
use crate::model::webhook::DeliveryOrder;
use crate::model::{Delivery, Time};

use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::tables::{self, Table};
use crate::store::apply::{ApplyResult, PartitionBatch};
use crate::store::command::{PartitionCommand, Receipt, WriteRequest};
use crate::store::partitions::set::PartitionSet;

/// Deliveries that one request takes out of the queues of a webhook.
const DISSOLVED_MAX: u32 = 2_000;

/// The request that empties the queues of a webhook in one partition.
pub(in crate::store) fn dissolve(webhook: WebhookId, partition: u128) -> WriteRequest {
    WriteRequest::internal(PartitionCommand::DissolveQueues { webhook, partition, limit: DISSOLVED_MAX })
}

/// The requests that empty the queues of a webhook: one for each partition that has a part of them.
pub(in crate::store) fn dissolve_all(partition_set: &PartitionSet, webhook: WebhookId) -> Result<Vec<WriteRequest>> {
    let mut requests = Vec::new();
    let prefix = webhook.as_bytes().as_slice();
    for partition in partition_set.open_partitions() {
        let range = (Bound::Included(prefix), Bound::Unbounded);
        partition_set.snapshot(&partition)?.scan(Table::Queue, range, Direction::Up, |key, _| {
            requests.extend(key.starts_with(prefix).then(|| dissolve(webhook, partition.first)));
            Ok(ScanStep::Stop)
        })?;
    }
    Ok(requests)
}

impl PartitionBatch<'_> {
    /// Adds a new delivery to its queue. `true` if another delivery stands before it.
    pub(in crate::store) fn enqueue(
        &mut self,
        webhook: WebhookId,
        key_hash: u64,
        delivery: DeliveryId,
    ) -> ApplyResult<bool> {
        let waits = self.head(webhook, key_hash)?.is_some();
        self.write_batch.put_key(Table::Queue, tables::queue(webhook, key_hash, delivery));
        Ok(waits)
    }

    /// The head of a queue, in any partition.
    fn head(&self, webhook: WebhookId, key_hash: u64) -> ApplyResult<Option<DeliveryId>> {
        let from = tables::queue(webhook, key_hash, DeliveryId::MIN);
        let prefix = &from[..24];
        let mut head = self.write_batch.first(Table::Queue, prefix, &from)?.as_deref().and_then(tables::last_id);
        for partition in self.partition_set.open_partitions() {
            let snapshot = self.partition_set.snapshot(&partition)?;
            if snapshot.file() == self.write_batch.base().file() {
                continue;
            }
            snapshot.scan(Table::Queue, (Bound::Included(&from), Bound::Unbounded), Direction::Up, |key, _| {
                if key.starts_with(prefix) {
                    head = [head, tables::last_id(key)].into_iter().flatten().min();
                }
                Ok(ScanStep::Stop)
            })?;
        }
        Ok(head)
    }

    /// Removes a final delivery from its queue and promotes the next one.
    pub(in crate::store) fn dequeue(
        &mut self,
        webhook: WebhookId,
        key_hash: u64,
        delivery: DeliveryId,
    ) -> ApplyResult<()> {
        let key = tables::queue(webhook, key_hash, delivery);
        if !self.write_batch.has(Table::Queue, &key)? {
            return Ok(());
        }
        self.write_batch.remove(Table::Queue, key);
        let Some(next) = self.head(webhook, key_hash)? else { return Ok(()) };
        match self.write_batch.get::<Delivery>(Table::Deliveries, next.as_bytes())? {
            Some(_) => self.release(webhook, key_hash, next).map(drop),
            None => {
                let event = self.event_of_queued(next)?;
                if let Some(event) = event {
                    self.follow.push(WriteRequest::internal(PartitionCommand::PromoteQueueHead {
                        webhook,
                        key_hash,
                        delivery: next,
                        event,
                    }));
                }
                Ok(())
            }
        }
    }

    fn event_of_queued(&self, delivery: DeliveryId) -> ApplyResult<Option<crate::model::EventId>> {
        Ok(crate::store::read::lookup::delivery_anywhere(self.partition_set, delivery)?.map(|d| d.event_id))
    }

    /// Makes the head of a queue due.
    pub(in crate::store) fn release(
        &mut self,
        webhook: WebhookId,
        key_hash: u64,
        delivery: DeliveryId,
    ) -> ApplyResult<Receipt> {
        let queued = self.write_batch.has(Table::Queue, &tables::queue(webhook, key_hash, delivery))?;
        let row = self.write_batch.get::<Delivery>(Table::Deliveries, delivery.as_bytes())?;
        if let Some(due) = row.filter(|d| queued && !d.status.is_final()).and_then(|d| d.next_attempt_at) {
            self.write_batch.put_key(Table::Due, tables::due(webhook, due, delivery));
            self.effects.due.push((webhook, due.max(Time::ZERO)));
        }
        Ok(Receipt::Done)
    }

    /// Makes the queued deliveries of a webhook that is not ordered any more due, up to `limit` of them.
    pub(in crate::store) fn dissolve_queues(&mut self, webhook: WebhookId, limit: u32) -> ApplyResult<Receipt> {
        match self.registry.webhooks.get(&webhook).map(|webhook| webhook.ordered) {
            // Its deliveries are cancelled.
            None => return Ok(Receipt::Done),
            Some(DeliveryOrder::No) => {}
            Some(_) => return self.release_heads(webhook),
        }
        let keys = self.write_batch.keys(Table::Queue, webhook.as_bytes(), limit as usize)?;
        if keys.len() == limit as usize {
            let rest = PartitionCommand::DissolveQueues { webhook, partition: self.first, limit };
            self.follow.push(WriteRequest::internal(rest));
        }
        for key in keys {
            if let Some((_, key_hash, delivery)) = tables::read_queue(&key) {
                self.release(webhook, key_hash, delivery)?;
            }
            self.write_batch.remove(Table::Queue, key);
        }
        // The request may be applied again after an answer that was lost.
        self.effects.due.push((webhook, Time::ZERO));
        Ok(Receipt::Done)
    }

    /// Makes the heads of a webhook's queues due that this partition has.
    fn release_heads(&mut self, webhook: WebhookId) -> ApplyResult<Receipt> {
        let mut from = tables::queue(webhook, 0, DeliveryId::MIN);
        while let Some(key) = self.write_batch.first(Table::Queue, webhook.as_bytes(), &from)? {
            let Some((_, key_hash, delivery)) = tables::read_queue(&key) else { break };
            if self.head(webhook, key_hash)? == Some(delivery) {
                self.release(webhook, key_hash, delivery)?;
            }
            let Some(next) = key_hash.checked_add(1) else { break };
            from = tables::queue(webhook, next, DeliveryId::MIN);
        }
        Ok(Receipt::Done)
    }
}
