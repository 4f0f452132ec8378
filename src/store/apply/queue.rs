//! Ordered queues: deliveries strictly one after another, for the webhook or per `ordering_key`.
//!
//! Invariant: exactly the delivery with the smallest id of every queue has a due entry. A queue may span several
//! partitions. When its head leaves, `PromoteQueueHead` makes the next one due in its partition.

use crate::model::Time;
use crate::model::id::{DeliveryId, WebhookId};

use crate::kv::scan::{Direction, ScanStep};
use crate::kv::tables::{self, Table};
use crate::store::apply::{ApplyResult, PartitionBatch};
use crate::store::command::{PartitionCommand, Receipt, WriteRequest};

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
            snapshot.scan(
                Table::Queue,
                (std::ops::Bound::Included(&from), std::ops::Bound::Unbounded),
                Direction::Up,
                |key, _| {
                    if key.starts_with(prefix) {
                        head = [head, tables::last_id(key)].into_iter().flatten().min();
                    }
                    Ok(ScanStep::Stop)
                },
            )?;
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
        match self.write_batch.get::<crate::model::Delivery>(Table::Deliveries, next.as_bytes())? {
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
        let row = self.write_batch.get::<crate::model::Delivery>(Table::Deliveries, delivery.as_bytes())?;
        if let Some(due) = row.filter(|d| queued && !d.status.is_final()).and_then(|d| d.next_attempt_at) {
            self.write_batch.put_key(Table::Due, tables::due(webhook, due, delivery));
            self.effects.due.push((webhook, due.max(Time::ZERO)));
        }
        Ok(Receipt::Done)
    }
}
